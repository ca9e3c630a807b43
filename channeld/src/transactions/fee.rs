//! BOLT 3 "Fees" and "Trimmed Outputs": what a commitment costs, and what it leaves out.

use bitcoin::Amount;

use super::htlc::HtlcDirection;
use super::parameter::CommitmentFormat;
use crate::units::{FeeratePerKw, Msat};

/// The amount of one anchor (BOLT 3): the dust limit of a P2WSH output at 3 sat/vB.
pub const ANCHOR: Amount = Amount::from_sat(330);

/// The weight that each untrimmed HTLC adds to a commitment.
pub const HTLC_OUTPUT_WEIGHT: u64 = 172;

impl CommitmentFormat {
    /// The expected weight of a signed commitment with so many untrimmed HTLCs.
    pub const fn commitment_weight(self, untrimmed_htlcs: usize) -> u64 {
        let base = match self {
            CommitmentFormat::StaticRemotekey => 724,
            CommitmentFormat::Anchors => 1_124,
        };
        base + HTLC_OUTPUT_WEIGHT * untrimmed_htlcs as u64
    }

    /// The base fee of a commitment, which the opener pays.
    pub const fn commitment_fee(self, feerate: FeeratePerKw, untrimmed_htlcs: usize) -> Amount {
        feerate.fee_floor(self.commitment_weight(untrimmed_htlcs))
    }

    /// What the opener pays for both anchors, whether both are there or not.
    pub fn anchors_cost(self) -> Amount {
        match self {
            CommitmentFormat::StaticRemotekey => Amount::ZERO,
            CommitmentFormat::Anchors => Amount::from_sat(2 * ANCHOR.to_sat()),
        }
    }

    /// Everything the opener pays for a commitment: base fee and anchors.
    pub fn opener_cost(self, feerate: FeeratePerKw, untrimmed_htlcs: usize) -> Amount {
        Amount::from_sat(self.commitment_fee(feerate, untrimmed_htlcs).to_sat() + self.anchors_cost().to_sat())
    }

    /// The expected weight of the HTLC transaction: HTLC-timeout for an offered HTLC, HTLC-success for a received one.
    pub const fn htlc_weight(self, direction: HtlcDirection) -> u64 {
        match (self, direction) {
            (CommitmentFormat::StaticRemotekey, HtlcDirection::Offered) => 663,
            (CommitmentFormat::Anchors, HtlcDirection::Offered) => 666,
            (CommitmentFormat::StaticRemotekey, HtlcDirection::Received) => 703,
            (CommitmentFormat::Anchors, HtlcDirection::Received) => 706,
        }
    }

    /// The fee that the HTLC transaction carries itself: with anchors none.
    pub const fn htlc_fee(self, direction: HtlcDirection, feerate: FeeratePerKw) -> Amount {
        match self {
            CommitmentFormat::StaticRemotekey => feerate.fee_floor(self.htlc_weight(direction)),
            CommitmentFormat::Anchors => Amount::ZERO,
        }
    }

    /// Whether an HTLC has no output on a commitment of that feerate and dust limit.
    pub fn is_trimmed(self, direction: HtlcDirection, amount: Msat, feerate: FeeratePerKw, dust_limit: Amount) -> bool {
        let least = dust_limit.to_sat().saturating_add(self.htlc_fee(direction, feerate).to_sat());
        amount.to_amount_floor().to_sat() < least
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of BOLT 3, "Fee Calculation".
    #[test]
    fn example_of_the_specification() {
        let (format, feerate) = (CommitmentFormat::StaticRemotekey, FeeratePerKw::new(5_000));
        let dust_limit = Amount::from_sat(546);
        assert_eq!(format.htlc_fee(HtlcDirection::Offered, feerate), Amount::from_sat(3_315));
        assert_eq!(format.htlc_fee(HtlcDirection::Received, feerate), Amount::from_sat(3_515));
        let trimmed = |direction, msat| format.is_trimmed(direction, Msat::new(msat), feerate, dust_limit);
        assert!(!trimmed(HtlcDirection::Offered, 5_000_000));
        assert!(trimmed(HtlcDirection::Offered, 1_000_000));
        assert!(!trimmed(HtlcDirection::Received, 7_000_000));
        assert!(trimmed(HtlcDirection::Received, 800_000));
        assert_eq!(format.commitment_fee(feerate, 2), Amount::from_sat(5_340));
    }
}
