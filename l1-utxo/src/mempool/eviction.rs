//! Keeping the mempool small and young, and the feerate that coming in costs once it was full.
//!
//! Bitcoin Core: `TrimToSize`, `GetMinFee` and `Expire` in `txmempool.cpp`.

use std::collections::BTreeSet;

use super::Mempool;
use super::accept::feerate;
use super::cluster::Slot;
use super::event::Removal;

/// Seconds in which the rolling feerate halves; faster while the mempool is nearly empty.
const HALF_LIFE: i64 = 12 * 60 * 60;
/// Seconds between two updates of the rolling feerate.
const UPDATE_INTERVAL: i64 = 10;
/// Binary places of the stored feerate, so that many small decays add up to the right one.
const PLACES: u32 = 16;

/// The feerate below which nothing comes in: raised by evictions, decays once a block has come.
#[derive(Debug, Default)]
pub(super) struct RollingFeerate {
    /// sat/kvB, shifted left by [`PLACES`].
    scaled: u64,
    block_since_bump: bool,
    updated: i64,
}

impl RollingFeerate {
    fn feerate(&self) -> u64 {
        (self.scaled + (1 << (PLACES - 1))) >> PLACES
    }

    fn raise(&mut self, feerate: u64) {
        let scaled = feerate.min(u64::MAX >> PLACES) << PLACES;
        if scaled > self.scaled {
            self.scaled = scaled;
            self.block_since_bump = false;
        }
    }

    pub(super) const fn block_connected(&mut self, now: i64) {
        self.block_since_bump = true;
        self.updated = now;
    }
}

impl Mempool {
    /// The feerate in sat/kvB that a transaction must pay because the mempool was full lately; 0 if it was not.
    pub fn rolling_feerate(&self) -> u64 {
        let feerate = self.rolling.feerate();
        if feerate == 0 || !self.rolling.block_since_bump {
            return feerate;
        }
        feerate.max(self.policy.incremental_feerate)
    }

    /// Lets the rolling feerate fall with time.
    pub(super) fn decay(&mut self, now: i64) {
        let elapsed = now - self.rolling.updated;
        if !self.rolling.block_since_bump || self.rolling.scaled == 0 || elapsed <= UPDATE_INTERVAL {
            return;
        }
        let half_life = match self.usage {
            usage if usage < self.policy.max_bytes / 4 => HALF_LIFE / 4,
            usage if usage < self.policy.max_bytes / 2 => HALF_LIFE / 2,
            _ => HALF_LIFE,
        };
        self.rolling.scaled = halved(self.rolling.scaled, elapsed, half_life);
        self.rolling.updated = now;
        if self.rolling.scaled < (self.policy.incremental_feerate << PLACES) / 2 {
            self.rolling.scaled = 0;
        }
    }

    /// Drops what is too old, then what pays worst until the rest fits.
    pub(super) fn limit(&mut self, now: i64) {
        let expired = self.graph.older_than(now - self.policy.expiry);
        if !expired.is_empty() {
            let gone = self.graph.descendants(&expired);
            self.remove(&gone, Removal::Expired);
        }
        while self.usage > self.policy.max_bytes {
            let Some((size, chunk)) = self.graph.worst_chunk() else {
                return;
            };
            let chunk: BTreeSet<Slot> = chunk.iter().copied().collect();
            let paid = u64::try_from(feerate(size.fee, size.weight.div_ceil(4))).unwrap_or(0);
            self.rolling.raise(paid.saturating_add(self.policy.incremental_feerate));
            self.remove(&chunk, Removal::SizeLimit);
        }
    }
}

/// `value · 2^(−elapsed/half_life)`, in integers: the same everywhere.
fn halved(value: u64, elapsed: i64, half_life: i64) -> u64 {
    let elapsed = elapsed.unsigned_abs();
    let half_life = half_life.unsigned_abs().max(1);
    let Ok(halvings) = u32::try_from(elapsed / half_life) else {
        return 0;
    };
    let value = value.checked_shr(halvings).unwrap_or(0);
    // 2^-x for x in [0, 1), as a polynomial in 2^-32 units: the series of exp(-x·ln 2), off by less than 0.02 %.
    const SERIES: [i128; 6] = [4_294_967_296, -2_977_044_472, 1_031_764_991, -238_388_332, 41_309_562, -5_726_720];
    let x = i128::from((elapsed % half_life) << 32) / i128::from(half_life);
    let factor = SERIES.iter().rev().fold(0i128, |sum, term| ((sum * x) >> 32) + term);
    u64::try_from((i128::from(value) * factor) >> 32).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::halved;

    #[test]
    fn decay_halves_and_composes() {
        let start = 1_000_000_000u64;
        assert_eq!(halved(start, 0, 100), start);
        assert_eq!(halved(start, 100, 100), start / 2);
        assert!(halved(start, 50, 100).abs_diff(707_106_781) < 200_000);
        assert!(halved(start, 99, 100).abs_diff(503_477_775) < 200_000);
        assert_eq!(halved(start, i64::MAX, 100), 0);
        let stepped = (0..100).fold(start, |value, _| halved(value, 1, 100));
        assert!(stepped.abs_diff(start / 2) < 500_000, "{stepped}");
    }
}
