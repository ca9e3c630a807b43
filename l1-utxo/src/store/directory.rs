//! The data directory of one network: who may use it, and which network it belongs to.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::Path;

use super::{FORMAT, StoreError};
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
    check_marker(dir, network)?;
    Ok(lock)
}

/// As `claim`, for a directory that must be there: nothing is made.
pub(super) fn claim_existing(dir: &Path, network: Network) -> Result<File, StoreError> {
    if !dir.join(MARKER).exists() {
        return Err(StoreError::Nothing { dir: dir.to_owned() });
    }
    let lock = lock(dir)?;
    check_marker(dir, network)?;
    Ok(lock)
}

/// The network's name, and after it the format if it is not the first.
fn check_marker(dir: &Path, network: Network) -> Result<(), StoreError> {
    let marker = dir.join(MARKER);
    let foreign = || StoreError::Foreign { dir: dir.to_owned(), entry: MARKER.to_owned() };
    let bytes = std::fs::read(&marker).map_err(StoreError::io(&marker))?;
    let text = String::from_utf8(bytes).map_err(|_| foreign())?;
    let text = text.trim_end().strip_prefix(MARKER_PREFIX).ok_or_else(foreign)?;
    let (name, format) = match text.split_once(' ') {
        Some((name, format)) => (name, format.parse().map_err(|_| foreign())?),
        None => (text, FORMAT),
    };
    if format != FORMAT {
        return Err(StoreError::OtherFormat { path: dir.to_owned(), found: format });
    }
    if name != network.name() {
        return Err(StoreError::OtherNetwork { dir: dir.to_owned(), found: name.to_owned(), wanted: network.name() });
    }
    Ok(())
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

/// Whether each folder of the database has the file that names its tables. fjall takes one without it for one that it was
/// about to make, and removes it; so it is, if there was never anything to keep in it.
pub(super) fn check_keyspaces(chainstate: &Path, has_blocks: bool) -> Result<(), StoreError> {
    let folders = match std::fs::read_dir(chainstate.join("keyspaces")) {
        Ok(folders) => folders,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StoreError::io(chainstate)(error)),
    };
    for folder in folders {
        let folder = folder.map_err(StoreError::io(chainstate))?;
        let path = folder.path().join("current");
        // The first is that of the coins.
        let is_in_use = (has_blocks && folder.file_name() == "1") || has_files(&folder.path().join("tables"));
        if is_in_use && !path.exists() {
            return Err(StoreError::MissingMarker { path, chainstate: chainstate.to_owned() });
        }
    }
    Ok(())
}

fn has_files(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut files| files.next().is_some())
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
    fn a_marker_that_is_not_ours_is_named_and_left() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(claim_existing(dir.path(), Network::Regtest), Err(StoreError::Nothing { .. })));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        drop(claim(dir.path(), Network::Regtest).unwrap());
        let marker = dir.path().join(MARKER);
        for (text, expected) in [
            (&b"l1-utxo regtest 2\n"[..], "has format 2, and this l1-utxo knows format 1"),
            (b"l1-utxo regtest x\n", "is not a data directory of l1-utxo"),
            (b"l1-utxo devnet\n", "belongs to the network devnet"),
            (b"regtest\n", "is not a data directory of l1-utxo"),
            (b"", "is not a data directory of l1-utxo"),
            (&[0xff; 20], "is not a data directory of l1-utxo"),
        ] {
            std::fs::write(&marker, text).unwrap();
            for error in [claim(dir.path(), Network::Regtest), claim_existing(dir.path(), Network::Regtest)] {
                let error = error.unwrap_err().to_string();
                assert!(error.contains(expected), "{error}");
            }
            assert_eq!(std::fs::read(&marker).unwrap(), text);
        }
        std::fs::write(&marker, "l1-utxo regtest 1\n").unwrap();
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

    #[test]
    fn a_folder_of_tables_without_their_names_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        check_keyspaces(dir.path(), true).unwrap();
        let folder = |name: &str| dir.path().join("keyspaces").join(name);
        for name in ["0", "1", "2"] {
            std::fs::create_dir_all(folder(name).join("tables")).unwrap();
        }
        std::fs::write(folder("0").join("current"), "").unwrap();
        check_keyspaces(dir.path(), false).unwrap();
        let refused = |has_blocks, name: &str| match check_keyspaces(dir.path(), has_blocks) {
            Err(StoreError::MissingMarker { path, .. }) => assert_eq!(path, folder(name).join("current")),
            other => panic!("{other:?}"),
        };
        refused(true, "1");
        std::fs::write(folder("1").join("current"), "").unwrap();
        check_keyspaces(dir.path(), true).unwrap();
        std::fs::write(folder("2").join("tables/7"), "").unwrap();
        refused(false, "2");
    }
}
