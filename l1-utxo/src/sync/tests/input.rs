//! Whatever comes over the wire: no panic, and nothing that grows without bound. `SYNC_CASES` sets how many cases are tried.

use std::time::Duration;

use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::p2p::message_compact_blocks::SendCmpct;
use proptest::prelude::*;

use super::world::{Node, Solo, spend, version};
use crate::sync::port::Packet;
use crate::sync::{Host, Origin, PeerId, wire};

const COMMANDS: &[&str] = &[
    "version",
    "verack",
    "wtxidrelay",
    "sendaddrv2",
    "sendtxrcncl",
    "feature",
    "sendheaders",
    "sendcmpct",
    "feefilter",
    "ping",
    "pong",
    "getaddr",
    "addr",
    "addrv2",
    "inv",
    "getdata",
    "notfound",
    "getblocks",
    "getheaders",
    "headers",
    "tx",
    "block",
    "cmpctblock",
    "getblocktxn",
    "blocktxn",
    "mempool",
    "filterload",
    "getcfilters",
    "nonsense",
];

fn cases(default: u32) -> ProptestConfig {
    let cases = std::env::var("SYNC_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(default);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Good messages to be spoiled.
fn samples() -> Vec<Packet> {
    let mut node = Node::new();
    for _ in 0..12 {
        node.mine();
    }
    let block = node.block(node.chain.tip()).unwrap().block().clone();
    let compact = bitcoin::bip152::HeaderAndShortIds::from_block(&block, 5, 2, &[]).unwrap();
    let transaction = spend(&[node.coin(1)], &[1_000, 2_000]);
    let headers = (1..=12).map(|height| node.chain.entry(node.chain.at_height(height).unwrap()).header).collect();
    let locator = vec![node.tip()];
    let stop = node.chain.entry(node.chain.at_height(0).unwrap()).hash;
    let wtx = Inventory::WTx(transaction.compute_wtxid());
    let request = bitcoin::bip152::BlockTransactionsRequest { block_hash: node.tip(), indexes: vec![0] };
    let answer = bitcoin::bip152::BlockTransactions { block_hash: node.tip(), transactions: block.txdata.clone() };
    let messages = vec![
        version(70_016),
        NetworkMessage::SendCmpct(SendCmpct { send_compact: true, version: 2 }),
        NetworkMessage::FeeFilter(1_000),
        NetworkMessage::Ping(7),
        NetworkMessage::Inv(vec![wtx, Inventory::Block(node.tip())]),
        NetworkMessage::GetData(vec![wtx, Inventory::WitnessBlock(stop), Inventory::CompactBlock(node.tip())]),
        NetworkMessage::NotFound(vec![wtx]),
        NetworkMessage::GetHeaders(bitcoin::p2p::message_blockdata::GetHeadersMessage::new(locator.clone(), stop)),
        NetworkMessage::GetBlocks(bitcoin::p2p::message_blockdata::GetBlocksMessage::new(locator, stop)),
        NetworkMessage::Headers(headers),
        NetworkMessage::Tx(transaction),
        NetworkMessage::Block(block),
        NetworkMessage::CmpctBlock(bitcoin::p2p::message_compact_blocks::CmpctBlock { compact_block: compact }),
        NetworkMessage::GetBlockTxn(bitcoin::p2p::message_compact_blocks::GetBlockTxn { txs_request: request }),
        NetworkMessage::BlockTxn(bitcoin::p2p::message_compact_blocks::BlockTxn { transactions: answer }),
        NetworkMessage::Addr(vec![(
            1_799_999_999,
            bitcoin::p2p::Address::new(&"8.8.4.4:18444".parse().unwrap(), bitcoin::p2p::ServiceFlags::NETWORK),
        )]),
    ];
    messages.into_iter().map(Packet::from).collect()
}

#[derive(Clone, Debug)]
enum Step {
    /// A good message, some of its bytes changed, then cut.
    Spoiled {
        sample: usize,
        flips: Vec<(usize, u8)>,
        keep: Option<usize>,
    },
    /// Bytes under a name.
    Random {
        command: usize,
        payload: Vec<u8>,
    },
    Wait(u64),
    Mine,
    Reconnect,
}

fn step() -> impl Strategy<Value = Step> {
    let flips = prop::collection::vec((any::<usize>(), any::<u8>()), 0..4);
    prop_oneof![
        8 => (any::<usize>(), flips, prop::option::weighted(0.2, any::<usize>()))
            .prop_map(|(sample, flips, keep)| Step::Spoiled { sample, flips, keep }),
        4 => (0..COMMANDS.len(), prop::collection::vec(any::<u8>(), 0..200))
            .prop_map(|(command, payload)| Step::Random { command, payload }),
        2 => (0..200_000u64).prop_map(Step::Wait),
        1 => Just(Step::Mine),
        1 => Just(Step::Reconnect),
    ]
}

fn apply(solo: &mut Solo, id: PeerId, command: &str, payload: &[u8]) {
    if let Ok(message) = wire::decode(command, payload) {
        solo.with(|machine, node| machine.received(id, message, node));
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn decoders_take_anything(command in 0..COMMANDS.len(), payload in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = wire::decode(COMMANDS[command], &payload);
    }
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn the_machine_takes_anything(steps in prop::collection::vec(step(), 1..120), is_inbound in any::<bool>()) {
        let samples = samples();
        let mut solo = Solo::new(12);
        let origin = if is_inbound { Origin::Inbound } else { Origin::Manual };
        let mut id = PeerId(1);
        solo.join(id, origin);
        for step in steps {
            match step {
                Step::Spoiled { sample, flips, keep } => {
                    let packet = &samples[sample % samples.len()];
                    let mut payload = packet.payload.clone();
                    for (place, value) in flips {
                        let length = payload.len().max(1);
                        if let Some(byte) = payload.get_mut(place % length) {
                            *byte ^= value;
                        }
                    }
                    let keep = keep.map_or(payload.len(), |keep| keep % (payload.len() + 1));
                    apply(&mut solo, id, &packet.command, &payload[..keep]);
                }
                Step::Random { command, payload } => apply(&mut solo, id, COMMANDS[command], &payload),
                Step::Wait(milliseconds) => drop(solo.wait(Duration::from_millis(milliseconds))),
                Step::Mine => drop(solo.mine(1)),
                Step::Reconnect => {
                    solo.with(|machine, _| machine.disconnected(id));
                    id = PeerId(id.0 + 1);
                    solo.join(id, origin);
                }
            }
        }
        prop_assert!(solo.machine.orphans() <= 3_000);
        solo.with(|machine, _| machine.disconnected(id));
        prop_assert!(!solo.machine.has_peers());
        prop_assert_eq!(solo.machine.orphans(), 0);
    }
}
