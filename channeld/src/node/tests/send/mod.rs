//! Payments over routes that a test finds by hand: parts, retries, budgets, restarts, and streams over HTLCs.

mod blinded;
mod retry;

use super::member::Crash;
use super::world::World;
use crate::graph::{Route, RouteHop};
use crate::node::command::{
    Command, CreateInvoice, OpenStream, PaymentTarget, Query, SendPayment, StreamPay, StreamTarget,
};
use crate::node::event::EventKind;
use crate::node::input::Input;
use crate::node::reply::Reply;
use crate::payment::forward::ForwardingPolicy;
use crate::payment::receive::Invoice;
use crate::payment::send::{AttemptFailure, FailureReason, Payment, PaymentStatus};
use crate::payment::stream::StreamCloseReason;
use crate::router::{NoRoute, RouteQuery};
use crate::units::{ChannelId, Msat, SessionId, ShortChannelId};
use crate::wire::{Feature, Message};

const PLENTY: u64 = 1_000_000;

fn line(count: u8) -> (World, Vec<ChannelId>) {
    World::line(count, PLENTY)
}

fn name(world: &World, who: usize, channel: ChannelId) -> ShortChannelId {
    world.members[who].node.state().channels[&channel].names().last().expect("a name")
}

/// The way along `channels` from the first node of a line, as its hops ask for it; `less` is kept back of each fee.
fn along(world: &World, channels: &[ChannelId], amount: u64, query: &RouteQuery, less: u64) -> Route {
    let nodes: Vec<usize> = (0..=channels.len()).collect();
    over(world, &nodes, channels, (amount, query, less))
}

/// The same over other nodes.
fn over(world: &World, nodes: &[usize], channels: &[ChannelId], what: (u64, &RouteQuery, u64)) -> Route {
    let (amount, query, less) = what;
    let policy = ForwardingPolicy::default();
    let (mut amount, mut cltv_delta) = (amount, query.final_cltv_delta);
    let mut hops = Vec::new();
    for (at, channel) in channels.iter().enumerate().rev() {
        hops.push(RouteHop {
            node_id: world.id(nodes[at + 1]),
            short_channel_id: name(world, nodes[at], *channel),
            amount: Msat::new(amount),
            cltv_delta,
        });
        amount += policy.fee(Msat::new(amount)).expect("a fee").msat() - less;
        cltv_delta += u32::from(policy.cltv_expiry_delta.blocks());
    }
    hops.reverse();
    Route { hops, blinded_tail: None }
}

/// Answers the oldest search, and runs on.
fn answer(world: &mut World, with: impl Fn(&World, &RouteQuery) -> Result<Vec<Route>, NoRoute>) -> RouteQuery {
    let (who, payment_hash, attempt, query) = world.searches.remove(0);
    let result = with(world, &query);
    world.input(who, Input::RouteFound { payment_hash, attempt, result });
    world.run();
    query
}

fn all_along(world: &mut World, channels: &[ChannelId]) -> RouteQuery {
    answer(world, |world, query| Ok(vec![along(world, channels, query.amount.msat(), query, 0)]))
}

fn invoice(world: &mut World, who: usize, msat: u64) -> Invoice {
    let create = CreateInvoice { amount: Some(Msat::new(msat)), ..create() };
    match world.ask(who, Command::CreateInvoice(create)) {
        Ok(Reply::Invoice(invoice)) => *invoice,
        other => panic!("{other:?}"),
    }
}

fn create() -> CreateInvoice {
    CreateInvoice {
        amount: None,
        description: String::new(),
        payment_hash: None,
        expiry_seconds: 3_600,
        preimage: None,
        min_final_cltv_expiry_delta: None,
        blinded: false,
    }
}

fn pay(invoice: &Invoice) -> SendPayment {
    SendPayment::new(PaymentTarget::Invoice(invoice.payment_request.clone()), None)
}

fn start(world: &mut World, send: SendPayment) -> u64 {
    let request = world.start(0, None, Command::SendPayment(send));
    world.run();
    request.0
}

