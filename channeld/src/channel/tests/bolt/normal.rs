//! Updates, `commitment_signed`, `revoke_and_ack`.

use super::*;
use crate::wire::{CommitmentSigned, UpdateAddHtlc, UpdateFee};

/// a has signed an HTLC of each side's; its signature is on the way.
fn signed() -> (Pair, CommitmentSigned) {
    let mut pair = Pair::anchors();
    pair.b.add(LARGE, 9).expect("goes");
    pair.run();
    pair.a.add(LARGE, 1).expect("goes");
    pair.a.step(Input::Seal);
    pair.deliver(0);
    let Some(Message::CommitmentSigned(message)) = pair.a.outbox.pop_front() else { panic!("commitment_signed") };
    (pair, message)
}

#[test]
fn a_commitment_names_its_funding_and_another_is_ignored() {
    let (mut pair, good) = signed();
    assert_eq!(good.funding_txid, Some(outpoint().txid));
    // As in a batch whose `start_batch` we skip: no answer, no change.
    let other = CommitmentSigned { funding_txid: Some(Txid::from_byte_array([8; 32])), ..good.clone() };
    let (delta, effects) = pair.b.channel.decide(Input::Message(other.into()), &pair.b.context()).expect("ignored");
    assert!(delta.is_empty() && effects.is_empty());
    let unnamed = CommitmentSigned { funding_txid: None, ..good.clone() };
    assert!(answer(&pair.b, unnamed).is_ok());
    pair.b.step(Input::Message(good.into()));
    assert_eq!(types(&pair.b), [133], "exactly one revoke_and_ack");
    pair.run();
    pair.assert_level();
}

#[test]
fn signatures_with_a_high_s_are_refused() {
    let (pair, good) = signed();
    assert_eq!(good.htlc_signatures.len(), 2);
    let high = CommitmentSigned { signature: high_s(&good.signature), ..good.clone() };
    let violation = fault(&pair.b, high);
    assert!(matches!(violation, Violation::CommitmentSignature { .. }));
    assert_eq!(violation.response(), Response::FailChannel);
    for index in 0..2 {
        let mut high = good.clone();
        high.htlc_signatures[index] = high_s(&high.htlc_signatures[index]);
        assert_eq!(fault(&pair.b, high), Violation::HtlcSignature(index));
    }
    let mut many = good.clone();
    many.htlc_signatures.push(good.signature);
    assert_eq!(fault(&pair.b, many), Violation::HtlcSignatureCount { expected: 2, found: 3 });
    let mut none = good;
    none.htlc_signatures.clear();
    let violation = fault(&pair.b, none);
    assert_eq!(violation, Violation::HtlcSignatureCount { expected: 2, found: 0 });
    assert_eq!(violation.response(), Response::FailChannel);
}

/// BOLT 1: who fails over a signature says which transaction it checked.
#[test]
fn a_refused_signature_is_told_with_its_transaction() {
    let (mut pair, good) = signed();
    let high = CommitmentSigned { signature: high_s(&good.signature), ..good };
    let violation = fault(&pair.b, high);
    let Violation::CommitmentSignature { transaction, .. } = &violation else { panic!("{violation}") };
    let transaction = transaction.clone();
    pair.b.step(Input::Violated(violation));
    let Some(Message::Error(error)) = pair.b.outbox.pop_front() else { panic!("error") };
    assert!(error.text().contains(&transaction) && transaction.starts_with("02000000"));
}

/// A commitment with hundreds of HTLCs is larger than a message: what is said of it still fits into one.
#[test]
fn a_refused_signature_of_a_huge_commitment_is_told_too() {
    let mut pair = Pair::anchors();
    pair.a.checked = false;
    pair.b.checked = false;
    for _ in 0..390 {
        pair.a.add(400_000, 1).expect("goes");
        pair.b.add(400_000, 2).expect("goes");
    }
    pair.run();
    pair.a.command(Command::UpdateFee { feerate: FeeratePerKw::new(999) }).expect("goes");
    pair.a.step(Input::Seal);
    pair.deliver(0);
    let Some(Message::CommitmentSigned(mut message)) = pair.a.outbox.pop_front() else { panic!("commitment_signed") };
    assert_eq!(message.htlc_signatures.len(), 780);
    message.signature = high_s(&message.signature);
    let violation = fault(&pair.b, message);
    assert!(violation.to_string().len() < 1_000);
    // The harness encodes and decodes whatever is sent.
    pair.b.step(Input::Violated(violation));
    assert!(matches!(pair.b.outbox.pop_front(), Some(Message::Error(_))));
    pair.disconnect();
    pair.b.step(Input::Connected(FEATURES));
    assert!(matches!(pair.b.outbox.pop_front(), Some(Message::Error(_))));
}

