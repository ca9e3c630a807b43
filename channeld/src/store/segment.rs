//! A journal segment: a preallocated, zeroed file of checksummed records, each bound to its predecessor.
//!
//! ```text
//! header   magic 8 · first LSN 8 · predecessor's checksum 4 · crc32c of the header and the journal's id 4 · zeros to 64
//! record   length 4 · checksum 4 · LSN 8 · epoch 8 · predecessor's checksum 4 · payload · zeros to a multiple of 8
//! ```

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::error::StoreError;

/// Bytes before the first record.
pub(super) const HEADER_LEN: u64 = 64;
/// Bytes of a record around its payload.
pub(super) const FRAME_LEN: usize = 28;
const MAGIC: &[u8; 8] = b"CHJRNL01";

/// What every checksum and every record is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// The number of the next record.
    pub(super) lsn: u64,
    /// The checksum of the record before it; 0 at the start of the journal.
    pub(super) previous: u32,
}

/// One record found in a segment.
pub(super) struct Record<'a> {
    pub(super) lsn: u64,
    pub(super) checksum: u32,
    pub(super) payload: &'a [u8],
    /// Where the next record starts.
    pub(super) end: usize,
}

/// Makes a file of `bytes` zeros, all of them on disk, so that writing into it later changes no metadata.
pub(super) fn preallocate(path: &Path, bytes: u64) -> Result<File, StoreError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(path)
        .map_err(StoreError::io(path))?;
    zero(&file, path, 0, bytes)?;
    Ok(file)
}

/// Writes zeros from `start` to `end` and syncs.
pub(super) fn zero(file: &File, path: &Path, start: u64, end: u64) -> Result<(), StoreError> {
    const CHUNK: usize = 1 << 20;
    let zeros = vec![0; CHUNK];
    let mut at = start;
    while at < end {
        let length = (end - at).min(CHUNK as u64) as usize;
        file.write_all_at(&zeros[..length], at).map_err(StoreError::io(path))?;
        at += length as u64;
    }
    file.sync_all().map_err(StoreError::io(path))
}

/// The 64 bytes that open a segment.
pub(super) fn header(journal_id: &[u8], position: Position) -> [u8; HEADER_LEN as usize] {
    let mut header = [0; HEADER_LEN as usize];
    header[..8].copy_from_slice(MAGIC);
    header[8..16].copy_from_slice(&position.lsn.to_le_bytes());
    header[16..20].copy_from_slice(&position.previous.to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(journal_id), &header[..20]);
    header[20..24].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// Where a segment starts, or `None` where its header is not one of this journal's.
pub(super) fn parse_header(journal_id: &[u8], bytes: &[u8]) -> Option<Position> {
    let found = bytes.get(..HEADER_LEN as usize)?;
    let position = Position { lsn: u64_at(found, 8), previous: u32_at(found, 16) };
    (header(journal_id, position) == found).then_some(position)
}

/// Appends a whole record to `buffer`; returns its checksum. `write_payload` appends the payload.
pub(super) fn encode_record(
    journal_id: &[u8],
    epoch: u64,
    position: Position,
    buffer: &mut Vec<u8>,
    write_payload: impl FnOnce(&mut Vec<u8>),
) -> u32 {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; 8]);
    buffer.extend_from_slice(&position.lsn.to_le_bytes());
    buffer.extend_from_slice(&epoch.to_le_bytes());
    buffer.extend_from_slice(&position.previous.to_le_bytes());
    write_payload(buffer);
    let length = u32::try_from(buffer.len() - start - FRAME_LEN).expect("a turn is far smaller than 4 GiB");
    buffer[start..start + 4].copy_from_slice(&length.to_le_bytes());
    let checksum = record_checksum(journal_id, &buffer[start..]);
    buffer[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
    buffer.resize(start + (buffer.len() - start).next_multiple_of(8), 0);
    checksum
}

/// The record at `at`, or `None` where there is none that is whole and follows `position`.
pub(super) fn parse_record<'a>(
    journal_id: &[u8],
    bytes: &'a [u8],
    at: usize,
    position: Position,
) -> Option<Record<'a>> {
    let record = parse_any_record(journal_id, bytes, at)?;
    (record.lsn == position.lsn && u32_at(bytes, at + 24) == position.previous).then_some(record)
}

/// Whether a whole record of this journal with a number from `lsn` on stands anywhere from `at` on.
pub(super) fn has_record_after(journal_id: &[u8], bytes: &[u8], at: usize, lsn: u64) -> bool {
    (at.next_multiple_of(8)..bytes.len())
        .step_by(8)
        .filter(|at| at + FRAME_LEN <= bytes.len() && u64_at(bytes, at + 8) >= lsn)
        .any(|at| parse_any_record(journal_id, bytes, at).is_some())
}

/// The whole record of this journal at `at`, wherever it belongs.
pub(super) fn parse_any_record<'a>(journal_id: &[u8], bytes: &'a [u8], at: usize) -> Option<Record<'a>> {
    let payload = at.checked_add(FRAME_LEN)?;
    if payload > bytes.len() {
        return None;
    }
    let length = u32_at(bytes, at) as usize;
    let end = payload.checked_add(length)?;
    if length == 0 || end > bytes.len() {
        return None;
    }
    let checksum = u32_at(bytes, at + 4);
    if record_checksum(journal_id, &bytes[at..end]) != checksum {
        return None;
    }
    Some(Record { lsn: u64_at(bytes, at + 8), checksum, payload: &bytes[payload..end], end: end.next_multiple_of(8) })
}

/// Over the journal's id, the length, and everything behind the checksum itself.
fn record_checksum(journal_id: &[u8], record: &[u8]) -> u32 {
    let salted = crc32c::crc32c_append(crc32c::crc32c(journal_id), &record[..4]);
    crc32c::crc32c_append(salted, &record[8..])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
