//! Errors, deadlines, the chain.

use super::*;
use crate::wire;

const LARGE: u64 = 30_000_000;

#[test]
fn a_violation_closes_with_the_newest_commitment() {
    let mut pair = Pair::anchors();
    pair.a.add(LARGE, 1).expect("goes");
    pair.run();
    let number = pair.b.commitments().local_number;
    pair.b.step(Input::Violated(Violation::RevocationSeed));
    let [transaction] = <[Transaction; 1]>::try_from(pair.b.broadcasts()).expect("one transaction");
    let facts = pair.b.channel.closing_facts().expect("funded");
    assert_eq!(facts.commitments.main().local.number_of(&transaction), Some(number));
    let Some(Message::Error(error)) = pair.b.outbox.pop_front() else { panic!("error") };
    assert_eq!(error.channel_id, pair.b.channel.id);
    pair.a.step(Input::Message(error.into()));
    assert!(matches!(pair.a.funded().phase, Phase::Failed { failure: Failure::PeerError { .. } }));
    assert_eq!(pair.a.broadcasts().len(), 1);
    assert!(pair.a.outbox.is_empty(), "an error is not answered by an error");
    // A failed channel is deaf, and says why again after a reconnect.
    pair.b.step(Input::Message(pair.a.channel.channel_ready(&pair.a.context()).into()));
    assert_eq!(pair.b.add(LARGE, 2), Err(Refusal::Closed.into()));
    pair.disconnect();
    pair.b.step(Input::Connected(FEATURES));
    assert!(matches!(pair.b.outbox.pop_front(), Some(Message::Error(_))));
}

/// Core Lightning answers an error about a channel that is over with one of its own and hangs up: after every reconnect, and
/// with that all other channels would be lost.
#[test]
fn an_error_is_not_repeated_to_a_peer_that_knows() {
    let again = |node: &mut Node| {
        node.outbox.clear();
        node.step(Input::Disconnected);
        node.outbox.clear();
        node.step(Input::Connected(FEATURES));
        node.outbox.iter().map(Message::message_type).collect::<Vec<_>>()
    };
    let mut pair = Pair::anchors();
    let unknown = wire::Error::new(pair.a.channel.id, "Unknown channel for WIRE_CHANNEL_REESTABLISH");
    // It began with the peer's.
    pair.a.step(Input::Message(unknown.clone().into()));
    assert!(again(&mut pair.a).is_empty());
    // Said again, it is no news: nothing is stored anew.
    let before = pair.a.funded().phase.clone();
    pair.a.step(Input::Message(wire::Error::new(pair.a.channel.id, "once more").into()));
    assert_eq!(pair.a.funded().phase, before);
    // It began with ours, and was answered.
    pair.b.command(Command::ForceClose).expect("goes");
    assert_eq!(again(&mut pair.b), [wire::Error::TYPE]);
    pair.b.step(Input::Message(unknown.into()));
    assert!(pair.b.outbox.iter().all(|message| message.message_type() == wire::Error::TYPE));
    assert!(again(&mut pair.b).is_empty());
    // What the chain says is not said again, but to who asks.
    let mut pair = Pair::anchors();
    pair.a.step(Input::FundingSpent { txid: Txid::from_byte_array([7; 32]) });
    assert!(again(&mut pair.a).is_empty());
    pair.disconnect();
    pair.reconnect();
    pair.run();
    assert!(matches!(pair.b.funded().phase, Phase::Failed { failure: Failure::PeerError { .. } }));
}

#[test]
fn what_was_never_signed_fails_for_certain() {
    let mut pair = Pair::anchors();
    pair.a.add(LARGE, 1).expect("goes");
    pair.run();
    pair.a.add(LARGE, 2).expect("goes");
    pair.a.command(Command::ForceClose).expect("goes");
    let never = OutgoingFailure::NeverCommitted;
    let failed = Effect::OutgoingFailed { id: HtlcId::new(1), payment_hash: hash(2), failure: never };
    assert!(pair.a.effects.contains(&failed));
    assert_eq!(pair.a.commitments().outgoing.len(), 1);
}

#[test]
fn a_warning_costs_the_connection_only() {
    let mut pair = Pair::anchors();
    pair.a.step(Input::Violated(Violation::ShutdownScript));
    assert!(matches!(pair.a.outbox.pop_front(), Some(Message::Warning(_))));
    assert!(pair.a.effects.contains(&Effect::Disconnect));
    assert_eq!(pair.a.funded().phase, Phase::Open);
    // What follows the fault on the same session is not listened to.
    pair.b.add(LARGE, 1).expect("goes");
    pair.run();
    assert!(pair.a.commitments().incoming.is_empty());
    pair.disconnect();
    pair.reconnect();
    pair.run();
    pair.assert_level();
    assert!(pair.a.channel.is_usable());
}

