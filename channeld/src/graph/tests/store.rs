//! What comes out is what went in: messages byte for byte, the encoded graph, queries, and what is pruned when.

use std::sync::OnceLock;

use proptest::prelude::*;

use super::*;
use crate::graph::{Address, CacheError, Pruned};
use crate::units::NodeId;

/// Five channels between five nodes, with updates, descriptions, odd bits, a closed channel and a pruned one.
fn network() -> Graph {
    let mut graph = Graph::new(chain());
    for (number, nodes) in [(1, [0, 1]), (2, [1, 2]), (3, [2, 3]), (4, [0, 3]), (5, [0, 4])] {
        let mut announcement = channel(scid(100 * number, number), nodes);
        if number == 3 {
            announcement.features.set_bit(101);
            announcement.excess = vec![9; 30];
        }
        take(&mut graph, sign_channel(announcement, nodes)).expect("good");
        for end in 0..2_u8 {
            let mut update = update(scid(100 * number, number), end, NOW - number * 10 - u32::from(end));
            update.fee_base_msat = number;
            update.channel_flags |= if number == 4 { 2 } else { 0 };
            update.excess = if number == 2 { vec![7; 10] } else { Vec::new() };
            let signer = nodes[usize::from(end)];
            if number != 1 || end == 0 {
                take(&mut graph, sign_update(update, signer)).expect("good");
            }
        }
    }
    for number in [0, 2] {
        take(&mut graph, sign_node(description(number, NOW - u32::from(number)), number)).expect("good");
    }
    graph.funding_spent(scid(500, 5), height(600));
    graph.prune_closed(now(), height(671));
    graph.funding_spent(scid(400, 4), height(700));
    graph
}

#[test]
fn messages_come_out_as_they_went_in() {
    let mut graph = Graph::new(chain());
    let mut odd = channel(scid(100, 1), [0, 1]);
    odd.features.set_bit(77);
    odd.excess = vec![1, 2, 3];
    let announcement = sign_channel(odd, [0, 1]);
    let mut odd = update(scid(100, 1), 1, NOW);
    odd.excess = vec![4, 5];
    odd.message_flags = 0b1000_0101;
    odd.channel_flags = 0b0100_0011;
    let (odd, plain) = (sign_update(odd, 1), sign_update(update(scid(100, 1), 0, NOW), 0));
    let node = sign_node(description(1, NOW), 1);
    for message in [&announcement, &odd, &plain, &node] {
        take(&mut graph, message.clone()).expect("good");
    }
    let (view, channel) = (graph.view(), index(&graph, scid(100, 1)));
    assert_eq!(view.channel_announcement(channel).as_deref(), Some(announcement.as_bytes()));
    assert_eq!(view.channel_update(channel, Direction::FromNode1).as_deref(), Some(plain.as_bytes()));
    assert_eq!(view.channel_update(channel, Direction::FromNode2).as_deref(), Some(odd.as_bytes()));
    let node_index = view.node_index(&NodeId(id(1))).expect("there");
    assert_eq!(view.node_announcement(node_index).as_deref(), Some(node.as_bytes()));
    assert_eq!(view.node_announcement(view.node_index(&NodeId(id(0))).expect("there")), None);
}

#[test]
fn what_is_too_long_is_known_and_not_passed_on() {
    let mut graph = Graph::new(chain());
    let long = ChannelAnnouncement { excess: vec![0; 2_000], ..channel(scid(100, 1), [0, 1]) };
    take(&mut graph, sign_channel(long, [0, 1])).expect("good");
    let long = ChannelUpdate { excess: vec![0; 2_000], ..update(scid(100, 1), 0, NOW) };
    take(&mut graph, sign_update(long, 0)).expect("good");
    let again = Graph::decode(&graph.encode(), chain()).expect("it reads what it writes");
    for graph in [graph, again] {
        let channel = index(&graph, scid(100, 1));
        assert_eq!(graph.view().channel_announcement(channel), None);
        assert_eq!(graph.view().channel_update(channel, Direction::FromNode1), None);
        assert!(graph.view().policy(channel, Direction::FromNode1).is_some());
    }
}

