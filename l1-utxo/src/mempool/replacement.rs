//! When transactions may take the place of others: full replace-by-fee, for one and for a parent with its child.
//!
//! Bitcoin Core: `policy/rbf.cpp`, `ReplacementChecks` and `PackageRBFChecks` in `validation.cpp`.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use bitcoin::Txid;

use super::accept::{Candidate, feerate};
use super::cluster::{FeeSize, Graph, Plan, Slot, compare_diagrams};
use super::error::Rejection;
use super::package::PackageError;
use super::policy::fee_at;

/// Clusters that one replacement may touch directly.
const MAX_REPLACEMENT_CLUSTERS: usize = 100;

/// What one candidate would remove, its conflicts' descendants included; it must pay for all of it and for itself.
pub(super) fn removals(
    graph: &Graph,
    candidate: &Candidate,
    incremental_feerate: u64,
) -> Result<BTreeSet<Slot>, Rejection> {
    if candidate.conflicts.is_empty() {
        return Ok(BTreeSet::new());
    }
    let (txid, sibling) = (candidate.txid, candidate.sibling_eviction);
    let removed = removed_with(graph, &candidate.conflicts).map_err(|TooMany(clusters)| {
        Rejection::TooManyReplacements { txid, clusters, limit: MAX_REPLACEMENT_CLUSTERS, sibling }
    })?;
    let size = FeeSize { fee: candidate.modified_fee(), weight: candidate.vsize() };
    pays_for(graph, &removed, size, incremental_feerate).map_err(|shortage| match shortage {
        Shortage::Less { fee, replaced } => Rejection::LessFees { txid, fee, replaced, sibling },
        Shortage::NotEnough { additional, required } => {
            Rejection::NotEnoughAdditionalFees { txid, additional, required, sibling }
        }
    })?;
    Ok(removed)
}

/// Miners must gain at every size of a block, and the candidate must not spend what it removes.
pub(super) fn check_gain(graph: &Graph, candidate: &Candidate, plan: &Plan) -> Result<(), Rejection> {
    if candidate.conflicts.is_empty() {
        return Ok(());
    }
    if !improves_diagram(graph, plan) {
        return Err(Rejection::DiagramNotImproved);
    }
    let ancestors = graph.ancestors(&candidate.parents);
    if let Some(conflict) = candidate.conflicts.iter().find(|slot| ancestors.contains(slot)) {
        let conflicting = graph.entry(*conflict).txid;
        return Err(Rejection::SpendsConflicting { txid: candidate.txid, conflicting });
    }
    Ok(())
}

/// What a package would remove. It must be a parent with its child, without relatives here, and the child must pay for the
/// parent. `fee` and `vsize` are those of both together.
pub(super) fn package_removals(
    graph: &Graph,
    candidates: &[Candidate],
    fee: i64,
    vsize: u64,
    incremental_feerate: u64,
) -> Result<BTreeSet<Slot>, PackageError> {
    let [parent, child] = candidates else {
        return Err(PackageError::RbfShape);
    };
    if candidates.iter().any(|candidate| !candidate.parents.is_empty()) {
        return Err(PackageError::RbfAncestors);
    }
    let txid = child.txid;
    let conflicts: BTreeSet<Slot> = candidates.iter().flat_map(|candidate| &candidate.conflicts).copied().collect();
    let removed = removed_with(graph, &conflicts).map_err(|TooMany(clusters)| PackageError::RbfTooMany {
        txid,
        clusters,
        limit: MAX_REPLACEMENT_CLUSTERS,
    })?;
    let size = FeeSize { fee, weight: vsize };
    pays_for(graph, &removed, size, incremental_feerate)
        .map_err(|shortage| PackageError::RbfFees(shortage.describe(&txid)))?;
    let alone = FeeSize { fee: parent.modified_fee(), weight: parent.vsize() };
    if size.compare_feerate(alone) != Ordering::Greater {
        let (package, parent) = (feerate(size.fee, size.weight), feerate(alone.fee, alone.weight));
        return Err(PackageError::RbfFeerate { package, parent });
    }
    Ok(removed)
}

/// Whether the clusters to be are better at some size of a block and worse at none.
pub(super) fn improves_diagram(graph: &Graph, plan: &Plan) -> bool {
    compare_diagrams(&plan.chunks(), &graph.replaced_chunks(plan)) == Some(Ordering::Greater)
}

/// The conflicts are in so many clusters.
struct TooMany(usize);

/// The conflicts with their descendants (Core: `GetEntriesForConflicts`).
fn removed_with(graph: &Graph, conflicts: &BTreeSet<Slot>) -> Result<BTreeSet<Slot>, TooMany> {
    let clusters: BTreeSet<_> = conflicts.iter().map(|slot| graph.entry(*slot).cluster).collect();
    if clusters.len() > MAX_REPLACEMENT_CLUSTERS {
        return Err(TooMany(clusters.len()));
    }
    let conflicts: Vec<Slot> = conflicts.iter().copied().collect();
    Ok(graph.descendants(&conflicts))
}

/// How a replacement pays too little, in satoshi.
enum Shortage {
    Less { fee: i64, replaced: i64 },
    NotEnough { additional: i64, required: u64 },
}

impl Shortage {
    fn describe(&self, txid: &Txid) -> String {
        match *self {
            Self::Less { fee, replaced } => super::error::less_fees(txid, fee, replaced),
            Self::NotEnough { additional, required } => super::error::not_enough_fees(txid, additional, required),
        }
    }
}

/// Core's `PaysForRBF`; the size's weight is in virtual bytes here.
fn pays_for(graph: &Graph, removed: &BTreeSet<Slot>, new: FeeSize, incremental_feerate: u64) -> Result<(), Shortage> {
    let replaced: i64 = removed.iter().map(|slot| graph.entry(*slot).modified_fee()).fold(0, i64::saturating_add);
    if new.fee < replaced {
        return Err(Shortage::Less { fee: new.fee, replaced });
    }
    let additional = new.fee.saturating_sub(replaced);
    let required = fee_at(incremental_feerate, new.weight);
    if additional < required.cast_signed() {
        return Err(Shortage::NotEnough { additional, required });
    }
    Ok(())
}
