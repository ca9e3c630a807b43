//! Several transactions: tested together, or submitted as a child with its parents that pays for them.
//!
//! Bitcoin Core: `AcceptMultipleTransactions`, `PackageRBFChecks` and `AcceptPackage` in `validation.cpp`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::{Amount, Transaction, Wtxid};

use super::check::truc_view;
use super::{Accepted, Candidate, Change, Context, Rules, check_max_feerate, feerate, verify_scripts};
use crate::mempool::Mempool;
use crate::mempool::cluster::{Newcomer, Plan, Slot};
use crate::mempool::error::Rejection;
use crate::mempool::event::Removal;
use crate::mempool::package::{PackageError, check_package, is_child_with_parents};
use crate::mempool::policy::truc;
use crate::mempool::replacement;

/// What became of each transaction of a list, and why the list as a whole failed if it did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackageReport {
    /// Why not all of it is in the mempool, or would be.
    pub error: Option<PackageError>,
    /// What is known of each; nothing of those that were not looked at.
    pub results: BTreeMap<Wtxid, PackageResult>,
}

/// What became of one transaction of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PackageResult {
    /// It came in, or would have.
    Accepted(Accepted),
    /// It breaks a rule.
    Refused(Rejection),
    /// It was here already.
    Known {
        /// Its virtual size, adjusted for signature operations.
        vsize: u64,
        /// What it pays.
        fee: Amount,
    },
    /// The same with another witness was here already.
    OtherWitness(Wtxid),
}

impl PackageReport {
    fn failed(error: PackageError) -> Self {
        Self { error: Some(error), results: BTreeMap::new() }
    }

    fn with(mut self, wtxid: Wtxid, rejection: Rejection) -> Self {
        self.results.insert(wtxid, PackageResult::Refused(rejection));
        self
    }
}

/// Candidates that passed, and what taking them in changes.
struct Several {
    candidates: Vec<Candidate>,
    change: Change,
    accepted: Vec<Accepted>,
}

impl Mempool {
    /// Tests several transactions, each on top of those before it, without replacements. Nothing is changed.
    pub fn test_package(&mut self, transactions: &[Arc<Transaction>], cx: &Context<'_>) -> PackageReport {
        self.decay(cx.now);
        let mut report = PackageReport::default();
        match self.examine_several(transactions, cx, Rules::TEST, &mut report) {
            Ok(_) => report,
            Err(failed) => PackageReport { results: merged(report.results, failed.results), ..failed },
        }
    }

    /// Takes in a child with its parents, or one transaction alone; none may pay more than `max_feerate` (sat/kvB).
    /// Those that stand by themselves come in even if the others do not. Core: `ProcessNewPackage`.
    pub fn submit_package(
        &mut self,
        package: &[Arc<Transaction>],
        max_feerate: Option<u64>,
        cx: &Context<'_>,
    ) -> PackageReport {
        if let Err(error) = check_package(package) {
            return PackageReport::failed(error);
        }
        if package.len() > 1 && !is_child_with_parents(package) {
            return PackageReport::failed(PackageError::NotChildWithParents);
        }
        self.decay(cx.now);
        let mut report = PackageReport::default();
        let mut refused: BTreeMap<Wtxid, PackageResult> = BTreeMap::new();
        let mut together: Vec<Arc<Transaction>> = Vec::new();
        for transaction in package {
            let wtxid = transaction.compute_wtxid();
            match self.submit_alone(transaction, max_feerate, cx) {
                PackageResult::Refused(rejection) => {
                    // Others may pay for it, or be its parents; anything else is final.
                    let may_be_mended = rejection.is_reconsiderable() || rejection.is_missing_inputs();
                    if package.len() > 1 && may_be_mended {
                        together.push(Arc::clone(transaction));
                    } else {
                        report.error = Some(PackageError::TransactionFailed);
                    }
                    refused.insert(wtxid, PackageResult::Refused(rejection));
                }
                settled => drop(report.results.insert(wtxid, settled)),
            }
        }
        if report.error.is_none() && !together.is_empty() {
            let outcome = self.submit_together(&together, max_feerate, cx);
            report.error = outcome.error;
            report.results.extend(outcome.results);
        }
        self.limit(cx.now);
        self.report_evicted(package, &mut report);
        report.results = merged(report.results, refused);
        report
    }

    fn submit_alone(
        &mut self,
        transaction: &Arc<Transaction>,
        max_feerate: Option<u64>,
        cx: &Context<'_>,
    ) -> PackageResult {
        if let Some(known) = self.entry(&transaction.compute_txid()) {
            if known.wtxid != transaction.compute_wtxid() {
                return PackageResult::OtherWitness(known.wtxid);
            }
            return PackageResult::Known { vsize: known.vsize(), fee: known.fee };
        }
        match self.enter(Arc::clone(transaction), cx, Rules::alone_of_package(max_feerate)) {
            Ok(accepted) => PackageResult::Accepted(accepted),
            Err(rejection) => PackageResult::Refused(rejection),
        }
    }

    /// Core's `AcceptSubPackage`: a single one was left over, so it is tried once more by itself.
    fn submit_together(
        &mut self,
        transactions: &[Arc<Transaction>],
        max_feerate: Option<u64>,
        cx: &Context<'_>,
    ) -> PackageReport {
        let mut report = PackageReport::default();
        if let [only] = transactions {
            let result = self.submit_alone(only, max_feerate, cx);
            report.error = matches!(result, PackageResult::Refused(_)).then_some(PackageError::TransactionFailed);
            report.results.insert(only.compute_wtxid(), result);
            return report;
        }
        let several = match self.examine_several(transactions, cx, Rules::together(max_feerate), &mut report) {
            Ok(several) => several,
            // What passed so far did not come in for all that.
            Err(failed) => return failed,
        };
        let Several { candidates, change, accepted } = several;
        let entries = candidates.into_iter().map(|candidate| candidate.into_entry(cx)).collect();
        self.change(change.plan, &change.removed, entries, Removal::Replaced);
        let results = accepted.into_iter().map(|accepted| (accepted.wtxid, PackageResult::Accepted(accepted)));
        PackageReport { error: None, results: results.collect() }
    }

