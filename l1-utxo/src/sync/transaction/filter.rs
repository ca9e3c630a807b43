//! What was seen lately, in little memory: may say yes to what it never saw (about once in a million), never no to what it
//! did, until twice its size has come after. Core: `CRollingBloomFilter`.

use bitcoin::hashes::siphash24;

/// Bits for one element, and how many of them are set: one false answer in 2^20.
const BITS_PER_ELEMENT: usize = 29;
const HASHES: u64 = 20;

/// A bloom filter that forgets: two halves, of which the older one is emptied when the newer one is full.
#[derive(Clone, Debug)]
pub(in super::super) struct RollingFilter {
    salt: u64,
    capacity: usize,
    /// Elements in the newer half.
    count: usize,
    newer: Vec<u64>,
    older: Vec<u64>,
}

impl RollingFilter {
    /// Remembers at least the last `capacity` elements. Takes no memory before the first.
    pub(in super::super) const fn new(capacity: usize, salt: u64) -> Self {
        Self { salt, capacity, count: 0, newer: Vec::new(), older: Vec::new() }
    }

    fn places(&self, element: &[u8]) -> impl Iterator<Item = usize> + use<> {
        let bits = (self.capacity * BITS_PER_ELEMENT).next_multiple_of(64) as u64;
        let first = siphash24::Hash::hash_with_keys(self.salt, 0, element).as_u64();
        let step = siphash24::Hash::hash_with_keys(self.salt, 1, element).as_u64() | 1;
        (0..HASHES).map(move |n| {
            let mixed = first.wrapping_add(step.wrapping_mul(n));
            ((u128::from(mixed) * u128::from(bits)) >> 64) as usize
        })
    }

    pub(in super::super) fn insert(&mut self, element: &[u8]) {
        if self.contains(element) {
            return;
        }
        if self.count >= self.capacity {
            self.older = std::mem::take(&mut self.newer);
            self.count = 0;
        }
        if self.newer.is_empty() {
            self.newer = vec![0; (self.capacity * BITS_PER_ELEMENT).div_ceil(64)];
        }
        for place in self.places(element) {
            self.newer[place / 64] |= 1 << (place % 64);
        }
        self.count += 1;
    }

    pub(in super::super) fn contains(&self, element: &[u8]) -> bool {
        let is_in = |half: &[u64]| {
            !half.is_empty() && self.places(element).all(|place| half[place / 64] >> (place % 64) & 1 == 1)
        };
        is_in(&self.newer) || is_in(&self.older)
    }

    pub(in super::super) fn clear(&mut self) {
        *self = Self::new(self.capacity, self.salt);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_remembered_and_the_rest_is_forgotten() {
        let mut filter = RollingFilter::new(1_000, 7);
        for n in 0..5_000u32 {
            filter.insert(&n.to_le_bytes());
            assert!(filter.contains(&n.to_le_bytes()));
        }
        assert!((4_000..5_000u32).all(|n| filter.contains(&n.to_le_bytes())));
        let still = (0..3_000u32).filter(|n| filter.contains(&n.to_le_bytes())).count();
        let wrong = (10_000..60_000u32).filter(|n| filter.contains(&n.to_le_bytes())).count();
        assert!(still < 10 && wrong < 10, "{still} {wrong}");
        filter.clear();
        assert!(!filter.contains(&4_999u32.to_le_bytes()));
    }
}
