//! Streams of netted transfers.

use super::pay::balances;
use super::world::World;
use crate::node::command::{CloseChannel, Command, OpenStream, StreamPay, StreamTarget};
use crate::node::event::EventKind;
use crate::node::reply::{Reply, StreamOpened};
use crate::payment::stream::StreamCloseReason;
use crate::units::{ChannelId, Msat, SessionId};

fn open(world: &mut World, who: usize, id: ChannelId, resume: Option<SessionId>) -> (u64, StreamOpened) {
    let command = Command::OpenStream(OpenStream {
        target: StreamTarget::Channel(id),
        resume,
        max_total: None,
        max_uncommitted: None,
        max_payments_per_second: None,
        batch_delay_millis: 0,
    });
    let request = world.start(who, None, command);
    world.run();
    match world.members[who].replies[&request.0].last() {
        Some(Ok(Reply::StreamOpened(opened))) => (request.0, opened.clone()),
        other => panic!("{other:?}"),
    }
}

fn pay(world: &mut World, who: usize, session: SessionId, first_sequence: u64, amounts: &[u64]) {
    let amounts = amounts.iter().copied().map(Msat::new).collect();
    world.start(who, None, Command::StreamPay(StreamPay { session, first_sequence, amounts, tags: Vec::new() }));
}

#[test]
fn a_batch_is_one_commitment_and_ends_in_a_receipt() {
    let (mut world, id) = World::with_channel(1_000_000, 0);
    let (request, opened) = open(&mut world, 0, id, None);
    let before = world.channel(0, id).expect("a channel").remote_commitment.number();
    pay(&mut world, 0, opened.session, 1, &[1_000; 1_000]);
    world.run();
    let after = world.channel(0, id).expect("a channel").remote_commitment.number();
    assert!(after - before <= 2, "{} commitments", after - before);
    let status = &world.members[0].statuses[&request];
    assert_eq!((status.committed_sequence, status.committed.msat()), (1_000, 1_000_000));
    world.start(0, None, Command::FinishStream { session: opened.session });
    world.run();
    let closed = world.members[0].statuses[&request].closed.clone().expect("closed");
    assert_eq!(closed.reason, StreamCloseReason::Finished);
    let receipt = closed.receipt.expect("a receipt");
    assert_eq!((receipt.last_sequence, receipt.paid.msat()), (1_000, 1_000_000));
    assert_eq!(balances(&mut world, id), [(999_000_000, 1_000_000), (1_000_000, 999_000_000)]);
    assert!(world.has_event(1, |kind| matches!(kind, EventKind::StreamPaid { last_sequence: 1_000, .. })));
    assert!(world.has_event(1, |kind| matches!(kind, EventKind::StreamClosed { incoming: true, .. })));
}

#[test]
fn both_directions_at_once() {
    let (mut world, id) = World::with_channel(1_000_000, 500_000_000);
    let (_, there) = open(&mut world, 0, id, None);
    let (_, back) = open(&mut world, 1, id, None);
    for round in 0..20 {
        pay(&mut world, 0, there.session, round * 3 + 1, &[5, 6, 7]);
        pay(&mut world, 1, back.session, round * 2 + 1, &[100, 200]);
    }
    world.run();
    let (paid, got) = (20 * 18, 20 * 300);
    assert_eq!(balances(&mut world, id)[0].0, 500_000_000 - paid + got);
}

#[test]
fn a_stream_is_resumed_after_a_disconnect_and_counts_nothing_twice() {
    let (mut world, id) = World::with_channel(1_000_000, 0);
    let (_, opened) = open(&mut world, 0, id, None);
    pay(&mut world, 0, opened.session, 1, &[10; 5]);
    // The transfer is on the wire and lost with it; the payments stay journaled.
    world.disconnect();
    world.connect();
    let (request, resumed) = open(&mut world, 0, id, Some(opened.session));
    assert_eq!(resumed.accepted_sequence, 5);
    pay(&mut world, 0, opened.session, 4, &[10; 4]);
    world.run();
    assert_eq!(world.members[0].statuses[&request].committed_sequence, 7);
    assert_eq!(balances(&mut world, id)[1].0, 70);
}

