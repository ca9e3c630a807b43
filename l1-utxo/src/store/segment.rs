//! The block log: blocks and undo data in checksummed, append-only segment files.
//!
//! A record is never changed. What is appended is in the file at once, so it survives the death of the process; `sync`
//! makes it survive that of the machine.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::ahead::Ahead;
use super::{FORMAT, StoreError};
use crate::chain::Position;

/// Format, version, and the network's magic.
const FILE_HEADER: [u8; 12] = *b"l1-utxo\0\x01\0\0\0";
/// Bytes before the first record.
pub(super) const FIRST_RECORD: u32 = 16;
/// Length of the content (4), checksum (4), kind (1).
const RECORD_HEADER: usize = 9;
/// The longest content that can be: a block is at most 4 MB, its undo data less than the same again and a script each.
const MAX_CONTENT: u32 = 512 << 20;

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A block as on the wire.
    Block = 1,
    /// A block's hash and its undo data.
    Undo = 2,
}

/// The files, of which the last is written to.
#[derive(Debug)]
pub(super) struct SegmentLog {
    dir: PathBuf,
    magic: [u8; 4],
    files: Vec<File>,
    /// Where the next record goes, in the last file.
    end: u32,
    segment_size: u32,
    is_synced: bool,
    ahead: Ahead,
    buffer: Vec<u8>,
}

fn segment_path(dir: &Path, segment: usize) -> PathBuf {
    dir.join(format!("{segment:05}.log"))
}

impl SegmentLog {
    /// Opens the log in `dir`, or makes an empty one. Its end is taken to be that of the last file until `scan` says
    /// otherwise.
    pub(super) fn open(dir: &Path, magic: [u8; 4], segment_size: u32) -> Result<Self, StoreError> {
        std::fs::create_dir_all(dir).map_err(StoreError::io(dir))?;
        let mut log = Self {
            dir: dir.to_owned(),
            magic,
            files: Vec::new(),
            end: 0,
            segment_size,
            is_synced: true,
            ahead: Ahead::default(),
            buffer: Vec::new(),
        };
        log.open_files(true)?;
        if log.files.is_empty() {
            log.add_file()?;
        }
        let last = log.files.len() - 1;
        log.end = log.length(last)?;
        Ok(log)
    }

    /// Opens the log to read it only: nothing is made, cut or begun again.
    pub(super) fn open_to_read(dir: &Path, magic: [u8; 4]) -> Result<Self, StoreError> {
        let mut log = Self {
            dir: dir.to_owned(),
            magic,
            files: Vec::new(),
            end: 0,
            segment_size: 0,
            is_synced: true,
            ahead: Ahead::default(),
            buffer: Vec::new(),
        };
        log.open_files(false)?;
        let last = log.files.len().checked_sub(1).ok_or_else(|| StoreError::MissingSegment { path: log.path(0) })?;
        log.end = log.length(last)?;
        Ok(log)
    }

    fn open_files(&mut self, writable: bool) -> Result<(), StoreError> {
        let count = self.highest_segment()?.map_or(0, |highest| highest + 1);
        for segment in 0..count {
            let path = self.path(segment);
            if !path.exists() {
                return Err(StoreError::MissingSegment { path });
            }
            self.open_file(writable, segment + 1 == count)?;
        }
        Ok(())
    }

    /// The number of the last segment in the folder, whether or not those before it are there.
    fn highest_segment(&self) -> Result<Option<usize>, StoreError> {
        let error = StoreError::io(&self.dir);
        let mut highest = None;
        for entry in std::fs::read_dir(&self.dir).map_err(&error)? {
            let name = entry.map_err(&error)?.file_name().to_string_lossy().into_owned();
            let number = name.strip_suffix(".log").and_then(|number| number.parse::<usize>().ok());
            highest = highest.max(number.filter(|number| self.path(*number).ends_with(&name)));
        }
        Ok(highest)
    }

    pub(super) fn path(&self, segment: usize) -> PathBuf {
        segment_path(&self.dir, segment)
    }

