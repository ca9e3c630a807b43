//! `shutdown` and `closing_signed`.

use super::*;
use crate::channel::tests::close::legacy;
use crate::transactions::{ClosingSpec, ClosingTransaction};
use crate::wire::{ClosingSigned, FeeRange, Shutdown};

const CLOSE: Command = Command::Shutdown { script: None, feerate: None };

fn script(version: u8, program: &[u8]) -> ScriptBuf {
    ScriptBuf::from_bytes([&[version, program.len() as u8][..], program].concat())
}

/// Each form, and whether it is one with and without `option_shutdown_anysegwit`.
fn forms() -> Vec<(ScriptBuf, bool, bool)> {
    let mut long = script(0x51, &[7; 40]);
    long.push_opcode(bitcoin::opcodes::all::OP_NOP);
    vec![
        (script(0, &[7; 20]), true, true),
        (script(0, &[7; 32]), true, true),
        (script(0x51, &[7; 32]), true, false),
        (script(0x51, &[7; 2]), true, false),
        (script(0x60, &[7; 40]), true, false),
        (script(0x52, &[7; 33]), true, false),
        (script(0, &[7; 21]), false, false),
        (script(0x51, &[7; 1]), false, false),
        (script(0x51, &[7; 41]), false, false),
        (script(0x61, &[7; 32]), false, false),
        (script(0x4f, &[7; 32]), false, false),
        (long, false, false),
        (ScriptBuf::new(), false, false),
        (ScriptBuf::from_bytes(vec![0x51]), false, false),
        (ScriptBuf::from_bytes(vec![0x51, 32, 1]), false, false),
        // OP_RETURN is for `option_simple_close` alone.
        (script(0x6a, &[7; 20]), false, false),
        (ScriptBuf::new_p2pkh(&bitcoin::PubkeyHash::from_byte_array([1; 20])), false, false),
        (ScriptBuf::new_p2sh(&bitcoin::ScriptHash::from_byte_array([1; 20])), false, false),
    ]
}

#[test]
fn scripts_have_the_forms_of_the_specification() {
    let mut pair = Pair::anchors();
    for any_segwit in [true, false] {
        pair.disconnect();
        let features = SessionFeatures { any_segwit, ..FEATURES };
        pair.a.step(Input::Connected(features));
        pair.b.step(Input::Connected(features));
        pair.run();
        for (script, with, without) in forms() {
            let good = if any_segwit { with } else { without };
            let message = Shutdown { channel_id: pair.a.channel.id, scriptpubkey: script.clone() };
            match answer(&pair.b, message) {
                Ok(_) => assert!(good, "{script}"),
                Err(error) => {
                    assert!(!good, "{script}");
                    assert_eq!(error, Violation::ShutdownScript.into());
                }
            }
            let command = Command::Shutdown { script: Some(script.clone()), feerate: None };
            let sent = pair.a.channel.decide(Input::Command(command), &pair.a.context());
            assert_eq!(sent.is_ok(), good, "{script}");
        }
    }
}

#[test]
fn shutdown_is_sent_once_and_nothing_is_offered_after_it() {
    let mut pair = Pair::anchors();
    pair.a.add(LARGE, 1).expect("goes");
    pair.run();
    pair.a.command(CLOSE).expect("goes");
    assert_eq!(types(&pair.a), [38]);
    assert_eq!(pair.a.command(CLOSE), Err(Refusal::AlreadyClosing.into()));
    assert_eq!(pair.a.add(LARGE, 2), Err(Refusal::Closing.into()));
    pair.run();
    assert_eq!(pair.b.add(LARGE, 2), Err(Refusal::Closing.into()), "nor by who answered");
    let fee = Command::UpdateFee { feerate: FeeratePerKw::new(1_500) };
    pair.a.command(fee).expect("an HTLC is left: the fee may still change");
    pair.run();
    pair.b.fulfil(HtlcId::new(0), 1).expect("goes");
    pair.run_at_most(3);
    while !pair.a.commitments().is_clean() || !pair.b.commitments().is_clean() {
        pair.seal();
        assert!(pair.deliver(0) || pair.deliver(1));
    }
    let fee = Command::UpdateFee { feerate: FeeratePerKw::new(2_000) };
    assert!(pair.a.command(fee).is_err(), "nothing is left: no update any more");
}

