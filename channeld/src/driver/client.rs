//! The clients that wait for answers: where an effect finds them, and how many there may be.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc, watch};

use crate::node::input::RequestNumber;
use crate::node::refusal::Refusal;
use crate::node::reply::Reply;
use crate::payment::stream::StreamStatus;

/// Questions that may wait to be handled.
const MAX_QUEUED: usize = 4_096;
/// Questions that may wait for an answer: payments in flight are among them.
const MAX_WAITING: usize = 65_536;

/// An answer, or why there is none.
pub type Answer = Result<Reply, Refusal>;

/// See the room's map.
pub struct Clients {
    next: AtomicU64,
    credits: Arc<Semaphore>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    answers: BTreeMap<RequestNumber, mpsc::Sender<Answer>>,
    streams: BTreeMap<RequestNumber, watch::Sender<Option<Arc<StreamStatus>>>>,
}

impl Default for Clients {
    fn default() -> Clients {
        Clients { next: AtomicU64::new(1), credits: Arc::new(Semaphore::new(MAX_QUEUED)), waiting: Mutex::default() }
    }
}

impl Clients {
    /// The right to put one question into the mailbox.
    pub fn credit(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.credits).try_acquire_owned().map_err(|error| match error {
            TryAcquireError::Closed => Refusal::ShuttingDown,
            TryAcquireError::NoPermits => Refusal::TooManyRequests,
        })
    }

    /// The right to put one input into the mailbox, as soon as there is room.
    pub async fn wait_credit(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.credits).acquire_owned().await.map_err(|_| Refusal::ShuttingDown)
    }

    /// A number for a question, and where its answers (two at most) arrive.
    pub fn register(&self) -> Result<(RequestNumber, mpsc::Receiver<Answer>), Refusal> {
        let request = RequestNumber(self.next.fetch_add(1, Ordering::Relaxed));
        let (sender, receiver) = mpsc::channel(2);
        let mut waiting = self.waiting();
        if waiting.answers.len() >= MAX_WAITING {
            return Err(Refusal::TooManyRequests);
        }
        waiting.answers.insert(request, sender);
        Ok((request, receiver))
    }

    /// Where the stream opened by `request` is told how it stands.
    pub fn watch_stream(&self, request: RequestNumber) -> watch::Receiver<Option<Arc<StreamStatus>>> {
        let (sender, receiver) = watch::channel(None);
        self.waiting().streams.insert(request, sender);
        receiver
    }

    /// Nobody waits for `request` any more.
    pub fn forget(&self, request: RequestNumber) {
        self.waiting().answers.remove(&request);
    }

    /// Nobody watches the stream that `request` opened any more.
    pub fn forget_stream(&self, request: RequestNumber) {
        self.waiting().streams.remove(&request);
    }

    /// Gives an answer to whoever still waits.
    pub fn answer(&self, request: RequestNumber, answer: Answer, last: bool) {
        let mut waiting = self.waiting();
        let sender = if last { waiting.answers.remove(&request) } else { waiting.answers.get(&request).cloned() };
        drop(waiting);
        if let Some(sender) = sender {
            // There is room for the two answers that a question has at most; a client that left hears nothing.
            let _ = sender.try_send(answer);
        }
    }

    /// Tells a stream's client how it stands.
    pub fn stream(&self, request: RequestNumber, status: StreamStatus) {
        let mut waiting = self.waiting();
        let closed = status.closed.is_some();
        if let Some(sender) = waiting.streams.get(&request) {
            sender.send_replace(Some(Arc::new(status)));
        }
        if closed {
            waiting.streams.remove(&request);
        }
    }

    /// The process stops: whoever waits is told, and nobody may ask any more.
    pub fn close(&self) {
        self.credits.close();
        let mut waiting = self.waiting();
        waiting.answers.clear();
        waiting.streams.clear();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