/// LND sends such now and then: it may, though it must not; we never do.
#[test]
fn an_empty_commitment_is_answered_and_never_sent() {
    let mut pair = Pair::anchors();
    assert!(!pair.a.channel.seal_due());
    let cx = pair.a.context();
    let empty = pair.a.channel.sign_remote(pair.a.commitments(), View::RemoteNext, &cx).expect("a signature");
    pair.b.step(Input::Message(empty.into()));
    assert_eq!(types(&pair.b), [133]);
    pair.b.step(Input::Seal);
    assert_eq!(types(&pair.b), [133], "nothing of its own to sign");
}

#[test]
fn ids_count_up_for_ever() {
    let mut pair = Pair::anchors();
    for round in 0..4 {
        let id = pair.a.add(LARGE, 1).expect("the same hash again");
        assert_eq!(id, HtlcId::new(round));
        let Some(Message::UpdateAddHtlc(add)) = pair.a.outbox.front() else { panic!("update_add_htlc") };
        assert_eq!(add.id, id);
        pair.run();
        let answered = if round % 2 == 0 { pair.b.fulfil(id, 1) } else { pair.b.fail(id) };
        answered.expect("goes");
        pair.run();
        assert!(pair.a.commitments().is_clean());
        if round == 1 {
            pair.disconnect();
            pair.a.restart();
            pair.b.restart();
            pair.a.step(Input::Disconnected);
            pair.b.step(Input::Disconnected);
            pair.reconnect();
            pair.run();
        }
    }
}

/// BOLT 2: the id of an HTLC that was not committed comes again after a reconnect, and that is no fault.
#[test]
fn an_uncommitted_id_may_come_again() {
    let mut pair = Pair::anchors();
    pair.a.add(LARGE, 1).expect("goes");
    let Some(Message::UpdateAddHtlc(add)) = pair.a.outbox.pop_front() else { panic!("update_add_htlc") };
    pair.b.step(Input::Message(add.clone().into()));
    pair.disconnect();
    assert!(pair.b.commitments().incoming.is_empty(), "what no signature covered is forgotten");
    pair.reconnect();
    pair.run();
    let other = UpdateAddHtlc { payment_hash: hash(7), amount_msat: Msat::new(LARGE + 1), ..add };
    pair.b.step(Input::Message(other.clone().into()));
    // Twice on one connection it is one.
    assert!(matches!(fault(&pair.b, other), Violation::Limit(_)));
}

#[test]
fn each_message_of_an_unlawful_sender_fails_the_channel_or_costs_the_connection() {
    // Amounts, ids, counts: BOLT 2 wants a warning or an error.
    let mut pair = Pair::anchors();
    let add = UpdateAddHtlc {
        channel_id: pair.a.channel.id,
        id: HtlcId::new(5),
        amount_msat: Msat::new(LARGE),
        payment_hash: hash(1),
        cltv_expiry: CltvExpiry::new(200),
        onion_routing_packet: OnionRoutingPacket::new([0; 1_366]),
        path_key: None,
    };
    let violation = fault(&pair.b, add);
    pair.b.step(Input::Violated(violation));
    assert!(matches!(pair.b.outbox.pop_front(), Some(Message::Error(_))));
    let [transaction] = <[Transaction; 1]>::try_from(pair.b.broadcasts()).expect("our commitment");
    assert_eq!(transaction.input[0].previous_output, outpoint());
}

#[test]
fn a_feerate_without_sense_is_refused() {
    let (min, max) = (FeeratePerKw::FLOOR, FeeratePerKw::new(25_000));
    let pair = Pair::open(CommitmentFormat::StaticRemotekey);
    for rate in [0, 252, 25_001] {
        let feerate = FeeratePerKw::new(rate);
        let message = UpdateFee { channel_id: pair.a.channel.id, feerate_per_kw: feerate };
        let violation = fault(&pair.b, message);
        assert_eq!(violation, Violation::Feerate { feerate, min, max });
        assert_eq!(violation.response(), Response::FailChannel);
    }
    // With anchors the fee can be raised when it matters: a warning, and nothing is offered meanwhile.
    let mut pair = Pair::anchors();
    let message = UpdateFee { channel_id: pair.a.channel.id, feerate_per_kw: FeeratePerKw::new(252) };
    pair.b.step(Input::Message(message.into()));
    assert_eq!(types(&pair.b), [1]);
    let refused = Refusal::FeerateOutOfRange { feerate: FeeratePerKw::new(252) };
    assert_eq!(pair.b.add(LARGE, 1), Err(refused.into()));
}

/// BOLT 2: the opener pays for anchors above its reserve, to the last satoshi, in what it offers and in what it may.
#[test]
fn anchors_are_paid_above_the_reserve() {
    let room = |format| {
        let pair = Pair::open(format);
        pair.a.channel.available_for_htlc().msat()
    };
    // Weights 1,124 and 724, an output 172; at 1,000 sat/kW, doubled for the buffer, two outputs more.
    let reserve = 10_000;
    assert_eq!(room(CommitmentFormat::Anchors), (500_000 - reserve - 2 * (1_124 + 2 * 172) - 660) * 1_000);
    assert_eq!(room(CommitmentFormat::StaticRemotekey), (500_000 - reserve - 2 * (724 + 2 * 172)) * 1_000);
}
