//! What failed is tried again at once: another way, the same way on new terms, or when the channel that was lost is back.

use super::*;
use crate::graph::{DirectedChannel, Direction};
use crate::node::command::CloseChannel;
use crate::node::tests::pay::keysend;
use crate::router::Exclusion;
use crate::wire::Shutdown;

/// 0 - 1 - 3 and 0 - 2 - 3: the channels of both ways.
pub(super) fn diamond() -> (World, [[ChannelId; 2]; 2]) {
    let mut world = World::with_nodes(4);
    (0..4).for_each(|who| world.fund(who, 10_000_000));
    let pairs = [[(0, 1), (1, 3)], [(0, 2), (2, 3)]];
    pairs.as_flattened().iter().for_each(|(one, other)| world.connect_pair(*one, *other));
    let ways = pairs.map(|way| way.map(|(one, other)| world.open_with(one, other, PLENTY, PLENTY * 500)));
    (world, ways)
}

/// The way over node 1 or 2; `less` is kept back of the fee.
fn way(world: &World, middle: usize, ways: &[[ChannelId; 2]; 2], query: &RouteQuery, less: u64) -> Route {
    over(world, &[0, middle, 3], &ways[middle - 1], (query.amount.msat(), query, less))
}

/// Answers the oldest search with the way over node 1 or 2.
fn answer_over(world: &mut World, middle: usize, ways: &[[ChannelId; 2]; 2]) -> RouteQuery {
    answer(world, |world, query| Ok(vec![way(world, middle, ways, query, 0)]))
}

fn direction(world: &World, from: usize, to: usize, channel: ChannelId) -> DirectedChannel {
    let direction = Direction::between(&world.id(from), &world.id(to));
    DirectedChannel { short_channel_id: name(world, from, channel), direction }
}

fn codes(payment: &Payment) -> Vec<Option<AttemptFailure>> {
    payment.attempts.iter().map(|attempt| attempt.failure()).collect()
}

#[test]
fn a_channel_that_is_lost_while_a_way_is_searched_carries_it_when_it_is_back() {
    let (mut world, channels) = line(3);
    let far = invoice(&mut world, 2, 20_000_000);
    let request = start(&mut world, pay(&far));
    world.cut(0, 1);
    all_along(&mut world, &channels);
    assert!(last(&world, request).attempts.is_empty() && world.searches.is_empty(), "no channel of ours can carry it");
    world.connect();
    all_along(&mut world, &channels);
    assert!(last(&world, request).status.is_success(), "searched again without a tick");
}

#[test]
fn a_channel_of_ours_that_says_no_is_asked_again_a_tick_later() {
    let (mut world, channels) = line(3);
    let far = invoice(&mut world, 2, 400_000_000);
    let request = start(&mut world, pay(&far));
    // While the way is searched, something else takes what it needs.
    let (there, back) = (keysend(&world, 1, 200_000_000), keysend(&world, 0, 200_000_000));
    world.ask(0, there).expect("paid");
    all_along(&mut world, &channels);
    assert!(matches!(last(&world, request).status, PaymentStatus::InFlight) && world.searches.is_empty());
    world.ask(1, back).expect("paid");
    world.tick(0, 1);
    all_along(&mut world, &channels);
    assert!(last(&world, request).status.is_success());
}

#[test]
fn what_went_with_its_connection_takes_another_way_at_once() {
    let (mut world, ways) = diamond();
    let bills = [1, 2].map(|_| invoice(&mut world, 3, 20_000_000));
    let requests = bills.each_ref().map(|bill| world.start(0, None, Command::SendPayment(pay(bill))).0);
    // The first is signed for, the second waits for the answer; neither gets further than the wire.
    for _ in 0..2 {
        let (who, payment_hash, attempt, query) = world.searches.remove(0);
        let result = Ok(vec![way(&world, 1, &ways, &query, 0)]);
        world.input(who, Input::RouteFound { payment_hash, attempt, result });
    }
    world.cut(0, 1);
    let query = answer_over(&mut world, 2, &ways);
    assert_eq!(query.first_hops.len(), 1);
    let second = last(&world, requests[1]);
    assert!(second.status.is_success());
    assert_eq!(codes(&second), [Some(AttemptFailure::NeverCommitted), None]);
    assert!(matches!(last(&world, requests[0]).status, PaymentStatus::InFlight), "it may still be taken");
    world.connect_pair(0, 1);
    assert!(last(&world, requests[0]).status.is_success());
}

