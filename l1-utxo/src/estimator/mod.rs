//! What must be paid to be confirmed within so many blocks, from what was seen: how long transactions of which feerate
//! waited, and which never made it.
//!
//! Remembers at three horizons that forget at different speeds. It knows neither blocks nor the mempool: what came, went
//! and was confirmed is told to it, and estimates are asked for. It never looks at a clock or a file; its memory is handed
//! out and taken in as bytes, in the form of Bitcoin Core's `fee_estimates.dat`.
//! Bitcoin Core: `policy/fees/block_policy_estimator.cpp`.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod codec;
mod horizon;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bitcoin::Txid;

pub use codec::MalformedEstimates;
pub use horizon::{Range, RawEstimate};

use horizon::Horizon;

/// Blocks that estimates look ahead at most.
pub const MAX_TARGET: u32 = 1_008;
/// The upper end of the lowest range of feerates in sat/kvB, of the highest but one, and from one to the next.
const LOWEST: f64 = 100.0;
const HIGHEST: f64 = 1e7;
const SPACING: f64 = 1.05;
/// The upper end of the range of everything above.
const INFINITE: f64 = 1e99;
/// Blocks after which what an earlier run remembered says nothing any more.
const OLDEST_HISTORY: u32 = 6 * 1_008;
/// What share of transactions must have been confirmed within half the target, the target, and twice the target.
const HALF_SUCCESS: f64 = 0.6;
const SUCCESS: f64 = 0.85;
const DOUBLE_SUCCESS: f64 = 0.95;

/// One of the three memories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    /// Half is forgotten after 18 blocks.
    Short,
    /// After 144 blocks.
    Medium,
    /// After 1,008 blocks.
    Long,
}

impl Term {
    /// All of them, in the order of their lengths.
    pub const ALL: [Self; 3] = [Self::Short, Self::Medium, Self::Long];

    /// How RPC calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Medium => "medium",
            Self::Long => "long",
        }
    }
}

/// A transaction that waits.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    height: u32,
    range: usize,
    feerate: f64,
}

/// An estimate, and what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// In sat/kvB; `None` if too little was seen.
    pub feerate: Option<u64>,
    /// The target that it holds for: the one that was asked, or the longest that enough was seen for.
    pub target: u32,
}

/// What was seen of transactions that were confirmed, or were not.
#[derive(Clone, Debug)]
pub struct Estimator {
    /// Upper ends of the ranges of feerates.
    ranges: Vec<f64>,
    short: Horizon,
    medium: Horizon,
    long: Horizon,
    waiting: BTreeMap<Txid, Waiting>,
    /// Those that the block under way confirms.
    confirmed: Vec<Txid>,
    height: u32,
    /// The first block that confirmed one that had waited here; 0 for none.
    first_height: u32,
    /// First and last block of what an earlier run remembered.
    history: (u32, u32),
}

impl Default for Estimator {
    fn default() -> Self {
        Self::new()
    }
}

impl Estimator {
    /// One that has seen nothing.
    pub fn new() -> Self {
        let mut ranges: Vec<f64> =
            std::iter::successors(Some(LOWEST), |end| Some(end * SPACING)).take_while(|end| *end <= HIGHEST).collect();
        ranges.push(INFINITE);
        let count = ranges.len();
        Self {
            ranges,
            short: Horizon::new(count, 12, 0.962, 1),
            medium: Horizon::new(count, 24, 0.9952, 2),
            long: Horizon::new(count, 42, 0.999_31, 24),
            waiting: BTreeMap::new(),
            confirmed: Vec::new(),
            height: 0,
            first_height: 0,
            history: (0, 0),
        }
    }

    fn horizons(&mut self) -> [&mut Horizon; 3] {
        [&mut self.medium, &mut self.short, &mut self.long]
    }

    const fn horizon(&self, term: Term) -> &Horizon {
        match term {
            Term::Short => &self.short,
            Term::Medium => &self.medium,
            Term::Long => &self.long,
        }
    }

    /// A transaction came into the mempool when the chain had this height, paying so many sat/kvB.
    pub fn came(&mut self, txid: Txid, height: u32, feerate: u64) {
        // Out of step with the chain there is nothing to learn; the next block brings both together.
        if height != self.height || self.waiting.contains_key(&txid) {
            return;
        }
        let feerate = feerate as f64;
        let range = self.ranges.partition_point(|end| *end < feerate).min(self.ranges.len() - 1);
        self.waiting.insert(txid, Waiting { height, range, feerate });
        self.horizons().into_iter().for_each(|horizon| horizon.came(height, range));
    }

    /// A transaction went, and not into a block.
    pub fn left(&mut self, txid: &Txid) {
        if let Some(waiting) = self.waiting.remove(txid) {
            self.leave(waiting, false);
        }
    }

    fn leave(&mut self, waiting: Waiting, in_block: bool) {
        let blocks = if self.height == 0 { 0 } else { self.height.saturating_sub(waiting.height) };
        self.horizons().into_iter().for_each(|horizon| horizon.left(waiting.height, blocks, waiting.range, in_block));
    }

