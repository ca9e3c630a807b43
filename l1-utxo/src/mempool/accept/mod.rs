//! Whether a transaction may come in, rule by rule in Bitcoin Core's order, so that the reason is Core's.
//!
//! Here: one transaction by itself. In `check`: the rules that do not look at what would be replaced. In `several`: lists
//! of transactions, tested together or submitted as a package. Bitcoin Core: `MemPoolAccept` in `validation.cpp`.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod check;
mod several;

use std::collections::BTreeSet;
use std::sync::Arc;

use bitcoin::{Amount, OutPoint, Transaction, Txid, Wtxid};
use rayon::prelude::*;

use super::cluster::{ClusterId, Entry, Newcomer, Plan, Slot, memory_usage};
use super::error::{Rejection, ScriptFailure};
use super::event::Removal;
use super::{FeeSize, Mempool, replacement};
use crate::chain::{Coin, CoinView};
use crate::consensus::script::{ScriptFlags, SignatureCache, TransactionCache, verify_input};

pub(super) use check::spent;
pub use several::{PackageReport, PackageResult};

/// The chain that the transaction is to follow, and the time.
pub struct Context<'a> {
    /// The coins of the best chain.
    pub coins: &'a dyn CoinView,
    /// Its height.
    pub height: u32,
    /// The median time of its last eleven blocks.
    pub median_time_past: u32,
    /// The same at a lower height.
    pub median_time_past_at: &'a dyn Fn(u32) -> u32,
    /// Signatures that were found valid; block connection asks the same cache.
    pub signatures: &'a SignatureCache,
    /// Seconds since 1970.
    pub now: i64,
}

/// A transaction that came in, or would have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Its txid.
    pub txid: Txid,
    /// Its hash with witnesses.
    pub wtxid: Wtxid,
    /// What it pays.
    pub fee: Amount,
    /// Its virtual size, adjusted for signature operations.
    pub vsize: u64,
    /// What it replaced.
    pub replaced: Vec<Arc<Transaction>>,
    /// The feerate it was judged by, in sat/kvB, with what the owner of the node adds; a package's if it needed one.
    pub effective_feerate: i64,
    /// The transactions whose fees and sizes make that feerate.
    pub effective_includes: Vec<Wtxid>,
}

impl Accepted {
    /// The txids of what it replaced.
    pub fn replaced_txids(&self) -> Vec<Txid> {
        self.replaced.iter().map(|transaction| transaction.compute_txid()).collect()
    }
}

/// What is different for some transactions (Core: `ATMPArgs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rules {
    /// Fees and limits apply: not to what comes back from a block.
    pub(super) has_limits: bool,
    /// It may replace others.
    pub(super) may_replace: bool,
    /// It may replace a version 3 sibling.
    pub(super) may_evict_sibling: bool,
    /// Its feerate is looked at together with that of the others.
    pub(super) has_package_feerate: bool,
    /// What it may pay at most, in sat/kvB.
    pub(super) max_feerate: Option<u64>,
}

impl Rules {
    /// From a user or a peer.
    pub(super) const RELAY: Self = Self {
        has_limits: true,
        may_replace: true,
        may_evict_sibling: true,
        has_package_feerate: false,
        max_feerate: None,
    };
    /// From a block that was disconnected.
    pub(super) const REORG: Self = Self { has_limits: false, ..Self::RELAY };
    /// One of several that are tested together.
    pub(super) const TEST: Self = Self { may_replace: false, may_evict_sibling: false, ..Self::RELAY };

    /// One of a package, by itself.
    pub(super) const fn alone_of_package(max_feerate: Option<u64>) -> Self {
        Self { max_feerate, ..Self::RELAY }
    }

    /// One of a package, together with the others.
    pub(super) const fn together(max_feerate: Option<u64>) -> Self {
        Self { may_evict_sibling: false, has_package_feerate: true, max_feerate, ..Self::RELAY }
    }
}

/// A transaction that passed every rule but those on replacements, clusters and scripts.
pub(super) struct Candidate {
    pub(super) transaction: Arc<Transaction>,
    pub(super) txid: Txid,
    pub(super) wtxid: Wtxid,
    pub(super) coins: Vec<Coin>,
    pub(super) fee: Amount,
    pub(super) delta: i64,
    pub(super) sigops: u64,
    pub(super) weight: u64,
    pub(super) parents: Vec<Slot>,
    /// Parents among those that come with it, by place.
    pub(super) new_parents: Vec<usize>,
    pub(super) children: Vec<Slot>,
    pub(super) conflicts: BTreeSet<Slot>,
    pub(super) sibling_eviction: bool,
    /// It passes every rule by itself: neither in a package nor from a block.
    pub(super) comes_alone: bool,
}

