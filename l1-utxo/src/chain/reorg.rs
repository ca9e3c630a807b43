//! Moving the tip, one block a step, until the best candidate is reached (Core: `ActivateBestChain`).

use std::sync::Arc;

use super::index::BlockId;
use super::{Archive, Chain, ChainError, connect};
use crate::consensus::{BlockError, HashedBlock};

/// One step of the active chain.
#[derive(Clone, Debug)]
pub enum ChainEvent {
    /// The block is the new tip.
    Connected {
        /// Its id.
        id: BlockId,
        /// The block.
        block: Arc<HashedBlock>,
    },
    /// The block was the tip; its parent is now.
    Disconnected {
        /// Its id.
        id: BlockId,
        /// The block.
        block: Arc<HashedBlock>,
    },
    /// The block breaks a rule: it and all that builds on it are marked invalid, the tip stays.
    Refused {
        /// Its id.
        id: BlockId,
        /// The rule.
        error: BlockError,
    },
}

impl Chain {
    /// Whether the tip is the best block there is: `step` would do nothing.
    pub fn is_settled(&self) -> bool {
        self.best_candidate() == self.tip()
    }

    /// Takes one step towards the best chain: disconnects the tip, or connects the next block. `None`: the tip is the best.
    /// `hint` is the block just accepted, which then need not be read. Any depth: the caller's loop is the only recursion.
    pub fn step(
        &mut self,
        archive: &mut dyn Archive,
        hint: Option<&Arc<HashedBlock>>,
    ) -> Result<Option<ChainEvent>, ChainError> {
        let target = self.best_candidate();
        let tip = self.tip();
        if target == tip {
            self.prune_candidates();
            return Ok(None);
        }
        if !self.index.is_ancestor(tip, target) {
            return self.disconnect_tip(archive).map(Some);
        }
        let next = self.index.ancestor(target, self.height() + 1).expect("the target is above the tip, its ancestor");
        self.connect(archive, next, hint).map(Some)
    }

    fn connect(
        &mut self,
        archive: &mut dyn Archive,
        id: BlockId,
        hint: Option<&Arc<HashedBlock>>,
    ) -> Result<ChainEvent, ChainError> {
        let block = match hint.filter(|block| block.hash() == self.entry(id).hash) {
            Some(block) => Arc::clone(block),
            None => self.read_block(archive, id)?,
        };
        let connection = match self.verify_on_tip(archive, &block) {
            Ok(connection) => connection,
            Err(error) => {
                self.mark_failed(id);
                return Ok(ChainEvent::Refused { id, error });
            }
        };
        if self.entry(id).undo.is_none() {
            let position = archive.append_undo(&block.hash(), &connection.undo)?;
            self.index.entry_mut(id).undo = Some(position);
            self.dirty_index.insert(id);
        }
        let height = self.entry(id).height;
        connect::apply(&mut self.coins, &block, height);
        self.active.push(id);
        // Better than where the way began, or on the way there: what is worse than the tip is no candidate any more, but
        // the old tip stays one until then, for a later block of the new branch may fail.
        if self.best_candidate() == id {
            self.prune_candidates();
        }
        Ok(ChainEvent::Connected { id, block })
    }

    fn disconnect_tip(&mut self, archive: &dyn Archive) -> Result<ChainEvent, ChainError> {
        let id = self.tip();
        let block = self.read_block(archive, id)?;
        let hash = block.hash();
        let position = self.entry(id).undo.ok_or(ChainError::Missing(hash))?;
        let undo = archive.undo(position)?;
        let height = self.height();
        connect::revert(&mut self.coins, archive, &block, undo, height)
            .map_err(|connect::UndoMismatch| ChainError::UndoMismatch(hash))?;
        self.active.pop();
        Ok(ChainEvent::Disconnected { id, block })
    }

    /// A block as the archive has it.
    pub fn read_block(&self, archive: &dyn Archive, id: BlockId) -> Result<Arc<HashedBlock>, ChainError> {
        let entry = self.entry(id);
        let position = entry.data.ok_or(ChainError::Missing(entry.hash))?;
        let block = HashedBlock::new(archive.block(position)?);
        if block.hash() == entry.hash { Ok(Arc::new(block)) } else { Err(ChainError::Missing(entry.hash)) }
    }

    /// The undo data of a connected block, as the archive has it.
    pub fn read_undo(&self, archive: &dyn Archive, id: BlockId) -> Result<connect::BlockUndo, ChainError> {
        let entry = self.entry(id);
        Ok(archive.undo(entry.undo.ok_or(ChainError::Missing(entry.hash))?)?)
    }
}
