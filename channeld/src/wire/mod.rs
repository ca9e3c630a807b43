//! The messages of BOLT 1, 2 and 7 and of our own extension, to and from bytes.
//!
//! Knows what a message looks like and nothing of what it means: no state, no session, no rule of a channel. Bytes that are
//! no message give a typed error, never a panic, and no length is believed before it is held against what is there. Satoshi
//! amounts are at most 21 million coins once decoded; millisatoshi amounts may be any `u64`. An unknown odd type is
//! [`Message::Unknown`], an unknown even one an error. BOLT 1 "Lightning Message Format"; BOLT 9 for features.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod address;
pub mod codec;
mod error;
pub mod features;
pub mod tlv;

pub mod message;
#[cfg(test)]
mod tests;

pub use address::{Address, ParseAddressError};
pub use error::DecodeError;
pub use features::{Feature, FeatureError, Features};
pub use message::channel::{
    AcceptChannel, ChannelReady, ChannelReestablish, FundingCreated, FundingSigned, OpenChannel,
};
pub use message::closing::{ClosingSigned, FeeRange, Shutdown};
pub use message::commitment::{
    AttributionData, CommitmentSigned, OnionRoutingPacket, RevokeAndAck, UpdateAddHtlc, UpdateFailHtlc,
    UpdateFailMalformedHtlc, UpdateFee, UpdateFulfillHtlc,
};
pub use message::gossip::{AnnouncedKey, AnnouncementSignatures, ChannelAnnouncement, ChannelUpdate, NodeAnnouncement};
pub use message::query::{
    Encoded, GossipTimestampFilter, QueryChannelRange, QueryFlag, QueryOption, QueryShortChannelIds, ReplyChannelRange,
    ReplyShortChannelIdsEnd, UpdatePair,
};
pub use message::setup::{Error, Init, Ping, Pong, Warning};
pub use message::transfer::{
    PaymentRun, Payments, TransferClose, TransferCloseReason, TransferOpen, TransferReceipt, TransferWindow,
    UpdateTransfer,
};
pub use message::{MAX_MESSAGE_LENGTH, Message, RevealedSecret};