impl Candidate {
    pub(super) const fn vsize(&self) -> u64 {
        self.weight.div_ceil(4)
    }

    pub(super) fn modified_fee(&self) -> i64 {
        self.fee.to_sat().cast_signed().saturating_add(self.delta)
    }

    pub(super) fn newcomer(&self) -> Newcomer<'_> {
        Newcomer {
            size: FeeSize { fee: self.modified_fee(), weight: self.weight },
            parents: &self.parents,
            new_parents: &self.new_parents,
            children: &self.children,
        }
    }

    fn into_entry(self, cx: &Context<'_>) -> (Entry, Vec<usize>) {
        let entry = Entry {
            usage: memory_usage(&self.transaction),
            spends_coinbase: self.coins.iter().any(|coin| coin.is_coinbase),
            transaction: self.transaction,
            txid: self.txid,
            wtxid: self.wtxid,
            fee: self.fee,
            delta: self.delta,
            weight: self.weight,
            sigops: self.sigops,
            time: cx.now,
            height: cx.height,
            came_alone: self.comes_alone,
            parents: self.parents,
            children: self.children,
            cluster: ClusterId(0),
        };
        (entry, self.new_parents)
    }
}

/// What accepting candidates changes.
pub(super) struct Change {
    pub(super) plan: Plan,
    pub(super) removed: BTreeSet<Slot>,
}

impl Mempool {
    /// Takes the transaction in, or says why not. Core: `AcceptToMemoryPool`.
    pub fn accept(&mut self, transaction: Arc<Transaction>, cx: &Context<'_>) -> Result<Accepted, Rejection> {
        self.accept_up_to(transaction, None, cx)
    }

    /// The same, unless it pays more than `maximum` satoshi.
    pub fn accept_up_to(
        &mut self,
        transaction: Arc<Transaction>,
        maximum: Option<u64>,
        cx: &Context<'_>,
    ) -> Result<Accepted, Rejection> {
        self.decay(cx.now);
        let (mut candidate, change) = self.examine(transaction, cx, Rules::RELAY)?;
        candidate.comes_alone = true;
        let fee = candidate.fee.to_sat();
        if let Some(maximum) = maximum.filter(|maximum| fee > *maximum) {
            return Err(Rejection::FeeAboveMaximum { fee, maximum });
        }
        let accepted = self.admit(candidate, change, cx);
        self.limit(cx.now);
        if !self.contains(&accepted.txid) {
            return Err(Rejection::MempoolFull);
        }
        Ok(accepted)
    }

    /// Takes a transaction in again that came at `time`, before the node was stopped; whether it is still good.
    pub fn restore(&mut self, transaction: Arc<Transaction>, time: i64, cx: &Context<'_>) -> bool {
        time >= cx.now - self.policy.expiry && self.accept(transaction, &Context { now: time, ..*cx }).is_ok()
    }

    /// Says what [`Mempool::accept`] would, and changes nothing.
    pub fn test(&mut self, transaction: Arc<Transaction>, cx: &Context<'_>) -> Result<Accepted, Rejection> {
        self.decay(cx.now);
        let (candidate, change) = self.examine(transaction, cx, Rules::RELAY)?;
        Ok(self.summary(&candidate, &change.removed))
    }

    /// Takes it in without making room for it.
    pub(super) fn enter(
        &mut self,
        transaction: Arc<Transaction>,
        cx: &Context<'_>,
        rules: Rules,
    ) -> Result<Accepted, Rejection> {
        self.decay(cx.now);
        let (candidate, change) = self.examine(transaction, cx, rules)?;
        Ok(self.admit(candidate, change, cx))
    }

    fn admit(&mut self, candidate: Candidate, change: Change, cx: &Context<'_>) -> Accepted {
        let accepted = self.summary(&candidate, &change.removed);
        self.change(change.plan, &change.removed, vec![candidate.into_entry(cx)], Removal::Replaced);
        accepted
    }

