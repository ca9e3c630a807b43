//! Every message goes there and back, over the wire and over the disk; no bytes make the decoder panic.

mod sample;

use bitcoin::Amount;
use bitcoin::constants::ChainHash;
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use secp256k1::SECP256K1;

use super::*;
use crate::units::*;
use sample::{Source, channel_update, messages, receipt};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn messages_go_there_and_back(seed: u64) {
        for message in messages(seed) {
            let bytes = message.encode();
            prop_assert_eq!(Message::decode(&bytes), Ok(message.clone()));
            prop_assert_eq!(&bytes[..2], message.message_type().to_be_bytes());
            let stored = postcard::to_allocvec(&message).unwrap();
            prop_assert_eq!(postcard::from_bytes::<Message>(&stored).unwrap(), message);
        }
    }

    #[test]
    fn changed_bytes_never_panic(seed: u64, at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        for message in messages(seed) {
            let mut bytes = message.encode();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            // What still is a message is one that can be written again; amounts beyond all money are the one thing cut down.
            if let Ok(changed) = Message::decode(&bytes) {
                prop_assert_eq!(Message::decode(&changed.encode()).is_ok(), true);
            }
            let _ = Message::decode(&bytes[..cut.index(bytes.len())]);
        }
    }

    #[test]
    fn any_bytes_never_panic(bytes: Vec<u8>, kind in 0usize..29) {
        let types: Vec<u16> = messages(0).iter().map(Message::message_type).collect();
        let mut framed = types[kind % types.len()].to_be_bytes().to_vec();
        framed.extend(bytes);
        let _ = Message::decode(&framed);
    }
}

#[test]
fn every_type_is_there_once() {
    let mut types: Vec<u16> = messages(1).iter().map(Message::message_type).collect();
    types.sort_unstable();
    let known = [
        1, 16, 17, 18, 19, 32, 33, 34, 35, 36, 38, 39, 128, 130, 131, 132, 133, 134, 135, 136, 256, 257, 258, 259,
        47301, 47303, 47305, 47307, 47309,
    ];
    assert_eq!(types, known);
}

#[test]
fn unknown_types_are_odd_or_refused() {
    assert_eq!(Message::decode(&[0x7f, 0xff, 1, 2]), Ok(Message::Unknown { message_type: 0x7fff }));
    assert_eq!(Message::decode(&[0x7f, 0xfe]), Err(DecodeError::UnknownEvenType { message_type: 0x7ffe }));
    assert_eq!(Message::decode(&[0]), Err(DecodeError::TooShort));
    assert_eq!(
        Message::decode(&[0, 2, 0]),
        Err(DecodeError::UnknownEvenType { message_type: 2 }),
        "stfu is not negotiated"
    );
    assert_eq!(Message::decode(&[1, 8]), Err(DecodeError::TooShort), "reply_channel_range without its fields");
}

#[test]
fn records_that_others_send_are_tolerated() {
    let with = |message: &Message, record: &str| {
        let mut bytes = message.encode();
        bytes.extend(hex::decode(record).unwrap());
        Message::decode(&bytes)
    };
    let find = |message_type: u16| {
        (0..).map(move |seed| messages(seed).into_iter().find(|it| it.message_type() == message_type).unwrap())
    };
    let shutdown = find(38).next().unwrap();
    assert_eq!(with(&shutdown, "64020000"), Ok(shutdown.clone()), "CLN's wrong_funding");
    assert_eq!(with(&shutdown, "66020000"), Err(DecodeError::UnknownEvenTlv { tlv_type: 102 }));
    let add = find(128).next().unwrap();
    for record in ["fe0001000100", "fe0001271100", "fda05100", "fe0001a14700"] {
        assert_eq!(with(&add, record), Ok(add.clone()), "{record}");
    }
    let revoke = find(133).next().unwrap();
    assert_eq!(with(&revoke, "fe0001271101ff"), Ok(revoke.clone()));
}

