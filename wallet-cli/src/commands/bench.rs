//! `wallet-cli bench`.

use std::time::Duration;

use clap::Args;
use proto::v1::send_payment_request::Payee;

use crate::args::Global;
use crate::bench::workload::{Report, Side, Workload, run as run_workload};
use crate::client::Client;
use crate::commands::payment::pay_to_end;
use crate::demo::network::{Network, NetworkPlan};
use crate::demo::scene;
use crate::failure::{Exit, Failure};
use crate::output::{spinner, table};

/// Limits that keep the benchmark from measuring them: dust exposure, slots and value in flight as high as they go.
const LIMITS: &str = "\
[limits]
max-dust-exposure-msat = 16000000000
max-accepted-htlcs = 483
max-in-flight-percent = 100
stream-window-msat = 16000000000
";

/// The largest channel without `option_support_large_channel`.
const CAPACITY_SAT: u64 = 16_000_000;

/// See `--help`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wallet-cli bench\n  wallet-cli bench --workload stream --scale 5\n  wallet-cli bench --json | jq '.[].payments_per_second'\n\nBuild with --release first: a debug build is many times slower."
)]
pub struct BenchArgs {
    /// Only this workload; may be given more than once.
    #[arg(long, value_name = "NAME")]
    workload: Vec<Workload>,
    /// Make all workloads longer (above 1) or shorter.
    #[arg(long, default_value_t = 1.0, value_parser = parse_scale)]
    scale: f64,
    /// Payments in one message of the stream: 1 sends each by itself.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000), value_name = "COUNT")]
    stream_batch: u64,
}

fn parse_scale(text: &str) -> Result<f64, String> {
    let scale: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    if scale > 0.0 && scale <= 1_000.0 { Ok(scale) } else { Err("must be above 0 and at most 1,000".into()) }
}

/// Runs it.
///
/// # Errors
/// Where a daemon cannot be started, or a workload fails.
pub async fn run(global: &Global, args: BenchArgs) -> Result<(), Failure> {
    let workloads = if args.workload.is_empty() { Workload::ALL.to_vec() } else { args.workload.clone() };
    let progress = spinner("starting a chain and two daemons");
    let network = Network::start(NetworkPlan { name: "bench", nodes: 2, channeld_config: LIMITS.into() }).await?;
    scene::fund(&network).await?;
    scene::open(&network, CAPACITY_SAT, 0, |_| {}).await?;
    progress.finish_and_clear();
    let (alice, bob) = (&network.alice, &network.bob);
    let (payer, payee) = (
        Side { client: &alice.client, presence: &alice.presence },
        Side { client: &bob.client, presence: &bob.presence },
    );
    let mut reports = Vec::new();
    for workload in workloads {
        // What was paid goes back, so that each workload begins with the same balance.
        give_back(&network).await?;
        let report = run_workload(workload, payer, payee, args.scale, args.stream_batch).await;
        let report = report.map_err(|failure| {
            let message = format!("{}: {}\n{}", workload.name(), failure.message, network.last_words());
            Failure::new(Exit::ShowFailed, message, failure.next)
        })?;
        reports.push(report);
    }
    let json = serde_json::to_value(&reports).map_err(|error| Failure::defect(error.to_string()))?;
    global.output().either(|| json, || report_table(&reports))
}

async fn give_back(network: &Network) -> Result<(), Failure> {
    let balances = network.bob.balances().await?;
    // The payee keeps what the channel's reserve wants, and a little to spare.
    let spare = balances.sendable_msat.saturating_sub(200_000_000);
    if spare < 500_000_000 {
        return Ok(());
    }
    let back = pay_to_end(&network.bob.client, Payee::NodeId(network.alice.presence.node_id.clone()), Some(spare));
    tokio::time::timeout(Duration::from_secs(30), back)
        .await
        .map_err(|_| Failure::new(Exit::ShowFailed, "paying back took too long", "see the daemons' logs"))??;
    wait_idle(&network.bob.client).await
}

/// Waits until no HTLC is on the channel.
async fn wait_idle(client: &Client) -> Result<(), Failure> {
    scene::until(Duration::from_secs(30), "HTLCs to settle", async || {
        let channels = scene::channels(client).await?;
        Ok(channels.iter().all(|channel| channel.htlcs.is_empty()).then_some(()))
    })
    .await
}

fn report_table(reports: &[Report]) -> String {
    let optional =
        |figure: Option<f64>, digits: usize| figure.map_or("–".into(), |figure| format!("{figure:.digits$}"));
    let rows = reports.iter().map(|report| {
        vec![
            report.workload.to_string(),
            format!("{:.0}", report.payments_per_second),
            format!("{:.2}", report.p50_ms),
            format!("{:.2}", report.p99_ms),
            format!("{:.1}", report.cpu_us_per_payment),
            optional(report.bytes_per_payment, 0),
            optional(report.flushes_per_payment, 3),
        ]
    });
    table(&["workload", ">payments/s", ">p50 ms", ">p99 ms", ">CPU µs", ">bytes", ">flushes"], rows)
}
