//! Unconfirmed transactions: which are taken, how they hang together, which would be mined first, which go when space ends.
//!
//! Knows the rules of relay and replacement, clusters and their chunks. It never looks at a clock or a store (both come in
//! as a [`Context`]), never changes the chain, and nothing it does for one transaction grows with the number of others.
//! Bitcoin Core: `MemPoolAccept` in `validation.cpp`, `txmempool.cpp`, `txgraph.cpp`, `policy/`.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod accept;
mod cluster;
mod error;
mod eviction;
mod package;
pub mod policy;
mod reorg;
mod replacement;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use bitcoin::{OutPoint, Transaction, Txid};

use crate::chain::Coin;
use cluster::{Graph, Plan, Slot};
use eviction::RollingFeerate;

pub use accept::{Accepted, Context};
pub use cluster::{Entry, FeeSize, MAX_CLUSTER_COUNT, MAX_CLUSTER_WEIGHT};
pub use error::{Rejection, ScriptFailure, TrucError};
pub use package::{MAX_PACKAGE_COUNT, PackageError, check_package};
pub use policy::Policy;

/// The unconfirmed transactions of a node.
#[derive(Debug)]
pub struct Mempool {
    graph: Graph,
    policy: Policy,
    rolling: RollingFeerate,
    usage: usize,
    vsize: u64,
    fees: u64,
    sequence: u64,
    updates: u64,
}

/// What one transaction's relatives sum up to, itself included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Family {
    /// How many.
    pub count: usize,
    /// Their virtual sizes together.
    pub vsize: u64,
    /// Their fees together, in satoshi.
    pub fees: u64,
}

/// A chunk as a block template takes it: all or nothing.
#[derive(Debug)]
pub struct ChunkView<'a> {
    /// Names its cluster: once a chunk is left out, the later ones of its cluster must be too.
    pub cluster: u32,
    /// Fee and weight of all of it.
    pub size: FeeSize,
    /// Its transactions, parents first.
    pub entries: Vec<&'a Entry>,
}

impl Mempool {
    /// An empty mempool.
    pub fn new(policy: Policy) -> Self {
        Self {
            graph: Graph::default(),
            policy,
            rolling: RollingFeerate::default(),
            usage: 0,
            vsize: 0,
            fees: 0,
            sequence: 1,
            updates: 0,
        }
    }

    /// The rules it was made with.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// How many transactions.
    pub fn len(&self) -> usize {
        self.graph.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Estimate of the memory it takes, in bytes.
    pub const fn usage(&self) -> usize {
        self.usage
    }

    /// The virtual sizes of all transactions together.
    pub const fn vsize(&self) -> u64 {
        self.vsize
    }

    /// The fees of all transactions together, in satoshi.
    pub const fn fees(&self) -> u64 {
        self.fees
    }

    /// Counts every transaction that came or went (ZMQ's and `getrawmempool`'s sequence).
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Counts the changes that may call for a new block template.
    pub const fn updates(&self) -> u64 {
        self.updates
    }

    /// Whether the transaction is here.
    pub fn contains(&self, txid: &Txid) -> bool {
        self.graph.slot(txid).is_some()
    }

    /// A transaction, if it is here.
    pub fn entry(&self, txid: &Txid) -> Option<&Entry> {
        self.graph.slot(txid).map(|slot| self.graph.entry(slot))
    }

    /// The transaction here that spends this output.
    pub fn spender(&self, outpoint: &OutPoint) -> Option<&Entry> {
        self.graph.spender(outpoint).map(|slot| self.graph.entry(slot))
    }

    /// Every transaction, by txid.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.graph.iter().map(|(_, entry)| entry)
    }

    /// An output of a transaction here as a coin, made in the block after `height`.
    pub fn coin(&self, outpoint: &OutPoint, height: u32) -> Option<Coin> {
        let entry = self.entry(&outpoint.txid)?;
        let output = entry.transaction.output.get(usize::try_from(outpoint.vout).ok()?)?;
        Some(Coin { output: output.clone(), height: height + 1, is_coinbase: false })
    }