#[test]
fn satoshi_beyond_all_money_are_refused_and_fee_ranges_cut() {
    let Some(Message::OpenChannel(open)) = messages(3).into_iter().find(|it| it.message_type() == 32) else {
        panic!("there is one");
    };
    let mut bytes = Message::OpenChannel(open).encode();
    bytes[2 + 64..2 + 72].copy_from_slice(&2_100_000_000_000_001u64.to_be_bytes());
    assert_eq!(Message::decode(&bytes), Err(DecodeError::AmountAboveMaximum));

    let mut bytes = find_closing_signed().encode();
    let length = bytes.len();
    bytes[length - 8..].copy_from_slice(&u64::MAX.to_be_bytes());
    let Ok(Message::ClosingSigned(read)) = Message::decode(&bytes) else { panic!("it is one") };
    assert_eq!(read.fee_range.unwrap().max_fee_satoshis, Amount::MAX_MONEY);
}

fn find_closing_signed() -> Message {
    (0..)
        .flat_map(messages)
        .find(|it| matches!(it, Message::ClosingSigned(ClosingSigned { fee_range: Some(_), .. })))
        .expect("half of them have a range")
}

#[test]
fn secrets_are_not_printed() {
    let revoke = RevokeAndAck {
        channel_id: ChannelId([1; 32]),
        per_commitment_secret: RevealedSecret([0xab; 32]),
        next_per_commitment_point: Source(ChaCha8Rng::seed_from_u64(1)).point(),
    };
    let shown = format!("{revoke:?}");
    assert!(!shown.contains("171") && !shown.contains("abab"), "{shown}");
}

#[test]
fn words_of_a_peer_are_safe_to_print() {
    assert_eq!(Error::new(ChannelId::ALL, "internal error").text(), "internal error");
    assert_eq!(Warning { channel_id: ChannelId::ALL, data: vec![0x1b, b'['] }.text(), "1b5b");
    let long = "x".repeat(100_000);
    for message in [Message::from(Error::new(ChannelId::ALL, &long)), Warning::new(ChannelId::ALL, &long).into()] {
        assert_eq!(message.encode().len(), MAX_MESSAGE_LENGTH);
        assert_eq!(Message::decode(&message.encode()), Ok(message));
    }
}

#[test]
fn pings_that_want_no_answer_get_none() {
    let ping = |num_pong_bytes| Ping { num_pong_bytes, ignored: vec![] }.pong().map(|pong| pong.ignored.len());
    assert_eq!((ping(0), ping(65_531), ping(65_532), ping(65_535)), (Some(0), Some(65_531), None, None));
    let longest = Message::from(Pong { ignored: vec![0; 65_531] });
    assert_eq!(longest.encode().len(), MAX_MESSAGE_LENGTH);
}

#[test]
fn gossip_is_verified_over_what_follows_too() {
    let mut source = Source(ChaCha8Rng::seed_from_u64(2));
    let key = source.key();
    let mut update = channel_update(&mut source);
    update.excess = vec![1, 2, 3];
    update.signature = SECP256K1.sign_ecdsa(&update.signed_hash(), &key);
    assert!(update.is_signed_by(&key.public_key(SECP256K1)));
    update.excess[0] = 9;
    assert!(!update.is_signed_by(&key.public_key(SECP256K1)));
}

#[test]
fn a_receipt_signs_each_field() {
    let mut source = Source(ChaCha8Rng::seed_from_u64(5));
    let key = source.key();
    let mut receipt = receipt(&mut source);
    receipt.signature = SECP256K1.sign_ecdsa(&receipt.signed_hash(), &key);
    assert!(receipt.is_signed_by(&key.public_key(SECP256K1)));
    let mut other = receipt.clone();
    other.enforceable_msat = Msat::new(other.enforceable_msat.msat() ^ 1);
    assert!(!other.is_signed_by(&key.public_key(SECP256K1)));
}

