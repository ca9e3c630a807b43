//! Several transactions tested together, each on top of those before it.
//!
//! Bitcoin Core: `AcceptMultipleTransactions`, `policy/packages.cpp`.

use std::collections::BTreeSet;
use std::sync::Arc;

use bitcoin::{OutPoint, Transaction, Txid};

use super::accept::{Accepted, Context, Origin};
use super::error::Rejection;
use super::{Mempool, Slot};

/// Transactions in a package at most.
pub const MAX_PACKAGE_COUNT: usize = 25;
/// Weight of a package at most.
pub const MAX_PACKAGE_WEIGHT: u64 = 404_000;

/// Why a list of transactions is no package at all; `Display` is Core's reject string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PackageError {
    /// More than [`MAX_PACKAGE_COUNT`].
    #[error("package-too-many-transactions")]
    TooMany,
    /// Heavier than [`MAX_PACKAGE_WEIGHT`].
    #[error("package-too-large")]
    TooLarge,
    /// Two of them have the same txid.
    #[error("package-contains-duplicates")]
    Duplicates,
    /// A child comes before its parent.
    #[error("package-not-sorted")]
    NotSorted,
    /// Two of them spend the same output, or one spends nothing.
    #[error("conflict-in-package")]
    Conflict,
}

/// Core's `IsWellFormedPackage`.
pub fn check_package(transactions: &[Arc<Transaction>]) -> Result<(), PackageError> {
    if transactions.len() > MAX_PACKAGE_COUNT {
        return Err(PackageError::TooMany);
    }
    let weight: u64 = transactions.iter().map(|transaction| transaction.weight().to_wu()).sum();
    if transactions.len() > 1 && weight > MAX_PACKAGE_WEIGHT {
        return Err(PackageError::TooLarge);
    }
    let txids: Vec<Txid> = transactions.iter().map(|transaction| transaction.compute_txid()).collect();
    let mut later: BTreeSet<Txid> = txids.iter().copied().collect();
    if later.len() != txids.len() {
        return Err(PackageError::Duplicates);
    }
    let mut spent: BTreeSet<OutPoint> = BTreeSet::new();
    for (txid, transaction) in txids.iter().zip(transactions) {
        if transaction.input.iter().any(|input| later.contains(&input.previous_output.txid)) {
            return Err(PackageError::NotSorted);
        }
        later.remove(txid);
    }
    for transaction in transactions {
        // Checked whole, then added: a transaction that spends an output twice has a rule of its own.
        if transaction.input.is_empty() || transaction.input.iter().any(|input| spent.contains(&input.previous_output))
        {
            return Err(PackageError::Conflict);
        }
        spent.extend(transaction.input.iter().map(|input| input.previous_output));
    }
    Ok(())
}

impl Mempool {
    /// Tests several transactions in order, without replacements. The list ends with the first refusal, for what comes
    /// after it was not looked at. Nothing is changed.
    pub fn test_package(
        &mut self,
        transactions: &[Arc<Transaction>],
        cx: &Context<'_>,
    ) -> Vec<Result<Accepted, Rejection>> {
        let before = (self.sequence, self.updates);
        let mut outcomes = Vec::new();
        let mut entered: BTreeSet<Slot> = BTreeSet::new();
        for transaction in transactions {
            let outcome = self.enter(Arc::clone(transaction), cx, Origin::Package);
            if let Ok(accepted) = &outcome {
                entered.extend(self.graph.slot(&accepted.txid));
            }
            let refused = outcome.is_err();
            outcomes.push(outcome);
            if refused {
                break;
            }
        }
        self.remove(&entered);
        (self.sequence, self.updates) = before;
        outcomes
    }
}