    fn header(&self) -> [u8; FIRST_RECORD as usize] {
        let mut header = [0; FIRST_RECORD as usize];
        header[..12].copy_from_slice(&FILE_HEADER);
        header[12..].copy_from_slice(&self.magic);
        header
    }

    fn open_file(&mut self, writable: bool, is_last: bool) -> Result<(), StoreError> {
        let path = self.path(self.files.len());
        let error = StoreError::io(&path);
        let file = OpenOptions::new().read(true).write(writable).open(&path).map_err(&error)?;
        let mut header = [0; FIRST_RECORD as usize];
        match file.read_exact_at(&mut header, 0) {
            Ok(()) if header == self.header() => {}
            Ok(()) => {
                let (name, format) = header.split_first_chunk::<8>().expect("16 bytes hold 8");
                let format = u32::from_le_bytes(*format.first_chunk().expect("8 bytes hold 4"));
                let is_other = *name == FILE_HEADER[..8] && format != FORMAT;
                return Err(if is_other {
                    StoreError::OtherFormat { path, found: format }
                } else {
                    StoreError::NotASegment { path }
                });
            }
            // The process died while it made the file: nothing was ever in it. `scan` begins it again.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && is_last => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(StoreError::NotASegment { path }),
            Err(source) => return Err(error(source)),
        }
        self.files.push(file);
        Ok(())
    }

