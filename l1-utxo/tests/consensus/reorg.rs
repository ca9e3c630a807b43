//! Which chain is best, what its failures mark, and that coins are the same after going there and back.

use bitcoin::OutPoint;
use l1_utxo::chain::{Acceptance, BlockId, ChainEvent, CoinsHash, Source};
use l1_utxo::consensus::{HashedBlock, HeaderError};
use l1_utxo::params::Network;

use super::rule::reason;
use super::world::{Draft, World, first_of, output, spend};

/// Mines `count` empty blocks on `parent`.
fn branch(world: &mut World, parent: BlockId, count: u32, salt: u32) -> Vec<BlockId> {
    let mut parent = parent;
    (0..count)
        .map(|_| {
            parent = world.submit(Draft::on(world, parent, salt).seal()).unwrap();
            parent
        })
        .collect()
}

/// Mines `count` blocks on `parent`, each of which spends what the one before made, a coinbase that has matured, and
/// makes one coin that stays.
fn busy_branch(world: &mut World, parent: BlockId, count: u32, salt: u32) -> Vec<BlockId> {
    let mut parent = parent;
    let mut last: Option<OutPoint> = None;
    (0..count)
        .map(|n| {
            let mut draft = Draft::on(world, parent, salt);
            let matured = draft.height - 100;
            let id = world.chain.index().ancestor(parent, matured).unwrap();
            let coinbase = world.chain.read_block(&world.archive, id).unwrap().txids()[0];
            let mut coins = vec![OutPoint { txid: coinbase, vout: 0 }];
            coins.extend(last);
            let mut transaction = spend(&coins, 1_000 + u64::from(n));
            transaction.output.push(output(vec![0x51; 1 + n as usize % 60], 2_000 + u64::from(salt)));
            transaction.output.push(output([0x6a], 0));
            let within = spend(&[first_of(&transaction)], 500 + u64::from(n));
            last = Some(first_of(&within));
            draft.push(transaction);
            draft.push(within);
            parent = world.submit(draft.seal()).unwrap();
            parent
        })
        .collect()
}

#[test]
fn hundreds_of_blocks_there_and_back_with_spends_across_the_fork() {
    let mut world = World::grown();
    let fork = world.chain.tip();
    let kinds = [CoinsHash::Serialized, CoinsHash::MuHash];
    let at_fork = kinds.map(|kind| world.coins(kind));
    let first = busy_branch(&mut world, fork, 400, 1);
    let on_first = kinds.map(|kind| world.coins(kind));
    assert_eq!(world.chain.tip(), first[399]);
    world.flush(0);
    // The other branch spends the same coinbases below the fork, and its own.
    let second = busy_branch(&mut world, fork, 401, 2);
    assert_eq!(world.chain.tip(), second[400]);
    let on_second = kinds.map(|kind| world.coins(kind));
    assert_ne!(on_first, on_second);
    world.flush(usize::MAX);

    for round in 0..2 {
        assert!(world.chain.invalidate(second[0]));
        let events = world.settle();
        assert_eq!((events.len(), world.chain.tip()), (801, first[399]));
        assert_eq!(kinds.map(|kind| world.coins(kind)), on_first, "round {round}");
        world.flush(if round == 0 { 0 } else { usize::MAX });
        world.chain.reconsider(second[0]);
        assert_eq!(world.settle().len(), 801);
        assert_eq!(kinds.map(|kind| world.coins(kind)), on_second, "round {round}");
    }
    // Down to the fork, and all the way to the genesis block.
    world.chain.invalidate(first[0]);
    world.chain.invalidate(second[0]);
    world.settle();
    assert_eq!(world.chain.tip(), fork);
    assert_eq!(kinds.map(|kind| world.coins(kind)), at_fork);
    let bottom = world.chain.at_height(1).unwrap();
    world.chain.invalidate(bottom);
    world.settle();
    assert_eq!((world.chain.height(), world.coins(CoinsHash::None).txouts), (0, 0));
    world.chain.reconsider(second[0]);
    world.settle();
    assert_eq!(kinds.map(|kind| world.coins(kind)), on_second);
    assert!(!world.chain.invalidate(world.chain.at_height(0).unwrap()), "the genesis block stays");
}

