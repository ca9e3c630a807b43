//! Updates of a channel and the commitments that take them in (BOLT 2): `update_*`, `commitment_signed`, `revoke_and_ack`.

use std::fmt;
use std::sync::Arc;

use bitcoin::Txid;
use secp256k1::PublicKey;
use secp256k1::ecdsa::Signature;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::RevealedSecret;
use crate::units::{ChannelId, CltvExpiry, FeeratePerKw, HtlcId, Msat, PaymentHash, Preimage};
use crate::wire::DecodeError;
use crate::wire::codec::{Field, Reader, TlvValue};

message! {
    /// Offers an HTLC (BOLT 2, `update_add_htlc`).
    pub struct UpdateAddHtlc = 128 {
        /// The channel.
        channel_id: ChannelId,
        /// The next id of the sender.
        id: HtlcId,
        /// The amount; any `u64`.
        amount_msat: Msat,
        /// What the preimage must hash to.
        payment_hash: PaymentHash,
        /// The height at which it times out.
        cltv_expiry: CltvExpiry,
        /// Where it goes from here.
        onion_routing_packet: OnionRoutingPacket,
    } tlvs {
        /// Inside a blinded path: the key to decrypt with.
        0 => path_key: PublicKey,
    }
}

message! {
    /// Claims an HTLC (BOLT 2, `update_fulfill_htlc`).
    pub struct UpdateFulfillHtlc = 130 {
        /// The channel.
        channel_id: ChannelId,
        /// The HTLC, by the id of its offerer.
        id: HtlcId,
        /// What hashes to the payment hash.
        payment_preimage: Preimage,
    } tlvs {
        /// Hold times of the hops behind, and their proofs.
        1 => attribution_data: AttributionData,
    }
}

message! {
    /// Gives an HTLC back (BOLT 2, `update_fail_htlc`).
    pub struct UpdateFailHtlc = 131 {
        /// The channel.
        channel_id: ChannelId,
        /// The HTLC, by the id of its offerer.
        id: HtlcId,
        /// Why: an onion that only the payer can read.
        reason: Vec<u8>,
    } tlvs {
        /// Hold times of the hops behind, and their proofs.
        1 => attribution_data: AttributionData,
    }
}

message! {
    /// Gives an HTLC back whose onion cannot be read (BOLT 2, `update_fail_malformed_htlc`).
    pub struct UpdateFailMalformedHtlc = 135 {
        /// The channel.
        channel_id: ChannelId,
        /// The HTLC, by the id of its offerer.
        id: HtlcId,
        /// SHA-256 of the onion as it came.
        sha256_of_onion: [u8; 32],
        /// One of the failure codes of BOLT 4 with the bit BADONION.
        failure_code: u16,
    }
}

message! {
    /// Signs the receiver's next commitment (BOLT 2, `commitment_signed`).
    pub struct CommitmentSigned = 132 {
        /// The channel.
        channel_id: ChannelId,
        /// For the commitment transaction.
        signature: Signature,
        /// For each untrimmed HTLC's transaction, in the order of the outputs.
        htlc_signatures: Vec<Signature>,
    } tlvs {
        /// The funding transaction that the commitment spends.
        1 => funding_txid: Txid,
    }
}

message! {
    /// Revokes the sender's last commitment (BOLT 2, `revoke_and_ack`).
    pub struct RevokeAndAck = 133 {
        /// The channel.
        channel_id: ChannelId,
        /// The secret of the revoked commitment.
        per_commitment_secret: RevealedSecret,
        /// The point of the sender's commitment after the next.
        next_per_commitment_point: PublicKey,
    }
}

message! {
    /// Changes the feerate of the commitments; the opener's right alone (BOLT 2, `update_fee`).
    pub struct UpdateFee = 134 {
        /// The channel.
        channel_id: ChannelId,
        /// The new feerate.
        feerate_per_kw: FeeratePerKw,
    }
}

/// A block of bytes of a fixed size that is copied by reference and written to disk as bytes.
macro_rules! shared_bytes {
    ($(#[$doc:meta])* $name:ident($length:literal)) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq)]
        pub struct $name(pub Arc<[u8; $length]>);

        impl $name {
            /// How many bytes it has.
            pub const LENGTH: usize = $length;

            /// Around a copy of `bytes`.
            pub fn new(bytes: [u8; $length]) -> $name {
                $name(Arc::new(bytes))
            }

            /// All of it.
            pub fn as_bytes(&self) -> &[u8; $length] {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({}..)", stringify!($name), hex::encode(&self.0[..8]))
            }
        }

        impl Field for $name {
            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.0[..]);
            }

            fn read(reader: &mut Reader<'_>) -> Result<$name, DecodeError> {
                reader.array().map($name::new)
            }
        }

        impl TlvValue for $name {
            fn write_value(&self, out: &mut Vec<u8>) {
                self.write(out);
            }

            fn read_value(reader: &mut Reader<'_>) -> Result<$name, DecodeError> {
                <$name as Field>::read(reader)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(&self.0[..])
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                struct Bytes;
                impl de::Visitor<'_> for Bytes {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        write!(f, "{} bytes", $length)
                    }

                    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<$name, E> {
                        let bytes = bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))?;
                        Ok($name::new(bytes))
                    }
                }
                deserializer.deserialize_bytes(Bytes)
            }
        }
    };
}

shared_bytes!(
    /// An onion as it travels with an HTLC (BOLT 4, `onion_packet`); the room `onion` reads it.
    OnionRoutingPacket(1366)
);
shared_bytes!(
    /// Hold times and truncated HMACs of the hops behind (BOLT 4, `attribution_data`), passed on as they are.
    AttributionData(920)
);
