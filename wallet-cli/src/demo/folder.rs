//! The directory of a network: it goes with its network, and where that was killed at once (kill -9) with the next start.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::client::request_id;
use crate::failure::{Exit, Failure};

/// What all of them begin with.
const PREFIX: &str = "wallet-cli-";
/// A file that is locked as long as somebody uses the directory, and gone where it was kept.
const HELD: &str = "held";

/// A directory that is removed with this value, unless it is kept.
pub struct Folder {
    path: PathBuf,
    keep: bool,
    /// The lock ends with the process, however that ends.
    _held: File,
}

impl Folder {
    /// Makes one in the temporary directory, for our user only, and removes what was left there by those that were killed.
    ///
    /// # Errors
    /// Where the file system refuses.
    pub fn make(name: &str) -> Result<Folder, Failure> {
        let (parent, id) = (std::env::temp_dir(), request_id()?);
        let path = parent.join(format!("{PREFIX}{name}-{}", &id[..8]));
        make_in(&parent, path).map_err(|error| {
            let message = format!("cannot make a directory in {}: {error}", parent.display());
            Failure::new(Exit::ShowFailed, message, "free space in the temporary directory (TMPDIR)")
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves it to whoever reads where it is.
    pub fn keep(&mut self) {
        self.keep = true;
        // Where it stays, the next start takes the directory for one that was left behind: better to say nothing of it than
        // to fail what is done.
        let _ = fs::remove_file(self.path.join(HELD));
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.keep {
            // What cannot be removed is left to the next start.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn make_in(parent: &Path, path: PathBuf) -> io::Result<Folder> {
    DirBuilder::new().mode(0o700).create(&path)?;
    let (draft, own) = (path.join("held.new"), fs::symlink_metadata(&path)?.uid());
    let held = File::create(&draft)?;
    // It gets its name with the lock on it: nobody finds it without.
    held.try_lock()?;
    fs::rename(&draft, path.join(HELD))?;
    sweep(parent, own);
    Ok(Folder { path, keep: false, _held: held })
}

/// Removes directories of ours that nobody holds any more.
fn sweep(parent: &Path, own: u32) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_named = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let is_ours = is_named && fs::symlink_metadata(&path).is_ok_and(|it| it.is_dir() && it.uid() == own);
        let is_left = is_ours && File::open(path.join(HELD)).is_ok_and(|held| held.try_lock().is_ok());
        if is_left {
            // As above.
            let _ = fs::remove_dir_all(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_holds_goes_and_what_is_kept_or_foreign_stays() {
        let parent = tempfile::tempdir().unwrap();
        let at = |name: &str| parent.path().join(name);
        let running = make_in(parent.path(), at("wallet-cli-demo-1")).unwrap();
        let mut kept = make_in(parent.path(), at("wallet-cli-demo-2")).unwrap();
        kept.keep();
        drop(kept);
        for left in ["wallet-cli-demo-3", "another-4", "wallet-cli-old-5"] {
            fs::create_dir(at(left)).unwrap();
        }
        for left in ["wallet-cli-demo-3", "another-4"] {
            File::create(at(left).join(HELD)).unwrap();
        }
        let next = make_in(parent.path(), at("wallet-cli-web-6")).unwrap();
        let here = |name: &str| at(name).exists();
        assert!(here("wallet-cli-demo-1") && here("wallet-cli-demo-2"));
        assert!(!here("wallet-cli-demo-3"), "its process was killed");
        assert!(here("another-4") && here("wallet-cli-old-5"), "not ours, or of nobody knows whom");
        drop((running, next));
        assert!(!here("wallet-cli-demo-1") && !here("wallet-cli-web-6"));
    }
}
