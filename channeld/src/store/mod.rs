//! What outlives the process: one journal that commits, one sled that materialises, history segments that are read by range.
//!
//! A turn of the node is one record of the journal and one flush (DESIGN, "What lies where on disk"). Everything else is
//! derived from it: rows reach sled by checkpoints, events and finished payments reach the history segments. This room
//! knows bytes, log sequence numbers and row keys; it never knows what a channel is.

mod checkpoint;
mod codec;
mod error;
mod history;
mod journal;
mod overlay;
mod recovery;
mod row;
mod segment;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use checkpoint::Checkpointer;
pub use error::StoreError;
pub use history::Stream;
use history::{Histories, HistoryItemRef};
use journal::Journal;
use overlay::Overlay;
use recovery::Directory;
use row::Rows;
pub use row::{COLD_ROWS, Entry, Row, RowPage};

/// A log sequence number: the number of a record in the journal, counted from 1. 0 is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lsn(pub u64);

/// What one turn of the node leaves behind. All of it becomes durable together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnRecord {
    /// The node's delta, folded over the rows at start.
    pub delta: Vec<u8>,
    /// Rows that the node does not keep in memory: absolute values, `None` deletes.
    pub rows: Vec<Row>,
    /// What joins the event log and the other histories.
    pub history: Vec<HistoryItem>,
}

/// One entry of a history: its index rises within its stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryItem {
    /// Which history it joins.
    pub stream: Stream,
    /// Its number there, above all earlier ones.
    pub index: u64,
    /// The entry.
    pub bytes: Vec<u8>,
}

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whose directory this is, such as `regtest:02ab…`; a directory of somebody else is refused.
    pub identity: String,
    /// Bytes of a journal segment, at least 64 KiB.
    pub segment_bytes: u64,
    /// Journal bytes after which a checkpoint is wanted.
    pub checkpoint_bytes: u64,
}

impl Options {
    /// The usual sizes: segments of 8 MiB, a checkpoint every 32 MiB.
    pub fn new(identity: impl Into<String>) -> Options {
        Options { identity: identity.into(), segment_bytes: 8 << 20, checkpoint_bytes: 32 << 20 }
    }
}

/// What a store held when it was opened.
#[derive(Debug)]
pub struct Recovered {
    /// The rows of the last checkpoint that are not cold, by key.
    pub rows: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The turns after that checkpoint, oldest first.
    pub tail: Vec<(Lsn, TurnRecord)>,
    /// How often this directory has been opened, this time included.
    pub epoch: u64,
    /// Whether the journal ended in a torn record that was cut: the process died while it wrote.
    pub torn: bool,
}

/// The store of one daemon, owned by its store thread.
pub struct Store {
    journal: Journal,
    shared: Arc<Shared>,
    checkpointer: Checkpointer,
    checkpoint_bytes: u64,
    _directory: Directory,
}

/// What the store thread, the checkpointer and the readers share.
pub(crate) struct Shared {
    overlay: Overlay,
    rows: Rows,
    histories: Histories,
}

impl Store {
    /// Opens or creates the store in `path`, finishing what a crash left unfinished.
    ///
    /// # Errors
    /// A directory that is in use, foreign, of a newer format, incomplete or corrupt; the operating system's refusals.
    pub fn open(path: &Path, options: &Options) -> Result<(Store, Recovered), StoreError> {
        let directory = Directory::open(path, &options.identity)?;
        let rows = Rows::open(&path.join("rows"))?;
        let histories = Histories::open(&path.join("history"))?;
        checkpoint::redo(path, &rows)?;
        let checkpoint_lsn = rows.checkpoint_lsn()?;
        let (journal, replay) =
            Journal::open(&path.join("journal"), &directory, options.segment_bytes, checkpoint_lsn)?;
        let shared = Arc::new(Shared { overlay: Overlay::default(), rows, histories });
        let mut tail = Vec::with_capacity(replay.payloads.len());
        for (lsn, payload) in replay.payloads {
            let record: TurnRecord = codec::decode_turn(&payload).ok_or(StoreError::UnreadableRecord { lsn: lsn.0 })?;
            shared.overlay.add(lsn, &record);
            tail.push((lsn, record));
        }
        let recovered = Recovered { rows: shared.rows.load_hot()?, tail, epoch: directory.epoch(), torn: replay.torn };
        let checkpointer = Checkpointer::start(path.to_owned(), Arc::clone(&shared));
        let store =
            Store { journal, shared, checkpointer, checkpoint_bytes: options.checkpoint_bytes, _directory: directory };
        Ok((store, recovered))
    }