#[test]
fn shutdown_is_answered_once_nothing_of_ours_is_unsigned() {
    let mut pair = Pair::anchors();
    pair.b.add(LARGE, 1).expect("goes");
    pair.a.command(CLOSE).expect("goes");
    pair.deliver(0);
    assert_eq!(types(&pair.b), [128], "first what the peer has to see");
    pair.b.step(Input::Seal);
    assert_eq!(types(&pair.b), [128, 132, 38]);
    // The same again is no fault; it is answered once on a connection.
    let again = Shutdown { channel_id: pair.a.channel.id, scriptpubkey: close_script(1) };
    pair.b.step(Input::Message(again.into()));
    assert_eq!(types(&pair.b), [128, 132, 38]);
}

/// Both have said `shutdown`, nothing is left, and the opener's first offer is taken off the wire.
fn negotiating() -> (Pair, ClosingSigned) {
    negotiating_in(Pair::anchors())
}

fn negotiating_in(mut pair: Pair) -> (Pair, ClosingSigned) {
    pair.a.command(CLOSE).expect("goes");
    pair.deliver(0);
    pair.deliver(1);
    let Some(Message::ClosingSigned(offer)) = pair.a.outbox.pop_front() else { panic!("closing_signed") };
    (pair, offer)
}

const fn range(min: u64, max: u64) -> Option<FeeRange> {
    Some(FeeRange { min_fee_satoshis: Amount::from_sat(min), max_fee_satoshis: Amount::from_sat(max) })
}

#[test]
fn who_pays_takes_a_fee_of_the_overlap_and_no_other() {
    let (pair, offer) = negotiating();
    let own = offer.fee_range.expect("always said");
    let (min, max) = (own.min_fee_satoshis.to_sat(), own.max_fee_satoshis.to_sat());
    let with = |fee: u64, range| ClosingSigned { fee_range: range, ..legacy(&pair.b, Amount::from_sat(fee)) };
    for fee in [min, max, offer.fee_satoshis.to_sat()] {
        let effects = answer(&pair.a, with(fee, range(0, 1_000_000))).expect("in the overlap");
        assert!(effects.iter().any(|effect| matches!(effect, Effect::MutuallyClosed { .. })));
        let replies: Vec<_> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Send(Message::ClosingSigned(reply)) => Some(reply.fee_satoshis.to_sat()),
                _ => None,
            })
            .collect();
        let expected = if fee == offer.fee_satoshis.to_sat() { vec![] } else { vec![fee] };
        assert_eq!(replies, expected, "the same fee, where it is not that of the offer");
    }
    for fee in [min - 1, max + 1] {
        let violation = fault(&pair.a, with(fee, range(0, 1_000_000)));
        assert_eq!(violation, Violation::ClosingFeeNotBetween { fee: Amount::from_sat(fee) });
        assert_eq!(violation.response(), Response::FailChannel);
    }
    let apart = fault(&pair.a, with(max + 10, range(max + 5, max + 20)));
    assert_eq!((apart.response(), apart), (Response::Warn, Violation::ClosingFeeRange));
}

#[test]
fn who_does_not_pay_offers_once() {
    let (mut pair, offer) = negotiating();
    let low = ClosingSigned { fee_range: range(100, 300), ..legacy(&pair.a, Amount::from_sat(100)) };
    pair.b.step(Input::Message(low.into()));
    let Some(Message::ClosingSigned(counter)) = pair.b.outbox.pop_front() else { panic!("closing_signed") };
    assert!((100..=300).contains(&counter.fee_satoshis.to_sat()), "in the overlap");
    let own = counter.fee_range.expect("said");
    assert!(own.min_fee_satoshis <= offer.fee_satoshis && own.max_fee_satoshis >= offer.fee_satoshis);
    let other = counter.fee_satoshis + Amount::from_sat(1);
    let message = ClosingSigned { fee_range: range(100, 400), ..legacy(&pair.a, other) };
    let violation = fault(&pair.b, message);
    // In the overlap still, but the payer was to take it or leave it.
    assert_eq!(violation, Violation::ClosingFeeNotBetween { fee: other });
    assert_eq!(violation.response(), Response::FailChannel);
    let same = ClosingSigned { fee_range: range(100, 400), ..legacy(&pair.a, counter.fee_satoshis) };
    assert!(answer(&pair.b, same).is_ok());
}

