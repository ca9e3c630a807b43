//! The rows: the materialised state in sled, one tree, values cut into pieces of 4 KiB.
//!
//! sled keeps larger values, and leaves that hold them, in files that it never syncs; and its `flush` is not durable on
//! Linux (DEPENDENCIES, "sled: what to know"). So pieces are small, and a flush is followed by a sync of its file.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use super::error::StoreError;
use super::recovery::sync_folder;

/// Row keys whose first byte is at least this are cold: they are read on demand and never loaded at start.
pub const COLD_ROWS: u8 = 0x80;

/// A row key and its new value; `None` deletes the row.
pub type Row = (Vec<u8>, Option<Vec<u8>>);

/// A row key and the value there.
pub type Entry = (Vec<u8>, Vec<u8>);

/// A part of the rows under a prefix, for [`super::Reader::page`].
#[derive(Clone, Copy, Debug)]
pub struct RowPage<'a> {
    /// What all keys begin with; no key may begin with another one.
    pub prefix: &'a [u8],
    /// The last key of the page before; `None` for the first page.
    pub from: Option<&'a [u8]>,
    /// The most rows.
    pub limit: usize,
    /// The highest keys first.
    pub descending: bool,
}

impl RowPage<'_> {
    /// Where the keys of the page may lie, from the first to before the second.
    pub(super) fn bounds(&self) -> (Vec<u8>, Vec<u8>) {
        match (self.from, self.descending) {
            (None, _) => (self.prefix.to_vec(), after_all(self.prefix)),
            (Some(from), true) => (self.prefix.to_vec(), from.to_vec()),
            (Some(from), false) => (from.to_vec(), after_all(self.prefix)),
        }
    }
}

/// The first key behind all that begin with `prefix`.
fn after_all(prefix: &[u8]) -> Vec<u8> {
    let kept = prefix.iter().rposition(|byte| *byte != u8::MAX).map_or(0, |at| at + 1);
    let mut end = prefix[..kept].to_vec();
    match end.last_mut() {
        Some(last) => *last += 1,
        // Every key there can be: rows have short keys.
        None => end = vec![u8::MAX; 64],
    }
    end
}

const PIECE: usize = 4_000;
const BATCH: usize = 100;
/// Sorts before every row, and is none: row keys in sled end in two bytes of piece number.
const CHECKPOINT_KEY: &[u8] = b"";

/// The tree of rows.
pub(super) struct Rows {
    db: sled::Db,
    file: File,
    path: PathBuf,
    /// Held for writing while a checkpoint is written, since the pieces of a row may span batches.
    writing: RwLock<()>,
}

impl Rows {
    pub(super) fn open(path: &Path) -> Result<Rows, StoreError> {
        let is_new = !path.exists();
        let db = sled::Config::new()
            .path(path)
            .flush_every_ms(None)
            .cache_capacity(16 << 20)
            .mode(sled::Mode::HighThroughput)
            .open()?;
        let file_path = path.join("db");
        let file = File::open(&file_path).map_err(StoreError::io(&file_path))?;
        let rows = Rows { db, file, path: path.to_owned(), writing: RwLock::new(()) };
        if is_new {
            rows.sync()?;
            sync_folder(path)?;
            sync_folder(path.parent().unwrap_or(path))?;
        }
        Ok(rows)
    }

    /// The last record that the rows cover; 0 before the first checkpoint.
    pub(super) fn checkpoint_lsn(&self) -> Result<u64, StoreError> {
        match self.db.get(CHECKPOINT_KEY)? {
            None => Ok(0),
            Some(bytes) => {
                let bytes = bytes.as_ref().try_into().map_err(|_| self.corrupt("the checkpoint's number"))?;
                Ok(u64::from_be_bytes(bytes))
            }
        }
    }

    /// Writes `rows`, syncs, writes the checkpoint's number, syncs.
    pub(super) fn write(&self, lsn: u64, rows: &[Row]) -> Result<(), StoreError> {
        let _writing = self.writing.write().unwrap_or_else(PoisonError::into_inner);
        let mut batch = Batch::default();
        for (key, value) in rows {
            let old = self.pieces_of(key)?;
            let new = match value {
                Some(value) => self.put(&mut batch, key, value)?,
                None => 0,
            };
            for piece in new..old {
                batch.inner.remove(piece_key(key, piece));
                batch.count(&self.db)?;
            }
        }
        batch.apply(&self.db)?;
        self.sync()?;
        self.db.insert(CHECKPOINT_KEY, &lsn.to_be_bytes())?;
        self.sync()
    }

    fn put(&self, batch: &mut Batch, key: &[u8], value: &[u8]) -> Result<u16, StoreError> {
        let count = u16::try_from(value.len().div_ceil(PIECE).max(1)).expect("a row is below 260 MB");
        // A sequence that a crash tears is redone from the checkpoint file.
        let mut pieces = value.chunks(PIECE);
        let mut first = count.to_be_bytes().to_vec();
        first.extend_from_slice(pieces.next().unwrap_or_default());
        batch.inner.insert(piece_key(key, 0), first);
        batch.count(&self.db)?;
        for (number, piece) in (1..).zip(pieces) {
            batch.inner.insert(piece_key(key, number), piece);
            batch.count(&self.db)?;
        }
        Ok(count)
    }

