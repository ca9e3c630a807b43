//! Whether a transaction may come in, rule by rule in Bitcoin Core's order, so that the reason is Core's.
//!
//! Bitcoin Core: `MemPoolAccept` in `validation.cpp`.

use std::collections::BTreeSet;
use std::sync::Arc;

use bitcoin::{Amount, OutPoint, Transaction, Txid, Wtxid};
use rayon::prelude::*;

use super::cluster::{ClusterId, Entry, Newcomer, Plan, Slot, memory_usage};
use super::error::{Rejection, ScriptFailure};
use super::policy::output::is_dust;
use super::policy::{self, fee_at, truc};
use super::{Mempool, replacement};
use crate::chain::{Coin, CoinView};
use crate::consensus::TransactionError;
use crate::consensus::locktime::{SequenceLock, is_final};
use crate::consensus::script::{ScriptFlags, SignatureCache, TransactionCache, verify_input};
use crate::consensus::sigop::sigop_cost;
use crate::consensus::transaction::{SpentOutput, check_transaction, verify_inputs};

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
    pub replaced: Vec<Txid>,
}

/// What is different for some transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// From a user or a peer.
    Relay,
    /// From a block that was disconnected: fees and limits do not apply.
    Reorg,
    /// One of several that are tested together: no replacement.
    Package,
}

/// A transaction that passed every rule but those on replacements, clusters and scripts.
pub(super) struct Candidate {
    pub(super) transaction: Arc<Transaction>,
    pub(super) txid: Txid,
    pub(super) wtxid: Wtxid,
    pub(super) coins: Vec<Coin>,
    pub(super) fee: Amount,
    pub(super) sigops: u64,
    pub(super) weight: u64,
    pub(super) parents: Vec<Slot>,
    pub(super) children: Vec<Slot>,
    pub(super) conflicts: BTreeSet<Slot>,
    pub(super) sibling_eviction: bool,
}

impl Candidate {
    pub(super) const fn vsize(&self) -> u64 {
        self.weight.div_ceil(4)
    }

    pub(super) fn newcomer(&self) -> Newcomer<'_> {
        Newcomer {
            size: super::FeeSize { fee: self.fee.to_sat(), weight: self.weight },
            parents: &self.parents,
            children: &self.children,
        }
    }

    fn into_entry(self, cx: &Context<'_>) -> Entry {
        Entry {
            usage: memory_usage(&self.transaction),
            spends_coinbase: self.coins.iter().any(|coin| coin.is_coinbase),
            transaction: self.transaction,
            txid: self.txid,
            wtxid: self.wtxid,
            fee: self.fee,
            weight: self.weight,
            sigops: self.sigops,
            time: cx.now,
            height: cx.height,
            parents: self.parents,
            children: self.children,
            cluster: ClusterId(0),
        }
    }
}

