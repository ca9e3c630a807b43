//! Writes to disk beforehand what was appended to the log, so that a flush finds little left to wait for. It promises
//! nothing: what must be durable is synced by whoever needs it, on a handle of his own, and errors are told there.

use std::fs::File;
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};

/// Bytes that may gather before they are worth the disk's time.
const STEP: usize = 4 << 20;

/// The thread that does it, once there was something to do, and what has gathered since.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    files: Option<SyncSender<PathBuf>>,
    gathered: usize,
}

impl Ahead {
    /// So many bytes were appended to a file.
    pub(super) fn appended(&mut self, bytes: usize, path: impl FnOnce() -> PathBuf) {
        self.gathered += bytes;
        if self.gathered < STEP {
            return;
        }
        self.gathered = 0;
        let files = self.files.get_or_insert_with(start);
        // An error: it has not done with the last one, or there is no thread for it. Then it waits for the flush.
        drop(files.try_send(path()));
    }
}

fn start() -> SyncSender<PathBuf> {
    let (files, waiting) = sync_channel::<PathBuf>(1);
    let work = move || {
        for path in waiting {
            // As above: the flush meets an error again.
            drop(File::open(path).and_then(|file| file.sync_data()));
        }
    };
    drop(std::thread::Builder::new().name("log-sync".to_owned()).spawn(work));
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_gone_and_threads_that_are_busy_hold_up_nobody() {
        let mut ahead = Ahead::default();
        let mut asked = 0;
        for _ in 0..40 {
            ahead.appended(STEP / 4, || {
                asked += 1;
                PathBuf::from("/nowhere/00000.log")
            });
        }
        assert_eq!(asked, 10);
    }
}
