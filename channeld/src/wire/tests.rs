//! Every message goes there and back, over the wire and over the disk; no bytes make the decoder panic.

use bitcoin::constants::ChainHash;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, ScriptBuf, Txid};
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use secp256k1::ecdsa::Signature;
use secp256k1::{PublicKey, SECP256K1, SecretKey};

use super::message::channel::FundingReference;
use super::*;
use crate::units::*;

/// Where the fields of the messages come from.
struct Source(ChaCha8Rng);

impl Source {
    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = self.0.random_range(0..=most);
        (0..length).map(|_| self.0.random()).collect()
    }

    fn key(&mut self) -> SecretKey {
        SecretKey::from_slice(&self.0.random::<[u8; 32]>()).expect("nearly all numbers are keys")
    }

    fn point(&mut self) -> PublicKey {
        self.key().public_key(SECP256K1)
    }

    fn signature(&mut self) -> Signature {
        SECP256K1.sign_ecdsa(&secp256k1::Message::from_digest(self.0.random()), &self.key())
    }

    fn channel_id(&mut self) -> ChannelId {
        ChannelId(self.0.random())
    }

    fn amount(&mut self) -> Amount {
        Amount::from_sat(self.0.random_range(0..=Amount::MAX_MONEY.to_sat()))
    }

    fn msat(&mut self) -> Msat {
        Msat::new(self.0.random())
    }

    fn script(&mut self) -> ScriptBuf {
        ScriptBuf::from_bytes(self.bytes(40))
    }

    fn features(&mut self) -> Features {
        Features::from_bytes(self.bytes(200))
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Source) -> T) -> Option<T> {
        self.0.random::<bool>().then(|| make(self))
    }

    fn payments(&mut self) -> Payments {
        let mut payments = Payments::new();
        for _ in 0..self.0.random_range(0..20) {
            let (amount, tag) = (Msat::new(self.0.random_range(0..3)), self.maybe(|source| source.0.random()));
            (0..self.0.random_range(1..5)).for_each(|_| assert!(payments.push(amount, tag)));
        }
        payments
    }
}

fn setup_messages(source: &mut Source) -> Vec<Message> {
    vec![
        Init {
            globalfeatures: source.features(),
            features: source.features(),
            networks: source.maybe(|_| vec![ChainHash::REGTEST, ChainHash::BITCOIN]),
            remote_addr: source.maybe(|source| source.bytes(20)),
        }
        .into(),
        Error { channel_id: source.channel_id(), data: source.bytes(100) }.into(),
        Warning { channel_id: source.channel_id(), data: source.bytes(100) }.into(),
        Ping { num_pong_bytes: source.0.random(), ignored: source.bytes(100) }.into(),
        Pong { ignored: source.bytes(100) }.into(),
    ]
}

fn opening_messages(source: &mut Source) -> Vec<Message> {
    vec![
        OpenChannel {
            chain_hash: ChainHash::REGTEST,
            temporary_channel_id: source.channel_id(),
            funding_satoshis: source.amount(),
            push_msat: source.msat(),
            dust_limit_satoshis: source.amount(),
            max_htlc_value_in_flight_msat: source.msat(),
            channel_reserve_satoshis: source.amount(),
            htlc_minimum_msat: source.msat(),
            feerate_per_kw: FeeratePerKw::new(source.0.random()),
            to_self_delay: CltvDelta::new(source.0.random()),
            max_accepted_htlcs: source.0.random(),
            funding_pubkey: source.point(),
            revocation_basepoint: source.point(),
            payment_basepoint: source.point(),
            delayed_payment_basepoint: source.point(),
            htlc_basepoint: source.point(),
            first_per_commitment_point: source.point(),
            channel_flags: source.0.random(),
            upfront_shutdown_script: source.maybe(Source::script),
            channel_type: source.maybe(Source::features),
        }
        .into(),
        AcceptChannel {
            temporary_channel_id: source.channel_id(),
            dust_limit_satoshis: source.amount(),
            max_htlc_value_in_flight_msat: source.msat(),
            channel_reserve_satoshis: source.amount(),
            htlc_minimum_msat: source.msat(),
            minimum_depth: source.0.random(),
            to_self_delay: CltvDelta::new(source.0.random()),
            max_accepted_htlcs: source.0.random(),
            funding_pubkey: source.point(),
            revocation_basepoint: source.point(),
            payment_basepoint: source.point(),
            delayed_payment_basepoint: source.point(),
            htlc_basepoint: source.point(),
            first_per_commitment_point: source.point(),
            upfront_shutdown_script: source.maybe(Source::script),
            channel_type: source.maybe(Source::features),
        }
        .into(),
        FundingCreated {
            temporary_channel_id: source.channel_id(),
            funding_txid: Txid::from_byte_array(source.0.random()),
            funding_output_index: source.0.random(),
            signature: source.signature(),
        }
        .into(),
        FundingSigned { channel_id: source.channel_id(), signature: source.signature() }.into(),
        ChannelReady {
            channel_id: source.channel_id(),
            second_per_commitment_point: source.point(),
            short_channel_id: source.maybe(|source| ShortChannelId::from_u64(source.0.random())),
        }
        .into(),
    ]
}

