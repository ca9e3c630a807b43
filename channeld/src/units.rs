//! Amounts, heights and ids, one type each, so that a satoshi is never a millisatoshi and a height never a delta.
//!
//! Arithmetic is checked: what may overflow returns an `Option`. This room knows no rule of any protocol and does no I/O.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt;
use std::str::FromStr;

use bitcoin::hashes::{Hash, sha256};
use bitcoin::{Amount, OutPoint};
use secp256k1::PublicKey;
use serde::{Deserialize, Serialize};

/// All the bitcoin there can ever be, in millisatoshi: 21e6 coins.
pub const MAX_MONEY_MSAT: u64 = 21_000_000 * 100_000_000 * 1_000;

/// An amount in millisatoshi. May be any `u64`; what comes from a peer is checked against the channel's capacity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Msat(u64);

impl Msat {
    /// Nothing.
    pub const ZERO: Msat = Msat(0);

    /// `msat` millisatoshi.
    pub const fn new(msat: u64) -> Msat {
        Msat(msat)
    }

    /// `sat` satoshi, or `None` where that does not fit.
    pub const fn from_sat(sat: u64) -> Option<Msat> {
        match sat.checked_mul(1_000) {
            Some(msat) => Some(Msat(msat)),
            None => None,
        }
    }

    /// A bitcoin amount, which is at most 21e14 sat where it was checked, or `None` where it does not fit.
    pub fn from_amount(amount: Amount) -> Option<Msat> {
        Msat::from_sat(amount.to_sat())
    }

    /// The figure in millisatoshi.
    pub const fn msat(self) -> u64 {
        self.0
    }

    /// The whole satoshi in it, rounded down, as BOLT 3 does for every output.
    pub const fn to_amount_floor(self) -> Amount {
        Amount::from_sat(self.0 / 1_000)
    }

    /// The sum, or `None` on overflow.
    pub const fn checked_add(self, other: Msat) -> Option<Msat> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Msat(sum)),
            None => None,
        }
    }

    /// The difference, or `None` where `other` is greater.
    pub const fn checked_sub(self, other: Msat) -> Option<Msat> {
        match self.0.checked_sub(other.0) {
            Some(rest) => Some(Msat(rest)),
            None => None,
        }
    }

    /// The difference, or zero where `other` is greater.
    pub const fn saturating_sub(self, other: Msat) -> Msat {
        Msat(self.0.saturating_sub(other.0))
    }

    /// The sum of many, or `None` on overflow.
    pub fn checked_sum(amounts: impl IntoIterator<Item = Msat>) -> Option<Msat> {
        amounts.into_iter().try_fold(Msat::ZERO, Msat::checked_add)
    }
}

impl fmt::Display for Msat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} msat", self.0)
    }
}

