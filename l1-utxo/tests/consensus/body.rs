//! Rules of a body that need no context. They are checked before the header is stored, so nothing is ever marked.

use bitcoin::Block;
use bitcoin::absolute::LockTime;
use l1_utxo::chain::Source;
use l1_utxo::consensus::HashedBlock;
use l1_utxo::consensus::block::is_mutated as is_mutated_at;
use l1_utxo::params::Network;

use super::rule::{Rule, reason, root_of};
use super::world::{Draft, World, first_of, padding, spend};

pub const RULES: &[Rule] = &[
    Rule::unstored(
        "the root is that of the transactions",
        "bad-txnmrklroot",
        |_, draft| draft.right_root = false,
        |_, _| (),
    ),
    Rule::unstored(
        "no last transaction twice",
        "bad-txns-duplicate",
        |world, draft| chain_of(world, draft, 2, 1),
        |world, draft| chain_of(world, draft, 2, 0),
    ),
    Rule::unstored(
        "no last pair twice",
        "bad-txns-duplicate",
        |world, draft| chain_of(world, draft, 5, 2),
        |world, draft| chain_of(world, draft, 5, 0),
    ),
    Rule::unstored(
        "no last four twice",
        "bad-txns-duplicate",
        |world, draft| chain_of(world, draft, 11, 4),
        |world, draft| chain_of(world, draft, 11, 0),
    ),
    Rule::unstored("there is a transaction", "bad-blk-length", |_, draft| draft.transactions.clear(), |_, _| ()),
    Rule::unstored(
        "at most 1,000,000 bytes without witnesses",
        "bad-blk-length",
        |_, draft| draft.pad_stripped_to(1_000_001),
        |_, draft| draft.pad_stripped_to(1_000_000),
    ),
    Rule::unstored(
        "the first transaction is a coinbase",
        "bad-cb-missing",
        |world, draft| {
            let coin = world.give_anyone(1);
            draft.transactions[0] = spend(&[coin], 1);
        },
        |_, _| (),
    ),
    Rule::unstored(
        "a coinbase has the null outpoint's index",
        "bad-cb-missing",
        |_, draft| draft.coinbase().input[0].previous_output.vout = 0xffff_fffe,
        |_, draft| draft.coinbase().input[0].previous_output.vout = 0xffff_ffff,
    ),
    Rule::unstored(
        "a coinbase has one input",
        "bad-cb-missing",
        |_, draft| {
            let again = draft.coinbase().input[0].clone();
            draft.coinbase().input.push(again);
        },
        |_, _| (),
    ),
    Rule::unstored(
        "no other transaction is a coinbase",
        "bad-cb-multiple",
        |_, draft| {
            let mut second = draft.coinbase().clone();
            second.output[0].value = bitcoin::Amount::ZERO;
            draft.push(second);
        },
        |_, _| (),
    ),
];

fn is_mutated(block: &HashedBlock) -> bool {
    is_mutated_at(block, 1, Network::Regtest.params())
}

/// Appends a chain of spends, and the last `repeated` of them once more: the same root.
fn chain_of(world: &mut World, draft: &mut Draft, length: usize, repeated: usize) {
    let mut coin = world.give_anyone(1_000);
    for _ in 0..length {
        coin = first_of(draft.spend(&[coin], 1_000));
    }
    let from = draft.transactions.len() - repeated;
    let root = root_of(&Block { header: draft.header, txdata: draft.transactions.clone() });
    draft.transactions.extend_from_within(from..);
    assert_eq!(root_of(&Block { header: draft.header, txdata: draft.transactions.clone() }), root);
}

/// CVE-2012-2459: whoever repeats transactions must not get the miner's block refused for good.
#[test]
fn a_mutated_body_does_not_keep_its_block_out() {
    let mut world = World::grown();
    let mut draft = Draft::on_tip(&world);
    chain_of(&mut world, &mut draft, 5, 0);
    let good = draft.seal();
    let mut mutated = good.clone();
    mutated.txdata.extend_from_within(4..);
    assert_eq!(mutated.block_hash(), good.block_hash());
    assert!(is_mutated(&HashedBlock::new(mutated.clone())) && !is_mutated(&HashedBlock::new(good.clone())));
    assert_eq!(reason(&mut world, &mutated), "bad-txns-duplicate");
    // With the header known as well as without.
    let id = world.chain.accept_header(&good.header, world.now, Source::Unrequested).unwrap();
    assert_eq!(reason(&mut world, &mutated), "bad-txns-duplicate");
    assert!(!world.chain.entry(id).is_failed);
    assert_eq!(reason(&mut world, &good), "");
}

/// A refusal before the header's context is looked at marks nothing, though the header commits to that very body.
#[test]
fn a_known_header_is_not_marked_by_what_needs_no_context() {
    let mut world = World::grown();
    let mut draft = Draft::on_tip(&world);
    draft.spend(&[], 1);
    let block = draft.seal();
    let id = world.chain.accept_header(&block.header, world.now, Source::Requested).unwrap();
    assert_eq!(reason(&mut world, &block), "bad-txns-vin-empty");
    assert!(!world.chain.entry(id).is_failed && world.chain.entry(id).data.is_none());
}

/// A transaction of 64 bytes without witness can pass for two nodes of the merkle tree: it is lawful in a block, but a
/// body without coinbase that holds one is taken for a forgery.
#[test]
fn transactions_of_64_bytes() {
    let mut world = World::grown();
    for (size, suspect) in [(63, false), (64, true), (65, false)] {
        let mut draft = Draft::on_tip(&world);
        let coin = world.give_anyone(1);
        let mut small = spend(&[coin], 1);
        small.output = vec![padding(size - 60)];
        assert_eq!(small.base_size(), size);
        draft.push(small);
        let block = draft.seal();
        assert!(!is_mutated(&HashedBlock::new(block.clone())));
        let mut headless = block.clone();
        headless.txdata.remove(0);
        headless.header.merkle_root = root_of(&headless);
        assert_eq!(is_mutated(&HashedBlock::new(headless)), suspect, "{size}");
        assert_eq!(reason(&mut world, &block), "", "{size}");
    }
}

#[test]
fn what_is_mutated() {
    let mut world = World::grown();
    let mut draft = Draft::on_tip(&world);
    let coin = world.give(super::witness::ANY_WITNESS, 1);
    draft.spend(&[coin], 1).input[0].witness.push([1]);
    draft.commit();
    let good = draft.seal();
    let mutated = |edit: fn(&mut Block)| {
        let mut block = good.clone();
        edit(&mut block);
        is_mutated(&HashedBlock::new(block))
    };
    assert!(!mutated(|_| ()));
    assert!(mutated(|block| block.txdata[1].lock_time = LockTime::from_consensus(1)));
    assert!(mutated(|block| block.txdata[1].input[0].witness.push([1])));
    assert!(mutated(|block| block.txdata[0].input[0].witness.clear()));
    assert!(mutated(|block| block.txdata[0].input[0].witness.push([0; 32])));
    // A body that breaks rules, but is what the header's miner made.
    assert!(!mutated(|block| {
        block.txdata.truncate(1);
        block.txdata[0].output.truncate(1);
        block.txdata[0].input[0].witness.clear();
        block.header.merkle_root = root_of(block);
    }));
    // Without any transaction the root is zero.
    assert!(!mutated(|block| {
        block.txdata.clear();
        block.header.merkle_root = root_of(block);
    }));
}
