//! Chance for delays and choices, all from one seed: the same seed and the same inputs give the same bytes.

use std::time::Duration;

use bitcoin::hashes::siphash24;

/// A stream of numbers that nobody foresees who does not know the seed. Never used for keys.
#[derive(Clone, Debug)]
pub struct Random {
    keys: (u64, u64),
    counter: u64,
}

impl Random {
    /// A stream.
    pub fn new(seed: [u8; 16]) -> Self {
        let seed = u128::from_le_bytes(seed);
        Self { keys: (seed as u64, (seed >> 64) as u64), counter: 0 }
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.counter += 1;
        self.hash(&self.counter.to_le_bytes())
    }

    /// A number below `limit`, which is not zero.
    pub fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }

    /// The seed's own hash of some bytes: for choices that must come out alike each time.
    pub fn hash(&self, bytes: &[u8]) -> u64 {
        siphash24::Hash::hash_with_keys(self.keys.0, self.keys.1, bytes).as_u64()
    }

    /// The time to the next of events that come by chance, `mean` apart on average (Core: `rand_exp_duration`).
    pub fn exponential(&mut self, mean: Duration) -> Duration {
        // -ln(u), from the count of leading zeros and a straight line between powers of two: near enough for a delay.
        let sample = self.next() | 1;
        let zeros = u64::from(sample.leading_zeros());
        let fraction = (sample << zeros) & (u64::MAX >> 1);
        let thousandths = (zeros + 1) * 693 - ((u128::from(fraction) * 693) >> 63) as u64;
        let micros = u64::try_from(mean.as_micros()).unwrap_or(u64::MAX / 1_000_000);
        Duration::from_micros(micros.saturating_mul(thousandths) / 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_have_the_mean_asked_for() {
        let mut random = Random::new([7; 16]);
        let total: Duration = (0..20_000).map(|_| random.exponential(Duration::from_secs(2))).sum();
        let mean = total.as_secs_f64() / 20_000.0;
        assert!((1.8..2.3).contains(&mean), "{mean}");
        assert!((0..1_000).all(|_| random.below(3) < 3));
    }
}
