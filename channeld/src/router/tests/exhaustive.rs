//! Against all ways there are, on small random networks.

use rand::prelude::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::world::{Terms, Way, World, node};
use crate::graph::{DirectedChannel, Direction};
use crate::router::{Lesson, NoRoute, Verdict};
use crate::units::Msat;

fn random_terms(rng: &mut ChaCha8Rng, capacity_sat: u64) -> Terms {
    Terms {
        base: *[0, 0, 1, 1_000, 1_000, 5_000].choose(rng).unwrap(),
        rate: *[0, 1, 100, 500, 2_500, 10_000].choose(rng).unwrap(),
        delta: *[6, 18, 40, 80, 144].choose(rng).unwrap(),
        minimum: *[0, 1, 1_000].choose(rng).unwrap(),
        maximum: capacity_sat * *[1_000, 990, 450].choose(rng).unwrap(),
        disabled: rng.random_range(0..20) == 0,
    }
}

pub fn random_world(rng: &mut ChaCha8Rng, nodes: usize, lines: usize) -> World {
    let mut world = World::default();
    for number in 0..lines {
        let one = if number < nodes - 1 { number } else { rng.random_range(0..nodes) };
        let two = loop {
            match rng.random_range(0..nodes) {
                two if two == one => {}
                two => break two,
            }
        };
        let capacity_sat = *[20_000, 100_000, 400_000, 1_000_000, 5_000_000].choose(rng).unwrap();
        let terms = [random_terms(rng, capacity_sat), random_terms(rng, capacity_sat)];
        world.line(one, two, capacity_sat, terms);
    }
    world
}

pub fn random_lessons(rng: &mut ChaCha8Rng, world: &mut World) {
    for line in world.lines.clone() {
        if rng.random_bool(0.5) {
            continue;
        }
        let direction = Direction::between(&node(line.ends[0]), &node(line.ends[1]));
        let channel = DirectedChannel { short_channel_id: line.id, direction };
        let amount = Msat::new(rng.random_range(1..line.capacity_sat * 1_000));
        let verdict = *[Verdict::Forwarded, Verdict::TooMuch, Verdict::Paid, Verdict::Unusable].choose(rng).unwrap();
        world.learn(&[Lesson::Channel { channel, amount, verdict }]);
    }
}

/// The cheapest of all ways in one part.
fn cheapest(world: &World, query: &crate::router::RouteQuery, ways: &[Way]) -> Option<u64> {
    ways.iter().filter_map(|way| world.cost(query, &[(way.clone(), query.amount.msat())])).min()
}

#[test]
fn no_way_is_more_than_a_hundredth_cheaper() {
    let (mut found, mut refused) = (0, 0);
    for seed in 0..400 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let nodes = rng.random_range(4..9);
        let mut world = random_world(&mut rng, nodes, nodes * 2);
        random_lessons(&mut rng, &mut world);
        let payee = nodes - 1;
        let ways = world.ways(payee);
        let mut router = world.router();
        for _ in 0..8 {
            let amount = *[1_000, 50_000, 1_000_000, 15_000_000, 95_000_000, 380_000_000].choose(&mut rng).unwrap();
            let mut query = world.query(payee, amount);
            query.max_parts = 1;
            // Limits that bind, as well as none.
            query.max_fee = Msat::new(*[u64::MAX, amount / 50 + 2_000, amount / 1_000].choose(&mut rng).unwrap());
            query.max_cltv_delta = *[2_016, 200, 90].choose(&mut rng).unwrap();
            query.max_hops = *[20, 4, 3].choose(&mut rng).unwrap();
            let best = cheapest(&world, &query, &ways);
            match router.find(&query, super::world::NOW) {
                Ok(routes) => {
                    let parts = world.checked(&query, &routes);
                    let cost = world.cost(&query, &parts).expect("within the limits");
                    let best = best.expect("what is found is there");
                    assert!(cost <= best + best / 100, "seed {seed}: {cost} where {best} would do");
                    found += 1;
                }
                Err(reason) => {
                    assert_eq!(best, None, "seed {seed}: {reason} although there is a way");
                    refused += 1;
                }
            }
        }
    }
    assert!(found > 800 && refused > 200, "found {found}, refused {refused}");
}

#[test]
fn the_reason_is_the_one_that_holds() {
    let mut seen = [0; 4];
    for seed in 0..300 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let world = random_world(&mut rng, 6, 12);
        let ways = world.ways(5);
        let mut query = world.query(5, *[1_000_000, 90_000_000].choose(&mut rng).unwrap());
        query.max_parts = 1;
        query.max_fee = Msat::new(rng.random_range(0..3_000));
        query.max_cltv_delta = rng.random_range(20..100);
        let Err(reason) = world.router().find(&query, super::world::NOW) else { continue };
        let free =
            crate::router::RouteQuery { max_fee: Msat::new(u64::MAX), max_cltv_delta: u32::MAX, ..query.clone() };
        let htlcs: Vec<(u64, u32)> =
            ways.iter().filter_map(|way| world.htlcs(&free, way, query.amount.msat())).map(|htlcs| htlcs[0]).collect();
        let in_time = htlcs.iter().filter(|(_, blocks)| *blocks <= query.max_cltv_delta);
        match reason {
            NoRoute::FeeAboveLimit { cheapest, .. } => {
                let least = in_time.map(|(sent, _)| sent - query.amount.msat()).min();
                assert_eq!(least, Some(cheapest.msat()), "seed {seed}");
                seen[0] += 1;
            }
            NoRoute::CltvAboveLimit { shortest, .. } => {
                assert_eq!(htlcs.iter().map(|(_, blocks)| *blocks).min(), Some(shortest), "seed {seed}");
                seen[1] += 1;
            }
            NoRoute::TooLittleOnTheWay { found, .. } => {
                assert!(htlcs.is_empty() && found.msat() > 0, "seed {seed}");
                seen[2] += 1;
            }
            _ => {
                assert!(htlcs.is_empty(), "seed {seed}: {reason}");
                seen[3] += 1;
            }
        }
    }
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
}
