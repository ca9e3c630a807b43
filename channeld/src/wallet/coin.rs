//! What the wallet holds, as people and the node want to see it.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, OnceLock};

use bdk_wallet::KeychainKind;
use bdk_wallet::chain::ChainPosition;
use bitcoin::{Address, Amount, OutPoint, Transaction, TxOut, Txid};

use super::Wallet;
use crate::units::BlockHeight;

/// A coinbase output can be spent in the block this many after its own.
const COINBASE_MATURITY: u32 = 100;

/// An unspent output of the wallet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coin {
    /// Where it is.
    pub outpoint: OutPoint,
    /// What it is worth and its script.
    pub output: TxOut,
    /// Its address.
    pub address: Address,
    /// The height of its block; `None` while unconfirmed.
    pub confirmed_at: Option<BlockHeight>,
    /// Whether it is ours to spend before it confirms: our own change.
    pub is_change: bool,
    /// Whether it is a coinbase output that is not spendable yet.
    pub is_immature: bool,
    /// Whether it is kept for a draft.
    pub is_locked: bool,
}

impl Coin {
    /// Whether it can be an input now: confirmed or our own change, mature, not kept for a draft.
    pub fn is_spendable(&self) -> bool {
        (self.confirmed_at.is_some() || self.is_change) && !self.is_immature && !self.is_locked
    }
}

/// The wallet's money. The parts do not overlap; their sum is all that the wallet holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalletBalance {
    /// Confirmed or our own change, and free: `reserved` and `spendable` together.
    pub reserved: Amount,
    /// What can be spent at once.
    pub spendable: Amount,
    /// On its way to us, unconfirmed.
    pub unconfirmed: Amount,
    /// Coinbase outputs that are not spendable yet.
    pub immature: Amount,
    /// Kept for drafts, such as the funding of a channel that is being opened.
    pub locked: Amount,
}

impl WalletBalance {
    /// All of it.
    pub fn total(&self) -> Amount {
        self.reserved + self.spendable + self.unconfirmed + self.immature + self.locked
    }
}

/// A transaction that touches the wallet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalletTransaction {
    /// Its id.
    pub txid: Txid,
    /// The transaction.
    pub transaction: Arc<Transaction>,
    /// The height of its block; `None` while unconfirmed.
    pub confirmed_at: Option<BlockHeight>,
    /// What it takes from coins of ours.
    pub sent: Amount,
    /// What it pays to scripts of ours.
    pub received: Amount,
    /// Its fee, where all its inputs are known.
    pub fee: Option<Amount>,
}

/// The live wallet, and what was read of it since it changed last: to say which of its transactions count bdk walks through
/// all of them, and balances are asked for often. Whoever may change it has it forget.
pub(super) struct Live {
    wallet: bdk_wallet::Wallet,
    coins: OnceLock<Vec<Coin>>,
    transactions: OnceLock<Vec<WalletTransaction>>,
}

impl Live {
    pub(super) fn new(wallet: bdk_wallet::Wallet) -> Live {
        Live { wallet, coins: OnceLock::new(), transactions: OnceLock::new() }
    }

    /// What must be kept: to say so, once a turn, changes no coin.
    pub(super) fn take_staged(&mut self) -> Option<bdk_wallet::ChangeSet> {
        self.wallet.take_staged()
    }
}

impl Deref for Live {
    type Target = bdk_wallet::Wallet;

    fn deref(&self) -> &bdk_wallet::Wallet {
        &self.wallet
    }
}

impl DerefMut for Live {
    fn deref_mut(&mut self) -> &mut bdk_wallet::Wallet {
        self.coins.take();
        self.transactions.take();
        &mut self.wallet
    }
}

impl Wallet {
    /// All unspent outputs, in order of outpoint.
    pub fn coins(&self) -> Vec<Coin> {
        self.known_coins().to_vec()
    }

    fn known_coins(&self) -> &[Coin] {
        self.inner.coins.get_or_init(|| self.read_coins())
    }