/// PEERS.md A3: LND sends these without need.
#[test]
fn two_texts_mean_nothing() {
    for text in ["internal error", "link failed to shutdown"] {
        let mut pair = Pair::anchors();
        let error = wire::Error::new(pair.a.channel.id, text);
        pair.a.step(Input::Message(error.into()));
        assert_eq!(pair.a.funded().phase, Phase::Open);
        assert!(pair.a.effects.contains(&Effect::Disconnect));
    }
    let mut pair = Pair::anchors();
    pair.a.step(Input::Message(wire::Error::new(ChannelId::ALL, "internal error!").into()));
    assert!(matches!(pair.a.funded().phase, Phase::Failed { .. }));
}

#[test]
fn an_outgoing_htlc_is_taken_back_after_its_expiry() {
    let mut pair = Pair::anchors();
    pair.a.add(LARGE, 1).expect("goes");
    pair.run();
    for (height, failed) in [(199, false), (200, false), (202, false), (203, true)] {
        pair.a.height = BlockHeight::new(height);
        pair.a.step(Input::Block);
        assert_eq!(matches!(pair.a.funded().phase, Phase::Failed { .. }), failed, "{height}");
    }
    let near = pair.a.taken(|effect| matches!(effect, Effect::Noticed(Notice::DeadlineNear { .. })).then_some(()));
    assert_eq!(near.len(), 1);
    assert_eq!(pair.a.broadcasts().len(), 1);
    pair.b.height = BlockHeight::new(300);
    pair.b.step(Input::Block);
    assert_eq!(pair.b.funded().phase, Phase::Open, "without the preimage there is nothing to claim");
}

#[test]
fn an_incoming_htlc_is_claimed_before_its_expiry() {
    let mut pair = Pair::anchors();
    pair.a.add(LARGE, 1).expect("goes");
    pair.run();
    pair.disconnect();
    pair.b.fulfil(HtlcId::new(0), 1).expect("kept");
    pair.b.height = BlockHeight::new(187);
    pair.b.step(Input::Block);
    assert_eq!(pair.b.funded().phase, Phase::Open);
    pair.b.height = BlockHeight::new(188);
    pair.b.step(Input::Block);
    assert!(matches!(pair.b.funded().phase, Phase::Failed { failure: Failure::HtlcDeadline { .. } }));
    let facts = pair.b.channel.closing_facts().expect("funded");
    assert!(facts.commitments.incoming[&HtlcId::new(0)].removal.is_some(), "the preimage is there to claim with");
}

/// PAINS 1: a 10 sat HTLC cost an operator two channels.
#[test]
fn dust_never_closes_a_channel() {
    let mut pair = Pair::anchors();
    pair.a.add(10_000, 1).expect("goes");
    pair.run();
    pair.b.fulfil(HtlcId::new(0), 1).expect("goes");
    for height in [182, 203, 1_000] {
        pair.a.height = BlockHeight::new(height);
        pair.b.height = BlockHeight::new(height);
        pair.a.step(Input::Block);
        pair.b.step(Input::Block);
    }
    assert_eq!((&pair.a.funded().phase, &pair.b.funded().phase), (&Phase::Open, &Phase::Open));
    let written_off = Effect::Noticed(Notice::WrittenOff { adder: Side::Local, id: HtlcId::new(0) });
    assert!(pair.a.effects.contains(&written_off));
}

#[test]
fn a_spent_funding_output_ends_the_protocol() {
    let mut pair = Pair::anchors();
    pair.a.add(LARGE, 1).expect("goes");
    pair.run();
    let txid = Txid::from_byte_array([3; 32]);
    pair.a.step(Input::FundingSpent { txid });
    assert_eq!(pair.a.add(LARGE, 2), Err(Refusal::Closed.into()));
    pair.a.step(Input::Seal);
    assert!(pair.a.outbox.is_empty());
    pair.a.step(Input::FundingUnspent);
    assert!(pair.a.effects.contains(&Effect::Disconnect));
    pair.disconnect();
    pair.reconnect();
    pair.run();
    pair.a.add(LARGE, 2).expect("goes on");
}