    /// The block that comes holds a transaction.
    pub fn confirmed(&mut self, txid: Txid) {
        self.confirmed.push(txid);
    }

    /// The block came whose transactions were told.
    pub fn block_connected(&mut self, height: u32) {
        let confirmed = std::mem::take(&mut self.confirmed);
        // Other branches do not matter: whoever makes them could do worse than to mislead estimates.
        if height <= self.height {
            confirmed.iter().for_each(|txid| self.left(txid));
            return;
        }
        self.height = height;
        let has_waiting = !self.waiting.is_empty();
        for horizon in self.horizons() {
            if has_waiting {
                horizon.age(height);
            }
            horizon.forget();
        }
        let mut counted = false;
        for waiting in confirmed.iter().filter_map(|txid| self.waiting.remove(txid)).collect::<Vec<_>>() {
            self.leave(waiting, true);
            let blocks = height.saturating_sub(waiting.height);
            if blocks > 0 {
                self.horizons().into_iter().for_each(|horizon| horizon.record(blocks, waiting.range, waiting.feerate));
                counted = true;
            }
        }
        if self.first_height == 0 && counted {
            self.first_height = height;
        }
    }

    /// Counts all that wait as never confirmed, before its memory is kept for the next run.
    pub fn give_up_waiting(&mut self) {
        for waiting in std::mem::take(&mut self.waiting).into_values() {
            self.leave(waiting, false);
        }
    }

    const fn span(&self) -> u32 {
        if self.first_height == 0 { 0 } else { self.height.saturating_sub(self.first_height) }
    }

    const fn historical_span(&self) -> u32 {
        let (first, last) = self.history;
        if first == 0 || self.height.wrapping_sub(last) > OLDEST_HISTORY { 0 } else { last.saturating_sub(first) }
    }

    /// The longest target that enough blocks were seen for.
    fn longest_target(&self) -> u32 {
        self.long.max_target().min(self.span().max(self.historical_span()) / 2)
    }

    /// What one memory says of a target (at least 1) if this share is to be confirmed; `None` where it does not look so far.
    pub fn raw(&self, term: Term, target: u32, success: f64) -> Option<RawEstimate> {
        let horizon = self.horizon(term);
        (target <= horizon.max_target()).then(|| self.look(term, target, success))
    }

    fn look(&self, term: Term, target: u32, success: f64) -> RawEstimate {
        // A memory that forgets fast has seen fewer blocks.
        let sufficient = if term == Term::Short { 0.5 } else { 0.1 };
        self.horizon(term).estimate(&self.ranges, target, sufficient, success, self.height)
    }

    fn median(&self, term: Term, target: u32, success: f64) -> Option<f64> {
        self.look(term, target, success).median
    }

    /// From the shortest memory that looks so far; with `shorter`, those that do not may lower it.
    fn combined(&self, target: u32, success: f64, shorter: bool) -> Option<f64> {
        let (short, medium) = (self.short.max_target(), self.medium.max_target());
        if target == 0 || target > self.long.max_target() {
            return None;
        }
        let term = match target {
            _ if target <= short => Term::Short,
            _ if target <= medium => Term::Medium,
            _ => Term::Long,
        };
        let mut estimate = self.median(term, target, success);
        for (term, most) in [(Term::Medium, medium), (Term::Short, short)] {
            if shorter && target > most {
                let other = self.median(term, most, success).filter(|other| *other > 0.0);
                estimate = match (estimate, other) {
                    (Some(one), Some(other)) => Some(one.min(other)),
                    (one, other) => one.or(other),
                };
            }
        }
        estimate
    }

    /// What longer memories say of twice the target.
    fn conservative(&self, double: u32) -> Option<f64> {
        let medium = (double <= self.short.max_target()).then(|| self.median(Term::Medium, double, DOUBLE_SUCCESS));
        let long = (double <= self.medium.max_target()).then(|| self.median(Term::Long, double, DOUBLE_SUCCESS));
        higher(medium.flatten(), long.flatten())
    }

    /// The feerate for confirmation within `target` blocks (1 to [`MAX_TARGET`]); a conservative one does not follow what
    /// fell just now.
    pub fn estimate(&self, target: u32, conservative: bool) -> Estimate {
        // Nothing is learnt of the very next block.
        let target = target.max(2).min(self.longest_target());
        if target <= 1 {
            return Estimate { feerate: None, target };
        }
        let half = self.combined(target / 2, HALF_SUCCESS, true);
        let whole = self.combined(target, SUCCESS, true);
        let double = self.combined(2 * target, DOUBLE_SUCCESS, !conservative);
        let mut found = higher(higher(half, whole), double);
        if conservative || found.is_none() {
            found = higher(found, self.conservative(2 * target));
        }
        let feerate = found.map(|feerate| feerate.round() as u64).filter(|feerate| *feerate > 0);
        Estimate { feerate, target }
    }
}

fn higher(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.max(other)),
        (one, other) => one.or(other),
    }
}
