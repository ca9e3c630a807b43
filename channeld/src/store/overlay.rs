//! What the journal holds and no checkpoint covers yet, as far as readers ask for it: cold rows and histories.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::history::{HistoryItemRef, Stream};
use super::row::RowPage;
use super::{Lsn, Row, TurnRecord};

/// Entries by key and by index, each with the record that wrote it.
#[derive(Default)]
pub(super) struct Overlay {
    inner: Mutex<Recent>,
}

#[derive(Default)]
struct Recent {
    rows: BTreeMap<Vec<u8>, (Lsn, Option<Vec<u8>>)>,
    history: [BTreeMap<u64, (Lsn, Vec<u8>)>; Stream::COUNT],
}

impl Overlay {
    /// Adds what a durable record holds.
    pub(super) fn add(&self, lsn: Lsn, record: &TurnRecord) {
        if record.rows.is_empty() && record.history.is_empty() {
            return;
        }
        let mut recent = self.lock();
        for (key, value) in &record.rows {
            recent.rows.insert(key.clone(), (lsn, value.clone()));
        }
        for item in &record.history {
            recent.history[item.stream as usize].insert(item.index, (lsn, item.bytes.clone()));
        }
    }

    /// What the records up to `lsn` wrote and no later one wrote over. It stays here until [`Overlay::forget`].
    pub(super) fn covered(&self, lsn: Lsn) -> (Vec<Row>, Vec<HistoryItemRef>) {
        let recent = self.lock();
        let rows = recent.rows.iter().filter(|(_, (at, _))| *at <= lsn);
        let rows = rows.map(|(key, (_, value))| (key.clone(), value.clone())).collect();
        let mut items = Vec::new();
        for stream in Stream::ALL {
            let entries = recent.history[stream as usize].iter().take_while(|(_, (at, _))| *at <= lsn);
            items.extend(entries.map(|(index, (_, bytes))| HistoryItemRef {
                stream,
                index: *index,
                bytes: bytes.clone(),
            }));
        }
        (rows, items)
    }

    /// Drops what the records up to `lsn` wrote: it is on disk by now.
    pub(super) fn forget(&self, lsn: Lsn) {
        let mut recent = self.lock();
        recent.rows.retain(|_, (at, _)| *at > lsn);
        for history in &mut recent.history {
            history.retain(|_, (at, _)| *at > lsn);
        }
    }

    /// The value of a row, `Some(None)` where it is deleted, `None` where nothing is known of it here.
    pub(super) fn row(&self, key: &[u8]) -> Option<Option<Vec<u8>>> {
        self.lock().rows.get(key).map(|(_, value)| value.clone())
    }

    /// All rows under `prefix`.
    pub(super) fn rows(&self, prefix: &[u8]) -> Vec<Row> {
        let recent = self.lock();
        let rows = recent.rows.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix));
        rows.map(|(key, (_, value))| (key.clone(), value.clone())).collect()
    }

    /// All rows of `page`, whatever its limit.
    pub(super) fn page(&self, page: &RowPage<'_>) -> Vec<Row> {
        let recent = self.lock();
        let (start, end) = page.bounds();
        let rows = recent.rows.range(start..end).filter(|(key, _)| page.from != Some(key.as_slice()));
        rows.map(|(key, (_, value))| (key.clone(), value.clone())).collect()
    }

    /// At most `limit` entries above `after`, oldest first.
    pub(super) fn history_after(&self, stream: Stream, after: u64, limit: usize) -> Vec<(u64, Vec<u8>)> {
        let recent = self.lock();
        let Some(first) = after.checked_add(1) else {
            return Vec::new();
        };
        let entries = recent.history[stream as usize].range(first..).take(limit);
        entries.map(|(index, (_, bytes))| (*index, bytes.clone())).collect()
    }

    /// At most `limit` entries below `before`, newest first.
    pub(super) fn history_before(&self, stream: Stream, before: u64, limit: usize) -> Vec<(u64, Vec<u8>)> {
        let recent = self.lock();
        let entries = recent.history[stream as usize].range(..before).rev().take(limit);
        entries.map(|(index, (_, bytes))| (*index, bytes.clone())).collect()
    }

    /// The highest index here; 0 where there is none.
    pub(super) fn last_index(&self, stream: Stream) -> u64 {
        self.lock().history[stream as usize].last_key_value().map_or(0, |(index, _)| *index)
    }

    /// Each method leaves the maps whole, so a panic of another thread changes nothing.
    fn lock(&self) -> MutexGuard<'_, Recent> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
