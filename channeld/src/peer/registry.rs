//! One session a peer (BOLT 1): which there is, and which of two stays.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::event::{Direction, DisconnectReason, SessionNumber};
use super::outbound::Outbox;
use crate::units::NodeId;

/// Where a session stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// `init` is not exchanged.
    Opening,
    /// It was told as connected.
    Connected,
    /// It ended, and is told so at once.
    Over(DisconnectReason),
}

/// All sessions.
pub struct Registry {
    local: NodeId,
    inner: Arc<Mutex<Inner>>,
    next: AtomicU64,
}

#[derive(Default)]
struct Inner {
    slots: BTreeMap<NodeId, Slot>,
    protected: BTreeSet<NodeId>,
    closed: bool,
}

struct Slot {
    number: SessionNumber,
    direction: Direction,
    outbox: Arc<Outbox>,
    phase: watch::Receiver<Phase>,
}

/// A session's place among all; given up when dropped.
pub struct Ticket {
    /// The session's number.
    pub number: SessionNumber,
    /// What others see of it.
    pub phase: watch::Sender<Phase>,
    /// The session before it, which must be gone before this one is told as connected.
    pub before: Option<watch::Receiver<Phase>>,
    node_id: NodeId,
    inner: Arc<Mutex<Inner>>,
}

impl Registry {
    /// No sessions yet.
    pub fn new(local: NodeId) -> Registry {
        Registry { local, inner: Arc::default(), next: AtomicU64::new(1) }
    }

    /// Gives a new session its place, if it is the one to stay.
    ///
    /// A caller that calls again has lost its last connection, so that one goes. Where both called at the same time, both
    /// sides keep the connection that the lesser node id has made; the other one, should it be dead, is found out by a ping.
    pub fn admit(
        &self,
        node_id: NodeId,
        direction: Direction,
        outbox: &Arc<Outbox>,
        most_inbound: usize,
    ) -> Option<Ticket> {
        let mut inner = self.lock();
        if inner.closed || (direction == Direction::Inbound && inner.is_full(&node_id, most_inbound)) {
            return None;
        }
        let mut before = None;
        if let Some(slot) = inner.slots.get(&node_id) {
            if direction != slot.direction && !slot.is_over() && !self.wins(&node_id, direction) {
                slot.outbox.probe();
                return None;
            }
            slot.outbox.kill(DisconnectReason::Replaced);
            before = Some(slot.phase.clone());
        }
        let number = SessionNumber(self.next.fetch_add(1, Ordering::Relaxed));
        let (phase, receiver) = watch::channel(Phase::Opening);
        inner.slots.insert(node_id, Slot { number, direction, outbox: outbox.clone(), phase: receiver });
        Some(Ticket { number, phase, before, node_id, inner: self.inner.clone() })
    }

    fn wins(&self, node_id: &NodeId, direction: Direction) -> bool {
        match direction {
            Direction::Outbound => self.local < *node_id,
            Direction::Inbound => *node_id < self.local,
        }
    }

    /// The session with a peer, if there is one.
    pub fn find(&self, node_id: &NodeId) -> Option<watch::Receiver<Phase>> {
        self.lock().slots.get(node_id).map(|slot| slot.phase.clone())
    }

    /// Peers whose calls are taken however many others there are.
    pub fn protect(&self, node_id: NodeId, protected: bool) {
        let mut inner = self.lock();
        if protected {
            inner.protected.insert(node_id);
        } else {
            inner.protected.remove(&node_id);
        }
    }

    /// Ends all sessions and takes no new ones; gives what shows when they are gone.
    pub fn close(&self) -> Vec<watch::Receiver<Phase>> {
        let mut inner = self.lock();
        inner.closed = true;
        inner.slots.values().for_each(|slot| slot.outbox.close(DisconnectReason::Local));
        inner.slots.values().map(|slot| slot.phase.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn is_full(&self, node_id: &NodeId, most_inbound: usize) -> bool {
        if self.protected.contains(node_id) || self.slots.contains_key(node_id) {
            return false;
        }
        let counted =
            |(peer, slot): &(&NodeId, &Slot)| slot.direction == Direction::Inbound && !self.protected.contains(*peer);
        self.slots.iter().filter(counted).count() >= most_inbound
    }
}

impl Slot {
    fn is_over(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Over(_)) || self.outbox.is_closing()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.slots.get(&self.node_id).is_some_and(|slot| slot.number == self.number) {
            inner.slots.remove(&self.node_id);
        }
    }
}

/// Waits until a session is gone.
pub async fn gone(mut phase: watch::Receiver<Phase>) {
    while phase.changed().await.is_ok() {}
}

/// Waits until a session is connected, or gives why it ended before.
pub async fn connected(mut phase: watch::Receiver<Phase>) -> Result<(), DisconnectReason> {
    loop {
        match &*phase.borrow_and_update() {
            Phase::Opening => {}
            Phase::Connected => return Ok(()),
            Phase::Over(reason) => return Err(reason.clone()),
        }
        if phase.changed().await.is_err() {
            return Err(DisconnectReason::Closed);
        }
    }
}

#[cfg(test)]
mod tests {
    use secp256k1::{SECP256K1, SecretKey};

    use super::*;

    /// Three node ids, rising.
    fn ids() -> [NodeId; 3] {
        let mut ids = [1, 2, 3].map(|byte| NodeId(SecretKey::from_slice(&[byte; 32]).unwrap().public_key(SECP256K1)));
        ids.sort();
        ids
    }

    fn admit(registry: &Registry, node_id: NodeId, direction: Direction) -> Option<(Ticket, Arc<Outbox>)> {
        let outbox = Arc::new(Outbox::new());
        registry.admit(node_id, direction, &outbox, 1).map(|ticket| (ticket, outbox))
    }

    #[test]
    fn a_caller_that_calls_again_replaces_itself() {
        let [low, local, _] = ids();
        let registry = Registry::new(local);
        let (first, outbox) = admit(&registry, low, Direction::Inbound).unwrap();
        let (second, _) = admit(&registry, low, Direction::Inbound).unwrap();
        assert!(outbox.is_closing() && second.before.is_some());
        assert_ne!(first.number, second.number);
        drop(first);
        assert!(registry.find(&low).is_some(), "the old one leaves the new one's place alone");
        drop(second);
        assert!(registry.find(&low).is_none());
    }

    #[test]
    fn of_two_calls_that_cross_the_lesser_ids_stays() {
        let [low, local, high] = ids();
        let registry = Registry::new(local);
        let (_low, outbox) = admit(&registry, low, Direction::Inbound).unwrap();
        assert!(admit(&registry, low, Direction::Outbound).is_none());
        assert!(outbox.take_probe() && !outbox.is_closing());
        let (_high, outbox) = admit(&registry, high, Direction::Inbound).map_or_else(
            || admit(&registry, high, Direction::Outbound).unwrap(),
            |_| panic!("one stranger's call is the limit"),
        );
        assert!(admit(&registry, high, Direction::Inbound).is_none());
        assert!(!outbox.is_closing());
    }

    #[test]
    fn strangers_are_few_and_friends_are_not_counted() {
        let [low, local, high] = ids();
        let registry = Registry::new(local);
        registry.protect(high, true);
        let _high = admit(&registry, high, Direction::Inbound).unwrap();
        let _low = admit(&registry, low, Direction::Inbound).unwrap();
        registry.protect(high, false);
        drop(_low);
        assert!(admit(&registry, low, Direction::Inbound).is_none());
        assert!(admit(&registry, low, Direction::Outbound).is_some());
        registry.close();
        assert!(admit(&registry, low, Direction::Outbound).is_none());
    }
}