    fn pieces_of(&self, key: &[u8]) -> Result<u16, StoreError> {
        match self.db.get(piece_key(key, 0))? {
            None => Ok(0),
            Some(first) => Ok(self.split_first(&first)?.0),
        }
    }

    fn split_first<'a>(&self, first: &'a [u8]) -> Result<(u16, &'a [u8]), StoreError> {
        match first {
            [high, low, rest @ ..] => Ok((u16::from_be_bytes([*high, *low]), rest)),
            _ => Err(self.corrupt("a row lacks its count of pieces")),
        }
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let _reading = self.reading();
        let Some(first) = self.db.get(piece_key(key, 0))? else {
            return Ok(None);
        };
        let (count, rest) = self.split_first(&first)?;
        let mut value = rest.to_vec();
        for number in 1..count {
            let piece = self.db.get(piece_key(key, number))?.ok_or_else(|| self.corrupt("a row lacks a piece"))?;
            value.extend_from_slice(&piece);
        }
        Ok(Some(value))
    }

    /// All rows whose key starts with `prefix`.
    pub(super) fn scan(&self, prefix: &[u8]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, StoreError> {
        self.collect(self.db.scan_prefix(prefix))
    }

    /// At most `limit` rows under `prefix` behind `from` (all of them where it is `None`), in order of key or against it.
    /// No key under `prefix` may begin with another one.
    pub(super) fn page(&self, page: &RowPage<'_>) -> Result<Vec<Entry>, StoreError> {
        let _reading = self.reading();
        let (start, end) = page.bounds();
        let mut pieces = self.db.range(start..end);
        let mut rows: Vec<(Vec<u8>, BTreeMap<u16, sled::IVec>)> = Vec::new();
        while let Some(piece) = if page.descending { pieces.next_back() } else { pieces.next() } {
            let (key, value) = piece?;
            let Some((row, number)) = key.split_last_chunk::<2>() else { continue };
            if page.from == Some(row) {
                continue;
            }
            if rows.last().is_none_or(|(last, _)| last != row) {
                if rows.len() == page.limit {
                    break;
                }
                rows.push((row.to_vec(), BTreeMap::new()));
            }
            if let Some((_, found)) = rows.last_mut() {
                found.insert(u16::from_be_bytes(*number), value);
            }
        }
        rows.into_iter().map(|(key, pieces)| Ok((key, self.join(&pieces)?))).collect()
    }

    /// All rows but the cold ones.
    pub(super) fn load_hot(&self) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, StoreError> {
        self.collect(self.db.range(..[COLD_ROWS].as_slice()))
    }

    fn reading(&self) -> RwLockReadGuard<'_, ()> {
        self.writing.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn collect(&self, pieces: sled::Iter) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, StoreError> {
        let _reading = self.reading();
        let mut rows: BTreeMap<Vec<u8>, BTreeMap<u16, sled::IVec>> = BTreeMap::new();
        for piece in pieces {
            let (key, value) = piece?;
            if let Some((row, number)) = key.split_last_chunk::<2>() {
                rows.entry(row.to_vec()).or_default().insert(u16::from_be_bytes(*number), value);
            }
        }
        rows.into_iter().map(|(key, pieces)| Ok((key, self.join(&pieces)?))).collect()
    }

    fn join(&self, pieces: &BTreeMap<u16, sled::IVec>) -> Result<Vec<u8>, StoreError> {
        let first = pieces.get(&0).ok_or_else(|| self.corrupt("a row lacks its first piece"))?;
        let (count, rest) = self.split_first(first)?;
        if pieces.len() != usize::from(count) {
            return Err(self.corrupt("a row lacks a piece"));
        }
        let mut value = rest.to_vec();
        for piece in pieces.values().skip(1) {
            value.extend_from_slice(piece);
        }
        Ok(value)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.db.flush()?;
        self.file.sync_data().map_err(StoreError::io(&self.path))
    }

    fn corrupt(&self, what: &'static str) -> StoreError {
        StoreError::corrupt(&self.path, 0, what)
    }
}

fn piece_key(key: &[u8], number: u16) -> Vec<u8> {
    let mut piece = Vec::with_capacity(key.len() + 2);
    piece.extend_from_slice(key);
    piece.extend_from_slice(&number.to_be_bytes());
    piece
}

/// Pieces on their way into sled, a hundred at a time: its memory follows the size of a batch.
#[derive(Default)]
struct Batch {
    inner: sled::Batch,
    length: usize,
}

impl Batch {
    fn count(&mut self, db: &sled::Db) -> Result<(), StoreError> {
        self.length += 1;
        if self.length >= BATCH { self.apply(db) } else { Ok(()) }
    }

    fn apply(&mut self, db: &sled::Db) -> Result<(), StoreError> {
        self.length = 0;
        Ok(db.apply_batch(std::mem::take(&mut self.inner))?)
    }
}