macro_rules! plain_number {
    ($(#[$doc:meta])* $name:ident($inner:ty), $getter:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name($inner);

        impl $name {
            /// The type around the bare figure.
            pub const fn new(value: $inner) -> $name {
                $name(value)
            }

            /// The bare figure.
            pub const fn $getter(self) -> $inner {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

plain_number!(
    /// The height of a block; the genesis block has 0.
    BlockHeight(u32), height
);
plain_number!(
    /// The absolute block height at which an HTLC times out (BOLT 2 `cltv_expiry`).
    CltvExpiry(u32), height
);
plain_number!(
    /// A relative number of blocks (`cltv_expiry_delta`, `to_self_delay`).
    CltvDelta(u16), blocks
);
plain_number!(
    /// A feerate in satoshi per 1,000 weight units (BOLT 3 `feerate_per_kw`).
    FeeratePerKw(u32), sat_per_kw
);
plain_number!(
    /// The id of an HTLC: each direction of a channel counts its own from 0 (BOLT 2).
    HtlcId(u64), id
);
plain_number!(
    /// The number of a commitment transaction: 0 is the first, counted up to 2^48 - 1 (BOLT 3).
    CommitmentNumber(u64), number
);

impl BlockHeight {
    /// This height and `blocks` more; saturates, for no chain gets there.
    pub const fn plus(self, blocks: u32) -> BlockHeight {
        BlockHeight(self.0.saturating_add(blocks))
    }
}

impl FeeratePerKw {
    /// The least feerate a node relays: 1 sat/vB rounded up as BOLT 3 and all nodes do (253 sat/kW).
    pub const FLOOR: FeeratePerKw = FeeratePerKw(253);

    /// The fee for `weight` weight units, rounded down (BOLT 3, "Fees").
    pub const fn fee_floor(self, weight: u64) -> Amount {
        Amount::from_sat((self.0 as u64).saturating_mul(weight) / 1_000)
    }

    /// The fee for `weight` weight units, rounded up: never below the feerate.
    pub const fn fee_ceil(self, weight: u64) -> Amount {
        Amount::from_sat((self.0 as u64).saturating_mul(weight).div_ceil(1_000))
    }
}

impl CommitmentNumber {
    /// The last number that a channel may reach (BOLT 3: 48 bits).
    pub const LAST: CommitmentNumber = CommitmentNumber((1 << 48) - 1);

    /// The number after this one.
    ///
    /// # Panics
    /// At 2^48, which no channel reaches: at a million updates a second it would take nine years.
    #[must_use]
    pub const fn next(self) -> CommitmentNumber {
        assert!(self.0 < CommitmentNumber::LAST.0, "a channel holds at most 2^48 commitments");
        CommitmentNumber(self.0 + 1)
    }

    /// The number before this one, or `None` at the first.
    pub const fn previous(self) -> Option<CommitmentNumber> {
        match self.0.checked_sub(1) {
            Some(number) => Some(CommitmentNumber(number)),
            None => None,
        }
    }
}

impl HtlcId {
    /// The id after this one; saturates at the last `u64`.
    #[must_use]
    pub const fn next(self) -> HtlcId {
        HtlcId(self.0.saturating_add(1))
    }
}

macro_rules! bytes32 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub [u8; 32]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<$name, ParseIdError> {
                let mut bytes = [0; 32];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| ParseIdError)?;
                Ok($name(bytes))
            }
        }
    };
}

bytes32!(
    /// The id of a channel on the wire (BOLT 2): temporary until funded, then made from the funding outpoint.
    ChannelId
);
bytes32!(
    /// SHA-256 of a payment preimage, in wire order.
    PaymentHash
);
bytes32!(
    /// The id of a stream of netted transfers, chosen by the payer.
    SessionId
);

/// A text that is not the hexadecimal form of the id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not 64 hexadecimal digits")]
pub struct ParseIdError;

impl ChannelId {
    /// `funding_txid` with its last two bytes xored with `funding_output_index` (BOLT 2, "Definition of `channel_id`").
    /// An index above 65,535 is folded to its low 16 bits; BOLT 2 allows none.
    pub fn from_funding_outpoint(outpoint: OutPoint) -> ChannelId {
        let mut bytes = outpoint.txid.to_byte_array();
        let [high, low] = (outpoint.vout as u16).to_be_bytes();
        bytes[30] ^= high;
        bytes[31] ^= low;
        ChannelId(bytes)
    }

    /// The all-zero id: all channels of a peer (BOLT 1, `error`).
    pub const ALL: ChannelId = ChannelId([0; 32]);
}

/// The key that a node is known by (BOLT 7 `node_id`); shown as 66 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub PublicKey);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for NodeId {
    type Err = ParseNodeIdError;

    fn from_str(text: &str) -> Result<NodeId, ParseNodeIdError> {
        text.parse().map(NodeId).map_err(|_| ParseNodeIdError)
    }
}

/// A text that is not a compressed public key in hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a node id: expected a compressed public key in 66 hexadecimal digits")]
pub struct ParseNodeIdError;

plain_number!(
    /// Wall-clock time in microseconds since 1970-01-01 UTC; it comes into the core as an input.
    UnixTime(u64), micros
);

impl UnixTime {
    /// `seconds` since 1970-01-01 UTC; saturates.
    pub const fn from_seconds(seconds: u64) -> UnixTime {
        UnixTime(seconds.saturating_mul(1_000_000))
    }

