//! Histories: entries by rising index in append-only segments, read by range and pruned by segment.
//!
//! They are written by checkpoints only, and synced before the checkpoint counts: what a crash tears off is still in the
//! journal. Reading costs what is read; nothing is loaded at start but the tail of the last segment.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::recovery::sync_folder;
use super::segment::{self, Position};

/// Bytes after which a segment is left for a new one.
const SEGMENT_BYTES: u64 = 4 << 20;
const SALT: &[u8] = b"history";
const VERSION: u8 = 1;

/// The histories that a store keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Stream {
    /// The event log.
    Events,
    /// Payments that have ended.
    Payments,
}

impl Stream {
    pub(super) const COUNT: usize = 2;
    pub(super) const ALL: [Stream; Stream::COUNT] = [Stream::Events, Stream::Payments];

    const fn name(self) -> &'static str {
        match self {
            Stream::Events => "events",
            Stream::Payments => "payments",
        }
    }
}

/// An entry on its way into its segment.
pub(super) struct HistoryItemRef {
    pub(super) stream: Stream,
    pub(super) index: u64,
    pub(super) bytes: Vec<u8>,
}

/// All histories of one store.
pub(super) struct Histories {
    streams: [Mutex<History>; Stream::COUNT],
}

struct History {
    folder: PathBuf,
    name: &'static str,
    /// Segments by the index of their first entry.
    segments: BTreeMap<u64, PathBuf>,
    /// The last index and its record's checksum; 0 where there is none.
    last: u64,
    /// The open end of the last segment.
    tail: Option<(File, u64)>,
}

impl Histories {
    pub(super) fn open(folder: &Path) -> Result<Histories, StoreError> {
        fs::create_dir_all(folder).map_err(StoreError::io(folder))?;
        let [events, payments] = Stream::ALL.map(|stream| History::open(folder, stream.name()).map(Mutex::new));
        Ok(Histories { streams: [events?, payments?] })
    }

    fn lock(&self, stream: Stream) -> MutexGuard<'_, History> {
        self.streams[stream as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends what is new among `items` and syncs.
    pub(super) fn append(&self, items: &[HistoryItemRef]) -> Result<(), StoreError> {
        for stream in Stream::ALL {
            self.lock(stream).append(items.iter().filter(|item| item.stream == stream))?;
        }
        Ok(())
    }

    pub(super) fn last_index(&self, stream: Stream) -> u64 {
        self.lock(stream).last
    }

    /// At most `limit` entries above `after`, oldest first.
    pub(super) fn after(&self, stream: Stream, after: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let segments = self.lock(stream).segments_after(after);
        let mut entries = Vec::new();
        for path in segments {
            if entries.len() >= limit {
                break;
            }
            let found = read(&path)?.into_iter().filter(|(index, _)| *index > after);
            entries.extend(found.take(limit - entries.len()));
        }
        Ok(entries)
    }

    /// At most `limit` entries below `before`, newest first.
    pub(super) fn before(&self, stream: Stream, before: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let segments = self.lock(stream).segments_before(before);
        let mut entries = Vec::new();
        for path in segments {
            if entries.len() >= limit {
                break;
            }
            let found = read(&path)?.into_iter().rev().filter(|(index, _)| *index < before);
            entries.extend(found.take(limit - entries.len()));
        }
        Ok(entries)
    }

    /// The index of the oldest entry that is kept; 1 where none was ever deleted.
    pub(super) fn first_index(&self, stream: Stream) -> u64 {
        self.lock(stream).segments.keys().next().copied().unwrap_or(1)
    }

    /// Deletes the oldest segments, so that `most` are left.
    pub(super) fn keep(&self, stream: Stream, most: usize) -> Result<(), StoreError> {
        let mut history = self.lock(stream);
        while history.segments.len() > most.max(1) {
            if let Some((_, path)) = history.segments.pop_first() {
                fs::remove_file(&path).map_err(StoreError::io(&path))?;
            }
        }
        Ok(())
    }
}

impl History {
    fn open(folder: &Path, name: &'static str) -> Result<History, StoreError> {
        let mut segments = BTreeMap::new();
        for entry in fs::read_dir(folder).map_err(StoreError::io(folder))? {
            let path = entry.map_err(StoreError::io(folder))?.path();
            let file_name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some(number) = file_name.strip_prefix(name).and_then(|rest| rest.strip_prefix('-')) else {
                continue;
            };
            let first = u64::from_str_radix(number, 16)
                .map_err(|_| StoreError::corrupt(&path, 0, "the name of a segment ends in its first entry's index"))?;
            segments.insert(first, path);
        }
        let mut history = History { folder: folder.to_owned(), name, segments, last: 0, tail: None };
        history.open_tail()?;
        Ok(history)
    }

