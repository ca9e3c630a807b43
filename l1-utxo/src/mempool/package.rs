//! What makes a list of transactions a package, whatever is in the mempool.
//!
//! Bitcoin Core: `policy/packages.cpp`.

use std::collections::BTreeSet;
use std::sync::Arc;

use bitcoin::{OutPoint, Transaction, Txid};

use super::error::TrucError;

/// Transactions in a package at most.
pub const MAX_PACKAGE_COUNT: usize = 25;
/// Weight of a package at most.
pub const MAX_PACKAGE_WEIGHT: u64 = 404_000;

/// Why a list of transactions fails as a whole; `Display` is Core's `state.ToString()`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
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
    /// Not all but the last are parents of the last.
    #[error("package-not-child-with-parents")]
    NotChildWithParents,
    /// One of them breaks a rule by itself.
    #[error("transaction failed")]
    TransactionFailed,
    /// One of them does not spend its parent's dust.
    #[error("unspent-dust")]
    UnspentDust,
    /// Together they break a rule of BIP 431.
    #[error("TRUC-violation, {0}")]
    Truc(Box<TrucError>),
    /// With its relatives there would be too many, or too heavy ones.
    #[error("too-large-cluster")]
    TooLargeCluster,
    /// Only a parent with its child may replace others.
    #[error("package RBF failed: package must be 1-parent-1-child")]
    RbfShape,
    /// What replaces others must not have parents in the mempool.
    #[error("package RBF failed: new transaction cannot have mempool ancestors")]
    RbfAncestors,
    /// The conflicts are in too many clusters.
    #[error(
        "package RBF failed: too many potential replacements, rejecting replacement {txid}; too many conflicting \
         clusters ({clusters} > {limit})"
    )]
    RbfTooMany {
        /// The child.
        txid: Txid,
        /// Clusters that are touched.
        clusters: usize,
        /// Clusters that may be.
        limit: usize,
    },
    /// The two do not pay for what they replace and for themselves.
    #[error("package RBF failed: insufficient anti-DoS fees, {0}")]
    RbfFees(String),
    /// The child does not pay for its parent.
    #[error(
        "package RBF failed: package feerate is less than or equal to parent feerate, package feerate {} <= parent \
         feerate is {}", btc_per_kvb(*package), btc_per_kvb(*parent)
    )]
    RbfFeerate {
        /// Of both, in sat/kvB.
        package: i64,
        /// Of the parent alone, in sat/kvB.
        parent: i64,
    },
    /// Miners would not gain at every size of a block.
    #[error("package RBF failed: insufficient feerate: does not improve feerate diagram")]
    RbfDiagram,
}

impl PackageError {
    /// Whether it is about the list, not about one transaction in it (Core: `PCKG_POLICY`).
    pub const fn is_policy(&self) -> bool {
        !matches!(self, Self::TransactionFailed | Self::UnspentDust)
    }
}

/// Core's `CFeeRate::ToString`.
fn btc_per_kvb(sat: i64) -> String {
    format!("{}.{:08} BTC/kvB", sat / 100_000_000, (sat % 100_000_000).abs())
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

/// Core's `IsChildWithParents`: all but the last are parents of the last.
pub fn is_child_with_parents(package: &[Arc<Transaction>]) -> bool {
    let Some((child, parents)) = package.split_last().filter(|(_, parents)| !parents.is_empty()) else {
        return false;
    };
    let spent: BTreeSet<Txid> = child.input.iter().map(|input| input.previous_output.txid).collect();
    parents.iter().all(|parent| spent.contains(&parent.compute_txid()))
}

/// Core's `IsChildWithParentsTree`: and none of the parents spends another.
pub fn is_child_with_parents_tree(package: &[Arc<Transaction>]) -> bool {
    if !is_child_with_parents(package) {
        return false;
    }
    let parents = &package[..package.len() - 1];
    let txids: BTreeSet<Txid> = parents.iter().map(|parent| parent.compute_txid()).collect();
    let mut inputs = parents.iter().flat_map(|parent| &parent.input);
    !inputs.any(|input| txids.contains(&input.previous_output.txid))
}
