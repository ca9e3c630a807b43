//! How messages are framed without encryption: magic, name, length, checksum. Bounds come before memory.
//!
//! Bitcoin Core: `V1Transport` in `net.cpp`.

use bitcoin::hashes::{Hash, sha256d};

use crate::sync::wire::MAX_PAYLOAD;

/// Bytes before the content.
pub const HEADER_SIZE: usize = 24;

/// What stands before a message's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// The message's name; `None` if it is no name, so that the message is skipped.
    pub command: Option<String>,
    /// Bytes of the content.
    pub length: usize,
    checksum: [u8; 4],
}

/// What a connection is closed for at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Another network's, or no Bitcoin node at all.
    #[error("wrong magic")]
    Magic,
    /// Longer than any message may be.
    #[error("a message of {0} bytes")]
    TooLong(u32),
}

impl FrameHeader {
    /// Reads the 24 bytes.
    pub fn read(bytes: &[u8; HEADER_SIZE], magic: [u8; 4]) -> Result<Self, FrameError> {
        let (found, rest) = bytes.split_first_chunk::<4>().expect("24 bytes hold 4");
        if *found != magic {
            return Err(FrameError::Magic);
        }
        let (name, rest) = rest.split_first_chunk::<12>().expect("20 bytes hold 12");
        let (length, checksum) = rest.split_first_chunk::<4>().expect("8 bytes hold 4");
        let length = u32::from_le_bytes(*length);
        if length as usize > MAX_PAYLOAD {
            return Err(FrameError::TooLong(length));
        }
        let checksum = *checksum.first_chunk::<4>().expect("4 bytes are left");
        Ok(Self { command: command(name), length: length as usize, checksum })
    }

    /// Whether the content is what was sent; if not, the message is skipped.
    pub fn is_content(&self, payload: &[u8]) -> bool {
        checksum(payload) == self.checksum
    }
}

/// Printable characters, then zeros (Core: `IsMessageTypeValid`).
pub(super) fn command(name: &[u8; 12]) -> Option<String> {
    let length = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    let (name, padding) = name.split_at(length);
    let is_valid = name.iter().all(|byte| (b' '..=b'~').contains(byte)) && padding.iter().all(|byte| *byte == 0);
    is_valid.then(|| name.iter().map(|byte| char::from(*byte)).collect())
}

fn checksum(payload: &[u8]) -> [u8; 4] {
    *sha256d::Hash::hash(payload).as_byte_array().first_chunk::<4>().expect("a hash has 32 bytes")
}

/// The 24 bytes before `payload`.
pub fn header(command: &str, payload: &[u8], magic: [u8; 4]) -> [u8; HEADER_SIZE] {
    let mut header = [0; HEADER_SIZE];
    header[..4].copy_from_slice(&magic);
    for (place, byte) in header[4..16].iter_mut().zip(command.bytes()) {
        *place = byte;
    }
    header[16..20].copy_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
    header[20..].copy_from_slice(&checksum(payload));
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAGIC: [u8; 4] = [0xfa, 0xbf, 0xb5, 0xda];

    #[test]
    fn what_is_framed_is_read_back() {
        let bytes = header("ping", &[1; 8], MAGIC);
        let read = FrameHeader::read(&bytes, MAGIC).unwrap();
        assert_eq!((read.command.as_deref(), read.length), (Some("ping"), 8));
        assert!(read.is_content(&[1; 8]) && !read.is_content(&[2; 8]));
        // Core's own `verack`: its checksum is that of nothing.
        assert_eq!(header("verack", &[], MAGIC)[20..], [0x5d, 0xf6, 0xe0, 0xe2]);
    }

    #[test]
    fn strangers_and_giants_are_refused() {
        let mut bytes = header("ping", &[1; 8], MAGIC);
        assert_eq!(FrameHeader::read(&bytes, [1, 2, 3, 4]), Err(FrameError::Magic));
        bytes[16..20].copy_from_slice(&4_000_001u32.to_le_bytes());
        assert_eq!(FrameHeader::read(&bytes, MAGIC), Err(FrameError::TooLong(4_000_001)));
        bytes[16..20].copy_from_slice(&8u32.to_le_bytes());
        bytes[10] = b'x';
        assert_eq!(FrameHeader::read(&bytes, MAGIC).unwrap().command, None);
    }
}
