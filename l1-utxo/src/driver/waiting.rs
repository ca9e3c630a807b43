//! The mempool over a restart: saved at a clean stop or when asked, read at the start, or from a file that somebody names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bitcoin::Txid;

use super::{Ledger, LedgerError};
use crate::store::pool::{self, Saved, Waiting};

/// What is believed of a file that somebody names (Core: `ImportMempoolOptions`).
#[derive(Debug, Clone, Copy)]
pub struct Import {
    /// The transactions came now, not when the file says.
    pub uses_current_time: bool,
    /// What is added to fees.
    pub applies_deltas: bool,
    /// Which are our own that nobody has fetched.
    pub applies_unbroadcast: bool,
}

impl Import {
    /// Our own file.
    const OURS: Self = Self { uses_current_time: false, applies_deltas: true, applies_unbroadcast: true };
}

impl Ledger {
    /// Core: `LoadMempool`. What does not hold any more is dropped without a word: blocks may have come, or its time.
    pub(super) fn load_mempool(&mut self) {
        let saved = pool::load(&self.dir);
        let count = saved.waiting.len();
        let taken = self.take_in(saved, Import::OURS);
        self.has_loaded_mempool = true;
        if count > 0 {
            tracing::info!(taken, dropped = count - taken, "the mempool was read");
        }
    }

    /// Takes in what a file holds; `false` if it cannot be read or is no saved mempool.
    pub fn import_mempool(&mut self, path: &Path, import: Import) -> bool {
        match pool::read(path) {
            Ok(Some(saved)) => {
                let count = saved.waiting.len();
                let taken = self.take_in(saved, import);
                tracing::info!(path = %path.display(), taken, dropped = count - taken, "a mempool was imported");
                true
            }
            Ok(None) => {
                tracing::warn!(path = %path.display(), "the file to import is no saved mempool, or damaged");
                false
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the mempool to import cannot be read");
                false
            }
        }
    }

    fn take_in(&mut self, saved: Saved, import: Import) -> usize {
        let now = self.now();
        let mut taken = 0;
        for Waiting { transaction, time, delta } in saved.waiting {
            let time = if import.uses_current_time { now } else { time.min(now) };
            if import.applies_deltas {
                self.add_delta(transaction.compute_txid(), delta);
            }
            taken += usize::from(self.with_mempool(|mempool, cx| mempool.restore(transaction, time, cx)));
        }
        if import.applies_deltas {
            saved.deltas.into_iter().for_each(|(txid, delta)| self.add_delta(txid, delta));
        }
        if import.applies_unbroadcast {
            let ours: Vec<Txid> = saved.unbroadcast.into_iter().filter(|txid| self.mempool.contains(txid)).collect();
            if self.has_network {
                ours.iter().for_each(|txid| self.broadcast(txid));
            } else {
                self.unbroadcast = ours;
            }
        }
        taken
    }

    fn add_delta(&mut self, txid: Txid, delta: i64) {
        if delta != 0
            && let Err(error) = self.with_mempool(|mempool, _| mempool.prioritise(txid, delta))
        {
            tracing::debug!(%txid, %error, "a saved priority is not taken");
        }
    }

    /// Writes the mempool to its file, and says where that is. Core: `DumpMempool`.
    pub fn save_mempool(&mut self) -> Result<PathBuf, LedgerError> {
        let deltas = self.mempool.prioritised().filter(|prioritised| prioritised.modified_fee.is_none());
        let deltas = deltas.map(|prioritised| (prioritised.txid, prioritised.delta)).collect();
        let unbroadcast = self.unbroadcast();
        // By chunks parents come before their children.
        let entries = self.mempool.chunks().flat_map(|chunk| chunk.entries);
        let waiting = entries.map(|entry| Waiting {
            transaction: Arc::clone(&entry.transaction),
            time: entry.time,
            delta: entry.delta,
        });
        let saved = Saved { waiting: waiting.collect(), deltas, unbroadcast };
        pool::save(&self.dir, &saved)?;
        Ok(pool::path(&self.dir))
    }

    /// Transactions of our own that nobody has fetched yet.
    pub fn unbroadcast(&mut self) -> Vec<Txid> {
        let known = self.with_network(|machine, _| machine.unbroadcast().copied().collect::<Vec<_>>());
        let mut all = known.unwrap_or_else(|| self.unbroadcast.clone());
        all.retain(|txid| self.mempool.contains(txid));
        all
    }
}
