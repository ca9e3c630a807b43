//! Numbers in scripts: little endian with a sign bit, at most 4 bytes where they are read (Bitcoin Core: `CScriptNum`).

use super::{ScriptError, stack::Item};

/// Bytes that an operand may have; `OP_CHECKLOCKTIMEVERIFY` and `OP_CHECKSEQUENCEVERIFY` take one more.
pub(super) const DEFAULT_SIZE: usize = 4;
/// Bytes that a lock time may have: beyond the year 2038, up to all of u32.
pub(super) const LOCKTIME_SIZE: usize = 5;

/// The number that `bytes` stand for; at most `max_size` (≤ 8) bytes, and no longer than needed if `minimal`.
pub(super) fn decode(bytes: &[u8], minimal: bool, max_size: usize) -> Result<i64, ScriptError> {
    let Some((&last, rest)) = bytes.split_last() else { return Ok(0) };
    if bytes.len() > max_size {
        return Err(ScriptError::ScriptNum);
    }
    // The last byte may hold nothing but the sign only where the byte before it needs its highest bit itself.
    if minimal && last & 0x7f == 0 && rest.last().is_none_or(|before| before & 0x80 == 0) {
        return Err(ScriptError::ScriptNum);
    }
    let magnitude = rest.iter().rev().fold(i64::from(last & 0x7f), |value, byte| value << 8 | i64::from(*byte));
    Ok(if last & 0x80 == 0 { magnitude } else { -magnitude })
}

/// The shortest encoding of a number; zero is empty.
pub(super) fn encode<'s>(value: i64) -> Item<'s> {
    let mut bytes = [0; 9];
    bytes[..8].copy_from_slice(&value.unsigned_abs().to_le_bytes());
    let mut length = 8 - value.unsigned_abs().leading_zeros() as usize / 8;
    if length > 0 && bytes[length - 1] & 0x80 != 0 {
        length += 1;
    }
    if value < 0 {
        bytes[length - 1] |= 0x80;
    }
    Item::inline(&bytes[..length])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_as_core() {
        for (value, bytes) in [
            (0, &[][..]),
            (1, &[1]),
            (-1, &[0x81]),
            (127, &[0x7f]),
            (128, &[0x80, 0x00]),
            (-128, &[0x80, 0x80]),
            (255, &[0xff, 0x00]),
            (-255, &[0xff, 0x80]),
            (256, &[0x00, 0x01]),
            (0x7fff_ffff, &[0xff, 0xff, 0xff, 0x7f]),
            (-0x8000_0000, &[0x00, 0x00, 0x00, 0x80, 0x80]),
        ] {
            assert_eq!(encode(value).bytes(), bytes, "{value}");
            assert_eq!(decode(bytes, true, LOCKTIME_SIZE), Ok(value));
        }
        assert_eq!(encode(i64::MIN).bytes(), [0, 0, 0, 0, 0, 0, 0, 0x80, 0x80]);
    }

    #[test]
    fn refuses_what_is_too_long_or_not_minimal() {
        assert_eq!(decode(&[1, 0, 0, 0, 0], false, DEFAULT_SIZE), Err(ScriptError::ScriptNum));
        for padded in [&[0x00][..], &[0x80], &[0x01, 0x00], &[0x01, 0x80], &[0x7f, 0x00]] {
            assert_eq!(decode(padded, true, DEFAULT_SIZE), Err(ScriptError::ScriptNum), "{padded:02x?}");
            assert!(decode(padded, false, DEFAULT_SIZE).is_ok());
        }
        assert_eq!(decode(&[0x80], false, DEFAULT_SIZE), Ok(0));
    }
}
