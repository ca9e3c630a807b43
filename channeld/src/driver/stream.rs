//! A client's stream of payments: bounded on the way in, newest state only on the way out.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::handle::Handle;
use super::mailbox::Credit;
use crate::node::command::{Command, StreamPay};
use crate::node::input::{Input, RequestNumber};
use crate::node::refusal::Refusal;
use crate::node::reply::StreamOpened;
use crate::payment::stream::StreamStatus;
use crate::units::SessionId;

/// Payments of one stream that may be on their way: handed over here and not committed yet.
const MAX_UNCOMMITTED: u32 = 65_536;
/// Payments in one `Pay` at most.
const MAX_BATCH: usize = 1_000;

/// An open stream of payments. Dropping it leaves the session open for resuming; what was accepted is still paid.
pub struct Stream {
    /// How it was opened.
    pub opened: StreamOpened,
    sender: StreamSender,
    updates: StreamUpdates,
}

impl Stream {
    pub(super) fn new(
        handle: Handle,
        request: RequestNumber,
        opened: StreamOpened,
        status: watch::Receiver<Option<Arc<StreamStatus>>>,
        rate: Option<u32>,
    ) -> Stream {
        let room = Arc::new(Semaphore::new(MAX_UNCOMMITTED as usize));
        let pace = rate.map(|per_second| Pace { per_second, next: Instant::now() });
        let updates = StreamUpdates {
            status,
            room: Arc::clone(&room),
            freed: opened.accepted_sequence,
            _place: Place { handle: handle.clone(), request },
            is_over: false,
        };
        let sender = StreamSender { handle, session: opened.session, room, handed: opened.accepted_sequence, pace };
        Stream { opened, sender, updates }
    }

    /// The two halves, to be used by two tasks.
    pub fn split(self) -> (StreamSender, StreamUpdates) {
        (self.sender, self.updates)
    }
}

/// The way in of a stream.
pub struct StreamSender {
    handle: Handle,
    session: SessionId,
    room: Arc<Semaphore>,
    handed: u64,
    pace: Option<Pace>,
}

/// The client's own limit of payments a second.
struct Pace {
    per_second: u32,
    next: Instant,
}

impl StreamSender {
    /// Hands payments over; waits while the node has taken as much as it may.
    ///
    /// # Errors
    /// The daemon stops, or the arguments are out of range: a gap in the sequence, no payment or more than 1,000.
    pub async fn pay(&mut self, pay: StreamPay) -> Result<(), Refusal> {
        let count = pay.amounts.len();
        if count == 0 || count > MAX_BATCH {
            return Err(invalid("amounts", "1 to 1000 payments"));
        }
        if pay.first_sequence == 0 || pay.first_sequence > self.handed + 1 {
            return Err(invalid("sequence", "sequences count up from 1 without a gap"));
        }
        if pay.amounts.iter().any(|amount| amount.msat() == 0) {
            return Err(invalid("amount_msat", "at least 1"));
        }
        let last = pay.first_sequence + count as u64 - 1;
        let fresh = u32::try_from(last.saturating_sub(self.handed)).unwrap_or(MAX_UNCOMMITTED);
        if let Some(pace) = &mut self.pace {
            pace.wait(fresh).await;
        }
        let room = self.room.acquire_many(fresh).await.map_err(|_| Refusal::ShuttingDown)?;
        // Given back by the updates, as payments are committed.
        room.forget();
        self.handed = self.handed.max(last);
        self.push(Command::StreamPay(pay)).await
    }

    /// No more payments.
    ///
    /// # Errors
    /// The daemon stops.
    pub async fn finish(&self) -> Result<(), Refusal> {
        self.push(Command::FinishStream { session: self.session }).await
    }

    async fn push(&self, command: Command) -> Result<(), Refusal> {
        let credit = self.handle.clients.wait_credit().await?;
        let request = RequestNumber(0);
        self.handle.mailbox.push(Input::Command { request, key: None, command }, Credit::Client(credit));
        Ok(())
    }
}

impl Pace {
    async fn wait(&mut self, count: u32) {
        let now = Instant::now();
        self.next = self.next.max(now);
        tokio::time::sleep_until(self.next).await;
        self.next += Duration::from_secs_f64(f64::from(count) / f64::from(self.per_second.max(1)));
    }
}

fn invalid(field: &'static str, description: &str) -> Refusal {
    Refusal::InvalidArgument { field, description: description.to_owned() }
}

/// The way out of a stream: only the newest status is kept, so a slow reader fills nothing.
pub struct StreamUpdates {
    status: watch::Receiver<Option<Arc<StreamStatus>>>,
    room: Arc<Semaphore>,
    freed: u64,
    _place: Place,
    is_over: bool,
}

/// The stream's place among the clients; given back on drop.
struct Place {
    handle: Handle,
    request: RequestNumber,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.handle.clients.forget_stream(self.request);
        self.handle.mailbox.push(Input::ClientGone { request: self.request }, Credit::None);
    }
}

impl StreamUpdates {
    /// Waits for a status that was not read. `None` after the one with `closed`, or when the daemon stops.
    pub async fn next(&mut self) -> Option<StreamStatus> {
        while !self.is_over {
            // A closed stream drops its sender, and its last status stays to be read.
            let gone = self.status.changed().await.is_err();
            let status = self.status.borrow_and_update().clone();
            self.is_over = gone || status.as_ref().is_some_and(|status| status.closed.is_some());
            if let Some(status) = status {
                self.free(status.committed_sequence);
                return Some(StreamStatus::clone(&status));
            }
        }
        self.room.close();
        None
    }

    fn free(&mut self, committed: u64) {
        let count = committed.saturating_sub(self.freed);
        self.freed = self.freed.max(committed);
        self.room.add_permits(usize::try_from(count).unwrap_or(0).min(MAX_UNCOMMITTED as usize));
    }
}
