//! Closes of every kind, to the last satoshi.

use super::pay::keysend;
use super::world::World;
use crate::node::command::{CloseChannel, Command, Fault};
use crate::node::event::{CloseKind, EventKind};
use crate::units::ChannelId;

fn close(channel: ChannelId, force: bool) -> Command {
    Command::CloseChannel(CloseChannel { channel, force, address: None, feerate: None, validate_only: false })
}

fn closed(how: CloseKind) -> impl Fn(&EventKind) -> bool {
    move |kind| matches!(kind, EventKind::ChannelClosed { how: found, .. } if *found == how)
}

/// What both wallets hold, with what miners got, is what was put in.
fn total(world: &mut World) -> u64 {
    (world.wallet(0) + world.wallet(1)).to_sat()
}

#[test]
fn together() {
    let (mut world, id) = World::with_channel(1_000_000, 300_000_000);
    assert!((0..2).all(|who| world.members[who].protected.len() == 1));
    assert!(world.ask(0, close(id, false)).is_ok());
    world.mine(7);
    for who in 0..2 {
        assert!(world.members[who].protected.is_empty(), "a stranger again");
        assert!(world.has_event(who, closed(CloseKind::Mutual)), "{who}");
        assert!(world.members[who].node.state().channels.is_empty());
        assert!(world.members[who].node.state().resolvers.is_empty());
    }
    assert!(total(&mut world) > 20_000_000 - 2_000);
}

/// BOLT 5: a spend that is neither a commitment nor a close that was agreed on is told to the user.
#[test]
fn a_spend_that_nobody_knows_is_warned_of() {
    let (mut world, id) = World::with_channel(1_000_000, 300_000_000);
    let warned = |world: &World, who| {
        let lost = |kind: &EventKind| matches!(kind, EventKind::Warning { channel: Some(_), message } if message.contains("lost"));
        world.has_event(who, lost)
    };
    assert!(!warned(&world, 0) && !warned(&world, 1));
    let funding = world.channel(0, id).expect("a channel").funding.expect("funded");
    let output = bitcoin::TxOut { value: bitcoin::Amount::from_sat(999_000), script_pubkey: bitcoin::ScriptBuf::new() };
    world.ledger.spend(funding, output);
    world.mine(1);
    assert!(warned(&world, 0) && warned(&world, 1));
}

#[test]
fn by_force() {
    let (mut world, id) = World::with_channel(1_000_000, 300_000_000);
    let command = keysend(&world, 1, 20_000_000);
    assert!(world.ask(0, command).is_ok());
    assert!(world.ask(0, close(id, true)).is_ok());
    world.mine(2);
    let claimable: u64 = world.claimable(0);
    assert!((670_000..680_000).contains(&claimable), "{claimable}");
    world.mine(170);
    assert_eq!(world.claimable(0), 0);
    assert!(world.has_event(0, closed(CloseKind::LocalForced)));
    assert!(world.has_event(1, closed(CloseKind::RemoteForced)));
    assert!(total(&mut world) > 20_000_000 - 5_000, "{}", total(&mut world));
}

#[test]
fn a_cheater_loses_everything() {
    let (mut world, id) = World::with_channel(1_000_000, 300_000_000);
    let pay = |world: &mut World, from: usize| {
        let command = keysend(world, 1 - from, 20_000_000);
        assert!(world.ask(from, command).is_ok());
    };
    pay(&mut world, 0);
    assert!(world.ask(0, Command::InjectFault(Fault::KeepState { channel: id })).is_ok());
    (0..3).for_each(|_| pay(&mut world, 0));
    pay(&mut world, 1);
    assert!(world.ask(0, Command::InjectFault(Fault::ReplayOldState { channel: id })).is_ok());
    let before = world.wallet(1).to_sat();
    world.mine(10);
    assert!(world.has_event(1, closed(CloseKind::Revoked)));
    let won = world.wallet(1).to_sat() - before;
    assert!(won > 1_000_000 - 3_000, "{won}");
}

#[test]
fn a_cheater_with_an_htlc_in_flight_loses_that_too() {
    let (mut world, id) = World::with_channel(1_000_000, 300_000_000);
    // The HTLC is on the kept commitment: the payer keeps its state between two messages.
    let command = keysend(&world, 1, 50_000_000);
    world.start(0, None, command);
    let mut kept = false;
    for _ in 0..6 {
        world.deliver_one();
        let info = world.channel(0, id).expect("a channel");
        if !info.htlcs.is_empty() && info.local.msat() == 650_000_000 {
            kept = world.ask_alone(0, Command::InjectFault(Fault::KeepState { channel: id })).is_ok();
            break;
        }
    }
    world.run();
    assert!(kept, "a commitment with the HTLC");
    for _ in 0..2 {
        let command = keysend(&world, 1, 10_000_000);
        assert!(world.ask(0, command).is_ok());
    }
    world.crash(1);
    world.connect();
    assert!(world.ask(0, Command::InjectFault(Fault::ReplayOldState { channel: id })).is_ok());
    let before = world.wallet(1).to_sat();
    world.mine(10);
    assert!(world.has_event(1, closed(CloseKind::Revoked)));
    let won = world.wallet(1).to_sat() - before;
    assert!(won > 1_000_000 - 4_000, "{won}");
}
