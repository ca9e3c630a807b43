//! Peers that say lawful things without end: what each costs us is bounded, in memory, on the disk and in the wallet.

use super::opening::open_by;
use super::*;
use crate::node::input::Input;
use crate::wire::{ChannelReestablish, ChannelUpdate, RevealedSecret};

fn reestablish(world: &World, channel_id: ChannelId) -> ChannelReestablish {
    ChannelReestablish {
        channel_id,
        next_commitment_number: 1,
        next_revocation_number: 0,
        your_last_per_commitment_secret: RevealedSecret([0; 32]),
        my_current_per_commitment_point: world.members[0].signer.node_id(),
        next_funding: None,
        my_current_funding_locked: None,
    }
}

/// Whoever says where it stands on channels of others, or of nobody, leaves no trace.
#[test]
fn who_comes_back_with_foreign_channels_is_not_remembered() {
    let (mut world, id) = World::with_channel(1_000_000, 0);
    let stranger = Stranger::call(&mut world, 1, 77);
    world.disconnect();
    let before = world.members[1].node.live.greeted.clone();
    for number in 0..1_000_u32 {
        let mut unknown = [9; 32];
        unknown[..4].copy_from_slice(&number.to_be_bytes());
        let message = reestablish(&world, ChannelId(unknown));
        assert!(matches!(only(stranger.say(&mut world, message)), Message::Error(_)));
    }
    // That the other peer owes its own is not forgotten for it.
    let message = reestablish(&world, id);
    assert!(matches!(only(stranger.say(&mut world, message)), Message::Error(_)));
    assert_eq!(world.members[1].node.live.greeted, before);
    assert!(!before.contains(&id));
}

/// Each address that the wallet reveals is kept and looked for in every block, for good.
#[test]
fn openings_without_end_reveal_few_addresses() {
    let mut world = World::new();
    world.mine(1);
    let stranger = Stranger::call(&mut world, 1, 77);
    let begin = |world: &mut World, number: u8| {
        let (_, mut open) = open_by(&stranger, world, number, 0);
        // Every other one is refused at once, the rest is given up by the peer.
        if number.is_multiple_of(2) {
            open.dust_limit_satoshis = Amount::from_sat(1_000_000);
        }
        stranger.say(world, open);
        stranger.say(world, error(ChannelId([number; 32])));
    };
    (0..4).for_each(|number| begin(&mut world, number));
    let before = world.members[1].node.state().wallet.clone();
    for number in 0..200 {
        begin(&mut world, number);
        if number % 20 == 0 {
            stranger.leave(&mut world);
            stranger.connect(&mut world);
        }
    }
    assert!(world.members[1].node.live.openings.is_empty());
    assert!(world.members[1].node.state().wallet == before, "nothing more was revealed");
    assert!(world.members[1].node.live.spare_scripts.len() <= 4);
}

/// Each opening costs keys, whatever comes of it: a peer that begins without end is refused before.
#[test]
fn openings_without_end_are_not_all_looked_at() {
    let mut world = World::new();
    world.mine(1);
    let stranger = Stranger::call(&mut world, 1, 77);
    let accepts = |world: &mut World, number: u8| {
        let (_, open) = open_by(&stranger, world, number, 0);
        let accepted = matches!(only(stranger.say(world, open)), Message::AcceptChannel(_));
        stranger.say(world, error(ChannelId([number; 32])));
        accepted
    };
    let accepted = (0..200).filter(|number| accepts(&mut world, *number)).count();
    assert!((50..60).contains(&accepted), "{accepted} of 200");
    assert!(!accepts(&mut world, 200));
    world.tick(1, 2);
    assert!(accepts(&mut world, 201), "after a while it is listened to again");
    let other = Stranger::call(&mut world, 1, 78);
    let (_, open) = open_by(&other, &world, 1, 0);
    assert!(matches!(only(other.say(&mut world, open)), Message::AcceptChannel(_)), "others are not kept out");
}

/// A peer can sign any number of updates of one channel, 65 kB each; what we keep of it is the newest.
#[test]
fn updates_without_end_are_not_all_written_down() {
    let (mut world, id) = World::with_channel(1_000_000, 0);
    let peer = world.id(0);
    let known = |world: &World| {
        let gossip = &world.members[1].node.state().gossip[&id];
        gossip.remote_update.clone().expect("the peer said one")
    };
    let first = known(&world);
    let say = |world: &mut World, change: &dyn Fn(&mut ChannelUpdate)| {
        let mut update = known(world);
        change(&mut update);
        let digest: [u8; 32] = *update.signed_hash().as_ref();
        update.signature = world.sign(0, digest);
        let session = world.members[1].node.live.sessions[&peer].number;
        let turns = world.members[1].turns;
        world.input(1, Input::Messages { peer, session, messages: vec![update.into()] });
        world.members[1].turns - turns
    };
    assert_eq!(say(&mut world, &|it| it.timestamp += 1), 0, "it says nothing new");
    assert_eq!(known(&world), first);
    let written: u64 = (1..=500)
        .map(|number| {
            say(&mut world, &|it| {
                it.timestamp += 1;
                it.fee_base_msat = number;
                it.excess = vec![7; 1_000];
            })
        })
        .sum();
    assert!((1..=10).contains(&written), "{written} of 500 were written down");
    world.tick(1, 61);
    let last = |it: &mut ChannelUpdate| {
        it.timestamp += 1;
        it.fee_base_msat = 77;
    };
    assert_eq!(say(&mut world, &last), 1, "after a while it is listened to again");
    assert_eq!(known(&world).fee_base_msat, 77);
}
