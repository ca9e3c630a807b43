//! Which transactions of ours are in no block, known without a walk through all that the wallet ever saw.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::{Amount, Block, OutPoint, Transaction, Txid};

use super::Wallet;

/// The wallet's transactions that are in no block, kept up to date; gathered anew where that is not certain.
#[derive(Default)]
pub(super) struct Unconfirmed(Option<BTreeMap<Txid, Arc<Transaction>>>);

impl Unconfirmed {
    /// Something happened that only a walk through everything can tell.
    pub(super) fn forget(&mut self) {
        self.0 = None;
    }

    /// A transaction was seen. Of two that take the same coin the wallet decides.
    pub(super) fn add(&mut self, txid: Txid, transaction: &Arc<Transaction>) {
        let Some(known) = &mut self.0 else { return };
        let taken: BTreeSet<OutPoint> = transaction.input.iter().map(|input| input.previous_output).collect();
        let rivals = |other: &Transaction| other.input.iter().any(|input| taken.contains(&input.previous_output));
        if known.iter().any(|(id, other)| *id != txid && rivals(other)) {
            self.0 = None;
        } else {
            known.insert(txid, Arc::clone(transaction));
        }
    }

    /// A block came on top of the last one: what is in it is confirmed, what it makes impossible the wallet finds out.
    pub(super) fn connect(&mut self, block: &Block) {
        let Some(known) = &mut self.0 else { return };
        if known.is_empty() {
            return;
        }
        for transaction in &block.txdata {
            known.remove(&transaction.compute_txid());
        }
        let taken: BTreeSet<OutPoint> =
            block.txdata.iter().flat_map(|it| &it.input).map(|input| input.previous_output).collect();
        let dead = |other: &Transaction| other.input.iter().any(|input| taken.contains(&input.previous_output));
        if known.values().any(|other| dead(other)) {
            self.0 = None;
        }
    }
}

/// A transaction in a block that touches the wallet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// Its id.
    pub txid: Txid,
    /// What it takes from coins of ours.
    pub sent: Amount,
    /// What it pays to scripts of ours.
    pub received: Amount,
}

impl Wallet {
    /// The transactions of ours that are in no block, by id.
    pub fn unconfirmed(&mut self) -> Vec<(Txid, Arc<Transaction>)> {
        if self.unconfirmed.0.is_none() {
            let all = self.transactions().into_iter().filter(|seen| seen.confirmed_at.is_none());
            self.unconfirmed.0 = Some(all.map(|seen| (seen.txid, seen.transaction)).collect());
        }
        let known = self.unconfirmed.0.iter().flatten();
        known.map(|(txid, transaction)| (*txid, Arc::clone(transaction))).collect()
    }

    /// What a transaction takes from coins of ours.
    pub fn sent_by(&self, transaction: &Transaction) -> Amount {
        self.inner.sent_and_received(transaction).0
    }

    /// The transactions of a block that touch the wallet, which has taken the block in.
    pub fn confirmed_in(&self, block: &Block) -> Vec<Confirmed> {
        let ours = block.txdata.iter().filter_map(|transaction| {
            let txid = transaction.compute_txid();
            self.inner.tx_graph().get_tx(txid)?;
            let (sent, received) = self.inner.sent_and_received(transaction);
            Some(Confirmed { txid, sent, received })
        });
        ours.collect()
    }
}
