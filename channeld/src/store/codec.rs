//! How a turn is written: postcard behind one byte of version.

use super::TurnRecord;

const VERSION: u8 = 1;

/// Appends `record` to `buffer`.
pub(super) fn encode_turn(record: &TurnRecord, buffer: &mut Vec<u8>) {
    buffer.push(VERSION);
    let bytes = std::mem::take(buffer);
    *buffer = postcard::to_extend(record, bytes).expect("a record of plain bytes always encodes");
}

/// The record in `bytes`, or `None` where this version does not understand it.
pub(super) fn decode_turn(bytes: &[u8]) -> Option<TurnRecord> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => postcard::from_bytes(rest).ok(),
        _ => None,
    }
}
