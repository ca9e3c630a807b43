//! Blinded paths: made, used, followed (BOLT 4, "Route Blinding" and its test vectors).

use proptest::prelude::*;
use secp256k1::SECP256K1;

use super::*;
use crate::onion::blinding::{node_factor, unblind};
use crate::units::{CltvDelta, CltvExpiry, Msat, NodeId, PaymentHash, ShortChannelId};
use crate::wire::{Features, OnionRoutingPacket};

const HASH: PaymentHash = PaymentHash([0x42; 32]);

fn id(byte: u8) -> NodeId {
    NodeId(key(byte).public_key(SECP256K1))
}

/// A short channel id as the vectors write it.
fn short_channel_id_of(value: &Value) -> ShortChannelId {
    let parts: Vec<u64> = value.as_str().unwrap().split('x').map(|part| part.parse().unwrap()).collect();
    ShortChannelId::from_u64(parts[0] << 40 | parts[1] << 16 | parts[2])
}

/// The records of a vector; those that are not known are left out.
fn data_of(tlvs: &Value) -> EncryptedData {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let features = |value: &Value| {
        let mut features = Features::empty();
        value["features"].as_array().unwrap().iter().for_each(|bit| features.set_bit(bit.as_u64().unwrap() as usize));
        features
    };
    EncryptedData {
        padding: tlvs.get("padding").map(|padding| bytes_of(padding).len()),
        short_channel_id: tlvs.get("short_channel_id").map(short_channel_id_of),
        next_node_id: None,
        path_id: tlvs.get("path_id").map(bytes_of),
        next_path_key_override: tlvs.get("next_path_key_override").map(point_of),
        payment_relay: tlvs.get("payment_relay").map(|relay| PaymentRelay {
            cltv_expiry_delta: CltvDelta::new(number(&relay["cltv_expiry_delta"]) as u16),
            fee_proportional_millionths: number(&relay["fee_proportional_millionths"]) as u32,
            fee_base_msat: relay.get("fee_base_msat").map_or(0, number) as u32,
        }),
        payment_constraints: tlvs.get("payment_constraints").map(|constraints| PaymentConstraints {
            max_cltv_expiry: CltvExpiry::new(number(&constraints["max_cltv_expiry"]) as u32),
            htlc_minimum_msat: Msat::new(number(&constraints["htlc_minimum_msat"])),
        }),
        allowed_features: tlvs.get("allowed_features").map(features),
    }
}

#[test]
fn paths_of_the_specification() {
    let Some(vector) = vector("bolt04-route-blinding-test.json") else { return };
    let hops = vector["generate"]["hops"].as_array().unwrap();
    // Bob's path to Carol, and Eve's from Dave to herself that is joined on to it.
    let mut made = Vec::new();
    for part in hops.chunks(2) {
        let nodes: Vec<_> =
            part.iter().map(|hop| (NodeId(point_of(&hop["node_id"])), bytes_of(&hop["encoded_tlvs"]))).collect();
        let path = BlindedPath::blind(&nodes, &key_of(&part[0]["session_key"])).unwrap();
        assert_eq!(path.first_node_id, nodes[0].0);
        assert_eq!(path.first_path_key, point_of(&part[0]["path_key"]));
        made.extend(path.hops);
    }
    let route = vector["route"]["hops"].as_array().unwrap();
    assert_eq!(made.len(), route.len());
    for (hop, expected) in made.iter().zip(route) {
        assert_eq!(hop.blinded_node_id, point_of(&expected["blinded_node_id"]));
        assert_eq!(hop.encrypted_recipient_data, bytes_of(&expected["encrypted_data"]));
    }
    let unblinded = vector["unblind"]["hops"].as_array().unwrap();
    for ((hop, expected), generated) in made.iter().zip(unblinded).zip(hops) {
        let (node_key, path_key) = (key_of(&expected["node_privkey"]), point_of(&expected["path_key"]));
        let secret = SharedSecret::from(node(node_key)(&path_key));
        assert_eq!(secret, SharedSecret::new(bytes_of(&generated["shared_secret"]).try_into().unwrap()));
        let blinded = node_key.mul_tweak(&node_factor(&secret).unwrap()).unwrap();
        assert_eq!(blinded, key_of(&expected["blinded_privkey"]));
        let read = unblind(&secret, &path_key, &hop.encrypted_recipient_data).unwrap();
        assert_eq!(read.data, data_of(&generated["tlvs"]));
        let next = expected.get("next_path_key_override").unwrap_or(&expected["next_path_key"]);
        assert_eq!(read.next_path_key, point_of(next));
        let known = generated["tlvs"].as_object().unwrap().keys().all(|name| !name.starts_with("unknown"));
        if known {
            assert_eq!(read.data.encode(), bytes_of(&generated["encoded_tlvs"]));
        }
    }
}

