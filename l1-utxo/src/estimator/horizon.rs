//! One memory of how long transactions waited: averages by range of feerates that fade with every block (Core:
//! `TxConfirmStats`).

/// A range of feerates with what was seen of it. Counts are averages, so they are no whole numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// Its lower end in sat/kvB; −1 if there is none.
    pub start: f64,
    /// Its upper end.
    pub end: f64,
    /// Transactions that were confirmed within the target.
    pub within_target: f64,
    /// Transactions that were confirmed at all.
    pub confirmed: f64,
    /// Transactions that wait for the target or longer.
    pub waiting: f64,
    /// Transactions that went unconfirmed after the target.
    pub left: f64,
}

impl Range {
    const NONE: Self = Self { start: -1.0, end: -1.0, within_target: 0.0, confirmed: 0.0, waiting: 0.0, left: 0.0 };
}

/// What one memory says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RawEstimate {
    /// The feerate in sat/kvB, if enough was seen.
    pub median: Option<f64>,
    /// The lowest ranges that were confirmed often enough.
    pub pass: Range,
    /// The highest that were not; its start is −1 if there are none.
    pub fail: Range,
    /// What is left of an average after a block.
    pub decay: f64,
    /// Blocks of one step.
    pub scale: u32,
}

/// What is remembered of one range.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    pub(super) count: f64,
    pub(super) feerates: f64,
    /// Confirmed within so many steps, the first for one.
    pub(super) confirmed: Vec<f64>,
    /// Gone unconfirmed after so many steps.
    pub(super) failed: Vec<f64>,
}

impl Memory {
    fn is_blank(&self) -> bool {
        self.count == 0.0 && self.failed.first().is_none_or(|failed| *failed == 0.0)
    }
}

/// All ranges, and what waits now.
#[derive(Clone, Debug)]
pub(super) struct Horizon {
    pub(super) decay: f64,
    pub(super) scale: u32,
    pub(super) ranges: Vec<Memory>,
    /// By the height at which they came, as a ring, and by range.
    waiting: Vec<Vec<u32>>,
    /// Those that wait longer than the ring is.
    older: Vec<u32>,
}

impl Horizon {
    pub(super) fn new(ranges: usize, steps: usize, decay: f64, scale: u32) -> Self {
        let memory = Memory { count: 0.0, feerates: 0.0, confirmed: vec![0.0; steps], failed: vec![0.0; steps] };
        Self {
            decay,
            scale,
            ranges: vec![memory; ranges],
            waiting: vec![vec![0; ranges]; steps * scale as usize],
            older: vec![0; ranges],
        }
    }