    fn add_file(&mut self) -> Result<(), StoreError> {
        let path = self.path(self.files.len());
        let error = StoreError::io(&path);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).map_err(&error)?;
        self.write_header(&file, &path)?;
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(StoreError::io(&self.dir))?;
        self.files.push(file);
        self.end = FIRST_RECORD;
        Ok(())
    }

    fn write_header(&self, file: &File, path: &Path) -> Result<(), StoreError> {
        file.write_all_at(&self.header(), 0).and_then(|()| file.sync_all()).map_err(StoreError::io(path))
    }

    fn length(&self, segment: usize) -> Result<u32, StoreError> {
        let path = self.path(segment);
        let length = self.files[segment].metadata().map_err(StoreError::io(&path))?.len();
        u32::try_from(length).map_err(|_| StoreError::NotASegment { path })
    }

    /// Where the next record goes.
    pub(super) fn end(&self) -> (u32, u32) {
        (self.last(), self.end)
    }

    fn last(&self) -> u32 {
        u32::try_from(self.files.len() - 1).expect("each segment but the last has 128 MB")
    }

    /// Appends a record whose content is written by `encode`.
    pub(super) fn append(&mut self, kind: Kind, encode: impl FnOnce(&mut Vec<u8>)) -> Result<Position, StoreError> {
        let mut record = std::mem::take(&mut self.buffer);
        record.clear();
        record.resize(RECORD_HEADER, 0);
        encode(&mut record);
        let length = u32::try_from(record.len() - RECORD_HEADER).ok().filter(|length| *length <= MAX_CONTENT);
        let length = length.ok_or(StoreError::RecordTooLong)?;
        let crc = checksum(kind as u8, &record[RECORD_HEADER..]);
        record[..4].copy_from_slice(&length.to_le_bytes());
        record[4..8].copy_from_slice(&crc.to_le_bytes());
        record[8] = kind as u8;
        let position = self.write(&record, length);
        self.buffer = record;
        position
    }

    fn write(&mut self, record: &[u8], length: u32) -> Result<Position, StoreError> {
        if self.end > FIRST_RECORD && self.end.saturating_add(length) > self.segment_size {
            // All before the last file is whole and durable.
            self.sync()?;
            self.add_file()?;
        }
        let segment = self.last();
        let position = Position { segment, offset: self.end, length };
        self.is_synced = false;
        let file = &self.files[segment as usize];
        file.write_all_at(record, u64::from(self.end)).map_err(StoreError::io(&self.path(segment as usize)))?;
        self.end += record.len() as u32;
        let (dir, ahead) = (&self.dir, &mut self.ahead);
        ahead.appended(record.len(), || segment_path(dir, segment as usize));
        Ok(position)
    }

    /// Makes all that was appended durable.
    pub(super) fn sync(&mut self) -> Result<(), StoreError> {
        if !self.is_synced {
            let last = self.files.len() - 1;
            self.files[last].sync_data().map_err(StoreError::io(&self.path(last)))?;
            self.is_synced = true;
        }
        Ok(())
    }

    /// The content of a record.
    pub(super) fn read(&self, kind: Kind, position: Position) -> Result<Vec<u8>, StoreError> {
        let damaged =
            || StoreError::DamagedRecord { path: self.path(position.segment as usize), offset: position.offset };
        let (found, content) = self.read_at(position.segment, position.offset)?.ok_or_else(damaged)?;
        if found == kind && content.len() == position.length as usize { Ok(content) } else { Err(damaged()) }
    }

    /// The whole record at a place, if there is one.
    fn read_at(&self, segment: u32, offset: u32) -> Result<Option<(Kind, Vec<u8>)>, StoreError> {
        let Some(file) = self.files.get(segment as usize) else { return Ok(None) };
        let length = self.length(segment as usize)?;
        let room = |size: usize| (length as usize).checked_sub(offset as usize).is_some_and(|left| left >= size);
        if !room(RECORD_HEADER) {
            return Ok(None);
        }
        let error = StoreError::io(&self.path(segment as usize));
        let mut header = [0; RECORD_HEADER];
        file.read_exact_at(&mut header, u64::from(offset)).map_err(&error)?;
        let (size, rest) = header.split_first_chunk::<4>().expect("9 bytes hold 4");
        let (crc, kind) = rest.split_first_chunk::<4>().expect("5 bytes hold 4");
        let size = u32::from_le_bytes(*size) as usize;
        let Some(kind) = Kind::from_byte(kind[0]).filter(|_| room(RECORD_HEADER + size)) else { return Ok(None) };
        let mut content = vec![0; size];
        file.read_exact_at(&mut content, u64::from(offset) + RECORD_HEADER as u64).map_err(&error)?;
        let is_whole = checksum(kind as u8, &content) == u32::from_le_bytes(*crc);
        Ok(is_whole.then_some((kind, content)))
    }

    /// Reads the records from a place to the end, and cuts what is no whole record at the end of the last file. Anywhere
    /// else that is damage, not a torn tail.
    pub(super) fn scan(
        &mut self,
        from: (u32, u32),
        mut each: impl FnMut(Kind, Position, &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let (mut segment, mut offset) = from;
        loop {
            while let Some((kind, content)) = self.read_at(segment, offset)? {
                let length = content.len() as u32;
                each(kind, Position { segment, offset, length }, &content)?;
                offset += RECORD_HEADER as u32 + length;
            }
            let is_last = segment as usize + 1 >= self.files.len();
            if is_last {
                return self.cut(segment as usize, offset);
            }
            if offset != self.length(segment as usize)? {
                return Err(StoreError::DamagedRecord { path: self.path(segment as usize), offset });
            }
            (segment, offset) = (segment + 1, FIRST_RECORD);
        }
    }

    /// Cuts what a crash left of a record that was never finished. What lies before whole records is damage, and stays.
    fn cut(&mut self, segment: usize, offset: u32) -> Result<(), StoreError> {
        if self.is_followed(segment as u32, offset)? {
            return Err(StoreError::DamagedRecord { path: self.path(segment), offset });
        }
        let length = self.length(segment)?;
        if length < FIRST_RECORD {
            self.write_header(&self.files[segment], &self.path(segment))?;
        }
        let torn = length.saturating_sub(offset);
        if torn > 0 {
            tracing::warn!(segment, offset, bytes = torn, "the last record of the block log was torn: cut");
            let file = &self.files[segment];
            file.set_len(u64::from(offset))
                .and_then(|()| file.sync_all())
                .map_err(StoreError::io(&self.path(segment)))?;
        }
        self.end = offset;
        Ok(())
    }

    /// Whether a whole record follows the bad one at a place, by what that one says of its length or, if that was damaged,
    /// wherever one begins.
    pub(super) fn is_followed(&self, segment: u32, offset: u32) -> Result<bool, StoreError> {
        let Some(file) = self.files.get(segment as usize) else { return Ok(false) };
        let end = self.length(segment as usize)?;
        let mut size = [0; 4];
        if end.saturating_sub(offset) < RECORD_HEADER as u32 {
            return Ok(false);
        }
        file.read_exact_at(&mut size, u64::from(offset)).map_err(StoreError::io(&self.path(segment as usize)))?;
        let next = offset.checked_add(RECORD_HEADER as u32).and_then(|next| next.checked_add(u32::from_le_bytes(size)));
        match next.filter(|next| *next < end) {
            Some(next) if self.read_at(segment, next)?.is_some() => Ok(true),
            _ => self.holds_record_after(segment, offset),
        }
    }

    /// Looks for a whole record in the bytes that a block and its undo data can take at most, byte by byte.
    fn holds_record_after(&self, segment: u32, offset: u32) -> Result<bool, StoreError> {
        const FARTHEST: u32 = 4 << 20;
        let path = self.path(segment as usize);
        let end = self.length(segment as usize)?;
        let mut window = vec![0; end.saturating_sub(offset + 1).min(FARTHEST) as usize];
        self.files[segment as usize]
            .read_exact_at(&mut window, u64::from(offset) + 1)
            .map_err(StoreError::io(&path))?;
        // Nine bytes that could begin a record are rare: only those are read.
        for (place, start) in window.windows(RECORD_HEADER).enumerate() {
            let size = u32::from_le_bytes([start[0], start[1], start[2], start[3]]);
            let at = offset + 1 + place as u32;
            let fits = at.checked_add(RECORD_HEADER as u32).and_then(|begin| begin.checked_add(size));
            let is_possible = size > 0 && Kind::from_byte(start[8]).is_some() && fits.is_some_and(|stop| stop <= end);
            if is_possible && self.read_at(segment, at)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads all records without changing anything, and tells where in the last segment they end, and whether all of it
    /// is whole up to what a crash may leave.
    pub(super) fn read_all(
        &self,
        mut each: impl FnMut(Kind, Position, &[u8]) -> Result<(), StoreError>,
    ) -> Result<(u32, u32), StoreError> {
        let mut end = (0, FIRST_RECORD);
        for segment in 0..=self.last() {
            let mut offset = FIRST_RECORD;
            while let Some((kind, content)) = self.read_at(segment, offset)? {
                let length = content.len() as u32;
                each(kind, Position { segment, offset, length }, &content)?;
                offset += RECORD_HEADER as u32 + length;
            }
            let is_end = offset >= self.length(segment as usize)?;
            if !is_end && (segment != self.last() || self.is_followed(segment, offset)?) {
                return Err(StoreError::DamagedRecord { path: self.path(segment as usize), offset });
            }
            end = (segment, offset);
        }
        Ok(end)
    }

    /// Whether all records up to `end` can be there.
    pub(super) fn reaches(&self, (segment, offset): (u32, u32)) -> Result<bool, StoreError> {
        Ok((segment as usize) < self.files.len() && self.length(segment as usize)? >= offset)
    }

    /// Bytes of a segment behind a place.
    pub(super) fn bytes_after(&self, segment: u32, offset: u32) -> Result<u64, StoreError> {
        Ok(u64::from(self.length(segment as usize)?.saturating_sub(offset)))
    }

    /// Whether it holds no record, not even a part of one.
    pub(super) fn is_empty(&self) -> Result<bool, StoreError> {
        Ok(self.files.len() <= 1 && (self.files.is_empty() || self.bytes_after(0, FIRST_RECORD)? == 0))
    }

    /// Bytes on disk.
    pub(super) fn size(&self) -> u64 {
        let full: u64 = (0..self.files.len() - 1).filter_map(|i| self.length(i).ok()).map(u64::from).sum();
        full + u64::from(self.end)
    }
}

impl Kind {
    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Block),
            2 => Some(Self::Undo),
            _ => None,
        }
    }
}

