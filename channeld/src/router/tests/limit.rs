//! Hints, blinded tails, exclusions, what is learned, and the reasons for edges that are not used.

use secp256k1::{SECP256K1, SecretKey};

use super::world::{NOW, Terms, World, node};
use crate::graph::{BlindedHop, DirectedChannel, DirectedPolicy, Direction};
use crate::router::{
    BlindedPath, Exclusion, HALF_LIFE_SECONDS, InFlight, Lesson, NoRoute, RouteHint, RouteHintHop, ToldPolicy, Verdict,
    WhyNot,
};
use crate::units::{CltvDelta, Msat, ShortChannelId};

/// 0 - 1 - 3 for little, 0 - 2 - 3 for more.
fn fork() -> World {
    let mut world = World::default();
    for (middle, base) in [(1, 1_000), (2, 50_000)] {
        world.line(0, middle, 1_000_000, [Terms::free(); 2]);
        world.line(middle, 3, 1_000_000, [Terms::fee(base, 0); 2]);
    }
    world
}

fn edge(world: &World, from: usize, to: usize) -> DirectedChannel {
    let line = world.lines.iter().find(|line| line.ends.contains(&from) && line.ends.contains(&to)).unwrap();
    DirectedChannel { short_channel_id: line.id, direction: Direction::between(&node(from), &node(to)) }
}

fn middle(world: &World, query: &crate::router::RouteQuery) -> Result<usize, NoRoute> {
    let routes = world.router().find(query, NOW)?;
    Ok(world.checked(query, &routes)[0].0[0].1)
}

#[test]
fn a_direct_peer_needs_no_graph() {
    let world = fork();
    let query = world.query(1, 5_000);
    let routes = crate::router::Router::new(Default::default()).find(&query, NOW).unwrap();
    assert_eq!((routes[0].hops.len(), routes[0].fee(), routes[0].cltv_delta()), (1, Msat::ZERO, 20));
}

#[test]
fn what_is_excluded_is_not_used() {
    let world = fork();
    let mut query = world.query(3, 100_000);
    assert_eq!(middle(&world, &query), Ok(1));
    let cheap = edge(&world, 1, 3);
    let amount = |from| Exclusion::Amount { channel: cheap, from: Msat::new(from) };
    for (exclusion, wanted) in [
        (Exclusion::Node(node(1)), 2),
        (Exclusion::Channel(cheap.short_channel_id), 2),
        (Exclusion::Direction(cheap), 2),
        (Exclusion::Direction(edge(&world, 3, 1)), 1),
        (amount(100_000), 2),
        (amount(100_001), 1),
        (Exclusion::Direction(edge(&world, 0, 1)), 2),
    ] {
        query.exclusions = vec![exclusion];
        assert_eq!(middle(&world, &query), Ok(wanted), "{exclusion:?}");
    }
    query.exclusions = vec![Exclusion::Node(node(1)), Exclusion::Node(node(2))];
    assert_eq!(middle(&world, &query), Err(NoRoute::NoChannel));
}

#[test]
fn what_was_learned_turns_payments_away_and_fades() {
    let mut world = fork();
    let query = world.query(3, 100_000_000);
    let lesson = |verdict| Lesson::Channel { channel: edge(&world, 1, 3), amount: Msat::new(90_000_000), verdict };
    let (too_much, unusable) = (lesson(Verdict::TooMuch), lesson(Verdict::Unusable));
    for lesson in [too_much, unusable, Lesson::NodeFailed { node_id: node(1) }] {
        let mut router = world.router();
        router.learn(&[lesson], NOW);
        let first = |routes: Vec<crate::graph::Route>| routes[0].hops[0].node_id;
        assert_eq!(router.find(&query, NOW).map(first), Ok(node(2)), "{lesson:?}");
        let later = NOW.plus_seconds(100 * HALF_LIFE_SECONDS);
        assert_eq!(router.find(&query, later).map(first), Ok(node(1)), "{lesson:?}");
    }
    // Doubt is no exclusion: where there is nothing else, it is tried.
    world.learn(&[too_much]);
    let mut query = query;
    query.exclusions = vec![Exclusion::Node(node(2))];
    assert_eq!(middle(&world, &query), Ok(1));
}

