//! Room for forwards under a load of many payments at once: who fills it, who still finds some, and that none is ever lost.

use secp256k1::SecretKey;

use super::super::route::{hops, send_along};
use super::*;
use crate::node::api::reply::Reply;
use crate::payment::jamming::Bucket;

/// What one peer may have under way: half of the general 60 in 100 of 483 slots, and one more where that is full.
const SHARE: u64 = 144;
const EACH: u64 = 1_000_000;

/// 0 - 1 - 2, and 3 - 1: the channels in this order. The payee answers nothing until it is let go.
fn star() -> (World, [ChannelId; 3]) {
    let mut world = World::with_nodes(4);
    (0..4).for_each(|who| world.fund(who, 10_000_000));
    let pairs = [(0, 1), (1, 2), (1, 3)];
    pairs.iter().for_each(|(one, other)| world.connect_pair(*one, *other));
    let channels = pairs.map(|(one, other)| world.open_with(one, other, 2_000_000, 1_000_000_000));
    (world, channels)
}

/// So many payments to the payee at once, from node 0 or 3.
fn burst(world: &mut World, payer: usize, channels: &[ChannelId; 3], count: u8) {
    let wave = world.trips.len().to_be_bytes();
    let first = if payer == 0 { channels[0] } else { channels[2] };
    let mut legs = line_route(world, &channels[..2], EACH);
    legs[0].channel = first;
    for key in 1..=count {
        // No onion and no hash is ever the same.
        let tag = [payer as u8 + 1, wave[6], wave[7], key];
        let bytes: [u8; 32] = std::array::from_fn(|at| tag[at % 4]);
        let proof = Proof::Keysend(crate::units::Preimage(bytes));
        let session_key = SecretKey::from_slice(&bytes).expect("a key");
        send_along(world, payer, legs[0], &hops(world, &legs, &proof), (proof.hash(), session_key));
    }
    world.run();
}

fn slots(world: &World, bucket: Bucket) -> u64 {
    let load = world.members[1].node.forwarding_load();
    load.buckets.iter().filter(|(_, of, _)| *of == bucket).map(|(_, _, room)| room.slots).sum()
}

fn refused(world: &World) -> u64 {
    world.members[1].node.forwarding_load().refused
}

/// Everything that is under way ends, and all its room is free.
fn let_go(world: &mut World, channels: &[ChannelId; 3]) {
    hold(world, 2, channels[1], false);
    world.run();
    let load = world.members[1].node.forwarding_load();
    assert!(load.buckets.is_empty() && load.in_flight == 0, "{load:?}");
    assert!(is_idle(world));
}

#[test]
fn one_peer_fills_its_share_and_not_the_channel() {
    let (mut world, channels) = star();
    hold(&mut world, 2, channels[1], true);
    burst(&mut world, 0, &channels, 160);
    assert_eq!((slots(&world, Bucket::General), slots(&world, Bucket::Congestion)), (SHARE, 1));
    assert_eq!((refused(&world), code(&world)), (160 - SHARE - 1, 0x1007));
    // Another peer finds room, and so do payments of the node's own.
    burst(&mut world, 3, &channels, 20);
    assert_eq!((slots(&world, Bucket::General), refused(&world)), (SHARE + 20, 160 - SHARE - 1));
    let own = super::super::pay::keysend(&world, 2, EACH);
    assert!(matches!(world.ask(1, own), Ok(Reply::Payment(payment)) if payment.is_under_way()));
    let_go(&mut world, &channels);
    assert_eq!(local(&mut world, 2, channels[1]), 1_000_000_000 + (SHARE + 1 + 20 + 1) * EACH);
    // Nobody holds anything any more: the whole burst goes through, and the peer has earned trust.
    hold(&mut world, 2, channels[1], true);
    burst(&mut world, 0, &channels, 160);
    assert_eq!((slots(&world, Bucket::General), slots(&world, Bucket::Protected)), (SHARE, 160 - SHARE));
    let_go(&mut world, &channels);
}

#[test]
fn a_burst_that_nobody_holds_is_not_refused_and_leaves_nothing() {
    let (mut world, channels) = star();
    for wave in 1..=2u64 {
        for payer in [0, 3] {
            burst(&mut world, payer, &channels, 100);
        }
        assert_eq!(refused(&world), 0);
        assert_eq!(world.members[1].node.state().head.forwarded, wave * 200, "wave {wave}");
    }
    let load = world.members[1].node.forwarding_load();
    assert!(load.buckets.is_empty() && load.in_flight == 0, "{load:?}");
}

#[test]
fn a_crash_or_a_cut_under_load_loses_no_room() {
    for (crash, cut) in [(true, None), (false, Some((0, 1))), (false, Some((1, 2)))] {
        let (mut world, channels) = star();
        hold(&mut world, 2, channels[1], true);
        burst(&mut world, 0, &channels, 100);
        assert_eq!(slots(&world, Bucket::General), 100);
        if crash {
            world.crash(1);
        }
        if let Some((one, other)) = cut {
            world.cut(one, other);
        }
        [(0, 1), (1, 2), (1, 3)].iter().for_each(|(one, other)| world.connect_pair(*one, *other));
        assert_eq!(slots(&world, Bucket::General), 100, "{crash} {cut:?}");
        let_go(&mut world, &channels);
        assert_eq!(local(&mut world, 2, channels[1]), 1_000_000_000 + 100 * EACH, "{crash} {cut:?}");
    }
}
