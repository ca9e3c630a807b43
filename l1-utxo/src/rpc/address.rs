//! Why a text is no address of this network, in Core's words and with the places of what is wrong (`key_io.cpp`,
//! `bech32.cpp`). Only for texts that are none: it never says what an address pays to.

/// What addresses of version 0 and above begin with.
const HRP: &str = "bcrt";
/// First bytes of addresses in base 58: of keys and of scripts.
const BASE58_PREFIXES: [u8; 2] = [111, 196];
/// Bytes of a base 58 address, its prefix included.
const BASE58_SIZE: usize = 21;
/// Bytes up to which a text counts as base 58 at all.
const BASE58_LIMIT: usize = 100;
const CHARSET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const BECH32_LIMIT: usize = 90;
const CHECKSUM_SIZE: usize = 6;
/// What the checksum of Bech32 (BIP 173) and of Bech32m (BIP 350) leaves.
const BECH32: u32 = 1;
const BECH32M: u32 = 0x2bc8_30a3;
const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];

/// A reason, and the indices of the characters at fault where they are known.
pub type Fault = (String, Vec<usize>);

/// Why `text` is no address of this network.
pub fn explain(text: &str) -> Fault {
    let begins = text.as_bytes().get(..HRP.len()).is_some_and(|start| start.eq_ignore_ascii_case(HRP.as_bytes()));
    if begins { explain_bech32(text) } else { (explain_base58(text).into(), vec![]) }
}

fn explain_base58(text: &str) -> &'static str {
    match bitcoin::base58::decode_check(text) {
        Ok(data) if data.len() <= BASE58_SIZE => {
            if data.first().is_some_and(|prefix| BASE58_PREFIXES.contains(prefix)) {
                "Invalid length for Base58 address (P2PKH or P2SH)"
            } else {
                "Invalid or unsupported Base58-encoded address."
            }
        }
        _ => match bitcoin::base58::decode(text) {
            Ok(data) if data.len() <= BASE58_LIMIT => "Invalid checksum or length of Base58 address (P2PKH or P2SH)",
            _ => "Invalid or unsupported Segwit (Bech32) or Base58 encoding.",
        },
    }
}

/// A text in the form of Bech32, whatever its checksum.
struct Parts {
    hrp: String,
    values: Vec<u8>,
}

fn explain_bech32(text: &str) -> Fault {
    let Parts { hrp, values } = match split(text) {
        Ok(parts) => parts,
        Err(fault) => return fault,
    };
    let residue = checksum(&hrp, &values);
    if residue == BECH32 || residue == BECH32M {
        return (explain_program(&hrp, &values[..values.len() - CHECKSUM_SIZE], residue == BECH32M), vec![]);
    }
    locate(text.len(), &values, residue)
}

fn split(text: &str) -> Result<Parts, Fault> {
    if text.len() > BECH32_LIMIT {
        return Err(("Bech32 string too long".into(), (BECH32_LIMIT..text.len()).collect()));
    }
    let wrong = wrong_characters(text);
    if !wrong.is_empty() {
        return Err(("Invalid character or mixed case".into(), wrong));
    }
    let Some(separator) = text.rfind('1') else { return Err(("Missing separator".into(), vec![])) };
    if separator == 0 || separator + CHECKSUM_SIZE >= text.len() {
        return Err(("Invalid separator position".into(), vec![separator]));
    }
    let lower = text.to_ascii_lowercase();
    let (hrp, data) = lower.split_at(separator);
    let value = |(place, character): (usize, u8)| {
        let found = CHARSET.iter().position(|known| *known == character);
        found
            .map(|value| value as u8)
            .ok_or_else(|| ("Invalid Base 32 character".to_owned(), vec![separator + 1 + place]))
    };
    let values = data.bytes().skip(1).enumerate().map(value).collect::<Result<_, _>>()?;
    Ok(Parts { hrp: hrp.to_owned(), values })
}

