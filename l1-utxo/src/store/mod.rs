//! What the chain keeps on disk, and the only room with fjall: blocks and undo data in segment files, coins and the block
//! index in one keyspace.
//!
//! Blocks and undo data are synced before the coins that rest on them are flushed, and the coins, the index rows and the
//! name of the best block go in one atomic batch. So after a crash the coins are those of some block whose predecessors
//! are all here, and what came after it is connected again. Never decides what is valid or best.
//! Core: `node/blockstorage.cpp`, `txdb.cpp`.

mod ahead;
mod codec;
mod coins;
mod directory;
mod dump;
pub mod estimates;
mod flush;
mod index;
pub mod pool;
mod recovery;
mod segment;
mod verify;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use bitcoin::consensus::{Encodable, deserialize};
use bitcoin::hashes::Hash;
use bitcoin::{Block, BlockHash};
use fjall::config::CompressionPolicy;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions};

use crate::chain::{Archive, ArchiveError, BlockUndo, Position};
use crate::params::{Network, Params};

pub use codec::Malformed;
pub use coins::CoinsSnapshot;
pub use dump::{Dump, DumpHead, is_pipe};
pub use index::{IndexStore, IndexedBlock, Indexes};
pub use recovery::Recovered;
pub use verify::{Content, Stored};

use segment::{Kind, SegmentLog};

/// Why the store cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system refused.
    #[error("{}: {source}: see that it can be read and written, or restore it from a copy", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process has the directory.
    #[error("{} is in use by another l1-utxo: stop that one, or choose another --data-dir", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory belongs to another network.
    #[error("{} belongs to the network {found}, not to {wanted}: choose another --data-dir or --network", dir.display())]
    OtherNetwork {
        /// The directory.
        dir: PathBuf,
        /// The network in its marker.
        found: String,
        /// The network asked for.
        wanted: &'static str,
    },
    /// The directory holds what is not ours.
    #[error("{} is not a data directory of l1-utxo (it holds \"{entry}\"): choose another --data-dir", dir.display())]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// Something in it.
        entry: String,
    },
    /// The directory, or a file in it, was written in a format that is not ours.
    #[error(
        "{} has format {found}, and this l1-utxo knows format {FORMAT}: use the version that wrote it, or another \
         --data-dir",
        path.display()
    )]
    OtherFormat {
        /// The directory or file.
        path: PathBuf,
        /// The number of its format.
        found: u32,
    },
    /// There is no data directory to look at.
    #[error("{} holds no chain: nothing to check; is --data-dir or --network another?", dir.display())]
    Nothing {
        /// The directory.
        dir: PathBuf,
    },
    /// A file of the block log is none, or another network's.
    #[error("{} is no segment of this network's block log: put back the one that was here", path.display())]
    NotASegment {
        /// The file.
        path: PathBuf,
    },
    /// A segment in the middle is not there.
    #[error("{} is missing although later segments are here: put it back", path.display())]
    MissingSegment {
        /// The file.
        path: PathBuf,
    },
    /// A record of the block log does not have its checksum, and more follows it.
    #[error(
        "{} is damaged at byte {offset}, and it is not the end that a crash leaves: restore it from a copy, or remove \
         everything in the data directory and sync again",
        path.display()
    )]
    DamagedRecord {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u32,
    },
    /// The log is not the one that coins and index rest on.
    #[error(
        "{} does not hold what the coins in {} rest on (byte {offset}): put back the files that belong together, or \
         remove {} and start again, and it is made anew from the blocks that are here",
        path.display(), chainstate.display(), chainstate.display()
    )]
    OtherLog {
        /// The segment.
        path: PathBuf,
        /// Where in it.
        offset: u32,
        /// The folder of coins and index.
        chainstate: PathBuf,
    },
    /// The disk, or what we may write, is full.
    #[error("{}: {source}: make room and start again; what was stored is still there", path.display())]
    Full {
        /// What was to be written.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A record would be longer than any block can be.
    #[error("a record for the block log is too long")]
    RecordTooLong,
    /// Stored bytes are not what they should be, although their checksum is right.
    #[error("the store is damaged: {0}")]
    Malformed(#[from] Malformed),
    /// A flush in the middle is not there although later ones are.
    #[error(
        "{} has lost flush {number} of {last}, so coins in it may be wrong: restore it from a copy, or remove it and start \
         again, and it is made anew from the blocks",
        chainstate.display()
    )]
    LostFlush {
        /// The folder of coins and index.
        chainstate: PathBuf,
        /// The first that is missing.
        number: u64,
        /// The last that is there.
        last: u64,
    },
    /// A file is not there without which the database would begin anew, and take in what its journal holds.
    #[error(
        "{} is missing: restore it from a copy, or remove {} and start again, and it is made anew from the blocks",
        path.display(), chainstate.display()
    )]
    MissingMarker {
        /// The file.
        path: PathBuf,
        /// The folder of coins and index.
        chainstate: PathBuf,
    },
    /// The database of coins failed.
    #[error(
        "the database of coins: {0}: if the disk is well and has room, restore chainstate/ in the data directory from a \
         copy, or remove it, and it is made anew from the blocks"
    )]
    Database(fjall::Error),
    /// There is no room for the database of coins.
    #[error("the database of coins: {0}: make room and start again; what was stored is still there")]
    DatabaseFull(io::Error),
}

