//! How much gossip anybody may have us handle: a bucket for each end of a channel and each node, and a score for each peer.

use std::collections::BTreeMap;

use super::answer::Item;
use crate::units::UnixTime;

/// So many at once (as LND); then one for each interval.
const BURST: u32 = 10;
/// Buckets kept; a full one is forgotten first, for it limits nothing.
const MOST_BUCKETS: usize = 200_000;

/// Messages about one thing that are still taken.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: u32,
    counted: UnixTime,
}

/// Buckets of what was told lately.
#[derive(Debug)]
pub struct Buckets {
    interval_micros: u64,
    buckets: BTreeMap<Item, Bucket>,
}

impl Buckets {
    /// One more for each `interval_micros`.
    pub const fn new(interval_micros: u64) -> Buckets {
        Buckets { interval_micros, buckets: BTreeMap::new() }
    }

    /// Counts one; whether it is within the limit.
    pub fn take(&mut self, item: Item, now: UnixTime) -> bool {
        if self.buckets.len() >= MOST_BUCKETS && !self.buckets.contains_key(&item) {
            self.forget_full(now);
            if self.buckets.len() >= MOST_BUCKETS {
                return false;
            }
        }
        let bucket = self.buckets.entry(item).or_insert(Bucket { left: BURST, counted: now });
        let more = now.micros_since(bucket.counted) / self.interval_micros.max(1);
        if more > 0 {
            bucket.left = u32::try_from(more).unwrap_or(BURST).saturating_add(bucket.left).min(BURST);
            bucket.counted = now;
        }
        let within = bucket.left > 0;
        bucket.left = bucket.left.saturating_sub(1);
        within
    }

    /// Forgets what limits nothing.
    pub fn forget_full(&mut self, now: UnixTime) {
        let full = self.interval_micros.saturating_mul(u64::from(BURST));
        self.buckets.retain(|_, bucket| now.micros_since(bucket.counted) < full);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::ShortChannelId;

    #[test]
    fn a_burst_and_then_one_for_each_interval() {
        let mut buckets = Buckets::new(60_000_000);
        let item = Item::Update(ShortChannelId::from_u64(1), 0);
        let at = |seconds: u64| UnixTime::from_seconds(1_000 + seconds);
        assert_eq!((0..12).filter(|_| buckets.take(item, at(0))).count(), 10);
        assert!(buckets.take(Item::Update(ShortChannelId::from_u64(1), 1), at(0)), "each end has its own");
        assert!(!buckets.take(item, at(59)));
        assert!(buckets.take(item, at(60)) && !buckets.take(item, at(61)));
        buckets.forget_full(at(10_000));
        assert!(buckets.buckets.is_empty());
    }
}
