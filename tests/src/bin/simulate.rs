//! Plays seeds of the simulation: one, loudly, or many on all cores until one fails.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use tests::simulation::{self, Shape, Summary};

/// Two whole nodes, their disks, a wire and a chain in one thread, from one seed.
#[derive(Parser)]
#[command(about, long_about = None)]
struct Args {
    /// Replay this one seed; every step is a line on stderr
    #[arg(long, conflicts_with_all = ["seeds", "first"])]
    seed: Option<u64>,
    /// How many seeds to play
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Play in lines and rings of three and four nodes, with a hop that may lie
    #[arg(long)]
    networks: bool,
    /// Go on after a failing seed, and list all of them at the end (needs a build that unwinds)
    #[arg(long)]
    keep_going: bool,
}

thread_local! {
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

fn main() {
    let args = Args::parse();
    let keep_going = args.keep_going && cfg!(panic = "unwind");
    tell_of_failures(keep_going);
    if let Some(seed) = args.seed {
        SEED.set(Some(seed));
        let summary = simulation::run_in(shape(args.networks, seed), seed, true);
        println!("seed {seed}: ok, {} steps, digest {:016x}", summary.steps, summary.digest);
        summary.counts.iter().for_each(|(what, count)| println!("{count:>8} {what}"));
        return;
    }
    let (done, total) = (AtomicU64::new(0), Mutex::new(BTreeMap::<&str, u64>::new()));
    let failed = Mutex::new(Vec::new());
    let next = AtomicU64::new(args.first);
    let last = args.first.saturating_add(args.seeds);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    // Not rayon's threads: one that waits for others in a world would begin the next seed inside of it.
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= last {
                        return;
                    }
                    match play(seed, args.networks, keep_going) {
                        Some(summary) => add(&total, &summary),
                        None => failed.lock().expect("no panic while it is held").push(seed),
                    }
                    let count = done.fetch_add(1, Ordering::Relaxed) + 1;
                    if count.is_multiple_of(50) {
                        eprintln!("{count} of {} seeds", args.seeds);
                    }
                }
            });
        }
    });
    for (what, count) in total.into_inner().expect("no panic while it is held") {
        println!("{count:>8} {what}");
    }
    let mut failed = failed.into_inner().expect("no panic while it is held");
    failed.sort_unstable();
    if !failed.is_empty() {
        println!("{} of {} seeds failed: {failed:?}", failed.len(), args.seeds);
        std::process::exit(1);
    }
    println!("{} seeds from {} on: ok", args.seeds, args.first);
}

const fn shape(networks: bool, seed: u64) -> Shape {
    if networks { Shape::network(seed) } else { Shape::Pair }
}

/// `None` where a rule was broken and others are to be played all the same.
fn play(seed: u64, networks: bool, keep_going: bool) -> Option<Summary> {
    SEED.set(Some(seed));
    let shape = shape(networks, seed);
    if keep_going {
        return std::panic::catch_unwind(|| simulation::run_in(shape, seed, false)).ok();
    }
    Some(simulation::run_in(shape, seed, false))
}

fn add(total: &Mutex<BTreeMap<&'static str, u64>>, summary: &Summary) {
    let mut total = total.lock().expect("no panic while it is held");
    *total.entry("steps").or_default() += summary.steps;
    for (what, count) in &summary.counts {
        *total.entry(*what).or_default() += count;
    }
}

/// A broken rule is a panic: the seed and the way to replay it are printed, and the process ends unless it goes on.
fn tell_of_failures(keep_going: bool) {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if let Some(seed) = SEED.get() {
            eprintln!("seed {seed} failed: cargo run --release -p tests --bin simulate -- --seed {seed}");
        }
        default(info);
        if !keep_going {
            std::process::exit(1);
        }
    }));
}
