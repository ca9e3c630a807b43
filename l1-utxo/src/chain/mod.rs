//! Which chain is best, and which coins it leaves. Pure over a port to blocks and coins (`Archive`).
//!
//! Knows headers as a tree by work, the active chain, and a write-back cache of coins; connects, disconnects and
//! reorganises, one step at a time. It never reads a clock, touches a file or waits; the store is behind the port, and
//! unconfirmed transactions are not known here.
//! Bitcoin Core: `chain.cpp`, `coins.cpp`, `Chainstate` in `validation.cpp`.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod coin;
mod coins;
mod connect;
mod deployment;
mod index;
mod reorg;
mod stats;
mod tree;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use bitcoin::{Block, BlockHash, OutPoint, Work};

use crate::consensus::script::SignatureCache;
use crate::consensus::{BlockError, HashedBlock};
use crate::params::Params;

pub use coin::{Coin, CoinView, LentCoin, is_unspendable};
pub use coins::{CoinsCache, CoinsTip};
pub use connect::{BlockUndo, ConnectContext, Connection, script_flags, verify_block};
pub use deployment::{Deployment, TESTDUMMY_BIT, unknown_rules};
pub use index::{BlockId, BlockIndex, Entry, IndexRow, Position};
pub use reorg::ChainEvent;
pub use stats::{CoinTotals, CoinsHash, CoinsStats, MuHash, coin_element, coins_stats};
pub use tree::{Acceptance, Source};

/// The archive cannot be read or written, or does not hold what it must.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ArchiveError(#[from] pub Box<dyn std::error::Error + Send + Sync>);

/// Where blocks, undo data and flushed coins lie. What is appended is durable only after the next flush of the coins.
pub trait Archive: CoinView {
    /// Appends a block.
    fn append_block(&mut self, block: &Block) -> Result<Position, ArchiveError>;
    /// Appends the undo data of a block.
    fn append_undo(&mut self, hash: &BlockHash, undo: &BlockUndo) -> Result<Position, ArchiveError>;
    /// Reads a block.
    fn block(&self, position: Position) -> Result<Block, ArchiveError>;
    /// Reads undo data.
    fn undo(&self, position: Position) -> Result<BlockUndo, ArchiveError>;
}

/// What stops the chain from working on: no rule is broken, but the disk fails or does not hold what it must.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The archive failed.
    #[error("the block archive failed: {0}")]
    Archive(#[from] ArchiveError),
    /// Undo data and coins of a block do not match it.
    #[error("the undo data or the coins of block {0} are damaged: start again with an empty data directory")]
    UndoMismatch(BlockHash),
    /// A block of the active chain, or one on the way to a better one, has no body or no undo data.
    #[error("block {0} is not in the archive: start again with an empty data directory")]
    Missing(BlockHash),
    /// What the store holds of the index makes no tree.
    #[error("the block index is damaged at block {0}: start again with an empty data directory")]
    BrokenIndex(BlockHash),
    /// The store belongs to a chain with another genesis.
    #[error("the block index begins with another genesis: {0}")]
    OtherGenesis(BlockHash),
}

/// Why a block was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// It breaks a rule.
    #[error(transparent)]
    Refused(#[from] BlockError),
    /// We failed.
    #[error(transparent)]
    Failed(#[from] ChainError),
}

/// The best chain and its coins.
pub struct Chain {
    params: &'static Params,
    index: BlockIndex,
    /// The active chain by height; never empty.
    active: Vec<BlockId>,
    coins: CoinsCache,
    /// Valid blocks with all before them here, and at least the tip's work; the best is last.
    candidates: BTreeSet<tree::Candidate>,
    best_header: BlockId,
    /// The next in the order in which chains become complete.
    next_sequence: i64,
    /// What precious blocks get, and the tip's work when the last was made so.
    precious: (i64, bitcoin::Work),
    /// Entries that the store does not have as they are.
    dirty_index: BTreeSet<BlockId>,
    signatures: Option<Arc<SignatureCache>>,
    minimum_work: Work,
}

/// What a flush must write, in one batch, after blocks and undo data are synced.
pub struct Dirty<'a> {
    /// The block whose coins these are.
    pub best_block: BlockHash,
    /// The changed coins.
    pub coins: &'a CoinsCache,
    /// The changed rows of the index.
    pub rows: Vec<IndexRow>,
}

