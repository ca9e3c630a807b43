//! What failures say (BOLT 4, "Failure Messages").

use serde::{Deserialize, Serialize};

use super::super::error::InvalidPayload;
use crate::units::{BlockHeight, CltvExpiry, Msat};
use crate::wire::codec::{Field, Reader, write_bigsize, write_bytes_u16};
use crate::wire::tlv::write_record;
use crate::wire::{ChannelUpdate, DecodeError, Message, TransferReceipt};

/// `failure_code`: the onion could not be read.
pub const BADONION: u16 = 0x8000;
/// `failure_code`: trying again is of no use.
pub const PERM: u16 = 0x4000;
/// `failure_code`: about the node, not one of its channels.
pub const NODE: u16 = 0x2000;
/// `failure_code`: the channel's conditions were not met.
pub const UPDATE: u16 = 0x1000;

/// The record of a failure that holds a receipt: a `transfer_receipt` with its message type.
const RECEIPT: u64 = 4_730_905;

/// Why an HTLC failed, as some hop says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Failure {
    /// NODE|2.
    TemporaryNodeFailure,
    /// PERM|NODE|2.
    PermanentNodeFailure,
    /// PERM|NODE|3.
    RequiredNodeFeatureMissing,
    /// BADONION|PERM|4, said by the hop before the one that could not read the onion.
    InvalidOnionVersion {
        /// Of the onion.
        sha256_of_onion: [u8; 32],
    },
    /// BADONION|PERM|5, likewise.
    InvalidOnionHmac {
        /// Of the onion.
        sha256_of_onion: [u8; 32],
    },
    /// BADONION|PERM|6, likewise.
    InvalidOnionKey {
        /// Of the onion.
        sha256_of_onion: [u8; 32],
    },
    /// UPDATE|7.
    TemporaryChannelFailure {
        /// The channel's conditions.
        update: Option<Box<ChannelUpdate>>,
    },
    /// PERM|8.
    PermanentChannelFailure,
    /// PERM|9.
    RequiredChannelFeatureMissing,
    /// PERM|10.
    UnknownNextPeer,
    /// UPDATE|11.
    AmountBelowMinimum {
        /// What was to be sent on.
        htlc_msat: Msat,
        /// The channel's conditions.
        update: Option<Box<ChannelUpdate>>,
    },
    /// UPDATE|12.
    FeeInsufficient {
        /// What came in.
        htlc_msat: Msat,
        /// The channel's conditions.
        update: Option<Box<ChannelUpdate>>,
    },
    /// UPDATE|13.
    IncorrectCltvExpiry {
        /// Of the outgoing HTLC.
        cltv_expiry: CltvExpiry,
        /// The channel's conditions.
        update: Option<Box<ChannelUpdate>>,
    },
    /// UPDATE|14.
    ExpiryTooSoon {
        /// The channel's conditions.
        update: Option<Box<ChannelUpdate>>,
    },
    /// PERM|15: the payee does not know the payment, or not like this.
    IncorrectOrUnknownPaymentDetails {
        /// What came in.
        htlc_msat: Msat,
        /// The payee's best block.
        height: BlockHeight,
    },
    /// PERM|15 with a record of ours behind it: the receipt that the HTLC asked for (docs/protocol.md).
    StreamReceipt {
        /// What came in.
        htlc_msat: Msat,
        /// The payee's best block.
        height: BlockHeight,
        /// What was asked for.
        receipt: Box<TransferReceipt>,
    },
    /// 18.
    FinalIncorrectCltvExpiry {
        /// What came in.
        cltv_expiry: CltvExpiry,
    },
    /// 19.
    FinalIncorrectHtlcAmount {
        /// What came in.
        incoming_htlc_amt: Msat,
    },
    /// UPDATE|20.
    ChannelDisabled {
        /// The channel's conditions.
        update: Option<Box<ChannelUpdate>>,
    },
    /// 21.
    ExpiryTooFar,
    /// PERM|22.
    InvalidOnionPayload {
        /// The record that is at fault, or 0.
        tlv_type: u64,
        /// Where in the payload it is, or 0.
        offset: u16,
    },
    /// 23.
    MppTimeout,
    /// BADONION|PERM|24.
    InvalidOnionBlinding {
        /// Of the onion.
        sha256_of_onion: [u8; 32],
    },
    /// Any other code, or a known one whose data makes no sense.
    Other {
        /// The code.
        code: u16,
    },
}

impl From<InvalidPayload> for Failure {
    fn from(error: InvalidPayload) -> Failure {
        Failure::InvalidOnionPayload { tlv_type: error.tlv_type(), offset: 0 }
    }
}

