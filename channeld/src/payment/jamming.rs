//! Room for forwards: who may fill a channel's HTLC slots and value, so that nobody fills them for free (PAINS 9; in the spirit of
//! BOLT pull request 1280, simple).
//!
//! The slots and the value that a channel can carry away from us are cut into three buckets. *General* is for everybody; one
//! peer before us gets a share of it. *Congestion* is for when that is full: one HTLC a peer. *Protected* is for peers whose
//! forwards end quickly. An HTLC that is alone in its peer's share may be of any size, so that the shares bound how many
//! there are and not how large a payment may be. Our own payments are not bound by it.

use std::collections::BTreeMap;

use crate::units::{Msat, NodeId};

/// How a channel's slots and value are cut, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// For everybody.
    pub general: u8,
    /// For when that is full.
    pub congestion: u8,
    /// Of `general`, for one peer before us.
    pub peer: u8,
}

impl Default for Shares {
    fn default() -> Shares {
        Shares { general: 60, congestion: 10, peer: 50 }
    }
}

/// Where a forward has its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bucket {
    /// For everybody.
    General,
    /// For when that is full.
    Congestion,
    /// For peers whose forwards end quickly.
    Protected,
}

impl Bucket {
    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Bucket::General => "general",
            Bucket::Congestion => "congestion",
            Bucket::Protected => "protected",
        }
    }
}

/// HTLCs, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// How many.
    pub slots: u64,
    /// What they are worth.
    pub value: Msat,
}

impl Room {
    fn add(&mut self, amount: Msat) {
        self.slots += 1;
        self.value = Msat::new(self.value.msat().saturating_add(amount.msat()));
    }

    fn remove(&mut self, amount: Msat) {
        self.slots = self.slots.saturating_sub(1);
        self.value = self.value.saturating_sub(amount);
    }

    fn percent(self, percent: u8) -> Room {
        let part = |of: u64| u64::try_from(u128::from(of) * u128::from(percent) / 100).unwrap_or(of);
        Room { slots: part(self.slots).max(1), value: Msat::new(part(self.value.msat())) }
    }

    /// Whether `amount` more stays within `limit`; what would be alone may be of any size.
    fn takes(self, amount: Msat, limit: Room) -> bool {
        let value = self.value.msat().saturating_add(amount.msat());
        self.slots == 0 || (self.slots < limit.slots && value <= limit.value.msat())
    }
}

/// What forwards take of one channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    buckets: BTreeMap<Bucket, Room>,
    peers: BTreeMap<(Bucket, NodeId), Room>,
}

impl Usage {
    /// The bucket in which a forward for `peer` finds room in a channel that carries `capacity`; `None` where it finds none.
    pub fn place(&self, shares: &Shares, capacity: Room, peer: NodeId, amount: Msat, trusted: bool) -> Option<Bucket> {
        let general = capacity.percent(shares.general);
        let own = |bucket| self.peers.get(&(bucket, peer)).copied().unwrap_or_default();
        if self.of(Bucket::General).takes(amount, general)
            && own(Bucket::General).takes(amount, general.percent(shares.peer))
        {
            return Some(Bucket::General);
        }
        let rest = 100u8.saturating_sub(shares.general).saturating_sub(shares.congestion);
        if trusted && self.of(Bucket::Protected).takes(amount, capacity.percent(rest)) {
            return Some(Bucket::Protected);
        }
        let congestion = capacity.percent(shares.congestion);
        let is_first = own(Bucket::Congestion).slots == 0;
        (is_first && self.of(Bucket::Congestion).takes(amount, congestion)).then_some(Bucket::Congestion)
    }

    /// What a bucket holds.
    pub fn of(&self, bucket: Bucket) -> Room {
        self.buckets.get(&bucket).copied().unwrap_or_default()
    }

    /// A forward has its room.
    pub fn add(&mut self, bucket: Bucket, peer: NodeId, amount: Msat) {
        self.buckets.entry(bucket).or_default().add(amount);
        self.peers.entry((bucket, peer)).or_default().add(amount);
    }

