//! Whatever comes, nothing panics.

use proptest::prelude::*;
use secp256k1::SECP256K1;

use super::*;
use crate::onion::blinding::unblind;
use crate::onion::failure;
use crate::units::{CltvExpiry, Msat, NodeId, PaymentHash};
use crate::wire::{AttributionData, OnionRoutingPacket};

const HASH: PaymentHash = PaymentHash([0x42; 32]);

fn id(byte: u8) -> PublicKey {
    key(byte).public_key(SECP256K1)
}

fn open_both_ways(onion: &OnionRoutingPacket, amount: u64, cltv_expiry: u32, path_key: &PublicKey) {
    for path_key in [None, Some(path_key)] {
        let (amount, cltv_expiry) = (Msat::new(amount), CltvExpiry::new(cltv_expiry));
        let incoming = Incoming { onion, payment_hash: &HASH, amount, cltv_expiry, path_key };
        let opened = open(&incoming, node(key(1)));
        if let Some(return_path) = opened.return_path() {
            let _ = return_path.fail(&Failure::ExpiryTooFar, HoldTime::UNKNOWN);
        }
    }
}

/// TLV streams of the types that payloads and encrypted data know, with values of any length.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let record = (0u8..20, prop::collection::vec(any::<u8>(), 0..40));
    prop::collection::vec(record, 0..8).prop_map(|mut records| {
        records.sort();
        records.dedup_by_key(|(tlv_type, _)| *tlv_type);
        let write = |(tlv_type, value): &(u8, Vec<u8>)| [&[*tlv_type, value.len() as u8], value.as_slice()].concat();
        records.iter().flat_map(write).collect()
    })
}

proptest! {
    #[test]
    fn any_bytes(bytes: Vec<u8>, is_final: bool) {
        let _ = HopPayload::read(&bytes, is_final);
        let _ = Failure::decode(&bytes);
        let secret = SharedSecret::new([1; 32]);
        let _ = unblind(&secret, &id(9), &bytes);
        let _ = failure::wrap(bytes.clone(), None, &secret, HoldTime::UNKNOWN);
        if let Ok(data) = EncryptedData::decode(&bytes) {
            prop_assert_eq!(EncryptedData::decode(&data.encode()).unwrap(), data);
        }
    }

    #[test]
    fn any_stream(bytes in stream(), is_final: bool) {
        let _ = HopPayload::read(&bytes, is_final);
        if let Ok(data) = EncryptedData::decode(&bytes) {
            prop_assert_eq!(EncryptedData::decode(&data.encode()).unwrap(), data);
        }
    }

    #[test]
    fn any_code(code: u16, rest: Vec<u8>) {
        let failuremsg = [&code.to_be_bytes()[..], &rest].concat();
        let failure = Failure::decode(&failuremsg);
        prop_assert_eq!(failure.code(), code);
        prop_assert_eq!(Failure::decode(&failure.encode()), failure);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The payee's data and the payer's payload are good streams of anything, sealed as they should be.
    #[test]
    fn any_payload_and_data(
        payload in stream(),
        data in stream(),
        amount: u64,
        cltv_expiry: u32,
        begins: bool,
        is_final: bool,
    ) {
        let path = BlindedPath::blind(&[(NodeId(id(1)), data)], &key(50)).unwrap();
        let sealed = HopPayload {
            encrypted_recipient_data: Some(path.hops[0].encrypted_recipient_data.clone()),
            current_path_key: begins.then_some(path.first_path_key),
            ..HopPayload::default()
        };
        let node_id = if begins { id(1) } else { path.hops[0].blinded_node_id };
        for payload in [sealed.encode(), [&[0, 0][..], &payload].concat()] {
            let mut hops = vec![Hop { node_id, payload }];
            if !is_final {
                hops.push(Hop { node_id: id(2), payload: vec![0; 2] });
            }
            let (onion, _) = build(&hops, &key(60), &HASH).unwrap();
            open_both_ways(&onion, amount, cltv_expiry, &path.first_path_key);
        }
    }

    #[test]
    fn any_onion(random: [u8; 32], at in 0..OnionRoutingPacket::LENGTH, bit in 0u8..8) {
        let (good, _) = build(&[Hop { node_id: id(1), payload: vec![0; 40] }], &key(60), &HASH).unwrap();
        let mut bytes = *good.as_bytes();
        bytes[at] ^= 1 << bit;
        open_both_ways(&OnionRoutingPacket::new(bytes), 1, 1, &id(3));
        bytes[2..34].copy_from_slice(&random);
        open_both_ways(&OnionRoutingPacket::new(bytes), 1, 1, &id(3));
    }

    #[test]
    fn any_failure_that_comes_back(reason: Vec<u8>, hops in 0usize..28, byte: u8) {
        let secrets: Vec<_> = (0..hops).map(|hop| SharedSecret::new([hop as u8; 32])).collect();
        let data = AttributionData::new([byte; AttributionData::LENGTH]);
        let _ = failure::read(&secrets, &reason, Some(&data));
        prop_assert!(read_fulfil(&secrets, &data).len() <= hops);
        let _ = failure::wrap(reason, Some(&data), &SharedSecret::new([1; 32]), HoldTime::UNKNOWN);
    }
}