/// What accepting a candidate changes.
struct Change {
    plan: Plan,
    removed: BTreeSet<Slot>,
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
        let (candidate, change) = self.examine(transaction, cx, Origin::Relay)?;
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
        let (candidate, change) = self.examine(transaction, cx, Origin::Relay)?;
        Ok(self.summary(&candidate, &change))
    }

    pub(super) fn enter(
        &mut self,
        transaction: Arc<Transaction>,
        cx: &Context<'_>,
        origin: Origin,
    ) -> Result<Accepted, Rejection> {
        self.decay(cx.now);
        let (candidate, change) = self.examine(transaction, cx, origin)?;
        Ok(self.admit(candidate, change, cx))
    }

    fn admit(&mut self, candidate: Candidate, change: Change, cx: &Context<'_>) -> Accepted {
        let accepted = self.summary(&candidate, &change);
        self.change(change.plan, &change.removed, Some(candidate.into_entry(cx)));
        accepted
    }

    fn summary(&self, candidate: &Candidate, change: &Change) -> Accepted {
        Accepted {
            txid: candidate.txid,
            wtxid: candidate.wtxid,
            fee: candidate.fee,
            vsize: candidate.vsize(),
            replaced: change.removed.iter().map(|slot| self.graph.entry(*slot).txid).collect(),
        }
    }

    fn examine(
        &self,
        transaction: Arc<Transaction>,
        cx: &Context<'_>,
        origin: Origin,
    ) -> Result<(Candidate, Change), Rejection> {
        let mut candidate = self.check(transaction, cx, origin)?;
        self.check_fees(&candidate, origin)?;
        if origin != Origin::Reorg {
            self.check_truc(&mut candidate, origin)?;
        }
        let removed = replacement::removals(&self.graph, &candidate, self.policy.incremental_feerate)?;
        let plan = self.graph.plan(&removed, Some(candidate.newcomer())).map_err(|_| Rejection::TooLargeCluster)?;
        replacement::check_gain(&self.graph, &candidate, &plan)?;
        if origin != Origin::Reorg {
            self.check_ephemeral_spends(&candidate)?;
        }
        verify_scripts(&candidate, cx.signatures)?;
        Ok((candidate, Change { plan, removed }))
    }

    /// Core's `PreChecks` up to the fee.
    fn check(&self, transaction: Arc<Transaction>, cx: &Context<'_>, origin: Origin) -> Result<Candidate, Rejection> {
        check_transaction(&transaction)?;
        if transaction.is_coinbase() {
            return Err(Rejection::Coinbase);
        }
        policy::check_standard(&transaction)?;
        if !is_final(&transaction, cx.height + 1, cx.median_time_past) {
            return Err(Rejection::NonFinal);
        }
        let txid = transaction.compute_txid();
        let wtxid = transaction.compute_wtxid();
        if let Some(known) = self.entry(&txid) {
            let same = known.wtxid == wtxid;
            return Err(if same { Rejection::AlreadyInMempool } else { Rejection::SameNonWitnessData });
        }
        let conflicts = self.conflicts(&transaction);
        if !conflicts.is_empty() && origin == Origin::Package {
            return Err(Rejection::ReplacementDisallowed);
        }
        let coins = self.coins_of(&transaction, txid, cx)?;
        let heights: Vec<u32> = coins.iter().map(|coin| coin.height).collect();
        let lock = SequenceLock::of(&transaction, &heights, cx.median_time_past_at);
        if !lock.is_passed(cx.height + 1, cx.median_time_past) {
            return Err(Rejection::NonBip68Final);
        }
        let fee = verify_inputs(&transaction, coins.iter().map(spent), cx.height + 1)?;
        let prevouts: Vec<_> = coins.iter().map(|coin| &coin.output).collect();
        policy::check_inputs(&transaction, &prevouts)?;
        policy::check_witnesses(&transaction, &prevouts)?;
        let sigops = sigop_cost(&transaction, &prevouts, ScriptFlags::STANDARD);
        let parents: BTreeSet<Slot> =
            transaction.input.iter().filter_map(|input| self.graph.slot(&input.previous_output.txid)).collect();
        Ok(Candidate {
            txid,
            wtxid,
            fee,
            sigops,
            weight: transaction.weight().to_wu().max(sigops * policy::BYTES_PER_SIGOP),
            parents: parents.into_iter().collect(),
            children: self.children_of(&transaction, txid, origin),
            conflicts,
            sibling_eviction: false,
            coins,
            transaction,
        })
    }

    fn conflicts(&self, transaction: &Transaction) -> BTreeSet<Slot> {
        transaction.input.iter().filter_map(|input| self.graph.spender(&input.previous_output)).collect()
    }

    /// Only what comes back from a block can have children here already.
    fn children_of(&self, transaction: &Transaction, txid: Txid, origin: Origin) -> Vec<Slot> {
        if origin != Origin::Reorg {
            return Vec::new();
        }
        let outputs = (0u32..).take(transaction.output.len());
        let spenders: BTreeSet<Slot> =
            outputs.filter_map(|vout| self.graph.spender(&OutPoint { txid, vout })).collect();
        spenders.into_iter().collect()
    }

    fn coins_of(&self, transaction: &Transaction, txid: Txid, cx: &Context<'_>) -> Result<Vec<Coin>, Rejection> {
        let coin = |outpoint: &OutPoint| self.coin(outpoint, cx.height).or_else(|| cx.coins.coin(outpoint));
        let coins: Option<Vec<Coin>> = transaction.input.iter().map(|input| coin(&input.previous_output)).collect();
        coins.ok_or_else(|| {
            let mut outputs = (0u32..).take(transaction.output.len());
            if outputs.any(|vout| cx.coins.has_coin(&OutPoint { txid, vout })) {
                return Rejection::AlreadyKnown;
            }
            Rejection::Consensus(TransactionError::InputsMissingOrSpent)
        })
    }

    fn check_fees(&self, candidate: &Candidate, origin: Origin) -> Result<(), Rejection> {
        let fee = candidate.fee.to_sat();
        if fee > 0 && candidate.transaction.output.iter().any(is_dust) {
            return Err(Rejection::DustWithFee);
        }
        if candidate.sigops > policy::MAX_STANDARD_TX_SIGOPS_COST {
            return Err(Rejection::TooManySigops { cost: candidate.sigops });
        }
        if origin == Origin::Reorg {
            return Ok(());
        }
        let required = fee_at(self.rolling_feerate(), candidate.vsize());
        if fee < required {
            return Err(Rejection::MempoolMinFee { fee, required });
        }
        let required = fee_at(self.policy.min_relay_feerate, candidate.vsize());
        if fee < required {
            return Err(Rejection::MinRelayFee { fee, required });
        }
        Ok(())
    }

    fn check_truc(&self, candidate: &mut Candidate, origin: Origin) -> Result<(), Rejection> {
        let new = truc::Candidate {
            version: candidate.transaction.version.0,
            txid: candidate.txid,
            wtxid: candidate.wtxid,
            vsize: candidate.vsize(),
            parents: &candidate.parents,
            conflicts: &candidate.conflicts,
        };
        let Some(sibling) = truc::check(&self.graph, &new).map_err(Rejection::Truc)? else {
            return Ok(());
        };
        if origin == Origin::Package {
            return Err(Rejection::ReplacementDisallowed);
        }
        candidate.conflicts.insert(sibling);
        candidate.sibling_eviction = true;
        Ok(())
    }

    /// Dust of a parent in the mempool must be spent by every child of it, or it would stay behind.
    fn check_ephemeral_spends(&self, candidate: &Candidate) -> Result<(), Rejection> {
        let spent: BTreeSet<OutPoint> = candidate.transaction.input.iter().map(|input| input.previous_output).collect();
        for parent in candidate.parents.iter().map(|slot| self.graph.entry(*slot)) {
            let outputs = (0u32..).zip(&parent.transaction.output);
            let mut dust = outputs.filter(|(_, output)| is_dust(output));
            if !dust.all(|(vout, _)| spent.contains(&OutPoint { txid: parent.txid, vout })) {
                return Err(Rejection::MissingEphemeralSpends { txid: candidate.txid, wtxid: candidate.wtxid });
            }
        }
        Ok(())
    }
}

pub(super) fn spent(coin: &Coin) -> SpentOutput<'_> {
    SpentOutput { output: &coin.output, height: coin.height, is_coinbase: coin.is_coinbase }
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
