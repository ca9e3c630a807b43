//! Ten daemons as processes pay each other at random while links are cut and daemons killed: the long form of `tests/it/multihop/network.rs`.

use std::time::Duration;

use clap::Parser;
use serde_json::json;
use tests::network::{Network, Plan};

/// Plays a network of ten daemons, checks every millisatoshi, and prints one JSON object. The daemons must be built in the same
/// profile
#[derive(Parser)]
#[command(about, long_about = None)]
struct Args {
    /// How long payments begin
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// Who pays whom, and what breaks
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Payments under way at a time
    #[arg(long, default_value_t = 20)]
    at_once: usize,
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    let plan = Plan { seed: args.seed, payments: 100, time: Duration::from_secs(args.seconds), at_once: args.at_once };
    let report = Network::start(args.seed).await.play(&plan).await;
    let [succeeded, failed, refused] = report.outcomes;
    let memory: Vec<_> = report
        .memory_kib
        .iter()
        .map(|(name, warm, end)| json!({ "name": name, "warm_kib": warm, "end_kib": end }))
        .collect();
    let seconds = report.time.as_secs_f64();
    let object = json!({
        "ok": true,
        "seconds": seconds,
        "succeeded": succeeded,
        "failed": failed,
        "refused": refused,
        "payments_per_second": succeeded as f64 / seconds,
        "paid_msat": report.paid_msat[0],
        "fees_msat": report.paid_msat[1],
        "forwarded": report.forwarded,
        "kills": report.kills,
        "cuts": report.cuts,
        "memory": memory,
    });
    println!("{object}");
}
