//! What blocks that come and go do to the mempool.
//!
//! Bitcoin Core: `removeForBlock`, `removeForReorg`, `MaybeUpdateMempoolForReorg`.

use std::collections::BTreeSet;
use std::sync::Arc;

use bitcoin::{OutPoint, Transaction, Txid};

use super::accept::{Context, Rules, spent};
use super::cluster::{Entry, Slot};
use super::event::Removal;
use super::{Mempool, outpoints};
use crate::consensus::locktime::{SequenceLock, is_final};
use crate::consensus::transaction::verify_inputs;

impl Mempool {
    /// A block came: its transactions go, and with them all that conflicts with them. `now` in seconds since 1970.
    pub fn block_connected<'a>(&mut self, transactions: impl Iterator<Item = (&'a Txid, &'a Transaction)>, now: i64) {
        self.decay(now);
        let mut confirmed: BTreeSet<Slot> = BTreeSet::new();
        let mut conflicts: Vec<Slot> = Vec::new();
        for (txid, transaction) in transactions {
            self.deltas.remove(txid);
            if let Some(slot) = self.graph.slot(txid) {
                confirmed.insert(slot);
                continue;
            }
            for slot in outpoints(transaction).filter_map(|outpoint| self.graph.spender(&outpoint)) {
                self.deltas.remove(&self.graph.entry(slot).txid);
                conflicts.push(slot);
            }
        }
        // These first: who listens hears of them, with numbers that do not jump.
        let gone = self.graph.descendants(&conflicts);
        self.remove(&gone, Removal::Conflict);
        self.remove(&confirmed, Removal::Block);
        self.rolling.block_connected(now);
    }

    /// The chain was reorganised, and what it connected was told to [`Mempool::block_connected`]. `returned` are the
    /// transactions of the blocks that went, oldest first, coinbases included; those that are still valid come back, and
    /// what is not valid any more goes.
    pub fn chain_reorganised(&mut self, returned: Vec<Arc<Transaction>>, cx: &Context<'_>) {
        for transaction in returned {
            self.take_back(transaction, cx);
        }
        let invalid: Vec<Slot> =
            self.graph.iter().filter(|(_, entry)| !self.is_still_valid(entry, cx)).map(|(slot, _)| slot).collect();
        let gone = self.graph.descendants(&invalid);
        self.remove(&gone, Removal::Reorg);
        self.limit(cx.now);
    }

    fn take_back(&mut self, transaction: Arc<Transaction>, cx: &Context<'_>) {
        let txid = transaction.compute_txid();
        if self.contains(&txid) {
            return;
        }
        let outputs = transaction.output.len();
        if !transaction.is_coinbase() && self.enter(transaction, cx, Rules::REORG).is_ok() {
            return;
        }
        // What spends its outputs has lost its coins, unless another chain confirmed it already.
        let orphans: Vec<Slot> = (0u32..)
            .take(outputs)
            .map(|vout| OutPoint { txid, vout })
            .filter(|outpoint| !cx.coins.has_coin(outpoint))
            .filter_map(|outpoint| self.graph.spender(&outpoint))
            .collect();
        let gone = self.graph.descendants(&orphans);
        self.remove(&gone, Removal::Reorg);
    }

    /// Whether the entry could be in the next block after its ancestors.
    fn is_still_valid(&self, entry: &Entry, cx: &Context<'_>) -> bool {
        let transaction = &entry.transaction;
        if !is_final(transaction, cx.height + 1, cx.median_time_past) {
            return false;
        }
        let coin = |outpoint: OutPoint| self.coin(&outpoint, cx.height).or_else(|| cx.coins.coin(&outpoint));
        let Some(coins) = outpoints(transaction).map(coin).collect::<Option<Vec<_>>>() else {
            return false;
        };
        let heights: Vec<u32> = coins.iter().map(|coin| coin.height).collect();
        SequenceLock::of(transaction, &heights, cx.median_time_past_at).is_passed(cx.height + 1, cx.median_time_past)
            && verify_inputs(transaction, coins.iter().map(spent), cx.height + 1).is_ok()
    }
}