#[test]
fn what_the_balance_does_not_carry_ends_the_stream() {
    let (mut world, id) = World::with_channel(1_000_000, 0);
    let (request, opened) = open(&mut world, 0, id, None);
    pay(&mut world, 0, opened.session, 1, &[1_000_000]);
    pay(&mut world, 0, opened.session, 2, &[1_000_000_000]);
    world.run();
    let status = &world.members[0].statuses[&request];
    assert_eq!(status.committed_sequence, 1);
    let closed = status.closed.clone().expect("closed");
    assert_eq!(closed.reason, StreamCloseReason::BalanceExhausted);
}

#[test]
fn a_batch_delay_collects_before_it_signs() {
    let (mut world, id) = World::with_channel(1_000_000, 0);
    let command = Command::OpenStream(OpenStream {
        target: StreamTarget::Channel(id),
        resume: None,
        max_total: None,
        max_uncommitted: None,
        max_payments_per_second: None,
        batch_delay_millis: 1_000,
    });
    let request = world.start(0, None, command);
    world.run();
    let Some(Ok(Reply::StreamOpened(opened))) = world.members[0].replies[&request.0].last().cloned() else {
        panic!("opened")
    };
    (1..=3).for_each(|sequence| pay(&mut world, 0, opened.session, sequence, &[10]));
    world.run();
    assert_eq!(balances(&mut world, id)[1].0, 0);
    world.tick(0, 2);
    assert_eq!(balances(&mut world, id)[1].0, 30);
}

/// The total in the last closing event of a stream, as one end tells it.
fn closed_total(world: &World, who: usize, as_payee: bool) -> Option<u64> {
    let mut totals = world.members[who].events.iter().filter_map(|event| match &event.kind {
        EventKind::StreamClosed { incoming, total, .. } if *incoming == as_payee => Some(total.msat()),
        _ => None,
    });
    totals.next_back()
}

#[test]
fn what_a_close_by_force_has_paid_both_ends_book() {
    let mut totals = std::collections::BTreeSet::new();
    for closer in 0..2 {
        for delivered in 0..8 {
            let (mut world, id) = World::with_channel(1_000_000, 300_000_000);
            let (request, opened) = open(&mut world, 0, id, None);
            pay(&mut world, 0, opened.session, 1, &[2_000_000]);
            world.run();
            pay(&mut world, 0, opened.session, 2, &[5_000_000, 6_000_000]);
            (0..delivered).for_each(|_| world.deliver_one());
            world.disconnect();
            let close = CloseChannel { channel: id, force: true, address: None, feerate: None, validate_only: false };
            assert!(world.ask(closer, Command::CloseChannel(close)).is_ok());
            world.mine(6);
            let at = format!("closed by {closer} after {delivered} messages");
            let total = closed_total(&world, 0, false).unwrap_or_else(|| panic!("{at}: the payer's stream is over"));
            assert_eq!(closed_total(&world, 1, true), Some(total), "{at}");
            let books = [0, 1].map(|who: usize| world.members[who].node.state().channels[&id].clone());
            assert_eq!(books.map(|info| (info.sent.msat(), info.received.msat())), [(total, 0), (0, total)], "{at}");
            let status = &world.members[0].statuses[&request];
            assert_eq!((status.committed.msat(), status.closed.is_some()), (total, true), "{at}");
            // What the payee's own output on the commitment holds.
            let spend = world.ledger.blocks.iter().flat_map(|block| &block.txdata).find(|it| it.output.len() == 4);
            let outputs = spend.map(|it| it.output.iter().map(|output| output.value.to_sat()).collect::<Vec<_>>());
            assert!(outputs.is_some_and(|all| all.contains(&(300_000 + total / 1_000))), "{at}");
            totals.insert(total);
        }
    }
    assert_eq!(totals, [2_000_000, 13_000_000].into());
}
