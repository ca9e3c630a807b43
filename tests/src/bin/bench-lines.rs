//! Payments along lines of nodes, ours beside the crate `lightning`'s in the same run, on the same chain: ours as processes, whose
//! every turn is flushed before anything leaves; LDK's with its updating persister over files, each synced with its folder.

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Parser;
use futures::{StreamExt, stream};
use proto::v1::{ListEdgesRequest, OpenChannelRequest, open_channel_request};
use serde::Serialize;
use tests::chain::nobody;
use tests::{ChainNode, Cluster, Daemon, LdkNode, LdkTerms, until};
use wallet_cli::bench::htlc::{HtlcPlan, pay_htlcs};
use wallet_cli::bench::latency::Latencies;
use wallet_cli::bench::meter;

/// Neither side's limits are what is measured.
const LIMITS: &str = "[limits]\nconfirmations = 2\nmax-dust-exposure-msat = 16000000000\nmax-accepted-htlcs = 483\n\
                      max-in-flight-percent = 100\n";
const CAPACITY_SAT: u64 = 16_000_000;
const PUBLIC: LdkTerms = LdkTerms { anchors: true, public: true };
const NAMES: [&str; 8] = ["alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi"];
/// Each is awaited before anything is measured.
const WARM_UP: u64 = 5;

/// Latency and rate of payments along lines of nodes, ours beside LDK's
#[derive(Parser)]
#[command(about, long_about = None)]
struct Args {
    /// Nodes of each line
    #[arg(long, value_delimiter = ',', default_value = "3,5", value_parser = clap::value_parser!(u64).range(2..=8))]
    nodes: Vec<u64>,
    /// Payments one after the other
    #[arg(long, default_value_t = 200)]
    sequential: u64,
    /// Payments with several in flight
    #[arg(long, default_value_t = 1_000)]
    pipelined: u64,
    /// How many are in flight then
    #[arg(long, default_value_t = 100)]
    in_flight: usize,
    /// What each pays, in sat
    #[arg(long, default_value_t = 10_000)]
    amount_sat: u64,
    /// How often all of it is measured, in turns
    #[arg(long, default_value_t = 1)]
    rounds: u32,
    /// JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// One workload of one line.
#[derive(Serialize)]
struct Figures {
    implementation: &'static str,
    nodes: u64,
    round: u32,
    in_flight: usize,
    payments: u64,
    payments_per_second: f64,
    p50_ms: f64,
    p95_ms: f64,
    /// Of all nodes of the line. LDK's share the process with the harness.
    processor_ms_per_payment: f64,
}

/// All of a run.
#[derive(Serialize)]
struct Report {
    amount_sat: u64,
    load_average_before: String,
    load_average_after: String,
    lines: Vec<Figures>,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 8)]
async fn main() {
    let args = Args::parse();
    let before = load_average();
    let mut lines = Vec::new();
    for round in 1..=args.rounds {
        for nodes in &args.nodes {
            ours(&args, *nodes, round, &mut lines).await;
            ldks(&args, *nodes, round, &mut lines).await;
        }
    }
    let report =
        Report { amount_sat: args.amount_sat, load_average_before: before, load_average_after: load_average(), lines };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report).expect("plain figures"));
    } else {
        print_table(&report);
    }
}

fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

fn print_table(report: &Report) {
    println!("load average {} before, {} after", report.load_average_before, report.load_average_after);
    println!(
        "{:<10} {:>5} {:>9} {:>10} {:>9} {:>9} {:>8}",
        "", "nodes", "in flight", "payments/s", "p50 ms", "p95 ms", "CPU ms"
    );
    for line in &report.lines {
        println!(
            "{:<10} {:>5} {:>9} {:>10.1} {:>9.1} {:>9.1} {:>8.2}",
            line.implementation,
            line.nodes,
            line.in_flight,
            line.payments_per_second,
            line.p50_ms,
            line.p95_ms,
            line.processor_ms_per_payment
        );
    }
}

/// What was done in which time, of which processor time.
struct Run {
    in_flight: usize,
    took: Duration,
    latencies: Latencies,
    processor: Duration,
}

impl Run {
    fn figures(&self, implementation: &'static str, nodes: u64, round: u32) -> Figures {
        let payments = self.latencies.count();
        Figures {
            implementation,
            nodes,
            round,
            in_flight: self.in_flight,
            payments,
            payments_per_second: payments as f64 / self.took.as_secs_f64(),
            p50_ms: self.latencies.quantile_ms(0.5),
            p95_ms: self.latencies.quantile_ms(0.95),
            processor_ms_per_payment: self.processor.as_secs_f64() * 1_000.0 / payments as f64,
        }
    }
}

