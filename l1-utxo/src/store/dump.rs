//! A file of all coins in the form of Bitcoin Core's `dumptxoutset`, which its `loadtxoutset` reads (`node/utxo_snapshot.h`,
//! `compressor.cpp`). Written beside its place and moved there when it is whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use bitcoin::consensus::encode::{self, VarInt};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, OutPoint, PublicKey, Script};

use super::StoreError;
use crate::chain::Coin;

/// What such a file begins with.
const MARK: &[u8; 5] = b"utxo\xff";
const VERSION: u16 = 2;
/// Lengths of scripts follow the numbers of the six forms that are written shorter.
const SHORT_FORMS: u64 = 6;

/// What stands before the coins.
#[derive(Clone, Copy, Debug)]
pub struct DumpHead {
    /// The network's first four bytes of a message.
    pub magic: [u8; 4],
    /// The block whose coins they are.
    pub base: BlockHash,
    /// How many there are.
    pub coins: u64,
}

/// A file that is being written.
#[derive(Debug)]
pub struct Dump {
    path: PathBuf,
    draft: PathBuf,
    file: File,
}

impl Dump {
    /// Opens the file beside `path`, or a named pipe at `path` itself.
    pub fn create(path: &Path) -> io::Result<Self> {
        let draft = if is_pipe(path) { path.to_owned() } else { Self::draft(path) };
        let file = OpenOptions::new().write(true).create(true).truncate(!is_pipe(path)).open(&draft)?;
        Ok(Self { path: path.to_owned(), draft, file })
    }

    /// Where a file is written until it is whole.
    pub fn draft(path: &Path) -> PathBuf {
        let mut name = path.as_os_str().to_owned();
        name.push(".incomplete");
        name.into()
    }

    /// Writes all and moves the file to its place. Coins come ordered by transaction id.
    pub fn write(
        self,
        head: DumpHead,
        coins: impl Iterator<Item = Result<(OutPoint, Coin), StoreError>>,
    ) -> Result<(), StoreError> {
        let failed = StoreError::io(&self.draft);
        let mut out = BufWriter::with_capacity(1 << 20, &self.file);
        let begin = || [MARK.as_slice(), &VERSION.to_le_bytes(), &head.magic, head.base.as_byte_array()].concat();
        out.write_all(&begin()).and_then(|()| out.write_all(&head.coins.to_le_bytes())).map_err(&failed)?;
        // The coins of a transaction stand together behind its id: in the order of Core's database, by their numbers' bytes.
        let mut together: Vec<(Vec<u8>, u32, Coin)> = Vec::new();
        let mut last = None;
        for item in coins {
            let (outpoint, coin) = item?;
            if last.is_some_and(|last| last != outpoint.txid) {
                write_transaction(&mut out, last, &mut together).map_err(&failed)?;
            }
            last = Some(outpoint.txid);
            let mut number = Vec::with_capacity(2);
            put_number(&mut number, u64::from(outpoint.vout));
            together.push((number, outpoint.vout, coin));
        }
        write_transaction(&mut out, last, &mut together).map_err(&failed)?;
        out.flush().map_err(&failed)?;
        drop(out);
        if self.draft == self.path {
            return Ok(());
        }
        self.file.sync_all().and_then(|()| fs::rename(&self.draft, &self.path)).map_err(&failed)
    }
}

/// Whether there is a named pipe at a path.
pub fn is_pipe(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo())
}

fn write_transaction(
    out: &mut impl Write,
    txid: Option<bitcoin::Txid>,
    coins: &mut Vec<(Vec<u8>, u32, Coin)>,
) -> io::Result<()> {
    let Some(txid) = txid else { return Ok(()) };
    coins.sort_by(|(one, ..), (other, ..)| one.cmp(other));
    let mut bytes = txid.as_byte_array().to_vec();
    bytes.extend(encode::serialize(&VarInt(coins.len() as u64)));
    for (_, vout, coin) in coins.drain(..) {
        bytes.extend(encode::serialize(&VarInt(u64::from(vout))));
        put_number(&mut bytes, u64::from(coin.height) << 1 | u64::from(coin.is_coinbase));
        put_number(&mut bytes, short_amount(coin.output.value.to_sat()));
        put_script(&mut bytes, &coin.output.script_pubkey);
    }
    out.write_all(&bytes)
}

