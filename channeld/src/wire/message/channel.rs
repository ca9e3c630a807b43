//! Opening a channel and coming back to it (BOLT 2): `open_channel`, `accept_channel`, `funding_created`, `funding_signed`,
//! `channel_ready`, `channel_reestablish`.

use bitcoin::constants::ChainHash;
use bitcoin::{Amount, ScriptBuf, Txid};
use secp256k1::PublicKey;
use secp256k1::ecdsa::Signature;
use serde::{Deserialize, Serialize};

use super::RevealedSecret;
use crate::units::{ChannelId, CltvDelta, FeeratePerKw, Msat, ShortChannelId};
use crate::wire::DecodeError;
use crate::wire::Features;
use crate::wire::codec::{Field, Reader, TlvValue};

message! {
    /// The opener proposes a channel (BOLT 2, `open_channel`).
    pub struct OpenChannel = 32 {
        /// The chain: the hash of its genesis block.
        chain_hash: ChainHash,
        /// The channel's name until it is funded.
        temporary_channel_id: ChannelId,
        /// What the opener puts in.
        funding_satoshis: Amount,
        /// What of it belongs to the accepter from the start.
        push_msat: Msat,
        /// Below this no output is made on the sender's commitment.
        dust_limit_satoshis: Amount,
        /// The most that HTLCs offered to the sender may sum to; any `u64`.
        max_htlc_value_in_flight_msat: Msat,
        /// What the accepter is to keep on its side.
        channel_reserve_satoshis: Amount,
        /// The smallest HTLC that the sender takes.
        htlc_minimum_msat: Msat,
        /// The first feerate of the commitments.
        feerate_per_kw: FeeratePerKw,
        /// How long the accepter's own outputs are to wait after a force close.
        to_self_delay: CltvDelta,
        /// How many HTLCs the accepter may offer at a time.
        max_accepted_htlcs: u16,
        /// The opener's key in the funding output.
        funding_pubkey: PublicKey,
        /// BOLT 3 basepoint.
        revocation_basepoint: PublicKey,
        /// BOLT 3 basepoint.
        payment_basepoint: PublicKey,
        /// BOLT 3 basepoint.
        delayed_payment_basepoint: PublicKey,
        /// BOLT 3 basepoint.
        htlc_basepoint: PublicKey,
        /// The point of the sender's first commitment.
        first_per_commitment_point: PublicKey,
        /// Bit 0: the channel is to be announced; see [`OpenChannel::announce_channel`].
        channel_flags: u8,
    } tlvs {
        /// Where the sender wants a mutual close to pay; empty: nowhere in particular.
        0 => upfront_shutdown_script: ScriptBuf,
        /// The features of the channel itself.
        1 => channel_type: Features,
    }
}

impl OpenChannel {
    /// Whether the channel is to be announced to the network.
    pub const fn announce_channel(&self) -> bool {
        self.channel_flags & 1 == 1
    }
}

message! {
    /// The accepter takes a proposal (BOLT 2, `accept_channel`).
    pub struct AcceptChannel = 33 {
        /// As in `open_channel`.
        temporary_channel_id: ChannelId,
        /// Below this no output is made on the sender's commitment.
        dust_limit_satoshis: Amount,
        /// The most that HTLCs offered to the sender may sum to; any `u64`.
        max_htlc_value_in_flight_msat: Msat,
        /// What the opener is to keep on its side.
        channel_reserve_satoshis: Amount,
        /// The smallest HTLC that the sender takes.
        htlc_minimum_msat: Msat,
        /// How deep the funding transaction must be before `channel_ready`.
        minimum_depth: u32,
        /// How long the opener's own outputs are to wait after a force close.
        to_self_delay: CltvDelta,
        /// How many HTLCs the opener may offer at a time.
        max_accepted_htlcs: u16,
        /// The accepter's key in the funding output.
        funding_pubkey: PublicKey,
        /// BOLT 3 basepoint.
        revocation_basepoint: PublicKey,
        /// BOLT 3 basepoint.
        payment_basepoint: PublicKey,
        /// BOLT 3 basepoint.
        delayed_payment_basepoint: PublicKey,
        /// BOLT 3 basepoint.
        htlc_basepoint: PublicKey,
        /// The point of the sender's first commitment.
        first_per_commitment_point: PublicKey,
    } tlvs {
        /// Where the sender wants a mutual close to pay; empty: nowhere in particular.
        0 => upfront_shutdown_script: ScriptBuf,
        /// The type of `open_channel`, byte for byte.
        1 => channel_type: Features,
    }
}

message! {
    /// The opener names the funding output and signs the accepter's first commitment (BOLT 2, `funding_created`).
    pub struct FundingCreated = 34 {
        /// As in `open_channel`.
        temporary_channel_id: ChannelId,
        /// The funding transaction.
        funding_txid: Txid,
        /// Its output.
        funding_output_index: u16,
        /// For the accepter's first commitment.
        signature: Signature,
    }
}

message! {
    /// The accepter signs the opener's first commitment (BOLT 2, `funding_signed`).
    pub struct FundingSigned = 35 {
        /// The channel's lasting id.
        channel_id: ChannelId,
        /// For the opener's first commitment.
        signature: Signature,
    }
}

message! {
    /// The funding transaction is deep enough for the sender (BOLT 2, `channel_ready`).
    pub struct ChannelReady = 36 {
        /// The channel.
        channel_id: ChannelId,
        /// The point of the sender's second commitment.
        second_per_commitment_point: PublicKey,
    } tlvs {
        /// A name by which the receiver may route over the channel.
        1 => short_channel_id: ShortChannelId,
    }
}

message! {
    /// What the sender has of a channel after a disconnect (BOLT 2, `channel_reestablish`).
    pub struct ChannelReestablish = 136 {
        /// The channel.
        channel_id: ChannelId,
        /// The number of the next `commitment_signed` that the sender expects.
        next_commitment_number: u64,
        /// The number of the next `revoke_and_ack` that the sender expects.
        next_revocation_number: u64,
        /// The last secret that the sender got; zeros if none.
        your_last_per_commitment_secret: RevealedSecret,
        /// Some point: LDK sends a dummy, so it is parsed and never compared (PEERS.md, A2).
        my_current_per_commitment_point: PublicKey,
    } tlvs {
        /// A funding transaction whose signatures are not complete.
        1 => next_funding: FundingReference,
        /// The funding transaction that the sender holds for locked.
        5 => my_current_funding_locked: FundingReference,
    }
}

/// A funding transaction, and which messages about it are to be sent again (BOLT 2, `channel_reestablish_tlvs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FundingReference {
    /// The transaction.
    pub txid: Txid,
    /// Bits of what to send again; `None` from old Phoenix, which leaves them out.
    pub retransmit_flags: Option<u8>,
}

impl TlvValue for FundingReference {
    fn write_value(&self, out: &mut Vec<u8>) {
        self.txid.write(out);
        out.extend(self.retransmit_flags);
    }

    fn read_value(reader: &mut Reader<'_>) -> Result<FundingReference, DecodeError> {
        let txid = Txid::read(reader)?;
        let retransmit_flags = if reader.is_empty() { None } else { Some(u8::read(reader)?) };
        Ok(FundingReference { txid, retransmit_flags })
    }
}