#[test]
fn what_is_in_flight_is_not_there_twice() {
    let world = fork();
    let mut query = world.query(3, 600_000_000);
    query.max_parts = 1;
    query.in_flight = vec![InFlight { channel: edge(&world, 1, 3), amount: Msat::new(500_000_000) }];
    assert_eq!(middle(&world, &query), Ok(2));
}

#[test]
fn hints_lead_to_whom_nobody_announced() {
    let world = fork();
    let mut query = world.query(7, 100_000);
    assert_eq!(world.router().find(&query, NOW), Err(NoRoute::PayeeUnknown));
    let hop = |from: usize, base| RouteHintHop {
        node_id: node(from),
        short_channel_id: ShortChannelId::from_u64(1_000 + from as u64),
        fee_base_msat: base,
        fee_proportional_millionths: 0,
        cltv_expiry_delta: CltvDelta::new(30),
    };
    query.hints = vec![RouteHint { hops: vec![hop(3, 7), hop(8, 11)] }];
    let routes = world.router().find(&query, NOW).unwrap();
    let hops: Vec<_> = routes[0].hops.iter().map(|hop| (hop.node_id, hop.amount.msat(), hop.cltv_delta)).collect();
    let wanted = [(node(1), 101_018, 120), (node(3), 100_018, 80), (node(8), 100_011, 50), (node(7), 100_000, 20)];
    assert_eq!(hops, wanted);
    query.exclusions = vec![Exclusion::Channel(ShortChannelId::from_u64(1_008))];
    assert_eq!(world.router().find(&query, NOW), Err(NoRoute::NoPath));
}

#[test]
fn a_route_ends_in_a_blinded_path() {
    let world = fork();
    let key = SecretKey::from_slice(&[3; 32]).unwrap().public_key(SECP256K1);
    let hops = vec![BlindedHop { blinded_node_id: key, encrypted_recipient_data: vec![1, 2, 3] }; 2];
    let path = |introduction: usize, base| BlindedPath {
        introduction_node: node(introduction),
        first_path_key: key,
        hops: hops.clone(),
        fee_base_msat: base,
        fee_proportional_millionths: 10_000,
        cltv_expiry_delta: CltvDelta::new(60),
        htlc_minimum: Msat::new(1),
        htlc_maximum: Msat::new(1_000_000),
    };
    let mut query = world.query(3, 100_000);
    query.final_cltv_delta = 3;
    query.blinded = vec![path(3, 90_000), path(3, 500)];
    let routes = world.router().find(&query, NOW).unwrap();
    let (route, tail) = (&routes[0], routes[0].blinded_tail.clone().unwrap());
    assert_eq!((tail.amount.msat(), tail.cltv_delta, tail.hops.len()), (100_000, 3, 2));
    let last = route.hops.last().unwrap();
    assert_eq!((last.node_id, last.amount.msat(), last.cltv_delta), (node(3), 101_500, 63));
    assert_eq!((route.amount().msat(), route.fee().msat(), route.cltv_delta()), (100_000, 2_500, 103));
    query.exclusions = vec![Exclusion::BlindedPath(1)];
    assert_eq!(world.router().find(&query, NOW).unwrap()[0].fee().msat(), 92_000);
    query.amount = Msat::new(1_000_001);
    query.max_parts = 1;
    assert!(world.router().find(&query, NOW).is_err());
}