    /// Appends `record` and flushes: what it holds is durable when this returns.
    ///
    /// # Errors
    /// The disk's refusal. The store takes nothing more after one, since nobody knows what reached the disk.
    ///
    /// # Panics
    /// Where a history index does not rise within its stream: a fault of the caller that would hide entries from readers.
    pub fn commit(&mut self, record: &TurnRecord) -> Result<Lsn, StoreError> {
        self.shared.assert_indexes_rise(&record.history);
        let lsn = self.journal.append(|buffer| codec::encode_turn(record, buffer))?;
        self.shared.overlay.add(lsn, record);
        Ok(lsn)
    }

    /// The last durable record.
    pub fn durable(&self) -> Lsn {
        self.journal.last_lsn()
    }

    /// Whether the journal has grown enough for a checkpoint, and none is under way.
    pub fn wants_checkpoint(&mut self) -> bool {
        self.journal.bytes_since_checkpoint() >= self.checkpoint_bytes && self.checkpointer.is_idle()
    }

    /// Starts a checkpoint in the background: `rows` are the rows changed since the one before, as they stand after the
    /// turn `lsn`, which must be durable. Does nothing where one is under way: its rows come with the next.
    /// Returns whether it was started.
    ///
    /// # Errors
    /// The failure of an earlier checkpoint.
    ///
    /// # Panics
    /// Where `lsn` is not durable yet.
    pub fn checkpoint(&mut self, lsn: Lsn, rows: Vec<Row>) -> Result<bool, StoreError> {
        assert!(lsn <= self.durable(), "a checkpoint never runs ahead of the journal");
        self.collect()?;
        if !self.checkpointer.is_idle() {
            return Ok(false);
        }
        self.journal.checkpoint_started();
        self.checkpointer.submit(lsn, rows);
        Ok(true)
    }

    /// Waits for the checkpoint under way and frees what it made superfluous. For a clean stop, and for tests.
    ///
    /// # Errors
    /// The failure of that checkpoint.
    pub fn finish_checkpoint(&mut self) -> Result<(), StoreError> {
        self.checkpointer.wait();
        self.collect()
    }

    /// A reader for other threads. It sees durable entries only.
    pub fn reader(&self) -> Reader {
        Reader { shared: Arc::clone(&self.shared) }
    }

    /// Frees journal segments that the last finished checkpoint covers.
    fn collect(&mut self) -> Result<(), StoreError> {
        match self.checkpointer.take_finished() {
            Some(Ok(lsn)) => self.journal.trim(lsn),
            Some(Err(error)) => Err(error),
            None => Ok(()),
        }
    }
}

impl Shared {
    fn assert_indexes_rise(&self, items: &[HistoryItem]) {
        let mut last = [Stream::Events, Stream::Payments].map(|stream| self.last_index(stream));
        for item in items {
            let last = &mut last[item.stream as usize];
            assert!(item.index > *last, "a history index rises: {} after {last}", item.index);
            *last = item.index;
        }
    }

    fn last_index(&self, stream: Stream) -> u64 {
        self.overlay.last_index(stream).max(self.histories.last_index(stream))
    }
}

/// Reads rows and histories from any thread; clones share the store.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

