//! How much may be sent in a day, if our user sets a limit: near it old blocks are served no more, so that new ones still
//! can be. Bitcoin Core: `OutboundTargetReached` in `net.cpp`.

use std::time::Duration;

use super::port::Time;

/// The time for which the limit holds.
pub const TIMEFRAME: Duration = Duration::from_secs(24 * 3_600);
/// What is kept back for every new block that may come within the time that is left.
const BLOCK_INTERVAL: u64 = 600;
const BLOCK_BYTES: u64 = 4_000_000;

/// What was sent in this day, and what may be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Upload {
    /// Bytes; 0: as much as is asked for.
    limit: u64,
    since: Option<Time>,
    sent: u64,
}

impl Upload {
    /// Nothing was sent yet. A limit of 0 is none.
    pub const fn new(limit: u64) -> Self {
        Self { limit, since: None, sent: 0 }
    }

    /// So many bytes were sent.
    pub(super) fn record(&mut self, bytes: usize, now: Time) {
        // The day begins with the first byte.
        if bytes == 0 {
            return;
        }
        if self.since.is_none_or(|since| since + TIMEFRAME < now) {
            (self.since, self.sent) = (Some(now), 0);
        }
        self.sent = self.sent.saturating_add(bytes as u64);
    }

    /// The bytes that may be sent in a day; 0: as many as are asked for.
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// Whether all of it was sent.
    pub const fn is_reached(&self) -> bool {
        self.limit > 0 && self.sent >= self.limit
    }

    /// Whether what is left is for new blocks only.
    pub fn is_reached_for_history(&self, now: Time) -> bool {
        let reserve = self.time_left(now).as_secs() / BLOCK_INTERVAL * BLOCK_BYTES;
        self.limit > 0 && (reserve >= self.limit || self.sent >= self.limit - reserve)
    }

    /// Bytes that may still be sent; 0 without a limit.
    pub const fn bytes_left(&self) -> u64 {
        self.limit.saturating_sub(self.sent)
    }

    /// Until the day ends; zero without a limit.
    pub fn time_left(&self, now: Time) -> Duration {
        match self.since {
            _ if self.limit == 0 => Duration::ZERO,
            None => TIMEFRAME,
            // Clocks may be set back.
            Some(since) => ((since + TIMEFRAME) - now).min(TIMEFRAME),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn old_blocks_stop_before_new_ones_and_a_day_later_all_go_on() {
        let start = Time::from_secs(1_000_000);
        let mut upload = Upload::new(800 * MIB);
        upload.record(0, start + 30 * TIMEFRAME);
        assert!(!upload.is_reached_for_history(start) && upload.time_left(start) == TIMEFRAME);
        // 144 blocks of 4 MB are kept back.
        let history = 800 * MIB - 144 * BLOCK_BYTES;
        upload.record(usize::try_from(history).unwrap() - 1, start);
        assert!(!upload.is_reached_for_history(start));
        upload.record(1, start);
        assert!(upload.is_reached_for_history(start) && !upload.is_reached());
        // With each ten minutes one block less.
        assert!(!upload.is_reached_for_history(start + Duration::from_secs(1)));
        upload.record(usize::try_from(144 * BLOCK_BYTES).unwrap(), start);
        assert!(upload.is_reached() && upload.bytes_left() == 0);
        upload.record(1, start + TIMEFRAME + Duration::from_secs(1));
        assert!(!upload.is_reached() && upload.bytes_left() == 800 * MIB - 1);
    }

    #[test]
    fn no_limit_is_never_reached_and_a_small_one_is_for_new_blocks() {
        let now = Time::from_secs(5);
        let mut free = Upload::new(0);
        free.record(usize::MAX, now);
        assert!(!free.is_reached() && !free.is_reached_for_history(now) && free.time_left(now).is_zero());
        let small = Upload::new(MIB);
        assert!(!small.is_reached() && small.is_reached_for_history(now));
    }
}
