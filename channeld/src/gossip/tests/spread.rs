//! What one hears, all hear in the end.

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::constants::ChainHash;
use bitcoin::hashes::Hash;
use bitcoin::{
    Block, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, Witness,
    transaction,
};

use super::world::{START, World, all_features, announcement, found, node, outpoint, place, told, update};
use crate::gossip::file;
use crate::gossip::funding::Lookup;
use crate::gossip::machine::Settings;
use crate::units::BlockHeight;
use crate::wire::{
    Encoded, Features, GossipTimestampFilter, Message, QueryChannelRange, QueryFlag, QueryOption, QueryShortChannelIds,
};

fn everything() -> GossipTimestampFilter {
    GossipTimestampFilter { chain_hash: ChainHash::REGTEST, first_timestamp: 0, timestamp_range: u32::MAX }
}

/// A line of nodes: channel `n` is between `n` and `n + 1`.
fn network(world: &mut World, count: u32) -> Vec<Message> {
    (0..count)
        .flat_map(|at| {
            world.chain.insert(place(100 + at), found(at, at + 1, 100 + at, 6));
            told(at, at + 1, 100 + at)
        })
        .collect()
}

#[test]
fn three_in_a_line_converge() {
    let mut world = World::new(3);
    world.join(0, 1, &all_features());
    world.join(1, 2, &all_features());
    let source = world.attach(0, &Features::empty());
    let messages = network(&mut world, 30);
    world.say(0, source, messages);
    assert_eq!(world.known(0), (30, 60, 31));
    for _ in 0..4 {
        world.wait(1);
    }
    assert_eq!((world.known(1), world.known(2)), ((30, 60, 31), (30, 60, 31)));
    let newer = update(3, 4, 103, START, 77);
    world.say(0, source, vec![newer.into()]);
    world.wait(1);
    world.wait(1);
    let graph = world.machines[2].snapshot();
    let index = graph.channel_index(place(103)).unwrap();
    assert!(graph.timestamps(index).contains(&(START as u32)));
}

#[test]
fn who_comes_late_asks_for_all() {
    let mut world = World::new(2);
    let source = world.attach(0, &Features::empty());
    let messages = network(&mut world, 250);
    world.say(0, source, messages);
    assert_eq!(world.known(0), (250, 500, 251));
    assert!(!world.machines[1].status().is_synced);
    world.join(0, 1, &all_features());
    assert_eq!(world.known(1), (250, 500, 251));
    let status = world.machines[1].status();
    assert!(status.is_synced && status.left == 0 && status.reason().is_empty());
}

#[test]
fn a_peer_without_queries_is_not_asked() {
    let mut world = World::new(1);
    let session = world.attach(0, &Features::empty());
    let heard = world.take_heard(0, session);
    let [Message::GossipTimestampFilter(filter)] = heard.as_slice() else { panic!("{heard:?}") };
    assert_eq!((filter.first_timestamp, filter.timestamp_range), (u32::MAX, 0));
}

#[test]
fn only_some_peers_are_asked_and_silent_ones_replaced() {
    let mut world = World::new(1);
    let sessions: Vec<_> = (0..6).map(|_| world.attach(0, &all_features())).collect();
    let asks = |messages: &[Message]| messages.iter().any(|it| matches!(it, Message::QueryChannelRange(_)));
    let asked: Vec<bool> = sessions.iter().map(|session| asks(&world.take_heard(0, *session))).collect();
    assert_eq!(asked, [true, true, true, false, false, false]);
    world.wait(31);
    let first = world.take_heard(0, sessions[0]);
    let all = |it: &Message| matches!(it, Message::GossipTimestampFilter(filter) if filter.first_timestamp == 0);
    assert!(first.iter().any(all), "who answers nothing is to tell all it has: {first:?}");
    assert!(asks(&world.take_heard(0, sessions[3])));
}

#[test]
fn nothing_goes_back_to_where_it_came_from() {
    let mut world = World::new(1);
    let (source, other) = (world.attach(0, &Features::empty()), world.attach(0, &Features::empty()));
    let deaf = world.attach(0, &Features::empty());
    for session in [source, other] {
        world.say(0, session, vec![everything().into()]);
        world.take_heard(0, session);
    }
    world.take_heard(0, deaf);
    let messages = network(&mut world, 1);
    world.say(0, source, messages.clone());
    world.wait(1);
    assert_eq!(world.take_heard(0, source), []);
    assert_eq!(world.take_heard(0, deaf), [], "who set no filter hears nothing");
    let mut heard = world.take_heard(0, other);
    assert!(matches!(heard[0], Message::ChannelAnnouncement(_)), "the channel first");
    assert_eq!(heard.len(), 5);
    heard.retain(|message| !messages.contains(message));
    assert_eq!(heard, []);
}

