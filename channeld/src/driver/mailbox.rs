//! The node thread's mailbox: lanes in a fixed order of precedence, each bounded by the credits of who fills it.
//!
//! Flushes come first, for what waits for them is done; then the chain, so that no load hides a block; then peers and
//! clients together in the order of their arrival.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use crate::node::input::Input;
use crate::peer;

/// Inputs that the node takes in before it looks for a finished flush again.
const BATCH: usize = 64;

/// What its sender gets back when an input is handled: the right to send another.
#[derive(Debug)]
pub enum Credit {
    /// A client's.
    Client(OwnedSemaphorePermit),
    /// A peer's; others may have a part of the same messages.
    Peer(Arc<peer::Credit>),
    /// The chain's; the owner of the graph gets the same blocks.
    Chain(Arc<OwnedSemaphorePermit>),
    /// Of a sender that waits by itself.
    None,
}

/// An input and the credit that its sender gets back when it is handled.
#[derive(Debug)]
pub struct Envelope {
    /// What came.
    pub input: Input,
    /// Given back when dropped.
    pub credit: Credit,
}

/// What the node thread finds.
#[derive(Debug, Default)]
pub struct Mail {
    /// The flush under way is done.
    pub flushed: bool,
    /// What came, in order; chain events first.
    pub envelopes: Vec<Envelope>,
    /// The process stops, and nothing more waits.
    pub stopped: bool,
}

/// See the file's map.
#[derive(Default)]
pub struct Mailbox {
    lanes: Mutex<Lanes>,
    filled: Condvar,
}

#[derive(Default)]
struct Lanes {
    flushed: bool,
    chain: VecDeque<Envelope>,
    inputs: VecDeque<Envelope>,
    stopped: bool,
}

impl Mailbox {
    /// Something from a peer or a client. The credit, not this queue, is the bound.
    pub fn push(&self, input: Input, credit: Credit) {
        self.lanes().inputs.push_back(Envelope { input, credit });
        self.filled.notify_one();
    }

    /// Something from the chain.
    pub fn push_chain(&self, input: Input, credit: Credit) {
        self.lanes().chain.push_back(Envelope { input, credit });
        self.filled.notify_one();
    }

    /// The record in flight is durable.
    pub fn flushed(&self) {
        self.lanes().flushed = true;
        self.filled.notify_one();
    }

    /// The process stops: the node thread ends when all is done.
    pub fn stop(&self) {
        self.lanes().stopped = true;
        self.filled.notify_one();
    }

    /// What is there, at most a batch of inputs; waits until there is something, or at most `patience`.
    pub fn take(&self, patience: Duration) -> Mail {
        let mut lanes = self.lanes();
        if lanes.is_empty() {
            lanes = self.filled.wait_timeout(lanes, patience).unwrap_or_else(PoisonError::into_inner).0;
        }
        let mut envelopes: Vec<Envelope> = lanes.chain.drain(..).collect();
        let rest = lanes.inputs.len().min(BATCH);
        envelopes.extend(lanes.inputs.drain(..rest));
        let stopped = lanes.stopped && lanes.inputs.is_empty();
        Mail { flushed: std::mem::take(&mut lanes.flushed), envelopes, stopped }
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lanes {
    fn is_empty(&self) -> bool {
        !self.flushed && self.chain.is_empty() && self.inputs.is_empty() && !self.stopped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_and_the_chain_are_not_hidden_by_load() {
        let mailbox = Mailbox::default();
        for _ in 0..200 {
            mailbox.push(Input::Tick, Credit::None);
        }
        let block = Input::BlockDisconnected {
            height: crate::units::BlockHeight::new(1),
            hash: bitcoin::hashes::Hash::from_byte_array([0; 32]),
        };
        mailbox.push_chain(block, Credit::None);
        mailbox.flushed();
        let mail = mailbox.take(Duration::ZERO);
        assert!(mail.flushed);
        assert!(matches!(mail.envelopes[0].input, Input::BlockDisconnected { .. }));
        assert_eq!(mail.envelopes.len(), 1 + BATCH);
    }

    #[test]
    fn it_stops_when_it_is_empty() {
        let mailbox = Mailbox::default();
        (0..BATCH + 1).for_each(|_| mailbox.push(Input::Tick, Credit::None));
        mailbox.stop();
        assert!(!mailbox.take(Duration::ZERO).stopped);
        assert!(mailbox.take(Duration::ZERO).stopped);
    }
}