/// Equal work: the chain that was complete first stays, whichever header came first.
#[test]
fn the_first_complete_of_equal_chains_wins() {
    let mut world = World::grown();
    let fork = world.chain.tip();
    let (a, b) = (Draft::on(&world, fork, 1).seal(), Draft::on(&world, fork, 2).seal());
    world.chain.accept_header(&a.header, world.now, Source::Requested).unwrap();
    let b = world.submit(b).unwrap();
    let a = world.submit(a).unwrap();
    assert_eq!(world.chain.tip(), b);
    let over = world.submit(Draft::on(&world, a, 1).seal()).unwrap();
    assert_eq!(world.chain.tip(), over);
}

/// A block that fails when it is connected takes all that builds on it along; the next candidate follows in the same run.
#[test]
fn a_failure_on_the_way_marks_its_descendants_only() {
    let mut world = World::grown();
    let fork = world.chain.tip();
    let trunk = branch(&mut world, fork, 2, 0);
    let third = branch(&mut world, fork, 2, 3);
    let good = world.accept(&Draft::on(&world, fork, 1).seal()).unwrap();
    let mut draft = Draft::on(&world, good, 1);
    draft.coinbase().output[0].value += bitcoin::Amount::from_sat(1);
    let bad = world.accept(&draft.seal()).unwrap();
    let mut above = vec![bad];
    for _ in 0..4 {
        let parent = *above.last().unwrap();
        above.push(world.accept(&Draft::on(&world, parent, 1).seal()).unwrap());
    }
    let before = world.coins(CoinsHash::MuHash);
    let events = world.settle();
    let refused: Vec<BlockId> = events
        .iter()
        .filter_map(|event| match event {
            ChainEvent::Refused { id, .. } => Some(*id),
            _ => None,
        })
        .collect();
    assert_eq!(refused, [bad]);
    assert_eq!(world.chain.tip(), trunk[1]);
    assert_eq!(world.coins(CoinsHash::MuHash), before);
    assert!(above.iter().all(|id| world.chain.entry(*id).is_failed));
    assert!([good, third[1], trunk[1]].iter().all(|id| !world.chain.entry(*id).is_failed));
    // Headers on the marked branch are refused by name, siblings of the bad block are not.
    let late = Draft::on(&world, above[4], 5).seal();
    assert_eq!(reason(&mut world, &late), "bad-prevblk");
    let sibling = branch(&mut world, good, 2, 9);
    assert_eq!(world.chain.tip(), sibling[1]);
}

/// What nobody asked for must be worth the memory: headers 144 blocks behind in work, blocks far ahead or behind.
#[test]
fn unrequested_headers_and_blocks_have_limits() {
    let mut world = World::new(Network::Regtest.params());
    let genesis = world.chain.tip();
    branch(&mut world, genesis, 300, 0);
    // The tip has the work of 301 blocks; a header needs at least that of 157, which it has at height 156.
    for (parent, expected) in [(154, Err(HeaderError::TooLittleChainwork)), (155, Ok(()))] {
        let parent = world.chain.at_height(parent).unwrap();
        let header = Draft::on(&world, parent, 7).seal().header;
        let unrequested = world.chain.accept_header(&header, world.now, Source::Unrequested).map(|_| ());
        assert_eq!(unrequested, expected);
        assert!(world.chain.accept_header(&header, world.now, Source::Requested).is_ok());
    }
    let unrequested = |world: &mut World, block: bitcoin::Block| {
        let block = HashedBlock::new(block);
        world.chain.accept_block(&mut world.archive, &block, world.now, Source::Unrequested).unwrap()
    };
    let lower = Draft::on(&world, world.chain.at_height(298).unwrap(), 7).seal();
    assert!(matches!(unrequested(&mut world, lower), Acceptance::Ignored(_)));
    let equal = Draft::on(&world, world.chain.at_height(299).unwrap(), 7).seal();
    assert!(matches!(unrequested(&mut world, equal.clone()), Acceptance::New(_)));
    assert!(matches!(unrequested(&mut world, equal), Acceptance::Known(_)));
    // Headers ahead of the tip, and blocks for the 288th and the one after.
    let mut parent = world.chain.tip();
    let mut drafts = Vec::new();
    for _ in 0..289 {
        let block = Draft::on(&world, parent, 0).seal();
        parent = world.chain.accept_header(&block.header, world.now, Source::Requested).unwrap();
        drafts.push(block);
    }
    assert!(matches!(unrequested(&mut world, drafts[288].clone()), Acceptance::Ignored(_)));
    assert!(matches!(unrequested(&mut world, drafts[287].clone()), Acceptance::New(_)));
}
