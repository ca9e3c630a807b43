//! The fundamental types of BOLT 1 to and from bytes: every length is held against what is there before anything is allocated.

use bitcoin::constants::ChainHash;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, ScriptBuf, Txid};
use secp256k1::PublicKey;
use secp256k1::ecdsa::Signature;

use super::error::DecodeError;
use crate::units::{
    ChannelId, CltvDelta, CltvExpiry, FeeratePerKw, HtlcId, Msat, PaymentHash, Preimage, SessionId, ShortChannelId,
};

/// What is left of a message while it is read.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader of all of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// Whether all is read.
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The number of bytes not read yet.
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next `length` bytes.
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(DecodeError::TooShort)?;
        self.rest = rest;
        Ok(taken)
    }

    /// All that is left.
    pub fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::TooShort)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// The next bytes behind their `u16` length.
    pub fn bytes_u16(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = u16::from_be_bytes(self.array()?);
        self.take(usize::from(length))
    }

    /// The next BigSize (BOLT 1, appendix A). Refuses what is not minimally encoded.
    pub fn bigsize(&mut self) -> Result<u64, DecodeError> {
        let [first] = self.array()?;
        let (value, least) = match first {
            0xff => (u64::from_be_bytes(self.array()?), 0x1_0000_0000),
            0xfe => (u64::from(u32::from_be_bytes(self.array()?)), 0x1_0000),
            0xfd => (u64::from(u16::from_be_bytes(self.array()?)), 0xfd),
            small => (u64::from(small), 0),
        };
        if value < least {
            return Err(DecodeError::BigSizeNotMinimal);
        }
        Ok(value)
    }

    /// All that is left, as a truncated integer of at most `width` bytes (`tu16`, `tu32`, `tu64`). Refuses leading zeros.
    pub fn truncated(&mut self, width: usize) -> Result<u64, DecodeError> {
        let bytes = self.take_rest();
        if bytes.len() > width.min(8) || bytes.first() == Some(&0) {
            return Err(DecodeError::TruncatedIntegerNotMinimal);
        }
        Ok(bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }
}