impl From<fjall::Error> for StoreError {
    fn from(error: fjall::Error) -> Self {
        match error {
            fjall::Error::Io(source) | fjall::Error::Storage(fjall::LsmError::Io(source)) if is_full(&source) => {
                Self::DatabaseFull(source)
            }
            other => Self::Database(other),
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | FileTooLarge | QuotaExceeded)
}

/// The format of the whole directory.
const FORMAT: u32 = 1;
/// Flushes of which the number is kept: more than the database's journals hold, which is where one could get lost.
const KEPT_FLUSHES: u64 = 16_384;
/// The folder of coins and index in it.
const CHAINSTATE: &str = "chainstate";

impl StoreError {
    fn io(path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| match is_full(&source) {
            true => Self::Full { path: path.clone(), source },
            false => Self::Io { path: path.clone(), source },
        }
    }
}

/// How memory and files are divided. Memory together with the block cache below at most 64 MB by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// Bytes that the database keeps in memory before it writes a table.
    pub memtable: u64,
    /// Bytes of tables that the database caches.
    pub block_cache: u64,
    /// Bytes of the block log after which a new file begins.
    pub segment_size: u32,
    /// From this many changed coins on, a flush is a table of its own.
    pub table_from: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { memtable: 8 << 20, block_cache: 8 << 20, segment_size: 128 << 20, table_from: 10_000 }
    }
}

/// A data directory that is ours as long as this lives: nobody else may write there.
#[derive(Debug)]
pub struct Claim {
    dir: PathBuf,
    lock: File,
}