impl Failure {
    /// The `failure_code`.
    pub const fn code(&self) -> u16 {
        match self {
            Failure::TemporaryNodeFailure => NODE | 2,
            Failure::PermanentNodeFailure => PERM | NODE | 2,
            Failure::RequiredNodeFeatureMissing => PERM | NODE | 3,
            Failure::InvalidOnionVersion { .. } => BADONION | PERM | 4,
            Failure::InvalidOnionHmac { .. } => BADONION | PERM | 5,
            Failure::InvalidOnionKey { .. } => BADONION | PERM | 6,
            Failure::TemporaryChannelFailure { .. } => UPDATE | 7,
            Failure::PermanentChannelFailure => PERM | 8,
            Failure::RequiredChannelFeatureMissing => PERM | 9,
            Failure::UnknownNextPeer => PERM | 10,
            Failure::AmountBelowMinimum { .. } => UPDATE | 11,
            Failure::FeeInsufficient { .. } => UPDATE | 12,
            Failure::IncorrectCltvExpiry { .. } => UPDATE | 13,
            Failure::ExpiryTooSoon { .. } => UPDATE | 14,
            Failure::IncorrectOrUnknownPaymentDetails { .. } | Failure::StreamReceipt { .. } => PERM | 15,
            Failure::FinalIncorrectCltvExpiry { .. } => 18,
            Failure::FinalIncorrectHtlcAmount { .. } => 19,
            Failure::ChannelDisabled { .. } => UPDATE | 20,
            Failure::ExpiryTooFar => 21,
            Failure::InvalidOnionPayload { .. } => PERM | 22,
            Failure::MppTimeout => 23,
            Failure::InvalidOnionBlinding { .. } => BADONION | PERM | 24,
            Failure::Other { code } => *code,
        }
    }

    /// Whether trying again is of no use, with this channel or, with [`NODE`], with this node.
    pub const fn is_permanent(&self) -> bool {
        self.code() & PERM != 0
    }

    /// What the hop before says for a peer that answered `update_fail_malformed_htlc`; `None` where the code lacks the bit
    /// BADONION, which BOLT 2 forbids.
    pub fn from_malformed(failure_code: u16, sha256_of_onion: [u8; 32]) -> Option<Failure> {
        if failure_code & BADONION == 0 {
            return None;
        }
        Some(match failure_code & !(BADONION | PERM) {
            4 => Failure::InvalidOnionVersion { sha256_of_onion },
            5 => Failure::InvalidOnionHmac { sha256_of_onion },
            6 => Failure::InvalidOnionKey { sha256_of_onion },
            24 => Failure::InvalidOnionBlinding { sha256_of_onion },
            _ => Failure::Other { code: failure_code },
        })
    }

