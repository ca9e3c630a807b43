//! The rules on a transaction itself, its inputs, its fee and its version (Core: `PreChecks`).

use std::collections::BTreeSet;
use std::sync::Arc;

use bitcoin::{OutPoint, Transaction, Txid};

use super::{Candidate, Context, Rules};
use crate::chain::Coin;
use crate::consensus::TransactionError;
use crate::consensus::locktime::{SequenceLock, is_final};
use crate::consensus::script::ScriptFlags;
use crate::consensus::sigop::sigop_cost;
use crate::consensus::transaction::{SpentOutput, check_transaction, verify_inputs};
use crate::mempool::Mempool;
use crate::mempool::cluster::Slot;
use crate::mempool::error::Rejection;
use crate::mempool::policy::output::is_dust;
use crate::mempool::policy::{self, fee_at, truc};

impl Mempool {
    /// Every rule but those on what is replaced. `before` are those that come together with it and before it.
    pub(super) fn check(
        &self,
        transaction: Arc<Transaction>,
        cx: &Context<'_>,
        rules: Rules,
        before: &[Candidate],
    ) -> Result<Candidate, Rejection> {
        let mut candidate = self.check_inputs(transaction, cx, rules, before)?;
        self.check_fees(&candidate, rules)?;
        if rules.has_limits {
            self.check_truc(&mut candidate, rules)?;
        }
        Ok(candidate)
    }

    fn check_inputs(
        &self,
        transaction: Arc<Transaction>,
        cx: &Context<'_>,
        rules: Rules,
        before: &[Candidate],
    ) -> Result<Candidate, Rejection> {
        check_transaction(&transaction)?;
        if transaction.is_coinbase() {
            return Err(Rejection::Coinbase);
        }
        self.check_standard(&transaction)?;
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
        if !conflicts.is_empty() && !rules.may_replace {
            return Err(Rejection::ReplacementDisallowed);
        }
        let coins = self.coins_of(&transaction, txid, cx, before)?;
        let heights: Vec<u32> = coins.iter().map(|coin| coin.height).collect();
        let lock = SequenceLock::of(&transaction, &heights, cx.median_time_past_at);
        if !lock.is_passed(cx.height + 1, cx.median_time_past) {
            return Err(Rejection::NonBip68Final);
        }
        let fee = verify_inputs(&transaction, coins.iter().map(spent), cx.height + 1)?;
        let prevouts: Vec<_> = coins.iter().map(|coin| &coin.output).collect();
        if self.policy.requires_standard {
            policy::check_inputs(&transaction, &prevouts)?;
            policy::check_witnesses(&transaction, &prevouts)?;
        }
        let sigops = sigop_cost(&transaction, &prevouts, ScriptFlags::STANDARD);
        let spends = |other: &Txid| transaction.input.iter().any(|input| input.previous_output.txid == *other);
        let new_parents = before.iter().enumerate().filter(|(_, other)| spends(&other.txid)).map(|(place, _)| place);
        let parents: BTreeSet<Slot> =
            transaction.input.iter().filter_map(|input| self.graph.slot(&input.previous_output.txid)).collect();
        Ok(Candidate {
            txid,
            wtxid,
            fee,
            delta: self.deltas.get(&txid).copied().unwrap_or(0),
            sigops,
            weight: transaction.weight().to_wu().max(sigops * self.policy.bytes_per_sigop),
            parents: parents.into_iter().collect(),
            new_parents: new_parents.collect(),
            children: self.children_of(&transaction, txid, rules),
            conflicts,
            sibling_eviction: false,
            comes_alone: false,
            coins,
            transaction,
        })
    }

    fn check_standard(&self, transaction: &Transaction) -> Result<(), Rejection> {
        if self.policy.requires_standard {
            policy::check_standard(transaction, &self.policy)?;
        }
        policy::check_least_size(transaction)
    }

    fn conflicts(&self, transaction: &Transaction) -> BTreeSet<Slot> {
        transaction.input.iter().filter_map(|input| self.graph.spender(&input.previous_output)).collect()
    }

    /// Only what comes back from a block can have children here already.
    fn children_of(&self, transaction: &Transaction, txid: Txid, rules: Rules) -> Vec<Slot> {
        if rules.has_limits {
            return Vec::new();
        }
        let outputs = (0u32..).take(transaction.output.len());
        let spenders: BTreeSet<Slot> =
            outputs.filter_map(|vout| self.graph.spender(&OutPoint { txid, vout })).collect();
        spenders.into_iter().collect()
    }

