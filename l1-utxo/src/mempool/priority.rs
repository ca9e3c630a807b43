//! Fees as the owner of the node wants them compared: what is added counts for order, replacement and eviction, and is
//! paid by nobody. Core: `PrioritiseTransaction` in `txmempool.cpp`.

use bitcoin::Txid;

use super::Mempool;
use super::policy::output::is_dust;

/// Why a transaction cannot be given another priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PriorityError {
    /// It makes dust, which only stays out of blocks while it pays nothing.
    #[error("Priority is not supported for transactions with dust outputs.")]
    Dust,
}

/// What the owner adds to one transaction's fee.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prioritised {
    /// The transaction.
    pub txid: Txid,
    /// What is added, in satoshi.
    pub delta: i64,
    /// Its fee with that, in satoshi, if it is here.
    pub modified_fee: Option<i64>,
}

impl Mempool {
    /// Adds `delta` satoshi to what a transaction is said to pay, on top of what was added before; also for one that is to
    /// come.
    pub fn prioritise(&mut self, txid: Txid, delta: i64) -> Result<(), PriorityError> {
        let slot = self.graph.slot(&txid);
        let feerate = self.policy.dust_feerate;
        let makes_dust = |slot| {
            let mut outputs = self.graph.entry(slot).transaction.output.iter();
            outputs.any(|output| is_dust(output, feerate))
        };
        if self.policy.requires_standard && slot.is_some_and(makes_dust) {
            return Err(PriorityError::Dust);
        }
        let sum = self.deltas.get(&txid).copied().unwrap_or(0).saturating_add(delta);
        if sum == 0 {
            self.deltas.remove(&txid);
        } else {
            self.deltas.insert(txid, sum);
        }
        if let Some(slot) = slot {
            self.graph.reprice(slot, sum);
            self.updates += 1;
        }
        if self.policy.checks_itself {
            self.check_itself();
        }
        Ok(())
    }

    /// All that was added, by txid.
    pub fn prioritised(&self) -> impl Iterator<Item = Prioritised> {
        self.deltas.iter().map(|(txid, delta)| Prioritised {
            txid: *txid,
            delta: *delta,
            modified_fee: self.entry(txid).map(super::Entry::modified_fee),
        })
    }
}
