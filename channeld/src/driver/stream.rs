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
use crate::units::{Msat, SessionId};

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
        most: Option<Msat>,
    ) -> Stream {
        let room = Arc::new(Semaphore::new(MAX_UNCOMMITTED as usize));
        let pace = rate.map(|per_second| Pace { per_second, next: Instant::now() });
        let budget = most.map(|most| Budget { most, handed: None, status: status.clone() });
        let updates = StreamUpdates {
            status,
            room: Arc::clone(&room),
            freed: opened.accepted_sequence,
            _place: Place { handle: handle.clone(), request },
            is_over: false,
        };
        let (session, handed) = (opened.session, opened.accepted_sequence);
        let sender = StreamSender { handle, session, room, handed, pace, budget };
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
    budget: Option<Budget>,
}

/// The client's own limit of what is uncommitted: it waits, as a writer waits for a slow reader.
struct Budget {
    most: Msat,
    /// All that was handed over; known from the first status on.
    handed: Option<Msat>,
    status: watch::Receiver<Option<Arc<StreamStatus>>>,
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
        let known = usize::try_from((self.handed + 1).saturating_sub(pay.first_sequence)).unwrap_or(count).min(count);
        let Some(most) = self.budget.as_ref().map(|budget| budget.most) else { return self.hand_over(pay).await };
        if pay.amounts.iter().skip(known).any(|amount| *amount > most) {
            return Err(invalid("amount_msat", "above max_uncommitted_msat"));
        }
        for piece in pieces(pay, known, most) {
            let sum = piece.amounts.iter().map(|amount| amount.msat()).sum();
            if let Some(budget) = &mut self.budget {
                budget.wait(Msat::new(sum)).await?;
            }
            self.hand_over(piece).await?;
        }
        Ok(())
    }

    async fn hand_over(&mut self, pay: StreamPay) -> Result<(), Refusal> {
        let last = pay.first_sequence + pay.amounts.len() as u64 - 1;
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

impl Budget {
    /// Waits until `amount` more fits beside what is handed over and not committed.
    async fn wait(&mut self, amount: Msat) -> Result<(), Refusal> {
        let fits = |status: &StreamStatus, handed: Option<Msat>| {
            let uncommitted = handed.unwrap_or(status.accepted).saturating_sub(status.committed);
            uncommitted.checked_add(amount).is_some_and(|sum| sum <= self.most)
        };
        let handed = self.handed;
        let found = self.status.wait_for(|status| status.as_ref().is_some_and(|status| fits(status, handed))).await;
        let accepted = found.map_err(|_| Refusal::ShuttingDown)?.as_ref().map_or(Msat::ZERO, |status| status.accepted);
        let before = self.handed.unwrap_or(accepted);
        self.handed = before.checked_add(amount);
        Ok(())
    }
}

/// The payments behind the first `known`, in parts of at most `most` each; no payment is larger.
fn pieces(pay: StreamPay, known: usize, most: Msat) -> Vec<StreamPay> {
    let (session, first) = (pay.session, pay.first_sequence);
    let empty = |place: usize| StreamPay {
        session,
        first_sequence: first + place as u64,
        amounts: Vec::new(),
        tags: Vec::new(),
    };
    let (mut pieces, mut piece, mut sum, mut begin) = (Vec::new(), empty(known), Msat::ZERO, known);
    let mut tags = pay.tags.into_iter().skip_while(|(place, _)| (*place as usize) < known).peekable();
    for (place, amount) in pay.amounts.into_iter().enumerate().skip(known) {
        let with = sum.checked_add(amount).filter(|with| *with <= most);
        if with.is_none() {
            pieces.push(std::mem::replace(&mut piece, empty(place)));
            begin = place;
        }
        sum = with.unwrap_or(amount);
        if let Some((_, tag)) = tags.next_if(|(at, _)| *at as usize == place) {
            piece.tags.push(((place - begin) as u32, tag));
        }
        piece.amounts.push(amount);
    }
    pieces.push(piece);
    pieces.retain(|piece| !piece.amounts.is_empty());
    pieces
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_more_than_may_be_uncommitted_goes_in_pieces() {
        let amounts = [5, 5, 3, 9, 1, 1].map(Msat::new).to_vec();
        let tags = vec![(0, [1; 32]), (3, [2; 32]), (5, [3; 32])];
        let pay = StreamPay { session: SessionId([7; 32]), first_sequence: 10, amounts, tags };
        let told: Vec<_> = pieces(pay, 1, Msat::new(10))
            .into_iter()
            .map(|piece| {
                let amounts: Vec<u64> = piece.amounts.iter().map(|amount| amount.msat()).collect();
                (piece.first_sequence, amounts, piece.tags)
            })
            .collect();
        let first = (11, vec![5, 3], vec![]);
        assert_eq!(told, [first, (13, vec![9, 1], vec![(0, [2; 32])]), (15, vec![1], vec![(0, [3; 32])])]);
    }
}