    fn read_coins(&self) -> Vec<Coin> {
        let tip = self.inner.latest_checkpoint().height();
        let mut coins: Vec<_> = self.inner.list_unspent().map(|output| self.coin(output, tip)).collect();
        coins.sort_unstable_by_key(|coin| coin.outpoint);
        coins
    }

    fn coin(&self, output: bdk_wallet::LocalOutput, tip: u32) -> Coin {
        let confirmed_at = match output.chain_position {
            ChainPosition::Confirmed { anchor, .. } => Some(anchor.block_id.height),
            ChainPosition::Unconfirmed { .. } => None,
        };
        let is_coinbase =
            self.inner.tx_graph().get_tx(output.outpoint.txid).is_some_and(|transaction| transaction.is_coinbase());
        let depth = confirmed_at.map_or(0, |height| tip.saturating_sub(height) + 1);
        Coin {
            outpoint: output.outpoint,
            address: Address::from_script(&output.txout.script_pubkey, self.inner.network())
                .expect("the wallet's scripts are P2WPKH"),
            output: output.txout,
            confirmed_at: confirmed_at.map(BlockHeight::new),
            is_change: output.keychain == KeychainKind::Internal && self.is_own(&output.outpoint.txid),
            is_immature: is_coinbase && depth < COINBASE_MATURITY,
            is_locked: self.inner.is_outpoint_locked(output.outpoint),
        }
    }

    /// Whether a transaction rests on nothing that others may undo: it is confirmed, or spends only coins of ours from such
    /// transactions. A claim or an anchor's child does not: what it spends may never come to be, or go to the peer.
    fn is_own(&self, txid: &Txid) -> bool {
        let Some(seen) = self.inner.get_tx(*txid) else { return false };
        if seen.chain_position.is_confirmed() {
            return true;
        }
        let graph = self.inner.tx_graph();
        seen.tx_node.tx.input.iter().all(|input| {
            let coin = graph.get_txout(input.previous_output);
            coin.is_some_and(|coin| self.is_mine(&coin.script_pubkey)) && self.is_own(&input.previous_output.txid)
        })
    }

    /// The balance, with `reserve` of what is free kept for the anchors of open channels.
    pub fn balance(&self, reserve: Amount) -> WalletBalance {
        let mut balance = WalletBalance::default();
        for coin in self.known_coins() {
            let value = coin.output.value;
            if coin.is_locked {
                balance.locked += value;
            } else if coin.is_immature {
                balance.immature += value;
            } else if coin.is_spendable() {
                balance.spendable += value;
            } else {
                balance.unconfirmed += value;
            }
        }
        balance.reserved = reserve.min(balance.spendable);
        balance.spendable -= balance.reserved;
        balance
    }

    /// All transactions, newest first: unconfirmed ones, then by height and id.
    pub fn transactions(&self) -> Vec<WalletTransaction> {
        self.inner.transactions.get_or_init(|| self.read_transactions()).clone()
    }

    fn read_transactions(&self) -> Vec<WalletTransaction> {
        let mut transactions: Vec<_> = self
            .inner
            .transactions()
            .map(|transaction| {
                let node = &transaction.tx_node;
                let (sent, received) = self.inner.sent_and_received(&node.tx);
                WalletTransaction {
                    txid: node.txid,
                    transaction: Arc::clone(&node.tx),
                    confirmed_at: match &transaction.chain_position {
                        ChainPosition::Confirmed { anchor, .. } => Some(BlockHeight::new(anchor.block_id.height)),
                        ChainPosition::Unconfirmed { .. } => None,
                    },
                    sent,
                    received,
                    fee: self.inner.calculate_fee(&node.tx).ok(),
                }
            })
            .collect();
        transactions.sort_unstable_by_key(|transaction| {
            (std::cmp::Reverse(transaction.confirmed_at.map_or(u32::MAX, BlockHeight::height)), transaction.txid)
        });
        transactions
    }

    /// A transaction of the wallet, confirmed or not.
    pub fn transaction(&self, txid: &Txid) -> Option<Arc<Transaction>> {
        self.inner.tx_graph().get_tx(*txid)
    }
}
