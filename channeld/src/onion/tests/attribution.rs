//! Hold times, and who changed what (BOLT 4, "Returning Errors" and its test vector).

use bitcoin::hashes::{Hash, sha256};

use super::*;
use crate::onion::attribution::MAX_ATTRIBUTED;
use crate::onion::failure::{self, pack};
use crate::units::{BlockHeight, Msat};
use crate::wire::AttributionData;

/// What the payer shares with the five hops of the specification's route.
const SECRETS: [&str; 5] = [
    "53eb63ea8a3fec3b3cd433b85cd62a4b145e1dda09391b348c4e1cd36a03ea66",
    "a6519e98832a0b179f62123b3567c106db99ee37bef036e783263602f3488fae",
    "3a6b412548762f0dbccce5c7ae7bb8147d1caf9b5471c34120b30bc9c04891cc",
    "21e13c2d7cfe7e18836df50872466117a295783ab8aab0e7ecc8c725503ad02d",
    "b5756b9b542727dbafc6765a49488b023a725d631af688fc031217e90770c328",
];

/// Of each hop, the payee first, the SHA-256 of the failure packet, of the attribution data beside it, and of that beside a
/// preimage, as BOLT 4 prints them.
const PUBLISHED: [[&str; 3]; 5] = [
    [
        "af9de55ab5c9355f9a438f96035a3d45be936b06d2383419457430db3d80db3b",
        "25ff586eab24fa8d3ea4170629269da6d89482b084a2dddf6569bb8695c691d0",
        "03fafa645fbc1fd1d623b7900b21e4968b85c02847c623fc667dd66d2718f3f2",
    ],
    [
        "929b5202b7cddf44137ab09c9c9cce0b58d9d4d48d85d020a0dc1784527e56d3",
        "c4aad28856fa0e3a7b4a016ca993628fa1be20853ac923317c8847f8ce721806",
        "559e20750750c4cf807f0d5fdd95077412509c2274466e60560acc63af91741c",
    ],
    [
        "d7023647b46913b9c2ddc4f60178b1ced9e87cdb07fb16d25f0778f1d1d11efb",
        "5706b3765997d4716e76daf8853e552765e92114fc435716638b33fbc8c42d1c",
        "b4dc73f0964f4b693c50c171e184ad65b66e02f9f13f3ead33e3b813b3ae7f23",
    ],
    [
        "325918ac1a2c14568c50ad5493b60cec6b05b66278121f48a47a0de6cf675f2e",
        "013c69b6b2abc0453348483f8cb81aafb991fb1846b9c4523c2d18522a18abe3",
        "407543c483b29ec88a2cbc9039ef73cd4127e6e537fb297192695fd6cfacd571",
    ],
    [
        "0709ced8da7a15dae982a2c0edfe44fefa1a2aab5db8e207f63890455799ec07",
        "7fe8cee92a9d62492c9ef65d54f363f41563be0050c6bce084fbb0034405646b",
        "7c8edc31d5900c0c8df5393c534cf54fa88d3fd91a6d0760f7353b98feae0587",
    ],
];

fn published_secrets() -> Vec<SharedSecret> {
    SECRETS.map(|text| SharedSecret::new(hex::decode(text).unwrap().try_into().unwrap())).to_vec()
}

fn secrets(hops: usize) -> Vec<SharedSecret> {
    (0..hops).map(|hop| SharedSecret::new([hop as u8 + 1; 32])).collect()
}

/// How long hop `hop` holds everything.
fn held(hop: usize) -> HoldTime {
    HoldTime::from_units(hop as u32 + 1)
}

fn hold_times(hops: usize) -> Vec<HoldTime> {
    (0..hops).map(held).collect()
}

fn digest(bytes: &[u8]) -> String {
    sha256::Hash::hash(bytes).to_string()
}

/// What a payer gets when hop `from` fails and the hops before pass it on.
fn failed(secrets: &[SharedSecret], from: usize) -> (Vec<u8>, AttributionData) {
    let first = failure::build(&Failure::MppTimeout, &secrets[from], held(from));
    (0..from).rev().fold(first, |(reason, data), hop| failure::wrap(reason, Some(&data), &secrets[hop], held(hop)))
}

fn fulfilled(secrets: &[SharedSecret]) -> AttributionData {
    let mut data = None;
    for (hop, secret) in secrets.iter().enumerate().rev() {
        data = Some(fulfil(data.as_ref(), secret, held(hop)));
    }
    data.unwrap()
}

#[test]
fn failure_and_preimage_of_the_specification() {
    let secrets = published_secrets();
    // A failure with a record that is not known; the vector is padded to 1,024 bytes, as was once the custom.
    let failure =
        Failure::IncorrectOrUnknownPaymentDetails { htlc_msat: Msat::new(100), height: BlockHeight::new(800_000) };
    let failuremsg = [&failure.encode()[..], &hex::decode("fd84d1fd012c").unwrap(), &[0x80; 300]].concat();
    // What the published data says, which is not what the text above it says: 1 at the payee, 5 at the payer's peer.
    let held = |hop: usize| HoldTime::from_units(5 - hop as u32);
    let mut packet = pack(&failuremsg, 1_024, &secrets[4], held(4));
    let mut preimage = fulfil(None, &secrets[4], held(4));
    for (hop, [reason, beside_reason, beside_preimage]) in (0..5).rev().zip(PUBLISHED) {
        assert_eq!(digest(&packet.0), reason, "failure packet of hop {hop}");
        assert_eq!(digest(packet.1.as_bytes()), beside_reason, "attribution data of hop {hop}");
        assert_eq!(digest(preimage.as_bytes()), beside_preimage, "attribution data of hop {hop} beside a preimage");
        if hop > 0 {
            packet = failure::wrap(packet.0, Some(&packet.1), &secrets[hop - 1], held(hop - 1));
            preimage = fulfil(Some(&preimage), &secrets[hop - 1], held(hop - 1));
        }
    }
    let hold_times: Vec<_> = (0..5).map(held).collect();
    assert_eq!(read_fulfil(&secrets, &preimage), hold_times);
    let attributed = Attributed { hop: 4, failure, hold_times };
    assert_eq!(failure::read(&secrets, &packet.0, Some(&packet.1)), Ok(attributed));
}

