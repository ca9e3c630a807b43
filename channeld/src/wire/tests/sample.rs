//! One message of every type, its fields drawn from a seed.

use bitcoin::constants::ChainHash;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, ScriptBuf, Txid};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use secp256k1::ecdsa::Signature;
use secp256k1::{PublicKey, SECP256K1, SecretKey};

use super::super::message::channel::FundingReference;
use super::super::*;
use crate::units::*;

/// Where the fields of the messages come from.
pub(super) struct Source(pub(super) ChaCha8Rng);

impl Source {
    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = self.0.random_range(0..=most);
        (0..length).map(|_| self.0.random()).collect()
    }

    pub(super) fn key(&mut self) -> SecretKey {
        SecretKey::from_slice(&self.0.random::<[u8; 32]>()).expect("nearly all numbers are keys")
    }

    pub(super) fn point(&mut self) -> PublicKey {
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
            node_id_1: source.point().into(),
            node_id_2: source.point().into(),
            bitcoin_key_1: source.point().into(),
            bitcoin_key_2: source.point().into(),
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

pub(super) fn channel_update(source: &mut Source) -> ChannelUpdate {
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

pub(super) fn receipt(source: &mut Source) -> TransferReceipt {
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

pub(super) fn messages(seed: u64) -> Vec<Message> {
    let mut source = Source(ChaCha8Rng::seed_from_u64(seed));
    let kinds =
        [setup_messages, opening_messages, closing_messages, update_messages, gossip_messages, transfer_messages];
    kinds.into_iter().flat_map(|kind| kind(&mut source)).collect()
}
