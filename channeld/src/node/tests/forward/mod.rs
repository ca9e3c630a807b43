//! Forwarding over a line of nodes: what goes through, what is refused and how, crashes, and the chain.

mod blinded;
mod room;

use super::member::Crash;
use super::route::{Leg, Proof, answer, line_route, preimage, send};
use super::world::World;
use crate::node::command::{CloseChannel, Command, Fault, UpdateChannelPolicy};
use crate::node::event::EventKind;
use crate::payment::forward::{ForwardStatus, PolicyUpdate};
use crate::units::{ChannelId, Msat};

fn line(count: u8) -> (World, Vec<ChannelId>) {
    World::line(count, 1_000_000)
}

fn code(world: &World) -> u16 {
    answer(world).expect("an answer").expect_err("a failure")
}

fn is_paid(world: &World) -> bool {
    answer(world).is_some_and(|answer| answer.is_ok())
}

/// Whether nothing of the payer's is on its way.
fn is_idle(world: &World) -> bool {
    let channels = world.members[0].node.state().channels.values();
    channels.filter_map(|entry| entry.channel.commitments()).all(|commitments| commitments.outgoing.is_empty())
}

fn local(world: &mut World, who: usize, id: ChannelId) -> u64 {
    world.channel(who, id).expect("a channel").local.msat()
}

fn force_close(world: &mut World, who: usize, channel: ChannelId) {
    let close = CloseChannel { channel, force: true, address: None, feerate: None, validate_only: false };
    world.ask(who, Command::CloseChannel(close)).expect("closes");
}

fn hold(world: &mut World, who: usize, channel: ChannelId, hold: bool) {
    world.ask(who, Command::InjectFault(Fault::HoldHtlcs { channel, hold })).expect("held");
}

/// A line of three whose payee has an HTLC and says nothing.
fn held_line() -> (World, Vec<ChannelId>, Vec<Leg>) {
    let (mut world, channels) = line(3);
    let legs = line_route(&world, &channels, 30_000_000);
    hold(&mut world, 2, channels[1], true);
    send(&mut world, &legs, &Proof::Keysend(preimage(7)), 50);
    world.run();
    (world, channels, legs)
}

#[test]
fn a_payment_goes_over_three_hops_and_each_earns_its_fee() {
    let (mut world, channels) = line(4);
    let legs = line_route(&world, &channels, 10_000_000);
    send(&mut world, &legs, &Proof::Keysend(preimage(7)), 50);
    world.run();
    assert!(is_paid(&world), "{:?}", answer(&world));
    assert_eq!(local(&mut world, 3, channels[2]), 510_000_000);
    for who in [1, 2] {
        let fee = legs[who - 1].amount - legs[who].amount;
        let state = world.members[who].node.state();
        assert_eq!((state.head.forwarded, state.head.forwarding_fees.msat()), (1, fee));
        assert!(state.forwards.is_empty());
        let entry = |id: ChannelId| (state.channels[&id].sent.msat(), state.channels[&id].received.msat());
        assert_eq!(entry(channels[who - 1]), (0, legs[who - 1].amount));
        assert_eq!(entry(channels[who]), (legs[who].amount, 0));
        assert!(world.has_event(who, |kind| matches!(kind, EventKind::Forwarded { .. })));
    }
}

#[test]
fn what_is_refused_has_the_failure_of_its_rule() {
    let (mut world, channels) = line(3);
    let good = line_route(&world, &channels, 10_000_000);
    let height = world.members[0].node.state().height().height();
    let mut changed = |first: Leg, second: Leg, key: u8| {
        send(&mut world, &[first, second], &Proof::Keysend(preimage(key)), key);
        world.run();
        code(&world)
    };
    let (first, second) = (good[0], good[1]);
    assert_eq!(changed(Leg { amount: first.amount - 1, ..first }, second, 10), 0x100c);
    assert_eq!(changed(Leg { expiry: first.expiry - 1, ..first }, second, 11), 0x100d);
    let soon = Leg { expiry: height + 3, ..second };
    assert_eq!(changed(first, soon, 12), 0x100e);
    let far = Leg { expiry: height + 2_017, ..second };
    assert_eq!(changed(Leg { expiry: height + 2_100, ..first }, far, 13), 21);
    let unknown = Leg { channel: ChannelId([9; 32]), ..second };
    assert_eq!(changed(first, unknown, 14), 0x400a);
    let back = super::pay::keysend(&world, 2, 100_000_000);
    world.ask(1, back).expect("pays");
    let large = [Leg { amount: 451_000_000, ..first }, Leg { amount: 450_000_000, ..second }];
    send(&mut world, &large, &Proof::Keysend(preimage(15)), 15);
    world.run();
    assert_eq!(code(&world), 0x1007, "more than the channel can send");
}

