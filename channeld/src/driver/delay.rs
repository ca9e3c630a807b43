//! Delays on purpose, for development: what a peer says reaches the node later, in the order in which it came.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::mailbox::{Credit, Mailbox};
use crate::node::input::{Input, SessionNumber};
use crate::units::NodeId;

/// See the file's map.
#[derive(Default)]
pub struct Delays {
    /// Whether there ever was one: without, nothing here costs anything.
    used: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    delays: BTreeMap<NodeId, Duration>,
    /// Sessions on whose messages one waits. What a queue holds is bounded by the peer's credit.
    lanes: BTreeMap<SessionNumber, mpsc::UnboundedSender<Waiting>>,
}

struct Waiting {
    due: Instant,
    input: Input,
    credit: Credit,
}

impl Delays {
    /// From now on what the peer says comes so much later; at once again where it is zero.
    pub fn set(&self, peer: NodeId, delay: Duration) {
        let mut inner = self.lock();
        if delay.is_zero() {
            inner.delays.remove(&peer);
        } else {
            inner.delays.insert(peer, delay);
        }
        self.used.store(true, Ordering::Release);
    }

    /// Puts a peer's messages into the mailbox, now or when their time has come.
    pub fn push(&self, mailbox: &Arc<Mailbox>, peer: NodeId, session: SessionNumber, input: Input, credit: Credit) {
        if !self.used.load(Ordering::Acquire) {
            return mailbox.push(input, credit);
        }
        let mut inner = self.lock();
        let delay = inner.delays.get(&peer).copied();
        if delay.is_none() && !inner.lanes.contains_key(&session) {
            return mailbox.push(input, credit);
        }
        // What came before may still wait: from the first delay on all of a session's messages go one way.
        let lane = inner.lanes.entry(session).or_insert_with(|| {
            let (lane, waiting) = mpsc::unbounded_channel();
            tokio::spawn(hand_on(waiting, Arc::clone(mailbox)));
            lane
        });
        // The task ends with its queue only.
        let _ = lane.send(Waiting { due: Instant::now() + delay.unwrap_or_default(), input, credit });
    }

    /// The session is over; what waits of it is still handed on, and dropped there.
    pub fn forget(&self, session: SessionNumber) {
        if self.used.load(Ordering::Acquire) {
            self.lock().lanes.remove(&session);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn hand_on(mut waiting: mpsc::UnboundedReceiver<Waiting>, mailbox: Arc<Mailbox>) {
    while let Some(Waiting { due, input, credit }) = waiting.recv().await {
        tokio::time::sleep_until(due).await;
        mailbox.push(input, credit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(peer: NodeId, session: u64) -> Input {
        Input::Messages { peer, session: SessionNumber(session), messages: Vec::new() }
    }

    /// What is there, waiting for it as long as `patience`.
    fn sessions(mailbox: &Mailbox, patience: Duration) -> Vec<u64> {
        let mail = mailbox.take(patience);
        let number = |input: &Input| match input {
            Input::Messages { session, .. } => session.0,
            _ => 0,
        };
        mail.envelopes.iter().map(|envelope| number(&envelope.input)).collect()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn what_waits_keeps_its_order_and_others_do_not_wait() {
        let (delays, mailbox) = (Delays::default(), Arc::new(Mailbox::default()));
        let slow: NodeId = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798".parse().unwrap();
        let quick: NodeId = "02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5".parse().unwrap();
        delays.set(slow, Duration::from_millis(500));
        delays.push(&mailbox, slow, SessionNumber(1), messages(slow, 1), Credit::None);
        delays.set(slow, Duration::ZERO);
        delays.push(&mailbox, slow, SessionNumber(1), messages(slow, 1), Credit::None);
        delays.push(&mailbox, quick, SessionNumber(2), messages(quick, 2), Credit::None);
        assert_eq!(sessions(&mailbox, Duration::ZERO), [2]);
        let mut late = sessions(&mailbox, Duration::from_secs(60));
        if late.len() == 1 {
            late.extend(sessions(&mailbox, Duration::from_secs(60)));
        }
        assert_eq!(late, [1, 1]);
        delays.forget(SessionNumber(1));
        delays.push(&mailbox, slow, SessionNumber(3), messages(slow, 3), Credit::None);
        assert_eq!(sessions(&mailbox, Duration::ZERO), [3]);
    }
}
