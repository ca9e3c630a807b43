//! What is wrong on a blinded path, and how each place answers it (BOLT 2, "Removing an HTLC"; BOLT 4, "Failure Messages").

use bitcoin::hashes::{Hash, sha256};
use secp256k1::SECP256K1;

use super::*;
use crate::onion::failure;
use crate::units::{CltvDelta, CltvExpiry, Msat, NodeId, PaymentHash, ShortChannelId};
use crate::wire::{Features, OnionRoutingPacket};

const HASH: PaymentHash = PaymentHash([0x42; 32]);
const INVALID_ONION_BLINDING: u16 = 0xc018;
const HELD: HoldTime = HoldTime::from_units(2);

/// Where the hop under test is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Introduction,
    Inside,
    End,
    /// The payee, at once where the path begins.
    OnlyHop,
}

const EVERYWHERE: [At; 4] = [At::Introduction, At::Inside, At::End, At::OnlyHop];

fn id(byte: u8) -> PublicKey {
    key(byte).public_key(SECP256K1)
}

fn good_data(at: At) -> EncryptedData {
    let is_middle = matches!(at, At::Introduction | At::Inside);
    EncryptedData {
        short_channel_id: is_middle.then_some(ShortChannelId::from_u64(7)),
        path_id: (!is_middle).then_some(vec![5; 32]),
        payment_relay: is_middle.then_some(PaymentRelay {
            cltv_expiry_delta: CltvDelta::new(40),
            fee_proportional_millionths: 0,
            fee_base_msat: 10,
        }),
        payment_constraints: Some(PaymentConstraints {
            max_cltv_expiry: CltvExpiry::new(600),
            htlc_minimum_msat: Msat::new(5),
        }),
        ..EncryptedData::default()
    }
}

/// The onion of a payer for the hop, with any payload.
fn onion(at: At, data: Vec<u8>, change: &dyn Fn(&mut HopPayload)) -> (OnionRoutingPacket, SharedSecret, PublicKey) {
    let path = BlindedPath::blind(&[(NodeId(id(1)), data)], &key(50)).unwrap();
    let begins = matches!(at, At::Introduction | At::OnlyHop);
    let last = BlindedLast {
        amt_to_forward: Msat::new(1_000),
        outgoing_cltv_value: CltvExpiry::new(500),
        total_amount_msat: Msat::new(1_000),
    };
    let mut payload = HopPayload::from(BlindedPayload {
        encrypted_recipient_data: path.hops[0].encrypted_recipient_data.clone(),
        current_path_key: begins.then_some(path.first_path_key),
        last: matches!(at, At::End | At::OnlyHop).then_some(last),
    });
    change(&mut payload);
    let node_id = if begins { id(1) } else { path.hops[0].blinded_node_id };
    let mut hops = vec![Hop { node_id, payload: payload.encode() }];
    if matches!(at, At::Introduction | At::Inside) {
        hops.push(Hop { node_id: id(2), payload: vec![0; 2] });
    }
    let (onion, secrets) = build(&hops, &key(60), &HASH).unwrap();
    (onion, secrets[0].clone(), path.first_path_key)
}

fn open_at(at: At, onion: &OnionRoutingPacket, path_key: &PublicKey) -> Opened {
    let incoming = Incoming {
        onion,
        payment_hash: &HASH,
        amount: Msat::new(1_000),
        cltv_expiry: CltvExpiry::new(500),
        path_key: matches!(at, At::Inside | At::End).then_some(path_key),
    };
    open(&incoming, node(key(1)))
}

fn sha256_of(onion: &OnionRoutingPacket) -> [u8; 32] {
    sha256::Hash::hash(onion.as_bytes()).to_byte_array()
}