/// Appends `value` as a BigSize (BOLT 1, appendix A).
pub fn write_bigsize(value: u64, out: &mut Vec<u8>) {
    if let Ok(small @ 0..=0xfc) = u8::try_from(value) {
        out.push(small);
    } else if let Ok(short) = u16::try_from(value) {
        out.push(0xfd);
        out.extend_from_slice(&short.to_be_bytes());
    } else if let Ok(long) = u32::try_from(value) {
        out.push(0xfe);
        out.extend_from_slice(&long.to_be_bytes());
    } else {
        out.push(0xff);
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// How many bytes `value` takes as a BigSize.
pub const fn bigsize_length(value: u64) -> usize {
    match value {
        0..=0xfc => 1,
        0xfd..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}

/// Appends `value` as a truncated integer: big-endian without leading zeros (BOLT 1, `tu64`).
pub fn write_truncated(value: u64, out: &mut Vec<u8>) {
    let skipped = value.leading_zeros() as usize / 8;
    out.extend_from_slice(&value.to_be_bytes()[skipped..]);
}

/// Appends `bytes` behind their `u16` length.
///
/// # Panics
/// Above 65,535 bytes, which fit into no message.
pub fn write_bytes_u16(bytes: &[u8], out: &mut Vec<u8>) {
    let length = u16::try_from(bytes.len()).expect("a field fits into a message, and that has at most 65,535 bytes");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

/// A field of a message: what it looks like between two others.
pub trait Field: Sized {
    /// Appends the field.
    fn write(&self, out: &mut Vec<u8>);
    /// Reads the field.
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

/// The value of a TLV record, whose length the record gives.
pub trait TlvValue: Sized {
    /// Appends the value.
    fn write_value(&self, out: &mut Vec<u8>);
    /// Reads the value; what stays unread makes the record invalid.
    fn read_value(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

macro_rules! integer_field {
    ($($integer:ty),*) => {
        $(impl Field for $integer {
            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }

            fn read(reader: &mut Reader<'_>) -> Result<$integer, DecodeError> {
                reader.array().map(<$integer>::from_be_bytes)
            }
        })*
    };
}

integer_field!(u8, u16, u32, u64);

/// Fields that are another one in a type with a unit or a role.
macro_rules! wrapped_field {
    ($($name:ident: $inner:ty = |$value:ident| $unwrap:expr, $wrap:expr;)*) => {
        $(impl Field for $name {
            fn write(&self, out: &mut Vec<u8>) {
                let $value = self;
                <$inner as Field>::write(&$unwrap, out);
            }

            fn read(reader: &mut Reader<'_>) -> Result<$name, DecodeError> {
                <$inner as Field>::read(reader).map($wrap)
            }
        })*
    };
}

wrapped_field! {
    Msat: u64 = |it| it.msat(), Msat::new;
    CltvExpiry: u32 = |it| it.height(), CltvExpiry::new;
    CltvDelta: u16 = |it| it.blocks(), CltvDelta::new;
    FeeratePerKw: u32 = |it| it.sat_per_kw(), FeeratePerKw::new;
    HtlcId: u64 = |it| it.id(), HtlcId::new;
    ShortChannelId: u64 = |it| it.to_u64(), ShortChannelId::from_u64;
    ChannelId: [u8; 32] = |it| it.0, ChannelId;
    PaymentHash: [u8; 32] = |it| it.0, PaymentHash;
    Preimage: [u8; 32] = |it| it.0, Preimage;
    SessionId: [u8; 32] = |it| it.0, SessionId;
    ChainHash: [u8; 32] = |it| it.to_bytes(), ChainHash::from;
    Txid: [u8; 32] = |it| it.to_byte_array(), Txid::from_byte_array;
}

impl<const N: usize> Field for [u8; N] {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn read(reader: &mut Reader<'_>) -> Result<[u8; N], DecodeError> {
        reader.array()
    }
}

/// BOLT 1: an amount in satoshi is at most 21 million coins, so that sums of amounts never overflow.
impl Field for Amount {
    fn write(&self, out: &mut Vec<u8>) {
        self.to_sat().write(out);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Amount, DecodeError> {
        let amount = Amount::from_sat(u64::read(reader)?);
        if amount > Amount::MAX_MONEY {
            return Err(DecodeError::AmountAboveMaximum);
        }
        Ok(amount)
    }
}

impl Field for PublicKey {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.serialize());
    }

    fn read(reader: &mut Reader<'_>) -> Result<PublicKey, DecodeError> {
        PublicKey::from_slice(reader.take(33)?).map_err(|_| DecodeError::InvalidPoint)
    }
}

impl Field for Signature {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.serialize_compact());
    }

    fn read(reader: &mut Reader<'_>) -> Result<Signature, DecodeError> {
        Signature::from_compact(reader.take(64)?).map_err(|_| DecodeError::InvalidSignature)
    }
}

/// A list behind its `u16` count.
impl Field for Vec<Signature> {
    fn write(&self, out: &mut Vec<u8>) {
        let count = u16::try_from(self.len()).expect("a commitment has at most 966 HTLCs");
        count.write(out);
        self.iter().for_each(|signature| signature.write(out));
    }

    fn read(reader: &mut Reader<'_>) -> Result<Vec<Signature>, DecodeError> {
        let count = usize::from(u16::read(reader)?);
        if count * 64 > reader.remaining() {
            return Err(DecodeError::TooShort);
        }
        (0..count).map(|_| Signature::read(reader)).collect()
    }
}

/// Bytes behind their `u16` length.
impl Field for Vec<u8> {
    fn write(&self, out: &mut Vec<u8>) {
        write_bytes_u16(self, out);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Vec<u8>, DecodeError> {
        reader.bytes_u16().map(<[u8]>::to_vec)
    }
}

/// A script behind its `u16` length.
impl Field for ScriptBuf {
    fn write(&self, out: &mut Vec<u8>) {
        write_bytes_u16(self.as_bytes(), out);
    }

    fn read(reader: &mut Reader<'_>) -> Result<ScriptBuf, DecodeError> {
        reader.bytes_u16().map(|bytes| ScriptBuf::from_bytes(bytes.to_vec()))
    }
}

/// Types whose TLV value looks as the field does.
macro_rules! value_as_field {
    ($($name:ty),*) => {
        $(impl TlvValue for $name {
            fn write_value(&self, out: &mut Vec<u8>) {
                self.write(out);
            }

            fn read_value(reader: &mut Reader<'_>) -> Result<$name, DecodeError> {
                <$name as Field>::read(reader)
            }
        })*
    };
}

value_as_field!(PublicKey, ShortChannelId, Txid);

/// The script is the whole value.
impl TlvValue for ScriptBuf {
    fn write_value(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }

    fn read_value(reader: &mut Reader<'_>) -> Result<ScriptBuf, DecodeError> {
        Ok(ScriptBuf::from_bytes(reader.take_rest().to_vec()))
    }
}

/// The bytes are the whole value.
impl TlvValue for Vec<u8> {
    fn write_value(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn read_value(reader: &mut Reader<'_>) -> Result<Vec<u8>, DecodeError> {
        Ok(reader.take_rest().to_vec())
    }
}

/// Hashes one after the other fill the value (BOLT 1, `networks`).
impl TlvValue for Vec<ChainHash> {
    fn write_value(&self, out: &mut Vec<u8>) {
        self.iter().for_each(|hash| hash.write(out));
    }

    fn read_value(reader: &mut Reader<'_>) -> Result<Vec<ChainHash>, DecodeError> {
        let (hashes, rest) = reader.take_rest().as_chunks::<32>();
        if !rest.is_empty() {
            return Err(DecodeError::TooShort);
        }
        Ok(hashes.iter().map(|hash| ChainHash::from(*hash)).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bigsize(bytes: &[u8]) -> Result<u64, DecodeError> {
        Reader::new(bytes).bigsize()
    }

    #[test]
    fn bigsize_vectors() {
        let good: [(u64, &str); 8] = [
            (0, "00"),
            (252, "fc"),
            (253, "fd00fd"),
            (65_535, "fdffff"),
            (65_536, "fe00010000"),
            (4_294_967_295, "feffffffff"),
            (4_294_967_296, "ff0000000100000000"),
            (u64::MAX, "ffffffffffffffffff"),
        ];
        for (value, text) in good {
            let bytes = hex::decode(text).unwrap();
            assert_eq!(bigsize(&bytes), Ok(value), "{text}");
            let mut out = Vec::new();
            write_bigsize(value, &mut out);
            assert_eq!(out, bytes);
            assert_eq!(bigsize_length(value), bytes.len());
        }
        for text in ["fd00fc", "fe0000ffff", "ff00000000ffffffff"] {
            assert_eq!(bigsize(&hex::decode(text).unwrap()), Err(DecodeError::BigSizeNotMinimal), "{text}");
        }
        for text in ["", "fd", "fd00", "fe", "feffff", "ff", "ffffffffff"] {
            assert_eq!(bigsize(&hex::decode(text).unwrap()), Err(DecodeError::TooShort), "{text}");
        }
    }

    #[test]
    fn truncated_integers_have_no_leading_zero() {
        for (value, bytes) in [(0, &[][..]), (1, &[1]), (256, &[1, 0]), (u64::MAX, &[255; 8])] {
            let mut out = Vec::new();
            write_truncated(value, &mut out);
            assert_eq!(out, bytes);
            assert_eq!(Reader::new(bytes).truncated(8), Ok(value));
        }
        for (bytes, width) in [(&[0][..], 8), (&[0, 1], 8), (&[1, 2, 3], 2), (&[1; 9], 8), (&[1; 9], 9)] {
            assert_eq!(Reader::new(bytes).truncated(width), Err(DecodeError::TruncatedIntegerNotMinimal));
        }
    }

    #[test]
    fn a_count_beyond_the_message_allocates_nothing() {
        let bytes = [0xff, 0xff, 1, 2, 3];
        assert_eq!(Vec::<Signature>::read(&mut Reader::new(&bytes)), Err(DecodeError::TooShort));
        assert_eq!(Vec::<u8>::read(&mut Reader::new(&bytes)), Err(DecodeError::TooShort));
    }

    proptest! {
        #[test]
        fn bigsize_goes_there_and_back(value: u64) {
            let mut out = Vec::new();
            write_bigsize(value, &mut out);
            prop_assert_eq!(bigsize(&out), Ok(value));
            prop_assert_eq!(out.len(), bigsize_length(value));
        }
    }
}
