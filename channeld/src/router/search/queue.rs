//! A queue whose least key never decreases: a radix heap. What is pushed below the last least key counts as that key.

/// Pairs of a key and a label.
#[derive(Clone, Debug)]
pub struct Queue {
    /// Bucket i holds keys that differ from `last` first in bit i - 1; bucket 0 those that equal it.
    buckets: Vec<Vec<(u64, u32)>>,
    /// One bit a bucket that is not empty, but for the first.
    filled: u64,
    last: u64,
}

impl Default for Queue {
    fn default() -> Queue {
        Queue { buckets: vec![Vec::new(); 65], filled: 0, last: 0 }
    }
}

impl Queue {
    /// Forgets everything, keeps the room.
    pub fn clear(&mut self) {
        self.buckets.iter_mut().for_each(Vec::clear);
        (self.filled, self.last) = (0, 0);
    }

    /// Puts a label in.
    #[inline]
    pub fn push(&mut self, key: u64, label: u32) {
        let key = key.max(self.last);
        self.place(key, label);
    }

    /// Takes out a label with the least key.
    #[inline]
    pub fn pop(&mut self) -> Option<(u64, u32)> {
        if let Some(found) = self.buckets[0].pop() {
            return Some(found);
        }
        if self.filled == 0 {
            return None;
        }
        let bucket = self.filled.trailing_zeros() as usize + 1;
        self.filled &= self.filled - 1;
        let mut moving = std::mem::take(&mut self.buckets[bucket]);
        self.last = moving.iter().map(|(key, _)| *key).min().expect("its bit says that it is not empty");
        for (key, label) in moving.drain(..) {
            self.place(key, label);
        }
        self.buckets[bucket] = moving;
        self.buckets[0].pop()
    }

    #[inline]
    fn place(&mut self, key: u64, label: u32) {
        let bucket = 64 - (key ^ self.last).leading_zeros() as usize;
        if bucket > 0 {
            self.filled |= 1 << (bucket - 1);
        }
        self.buckets[bucket].push((key, label));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_comes_out_is_in_order(steps in proptest::collection::vec((any::<u64>(), any::<bool>()), 0..200)) {
            let mut queue = Queue::default();
            let (mut inside, mut least) = (Vec::new(), 0);
            for (number, (key, pops)) in steps.into_iter().enumerate() {
                let key = key.max(least) >> (number % 3 * 8);
                queue.push(key, number as u32);
                inside.push(key.max(least));
                if pops {
                    inside.sort_unstable_by(|one, two| two.cmp(one));
                    least = inside.pop().unwrap();
                    prop_assert_eq!(queue.pop().map(|(key, _)| key), Some(least));
                }
            }
            let rest: Vec<u64> = std::iter::from_fn(|| queue.pop()).map(|(key, _)| key).collect();
            inside.sort_unstable();
            prop_assert_eq!(rest, inside);
        }
    }
}
