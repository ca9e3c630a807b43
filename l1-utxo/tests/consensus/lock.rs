//! Lock times, absolute (BIP 113) and relative (BIP 68), at each boundary. The header is marked.

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{OutPoint, Sequence};

use super::rule::{Edit, Left, Rule, reason};
use super::world::{Draft, HEIGHT, STEP, World, first_of, spend};

const fn rule(name: &'static str, break_it: Edit, keep_it: Edit) -> Rule {
    Rule { name, reason: "bad-txns-nonfinal", left: Left::Mark, break_it, keep_it }
}

const THRESHOLD: u32 = 500_000_000;
const TYPE_TIME: u32 = 1 << 22;
const DISABLE: u32 = 1 << 31;

pub const RULES: &[Rule] = &[
    rule(
        "a height is below the block's",
        |world, draft| absolute(world, draft, HEIGHT + 1, 0),
        |world, draft| absolute(world, draft, HEIGHT, 0),
    ),
    rule(
        "the last number that is a height",
        |world, draft| absolute(world, draft, THRESHOLD - 1, 0),
        |world, draft| absolute(world, draft, THRESHOLD, 0),
    ),
    rule(
        "a time is below the median of the parent, whatever the block's own",
        |world, draft| absolute_median(world, draft, 0),
        |world, draft| absolute_median(world, draft, 1),
    ),
    rule(
        "or all inputs are final",
        |world, draft| absolute(world, draft, u32::MAX, 0xffff_fffe),
        |world, draft| absolute(world, draft, u32::MAX, 0xffff_ffff),
    ),
    rule(
        "all of them",
        |world, draft| {
            absolute(world, draft, HEIGHT + 1, 0xffff_ffff);
            let other = world.give_anyone(1);
            let input = spend(&[other], 0).input.remove(0);
            draft.transactions[1].input.push(bitcoin::TxIn { sequence: Sequence(0xffff_fffe), ..input });
        },
        |world, draft| {
            absolute(world, draft, HEIGHT + 1, 0xffff_ffff);
            let other = world.give_anyone(1);
            draft.transactions[1].input.push(spend(&[other], 0).input.remove(0));
        },
    ),
    rule(
        "the coinbase too",
        |_, draft| {
            draft.coinbase().lock_time = LockTime::from_consensus(HEIGHT + 1);
            draft.coinbase().input[0].sequence = Sequence(0);
        },
        |_, draft| {
            draft.coinbase().lock_time = LockTime::from_consensus(HEIGHT);
            draft.coinbase().input[0].sequence = Sequence(0);
        },
    ),
    rule(
        "so many blocks after the coin's",
        |world, draft| relative(world, draft, 11, HEIGHT - 9),
        |world, draft| relative(world, draft, 11, HEIGHT - 10),
    ),
    rule(
        "none for a coin of the same block",
        |world, draft| same_block(world, draft, 1),
        |world, draft| same_block(world, draft, 0),
    ),
    rule(
        "so many times 512 seconds after the coin's block's parent",
        |world, draft| relative(world, draft, 11, TYPE_TIME | (HEIGHT - 9)),
        |world, draft| relative(world, draft, 11, TYPE_TIME | (HEIGHT - 10)),
    ),
    rule(
        "no time for a coin of the same block",
        |world, draft| same_block(world, draft, TYPE_TIME | 1),
        |world, draft| same_block(world, draft, TYPE_TIME),
    ),
    rule(
        "bit 31 switches it off",
        |world, draft| relative(world, draft, 11, 0x7fbf_ffff),
        |world, draft| relative(world, draft, 11, DISABLE | 0x7fbf_ffff),
    ),
    rule(
        "the bits between have no meaning",
        |world, draft| relative(world, draft, 11, 0x7fbf_0000 | (HEIGHT - 9)),
        |world, draft| relative(world, draft, 11, 0x7fbf_0000 | (HEIGHT - 10)),
    ),
    rule(
        "from version 2 on",
        |world, draft| relative(world, draft, 11, 0xffff),
        |world, draft| {
            relative(world, draft, 11, 0xffff);
            draft.transactions[1].version = Version(1);
        },
    ),
    rule(
        "a version has no sign",
        |world, draft| {
            relative(world, draft, 11, 0xffff);
            draft.transactions[1].version = Version(-1);
        },
        |world, draft| {
            relative(world, draft, 11, 0xffff);
            draft.transactions[1].version = Version(0);
        },
    ),
    rule(
        "every input counts",
        |world, draft| {
            relative(world, draft, 11, 1);
            let late = spend(&[world.coinbase_at(10)], 0).input.remove(0);
            draft.transactions[1].input.push(bitcoin::TxIn { sequence: Sequence(HEIGHT - 8), ..late });
        },
        |world, draft| {
            relative(world, draft, 11, 1);
            let late = spend(&[world.coinbase_at(10)], 0).input.remove(0);
            draft.transactions[1].input.push(bitcoin::TxIn { sequence: Sequence(HEIGHT - 9), ..late });
        },
    ),
];

