//! TLV streams (BOLT 1, "Type-Length-Value Format"): types rise strictly, everything is minimally encoded, an unknown odd record
//! is skipped and an unknown even one fails the stream.

use super::codec::{Reader, TlvValue, bigsize_length, write_bigsize};
use super::error::DecodeError;

/// Reads the whole stream. `known` gets each record and says whether it knows the type; of a known one it must read the
/// whole value.
pub fn read_stream(
    mut reader: Reader<'_>,
    mut known: impl FnMut(u64, &mut Reader<'_>) -> Result<bool, DecodeError>,
) -> Result<(), DecodeError> {
    let mut last = None;
    while !reader.is_empty() {
        let tlv_type = reader.bigsize()?;
        if last.is_some_and(|last| last >= tlv_type) {
            return Err(DecodeError::TlvOutOfOrder { tlv_type });
        }
        last = Some(tlv_type);
        let length = usize::try_from(reader.bigsize()?).map_err(|_| DecodeError::TooShort)?;
        let mut value = Reader::new(reader.take(length)?);
        if known(tlv_type, &mut value)? {
            if !value.is_empty() {
                return Err(DecodeError::TlvTooLong { tlv_type });
            }
        } else if tlv_type % 2 == 0 {
            return Err(DecodeError::UnknownEvenTlv { tlv_type });
        }
    }
    Ok(())
}

/// Appends one record whose value is what `write` appends.
pub fn write_record(tlv_type: u64, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    write_bigsize(tlv_type, out);
    let length_at = out.len();
    out.push(0);
    write(out);
    let length = (out.len() - length_at - 1) as u64;
    if let Ok(small @ 0..=0xfc) = u8::try_from(length) {
        out[length_at] = small;
        return;
    }
    let mut prefix = Vec::with_capacity(bigsize_length(length));
    write_bigsize(length, &mut prefix);
    out.splice(length_at..=length_at, prefix);
}

/// Appends one record, if there is a value.
pub fn write_optional<T: TlvValue>(tlv_type: u64, value: Option<&T>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        write_record(tlv_type, out, |out| value.write_value(out));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The namespace `n1` of BOLT 1, appendix B.
    fn read_n1(bytes: &[u8]) -> Result<Vec<u64>, DecodeError> {
        let mut seen = Vec::new();
        read_stream(Reader::new(bytes), |tlv_type, value| {
            match tlv_type {
                1 => value.truncated(8).map(drop)?,
                2 => value.take(8).map(drop)?,
                3 => {
                    value
                        .take(33)
                        .and_then(|key| secp256k1::PublicKey::from_slice(key).map_err(|_| DecodeError::InvalidPoint))?;
                    value.take(16)?;
                }
                254 => value.take(2).map(drop)?,
                _ => return Ok(false),
            }
            seen.push(tlv_type);
            Ok(true)
        })?;
        Ok(seen)
    }

    fn read(text: &str) -> Result<Vec<u64>, DecodeError> {
        read_n1(&hex::decode(text).unwrap())
    }

    #[test]
    fn valid_streams_of_appendix_b() {
        for text in ["", "2100", "fd020100", "fd00fd00", "fd00ff00", "fe0200000100", "ff020000000000000100"] {
            assert_eq!(read(text), Ok(vec![]), "{text}");
        }
        for text in ["0100", "010101", "01020100", "0103010000", "010401000000", "01080100000000000000"] {
            assert_eq!(read(text), Ok(vec![1]), "{text}");
        }
        assert_eq!(read("02080000000000000226"), Ok(vec![2]));
        assert_eq!(read("fd00fe020226"), Ok(vec![254]));
        let point =
            "0331023da092f6980e58d2c037173180e9a465476026ee50f96695963e8efe436f54eb00000000000000010000000000000002";
        assert_eq!(read(point), Ok(vec![3]));
    }

    #[test]
    fn invalid_streams_of_appendix_b() {
        let too_short =
            ["fd", "fd01", "2101", "fd010100", "0fd250", "0fd2", "0ffd", "0ffd26", "0ffd2602", "0ffd0201", "0208"];
        for text in too_short.into_iter().filter(|text| *text != "fd010100") {
            assert!(read(text).is_err(), "{text}");
        }
        for text in ["fd000100", "0ffd000100", "0ffe0000000100", "0fff000000000000000100"] {
            assert_eq!(read(text), Err(DecodeError::BigSizeNotMinimal), "{text}");
        }
        for text in ["1200", "fd010200", "fe0100000200", "ff010000000000000200"] {
            assert!(matches!(read(text), Err(DecodeError::UnknownEvenTlv { .. })), "{text}");
        }
        for text in ["010100", "01020001", "0109ffffffffffffffffff"] {
            assert_eq!(read(text), Err(DecodeError::TruncatedIntegerNotMinimal), "{text}");
        }
        for text in ["0207010101010101 01", "0200", "fd00fe0101", "fd00fe00"].map(|text| text.replace(' ', "")) {
            assert_eq!(read(&text), Err(DecodeError::TooShort), "{text}");
        }
        assert_eq!(read("0209010101010101010101"), Err(DecodeError::TlvTooLong { tlv_type: 2 }));
        assert_eq!(read("fd00fe03010101"), Err(DecodeError::TlvTooLong { tlv_type: 254 }));
        assert_eq!(read("0000"), Err(DecodeError::UnknownEvenTlv { tlv_type: 0 }));
    }

    #[test]
    fn order_is_strict() {
        for text in
            ["0208000000000000022601012a", "02080000000000000231020800000000000000 0451", "1f000f012a", "1f001f012a"]
        {
            let text = text.replace(' ', "");
            assert!(matches!(read(&text), Err(DecodeError::TlvOutOfOrder { .. })), "{text}");
        }
    }

    #[test]
    fn a_long_record_has_a_long_length() {
        for length in [0usize, 1, 252, 253, 70_000] {
            let mut out = vec![9];
            write_record(7, &mut out, |out| out.resize(out.len() + length, 5));
            let mut reader = Reader::new(&out[1..]);
            assert_eq!(reader.bigsize(), Ok(7));
            assert_eq!(reader.bigsize(), Ok(length as u64));
            assert_eq!(reader.take_rest(), vec![5; length]);
        }
    }
}
