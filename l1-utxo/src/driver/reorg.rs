//! Moving to the best chain, with what that does to the mempool.

use std::collections::VecDeque;
use std::sync::Arc;

use bitcoin::{Transaction, Txid};

use super::Notice;
use super::ledger::{Ledger, LedgerError};
use crate::chain::{BlockId, ChainEvent};
use crate::consensus::{BlockError, HashedBlock};
use crate::sync::ChainNews;

/// Bytes of disconnected blocks whose transactions may come back (Core: `MAX_DISCONNECTED_TX_POOL_BYTES`).
const MAX_RETURNED_BYTES: usize = 20_000_000;

/// Blocks that a reorganisation connects before listeners hear of any.
const MAX_WITHHELD: usize = 32;

/// Blocks that were disconnected, the oldest first.
#[derive(Default)]
struct Disconnected {
    blocks: VecDeque<Arc<HashedBlock>>,
    bytes: usize,
}

impl Disconnected {
    fn add(&mut self, block: Arc<HashedBlock>) {
        self.bytes += block.total_size();
        self.blocks.push_front(block);
        // The newest go first: nothing older rests on them.
        while self.bytes > MAX_RETURNED_BYTES && self.blocks.len() > 1 {
            self.bytes -= self.blocks.pop_back().map_or(0, |block| block.total_size());
        }
    }

    fn txids(&self) -> Vec<Txid> {
        self.blocks.iter().flat_map(|block| block.txids()).copied().collect()
    }

    fn transactions(&self) -> Vec<Arc<Transaction>> {
        self.blocks.iter().flat_map(|block| block.transactions()).cloned().map(Arc::new).collect()
    }
}

impl Ledger {
    /// Steps to the best chain, tells the mempool, and publishes the new tip. Returns the blocks that broke a rule.
    pub(super) fn settle(
        &mut self,
        hint: Option<&Arc<HashedBlock>>,
    ) -> Result<Vec<(BlockId, BlockError)>, LedgerError> {
        let mut refused = Vec::new();
        let mut disconnected = Disconnected::default();
        let mut connected = Vec::new();
        // An empty mempool has seen no signature: a first download fills no cache that nobody asks.
        let has_seen = !self.mempool.is_empty();
        self.chain.use_signature_cache(has_seen.then(|| Arc::clone(&self.signatures)));
        loop {
            let event = match self.chain.step(&mut self.store, hint) {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(error) => return Err(self.fail(error)),
            };
            match event {
                ChainEvent::Connected { id, block } => {
                    let now = self.now();
                    self.mempool.block_connected(block.iter(), now);
                    self.notify_of_mempool();
                    self.learn_of_block(self.chain.entry(id).height);
                    self.note(ChainNews::Connected(Arc::clone(&block)));
                    if disconnected.blocks.is_empty() || connected.len() >= MAX_WITHHELD {
                        self.notify_connected(&mut connected);
                        self.notify(Notice::Connected(block));
                    } else {
                        connected.push(block);
                    }
                }
                ChainEvent::Disconnected { block, .. } => {
                    self.notify_connected(&mut connected);
                    self.note(ChainNews::Disconnected);
                    self.notify(Notice::Disconnected(Arc::clone(&block)));
                    disconnected.add(block);
                }
                ChainEvent::Refused { id, error } => {
                    tracing::warn!(hash = %self.chain.entry(id).hash, %error, "a block was refused");
                    refused.push((id, error));
                }
            }
            if self.is_full() {
                self.flush()?;
            }
        }
        if !disconnected.blocks.is_empty() {
            let returned = disconnected.transactions();
            let txids = disconnected.txids();
            self.with_mempool(|mempool, cx| mempool.chain_reorganised(returned, cx));
            self.note(ChainNews::Returned(txids));
        }
        self.notify_connected(&mut connected);
        self.chain.use_signature_cache(Some(Arc::clone(&self.signatures)));
        self.publish();
        Ok(refused)
    }

    /// What a reorganisation connects is told after what it brought back into the mempool, as Core does.
    fn notify_connected(&self, connected: &mut Vec<Arc<HashedBlock>>) {
        connected.drain(..).for_each(|block| self.notify(Notice::Connected(block)));
    }
}
