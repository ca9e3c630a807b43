//! What a start finds: the rows of the last flush, and what was appended to the log after it.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::consensus::encode::{VarInt, deserialize_partial};
use bitcoin::hashes::Hash;
use fjall::Keyspace;

use super::segment::{FIRST_RECORD, Kind};
use super::{Malformed, Store, StoreError, Stored, codec};
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

/// The number of the last flush, if none of the last ones is missing: each wrote its number along with its coins, and a
/// database that lost a journal in the middle would know coins of later ones only.
pub(super) fn count_flushes(rows: &Keyspace, chainstate: &Path) -> Result<u64, StoreError> {
    let mut missing = None;
    let mut last: Option<u64> = None;
    for row in rows.prefix([codec::FLUSHES]) {
        let number = codec::decode_flush_key(&row.key()?)?;
        let expected = last.map_or(number, |last| last + 1);
        if number != expected {
            missing.get_or_insert(expected);
        }
        last = Some(number);
    }
    let last = last.unwrap_or(0);
    match missing {
        Some(number) => Err(StoreError::LostFlush { chainstate: chainstate.to_owned(), number, last }),
        None => Ok(last),
    }
}

impl Store {
    pub(super) fn recover(&mut self) -> Result<Recovered, StoreError> {
        let Stored { rows, best_block, flushed: from } = self.stored()?;
        let tail = self.tail(from)?;
        Ok(Recovered { rows, best_block, tail })
    }

    /// The rows of the last flush, the block whose coins are stored, and the end of the log at that time.
    pub(super) fn flushed(&self) -> Result<Stored, StoreError> {
        let flushed = match self.rows.get(codec::LOG_END)? {
            Some(value) => codec::decode_log_end(&value)?,
            None => (0, FIRST_RECORD),
        };
        let best_block = self.rows.get(codec::BEST_BLOCK)?.map(|value| {
            let bytes: [u8; 32] = value.as_ref().try_into().map_err(|_| Malformed("best block"))?;
            Ok::<_, StoreError>(BlockHash::from_byte_array(bytes))
        });
        Ok(Stored { rows: self.index_rows()?, best_block: best_block.transpose()?, flushed })
    }

    pub(super) fn other_log(&self, (segment, offset): (u32, u32)) -> StoreError {
        StoreError::OtherLog { path: self.log.path(segment as usize), offset, chainstate: self.chainstate.clone() }
    }

    fn index_rows(&self) -> Result<Vec<IndexRow>, StoreError> {
        let rows = self.rows.prefix([codec::INDEX]).map(|row| {
            let (key, value) = row.into_inner()?;
            Ok(codec::decode_row(codec::decode_row_height(&key)?, &value)?)
        });
        rows.collect()
    }

    /// Whether the first and the last record of each segment that the rows know are theirs: files that were swapped, cut, or
    /// are another node's do not hold them.
    pub(super) fn check_anchors(&self, rows: &[IndexRow], end: (u32, u32)) -> Result<(), StoreError> {
        let mut ends: BTreeMap<u32, [(Position, Kind, BlockHash); 2]> = BTreeMap::new();
        for row in rows {
            let hash = row.header.block_hash();
            for (position, kind) in [(row.data, Kind::Block), (row.undo, Kind::Undo)] {
                let Some(position) = position else { continue };
                let anchor = (position, kind, hash);
                let [first, last] = ends.entry(position.segment).or_insert([anchor; 2]);
                if position < first.0 {
                    *first = anchor;
                }
                if position > last.0 {
                    *last = anchor;
                }
            }
        }
        for (position, kind, hash) in ends.into_values().flatten() {
            let place = (position.segment, position.offset);
            if place >= end || !self.is_record_of(position, kind, &hash)? {
                return Err(self.other_log(place));
            }
        }
        Ok(())
    }

    /// Whether the record at a place is whole and that of this block.
    fn is_record_of(&self, position: Position, kind: Kind, hash: &BlockHash) -> Result<bool, StoreError> {
        let content = match self.log.read(kind, position) {
            Ok(content) => content,
            Err(StoreError::DamagedRecord { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        Ok(match tail_record(kind, position, &content)? {
            TailRecord::Block { header, .. } => header.block_hash() == *hash,
            TailRecord::Undo { hash: found, .. } => found == *hash,
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

pub(super) fn tail_record(kind: Kind, position: Position, content: &[u8]) -> Result<TailRecord, Malformed> {
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
