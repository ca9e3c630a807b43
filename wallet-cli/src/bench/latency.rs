//! How long things took, in percentiles.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Latencies from a microsecond to a minute, to three digits.
#[derive(Clone)]
pub struct Latencies {
    micros: Histogram<u64>,
}

impl Default for Latencies {
    fn default() -> Latencies {
        let micros = Histogram::new_with_bounds(1, 60_000_000, 3).expect("1 µs to 1 min to 3 digits is a valid range");
        Latencies { micros }
    }
}

impl Latencies {
    /// Counts one; what is longer than a minute counts as a minute.
    pub fn record(&mut self, took: Duration) {
        self.micros.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// Adds those of another.
    pub fn add(&mut self, other: &Latencies) {
        // Both have the same range, so nothing is lost.
        let _ = self.micros.add(&other.micros);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.micros.len()
    }

    /// The latency that this part (0 to 1) of all stays below, in milliseconds.
    pub fn quantile_ms(&self, part: f64) -> f64 {
        self.micros.value_at_quantile(part) as f64 / 1_000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_what_was_counted() {
        let mut latencies = Latencies::default();
        (1..=100).for_each(|millis| latencies.record(Duration::from_millis(millis)));
        assert_eq!(latencies.count(), 100);
        assert!((latencies.quantile_ms(0.5) - 50.0).abs() < 0.2);
        assert!((latencies.quantile_ms(0.99) - 99.0).abs() < 0.2);
    }
}
