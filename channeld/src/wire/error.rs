//! What can be wrong with the bytes of a message. All of it is the peer's fault, and all of it ends the connection (BOLT 1).

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A field reaches beyond the end of the message, of its record or of its list.
    #[error("the message ends within a field")]
    TooShort,
    /// A BigSize takes more bytes than it needs.
    #[error("an integer (BigSize) is not minimally encoded")]
    BigSizeNotMinimal,
    /// A truncated integer has leading zeros or too many bytes.
    #[error("a truncated integer is not minimally encoded")]
    TruncatedIntegerNotMinimal,
    /// 33 bytes are no compressed point of the curve.
    #[error("a public key is not a point of the curve")]
    InvalidPoint,
    /// 64 bytes are no signature: a part of it is not below the order of the curve.
    #[error("a signature is out of range")]
    InvalidSignature,
    /// An amount in satoshi is above 21 million coins.
    #[error("an amount is above 21 million coins")]
    AmountAboveMaximum,
    /// The types of a TLV stream do not rise strictly.
    #[error("TLV record {tlv_type} is out of order or there twice")]
    TlvOutOfOrder {
        /// The record's type.
        tlv_type: u64,
    },
    /// A TLV record of an even type that this message does not know.
    #[error("TLV record {tlv_type} is unknown and even")]
    UnknownEvenTlv {
        /// The record's type.
        tlv_type: u64,
    },
    /// The value of a known TLV record is longer than what it holds.
    #[error("TLV record {tlv_type} is too long")]
    TlvTooLong {
        /// The record's type.
        tlv_type: u64,
    },
    /// A message of an even type that is not known.
    #[error("message type {message_type} is unknown and even")]
    UnknownEvenType {
        /// The message's type.
        message_type: u16,
    },
    /// A run of payments with a count of zero, or more payments than can be counted.
    #[error("a run of payments has an impossible count")]
    InvalidPaymentRun,
}
