//! The store's thread: one record at a time, durable before the node hears of it. A failed write stops the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use super::mailbox::Mailbox;
use crate::store::{Row, Store, StoreError, TurnRecord};

/// What the node thread asks of the store.
pub enum Job {
    /// Make a turn durable.
    Commit {
        /// The turn.
        record: TurnRecord,
        /// For a checkpoint in the background: the rows that changed, as they stand after this turn.
        rows: Option<Vec<Row>>,
    },
    /// Write these rows, which stand after the last turn, and end.
    Stop(Vec<Row>),
}

/// The way to the store's thread.
pub struct Committer {
    jobs: SyncSender<Job>,
    thread: JoinHandle<()>,
    wants_checkpoint: Arc<AtomicBool>,
}

impl Committer {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system has no thread for us.
    pub fn start(store: Store, mailbox: Arc<Mailbox>) -> std::io::Result<Committer> {
        // One turn in flight and one end: never more.
        let (jobs, inbox) = sync_channel(2);
        let wants_checkpoint = Arc::new(AtomicBool::new(false));
        let wants = Arc::clone(&wants_checkpoint);
        let thread =
            std::thread::Builder::new().name("store".to_owned()).spawn(move || run(store, &inbox, &mailbox, &wants))?;
        Ok(Committer { jobs, thread, wants_checkpoint })
    }

    /// Hands a turn over; the mailbox tells when it is durable.
    ///
    /// # Panics
    /// Where the store's thread is gone: nothing may leave any more.
    pub fn commit(&self, record: TurnRecord, rows: Option<Vec<Row>>) {
        self.submit(Job::Commit { record, rows });
    }

    /// Whether the journal has grown enough for a checkpoint; asked for with the next turn.
    pub fn wants_checkpoint(&self) -> bool {
        self.wants_checkpoint.swap(false, Ordering::Relaxed)
    }

    /// Writes a last checkpoint and waits for the end of the thread.
    pub fn stop(self, rows: Vec<Row>) {
        self.submit(Job::Stop(rows));
        if self.thread.join().is_err() {
            tracing::error!("the store's thread panicked");
        }
    }

    fn submit(&self, job: Job) {
        self.jobs.send(job).expect("the store's thread lives as long as the node's");
    }
}

fn run(mut store: Store, jobs: &Receiver<Job>, mailbox: &Mailbox, wants: &AtomicBool) {
    while let Ok(job) = jobs.recv() {
        let is_last = matches!(job, Job::Stop(_));
        if let Err(error) = work(&mut store, job, mailbox) {
            // Nobody knows what reached the disk, so nothing may leave: the next start reads what is there.
            tracing::error!(%error, "the store failed; the process stops");
            std::process::abort();
        }
        if is_last {
            return;
        }
        wants.store(store.wants_checkpoint(), Ordering::Relaxed);
    }
}

fn work(store: &mut Store, job: Job, mailbox: &Mailbox) -> Result<(), StoreError> {
    match job {
        Job::Commit { record, rows } => {
            let began = Instant::now();
            let lsn = store.commit(&record)?;
            mailbox.flushed();
            metrics::histogram!("channeld_flush_seconds").record(began.elapsed());
            if let Some(rows) = rows {
                // It was idle when the rows were asked for, and only this thread starts one.
                assert!(store.checkpoint(lsn, rows)?, "a checkpoint is asked for only while none is under way");
            }
            Ok(())
        }
        Job::Stop(rows) => {
            store.finish_checkpoint()?;
            let lsn = store.durable();
            if !rows.is_empty() && lsn.0 > 0 {
                store.checkpoint(lsn, rows)?;
            }
            store.finish_checkpoint()
        }
    }
}
