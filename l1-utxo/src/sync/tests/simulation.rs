//! Networks of several machines: they find one chain and one mempool, whatever the delays and wherever the wire was cut.

use std::time::Duration;

use super::world::{World, output, spend};

const LONG: Duration = Duration::from_secs(20);

/// Nodes in a line, the first with so many blocks.
fn line(count: usize, blocks: usize, seed: u8) -> World {
    let mut world = World::new(count, seed);
    world.mine(0, blocks);
    for index in 1..count {
        world.connect(index, index - 1);
    }
    world
}

#[test]
fn headers_come_in_several_messages_and_blocks_within_the_window() {
    let mut world = line(3, 2_300, 1);
    world.until("one tip", World::have_one_tip);
    assert!(world.closed.is_empty(), "{:?}", world.closed);
    let most = world.sent["getdata"];
    assert!(most >= 2 * 2_300 / 16, "{most}");
    // Nobody is asked twice for the same block.
    assert_eq!(world.sent["block"], 2 * 2_300);
}

#[test]
fn new_blocks_reach_everybody_in_compact_form() {
    let mut world = line(3, 120, 2);
    world.until("one tip", World::have_one_tip);
    for _ in 0..4 {
        world.mine(0, 1);
        world.until("one tip", World::have_one_tip);
    }
    world.sent.clear();
    let coin = world.node(0).coin(1);
    world.submit(0, spend(&[coin], &[1_000_000; 40]));
    world.until("one mempool", World::have_one_mempool);
    world.mine(0, 1);
    world.until("one tip", World::have_one_tip);
    assert!(world.members[2].node.mempool.is_empty());
    assert!(world.sent["cmpctblock"] >= 2, "{:?}", world.sent);
    assert_eq!((world.sent.get("block"), world.sent.get("getblocktxn")), (None, None), "{:?}", world.sent);
    // And one that nobody else has a transaction of.
    let coin = world.node(2).coin(2);
    let missing = spend(&[coin], &[1_000_000; 2]);
    world.swallowed = Some((2, "tx"));
    world.submit(2, missing);
    world.mine(2, 1);
    world.until("one tip", World::have_one_tip);
    assert!(world.sent["getblocktxn"] >= 1 && world.sent["blocktxn"] >= 1, "{:?}", world.sent);
}

#[test]
fn a_partition_heals_onto_the_most_work_and_no_transaction_is_lost() {
    for seed in 0..4 {
        let mut world = line(3, 130, 10 + seed);
        world.until("one tip", World::have_one_tip);
        world.mine(0, 1);
        world.until("one tip", World::have_one_tip);
        world.cut(0, 1);
        let coins: Vec<_> = (1..=10).map(|height| world.node(0).coin(height)).collect();
        let mut txids = Vec::new();
        for (n, coin) in coins.into_iter().enumerate() {
            // On both sides, some mined there, some not.
            let side = if n % 2 == 0 { 0 } else { 2 };
            txids.push(world.submit(side, spend(&[coin], &[2_000_000, 2_000_000])));
            if n < 6 {
                world.mine(side, 5);
                world.run(Duration::from_secs(1));
            }
        }
        world.mine(2, 20);
        world.run(LONG);
        world.connect(1, 0);
        world.until("one tip", World::have_one_tip);
        world.mine(1, 1);
        world.until("one tip", World::have_one_tip);
        world.until("no lost transaction", |world| {
            txids.iter().all(|txid| world.members.iter().all(|member| holds(member, txid)))
        });
        world.until("one mempool", World::have_one_mempool);
        assert!(world.closed.is_empty(), "{:?}", world.closed);
    }
}

/// In the mempool or in the chain.
fn holds(member: &super::world::Member, txid: &bitcoin::Txid) -> bool {
    use crate::sync::Host;
    let node = &member.node;
    if node.mempool.contains(txid) {
        return true;
    }
    (0..=node.chain.height()).rev().take(80).any(|height| {
        let id = node.chain.at_height(height).unwrap();
        node.block(id).unwrap().txids().contains(txid)
    })
}

#[test]
fn children_and_parents_find_each_other_over_the_network() {
    let mut world = line(3, 130, 30);
    world.until("one tip", World::have_one_tip);
    world.mine(0, 1);
    world.until("one tip", World::have_one_tip);
    world.run(LONG);
    let coin = world.node(0).coin(1);
    let parent = spend(&[coin], &[2_000_000, 2_000_000]);
    let child = spend(&[output(&parent, 0)], &[1_000_000]);
    let grandchild = spend(&[output(&child, 0), output(&parent, 1)], &[2_000_000]);
    for transaction in [parent, child, grandchild] {
        world.submit(0, transaction);
    }
    world.until("one mempool", World::have_one_mempool);
    assert_eq!(world.node(2).txids().len(), 3);
    assert!(world.members.iter().all(|member| member.machine.orphans() == 0));
}

#[test]
fn a_peer_that_holds_up_the_download_is_replaced() {
    let mut world = World::new(3, 40);
    world.mine(0, 1_200);
    world.connect(1, 0);
    world.until("one tip", |world| world.members[1].node.tip() == world.members[0].node.tip());
    // The first one to be asked answers with headers, never with blocks.
    world.swallowed = Some((0, "block"));
    world.connect(2, 0);
    world.run(Duration::from_secs(5));
    world.connect(2, 1);
    world.until("one tip", World::have_one_tip);
    let reasons: Vec<String> = world.closed.iter().map(|(_, _, reason)| reason.to_string()).collect();
    assert_eq!(reasons, ["the peer is stalling block download"]);
}

#[test]
fn a_long_branch_of_little_work_costs_nothing_until_it_has_enough() {
    let mut world = World::new(2, 50);
    world.mine(0, 2_600);
    // Another time makes other blocks.
    world.now = world.now + Duration::from_secs(3_600);
    world.mine(1, 2_500);
    let before = world.members[1].node.chain.index().len();
    world.connect(1, 0);
    world.until("one tip", World::have_one_tip);
    assert_eq!(world.members[1].node.chain.index().len(), before + 2_600);
    assert_eq!(world.members[1].node.chain.height(), 2_600);
    // Both messages of headers came twice.
    assert!(world.sent["headers"] >= 4, "{:?}", world.sent);
    // A branch that ends too soon is never kept.
    let mut world = World::new(2, 51);
    world.mine(0, 2_100);
    world.now = world.now + Duration::from_secs(3_600);
    world.mine(1, 2_600);
    let before = world.members[1].node.chain.index().len();
    world.connect(1, 0);
    world.until("one tip", World::have_one_tip);
    assert_eq!(world.members[1].node.chain.index().len(), before);
    assert_eq!(world.members[0].node.chain.height(), 2_600);
}
