//! One machine and peers that the test plays: what they may do, and what they are sent away for.

use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::{GetHeadersMessage, Inventory};
use bitcoin::p2p::message_compact_blocks::SendCmpct;

use super::world::{Node, START, Solo, names, prove, reason, version};
use crate::sync::wire::{self, Message};
use crate::sync::{Action, Origin, PeerId};

const PEER: PeerId = PeerId(1);

#[test]
fn the_handshake_is_cores() {
    let mut solo = Solo::new(1);
    assert_eq!(names(&solo.connect(PEER, Origin::Inbound), PEER), [""; 0]);
    // Nothing counts before the version.
    assert!(solo.give(PEER, NetworkMessage::Ping(1)).is_empty());
    let answer = solo.give(PEER, version(70_016));
    assert_eq!(names(&answer, PEER), ["version", "wtxidrelay", "sendaddrv2", "verack"]);
    assert!(solo.give(PEER, NetworkMessage::WtxidRelay).is_empty());
    assert!(solo.give(PEER, NetworkMessage::Ping(1)).is_empty());
    let ready = solo.give(PEER, NetworkMessage::Verack);
    assert_eq!(names(&ready, PEER), ["sendcmpct", "ping", "getheaders", "feefilter"]);
    assert_eq!(names(&solo.give(PEER, NetworkMessage::Ping(7)), PEER), ["pong"]);
    // Whom we dial hears first, and is asked for addresses.
    let two = PeerId(2);
    assert_eq!(names(&solo.connect(two, Origin::Manual), two), ["version"]);
    let answer = solo.give(two, version(70_016));
    assert_eq!(names(&answer, two), ["wtxidrelay", "sendaddrv2", "verack", "getaddr"]);
}

#[test]
fn what_comes_at_the_wrong_time_ends_the_connection() {
    for message in [NetworkMessage::WtxidRelay, NetworkMessage::SendAddrV2] {
        let mut solo = Solo::new(2);
        solo.join(PEER, Origin::Inbound);
        assert!(reason(&solo.give(PEER, message), PEER).is_some());
    }
    let mut solo = Solo::new(3);
    solo.connect(PEER, Origin::Inbound);
    assert!(reason(&solo.give(PEER, version(31_000)), PEER).unwrap().contains("obsolete"));
    solo.connect(PeerId(2), Origin::Inbound);
    assert!(solo.wait(Duration::from_secs(59)).is_empty());
    assert!(reason(&solo.wait(Duration::from_secs(2)), PeerId(2)).unwrap().contains("handshake"));
}

#[test]
fn we_do_not_speak_with_ourselves() {
    let mut solo = Solo::new(4);
    let dialled = solo.connect(PEER, Origin::Manual);
    let Some(Action::Send(_, packet)) = dialled.first() else { panic!("{dialled:?}") };
    let Ok(message) = wire::decode("version", &packet.payload) else { panic!() };
    solo.connect(PeerId(2), Origin::Inbound);
    let answer = solo.with(|machine, node| machine.received(PeerId(2), message, node));
    assert!(reason(&answer, PeerId(2)).unwrap().contains("self"));
}

fn headers(node: &Node, count: u32) -> Vec<bitcoin::block::Header> {
    (1..=count).map(|height| node.chain.entry(node.chain.at_height(height).unwrap()).header).collect()
}

#[test]
fn misbehaviour_ends_the_connection() {
    let mut other = Node::new();
    for _ in 0..3 {
        other.mine();
    }
    let good = headers(&other, 3);
    let mut weak = good.clone();
    while crate::consensus::pow::check_proof_of_work(
        weak[0].block_hash(),
        weak[0].bits,
        crate::params::Network::Regtest.params(),
    ) {
        weak[0].nonce += 1;
    }
    let mut torn = good.clone();
    torn.swap(1, 2);
    let mut invalid = good[0];
    invalid.bits = bitcoin::CompactTarget::from_consensus(0x207e_ffff);
    prove(&mut invalid);
    let mut old = good[0];
    old.time = 1;
    prove(&mut old);
    let table: Vec<(NetworkMessage, &str)> = vec![
        (NetworkMessage::Headers(weak), "invalid proof of work"),
        (NetworkMessage::Headers(torn), "non-continuous"),
        (NetworkMessage::Headers(vec![invalid]), "invalid header"),
        (NetworkMessage::Headers(vec![old]), "invalid header"),
        (NetworkMessage::Headers(vec![good[0]; 2_001]), "headers message size"),
        (NetworkMessage::Inv(vec![Inventory::Error; 50_001]), "inv message size"),
        (NetworkMessage::GetData(vec![Inventory::Error; 50_001]), "getdata message size"),
        (NetworkMessage::MemPool, "mempool request"),
        (NetworkMessage::FilterClear, "bloom"),
        (
            NetworkMessage::GetHeaders(GetHeadersMessage::new(
                vec![BlockHash::all_zeros(); 102],
                BlockHash::all_zeros(),
            )),
            "locator",
        ),
    ];
    for (message, wanted) in table {
        let mut solo = Solo::new(5);
        solo.join(PEER, Origin::Inbound);
        let actions = solo.give(PEER, message);
        assert!(reason(&actions, PEER).is_some_and(|reason| reason.contains(wanted)), "{wanted}: {actions:?}");
        // Those that our user chose are only told apart where Core does so.
        let is_grave = actions.iter().any(|action| matches!(action, Action::Discourage(_)));
        let mut solo = Solo::new(6);
        solo.join(PEER, Origin::Manual);
        let message = match wanted {
            "headers message size" => NetworkMessage::Headers(vec![good[0]; 2_001]),
            _ => NetworkMessage::Inv(vec![Inventory::Error; 50_001]),
        };
        assert!(reason(&solo.give(PEER, message), PEER).is_none());
        assert_eq!(is_grave, !["mempool request", "bloom", "locator"].contains(&wanted), "{wanted}");
    }
}

