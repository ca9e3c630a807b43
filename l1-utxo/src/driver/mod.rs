//! One thread owns the chain, its store and the mempool; everyone else sends it closures.
//!
//! Requests run one at a time, in the order in which they came; what they return goes back to their caller. Tips are
//! published for those who wait. The thread also flushes, and stops the node when the disk fails. No rule is known here.
//! Core: `cs_main`, `CScheduler`, `CValidationInterface`.

mod fees;
mod indexes;
mod ledger;
mod miner;
mod network;
mod past;
mod reorg;
mod waiting;
mod warning;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bitcoin::BlockHash;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::chain::{CoinsHash, CoinsStats, coins_stats};
use crate::consensus::HashedBlock;
use crate::mempool::Event;
use crate::store::CoinsSnapshot;

pub use indexes::IndexStatus;
pub use ledger::{Ledger, LedgerError, LedgerOptions, Submission};
pub use miner::{MineError, Mined, Solution, mine_in_background, solve};
pub use network::Sink;
pub use past::CoinsAt;
pub use waiting::Import;

/// Requests that wait; further callers wait to hand theirs in.
const MAILBOX: usize = 256;
type Work = Box<dyn FnOnce(&mut Ledger) + Send>;

/// The end of the active chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// Its height.
    pub height: u32,
    /// Its hash.
    pub hash: BlockHash,
}

/// Something that happened, for those who listen (Core: `CValidationInterface`).
#[derive(Clone, Debug)]
pub enum Notice {
    /// A block was connected to the active chain.
    Connected(Arc<HashedBlock>),
    /// A block was taken off the active chain.
    Disconnected(Arc<HashedBlock>),
    /// The active chain ends elsewhere now.
    Tip(Tip),
    /// A transaction came into the mempool, or went for another reason than a block that holds it.
    Mempool(Event),
}

/// The validation thread is gone: the node is stopping, or its disk failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the validation thread has stopped")]
pub struct Stopped;

/// The way to the validation thread, for any number of tasks.
#[derive(Clone, Debug)]
pub struct Handle {
    mailbox: mpsc::Sender<Work>,
    tips: watch::Receiver<Tip>,
    notices: broadcast::Sender<Notice>,
    clock: Clock,
}

/// The node's clock: the system's, or where it was set to stand still.
#[derive(Clone, Debug, Default)]
pub struct Clock(Arc<AtomicI64>);

impl Clock {
    /// Seconds since 1970.
    pub fn now(&self) -> i64 {
        self.mock().unwrap_or_else(|| {
            let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX)
        })
    }

    /// Where it was set to.
    pub fn mock(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|time| *time != 0)
    }

    /// Sets it, or lets it run again.
    pub fn set(&self, time: Option<i64>) {
        self.0.store(time.unwrap_or(0), Ordering::Relaxed);
    }
}

/// The validation thread itself: whoever composes the node keeps it, and stops it last.
#[derive(Debug)]
pub struct Driver {
    stop: watch::Sender<bool>,
    thread: JoinHandle<Result<(), LedgerError>>,
}

/// What `gettxoutsetinfo` tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoinsReport {
    /// The height whose coins these are.
    pub height: u32,
    /// The block whose coins these are.
    pub best_block: BlockHash,
    /// The figures.
    pub stats: CoinsStats,
    /// Bytes on disk, nearly.
    pub disk_size: u64,
}

/// Why the coins could not be counted.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The node stops.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The disk failed.
    #[error(transparent)]
    Failed(#[from] LedgerError),
}