#[test]
fn a_filter_is_obeyed() {
    let mut world = World::new(1);
    let (source, other) = (world.attach(0, &Features::empty()), world.attach(0, &Features::empty()));
    world.take_heard(0, other);
    let late = GossipTimestampFilter { first_timestamp: START as u32, ..everything() };
    world.say(0, other, vec![late.into()]);
    let messages = network(&mut world, 2);
    world.say(0, source, messages);
    world.wait(1);
    assert_eq!(world.take_heard(0, other), []);
    world.say(0, source, vec![update(0, 1, 100, START + 1, 5).into()]);
    world.wait(1);
    assert_eq!(world.take_heard(0, other).len(), 1);
    world.say(0, other, vec![everything().into()]);
    assert_eq!(world.take_heard(0, other).len(), 2 + 4 + 3, "a new filter brings what is there");
}

#[test]
fn our_own_leaves_at_once_to_all() {
    let mut world = World::new(1);
    let deaf = world.attach(0, &Features::empty());
    world.take_heard(0, deaf);
    world.chain.insert(place(100), found(0, 1, 100, 6));
    let now = world.now();
    let own: [Message; 3] = [announcement(0, 1, 100).into(), update(0, 1, 100, START, 1).into(), node(0, START).into()];
    own.iter().for_each(|message| world.machines[0].own(message, now));
    world.run();
    assert_eq!(world.take_heard(0, deaf), own);
}

#[test]
fn the_peers_update_may_come_before_our_announcement() {
    let mut world = World::new(1);
    let (peer, other) = (world.attach(0, &Features::empty()), world.attach(0, &Features::empty()));
    world.say(0, other, vec![everything().into()]);
    world.take_heard(0, other);
    world.chain.insert(place(100), found(0, 1, 100, 6));
    world.machines[0].expect([place(100)].into());
    world.say(0, peer, vec![update(1, 0, 100, START, 1).into()]);
    let now = world.now();
    world.machines[0].own(&announcement(0, 1, 100).into(), now);
    world.run();
    world.wait(1);
    let kinds: Vec<u16> = world.take_heard(0, other).iter().map(Message::message_type).collect();
    assert_eq!(kinds, [256, 258]);
}

#[test]
fn a_channel_is_not_told_before_an_update() {
    let mut world = World::new(1);
    let (source, other) = (world.attach(0, &Features::empty()), world.attach(0, &Features::empty()));
    world.say(0, other, vec![everything().into()]);
    world.take_heard(0, other);
    world.chain.insert(place(100), found(0, 1, 100, 6));
    world.say(0, source, vec![announcement(0, 1, 100).into()]);
    world.wait(1);
    assert_eq!(world.take_heard(0, other), []);
    world.say(0, source, vec![update(0, 1, 100, START, 1).into()]);
    world.wait(1);
    let kinds: Vec<u16> = world.take_heard(0, other).iter().map(Message::message_type).collect();
    assert_eq!(kinds, [256, 258]);
}

#[test]
fn what_is_not_deep_yet_waits_for_its_blocks() {
    let mut world = World::new(1);
    let source = world.attach(0, &Features::empty());
    world.chain.insert(place(100), found(0, 1, 100, 5));
    world.say(0, source, told(0, 1, 100));
    assert_eq!(world.known(0), (0, 0, 0));
    world.chain.insert(place(100), found(0, 1, 100, 6));
    let now = world.now();
    world.machines[0].block_connected(BlockHeight::new(105), &block(vec![]), now);
    world.run();
    assert_eq!(world.known(0), (1, 2, 2), "and what rests on it came with it");
}

#[test]
fn the_chain_may_be_away_for_a_while() {
    let mut world = World::new(1);
    let source = world.attach(0, &Features::empty());
    world.chain.insert(place(100), Lookup::Unavailable);
    world.say(0, source, told(0, 1, 100));
    world.chain.insert(place(100), found(0, 1, 100, 6));
    world.wait(31);
    assert_eq!(world.known(0), (1, 2, 2));
}

fn block(spends: Vec<OutPoint>) -> Block {
    let input = |previous_output| TxIn {
        previous_output,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: Witness::new(),
    };
    let transaction = Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: spends.into_iter().map(input).collect(),
        output: vec![],
    };
    let header = Header {
        version: Version::TWO,
        prev_blockhash: BlockHash::all_zeros(),
        merkle_root: TxMerkleNode::all_zeros(),
        time: 0,
        bits: CompactTarget::from_consensus(0),
        nonce: 0,
    };
    Block { header, txdata: vec![transaction] }
}

