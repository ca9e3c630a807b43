//! The on-chain wallet: `bdk_wallet` over BIP 84 descriptors, fed with blocks, pure.
//!
//! Knows the coins of the words' first account, makes and signs transactions of them, adds them to claims that cannot pay
//! their own fee, and keeps the anchor reserve untouched. It is the one room that acts instead of deciding (DESIGN, law 7):
//! the node takes what a turn staged into that turn's record. Never: talks to a chain, reads a clock, draws a random
//! number, holds an output of a channel.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod bump;
mod claim;
mod coin;
mod entropy;
mod error;
mod signing;
mod spend;
mod state;
#[cfg(test)]
mod tests;
mod unconfirmed;

use std::sync::Arc;

use bdk_wallet::KeychainKind;
use bitcoin::bip32::Xpriv;
use bitcoin::{Address, Amount, Block, BlockHash, Network, OutPoint, ScriptBuf, Transaction, Txid};

use crate::units::BlockHeight;

pub use bump::{Bump, Bumped};
pub use claim::{Claim, ClaimFee, FundedClaim};
use coin::Live;
pub use coin::{Coin, WalletBalance, WalletTransaction};
pub use error::WalletError;
pub use spend::{Draft, Spend};
pub use state::WalletState;
pub use unconfirmed::Confirmed;
use unconfirmed::Unconfirmed;

/// Addresses watched beyond the last one given out, in each keychain.
const LOOKAHEAD: u32 = 50;

/// The coins of the first account, and the keys to them.
pub struct Wallet {
    inner: Live,
    account: Xpriv,
    unconfirmed: Unconfirmed,
}

impl Wallet {
    /// A new wallet over the BIP 84 account `account`, on the chain that begins with `genesis`. What it must keep is
    /// staged.
    pub fn create(account: Xpriv, network: Network, genesis: BlockHash) -> Wallet {
        let (external, internal) = signing::descriptors(&account);
        let inner = bdk_wallet::Wallet::create(external, internal)
            .network(network)
            .genesis_hash(genesis)
            .lookahead(LOOKAHEAD)
            .create_wallet_no_persist()
            .expect("two wpkh descriptors over an account key are a wallet");
        Wallet { inner: Live::new(inner), account, unconfirmed: Unconfirmed::default() }
    }

    /// The wallet that `state` holds.
    ///
    /// # Errors
    /// [`WalletError::ForeignState`] where it belongs to other words or to another chain.
    pub fn load(
        account: Xpriv,
        network: Network,
        genesis: BlockHash,
        state: &WalletState,
    ) -> Result<Wallet, WalletError> {
        let (external, internal) = signing::descriptors(&account);
        let inner = bdk_wallet::Wallet::load()
            .descriptor(KeychainKind::External, Some(external))
            .descriptor(KeychainKind::Internal, Some(internal))
            .check_network(network)
            .check_genesis_hash(genesis)
            .lookahead(LOOKAHEAD)
            .load_wallet_no_persist(state.change_set().clone())
            .map_err(|error| WalletError::ForeignState(error.to_string()))?
            .ok_or_else(|| WalletError::ForeignState("it is empty".to_owned()))?;
        Ok(Wallet { inner: Live::new(inner), account, unconfirmed: Unconfirmed::default() })
    }

    /// The next address to receive at. It is revealed: the staged change must be kept.
    pub fn next_address(&mut self) -> Address {
        self.inner.reveal_next_address(KeychainKind::External).address
    }

    /// The next script for our own change and for what channels pay out. It is revealed: as [`Wallet::next_address`].
    pub fn next_change_script(&mut self) -> ScriptBuf {
        self.inner.reveal_next_address(KeychainKind::Internal).address.script_pubkey()
    }

    /// Whether an output with this script would be a coin of ours.
    pub fn is_mine(&self, script: &ScriptBuf) -> bool {
        self.inner.is_mine(script.clone())
    }

    /// The height of the last block that the wallet has seen.
    pub fn height(&self) -> BlockHeight {
        BlockHeight::new(self.inner.latest_checkpoint().height())
    }

    /// Takes in the block at `height`. Blocks come in order; after a reorganisation those of the new branch follow from the
    /// fork on, and what only the old branch held becomes unconfirmed.
    ///
    /// # Errors
    /// [`WalletError::UnconnectedBlock`] where the block before it was never seen. Nothing changed.
    pub fn apply_block(&mut self, block: &Block, height: BlockHeight) -> Result<(), WalletError> {
        let is_next = height > self.height();
        self.inner.apply_block(block, height.height()).map_err(|_| WalletError::UnconnectedBlock(height))?;
        if is_next {
            self.unconfirmed.connect(block);
        } else {
            // A reorganisation: what only the old branch held is unconfirmed again.
            self.unconfirmed.forget();
        }
        Ok(())
    }

    /// Takes in transactions that are on their way to a block; `seen_at` is in seconds since 1970. What they spend is spent.
    pub fn apply_unconfirmed(&mut self, transactions: impl IntoIterator<Item = Arc<Transaction>>, seen_at: u64) {
        let transactions: Vec<_> = transactions.into_iter().collect();
        let spent: Vec<_> =
            transactions.iter().flat_map(|transaction| &transaction.input).map(|input| input.previous_output).collect();
        self.inner.apply_unconfirmed_txs(transactions.iter().map(|transaction| (Arc::clone(transaction), seen_at)));
        for transaction in &transactions {
            let txid = transaction.compute_txid();
            match self.inner.tx_graph().get_tx_node(txid) {
                Some(node) if node.anchors.is_empty() => self.unconfirmed.add(txid, transaction),
                // Its block may be in the chain or not.
                Some(_) => self.unconfirmed.forget(),
                None => {}
            }
        }
        // A lock holds a coin for a draft; from here on the transaction itself holds it.
        spent.into_iter().for_each(|outpoint| self.inner.unlock_outpoint(outpoint));
    }

    /// Forgets unconfirmed transactions that will not confirm, so that their coins are free again.
    pub fn evict(&mut self, txids: impl IntoIterator<Item = Txid>, evicted_at: u64) {
        self.unconfirmed.forget();
        self.inner.apply_evicted_txs(txids.into_iter().map(|txid| (txid, evicted_at)));
    }

    /// Keeps a coin for a draft.
    pub fn lock(&mut self, outpoint: OutPoint) {
        self.inner.lock_outpoint(outpoint);
    }

    /// Gives a coin back whose draft came to nothing.
    pub fn unlock(&mut self, outpoint: OutPoint) {
        self.inner.unlock_outpoint(outpoint);
    }

    /// What has changed since the last call, for the turn's record ([`WalletState::merge`]); `None` where nothing has.
    pub fn take_staged(&mut self) -> Option<Vec<u8>> {
        self.inner.take_staged().map(|staged| state::encode(&staged))
    }
}

/// The least output that the wallet makes for itself: what every node relays for P2WPKH.
const DUST: Amount = Amount::from_sat(330);
