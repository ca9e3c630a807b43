//! The commit point: an append-only run of segments, one record and one flush at a time.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use super::Lsn;
use super::error::StoreError;
use super::recovery::{Directory, sync_folder};
use super::segment::{self, HEADER_LEN, Position};

/// The journal, open for appending.
pub(super) struct Journal {
    folder: PathBuf,
    id: Vec<u8>,
    epoch: u64,
    segment_bytes: u64,
    /// Oldest first; the last one is written to.
    segments: VecDeque<Segment>,
    file: File,
    /// Where the next record goes in `file`, and how long that is.
    at: u64,
    size: u64,
    next: Position,
    buffer: Vec<u8>,
    spare: Option<JoinHandle<Result<(), StoreError>>>,
    bytes_since_checkpoint: u64,
    poisoned: bool,
}

struct Segment {
    path: PathBuf,
    first_lsn: u64,
}

/// What the journal held behind the last checkpoint.
pub(super) struct Replay {
    pub(super) payloads: Vec<(Lsn, Vec<u8>)>,
    pub(super) torn: bool,
}

impl Journal {
    /// Opens the journal in `folder` and reads what follows `checkpoint`.
    pub(super) fn open(
        folder: &Path,
        directory: &Directory,
        segment_bytes: u64,
        checkpoint: u64,
    ) -> Result<(Journal, Replay), StoreError> {
        fs::create_dir_all(folder).map_err(StoreError::io(folder))?;
        let id = directory.journal_id().to_vec();
        let mut segments = list(folder)?;
        if segments.is_empty() {
            if checkpoint != 0 {
                return Err(StoreError::JournalMissing { path: folder.to_owned(), checkpoint });
            }
            let start = Position { lsn: 1, previous: 0 };
            segments.push_back(create(folder, &id, start, segment_bytes)?);
        }
        if segments[0].first_lsn > checkpoint + 1 {
            return Err(StoreError::JournalMissing { path: folder.to_owned(), checkpoint });
        }
        let scan = scan(&segments, &id, checkpoint)?;
        if scan.next.lsn <= checkpoint {
            return Err(StoreError::JournalMissing { path: folder.to_owned(), checkpoint });
        }
        let last = segments.back().expect("there is one by now");
        let file = OpenOptions::new().read(true).write(true).open(&last.path).map_err(StoreError::io(&last.path))?;
        if scan.torn {
            segment::zero(&file, &last.path, scan.at, scan.size)?;
        }
        let bytes_since_checkpoint = scan.payloads.iter().map(|(_, payload)| payload.len() as u64).sum();
        let journal = Journal {
            folder: folder.to_owned(),
            id,
            epoch: directory.epoch(),
            segment_bytes,
            segments,
            file,
            at: scan.at,
            size: scan.size,
            next: scan.next,
            buffer: Vec::new(),
            spare: None,
            bytes_since_checkpoint,
            poisoned: false,
        };
        Ok((journal, Replay { payloads: scan.payloads, torn: scan.torn }))
    }

    /// Writes one record, whose payload `write_payload` appends, and flushes it.
    pub(super) fn append(&mut self, write_payload: impl FnOnce(&mut Vec<u8>)) -> Result<Lsn, StoreError> {
        if self.poisoned {
            return Err(StoreError::Poisoned);
        }
        self.poisoned = true;
        self.buffer.clear();
        let checksum = segment::encode_record(&self.id, self.epoch, self.next, &mut self.buffer, write_payload);
        if self.at + self.buffer.len() as u64 > self.size {
            self.roll()?;
        }
        let path = &self.segments.back().expect("there is always one").path;
        self.file.write_all_at(&self.buffer, self.at).map_err(StoreError::io(path))?;
        self.file.sync_data().map_err(StoreError::io(path))?;
        let lsn = Lsn(self.next.lsn);
        self.at += self.buffer.len() as u64;
        self.bytes_since_checkpoint += self.buffer.len() as u64;
        self.next = Position { lsn: lsn.0 + 1, previous: checksum };
        metrics::counter!("channeld_journal_bytes_total").increment(self.buffer.len() as u64);
        metrics::counter!("channeld_journal_flushes_total").increment(1);
        if self.buffer.capacity() > 4 << 20 {
            self.buffer = Vec::new();
        }
        self.poisoned = false;
        self.prepare_spare();
        Ok(lsn)
    }

    /// The last record that is durable.
    pub(super) fn last_lsn(&self) -> Lsn {
        Lsn(self.next.lsn - 1)
    }

    /// Where the next record goes in its segment.
    #[cfg(test)]
    pub(super) fn end(&self) -> u64 {
        self.at
    }

    /// Bytes written since [`Journal::checkpoint_started`].
    pub(super) fn bytes_since_checkpoint(&self) -> u64 {
        self.bytes_since_checkpoint
    }

    /// Starts the count of [`Journal::bytes_since_checkpoint`] anew.
    pub(super) fn checkpoint_started(&mut self) {
        self.bytes_since_checkpoint = 0;
    }

    /// Deletes segments whose records are all at or before `checkpoint`.
    pub(super) fn trim(&mut self, checkpoint: Lsn) -> Result<(), StoreError> {
        while self.segments.len() > 1 && self.segments[1].first_lsn <= checkpoint.0 + 1 {
            let path = &self.segments[0].path;
            fs::remove_file(path).map_err(StoreError::io(path))?;
            self.segments.pop_front();
        }
        Ok(())
    }

