//! Checkpoints: the journal's effect on the rows, made durable in the background so that the journal can be cut.
//!
//! Histories first, then a checksummed file with all rows, then sled, last the checkpoint's number; each synced before the
//! next begins. A start finds the file and writes its rows again, or finds none.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;

use super::error::StoreError;
use super::recovery::{sync_folder, write_whole};
use super::row::{Row, Rows};
use super::{Lsn, Shared};

const MAGIC: &[u8; 8] = b"CHCKPT01";

/// The thread that writes checkpoints, one at a time.
pub(super) struct Checkpointer {
    jobs: Option<Sender<(Lsn, Vec<Row>)>>,
    results: Receiver<Result<Lsn, StoreError>>,
    finished: Option<Result<Lsn, StoreError>>,
    is_busy: bool,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    pub(super) fn start(folder: PathBuf, shared: Arc<Shared>) -> Checkpointer {
        let (jobs, queue) = channel::<(Lsn, Vec<Row>)>();
        let (done, results) = channel();
        let thread = std::thread::spawn(move || {
            for (lsn, rows) in queue {
                if done.send(write(&folder, &shared, lsn, rows).map(|()| lsn)).is_err() {
                    return;
                }
            }
        });
        Checkpointer { jobs: Some(jobs), results, finished: None, is_busy: false, thread: Some(thread) }
    }

    /// Whether the last checkpoint has ended and its result was taken in.
    pub(super) fn is_idle(&mut self) -> bool {
        self.poll();
        !self.is_busy
    }

    pub(super) fn submit(&mut self, lsn: Lsn, rows: Vec<Row>) {
        let jobs = self.jobs.as_ref().expect("it is taken only by drop");
        jobs.send((lsn, rows)).expect("the thread ends only with the sender");
        self.is_busy = true;
    }

    /// The result of the checkpoint that ended since the last call.
    pub(super) fn take_finished(&mut self) -> Option<Result<Lsn, StoreError>> {
        self.poll();
        self.finished.take()
    }

    pub(super) fn wait(&mut self) {
        if self.is_busy {
            self.finished = self.results.recv().ok();
            self.is_busy = false;
        }
    }

    fn poll(&mut self) {
        match self.results.try_recv() {
            Ok(result) => {
                self.finished = Some(result);
                self.is_busy = false;
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => {}
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; the rows are redone at the next start.
            let _ = thread.join();
        }
    }
}

fn write(folder: &Path, shared: &Shared, lsn: Lsn, mut rows: Vec<Row>) -> Result<(), StoreError> {
    let (cold, history) = shared.covered(lsn);
    rows.extend(cold);
    shared.histories.append(&history)?;
    write_whole(&path(folder), &encode(lsn, &rows))?;
    shared.rows.write(lsn.0, &rows)?;
    remove(folder)?;
    shared.overlay.forget(lsn);
    Ok(())
}

/// Finishes the checkpoint that a crash interrupted, if there is one.
pub(super) fn redo(folder: &Path, rows: &Rows) -> Result<(), StoreError> {
    let path = path(folder);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StoreError::io(&path)(error)),
    };
    // It was renamed into place whole and synced: a damaged one is the disk's fault, and sled may be half written.
    let (lsn, staged) = decode(&bytes).ok_or_else(|| StoreError::corrupt(&path, 0, "not a whole checkpoint"))?;
    if lsn.0 > rows.checkpoint_lsn()? {
        rows.write(lsn.0, &staged)?;
    }
    remove(folder)
}

fn path(folder: &Path) -> PathBuf {
    folder.join("checkpoint")
}

fn remove(folder: &Path) -> Result<(), StoreError> {
    let path = path(folder);
    fs::remove_file(&path).map_err(StoreError::io(&path))?;
    sync_folder(folder)
}

pub(super) fn encode(lsn: Lsn, rows: &[Row]) -> Vec<u8> {
    let body = postcard::to_extend(&(lsn, rows), MAGIC.to_vec()).expect("rows of plain bytes always encode");
    let checksum = crc32c::crc32c(&body);
    let mut bytes = body;
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

pub(super) fn decode(bytes: &[u8]) -> Option<(Lsn, Vec<Row>)> {
    let (body, checksum) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*checksum) {
        return None;
    }
    postcard::from_bytes(body.strip_prefix(MAGIC)?).ok()
}
