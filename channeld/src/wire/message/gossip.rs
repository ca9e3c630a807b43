//! What nodes tell everybody (BOLT 7): `announcement_signatures`, `channel_announcement`, `node_announcement`,
//! `channel_update`. What follows the known fields is signed too, so it is kept as it came and never looked into.

use bitcoin::constants::ChainHash;
use bitcoin::hashes::{Hash, sha256d};
use secp256k1::ecdsa::Signature;
use secp256k1::{PublicKey, SECP256K1};
use serde::{Deserialize, Serialize};

use crate::units::{ChannelId, CltvDelta, Msat, ShortChannelId};
use crate::wire::DecodeError;
use crate::wire::Features;
use crate::wire::codec::{Field, Reader};

message! {
    /// Half of the signatures of a `channel_announcement` (BOLT 7, `announcement_signatures`).
    pub struct AnnouncementSignatures = 259 {
        /// The channel.
        channel_id: ChannelId,
        /// Where its funding output is.
        short_channel_id: ShortChannelId,
        /// By the sender's node key.
        node_signature: Signature,
        /// By the sender's funding key.
        bitcoin_signature: Signature,
    }
}

/// A public key as it stands in a `channel_announcement`: most of these come more than once, and most of their keys are known,
/// so that it is decompressed only where a signature is checked.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "(u8, [u8; 32])", from = "(u8, [u8; 32])")]
pub struct AnnouncedKey([u8; 33]);

impl AnnouncedKey {
    /// Its bytes.
    pub const fn serialize(&self) -> [u8; 33] {
        self.0
    }

    /// The key; `None` where the bytes are none.
    pub fn parse(&self) -> Option<PublicKey> {
        PublicKey::from_slice(&self.0).ok()
    }
}

impl From<PublicKey> for AnnouncedKey {
    fn from(key: PublicKey) -> AnnouncedKey {
        AnnouncedKey(key.serialize())
    }
}

impl From<AnnouncedKey> for (u8, [u8; 32]) {
    fn from(key: AnnouncedKey) -> (u8, [u8; 32]) {
        let [sign, rest @ ..] = key.0;
        (sign, rest)
    }
}

impl From<(u8, [u8; 32])> for AnnouncedKey {
    fn from((sign, rest): (u8, [u8; 32])) -> AnnouncedKey {
        let mut bytes = [sign; 33];
        bytes[1..].copy_from_slice(&rest);
        AnnouncedKey(bytes)
    }
}

impl std::fmt::Debug for AnnouncedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Field for AnnouncedKey {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }

    fn read(reader: &mut Reader<'_>) -> Result<AnnouncedKey, DecodeError> {
        reader.array().map(AnnouncedKey)
    }
}