#[test]
fn what_a_channel_asks_can_be_changed_and_what_it_asked_is_honoured_for_ten_minutes() {
    let (mut world, channels) = line(3);
    let legs = line_route(&world, &channels, 10_000_000);
    let update =
        PolicyUpdate { fee_base_msat: Some(50_000), htlc_minimum: Some(Msat::new(1_000)), ..PolicyUpdate::default() };
    let command = UpdateChannelPolicy { channel: channels[1], update, validate_only: false };
    world.ask(1, Command::UpdateChannelPolicy(command)).expect("updated");
    send(&mut world, &legs, &Proof::Keysend(preimage(7)), 50);
    world.run();
    assert!(is_paid(&world));
    world.tick(1, 601);
    send(&mut world, &legs, &Proof::Keysend(preimage(8)), 51);
    world.run();
    assert_eq!(code(&world), 0x100c);
    let small = [Leg { amount: 60_000, ..legs[0] }, Leg { amount: 999, ..legs[1] }];
    send(&mut world, &small, &Proof::Keysend(preimage(9)), 52);
    world.run();
    assert_eq!(code(&world), 0x100b);
}

#[test]
fn another_channel_with_the_same_peer_carries_what_the_named_one_cannot() {
    let (mut world, channels) = line(3);
    let wide = world.open_with(1, 2, 2_000_000, 0);
    let legs = line_route(&world, &channels, 480_000_000);
    // The named channel is nearly empty on our side.
    let back = super::pay::keysend(&world, 2, 300_000_000);
    world.ask(1, back).expect("pays");
    send(&mut world, &legs, &Proof::Keysend(preimage(7)), 50);
    world.run();
    assert!(is_paid(&world), "{:?}", answer(&world));
    assert!(local(&mut world, 2, wide) > 0);
}

#[test]
fn a_peer_that_is_away_or_closing_is_told_apart() {
    let (mut world, channels) = line(3);
    let legs = line_route(&world, &channels, 10_000_000);
    world.cut(1, 2);
    send(&mut world, &legs, &Proof::Keysend(preimage(7)), 50);
    world.run();
    assert_eq!(code(&world), 0x1007);
    world.connect();
    force_close(&mut world, 1, channels[1]);
    send(&mut world, &legs, &Proof::Keysend(preimage(8)), 51);
    world.run();
    assert_eq!(code(&world), 0x4008);
}

#[test]
fn an_onion_is_followed_once() {
    let (mut world, channels) = line(3);
    let legs = line_route(&world, &channels, 10_000_000);
    let proof = Proof::Keysend(preimage(7));
    send(&mut world, &legs, &proof, 50);
    world.run();
    assert!(is_paid(&world));
    send(&mut world, &legs, &proof, 50);
    world.run();
    assert_eq!(code(&world), 0x2002);
    assert_eq!(world.members[1].node.state().head.forwarded, 1);
}

#[test]
fn a_failure_of_the_payee_comes_back_to_the_payer() {
    let (mut world, channels) = line(4);
    let legs = line_route(&world, &channels, 10_000_000);
    let unknown = Proof::Invoice { hash: preimage(7).payment_hash(), secret: [1; 32], total: 10_000_000 };
    send(&mut world, &legs, &unknown, 50);
    world.run();
    assert_eq!(code(&world), 0x400f);
    assert!(world.has_event(1, |kind| matches!(kind, EventKind::ForwardFailed { outgoing: Some(_), code: None, .. })));
    assert!((0..4).all(|who| world.members[who].node.state().forwards.is_empty()));
    assert_eq!(local(&mut world, 0, channels[0]), 500_000_000);
}

/// Every node crashes at every turn of a forward: it is made once or not at all, and all books agree.
#[test]
fn crashes_at_every_flush_of_a_forward() {
    for crash in [Crash::BeforeFlush, Crash::AfterFlush] {
        for (who, turn) in (0..3).flat_map(|who| (1..12).map(move |turn| (who, turn))) {
            let (mut world, channels) = line(3);
            let legs = line_route(&world, &channels, 30_000_000);
            world.members[who].crash_at = Some((world.members[who].turns + turn, crash));
            send(&mut world, &legs, &Proof::Keysend(preimage(7)), 50);
            world.run();
            world.members[who].crash_at = None;
            world.disconnect();
            world.connect();
            let at = format!("{crash:?} {who} {turn}");
            let received = local(&mut world, 2, channels[1]) - 500_000_000;
            let spent = 500_000_000 - local(&mut world, 0, channels[0]);
            let earned = local(&mut world, 1, channels[0]) + local(&mut world, 1, channels[1]) - 1_000_000_000;
            assert!((0..3).all(|who| world.members[who].node.state().forwards.is_empty()), "{at}");
            assert!(is_idle(&world), "{at}: in flight for ever");
            match received {
                0 => assert_eq!((spent, earned), (0, 0), "{at}"),
                30_000_000 => {
                    assert_eq!((spent, earned), (legs[0].amount, legs[0].amount - 30_000_000), "{at}");
                    assert!(is_paid(&world), "{at}");
                }
                other => panic!("{at}: {other}"),
            }
            let again = line_route(&world, &channels, 1_000_000);
            send(&mut world, &again, &Proof::Keysend(preimage(8)), 51);
            world.run();
            assert!(is_paid(&world), "{at}: the channels work");
        }
    }
}