/// Core's `VARINT`: groups of seven bits, the highest first, each but the last one less than it says.
fn put_number(out: &mut Vec<u8>, mut value: u64) {
    let mut groups = [0; 10];
    let mut at = groups.len() - 1;
    groups[at] = value as u8 & 0x7f;
    while value > 0x7f {
        value = (value >> 7) - 1;
        at -= 1;
        groups[at] = value as u8 & 0x7f | 0x80;
    }
    out.extend_from_slice(&groups[at..]);
}

/// Core's `CompressAmount`: zeros at the end are counted.
const fn short_amount(sat: u64) -> u64 {
    if sat == 0 {
        return 0;
    }
    let (mut rest, mut zeros) = (sat, 0);
    while rest % 10 == 0 && zeros < 9 {
        rest /= 10;
        zeros += 1;
    }
    if zeros < 9 { 1 + (rest / 10 * 9 + rest % 10 - 1) * 10 + zeros } else { 1 + (rest - 1) * 10 + 9 }
}

/// Core's `CompressScript`: hashes and keys of the usual forms without what surrounds them.
fn put_script(out: &mut Vec<u8>, script: &Script) {
    let bytes = script.as_bytes();
    match bytes {
        [0x76, 0xa9, 20, hash @ .., 0x88, 0xac] if hash.len() == 20 => {
            out.push(0);
            out.extend_from_slice(hash);
        }
        [0xa9, 20, hash @ .., 0x87] if hash.len() == 20 => {
            out.push(1);
            out.extend_from_slice(hash);
        }
        [33, key @ .., 0xac] if key.len() == 33 && matches!(key[0], 2 | 3) => out.extend_from_slice(key),
        [65, key @ .., 0xac] if key.len() == 65 && key[0] == 4 && PublicKey::from_slice(key).is_ok() => {
            out.push(4 | key[64] & 1);
            out.extend_from_slice(&key[1..33]);
        }
        _ => {
            put_number(out, bytes.len() as u64 + SHORT_FORMS);
            out.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_amounts_are_cores() {
        let number = |value| {
            let mut out = Vec::new();
            put_number(&mut out, value);
            hex::encode(out)
        };
        let known =
            [(0, "00"), (0x7f, "7f"), (0x80, "8000"), (0x1234, "a334"), (0xffff, "82fe7f"), (0x0012_3456, "c7e756")];
        assert!(known.iter().all(|(value, shown)| number(*value) == *shown));
        assert_eq!(number(u64::MAX), "80fefefefefefefefe7f");
        // Core: `compress_tests.cpp`.
        let known = [
            (0, 0),
            (1, 1),
            (1_000_000, 7),
            (100_000_000, 9),
            (5_000_000_000, 0x32),
            (2_100_000_000_000_000, 0x0140_6f40),
        ];
        assert!(known.iter().all(|(sat, short)| short_amount(*sat) == *short));
    }

    #[test]
    fn scripts_of_the_usual_forms_are_short() {
        let key = hex::decode(concat!(
            "0479be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
            "483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8"
        ))
        .unwrap();
        let short = |script: Vec<u8>| {
            let mut out = Vec::new();
            put_script(&mut out, Script::from_bytes(&script));
            out
        };
        let hash = [7; 20];
        let around = |before: &[u8], middle: &[u8], after: &[u8]| [before, middle, after].concat();
        let tagged = |tag: u8, rest: &[u8]| [&[tag], rest].concat();
        assert_eq!(short(around(&[0x76, 0xa9, 20], &hash, &[0x88, 0xac])), tagged(0, &hash));
        assert_eq!(short(around(&[0xa9, 20], &hash, &[0x87])), tagged(1, &hash));
        assert_eq!(short(around(&[65], &key, &[0xac])), tagged(4, &key[1..33]));
        assert_eq!(short(around(&[33, 3], &key[1..33], &[0xac])), tagged(3, &key[1..33]));
        // A key that is on no curve, and all else, is written out.
        let mut off = key;
        off[64] ^= 1;
        assert_eq!(short(around(&[65], &off, &[0xac])).len(), 68);
        assert_eq!(short(vec![0x51]), [7, 0x51]);
    }
}
