//! Forced closes between any two messages of an opening, of payments, of a shutdown: with the wire cut or not, by either
//! side, in both formats. In the end no channel is left, every satoshi is somewhere, and both books say the same.

use bitcoin::Amount;

use super::pay::keysend;
use super::world::World;
use crate::node::command::{CloseChannel, Command, OpenChannel};
use crate::units::ChannelId;

/// What is under way when the channel is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Open,
    Pay {
        from: usize,
    },
    PayBothWays,
    Shutdown {
        by: usize,
    },
    /// A payment that the payee holds, then a shutdown.
    ShutdownWithHtlc,
}

/// Where the scene is cut off.
#[derive(Clone, Copy, Debug)]
struct Case {
    act: Act,
    without_anchors: bool,
    /// So many messages are carried before.
    count: usize,
    closer: usize,
    cut: bool,
}

const GIVEN: u64 = 20_000_000;
const PUSHED: u64 = 300_000;
const PAID: u64 = 50_000;
/// What claims and commitments of one side cost at most, at the least feerate.
const MOST_FEES: u64 = 6_000;
/// Everything is over by then.
const MOST_BLOCKS: u32 = 120;
const OPENING_BLOCKS: u32 = 26;

fn close(channel: ChannelId, force: bool) -> Command {
    Command::CloseChannel(CloseChannel { channel, force, address: None, feerate: None, validate_only: false })
}

fn start(case: &Case) -> World {
    let mut world = World::new();
    (0..2).for_each(|who| world.fund(who, GIVEN / 2));
    world.connect();
    let opening = OpenChannel { without_anchors: case.without_anchors, ..world.opening(1, 1_000_000, PUSHED * 1_000) };
    if case.act == Act::Open {
        world.start(0, None, Command::OpenChannel(opening));
        return world;
    }
    let id = world.begin_opening(0, opening);
    world.mine(6);
    let pay = |world: &mut World, from: usize| {
        let command = keysend(world, 1 - from, PAID * 1_000);
        world.start(from, None, command);
    };
    match case.act {
        Act::Open => {}
        Act::Pay { from } => pay(&mut world, from),
        Act::PayBothWays => (0..2).for_each(|from| pay(&mut world, from)),
        Act::Shutdown { by } => drop(world.start(by, None, close(id, false))),
        Act::ShutdownWithHtlc => {
            pay(&mut world, 0);
            (0..3).for_each(|_| world.deliver_one());
            world.start(0, None, close(id, false));
        }
    }
    world
}

/// Plays a case; whether it was cut off before its end.
fn play(case: &Case) -> bool {
    let mut world = start(case);
    (0..case.count).for_each(|_| world.deliver_one());
    let is_before_its_end = !world.is_quiet();
    if case.cut {
        world.cut(0, 1);
    }
    let ids: Vec<ChannelId> = world.members[case.closer].node.state().channels.keys().copied().collect();
    for id in ids {
        // Where nothing can be on the chain there is nothing to force.
        let _ = world.ask_alone(case.closer, close(id, true));
    }
    world.run();
    let is_over = |world: &World| {
        world.members.iter().all(|member| {
            let state = member.node.state();
            state.resolvers.is_empty() && state.channels.values().all(|entry| entry.channel.commitments().is_none())
        })
    };
    // What an opening left behind may wait longer for a funding transaction that never comes.
    let most = if case.act == Act::Open { OPENING_BLOCKS } else { MOST_BLOCKS };
    let blocks = (0..most).take_while(|block| {
        world.mine(1);
        *block < 2 || !is_over(&world)
    });
    let blocks = blocks.count() as u32;
    assert!(case.act == Act::Open || blocks < most, "{case:?}: a channel is left");
    count(&mut world, case);
    is_before_its_end
}

/// Every satoshi is in a wallet, at a miner, or on an anchor; payments ended, and both sides say how.
fn count(world: &mut World, case: &Case) {
    let wallets = [0, 1].map(|who| world.wallet(who).to_sat());
    let outputs: Amount = world.ledger.outputs().map(|output| output.value).sum();
    let anchors: Amount = world.ledger.outputs().map(|output| output.value).filter(|value| value.to_sat() == 330).sum();
    assert_eq!(wallets[0] + wallets[1], (outputs - anchors).to_sat(), "{case:?}: nothing lies about");
    let fees = GIVEN - outputs.to_sat();
    assert!(fees < 4 * MOST_FEES, "{case:?}: fees of {fees}");
    let mut has = [GIVEN as i64 / 2; 2];
    // The opener's commitment costs more than claims: a channel that never was has moved nothing.
    let was_open = case.act != Act::Open || wallets[1] > GIVEN / 2;
    if was_open {
        has[0] -= PUSHED as i64;
        has[1] += PUSHED as i64;
    }
    for who in 0..2 {
        assert!(world.members[who].node.state().payments.is_empty(), "{case:?}: a payment without an end");
        for payment in &world.members[who].payments {
            if payment.status.is_success() {
                has[who] -= PAID as i64;
                has[1 - who] += PAID as i64;
            }
        }
    }
    for who in 0..2 {
        let lost = has[who] - wallets[who] as i64;
        assert!((0..=2 * MOST_FEES as i64).contains(&lost), "{case:?}: {who} has {} of {}", wallets[who], has[who]);
    }
}

fn at_every_message(act: Act) {
    for (without_anchors, closer, cut) in [(false, 0, true), (true, 1, true), (false, 1, false), (true, 0, false)] {
        // Who does not know of an opening yet has nothing to force: only with the wire does it end.
        if act == Act::Open && !cut {
            continue;
        }
        let at = |count| play(&Case { act, without_anchors, count, closer, cut });
        let messages = (0..40).position(|count| !at(count)).expect("it comes to its end");
        assert!(messages >= 2, "{act:?} is an exchange of messages");
    }
}

#[test]
fn during_an_opening() {
    at_every_message(Act::Open);
}

#[test]
fn during_a_payment() {
    at_every_message(Act::Pay { from: 0 });
    at_every_message(Act::Pay { from: 1 });
}

#[test]
fn during_payments_both_ways() {
    at_every_message(Act::PayBothWays);
}

#[test]
fn during_a_shutdown() {
    at_every_message(Act::Shutdown { by: 0 });
    at_every_message(Act::Shutdown { by: 1 });
}

#[test]
fn during_a_shutdown_with_an_htlc() {
    at_every_message(Act::ShutdownWithHtlc);
}