fn last(world: &World, request: u64) -> Payment {
    match world.members[0].replies[&request].last() {
        Some(Ok(Reply::Payment(payment))) => (**payment).clone(),
        other => panic!("{other:?}"),
    }
}

fn reason(payment: &Payment) -> FailureReason {
    match payment.status {
        PaymentStatus::Failed { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_payee_behind_others_is_paid_and_one_that_is_a_peer_needs_no_search() {
    let (mut world, channels) = line(3);
    let far = invoice(&mut world, 2, 20_000_000);
    let request = start(&mut world, pay(&far));
    assert!(matches!(last(&world, request).status, PaymentStatus::InFlight), "journaled before the search");
    let query = all_along(&mut world, &channels);
    assert_eq!((query.amount, query.first_hops.len()), (Msat::new(20_000_000), 1));
    let paid = last(&world, request);
    assert!(paid.status.is_success());
    assert_eq!(paid.fee(), ForwardingPolicy::default().fee(Msat::new(20_000_000)).expect("a fee"));
    assert_eq!(world.members[0].replies[&request].len(), 2, "told twice, and no more");
    let near = invoice(&mut world, 1, 1_000);
    let request = start(&mut world, pay(&near));
    assert!(last(&world, request).status.is_success() && world.searches.is_empty());
}

/// Core Lightning opens every private channel with `option_scid_alias`: its place is hidden from others, not from us.
#[test]
fn a_channel_whose_place_is_hidden_begins_routes() {
    let mut world = World::with_nodes(3);
    (0..3).for_each(|who| world.fund(who, 10_000_000));
    world.connect();
    world.altered = |message| match message {
        Message::OpenChannel(open) => open.channel_type.as_mut().expect("sent").set_required(Feature::ScidAlias),
        Message::AcceptChannel(accept) => {
            accept.channel_type = accept.channel_type.as_ref().map(|echo| echo.without(Feature::ScidAlias));
        }
        _ => {}
    };
    let hidden = world.open_with(1, 0, PLENTY, PLENTY * 500);
    let channels = [hidden, world.open_with(1, 2, PLENTY, PLENTY * 500)];
    assert!(world.members[0].node.state().channels[&hidden].channel.is_alias_only);
    let far = invoice(&mut world, 2, 20_000_000);
    let request = start(&mut world, pay(&far));
    let query = answer(&mut world, |world, query| {
        let mut route = along(world, &channels, query.amount.msat(), query, 0);
        route.hops[0].short_channel_id = query.first_hops[0].short_channel_id;
        Ok(vec![route])
    });
    assert!(last(&world, request).status.is_success());
    let place = query.first_hops[0].short_channel_id;
    assert!(
        matches!(world.query(0, Query::ChannelNamed(place)), Ok(Reply::Channel(info)) if info.channel_id == hidden)
    );
}

#[test]
fn what_failed_is_tried_again_and_what_it_taught_is_kept() {
    let (mut world, channels) = line(3);
    let far = invoice(&mut world, 2, 20_000_000);
    let request = start(&mut world, pay(&far));
    // The hop wants more than it is given.
    answer(&mut world, |world, query| Ok(vec![along(world, &channels, query.amount.msat(), query, 1)]));
    let query = all_along(&mut world, &channels);
    let policy = ForwardingPolicy::default();
    let told = query.told.first().expect("searched at once, with what was told");
    assert_eq!((told.policy.fee_base_msat, told.policy.disabled), (policy.fee_base_msat, false));
    assert_eq!(told.channel.short_channel_id, name(&world, 1, channels[1]));
    let paid = last(&world, request);
    assert!(paid.status.is_success());
    let codes: Vec<_> = paid.attempts.iter().map(|attempt| attempt.failure()).collect();
    assert_eq!(codes, [Some(AttemptFailure::Remote { hop: 0, code: 0x100c }), None]);
    assert_eq!(world.members[0].payments.len(), 1, "one outcome");
}

#[test]
fn parts_that_come_to_the_whole_are_one_payment() {
    let (mut world, channels) = line(3);
    let far = invoice(&mut world, 2, 30_000_000);
    let request = start(&mut world, pay(&far));
    answer(&mut world, |world, query| {
        Ok([10_000_000, 20_000_000].map(|part| along(world, &channels, part, query, 0)).to_vec())
    });
    let paid = last(&world, request);
    assert!(paid.status.is_success());
    // The first preimage decides; the archive holds what became of all parts.
    let archived = world.members[0].payments.last().expect("archived");
    assert_eq!((archived.attempts.len(), archived.is_under_way()), (2, false));
    assert_eq!(world.members[0].node.state().payments.len(), 0);
    let succeeded = |kind: &EventKind| matches!(kind, EventKind::PaymentSucceeded { .. });
    assert_eq!(world.members[0].events.iter().filter(|event| succeeded(&event.kind)).count(), 1);
    assert_eq!(world.channel(2, channels[1]).expect("a channel").local.msat(), 530_000_000);
}

#[test]
fn it_fails_when_no_way_is_left_and_not_while_a_part_may_be_taken() {
    let (mut world, channels) = line(3);
    let far = invoice(&mut world, 2, 30_000_000);
    let request = start(&mut world, pay(&far));
    // One part goes, the other finds no way: the payee waits for it, then gives the first back.
    answer(&mut world, |world, query| Ok(vec![along(world, &channels, 10_000_000, query, 0)]));
    answer(&mut world, |_, _| Err(NoRoute::NoPath));
    assert!(matches!(last(&world, request).status, PaymentStatus::InFlight));
    world.tick(2, 61);
    assert_eq!(reason(&last(&world, request)), FailureReason::TimedOut);
    assert_eq!(world.channel(0, channels[0]).expect("a channel").local.msat(), 500_000_000);
}

#[test]
fn a_route_beyond_the_limits_is_not_taken() {
    let (mut world, channels) = line(3);
    let far = invoice(&mut world, 2, 1_000_000);
    let request = start(&mut world, SendPayment { max_fee: Some(Msat::new(500)), ..pay(&far) });
    let query = all_along(&mut world, &channels);
    assert_eq!(query.max_fee, Msat::new(500));
    assert_eq!(reason(&last(&world, request)), FailureReason::NoRoute);
    assert_eq!(world.channel(0, channels[0]).expect("a channel").local.msat(), 500_000_000);
}

#[test]
fn time_runs_out_for_a_search_that_nobody_answers() {
    let (mut world, _) = line(3);
    let far = invoice(&mut world, 2, 1_000_000);
    let request = start(&mut world, SendPayment { timeout_seconds: Some(5), ..pay(&far) });
    world.tick(0, 3);
    assert!(matches!(last(&world, request).status, PaymentStatus::InFlight));
    world.tick(0, 3);
    assert_eq!(reason(&last(&world, request)), FailureReason::TimedOut);
    // An answer that comes now is to nobody.
    all_along(&mut world, &[]);
}

#[test]
fn a_restart_in_each_phase_ends_in_one_outcome_and_pays_once() {
    for crash in [Crash::BeforeFlush, Crash::AfterFlush] {
        for turn in 1..7 {
            let (mut world, channels) = line(3);
            let far = invoice(&mut world, 2, 20_000_000);
            world.members[0].crash_at = Some((world.members[0].turns + turn, crash));
            world.start(0, None, Command::SendPayment(pay(&far)));
            world.run();
            for _ in 0..4 {
                if !world.searches.is_empty() {
                    all_along(&mut world, &channels);
                }
                world.connect();
                world.tick(0, 1);
                world.run();
            }
            let received = world.channel(2, channels[1]).expect("a channel").local.msat() - 500_000_000;
            let outcomes: Vec<bool> = world.members[0].payments.iter().map(|it| it.status.is_success()).collect();
            assert!(world.members[0].node.state().payments.is_empty(), "{crash:?} {turn}: in flight");
            match received {
                0 => assert!(outcomes.is_empty() || outcomes == [false], "{crash:?} {turn}: {outcomes:?}"),
                20_000_000 => assert_eq!(outcomes, [true], "{crash:?} {turn}"),
                other => panic!("{crash:?} {turn}: {other}"),
            }
        }
    }
}

fn open(world: &mut World, to: usize) -> (u64, SessionId) {
    let open = OpenStream {
        target: StreamTarget::Node(world.id(to)),
        resume: None,
        max_total: None,
        max_uncommitted: None,
        max_payments_per_second: None,
        batch_delay_millis: 0,
    };
    let request = world.start(0, None, Command::OpenStream(open));
    world.run();
    match world.members[0].replies[&request.0].last() {
        Some(Ok(Reply::StreamOpened(opened))) => (request.0, opened.session),
        other => panic!("{other:?}"),
    }
}

fn stream_pay(world: &mut World, session: SessionId, first_sequence: u64, amounts: &[u64]) {
    let amounts = amounts.iter().copied().map(Msat::new).collect();
    world.start(0, None, Command::StreamPay(StreamPay { session, first_sequence, amounts, tags: Vec::new() }));
    world.run();
}

#[test]
fn a_stream_goes_over_hops_in_batches_above_dust_and_ends_in_a_receipt() {
    let (mut world, channels) = line(3);
    let (request, session) = open(&mut world, 2);
    stream_pay(&mut world, session, 1, &[1_000; 10]);
    assert!(world.searches.is_empty(), "below dust it waits for more");
    stream_pay(&mut world, session, 11, &[1_000; 500]);
    all_along(&mut world, &channels);
    assert_eq!(world.members[0].statuses[&request].committed_sequence, 510);
    stream_pay(&mut world, session, 511, &[7]);
    world.start(0, None, Command::FinishStream { session });
    world.run();
    // The rest, then the question for a receipt.
    all_along(&mut world, &channels);
    all_along(&mut world, &channels);
    let closed = world.members[0].statuses[&request].closed.clone().expect("closed");
    assert_eq!(closed.reason, StreamCloseReason::Finished);
    let receipt = closed.receipt.expect("a receipt");
    assert_eq!((receipt.last_sequence, receipt.paid.msat()), (511, 510_007));
    assert!(world.has_event(2, |kind| matches!(kind, EventKind::StreamPaid { last_sequence: 511, .. })));
    assert_eq!(world.members[0].payments.len(), 2, "the question is in no list");
    assert!(world.members[0].node.state().payments.is_empty() && world.members[0].node.state().streams.is_empty());
}

#[test]
fn a_batch_that_fails_for_certain_ends_the_stream_and_says_what_was_paid() {
    let (mut world, channels) = line(3);
    let (request, session) = open(&mut world, 2);
    stream_pay(&mut world, session, 1, &[500_000]);
    all_along(&mut world, &channels);
    stream_pay(&mut world, session, 2, &[600_000]);
    answer(&mut world, |_, _| Err(NoRoute::NoPath));
    let status = &world.members[0].statuses[&request];
    assert_eq!(status.closed.as_ref().map(|closed| closed.reason), Some(StreamCloseReason::PaymentFailed));
    assert_eq!((status.committed_sequence, status.committed.msat()), (1, 500_000));
}

#[test]
fn a_stream_over_hops_pays_nothing_twice_whenever_its_payer_dies() {
    for crash in [Crash::BeforeFlush, Crash::AfterFlush] {
        for turn in 1..7 {
            let (mut world, channels) = line(3);
            let (_, session) = open(&mut world, 2);
            world.members[0].crash_at = Some((world.members[0].turns + turn, crash));
            world.start(
                0,
                None,
                Command::StreamPay(StreamPay {
                    session,
                    first_sequence: 1,
                    amounts: vec![Msat::new(500_000), Msat::new(1)],
                    tags: Vec::new(),
                }),
            );
            world.run();
            for _ in 0..4 {
                if !world.searches.is_empty() {
                    all_along(&mut world, &channels);
                }
                world.connect();
                world.tick(0, 1);
                world.run();
            }
            let received = world.channel(2, channels[1]).expect("a channel").local.msat() - 500_000_000;
            let stream = &world.members[0].node.state().streams[&session];
            assert_eq!(stream.accepted.total.msat(), received, "{crash:?} {turn}");
            assert!(stream.is_settled(), "{crash:?} {turn}");
        }
    }
}