/// A gossip message: fields of which the first are signatures over all the rest, and then whatever else was signed.
macro_rules! signed_message {
    (
        $(#[$doc:meta])*
        pub struct $name:ident = $type:literal {
            signatures { $($(#[$signature_doc:meta])* $signature:ident,)* }
            $($(#[$field_doc:meta])* $field:ident: $field_type:ty,)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub struct $name {
            $($(#[$signature_doc])* pub $signature: Signature,)*
            $($(#[$field_doc])* pub $field: $field_type,)*
            /// What follows, signed as well.
            pub excess: Vec<u8>,
        }

        impl $name {
            /// The message's type on the wire.
            pub const TYPE: u16 = $type;

            pub(in crate::wire) fn write_body(&self, out: &mut Vec<u8>) {
                $(self.$signature.write(out);)*
                self.write_signed(out);
            }

            fn write_signed(&self, out: &mut Vec<u8>) {
                $(self.$field.write(out);)*
                out.extend_from_slice(&self.excess);
            }

            pub(in crate::wire) fn read_body(mut reader: Reader<'_>) -> Result<$name, DecodeError> {
                $(let $signature = Signature::read(&mut reader)?;)*
                $(let $field = <$field_type as Field>::read(&mut reader)?;)*
                Ok($name { $($signature,)* $($field,)* excess: reader.take_rest().to_vec() })
            }

            /// What its signatures sign: the double SHA-256 of all that follows them.
            pub fn signed_hash(&self) -> secp256k1::Message {
                let mut signed = Vec::with_capacity(512);
                self.write_signed(&mut signed);
                secp256k1::Message::from_digest(sha256d::Hash::hash(&signed).to_byte_array())
            }
        }
    };
}

signed_message! {
    /// A channel exists, as both its nodes and both its funding keys sign (BOLT 7, `channel_announcement`).
    pub struct ChannelAnnouncement = 256 {
        signatures {
            /// By `node_id_1`.
            node_signature_1,
            /// By `node_id_2`.
            node_signature_2,
            /// By `bitcoin_key_1`.
            bitcoin_signature_1,
            /// By `bitcoin_key_2`.
            bitcoin_signature_2,
        }
        /// The channel's features.
        features: Features,
        /// The chain.
        chain_hash: ChainHash,
        /// Where the funding output is.
        short_channel_id: ShortChannelId,
        /// The lesser of the two node ids.
        node_id_1: AnnouncedKey,
        /// The greater of the two node ids.
        node_id_2: AnnouncedKey,
        /// The funding key of `node_id_1`.
        bitcoin_key_1: AnnouncedKey,
        /// The funding key of `node_id_2`.
        bitcoin_key_2: AnnouncedKey,
    }
}

impl ChannelAnnouncement {
    /// Whether all four signatures are good.
    pub fn is_signed(&self) -> bool {
        let hash = self.signed_hash();
        [
            (&self.node_signature_1, &self.node_id_1),
            (&self.node_signature_2, &self.node_id_2),
            (&self.bitcoin_signature_1, &self.bitcoin_key_1),
            (&self.bitcoin_signature_2, &self.bitcoin_key_2),
        ]
        .into_iter()
        .all(|(signature, key)| key.parse().is_some_and(|key| SECP256K1.verify_ecdsa(&hash, signature, &key).is_ok()))
    }
}

signed_message! {
    /// What a node calls itself and where it is (BOLT 7, `node_announcement`).
    pub struct NodeAnnouncement = 257 {
        signatures {
            /// By `node_id`.
            signature,
        }
        /// The node's features.
        features: Features,
        /// Seconds since 1970; the later announcement counts.
        timestamp: u32,
        /// The node.
        node_id: PublicKey,
        /// A colour.
        rgb_color: [u8; 3],
        /// A name: UTF-8, padded with zeros.
        alias: [u8; 32],
        /// Address descriptors one after the other.
        addresses: Vec<u8>,
    }
}

impl NodeAnnouncement {
    /// Whether the signature is good.
    pub fn is_signed(&self) -> bool {
        SECP256K1.verify_ecdsa(&self.signed_hash(), &self.signature, &self.node_id).is_ok()
    }
}

signed_message! {
    /// What one end of a channel asks for forwarding over it (BOLT 7, `channel_update`).
    pub struct ChannelUpdate = 258 {
        signatures {
            /// By the node whose end it is.
            signature,
        }
        /// The chain.
        chain_hash: ChainHash,
        /// The channel, or an alias of it.
        short_channel_id: ShortChannelId,
        /// Seconds since 1970; the later update counts.
        timestamp: u32,
        /// Bit 0 is always set, bit 1: not to be passed on.
        message_flags: u8,
        /// Bit 0: the end, bit 1: disabled.
        channel_flags: u8,
        /// How many blocks the incoming HTLC must last longer than the outgoing one.
        cltv_expiry_delta: CltvDelta,
        /// The smallest HTLC.
        htlc_minimum_msat: Msat,
        /// The fee for any HTLC, in msat.
        fee_base_msat: u32,
        /// The fee for each million of what is forwarded.
        fee_proportional_millionths: u32,
        /// The largest HTLC.
        htlc_maximum_msat: Msat,
    }
}

impl ChannelUpdate {
    /// `message_flags`: `htlc_maximum_msat` is there, as always today.
    pub const MUST_BE_ONE: u8 = 1;
    /// `message_flags`: not to be passed on, for a channel that is not announced.
    pub const DONT_FORWARD: u8 = 2;

    /// The end of the channel: 0 for `node_id_1`, 1 for `node_id_2`.
    pub const fn direction(&self) -> u8 {
        self.channel_flags & 1
    }

    /// Whether the channel is switched off in this direction.
    pub const fn is_disabled(&self) -> bool {
        self.channel_flags & 2 != 0
    }

    /// The checksum of what it says, time and signature apart (BOLT 7, `checksums_tlv`: CRC32C).
    pub fn checksum(&self) -> u32 {
        let mut signed = Vec::with_capacity(72);
        self.write_signed(&mut signed);
        // chain_hash and short_channel_id; then the timestamp.
        let (named, rest) = signed.split_at(40);
        crc32c::crc32c_append(crc32c::crc32c(named), &rest[4..])
    }

    /// Whether `node_id` signed it.
    pub fn is_signed_by(&self, node_id: &PublicKey) -> bool {
        SECP256K1.verify_ecdsa(&self.signed_hash(), &self.signature, node_id).is_ok()
    }
}