#[test]
fn payment_of_the_specification() {
    let Some(vector) = vector("bolt04-blinded-payment-onion-test.json") else { return };
    let generate = &vector["generate"];
    let route = &generate["blinded_route"];
    let hop = |hop: &Value| BlindedHop {
        blinded_node_id: point_of(&hop["blinded_node_id"]),
        encrypted_recipient_data: bytes_of(&hop["encrypted_data"]),
    };
    let path = BlindedPath {
        first_node_id: NodeId(point_of(&route["first_node_id"])),
        first_path_key: point_of(&route["first_path_key"]),
        hops: route["hops"].as_array().unwrap().iter().map(hop).collect(),
    };
    let full = generate["full_route"]["hops"].as_array().unwrap();
    let alice = HopPayload::from(ForwardPayload {
        amt_to_forward: Msat::new(110_125),
        outgoing_cltv_value: CltvExpiry::new(749_150),
        short_channel_id: ShortChannelId::from_u64(10),
    });
    let mut hops = vec![Hop { node_id: point_of(&full[0]["pubkey"]), payload: alice.encode() }];
    hops.extend(path.onion_hops(BlindedLast {
        amt_to_forward: Msat::new(100_000),
        outgoing_cltv_value: CltvExpiry::new(749_000),
        total_amount_msat: Msat::new(150_000),
    }));
    for (hop, expected) in hops.iter().zip(full) {
        assert_eq!(hop.node_id, point_of(&expected["pubkey"]));
        assert_eq!(hop.payload, bytes_of(&expected["payload"])[1..], "{}", expected["alias"]);
    }
    let (onion, _) = build(&hops, &key_of(&generate["session_key"]), &HASH).unwrap();
    assert_eq!(&onion.as_bytes()[..], bytes_of(&generate["onion"]));
    follow_specification(&vector, full, onion);
}

/// Hop by hop: the amounts that Bob, Carol and Dave send on follow from their terms.
fn follow_specification(vector: &Value, full: &[Value], mut onion: OnionRoutingPacket) {
    let mut path_key = None;
    let (mut amount, mut cltv_expiry) = (Msat::new(110_125), CltvExpiry::new(749_150));
    let sent_on = [(110_125, 749_150), (100_125, 749_100), (100_010, 749_025), (100_000, 749_000)];
    let decrypt = vector["decrypt"]["hops"].as_array().unwrap();
    for ((expected, generated), sent_on) in decrypt.iter().zip(full).zip(sent_on) {
        assert_eq!(&onion.as_bytes()[..], bytes_of(&expected["onion"]));
        let incoming =
            Incoming { onion: &onion, payment_hash: &HASH, amount, cltv_expiry, path_key: path_key.as_ref() };
        let Opened::Forward(forwarding) = open(&incoming, node(key_of(&expected["node_privkey"]))) else {
            panic!("{} forwards", expected["alias"]);
        };
        assert_eq!((forwarding.amt_to_forward.msat(), forwarding.outgoing_cltv_value.height()), sent_on);
        let tlvs = &generated["tlvs"];
        let channel = tlvs.get("outgoing_channel_id").unwrap_or(&tlvs["encrypted_recipient_data"]["short_channel_id"]);
        assert_eq!(forwarding.next, NextHop::ShortChannelId(short_channel_id_of(channel)));
        assert_eq!(forwarding.path_key, expected.get("next_path_key").map(point_of));
        assert_eq!(forwarding.return_path.is_introduction(), expected["alias"] == "Bob");
        (amount, cltv_expiry, path_key) =
            (forwarding.amt_to_forward, forwarding.outgoing_cltv_value, forwarding.path_key);
        onion = forwarding.onion;
    }
    let eve = decrypt.last().unwrap();
    assert_eq!(&onion.as_bytes()[..], bytes_of(&eve["onion"]));
    let incoming = Incoming { onion: &onion, payment_hash: &HASH, amount, cltv_expiry, path_key: path_key.as_ref() };
    let Opened::Final(receiving) = open(&incoming, node(key_of(&eve["node_privkey"]))) else { panic!("Eve is paid") };
    let tlvs = &full.last().unwrap()["tlvs"];
    assert_eq!(receiving.path_id, Some(bytes_of(&tlvs["encrypted_recipient_data"]["path_id"])));
    assert_eq!(receiving.payload.amt_to_forward.msat(), 100_000);
    assert_eq!(receiving.payload.payment_data, None, "the path id is no payment secret");
}

