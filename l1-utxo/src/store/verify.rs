//! A directory that is looked at and not used: opened without making, cutting or recovering anything.

use std::path::Path;

use bitcoin::hashes::Hash;
use bitcoin::{Block, BlockHash};

use super::segment::{Kind, SegmentLog};
use super::{CHAINSTATE, Malformed, Store, StoreError, StoreOptions, codec, directory};
use crate::chain::{BlockUndo, IndexRow, Position};
use crate::consensus::decode::decode_block;
use crate::params::Params;

/// What the database says is there.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The block index, parents first.
    pub rows: Vec<IndexRow>,
    /// The block whose coins are stored.
    pub best_block: Option<BlockHash>,
    /// Segment and offset up to which the log was flushed.
    pub flushed: (u32, u32),
}

/// A record of the log.
#[derive(Clone, Debug)]
pub enum Content {
    /// A block.
    Block(Box<Block>),
    /// Undo data, and whose they are.
    Undo(BlockHash, BlockUndo),
}

impl Store {
    /// Opens a directory that exists, for looking only. The database replays its own journal, which changes no content.
    pub fn open_to_check(dir: &Path, params: &Params, options: StoreOptions) -> Result<Self, StoreError> {
        let lock = directory::claim_existing(dir, params.network)?;
        let blocks = dir.join("blocks");
        if !blocks.is_dir() || !dir.join(CHAINSTATE).is_dir() {
            return Err(StoreError::Nothing { dir: dir.to_owned() });
        }
        let log = SegmentLog::open_to_read(&blocks, params.magic)?;
        Self::with(dir, log, lock, options)
    }

    /// What the database says, once the segments at hand are known to be those it speaks of.
    pub fn stored(&self) -> Result<Stored, StoreError> {
        let stored = self.flushed()?;
        if !self.log.reaches(stored.flushed)? {
            return Err(self.other_log(stored.flushed));
        }
        self.check_anchors(&stored.rows, stored.flushed)?;
        Ok(stored)
    }

    /// Bytes of the last segment behind a place.
    pub fn bytes_after(&self, (segment, offset): (u32, u32)) -> Result<u64, StoreError> {
        self.log.bytes_after(segment, offset)
    }

    /// Reads every record and its checksum; tells how many whole ones there are, and up to where.
    pub fn read_log(
        &self,
        mut each: impl FnMut(Position, Content) -> Result<(), StoreError>,
    ) -> Result<(u64, (u32, u32)), StoreError> {
        let mut count = 0;
        let end = self.log.read_all(|kind, position, content| {
            count += 1;
            each(position, decode(kind, content)?)
        })?;
        Ok((count, end))
    }
}

fn decode(kind: Kind, content: &[u8]) -> Result<Content, Malformed> {
    Ok(match kind {
        Kind::Block => {
            let (block, length) = decode_block(content).map_err(|_| Malformed("block"))?;
            if length != content.len() {
                return Err(Malformed("block"));
            }
            Content::Block(Box::new(block))
        }
        Kind::Undo => {
            let (hash, undo) = content.split_first_chunk::<32>().ok_or(Malformed("undo data"))?;
            Content::Undo(BlockHash::from_byte_array(*hash), codec::decode_undo(undo)?)
        }
    })
}
