use bitcoin::constants::ChainHash;
use proptest::prelude::*;
use secp256k1::{SECP256K1, SecretKey};

use super::*;
use crate::onion::{HoldTime, SharedSecret};
use crate::units::{BlockHeight, CltvDelta, CltvExpiry, Msat, ShortChannelId};
use crate::wire::codec::write_bytes_u16;
use crate::wire::{AttributionData, ChannelUpdate, Message};

fn update() -> Option<Box<ChannelUpdate>> {
    let key = SecretKey::from_slice(&[3; 32]).unwrap();
    let signature = SECP256K1.sign_ecdsa(&secp256k1::Message::from_digest([5; 32]), &key);
    Some(Box::new(ChannelUpdate {
        signature,
        chain_hash: ChainHash::REGTEST,
        short_channel_id: ShortChannelId::from_u64(77),
        timestamp: 1,
        message_flags: 1,
        channel_flags: 1,
        cltv_expiry_delta: CltvDelta::new(40),
        htlc_minimum_msat: Msat::new(1),
        fee_base_msat: 2,
        fee_proportional_millionths: 3,
        htlc_maximum_msat: Msat::new(4),
        excess: vec![],
    }))
}

fn failures() -> Vec<Failure> {
    let sha256_of_onion = [9; 32];
    let htlc_msat = Msat::new(1_000);
    let cltv_expiry = CltvExpiry::new(500);
    vec![
        Failure::TemporaryNodeFailure,
        Failure::PermanentNodeFailure,
        Failure::RequiredNodeFeatureMissing,
        Failure::InvalidOnionVersion { sha256_of_onion },
        Failure::InvalidOnionHmac { sha256_of_onion },
        Failure::InvalidOnionKey { sha256_of_onion },
        Failure::TemporaryChannelFailure { update: None },
        Failure::TemporaryChannelFailure { update: update() },
        Failure::PermanentChannelFailure,
        Failure::RequiredChannelFeatureMissing,
        Failure::UnknownNextPeer,
        Failure::AmountBelowMinimum { htlc_msat, update: update() },
        Failure::FeeInsufficient { htlc_msat, update: update() },
        Failure::IncorrectCltvExpiry { cltv_expiry, update: update() },
        Failure::ExpiryTooSoon { update: update() },
        Failure::IncorrectOrUnknownPaymentDetails { htlc_msat, height: BlockHeight::new(7) },
        Failure::FinalIncorrectCltvExpiry { cltv_expiry },
        Failure::FinalIncorrectHtlcAmount { incoming_htlc_amt: htlc_msat },
        Failure::ChannelDisabled { update: update() },
        Failure::ExpiryTooFar,
        Failure::InvalidOnionPayload { tlv_type: 300, offset: 4 },
        Failure::MppTimeout,
        Failure::InvalidOnionBlinding { sha256_of_onion },
        Failure::Other { code: 999 },
        Failure::Other { code: PERM | 99 },
        Failure::Other { code: UPDATE | 99 },
    ]
}

fn secrets() -> Vec<SharedSecret> {
    (1..=20).map(|byte| SharedSecret::new([byte; 32])).collect()
}

#[test]
fn failures_go_there_and_back() {
    for failure in failures() {
        assert_eq!(Failure::decode(&failure.encode()), failure);
        let mut with_more = failure.encode();
        with_more.extend([1, 2, 3]);
        assert_eq!(Failure::decode(&with_more), failure, "what follows is ignored");
    }
}

#[test]
fn a_channel_update_may_come_without_its_type() {
    let update = update().unwrap();
    let mut bytes = (UPDATE | 7).to_be_bytes().to_vec();
    write_bytes_u16(&Message::from((*update).clone()).encode()[2..], &mut bytes);
    assert_eq!(Failure::decode(&bytes), Failure::TemporaryChannelFailure { update: Some(update) });
    let mut garbage = (UPDATE | 7).to_be_bytes().to_vec();
    write_bytes_u16(&[1; 20], &mut garbage);
    assert_eq!(Failure::decode(&garbage), Failure::TemporaryChannelFailure { update: None });
}

