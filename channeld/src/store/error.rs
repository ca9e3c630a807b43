//! What can be wrong with a data directory, each with what to do about it.

use std::path::{Path, PathBuf};

/// Why the store refused. Nothing was written over.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the lock.
    #[error("{} is in use by another process: stop that one first, or give this one its own --data-dir", .0.display())]
    InUse(PathBuf),
    /// The directory belongs to another node or network.
    #[error(
        "{} belongs to {found}, not to {expected}: give the --data-dir and --network that belong together", .path.display()
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Who asked.
        expected: String,
    },
    /// The directory was written by a later version.
    #[error("{} has format {found}, this version reads {supported}: use the version that wrote it", .path.display())]
    Format {
        /// The directory.
        path: PathBuf,
        /// The format found.
        found: u32,
        /// The format this version reads.
        supported: u32,
    },
    /// A file does not hold what was written to it.
    #[error("{} is corrupt at byte {offset}: {what}. Restore the directory from its disk's backup; never start from an older copy", .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What does not fit.
        what: &'static str,
    },
    /// The journal does not reach back to the last checkpoint, or not forward from it.
    #[error("the journal in {} lacks the records after {checkpoint}: the directory is not a whole copy", .path.display())]
    JournalMissing {
        /// The journal's folder.
        path: PathBuf,
        /// The last record that the checkpoint covers.
        checkpoint: u64,
    },
    /// A record whose checksum is right is not understood.
    #[error("record {lsn} of the journal is not understood by this version: use the version that wrote it")]
    UnreadableRecord {
        /// Its number.
        lsn: u64,
    },
    /// An earlier write failed: nobody knows what reached the disk.
    #[error("an earlier write failed; restart the process")]
    Poisoned,
    /// The operating system refused.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The refusal.
        source: std::io::Error,
    },
    /// sled refused.
    #[error("the row store: {0}")]
    Rows(#[from] sled::Error),
}

impl StoreError {
    /// Names the file that an I/O error is about.
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> StoreError + '_ {
        move |source| StoreError::Io { path: path.to_owned(), source }
    }

    /// A corrupt file.
    pub(super) fn corrupt(path: &Path, offset: u64, what: &'static str) -> StoreError {
        StoreError::Corrupt { path: path.to_owned(), offset, what }
    }
}