impl Handle {
    /// Runs `work` on the validation thread and returns what it returns.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Ledger) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        self.hand(work).await?.await.map_err(|_| Stopped)
    }

    /// Hands `work` to the validation thread: it is done in its turn, whether or not its outcome is waited for. The outcome
    /// is an error if the thread is gone.
    pub async fn hand<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Ledger) -> T + Send + 'static,
    ) -> Result<oneshot::Receiver<T>, Stopped> {
        let (reply, answer) = oneshot::channel();
        // A caller that has gone away no longer wants the answer; the work is done all the same.
        let work = Box::new(move |ledger: &mut Ledger| drop(reply.send(work(ledger))));
        self.mailbox.send(work).await.map_err(|_| Stopped)?;
        Ok(answer)
    }

    /// The node's clock.
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The tip that was published last.
    pub fn tip(&self) -> Tip {
        *self.tips.borrow()
    }

    /// A receiver of tips; it ends with the validation thread.
    pub fn tips(&self) -> watch::Receiver<Tip> {
        self.tips.clone()
    }

    /// What happens from now on, in order. Who listens too slowly misses some, and is told so.
    pub fn notices(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }

    /// Resolves when the validation thread is gone.
    pub async fn stopped(&self) {
        self.mailbox.closed().await;
    }

    /// All coins at this moment, flushed, to be walked through on another thread, and the tip whose coins they are.
    pub async fn coins(&self) -> Result<(Tip, CoinsSnapshot), ReportError> {
        let flushed = self.run(|ledger| {
            ledger.flush()?;
            Ok::<_, LedgerError>((ledger.tip(), ledger.coins_snapshot()))
        });
        Ok(flushed.await??)
    }

    /// Counts and hashes all coins, on another thread, while the chain goes on.
    pub async fn coins_stats(&self, kind: CoinsHash) -> Result<CoinsReport, ReportError> {
        let (tip, snapshot) = self.coins().await?;
        let count = move || {
            let stats = coins_stats(kind, snapshot.iter()).map_err(LedgerError::from)?;
            Ok(CoinsReport { height: tip.height, best_block: tip.hash, stats, disk_size: snapshot.disk_size() })
        };
        tokio::task::spawn_blocking(count).await.map_err(|_| Stopped)?
    }
}

impl Driver {
    /// Starts the validation thread with a ledger that is open. Call it from within a tokio runtime.
    pub fn start(ledger: Ledger) -> (Self, Handle) {
        let (mailbox, requests) = mpsc::channel(MAILBOX);
        let (stop, stopping) = watch::channel(false);
        let (tips, notices, clock) = (ledger.tips(), ledger.notices(), ledger.clock().clone());
        let runtime = tokio::runtime::Handle::current();
        let thread = std::thread::spawn(move || serve(ledger, requests, stopping, &runtime));
        (Self { stop, thread }, Handle { mailbox, tips, notices, clock })
    }

    /// Lets the request under way finish, flushes all, and waits for the thread's end. Requests that still wait are
    /// answered with `Stopped`.
    pub async fn stop(self) -> Result<(), LedgerError> {
        // The thread may be gone already.
        let _ = self.stop.send(true);
        let joined = tokio::task::spawn_blocking(move || self.thread.join()).await;
        match joined {
            Ok(Ok(result)) => result,
            // It panicked, and has said so.
            Ok(Err(_)) | Err(_) => Err(LedgerError::Panicked),
        }
    }
}

/// What the thread does next.
enum Next {
    Work(Work),
    Idle,
    Stop,
}

fn serve(
    mut ledger: Ledger,
    mut requests: mpsc::Receiver<Work>,
    mut stopping: watch::Receiver<bool>,
    runtime: &tokio::runtime::Handle,
) -> Result<(), LedgerError> {
    while !*stopping.borrow() {
        let next = match requests.try_recv() {
            Ok(work) => Next::Work(work),
            Err(_) => runtime.block_on(wait(&mut requests, &mut stopping, ledger.idle_for())),
        };
        match next {
            Next::Work(work) => {
                work(&mut ledger);
                ledger.tell_network();
            }
            Next::Idle => ledger.sync()?,
            Next::Stop => break,
        }
        if let Some(error) = ledger.flush_if_due().err().and_then(|_| ledger.take_failure()) {
            tracing::error!(%error, "the node stops");
            return Err(error);
        }
    }
    // What still waits is dropped, and with it the way its answer would have gone.
    drop(requests);
    ledger.close()
}

async fn wait(
    requests: &mut mpsc::Receiver<Work>,
    stopping: &mut watch::Receiver<bool>,
    idle: Option<Duration>,
) -> Next {
    tokio::select! {
        work = requests.recv() => work.map_or(Next::Stop, Next::Work),
        () = tokio::time::sleep(idle.unwrap_or_default()), if idle.is_some() => Next::Idle,
        // An error: whoever could stop the thread is gone.
        _ = stopping.wait_for(|stop| *stop) => Next::Stop,
    }
}
