//! The unconfirmed transactions of a stopped node, in the form of Core's `mempool.dat`: one file, written whole or not at all.
//! What is read from it was never trusted: every transaction is checked again. Ours ends with a checksum, which Core does
//! not look at; Core's has none, and is read without. Core: `node/mempool_persist.cpp`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bitcoin::consensus::{Decodable, encode};
use bitcoin::hashes::{Hash, sha256};
use bitcoin::{Transaction, Txid, VarInt};

use super::StoreError;

/// The file's name in the network's folder.
const FILE: &str = "mempool.dat";
/// What it is called once it turned out not to be readable.
const ASIDE: &str = "mempool.dat.damaged";
const DRAFT: &str = "mempool.dat.new";
/// The forms without and with a key that what follows it is combined with.
const PLAIN: u64 = 1;
const KEYED: u64 = 2;
const KEY: usize = 8;
const CHECKSUM: usize = 32;
/// A file that is larger is nobody's mempool: thrice what one may take in memory by default.
const LARGEST: u64 = 1 << 30;

/// A transaction that waited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// It.
    pub transaction: Arc<Transaction>,
    /// When it came, in seconds since 1970.
    pub time: i64,
    /// What its owner added to its fee, in satoshi.
    pub delta: i64,
}

/// A saved mempool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Saved {
    /// The transactions, parents before children.
    pub waiting: Vec<Waiting>,
    /// What is added to fees of transactions that were not there, in satoshi.
    pub deltas: Vec<(Txid, i64)>,
    /// Transactions of our own that nobody has fetched yet.
    pub unbroadcast: Vec<Txid>,
}