/// Over length, kind and content: a record of zeros is none.
fn checksum(kind: u8, content: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&(content.len() as u32).to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(crc, &[kind]), content)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAGIC: [u8; 4] = [1, 2, 3, 4];

    fn content(n: u8) -> Vec<u8> {
        vec![n; 10 + usize::from(n)]
    }

    fn filled(dir: &Path, count: u8) -> (SegmentLog, Vec<Position>) {
        let mut log = SegmentLog::open(dir, MAGIC, 200).unwrap();
        let put = |n| log.append(Kind::Block, |out| out.extend(content(n))).unwrap();
        let positions = (0..count).map(put).collect();
        (log, positions)
    }

    fn found(log: &mut SegmentLog) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        log.scan((0, FIRST_RECORD), |_, _, content| {
            found.push(content.to_vec());
            Ok(())
        })
        .unwrap();
        found
    }

    #[test]
    fn records_are_read_back_over_several_files() {
        let dir = tempfile::tempdir().unwrap();
        let (log, positions) = filled(dir.path(), 20);
        assert!(log.files.len() > 2);
        for (n, position) in positions.iter().enumerate() {
            assert_eq!(log.read(Kind::Block, *position).unwrap(), content(n as u8));
            assert!(log.read(Kind::Undo, *position).is_err());
        }
        let mut again = SegmentLog::open(dir.path(), MAGIC, 200).unwrap();
        assert_eq!(found(&mut again), (0..20).map(content).collect::<Vec<_>>());
        assert_eq!(again.end(), log.end());
        assert!(SegmentLog::open(dir.path(), [9; 4], 200).is_err());
    }

    #[test]
    fn a_log_cut_at_any_byte_of_its_last_record_keeps_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let (log, positions) = filled(dir.path(), 3);
        let last = positions[2];
        let path = log.path(last.segment as usize);
        let bytes = std::fs::read(&path).unwrap();
        for length in last.offset as usize..bytes.len() {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let mut log = SegmentLog::open(dir.path(), MAGIC, 200).unwrap();
            assert_eq!(found(&mut log), (0..2).map(content).collect::<Vec<_>>(), "cut at {length}");
            let position = log.append(Kind::Undo, |out| out.extend(content(9))).unwrap();
            assert_eq!(log.read(Kind::Undo, position).unwrap(), content(9));
            assert_eq!(found(&mut SegmentLog::open(dir.path(), MAGIC, 200).unwrap()).len(), 3);
        }
    }

    #[test]
    fn damage_before_the_last_file_is_no_torn_tail() {
        let dir = tempfile::tempdir().unwrap();
        let (log, positions) = filled(dir.path(), 20);
        let path = log.path(0);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[positions[0].offset as usize + 12] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let mut log = SegmentLog::open(dir.path(), MAGIC, 200).unwrap();
        assert!(matches!(log.scan((0, FIRST_RECORD), |_, _, _| Ok(())), Err(StoreError::DamagedRecord { .. })));
        assert!(matches!(log.read(Kind::Block, positions[0]), Err(StoreError::DamagedRecord { .. })));
    }

    #[test]
    fn a_file_whose_header_was_never_finished_is_begun_again() {
        let dir = tempfile::tempdir().unwrap();
        for length in 0..FIRST_RECORD as usize {
            std::fs::write(dir.path().join("00000.log"), &b"l1-utxo\0\x01\0\0\0\x01\x02\x03\x04"[..length]).unwrap();
            let mut log = SegmentLog::open(dir.path(), MAGIC, 200).unwrap();
            assert!(found(&mut log).is_empty());
            assert_eq!(log.end(), (0, FIRST_RECORD));
        }
    }
}
