//! Closing together.

use super::*;
use crate::wire::{ClosingSigned, FeeRange};

fn shutdown(node: &mut Node) {
    node.command(Command::Shutdown { script: None, feerate: None }).expect("goes");
}

fn closed_with(node: &mut Node) -> Transaction {
    let Phase::MutuallyClosed { transaction, .. } = &node.funded().phase else { panic!("closed") };
    let transaction = transaction.clone();
    assert!(node.broadcasts().contains(&transaction));
    assert!(node.effects.contains(&Effect::MutuallyClosed { txid: transaction.compute_txid() }));
    transaction
}

#[test]
fn either_side_closes() {
    for by in [0, 1] {
        for format in [CommitmentFormat::Anchors, CommitmentFormat::StaticRemotekey] {
            let mut pair = Pair::open(format);
            shutdown(pair.side(by));
            pair.run();
            let (one, other) = (closed_with(&mut pair.a), closed_with(&mut pair.b));
            assert_eq!(one.compute_txid(), other.compute_txid());
            let mut values: Vec<_> = one.output.iter().map(|output| output.value.to_sat()).collect();
            values.sort_unstable();
            let weight = one.weight().to_wu();
            let fee = 1_000_000 - values.iter().sum::<u64>();
            assert_eq!(values[1], 500_000, "the accepter pays nothing");
            assert!(fee >= weight && fee < weight + 20, "{fee} for {weight}");
        }
    }
}

#[test]
fn htlcs_are_settled_first() {
    let mut pair = Pair::anchors();
    pair.a.add(30_000_000, 1).expect("goes");
    pair.b.add(40_000_000, 2).expect("goes");
    pair.run();
    shutdown(&mut pair.b);
    pair.run();
    assert_eq!(pair.a.add(30_000_000, 3), Err(Refusal::Closing.into()));
    assert_eq!(pair.b.funded().phase, Phase::Open);
    pair.b.fulfil(HtlcId::new(0), 1).expect("goes");
    pair.run();
    pair.a.fail(HtlcId::new(0)).expect("goes");
    pair.run();
    let transaction = closed_with(&mut pair.a);
    assert_eq!(transaction.compute_txid(), closed_with(&mut pair.b).compute_txid());
    assert!(transaction.output.iter().any(|output| output.value.to_sat() == 530_000));
}

#[test]
fn shutdown_waits_for_what_is_unsigned() {
    let mut pair = Pair::anchors();
    pair.a.add(30_000_000, 1).expect("goes");
    shutdown(&mut pair.a);
    let types = |node: &Node| node.outbox.iter().map(Message::message_type).collect::<Vec<_>>();
    assert_eq!(types(&pair.a), [128]);
    assert_eq!(pair.a.add(30_000_000, 2), Err(Refusal::Closing.into()));
    pair.a.step(Input::Seal);
    assert_eq!(types(&pair.a), [128, 132, 38]);
    pair.run();
    pair.b.fulfil(HtlcId::new(0), 1).expect("goes");
    pair.run();
    closed_with(&mut pair.a);
}

#[test]
fn a_balance_below_dust_has_no_output() {
    let mut pair = Pair::open_with(CommitmentFormat::Anchors, 0, [Policy::default(), Policy::default()]);
    shutdown(&mut pair.b);
    pair.run();
    assert_eq!(closed_with(&mut pair.a).output.len(), 1);
}

/// What Core Lightning says as opener at the lowest feerate, where the other side has nothing: the least fee is the most, for
/// one output and rounded down.
#[test]
fn the_least_fee_is_for_outputs_that_are_there() {
    let taproot = |seed: u8| ScriptBuf::from_bytes([&[0x51, 32][..], &[seed; 32]].concat());
    for (push, fee) in [(0, 151), (300_000, 151), (500_000_000, 194)] {
        let mut pair = Pair::open_with(CommitmentFormat::Anchors, push, [Policy::default(), Policy::default()]);
        pair.b.command(Command::Shutdown { script: Some(taproot(2)), feerate: None }).expect("goes");
        pair.a.command(Command::Shutdown { script: Some(taproot(1)), feerate: None }).expect("goes");
        pair.deliver(0);
        pair.deliver(1);
        pair.a.outbox.clear();
        let fee = Amount::from_sat(fee);
        let range = FeeRange { min_fee_satoshis: fee, max_fee_satoshis: fee };
        let offer = ClosingSigned { fee_range: Some(range), ..legacy(&pair.a, fee) };
        pair.b.step(Input::Message(offer.into()));
        let closed = closed_with(&mut pair.b);
        assert!(fee.to_sat() >= closed.vsize() as u64, "{fee} for {}", closed.vsize());
    }
}

