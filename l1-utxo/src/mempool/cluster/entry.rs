//! One transaction of the mempool.

use std::sync::Arc;

use bitcoin::{Amount, Transaction, Txid, Wtxid};

use super::linearization::FeeSize;

/// Where an entry lies; reused once the entry is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::mempool) struct Slot(pub(in crate::mempool) u32);

/// Where a cluster lies; reused once the cluster is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::mempool) struct ClusterId(pub(in crate::mempool) u32);

/// A transaction with what the mempool knows of it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The transaction.
    pub transaction: Arc<Transaction>,
    /// Its txid.
    pub txid: Txid,
    /// Its hash with witnesses.
    pub wtxid: Wtxid,
    /// What it pays.
    pub fee: Amount,
    /// What the owner of the node adds to its fee, in satoshi, when it is compared with others (`prioritisetransaction`).
    pub delta: i64,
    /// Its weight, or 20 times its sigop cost if that is more (Core: `GetSigOpsAdjustedWeight`).
    pub weight: u64,
    /// Its sigop cost as blocks count it.
    pub sigops: u64,
    /// When it came, in seconds since 1970.
    pub time: i64,
    /// The height of the chain when it came.
    pub height: u32,
    /// Whether it passed every rule by itself, neither in a package nor back from a block: what fee estimates learn from.
    pub came_alone: bool,
    /// Whether it spends a coinbase: only these may become immature in a reorg.
    pub spends_coinbase: bool,
    /// Estimate of the memory it takes, in bytes.
    pub usage: usize,
    pub(in crate::mempool) parents: Vec<Slot>,
    pub(in crate::mempool) children: Vec<Slot>,
    pub(in crate::mempool) cluster: ClusterId,
}

impl Entry {
    /// Virtual size: weight in units of four, rounded up.
    pub const fn vsize(&self) -> u64 {
        self.weight.div_ceil(4)
    }

    /// What it pays as far as comparisons go, in satoshi.
    pub fn modified_fee(&self) -> i64 {
        self.fee.to_sat().cast_signed().saturating_add(self.delta)
    }

    /// Fee and weight for comparisons.
    pub fn size(&self) -> FeeSize {
        FeeSize { fee: self.modified_fee(), weight: self.weight }
    }
}

/// An estimate of the memory that a transaction and its places in the indexes take (Core: `DynamicMemoryUsage`).
pub(in crate::mempool) fn memory_usage(transaction: &Transaction) -> usize {
    const PER_ENTRY: usize = size_of::<Entry>() + size_of::<Transaction>() + 320;
    const PER_INPUT: usize = size_of::<bitcoin::TxIn>() + 2 * size_of::<bitcoin::OutPoint>() + 48;
    const PER_OUTPUT: usize = size_of::<bitcoin::TxOut>() + 16;
    let scripts: usize = transaction.input.iter().map(|input| input.script_sig.len() + input.witness.size()).sum();
    let outputs: usize = transaction.output.iter().map(|output| output.script_pubkey.len()).sum();
    PER_ENTRY + transaction.input.len() * PER_INPUT + transaction.output.len() * PER_OUTPUT + scripts + outputs
}
