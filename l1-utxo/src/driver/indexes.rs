//! Keeping the indexes up with the chain: some blocks at a time, so that nothing waits long.

use bitcoin::bip158::{FilterHash, FilterHeader};
use bitcoin::{OutPoint, Txid};

use super::ledger::{Ledger, LedgerError};
use crate::chain::{BlockId, CoinTotals};
use crate::consensus::subsidy::block_subsidy;
use crate::store::{IndexedBlock, Indexes, StoreError};

/// Blocks that go in together.
const STEP: usize = 64;
/// Bytes of blocks after which no more go in with them.
const STEP_BYTES: usize = 1 << 20;
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

    /// Whether the last block that went in is the tip or one after it: blocks that were disconnected are taken out again
    /// when others come in their place, as Core does.
    pub(super) fn is_indexed(&self) -> bool {
        let tip = self.chain.tip();
        let is_beyond = |id| self.chain.index().is_ancestor(tip, id);
        self.indexes.is_none() || self.last_indexed.and_then(|hash| self.chain.find(&hash)).is_some_and(is_beyond)
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
        self.leave_branch()?;
        let first = self.next_to_index;
        let ids: Vec<BlockId> = (first..).map_while(|height| self.chain.at_height(height)).take(STEP).collect();
        let mut blocks = Vec::with_capacity(ids.len());
        let mut bytes = 0;
        for id in &ids {
            let undo = if self.chain.entry(*id).height == 0 { None } else { Some(self.read_undo(*id)?) };
            let block = self.read_block(*id)?;
            bytes += block.total_size();
            blocks.push((self.chain.entry(*id).height, block, undo));
            if bytes > STEP_BYTES {
                break;
            }
        }
        let halving_interval = self.chain.params().subsidy_halving_interval;
        let rows: Vec<IndexedBlock<'_>> = blocks
            .iter()
            .map(|(height, block, undo)| IndexedBlock {
                block: block.block(),
                hash: block.hash(),
                txids: block.txids(),
                undo: undo.as_ref(),
                height: *height,
                subsidy: block_subsidy(*height, halving_interval).to_sat(),
            })
            .collect();
        let last = rows.last().map(|row| row.hash);
        if let Some(indexes) = &self.indexes {
            indexes.append(&rows)?;
        }
        self.next_to_index += u32::try_from(rows.len()).unwrap_or(0);
        self.last_indexed = last.or(self.last_indexed);
        Ok(())
    }

    /// Steps back to a block of the active chain if the last one is on another branch by now.
    fn leave_branch(&mut self) -> Result<(), LedgerError> {
        let mut at = self.last_indexed.and_then(|hash| self.chain.find(&hash));
        while let Some(id) = at.filter(|id| !self.chain.is_active(*id)) {
            if let Some(indexes) = &self.indexes {
                indexes.remove(self.read_block(id)?.block())?;
            }
            at = self.chain.entry(id).parent;
            self.last_indexed = at.map(|id| self.chain.entry(id).hash);
        }
        self.next_to_index = at.map_or(0, |id| self.chain.entry(id).height + 1);
        Ok(())
    }

    /// Puts all blocks in that are missing, unless the index is still being made (Core: `BlockUntilSyncedToCurrentChain`).
    /// Returns whether all are in.
    pub fn index_all(&mut self) -> bool {
        if self.chain.height().saturating_sub(self.next_to_index) > CATCH_UP {
            return false;
        }
        while !self.is_indexed() {
            if let Err(error) = self.index_some() {
                // The disk, most likely: the thread's own turn meets it again, and ends the node.
                tracing::error!(%error, "a block could not be indexed");
                return false;
            }
        }
        true
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

    /// The block in which an output is spent and the spending transaction's place there, if spends are indexed.
    pub fn indexed_spender(&mut self, outpoint: &OutPoint) -> Option<(BlockId, usize)> {
        self.index_all();
        let (hash, place) = readable(self.indexes.as_ref()?.spender(outpoint))?;
        let (id, last) = (self.chain.find(&hash)?, self.chain.find(&self.last_indexed?)?);
        // A row of a block that was never taken out, for a crash had made it unknown, says nothing.
        self.chain.index().is_ancestor(id, last).then_some((id, place))
    }

    /// What the coins at a block are, if statistics are kept and the block was ever in the active chain.
    pub fn coin_totals(&mut self, id: BlockId) -> Option<CoinTotals> {
        self.index_all();
        readable(self.indexes.as_ref()?.totals(&self.chain.entry(id).hash))
    }
}

fn readable<T>(row: Result<Option<T>, StoreError>) -> Option<T> {
    row.inspect_err(|error| tracing::error!(%error, "an index could not be read")).ok().flatten()
}