/// The failure that the payer reads, or the code of `update_fail_malformed_htlc`.
fn answer(opened: &Opened, onion: &OnionRoutingPacket, secret: &SharedSecret) -> Result<Failure, u16> {
    match opened {
        Opened::Malformed { sha256_of_onion, failure_code } => {
            assert_eq!(*sha256_of_onion, sha256_of(onion));
            Err(*failure_code)
        }
        Opened::Failed(failure, return_path) => match return_path.fail(failure, HELD) {
            Answer::Fail { reason, attribution_data } => {
                let read = failure::read(std::slice::from_ref(secret), &reason, attribution_data.as_ref()).unwrap();
                assert_eq!((read.hop, read.hold_times), (0, vec![HELD]));
                Ok(read.failure)
            }
            Answer::Malformed { failure_code, .. } => Err(failure_code),
        },
        other => panic!("it is refused: {other:?}"),
    }
}

fn check_refused(at: At, data: Vec<u8>, change: &dyn Fn(&mut HopPayload), why: &str) {
    let (onion, secret, path_key) = onion(at, data, change);
    let answer = answer(&open_at(at, &onion, &path_key), &onion, &secret);
    match at {
        At::Inside | At::End => assert_eq!(answer, Err(INVALID_ONION_BLINDING), "{why}"),
        At::Introduction | At::OnlyHop => {
            let sha256_of_onion = sha256_of(&onion);
            assert_eq!(answer, Ok(Failure::InvalidOnionBlinding { sha256_of_onion }), "{why}");
        }
    }
}

