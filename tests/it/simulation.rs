//! A few seeds of the simulation, so that `cargo test --workspace` plays it, too; `.ci/run` plays a thousand.

use tests::simulation::{self, Shape};

/// As many as take some seconds where nothing is optimised.
const SEEDS: u64 = 20;
/// Networks that once found a fault: a payment begun again in the turn in which it failed, and payments that stayed without an
/// HTLC because their channel was lost while a way was searched.
const FOUND: [u64; 3] = [27, 109, 147];

#[test]
fn seeds_keep_all_rules() {
    for seed in 0..SEEDS {
        // A broken rule is a panic; the seed above it is the one to replay.
        println!("cargo run --release -p tests --bin simulate -- --seed {seed}");
        simulation::run(seed, false);
    }
}

#[test]
fn a_line_forwards_under_crashes_and_cuts() {
    for seed in [8, 16].into_iter().chain(FOUND) {
        println!("cargo run --release -p tests --bin simulate -- --networks --seed {seed}");
        simulation::run_in(Shape::network(seed), seed, false);
    }
}

#[test]
fn a_seed_is_the_same_world_every_time() {
    let digests = [3, 3].map(|seed| simulation::run(seed, false).digest);
    assert_eq!(digests[0], digests[1]);
}
