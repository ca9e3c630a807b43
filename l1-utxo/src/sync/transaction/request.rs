//! Who announced which transaction, whom to ask for it, and when to give up on one peer and ask another.
//!
//! For each transaction one peer is asked at a time, those that we dialled first. Nothing a peer does keeps others from
//! being asked, and each peer's announcements are bounded. Core: `txrequest.cpp`.

use std::collections::{BTreeMap, BTreeSet};

use super::super::port::{PeerId, Time, TxName};
use super::super::random::Random;

/// A transaction's name as 32 bytes: a witness-less one has the same by both names.
pub(in super::super) type Key = [u8; 32];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not to be asked before this time.
    Delayed(Time),
    /// To be asked, unless another one is better.
    Ready,
    /// The best one of those that are ready.
    Chosen,
    /// Asked; until this time.
    Requested(Time),
    /// It answered, or did not.
    Completed,
}

#[derive(Clone, Copy, Debug)]
struct Announcement {
    name: TxName,
    is_preferred: bool,
    state: State,
}

#[derive(Clone, Debug, Default)]
struct Load {
    total: usize,
    in_flight: usize,
    chosen: BTreeSet<Key>,
}

/// All announcements that still matter.
#[derive(Debug)]
pub(in super::super) struct Tracker {
    random: Random,
    by_key: BTreeMap<Key, BTreeMap<PeerId, Announcement>>,
    by_peer: BTreeMap<PeerId, Load>,
    /// When something happens by itself.
    due: BTreeSet<(Time, Key, PeerId)>,
}

pub(in super::super) fn key(name: &TxName) -> Key {
    use bitcoin::hashes::Hash;
    match name {
        TxName::Txid(txid) => txid.to_byte_array(),
        TxName::Wtxid(wtxid) => wtxid.to_byte_array(),
    }
}

impl Tracker {
    pub(in super::super) const fn new(random: Random) -> Self {
        Self { random, by_key: BTreeMap::new(), by_peer: BTreeMap::new(), due: BTreeSet::new() }
    }

    /// How many announcements of a peer are kept.
    pub(in super::super) fn count(&self, peer: PeerId) -> usize {
        self.by_peer.get(&peer).map_or(0, |load| load.total)
    }

    /// How many requests a peer has not answered yet.
    pub(in super::super) fn in_flight(&self, peer: PeerId) -> usize {
        self.by_peer.get(&peer).map_or(0, |load| load.in_flight)
    }

    /// A peer has the transaction, and may be asked from `from` on. The first announcement counts.
    pub(in super::super) fn announced(&mut self, peer: PeerId, name: TxName, is_preferred: bool, from: Time) {
        let key = key(&name);
        let peers = self.by_key.entry(key).or_default();
        if peers.contains_key(&peer) {
            return;
        }
        peers.insert(peer, Announcement { name, is_preferred, state: State::Delayed(from) });
        self.by_peer.entry(peer).or_default().total += 1;
        self.due.insert((from, key, peer));
    }

    /// Moves on what time has brought.
    fn advance(&mut self, now: Time) {
        while let Some((time, key, peer)) = self.due.first().copied().filter(|(time, ..)| *time <= now) {
            self.due.remove(&(time, key, peer));
            match self.state(&key, peer) {
                Some(State::Delayed(_)) => self.set(&key, peer, State::Ready),
                Some(State::Requested(_)) => self.set(&key, peer, State::Completed),
                _ => {}
            }
            self.choose(&key);
        }
    }

    fn state(&self, key: &Key, peer: PeerId) -> Option<State> {
        Some(self.by_key.get(key)?.get(&peer)?.state)
    }

    fn set(&mut self, key: &Key, peer: PeerId, state: State) {
        let Some(announcement) = self.by_key.get_mut(key).and_then(|peers| peers.get_mut(&peer)) else { return };
        let old = std::mem::replace(&mut announcement.state, state);
        let load = self.by_peer.entry(peer).or_default();
        match old {
            State::Delayed(time) => drop(self.due.remove(&(time, *key, peer))),
            State::Requested(time) => {
                self.due.remove(&(time, *key, peer));
                load.in_flight -= 1;
            }
            State::Chosen => drop(load.chosen.remove(key)),
            State::Ready | State::Completed => {}
        }
        match state {
            State::Chosen => drop(load.chosen.insert(*key)),
            State::Requested(time) => {
                load.in_flight += 1;
                self.due.insert((time, *key, peer));
            }
            State::Delayed(_) | State::Ready | State::Completed => {}
        }
    }

    /// Chooses the best of those that are ready, unless one is asked already; forgets what nobody is left for.
    fn choose(&mut self, key: &Key) {
        let Some(peers) = self.by_key.get(key) else { return };
        if peers.values().any(|one| matches!(one.state, State::Requested(_))) {
            return;
        }
        if peers.values().all(|one| one.state == State::Completed) {
            return self.forget(key);
        }
        let rank = |peer: &PeerId| {
            let mut bytes = key.to_vec();
            bytes.extend_from_slice(&peer.0.to_le_bytes());
            self.random.hash(&bytes)
        };
        let ready = peers.iter().filter(|(_, one)| matches!(one.state, State::Ready | State::Chosen));
        let best = ready.max_by_key(|(peer, one)| (one.is_preferred, rank(peer))).map(|(peer, _)| *peer);
        let before = peers.iter().find(|(_, one)| one.state == State::Chosen).map(|(peer, _)| *peer);
        if best == before {
            return;
        }
        if let Some(before) = before {
            self.set(key, before, State::Ready);
        }
        if let Some(best) = best {
            self.set(key, best, State::Chosen);
        }
    }

