//! Unconfirmed transactions: which are taken, how they hang together, which would be mined first, which go when space ends.
//!
//! Knows the rules of relay and replacement, clusters and their chunks. It never looks at a clock or a store (both come in
//! as a [`Context`]), never changes the chain, and nothing it does for one transaction grows with the number of others.
//! Bitcoin Core: `MemPoolAccept` in `validation.cpp`, `txmempool.cpp`, `txgraph.cpp`, `policy/`.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod accept;
mod cluster;
mod error;
mod event;
mod eviction;
mod package;
pub mod policy;
mod priority;
mod reorg;
mod replacement;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::{OutPoint, Transaction, Txid, Wtxid};

use crate::chain::Coin;
use cluster::{Graph, Plan, Slot};
use eviction::RollingFeerate;

pub use accept::{Accepted, Context, PackageReport, PackageResult};
pub use cluster::{ClusterLimits, Entry, FeeSize, MAX_CLUSTER_COUNT};
pub use error::{Rejection, ScriptFailure, TrucError};
pub use event::{Event, Removal};
pub use package::{MAX_PACKAGE_COUNT, PackageError, check_package, is_child_with_parents_tree};
pub use policy::Policy;
pub use priority::{Prioritised, PriorityError};

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
    /// What the owner adds to fees, also of transactions that are not here.
    deltas: BTreeMap<Txid, i64>,
    /// What happened since it was asked last.
    events: Vec<Event>,
}

/// What one transaction's relatives sum up to, itself included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Family {
    /// How many.
    pub count: usize,
    /// Their virtual sizes together.
    pub vsize: u64,
    /// Their fees together, in satoshi, with what the owner adds.
    pub fees: i64,
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
            graph: Graph::new(policy.cluster_limits),
            policy,
            rolling: RollingFeerate::default(),
            usage: 0,
            vsize: 0,
            fees: 0,
            sequence: 1,
            updates: 0,
            deltas: BTreeMap::new(),
            events: Vec::new(),
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

    /// The same by the hash with witnesses, as peers ask for it.
    pub fn entry_by_wtxid(&self, wtxid: &Wtxid) -> Option<&Entry> {
        self.graph.slot_by_wtxid(wtxid).map(|slot| self.graph.entry(slot))
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

    /// Sums of its ancestors here, itself included.
    pub fn ancestors(&self, entry: &Entry) -> Family {
        self.family(self.graph.ancestors(&self.slots(entry)))
    }

    /// Sums of its descendants here, itself included.
    pub fn descendants(&self, entry: &Entry) -> Family {
        self.family(self.graph.descendants(&self.slots(entry)))
    }

    /// Its ancestors here, without itself.
    pub fn ancestor_entries(&self, entry: &Entry) -> Vec<&Entry> {
        self.others(entry, self.graph.ancestors(&self.slots(entry)))
    }

    /// Its descendants here, without itself.
    pub fn descendant_entries(&self, entry: &Entry) -> Vec<&Entry> {
        self.others(entry, self.graph.descendants(&self.slots(entry)))
    }

    fn others(&self, entry: &Entry, slots: BTreeSet<Slot>) -> Vec<&Entry> {
        slots.iter().map(|slot| self.graph.entry(*slot)).filter(|other| other.txid != entry.txid).collect()
    }

    /// The chunks of its cluster, in mining order.
    pub fn cluster(&self, entry: &Entry) -> Vec<ChunkView<'_>> {
        let cluster = self.graph.cluster(entry.cluster);
        let mut start = 0;
        let chunks = cluster.chunks.iter().map(|chunk| {
            let slots = &cluster.order[start..start + chunk.len];
            start += chunk.len;
            let entries = slots.iter().map(|slot| self.graph.entry(*slot)).collect();
            ChunkView { cluster: entry.cluster.0, size: chunk.size, entries }
        });
        chunks.collect()
    }

    /// What happened since this was asked last, in order.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
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

    /// Sorts entries as they would be mined, parents before children.
    pub fn mining_place(&self, entry: &Entry) -> impl Ord + use<> {
        self.graph.slot(&entry.txid).map(|slot| self.graph.place_of(slot))
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
        u64::try_from(accept::feerate(size.fee, size.weight.div_ceil(4))).ok()
    }

    fn slots(&self, entry: &Entry) -> Vec<Slot> {
        self.graph.slot(&entry.txid).into_iter().collect()
    }

    fn family(&self, slots: BTreeSet<Slot>) -> Family {
        let entries = slots.iter().map(|slot| self.graph.entry(*slot));
        entries.fold(Family::default(), |sum, entry| Family {
            count: sum.count + 1,
            vsize: sum.vsize + entry.vsize(),
            fees: sum.fees.saturating_add(entry.modified_fee()),
        })
    }

    /// Makes a planned change and keeps the sums. What goes, goes for `reason`.
    fn change(&mut self, plan: Plan, removed: &BTreeSet<Slot>, newcomers: Vec<(Entry, Vec<usize>)>, reason: Removal) {
        let (gone, added) = self.graph.apply(plan, removed, newcomers);
        self.updates += 1;
        for entry in gone {
            self.usage -= entry.usage;
            self.vsize -= entry.vsize();
            self.fees -= entry.fee.to_sat();
            self.events.push(Event::Removed { txid: entry.txid, reason, sequence: self.sequence });
            self.sequence += 1;
        }
        for slot in added {
            let entry = self.graph.entry(slot);
            self.usage += entry.usage;
            self.vsize += entry.vsize();
            self.fees += entry.fee.to_sat();
            let (transaction, txid) = (Arc::clone(&entry.transaction), entry.txid);
            self.events.push(Event::Added { transaction, txid, sequence: self.sequence });
            self.sequence += 1;
        }
        if self.policy.checks_itself {
            self.check_itself();
        }
    }

    /// Removes a set that is closed under descendants, or under ancestors.
    fn remove(&mut self, gone: &BTreeSet<Slot>, reason: Removal) {
        if gone.is_empty() {
            return;
        }
        let plan = self.graph.plan(gone, &[]).expect("parts of a cluster within its limits are within them, too");
        self.change(plan, gone, Vec::new(), reason);
    }

    /// Panics unless all that is kept twice agrees. Takes as long as everything is large.
    pub fn check_itself(&self) {
        self.graph.check();
        assert_eq!(self.entries().map(|entry| entry.usage).sum::<usize>(), self.usage, "memory");
        assert_eq!(self.entries().map(Entry::vsize).sum::<u64>(), self.vsize, "sizes");
        assert_eq!(self.entries().map(|entry| entry.fee.to_sat()).sum::<u64>(), self.fees, "fees");
        for entry in self.entries() {
            assert_eq!(entry.delta, self.deltas.get(&entry.txid).copied().unwrap_or(0), "what the owner adds");
        }
    }
}

/// Txid and output index of every input.
fn outpoints(transaction: &Transaction) -> impl Iterator<Item = OutPoint> {
    transaction.input.iter().map(|input| input.previous_output)
}