/// How long hop `hop` holds everything.
fn held(hop: usize) -> HoldTime {
    HoldTime::from_units(hop as u32 * 3 + 1)
}

fn hold_times(hops: usize) -> Vec<HoldTime> {
    (0..hops).map(held).collect()
}

/// The failure of hop `from`, as it comes to the payer.
fn sent(failure: &Failure, secrets: &[SharedSecret], from: usize) -> (Vec<u8>, AttributionData) {
    let first = build(failure, &secrets[from], held(from));
    (0..from).rev().fold(first, |(reason, data), hop| wrap(reason, Some(&data), &secrets[hop], held(hop)))
}

#[test]
fn the_payer_finds_who_failed() {
    let secrets = secrets();
    for hop in 0..secrets.len() {
        for failure in failures().into_iter().skip(hop).step_by(9) {
            let (mut reason, data) = sent(&failure, &secrets, hop);
            assert_eq!(reason.len(), 32 + 2 + 2 + 256);
            let hold_times = hold_times(hop + 1);
            assert_eq!(
                read(&secrets, &reason, Some(&data)),
                Ok(Attributed { hop, failure: failure.clone(), hold_times })
            );
            let without = Attributed { hop, failure, hold_times: vec![] };
            assert_eq!(read(&secrets, &reason, None), Ok(without));
            reason[50] ^= 1;
            assert_eq!(read(&secrets, &reason, None), Err(Garbled { hop: None, hold_times: vec![] }));
            assert_eq!(read(&secrets, &reason, Some(&data)), Err(Garbled { hop: Some(0), hold_times: vec![] }));
        }
    }
    assert_eq!(read(&secrets, &[1; 31], None), Err(Garbled { hop: None, hold_times: vec![] }));
}

#[test]
fn malformed_answers_are_passed_on_as_failures() {
    assert_eq!(Failure::from_malformed(PERM | 5, [1; 32]), None);
    let hmac = Failure::InvalidOnionHmac { sha256_of_onion: [1; 32] };
    assert_eq!(Failure::from_malformed(BADONION | PERM | 5, [1; 32]), Some(hmac));
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a test may read files")]
fn failure_of_the_specification() {
    let Ok(dir) = std::env::var("SPEC_VECTORS") else {
        println!("SPEC_VECTORS is not set: bolt04-onion-error-test.json is not checked");
        return;
    };
    let text = std::fs::read_to_string(format!("{dir}/bolt04-onion-error-test.json")).unwrap();
    let vector: serde_json::Value = serde_json::from_str(&text).unwrap();
    let hops = vector["generate"]["hops"].as_array().unwrap();
    let secret = |hop: &serde_json::Value| {
        let bytes = hex::decode(hop["hop_shared_secret"].as_str().unwrap()).unwrap();
        SharedSecret::new(bytes.try_into().unwrap())
    };
    let secrets: Vec<SharedSecret> = hops.iter().map(secret).collect();
    for (hop, secret) in hops.iter().zip(&secrets) {
        assert_eq!(hex::encode(secret.key(b"ammag")), hop["ammag_key"].as_str().unwrap());
    }
    let failure = Failure::TemporaryNodeFailure;
    assert_eq!(hex::encode(failure.encode()), vector["generate"]["failure_message"].as_str().unwrap());
    let (last, before) = secrets.split_last().unwrap();
    let first = build(&failure, last, HoldTime::UNKNOWN).0;
    let reason = before.iter().rev().fold(first, |reason, secret| wrap(reason, None, secret, HoldTime::UNKNOWN).0);
    assert_eq!(hex::encode(&reason), vector["errorpacket"].as_str().unwrap());
    assert_eq!(read(&secrets, &reason, None), Ok(Attributed { hop: 4, failure, hold_times: vec![] }));
}

proptest! {
    #[test]
    fn any_bytes_never_panic(bytes: Vec<u8>) {
        let _ = Failure::decode(&bytes);
        let _ = read(&secrets(), &bytes, None);
    }
}