    /// The whole seconds since 1970-01-01 UTC.
    pub const fn seconds(self) -> u64 {
        self.0 / 1_000_000
    }

    /// This time and `seconds` more; saturates.
    #[must_use]
    pub const fn plus_seconds(self, seconds: u64) -> UnixTime {
        UnixTime(self.0.saturating_add(seconds.saturating_mul(1_000_000)))
    }

    /// Microseconds from `earlier` to this time, 0 where the clock was set back.
    pub const fn micros_since(self, earlier: UnixTime) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// What a payment hash hides and whoever claims an HTLC shows. `Debug` hides it: until it is used, it is money.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Preimage(pub [u8; 32]);

impl Preimage {
    /// The hash that an HTLC for this preimage carries.
    pub fn payment_hash(&self) -> PaymentHash {
        PaymentHash(sha256::Hash::hash(&self.0).to_byte_array())
    }
}

impl fmt::Debug for Preimage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Preimage(of {})", self.payment_hash())
    }
}

/// Where a funding output stands on the chain: block, transaction, output (BOLT 7, `short_channel_id`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ShortChannelId(u64);

impl ShortChannelId {
    /// From its parts, or `None` where one does not fit into 24, 24 and 16 bits.
    pub const fn new(block: u32, transaction: u32, output: u16) -> Option<ShortChannelId> {
        if block >> 24 != 0 || transaction >> 24 != 0 {
            return None;
        }
        Some(ShortChannelId((block as u64) << 40 | (transaction as u64) << 16 | output as u64))
    }

    /// From the eight bytes of the wire, as a big-endian number.
    pub const fn from_u64(bits: u64) -> ShortChannelId {
        ShortChannelId(bits)
    }

    /// The height of the block.
    pub const fn block(self) -> u32 {
        (self.0 >> 40) as u32
    }

    /// The number whose big-endian bytes go on the wire.
    pub const fn to_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ShortChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.0 >> 40, (self.0 >> 16) & 0xff_ffff, self.0 & 0xffff)
    }
}

impl FromStr for ShortChannelId {
    type Err = ParseShortChannelIdError;

    fn from_str(text: &str) -> Result<ShortChannelId, ParseShortChannelIdError> {
        let mut parts = text.split('x');
        let mut next = || parts.next().and_then(|part| part.parse::<u32>().ok()).ok_or(ParseShortChannelIdError);
        let (block, transaction, output) = (next()?, next()?, next()?);
        let output = u16::try_from(output).map_err(|_| ParseShortChannelIdError)?;
        if parts.next().is_some() {
            return Err(ParseShortChannelIdError);
        }
        ShortChannelId::new(block, transaction, output).ok_or(ParseShortChannelIdError)
    }
}

/// A text that is no short channel id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a short channel id: expected BLOCKxTRANSACTIONxOUTPUT, such as 100x1x0")]
pub struct ParseShortChannelIdError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_channel_ids_go_there_and_back() {
        let id = ShortChannelId::new(539_268, 845, 1).expect("in range");
        assert_eq!(id.to_string(), "539268x845x1");
        assert_eq!("539268x845x1".parse(), Ok(id));
        for wrong in ["", "1x2", "1x2x3x4", "16777216x0x0", "1x2x65536", "ax2x3", "-1x2x3"] {
            assert_eq!(wrong.parse::<ShortChannelId>(), Err(ParseShortChannelIdError), "{wrong}");
        }
    }

    #[test]
    fn money_never_wraps() {
        assert_eq!(Msat::new(u64::MAX).checked_add(Msat::new(1)), None);
        assert_eq!(Msat::ZERO.checked_sub(Msat::new(1)), None);
        assert_eq!(Msat::from_sat(u64::MAX), None);
        assert_eq!(Msat::new(1_999).to_amount_floor(), Amount::from_sat(1));
    }

    #[test]
    fn a_preimage_is_not_printed() {
        let preimage = Preimage([7; 32]);
        assert!(!format!("{preimage:?}").contains("0707"));
    }
}
