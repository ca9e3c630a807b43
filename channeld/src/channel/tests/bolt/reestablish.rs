//! `channel_reestablish`: what it says, and what each number in it means.

use super::*;
use crate::keys::PerCommitmentSecret;
use crate::units::CommitmentNumber;
use crate::wire::{ChannelReestablish, RevealedSecret};

fn said_by(node: &Node) -> ChannelReestablish {
    let Some(Message::ChannelReestablish(message)) = node.outbox.front() else { panic!("channel_reestablish") };
    message.clone()
}

fn paid(pair: &mut Pair, byte: u8) {
    let id = pair.b.add(LARGE / 10, byte).expect("goes");
    pair.run();
    pair.a.fulfil(id, byte).expect("goes");
    pair.run();
}

#[test]
fn what_is_said() {
    let mut pair = Pair::anchors();
    for payments in 0..3 {
        pair.disconnect();
        pair.reconnect();
        let commitments = pair.a.commitments();
        let (local, remote) = (commitments.local_number, commitments.remote_number);
        let message = said_by(&pair.a);
        assert_eq!(message.next_commitment_number, local.number() + 1);
        assert_eq!(message.next_revocation_number, remote.number());
        let last = remote
            .previous()
            .map(|number| *pair.b.signer.per_commitment_secret(&pair.b.channel.keys_id, number).as_bytes());
        assert_eq!(message.your_last_per_commitment_secret.0, last.unwrap_or_default());
        assert_eq!(last.is_none(), payments == 0);
        let point = pair.a.signer.per_commitment_point(&pair.a.channel.keys_id, local);
        assert_eq!(message.my_current_per_commitment_point, *point.key(), "a valid point");
        assert_eq!((message.next_funding, message.my_current_funding_locked), (None, None), "no splice, no v2");
        pair.run();
        paid(&mut pair, payments);
    }
}

#[test]
fn nothing_is_said_before_the_peers_reestablish() {
    let mut pair = Pair::anchors();
    pair.b.add(LARGE, 1).expect("goes");
    pair.run();
    pair.a.add(LARGE, 2).expect("goes");
    pair.a.step(Input::Seal);
    pair.disconnect();
    pair.reconnect();
    pair.a.fulfil(HtlcId::new(0), 1).expect("kept");
    pair.a.step(Input::Seal);
    pair.a.step(Input::Block);
    let short_channel_id = ShortChannelId::new(101, 1, 1).expect("in range");
    pair.a.step(Input::FundingDepth { depth: 7, short_channel_id });
    assert_eq!(types(&pair.a), [136]);
    for message_type in [38, 39, 128, 130, 131, 132, 133, 134, 135] {
        assert!(!types(&pair.a).contains(&message_type));
    }
    pair.run();
    pair.assert_level();
}

#[test]
fn channel_ready_is_repeated_only_at_the_start() {
    let mut pair = Pair::anchors();
    let again = |pair: &mut Pair| {
        pair.disconnect();
        pair.reconnect();
        pair.deliver(1);
        let repeated = types(&pair.a).contains(&36);
        pair.run();
        repeated
    };
    assert!(again(&mut pair));
    assert!(again(&mut pair));
    paid(&mut pair, 1);
    assert!(!again(&mut pair));
}

#[test]
fn records_of_what_was_not_negotiated_are_ignored() {
    let mut pair = Pair::anchors();
    pair.disconnect();
    pair.reconnect();
    let mut bytes = Message::from(said_by(&pair.b)).encode();
    // `next_funding` and `my_current_funding_locked`, as a peer with splices would say them.
    bytes.extend([1, 33].into_iter().chain([7; 32]).chain([1]).chain([5, 33]).chain([8; 32]).chain([0]));
    let Ok(Message::ChannelReestablish(message)) = Message::decode(&bytes) else { panic!("it decodes") };
    assert!(message.next_funding.is_some() && message.my_current_funding_locked.is_some());
    pair.a.step(Input::Message(message.into()));
    assert!(pair.a.channel.is_live());
    assert_eq!(types(&pair.a), [136, 36]);
}

