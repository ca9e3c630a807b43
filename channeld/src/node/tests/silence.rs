//! Peers that do not answer.

use super::pay::{balances, keysend};
use super::world::World;
use crate::node::command::{AmountOrAll, CloseChannel, Command, OpenChannel};
use crate::node::event::EventKind;
use crate::node::refusal::Refusal;
use crate::units::Msat;
use crate::wire::{
    AcceptChannel, ChannelReestablish, ClosingSigned, CommitmentSigned, FundingCreated, FundingSigned, RevokeAndAck,
    Shutdown,
};

/// The first tick sees that something is owed, the second that it is late.
fn be_silent(world: &mut World, who: usize, seconds: u64) {
    world.tick(who, 1);
    world.tick(who, seconds);
}

fn opening(world: &World) -> Command {
    Command::OpenChannel(OpenChannel {
        peer: world.id(1),
        capacity: AmountOrAll::Sat(1_000_000),
        push: Msat::ZERO,
        funding_feerate: None,
        announce: false,
        without_anchors: false,
        validate_only: false,
    })
}

fn failed(kind: &EventKind) -> bool {
    matches!(kind, EventKind::ChannelFailed { .. })
}

#[test]
fn a_revocation_that_never_comes_ends_the_session_and_no_channel() {
    let (mut world, id) = World::with_channel(1_000_000, 0);
    let command = keysend(&world, 1, 5_000_000);
    world.start(0, None, command);
    world.lost = vec![RevokeAndAck::TYPE, CommitmentSigned::TYPE];
    world.run();
    world.tick(0, 1);
    world.tick(0, 30);
    assert!(world.is_connected());
    world.tick(0, 40);
    assert!(!world.is_connected());
    world.lost.clear();
    world.connect();
    assert_eq!(balances(&mut world, id)[1].0, 5_000_000);
}

#[test]
fn a_reestablish_that_never_comes_ends_the_session() {
    let (mut world, _) = World::with_channel(1_000_000, 0);
    world.disconnect();
    world.lost = vec![ChannelReestablish::TYPE];
    world.connect();
    be_silent(&mut world, 0, 61);
    assert!(!world.is_connected());
    assert!(!world.has_event(0, failed));
}

#[test]
fn a_mutual_close_that_goes_unanswered_is_made_by_force() {
    for lost in [Shutdown::TYPE, ClosingSigned::TYPE] {
        let (mut world, id) = World::with_channel(1_000_000, 400_000_000);
        world.lost = vec![lost];
        let close = CloseChannel { channel: id, force: false, address: None, feerate: None, validate_only: false };
        world.start(0, None, Command::CloseChannel(close));
        world.run();
        for connection in 0..3 {
            assert!(world.is_connected() && !world.has_event(0, failed), "{lost}, {connection}");
            be_silent(&mut world, 0, 61);
            if !world.is_connected() {
                world.connect();
            }
        }
        assert!(world.has_event(0, failed), "{lost}");
    }
}

#[test]
fn openings_that_go_unanswered_are_given_up() {
    for lost in [AcceptChannel::TYPE, FundingSigned::TYPE] {
        let mut world = World::new();
        world.fund(0, 10_000_000);
        world.connect();
        world.lost = vec![lost];
        let command = opening(&world);
        let request = world.start(0, None, command);
        world.run();
        be_silent(&mut world, 0, 121);
        let answer = world.members[0].replies.get(&request.0).and_then(|answers| answers.last().cloned());
        let given_up = matches!(answer, Some(Err(Refusal::PeerRefused { .. } | Refusal::ConnectionLost(_))));
        assert!(given_up, "{lost}: {answer:?}");
        assert!(world.members[0].node.state().channels.is_empty());
        assert!(world.members[0].node.live.openings.is_empty());
    }
    let mut world = World::new();
    world.fund(0, 10_000_000);
    world.connect();
    world.lost = vec![FundingCreated::TYPE];
    let command = opening(&world);
    world.start(0, None, command);
    world.run();
    assert_eq!(world.members[1].node.live.openings.len(), 1);
    be_silent(&mut world, 1, 500);
    assert_eq!(world.members[1].node.live.openings.len(), 1);
    be_silent(&mut world, 1, 200);
    assert!(world.members[1].node.live.openings.is_empty());
}

#[test]
fn a_temporary_id_names_one_opening() {
    let mut world = World::new();
    world.fund(0, 10_000_000);
    world.connect();
    let command = opening(&world);
    let request = world.start(0, None, command);
    world.repeat_next();
    world.run();
    assert!(world.members[1].node.state().channels.is_empty());
    be_silent(&mut world, 0, 61);
    let answer = world.members[0].replies.get(&request.0).and_then(|answers| answers.last().cloned());
    assert!(matches!(answer, Some(Err(_))), "{answer:?}");
    assert!(world.members.iter().all(|member| member.node.live.openings.is_empty()));
}
