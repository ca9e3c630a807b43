//! The fee estimator's memory over a restart: one file, written whole or not at all. What is damaged or too old counts as
//! none: no money hangs on it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::StoreError;
use crate::estimator::Estimator;

/// The file's name in the network's folder.
const FILE: &str = "fee_estimates.dat";
const DRAFT: &str = "fee_estimates.dat.new";
/// What is older says little of the fees of now.
const MAX_AGE: Duration = Duration::from_secs(60 * 60 * 60);
/// A file that is larger is none.
const LARGEST: u64 = 16 << 20;

/// Where the memory is kept in a network's folder.
pub fn path(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

/// Writes the file.
pub fn save(dir: &Path, estimator: &Estimator) -> Result<(), StoreError> {
    let draft = dir.join(DRAFT);
    let write = || {
        let mut file = File::create(&draft)?;
        file.write_all(&estimator.to_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path(dir))
    };
    write().map_err(StoreError::io(&draft))
}

/// Reads the file, if it is younger than two and a half days or age does not matter.
pub fn load(dir: &Path, whatever_age: bool) -> Estimator {
    let path = path(dir);
    let read = || {
        let found = fs::metadata(&path)?;
        let age = SystemTime::now().duration_since(found.modified()?).unwrap_or_default();
        if age > MAX_AGE && !whatever_age {
            tracing::warn!(path = %path.display(), hours = age.as_secs() / 3_600, "fee estimates are too old to be used");
            return Ok(None);
        }
        if found.len() > LARGEST {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        fs::read(&path).map(Some)
    };
    let bytes = match read() {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Estimator::new(),
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(path = %path.display(), %error, "fee estimates cannot be read");
            }
            return Estimator::new();
        }
    };
    Estimator::from_bytes(&bytes).unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), %error, "fee estimates are damaged: begun anew");
        Estimator::new()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_damaged_files_count_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let empty = Estimator::new().to_bytes();
        assert_eq!(load(dir.path(), false).to_bytes(), empty);
        let mut seen = Estimator::new();
        seen.block_connected(7);
        save(dir.path(), &seen).unwrap();
        assert_eq!(load(dir.path(), false).to_bytes(), seen.to_bytes());
        let old = SystemTime::now() - MAX_AGE - Duration::from_secs(60);
        File::options().append(true).open(path(dir.path())).unwrap().set_modified(old).unwrap();
        assert_eq!(load(dir.path(), false).to_bytes(), empty);
        assert_eq!(load(dir.path(), true).to_bytes(), seen.to_bytes());
        fs::write(path(dir.path()), b"nothing").unwrap();
        assert_eq!(load(dir.path(), false).to_bytes(), empty);
    }
}