fn closing_messages(source: &mut Source) -> Vec<Message> {
    let funding =
        FundingReference { txid: Txid::from_byte_array(source.0.random()), retransmit_flags: source.maybe(|_| 3) };
    let fee_range = FeeRange { min_fee_satoshis: source.amount(), max_fee_satoshis: source.amount() };
    vec![
        ChannelReestablish {
            channel_id: source.channel_id(),
            next_commitment_number: source.0.random(),
            next_revocation_number: source.0.random(),
            your_last_per_commitment_secret: RevealedSecret(source.0.random()),
            my_current_per_commitment_point: source.point(),
            next_funding: source.maybe(|_| funding),
            my_current_funding_locked: source.maybe(|_| funding),
        }
        .into(),
        Shutdown { channel_id: source.channel_id(), scriptpubkey: source.script() }.into(),
        ClosingSigned {
            channel_id: source.channel_id(),
            fee_satoshis: source.amount(),
            signature: source.signature(),
            fee_range: source.maybe(|_| fee_range),
        }
        .into(),
    ]
}

fn update_messages(source: &mut Source) -> Vec<Message> {
    let onion: [u8; OnionRoutingPacket::LENGTH] = source.0.random();
    let attribution: [u8; AttributionData::LENGTH] = source.0.random();
    vec![
        UpdateAddHtlc {
            channel_id: source.channel_id(),
            id: HtlcId::new(source.0.random()),
            amount_msat: source.msat(),
            payment_hash: PaymentHash(source.0.random()),
            cltv_expiry: CltvExpiry::new(source.0.random()),
            onion_routing_packet: OnionRoutingPacket::new(onion),
            path_key: source.maybe(Source::point),
        }
        .into(),
        UpdateFulfillHtlc {
            channel_id: source.channel_id(),
            id: HtlcId::new(source.0.random()),
            payment_preimage: Preimage(source.0.random()),
            attribution_data: source.maybe(|_| AttributionData::new(attribution)),
        }
        .into(),
        UpdateFailHtlc {
            channel_id: source.channel_id(),
            id: HtlcId::new(source.0.random()),
            reason: source.bytes(300),
            attribution_data: source.maybe(|_| AttributionData::new(attribution)),
        }
        .into(),
        UpdateFailMalformedHtlc {
            channel_id: source.channel_id(),
            id: HtlcId::new(source.0.random()),
            sha256_of_onion: source.0.random(),
            failure_code: source.0.random(),
        }
        .into(),
        CommitmentSigned {
            channel_id: source.channel_id(),
            signature: source.signature(),
            htlc_signatures: (0..source.0.random_range(0..4)).map(|_| source.signature()).collect(),
            funding_txid: source.maybe(|source| Txid::from_byte_array(source.0.random())),
        }
        .into(),
        RevokeAndAck {
            channel_id: source.channel_id(),
            per_commitment_secret: RevealedSecret(source.0.random()),
            next_per_commitment_point: source.point(),
        }
        .into(),
        UpdateFee { channel_id: source.channel_id(), feerate_per_kw: FeeratePerKw::new(source.0.random()) }.into(),
    ]
}

