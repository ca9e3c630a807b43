//! Crashes before and after every flush of a payment and of a stream: nothing lost, nothing doubled, both books equal.

use super::member::Crash;
use super::pay::{balances, keysend};
use super::world::World;
use crate::node::command::{Command, OpenStream, StreamPay, StreamTarget};
use crate::payment::send::PaymentStatus;
use crate::units::{ChannelId, Msat};

/// Runs `act`, crashes `who` at its `turn`th turn from there on, brings all back, and checks the books.
fn with_crash(who: usize, turn: u64, crash: Crash, act: impl Fn(&mut World, ChannelId)) -> (World, ChannelId) {
    let (mut world, id) = World::with_channel(1_000_000, 200_000_000);
    world.members[who].crash_at = Some((world.members[who].turns + turn, crash));
    act(&mut world, id);
    world.run();
    world.members[who].crash_at = None;
    world.disconnect();
    world.connect();
    let [ours, theirs] = balances(&mut world, id);
    assert_eq!((ours.0, ours.1), (theirs.1, theirs.0), "both books are equal");
    assert_eq!(ours.0 + ours.1, 1_000_000_000);
    (world, id)
}

const CRASHES: [Crash; 2] = [Crash::BeforeFlush, Crash::AfterFlush];

#[test]
fn a_payment_is_made_once_or_not_at_all() {
    for crash in CRASHES {
        for (who, turn) in (0..2).flat_map(|who| (1..6).map(move |turn| (who, turn))) {
            let (mut world, id) = with_crash(who, turn, crash, |world, _| {
                let command = keysend(world, 1, 30_000_000);
                world.start(0, None, command);
            });
            let received = balances(&mut world, id)[1].0 - 200_000_000;
            let ended: Vec<bool> = world.members[0].payments.iter().map(|it| it.status.is_success()).collect();
            assert!(world.members[0].node.state().payments.is_empty(), "{crash:?} {who} {turn}: still in flight");
            match received {
                0 => assert!(ended.is_empty() || ended == [false], "{crash:?} {who} {turn}: {ended:?}"),
                30_000_000 => assert_eq!(ended, [true], "{crash:?} {who} {turn}"),
                other => panic!("{crash:?} {who} {turn}: {other}"),
            }
            let command = keysend(&world, 1, 1_000_000);
            assert!(world.ask(0, command).is_ok(), "{crash:?} {who} {turn}: the channel works");
            let last = world.members[0].payments.last().map(|payment| payment.status);
            assert!(matches!(last, Some(PaymentStatus::Succeeded { .. })), "{crash:?} {who} {turn}: {last:?}");
        }
    }
}

#[test]
fn a_stream_counts_every_payment_once() {
    for crash in CRASHES {
        for (who, turn) in (0..2).flat_map(|who| (1..7).map(move |turn| (who, turn))) {
            let (mut world, id) = with_crash(who, turn, crash, stream);
            let accepted: u64 = world.members[0].node.state().streams.values().map(|it| it.accepted.total.msat()).sum();
            let committed: u64 =
                world.members[0].node.state().streams.values().map(|it| it.committed.total.msat()).sum();
            let received = balances(&mut world, id)[1].0 - 200_000_000;
            assert_eq!((accepted, received), (committed, committed), "{crash:?} {who} {turn}");
        }
    }
}

fn stream(world: &mut World, id: ChannelId) {
    let open = OpenStream {
        target: StreamTarget::Channel(id),
        resume: None,
        max_total: None,
        max_uncommitted: None,
        max_payments_per_second: None,
        batch_delay_millis: 0,
    };
    world.start(0, None, Command::OpenStream(open));
    world.run();
    let sessions: Vec<_> = world.members[0].node.state().streams.keys().copied().collect();
    for session in sessions {
        for first_sequence in 1..=3 {
            let amounts = vec![Msat::new(1_000 * first_sequence)];
            world.start(0, None, Command::StreamPay(StreamPay { session, first_sequence, amounts, tags: Vec::new() }));
        }
    }
}

#[test]
fn an_opening_that_a_crash_cuts_short_leaves_a_channel_or_free_coins() {
    for crash in CRASHES {
        for (who, turn) in (0..2).flat_map(|who| (1..5).map(move |turn| (who, turn))) {
            let mut world = World::new();
            world.fund(0, 2_000_000);
            world.connect();
            world.members[who].crash_at = Some((world.members[who].turns + turn, crash));
            let open = crate::node::command::OpenChannel {
                peer: world.id(1),
                capacity: crate::node::command::AmountOrAll::Sat(500_000),
                push: Msat::ZERO,
                funding_feerate: None,
                announce: false,
                without_anchors: false,
                validate_only: false,
            };
            world.start(0, None, Command::OpenChannel(open));
            world.run();
            world.members[who].crash_at = None;
            world.disconnect();
            world.connect();
            world.mine(7);
            let channels = [0, 1].map(|who| world.members[who].node.state().channels.len());
            if channels[0] == 1 && world.members[0].node.state().channels.values().all(|it| it.channel.is_usable()) {
                assert_eq!(channels[1], 1, "{crash:?} {who} {turn}");
                let command = keysend(&world, 1, 1_000_000);
                assert!(world.ask(0, command).is_ok(), "{crash:?} {who} {turn}");
            } else {
                assert_eq!(channels[0], 0, "{crash:?} {who} {turn}: a channel that is stuck");
                assert_eq!(world.wallet(0).to_sat(), 2_000_000, "{crash:?} {who} {turn}: coins that are stuck");
            }
        }
    }
}