fn relay(byte: u8, fee_base_msat: u32, fee_proportional_millionths: u32, delta: u16) -> PathRelay {
    PathRelay {
        node_id: id(byte),
        short_channel_id: ShortChannelId::from_u64(u64::from(byte)),
        relay: PaymentRelay { cltv_expiry_delta: CltvDelta::new(delta), fee_proportional_millionths, fee_base_msat },
        htlc_minimum_msat: Msat::new(u64::from(byte)),
        htlc_maximum_msat: Msat::new(u64::MAX - u64::from(byte)),
    }
}

fn end(byte: u8) -> PathEnd {
    PathEnd {
        node_id: id(byte),
        path_id: vec![0x77; 32],
        min_final_cltv_expiry_delta: CltvDelta::new(18),
        last_height: 1_000,
        htlc_minimum_msat: Msat::new(1),
    }
}

#[test]
fn terms_of_the_specification() {
    let relays = [relay(1, 10_000, 0, 50), relay(2, 100, 150, 75), relay(3, 0, 100, 25)];
    let (path, terms) = BlindedPath::to_payee(&relays, &end(4), &key(9)).unwrap();
    assert_eq!((terms.fee_base_msat, terms.fee_proportional_millionths), (10_100, 251));
    assert_eq!(terms.cltv_expiry_delta.blocks(), 150 + 18);
    assert_eq!((terms.htlc_minimum_msat, terms.htlc_maximum_msat), (Msat::new(3), Msat::new(u64::MAX - 3)));
    assert_eq!(terms.fee(Msat::new(100_000)), Some(Msat::new(10_125)));
    assert_eq!(path.first_node_id, id(1));
    let lengths: Vec<_> = path.hops.iter().map(|hop| hop.encrypted_recipient_data.len()).collect();
    assert!(lengths.iter().all(|length| *length == lengths[0]), "{lengths:?}");
    let mut read = Vec::new();
    let mut path_key = path.first_path_key;
    for (hop, byte) in path.hops.iter().zip(1..) {
        let secret = SharedSecret::from(node(key(byte))(&path_key));
        let unblinded = unblind(&secret, &path_key, &hop.encrypted_recipient_data).unwrap();
        path_key = unblinded.next_path_key;
        let constraints = unblinded.data.payment_constraints.unwrap();
        assert_eq!(constraints.htlc_minimum_msat, Msat::new(3));
        assert_eq!(unblinded.data.allowed_features, Some(Features::empty()));
        read.push(constraints.max_cltv_expiry.height());
    }
    assert_eq!(read, [1_018 + 25 + 75 + 50, 1_018 + 25 + 75, 1_018 + 25, 1_018]);
}

#[test]
fn data_is_padded_to_one_length() {
    for length in [0, 1, 180, 200, 230, 255, 256, 260, 300, 600] {
        let end = PathEnd { path_id: vec![1; length], ..end(4) };
        let (path, _) = BlindedPath::to_payee(&[relay(1, 0, 0, 1), relay(2, 5, 5, 5)], &end, &key(9)).unwrap();
        let lengths: Vec<_> = path.hops.iter().map(|hop| hop.encrypted_recipient_data.len()).collect();
        assert!(lengths.iter().all(|length| *length == lengths[0]), "{lengths:?}");
    }
}