impl Claim {
    /// Takes the directory of a network, making it if need be. Reads nothing yet, so it is quick.
    pub fn take(dir: &Path, network: Network) -> Result<Self, StoreError> {
        Ok(Self { dir: dir.to_owned(), lock: directory::claim(dir, network)? })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// Blocks, undo data, coins and index of one network.
pub struct Store {
    log: SegmentLog,
    database: Database,
    rows: Keyspace,
    chainstate: PathBuf,
    table_from: usize,
    /// How often was flushed, in the life of the directory.
    flushes: u64,
    /// Held, not used: the directory is ours as long as it is open. Last, so that it is released last.
    _lock: File,
}

impl Store {
    /// Takes the directory, or makes it, and finds out what is there.
    pub fn open(dir: &Path, params: &Params, options: StoreOptions) -> Result<(Self, Recovered), StoreError> {
        Self::open_claimed(Claim::take(dir, params.network)?, params, options)
    }

    /// Finds out what is in a directory that is ours.
    pub fn open_claimed(claim: Claim, params: &Params, options: StoreOptions) -> Result<(Self, Recovered), StoreError> {
        let Claim { dir, lock } = claim;
        let log = SegmentLog::open(&dir.join("blocks"), params.magic, options.segment_size)?;
        let mut store = Self::with(&dir, log, lock, options)?;
        let recovered = store.recover()?;
        Ok((store, recovered))
    }

    fn with(dir: &Path, log: SegmentLog, lock: File, options: StoreOptions) -> Result<Self, StoreError> {
        let chainstate = dir.join(CHAINSTATE);
        directory::check_keyspaces(&chainstate, !log.is_empty()?)?;
        let database = Database::builder(&chainstate)
            .cache_size(options.block_cache)
            .max_journaling_size(64 << 20)
            .journal_compression(CompressionType::None)
            .worker_threads(1)
            .open()?;
        let rows = database.keyspace("rows", || {
            // Keys are hashes and scripts hold more of them: there is nothing to compress.
            KeyspaceCreateOptions::default()
                .max_memtable_size(options.memtable)
                .data_block_compression_policy(CompressionPolicy::all(CompressionType::None))
        })?;
        let flushes = recovery::count_flushes(&rows, &chainstate)?;
        let table_from = options.table_from;
        Ok(Self { log, database, rows, chainstate, table_from, flushes, _lock: lock })
    }

    /// Makes the blocks durable that were appended, without their coins.
    pub fn sync_blocks(&mut self) -> Result<(), StoreError> {
        self.log.sync()
    }

    /// Writes the memtable out, so that the next start has no journal to replay. For a clean stop.
    pub fn settle(&self) -> Result<(), StoreError> {
        Ok(self.rows.rotate_memtable_and_wait()?)
    }

    /// A block as its bytes, with witnesses: as peers get it.
    pub fn raw_block(&self, position: Position) -> Result<Vec<u8>, StoreError> {
        self.log.read(Kind::Block, position)
    }

    /// Bytes of blocks and undo data on disk.
    pub fn size_on_disk(&self) -> u64 {
        self.log.size()
    }
}

impl Archive for Store {
    fn append_block(&mut self, block: &Block) -> Result<Position, ArchiveError> {
        let encode = |out: &mut Vec<u8>| {
            block.consensus_encode(out).expect("writing to memory does not fail");
        };
        self.log.append(Kind::Block, encode).map_err(port)
    }

    fn append_undo(&mut self, hash: &BlockHash, undo: &BlockUndo) -> Result<Position, ArchiveError> {
        let encode = |out: &mut Vec<u8>| {
            out.extend_from_slice(hash.as_byte_array());
            codec::encode_undo(out, undo);
        };
        self.log.append(Kind::Undo, encode).map_err(port)
    }

    fn block(&self, position: Position) -> Result<Block, ArchiveError> {
        let bytes = self.log.read(Kind::Block, position).map_err(port)?;
        deserialize(&bytes).map_err(|_| port(Malformed("block").into()))
    }

    fn undo(&self, position: Position) -> Result<BlockUndo, ArchiveError> {
        let bytes = self.log.read(Kind::Undo, position).map_err(port)?;
        let undo = bytes.get(32..).ok_or(Malformed("undo data")).and_then(codec::decode_undo);
        undo.map_err(|malformed| port(malformed.into()))
    }
}

fn port(error: StoreError) -> ArchiveError {
    ArchiveError(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_as_such_and_not_as_a_damaged_database() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        for error in [fjall::Error::Io(full()), fjall::Error::Storage(fjall::LsmError::Io(full()))] {
            assert!(StoreError::from(error).to_string().contains("make room and start again"));
        }
        let other = io::Error::from(io::ErrorKind::NotFound);
        assert!(matches!(StoreError::from(fjall::Error::Io(other)), StoreError::Database(_)));
    }
}