#[test]
fn each_edge_has_its_reason() {
    let mut world = World::default();
    let free = Terms::free();
    world.line(0, 1, 1_000_000, [free; 2]);
    let mut expect = Vec::new();
    let mut add = |terms: Terms, why: WhyNot| expect.push((world.line(1, 2, 1_000_000, [terms, free]), why));
    let sat = |sat| Msat::from_sat(sat).unwrap();
    add(Terms { disabled: true, ..free }, WhyNot::Disabled);
    add(Terms { minimum: 600_000_000, ..free }, WhyNot::BelowMinimum { minimum: sat(600_000) });
    add(Terms { maximum: 400_000_000, ..free }, WhyNot::AboveMaximum { maximum: sat(400_000) });
    add(Terms { base: 2_000_001, ..free }, WhyNot::FeeAboveLimit);
    add(Terms { delta: 2_000, ..free }, WhyNot::CltvAboveLimit);
    add(free, WhyNot::Excluded { from: Msat::ZERO });
    add(free, WhyNot::Liquidity { at_most: Msat::new(299_999_999) });
    add(free, WhyNot::InFlight { left: sat(100_000) });
    let directed = |at: usize| DirectedChannel {
        short_channel_id: expect[at].0,
        direction: Direction::between(&node(1), &node(2)),
    };
    let mut query = world.query(2, 500_000_000);
    query.max_fee = Msat::new(2_000_000);
    query.exclusions = vec![Exclusion::Direction(directed(5))];
    query.in_flight = vec![InFlight { channel: directed(7), amount: sat(900_000) }];
    let lesson = Lesson::Channel { channel: directed(6), amount: Msat::new(300_000_000), verdict: Verdict::TooMuch };
    world.liquidity.learn(&lesson, NOW);
    query.first_hops[0].spendable = sat(300_000);
    let explained = world.router().explain(&query, NOW, 100);
    assert!(matches!(explained[0].why, WhyNot::TooLittleToSend { spendable } if spendable == sat(300_000)));
    let found: Vec<_> = explained[1..].iter().map(|edge| (edge.channel.short_channel_id, edge.why)).collect();
    assert_eq!(found, expect);
    assert!(explained[1..].iter().all(|edge| (edge.from, edge.to) == (node(1), node(2))));
    assert_eq!(world.router().explain(&query, NOW, 3).len(), 3, "the list is bounded");
}

#[test]
fn what_was_told_of_a_channel_counts_before_the_graph_has_it() {
    let world = fork();
    let mut query = crate::router::RouteQuery { max_parts: 1, ..world.query(3, 100_000) };
    let channel = edge(&world, 1, 3);
    let snapshot = world.snapshot();
    let index = snapshot.channel_index(channel.short_channel_id).unwrap();
    let known = snapshot.policy(index, channel.direction).unwrap();
    let later = DirectedPolicy { timestamp: known.timestamp + 1, ..known };
    for (policy, wanted) in [
        (DirectedPolicy { fee_base_msat: 60_000, ..later }, 2),
        (DirectedPolicy { disabled: true, ..later }, 2),
        (DirectedPolicy { htlc_minimum: Msat::new(100_001), ..later }, 2),
        (DirectedPolicy { htlc_maximum: Msat::new(99_999), ..later }, 2),
        (DirectedPolicy { fee_base_msat: 2_000, ..later }, 1),
        // The graph knows better.
        (DirectedPolicy { disabled: true, ..known }, 1),
    ] {
        query.told = vec![ToldPolicy { channel, policy }];
        let routes = world.router().find(&query, NOW).unwrap();
        assert_eq!(routes[0].hops[0].node_id, node(wanted), "{policy:?}");
        if policy.fee_base_msat == 2_000 {
            assert_eq!(routes[0].fee(), Msat::new(2_000), "the fee is the one that was told");
        }
    }
    // Another direction, and a channel that nobody knows, change nothing.
    let other = DirectedChannel { direction: edge(&world, 3, 1).direction, ..channel };
    let nobodys = DirectedChannel { short_channel_id: ShortChannelId::from_u64(5), ..channel };
    let policy = DirectedPolicy { disabled: true, ..later };
    query.told = [other, nobodys].map(|channel| ToldPolicy { channel, policy }).to_vec();
    assert_eq!(middle(&world, &query), Ok(1));
}