    /// The longest target that it looks at, in blocks.
    pub(super) fn max_target(&self) -> u32 {
        u32::try_from(self.waiting.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn steps(&self) -> usize {
        self.waiting.len() / self.scale as usize
    }

    fn place(&self, height: u32) -> usize {
        height as usize % self.waiting.len()
    }

    pub(super) fn came(&mut self, height: u32, range: usize) {
        let place = self.place(height);
        self.waiting[place][range] += 1;
    }

    /// A block came: its place in the ring is taken from those that came a whole turn before.
    pub(super) fn age(&mut self, height: u32) {
        let place = self.place(height);
        for (older, waiting) in self.older.iter_mut().zip(&mut self.waiting[place]) {
            *older += std::mem::take(waiting);
        }
    }

    /// A block came: averages fade.
    pub(super) fn forget(&mut self) {
        let decay = self.decay;
        for memory in self.ranges.iter_mut().filter(|memory| !memory.is_blank()) {
            memory.confirmed.iter_mut().chain(&mut memory.failed).for_each(|average| *average *= decay);
            memory.feerates *= decay;
            memory.count *= decay;
        }
    }

    /// One that came at `height`, `blocks` ago, went.
    pub(super) fn left(&mut self, height: u32, blocks: u32, range: usize, in_block: bool) {
        let place = self.place(height);
        let count = if blocks >= self.max_target() { &mut self.older[range] } else { &mut self.waiting[place][range] };
        *count = count.saturating_sub(1);
        // A failure is what was not confirmed for whole steps.
        if !in_block {
            let steps = (blocks / self.scale) as usize;
            self.ranges[range].failed.iter_mut().take(steps).for_each(|failed| *failed += 1.0);
        }
    }

    /// One was confirmed after so many blocks, at least one.
    pub(super) fn record(&mut self, blocks: u32, range: usize, feerate: f64) {
        let steps = blocks.div_ceil(self.scale) as usize;
        let memory = &mut self.ranges[range];
        memory.confirmed.iter_mut().skip(steps.saturating_sub(1)).for_each(|confirmed| *confirmed += 1.0);
        memory.count += 1.0;
        memory.feerates += feerate;
    }

    /// How many of a range wait for `target` blocks or longer.
    fn waiting_for(&self, target: u32, range: usize, height: u32) -> f64 {
        let ring =
            (target..self.max_target()).map(|blocks| self.waiting[self.place(height.wrapping_sub(blocks))][range]);
        f64::from(ring.sum::<u32>() + self.older[range])
    }

    /// Joins ranges from the highest down until enough was seen of each group, and finds the lowest group of which enough
    /// was confirmed within the target (Core: `EstimateMedianVal`).
    pub(super) fn estimate(
        &self,
        ends: &[f64],
        target: u32,
        sufficient: f64,
        success: f64,
        height: u32,
    ) -> RawEstimate {
        let step = (target.div_ceil(self.scale) as usize).saturating_sub(1).min(self.steps() - 1);
        let enough = sufficient / (1.0 - self.decay);
        let mut sum = Range::NONE;
        let (mut pass, mut fail) = (Range::NONE, Range::NONE);
        let mut best: Option<(usize, usize)> = None;
        // The upper range of the group under way, and what was seen in it since one was large enough.
        let (mut near, mut partial): (Option<usize>, f64) = (None, 0.0);
        let mut is_passing = true;
        let with_ends = |sum: Range, low: usize, high: usize| Range {
            start: if low == 0 { 0.0 } else { ends[low - 1] },
            end: ends[high],
            ..sum
        };
        for (at, memory) in self.ranges.iter().enumerate().rev() {
            let high = *near.get_or_insert(at);
            sum.within_target += memory.confirmed[step];
            partial += memory.count;
            sum.confirmed += memory.count;
            sum.left += memory.failed[step];
            sum.waiting += self.waiting_for(target, at, height);
            if partial < enough {
                continue;
            }
            partial = 0.0;
            let share = sum.within_target / (sum.confirmed + sum.left + sum.waiting);
            if share < success {
                if is_passing {
                    fail = with_ends(sum, at, high);
                    is_passing = false;
                }
                continue;
            }
            (fail, is_passing) = (Range::NONE, true);
            pass = with_ends(sum, at, high);
            best = Some((at, high));
            (sum, near) = (Range::NONE, None);
        }
        if let Some(high) = near.filter(|_| is_passing) {
            fail = with_ends(sum, 0, high);
        }
        let median = best.and_then(|(low, high)| self.median(low, high));
        // Without an answer the passing group has no ends.
        if median.is_none() {
            (pass.start, pass.end) = (-1.0, -1.0);
        }
        RawEstimate { median, pass, fail, decay: self.decay, scale: self.scale }
    }

    /// The mean feerate of the range with the median transaction.
    fn median(&self, low: usize, high: usize) -> Option<f64> {
        let group = &self.ranges[low..=high];
        let mut half = group.iter().map(|memory| memory.count).sum::<f64>() / 2.0;
        if half == 0.0 {
            return None;
        }
        for memory in group {
            if memory.count >= half {
                return Some(memory.feerates / memory.count);
            }
            half -= memory.count;
        }
        None
    }
}
