//! Payments by HTLC, fees, and the order of things.

use super::*;
use crate::commitment::Stage;

/// Well above every dust limit.
const LARGE: u64 = 30_000_000;
/// Below every dust limit.
const DUST: u64 = 100_000;

#[test]
fn payments_both_ways_settle() {
    for format in [CommitmentFormat::Anchors, CommitmentFormat::StaticRemotekey] {
        for amount in [LARGE, DUST] {
            let mut pair = Pair::open(format);
            pair.a.add(amount, 1).expect("goes");
            pair.b.add(2 * amount, 2).expect("goes");
            pair.run();
            pair.assert_level();
            assert_eq!(pair.b.incoming(), [HtlcId::new(0)]);
            assert_eq!(pair.a.incoming(), [HtlcId::new(0)]);
            pair.b.fulfil(HtlcId::new(0), 1).expect("goes");
            pair.a.fulfil(HtlcId::new(0), 2).expect("goes");
            pair.run();
            pair.assert_level();
            assert!(pair.a.commitments().is_clean() && pair.b.commitments().is_clean());
            assert_eq!(pair.a.balance(), Msat::new(500_000_000 + amount));
            assert!(pair.a.effects.contains(&Effect::OutgoingFulfilled {
                id: HtlcId::new(0),
                preimage: Preimage([1; 32]),
                attribution_data: None
            }));
            assert!(pair.a.effects.contains(&Effect::OutgoingSettled { id: HtlcId::new(0) }));
            assert!(pair.a.effects.contains(&Effect::IncomingSettled { id: HtlcId::new(0), fulfilled: true }));
        }
    }
}

#[test]
fn failures_bring_the_money_back() {
    let mut pair = Pair::anchors();
    pair.a.add(LARGE, 1).expect("goes");
    pair.a.add(DUST, 2).expect("goes");
    pair.run();
    pair.b.fail(HtlcId::new(0)).expect("goes");
    let malformed = Command::FailMalformedHtlc { id: HtlcId::new(1), sha256_of_onion: [5; 32], failure_code: 0xc005 };
    pair.b.command(malformed).expect("goes");
    pair.run();
    pair.assert_level();
    assert_eq!(pair.a.balance(), Msat::new(500_000_000));
    let failed = OutgoingFailure::Failed { reason: vec![7; 292], attribution_data: None };
    let effect = Effect::OutgoingFailed { id: HtlcId::new(0), payment_hash: hash(1), failure: failed };
    assert!(pair.a.effects.contains(&effect));
    let malformed = OutgoingFailure::Malformed { sha256_of_onion: [5; 32], failure_code: 0xc005 };
    let effect = Effect::OutgoingFailed { id: HtlcId::new(1), payment_hash: hash(2), failure: malformed };
    assert!(pair.a.effects.contains(&effect));
}

/// BOLT 2: an HTLC counts once no commitment without it can confirm, and not before.
#[test]
fn an_incoming_htlc_is_reported_when_it_is_irrevocable() {
    let mut pair = Pair::anchors();
    pair.a.add(LARGE, 1).expect("goes");
    pair.a.step(Input::Seal);
    pair.deliver(0);
    pair.deliver(0);
    // b has a's signature, and has revoked; its own signature is not out yet.
    assert_eq!(pair.b.incoming(), []);
    assert_eq!(pair.b.commitments().incoming[&HtlcId::new(0)].stage, Stage::Acked);
    assert!(pair.b.fulfil(HtlcId::new(0), 1).is_err());
    pair.b.step(Input::Seal);
    pair.deliver(1);
    assert_eq!(pair.a.commitments().outgoing[&HtlcId::new(0)].stage, Stage::Acked);
    pair.deliver(1);
    assert_eq!(pair.a.commitments().outgoing[&HtlcId::new(0)].stage, Stage::Irrevocable);
    assert_eq!(pair.b.incoming(), []);
    pair.deliver(0);
    assert_eq!(pair.b.incoming(), [HtlcId::new(0)]);
}

#[test]
fn updates_cross_on_the_wire() {
    let mut pair = Pair::anchors();
    for byte in 0..20 {
        pair.a.add(LARGE / 10, byte).expect("goes");
        pair.b.add(LARGE / 10, 100 + byte).expect("goes");
        if byte % 3 == 0 {
            pair.seal();
        }
        if byte % 4 == 0 {
            pair.deliver(usize::from(byte % 8 == 0));
        }
    }
    pair.run();
    pair.assert_level();
    let (at_a, at_b) = (pair.a.incoming(), pair.b.incoming());
    assert_eq!((at_a.len(), at_b.len()), (20, 20));
    for id in at_b {
        pair.b.fulfil(id, id.id() as u8).expect("goes");
    }
    for id in at_a {
        pair.a.fail(id).expect("goes");
    }
    pair.run();
    pair.assert_level();
    assert_eq!(pair.a.balance(), Msat::new(500_000_000 - 20 * LARGE / 10));
    assert!(pair.a.commitments().is_clean());
}

#[test]
fn one_signature_covers_all_that_is_due() {
    let mut pair = Pair::anchors();
    for byte in 0..50 {
        pair.a.add(1_000_000, byte).expect("goes");
    }
    pair.a.step(Input::Seal);
    let signed = pair.a.outbox.iter().filter(|message| matches!(message, Message::CommitmentSigned(_)));
    let signatures = signed.map(|message| match message {
        Message::CommitmentSigned(message) => message.htlc_signatures.len(),
        _ => 0,
    });
    assert_eq!(signatures.collect::<Vec<_>>(), [50]);
    pair.a.add(1_000_000, 60).expect("goes");
    assert!(!pair.a.channel.seal_due(), "one unrevoked signature at a time");
    pair.run();
    pair.assert_level();
    let before = pair.a.steps;
    pair.a.step(Input::Seal);
    assert!(pair.a.outbox.is_empty() && pair.a.steps == before + 1, "nothing to sign, nothing sent");
}