    /// It is over.
    pub fn remove(&mut self, bucket: Bucket, peer: NodeId, amount: Msat) {
        if let Some(room) = self.buckets.get_mut(&bucket) {
            room.remove(amount);
        }
        let own = self.peers.entry((bucket, peer)).or_default();
        own.remove(amount);
        if own.slots == 0 {
            self.peers.remove(&(bucket, peer));
        }
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }
}

/// A forward that takes longer was slow, in microseconds.
const SLOW_MICROS: u64 = 90_000_000;
/// So many quick ones make a peer trusted.
const TRUSTED_FROM: u32 = 10;
/// A slow one costs as much as so many quick ones bring.
const SLOW_COST: u32 = 50;
/// The most a peer can gather.
const MOST_TRUST: u32 = 1_000;

/// What a peer's forwards were like: it gathers by quick ones that paid, and loses by slow ones. Forgotten by a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reputation(u32);

impl Reputation {
    /// A forward for the peer is over.
    pub fn note(&mut self, paid: bool, micros: u64) {
        self.0 = match (paid, micros > SLOW_MICROS) {
            (_, true) => self.0.saturating_sub(SLOW_COST),
            (true, false) => self.0.saturating_add(1).min(MOST_TRUST),
            (false, false) => self.0,
        };
    }

    /// Whether it may use what is kept for such peers.
    pub const fn is_trusted(self) -> bool {
        self.0 >= TRUSTED_FROM
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(byte: u8) -> NodeId {
        let key = secp256k1::SecretKey::from_slice(&[byte; 32]).expect("a key");
        NodeId(key.public_key(secp256k1::SECP256K1))
    }

    const CAPACITY: Room = Room { slots: 100, value: Msat::new(100_000) };

    /// Fills the channel with HTLCs of one peer; how many found room, and where.
    fn fill(usage: &mut Usage, peer: NodeId, amount: u64, trusted: bool) -> Vec<Bucket> {
        let shares = Shares::default();
        let mut found = Vec::new();
        while let Some(bucket) = usage.place(&shares, CAPACITY, peer, Msat::new(amount), trusted) {
            usage.add(bucket, peer, Msat::new(amount));
            found.push(bucket);
        }
        found
    }

    #[test]
    fn a_stranger_gets_its_share_and_one_more() {
        let mut usage = Usage::default();
        let one = fill(&mut usage, peer(1), 1, false);
        assert_eq!((one.len(), one.last()), (31, Some(&Bucket::Congestion)));
        assert_eq!(fill(&mut usage, peer(2), 1, false).len(), 31);
        assert_eq!(fill(&mut usage, peer(3), 1, false), [Bucket::Congestion], "general is full");
        assert_eq!(fill(&mut usage, peer(4), 1, true).len(), 30 + 1, "what is kept for others is left");
    }

    #[test]
    fn value_is_bound_and_one_large_payment_is_not() {
        let mut usage = Usage::default();
        assert_eq!(usage.place(&Shares::default(), CAPACITY, peer(1), Msat::new(99_000), false), Some(Bucket::General));
        assert_eq!(fill(&mut usage, peer(1), 10_000, false).len(), 3 + 1);
    }

    #[test]
    fn what_is_over_leaves_room() {
        let mut usage = Usage::default();
        let found = fill(&mut usage, peer(1), 7, true);
        found.into_iter().for_each(|bucket| usage.remove(bucket, peer(1), Msat::new(7)));
        assert!(usage.is_empty());
        assert_eq!(usage.of(Bucket::General), Room::default());
    }

    #[test]
    fn trust_is_gathered_slowly_and_lost_quickly() {
        let mut reputation = Reputation::default();
        (0..9).for_each(|_| reputation.note(true, 1_000_000));
        reputation.note(false, 1_000_000);
        assert!(!reputation.is_trusted());
        reputation.note(true, 1_000_000);
        assert!(reputation.is_trusted());
        reputation.note(true, SLOW_MICROS + 1);
        assert!(!reputation.is_trusted());
    }
}
