//! Why an onion cannot be built, cannot be peeled, or says what makes no sense.

use bitcoin::hashes::{Hash, sha256};

use crate::wire::{DecodeError, OnionRoutingPacket, UpdateFailMalformedHtlc};

/// An onion that cannot even be opened: answered by `update_fail_malformed_htlc`, for nobody knows a key to answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadOnion {
    /// BADONION|PERM|4, `invalid_onion_version`.
    #[error("the onion's version is not 0")]
    Version,
    /// BADONION|PERM|5, `invalid_onion_hmac`: changed on its way, meant for another node, or for another payment hash.
    #[error("the onion's HMAC is wrong")]
    Hmac,
    /// BADONION|PERM|6, `invalid_onion_key`.
    #[error("the onion's key is no point of the curve")]
    Key,
    /// BADONION|PERM|24, `invalid_onion_blinding`.
    #[error("something is wrong inside a blinded path")]
    Blinding,
}

impl BadOnion {
    /// The code for `update_fail_malformed_htlc`.
    pub const fn failure_code(self) -> u16 {
        match self {
            BadOnion::Version => 0x8000 | 0x4000 | 4,
            BadOnion::Hmac => 0x8000 | 0x4000 | 5,
            BadOnion::Key => 0x8000 | 0x4000 | 6,
            BadOnion::Blinding => 0x8000 | 0x4000 | 24,
        }
    }

    /// The hash that goes with the code: of the onion as it came.
    pub fn sha256_of_onion(self, packet: &OnionRoutingPacket) -> [u8; 32] {
        sha256_of_onion(packet)
    }

    /// The whole answer to the HTLC `id` of `channel_id`.
    pub fn answer(
        self,
        packet: &OnionRoutingPacket,
        channel_id: crate::units::ChannelId,
        id: crate::units::HtlcId,
    ) -> UpdateFailMalformedHtlc {
        let sha256_of_onion = self.sha256_of_onion(packet);
        UpdateFailMalformedHtlc { channel_id, id, sha256_of_onion, failure_code: self.failure_code() }
    }
}

/// What the messages about onions that cannot be read name them by.
pub(super) fn sha256_of_onion(packet: &OnionRoutingPacket) -> [u8; 32] {
    sha256::Hash::hash(packet.as_bytes()).to_byte_array()
}

/// Why a hop of a blinded path refuses: nobody is told but by `invalid_onion_blinding` (BOLT 4, "Route Blinding").
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlindingError {
    /// `path_key` is in the message and in the payload.
    #[error("the path key is in the message and in the onion")]
    TwoPathKeys,
    /// The path key leads to a key that is none.
    #[error("the path key is unusable")]
    PathKey,
    /// The payload is none for a blinded path.
    #[error(transparent)]
    Payload(#[from] InvalidPayload),
    /// `encrypted_recipient_data` was not encrypted with this path key for this node.
    #[error("the encrypted data does not decrypt")]
    Decryption,
    /// What was encrypted is no TLV stream, or a record in it is malformed or unknown and even.
    #[error("the encrypted data is no valid TLV stream: {0}")]
    Stream(DecodeError),
    /// `allowed_features` has a bit, and none is known for payments.
    #[error("the path allows a feature that is not known")]
    UnknownFeature,
    /// `short_channel_id` and `next_node_id`.
    #[error("the next hop is named twice")]
    TwoNextHops,
    /// Neither `short_channel_id` nor `next_node_id`.
    #[error("no next hop is named")]
    NoNextHop,
    /// A hop in the middle without `payment_relay`.
    #[error("the terms of relay are missing")]
    NoPaymentRelay,
    /// The HTLC's expiry is above `max_cltv_expiry`.
    #[error("the path is used after its end")]
    ExpiryAboveMaximum,
    /// The HTLC's amount is below `htlc_minimum_msat`.
    #[error("the amount is below the path's minimum")]
    AmountBelowMinimum,
    /// The HTLC's amount does not even pay the base fee.
    #[error("the amount does not cover the fee")]
    FeeAboveAmount,
    /// The HTLC's expiry is below `cltv_expiry_delta`.
    #[error("the expiry is below the hop's delta")]
    ExpiryBelowDelta,
}

/// A payload that was opened and cannot be used: answered by `invalid_onion_payload`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPayload {
    /// Its length is reserved (0 or 1), or reaches beyond the onion.
    #[error("the payload's length is impossible")]
    Length,
    /// It is no TLV stream, or a record in it is malformed.
    #[error("the payload is no valid TLV stream: {0}")]
    Stream(#[from] DecodeError),
    /// A record that is needed at this place is not there.
    #[error("the payload lacks record {0}")]
    Missing(u64),
    /// A record that must not be at this place is there.
    #[error("the payload has record {0}, which does not belong there")]
    Unexpected(u64),
}

impl InvalidPayload {
    /// The record that the failure is about, 0 where none is.
    pub const fn tlv_type(self) -> u64 {
        match self {
            InvalidPayload::Missing(tlv_type) | InvalidPayload::Unexpected(tlv_type) => tlv_type,
            InvalidPayload::Stream(
                DecodeError::UnknownEvenTlv { tlv_type }
                | DecodeError::TlvOutOfOrder { tlv_type }
                | DecodeError::TlvTooLong { tlv_type },
            ) => tlv_type,
            InvalidPayload::Length | InvalidPayload::Stream(_) => 0,
        }
    }
}

/// Why no blinded path can be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A path without a node.
    #[error("the path has no node")]
    NoHop,
    /// More nodes than an onion has hops.
    #[error("the path has more than 27 nodes")]
    TooManyHops,
    /// The fees or deltas of all hops together are more than can be told.
    #[error("the path's fees or deltas together are too high")]
    TermsTooHigh,
    /// The session key leads to a key that is none: as likely as guessing a private key.
    #[error("the session key is unusable")]
    SessionKey,
}

/// Why no onion can be built for a route. All of it is the caller's fault, but the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A route without hops.
    #[error("the route has no hop")]
    NoHop,
    /// More hops than 27.
    #[error("the route has more than 27 hops")]
    TooManyHops,
    /// A payload of fewer than 2 bytes.
    #[error("a payload has fewer than 2 bytes")]
    PayloadTooShort,
    /// The payloads need more than 1,300 bytes together.
    #[error("the payloads do not fit into 1,300 bytes")]
    TooLong,
    /// The session key leads to a key that is none: as likely as guessing a private key.
    #[error("the session key is unusable")]
    SessionKey,
}