#[test]
fn a_node_describes_itself() {
    let mut graph = two_nodes().0;
    let mut addresses = vec![1, 127, 0, 0, 1, 0x26, 0x07, 1, 127, 0, 0, 2, 0, 0];
    addresses.push(2);
    addresses.extend([0; 15]);
    addresses.extend([1, 0, 80]);
    addresses.push(3);
    addresses.extend([1; 12]);
    addresses.push(4);
    addresses.extend([2; 35]);
    addresses.extend([0, 81]);
    addresses.extend(b"\x05\x03abc\x00\x52");
    addresses.extend(b"\x05\x03def\x00\x53");
    addresses.extend([99, 1, 2, 3]);
    let mut alias = [0; 32];
    alias[..8].copy_from_slice(b"a\xff\x1bb\0c d");
    let description = NodeAnnouncement { addresses, alias, ..description(0, NOW) };
    take(&mut graph, sign_node(description, 0)).expect("good");
    let node = graph.view().node_index(&NodeId(id(0))).expect("there");
    let details = graph.view().node_details(node).expect("it has described itself");
    let expected = [
        Address::Ipv4 { address: [127, 0, 0, 1].into(), port: 9_735 },
        Address::Ipv6 { address: std::net::Ipv6Addr::LOCALHOST, port: 80 },
        Address::TorV3 { onion: [2; 35], port: 81 },
        Address::Dns { hostname: "abc".to_owned(), port: 82 },
    ];
    assert_eq!(details.addresses, expected, "no port 0, no Tor v2, one host name, nothing behind an unknown type");
    assert_eq!(details.alias_text(), "a\u{fffd}\u{fffd}b\u{fffd}c d");
    assert_eq!(details.rgb_color, [1, 2, 3]);
    assert_eq!(graph.view().node_announcement(node), None, "two host names: MUST not forward");
}

#[test]
fn checksums_are_those_of_bolt_7() {
    let mut graph = two_nodes().0;
    let update = sign_update(update(scid(100, 1), 1, NOW), 1);
    take(&mut graph, update.clone()).expect("good");
    let bytes = update.as_bytes();
    // Without type, signature and timestamp.
    let expected = crc32c::crc32c(&[&bytes[66..106], &bytes[110..]].concat());
    let channel = index(&graph, scid(100, 1));
    assert_eq!(graph.view().checksums(channel), [0, expected]);
    assert_eq!(graph.view().timestamps(channel), [0, NOW]);
}

#[test]
fn ranges_and_filters() {
    let graph = network();
    let view = graph.view();
    let blocks = |first, count| view.channels_in_blocks(first, count).map(|(scid, _)| scid.block()).collect::<Vec<_>>();
    assert_eq!(blocks(0, u32::MAX), [100, 200, 300, 400]);
    assert_eq!(blocks(200, 100), [200]);
    assert_eq!(blocks(200, 101), [200, 300]);
    assert_eq!(blocks(u32::MAX, u32::MAX), [0; 0]);
    assert_eq!(blocks(300, 0), [0; 0]);
    let updated = |first, range| {
        let channels = view.channels_updated(first, range);
        channels.filter_map(|channel| view.channel(channel)).map(|it| it.short_channel_id.block()).collect::<Vec<_>>()
    };
    assert_eq!(updated(0, u32::MAX), [100, 200, 300], "not the closed one");
    assert_eq!(updated(NOW - 21, 2), [200], "either end counts");
    assert_eq!(updated(NOW, u32::MAX), [0; 0]);
    assert_eq!(view.nodes_updated(NOW, 1).count(), 1);
    assert_eq!(view.nodes_updated(0, u32::MAX).count(), 2);
}

#[test]
fn a_closed_channel_stays_for_72_blocks() {
    let (mut graph, scid) = two_nodes();
    assert!(!graph.funding_spent(super::scid(9, 9), height(100)));
    graph.funding_spent(scid, height(200));
    assert_eq!(graph.prune_closed(now(), height(270)), Pruned::default());
    assert_eq!(graph.prune_closed(now(), height(271)), Pruned { closed: 1, stale: 0, nodes: 2 });
    assert_eq!((graph.view().channel_count(), graph.view().node_count()), (0, 0));
    // Closed is closed, whatever somebody says.
    assert!(!graph.wants(scid, Some([NOW, NOW]), now()));
    assert_eq!(take(&mut graph, signed_channel(scid, [0, 1])), Err(Refusal::RecentlyRemoved));
    // It is forgotten after two weeks.
    graph.prune(UnixTime::from_seconds(u64::from(NOW) + 15 * 86_400), height(300));
    assert!(graph.wants(scid, None, now()));
}

#[test]
fn a_channel_needs_fresh_updates_of_both_ends() {
    let (mut graph, scid) = two_nodes();
    let later = |days: u64| UnixTime::from_seconds(u64::from(NOW) + days * 86_400);
    take(&mut graph, sign_update(update(scid, 0, NOW), 0)).expect("good");
    take(&mut graph, sign_update(update(scid, 1, NOW + 86_000), 1)).expect("good");
    assert_eq!(graph.prune(later(14), height(200)), Pruned::default());
    assert_eq!(graph.prune(UnixTime::from_seconds(u64::from(NOW) + 14 * 86_400 + 1), height(200)).stale, 1);
    // Not asked for again, until somebody has a fresh update of each end.
    assert!(!graph.wants(scid, None, later(15)));
    assert!(!graph.wants(scid, Some([NOW, NOW + 15 * 86_400]), later(15)));
    assert_eq!(take(&mut graph, signed_channel(scid, [0, 1])), Err(Refusal::RecentlyRemoved));
    assert!(graph.wants(scid, Some([NOW + 2 * 86_400; 2]), later(15)));
    take(&mut graph, signed_channel(scid, [0, 1])).expect("it is alive again");
    assert!(!graph.wants(scid, None, later(15)), "it is there");
}