    /// The `failuremsg`.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.code().to_be_bytes().to_vec();
        match self {
            Failure::InvalidOnionVersion { sha256_of_onion }
            | Failure::InvalidOnionHmac { sha256_of_onion }
            | Failure::InvalidOnionKey { sha256_of_onion }
            | Failure::InvalidOnionBlinding { sha256_of_onion } => sha256_of_onion.write(&mut out),
            Failure::TemporaryChannelFailure { update } | Failure::ExpiryTooSoon { update } => {
                write_update(update, &mut out);
            }
            Failure::AmountBelowMinimum { htlc_msat, update } | Failure::FeeInsufficient { htlc_msat, update } => {
                htlc_msat.write(&mut out);
                write_update(update, &mut out);
            }
            Failure::IncorrectCltvExpiry { cltv_expiry, update } => {
                cltv_expiry.write(&mut out);
                write_update(update, &mut out);
            }
            Failure::IncorrectOrUnknownPaymentDetails { htlc_msat, height } => {
                htlc_msat.write(&mut out);
                height.height().write(&mut out);
            }
            Failure::StreamReceipt { htlc_msat, height, receipt } => {
                htlc_msat.write(&mut out);
                height.height().write(&mut out);
                let receipt = Message::from((**receipt).clone()).encode();
                write_record(RECEIPT, &mut out, |out| out.extend_from_slice(&receipt));
            }
            Failure::FinalIncorrectCltvExpiry { cltv_expiry } => cltv_expiry.write(&mut out),
            Failure::FinalIncorrectHtlcAmount { incoming_htlc_amt } => incoming_htlc_amt.write(&mut out),
            Failure::ChannelDisabled { update } => {
                0u16.write(&mut out);
                write_update(update, &mut out);
            }
            Failure::InvalidOnionPayload { tlv_type, offset } => {
                write_bigsize(*tlv_type, &mut out);
                offset.write(&mut out);
            }
            Failure::TemporaryNodeFailure
            | Failure::PermanentNodeFailure
            | Failure::RequiredNodeFeatureMissing
            | Failure::PermanentChannelFailure
            | Failure::RequiredChannelFeatureMissing
            | Failure::UnknownNextPeer
            | Failure::ExpiryTooFar
            | Failure::MppTimeout
            | Failure::Other { .. } => {}
        }
        out
    }

    /// Reads a `failuremsg`; what follows the known data is ignored (BOLT 4), and what makes no sense is [`Failure::Other`].
    pub fn decode(failuremsg: &[u8]) -> Failure {
        let mut reader = Reader::new(failuremsg);
        let Ok(code) = u16::read(&mut reader) else { return Failure::Other { code: 0 } };
        Failure::read_data(code, &mut reader).unwrap_or(Failure::Other { code })
    }

    fn read_data(code: u16, reader: &mut Reader<'_>) -> Result<Failure, DecodeError> {
        const NODE_TEMPORARY: u16 = NODE | 2;
        const NODE_PERMANENT: u16 = PERM | NODE | 2;
        const NODE_FEATURE: u16 = PERM | NODE | 3;
        Ok(match code {
            NODE_TEMPORARY => Failure::TemporaryNodeFailure,
            NODE_PERMANENT => Failure::PermanentNodeFailure,
            NODE_FEATURE => Failure::RequiredNodeFeatureMissing,
            21 => Failure::ExpiryTooFar,
            23 => Failure::MppTimeout,
            18 => Failure::FinalIncorrectCltvExpiry { cltv_expiry: Field::read(reader)? },
            19 => Failure::FinalIncorrectHtlcAmount { incoming_htlc_amt: Field::read(reader)? },
            code if code & (BADONION | PERM) == BADONION | PERM => {
                Failure::from_malformed(code, Field::read(reader)?).unwrap_or(Failure::Other { code })
            }
            code if code & PERM != 0 => Failure::read_permanent(code, reader)?,
            code if code & UPDATE != 0 => Failure::read_update_failure(code, reader)?,
            code => Failure::Other { code },
        })
    }

    fn read_permanent(code: u16, reader: &mut Reader<'_>) -> Result<Failure, DecodeError> {
        Ok(match code & !PERM {
            8 => Failure::PermanentChannelFailure,
            9 => Failure::RequiredChannelFeatureMissing,
            10 => Failure::UnknownNextPeer,
            15 => {
                let htlc_msat = Field::read(reader)?;
                let height = BlockHeight::new(Field::read(reader)?);
                match read_receipt(reader) {
                    Some(receipt) => Failure::StreamReceipt { htlc_msat, height, receipt },
                    None => Failure::IncorrectOrUnknownPaymentDetails { htlc_msat, height },
                }
            }
            22 => Failure::InvalidOnionPayload { tlv_type: reader.bigsize()?, offset: Field::read(reader)? },
            _ => Failure::Other { code },
        })
    }

    fn read_update_failure(code: u16, reader: &mut Reader<'_>) -> Result<Failure, DecodeError> {
        Ok(match code & !UPDATE {
            7 => Failure::TemporaryChannelFailure { update: read_update(reader)? },
            11 => Failure::AmountBelowMinimum { htlc_msat: Field::read(reader)?, update: read_update(reader)? },
            12 => Failure::FeeInsufficient { htlc_msat: Field::read(reader)?, update: read_update(reader)? },
            13 => Failure::IncorrectCltvExpiry { cltv_expiry: Field::read(reader)?, update: read_update(reader)? },
            14 => Failure::ExpiryTooSoon { update: read_update(reader)? },
            20 => {
                u16::read(reader)?;
                Failure::ChannelDisabled { update: read_update(reader)? }
            }
            _ => Failure::Other { code },
        })
    }
}

/// The receipt behind the known data, if there is one; anything else there is ignored (BOLT 4).
fn read_receipt(reader: &mut Reader<'_>) -> Option<Box<TransferReceipt>> {
    if reader.bigsize().ok()? != RECEIPT {
        return None;
    }
    let length = usize::try_from(reader.bigsize().ok()?).ok()?;
    match Message::decode(reader.take(length).ok()?) {
        Ok(Message::TransferReceipt(receipt)) => Some(receipt),
        _ => None,
    }
}

/// A `channel_update` behind its length, with its message type in front as all send it.
fn write_update(update: &Option<Box<ChannelUpdate>>, out: &mut Vec<u8>) {
    let bytes = update.as_ref().map(|update| Message::from((**update).clone()).encode());
    write_bytes_u16(&bytes.unwrap_or_default(), out);
}

/// A `channel_update`, if there is one that makes sense; with or without its message type, for both were sent once.
fn read_update(reader: &mut Reader<'_>) -> Result<Option<Box<ChannelUpdate>>, DecodeError> {
    let bytes = reader.bytes_u16()?;
    let typed = ChannelUpdate::TYPE.to_be_bytes();
    let message =
        if bytes.starts_with(&typed) { Message::decode(bytes) } else { Message::decode(&[&typed, bytes].concat()) };
    Ok(match message {
        Ok(Message::ChannelUpdate(update)) => Some(update),
        _ => None,
    })
}