    /// What this peer is to be asked for now.
    pub(in super::super) fn requestable(&mut self, peer: PeerId, now: Time) -> Vec<TxName> {
        self.advance(now);
        let Some(load) = self.by_peer.get(&peer) else { return Vec::new() };
        let name = |key: &Key| Some(self.by_key.get(key)?.get(&peer)?.name);
        load.chosen.iter().filter_map(name).collect()
    }

    /// The peer is being asked; it has until `until`.
    pub(in super::super) fn requested(&mut self, peer: PeerId, name: &TxName, until: Time) {
        self.set(&key(name), peer, State::Requested(until));
    }

    /// The peer answered, with the transaction or without.
    pub(in super::super) fn answered(&mut self, peer: PeerId, key: &Key) {
        if self.state(key, peer).is_some() {
            self.set(key, peer, State::Completed);
            self.choose(key);
        }
    }

    /// The peers that announced it, in order of their ids.
    pub(in super::super) fn candidates(&self, key: &Key) -> Vec<PeerId> {
        let peers = self.by_key.get(key).into_iter().flatten();
        peers.filter(|(_, one)| one.state != State::Completed).map(|(peer, _)| *peer).collect()
    }

    /// Nobody needs to be asked any more.
    pub(in super::super) fn forget(&mut self, key: &Key) {
        let peers: Vec<PeerId> = self.by_key.get(key).into_iter().flat_map(BTreeMap::keys).copied().collect();
        for peer in peers {
            self.remove(key, peer);
        }
    }

    fn remove(&mut self, key: &Key, peer: PeerId) {
        self.set(key, peer, State::Completed);
        if let Some(peers) = self.by_key.get_mut(key) {
            if peers.remove(&peer).is_some()
                && let Some(load) = self.by_peer.get_mut(&peer)
            {
                load.total -= 1;
                if load.total == 0 {
                    self.by_peer.remove(&peer);
                }
            }
            if self.by_key.get(key).is_some_and(BTreeMap::is_empty) {
                self.by_key.remove(key);
            }
        }
    }

    /// The peer is gone.
    pub(in super::super) fn forget_peer(&mut self, peer: PeerId) {
        if !self.by_peer.contains_key(&peer) {
            return;
        }
        let of_peer = self.by_key.iter().filter(|(_, peers)| peers.contains_key(&peer));
        let keys: Vec<Key> = of_peer.map(|(key, _)| *key).collect();
        for key in keys {
            self.remove(&key, peer);
            self.choose(&key);
        }
        self.by_peer.remove(&peer);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bitcoin::Wtxid;
    use bitcoin::hashes::Hash;

    use super::*;

    const START: Time = Time(1_000_000_000);

    fn name(n: u8) -> TxName {
        TxName::Wtxid(Wtxid::from_byte_array([n; 32]))
    }

    fn after(seconds: u64) -> Time {
        START + Duration::from_secs(seconds)
    }

    #[test]
    fn preferred_peers_are_asked_first_and_others_when_they_fail() {
        let mut tracker = Tracker::new(Random::new([1; 16]));
        let (one, two, three) = (PeerId(1), PeerId(2), PeerId(3));
        tracker.announced(one, name(1), false, after(2));
        tracker.announced(two, name(1), true, START);
        tracker.announced(three, name(1), false, after(2));
        assert_eq!(tracker.requestable(one, START), []);
        assert_eq!(tracker.requestable(two, START), [name(1)]);
        tracker.requested(two, &name(1), after(60));
        assert!(tracker.requestable(one, after(3)).is_empty() && tracker.requestable(three, after(3)).is_empty());
        // No answer within its time: exactly one of the others is next.
        let (a, b) = (tracker.requestable(one, after(60)), tracker.requestable(three, after(60)));
        assert_eq!(a.len() + b.len(), 1);
        let (asked, other) = if a.is_empty() { (three, one) } else { (one, three) };
        tracker.requested(asked, &name(1), after(120));
        tracker.answered(asked, &key(&name(1)));
        assert_eq!(tracker.requestable(other, after(61)), [name(1)]);
        tracker.forget_peer(other);
        assert!(tracker.by_key.is_empty() && tracker.by_peer.is_empty() && tracker.due.is_empty());
    }

    #[test]
    fn what_is_forgotten_leaves_nothing() {
        let mut tracker = Tracker::new(Random::new([2; 16]));
        for n in 0..200u64 {
            tracker.announced(PeerId(n % 7), name((n % 31) as u8), n % 2 == 0, after(n % 5));
        }
        assert_eq!((0..7).map(|peer| tracker.count(PeerId(peer))).sum::<usize>(), 200);
        for peer in 0..7 {
            for name in tracker.requestable(PeerId(peer), after(10)) {
                tracker.requested(PeerId(peer), &name, after(70));
            }
        }
        assert_eq!((0..7).map(|peer| tracker.in_flight(PeerId(peer))).sum::<usize>(), 31);
        (0..31).for_each(|n| tracker.forget(&key(&name(n))));
        assert!(tracker.by_key.is_empty() && tracker.by_peer.is_empty() && tracker.due.is_empty());
    }
}
