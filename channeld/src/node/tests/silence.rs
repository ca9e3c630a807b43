//! Peers that do not answer, that ask for too much, or that are called at a wrong address.

use super::pay::{balances, keysend};
use super::world::World;
use crate::node::command::{AmountOrAll, CloseChannel, Command, OpenChannel};
use crate::node::event::EventKind;
use crate::node::input::{Input, SessionNumber};
use crate::node::refusal::Refusal;
use crate::units::Msat;
use crate::wire::{
    AcceptChannel, ChannelReestablish, ClosingSigned, CommitmentSigned, Features, FundingCreated, FundingSigned,
    RevokeAndAck, Shutdown,
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

/// As many as `node/peer.rs` lets one peer have.
const MAX_UNFUNDED: usize = 16;

#[test]
fn a_peer_cannot_have_us_wait_for_any_number_of_funding_transactions() {
    let mut world = World::new();
    for _ in 0..=MAX_UNFUNDED {
        world.fund(0, 200_000);
    }
    world.connect();
    for _ in 0..MAX_UNFUNDED {
        world.begin_open(0, 150_000, 0, false);
    }
    let refused = |event: &EventKind| matches!(event, EventKind::InboundOpenRefused { .. });
    assert!(!world.has_event(1, refused));
    let open = OpenChannel {
        peer: world.id(1),
        capacity: AmountOrAll::Sat(150_000),
        push: Msat::ZERO,
        funding_feerate: None,
        announce: false,
        without_anchors: false,
        validate_only: false,
    };
    assert!(world.ask(0, Command::OpenChannel(open)).is_err());
    assert!(world.has_event(1, refused));
    // Those that confirm make room.
    world.mine(6);
    world.open(0, 150_000, 0);
}

#[test]
fn an_address_is_kept_once_it_has_led_to_the_peer() {
    let (mut world, _) = World::with_channel(1_000_000, 0);
    let peer = world.id(1);
    let connect = |address: &str| Command::ConnectPeer { node_id: peer, address: address.to_owned() };
    let kept = |world: &World| world.members[0].node.state().peers.get(&peer).map(|record| record.address.clone());
    assert!(world.ask(0, connect("good:1")).is_ok());
    assert!(world.ask(0, connect("mistyped:1")).is_ok(), "there is a connection already");
    assert_eq!(kept(&world).as_deref(), Some("good:1"));

    world.disconnect();
    world.start(0, None, connect("mistyped:1"));
    world.input(0, Input::ConnectFailed { peer, description: "nobody".to_owned() });
    world.run();
    assert_eq!(kept(&world).as_deref(), Some("good:1"));

    world.start(0, None, connect("moved:1"));
    let (session, features) = (SessionNumber(1_000), Features::init());
    world.input(0, Input::Connected { peer, session, features, inbound: false, address: Some("moved:1".to_owned()) });
    world.run();
    assert_eq!(kept(&world).as_deref(), Some("moved:1"));
}
