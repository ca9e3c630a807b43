//! The store's thread: one record at a time, durable before the node hears of it. A failed write stops the process.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::mailbox::Mailbox;
use crate::store::{Lsn, Row, Store, TurnRecord};

/// What the node thread asks of the store.
pub enum Job {
    /// Make this durable.
    Commit(TurnRecord),
    /// Write these rows, which stand after the last durable record, in the background.
    Checkpoint(Vec<Row>),
    /// Finish what is under way and end.
    Stop,
}

/// The way to the store's thread.
pub struct Committer {
    jobs: SyncSender<Job>,
    thread: Option<JoinHandle<()>>,
    wants_checkpoint: Arc<std::sync::atomic::AtomicBool>,
}

impl Committer {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system has no thread for us.
    pub fn start(store: Store, mailbox: Arc<Mailbox>) -> std::io::Result<Committer> {
        // One record in flight, one checkpoint, one stop: never more.
        let (jobs, inbox) = sync_channel(4);
        let wants_checkpoint = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let wants = Arc::clone(&wants_checkpoint);
        let thread =
            std::thread::Builder::new().name("store".to_owned()).spawn(move || run(store, &inbox, &mailbox, &wants))?;
        Ok(Committer { jobs, thread: Some(thread), wants_checkpoint })
    }

    /// Hands a job over.
    ///
    /// # Panics
    /// Where the store's thread is gone: nothing may leave any more.
    pub fn submit(&self, job: Job) {
        self.jobs.send(job).expect("the store's thread lives as long as the node's");
    }

    /// Whether the journal has grown enough for a checkpoint.
    pub fn wants_checkpoint(&self) -> bool {
        self.wants_checkpoint.swap(false, std::sync::atomic::Ordering::Relaxed)
    }

    /// Waits for the end of the thread.
    pub fn stop(mut self) {
        self.submit(Job::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's thread panicked");
        }
    }
}

fn run(mut store: Store, jobs: &Receiver<Job>, mailbox: &Mailbox, wants: &std::sync::atomic::AtomicBool) {
    let mut durable = store.durable();
    while let Ok(job) = jobs.recv() {
        let result = match job {
            Job::Commit(record) => store.commit(&record).map(|lsn| {
                durable = lsn;
                mailbox.flushed();
            }),
            Job::Checkpoint(rows) => checkpoint(&mut store, durable, rows),
            Job::Stop => break,
        };
        if let Err(error) = result {
            // Nobody knows what reached the disk, so nothing may leave: the next start reads what is there.
            tracing::error!(%error, "the store failed; the process stops");
            std::process::abort();
        }
        wants.store(store.wants_checkpoint(), std::sync::atomic::Ordering::Relaxed);
    }
    if let Err(error) = store.finish_checkpoint() {
        tracing::error!(%error, "the last checkpoint failed; the journal has everything");
    }
}

fn checkpoint(store: &mut Store, durable: Lsn, rows: Vec<Row>) -> Result<(), crate::store::StoreError> {
    // The checkpointer was idle when the node was asked for the rows, and only this thread starts one.
    let started = store.checkpoint(durable, rows)?;
    assert!(started, "a checkpoint is asked for only while none is under way");
    Ok(())
}
