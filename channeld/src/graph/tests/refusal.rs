//! One test for each rule of BOLT 7 that refuses an announcement.

use super::*;
use crate::graph::Reaction;
use crate::wire::DecodeError;

#[test]
fn what_cannot_be_read() {
    let whole = signed_channel(scid(100, 1), [0, 1]);
    for end in 0..whole.as_bytes().len() {
        assert!(Announcement::from_bytes(whole.as_bytes()[..end].to_vec()).is_err());
    }
    let other = Announcement::from_bytes(vec![0, 18, 0, 0]);
    assert_eq!(other, Err(DecodeError::UnknownEvenType { message_type: 18 }));
    assert_eq!(Refusal::Malformed(DecodeError::TooShort).reaction(), Reaction::WarnAndClose);
}

#[test]
fn another_chain() {
    let (graph, scid) = two_nodes();
    let bitcoin = ChainHash::using_genesis_block(Network::Bitcoin);
    let other = ChannelAnnouncement { chain_hash: bitcoin, ..channel(super::scid(100, 2), [0, 1]) };
    assert_eq!(verify(&graph, sign_channel(other, [0, 1])), Err(Refusal::UnknownChain));
    let other = ChannelUpdate { chain_hash: bitcoin, ..update(scid, 0, NOW) };
    assert_eq!(verify(&graph, sign_update(other, 0)), Err(Refusal::UnknownChain));
}

#[test]
fn known_already() {
    let (mut graph, scid) = two_nodes();
    assert_eq!(verify(&graph, signed_channel(scid, [0, 1])), Err(Refusal::Duplicate));
    take(&mut graph, sign_update(update(scid, 0, NOW), 0)).expect("it is new");
    take(&mut graph, sign_node(description(0, NOW), 0)).expect("it is new");
    assert_eq!(verify(&graph, sign_update(update(scid, 0, NOW), 0)), Err(Refusal::Duplicate));
    assert_eq!(verify(&graph, sign_node(description(0, NOW), 0)), Err(Refusal::Duplicate));
    // In one batch as well.
    let new = signed_channel(super::scid(100, 2), [0, 1]);
    let batch = graph.verify_batch(vec![new.clone(), new], now());
    assert!(batch[0].is_ok());
    assert_eq!(batch[1], Err(Refusal::Duplicate));
}

#[test]
fn node_ids_out_of_order() {
    let graph = Graph::new(chain());
    let wrong = channel(scid(100, 1), [1, 0]);
    assert_eq!(verify(&graph, sign_channel(wrong, [1, 0])), Err(Refusal::NodeIdsOutOfOrder));
    let with_itself = channel(scid(100, 1), [1, 1]);
    assert_eq!(verify(&graph, sign_channel(with_itself, [1, 1])), Err(Refusal::NodeIdsOutOfOrder));
}

#[test]
fn one_funding_key() {
    let same = ChannelAnnouncement {
        bitcoin_key_2: channel(scid(100, 1), [0, 1]).bitcoin_key_1,
        ..channel(scid(100, 1), [0, 1])
    };
    assert_eq!(verify(&Graph::new(chain()), sign_channel(same, [0, 1])), Err(Refusal::SameFundingKeys));
}

#[test]
fn a_channel_in_the_genesis_block() {
    let announcement = signed_channel(scid(0, 1), [0, 1]);
    assert_eq!(verify(&Graph::new(chain()), announcement), Err(Refusal::ImpossibleShortChannelId));
}

/// The place of a key in a `channel_announcement` without features: type, signatures, length, chain, short channel id.
const FIRST_KEY: usize = 2 + 256 + 2 + 32 + 8;

#[test]
fn keys_that_are_none() {
    let graph = Graph::new(chain());
    let with = |key: usize, prefix: u8| {
        let mut bytes = signed_channel(scid(100, 1), [0, 1]).as_bytes().to_vec();
        bytes[FIRST_KEY + key * 33] = prefix;
        Announcement::from_bytes(bytes).expect("keys are not looked at yet")
    };
    assert_eq!(verify(&graph, with(1, 0xff)), Err(Refusal::InvalidNodeId));
    assert_eq!(verify(&graph, with(2, 0xff)), Err(Refusal::InvalidFundingKey));
    assert_eq!(verify(&graph, with(3, 5)), Err(Refusal::InvalidFundingKey));
    assert_eq!(Refusal::InvalidNodeId.reaction(), Reaction::Warn);
}

