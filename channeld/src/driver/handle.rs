//! How the rest of the process asks the node: cloneable, asynchronous, bounded.

use crate::node::command::{Command, OpenStream, Query, RequestKey, SendPayment, StreamPay};
use crate::node::event::Event;
use crate::node::refusal::Refusal;
use crate::node::reply::{Reply, StreamOpened};
use crate::payment::send::Payment;
use crate::payment::stream::StreamStatus;

/// A way to the node. Dropping a future that waits for an answer never undoes what was asked.
#[derive(Clone)]
pub struct Handle {}

impl Handle {
    /// Has a command done; comes back after the flush of its turn. With a key, a repetition is answered from the first.
    /// Not for `SendPayment`, `OpenStream`, `StreamPay` and `FinishStream`.
    ///
    /// # Errors
    /// A refusal: nothing was changed.
    pub async fn command(&self, _command: Command, _key: Option<RequestKey>) -> Result<Reply, Refusal> {
        todo!()
    }

    /// Reads what is durable.
    ///
    /// # Errors
    /// A refusal.
    pub async fn query(&self, _query: Query) -> Result<Reply, Refusal> {
        todo!()
    }

    /// Has a payment made: the first state comes when it is journaled, the last is final.
    ///
    /// # Errors
    /// A refusal: nothing was paid and nothing will be.
    pub async fn send_payment(
        &self,
        _payment: SendPayment,
        _key: Option<RequestKey>,
    ) -> Result<PaymentUpdates, Refusal> {
        todo!()
    }

    /// Opens or resumes a stream.
    ///
    /// # Errors
    /// A refusal.
    pub async fn open_stream(&self, _stream: OpenStream, _key: Option<RequestKey>) -> Result<Stream, Refusal> {
        todo!()
    }

    /// The durable event log.
    pub fn events(&self) -> EventLog {
        todo!()
    }
}

/// The states of one payment.
pub struct PaymentUpdates {}

impl PaymentUpdates {
    /// The next state, or `None` after the final one. Waits as long as the payment is in flight.
    pub async fn next(&mut self) -> Option<Payment> {
        todo!()
    }
}

/// An open stream of payments. Dropping it leaves the session open for resuming; what was accepted is still paid.
pub struct Stream {
    /// How it was opened.
    pub opened: StreamOpened,
}

impl Stream {
    /// The two halves, to be used by two tasks.
    pub fn split(self) -> (StreamSender, StreamUpdates) {
        todo!()
    }
}

/// The way in of a stream.
pub struct StreamSender {}

impl StreamSender {
    /// Hands payments over; waits while the node has taken as much as it may.
    ///
    /// # Errors
    /// The daemon stops, or the arguments are out of range.
    pub async fn pay(&self, _pay: StreamPay) -> Result<(), Refusal> {
        todo!()
    }

    /// No more payments.
    ///
    /// # Errors
    /// The daemon stops.
    pub async fn finish(&self) -> Result<(), Refusal> {
        todo!()
    }
}

/// The way out of a stream: only the newest status is kept, so a slow reader fills nothing.
pub struct StreamUpdates {}

impl StreamUpdates {
    /// Waits for a status that was not read. `None` after the one with `closed`, or when the daemon stops.
    pub async fn next(&mut self) -> Option<StreamStatus> {
        todo!()
    }
}

/// The durable event log.
#[derive(Clone)]
pub struct EventLog {}

impl EventLog {
    /// The index of the newest durable event, 0 where there is none.
    pub fn newest(&self) -> u64 {
        todo!()
    }

    /// Up to `limit` events after `index`, in order; waits until there is one. Read from disk where they are old: a
    /// slow reader never holds the node back. Empty only when the daemon stops.
    pub async fn after(&self, _index: u64, _limit: usize) -> Vec<Event> {
        todo!()
    }
}
