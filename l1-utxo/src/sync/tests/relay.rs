//! Transactions from peers that the test plays.

use std::time::Duration;

use bitcoin::Transaction;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::Inventory;

use super::world::{Solo, names, output, spend};
use crate::sync::wire::{self, Message};
use crate::sync::{Action, Origin, PeerId};

const ONE: PeerId = PeerId(1);
const TWO: PeerId = PeerId(2);

/// A node out of initial download with coins that can be spent, and two peers.
fn ready(origin: Origin) -> Solo {
    let mut solo = Solo::new(11);
    solo.mine(110);
    solo.join(ONE, origin);
    solo.join(TWO, Origin::Inbound);
    solo
}

fn announce(transaction: &Transaction) -> NetworkMessage {
    NetworkMessage::Inv(vec![Inventory::WTx(transaction.compute_wtxid())])
}

fn requests(actions: &[Action], to: PeerId) -> Vec<Inventory> {
    let items = |action: &Action| match action {
        Action::Send(id, packet) if *id == to && packet.command == "getdata" => {
            match wire::decode("getdata", &packet.payload) {
                Ok(Message::GetData(items)) => Some(items),
                _ => None,
            }
        }
        _ => None,
    };
    actions.iter().filter_map(items).flatten().collect()
}

#[test]
fn peers_that_we_dialled_are_asked_at_once_and_others_later() {
    for (origin, delay) in [(Origin::Automatic, 0), (Origin::Inbound, 2)] {
        let mut solo = ready(origin);
        let transaction = spend(&[solo.node.coin(1)], &[1_000_000]);
        let wanted = vec![Inventory::WTx(transaction.compute_wtxid())];
        let mut actions = solo.give(ONE, announce(&transaction));
        if delay > 0 {
            assert!(requests(&actions, ONE).is_empty());
            actions = solo.wait(Duration::from_secs(delay));
        }
        assert_eq!(requests(&actions, ONE), wanted);
        // The other one is asked when the first does not answer.
        solo.give(TWO, announce(&transaction));
        assert!(requests(&solo.wait(Duration::from_secs(30)), TWO).is_empty());
        assert_eq!(requests(&solo.wait(Duration::from_secs(31)), TWO), wanted);
        solo.give(TWO, NetworkMessage::Tx(transaction.clone()));
        assert!(solo.node.mempool.contains(&transaction.compute_txid()));
        // What is here is not asked for again.
        assert!(requests(&solo.give(ONE, announce(&transaction)), ONE).is_empty());
    }
}

#[test]
fn what_was_refused_is_not_asked_for_until_the_next_block() {
    let mut solo = ready(Origin::Automatic);
    let mut transaction = spend(&[solo.node.coin(1)], &[1_000_000]);
    transaction.version.0 = 77;
    solo.give(ONE, NetworkMessage::Tx(transaction.clone()));
    assert!(!solo.node.mempool.contains(&transaction.compute_txid()));
    assert!(requests(&solo.give(ONE, announce(&transaction)), ONE).is_empty());
    solo.mine(1);
    assert_eq!(requests(&solo.give(ONE, announce(&transaction)), ONE).len(), 1);
}

#[test]
fn orphans_wait_for_their_parents() {
    let mut solo = ready(Origin::Automatic);
    let parent = spend(&[solo.node.coin(1)], &[1_000_000]);
    let child = spend(&[output(&parent, 0)], &[900_000]);
    solo.give(ONE, NetworkMessage::Tx(child.clone()));
    assert_eq!(solo.machine.orphans(), 1);
    let actions = solo.wait(Duration::from_secs(2));
    assert_eq!(requests(&actions, ONE), [Inventory::WitnessTransaction(parent.compute_txid())]);
    solo.give(ONE, NetworkMessage::Tx(parent.clone()));
    solo.wait(Duration::from_millis(100));
    assert_eq!((solo.machine.orphans(), solo.node.mempool.len()), (0, 2));
    // Whoever brings the parent.
    let parent = spend(&[solo.node.coin(2)], &[1_000_000]);
    solo.give(TWO, NetworkMessage::Tx(spend(&[output(&parent, 0)], &[900_000])));
    solo.give(ONE, NetworkMessage::Tx(parent));
    assert_eq!((solo.machine.orphans(), solo.node.mempool.len()), (0, 4));
    // Who leaves takes his orphans with him.
    let grandchild = spend(&[output(&spend(&[output(&child, 0)], &[800_000]), 0)], &[700_000]);
    solo.give(ONE, NetworkMessage::Tx(grandchild));
    assert_eq!(solo.machine.orphans(), 1);
    solo.with(|machine, _| machine.disconnected(ONE));
    assert_eq!(solo.machine.orphans(), 0);
}