    fn coins_of(
        &self,
        transaction: &Transaction,
        txid: Txid,
        cx: &Context<'_>,
        before: &[Candidate],
    ) -> Result<Vec<Coin>, Rejection> {
        let coin = |outpoint: &OutPoint| {
            let here = self.coin(outpoint, cx.height).or_else(|| new_coin(before, outpoint, cx.height));
            here.or_else(|| cx.coins.coin(outpoint))
        };
        let coins: Option<Vec<Coin>> = transaction.input.iter().map(|input| coin(&input.previous_output)).collect();
        coins.ok_or_else(|| {
            let mut outputs = (0u32..).take(transaction.output.len());
            if outputs.any(|vout| cx.coins.has_coin(&OutPoint { txid, vout })) {
                return Rejection::AlreadyKnown;
            }
            Rejection::Consensus(TransactionError::InputsMissingOrSpent)
        })
    }

    fn check_fees(&self, candidate: &Candidate, rules: Rules) -> Result<(), Rejection> {
        let pays = candidate.fee.to_sat() != 0 || candidate.modified_fee() != 0;
        let feerate = self.policy.dust_feerate;
        let makes_dust = || candidate.transaction.output.iter().any(|output| is_dust(output, feerate));
        if self.policy.requires_standard && pays && makes_dust() {
            return Err(Rejection::DustWithFee);
        }
        if candidate.sigops > policy::MAX_STANDARD_TX_SIGOPS_COST {
            return Err(Rejection::TooManySigops { cost: candidate.sigops });
        }
        if !rules.has_limits || rules.has_package_feerate {
            return Ok(());
        }
        self.check_feerate(candidate.modified_fee(), candidate.vsize())
    }

    /// Core's `CheckFeeRate`.
    pub(super) fn check_feerate(&self, fee: i64, vsize: u64) -> Result<(), Rejection> {
        let required = fee_at(self.rolling_feerate(), vsize);
        if required > 0 && fee < required.cast_signed() {
            return Err(Rejection::MempoolMinFee { fee, required });
        }
        let required = fee_at(self.policy.min_relay_feerate, vsize);
        if fee < required.cast_signed() {
            return Err(Rejection::MinRelayFee { fee, required });
        }
        Ok(())
    }

    fn check_truc(&self, candidate: &mut Candidate, rules: Rules) -> Result<(), Rejection> {
        match truc::check(&self.graph, &truc_view(candidate)) {
            Ok(None) => Ok(()),
            Ok(Some(sibling)) if rules.may_evict_sibling => {
                candidate.conflicts.insert(sibling.slot);
                candidate.sibling_eviction = true;
                Ok(())
            }
            Ok(Some(sibling)) => Err(Rejection::Truc(sibling.error)),
            Err(error) => Err(Rejection::Truc(error)),
        }
    }

    /// Dust of a parent that is unconfirmed, too, must be spent by every child of it, or it would stay behind.
    pub(super) fn check_ephemeral_spends(&self, candidate: &Candidate, before: &[Candidate]) -> Result<(), Rejection> {
        if !self.policy.requires_standard {
            return Ok(());
        }
        let spent: BTreeSet<OutPoint> = candidate.transaction.input.iter().map(|input| input.previous_output).collect();
        let here = candidate.parents.iter().map(|slot| self.graph.entry(*slot));
        let here = here.map(|parent| (parent.txid, &parent.transaction));
        let new = candidate.new_parents.iter().map(|place| (before[*place].txid, &before[*place].transaction));
        for (txid, parent) in here.chain(new) {
            let outputs = (0u32..).zip(&parent.output);
            let mut dust = outputs.filter(|(_, output)| is_dust(output, self.policy.dust_feerate));
            if !dust.all(|(vout, _)| spent.contains(&OutPoint { txid, vout })) {
                return Err(Rejection::MissingEphemeralSpends { txid: candidate.txid, wtxid: candidate.wtxid });
            }
        }
        Ok(())
    }
}

pub(super) fn truc_view(candidate: &Candidate) -> truc::Candidate<'_> {
    truc::Candidate {
        version: candidate.transaction.version.0,
        txid: candidate.txid,
        wtxid: candidate.wtxid,
        vsize: candidate.vsize(),
        parents: &candidate.parents,
        conflicts: &candidate.conflicts,
    }
}

/// An output of a transaction that comes together with the one that spends it.
fn new_coin(before: &[Candidate], outpoint: &OutPoint, height: u32) -> Option<Coin> {
    let parent = before.iter().find(|other| other.txid == outpoint.txid)?;
    let output = parent.transaction.output.get(usize::try_from(outpoint.vout).ok()?)?;
    Some(Coin { output: output.clone(), height: height + 1, is_coinbase: false })
}

pub(in crate::mempool) fn spent(coin: &Coin) -> SpentOutput<'_> {
    SpentOutput { output: &coin.output, height: coin.height, is_coinbase: coin.is_coinbase }
}
