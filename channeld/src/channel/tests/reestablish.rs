//! Reconnects at every message of every exchange, lost data on either side.

use super::transfer::SESSION;
use super::*;
use crate::commitment::Stage;
use crate::wire::ChannelReestablish;

const LARGE: u64 = 30_000_000;

/// One exchange: what is begun before messages flow, and what is answered when they have.
pub(super) struct Exchange {
    pub name: &'static str,
    pub before: fn(&mut Pair),
    pub begin: fn(&mut Pair),
}

pub(super) const EXCHANGES: [Exchange; 8] = [
    Exchange {
        name: "adds both ways",
        before: |_| {},
        begin: |pair| {
            pair.a.add(LARGE, 1).expect("goes");
            pair.a.add(100_000, 2).expect("goes");
            pair.b.add(LARGE, 3).expect("goes");
        },
    },
    Exchange {
        name: "a fulfilment",
        before: |pair| {
            pair.a.add(LARGE, 1).expect("goes");
        },
        begin: |pair| pair.b.fulfil(HtlcId::new(0), 1).expect("goes"),
    },
    Exchange {
        name: "a failure and an add",
        before: |pair| {
            pair.a.add(LARGE, 1).expect("goes");
        },
        begin: |pair| {
            pair.b.fail(HtlcId::new(0)).expect("goes");
            pair.a.add(LARGE, 2).expect("goes");
            pair.b.add(LARGE, 3).expect("goes");
        },
    },
    Exchange {
        name: "a feerate and adds",
        before: |_| {},
        begin: |pair| {
            pair.a.command(Command::UpdateFee { feerate: FeeratePerKw::new(1_700) }).expect("goes");
            pair.a.add(LARGE, 1).expect("goes");
            pair.b.add(LARGE, 2).expect("goes");
        },
    },
    Exchange {
        name: "transfers both ways",
        before: |pair| {
            pair.a.open_session(SESSION);
            pair.b.open_session(SESSION);
        },
        begin: |pair| {
            pair.a.pay(SESSION, 10, 100).expect("goes");
            pair.b.pay(SESSION, 5, 1_000).expect("goes");
            pair.a.pay(SESSION, 1, 100).expect("goes");
        },
    },
    Exchange {
        name: "answers both ways",
        before: |pair| {
            pair.a.add(LARGE, 1).expect("goes");
            pair.b.add(LARGE, 2).expect("goes");
        },
        begin: |pair| {
            pair.b.fulfil(HtlcId::new(0), 1).expect("goes");
            pair.a.fulfil(HtlcId::new(0), 2).expect("goes");
        },
    },
    Exchange {
        name: "shutdown with an HTLC",
        before: |pair| {
            pair.a.add(LARGE, 1).expect("goes");
        },
        begin: |pair| {
            pair.a.command(Command::Shutdown { script: None, feerate: None }).expect("goes");
            pair.b.fulfil(HtlcId::new(0), 1).expect("goes");
        },
    },
    Exchange {
        name: "shutdown of both",
        before: |_| {},
        begin: |pair| {
            pair.a.command(Command::Shutdown { script: None, feerate: None }).expect("goes");
            pair.b.command(Command::Shutdown { script: None, feerate: None }).expect("goes");
        },
    },
];

/// Runs the exchange with a lost connection after `cut` messages, `mode` says in which order messages flow and who
/// crashes; says whether the cut was inside of it.
fn cut(exchange: &Exchange, format: CommitmentFormat, cut: usize, mode: usize) -> bool {
    let mut pair = Pair::open(format);
    (exchange.before)(&mut pair);
    pair.run();
    let clean = (pair.a.commitments().next_outgoing, pair.b.commitments().next_outgoing);
    (exchange.begin)(&mut pair);
    pair.delivered = 0;
    let ended = flow(&mut pair, cut, mode);
    if mode % 2 == 1 {
        pair.a.restart();
    }
    if mode >= 2 {
        pair.b.restart();
    }
    pair.disconnect();
    for side in [0, 1] {
        let node = pair.side(side);
        let commitments = node.commitments();
        assert!(commitments.outgoing.values().all(|htlc| htlc.stage != Stage::Proposed));
        assert!(commitments.incoming.values().all(|htlc| htlc.stage != Stage::Proposed));
    }
    pair.reconnect();
    pair.run();
    pair.assert_level();
    assert!(pair.a.commitments().next_outgoing >= clean.0 && pair.b.commitments().next_outgoing >= clean.1);
    settle(&mut pair);
    let closing = exchange.name.starts_with("shutdown");
    for node in [&pair.a, &pair.b] {
        assert!(node.commitments().is_clean(), "{} cut at {cut}", exchange.name);
        // A `shutdown` that no message of left is decided all the same.
        let closed = matches!(node.funded().phase, Phase::MutuallyClosed { .. });
        assert_eq!(closed, closing, "{} cut at {cut} in mode {mode}", exchange.name);
    }
    !ended
}