/// Characters that are none of ASCII's, or of the other case than the first letter.
fn wrong_characters(text: &str) -> Vec<usize> {
    let is_upper = text.bytes().find(u8::is_ascii_alphabetic).is_some_and(|first| first.is_ascii_uppercase());
    let is_wrong = |byte: u8| match byte {
        b'a'..=b'z' => is_upper,
        b'A'..=b'Z' => !is_upper,
        other => !(33..=126).contains(&other),
    };
    text.bytes().enumerate().filter(|(_, byte)| is_wrong(*byte)).map(|(place, _)| place).collect()
}

/// What is wrong with a text whose checksum is right.
fn explain_program(hrp: &str, data: &[u8], is_bech32m: bool) -> String {
    let Some((version, program)) = data.split_first() else { return "Empty Bech32 data section".into() };
    if hrp != HRP {
        return format!("Invalid or unsupported prefix for Segwit (Bech32) address (expected {HRP}, got {hrp}).");
    }
    match (version, is_bech32m) {
        (0, true) => return "Version 0 witness address must use Bech32 checksum".into(),
        (1.., false) => return "Version 1+ witness address must use Bech32m checksum".into(),
        _ => {}
    }
    // Five bits a value: what is left over are less than five zeros.
    let (bits, size) = (program.len() * 5 % 8, program.len() * 5 / 8);
    let rest = program.last().map_or(0, |last| last & ((1 << bits.min(5)) - 1));
    if bits >= 5 || rest != 0 {
        return "Invalid padding in Bech32 data section".into();
    }
    let bytes = if size == 1 { "byte" } else { "bytes" };
    match version {
        0 => format!("Invalid Bech32 v0 address program size ({size} {bytes}), per BIP141"),
        1..=16 => format!("Invalid Bech32 address program size ({size} {bytes})"),
        _ => "Invalid Bech32 address witness version".into(),
    }
}

/// One step of BIP 173's checksum.
fn step(state: u32, value: u8) -> u32 {
    let top = state >> 25;
    let next = (state & 0x01ff_ffff) << 5 ^ u32::from(value);
    GENERATOR.iter().enumerate().filter(|(bit, _)| top >> bit & 1 == 1).fold(next, |sum, (_, part)| sum ^ part)
}

fn checksum(hrp: &str, values: &[u8]) -> u32 {
    let high = hrp.bytes().map(|byte| byte >> 5);
    let low = hrp.bytes().map(|byte| byte & 31);
    high.chain([0]).chain(low).chain(values.iter().copied()).fold(1, step)
}

