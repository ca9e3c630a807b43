//! When a transaction may take the place of others: full replace-by-fee.
//!
//! Bitcoin Core: `policy/rbf.cpp`, `ReplacementChecks` in `validation.cpp`.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::accept::Candidate;
use super::cluster::{Graph, Plan, Slot, compare_diagrams};
use super::error::Rejection;
use super::policy::fee_at;

/// Clusters that one replacement may touch directly.
const MAX_REPLACEMENT_CLUSTERS: usize = 100;

/// What the candidate would remove, its conflicts' descendants included; it must pay for all of it and for itself.
pub(super) fn removals(
    graph: &Graph,
    candidate: &Candidate,
    incremental_feerate: u64,
) -> Result<BTreeSet<Slot>, Rejection> {
    if candidate.conflicts.is_empty() {
        return Ok(BTreeSet::new());
    }
    let (txid, sibling) = (candidate.txid, candidate.sibling_eviction);
    let clusters: BTreeSet<_> = candidate.conflicts.iter().map(|slot| graph.entry(*slot).cluster).collect();
    if clusters.len() > MAX_REPLACEMENT_CLUSTERS {
        let (clusters, limit) = (clusters.len(), MAX_REPLACEMENT_CLUSTERS);
        return Err(Rejection::TooManyReplacements { txid, clusters, limit, sibling });
    }
    let conflicts: Vec<Slot> = candidate.conflicts.iter().copied().collect();
    let removed = graph.descendants(&conflicts);
    let fee = candidate.fee.to_sat();
    let replaced: u64 = removed.iter().map(|slot| graph.entry(*slot).fee.to_sat()).sum();
    let Some(additional) = fee.checked_sub(replaced) else {
        return Err(Rejection::LessFees { txid, fee, replaced, sibling });
    };
    let required = fee_at(incremental_feerate, candidate.vsize());
    if additional < required {
        return Err(Rejection::NotEnoughAdditionalFees { txid, additional, required, sibling });
    }
    Ok(removed)
}

/// Miners must gain at every size of a block, and the candidate must not spend what it removes.
pub(super) fn check_gain(graph: &Graph, candidate: &Candidate, plan: &Plan) -> Result<(), Rejection> {
    if candidate.conflicts.is_empty() {
        return Ok(());
    }
    if compare_diagrams(&plan.chunks(), &graph.replaced_chunks(plan)) != Some(Ordering::Greater) {
        return Err(Rejection::DiagramNotImproved);
    }
    let ancestors = graph.ancestors(&candidate.parents);
    if let Some(conflict) = candidate.conflicts.iter().find(|slot| ancestors.contains(slot)) {
        let conflicting = graph.entry(*conflict).txid;
        return Err(Rejection::SpendsConflicting { txid: candidate.txid, conflicting });
    }
    Ok(())
}