/// Delivers so many messages; says whether nothing was left.
fn flow(pair: &mut Pair, cut: usize, mode: usize) -> bool {
    for _ in 0..cut {
        pair.seal();
        let first = mode % 2;
        if !pair.deliver(first) && !pair.deliver(1 - first) {
            return true;
        }
    }
    // What is signed and not sent is lost, too.
    if mode >= 2 {
        pair.seal();
    }
    false
}

/// Answers everything until nothing is in flight.
fn settle(pair: &mut Pair) {
    for side in [0, 1] {
        let node = pair.side(side);
        node.effects.clear();
        let open: Vec<_> = node.commitments().incoming.values().filter(|htlc| htlc.removal.is_none()).collect();
        let ids: Vec<_> = open.iter().map(|htlc| htlc.offer.id).collect();
        for id in ids {
            node.fail(id).expect("irrevocable by now");
        }
    }
    pair.run();
}

#[test]
fn every_exchange_survives_a_cut_at_every_message() {
    for exchange in &EXCHANGES {
        for mode in 0..4 {
            let mut at = 0;
            while cut(exchange, CommitmentFormat::Anchors, at, mode) {
                at += 1;
                assert!(at < 200, "{} never ends", exchange.name);
            }
            assert!(at >= 5, "{} is no exchange", exchange.name);
        }
    }
}

#[test]
fn static_remotekey_survives_cuts_too() {
    for at in (0..20).step_by(2) {
        cut(&EXCHANGES[2], CommitmentFormat::StaticRemotekey, at, at % 4);
        cut(&EXCHANGES[3], CommitmentFormat::StaticRemotekey, at, (at + 1) % 4);
    }
}

#[test]
fn two_cuts_in_a_row() {
    for first in 0..12 {
        for second in 0..8 {
            let mut pair = Pair::anchors();
            pair.a.add(LARGE, 1).expect("goes");
            pair.b.add(LARGE, 2).expect("goes");
            flow(&mut pair, first, first % 4);
            pair.disconnect();
            pair.reconnect();
            flow(&mut pair, second, second % 4);
            pair.disconnect();
            pair.reconnect();
            pair.run();
            pair.assert_level();
        }
    }
}

/// BOLT 2: `revoke_and_ack` and `commitment_signed` are sent again in the order of the first time.
#[test]
fn retransmission_keeps_the_order() {
    // b revokes, then signs.
    let mut pair = Pair::anchors();
    pair.a.add(LARGE, 1).expect("goes");
    pair.b.add(LARGE, 2).expect("goes");
    pair.a.step(Input::Seal);
    pair.deliver(0);
    pair.deliver(0);
    pair.b.step(Input::Seal);
    assert_eq!(again(&mut pair), [136, 133, 128, 132]);
    // b signs, then revokes.
    let mut pair = Pair::anchors();
    pair.a.add(LARGE, 1).expect("goes");
    pair.b.add(LARGE, 2).expect("goes");
    pair.b.step(Input::Seal);
    pair.a.step(Input::Seal);
    pair.deliver(0);
    pair.deliver(0);
    assert_eq!(again(&mut pair), [136, 128, 132, 133]);
}

/// The types of the messages that b sends after a reconnect, once a's `channel_reestablish` is there.
fn again(pair: &mut Pair) -> Vec<u16> {
    pair.disconnect();
    pair.b.restart();
    pair.reconnect();
    pair.deliver(0);
    let types = pair.b.outbox.iter().map(Message::message_type).collect();
    pair.run();
    pair.assert_level();
    types
}

#[test]
fn early_messages_do_no_harm() {
    let mut pair = Pair::opening(CommitmentFormat::Anchors, 500_000_000, [Policy::default(), Policy::default()]);
    pair.fund();
    pair.disconnect();
    pair.confirm();
    pair.reconnect();
    // LND sends channel_ready before channel_reestablish.
    let early = pair.b.channel.channel_ready(&pair.b.context());
    pair.a.step(Input::Message(early.into()));
    assert!(pair.a.funded().remote_ready);
    pair.run();
    assert!(pair.a.channel.is_usable() && pair.b.channel.is_usable());
}