fn absolute(world: &mut World, draft: &mut Draft, lock_time: u32, sequence: u32) {
    let coin = world.give_anyone(1);
    let transaction = draft.spend(&[coin], 0);
    // Version 1, lest the sequence be read as a relative lock.
    transaction.version = Version::ONE;
    transaction.lock_time = LockTime::from_consensus(lock_time);
    transaction.input[0].sequence = Sequence(sequence);
}

/// Locked until so many seconds before the parent's median time past.
fn absolute_median(world: &mut World, draft: &mut Draft, before: u32) {
    let median = world.chain.tip_entry().median_time_past;
    assert!(draft.header.time > median);
    absolute(world, draft, median - before, 0);
}

/// Spends the coinbase of a height with a sequence; the block is at `HEIGHT` + 1.
fn relative(world: &mut World, draft: &mut Draft, height: u32, sequence: u32) {
    let coin: OutPoint = world.coinbase_at(height);
    draft.spend(&[coin], 0).input[0].sequence = Sequence(sequence);
}

fn same_block(world: &mut World, draft: &mut Draft, sequence: u32) {
    let coin = world.give_anyone(1);
    let coin = first_of(draft.spend(&[coin], 1));
    draft.spend(&[coin], 0).input[0].sequence = Sequence(sequence);
}

/// The median times from the coin's parent to the block's parent differ by exactly the lock, then by one second less.
#[test]
fn a_time_lock_is_exact_to_the_second() {
    for (short, expected) in [(0, ""), (1, "bad-txns-nonfinal")] {
        let mut world = World::new(l1_utxo::params::Network::Regtest.params());
        world.extend(HEIGHT - 6);
        for n in 0..6 {
            let mut draft = Draft::on_tip(&world);
            // The block that is the median of the parent's eleven.
            draft.header.time -= if n == 0 { short } else { 0 };
            world.submit(draft.seal()).unwrap();
        }
        let (tip, coin_parent) = (world.chain.tip_entry(), world.chain.at_height(10).unwrap());
        let passed = tip.median_time_past - world.chain.entry(coin_parent).median_time_past;
        assert_eq!(passed, STEP * (HEIGHT - 10) - short);
        let mut draft = Draft::on_tip(&world);
        relative(&mut world, &mut draft, 11, TYPE_TIME | (HEIGHT - 10));
        assert_eq!(reason(&mut world, &draft.seal()), expected);
    }
}

/// The longest locks that can be written, and that they do not overflow.
#[test]
fn the_longest_locks() {
    use l1_utxo::consensus::locktime::SequenceLock;
    let mut transaction = spend(&[OutPoint::null()], 0);
    transaction.input[0].sequence = Sequence(0xffff);
    let lock = SequenceLock::of(&transaction, &[u32::MAX], |_| 0);
    assert_eq!(lock, SequenceLock { min_height: i64::from(u32::MAX) + 0xfffe, min_time: -1 });
    transaction.input[0].sequence = Sequence(TYPE_TIME | 0xffff);
    let lock = SequenceLock::of(&transaction, &[0], |height| {
        assert_eq!(height, 0, "the genesis block has no parent");
        u32::MAX
    });
    assert_eq!(lock, SequenceLock { min_height: -1, min_time: i64::from(u32::MAX) + (0xffff << 9) - 1 });
    assert!(!lock.is_passed(u32::MAX, u32::MAX));
}