/// Finds the one or two wrong characters that explain a wrong checksum, for the encoding that needs fewer of them.
fn locate(length: usize, values: &[u8], residue: u32) -> Fault {
    // What a wrong value so far from the right adds to the checksum: it is linear.
    let mut added = Vec::with_capacity(values.len() * 31);
    for place in 0..values.len() {
        for value in 1..32_u8 {
            added.push(((0..place).fold(u32::from(value), |state, _| step(state, 0)), length - 1 - place));
        }
    }
    added.sort_unstable();
    let find = |sum: u32| added.binary_search_by_key(&sum, |(sum, _)| *sum).ok().map(|index| added[index].1);
    let explanation = |wanted: u32| {
        let difference = residue ^ wanted;
        if let Some(place) = find(difference) {
            return vec![place];
        }
        let pair = added.iter().find_map(|(sum, place)| Some((*place, find(difference ^ sum)?)));
        pair.filter(|(one, other)| one != other).map_or(vec![], |(one, other)| vec![one.min(other), one.max(other)])
    };
    let (classic, modified) = (explanation(BECH32), explanation(BECH32M));
    if !modified.is_empty() && (classic.is_empty() || modified.len() < classic.len()) {
        return ("Invalid Bech32m checksum".into(), modified);
    }
    let message = if classic.is_empty() { "Invalid checksum" } else { "Invalid Bech32 checksum" };
    (message.into(), classic)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A text with a right checksum.
    fn encode(hrp: &str, data: &[u8], wanted: u32) -> String {
        let padded = [data, &[0; CHECKSUM_SIZE]].concat();
        let residue = checksum(hrp, &padded) ^ wanted;
        let tail = (0..CHECKSUM_SIZE).map(|place| (residue >> (5 * (5 - place)) & 31) as u8);
        let text: String =
            data.iter().copied().chain(tail).map(|value| char::from(CHARSET[usize::from(value)])).collect();
        format!("{hrp}1{text}")
    }

    const GOOD: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

    #[test]
    fn forms_are_judged_before_checksums() {
        let long = format!("bcrt1{}", "q".repeat(90));
        for (text, reason, places) in [
            ("", "Invalid checksum or length of Base58 address (P2PKH or P2SH)", vec![]),
            (
                "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
                "Invalid or unsupported Segwit (Bech32) or Base58 encoding.",
                vec![],
            ),
            ("1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2", "Invalid or unsupported Base58-encoded address.", vec![]),
            (
                "mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfo",
                "Invalid checksum or length of Base58 address (P2PKH or P2SH)",
                vec![],
            ),
            ("bcrt", "Missing separator", vec![]),
            ("bcrt1qqqqqq", "Invalid checksum", vec![]),
            ("bcrt1qqqqq", "Invalid separator position", vec![4]),
            ("bcrt1qqqqqqqbq", "Invalid Base 32 character", vec![12]),
            ("bcrt1qQqqqqqqQ", "Invalid character or mixed case", vec![6, 13]),
            ("bcrt1qq qqqqq", "Invalid character or mixed case", vec![7]),
            (&long, "Bech32 string too long", (90..95).collect()),
        ] {
            let (found, at) = explain(text);
            if text != "bcrt1qqqqqq" {
                assert_eq!(at, places, "{text}");
                assert_eq!(found, reason, "{text}");
            } else {
                assert!(found.contains("checksum"), "{found}");
            }
        }
    }

    #[test]
    fn one_or_two_wrong_characters_are_found() {
        for places in [vec![5], vec![20], vec![43], vec![6, 30], vec![42, 43]] {
            let mut text = GOOD.as_bytes().to_vec();
            for place in &places {
                text[*place] = if text[*place] == b'q' { b'p' } else { b'q' };
            }
            let text = String::from_utf8(text).unwrap();
            assert_eq!(explain(&text), ("Invalid Bech32 checksum".to_owned(), places), "{text}");
        }
    }

    #[test]
    fn programs_are_judged_after_checksums() {
        let of = |hrp: &str, data: &[u8], wanted: u32| explain(&encode(hrp, data, wanted)).0;
        assert_eq!(encode(HRP, &[], BECH32).len(), 11);
        assert_eq!(of(HRP, &[], BECH32), "Empty Bech32 data section");
        let other = "Invalid or unsupported prefix for Segwit (Bech32) address (expected bcrt, got bcrtx).";
        assert_eq!(of("bcrtx", &[0; 33], BECH32), other);
        assert_eq!(of(HRP, &[0; 33], BECH32M), "Version 0 witness address must use Bech32 checksum");
        assert_eq!(of(HRP, &[1; 33], BECH32), "Version 1+ witness address must use Bech32m checksum");
        assert_eq!(of(HRP, &[0; 35], BECH32), "Invalid Bech32 v0 address program size (21 bytes), per BIP141");
        assert_eq!(of(HRP, &[0; 3], BECH32), "Invalid Bech32 v0 address program size (1 byte), per BIP141");
        assert_eq!(of(HRP, &[&[1][..], &[0; 66]].concat(), BECH32M), "Invalid Bech32 address program size (41 bytes)");
        assert_eq!(of(HRP, &[&[17][..], &[0; 32]].concat(), BECH32M), "Invalid Bech32 address witness version");
        assert_eq!(of(HRP, &[0; 34], BECH32), "Invalid padding in Bech32 data section");
        assert_eq!(of(HRP, &[&[0; 34][..], &[1]].concat(), BECH32), "Invalid padding in Bech32 data section");
    }
}