fn gossip_messages(source: &mut Source) -> Vec<Message> {
    vec![
        AnnouncementSignatures {
            channel_id: source.channel_id(),
            short_channel_id: ShortChannelId::from_u64(source.0.random()),
            node_signature: source.signature(),
            bitcoin_signature: source.signature(),
        }
        .into(),
        ChannelAnnouncement {
            node_signature_1: source.signature(),
            node_signature_2: source.signature(),
            bitcoin_signature_1: source.signature(),
            bitcoin_signature_2: source.signature(),
            features: source.features(),
            chain_hash: ChainHash::REGTEST,
            short_channel_id: ShortChannelId::from_u64(source.0.random()),
            node_id_1: source.point(),
            node_id_2: source.point(),
            bitcoin_key_1: source.point(),
            bitcoin_key_2: source.point(),
            excess: source.bytes(10),
        }
        .into(),
        NodeAnnouncement {
            signature: source.signature(),
            features: source.features(),
            timestamp: source.0.random(),
            node_id: source.point(),
            rgb_color: source.0.random(),
            alias: source.0.random(),
            addresses: source.bytes(30),
            excess: source.bytes(10),
        }
        .into(),
        channel_update(source).into(),
    ]
}

fn channel_update(source: &mut Source) -> ChannelUpdate {
    ChannelUpdate {
        signature: source.signature(),
        chain_hash: ChainHash::REGTEST,
        short_channel_id: ShortChannelId::from_u64(source.0.random()),
        timestamp: source.0.random(),
        message_flags: source.0.random(),
        channel_flags: source.0.random(),
        cltv_expiry_delta: CltvDelta::new(source.0.random()),
        htlc_minimum_msat: source.msat(),
        fee_base_msat: source.0.random(),
        fee_proportional_millionths: source.0.random(),
        htlc_maximum_msat: source.msat(),
        excess: source.bytes(10),
    }
}

fn receipt(source: &mut Source) -> TransferReceipt {
    TransferReceipt {
        chain_hash: ChainHash::REGTEST,
        channel_id: source.channel_id(),
        session_id: SessionId(source.0.random()),
        payer_node_id: source.point(),
        next_sequence: source.0.random(),
        paid_msat: source.msat(),
        enforceable_msat: source.msat(),
        signature: source.signature(),
    }
}

fn transfer_messages(source: &mut Source) -> Vec<Message> {
    let session_id = SessionId(source.0.random());
    vec![
        UpdateTransfer {
            channel_id: source.channel_id(),
            id: source.0.random(),
            session_id,
            first_sequence: source.0.random(),
            last_sequence: source.0.random(),
            amount_msat: source.msat(),
            payments: source.maybe(Source::payments),
        }
        .into(),
        TransferOpen {
            channel_id: source.channel_id(),
            session_id,
            next_sequence: source.0.random(),
            sent_msat: source.msat(),
            flags: source.0.random(),
        }
        .into(),
        TransferWindow {
            channel_id: source.channel_id(),
            session_id,
            window_msat: source.msat(),
            window_count: source.0.random(),
        }
        .into(),
        TransferClose {
            channel_id: source.channel_id(),
            session_id,
            reason: [TransferCloseReason::Finished, TransferCloseReason::Other(77)][source.0.random_range(0..2)],
            next_sequence: source.0.random(),
        }
        .into(),
        receipt(source).into(),
    ]
}

fn messages(seed: u64) -> Vec<Message> {
    let mut source = Source(ChaCha8Rng::seed_from_u64(seed));
    let kinds =
        [setup_messages, opening_messages, closing_messages, update_messages, gossip_messages, transfer_messages];
    kinds.into_iter().flat_map(|kind| kind(&mut source)).collect()
}

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
