//! Keeping the indexes up with the chain: some blocks at a time, so that nothing waits long.

use bitcoin::Txid;
use bitcoin::bip158::{FilterHash, FilterHeader};

use super::ledger::{Ledger, LedgerError};
use crate::chain::BlockId;
use crate::store::{IndexedBlock, Indexes, StoreError};

/// Blocks that go in together.
const STEP: usize = 64;
/// Blocks that are put in at once for somebody who asks. Where more are missing they are not there yet: a peer's question
/// must not hold up the chain while an index is made.
const CATCH_UP: u32 = 1_000;

/// How far the indexes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexStatus {
    /// Whether the active chain is in them, all of it.
    pub is_synced: bool,
    /// The height of the last block in them.
    pub height: u32,
}

impl Ledger {
    /// Which indexes are kept.
    pub fn indexes(&self) -> Indexes {
        self.indexes.as_ref().map_or_else(Indexes::default, |indexes| indexes.kinds())
    }

    /// How far they are.
    pub fn index_status(&self) -> IndexStatus {
        let height = self.next_to_index.saturating_sub(1);
        IndexStatus { is_synced: self.is_indexed(), height }
    }

    pub(super) fn is_indexed(&self) -> bool {
        self.indexes.is_none() || (self.next_to_index > self.chain.height() && self.indexed_tip_is_active())
    }

    fn indexed_tip_is_active(&self) -> bool {
        let last = self.next_to_index.checked_sub(1).and_then(|height| self.chain.at_height(height));
        last.map(|id| self.chain.entry(id).hash) == self.last_indexed
    }

    /// Finds the first block that is not in the indexes, after a start.
    pub(super) fn find_indexed(&mut self) -> Result<(), LedgerError> {
        let Some(indexes) = &self.indexes else { return Ok(()) };
        let best = indexes.best()?;
        let id = best.and_then(|hash| self.chain.find(&hash));
        self.last_indexed = best.filter(|_| id.is_some());
        self.next_to_index = id.map_or(0, |id| self.chain.entry(id).height + 1);
        Ok(())
    }

    /// Puts the next blocks in; does nothing where all are.
    pub(super) fn index_some(&mut self) -> Result<(), LedgerError> {
        if self.is_indexed() {
            return Ok(());
        }
        self.leave_branch();
        let first = self.next_to_index;
        let ids: Vec<BlockId> = (first..).map_while(|height| self.chain.at_height(height)).take(STEP).collect();
        let mut blocks = Vec::with_capacity(ids.len());
        for id in &ids {
            let undo = if self.chain.entry(*id).height == 0 { None } else { Some(self.read_undo(*id)?) };
            blocks.push((self.read_block(*id)?, undo));
        }
        let rows: Vec<IndexedBlock<'_>> = blocks
            .iter()
            .map(|(block, undo)| IndexedBlock {
                block: block.block(),
                hash: block.hash(),
                txids: block.txids(),
                undo: undo.as_ref(),
            })
            .collect();
        let last = rows.last().map(|row| row.hash);
        if let Some(indexes) = &self.indexes {
            indexes.append(&rows)?;
        }
        self.next_to_index += u32::try_from(ids.len()).unwrap_or(0);
        self.last_indexed = last.or(self.last_indexed);
        Ok(())
    }

    /// Steps back to a block of the active chain if the last one is on another branch by now.
    fn leave_branch(&mut self) {
        let mut at = self.last_indexed.and_then(|hash| self.chain.find(&hash));
        while let Some(id) = at.filter(|id| !self.chain.is_active(*id)) {
            at = self.chain.entry(id).parent;
        }
        self.last_indexed = at.map(|id| self.chain.entry(id).hash);
        self.next_to_index = at.map_or(0, |id| self.chain.entry(id).height + 1);
    }

    /// Puts all blocks in that are missing, unless the index is still being made (Core: `BlockUntilSyncedToCurrentChain`).
    fn index_all(&mut self) {
        if self.chain.height().saturating_sub(self.next_to_index) > CATCH_UP {
            return;
        }
        while !self.is_indexed() {
            if let Err(error) = self.index_some() {
                // The disk, most likely: the thread's own turn meets it again, and ends the node.
                tracing::error!(%error, "a block could not be indexed");
                return;
            }
        }
    }

    /// A block's filter, if filters are kept and the block was ever in the active chain.
    pub fn block_filter(&mut self, id: BlockId) -> Option<Vec<u8>> {
        self.index_all();
        readable(self.indexes.as_ref()?.filter(&self.chain.entry(id).hash))
    }

    /// The header and the hash of the same.
    pub fn filter_header(&mut self, id: BlockId) -> Option<(FilterHeader, FilterHash)> {
        self.index_all();
        readable(self.indexes.as_ref()?.filter_header(&self.chain.entry(id).hash))
    }

    /// The block of a transaction and its place there, if transactions are indexed.
    pub fn indexed_transaction(&mut self, txid: &Txid) -> Option<(BlockId, usize)> {
        self.index_all();
        let (hash, place) = readable(self.indexes.as_ref()?.transaction(txid))?;
        Some((self.chain.find(&hash)?, place))
    }
}

fn readable<T>(row: Result<Option<T>, StoreError>) -> Option<T> {
    row.inspect_err(|error| tracing::error!(%error, "an index could not be read")).ok().flatten()
}
