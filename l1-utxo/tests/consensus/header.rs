//! Rules of headers. None of them is remembered: the header is not stored.

use bitcoin::block::Version;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, CompactTarget};
use l1_utxo::chain::Source;
use l1_utxo::consensus::HeaderError;

use super::rule::{Rule, reason};
use super::world::{Draft, World};

pub const RULES: &[Rule] = &[
    Rule::unstored("the hash meets the target", "high-hash", |_, draft| draft.proof = false, |_, _| ()),
    Rule::unstored(
        "the target is not zero",
        "high-hash",
        |_, draft| draft.header.bits = CompactTarget::from_consensus(0x2000_0000),
        |_, _| (),
    ),
    Rule::unstored(
        "the target is not negative",
        "high-hash",
        |_, draft| draft.header.bits = CompactTarget::from_consensus(0x20ff_ffff),
        |_, _| (),
    ),
    Rule::unstored(
        "the target fits into 256 bits",
        "high-hash",
        |_, draft| draft.header.bits = CompactTarget::from_consensus(0x2200_0100),
        |_, _| (),
    ),
    Rule::unstored(
        "the target is not above the limit",
        "high-hash",
        |_, draft| draft.header.bits = CompactTarget::from_consensus(0x2100_8000),
        |_, _| (),
    ),
    Rule::unstored(
        "the parent is known",
        "prev-blk-not-found",
        |_, draft| draft.header.prev_blockhash = BlockHash::from_byte_array([1; 32]),
        |_, _| (),
    ),
    Rule::unstored("the parent is valid", "bad-prevblk", on_an_invalid_parent, |_, _| ()),
    Rule::unstored(
        "the bits are those that are asked for",
        "bad-diffbits",
        |_, draft| draft.header.bits = CompactTarget::from_consensus(0x207f_fffe),
        |_, _| (),
    ),
    Rule::unstored(
        "the time is above the median of the last eleven",
        "time-too-old",
        |world, draft| draft.header.time = world.chain.tip_entry().median_time_past,
        |world, draft| draft.header.time = world.chain.tip_entry().median_time_past + 1,
    ),
    Rule::unstored(
        "the time is at most two hours ahead",
        "time-too-new",
        |world, draft| world.now = u64::from(draft.header.time) - 7_201,
        |world, draft| world.now = u64::from(draft.header.time) - 7_200,
    ),
    Rule::unstored(
        "the version is at least 4",
        "bad-version(0x00000003)",
        |_, draft| draft.header.version = Version::from_consensus(3),
        |_, draft| draft.header.version = Version::from_consensus(4),
    ),
    Rule::unstored(
        "the version has a sign",
        "bad-version(0x80000000)",
        |_, draft| draft.header.version = Version::from_consensus(i32::MIN),
        |_, draft| draft.header.version = Version::from_consensus(i32::MAX),
    ),
];

fn on_an_invalid_parent(world: &mut World, draft: &mut Draft) {
    let parent = world.submit(Draft::on_tip(world).seal()).unwrap();
    assert!(world.chain.invalidate(parent));
    world.settle();
    *draft = Draft::on(world, parent, 0);
}

#[test]
fn what_is_too_new_is_taken_once_its_time_has_come() {
    let mut world = World::grown();
    let block = Draft::on_tip(&world).seal();
    let time = u64::from(block.header.time);
    world.now = time - 7_201;
    assert_eq!(reason(&mut world, &block), "time-too-new");
    world.now += 1;
    assert_eq!(reason(&mut world, &block), "");
}

#[test]
fn the_median_is_of_eleven_blocks_and_of_fewer_at_the_start() {
    let mut world = World::new(l1_utxo::params::Network::Regtest.params());
    let genesis = world.chain.tip_entry().header.time;
    // The median of one block is its time, of two the later one's.
    for (offset, expected) in [(0, "time-too-old"), (1, ""), (1, "time-too-old"), (2, ""), (1, "time-too-old")] {
        let mut draft = Draft::on_tip(&world);
        draft.header.time = genesis + offset;
        assert_eq!(reason(&mut world, &draft.seal()), expected, "{offset} at {}", draft.height);
    }
    let mut world = World::grown();
    let sixth = world.chain.entry(world.chain.at_height(super::world::HEIGHT - 5).unwrap()).header.time;
    assert_eq!(world.chain.tip_entry().median_time_past, sixth);
    let mut draft = Draft::on_tip(&world);
    draft.header.time = sixth + 1;
    assert_eq!(reason(&mut world, &draft.seal()), "", "far before its parent, but above the median");
}

#[test]
fn a_known_header_is_judged_by_its_mark_alone() {
    let mut world = World::grown();
    let mut draft = Draft::on_tip(&world);
    let header = draft.seal().header;
    let id = world.chain.accept_header(&header, world.now, Source::Requested).unwrap();
    // Too new by now, but known.
    assert_eq!(world.chain.accept_header(&header, 0, Source::Unrequested), Ok(id));
    world.chain.invalidate(id);
    assert_eq!(world.chain.accept_header(&header, world.now, Source::Requested), Err(HeaderError::DuplicateInvalid));
    draft.header.prev_blockhash = header.block_hash();
    let child = draft.seal().header;
    assert_eq!(world.chain.accept_header(&child, world.now, Source::Requested), Err(HeaderError::BadPrevBlock));
}
