//! The unconfirmed transactions of a stopped node: one checksummed file, written whole or not at all at a clean stop. What is
//! read from it was never trusted: every transaction is checked again. Core: `node/mempool_persist.cpp`, `mempool.dat`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use bitcoin::Transaction;
use bitcoin::consensus::encode;
use bitcoin::hashes::{Hash, sha256};

use super::StoreError;

/// The file's name in the network's folder.
const FILE: &str = "mempool.dat";
/// What it is called once it turned out not to be readable.
const ASIDE: &str = "mempool.dat.damaged";
const DRAFT: &str = ".mempool.dat.tmp";
/// What the file begins with: whose it is, and the version of what follows.
const MAGIC: &[u8; 8] = b"l1pool\x00\x01";
const CHECKSUM: usize = 32;
/// A file that is larger is nobody's mempool: thrice what one may take in memory by default.
const LARGEST: u64 = 1 << 30;

/// A transaction and when it came, in seconds since 1970.
pub type Waiting = (i64, Transaction);

/// Writes the file: the time and the bytes of each transaction, parents before children, and a checksum over all.
pub fn save<'a>(dir: &Path, entries: impl Iterator<Item = (i64, &'a Transaction)>) -> Result<(), StoreError> {
    let mut bytes = MAGIC.to_vec();
    for (time, transaction) in entries {
        bytes.extend_from_slice(&time.to_le_bytes());
        bytes.extend_from_slice(&encode::serialize(transaction));
    }
    let checksum = sha256::Hash::hash(&bytes).to_byte_array();
    let draft = dir.join(DRAFT);
    let write = || {
        let mut file = File::create(&draft)?;
        file.write_all(&bytes)?;
        file.write_all(&checksum)?;
        file.sync_all()?;
        fs::rename(&draft, dir.join(FILE))?;
        File::open(dir)?.sync_all()
    };
    write().map_err(StoreError::io(&draft))
}

/// Reads the file; nothing where there is none. One that is damaged or of another version is put aside and counts as none:
/// no money hangs on it.
pub fn load(dir: &Path) -> Vec<Waiting> {
    let path = dir.join(FILE);
    let read = || -> io::Result<Vec<u8>> {
        if fs::metadata(&path)?.len() > LARGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too large"));
        }
        fs::read(&path)
    };
    match read().map(|bytes| parse(&bytes)) {
        Ok(Some(entries)) => entries,
        Ok(None) => {
            let aside = dir.join(ASIDE);
            match fs::rename(&path, &aside) {
                Ok(()) => tracing::warn!(
                    path = %aside.display(),
                    "the saved mempool is damaged or of another version: it is not read, and kept under this name"
                ),
                Err(error) => tracing::warn!(path = %path.display(), %error, "the saved mempool cannot be read"),
            }
            Vec::new()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the saved mempool cannot be read");
            Vec::new()
        }
    }
}

fn parse(bytes: &[u8]) -> Option<Vec<Waiting>> {
    let (body, checksum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM)?)?;
    if sha256::Hash::hash(body).to_byte_array() != *checksum {
        return None;
    }
    let mut rest = body.strip_prefix(MAGIC)?;
    let mut entries = Vec::new();
    while !rest.is_empty() {
        let (time, after) = rest.split_first_chunk::<8>()?;
        let (transaction, length) = encode::deserialize_partial::<Transaction>(after).ok()?;
        entries.push((i64::from_le_bytes(*time), transaction));
        rest = after.get(length..)?;
    }
    Some(entries)
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

    #[test]
    fn what_is_saved_is_read_in_its_order() {
        let dir = tempfile::tempdir().unwrap();
        assert!(load(dir.path()).is_empty());
        let entries = [(5, transaction(1)), (-1, transaction(2))];
        save(dir.path(), entries.iter().map(|(time, transaction)| (*time, transaction))).unwrap();
        assert_eq!(load(dir.path()), entries);
        save(dir.path(), std::iter::empty()).unwrap();
        assert!(load(dir.path()).is_empty());
    }

    #[test]
    fn damage_is_noticed_wherever_it_is() {
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), [(5, &transaction(1))].into_iter()).unwrap();
        let whole = fs::read(dir.path().join(FILE)).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(dir.path().join(FILE), &bytes).unwrap();
            assert!(load(dir.path()).is_empty(), "byte {at}");
            assert_eq!(fs::read(dir.path().join(ASIDE)).unwrap(), bytes, "kept as it was");
            assert!(parse(&whole[..at]).is_none(), "cut at {at}");
        }
    }
}