#[test]
fn a_good_path_is_followed_everywhere() {
    for at in EVERYWHERE {
        let (onion, _, path_key) = onion(at, good_data(at).encode(), &|_| ());
        match (at, open_at(at, &onion, &path_key)) {
            (At::Introduction | At::Inside, Opened::Forward(forwarding)) => {
                assert_eq!(forwarding.amt_to_forward, Msat::new(990));
                assert_eq!(forwarding.outgoing_cltv_value, CltvExpiry::new(460));
                assert!(forwarding.path_key.is_some());
            }
            (At::End | At::OnlyHop, Opened::Final(receiving)) => {
                assert_eq!(receiving.payload.payment_data.unwrap().payment_secret, [5; 32]);
            }
            (_, other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_next_hop_may_be_named_by_its_id() {
    let data = EncryptedData { short_channel_id: None, next_node_id: Some(id(9)), ..good_data(At::Inside) };
    let (onion, _, path_key) = onion(At::Inside, data.encode(), &|_| ());
    let Opened::Forward(forwarding) = open_at(At::Inside, &onion, &path_key) else { panic!("it goes on") };
    assert_eq!(forwarding.next, NextHop::NodeId(NodeId(id(9))));
}

#[test]
fn data_that_breaks_a_rule_is_refused() {
    let constraints = |max_cltv_expiry, htlc_minimum_msat| {
        let max_cltv_expiry = CltvExpiry::new(max_cltv_expiry);
        Some(PaymentConstraints { max_cltv_expiry, htlc_minimum_msat: Msat::new(htlc_minimum_msat) })
    };
    for at in EVERYWHERE {
        let good = || good_data(at);
        let mut odd = Features::empty();
        odd.set_bit(113);
        let edits = [
            ("after its end", EncryptedData { payment_constraints: constraints(499, 0), ..good() }),
            ("too little", EncryptedData { payment_constraints: constraints(600, 1_001), ..good() }),
            ("an odd feature", EncryptedData { allowed_features: Some(odd), ..good() }),
            (
                "two next hops",
                EncryptedData {
                    next_node_id: Some(id(9)),
                    short_channel_id: Some(ShortChannelId::from_u64(7)),
                    ..good()
                },
            ),
        ];
        for (why, data) in edits {
            check_refused(at, data.encode(), &|_| (), why);
        }
        check_refused(at, [&good().encode()[..], &[16, 0]].concat(), &|_| (), "an unknown even record");
        check_refused(at, vec![1], &|_| (), "no stream");
        check_refused(at, good().encode(), &|it| it.encrypted_recipient_data = Some(vec![9; 60]), "not encrypted");
        check_refused(at, good().encode(), &|it| it.encrypted_recipient_data = Some(vec![]), "empty");
        let good_again = [&good().encode()[..], &[17, 0]].concat();
        let (onion, _, path_key) = onion(at, good_again, &|_| ());
        assert!(
            !matches!(open_at(at, &onion, &path_key), Opened::Failed(..) | Opened::Malformed { .. }),
            "odd is fine"
        );
    }
}

#[test]
fn a_hop_in_the_middle_needs_its_terms() {
    for at in [At::Introduction, At::Inside] {
        let good = || good_data(at);
        let relay = |fee_base_msat, cltv_expiry_delta| {
            let cltv_expiry_delta = CltvDelta::new(cltv_expiry_delta);
            Some(PaymentRelay { cltv_expiry_delta, fee_proportional_millionths: 0, fee_base_msat })
        };
        for (why, data) in [
            ("no next hop", EncryptedData { short_channel_id: None, ..good() }),
            ("no terms", EncryptedData { payment_relay: None, ..good() }),
            ("a fee above the amount", EncryptedData { payment_relay: relay(1_001, 40), ..good() }),
            ("a delta above the expiry", EncryptedData { payment_relay: relay(10, 501), ..good() }),
        ] {
            check_refused(at, data.encode(), &|_| (), why);
        }
        check_refused(at, good().encode(), &|it| it.amt_to_forward = Some(Msat::new(1)), "the payer's amount");
        check_refused(at, good().encode(), &|it| it.custom_records = vec![(65_537, vec![])], "a custom record");
    }
}

#[test]
fn a_path_key_is_in_one_place() {
    let (onion, secret, path_key) = onion(At::Introduction, good_data(At::Introduction).encode(), &|_| ());
    // With the HTLC too, the onion is opened by another key.
    let opened = open_at(At::Inside, &onion, &path_key);
    assert_eq!(answer(&opened, &onion, &secret), Err(INVALID_ONION_BLINDING));
    check_refused(
        At::Inside,
        good_data(At::Inside).encode(),
        &|it| it.current_path_key = Some(id(50)),
        "two path keys",
    );
    check_refused(
        At::Inside,
        good_data(At::Inside).encode(),
        &|it| {
            it.encrypted_recipient_data = None;
            it.amt_to_forward = Some(Msat::new(1));
            it.outgoing_cltv_value = Some(CltvExpiry::new(1));
            it.short_channel_id = Some(ShortChannelId::from_u64(1));
        },
        "a path key and a payload of no path",
    );
}

#[test]
fn without_any_path_key_the_payload_is_invalid() {
    let at = At::Introduction;
    let (onion, secret, path_key) = onion(at, good_data(at).encode(), &|it| it.current_path_key = None);
    let failure = answer(&open_at(at, &onion, &path_key), &onion, &secret);
    assert_eq!(failure, Ok(Failure::InvalidOnionPayload { tlv_type: 12, offset: 0 }));
}

/// What BOLT 4 asks of an introduction point holds for a payload of which only the path key could be read.
#[test]
fn a_payload_that_ends_in_nonsense_still_names_the_path() {
    let path_key = key(50).public_key(SECP256K1);
    let mut payload = HopPayload { current_path_key: Some(path_key), ..HopPayload::default() }.encode();
    payload.extend([14, 0]);
    let hops = [Hop { node_id: id(1), payload }, Hop { node_id: id(2), payload: vec![0; 2] }];
    let (onion, secrets) = build(&hops, &key(60), &HASH).unwrap();
    let opened = open_at(At::Introduction, &onion, &path_key);
    let sha256_of_onion = sha256_of(&onion);
    assert_eq!(answer(&opened, &onion, &secrets[0]), Ok(Failure::InvalidOnionBlinding { sha256_of_onion }));
}

#[test]
fn each_place_passes_back_what_it_may() {
    let downstream = SharedSecret::new([8; 32]);
    let (reason, data) = failure::build(&Failure::MppTimeout, &downstream, HELD);
    for at in EVERYWHERE {
        let (onion, secret, path_key) = onion(at, good_data(at).encode(), &|_| ());
        let opened = open_at(at, &onion, &path_key);
        let return_path = opened.return_path().unwrap();
        let blinding = Failure::InvalidOnionBlinding { sha256_of_onion: sha256_of(&onion) };
        let read = |answer: Answer| match answer {
            Answer::Fail { reason, attribution_data } => {
                let secrets = [secret.clone(), downstream.clone()];
                Ok(failure::read(&secrets, &reason, attribution_data.as_ref()).unwrap())
            }
            Answer::Malformed { failure_code, sha256_of_onion } => Err((failure_code, sha256_of_onion)),
        };
        let attributed = |failure| Attributed { hop: 0, failure, hold_times: vec![HELD] };
        let malformed = Err((INVALID_ONION_BLINDING, sha256_of(&onion)));
        let passed = read(return_path.pass_on(&reason, Some(&data), HELD));
        let passed_malformed = read(return_path.pass_on_malformed(0xc005, [3; 32], HELD));
        let own = read(return_path.fail(&Failure::ExpiryTooFar, HELD));
        let preimage = return_path.fulfil(Some(&fulfil(None, &downstream, HELD)), HELD);
        let preimage = preimage.map(|data| read_fulfil(&[secret.clone(), downstream.clone()], &data));
        match at {
            At::Inside | At::End => {
                assert_eq!((&passed, &passed_malformed, &own), (&malformed, &malformed, &malformed));
                assert_eq!(preimage, None);
            }
            At::Introduction => {
                let expected = Ok(attributed(blinding));
                assert_eq!((&passed, &passed_malformed, &own), (&expected, &expected, &expected));
                assert_eq!(preimage, Some(vec![HELD]), "nothing of what is behind it");
            }
            At::OnlyHop => {
                let timeout = Attributed { hop: 1, failure: Failure::MppTimeout, hold_times: vec![HELD, HELD] };
                assert_eq!(passed, Ok(timeout));
                let hmac = Failure::InvalidOnionHmac { sha256_of_onion: [3; 32] };
                assert_eq!(passed_malformed, Ok(attributed(hmac)));
                assert_eq!(own, Ok(attributed(Failure::ExpiryTooFar)));
                assert_eq!(preimage, Some(vec![HELD, HELD]));
            }
        }
    }
}

#[test]
fn what_cannot_be_opened_is_malformed() {
    let at = At::Introduction;
    let (good, _, path_key) = onion(at, good_data(at).encode(), &|_| ());
    for (byte, failure_code) in [(0, 0xc004), (1, 0xc006), (500, 0xc005)] {
        let mut bytes = *good.as_bytes();
        bytes[byte] ^= 0x80;
        let onion = OnionRoutingPacket::new(bytes);
        let sha256_of_onion = sha256_of(&onion);
        assert_eq!(open_at(at, &onion, &path_key), Opened::Malformed { sha256_of_onion, failure_code });
        let failure_code = INVALID_ONION_BLINDING;
        assert_eq!(open_at(At::Inside, &onion, &path_key), Opened::Malformed { sha256_of_onion, failure_code });
    }
}

/// A peer may send a failure so long that attribution data does not fit beside it.
#[test]
fn a_failure_that_fills_the_message_goes_without_attribution_data() {
    let return_path = ReturnPath::new(SharedSecret::new([1; 32]), [0; 32], crate::onion::answer::Place::Plain);
    for (length, fits) in [(64_000, true), (64_001, false)] {
        let Answer::Fail { reason, attribution_data } = return_path.pass_on(&vec![0; length], None, HELD) else {
            panic!("it fails");
        };
        assert_eq!((reason.len(), attribution_data.is_some()), (length, fits));
    }
}
