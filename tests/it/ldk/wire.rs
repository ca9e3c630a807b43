//! Our messages read by the crate `lightning` and written again: the same bytes.

use std::sync::Arc;

use bitcoin::constants::ChainHash;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, ScriptBuf, Txid};
use channeld::units::*;
use channeld::wire::*;
use lightning::ln::msgs;
use lightning::util::ser::{LengthReadable, Writeable};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use secp256k1::ecdsa::Signature;
use secp256k1::{PublicKey, SECP256K1, SecretKey};

const CASES: u64 = 200;

struct Source(ChaCha8Rng);

impl Source {
    fn key(&mut self) -> SecretKey {
        SecretKey::from_slice(&self.0.random::<[u8; 32]>()).expect("nearly all numbers are keys")
    }

    fn point(&mut self) -> PublicKey {
        self.key().public_key(SECP256K1)
    }

    fn signature(&mut self) -> Signature {
        SECP256K1.sign_ecdsa(&secp256k1::Message::from_digest(self.0.random()), &self.key())
    }

    fn amount(&mut self) -> Amount {
        Amount::from_sat(self.0.random_range(0..=Amount::MAX_MONEY.to_sat()))
    }

    fn msat(&mut self) -> Msat {
        Msat::new(self.0.random())
    }

    fn script(&mut self) -> ScriptBuf {
        let length = self.0.random_range(0..40);
        ScriptBuf::from_bytes((0..length).map(|_| self.0.random()).collect())
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Source) -> T) -> Option<T> {
        self.0.random::<bool>().then(|| make(self))
    }

    fn channel_id(&mut self) -> ChannelId {
        ChannelId(self.0.random())
    }

    fn id(&mut self) -> HtlcId {
        HtlcId::new(self.0.random())
    }
}

/// LDK reads it, and what LDK writes then is what we wrote.
fn same<T: LengthReadable + Writeable>(message: impl Into<Message>) {
    let message = message.into();
    let bytes = &message.encode()[2..];
    let read =
        T::read_from_fixed_length_buffer(&mut &bytes[..]).unwrap_or_else(|error| panic!("{message:?}: {error:?}"));
    assert_eq!(hex::encode(read.encode()), hex::encode(bytes), "{message:?}");
}

fn opening(source: &mut Source) {
    let channel_type = Features::channel_type(&[Feature::StaticRemotekey, Feature::Anchors]);
    same::<msgs::OpenChannel>(OpenChannel {
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
        channel_type: source.maybe(|_| channel_type.clone()),
    });
    same::<msgs::AcceptChannel>(AcceptChannel {
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
        channel_type: source.maybe(|_| channel_type),
    });
    same::<msgs::FundingCreated>(FundingCreated {
        temporary_channel_id: source.channel_id(),
        funding_txid: Txid::from_byte_array(source.0.random()),
        funding_output_index: source.0.random(),
        signature: source.signature(),
    });
    same::<msgs::FundingSigned>(FundingSigned { channel_id: source.channel_id(), signature: source.signature() });
    same::<msgs::ChannelReady>(ChannelReady {
        channel_id: source.channel_id(),
        second_per_commitment_point: source.point(),
        short_channel_id: source.maybe(|source| ShortChannelId::from_u64(source.0.random())),
    });
    same::<msgs::ChannelReestablish>(ChannelReestablish {
        channel_id: source.channel_id(),
        next_commitment_number: source.0.random(),
        next_revocation_number: source.0.random(),
        your_last_per_commitment_secret: RevealedSecret(source.0.random()),
        my_current_per_commitment_point: source.point(),
        next_funding: None,
        my_current_funding_locked: None,
    });
}