/// The wire breaks after every number of messages: nothing is lost, and what was never committed goes back.
#[test]
fn connections_are_cut_at_every_message_of_a_forward() {
    for (pair, count) in [(0, 1), (1, 2)].into_iter().flat_map(|pair| (0..16).map(move |count| (pair, count))) {
        let (mut world, channels) = line(3);
        let legs = line_route(&world, &channels, 30_000_000);
        send(&mut world, &legs, &Proof::Keysend(preimage(7)), 50);
        (0..count).for_each(|_| world.deliver_one());
        world.cut(pair.0, pair.1);
        world.run();
        world.connect();
        let received = local(&mut world, 2, channels[1]) - 500_000_000;
        let spent = 500_000_000 - local(&mut world, 0, channels[0]);
        let expected = if received == 0 { 0 } else { legs[0].amount };
        assert_eq!(spent, expected, "{pair:?} {count}");
        assert!(world.members[1].node.state().forwards.is_empty(), "{pair:?} {count}");
        assert!(is_idle(&world), "{pair:?} {count}");
    }
}

#[test]
fn a_preimage_that_is_shown_on_the_chain_is_shown_upstream() {
    let (mut world, channels, legs) = held_line();
    // The payee takes it, and before its peer hears of it the connection is gone and the channel fails.
    world.cut(1, 2);
    hold(&mut world, 2, channels[1], false);
    force_close(&mut world, 2, channels[1]);
    world.mine(3);
    assert!(is_paid(&world), "{:?}", answer(&world));
    assert_eq!(local(&mut world, 0, channels[0]), 500_000_000 - legs[0].amount);
    assert!(world.members[1].node.state().forwards.is_empty());
}

#[test]
fn what_times_out_on_the_chain_goes_back_when_it_is_buried() {
    let (mut world, channels, legs) = held_line();
    force_close(&mut world, 1, channels[1]);
    world.mine(legs[1].expiry - world.ledger.blocks.len() as u32 + 8);
    assert_eq!(code(&world), 0x4008);
    assert_eq!(local(&mut world, 0, channels[0]), 500_000_000);
    assert!(
        !world.has_event(1, |kind| matches!(kind, EventKind::ChannelFailed { channel, .. } if *channel == channels[0]))
    );
}

#[test]
fn the_incoming_htlc_goes_back_before_its_deadline_even_if_no_close_confirms() {
    let (mut world, channels, legs) = held_line();
    world.cut(1, 2);
    for _ in 0..legs[0].expiry - world.ledger.blocks.len() as u32 - 2 {
        // No close of ours ever confirms.
        world.ledger.mempool.clear();
        assert!(answer(&world).is_none());
        world.mine(1);
    }
    assert_eq!(code(&world), 0x4008);
    assert_eq!(local(&mut world, 0, channels[0]), 500_000_000);
    assert!(
        world.has_event(1, |kind| matches!(kind, EventKind::Warning { message, .. } if message.contains("goes back")))
    );
    let forward = world.members[1].node.state().forwards.values().next().expect("it is still open behind us").clone();
    assert_eq!(forward.status, ForwardStatus::FailedBack);
    assert!(world.channel(1, channels[0]).expect("a channel").usable, "the channel before us goes on");
}

#[test]
fn dust_never_closes_a_channel() {
    let (mut world, channels) = line(3);
    let legs = line_route(&world, &channels, 100_000);
    hold(&mut world, 2, channels[1], true);
    send(&mut world, &legs, &Proof::Keysend(preimage(7)), 50);
    world.run();
    world.mine(legs[0].expiry - world.ledger.blocks.len() as u32);
    assert_eq!(code(&world), 0x4008);
    for who in 0..3 {
        assert!(!world.has_event(who, |kind| matches!(kind, EventKind::ChannelFailed { .. })), "{who}");
    }
    assert!(
        world
            .has_event(1, |kind| matches!(kind, EventKind::Warning { message, .. } if message.contains("written off")))
    );
    // What is claimed behind us after that is our loss, and is said.
    hold(&mut world, 2, channels[1], false);
    world.run();
    assert!(world.members[1].node.state().forwards.is_empty());
}
