//! What a block may create from nothing (Core: `GetBlockSubsidy`).

use bitcoin::Amount;

/// The subsidy of the block at `height`: 50 BTC, halved every `halving_interval` blocks, zero after 64 halvings.
pub fn block_subsidy(height: u32, halving_interval: u32) -> Amount {
    let halvings = height / halving_interval;
    Amount::from_sat(Amount::from_int_btc(50).to_sat().checked_shr(halvings).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_on_the_interval() {
        assert_eq!(block_subsidy(0, 150), Amount::from_int_btc(50));
        assert_eq!(block_subsidy(149, 150), Amount::from_int_btc(50));
        assert_eq!(block_subsidy(150, 150), Amount::from_int_btc(25));
        assert_eq!(block_subsidy(150 * 33 - 1, 150), Amount::from_sat(1));
        assert_eq!(block_subsidy(150 * 33, 150), Amount::ZERO);
        assert_eq!(block_subsidy(u32::MAX, 150), Amount::ZERO);
    }
}
