//! BIP 431: version 3 transactions are alone, or one parent with one small child.
//!
//! Bitcoin Core: `policy/truc_policy.cpp`.

use std::collections::BTreeSet;

use bitcoin::{Txid, Wtxid};

use crate::mempool::cluster::{Graph, Slot};
use crate::mempool::error::TrucError;

const VERSION: i32 = 3;
const MAX_VSIZE: u64 = 10_000;
const MAX_CHILD_VSIZE: u64 = 1_000;

/// The transaction that is to come.
pub(in crate::mempool) struct Candidate<'a> {
    pub(in crate::mempool) version: i32,
    pub(in crate::mempool) txid: Txid,
    pub(in crate::mempool) wtxid: Wtxid,
    pub(in crate::mempool) vsize: u64,
    pub(in crate::mempool) parents: &'a [Slot],
    pub(in crate::mempool) conflicts: &'a BTreeSet<Slot>,
}

/// Checks the rules against the parents in the mempool. `Ok(Some(sibling))`: the parent has another child already, which
/// the candidate may replace if it pays as a replacement must.
pub(in crate::mempool) fn check(graph: &Graph, new: &Candidate<'_>) -> Result<Option<Slot>, Box<TrucError>> {
    let (txid, wtxid) = (new.txid, new.wtxid);
    for parent in new.parents {
        let parent = graph.entry(*parent);
        let parent_is_three = parent.transaction.version.0 == VERSION;
        if parent_is_three != (new.version == VERSION) {
            let name = |is_three| if is_three { "version=3" } else { "non-version=3" };
            return Err(Box::new(TrucError::Inheritance {
                own: name(!parent_is_three),
                txid,
                wtxid,
                other: name(parent_is_three),
                parent: parent.txid,
                parent_wtxid: parent.wtxid,
            }));
        }
    }
    if new.version != VERSION {
        return Ok(None);
    }
    if new.vsize > MAX_VSIZE {
        return Err(Box::new(TrucError::TooBig { txid, wtxid, vsize: new.vsize, limit: MAX_VSIZE }));
    }
    match new.parents {
        [] => Ok(None),
        [parent] => check_child(graph, new, *parent),
        _ => Err(Box::new(TrucError::TooManyAncestors { txid, wtxid })),
    }
}

fn check_child(graph: &Graph, new: &Candidate<'_>, slot: Slot) -> Result<Option<Slot>, Box<TrucError>> {
    let (txid, wtxid) = (new.txid, new.wtxid);
    let parent = graph.entry(slot);
    if !parent.parents.is_empty() {
        return Err(Box::new(TrucError::TooManyAncestors { txid, wtxid }));
    }
    if new.vsize > MAX_CHILD_VSIZE {
        return Err(Box::new(TrucError::ChildTooBig { txid, wtxid, vsize: new.vsize, limit: MAX_CHILD_VSIZE }));
    }
    let mut descendants = graph.descendants(&[slot]);
    descendants.remove(&slot);
    if descendants.is_empty() || descendants.iter().any(|child| new.conflicts.contains(child)) {
        return Ok(None);
    }
    // More than one child, or a child with other parents, can only come from a reorg: none of them is evicted then.
    let only = descendants.first().filter(|_| descendants.len() == 1);
    match only {
        Some(sibling) if graph.ancestors(&[*sibling]).len() == 2 => Ok(Some(*sibling)),
        _ => Err(Box::new(TrucError::TooManyDescendants { txid: parent.txid, wtxid: parent.wtxid })),
    }
}