#[test]
fn paths_that_cannot_be_built() {
    assert_eq!(BlindedPath::blind(&[], &key(9)), Err(PathError::NoHop));
    assert_eq!(BlindedPath::to_payee(&[relay(1, 0, 0, 1); 27], &end(4), &key(9)), Err(PathError::TooManyHops));
    for dear in [relay(1, u32::MAX, 0, 1), relay(1, 0, u32::MAX, 1), relay(1, 0, 0, u16::MAX)] {
        let relays = [dear, relay(2, 1, 1, 1)];
        assert_eq!(BlindedPath::to_payee(&relays, &end(4), &key(9)), Err(PathError::TermsTooHigh));
    }
}

#[test]
fn a_payee_may_be_its_own_introduction() {
    let (path, terms) = BlindedPath::to_payee(&[], &end(4), &key(9)).unwrap();
    assert_eq!((terms.fee(Msat::new(5)), terms.cltv_expiry_delta.blocks()), (Some(Msat::ZERO), 18));
    let last = BlindedLast {
        amt_to_forward: Msat::new(5),
        outgoing_cltv_value: CltvExpiry::new(18),
        total_amount_msat: Msat::new(7),
    };
    let (onion, _) = build(&path.onion_hops(last), &key(8), &HASH).unwrap();
    let (amount, cltv_expiry) = (Msat::new(5), CltvExpiry::new(18));
    let incoming = Incoming { onion: &onion, payment_hash: &HASH, amount, cltv_expiry, path_key: None };
    let Opened::Final(receiving) = open(&incoming, node(key(4))) else { panic!("it is paid") };
    assert!(!receiving.return_path.is_introduction(), "it fails as any payee");
    assert_eq!(receiving.path_id, Some(vec![0x77; 32]));
    let data = PaymentData { payment_secret: [0x77; 32], total_msat: Msat::new(7) };
    assert_eq!(receiving.payload.payment_data, Some(data));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the terms, what a payer sends for `amount` is what each hop asks for, and `amount` arrives.
    #[test]
    fn what_the_terms_say_arrives(
        terms in prop::collection::vec((0u32..50_000, 0u32..300_000, 0u16..2_000), 0..5),
        amount in 1_000_000u64..10_000_000_000,
    ) {
        let count = terms.len() as u8;
        let relays: Vec<_> =
            terms.iter().zip(1..).map(|((base, proportional, delta), byte)| relay(byte, *base, *proportional, *delta)).collect();
        let (path, whole) = BlindedPath::to_payee(&relays, &end(count + 1), &key(99)).unwrap();
        let last = BlindedLast {
            amt_to_forward: Msat::new(amount),
            outgoing_cltv_value: CltvExpiry::new(1_018),
            total_amount_msat: Msat::new(amount),
        };
        let (mut onion, _) = build(&path.onion_hops(last), &key(98), &HASH).unwrap();
        let mut arriving = last.amt_to_forward.checked_add(whole.fee(last.amt_to_forward).unwrap()).unwrap();
        let mut cltv_expiry = CltvExpiry::new(1_000 + u32::from(whole.cltv_expiry_delta.blocks()));
        let mut path_key = None;
        for byte in 1..=count {
            let incoming = Incoming { onion: &onion, payment_hash: &HASH, amount: arriving, cltv_expiry, path_key: path_key.as_ref() };
            let Opened::Forward(forwarding) = open(&incoming, node(key(byte))) else { panic!("hop {byte} forwards") };
            let relay = relays[usize::from(byte) - 1].relay;
            let fee = u64::from(relay.fee_base_msat)
                + (u128::from(forwarding.amt_to_forward.msat()) * u128::from(relay.fee_proportional_millionths) / 1_000_000) as u64;
            // BOLT 4 rounds up what is sent on: the fee may be short by 1 msat.
            prop_assert!(arriving.msat() + 1 >= forwarding.amt_to_forward.msat() + fee, "the hop gets its fee");
            (arriving, cltv_expiry, path_key) = (forwarding.amt_to_forward, forwarding.outgoing_cltv_value, forwarding.path_key);
            onion = forwarding.onion;
        }
        let incoming = Incoming { onion: &onion, payment_hash: &HASH, amount: arriving, cltv_expiry, path_key: path_key.as_ref() };
        let Opened::Final(receiving) = open(&incoming, node(key(count + 1))) else { panic!("it is paid") };
        prop_assert!(arriving.msat() >= amount);
        prop_assert!(receiving.payload.payment_data.is_some());
        prop_assert_eq!(cltv_expiry.height(), 1_018);
    }
}