    /// What came in may have had to go again at once.
    fn report_evicted(&self, package: &[Arc<Transaction>], report: &mut PackageReport) {
        for transaction in package.iter().filter(|transaction| !self.contains(&transaction.compute_txid())) {
            let wtxid = transaction.compute_wtxid();
            if matches!(report.results.get(&wtxid), Some(result) if !matches!(result, PackageResult::Refused(_))) {
                report.error = Some(PackageError::TransactionFailed);
                report.results.insert(wtxid, PackageResult::Refused(Rejection::MempoolFull));
            }
        }
    }

    /// Core's `AcceptMultipleTransactionsInternal`, up to the change itself. `report` gets those that passed, one by one.
    fn examine_several(
        &self,
        transactions: &[Arc<Transaction>],
        cx: &Context<'_>,
        rules: Rules,
        report: &mut PackageReport,
    ) -> Result<Several, PackageReport> {
        check_package(transactions).map_err(PackageReport::failed)?;
        let candidates = self.check_each(transactions, cx, rules)?;
        for place in 0..candidates.len() {
            let views: Vec<_> = candidates.iter().map(truc_view).collect();
            let lists: Vec<&Transaction> = candidates.iter().map(|candidate| candidate.transaction.as_ref()).collect();
            truc::check_together(&self.graph, &views, &lists, place)
                .map_err(|error| PackageReport::failed(PackageError::Truc(error)))?;
        }
        let (fee, vsize) = candidates.iter().fold((0i64, 0u64), |(fee, vsize), candidate| {
            (fee.saturating_add(candidate.modified_fee()), vsize + candidate.vsize())
        });
        if rules.has_package_feerate
            && let Err(rejection) = self.check_feerate(fee, vsize)
        {
            let last = candidates.last().map_or_else(|| transactions[0].compute_wtxid(), |last| last.wtxid);
            return Err(PackageReport::failed(PackageError::TransactionFailed).with(last, rejection));
        }
        let change = self.plan_several(&candidates, fee, vsize).map_err(PackageReport::failed)?;
        for (place, candidate) in candidates.iter().enumerate() {
            self.check_ephemeral_spends(candidate, &candidates[..place]).map_err(|rejection| {
                PackageReport::failed(PackageError::UnspentDust).with(candidate.wtxid, rejection)
            })?;
        }
        let includes: Vec<Wtxid> = candidates.iter().map(|candidate| candidate.wtxid).collect();
        let none = BTreeSet::new();
        let mut accepted = Vec::with_capacity(candidates.len());
        for (place, candidate) in candidates.iter().enumerate() {
            verify_scripts(candidate, cx.signatures).map_err(|rejection| {
                PackageReport::failed(PackageError::TransactionFailed).with(candidate.wtxid, rejection)
            })?;
            // The first is said to have replaced what all of them did.
            let mut summary = self.summary(candidate, if place == 0 { &change.removed } else { &none });
            if rules.has_package_feerate {
                summary.effective_feerate = feerate(fee, vsize);
                summary.effective_includes.clone_from(&includes);
            }
            report.results.insert(candidate.wtxid, PackageResult::Accepted(summary.clone()));
            accepted.push(summary);
        }
        Ok(Several { candidates, change, accepted })
    }

    fn check_each(
        &self,
        transactions: &[Arc<Transaction>],
        cx: &Context<'_>,
        rules: Rules,
    ) -> Result<Vec<Candidate>, PackageReport> {
        let mut candidates: Vec<Candidate> = Vec::with_capacity(transactions.len());
        for transaction in transactions {
            let checked = self.check(Arc::clone(transaction), cx, rules, &candidates).and_then(|candidate| {
                check_max_feerate(&candidate, rules)?;
                Ok(candidate)
            });
            candidates.push(checked.map_err(|rejection| {
                PackageReport::failed(PackageError::TransactionFailed).with(transaction.compute_wtxid(), rejection)
            })?);
        }
        Ok(candidates)
    }

    fn plan_several(&self, candidates: &[Candidate], fee: i64, vsize: u64) -> Result<Change, PackageError> {
        let newcomers: Vec<Newcomer<'_>> = candidates.iter().map(Candidate::newcomer).collect();
        let plan = |removed: &BTreeSet<Slot>| -> Result<Plan, PackageError> {
            self.graph.plan(removed, &newcomers).map_err(|_| PackageError::TooLargeCluster)
        };
        if candidates.iter().all(|candidate| candidate.conflicts.is_empty()) {
            let removed = BTreeSet::new();
            return Ok(Change { plan: plan(&removed)?, removed });
        }
        let incremental = self.policy.incremental_feerate;
        let removed = replacement::package_removals(&self.graph, candidates, fee, vsize, incremental)?;
        let plan = plan(&removed)?;
        if !replacement::improves_diagram(&self.graph, &plan) {
            return Err(PackageError::RbfDiagram);
        }
        Ok(Change { plan, removed })
    }
}

/// What is in the first wins.
fn merged(
    mut first: BTreeMap<Wtxid, PackageResult>,
    second: BTreeMap<Wtxid, PackageResult>,
) -> BTreeMap<Wtxid, PackageResult> {
    for (wtxid, result) in second {
        first.entry(wtxid).or_insert(result);
    }
    first
}
