//! Retargeting and BIP 94 on a network of short periods with devnet's rules and an easy target.

use bitcoin::CompactTarget;
use l1_utxo::params::{Network, Params};

use super::rule::reason;
use super::world::{Draft, World};

const SPACING: u32 = 10;
const PERIOD: u32 = 10;
/// One hash in 512, low enough that no product with a timespan overflows.
const LIMIT: u32 = 0x1f7f_ffff;

/// Devnet's rules, in periods of ten blocks.
fn params() -> &'static Params {
    let mut genesis = Network::Regtest.params().genesis.clone();
    genesis.header.bits = bits(LIMIT);
    let mut pow_limit = [0; 32];
    pow_limit[1..4].copy_from_slice(&[0x7f, 0xff, 0xff]);
    Box::leak(Box::new(Params {
        genesis_hash: genesis.block_hash(),
        genesis,
        pow_limit,
        pow_limit_bits: bits(LIMIT),
        pow_target_spacing: SPACING,
        pow_target_timespan: SPACING * PERIOD,
        max_timewarp: Some(SPACING),
        ..Network::Devnet.params().clone()
    }))
}

/// A chain up to before the first block of a period, its blocks so many seconds apart.
fn period(world: &mut World, spacing: u32) {
    loop {
        let mut draft = Draft::on_tip(world);
        draft.header.time = world.chain.tip_entry().header.time + spacing;
        world.submit(draft.seal()).unwrap();
        if (world.chain.height() + 1).is_multiple_of(PERIOD) {
            return;
        }
    }
}

fn bits(value: u32) -> CompactTarget {
    CompactTarget::from_consensus(value)
}

#[test]
fn the_target_follows_the_time_taken() {
    // Time is taken from the first block of a period to its last, nine intervals of ten, and bounded by a factor of four.
    for (spacing, expected) in [
        (SPACING * 2, LIMIT),
        (SPACING, 0x1f73_3332),
        (SPACING / 2, 0x1f39_9999),
        (SPACING / 10, 0x1f1f_ffff),
        (3, 0x1f22_8f5b),
        (2, 0x1f1f_ffff),
    ] {
        let mut world = World::new(params());
        period(&mut world, spacing);
        assert_eq!(world.chain.next_bits(), bits(expected), "{spacing}: {:?}", world.chain.next_bits());
        for wrong in [expected - 1, expected + 1] {
            let mut draft = Draft::on_tip(&world);
            draft.header.bits = bits(wrong);
            let refused = if wrong > LIMIT { "high-hash" } else { "bad-diffbits" };
            assert_eq!(reason(&mut world, &draft.seal()), refused, "{spacing}");
        }
        let right = Draft::on_tip(&world).seal();
        assert_eq!(reason(&mut world, &right), "", "{spacing}");
        // Within the period the target stays.
        let mut draft = Draft::on_tip(&world);
        assert_eq!(draft.header.bits, bits(expected));
        draft.header.bits = bits(expected - 1);
        assert_eq!(reason(&mut world, &draft.seal()), "bad-diffbits", "{spacing}");
    }
}

#[test]
fn more_work_beats_more_blocks() {
    let mut world = World::new(params());
    let genesis = world.chain.tip();
    // Quick blocks: from height 10 on each has four times the work.
    period(&mut world, 1);
    world.extend(2);
    let hard = world.chain.tip();
    assert_eq!(world.chain.height(), 11);
    // Slow ones from genesis: 14 blocks of the easiest kind have less work than 9 and two of four times that.
    let mut parent = genesis;
    for n in 0..18 {
        let mut draft = Draft::on(&world, parent, 1);
        draft.header.bits = bits(LIMIT);
        draft.header.time = world.chain.entry(parent).header.time + SPACING * 2;
        parent = world.submit(draft.seal()).unwrap();
        let wins = n + 1 > 9 + 2 * 4;
        assert_eq!(world.chain.tip() == parent, wins, "{}", n + 1);
        assert!(wins || world.chain.tip() == hard);
    }
}

/// BIP 94: the first block of a period is at most `max_timewarp` before its parent, any other may be further back.
#[test]
fn a_period_does_not_begin_long_before_its_parent() {
    for (back, expected) in [(SPACING + 1, "time-timewarp-attack"), (SPACING, "")] {
        let mut world = World::new(params());
        period(&mut world, SPACING);
        let parent = world.chain.tip_entry().header.time;
        let mut draft = Draft::on_tip(&world);
        draft.header.time = parent - back;
        assert!(draft.header.time > world.chain.tip_entry().median_time_past);
        assert_eq!(reason(&mut world, &draft.seal()), expected);
    }
    let mut world = World::new(params());
    period(&mut world, SPACING);
    world.submit(Draft::on_tip(&world).seal()).unwrap();
    let mut draft = Draft::on_tip(&world);
    draft.header.time = world.chain.tip_entry().header.time - 2 * SPACING;
    assert_eq!(reason(&mut world, &draft.seal()), "", "not the first of its period");
}

#[test]
fn blocks_may_be_a_minute_ahead() {
    let mut world = World::new(params());
    let draft = Draft::on_tip(&world);
    let block = draft.seal();
    world.now = u64::from(block.header.time) - 61;
    assert_eq!(reason(&mut world, &block), "time-too-new");
    world.now += 1;
    assert_eq!(reason(&mut world, &block), "");
}
