//! What a way costs: its fees, and in the same unit (msat) what it risks. Integers only, for the order of ways depends on it.
//!
//! cost = fee + a price for each hop + a price for each bit of doubt (-log2 of the odds) + a price for each block of lock.

/// Doubt is counted in 1,024ths of a bit.
pub const BIT: u64 = 1_024;
/// The doubt about an amount that failed a moment ago, and the most about any: 1 in 1,024.
pub const MOST_DOUBT: u64 = 10 * BIT;

/// What a hop costs beside its fee, in msat: it takes time and may fail for reasons of its own.
const HOP_BASE: u64 = 1_000;
/// 2^-13 of the amount on top: 122 millionths.
const HOP_SHIFT: u32 = 13;
/// What it is worth to double the odds, in msat.
const BIT_BASE: u64 = 5_000;
/// 2^-11 of the amount on top: 488 millionths.
const BIT_SHIFT: u32 = 11;
/// What it costs to have money locked for a block: 15 billionths of it, as 2^16ths.
const LOCK_NUMERATOR: u128 = 15 * 65_536;
const LOCK_DENOMINATOR: u128 = 1_000_000_000;
/// Prices stay below, so that no sum of them overflows.
const MOST: u64 = 1 << 40;

/// The prices for a part of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tariff {
    /// 1, or 0 where fees do not matter.
    pub fee: u64,
    /// Each hop, in msat.
    pub hop: u64,
    /// Each bit of doubt, in msat.
    pub bit: u64,
    /// Each block of lock, in 2^-16 msat.
    pub block: u64,
}

impl Tariff {
    /// The prices for a part of `part` msat of a payment of `total` msat.
    pub fn new(part: u64, total: u64) -> Tariff {
        let block = u128::from(part) * LOCK_NUMERATOR / LOCK_DENOMINATOR;
        Tariff {
            fee: 1,
            hop: (HOP_BASE + (part >> HOP_SHIFT)).min(MOST),
            bit: (BIT_BASE + (total >> BIT_SHIFT)).min(MOST),
            block: u64::try_from(block).unwrap_or(MOST).min(MOST),
        }
    }

    /// Only fees count: for the cheapest way there is.
    pub const FEES: Tariff = Tariff { fee: 1, hop: 0, bit: 0, block: 0 };
    /// Only the lock counts.
    pub const BLOCKS: Tariff = Tariff { fee: 0, hop: 0, bit: 0, block: 1 << 16 };
    /// Only hops count.
    pub const HOPS: Tariff = Tariff { fee: 0, hop: 1, bit: 0, block: 0 };

    /// What it costs to have a node forward. Never decreases in any argument; saturates.
    #[inline]
    pub fn cost(&self, fee: u64, doubt: u64, blocks: u32) -> u64 {
        let risk = self.hop + ((self.bit * doubt) >> 10) + ((self.block * u64::from(blocks)) >> 16);
        (fee * self.fee).saturating_add(risk)
    }
}

/// What is believed about the liquidity in one direction of a channel: anything in between is as likely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Surely there, in msat.
    pub least: u64,
    /// Surely no more, in msat; not less than `least`.
    pub most: u64,
    /// Doubt about the channel itself, whatever the amount.
    pub penalty: u64,
}

impl Bounds {
    /// Nothing is known but what the channel can hold.
    pub const fn unknown(capacity: u64) -> Bounds {
        Bounds { least: 0, most: capacity, penalty: 0 }
    }

    /// The doubt that `amount` goes through, at most [`MOST_DOUBT`]. Never decreases with the amount.
    #[inline]
    pub fn doubt(&self, amount: u64) -> u64 {
        if amount <= self.least {
            return 0;
        }
        if amount > self.most {
            return MOST_DOUBT;
        }
        // least < amount <= most, so that neither is zero, and `most` + 1 cannot overflow where amounts are money.
        let all = self.most.saturating_add(1) - self.least;
        let good = self.most.saturating_add(1) - amount;
        (log2(all) - log2(good)).min(MOST_DOUBT)
    }

    /// The doubt that `amount` goes through where `used` already does.
    pub fn doubt_beside(&self, used: u64, amount: u64) -> u64 {
        let both = self.doubt(used.saturating_add(amount));
        both.saturating_sub(self.doubt(used)) + self.penalty
    }
}

/// log2 of 1 + i/1,024, in 1,024ths, rounded down.
const MANTISSA: [u16; 1_024] = {
    let mut table = [0; 1_024];
    let mut i = 0;
    while i < 1_024 {
        // y = (1 + i/1024) * 2^30; each squaring gives one more binary digit of its logarithm.
        let mut y: u64 = (1_024 + i as u64) << 20;
        let mut digits: u16 = 0;
        let mut round = 0;
        while round < 10 {
            y = (y * y) >> 30;
            digits <<= 1;
            if y >> 31 != 0 {
                y >>= 1;
                digits |= 1;
            }
            round += 1;
        }
        table[i] = digits;
        i += 1;
    }
    table
};

/// log2 in 1,024ths; `n` is not zero. Never decreases.
#[inline]
fn log2(n: u64) -> u64 {
    let exponent = 63 - u64::from(n.leading_zeros());
    let mantissa = (n << (63 - exponent)) >> 53 & 1_023;
    exponent * BIT + u64::from(MANTISSA[mantissa as usize])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn logarithms_are_right() {
        for (n, wanted) in [(1, 0), (2, 1_024), (3, 1_623), (1_000_000, 20_409), (u64::MAX, 65_535)] {
            let found = log2(n);
            assert!(found.abs_diff(wanted) <= 1, "log2({n}) = {found}, not {wanted}");
        }
    }

    #[test]
    fn half_of_a_channel_is_one_bit() {
        let bounds = Bounds::unknown(1_000_000);
        assert!(bounds.doubt(500_000).abs_diff(BIT) <= 2);
        assert_eq!((bounds.doubt(0), bounds.doubt(1_000_001)), (0, MOST_DOUBT));
        let known = Bounds { least: 400_000, most: 600_000, penalty: 0 };
        assert_eq!((known.doubt(400_000), known.doubt(600_001)), (0, MOST_DOUBT));
        assert!(known.doubt(500_000).abs_diff(BIT) <= 2);
    }

    #[test]
    fn the_greatest_figures_overflow_nothing() {
        let tariff = Tariff::new(u64::MAX, u64::MAX);
        assert!(tariff.cost(u64::MAX, 2 * MOST_DOUBT, u32::from(u16::MAX)) == u64::MAX);
        assert_eq!(Bounds::unknown(u64::MAX).doubt(1), 0);
    }

    proptest! {
        #[test]
        fn doubt_never_decreases(least: u64, more: u64, one: u64, two: u64) {
            let bounds = Bounds { least, most: least.saturating_add(more), penalty: 0 };
            prop_assert!(bounds.doubt(one.min(two)) <= bounds.doubt(one.max(two)));
        }
    }
}