#[test]
fn each_signature_of_a_channel() {
    let graph = Graph::new(chain());
    for signature in 0..4 {
        let mut bytes = signed_channel(scid(100, 1), [0, 1]).as_bytes().to_vec();
        bytes[2 + signature * 64 + 40] ^= 1;
        let wrong = Announcement::from_bytes(bytes).expect("signatures are not looked at yet");
        assert_eq!(verify(&graph, wrong), Err(Refusal::InvalidChannelSignature), "{signature}");
        let mut bytes = signed_channel(scid(100, 1), [0, 1]).as_bytes().to_vec();
        bytes[2 + signature * 64..][..64].fill(0xff);
        let impossible = Announcement::from_bytes(bytes).expect("signatures are not looked at yet");
        assert_eq!(verify(&graph, impossible), Err(Refusal::InvalidChannelSignature), "{signature}");
    }
    assert_eq!(Refusal::InvalidChannelSignature.reaction(), Reaction::Warn);
}

#[test]
fn what_follows_is_signed_too() {
    let with_more = ChannelAnnouncement { excess: vec![1, 2, 3], ..channel(scid(100, 1), [0, 1]) };
    let good = sign_channel(with_more, [0, 1]);
    assert!(verify(&Graph::new(chain()), good.clone()).is_ok());
    let mut bytes = good.as_bytes().to_vec();
    bytes.push(4);
    let longer = Announcement::from_bytes(bytes).expect("readable");
    assert_eq!(verify(&Graph::new(chain()), longer), Err(Refusal::InvalidChannelSignature));
}

#[test]
fn the_output_is_not_theirs() {
    let mut graph = Graph::new(chain());
    let Ok(Verified::Channel(channel)) = verify(&graph, signed_channel(scid(100, 1), [0, 1])) else { panic!("good") };
    let other = output(scid(100, 2));
    assert_eq!(graph.apply_channel(&channel, &other, now()), Err(Refusal::FundingScriptMismatch));
    let shallow = FundingOutput { confirmations: 5, ..output(scid(100, 1)) };
    let refused = graph.apply_channel(&channel, &shallow, now());
    assert_eq!(refused, Err(Refusal::FundingNotDeep { confirmations: 5 }));
    assert_eq!(graph.view().channel_count(), 0);
    assert_eq!(graph.view().node_count(), 0);
}

#[test]
fn two_pairs_of_nodes_for_one_output() {
    let (mut graph, scid) = two_nodes();
    take(&mut graph, signed_channel(super::scid(200, 1), [1, 2])).expect("another channel of node 1");
    take(&mut graph, signed_channel(super::scid(300, 1), [5, 6])).expect("a channel of others");
    let other = signed_channel(scid, [3, 4]);
    assert_eq!(take(&mut graph, other), Err(Refusal::ConflictingNodes));
    let left: Vec<_> = graph.view().channels_in_blocks(0, u32::MAX).map(|(scid, _)| scid).collect();
    assert_eq!(left, [super::scid(300, 1)]);
    assert_eq!(take(&mut graph, signed_channel(super::scid(400, 1), [3, 7])), Err(Refusal::BlacklistedNode));
}

#[test]
fn a_reorganization_puts_another_channel_there() {
    let (mut graph, scid) = two_nodes();
    // The same place, other funding keys.
    let mut other = channel(scid, [2, 3]);
    other.bitcoin_key_1 = id(10).into();
    other.bitcoin_key_2 = id(11).into();
    let digest = other.signed_hash();
    other.node_signature_1 = SECP256K1.sign_ecdsa(&digest, &node(2));
    other.node_signature_2 = SECP256K1.sign_ecdsa(&digest, &node(3));
    other.bitcoin_signature_1 = SECP256K1.sign_ecdsa(&digest, &node(10));
    other.bitcoin_signature_2 = SECP256K1.sign_ecdsa(&digest, &node(11));
    let Ok(Verified::Channel(other)) = verify(&graph, announcement_of(other.into())) else { panic!("good") };
    let script = funding_script([&id(10).serialize(), &id(11).serialize()]);
    graph.apply_channel(&other, &output_to(script), now()).expect("the chain says so");
    assert_eq!(graph.view().channel_count(), 1);
    assert!(graph.view().node_index(&crate::units::NodeId(id(0))).is_none());
    assert!(graph.view().node_index(&crate::units::NodeId(id(2))).is_some());
}