    fn summary(&self, candidate: &Candidate, removed: &BTreeSet<Slot>) -> Accepted {
        Accepted {
            txid: candidate.txid,
            wtxid: candidate.wtxid,
            fee: candidate.fee,
            vsize: candidate.vsize(),
            replaced: removed.iter().map(|slot| Arc::clone(&self.graph.entry(*slot).transaction)).collect(),
            effective_feerate: feerate(candidate.modified_fee(), candidate.vsize()),
            effective_includes: vec![candidate.wtxid],
        }
    }

    fn examine(
        &self,
        transaction: Arc<Transaction>,
        cx: &Context<'_>,
        rules: Rules,
    ) -> Result<(Candidate, Change), Rejection> {
        let candidate = self.check(transaction, cx, rules, &[])?;
        let removed = replacement::removals(&self.graph, &candidate, self.policy.incremental_feerate)?;
        let plan = self.graph.plan(&removed, &[candidate.newcomer()]).map_err(|_| Rejection::TooLargeCluster)?;
        replacement::check_gain(&self.graph, &candidate, &plan)?;
        check_max_feerate(&candidate, rules)?;
        if rules.has_limits {
            self.check_ephemeral_spends(&candidate, &[])?;
        }
        verify_scripts(&candidate, cx.signatures)?;
        Ok((candidate, Change { plan, removed }))
    }
}

impl Mempool {
    /// Runs the scripts of transactions that are about to be accepted, on all cores, so that their signatures are known by
    /// then. Says nothing: what fails fails again, and what cannot be looked up yet is left out.
    pub fn verify_ahead(&self, transactions: &[Arc<Transaction>], cx: &Context<'_>) {
        let spends = transactions.iter().filter_map(|transaction| {
            let coin = |outpoint: &OutPoint| self.coin(outpoint, cx.height).or_else(|| cx.coins.coin(outpoint));
            let coins = transaction.input.iter().map(|input| coin(&input.previous_output));
            Some((transaction, coins.collect::<Option<Vec<Coin>>>()?))
        });
        // What costs more than an honest transaction has to pass the rules on size and fees first.
        let spends = spends.filter(|(transaction, coins)| transaction.weight().to_wu() <= 10_000 && !coins.is_empty());
        spends.collect::<Vec<_>>().par_iter().for_each(|(transaction, coins)| {
            let prevouts = coins.iter().map(|coin| &coin.output).collect();
            let cache = TransactionCache::new(transaction, prevouts).with_signature_cache(cx.signatures);
            // An error is found again, and told, when the transaction's turn comes.
            let _ = (0..transaction.input.len())
                .try_for_each(|input| verify_input(&cache, input, ScriptFlags::STANDARD).map_err(drop));
        });
    }
}

/// `fee` for `vsize` as sat/kvB, rounded down (Core: `CFeeRate::GetFeePerK`).
pub(super) fn feerate(fee: i64, vsize: u64) -> i64 {
    let per_kvb = (i128::from(fee) * 1_000).div_euclid(i128::from(vsize.max(1)));
    i64::try_from(per_kvb).unwrap_or(i64::MAX)
}

/// The caller's own limit, against paying more than was meant.
fn check_max_feerate(candidate: &Candidate, rules: Rules) -> Result<(), Rejection> {
    let Some(maximum) = rules.max_feerate else {
        return Ok(());
    };
    let paid = i128::from(candidate.modified_fee()) * 1_000;
    if paid > i128::from(maximum) * i128::from(candidate.vsize()) {
        return Err(Rejection::FeeAboveMaximum { fee: candidate.fee.to_sat(), maximum });
    }
    Ok(())
}

/// Runs every input's script under policy, which only ever forbids more than blocks do.
fn verify_scripts(candidate: &Candidate, signatures: &SignatureCache) -> Result<(), Rejection> {
    const PARALLEL_FROM: usize = 4;
    let prevouts = candidate.coins.iter().map(|coin| &coin.output).collect();
    let cache = TransactionCache::new(&candidate.transaction, prevouts).with_signature_cache(signatures);
    let count = candidate.transaction.input.len();
    let failure = |input: usize| {
        let error = verify_input(&cache, input, ScriptFlags::STANDARD).err()?;
        Some(Rejection::Script(Box::new(ScriptFailure {
            error,
            input,
            txid: candidate.txid,
            wtxid: candidate.wtxid,
            spending: candidate.transaction.input[input].previous_output,
        })))
    };
    let first = if count < PARALLEL_FROM {
        (0..count).find_map(failure)
    } else {
        (0..count).into_par_iter().find_map_first(failure)
    };
    first.map_or(Ok(()), Err)
}