#[test]
fn payments_are_told_in_runs() {
    let mut payments = Payments::new();
    for _ in 0..1_000 {
        assert!(payments.push(Msat::new(100), None));
    }
    assert!(payments.push(Msat::new(100), Some([7; 32])));
    assert_eq!(payments.runs().count(), 2);
    assert_eq!((payments.count(), payments.sum()), (Some(1_001), Some(Msat::new(100_100))));
    let transfer = |first_sequence, last_sequence, amount| UpdateTransfer {
        channel_id: ChannelId([1; 32]),
        id: 0,
        session_id: SessionId([2; 32]),
        first_sequence,
        last_sequence,
        amount_msat: Msat::new(amount),
        payments: Some(payments.clone()),
    };
    assert!(transfer(0, 1_000, 100_100).payments_agree());
    assert!(transfer(5, 5_000, 200_000).payments_agree(), "not all are told");
    assert!(!transfer(0, 1_000, 100_101).payments_agree());
    assert!(!transfer(0, 999, 100_100).payments_agree());
    assert!(!transfer(9, 8, 100_100).payments_agree());
    assert!(!transfer(0, u64::MAX, 100_100).payments_agree());
}

#[test]
fn payments_stop_where_the_message_is_full() {
    let mut payments = Payments::new();
    let mut told = 0;
    while payments.push(Msat::new(told), Some([told as u8; 32])) {
        told += 1;
    }
    let transfer = UpdateTransfer {
        channel_id: ChannelId([1; 32]),
        id: 0,
        session_id: SessionId([2; 32]),
        first_sequence: 0,
        last_sequence: told - 1,
        amount_msat: payments.sum().unwrap(),
        payments: Some(payments),
    };
    let bytes = Message::from(transfer.clone()).encode();
    assert!(bytes.len() <= MAX_MESSAGE_LENGTH && bytes.len() > 64_900);
    assert_eq!(Message::decode(&bytes), Ok(transfer.into()));
}

/// Each message, cut at each of its bytes, is refused, but where what is left is a message of its own: the records behind
/// the fields are optional, and signed gossip may end in what nobody knows.
#[test]
fn truncated_messages_are_refused_or_whole() {
    for seed in 0..3 {
        for message in messages(seed) {
            let bytes = message.encode();
            let mut whole = 0;
            for cut in 0..bytes.len() {
                if let Ok(shorter) = Message::decode(&bytes[..cut]) {
                    assert_eq!(shorter.encode(), bytes[..cut], "{} cut at {cut}", message.message_type());
                    whole += 1;
                }
            }
            let ends_in_anything = message.channel_id().is_none();
            assert!(ends_in_anything || whole <= 3, "{}: {whole}", message.message_type());
        }
    }
}

/// BOLT 1: what follows the fields of a message is a TLV stream, in every message.
#[test]
fn every_message_ends_in_a_stream_of_records() {
    for message in messages(7).into_iter().filter(|message| message.channel_id().is_some()) {
        let with = |record: &[u8]| {
            let mut bytes = message.encode();
            bytes.extend(record);
            Message::decode(&bytes)
        };
        let said = message.message_type();
        assert_eq!(with(&[0xfd, 0xff, 0xff, 2, 1, 2]), Ok(message.clone()), "{said}: odd and unknown");
        assert_eq!(with(&[0xfd, 0xff, 0xfe, 0]), Err(DecodeError::UnknownEvenTlv { tlv_type: 0xfffe }), "{said}");
        assert_eq!(with(&[0xfd, 0xff, 0xff, 3, 1, 2]), Err(DecodeError::TooShort), "{said}: longer than what is left");
        assert_eq!(with(&[0xfd, 0xff]), Err(DecodeError::TooShort), "{said}");
        assert_eq!(with(&[0xfd, 0, 1, 0]), Err(DecodeError::BigSizeNotMinimal), "{said}");
        let twice = [0xfd, 0xff, 0xff, 0, 0xfd, 0xff, 0xff, 0];
        assert_eq!(with(&twice), Err(DecodeError::TlvOutOfOrder { tlv_type: 0xffff }), "{said}");
    }
}