#[test]
fn our_user_chooses_script_and_feerate() {
    let mut pair = Pair::anchors();
    let script = Some(close_script(77));
    pair.a.command(Command::Shutdown { script, feerate: Some(FeeratePerKw::new(2_000)) }).expect("goes");
    let again = Command::Shutdown { script: None, feerate: None };
    assert_eq!(pair.a.command(again), Err(Refusal::AlreadyClosing.into()));
    pair.run();
    let transaction = closed_with(&mut pair.b);
    assert!(transaction.output.iter().any(|output| output.script_pubkey == close_script(77)));
    let fee = 1_000_000 - transaction.output.iter().map(|output| output.value.to_sat()).sum::<u64>();
    assert!(fee >= 2 * transaction.weight().to_wu());
}

#[test]
fn the_answer_that_was_lost_is_given_again() {
    // The opener's offer is answered; the answer is lost.
    let mut pair = Pair::anchors();
    shutdown(&mut pair.a);
    pair.deliver(0);
    pair.deliver(1);
    pair.deliver(0);
    closed_with(&mut pair.b);
    pair.disconnect();
    pair.b.restart();
    pair.reconnect();
    pair.run();
    let one = closed_with(&mut pair.a);
    let Phase::MutuallyClosed { transaction, .. } = &pair.b.funded().phase else { panic!("closed") };
    assert_eq!(one.compute_txid(), transaction.compute_txid());
}

/// LND sends no `fee_range`, moves by steps and wants to be met (PEERS.md A2).
#[test]
fn the_old_negotiation_converges() {
    for by_opener in [true, false] {
        let mut pair = Pair::anchors();
        shutdown(&mut pair.a);
        pair.deliver(0);
        pair.deliver(1);
        let Some(Message::ClosingSigned(first)) = pair.a.outbox.pop_front() else { panic!("closing_signed") };
        if by_opener {
            // a opened and offered; a peer without ranges answers with ten times its fee.
            let tenfold = Amount::from_sat(first.fee_satoshis.to_sat() * 10);
            let answer = legacy(&pair.b, tenfold);
            pair.a.step(Input::Message(answer.into()));
            let Some(Message::ClosingSigned(second)) = pair.a.outbox.pop_front() else { panic!("closing_signed") };
            assert_eq!(second.fee_range, None);
            assert!(second.fee_satoshis > first.fee_satoshis && second.fee_satoshis < tenfold);
            let answer = legacy(&pair.b, second.fee_satoshis);
            pair.a.step(Input::Message(answer.into()));
            closed_with(&mut pair.a);
        } else {
            let offer = legacy(&pair.a, Amount::from_sat(50_000));
            pair.b.step(Input::Message(offer.into()));
            let transaction = closed_with(&mut pair.b);
            let outputs: u64 = transaction.output.iter().map(|output| output.value.to_sat()).sum();
            assert_eq!(outputs, 950_000, "who does not pay takes any fee");
        }
    }
}

/// `closing_signed` of `node` with a fee of our choice and no range.
pub(super) fn legacy(node: &Node, fee: Amount) -> ClosingSigned {
    let transaction = node.funded().closing_transaction_for_test(fee);
    let signature = node.signer.sign_funding(&node.channel.keys_id, transaction);
    ClosingSigned { channel_id: node.channel.id, fee_satoshis: fee, signature, fee_range: None }
}

#[test]
fn fees_that_cannot_meet_are_warned_about() {
    let mut pair = Pair::anchors();
    shutdown(&mut pair.a);
    pair.deliver(0);
    pair.deliver(1);
    pair.a.outbox.clear();
    let mut offer = legacy(&pair.a, Amount::from_sat(100));
    let range =
        |min, max| FeeRange { min_fee_satoshis: Amount::from_sat(min), max_fee_satoshis: Amount::from_sat(max) };
    offer.fee_range = Some(range(90, 110));
    let refused = pair.b.try_step(Input::Message(offer.clone().into()));
    assert_eq!(refused, Err(Violation::ClosingFeeRange.into()));
    assert_eq!(Violation::ClosingFeeRange.response(), Response::Warn);
    // An overlap: the answer lies in it.
    offer.fee_range = Some(range(90, 300));
    pair.b.step(Input::Message(offer.into()));
    let Some(Message::ClosingSigned(answer)) = pair.b.outbox.pop_front() else { panic!("closing_signed") };
    assert!((90..=300).contains(&answer.fee_satoshis.to_sat()));
    assert_eq!(pair.b.funded().phase, Phase::Open);
    let agreed = legacy(&pair.a, answer.fee_satoshis);
    pair.b.step(Input::Message(agreed.into()));
    closed_with(&mut pair.b);
}