/// Where the mempool of a network's folder is kept.
pub fn path(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

/// Writes the file.
pub fn save(dir: &Path, saved: &Saved) -> Result<(), StoreError> {
    let bytes = serialize(saved);
    let checksum = sha256::Hash::hash(&bytes).to_byte_array();
    let draft = dir.join(DRAFT);
    let write = || {
        let mut file = File::create(&draft)?;
        file.write_all(&bytes)?;
        file.write_all(&checksum)?;
        file.sync_all()?;
        fs::rename(&draft, path(dir))?;
        File::open(dir)?.sync_all()
    };
    write().map_err(StoreError::io(&draft))
}

fn serialize(saved: &Saved) -> Vec<u8> {
    let mut bytes = PLAIN.to_le_bytes().to_vec();
    bytes.extend((saved.waiting.len() as u64).to_le_bytes());
    for waiting in &saved.waiting {
        bytes.extend(encode::serialize(&waiting.transaction));
        bytes.extend(waiting.time.to_le_bytes());
        bytes.extend(waiting.delta.to_le_bytes());
    }
    let count = |bytes: &mut Vec<u8>, count: usize| bytes.extend(encode::serialize(&VarInt::from(count)));
    count(&mut bytes, saved.deltas.len());
    for (txid, delta) in &saved.deltas {
        bytes.extend(txid.to_byte_array());
        bytes.extend(delta.to_le_bytes());
    }
    count(&mut bytes, saved.unbroadcast.len());
    saved.unbroadcast.iter().for_each(|txid| bytes.extend(txid.to_byte_array()));
    bytes
}

/// Reads the file of a folder; nothing where there is none. One that is damaged or of another version is put aside and counts
/// as none: no money hangs on it.
pub fn load(dir: &Path) -> Saved {
    let path = path(dir);
    match read(&path) {
        Ok(Some(saved)) => saved,
        Ok(None) => {
            let aside = dir.join(ASIDE);
            match fs::rename(&path, &aside) {
                Ok(()) => tracing::warn!(
                    path = %aside.display(),
                    "the saved mempool is damaged or of another version: it is not read, and kept under this name"
                ),
                Err(error) => tracing::warn!(path = %path.display(), %error, "the saved mempool cannot be read"),
            }
            Saved::default()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Saved::default(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the saved mempool cannot be read");
            Saved::default()
        }
    }
}

/// Reads a file that somebody names; `None` if it is no saved mempool.
pub fn read(path: &Path) -> io::Result<Option<Saved>> {
    if fs::metadata(path)?.len() > LARGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too large"));
    }
    Ok(parse(fs::read(path)?))
}

fn parse(mut bytes: Vec<u8>) -> Option<Saved> {
    let version = u64::from_le_bytes(*bytes.first_chunk()?);
    let start = match version {
        PLAIN => 8,
        KEYED => {
            let after = bytes.get(8..)?.strip_prefix(&[KEY as u8])?;
            let key: [u8; KEY] = *after.first_chunk()?;
            let start = 8 + 1 + KEY;
            // Each byte with the one of the key that its place in the file falls on.
            bytes.iter_mut().enumerate().skip(start).for_each(|(place, byte)| *byte ^= key[place % KEY]);
            start
        }
        _ => return None,
    };
    let mut rest = bytes.get(start..)?;
    let saved = body(&mut rest)?;
    let whole = bytes.len() - rest.len();
    let is_whole = match rest.len() {
        0 => true,
        CHECKSUM => sha256::Hash::hash(&bytes[..whole]).to_byte_array() == *rest,
        _ => false,
    };
    is_whole.then_some(saved)
}

fn body(rest: &mut &[u8]) -> Option<Saved> {
    let mut saved = Saved::default();
    for _ in 0..take::<u64>(rest)? {
        let transaction = take(rest)?;
        saved.waiting.push(Waiting { transaction: Arc::new(transaction), time: take(rest)?, delta: take(rest)? });
    }
    for _ in 0..take::<VarInt>(rest)?.0 {
        saved.deltas.push((take(rest)?, take(rest)?));
    }
    for _ in 0..take::<VarInt>(rest)?.0 {
        saved.unbroadcast.push(take(rest)?);
    }
    Some(saved)
}

fn take<T: Decodable>(rest: &mut &[u8]) -> Option<T> {
    T::consensus_decode(rest).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transaction(lock_time: u32) -> Transaction {
        let lock_time = bitcoin::absolute::LockTime::from_consensus(lock_time);
        let output = bitcoin::TxOut { value: bitcoin::Amount::from_sat(1), script_pubkey: bitcoin::ScriptBuf::new() };
        let input = vec![bitcoin::TxIn::default()];
        Transaction { version: bitcoin::transaction::Version::TWO, lock_time, input, output: vec![output] }
    }

    fn saved() -> Saved {
        let waiting = |time, delta, lock_time| Waiting { transaction: Arc::new(transaction(lock_time)), time, delta };
        Saved {
            waiting: vec![waiting(5, 0, 1), waiting(-1, -7, 2)],
            deltas: vec![(transaction(3).compute_txid(), 9)],
            unbroadcast: vec![transaction(1).compute_txid()],
        }
    }

    #[test]
    fn what_is_saved_is_read_in_its_order() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path()), Saved::default());
        save(dir.path(), &saved()).unwrap();
        assert_eq!(load(dir.path()), saved());
        save(dir.path(), &Saved::default()).unwrap();
        assert_eq!(load(dir.path()), Saved::default());
    }

    #[test]
    fn files_of_bitcoin_core_are_read() {
        let plain = serialize(&saved());
        assert_eq!(parse(plain.clone()), Some(saved()), "version 1, without a checksum");
        let key = [1, 0xfe, 3, 0x80, 5, 6, 7, 8];
        let mut keyed = [&KEYED.to_le_bytes()[..], &[8], &key, &plain[8..]].concat();
        keyed.iter_mut().enumerate().skip(17).for_each(|(place, byte)| *byte ^= key[place % 8]);
        assert_eq!(parse(keyed), Some(saved()));
    }

    #[test]
    fn damage_is_noticed_wherever_it_is() {
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), &saved()).unwrap();
        let whole = fs::read(path(dir.path())).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(path(dir.path()), &bytes).unwrap();
            assert_eq!(load(dir.path()), Saved::default(), "byte {at}");
            assert_eq!(fs::read(dir.path().join(ASIDE)).unwrap(), bytes, "kept as it was");
        }
        for at in 0..whole.len() - CHECKSUM {
            assert!(parse(whole[..at].to_vec()).is_none(), "cut at {at}");
        }
    }
}