#[test]
fn equal_htlcs_with_other_expiries_are_told_apart() {
    let mut pair = Pair::anchors();
    for expiry in [300, 200, 250, 200] {
        let add = Command::AddHtlc {
            amount: Msat::new(LARGE),
            payment_hash: hash(1),
            cltv_expiry: CltvExpiry::new(expiry),
            onion: OnionRoutingPacket::new([1; 1_366]),
            path_key: None,
        };
        pair.a.command(add).expect("goes");
    }
    pair.run();
    pair.assert_level();
    assert_eq!(pair.b.incoming().len(), 4);
}

#[test]
fn the_opener_changes_the_feerate() {
    for format in [CommitmentFormat::Anchors, CommitmentFormat::StaticRemotekey] {
        let mut pair = Pair::open(format);
        // Trimmed or not by the feerate, where there are no anchors.
        pair.a.add(1_500_000, 1).expect("goes");
        pair.b.add(1_500_000, 2).expect("goes");
        pair.a.command(Command::UpdateFee { feerate: FeeratePerKw::new(2_000) }).expect("goes");
        pair.a.command(Command::UpdateFee { feerate: FeeratePerKw::new(2_400) }).expect("goes");
        pair.run();
        pair.assert_level();
        assert_eq!(pair.b.commitments().tally(View::LocalCurrent).feerate, FeeratePerKw::new(2_400));
        let untrimmed = pair.b.commitments().tally(View::LocalCurrent).untrimmed;
        assert_eq!(untrimmed, if format.has_anchors() { 2 } else { 0 });
        pair.a.command(Command::UpdateFee { feerate: FeeratePerKw::new(253) }).expect("goes");
        pair.run();
        pair.assert_level();
        assert_eq!(pair.b.commitments().tally(View::LocalCurrent).untrimmed, 2);
        pair.b.fulfil(HtlcId::new(0), 1).expect("goes");
        pair.a.fulfil(HtlcId::new(0), 2).expect("goes");
        pair.run();
        pair.assert_level();
        assert!(pair.a.commitments().is_clean());
    }
}

/// PAINS 2: six channels closed at once over an `update_fee` out of range.
#[test]
fn a_feerate_out_of_range_pauses_a_channel_with_anchors() {
    let narrow = Policy { accepted_feerates: FeeratePerKw::FLOOR..=FeeratePerKw::new(1_500), ..Policy::default() };
    let mut pair = Pair::open_with(CommitmentFormat::Anchors, 500_000_000, [Policy::default(), narrow]);
    pair.a.command(Command::UpdateFee { feerate: FeeratePerKw::new(2_000) }).expect("goes");
    pair.run();
    pair.assert_level();
    let notice = Effect::Noticed(Notice::FeerateOutOfRange { feerate: FeeratePerKw::new(2_000) });
    assert!(pair.b.effects.contains(&notice));
    assert!(matches!(pair.a.effects.last(), Some(Effect::Noticed(Notice::PeerWarned { .. }))));
    let paused = Refusal::FeerateOutOfRange { feerate: FeeratePerKw::new(2_000) };
    assert_eq!(pair.b.add(LARGE, 1), Err(paused.into()));
    pair.a.add(LARGE, 1).expect("the other direction goes on");
    pair.a.command(Command::UpdateFee { feerate: FeeratePerKw::new(1_000) }).expect("goes");
    pair.run();
    pair.b.fulfil(HtlcId::new(0), 1).expect("goes");
    pair.b.add(LARGE, 2).expect("goes again");
    pair.run();
    pair.assert_level();
}

#[test]
fn what_exceeds_the_dust_limit_comes_in_marked() {
    let careful =
        Policy { exposure: crate::commitment::ExposurePolicy { max_dust: Msat::new(250_000) }, ..Policy::default() };
    let mut pair = Pair::open_with(CommitmentFormat::Anchors, 500_000_000, [Policy::default(), careful]);
    for byte in 0..3 {
        pair.a.add(DUST, byte).expect("the sender's own limit is wider");
    }
    pair.run();
    let marked = pair.b.taken(|effect| match effect {
        Effect::IncomingHtlc { must_fail, .. } => Some(*must_fail),
        _ => None,
    });
    assert_eq!(marked, [false, false, true]);
}

#[test]
fn a_penalty_row_is_written_when_an_htlc_leaves() {
    let mut pair = Pair::anchors();
    pair.a.add(LARGE, 1).expect("goes");
    pair.a.add(DUST, 2).expect("goes");
    pair.run();
    assert_eq!((pair.a.rows.len(), pair.b.rows.len()), (0, 0));
    pair.b.fulfil(HtlcId::new(0), 1).expect("goes");
    pair.b.fulfil(HtlcId::new(1), 2).expect("goes");
    pair.run();
    // Dust has no output: nothing to punish.
    let [row] = pair.a.rows.as_slice() else { panic!("one row at a") };
    assert_eq!((row.adder, row.id, row.payment_hash), (Side::Local, HtlcId::new(0), hash(1)));
    assert_eq!((row.first.number(), row.last.number()), (1, 1));
    let [row] = pair.b.rows.as_slice() else { panic!("one row at b") };
    assert_eq!((row.adder, row.amount), (Side::Remote, Msat::new(LARGE)));
    assert_eq!((row.first.number(), row.last.number()), (1, 1));
    let facts = pair.a.channel.closing_facts().expect("funded");
    let secret = facts.commitments.secrets.secret(row.first).expect("revoked");
    assert!(secret.point().is_some());
}