#[test]
fn updates_out_of_time() {
    let (mut graph, scid) = two_nodes();
    let day = 24 * 60 * 60;
    let at = |timestamp| sign_update(update(scid, 0, timestamp), 0);
    assert_eq!(verify(&graph, at(NOW + day + 1)), Err(Refusal::FarInTheFuture));
    assert_eq!(verify(&graph, at(NOW - 14 * day - 1)), Err(Refusal::Stale));
    assert_eq!(verify(&graph, at(0)), Err(Refusal::Stale));
    take(&mut graph, at(NOW)).expect("now is a good time");
    assert_eq!(verify(&graph, at(NOW - 1)), Err(Refusal::NotNewer));
    let differs = ChannelUpdate { fee_base_msat: 7, ..update(scid, 0, NOW) };
    assert_eq!(verify(&graph, sign_update(differs, 0)), Err(Refusal::NotNewer));
    take(&mut graph, at(NOW + day)).expect("a day ahead is allowed");
}

#[test]
fn an_update_that_came_too_late_to_be_applied() {
    let (mut graph, scid) = two_nodes();
    let batch = vec![sign_update(update(scid, 0, NOW + 1), 0), sign_update(update(scid, 0, NOW), 0)];
    let mut results = Vec::new();
    for verified in graph.verify_batch(batch, now()) {
        let Ok(Verified::Update(update)) = verified else { panic!("both are good for themselves") };
        results.push(graph.apply_update(&update, now()).map(|_| ()));
    }
    assert_eq!(results, [Ok(()), Err(Refusal::NotNewer)]);
}

#[test]
fn an_update_for_the_peer_alone() {
    let (graph, scid) = two_nodes();
    let private = ChannelUpdate { message_flags: 3, ..update(scid, 0, NOW) };
    assert_eq!(verify(&graph, sign_update(private, 0)), Err(Refusal::NotForOthers));
}

#[test]
fn an_update_of_an_unknown_channel() {
    let (graph, _) = two_nodes();
    let unknown = sign_update(update(scid(100, 2), 0, NOW), 0);
    assert_eq!(verify(&graph, unknown.clone()), Err(Refusal::UnknownChannel));
    assert!(Refusal::UnknownChannel.may_pass_later());
    // With its announcement in the same batch it is verified, with a bad announcement it is not.
    let good = signed_channel(scid(100, 2), [0, 1]);
    let results = graph.verify_batch(vec![good.clone(), unknown.clone()], now());
    assert!(results.iter().all(Result::is_ok));
    let mut bytes = good.as_bytes().to_vec();
    bytes[10] ^= 1;
    let bad = Announcement::from_bytes(bytes).expect("readable");
    let results = graph.verify_batch(vec![bad, unknown], now());
    assert_eq!(results, [Err(Refusal::InvalidChannelSignature), Err(Refusal::UnknownChannel)]);
}

#[test]
fn an_update_by_the_other_end() {
    let (graph, scid) = two_nodes();
    assert_eq!(verify(&graph, sign_update(update(scid, 0, NOW), 1)), Err(Refusal::InvalidUpdateSignature));
    assert_eq!(verify(&graph, sign_update(update(scid, 1, NOW), 0)), Err(Refusal::InvalidUpdateSignature));
    assert!(verify(&graph, sign_update(update(scid, 1, NOW), 1)).is_ok());
    assert_eq!(Refusal::InvalidUpdateSignature.reaction(), Reaction::WarnAndClose);
}

#[test]
fn an_update_above_the_capacity() {
    let (graph, scid) = two_nodes();
    let above = ChannelUpdate { htlc_maximum_msat: Msat::new(CAPACITY_SAT * 1_000 + 1), ..update(scid, 0, NOW) };
    assert_eq!(verify(&graph, sign_update(above, 0)), Err(Refusal::MaximumAboveCapacity));
}