impl Chain {
    /// The network's constants.
    pub const fn params(&self) -> &'static Params {
        self.params
    }

    /// All headers.
    pub const fn index(&self) -> &BlockIndex {
        &self.index
    }

    /// The last block of the active chain.
    pub fn tip(&self) -> BlockId {
        *self.active.last().expect("the genesis block is never disconnected")
    }

    /// The last block of the active chain.
    pub fn tip_entry(&self) -> &Entry {
        self.index.entry(self.tip())
    }

    /// The height of the active chain.
    pub fn height(&self) -> u32 {
        self.tip_entry().height
    }

    /// What is known of a block.
    pub fn entry(&self, id: BlockId) -> &Entry {
        self.index.entry(id)
    }

    /// The block with this hash, on whichever branch.
    pub fn find(&self, hash: &BlockHash) -> Option<BlockId> {
        self.index.find(hash)
    }

    /// The block at a height of the active chain.
    pub fn at_height(&self, height: u32) -> Option<BlockId> {
        self.active.get(height as usize).copied()
    }

    /// Whether the block is in the active chain.
    pub fn is_active(&self, id: BlockId) -> bool {
        self.at_height(self.entry(id).height) == Some(id)
    }

    /// The block after `id` in the active chain.
    pub fn next_active(&self, id: BlockId) -> Option<BlockId> {
        if self.is_active(id) { self.at_height(self.entry(id).height + 1) } else { None }
    }

    /// The valid header with the most work, whether or not its block is here.
    pub const fn best_header(&self) -> BlockId {
        self.best_header
    }

    /// The coins of the active chain.
    pub fn view<'a>(&'a self, archive: &'a dyn Archive) -> CoinsTip<'a> {
        CoinsTip { cache: &self.coins, base: archive }
    }

    /// A coin of the active chain.
    pub fn coin(&self, archive: &dyn Archive, outpoint: &OutPoint) -> Option<Coin> {
        self.view(archive).coin(outpoint)
    }

    /// The median time past of the block at a height of the active chain.
    pub fn median_time_past_at(&self, height: u32) -> u32 {
        self.at_height(height).map_or(0, |id| self.entry(id).median_time_past)
    }

    /// Bytes that the coins cache takes.
    pub fn coins_memory(&self) -> usize {
        self.coins.memory()
    }

    /// How many coins the store does not have as they are.
    pub const fn dirty_coins(&self) -> usize {
        self.coins.dirty_count()
    }

    /// How many entries of the index the store does not have as they are.
    pub fn dirty_blocks(&self) -> usize {
        self.dirty_index.len()
    }

    /// Whether the store lacks anything.
    pub fn is_dirty(&self) -> bool {
        self.coins.dirty_count() > 0 || !self.dirty_index.is_empty()
    }

    /// What the store lacks.
    pub fn dirty(&self) -> Dirty<'_> {
        Dirty {
            best_block: self.tip_entry().hash,
            coins: &self.coins,
            rows: self.dirty_index.iter().map(|id| self.entry(*id).row()).collect(),
        }
    }

    /// The store has it all. Unspent coins stay in the cache if it takes at most `keep` bytes.
    pub fn flushed(&mut self, keep: usize) {
        self.coins.flushed(keep);
        self.dirty_index.clear();
    }

    /// Looks up in `signatures` before it verifies any: what the mempool has seen is not verified again. `None`: there is
    /// nothing to be found, nor worth keeping.
    pub fn use_signature_cache(&mut self, signatures: Option<Arc<SignatureCache>>) {
        self.signatures = signatures;
    }

    /// Checks a block as the next one of the active chain, without its proof of work and without changing anything
    /// (Core: `TestBlockValidity`).
    pub fn check_template(
        &self,
        archive: &dyn Archive,
        block: &HashedBlock,
        now: u64,
    ) -> Result<Connection, BlockError> {
        use crate::consensus::block::{check_block, check_block_in_context};
        use crate::consensus::header::check_header_in_context;
        check_block(block, self.params, false)?;
        let tip = self.tip_entry();
        check_header_in_context(&block.block().header, &self.header_context(self.tip(), now), self.params)?;
        check_block_in_context(block, tip.height + 1, tip.median_time_past, self.params)?;
        self.verify_on_tip(archive, block)
    }

    fn verify_on_tip(&self, archive: &dyn Archive, block: &HashedBlock) -> Result<Connection, BlockError> {
        let tip = self.tip_entry();
        let context = ConnectContext {
            params: self.params,
            height: tip.height + 1,
            median_time_past: tip.median_time_past,
            median_time_past_at: &|height| self.median_time_past_at(height),
            signatures: self.signatures.as_deref(),
        };
        verify_block(block, &context, &self.view(archive))
    }
}