#[test]
fn removals_are_taken_in_while_the_peer_is_away() {
    let mut pair = Pair::anchors();
    pair.a.add(LARGE, 1).expect("goes");
    pair.run();
    pair.disconnect();
    pair.b.fulfil(HtlcId::new(0), 1).expect("kept");
    assert_eq!(pair.b.add(LARGE, 2), Err(Refusal::NotConnected.into()));
    assert!(pair.b.outbox.is_empty());
    pair.b.restart();
    pair.b.step(Input::Disconnected);
    pair.reconnect();
    pair.run();
    pair.assert_level();
    assert!(pair.a.effects.contains(&Effect::OutgoingSettled { id: HtlcId::new(0) }));
}

#[test]
fn a_dummy_point_is_never_looked_at() {
    let mut pair = Pair::anchors();
    pair.disconnect();
    pair.reconnect();
    let Some(Message::ChannelReestablish(message)) = pair.b.outbox.pop_front() else { panic!("reestablish") };
    let dummy = pair.a.signer.node_id();
    let message = ChannelReestablish { my_current_per_commitment_point: dummy, ..message };
    pair.a.step(Input::Message(message.into()));
    assert!(pair.a.channel.is_live());
}

/// The channel as it was some payments ago: a restored backup.
fn with_old_copy(payments: u8) -> (Pair, Channel) {
    let mut pair = Pair::anchors();
    let old = stored(&pair.a.channel);
    for byte in 0..payments {
        let id = pair.b.add(LARGE / 100, byte).expect("goes");
        pair.run();
        pair.a.fulfil(id, byte).expect("goes");
        pair.run();
    }
    (pair, old)
}

#[test]
fn who_has_lost_data_never_broadcasts() {
    let (mut pair, old) = with_old_copy(3);
    pair.disconnect();
    pair.a.channel = stored(&old);
    pair.a.disk = old;
    pair.a.step(Input::Disconnected);
    pair.reconnect();
    let Some(from_b) = pair.b.outbox.pop_front() else { panic!("reestablish") };
    let Some(from_a) = pair.a.outbox.pop_front() else { panic!("reestablish") };
    pair.a.step(Input::Message(from_b));
    assert!(pair.a.effects.contains(&Effect::Stale));
    assert_eq!(pair.a.funded().phase, Phase::Stale);
    assert!(pair.a.channel.signed_local_commitment(&pair.a.context()).is_none());
    assert_eq!(pair.a.command(Command::ForceClose), Err(Refusal::Stale.into()));
    pair.a.step(Input::Fail(Failure::NoAnswer));
    assert_eq!(pair.a.broadcasts(), []);
    assert!(pair.a.channel.closing_facts().expect("funded").stale);
    // The other side waits, and closes when it is asked to.
    pair.b.step(Input::Message(from_a));
    assert!(pair.b.effects.contains(&Effect::Noticed(Notice::PeerStale)));
    assert_eq!(pair.b.funded().phase, Phase::Open);
    let Some(error) = pair.a.outbox.pop_front() else { panic!("error") };
    assert!(matches!(error, Message::Error(_)));
    pair.b.step(Input::Message(error));
    assert_eq!(pair.b.broadcasts().len(), 1);
    // Reconnected, it says the same again.
    pair.disconnect();
    pair.reconnect();
    assert!(matches!(pair.a.outbox.pop_front(), Some(Message::ChannelReestablish(_))));
}

#[test]
fn numbers_without_proof_fail_the_channel() {
    let (mut pair, _) = with_old_copy(1);
    pair.disconnect();
    pair.reconnect();
    let Some(Message::ChannelReestablish(good)) = pair.b.outbox.pop_front() else { panic!("reestablish") };
    let try_with = |change: fn(&mut ChannelReestablish)| {
        let mut message = good.clone();
        change(&mut message);
        pair.a.channel.decide(Input::Message(message.into()), &pair.a.context()).map(|_| ())
    };
    assert_eq!(try_with(|_| {}), Ok(()));
    assert_eq!(try_with(|it| it.next_commitment_number = 0), Err(Violation::ReestablishZero.into()));
    assert_eq!(try_with(|it| it.next_revocation_number += 1), Err(Violation::ReestablishSecret.into()));
    assert_eq!(try_with(|it| it.next_revocation_number = u64::MAX), Err(Violation::ReestablishSecret.into()));
    let secret = |it: &mut ChannelReestablish| it.your_last_per_commitment_secret.0[5] ^= 1;
    assert_eq!(try_with(secret), Err(Violation::ReestablishSecret.into()));
    let ahead = try_with(|it| it.next_commitment_number += 1);
    assert!(matches!(ahead, Err(Error::Violated(Violation::ReestablishNumber { .. }))));
}
