//! Rows of the index of coin statistics: what was added up to a block, as numbers of fixed length and the running hash.

use crate::chain::{CoinTotals, MuHash};
use crate::store::Malformed;

/// Seven numbers of 8 bytes and three of 16; the hash follows.
const NUMBERS: usize = 7 * 8 + 3 * 16;

pub(super) fn encode(totals: &CoinTotals) -> Vec<u8> {
    let mut row = Vec::with_capacity(NUMBERS + 768);
    for number in [
        totals.txouts,
        totals.bogosize,
        totals.total_amount,
        totals.subsidy,
        totals.unspendable_genesis,
        totals.unspendable_scripts,
        totals.unclaimed_rewards,
    ] {
        row.extend_from_slice(&number.to_le_bytes());
    }
    for number in [totals.prevout_spent, totals.new_outputs, totals.coinbase] {
        row.extend_from_slice(&number.to_le_bytes());
    }
    row.extend_from_slice(&totals.hash.to_bytes());
    row
}

pub(super) fn decode(row: &[u8]) -> Result<CoinTotals, Malformed> {
    let malformed = || Malformed("coin statistics");
    let (numbers, hash) = row.split_at_checked(NUMBERS).ok_or_else(malformed)?;
    let hash = MuHash::from_bytes(hash).ok_or_else(malformed)?;
    let (short, long) = numbers.split_at(7 * 8);
    let mut short = short.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
    let mut short = || short.next().ok_or_else(malformed);
    let mut long = long.as_chunks::<16>().0.iter().map(|bytes| u128::from_le_bytes(*bytes));
    let mut long = || long.next().ok_or_else(malformed);
    Ok(CoinTotals {
        hash,
        txouts: short()?,
        bogosize: short()?,
        total_amount: short()?,
        subsidy: short()?,
        unspendable_genesis: short()?,
        unspendable_scripts: short()?,
        unclaimed_rewards: short()?,
        prevout_spent: long()?,
        new_outputs: long()?,
        coinbase: long()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_hold_every_figure() {
        let mut hash = MuHash::new();
        hash.insert(b"made");
        let totals = CoinTotals {
            hash,
            txouts: 1,
            bogosize: 2,
            total_amount: 3,
            subsidy: 4,
            unspendable_genesis: 5,
            unspendable_scripts: 6,
            unclaimed_rewards: 7,
            prevout_spent: 8,
            new_outputs: u128::MAX,
            coinbase: 10,
        };
        let row = encode(&totals);
        assert_eq!(row.len(), NUMBERS + 384);
        assert_eq!(format!("{:?}", decode(&row).unwrap()), format!("{totals:?}"));
        assert!((0..row.len()).all(|length| decode(&row[..length]).is_err()));
    }
}
