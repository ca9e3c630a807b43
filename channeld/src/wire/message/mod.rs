//! The messages themselves, by BOLT: here what they share, how a struct becomes a message, and the enum of all of them.
//!
//! Knows the order of fields and the records behind them, and nothing of what a message does to anybody. BOLT 1, 2 and 7,
//! and docs/protocol.md for the transfers.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::codec::{Field, Reader};
use super::error::DecodeError;
use crate::units::ChannelId;

/// The longest message, its type included (BOLT 8).
pub const MAX_MESSAGE_LENGTH: usize = 65_535;

/// A message that is a list of fields and a TLV stream behind them. Every field is named once, so that reading and writing
/// cannot drift apart; the alternative is 25 pairs of functions that repeat each other.
macro_rules! message {
    (
        $(#[$doc:meta])*
        pub struct $name:ident = $type:literal {
            $($(#[$field_doc:meta])* $field:ident: $field_type:ty,)*
        }
        $(tlvs { $($(#[$tlv_doc:meta])* $tlv:literal => $tlv_field:ident: $tlv_type:ty,)* })?
        $(ignored { $($ignored:literal),* })?
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $field_type,)*
            $($($(#[$tlv_doc])* pub $tlv_field: Option<$tlv_type>,)*)?
        }

        impl $name {
            /// The message's type on the wire.
            pub const TYPE: u16 = $type;

            /// Appends the message without its type.
            pub(in crate::wire) fn write_body(&self, out: &mut Vec<u8>) {
                $($crate::wire::codec::Field::write(&self.$field, out);)*
                $($($crate::wire::tlv::write_optional($tlv, self.$tlv_field.as_ref(), out);)*)?
            }

            /// Reads the message behind its type, to the end.
            pub(in crate::wire) fn read_body(
                mut reader: $crate::wire::codec::Reader<'_>,
            ) -> Result<$name, $crate::wire::DecodeError> {
                $(let $field = <$field_type as $crate::wire::codec::Field>::read(&mut reader)?;)*
                $($(let mut $tlv_field = None;)*)?
                #[allow(unused_variables, reason = "some messages know no record")]
                $crate::wire::tlv::read_stream(reader, |tlv_type, value| {
                    match tlv_type {
                        $($($tlv => {
                            $tlv_field = Some(<$tlv_type as $crate::wire::codec::TlvValue>::read_value(value)?);
                        })*)?
                        $($($ignored => drop(value.take_rest()),)*)?
                        _ => return Ok(false),
                    }
                    #[allow(unreachable_code, reason = "some messages know no record")]
                    Ok(true)
                })?;
                Ok($name { $($field,)* $($($tlv_field,)*)? })
            }
        }
    };
}

pub mod channel;
pub mod closing;
pub mod commitment;
pub mod gossip;
pub mod query;
pub mod setup;
pub mod transfer;

/// The enum of all messages and its three ways to look at one. `Box` where a message is much larger than most.
macro_rules! messages {
    ($($(#[$doc:meta])* $variant:ident($($path:ident)::+ $(in $boxed:ident)?),)*) => {
        /// Any message that this node knows, and the type of one that it does not.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub enum Message {
            $($(#[$doc])* $variant(messages!(@payload $($path)::+ $(, $boxed)?)),)*
            /// A message of an odd type that this node does not know, to be ignored.
            Unknown {
                /// Its type.
                message_type: u16,
            },
        }

        impl Message {
            /// The message's type on the wire.
            pub const fn message_type(&self) -> u16 {
                match self {
                    $(Message::$variant(_) => $($path)::+::TYPE,)*
                    Message::Unknown { message_type } => *message_type,
                }
            }

            /// Appends the message, its type first. Of an unknown one only the type.
            pub fn encode_into(&self, out: &mut Vec<u8>) {
                self.message_type().write(out);
                match self {
                    $(Message::$variant(message) => message.write_body(out),)*
                    Message::Unknown { .. } => {}
                }
            }

            /// Reads a whole message, its type first.
            ///
            /// # Errors
            /// [`DecodeError`]; BOLT 1 has the connection closed then.
            pub fn decode(bytes: &[u8]) -> Result<Message, DecodeError> {
                let mut reader = Reader::new(bytes);
                match u16::read(&mut reader)? {
                    $($($path)::+::TYPE => {
                        $($path)::+::read_body(reader).map(|message| Message::$variant(message.into()))
                    })*
                    message_type if message_type % 2 == 0 => Err(DecodeError::UnknownEvenType { message_type }),
                    message_type => Ok(Message::Unknown { message_type }),
                }
            }
        }

        $(impl From<$($path)::+> for Message {
            fn from(message: $($path)::+) -> Message {
                Message::$variant(message.into())
            }
        })*
    };
    (@payload $($path:ident)::+) => { $($path)::+ };
    (@payload $($path:ident)::+, $boxed:ident) => { $boxed<$($path)::+> };
}

messages! {
    /// BOLT 1, `warning`.
    Warning(setup::Warning),
    /// BOLT 1, `init`.
    Init(setup::Init),
    /// BOLT 1, `error`.
    Error(setup::Error),
    /// BOLT 1, `ping`.
    Ping(setup::Ping),
    /// BOLT 1, `pong`.
    Pong(setup::Pong),
    /// BOLT 2, `open_channel`.
    OpenChannel(channel::OpenChannel in Box),
    /// BOLT 2, `accept_channel`.
    AcceptChannel(channel::AcceptChannel in Box),
    /// BOLT 2, `funding_created`.
    FundingCreated(channel::FundingCreated),
    /// BOLT 2, `funding_signed`.
    FundingSigned(channel::FundingSigned),
    /// BOLT 2, `channel_ready`.
    ChannelReady(channel::ChannelReady),
    /// BOLT 2, `shutdown`.
    Shutdown(closing::Shutdown),
    /// BOLT 2, `closing_signed`.
    ClosingSigned(closing::ClosingSigned),
    /// BOLT 2, `update_add_htlc`.
    UpdateAddHtlc(commitment::UpdateAddHtlc),
    /// BOLT 2, `update_fulfill_htlc`.
    UpdateFulfillHtlc(commitment::UpdateFulfillHtlc),
    /// BOLT 2, `update_fail_htlc`.
    UpdateFailHtlc(commitment::UpdateFailHtlc),
    /// BOLT 2, `update_fail_malformed_htlc`.
    UpdateFailMalformedHtlc(commitment::UpdateFailMalformedHtlc),
    /// BOLT 2, `commitment_signed`.
    CommitmentSigned(commitment::CommitmentSigned),
    /// BOLT 2, `revoke_and_ack`.
    RevokeAndAck(commitment::RevokeAndAck),
    /// BOLT 2, `update_fee`.
    UpdateFee(commitment::UpdateFee),
    /// BOLT 2, `channel_reestablish`.
    ChannelReestablish(channel::ChannelReestablish),
    /// BOLT 7, `channel_announcement`.
    ChannelAnnouncement(gossip::ChannelAnnouncement in Box),
    /// BOLT 7, `node_announcement`.
    NodeAnnouncement(gossip::NodeAnnouncement in Box),
    /// BOLT 7, `channel_update`.
    ChannelUpdate(gossip::ChannelUpdate in Box),
    /// BOLT 7, `announcement_signatures`.
    AnnouncementSignatures(gossip::AnnouncementSignatures),
    /// BOLT 7, `query_short_channel_ids`.
    QueryShortChannelIds(query::QueryShortChannelIds),
    /// BOLT 7, `reply_short_channel_ids_end`.
    ReplyShortChannelIdsEnd(query::ReplyShortChannelIdsEnd),
    /// BOLT 7, `query_channel_range`.
    QueryChannelRange(query::QueryChannelRange),
    /// BOLT 7, `reply_channel_range`.
    ReplyChannelRange(query::ReplyChannelRange in Box),
    /// BOLT 7, `gossip_timestamp_filter`.
    GossipTimestampFilter(query::GossipTimestampFilter),
    /// docs/protocol.md, `update_transfer`.
    UpdateTransfer(transfer::UpdateTransfer),
    /// docs/protocol.md, `transfer_open`.
    TransferOpen(transfer::TransferOpen),
    /// docs/protocol.md, `transfer_window`.
    TransferWindow(transfer::TransferWindow),
    /// docs/protocol.md, `transfer_close`.
    TransferClose(transfer::TransferClose),
    /// docs/protocol.md, `transfer_receipt`.
    TransferReceipt(transfer::TransferReceipt in Box),
}

impl Message {
    /// The message's bytes, its type first.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_into(&mut out);
        out
    }

    /// The channel that the message is about, if it is about one: the temporary id until the channel is funded, and all
    /// zero in an `error` or `warning` that is about all channels.
    pub fn channel_id(&self) -> Option<ChannelId> {
        Some(match self {
            Message::Warning(it) => it.channel_id,
            Message::Error(it) => it.channel_id,
            Message::OpenChannel(it) => it.temporary_channel_id,
            Message::AcceptChannel(it) => it.temporary_channel_id,
            Message::FundingCreated(it) => it.temporary_channel_id,
            Message::FundingSigned(it) => it.channel_id,
            Message::ChannelReady(it) => it.channel_id,
            Message::Shutdown(it) => it.channel_id,
            Message::ClosingSigned(it) => it.channel_id,
            Message::UpdateAddHtlc(it) => it.channel_id,
            Message::UpdateFulfillHtlc(it) => it.channel_id,
            Message::UpdateFailHtlc(it) => it.channel_id,
            Message::UpdateFailMalformedHtlc(it) => it.channel_id,
            Message::CommitmentSigned(it) => it.channel_id,
            Message::RevokeAndAck(it) => it.channel_id,
            Message::UpdateFee(it) => it.channel_id,
            Message::ChannelReestablish(it) => it.channel_id,
            Message::AnnouncementSignatures(it) => it.channel_id,
            Message::UpdateTransfer(it) => it.channel_id,
            Message::TransferOpen(it) => it.channel_id,
            Message::TransferWindow(it) => it.channel_id,
            Message::TransferClose(it) => it.channel_id,
            Message::TransferReceipt(it) => it.channel_id,
            Message::Init(_)
            | Message::Ping(_)
            | Message::Pong(_)
            | Message::ChannelAnnouncement(_)
            | Message::NodeAnnouncement(_)
            | Message::ChannelUpdate(_)
            | Message::QueryShortChannelIds(_)
            | Message::ReplyShortChannelIdsEnd(_)
            | Message::QueryChannelRange(_)
            | Message::ReplyChannelRange(_)
            | Message::GossipTimestampFilter(_)
            | Message::Unknown { .. } => return None,
        })
    }
}

/// A per-commitment secret as it travels. `Debug` hides it: whoever has one of a commitment that is still broadcast can take
/// all of it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevealedSecret(pub [u8; 32]);

impl fmt::Debug for RevealedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RevealedSecret(..)")
    }
}

impl Field for RevealedSecret {
    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
    }

    fn read(reader: &mut Reader<'_>) -> Result<RevealedSecret, DecodeError> {
        reader.array().map(RevealedSecret)
    }
}