    /// Goes on in a new segment that has room for the record in `buffer`.
    fn roll(&mut self) -> Result<(), StoreError> {
        let needed = HEADER_LEN + self.buffer.len() as u64;
        let segment = match self.spare.take().map(join_spare) {
            Some(Ok(())) if needed <= self.segment_bytes => adopt_spare(&self.folder, &self.id, self.next)?,
            Some(Err(error)) => return Err(error),
            _ => create(&self.folder, &self.id, self.next, needed.max(self.segment_bytes))?,
        };
        self.file =
            OpenOptions::new().read(true).write(true).open(&segment.path).map_err(StoreError::io(&segment.path))?;
        self.size = self.file.metadata().map_err(StoreError::io(&segment.path))?.len();
        self.at = HEADER_LEN;
        self.segments.push_back(segment);
        Ok(())
    }

    /// Zeroes the next segment beforehand once this one is half full, so that no payment waits for it.
    fn prepare_spare(&mut self) {
        if self.spare.is_none() && self.at > self.size / 2 {
            let (path, bytes) = (spare_path(&self.folder), self.segment_bytes);
            self.spare = Some(std::thread::spawn(move || segment::preallocate(&path, bytes).map(drop)));
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if let Some(spare) = self.spare.take() {
            // A spare that failed is made again by whoever opens the journal next.
            let _ = join_spare(spare);
        }
    }
}

fn join_spare(spare: JoinHandle<Result<(), StoreError>>) -> Result<(), StoreError> {
    spare.join().expect("writing zeros does not panic")
}

fn spare_path(folder: &Path) -> PathBuf {
    folder.join("spare")
}

fn segment_path(folder: &Path, first_lsn: u64) -> PathBuf {
    folder.join(format!("journal-{first_lsn:016x}"))
}

fn create(folder: &Path, id: &[u8], start: Position, bytes: u64) -> Result<Segment, StoreError> {
    segment::preallocate(&spare_path(folder), bytes)?;
    adopt_spare(folder, id, start)
}

/// Turns the zeroed spare file into the segment that begins at `start`.
fn adopt_spare(folder: &Path, id: &[u8], start: Position) -> Result<Segment, StoreError> {
    let spare = spare_path(folder);
    let file = OpenOptions::new().write(true).open(&spare).map_err(StoreError::io(&spare))?;
    file.write_all_at(&segment::header(id, start), 0).and_then(|()| file.sync_all()).map_err(StoreError::io(&spare))?;
    let path = segment_path(folder, start.lsn);
    fs::rename(&spare, &path).map_err(StoreError::io(&path))?;
    sync_folder(folder)?;
    Ok(Segment { path, first_lsn: start.lsn })
}

fn list(folder: &Path) -> Result<VecDeque<Segment>, StoreError> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(folder).map_err(StoreError::io(folder))? {
        let path = entry.map_err(StoreError::io(folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(number) = name.strip_prefix("journal-") {
            let first_lsn = u64::from_str_radix(number, 16).map_err(|_| {
                StoreError::corrupt(&path, 0, "the name of a segment ends in its first record's number")
            })?;
            segments.push(Segment { path, first_lsn });
        }
    }
    segments.sort_by_key(|segment| segment.first_lsn);
    Ok(segments.into())
}

/// Where the journal ends, and what it holds behind the checkpoint.
struct Scan {
    payloads: Vec<(Lsn, Vec<u8>)>,
    next: Position,
    at: u64,
    size: u64,
    torn: bool,
}

fn scan(segments: &VecDeque<Segment>, id: &[u8], checkpoint: u64) -> Result<Scan, StoreError> {
    let mut scan = Scan { payloads: Vec::new(), next: Position { lsn: 0, previous: 0 }, at: 0, size: 0, torn: false };
    for (number, segment) in segments.iter().enumerate() {
        let bytes = fs::read(&segment.path).map_err(StoreError::io(&segment.path))?;
        let start = segment::parse_header(id, &bytes)
            .filter(|start| start.lsn == segment.first_lsn)
            .ok_or_else(|| StoreError::corrupt(&segment.path, 0, "not the header of a segment of this journal"))?;
        if number > 0 && start != scan.next {
            return Err(StoreError::corrupt(&segment.path, 0, "it does not follow the segment before it"));
        }
        scan.next = start;
        scan_records(&mut scan, segment, id, &bytes, checkpoint)?;
        let is_last = number + 1 == segments.len();
        if scan.torn && !is_last {
            return Err(StoreError::corrupt(&segment.path, scan.at, "a record is damaged, and later ones are there"));
        }
    }
    Ok(scan)
}

fn scan_records(
    scan: &mut Scan,
    segment: &Segment,
    id: &[u8],
    bytes: &[u8],
    checkpoint: u64,
) -> Result<(), StoreError> {
    let mut at = HEADER_LEN as usize;
    while let Some(record) = segment::parse_record(id, bytes, at, scan.next) {
        if record.lsn > checkpoint {
            scan.payloads.push((Lsn(record.lsn), record.payload.to_vec()));
        }
        scan.next = Position { lsn: record.lsn + 1, previous: record.checksum };
        at = record.end;
    }
    let at = at.min(bytes.len());
    (scan.at, scan.size) = (at as u64, bytes.len() as u64);
    if segment::has_record_after(id, bytes, at, scan.next.lsn) {
        return Err(StoreError::corrupt(&segment.path, scan.at, "a record is damaged, and later ones are there"));
    }
    scan.torn = bytes[at..].iter().any(|byte| *byte != 0);
    Ok(())
}
