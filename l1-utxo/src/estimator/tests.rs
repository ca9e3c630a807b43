//! Blocks and transactions as Bitcoin Core's `policyestimator_tests.cpp` has them, and what a file may do.

use bitcoin::Txid;
use bitcoin::hashes::Hash;

use super::{Estimator, MalformedEstimates, Term};

/// The fee of the cheapest transactions, in satoshi, and their size in virtual bytes.
const BASE_FEE: u64 = 2_000;
const VSIZE: u64 = 61;

struct World {
    estimator: Estimator,
    height: u32,
    count: u64,
    /// Those that wait, by multiple of the base fee.
    waiting: [Vec<Txid>; 10],
}

fn feerate(multiple: u64) -> u64 {
    BASE_FEE * multiple * 1_000 / VSIZE
}

impl World {
    fn new() -> Self {
        Self { estimator: Estimator::new(), height: 0, count: 0, waiting: Default::default() }
    }

    /// Four transactions at each of ten feerates come.
    fn come(&mut self) {
        for multiple in 0..10 {
            for _ in 0..4 {
                self.count += 1;
                let txid = Txid::from_raw_hash(Hash::hash(&self.count.to_le_bytes()));
                self.estimator.came(txid, self.height, feerate(multiple + 1));
                self.waiting[multiple as usize].push(txid);
            }
        }
    }

    /// A block with all that wait at this multiple or above.
    fn mine(&mut self, from: usize) {
        for txid in self.waiting.iter_mut().skip(from).flat_map(|waiting| waiting.drain(..)) {
            self.estimator.confirmed(txid);
        }
        self.height += 1;
        self.estimator.block_connected(self.height);
    }

    fn median(&self, target: u32) -> Option<u64> {
        let raw = self.estimator.raw(Term::Medium, target, 0.95).unwrap();
        raw.median.map(|feerate| feerate.round() as u64)
    }

    /// After 200 blocks in which a transaction waits for as many blocks as its feerate is below the highest.
    fn with_history() -> Self {
        let mut world = Self::new();
        world.mine(0);
        for block in 0..200 {
            world.come();
            // The highest goes into every block, the next into every second, and so on.
            let from = (0..10).find(|from| block % (10 - from) == 0).unwrap_or(9);
            world.mine(from);
        }
        world
    }
}

#[test]
fn nothing_seen_is_nothing_said() {
    let mut world = World::new();
    let estimate = world.estimator.estimate(6, true);
    assert_eq!((estimate.feerate, estimate.target), (None, 0));
    // Neither do empty blocks tell anything, nor transactions that came before the first block.
    (0..20).for_each(|_| world.mine(0));
    assert_eq!(world.estimator.estimate(6, false).feerate, None);
    assert_eq!(world.estimator.raw(Term::Short, 13, 0.95), None);
    assert_eq!(world.estimator.raw(Term::Long, 1_008, 0.95).unwrap().median, None);
}

#[test]
fn who_waits_longer_may_pay_less() {
    let world = World::with_history();
    let medians: Vec<u64> = (1..=10).map(|target| world.median(target).unwrap()).collect();
    assert!(medians.windows(2).all(|pair| pair[0] >= pair[1]), "{medians:?}");
    // The highest alone go into every block; all are confirmed within ten.
    // This memory counts in steps of two blocks.
    assert!(medians[0] >= feerate(9) && medians[9] < feerate(2), "{medians:?}");
    let estimates: Vec<u64> = (1..=25).map(|target| world.estimator.estimate(target, false).feerate.unwrap()).collect();
    assert!(estimates.windows(2).all(|pair| pair[0] >= pair[1]), "{estimates:?}");
    assert_eq!(world.estimator.estimate(1, false).target, 2);
    assert_eq!(world.estimator.estimate(1_008, false).target, 99);
    let raw = world.estimator.raw(Term::Medium, 2, 0.95).unwrap();
    assert!(raw.pass.start < raw.pass.end && raw.fail.end <= raw.pass.start, "{raw:?}");
}

#[test]
fn what_is_never_confirmed_raises_estimates_at_once() {
    let mut world = World::with_history();
    let before = world.median(2).unwrap();
    for _ in 0..15 {
        world.come();
        world.mine(10);
    }
    assert!(world.median(2).is_none_or(|median| median >= before));
    // What goes unconfirmed counts as failed, as if it still waited.
    let waiting = world.estimator.raw(Term::Medium, 10, 0.5).unwrap();
    world.estimator.give_up_waiting();
    let left = world.estimator.raw(Term::Medium, 10, 0.5).unwrap();
    assert!(waiting.pass.waiting > 0.0 && left.pass.waiting == 0.0 && left.pass.left > 0.0, "{waiting:?} {left:?}");
}

#[test]
fn other_branches_and_strangers_teach_nothing() {
    let mut world = World::with_history();
    let before = world.estimator.to_bytes();
    let stranger = Txid::from_raw_hash(Hash::hash(b"stranger"));
    world.estimator.came(stranger, world.height - 1, 1_000);
    world.estimator.left(&stranger);
    world.estimator.block_connected(world.height);
    assert_eq!(world.estimator.to_bytes(), before);
}

#[test]
fn what_was_written_is_read_and_goes_on() {
    let mut world = World::with_history();
    world.estimator.give_up_waiting();
    let bytes = world.estimator.to_bytes();
    let mut read = Estimator::from_bytes(&bytes).unwrap();
    assert_eq!(read.to_bytes(), bytes);
    for target in [1, 2, 6, 25] {
        assert_eq!(read.estimate(target, true), world.estimator.estimate(target, true));
    }
    read.block_connected(world.height + 1);
    world.estimator.block_connected(world.height + 1);
    assert_eq!(read.estimate(6, false), world.estimator.estimate(6, false));
    // History counts as long as it is not too old.
    read.block_connected(world.height + 6 * 1_008 + 1);
    assert_eq!(read.estimate(6, false).feerate, None);
}

#[test]
fn bytes_that_are_no_memory_are_refused() {
    let bytes = World::with_history().estimator.to_bytes();
    let refused = |bytes: &[u8]| Estimator::from_bytes(bytes).err() == Some(MalformedEstimates);
    assert!((0..bytes.len()).step_by(101).all(|length| refused(&bytes[..length])));
    assert!(refused(&[&bytes[..], &[0]].concat()));
    let with = |at: usize, patch: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[at..at + patch.len()].copy_from_slice(patch);
        bytes
    };
    // Version, heights, a range, an average that is none.
    assert!(refused(&with(0, &[9])));
    assert!(refused(&with(8, &u32::MAX.to_le_bytes())));
    assert!(refused(&with(12, &u32::MAX.to_le_bytes())));
    assert!(refused(&with(24, &7f64.to_le_bytes())));
    let end = bytes.len() - 8;
    assert!([f64::NAN, f64::INFINITY, -1.0].iter().all(|value| refused(&with(end, &value.to_le_bytes()))));
}