/// A name, and how it comes to it.
type Stand = (&'static str, fn() -> Pair);

/// How a stands when the connection is lost.
const STANDS: [Stand; 5] = [
    ("fresh", Pair::anchors),
    ("used", || {
        let mut pair = Pair::anchors();
        (0..3).for_each(|byte| paid(&mut pair, byte));
        pair
    }),
    ("its signature is on the way", || {
        let mut pair = Pair::anchors();
        paid(&mut pair, 1);
        pair.a.add(LARGE, 2).expect("goes");
        pair.a.step(Input::Seal);
        pair
    }),
    ("its revocation is on the way", || {
        let mut pair = Pair::anchors();
        paid(&mut pair, 1);
        pair.b.add(LARGE, 2).expect("goes");
        pair.b.step(Input::Seal);
        pair.deliver(1);
        pair.deliver(1);
        pair
    }),
    ("both are on the way", || {
        let mut pair = Pair::anchors();
        paid(&mut pair, 1);
        pair.a.add(LARGE, 2).expect("goes");
        pair.b.add(LARGE, 3).expect("goes");
        pair.b.step(Input::Seal);
        pair.deliver(1);
        pair.deliver(1);
        pair.a.step(Input::Seal);
        pair
    }),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Right,
    Wrong,
    Zero,
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Fails,
    WeAreBehind,
    PeerBehind,
    GoesOn { ready: bool, revocation: bool, commitment: bool },
}

/// BOLT 2, "Message Retransmission", read anew: numbers of `a`, numbers of the message.
fn expected(node: &Node, commitment: u64, revocation: u64, shown: Shown) -> Outcome {
    let commitments = node.commitments();
    let local = commitments.local_number.number();
    let is_pending = commitments.awaiting_revocation;
    let sent = commitments.remote_number.number() + u64::from(is_pending);
    if commitment == 0 {
        return Outcome::Fails;
    }
    // A number that no secret of ours could prove is not proved by any.
    let provable = revocation <= CommitmentNumber::LAST.number();
    if revocation > 0 && (shown != Shown::Right || !provable) {
        return Outcome::Fails;
    }
    if revocation > local {
        return Outcome::WeAreBehind;
    }
    if commitment > sent + 1 {
        return if revocation + 1 < local { Outcome::PeerBehind } else { Outcome::Fails };
    }
    let lost_commitment = commitment == sent && is_pending;
    if revocation + 1 < local || (commitment != sent + 1 && !lost_commitment) {
        return Outcome::PeerBehind;
    }
    let ready = commitment == 1 && local == 0;
    Outcome::GoesOn { ready, revocation: revocation < local, commitment: lost_commitment }
}

fn outcome(node: &Node, message: ChannelReestablish) -> Outcome {
    let effects = match answer(node, message) {
        Err(Error::Violated(violation)) => {
            assert_eq!(violation.response(), Response::FailChannel, "{violation}");
            return Outcome::Fails;
        }
        other => other.expect("no command"),
    };
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Broadcast(_))));
    if effects.contains(&Effect::Stale) {
        assert!(matches!(effects.last(), Some(Effect::Send(Message::Error(_)))), "asks the peer to close");
        return Outcome::WeAreBehind;
    }
    if effects.contains(&Effect::Noticed(Notice::PeerStale)) {
        return Outcome::PeerBehind;
    }
    let sends = |wanted| {
        let is_it = |effect: &&Effect| matches!(effect, Effect::Send(it) if it.message_type() == wanted);
        let count = effects.iter().filter(is_it).count();
        assert!(count < 2, "{wanted} twice");
        count == 1
    };
    Outcome::GoesOn { ready: sends(36), revocation: sends(133), commitment: sends(132) }
}

fn figures(around: u64) -> Vec<u64> {
    let mut figures: Vec<u64> = (around.saturating_sub(3)..=around + 3).collect();
    figures.extend([0, 1, (1 << 48) - 1, 1 << 48, (1 << 48) + 1, u64::MAX - 1, u64::MAX]);
    figures.sort_unstable();
    figures.dedup();
    figures
}

#[test]
fn every_combination_of_numbers() {
    let mut seen = [0; 4];
    for (name, stand) in STANDS {
        let mut pair = stand();
        pair.disconnect();
        pair.reconnect();
        let good = said_by(&pair.b);
        assert!(matches!(outcome(&pair.a, good.clone()), Outcome::GoesOn { .. }), "{name}");
        for commitment in figures(good.next_commitment_number) {
            for revocation in figures(good.next_revocation_number) {
                for shown in [Shown::Right, Shown::Wrong, Shown::Zero] {
                    let number = revocation.saturating_sub(1).min(CommitmentNumber::LAST.number());
                    let number = CommitmentNumber::new(number);
                    let right: PerCommitmentSecret =
                        pair.a.signer.per_commitment_secret(&pair.a.channel.keys_id, number);
                    let secret = match shown {
                        Shown::Right => *right.as_bytes(),
                        Shown::Wrong => right.as_bytes().map(|byte| byte ^ 1),
                        Shown::Zero => [0; 32],
                    };
                    let message = ChannelReestablish {
                        next_commitment_number: commitment,
                        next_revocation_number: revocation,
                        your_last_per_commitment_secret: RevealedSecret(secret),
                        ..good.clone()
                    };
                    let wanted = expected(&pair.a, commitment, revocation, shown);
                    seen[match wanted {
                        Outcome::Fails => 0,
                        Outcome::WeAreBehind => 1,
                        Outcome::PeerBehind => 2,
                        Outcome::GoesOn { .. } => 3,
                    }] += 1;
                    let said = format!("{name}: {commitment}, {revocation}, {shown:?}");
                    assert_eq!(outcome(&pair.a, message), wanted, "{said}");
                }
            }
        }
        pair.run();
        pair.assert_level();
    }
    assert!(seen.iter().all(|count| *count > 10), "{seen:?}");
}

/// A failed number makes the channel close with the newest commitment, at once.
#[test]
fn zero_closes_the_channel_at_once() {
    let mut pair = STANDS[1].1();
    pair.disconnect();
    pair.reconnect();
    let message = ChannelReestablish { next_commitment_number: 0, ..said_by(&pair.b) };
    let violation = fault(&pair.a, message);
    assert_eq!(violation, Violation::ReestablishZero);
    pair.a.step(Input::Violated(violation));
    assert_eq!(types(&pair.a), [136, 17]);
    assert_eq!(pair.a.broadcasts().len(), 1);
}
