//! The data directory of one network: who may use it, and which network it belongs to.

use std::fs::{File, TryLockError};
use std::path::Path;

use super::StoreError;
use crate::params::Network;

const LOCK: &str = "lock";
const MARKER: &str = "network";
/// The first word of the marker: a file of this name that begins otherwise is not ours.
const MARKER_PREFIX: &str = "l1-utxo ";
/// What may lie there before the first start: the lock, and what other rooms put there early.
const EARLY: [&str; 4] = [LOCK, "l1-utxo.toml", "l1-utxo.log", "lost+found"];

/// Takes the directory for this process, making it if need be. The lock is held as long as the file is open.
pub(super) fn claim(dir: &Path, network: Network) -> Result<File, StoreError> {
    std::fs::create_dir_all(dir).map_err(StoreError::io(dir))?;
    let marker = dir.join(MARKER);
    let is_new = !marker.exists();
    if is_new {
        refuse_foreign(dir)?;
    }
    let lock = lock(dir)?;
    if is_new {
        write_marker(dir, network)?;
    }
    let text = std::fs::read_to_string(&marker).map_err(StoreError::io(&marker))?;
    match text.trim_end().strip_prefix(MARKER_PREFIX) {
        Some(name) if name == network.name() => Ok(lock),
        Some(name) => {
            Err(StoreError::OtherNetwork { dir: dir.to_owned(), found: name.to_owned(), wanted: network.name() })
        }
        None => Err(StoreError::Foreign { dir: dir.to_owned(), entry: MARKER.to_owned() }),
    }
}

fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join(LOCK);
    let file = File::create(&path).map_err(StoreError::io(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { dir: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(StoreError::io(&path)(source)),
    }
}

/// Whole or not at all: written beside, synced, renamed.
fn write_marker(dir: &Path, network: Network) -> Result<(), StoreError> {
    let beside = dir.join(".network");
    let write = || {
        std::fs::write(&beside, format!("{MARKER_PREFIX}{network}\n"))?;
        File::open(&beside)?.sync_all()?;
        std::fs::rename(&beside, dir.join(MARKER))?;
        File::open(dir)?.sync_all()
    };
    write().map_err(StoreError::io(&beside))
}

/// A directory that has something in it but no marker is someone else's.
fn refuse_foreign(dir: &Path) -> Result<(), StoreError> {
    for entry in std::fs::read_dir(dir).map_err(StoreError::io(dir))? {
        let name = entry.map_err(StoreError::io(dir))?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && !EARLY.contains(&name.as_str()) {
            return Err(StoreError::Foreign { dir: dir.to_owned(), entry: name });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_belongs_to_one_process_and_one_network() {
        let dir = tempfile::tempdir().unwrap();
        let held = claim(dir.path(), Network::Regtest).unwrap();
        assert!(matches!(claim(dir.path(), Network::Regtest), Err(StoreError::Locked { .. })));
        drop(held);
        let error = claim(dir.path(), Network::Devnet).unwrap_err();
        assert!(error.to_string().contains("regtest") && error.to_string().contains("devnet"), "{error}");
        claim(dir.path(), Network::Regtest).unwrap();
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("holiday.jpg"), "").unwrap();
        let error = claim(dir.path(), Network::Regtest).unwrap_err();
        assert!(matches!(&error, StoreError::Foreign { entry, .. } if entry == "holiday.jpg"), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
