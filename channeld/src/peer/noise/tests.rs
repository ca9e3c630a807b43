use proptest::prelude::*;
use secp256k1::ecdh::SharedSecret;
use secp256k1::{PublicKey, SECP256K1, SecretKey};
use serde_json::Value;

use super::*;

fn key(byte: u8) -> SecretKey {
    SecretKey::from_slice(&[byte; 32]).unwrap()
}

fn connected() -> (Transport, Transport) {
    let (caller, called) = (key(0x11), key(0x21));
    let (caller_id, called_id) = (caller.public_key(SECP256K1), called.public_key(SECP256K1));
    let (initiator, one) = Initiator::start(caller_id, &called_id, [0x12; 32]).unwrap();
    let ecdh = |point: &PublicKey| SharedSecret::new(point, &called);
    let (responder, two) = Responder::start(&called_id, &one, [0x22; 32], ecdh).unwrap();
    let (three, ours) = initiator.finish(&two, |point| SharedSecret::new(point, &caller)).unwrap();
    let (who, theirs) = responder.finish(&three).unwrap();
    assert_eq!(who, caller_id);
    (ours, theirs)
}

fn open_frame(decryptor: &mut Decryptor, frame: &mut [u8]) -> Result<Vec<u8>, Tampered> {
    let (header, body) = frame.split_at_mut(LENGTH_HEADER);
    let length = decryptor.open_length(header)?;
    assert_eq!(usize::from(length) + TAG, body.len());
    decryptor.open(body).map(<[u8]>::to_vec)
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap().trim_start_matches("0x")).unwrap()
}

fn field(test: &Value, name: &str) -> [u8; 32] {
    bytes(&test[name]).try_into().unwrap()
}

fn steps<'a>(test: &'a Value, name: &str) -> Vec<&'a Value> {
    test["steps"].as_array().unwrap().iter().filter_map(|step| step.get(name)).collect()
}

/// The error of a vector in our words; a read that is too short is the socket's error, not the handshake's.
fn expected(error: &str) -> Option<HandshakeError> {
    Some(match error {
        text if text.contains("READ_FAILED") => return None,
        text if text.contains("ACT1_BAD_VERSION") => HandshakeError::Version { act: 1 },
        text if text.contains("ACT1_BAD_PUBKEY") => HandshakeError::Key { act: 1 },
        text if text.contains("ACT1_BAD_TAG") => HandshakeError::Tag { act: 1 },
        text if text.contains("ACT2_BAD_VERSION") => HandshakeError::Version { act: 2 },
        text if text.contains("ACT2_BAD_PUBKEY") => HandshakeError::Key { act: 2 },
        text if text.contains("ACT2_BAD_TAG") => HandshakeError::Tag { act: 2 },
        text if text.contains("ACT3_BAD_VERSION") => HandshakeError::Version { act: 3 },
        text if text.contains("ACT3_BAD_PUBKEY") => HandshakeError::Key { act: 3 },
        text if text.contains("ACT3_BAD") => HandshakeError::Tag { act: 3 },
        text => panic!("unknown error {text}"),
    })
}

fn check_initiator(test: &Value) {
    let local = SecretKey::from_slice(&field(test, "ls.priv")).unwrap();
    let remote = PublicKey::from_slice(&bytes(&test["rs.pub"])).unwrap();
    let (initiator, one) = Initiator::start(local.public_key(SECP256K1), &remote, field(test, "e.priv")).unwrap();
    let outputs = steps(test, "output");
    assert_eq!(one.to_vec(), bytes(outputs[0]));
    let error = steps(test, "error").first().map(|error| expected(error.as_str().unwrap()));
    let input = bytes(steps(test, "input")[0]);
    let Ok(two) = <[u8; ACT_TWO]>::try_from(&input[..]) else { return assert_eq!(error, Some(None)) };
    match initiator.finish(&two, |point| SharedSecret::new(point, &local)) {
        Ok((three, _)) => assert_eq!(three.to_vec(), bytes(outputs[1])),
        Err(found) => assert_eq!(error, Some(Some(found))),
    }
}

fn check_responder(test: &Value) {
    let local = SecretKey::from_slice(&field(test, "ls.priv")).unwrap();
    let inputs: Vec<Vec<u8>> = steps(test, "input").into_iter().map(bytes).collect();
    let error = steps(test, "error").first().map(|error| expected(error.as_str().unwrap()));
    let Ok(one) = <[u8; ACT_ONE]>::try_from(&inputs[0][..]) else { return assert_eq!(error, Some(None)) };
    let ecdh = |point: &PublicKey| SharedSecret::new(point, &local);
    let (responder, two) = match Responder::start(&local.public_key(SECP256K1), &one, field(test, "e.priv"), ecdh) {
        Ok(started) => started,
        Err(found) => return assert_eq!(error, Some(Some(found))),
    };
    assert_eq!(two.to_vec(), bytes(steps(test, "output")[0]));
    let Ok(three) = <[u8; ACT_THREE]>::try_from(&inputs[1][..]) else { return assert_eq!(error, Some(None)) };
    match responder.finish(&three) {
        Ok(_) => assert_eq!(error, None),
        Err(found) => assert_eq!(error, Some(Some(found))),
    }
}