/// What this node does not negotiate: even types are refused, odd ones skipped, whatever they hold.
#[test]
fn messages_of_features_that_are_not_negotiated() {
    // stfu; closing_complete; open_channel2; tx_add_input, tx_remove_input, tx_complete, tx_init_rbf, tx_abort; splice_init.
    for message_type in [2u16, 40, 64, 66, 68, 70, 72, 74, 80] {
        for body in [0, 1, 32, 200] {
            let mut bytes = message_type.to_be_bytes().to_vec();
            bytes.resize(2 + body, 7);
            assert_eq!(Message::decode(&bytes), Err(DecodeError::UnknownEvenType { message_type }));
        }
    }
    // peer_storage, peer_storage_retrieval; closing_sig; accept_channel2; tx_add_output, tx_remove_output, tx_signatures,
    // tx_ack_rbf; splice_locked, splice_ack; start_batch; onion_message.
    for message_type in [7u16, 9, 41, 65, 67, 69, 71, 73, 77, 81, 127, 513] {
        for body in [0, 1, 32, 65_533] {
            let mut bytes = message_type.to_be_bytes().to_vec();
            bytes.resize(2 + body, 7);
            assert_eq!(Message::decode(&bytes), Ok(Message::Unknown { message_type }));
        }
    }
}

#[test]
fn what_our_init_says() {
    let init = Init::new(Features::init(), ChainHash::REGTEST);
    assert_eq!((&init.globalfeatures, &init.remote_addr), (&Features::empty(), &None));
    assert_eq!(init.networks, Some(vec![ChainHash::REGTEST]));
    let bytes = Message::from(init).encode();
    assert_eq!(bytes[..4], [0, 16, 0, 0]);
    let length = usize::from(u16::from_be_bytes([bytes[4], bytes[5]]));
    assert_ne!(bytes[6], 0, "no byte more than the highest bit takes");
    assert_eq!(bytes[6..6 + length], *Features::init().as_bytes());
}

/// BOLT 2: keys of a proposal are points of the curve, compressed.
#[test]
fn keys_are_points() {
    for (message_type, first, keys) in
        [(32u16, 2 + 32 + 32 + 8 * 6 + 4 + 2 + 2, 6), (33, 2 + 32 + 8 * 4 + 4 + 2 + 2, 6)]
    {
        let mut all = messages(3).into_iter();
        let bytes = all.find(|it| it.message_type() == message_type).expect("there is one").encode();
        assert!(Message::decode(&bytes).is_ok());
        for key in 0..keys {
            let at = first + 33 * key;
            for (place, byte) in [(at, 0u8), (at, 4), (at, 5)] {
                let mut wrong = bytes.clone();
                wrong[place] = byte;
                assert_eq!(Message::decode(&wrong), Err(DecodeError::InvalidPoint), "{message_type}, key {key}");
            }
            let mut beyond = bytes.clone();
            beyond[at + 1..at + 33].fill(0xff);
            assert_eq!(Message::decode(&beyond), Err(DecodeError::InvalidPoint), "{message_type}, key {key}");
        }
    }
}

/// docs/protocol.md: a run of no payments, and a stream that is none, close the connection.
#[test]
fn a_run_of_no_payments_is_refused() {
    let Some(transfer) =
        (0..).flat_map(messages).find(|it| matches!(it, Message::UpdateTransfer(it) if it.payments.is_none()))
    else {
        panic!("there is one")
    };
    let with = |value: &[u8]| {
        let mut bytes = transfer.encode();
        bytes.extend([1, value.len() as u8]);
        bytes.extend(value);
        Message::decode(&bytes)
    };
    assert!(with(&[2, 100]).is_ok());
    for (value, said) in
        [(&[0, 100][..], "none"), (&[1, 100], "none, with a tag"), (&[3, 100], "no tag"), (&[2], "no amount")]
    {
        assert!(with(value).is_err(), "{said}");
    }
    for cut in 1..35 {
        let tagged = [&[3, 100][..], &[7; 32]].concat();
        assert_eq!(with(&tagged[..cut]).is_ok(), cut == 34, "{cut}");
    }
}