#[test]
fn an_update_whose_limits_leave_nothing_is_kept_and_not_used() {
    let (mut graph, scid) = two_nodes();
    let none =
        ChannelUpdate { htlc_minimum_msat: Msat::new(5), htlc_maximum_msat: Msat::new(4), ..update(scid, 0, NOW) };
    take(&mut graph, sign_update(none, 0)).expect("it is for routing to ignore");
    assert!(!graph.view().edge(index(&graph, scid), Direction::FromNode1).expect("an edge").is_usable());
}

#[test]
fn a_closed_channel_takes_only_what_disables_it() {
    let (mut graph, scid) = two_nodes();
    take(&mut graph, sign_update(update(scid, 0, NOW - 2), 0)).expect("open");
    assert!(graph.funding_spent(scid, height(150)));
    assert!(graph.view().edge(index(&graph, scid), Direction::FromNode1).expect("an edge").is_spent());
    assert_eq!(verify(&graph, sign_update(update(scid, 0, NOW - 1), 0)), Err(Refusal::ChannelClosed));
    let disabling = ChannelUpdate { channel_flags: 2, ..update(scid, 0, NOW - 1) };
    take(&mut graph, sign_update(disabling, 0)).expect("it says the same");
    graph.funding_unspent(scid);
    take(&mut graph, sign_update(update(scid, 0, NOW), 0)).expect("open again");
    let edge = *graph.view().edge(index(&graph, scid), Direction::FromNode1).expect("an edge");
    assert!(edge.is_usable() && !edge.is_spent());
}

#[test]
fn nodes_without_channel() {
    let (graph, _) = two_nodes();
    assert_eq!(verify(&graph, sign_node(description(2, NOW), 2)), Err(Refusal::UnknownNode));
    let channel = signed_channel(scid(100, 2), [1, 2]);
    let results = graph.verify_batch(vec![channel, sign_node(description(2, NOW), 2)], now());
    assert!(results.iter().all(Result::is_ok), "its channel is in the same batch");
}

#[test]
fn node_announcements() {
    let (mut graph, _) = two_nodes();
    take(&mut graph, sign_node(description(0, NOW), 0)).expect("good");
    assert_eq!(verify(&graph, sign_node(description(0, NOW - 1), 0)), Err(Refusal::NotNewer));
    assert_eq!(verify(&graph, sign_node(description(0, NOW + 1), 1)), Err(Refusal::InvalidNodeSignature));
    assert_eq!(verify(&graph, sign_node(description(0, NOW + 100_000), 0)), Err(Refusal::FarInTheFuture));
    let cut = NodeAnnouncement { addresses: vec![1, 127, 0, 0, 1, 0x26], ..description(0, NOW + 1) };
    assert_eq!(verify(&graph, sign_node(cut, 0)), Err(Refusal::AddressesTooShort));
    let long = NodeAnnouncement { addresses: vec![0; 5_000], ..description(0, NOW + 1) };
    assert_eq!(verify(&graph, sign_node(long, 0)), Err(Refusal::TooLong));
}

#[test]
fn unknown_even_features_are_not_routed_through() {
    let mut graph = Graph::new(chain());
    let mut odd = channel(scid(100, 1), [0, 1]);
    odd.features.set_bit(333);
    take(&mut graph, sign_channel(odd, [0, 1])).expect("it is OK to be odd");
    let mut even = channel(scid(100, 2), [0, 1]);
    even.features.set_bit(332);
    take(&mut graph, sign_channel(even, [0, 1])).expect("kept and passed on");
    for number in [1, 2] {
        take(&mut graph, sign_update(update(scid(100, number), 0, NOW), 0)).expect("good");
    }
    let usable = |number| graph.view().edge(index(&graph, scid(100, number)), ENDS[0]).expect("an edge").is_usable();
    assert!(usable(1) && !usable(2));
    let mut node = description(1, NOW);
    node.features.set_bit(332);
    take(&mut graph, sign_node(node, 1)).expect("kept");
    let forwards =
        |number| graph.view().forwards(graph.view().node_index(&crate::units::NodeId(id(number))).expect("there"));
    assert!(forwards(0) && !forwards(1));
}
