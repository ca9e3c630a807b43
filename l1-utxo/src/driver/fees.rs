//! What the fee estimator is told of the mempool and of blocks, and when its memory is kept.

use std::time::{Duration, Instant};

use super::ledger::Ledger;
use crate::estimator::Estimator;
use crate::mempool::{Entry, Event, Removal};
use crate::store::estimates;

/// How often the memory is written.
const SAVE_EVERY: Duration = Duration::from_secs(60 * 60);
/// Seconds by which the tip may be old for what comes to say anything (Core: `MAX_FEE_ESTIMATION_TIP_AGE`).
const MAX_TIP_AGE: i64 = 3 * 60 * 60;

/// The estimator, and when its memory was written.
pub(super) struct Fees {
    estimator: Estimator,
    saved_at: Instant,
}

impl Fees {
    pub(super) fn new(estimator: Estimator) -> Self {
        Self { estimator, saved_at: Instant::now() }
    }
}

impl Ledger {
    /// What was seen of fees; `None` where nobody looks at transactions.
    pub fn estimator(&self) -> Option<&Estimator> {
        self.fees.as_ref().map(|fees| &fees.estimator)
    }

    /// Tells what came and went.
    pub(super) fn learn(&mut self, events: &[Event]) {
        let is_current = !events.is_empty() && self.is_current();
        let Some(fees) = &mut self.fees else { return };
        let mempool = &self.mempool;
        for event in events {
            match event {
                Event::Added { txid, .. } => {
                    let says_something =
                        |entry: &&Entry| is_current && entry.came_alone && mempool.parents(entry).next().is_none();
                    if let Some(entry) = mempool.entry(txid).filter(says_something) {
                        let feerate = u128::from(entry.fee.to_sat()) * 1_000 / u128::from(entry.vsize().max(1));
                        fees.estimator.came(*txid, entry.height, u64::try_from(feerate).unwrap_or(u64::MAX));
                    }
                }
                Event::Removed { txid, reason: Removal::Block, .. } => fees.estimator.confirmed(*txid),
                Event::Removed { txid, .. } => fees.estimator.left(txid),
            }
        }
    }

    /// Tells of the block whose transactions went.
    pub(super) fn learn_of_block(&mut self, height: u32) {
        if let Some(fees) = &mut self.fees {
            fees.estimator.block_connected(height);
        }
    }

    /// Whether the chain is at its end, so that what is not confirmed really waits (Core: `IsCurrentForFeeEstimation`).
    fn is_current(&self) -> bool {
        let tip = self.chain.tip_entry();
        let best = self.chain.entry(self.chain.best_header()).height;
        !self.is_initial_download() && i64::from(tip.header.time) >= self.now() - MAX_TIP_AGE && tip.height + 1 >= best
    }

    /// Writes what is remembered, if that is due in less than `within`.
    pub fn save_estimates_within(&mut self, within: Duration) {
        if let Some(fees) = self.fees.as_mut().filter(|fees| fees.saved_at.elapsed() + within >= SAVE_EVERY) {
            fees.saved_at = Instant::now();
            self.save_estimates();
        }
    }

    /// The last of it at a stop: what waits now will not be seen to be confirmed.
    pub(super) fn close_estimates(&mut self) {
        if let Some(fees) = &mut self.fees {
            fees.estimator.give_up_waiting();
        }
        self.save_estimates();
    }

    fn save_estimates(&self) {
        let saved = self.estimator().map_or(Ok(()), |estimator| estimates::save(&self.dir, estimator));
        if let Err(error) = saved {
            tracing::warn!(%error, "fee estimates could not be saved");
        }
    }
}
