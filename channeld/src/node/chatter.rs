//! How much of what peers say becomes an event. Events are kept for good, and words cost a peer nothing: beyond a measure,
//! for each peer and for all of them, they are only logged.

use std::collections::BTreeMap;

use super::Node;
use super::api::event::EventKind;
use crate::units::{NodeId, UnixTime};

/// Of one peer: so many at once, and one more for each so many microseconds.
const OF_PEER: Measure = Measure { most: 20, refill: 10_000_000 };
/// Of all peers together.
const OF_ALL: Measure = Measure { most: 500, refill: 1_000_000 };
/// Peers that are remembered; beyond them all share the measure of all.
const MOST_PEERS: usize = 1_000;

#[derive(Clone, Copy)]
pub(super) struct Measure {
    /// So many at once.
    pub most: u64,
    /// One more for each so many microseconds.
    pub refill: u64,
}

/// What was said of late: the time at which the vessel is empty again.
#[derive(Clone, Copy, Default)]
pub(super) struct Vessel(u64);

impl Vessel {
    /// Whether there is room for one more, which is then taken.
    pub fn take(&mut self, measure: Measure, now: UnixTime) -> bool {
        let now = now.micros_since(UnixTime::new(0));
        let level = self.0.max(now);
        if level - now > (measure.most - 1) * measure.refill {
            return false;
        }
        self.0 = level.saturating_add(measure.refill);
        true
    }

    const fn is_empty(self, now: u64) -> bool {
        self.0 <= now
    }
}

/// See the file's map.
pub(super) struct Chatter {
    of_peer: Measure,
    of_all: Measure,
    peers: BTreeMap<NodeId, Vessel>,
    all: Vessel,
}

impl Default for Chatter {
    fn default() -> Chatter {
        Chatter::new(OF_PEER, OF_ALL)
    }
}

impl Chatter {
    /// Nothing was said yet.
    pub const fn new(of_peer: Measure, of_all: Measure) -> Chatter {
        Chatter { of_peer, of_all, peers: BTreeMap::new(), all: Vessel(0) }
    }

    /// Whether there is room for one more of that peer's, which is then taken.
    pub fn take(&mut self, peer: NodeId, now: UnixTime) -> bool {
        if self.peers.len() >= MOST_PEERS {
            let micros = now.micros_since(UnixTime::new(0));
            self.peers.retain(|_, vessel| !vessel.is_empty(micros));
        }
        let is_known = self.peers.contains_key(&peer) || self.peers.len() < MOST_PEERS;
        let of_peer = !is_known || self.peers.entry(peer).or_default().take(self.of_peer, now);
        of_peer && self.all.take(self.of_all, now)
    }
}

impl Node {
    /// That a peer came or went: of one without a channel no more than of its words, for it may come and go at will.
    pub(super) fn event_of_session(&mut self, peer: NodeId, kind: EventKind) {
        if self.state.channels_with(peer).next().is_some() {
            self.event(kind);
        } else {
            self.event_by_peer(peer, kind);
        }
    }

    /// An event that a peer causes at will.
    pub(super) fn event_by_peer(&mut self, peer: NodeId, kind: EventKind) {
        if self.live.chatter.take(peer, self.moment.now) {
            self.event(kind);
        } else {
            tracing::debug!(%peer, ?kind, "no event any more: this peer says too much");
        }
    }
}