#[test]
fn a_closed_channel_is_forgotten_after_72_blocks() {
    let mut world = World::new(1);
    let source = world.attach(0, &Features::empty());
    let messages = network(&mut world, 2);
    world.say(0, source, messages);
    let now = world.now();
    let machine = &mut world.machines[0];
    machine.block_connected(BlockHeight::new(200), &block(vec![outpoint(100)]), now);
    let graph = machine.snapshot();
    let spent =
        |graph: &crate::graph::Snapshot| graph.channel(graph.channel_index(place(100)).unwrap()).unwrap().spent_at;
    assert_eq!(spent(&graph), Some(200));
    machine.block_disconnected(BlockHeight::new(200));
    assert_eq!(spent(&machine.snapshot()), None, "a reorganisation took the spend back");
    machine.block_connected(BlockHeight::new(200), &block(vec![outpoint(100)]), now);
    for height in 201..271 {
        machine.block_connected(BlockHeight::new(height), &block(vec![]), now);
    }
    assert_eq!(machine.snapshot().channel_count(), 2);
    machine.block_connected(BlockHeight::new(271), &block(vec![]), now);
    assert_eq!(machine.snapshot().channel_count(), 1);
    assert_eq!(machine.kept().1.count(), 1);
}

#[test]
fn ranges_and_ids_are_answered_with_times_and_checksums() {
    let mut world = World::new(1);
    let source = world.attach(0, &Features::empty());
    let messages = network(&mut world, 5);
    world.say(0, source, messages);
    let asker = world.attach(0, &all_features());
    world.take_heard(0, asker);
    let query = QueryChannelRange {
        chain_hash: ChainHash::REGTEST,
        first_blocknum: 101,
        number_of_blocks: 3,
        query_option: Some(QueryOption(3)),
    };
    world.say(0, asker, vec![query.clone().into()]);
    let heard = world.take_heard(0, asker);
    let [Message::ReplyChannelRange(reply)] = heard.as_slice() else { panic!("{heard:?}") };
    assert_eq!(reply.short_channel_ids.elements().unwrap(), [place(101), place(102), place(103)]);
    assert_eq!((reply.first_blocknum, reply.number_of_blocks, reply.sync_complete), (101, 3, 1));
    let sums = [update(1, 2, 101, START, 1).checksum(), update(2, 1, 101, START, 2).checksum()];
    let sum = reply.checksums.as_ref().unwrap()[0];
    assert!(sums.contains(&sum.node_1) && sums.contains(&sum.node_2));
    assert_eq!(reply.timestamps.as_ref().unwrap().elements().unwrap().len(), 3);

    let ids = QueryShortChannelIds {
        chain_hash: ChainHash::REGTEST,
        short_channel_ids: Encoded::Plain(vec![place(101), place(102), place(999)]),
        query_flags: Some(Encoded::Plain(vec![QueryFlag::ALL, QueryFlag(2), QueryFlag::ALL])),
    };
    world.say(0, asker, vec![ids.clone().into()]);
    let kinds: Vec<u16> = world.take_heard(0, asker).iter().map(Message::message_type).collect();
    assert_eq!(kinds, [256, 258, 258, 257, 257, 258, 262]);

    let elsewhere = QueryChannelRange { chain_hash: ChainHash::BITCOIN, ..query };
    let other = QueryShortChannelIds { chain_hash: ChainHash::BITCOIN, ..ids };
    world.say(0, asker, vec![elsewhere.into(), other.into()]);
    let heard = world.take_heard(0, asker);
    let [Message::ReplyChannelRange(reply), Message::ReplyShortChannelIdsEnd(end)] = heard.as_slice() else {
        panic!("{heard:?}")
    };
    assert_eq!((reply.short_channel_ids.elements().unwrap().len(), end.full_information), (0, 0));
}

#[test]
fn the_graph_is_kept_and_a_damaged_file_is_left() {
    let mut world = World::new(1);
    let source = world.attach(0, &Features::empty());
    let messages = network(&mut world, 10);
    world.say(0, source, messages);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("graph");
    file::save(&path, &world.machines[0], world.now()).unwrap();
    let settings = || Settings { chain_hash: ChainHash::REGTEST, flush_micros: 1 };
    let known = world.known(0);
    world.machines[0] = file::load(&path, settings());
    assert_eq!(world.known(0), known);
    assert_eq!(world.machines[0].kept().1.count(), 10, "their outputs are watched");
    let other = Settings { chain_hash: ChainHash::BITCOIN, flush_micros: 1 };
    assert_eq!(file::load(&path, other).snapshot().channel_count(), 0);
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(file::load(&path, settings()).snapshot().channel_count(), 0);
    std::fs::write(&path, b"").unwrap();
    assert_eq!(file::load(&path, settings()).snapshot().channel_count(), 0);
    assert_eq!(file::load(&folder.path().join("none"), settings()).snapshot().channel_count(), 0);
}
