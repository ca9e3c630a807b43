//! Payments in parts, against all ways to cut the amount into eighths.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::exhaustive::{random_lessons, random_world};
use super::world::{NOW, Terms, Way, World, node};
use crate::router::{NoRoute, RouteQuery};
use crate::units::Msat;

/// The cheapest way to cut the amount into eighths.
fn brute_force(world: &World, query: &RouteQuery, ways: &[Way]) -> Option<u64> {
    fn go(world: &World, query: &RouteQuery, ways: &[Way], eighths: u64, parts: &mut Vec<(Way, u64)>) -> Option<u64> {
        if eighths == 0 {
            return world.cost(query, parts);
        }
        let (first, rest) = ways.split_first()?;
        let mut best = go(world, query, rest, eighths, parts);
        if parts.len() < query.max_parts as usize {
            for taken in 1..=eighths {
                parts.push((first.clone(), query.amount.msat() / 8 * taken));
                let found = go(world, query, rest, eighths - taken, parts);
                parts.pop();
                best = match (best, found) {
                    (Some(one), Some(two)) => Some(one.min(two)),
                    (one, two) => one.or(two),
                };
            }
        }
        best
    }
    go(world, query, ways, 8, &mut Vec::new())
}

#[test]
fn parts_are_as_cheap_as_eighths_can_be() {
    let (mut split, mut cost_sum, mut best_sum, mut compared) = (0, 0_u128, 0_u128, 0);
    for seed in 0..300 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut world = random_world(&mut rng, 5, 8);
        if seed % 2 == 0 {
            random_lessons(&mut rng, &mut world);
        }
        let ways = world.ways(4);
        if ways.is_empty() || ways.len() > 7 {
            continue;
        }
        let mut query = world.query(4, rng.random_range(10_000..200_000) * 8_000);
        query.max_parts = 4;
        let best = brute_force(&world, &query, &ways);
        match world.router().find(&query, NOW) {
            Ok(routes) => {
                let parts = world.checked(&query, &routes);
                let cost = world.cost(&query, &parts).expect("all parts fit beside each other");
                split += usize::from(parts.len() > 1);
                if let Some(best) = best {
                    assert!(cost <= best + best / 10, "seed {seed}: {cost} where {best} would do");
                    compared += 1;
                    cost_sum += u128::from(cost);
                    best_sum += u128::from(best);
                }
            }
            Err(reason) => assert_eq!(best, None, "seed {seed}: {reason} although eighths get there"),
        }
    }
    assert!(split > 20 && compared > 60, "{split} in parts, {compared} compared");
    assert!(cost_sum * 100 <= best_sum * 101, "{cost_sum} in all, {best_sum} would do");
}

fn two_lines_of(capacity_sat: u64) -> World {
    let mut world = World::default();
    for middle in [1, 2] {
        world.line(0, middle, 1_000_000, [Terms::free(); 2]);
        world.line(middle, 3, capacity_sat, [Terms::fee(1_000, 100); 2]);
    }
    world
}

#[test]
fn what_no_line_carries_alone_goes_over_two() {
    let world = two_lines_of(100_000);
    let mut query = world.query(3, 150_000_001);
    let routes = world.router().find(&query, NOW).unwrap();
    assert_eq!(world.checked(&query, &routes).len(), 2);
    query.max_parts = 1;
    let refused = world.router().find(&query, NOW);
    assert!(
        matches!(refused, Err(NoRoute::TooLittleOnTheWay { found, .. }) if found.msat() >= 75_000_000),
        "{refused:?}"
    );
    query.max_parts = 16;
    query.amount = Msat::new(200_000_001);
    assert!(matches!(world.router().find(&query, NOW), Err(NoRoute::TooLittleToReceive { .. })));
}

#[test]
fn all_parts_together_keep_the_limit_of_fees() {
    let world = two_lines_of(100_000);
    let mut query = world.query(3, 150_000_000);
    // Two base fees and 15,000 for the amount.
    query.max_fee = Msat::new(17_000);
    let routes = world.router().find(&query, NOW).unwrap();
    world.checked(&query, &routes);
    query.max_fee = Msat::new(16_999);
    let refused = world.router().find(&query, NOW);
    assert_eq!(refused, Err(NoRoute::FeeAboveLimit { cheapest: Msat::new(17_000), limit: Msat::new(16_999) }));
}

#[test]
fn an_own_channel_gives_no_more_than_it_has() {
    let mut world = World::default();
    for _ in 0..3 {
        world.line(0, 1, 50_000, [Terms::free(); 2]);
    }
    world.line(1, 2, 1_000_000, [Terms::free(); 2]);
    let query = world.query(2, 140_000_000);
    let routes = world.router().find(&query, NOW).unwrap();
    assert_eq!(world.checked(&query, &routes).len(), 3);
    let query = world.query(2, 150_000_001);
    assert!(matches!(world.router().find(&query, NOW), Err(NoRoute::TooLittleToSend { .. })));
    assert!(routes.iter().all(|route| route.hops.last().is_some_and(|hop| hop.node_id == node(2))));
}