    /// Finds the end of the last segment and cuts what a crash tore.
    fn open_tail(&mut self) -> Result<(), StoreError> {
        let Some((first, path)) = self.segments.last_key_value() else {
            return Ok(());
        };
        let bytes = fs::read(path).map_err(StoreError::io(path))?;
        let (entries, end) = parse(&bytes);
        if segment::has_record_after(SALT, &bytes, end, 0) {
            return Err(StoreError::corrupt(path, end as u64, "an entry is damaged, and later ones are there"));
        }
        self.last = entries.last().map_or(first - 1, |(index, _)| *index);
        let file = OpenOptions::new().append(true).open(path).map_err(StoreError::io(path))?;
        file.set_len(end as u64).and_then(|()| file.sync_all()).map_err(StoreError::io(path))?;
        self.tail = Some((file, end as u64));
        Ok(())
    }

    fn append<'a>(&mut self, items: impl Iterator<Item = &'a HistoryItemRef>) -> Result<(), StoreError> {
        let mut buffer = Vec::new();
        let last = self.last;
        for item in items.filter(|item| item.index > last) {
            if self.tail.as_ref().is_none_or(|(_, length)| length + buffer.len() as u64 > SEGMENT_BYTES) {
                self.write(&mut buffer)?;
                self.start_segment(item.index)?;
            }
            let position = Position { lsn: item.index, previous: 0 };
            segment::encode_record(SALT, 0, position, &mut buffer, |buffer| {
                buffer.push(VERSION);
                buffer.extend_from_slice(&item.bytes);
            });
            self.last = item.index;
        }
        self.write(&mut buffer)
    }

    fn write(&mut self, buffer: &mut Vec<u8>) -> Result<(), StoreError> {
        if let Some((file, length)) = self.tail.as_mut().filter(|_| !buffer.is_empty()) {
            file.write_all(buffer).and_then(|()| file.sync_data()).map_err(StoreError::io(&self.folder))?;
            *length += buffer.len() as u64;
            buffer.clear();
        }
        Ok(())
    }

    fn start_segment(&mut self, first: u64) -> Result<(), StoreError> {
        let path = self.folder.join(format!("{}-{first:016x}", self.name));
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(StoreError::io(&path))?;
        sync_folder(&self.folder)?;
        self.segments.insert(first, path);
        self.tail = Some((file, 0));
        Ok(())
    }

    fn segments_after(&self, after: u64) -> Vec<PathBuf> {
        let first = self.segments.range(..=after).next_back().map_or(0, |(first, _)| *first);
        self.segments.range(first..).map(|(_, path)| path.clone()).collect()
    }

    fn segments_before(&self, before: u64) -> Vec<PathBuf> {
        self.segments.range(..before).rev().map(|(_, path)| path.clone()).collect()
    }
}

fn read(path: &Path) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        // Pruned between the look-up and the read.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StoreError::io(path)(error)),
    };
    let (entries, end) = parse(&bytes);
    if segment::has_record_after(SALT, &bytes, end, 0) {
        return Err(StoreError::corrupt(path, end as u64, "an entry is damaged, and later ones are there"));
    }
    Ok(entries)
}

/// The whole entries at the start of `bytes`, and where they end.
fn parse(bytes: &[u8]) -> (Vec<(u64, Vec<u8>)>, usize) {
    let (mut entries, mut at) = (Vec::new(), 0);
    while let Some(record) = segment::parse_any_record(SALT, bytes, at) {
        if let Some((&VERSION, entry)) = record.payload.split_first() {
            entries.push((record.lsn, entry.to_vec()));
        }
        at = record.end;
    }
    (entries, at.min(bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64) -> HistoryItemRef {
        HistoryItemRef { stream: Stream::Events, index, bytes: vec![index as u8; SEGMENT_BYTES as usize / 2 + 1] }
    }

    #[test]
    fn the_oldest_segments_go_and_the_newest_entry_stays_known() {
        let folder = tempfile::tempdir().unwrap();
        let histories = Histories::open(folder.path()).unwrap();
        assert_eq!(histories.first_index(Stream::Events), 1);
        histories.append(&(1..=8).map(entry).collect::<Vec<_>>()).unwrap();
        assert_eq!(histories.first_index(Stream::Events), 1);
        histories.keep(Stream::Events, 2).unwrap();
        let first = histories.first_index(Stream::Events);
        assert!((5..=7).contains(&first), "{first}");
        let left = |histories: &Histories| {
            let left = histories.after(Stream::Events, 0, 100).unwrap();
            left.into_iter().map(|(index, _)| index).collect::<Vec<_>>()
        };
        assert_eq!(left(&histories), (first..=8).collect::<Vec<_>>());
        // One is always left: it says where the log goes on.
        histories.keep(Stream::Events, 0).unwrap();
        drop(histories);
        let again = Histories::open(folder.path()).unwrap();
        assert_eq!(again.last_index(Stream::Events), 8);
        again.append(&[entry(8), entry(9)]).unwrap();
        assert_eq!(left(&again).last(), Some(&9));
    }
}
