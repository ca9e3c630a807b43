//! The node thread's mailbox: lanes in a fixed order of precedence, each bounded by the credits of who fills it.
//!
//! Flushes come first, for what waits for them is done; then the chain, so that no load hides a block; then peers and
//! clients together in the order of their arrival.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use crate::node::input::Input;

/// Inputs that the node takes in before it looks for a finished flush again.
const BATCH: usize = 64;

/// An input and the credit that its sender gets back when it is handled.
pub struct Envelope {
    /// What came.
    pub input: Input,
    /// Freed when the envelope is dropped.
    pub credit: Option<OwnedSemaphorePermit>,
}

/// What the node thread finds.
#[derive(Default)]
pub struct Mail {
    /// The flush under way is done.
    pub flushed: bool,
    /// What came, in order; chain events first.
    pub envelopes: Vec<Envelope>,
    /// The process stops: nothing more comes after these.
    pub stopped: bool,
}

/// See the room's map.
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
    pub fn push(&self, input: Input, credit: Option<OwnedSemaphorePermit>) {
        self.lanes().inputs.push_back(Envelope { input, credit });
        self.filled.notify_one();
    }

    /// Something from the chain.
    pub fn push_chain(&self, input: Input, credit: Option<OwnedSemaphorePermit>) {
        self.lanes().chain.push_back(Envelope { input, credit });
        self.filled.notify_one();
    }

    /// The record in flight is durable.
    pub fn flushed(&self) {
        self.lanes().flushed = true;
        self.filled.notify_one();
    }

    /// Nothing more is taken in; the node thread ends when all is done.
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
