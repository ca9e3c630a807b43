//! Ten daemons pay each other at random while links are cut and daemons killed, in short; the long form is
//! `cargo run --release -p tests --bin network -- --seconds 300`.

use std::time::Duration;

use tests::network::{Network, Plan};

/// What a daemon may grow by in a minute of payments: caches that fill once.
const MOST_GROWTH_KIB: u64 = 64 * 1_024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_daemons_lose_nothing_while_links_break_and_daemons_die() {
    let seed = std::env::var("E2E_SEED").ok().map_or(20_261_121, |text| text.parse().expect("a number"));
    println!("E2E_SEED={seed}");
    let plan = Plan { seed, payments: 120, time: Duration::ZERO, at_once: 12 };
    let report = Network::start(seed).await.play(&plan).await;
    println!("{report:?}");
    assert!(report.kills >= 3 && report.cuts >= 3, "{report:?}");
    assert!(report.outcomes[0] * 2 > plan.payments, "most payments arrive: {report:?}");
    for (name, warm, end) in report.memory_kib {
        assert!(end < warm + MOST_GROWTH_KIB, "{name} grew from {warm} to {end} KiB");
    }
}