    /// Its ancestors here, itself included.
    pub fn ancestors(&self, entry: &Entry) -> Family {
        self.family(self.graph.ancestors(&self.slots(entry)))
    }

    /// Its descendants here, itself included.
    pub fn descendants(&self, entry: &Entry) -> Family {
        self.family(self.graph.descendants(&self.slots(entry)))
    }

    /// Its direct parents here.
    pub fn parents<'a>(&'a self, entry: &'a Entry) -> impl Iterator<Item = &'a Entry> {
        entry.parents.iter().map(|slot| self.graph.entry(*slot))
    }

    /// Its direct children here.
    pub fn children<'a>(&'a self, entry: &'a Entry) -> impl Iterator<Item = &'a Entry> {
        entry.children.iter().map(|slot| self.graph.entry(*slot))
    }

    /// Fee and weight of the chunk it is in.
    pub fn chunk(&self, entry: &Entry) -> FeeSize {
        self.graph.slot(&entry.txid).map_or_else(|| entry.size(), |slot| self.graph.chunk_of(slot))
    }

    /// The chunks from best to worst.
    pub fn chunks(&self) -> impl Iterator<Item = ChunkView<'_>> {
        self.graph.best_chunks().map(|(cluster, size, slots)| ChunkView {
            cluster: cluster.0,
            size,
            entries: slots.iter().map(|slot| self.graph.entry(*slot)).collect(),
        })
    }

    /// Whether the mining order is known to be the best one; large clusters are ordered well, not provably best.
    pub const fn is_optimal(&self) -> bool {
        self.graph.is_optimal()
    }

    /// The feerate in sat/kvB of what would be mined last within `blocks` full blocks; `None` if all of it fits.
    pub fn feerate_within(&self, blocks: u32) -> Option<u64> {
        const BLOCK_WEIGHT: u64 = 3_992_000;
        let mut weight = 0;
        let (_, size, _) = self.graph.best_chunks().find(|(_, size, _)| {
            weight += size.weight;
            weight > BLOCK_WEIGHT * u64::from(blocks)
        })?;
        Some(size.fee * 1_000 / size.weight.div_ceil(4).max(1))
    }

    fn slots(&self, entry: &Entry) -> Vec<Slot> {
        self.graph.slot(&entry.txid).into_iter().collect()
    }

    fn family(&self, slots: BTreeSet<Slot>) -> Family {
        let entries = slots.iter().map(|slot| self.graph.entry(*slot));
        entries.fold(Family::default(), |sum, entry| Family {
            count: sum.count + 1,
            vsize: sum.vsize + entry.vsize(),
            fees: sum.fees + entry.fee.to_sat(),
        })
    }

    /// Makes a planned change and keeps the sums.
    fn change(&mut self, plan: Plan, removed: &BTreeSet<Slot>, newcomer: Option<Entry>) -> Vec<Arc<Transaction>> {
        if let Some(entry) = &newcomer {
            self.usage += entry.usage;
            self.vsize += entry.vsize();
            self.fees += entry.fee.to_sat();
            self.sequence += 1;
        }
        let gone = self.graph.apply(plan, removed, newcomer);
        self.updates += 1;
        for entry in &gone {
            self.usage -= entry.usage;
            self.vsize -= entry.vsize();
            self.fees -= entry.fee.to_sat();
            self.sequence += 1;
        }
        gone.into_iter().map(|entry| entry.transaction).collect()
    }

    /// Removes a set that is closed under descendants, or under ancestors.
    fn remove(&mut self, gone: &BTreeSet<Slot>) {
        if gone.is_empty() {
            return;
        }
        let plan = self.graph.plan(gone, None).expect("parts of a cluster within its limits are within them, too");
        self.change(plan, gone, None);
    }
}

/// Txid and output index of every input.
fn outpoints(transaction: &Transaction) -> impl Iterator<Item = OutPoint> {
    transaction.input.iter().map(|input| input.previous_output)
}
