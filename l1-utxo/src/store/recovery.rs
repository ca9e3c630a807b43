//! What a start finds: the rows of the last flush, and what was appended to the log after it.

use std::collections::{BTreeMap, VecDeque};

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::consensus::encode::{VarInt, deserialize_partial};
use bitcoin::hashes::Hash;

use super::segment::{FIRST_RECORD, Kind};
use super::{Malformed, Store, StoreError, codec};
use crate::chain::{Chain, ChainError, IndexRow, Position};
use crate::params::Params;

/// What is on disk, for the chain to begin with.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// The index as it was flushed last, parents first.
    pub rows: Vec<IndexRow>,
    /// The block whose coins are stored.
    pub best_block: Option<BlockHash>,
    /// What was appended to the log after the last flush.
    pub tail: Vec<TailRecord>,
}

/// A whole record that the index does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TailRecord {
    /// A block.
    Block {
        /// Its header.
        header: Header,
        /// How many transactions it has.
        transaction_count: u32,
        /// Where it is.
        position: Position,
    },
    /// Undo data.
    Undo {
        /// The block's hash.
        hash: BlockHash,
        /// Where it is.
        position: Position,
    },
}

impl Recovered {
    /// The chain as it was, with what was not flushed taken in but not yet connected: `Chain::step` does that.
    pub fn into_chain(self, params: &'static Params, salt: u64) -> Result<Chain, ChainError> {
        let mut chain = Chain::open(params, self.rows, self.best_block, salt)?;
        let is_block = |record: &TailRecord| matches!(record, TailRecord::Block { .. });
        let (blocks, undo): (Vec<_>, Vec<_>) = self.tail.into_iter().partition(is_block);
        recover_blocks(&mut chain, blocks.into());
        for record in undo {
            if let TailRecord::Undo { hash, position } = record {
                chain.recover_undo(&hash, position);
            }
        }
        Ok(chain)
    }
}

/// A block may lie before its parent, if headers came first: it waits for it.
fn recover_blocks(chain: &mut Chain, mut blocks: VecDeque<TailRecord>) {
    let mut waiting: BTreeMap<BlockHash, Vec<TailRecord>> = BTreeMap::new();
    while let Some(record) = blocks.pop_front() {
        let TailRecord::Block { header, transaction_count, position } = &record else { continue };
        if chain.recover_block(header, *transaction_count, *position) {
            let children = waiting.remove(&header.block_hash()).unwrap_or_default();
            children.into_iter().rev().for_each(|child| blocks.push_front(child));
        } else {
            waiting.entry(header.prev_blockhash).or_default().push(record);
        }
    }
}

impl Store {
    pub(super) fn recover(&mut self) -> Result<Recovered, StoreError> {
        if let Some(recovered) = self.recover_flushed()? {
            return Ok(recovered);
        }
        tracing::warn!("the block log ends before the last flush: coins and index are made again from it");
        self.rows.clear()?;
        let tail = self.tail((0, FIRST_RECORD))?;
        Ok(Recovered { rows: Vec::new(), best_block: None, tail })
    }

    /// `None`: the log does not hold what the rows rest on.
    fn recover_flushed(&mut self) -> Result<Option<Recovered>, StoreError> {
        let from = match self.rows.get(codec::LOG_END)? {
            Some(value) => codec::decode_log_end(&value)?,
            None => (0, FIRST_RECORD),
        };
        let best_block = self.rows.get(codec::BEST_BLOCK)?.map(|value| {
            let bytes: [u8; 32] = value.as_ref().try_into().map_err(|_| Malformed("best block"))?;
            Ok::<_, StoreError>(BlockHash::from_byte_array(bytes))
        });
        let best_block = best_block.transpose()?;
        let rows = self.index_rows()?;
        if !self.log.reaches(from)? || !self.holds_last(&rows, from) {
            return Ok(None);
        }
        let tail = self.tail(from)?;
        Ok(Some(Recovered { rows, best_block, tail }))
    }

    fn index_rows(&self) -> Result<Vec<IndexRow>, StoreError> {
        let rows = self.rows.prefix([codec::INDEX]).map(|row| {
            let (key, value) = row.into_inner()?;
            Ok(codec::decode_row(codec::decode_row_height(&key)?, &value)?)
        });
        rows.collect()
    }

    /// Whether the last record before `end` is whole: the one that a torn disk would have lost first.
    fn holds_last(&self, rows: &[IndexRow], end: (u32, u32)) -> bool {
        let data = rows.iter().filter_map(|row| Some((row.data?, Kind::Block)));
        let undo = rows.iter().filter_map(|row| Some((row.undo?, Kind::Undo)));
        let last = data.chain(undo).max_by_key(|(position, _)| *position);
        last.is_none_or(|(position, kind)| {
            (position.segment, position.offset) < end && self.log.read(kind, position).is_ok()
        })
    }

    fn tail(&mut self, from: (u32, u32)) -> Result<Vec<TailRecord>, StoreError> {
        let mut tail = Vec::new();
        self.log.scan(from, |kind, position, content| {
            tail.push(tail_record(kind, position, content)?);
            Ok(())
        })?;
        if !tail.is_empty() {
            tracing::info!(records = tail.len(), "found what was not flushed before the last stop");
        }
        Ok(tail)
    }
}

fn tail_record(kind: Kind, position: Position, content: &[u8]) -> Result<TailRecord, Malformed> {
    match kind {
        Kind::Block => {
            let (header, read): (Header, usize) = deserialize_partial(content).map_err(|_| Malformed("block"))?;
            let (count, _): (VarInt, usize) = deserialize_partial(&content[read..]).map_err(|_| Malformed("block"))?;
            let transaction_count = u32::try_from(count.0).map_err(|_| Malformed("block"))?;
            Ok(TailRecord::Block { header, transaction_count, position })
        }
        Kind::Undo => {
            let hash = content.first_chunk::<32>().ok_or(Malformed("undo data"))?;
            Ok(TailRecord::Undo { hash: BlockHash::from_byte_array(*hash), position })
        }
    }
}