#[test]
fn an_end_that_said_nothing_has_two_weeks() {
    let (mut graph, _) = two_nodes();
    let at = |seconds: u64| UnixTime::from_seconds(u64::from(NOW) + seconds);
    assert_eq!(graph.prune(at(14 * 86_400), height(200)).stale, 0);
    assert_eq!(graph.prune(at(14 * 86_400 + 1), height(200)), Pruned { closed: 0, stale: 1, nodes: 2 });
}

#[test]
fn a_snapshot_stays_as_it_was() {
    let (mut graph, scid) = two_nodes();
    let before = graph.snapshot();
    take(&mut graph, sign_update(update(scid, 0, NOW), 0)).expect("good");
    let between = graph.snapshot();
    graph.funding_spent(scid, height(1));
    graph.prune_closed(now(), height(100));
    assert_eq!(before.channel_count(), 1);
    let channel = before.channel_index(scid).expect("there");
    assert_eq!(before.policy(channel, Direction::FromNode1), None);
    assert!(between.policy(channel, Direction::FromNode1).is_some());
    assert_eq!(graph.view().channel_index(scid), None);
}

#[test]
fn the_encoded_graph_is_the_graph() {
    let graph = network();
    let bytes = graph.encode();
    let mut again = Graph::decode(&bytes, chain()).expect("it reads what it writes");
    assert_eq!(again.encode(), bytes);
    let (one, other) = (graph.view(), again.view());
    assert_eq!(one.node_count(), other.node_count());
    for (scid, channel) in one.channels_in_blocks(0, u32::MAX) {
        let found = other.channel_index(scid).expect("there");
        assert_eq!(one.channel_announcement(channel), other.channel_announcement(found));
        assert_eq!(
            (one.timestamps(channel), one.checksums(channel)),
            (other.timestamps(found), other.checksums(found))
        );
        for end in ENDS {
            assert_eq!(one.channel_update(channel, end), other.channel_update(found, end));
            assert_eq!(one.policy(channel, end), other.policy(found, end));
            let source =
                |view: &crate::graph::Snapshot, at| view.edge(at, end).and_then(|edge| view.node_id(edge.source));
            assert_eq!(source(one, channel), source(other, found));
        }
    }
    assert_eq!(
        again.view().node_details(again.view().node_index(&NodeId(id(2))).expect("there")).map(|it| it.timestamp),
        Some(NOW - 2)
    );
    // What was closed stays away, what is spent goes in time, and it goes on as before.
    assert_eq!(take(&mut again, signed_channel(scid(500, 5), [0, 4])), Err(Refusal::RecentlyRemoved));
    assert_eq!(again.prune_closed(now(), height(771)).closed, 1);
    take(&mut again, sign_update(update(scid(100, 1), 1, NOW), 1)).expect("good");
    take(&mut again, signed_channel(scid(800, 1), [0, 9])).expect("good");
}

#[test]
fn bytes_that_are_no_graph() {
    let bytes = network().encode();
    let decode = |bytes: &[u8]| Graph::decode(bytes, chain()).err();
    assert!(matches!(decode(&[]), Some(CacheError::TooShort(_))));
    assert_eq!(decode(&[0; 100]), Some(CacheError::UnknownFormat));
    let bitcoin = ChainHash::using_genesis_block(Network::Bitcoin);
    assert_eq!(Graph::decode(&bytes, bitcoin).err(), Some(CacheError::OtherChain));
    assert_eq!(decode(&bytes[..bytes.len() - 1]), Some(CacheError::Checksum));
    let mut longer = bytes[..bytes.len() - 4].to_vec();
    longer.push(0);
    assert_eq!(decode(&sealed(longer)), Some(CacheError::TrailingBytes));
}

/// With a checksum that matches.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_be_bytes());
    bytes
}

fn encoded() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| network().encode())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    /// Whatever the bytes: an error or a graph, never a panic; and a graph that can be used.
    #[test]
    fn mutated_bytes_never_panic(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        cuts: bool,
    ) {
        let mut bytes = encoded().to_vec();
        bytes.truncate(bytes.len() - 4);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if cuts {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(mut graph) = Graph::decode(&sealed(bytes), chain()) {
            graph.encode();
            let view = graph.snapshot();
            for node in view.nodes() {
                view.edges_into(node);
                view.node_id(node);
                view.node_details(node);
            }
            for channel in view.channels() {
                view.channel_announcement(channel);
                view.channel_update(channel, Direction::FromNode1);
            }
            take(&mut graph, sign_update(update(scid(100, 1), 1, NOW), 1)).ok();
            graph.prune(now(), height(100_000));
        }
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error(kind in 256_u16..259, bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let message = [&kind.to_be_bytes()[..], &bytes].concat();
        if let Ok(announcement) = Announcement::from_bytes(message) {
            let graph = two_nodes().0;
            prop_assert!(verify(&graph, announcement).is_err());
        }
    }
}
