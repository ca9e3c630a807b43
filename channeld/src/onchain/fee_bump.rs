//! What a claim pays: by the blocks that are left, never more than is at stake, and more with each replacement.

use bitcoin::Amount;

use crate::units::{BlockHeight, FeeratePerKw};

/// What the backend estimates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feerates {
    /// To confirm within two blocks.
    pub urgent: FeeratePerKw,
    /// Within six.
    pub normal: FeeratePerKw,
    /// Within a day.
    pub relaxed: FeeratePerKw,
}

/// From so few blocks on, a claim is replaced at every block.
const PRESSING: u32 = 6;

/// How pressing a claim is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Urgency {
    /// Blocks until somebody else can take the output; `None` where nobody can.
    blocks_left: Option<u32>,
    /// Whether this decision follows a new block.
    new_block: bool,
}

impl Urgency {
    pub(super) fn new(tip: BlockHeight, deadline: Option<BlockHeight>, new_block: bool) -> Urgency {
        let blocks_left = deadline.map(|deadline| deadline.height().saturating_sub(tip.height()));
        Urgency { blocks_left, new_block }
    }

    /// The feerate that this urgency asks for; in the last blocks up to four times the most urgent estimate.
    pub(super) fn feerate(self, feerates: &Feerates) -> FeeratePerKw {
        let feerate = match self.blocks_left {
            None | Some(145..) => feerates.relaxed,
            Some(19..=144) => feerates.normal,
            Some(7..=18) => feerates.urgent,
            Some(left) => {
                FeeratePerKw::new((feerates.urgent.sat_per_kw() / 2).saturating_mul(8_u32.saturating_sub(left)))
            }
        };
        feerate.max(FeeratePerKw::FLOOR)
    }

    /// The feerate of a replacement of a claim that was made for `old`; `None` where it can wait.
    pub(super) fn replacement(self, feerates: &Feerates, old: FeeratePerKw) -> Option<FeeratePerKw> {
        let target = self.feerate(feerates);
        let grown = |parts: u32| FeeratePerKw::new(old.sat_per_kw().saturating_mul(parts) / 20);
        if target > grown(24) {
            return Some(target);
        }
        let is_pressing = self.new_block && self.blocks_left.is_some_and(|left| left <= PRESSING);
        is_pressing.then(|| target.max(grown(25)))
    }
}

/// The least that a replacement pays: the old fee and the relay feerate for its own weight (BIP 125, rules 3 and 4).
pub(super) fn replacement_floor(old_fee: Amount, weight: u64) -> Amount {
    old_fee + FeeratePerKw::FLOOR.fee_ceil(weight)
}

/// The fee for `weight` at `feerate`, between `floor` and `limit`; `None` where these leave nothing that relays.
pub(super) fn fee_within(feerate: FeeratePerKw, weight: u64, floor: Amount, limit: Amount) -> Option<Amount> {
    let floor = floor.max(FeeratePerKw::FLOOR.fee_ceil(weight));
    (floor <= limit).then(|| feerate.fee_ceil(weight).clamp(floor, limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEERATES: Feerates = Feerates {
        urgent: FeeratePerKw::new(4_000),
        normal: FeeratePerKw::new(2_000),
        relaxed: FeeratePerKw::new(100),
    };

    fn urgency(left: Option<u32>, new_block: bool) -> Urgency {
        Urgency::new(BlockHeight::new(100), left.map(|left| BlockHeight::new(100 + left)), new_block)
    }

    #[test]
    fn the_nearer_the_deadline_the_higher_the_feerate() {
        let mut last = FeeratePerKw::new(0);
        for left in [None, Some(1_000), Some(144), Some(18), Some(6), Some(3), Some(0)] {
            let feerate = urgency(left, true).feerate(&FEERATES);
            assert!(feerate >= last, "{left:?}");
            assert!(feerate >= FeeratePerKw::FLOOR);
            last = feerate;
        }
        assert_eq!(last, FeeratePerKw::new(16_000));
    }

    #[test]
    fn a_claim_is_replaced_when_it_lags_or_presses() {
        let old = FeeratePerKw::new(2_000);
        assert_eq!(urgency(Some(100), true).replacement(&FEERATES, old), None);
        assert_eq!(urgency(Some(18), true).replacement(&FEERATES, old), Some(FeeratePerKw::new(4_000)));
        let high = FeeratePerKw::new(8_000);
        assert_eq!(urgency(Some(5), false).replacement(&FEERATES, high), None);
        assert_eq!(urgency(Some(5), true).replacement(&FEERATES, high), Some(FeeratePerKw::new(10_000)));
    }

    #[test]
    fn a_fee_never_exceeds_its_limit() {
        let (feerate, sat) = (FeeratePerKw::new(10_000), Amount::from_sat);
        assert_eq!(fee_within(feerate, 1_000, Amount::ZERO, sat(4_000)), Some(sat(4_000)));
        assert_eq!(fee_within(feerate, 1_000, Amount::ZERO, sat(252)), None);
        assert_eq!(fee_within(feerate, 1_000, sat(11_000), sat(20_000)), Some(sat(11_000)));
        assert_eq!(fee_within(feerate, 1_000, sat(11_000), sat(10_999)), None);
    }
}
