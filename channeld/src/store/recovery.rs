//! The directory itself: its lock, its owner, its epoch.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::error::StoreError;

const FORMAT: u32 = 1;

/// A locked directory that is known to be ours.
pub(super) struct Directory {
    _lock: File,
    owner: Owner,
}

/// What the file `owner.json` holds.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Owner {
    format: u32,
    identity: String,
    /// Salts the journal's checksums, so that no peer can write bytes that look like a record.
    journal_id: String,
    epoch: u64,
}

impl Directory {
    /// Locks `path`, creating it where it is not there, and counts the epoch up.
    pub(super) fn open(path: &Path, identity: &str) -> Result<Directory, StoreError> {
        fs::create_dir_all(path).map_err(StoreError::io(path))?;
        let lock_path = path.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(StoreError::io(&lock_path))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| StoreError::InUse(path.to_owned()))?;
        let owner_path = path.join("owner.json");
        let mut owner = match fs::read(&owner_path) {
            Ok(bytes) => read_owner(&owner_path, &bytes, identity)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => new_owner(path, identity)?,
            Err(error) => return Err(StoreError::io(&owner_path)(error)),
        };
        owner.epoch += 1;
        let text = serde_json::to_vec_pretty(&owner).expect("an owner is plain text");
        write_whole(&owner_path, &text)?;
        Ok(Directory { _lock: lock, owner })
    }

    /// How often the directory has been opened.
    pub(super) fn epoch(&self) -> u64 {
        self.owner.epoch
    }

    /// The salt of the journal's checksums.
    pub(super) fn journal_id(&self) -> &[u8] {
        self.owner.journal_id.as_bytes()
    }
}

fn read_owner(path: &Path, bytes: &[u8], identity: &str) -> Result<Owner, StoreError> {
    let owner: Owner =
        serde_json::from_slice(bytes).map_err(|_| StoreError::corrupt(path, 0, "not the owner of a store"))?;
    let folder = || path.parent().unwrap_or(path).to_owned();
    if owner.format != FORMAT {
        return Err(StoreError::Format { path: folder(), found: owner.format, supported: FORMAT });
    }
    if owner.identity != identity {
        return Err(StoreError::Foreign { path: folder(), found: owner.identity, expected: identity.to_owned() });
    }
    Ok(owner)
}

fn new_owner(path: &Path, identity: &str) -> Result<Owner, StoreError> {
    if path.join("journal").exists() || path.join("rows").exists() {
        return Err(StoreError::corrupt(&path.join("owner.json"), 0, "it is missing beside a journal"));
    }
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| StoreError::io(path)(std::io::Error::other(error.to_string())))?;
    Ok(Owner { format: FORMAT, identity: identity.to_owned(), journal_id: hex::encode(id), epoch: 0 })
}

/// Writes a file so that after a crash the old or the new content is there, whole.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let staged = PathBuf::from(format!("{}.new", path.display()));
    let mut file = File::create(&staged).map_err(StoreError::io(&staged))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(StoreError::io(&staged))?;
    fs::rename(&staged, path).map_err(StoreError::io(path))?;
    sync_folder(path.parent().unwrap_or(path))
}

/// Makes the names in `folder` durable.
pub(super) fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(StoreError::io(folder))
}