impl Reader {
    /// The row of `key` as the last durable turn left it, cold rows included; hot rows are as of the last checkpoint.
    ///
    /// # Errors
    /// Corruption, or the operating system's refusal.
    pub fn row(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.shared.overlay.row(key) {
            Some(value) => Ok(value),
            None => self.shared.rows.get(key),
        }
    }

    /// All rows whose key starts with `prefix`, in order of key; as [`Reader::row`].
    ///
    /// # Errors
    /// Corruption, or the operating system's refusal.
    pub fn rows(&self, prefix: &[u8]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, StoreError> {
        // The overlay is read first: an entry leaves it only after it reached sled, so none is missed in between.
        let recent = self.shared.overlay.rows(prefix);
        let mut rows = self.shared.rows.scan(prefix)?;
        for (key, value) in recent {
            match value {
                Some(value) => rows.insert(key, value),
                None => rows.remove(&key),
            };
        }
        Ok(rows)
    }

    /// A page of rows, as [`Reader::row`]; costs what it returns, and what was written under the prefix since the last
    /// checkpoint.
    ///
    /// # Errors
    /// Corruption, or the operating system's refusal.
    pub fn page(&self, page: &RowPage<'_>) -> Result<Vec<Entry>, StoreError> {
        let recent = self.shared.overlay.page(page);
        // Each recent row may hide one on disk.
        let wanted = RowPage { limit: page.limit.saturating_add(recent.len()), ..*page };
        let mut rows: BTreeMap<_, _> = self.shared.rows.page(&wanted)?.into_iter().collect();
        for (key, value) in recent {
            match value {
                Some(value) => rows.insert(key, value),
                None => rows.remove(&key),
            };
        }
        if page.descending {
            Ok(rows.into_iter().rev().take(page.limit).collect())
        } else {
            Ok(rows.into_iter().take(page.limit).collect())
        }
    }

    /// At most `limit` entries of `stream` with an index above `after`, oldest first.
    ///
    /// # Errors
    /// Corruption, or the operating system's refusal.
    pub fn history_after(&self, stream: Stream, after: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let recent = self.shared.overlay.history_after(stream, after, limit);
        let mut entries = self.shared.histories.after(stream, after, limit)?;
        let last = entries.last().map_or(after, |(index, _)| *index);
        entries.extend(recent.into_iter().filter(|(index, _)| *index > last));
        entries.truncate(limit);
        Ok(entries)
    }

    /// At most `limit` entries of `stream` with an index below `before`, newest first.
    ///
    /// # Errors
    /// Corruption, or the operating system's refusal.
    pub fn history_before(&self, stream: Stream, before: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let mut entries = self.shared.overlay.history_before(stream, before, limit);
        if entries.len() < limit {
            let first = entries.last().map_or(before, |(index, _)| *index);
            entries.extend(self.shared.histories.before(stream, first, limit - entries.len())?);
        }
        Ok(entries)
    }

    /// The index of the oldest entry of `stream` that is kept; 1 where none was ever deleted.
    pub fn history_first(&self, stream: Stream) -> u64 {
        self.shared.histories.first_index(stream)
    }

    /// Deletes the oldest segments of `stream`, 4 MiB each, so that `most` are left.
    ///
    /// # Errors
    /// The operating system's refusal.
    pub fn keep_history(&self, stream: Stream, most: usize) -> Result<(), StoreError> {
        self.shared.histories.keep(stream, most)
    }

    /// The index of the newest entry of `stream`; 0 where there is none.
    pub fn last_index(&self, stream: Stream) -> u64 {
        self.shared.last_index(stream)
    }
}

impl Shared {
    /// What a checkpoint at `lsn` moves from the overlay to disk.
    fn covered(&self, lsn: Lsn) -> (Vec<Row>, Vec<HistoryItemRef>) {
        self.overlay.covered(lsn)
    }
}