#[test]
fn blocks_that_break_rules_end_the_connection_and_mutated_ones_leave_no_mark() {
    let mut other = Node::new();
    let hash = other.mine();
    use crate::sync::Host;
    let block = other.block(other.chain.tip()).unwrap().block().clone();
    let mut mutated = block.clone();
    mutated.txdata.push(mutated.txdata[0].clone());
    let mut solo = Solo::new(7);
    solo.join(PEER, Origin::Inbound);
    assert!(reason(&solo.give(PEER, NetworkMessage::Block(mutated)), PEER).unwrap().contains("mutated"));
    // Another one brings the true body.
    solo.join(PeerId(2), Origin::Inbound);
    assert_eq!(reason(&solo.give(PeerId(2), NetworkMessage::Block(block.clone())), PeerId(2)), None);
    assert_eq!(solo.node.tip(), hash);
    // A coinbase that takes too much.
    let mut greedy = other.template(other.chain.tip(), 0);
    greedy.txdata[0].output[0].value = bitcoin::Amount::from_sat(6_000_000_000);
    let leaves = greedy.txdata.iter().map(|tx| tx.compute_txid().to_byte_array()).collect();
    greedy.header.merkle_root =
        bitcoin::TxMerkleNode::from_byte_array(crate::consensus::merkle::merkle_root(leaves).root);
    prove(&mut greedy.header);
    assert!(reason(&solo.give(PeerId(2), NetworkMessage::Block(greedy)), PeerId(2)).unwrap().contains("invalid block"));
    assert_eq!(solo.node.tip(), hash);
}

#[test]
fn headers_are_always_answered() {
    let mut solo = Solo::new(8);
    solo.mine(5);
    solo.join(PEER, Origin::Inbound);
    let ask =
        |hashes: Vec<BlockHash>, stop: BlockHash| NetworkMessage::GetHeaders(GetHeadersMessage::new(hashes, stop));
    let count = |actions: &[Action]| {
        actions.iter().find_map(|action| match action {
            Action::Send(_, packet) if packet.command == "headers" => match wire::decode("headers", &packet.payload) {
                Ok(Message::Headers(headers)) => Some(headers.len()),
                _ => None,
            },
            _ => None,
        })
    };
    let at = |solo: &Solo, height: u32| solo.node.chain.entry(solo.node.chain.at_height(height).unwrap()).hash;
    let zero = BlockHash::all_zeros();
    let unknown = BlockHash::from_byte_array([7; 32]);
    let table = [
        (vec![at(&solo, 5)], zero, Some(0)),
        (vec![at(&solo, 2)], zero, Some(3)),
        (vec![unknown], zero, Some(5)),
        (vec![unknown, at(&solo, 1)], at(&solo, 3), Some(2)),
        (vec![], at(&solo, 4), Some(2)),
        (vec![], unknown, None),
    ];
    for (n, (hashes, stop, wanted)) in table.into_iter().enumerate() {
        let answer = solo.give(PEER, ask(hashes, stop));
        // A null locator asks for one header and what follows it up to the stop: itself.
        let wanted = if n == 4 { Some(1) } else { wanted };
        assert_eq!(count(&answer), wanted, "{n}");
    }
}