#[test]
fn closing_signatures_are_checked() {
    let (mut pair, offer) = negotiating();
    let high = ClosingSigned { signature: high_s(&offer.signature), ..offer.clone() };
    let violation = fault(&pair.b, high.clone());
    assert!(matches!(violation, Violation::ClosingSignature { .. }));
    assert_eq!(violation.response(), Response::FailChannel);
    assert!(answer(&pair.b, offer).is_ok());
    pair.b.step(Input::Violated(fault(&pair.b, high)));
    let Some(Message::Error(error)) = pair.b.outbox.pop_front() else { panic!("error") };
    assert!(error.text().contains("02000000"), "the transaction that was checked");
    assert_eq!(pair.b.broadcasts().len(), 1, "our commitment");
}

/// A close that pays an output below its script's dust limit would not be relayed: who signs one is failed.
#[test]
fn an_output_below_dust_fails_the_channel() {
    let (pair, _) = negotiating();
    let fee = Amount::from_sat(499_900);
    let spec = ClosingSpec {
        to_opener: Msat::new(500_000_000),
        to_accepter: Msat::new(500_000_000),
        opener_script: close_script(1),
        accepter_script: close_script(2),
        fee,
        dust_limit: Amount::ZERO,
    };
    let funding = pair.a.commitments().main().funding();
    let transaction = ClosingTransaction::build(funding, &spec).expect("two outputs");
    assert_eq!(transaction.transaction().output[0].value, Amount::from_sat(100));
    let signature = pair.a.signer.sign_funding(&pair.a.channel.keys_id, transaction.sighash(funding));
    let message = ClosingSigned { channel_id: pair.a.channel.id, fee_satoshis: fee, signature, fee_range: None };
    let violation = fault(&pair.b, message);
    assert!(matches!(violation, Violation::ClosingSignature { .. }));
    assert_eq!(violation.response(), Response::FailChannel);
}

/// BOLT 3: who signs leaves out what is below its own dust limit, also of the other side's.
#[test]
fn the_peers_dust_limit_is_its_own() {
    let coarse = Policy { dust_limit: Amount::from_sat(5_000), ..Policy::default() };
    // 4,000 sat are ours (b's): above our dust limit and below that of a.
    let pair = Pair::open_with(CommitmentFormat::Anchors, 4_000_000, [coarse, Policy::default()]);
    let (mut pair, offer) = negotiating_in(pair);
    pair.b.step(Input::Message(offer.clone().into()));
    let Phase::MutuallyClosed { transaction, .. } = &pair.b.funded().phase else { panic!("closed") };
    assert_eq!(transaction.output.len(), 1);
    assert_eq!(transaction.output[0].value, Amount::from_sat(996_000) - offer.fee_satoshis);
    let txid = transaction.compute_txid();
    pair.run();
    let Phase::MutuallyClosed { transaction, .. } = &pair.a.funded().phase else { panic!("closed") };
    assert_eq!(transaction.compute_txid(), txid);
    // And the other way: what the peer of the finer limit signs is taken.
    let coarse = Policy { dust_limit: Amount::from_sat(5_000), ..Policy::default() };
    let pair = Pair::open_with(CommitmentFormat::Anchors, 4_000_000, [Policy::default(), coarse]);
    let (mut pair, offer) = negotiating_in(pair);
    pair.b.step(Input::Message(offer.into()));
    pair.run();
    let Phase::MutuallyClosed { transaction, .. } = &pair.b.funded().phase else { panic!("closed") };
    assert_eq!(transaction.output.len(), 2);
}