#[test]
fn hold_times_come_from_up_to_twenty_hops() {
    for hops in [1, 2, 19, 20, 21, 27] {
        let secrets = secrets(hops);
        assert_eq!(read_fulfil(&secrets, &fulfilled(&secrets)), hold_times(hops.min(MAX_ATTRIBUTED)));
        for from in [0, hops / 2, hops - 1] {
            let (reason, data) = failed(&secrets, from);
            let hold_times = hold_times((from + 1).min(MAX_ATTRIBUTED));
            let attributed = Attributed { hop: from, failure: Failure::MppTimeout, hold_times };
            assert_eq!(failure::read(&secrets, &reason, Some(&data)), Ok(attributed), "{from} of {hops}");
        }
    }
}

#[test]
fn a_hop_that_gives_nothing_hides_only_what_is_behind_it() {
    let secrets = secrets(6);
    let (reason, _) = {
        let first = failure::build(&Failure::MppTimeout, &secrets[5], held(5));
        failure::wrap(first.0, None, &secrets[4], held(4))
    };
    let mut packet = failure::wrap(reason, None, &secrets[3], held(3));
    let mut preimage = fulfil(None, &secrets[3], held(3));
    for hop in (0..3).rev() {
        packet = failure::wrap(packet.0, Some(&packet.1), &secrets[hop], held(hop));
        preimage = fulfil(Some(&preimage), &secrets[hop], held(hop));
    }
    let attributed = Attributed { hop: 5, failure: Failure::MppTimeout, hold_times: hold_times(4) };
    assert_eq!(failure::read(&secrets, &packet.0, Some(&packet.1)), Ok(attributed));
    assert_eq!(read_fulfil(&secrets, &preimage), hold_times(4));
    assert_eq!(read_fulfil(&[], &preimage), vec![]);
}

#[test]
fn who_changes_something_is_found() {
    let secrets = secrets(8);
    for liar in 0..7 {
        // The packet as it comes from behind the liar, and a bit of it changed.
        let first = failure::build(&Failure::MppTimeout, &secrets[7], held(7));
        let (reason, data) = (liar + 1..7)
            .rev()
            .fold(first, |(reason, data), hop| failure::wrap(reason, Some(&data), &secrets[hop], held(hop)));
        let pass_on = |mut reason: Vec<u8>, data: AttributionData, at: usize| {
            reason[at] ^= 1;
            let (reason, data) = (0..=liar).rev().fold((reason, data), |(reason, data), hop| {
                failure::wrap(reason, Some(&data), &secrets[hop], held(hop))
            });
            failure::read(&secrets, &reason, Some(&data))
        };
        for at in [0, 40, reason.len() - 1] {
            // The liar vouches for what it sends on, and the hop behind it does not.
            let garbled = Garbled { hop: Some(liar + 1), hold_times: hold_times(liar + 1) };
            assert_eq!(pass_on(reason.clone(), data.clone(), at), Err(garbled));
        }
        let mut bytes = *data.as_bytes();
        bytes[0] ^= 1;
        let (reason, data) = (0..=liar).rev().fold((reason, AttributionData::new(bytes)), |(reason, data), hop| {
            failure::wrap(reason, Some(&data), &secrets[hop], held(hop))
        });
        let attributed = Attributed { hop: 7, failure: Failure::MppTimeout, hold_times: hold_times(liar + 1) };
        assert_eq!(failure::read(&secrets, &reason, Some(&data)), Ok(attributed), "the failure is still good");
    }
}

#[test]
fn what_never_was_a_failure_is_told_of_the_last_hop() {
    let secrets = secrets(3);
    let first = failure::wrap(vec![7; 292], None, &secrets[2], held(2));
    let (reason, data) =
        (0..2).rev().fold(first, |(reason, data), hop| failure::wrap(reason, Some(&data), &secrets[hop], held(hop)));
    let garbled = Garbled { hop: Some(2), hold_times: hold_times(3) };
    assert_eq!(failure::read(&secrets, &reason, Some(&data)), Err(garbled));
    assert_eq!(failure::read(&[], &reason, Some(&data)), Err(Garbled { hop: None, hold_times: vec![] }));
}

#[test]
fn hold_times_are_told_in_tenths_of_a_second() {
    assert_eq!(HoldTime::from_micros(99_999), HoldTime::UNKNOWN);
    assert_eq!(HoldTime::from_micros(300_000).units(), 3);
    assert_eq!(HoldTime::from_micros(u64::MAX).units(), u32::MAX);
    assert_eq!(HoldTime::from_units(3).millis(), 300);
}