#[test]
fn a_channel_without_enough_is_left_out_and_another_way_taken_at_once() {
    let (mut world, ways) = diamond();
    let drain = keysend(&world, 3, 480_000_000);
    world.ask(1, drain).expect("paid");
    let bill = invoice(&mut world, 3, 50_000_000);
    let request = start(&mut world, pay(&bill));
    answer_over(&mut world, 1, &ways);
    let query = answer_over(&mut world, 2, &ways);
    let from = Msat::new(50_000_000);
    assert_eq!(query.exclusions, [Exclusion::Amount { channel: direction(&world, 1, 3, ways[0][1]), from }]);
    let paid = last(&world, request);
    assert!(paid.status.is_success());
    assert_eq!(codes(&paid), [Some(AttemptFailure::Remote { hop: 0, code: 0x1007 }), None]);
    assert_eq!(world.members[0].payments.len(), 1, "one outcome");
}

#[test]
fn a_channel_that_is_closing_is_disabled_and_another_way_taken_at_once() {
    let (mut world, ways) = diamond();
    world.lost.push(Shutdown::TYPE);
    let close = CloseChannel { channel: ways[0][1], force: false, address: None, feerate: None, validate_only: false };
    world.start(1, None, Command::CloseChannel(close));
    let bill = invoice(&mut world, 3, 50_000_000);
    let request = start(&mut world, pay(&bill));
    answer_over(&mut world, 1, &ways);
    let query = answer_over(&mut world, 2, &ways);
    assert_eq!(query.exclusions, [Exclusion::Direction(direction(&world, 1, 3, ways[0][1]))]);
    let paid = last(&world, request);
    assert!(paid.status.is_success());
    assert_eq!(codes(&paid), [Some(AttemptFailure::Remote { hop: 0, code: 0x1014 }), None]);
}

#[test]
fn what_asks_more_twice_is_left_out() {
    let (mut world, ways) = diamond();
    let bill = invoice(&mut world, 3, 50_000_000);
    let request = start(&mut world, pay(&bill));
    for excluded in [0, 0, 1] {
        let query = world.searches[0].3.clone();
        assert_eq!(query.exclusions.len(), excluded, "once it may be that an older policy was known");
        let (middle, less) = if excluded == 0 { (1, 1) } else { (2, 0) };
        answer(&mut world, |world, query| Ok(vec![way(world, middle, &ways, query, less)]));
    }
    let paid = last(&world, request);
    assert!(paid.status.is_success());
    let insufficient = Some(AttemptFailure::Remote { hop: 0, code: 0x100c });
    assert_eq!(codes(&paid), [insufficient, insufficient, None]);
}

#[test]
fn a_start_forgets_what_was_told_and_asks_once_again() {
    let (mut world, channels) = line(3);
    let far = invoice(&mut world, 2, 20_000_000);
    start(&mut world, pay(&far));
    let old_terms = |world: &mut World| {
        answer(world, |world, query| Ok(vec![along(world, &channels, query.amount.msat(), query, 1)]));
        let query = &world.searches[0].3;
        assert_eq!((query.told.len(), query.exclusions.len()), (1, 0), "the next way keeps what was told");
    };
    old_terms(&mut world);
    world.searches.clear();
    world.crash(0);
    world.connect();
    world.tick(0, 1);
    world.run();
    let query = &world.searches[0].3;
    assert_eq!(
        (query.told.len(), query.exclusions.len()),
        (0, 0),
        "nothing is known, and nothing held against the channel"
    );
    old_terms(&mut world);
    all_along(&mut world, &channels);
    let outcomes: Vec<bool> = world.members[0].payments.iter().map(|it| it.status.is_success()).collect();
    assert_eq!(outcomes, [true]);
}

#[test]
fn what_failed_for_certain_may_be_begun_again_in_the_same_turn() {
    let (mut world, channels) = line(3);
    let far = invoice(&mut world, 2, 20_000_000);
    start(&mut world, pay(&far));
    let (who, payment_hash, attempt, _) = world.searches.remove(0);
    world.handle(who, Input::RouteFound { payment_hash, attempt, result: Err(NoRoute::NoPath) });
    let request = world.request();
    let command = Command::SendPayment(pay(&far));
    world.handle(who, Input::Command { request, key: None, command: command.clone() });
    world.settle(who);
    assert!(world.ask(who, command).is_err(), "one at a time");
    all_along(&mut world, &channels);
    let outcomes: Vec<bool> = world.members[0].payments.iter().map(|it| it.status.is_success()).collect();
    assert_eq!(outcomes, [false, true]);
    assert_eq!(world.channel(2, channels[1]).expect("a channel").local.msat(), 520_000_000);
}
