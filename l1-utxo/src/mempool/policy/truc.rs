//! BIP 431: version 3 transactions are alone, or one parent with one small child.
//!
//! Bitcoin Core: `policy/truc_policy.cpp`.

use std::collections::BTreeSet;

use bitcoin::{Transaction, Txid, Wtxid};

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

/// Another child of the parent, which the candidate may replace if it pays as a replacement must.
pub(in crate::mempool) struct Sibling {
    pub(in crate::mempool) slot: Slot,
    /// The rule that is broken if it stays.
    pub(in crate::mempool) error: Box<TrucError>,
}

/// Checks the rules against the parents in the mempool. `Ok(Some(sibling))`: the parent has another child already.
/// Core: `SingleTRUCChecks`.
pub(in crate::mempool) fn check(graph: &Graph, new: &Candidate<'_>) -> Result<Option<Sibling>, Box<TrucError>> {
    let (txid, wtxid) = (new.txid, new.wtxid);
    for parent in new.parents {
        let parent = graph.entry(*parent);
        let other = Relative { txid: parent.txid, wtxid: parent.wtxid, version: parent.transaction.version.0 };
        check_inheritance(new, other)?;
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

fn check_child(graph: &Graph, new: &Candidate<'_>, slot: Slot) -> Result<Option<Sibling>, Box<TrucError>> {
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
    let error = Box::new(TrucError::TooManyDescendants { txid: parent.txid, wtxid: parent.wtxid });
    // More than one child, or a child with other parents, can only come from a reorg: none of them is evicted then.
    let only = descendants.first().filter(|_| descendants.len() == 1);
    match only {
        Some(sibling) if graph.ancestors(&[*sibling]).len() == 2 => Ok(Some(Sibling { slot: *sibling, error })),
        _ => Err(error),
    }
}

#[derive(Clone, Copy)]
struct Relative {
    txid: Txid,
    wtxid: Wtxid,
    version: i32,
}

fn check_inheritance(new: &Candidate<'_>, parent: Relative) -> Result<(), Box<TrucError>> {
    let (own_is_three, parent_is_three) = (new.version == VERSION, parent.version == VERSION);
    if own_is_three == parent_is_three {
        return Ok(());
    }
    let name = |is_three| if is_three { "version=3" } else { "non-version=3" };
    Err(Box::new(TrucError::Inheritance {
        own: name(own_is_three),
        txid: new.txid,
        wtxid: new.wtxid,
        other: name(parent_is_three),
        parent: parent.txid,
        parent_wtxid: parent.wtxid,
    }))
}

/// Checks the rules for one of several that come together, `place` being its own; `transactions` are all of them, parents
/// first. Core: `PackageTRUCChecks`.
pub(in crate::mempool) fn check_together(
    graph: &Graph,
    views: &[Candidate<'_>],
    transactions: &[&Transaction],
    place: usize,
) -> Result<(), Box<TrucError>> {
    let new = &views[place];
    let (txid, wtxid) = (new.txid, new.wtxid);
    let spends = |transaction: &Transaction, parent: Txid| {
        transaction.input.iter().any(|input| input.previous_output.txid == parent)
    };
    let parents: Vec<&Candidate<'_>> =
        views[..place].iter().filter(|other| spends(transactions[place], other.txid)).collect();
    let relative = |other: &&Candidate<'_>| Relative { txid: other.txid, wtxid: other.wtxid, version: other.version };
    if new.version != VERSION {
        return parents.iter().map(relative).try_for_each(|parent| check_inheritance(new, parent));
    }
    let too_many_ancestors = |txid, wtxid| Err(Box::new(TrucError::TooManyAncestors { txid, wtxid }));
    if new.parents.len() + parents.len() > 1 {
        return too_many_ancestors(txid, wtxid);
    }
    let here = new.parents.first().map(|slot| graph.entry(*slot));
    if here.is_some_and(|parent| !parent.parents.is_empty()) {
        return too_many_ancestors(txid, wtxid);
    }
    let here =
        here.map(|entry| Relative { txid: entry.txid, wtxid: entry.wtxid, version: entry.transaction.version.0 });
    let Some(parent) = here.or_else(|| parents.first().map(relative)) else {
        return Ok(());
    };
    if new.vsize > MAX_CHILD_VSIZE {
        return Err(Box::new(TrucError::ChildTooBig { txid, wtxid, vsize: new.vsize, limit: MAX_CHILD_VSIZE }));
    }
    check_inheritance(new, parent)?;
    let too_many_descendants = TrucError::TooManyDescendants { txid: parent.txid, wtxid: parent.wtxid };
    for (other, view) in transactions.iter().zip(views).enumerate().filter(|(at, _)| *at != place).map(|(_, pair)| pair)
    {
        // Core looks at the inputs in turn, and says what it meets first.
        for input in &other.input {
            if input.previous_output.txid == parent.txid {
                return Err(Box::new(too_many_descendants));
            }
            if input.previous_output.txid == txid {
                return too_many_ancestors(view.txid, view.wtxid);
            }
        }
    }
    if new.parents.first().is_some_and(|slot| !graph.entry(*slot).children.is_empty()) {
        return Err(Box::new(too_many_descendants));
    }
    Ok(())
}