#[test]
fn an_orphan_whose_parents_are_orphans_waits_with_them() {
    let mut solo = ready(Origin::Automatic);
    let parent = spend(&[solo.node.coin(1)], &[1_000_000]);
    // Without witnesses, so that the names by which they are known are the same.
    let plain = |from: &Transaction, sat| {
        let mut transaction = spend(&[output(from, 0)], &[sat]);
        transaction.input[0].witness.clear();
        transaction
    };
    let child = plain(&parent, 900_000);
    let grandchild = plain(&child, 800_000);
    solo.give(ONE, NetworkMessage::Tx(child.clone()));
    solo.give(ONE, NetworkMessage::Tx(grandchild.clone()));
    assert_eq!(solo.machine.orphans(), 2);
    let listed = solo.machine.orphan_transactions();
    assert!(listed.iter().all(|orphan| orphan.announcers == [ONE]));
    let actions = solo.wait(Duration::from_secs(5));
    assert_eq!(requests(&actions, ONE), [Inventory::WitnessTransaction(parent.compute_txid())]);
}

#[test]
fn a_child_pays_for_its_parent() {
    let mut solo = ready(Origin::Automatic);
    let coin = solo.node.coin(1);
    let value = 5_000_000_000;
    let parent = spend(&[coin], &[value]);
    let child = spend(&[output(&parent, 0)], &[value - 100_000]);
    // The parent alone pays nothing.
    solo.give(ONE, NetworkMessage::Tx(parent.clone()));
    assert!(solo.node.mempool.is_empty());
    solo.give(ONE, NetworkMessage::Tx(child.clone()));
    assert_eq!(solo.machine.orphans(), 1);
    let actions = solo.wait(Duration::from_secs(2));
    assert_eq!(requests(&actions, ONE), [Inventory::WitnessTransaction(parent.compute_txid())]);
    solo.give(ONE, NetworkMessage::Tx(parent));
    assert_eq!((solo.machine.orphans(), solo.node.mempool.len()), (0, 2));
}

#[test]
fn announcements_trickle_and_obey_the_fee_filter() {
    let mut solo = ready(Origin::Automatic);
    solo.wait(Duration::from_secs(30));
    let cheap = spend(&[solo.node.coin(1)], &[4_999_999_800]);
    let dear = spend(&[solo.node.coin(2)], &[4_999_000_000]);
    solo.give(TWO, NetworkMessage::FeeFilter(10_000));
    for transaction in [&cheap, &dear] {
        solo.give(ONE, NetworkMessage::Tx(transaction.clone()));
    }
    assert_eq!(solo.node.mempool.len(), 2);
    // Who asks before it was told learns nothing.
    let ask = NetworkMessage::GetData(vec![Inventory::WTx(dear.compute_wtxid())]);
    assert_eq!(names(&solo.give(TWO, ask.clone()), TWO), ["notfound"]);
    let mut told = Vec::new();
    for _ in 0..600 {
        for action in solo.wait(Duration::from_millis(100)) {
            if let Action::Send(TWO, packet) = action
                && let Ok(Message::Inv(items)) = wire::decode(&packet.command, &packet.payload)
            {
                told.extend(items);
            }
        }
    }
    assert_eq!(told, [Inventory::WTx(dear.compute_wtxid())]);
    assert_eq!(names(&solo.give(TWO, ask), TWO), ["tx"]);
}

#[test]
fn announcements_of_one_peer_are_bounded() {
    use bitcoin::hashes::Hash;
    let mut solo = ready(Origin::Automatic);
    let wtxid = |n: u32| {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&n.to_le_bytes());
        Inventory::WTx(bitcoin::Wtxid::from_byte_array(bytes))
    };
    let actions = solo.give(ONE, NetworkMessage::Inv((0..50_000).map(wtxid).collect()));
    assert_eq!(requests(&actions, ONE).len(), 5_000);
    // All of them are waited for, so nothing more is noted.
    assert!(requests(&solo.give(ONE, NetworkMessage::Inv((50_000..60_000).map(wtxid).collect())), ONE).is_empty());
    let missing: Vec<Inventory> = (0..5_000).map(wtxid).collect();
    solo.give(ONE, NetworkMessage::NotFound(missing));
    assert_eq!(requests(&solo.give(ONE, NetworkMessage::Inv(vec![wtxid(70_000)])), ONE).len(), 1);
}

#[test]
fn the_last_dialled_peer_keeps_its_place_for_compact_blocks() {
    use bitcoin::p2p::message_compact_blocks::SendCmpct;

    use super::world::Node;
    use crate::sync::Host;

    let mut other = Node::new();
    let mut solo = Solo::new(12);
    let provides = NetworkMessage::SendCmpct(SendCmpct { send_compact: false, version: 2 });
    let origins = [Origin::Automatic, Origin::Inbound, Origin::Inbound, Origin::Inbound, Origin::Inbound];
    for (n, origin) in origins.into_iter().enumerate() {
        let id = PeerId(n as u64 + 1);
        solo.join(id, origin);
        solo.give(id, provides.clone());
        // Each brings a block.
        other.mine();
        let block = other.block(other.chain.tip()).unwrap().block().clone();
        solo.give(id, NetworkMessage::Block(block));
    }
    let chosen: Vec<u64> = solo.machine.peers().filter(|peer| peer.high_bandwidth_to).map(|peer| peer.id.0).collect();
    assert_eq!(chosen, [1, 4, 5]);
}
