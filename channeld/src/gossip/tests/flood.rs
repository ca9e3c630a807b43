//! What peers may do to us, and what they may not.

use bitcoin::constants::ChainHash;

use super::world::{START, World, all_features, announcement, found, node, place, told, update};
use crate::wire::{Encoded, Features, Message, QueryChannelRange, QueryFlag, QueryShortChannelIds, ReplyChannelRange};

fn attached() -> (World, crate::node::input::SessionNumber) {
    let mut world = World::new(1);
    let session = world.attach(0, &all_features());
    world.take_heard(0, session);
    (world, session)
}

fn warnings(messages: &[Message]) -> usize {
    messages.iter().filter(|message| matches!(message, Message::Warning(_))).count()
}

#[test]
fn a_wrong_announcement_is_warned_of_and_in_the_end_ignored() {
    let (mut world, session) = attached();
    let mut wrong = announcement(0, 1, 100);
    wrong.node_signature_1 = wrong.node_signature_2;
    world.say(0, session, vec![wrong.clone().into()]);
    assert_eq!(warnings(&world.take_heard(0, session)), 1);
    for block in 101..120 {
        let mut wrong = announcement(0, 1, block);
        wrong.bitcoin_signature_2 = wrong.node_signature_2;
        world.say(0, session, vec![wrong.into()]);
    }
    world.take_heard(0, session);
    world.chain.insert(place(200), found(0, 1, 200, 6));
    world.say(0, session, told(0, 1, 200));
    assert_eq!(world.known(0), (0, 0, 0), "none of its gossip is heard any more");
    assert!(world.closed.is_empty());
}

#[test]
fn an_update_signed_by_another_closes_the_connection() {
    let (mut world, session) = attached();
    world.chain.insert(place(100), found(0, 1, 100, 6));
    world.say(0, session, told(0, 1, 100));
    let mut forged = update(0, 1, 100, START + 5, 1);
    forged.fee_base_msat = 0;
    world.say(0, session, vec![forged.into()]);
    assert_eq!(warnings(&world.take_heard(0, session)), 1);
    assert_eq!(world.closed, [(0, session)]);
}

#[test]
fn announcements_without_output_are_counted() {
    let (mut world, session) = attached();
    let messages: Vec<Message> = (100..1_100).map(|block| announcement(0, 1, block).into()).collect();
    world.say(0, session, messages);
    assert_eq!(warnings(&world.take_heard(0, session)), 1, "after a thousand it is enough");
    world.chain.insert(place(3_000), found(0, 1, 3_000, 6));
    world.say(0, session, told(0, 1, 3_000));
    assert_eq!(world.known(0).0, 0);
}

#[test]
fn many_updates_of_one_end_are_too_many() {
    let (mut world, session) = attached();
    world.chain.insert(place(100), found(0, 1, 100, 6));
    world.say(0, session, told(0, 1, 100));
    let updates = (0..30).map(|at| update(0, 1, 100, START + at, at as u32).into()).collect();
    world.say(0, session, updates);
    let graph = world.machines[0].snapshot();
    let newest = graph.timestamps(graph.channel_index(place(100)).unwrap()).into_iter().max();
    assert_eq!(newest, Some(START as u32 + 8), "ten at once, the first one among them");
    world.wait(60);
    world.say(0, session, vec![update(0, 1, 100, START + 60, 1).into()]);
    let graph = world.machines[0].snapshot();
    let newest = graph.timestamps(graph.channel_index(place(100)).unwrap()).into_iter().max();
    assert_eq!(newest, Some(START as u32 + 60));
}

#[test]
fn overlong_messages_are_not_kept() {
    let (mut world, session) = attached();
    world.chain.insert(place(100), found(0, 1, 100, 6));
    world.say(0, session, told(0, 1, 100));
    let mut long = node(0, START + 1);
    long.excess = vec![7; 60_000];
    world.say(0, session, vec![long.into()]);
    let mut long = announcement(0, 1, 101);
    long.excess = vec![7; 60_000];
    world.say(0, session, vec![long.into()]);
    assert_eq!(world.known(0), (1, 2, 2));
    assert_eq!(world.machines[0].status().left, 0);
}

#[test]
fn what_waits_is_bounded() {
    let mut world = World::new(1);
    let session = world.attach(0, &Features::empty());
    world.is_chain_silent = true;
    let messages: Vec<Message> = (1..5_500).map(|block| announcement(0, 1, block).into()).collect();
    world.say(0, session, messages);
    assert_eq!(world.machines[0].status().left, 5_000);
}

#[test]
fn wrong_questions_are_warned_of() {
    let (mut world, session) = attached();
    let ids = |short_channel_ids, query_flags| QueryShortChannelIds {
        chain_hash: ChainHash::REGTEST,
        short_channel_ids,
        query_flags,
    };
    let zlib = ids(Encoded::Unknown { encoding: 1, bytes: vec![1, 2, 3] }, None);
    world.say(0, session, vec![zlib.into()]);
    assert_eq!(warnings(&world.take_heard(0, session)), 1);
    let uneven = ids(Encoded::Plain(vec![place(1), place(2)]), Some(Encoded::Plain(vec![QueryFlag::ALL])));
    world.say(0, session, vec![uneven.into()]);
    assert_eq!(warnings(&world.take_heard(0, session)), 1);
    let right = ids(Encoded::Plain(vec![place(1)]), None);
    world.say(0, session, vec![right.clone().into(), right.into()]);
    let heard = world.take_heard(0, session);
    assert_eq!((warnings(&heard), heard.len()), (1, 2), "the second came before the answer to the first");
    let range = QueryChannelRange {
        chain_hash: ChainHash::REGTEST,
        first_blocknum: 0,
        number_of_blocks: 1,
        query_option: None,
    };
    world.say(0, session, vec![range.clone().into(), range.into()]);
    let heard = world.take_heard(0, session);
    assert_eq!((warnings(&heard), heard.len()), (1, 2));
}

#[test]
fn a_wrong_answer_is_warned_of_and_nothing_more_is_asked() {
    let (mut world, session) = attached();
    let reply = ReplyChannelRange {
        chain_hash: ChainHash::REGTEST,
        first_blocknum: 0,
        number_of_blocks: u32::MAX,
        sync_complete: 1,
        short_channel_ids: Encoded::Unknown { encoding: 1, bytes: vec![] },
        timestamps: None,
        checksums: None,
    };
    world.say(0, session, vec![reply.into()]);
    let heard = world.take_heard(0, session);
    assert_eq!(warnings(&heard), 1);
    assert!(heard.iter().any(|it| matches!(it, Message::GossipTimestampFilter(filter) if filter.first_timestamp == 0)));
    world.wait(60);
    assert!(!world.take_heard(0, session).iter().any(|it| matches!(it, Message::QueryChannelRange(_))));
}

#[test]
fn an_update_of_an_unknown_channel_is_a_reason_to_ask() {
    let (mut world, session) = attached();
    let empty = ReplyChannelRange {
        chain_hash: ChainHash::REGTEST,
        first_blocknum: 0,
        number_of_blocks: u32::MAX,
        sync_complete: 1,
        short_channel_ids: Encoded::Plain(vec![]),
        timestamps: None,
        checksums: None,
    };
    world.say(0, session, vec![empty.into(), update(0, 1, 100, START, 1).into()]);
    world.wait(1);
    let heard = world.take_heard(0, session);
    let asked = heard.iter().find_map(|it| match it {
        Message::QueryShortChannelIds(query) => query.short_channel_ids.elements().map(<[_]>::to_vec),
        _ => None,
    });
    assert_eq!(asked, Some(vec![place(100)]));
}