fn updates(source: &mut Source) {
    let onion = source.point().serialize();
    let mut packet = [0; OnionRoutingPacket::LENGTH];
    packet[1..34].copy_from_slice(&onion);
    packet[34..].fill_with(|| source.0.random());
    same::<msgs::UpdateAddHTLC>(UpdateAddHtlc {
        channel_id: source.channel_id(),
        id: source.id(),
        amount_msat: source.msat(),
        payment_hash: PaymentHash(source.0.random()),
        cltv_expiry: CltvExpiry::new(source.0.random()),
        onion_routing_packet: OnionRoutingPacket(Arc::new(packet)),
        path_key: source.maybe(Source::point),
    });
    let attribution: [u8; AttributionData::LENGTH] = source.0.random();
    same::<msgs::UpdateFulfillHTLC>(UpdateFulfillHtlc {
        channel_id: source.channel_id(),
        id: source.id(),
        payment_preimage: Preimage(source.0.random()),
        attribution_data: source.maybe(|_| AttributionData::new(attribution)),
    });
    same::<msgs::UpdateFailHTLC>(UpdateFailHtlc {
        channel_id: source.channel_id(),
        id: source.id(),
        reason: vec![7; 292],
        attribution_data: source.maybe(|_| AttributionData::new(attribution)),
    });
    same::<msgs::UpdateFailMalformedHTLC>(UpdateFailMalformedHtlc {
        channel_id: source.channel_id(),
        id: source.id(),
        sha256_of_onion: source.0.random(),
        failure_code: 0x8000 | source.0.random::<u16>(),
    });
    same::<msgs::CommitmentSigned>(CommitmentSigned {
        channel_id: source.channel_id(),
        signature: source.signature(),
        htlc_signatures: (0..source.0.random_range(0..4)).map(|_| source.signature()).collect(),
        funding_txid: source.maybe(|source| Txid::from_byte_array(source.0.random())),
    });
    same::<msgs::RevokeAndACK>(RevokeAndAck {
        channel_id: source.channel_id(),
        per_commitment_secret: RevealedSecret(source.0.random()),
        next_per_commitment_point: source.point(),
    });
    let feerate_per_kw = FeeratePerKw::new(source.0.random());
    same::<msgs::UpdateFee>(UpdateFee { channel_id: source.channel_id(), feerate_per_kw });
}

fn closing_and_gossip(source: &mut Source) {
    same::<msgs::Shutdown>(Shutdown { channel_id: source.channel_id(), scriptpubkey: source.script() });
    let fee_range = FeeRange { min_fee_satoshis: source.amount(), max_fee_satoshis: source.amount() };
    same::<msgs::ClosingSigned>(ClosingSigned {
        channel_id: source.channel_id(),
        fee_satoshis: source.amount(),
        signature: source.signature(),
        fee_range: source.maybe(|_| fee_range),
    });
    same::<msgs::AnnouncementSignatures>(AnnouncementSignatures {
        channel_id: source.channel_id(),
        short_channel_id: ShortChannelId::from_u64(source.0.random()),
        node_signature: source.signature(),
        bitcoin_signature: source.signature(),
    });
    same::<msgs::ChannelUpdate>(ChannelUpdate {
        signature: source.signature(),
        chain_hash: ChainHash::REGTEST,
        short_channel_id: ShortChannelId::from_u64(source.0.random()),
        timestamp: source.0.random(),
        message_flags: ChannelUpdate::MUST_BE_ONE,
        channel_flags: source.0.random(),
        cltv_expiry_delta: CltvDelta::new(source.0.random()),
        htlc_minimum_msat: source.msat(),
        fee_base_msat: source.0.random(),
        fee_proportional_millionths: source.0.random(),
        htlc_maximum_msat: source.msat(),
        excess: vec![1, 2, 3],
    });
    same::<msgs::ChannelAnnouncement>(ChannelAnnouncement {
        node_signature_1: source.signature(),
        node_signature_2: source.signature(),
        bitcoin_signature_1: source.signature(),
        bitcoin_signature_2: source.signature(),
        features: Features::empty(),
        chain_hash: ChainHash::REGTEST,
        short_channel_id: ShortChannelId::from_u64(source.0.random()),
        node_id_1: source.point().into(),
        node_id_2: source.point().into(),
        bitcoin_key_1: source.point().into(),
        bitcoin_key_2: source.point().into(),
        excess: vec![],
    });
    same::<msgs::NodeAnnouncement>(NodeAnnouncement {
        signature: source.signature(),
        features: Features::node_announcement(),
        timestamp: source.0.random(),
        node_id: source.point(),
        rgb_color: source.0.random(),
        alias: source.0.random(),
        addresses: vec![1, 127, 0, 0, 1, 0x26, 0x07],
        excess: vec![],
    });
    same::<msgs::ErrorMessage>(Error::new(source.channel_id(), "nothing works"));
    same::<msgs::WarningMessage>(Warning::new(source.channel_id(), "it might"));
    same::<msgs::Ping>(Ping { num_pong_bytes: source.0.random(), ignored: vec![0; 9] });
    same::<msgs::Pong>(Pong { ignored: vec![0; 9] });
}

#[test]
fn messages_are_those_of_ldk() {
    let mut source = Source(ChaCha8Rng::seed_from_u64(1));
    for _ in 0..CASES {
        opening(&mut source);
        updates(&mut source);
        closing_and_gossip(&mut source);
    }
}