#[test]
fn blocks_are_announced_as_each_peer_wishes() {
    let mut solo = Solo::new(9);
    solo.mine(2);
    let (plain, by_header, by_compact) = (PeerId(1), PeerId(2), PeerId(3));
    for id in [plain, by_header, by_compact] {
        solo.join(id, Origin::Inbound);
        let tip = solo.node.chain.tip_entry().header;
        solo.give(id, NetworkMessage::Headers(vec![tip]));
    }
    solo.give(by_header, NetworkMessage::SendHeaders);
    solo.give(by_compact, NetworkMessage::SendHeaders);
    solo.give(by_compact, NetworkMessage::SendCmpct(SendCmpct { send_compact: true, version: 2 }));
    let actions = solo.mine(1);
    assert_eq!(names(&actions, plain), ["inv"]);
    assert_eq!(names(&actions, by_header), ["headers"]);
    assert_eq!(names(&actions, by_compact), ["cmpctblock"]);
    // Version 1 of compact blocks has no witnesses: it is not spoken.
    solo.give(plain, NetworkMessage::SendCmpct(SendCmpct { send_compact: true, version: 1 }));
    assert_eq!(names(&solo.mine(1), plain), ["inv"]);
}

#[test]
fn pings_are_sent_answered_and_missed() {
    let mut solo = Solo::new(10);
    solo.join(PEER, Origin::Inbound);
    assert!(solo.wait(Duration::from_secs(19 * 60)).iter().all(|action| !matches!(action, Action::Disconnect(..))));
    assert!(reason(&solo.wait(Duration::from_secs(2 * 60)), PEER).unwrap().contains("ping"));
    assert!(START < solo.now);
}

#[test]
fn filters_are_served_within_bounds() {
    use bitcoin::p2p::message_filter::{GetCFCheckpt, GetCFHeaders, GetCFilters};
    let mut solo = Solo::new(13);
    solo.mine(30);
    let tip = solo.node.tip();
    let unknown = BlockHash::from_byte_array([7; 32]);
    let filters = |start_height, stop_hash, filter_type| {
        NetworkMessage::GetCFilters(GetCFilters { filter_type, start_height, stop_hash })
    };
    solo.join(PEER, Origin::Inbound);
    assert_eq!(names(&solo.give(PEER, filters(21, tip, 0)), PEER), ["cfilter"; 10]);
    let headers = NetworkMessage::GetCFHeaders(GetCFHeaders { filter_type: 0, start_height: 0, stop_hash: tip });
    let answer = solo.give(PEER, headers);
    let Some(Action::Send(_, packet)) = answer.first() else { panic!("{answer:?}") };
    // Type, stop, the header before, and 31 hashes.
    assert_eq!((&*packet.command, packet.payload.len()), ("cfheaders", 1 + 32 + 32 + 1 + 31 * 32));
    let checkpoints = NetworkMessage::GetCFCheckpt(GetCFCheckpt { filter_type: 0, stop_hash: tip });
    assert_eq!(names(&solo.give(PEER, checkpoints), PEER), ["cfcheckpt"]);
    for bad in [filters(31, tip, 0), filters(0, unknown, 0), filters(0, tip, 1)] {
        let mut solo = Solo::new(13);
        solo.mine(30);
        solo.join(PEER, Origin::Inbound);
        assert!(reason(&solo.give(PEER, bad), PEER).is_some());
    }
}

#[test]
fn transactions_of_the_newest_block_are_served_by_either_name() {
    use crate::sync::Host;
    let mut solo = Solo::new(14);
    solo.mine(20);
    let coinbase = |solo: &Solo, height: u32| {
        let block = solo.node.block(solo.node.chain.at_height(height).unwrap()).unwrap();
        let transaction = block.transactions()[0].clone();
        [Inventory::WTx(transaction.compute_wtxid()), Inventory::WitnessTransaction(transaction.compute_txid())]
    };
    solo.join(PEER, Origin::Inbound);
    let newest = coinbase(&solo, 20);
    assert_eq!(names(&solo.give(PEER, NetworkMessage::GetData(newest.to_vec())), PEER), ["tx", "tx"]);
    let older = coinbase(&solo, 19);
    assert_eq!(names(&solo.give(PEER, NetworkMessage::GetData(older.to_vec())), PEER), ["notfound"]);
    solo.mine(1);
    assert_eq!(names(&solo.give(PEER, NetworkMessage::GetData(newest.to_vec())), PEER), ["notfound"]);
    // Pieces of what lies deep are not looked for: all of it comes.
    let block_hash = solo.node.chain.entry(solo.node.chain.at_height(2).unwrap()).hash;
    let txs_request = bitcoin::bip152::BlockTransactionsRequest { block_hash, indexes: vec![0] };
    let request = bitcoin::p2p::message_compact_blocks::GetBlockTxn { txs_request };
    assert_eq!(names(&solo.give(PEER, NetworkMessage::GetBlockTxn(request)), PEER), ["block"]);
}