async fn ours(args: &Args, nodes: u64, round: u32, lines: &mut Vec<Figures>) {
    let cluster = Cluster::start(&NAMES[..nodes as usize], LIMITS).await;
    cluster.fund().await;
    for pair in cluster.nodes.windows(2) {
        open(&cluster, &pair[0], &pair[1]).await;
    }
    let (payer, payee) = (cluster.alice(), &cluster.nodes[nodes as usize - 1]);
    until("the payer to know the line", async || {
        let edges = payer.client().graph().list_edges(ListEdgesRequest::default()).await.ok()?.into_inner().edges;
        let told = edges.iter().filter(|edge| edge.node_1_policy.is_some() && edge.node_2_policy.is_some());
        (told.count() as u64 == nodes - 1).then_some(())
    })
    .await;
    let plan =
        |count, in_flight| HtlcPlan { payee: payee.id(), amount_msat: args.amount_sat * 1_000, count, in_flight };
    let paid = async |count, in_flight| {
        let paid = pay_htlcs(payer.client(), &plan(count, in_flight), |_| {}).await;
        paid.unwrap_or_else(|failure| panic!("{failure}"))
    };
    paid(WARM_UP, 1).await;
    for (count, in_flight) in [(args.sequential, 1), (args.pipelined, args.in_flight)] {
        let before = processor(&cluster.nodes).await;
        let (took, latencies) = paid(count, in_flight).await;
        let processor = processor(&cluster.nodes).await - before;
        lines.push(Run { in_flight, took, latencies, processor }.figures("channeld", nodes, round));
    }
}

async fn processor(nodes: &[Daemon]) -> Duration {
    let mut sum = Duration::ZERO;
    for node in nodes {
        sum += meter::read(node.presence()).await.cpu;
    }
    sum
}

async fn open(cluster: &Cluster, from: &Daemon, to: &Daemon) {
    from.connect(to).await;
    let wanted = OpenChannelRequest {
        amount: Some(open_channel_request::Amount::CapacitySat(CAPACITY_SAT)),
        announce: true,
        ..Default::default()
    };
    let channel = from.open(to.id(), wanted).await.expect("it opens");
    cluster.chain.await_mempool(&channel.funding_outpoint.expect("a funding output").txid).await;
    cluster.mine(6).await;
    for node in [from, to] {
        node.channel_until("usable", &channel.channel_id, |channel| channel.usable).await;
    }
}

async fn ldks(args: &Args, count: u64, round: u32, lines: &mut Vec<Figures>) {
    let folder = tempfile::Builder::new().prefix("lines-").tempdir().expect("a folder");
    let chain = ChainNode::start(folder.path()).await;
    let nodes = ldk_line(&chain, folder.path(), count).await;
    let (payer, payee) = (&nodes[0], nodes[count as usize - 1].node_id());
    let pay = async || {
        let began = Instant::now();
        // A limit that is reached for the moment is waited for, and that wait counts; as with ours.
        while !payer.keysend_to_end(payee, args.amount_sat * 1_000).await {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        began.elapsed()
    };
    for _ in 0..WARM_UP {
        pay().await;
    }
    for (count_of, in_flight) in [(args.sequential, 1), (args.pipelined, args.in_flight)] {
        let (before, began) = (own_processor(), Instant::now());
        let mut latencies = Latencies::default();
        let mut payments = std::pin::pin!(stream::iter(0..count_of).map(|_| pay()).buffer_unordered(in_flight));
        while let Some(took) = payments.next().await {
            latencies.record(took);
        }
        let (took, processor) = (began.elapsed(), own_processor() - before);
        lines.push(Run { in_flight, took, latencies, processor }.figures("LDK", count, round));
    }
}

/// LDK nodes, each with a public channel to the next, and the first knows all of them.
async fn ldk_line(chain: &ChainNode, folder: &Path, count: u64) -> Vec<LdkNode> {
    let mut nodes = Vec::new();
    for number in 0..count {
        nodes.push(LdkNode::start_durable(chain, PUBLIC, &folder.join(format!("ldk-{number}"))).await);
    }
    for node in &nodes {
        chain.mine(2, &node.wallet_address()).await;
    }
    chain.mine(101, &nobody()).await;
    for node in &nodes {
        node.synced(chain).await;
    }
    for pair in nodes.windows(2) {
        let (id, address) = pair[1].place();
        pair[0].connect(id, address).await;
        pair[0].open(id, CAPACITY_SAT, 0);
        until("LDK's funding transaction", async || (!chain.mempool().await.is_empty()).then_some(())).await;
        chain.mine(7, &nobody()).await;
        for node in pair {
            node.synced(chain).await;
        }
        until("LDK's channel", async || pair[1].channels().iter().all(|channel| channel.is_usable).then_some(())).await;
    }
    until("LDK to know the line", async || {
        let graph = nodes[0].graph().read_only();
        let channels = graph.channels().unordered_iter();
        // Towards the payee is enough: an update of the other end may have been lost (LDK drops what comes too early).
        let told = channels.filter(|(_, channel)| channel.one_to_two.is_some() || channel.two_to_one.is_some());
        (told.count() as u64 == count - 1).then_some(())
    })
    .await;
    nodes
}

/// Of all threads of this process; from `/proc/self/stat`, in hundredths of a second.
fn own_processor() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