/// Message after message "hello"; the outputs of some are given, across two changes of the key.
fn check_messages(test: &Value) {
    let (mut ours, mut theirs) = connected();
    let wanted: Vec<(u64, Vec<u8>)> = test["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| (step["message"].as_u64().unwrap(), bytes(&step["output"])))
        .collect();
    for number in 0..=1_001 {
        let mut frame = Vec::new();
        ours.encryptor.seal(b"hello", &mut frame);
        if let Some((_, output)) = wanted.iter().find(|(wanted, _)| *wanted == number) {
            assert_eq!(&frame, output, "message {number}");
        }
        assert_eq!(open_frame(&mut theirs.decryptor, &mut frame), Ok(b"hello".to_vec()));
    }
    assert_eq!(wanted.len(), 6);
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a test may read files")]
fn vectors_of_the_specification() {
    let Ok(dir) = std::env::var("SPEC_VECTORS") else {
        println!("SPEC_VECTORS is not set: bolt08-transport.json is not checked");
        return;
    };
    let text = std::fs::read_to_string(format!("{dir}/bolt08-transport.json")).unwrap();
    for test in serde_json::from_str::<Value>(&text).unwrap().as_array().unwrap() {
        let name = test["name"].as_str().unwrap();
        println!("{name}");
        match name {
            name if name.starts_with("transport-initiator") => check_initiator(test),
            name if name.starts_with("transport-responder") => check_responder(test),
            _ => check_messages(test),
        }
    }
}

#[test]
fn a_caller_who_means_another_node_is_refused() {
    let other = key(0x33).public_key(SECP256K1);
    let called = key(0x21);
    let (_, one) = Initiator::start(key(0x11).public_key(SECP256K1), &other, [0x12; 32]).unwrap();
    let ecdh = |point: &PublicKey| SharedSecret::new(point, &called);
    let refused = Responder::start(&called.public_key(SECP256K1), &one, [0x22; 32], ecdh).map(drop);
    assert_eq!(refused, Err(HandshakeError::Tag { act: 1 }));
    let unusable = Initiator::start(other, &other, [0; 32]).map(drop);
    assert_eq!(unusable, Err(HandshakeError::Entropy));
}

#[test]
fn both_directions_have_their_own_keys() {
    let (mut ours, mut theirs) = connected();
    for length in [0, 1, 65_535] {
        let message = vec![7; length];
        let (mut there, mut back) = (Vec::new(), Vec::new());
        ours.encryptor.seal(&message, &mut there);
        theirs.encryptor.seal(&message, &mut back);
        assert_ne!(there, back);
        assert_eq!(open_frame(&mut theirs.decryptor, &mut there), Ok(message.clone()));
        assert_eq!(open_frame(&mut ours.decryptor, &mut back), Ok(message));
    }
}

proptest! {
    #[test]
    fn a_changed_frame_is_refused(message: Vec<u8>, at: prop::sample::Index, bit in 0u8..8) {
        let (mut ours, mut theirs) = connected();
        let mut frame = Vec::new();
        ours.encryptor.seal(&message, &mut frame);
        let at = at.index(frame.len());
        frame[at] ^= 1 << bit;
        prop_assert_eq!(open_frame(&mut theirs.decryptor, &mut frame), Err(Tampered));
    }

    #[test]
    fn any_acts_are_refused(one: [u8; 32], two: [u8; 18], rest: [u8; 16]) {
        let called = key(0x21);
        let mut act: [u8; ACT_ONE] = [one.as_slice(), &two].concat().try_into().unwrap();
        let ecdh = |point: &PublicKey| SharedSecret::new(point, &called);
        let local = called.public_key(SECP256K1);
        prop_assert!(Responder::start(&local, &act, [1; 32], ecdh).is_err());
        act[0] = 0;
        act[1] = 2;
        prop_assert!(Responder::start(&local, &act, [1; 32], ecdh).is_err());
        let (initiator, _) = Initiator::start(local, &local, [9; 32]).unwrap();
        prop_assert!(initiator.finish(&act, ecdh).is_err());
        let three: [u8; ACT_THREE] = [act.as_slice(), &rest].concat().try_into().unwrap();
        let (_, one) = Initiator::start(local, &local, [8; 32]).unwrap();
        let (responder, _) = Responder::start(&local, &one, [3; 32], ecdh).unwrap();
        prop_assert!(responder.finish(&three).is_err());
    }
}
