//! Routes over one synthetic graph, ours beside the crate `lightning`'s in the same run: the same pairs, each pair by both.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use channeld::graph::Route;
use channeld::router::{Liquidity, NoRoute, RouteQuery, Router};
use channeld::units::{Msat, NodeId, ShortChannelId, UnixTime};
use clap::Parser;
use lightning::routing::router::{PaymentParameters, RouteParameters, find_route};
use lightning::routing::scoring::{
    ProbabilisticScorer, ProbabilisticScoringDecayParameters, ProbabilisticScoringFeeParameters,
};
use lightning::util::logger::{Logger, Record};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tests::network::Network;

const FINAL_CLTV_DELTA: u32 = 42;

/// Time, odds and fees of routes, ours beside LDK's. Prints JSON.
#[derive(Parser)]
#[command(about, long_about = None)]
struct Args {
    /// Nodes of the graph
    #[arg(long, default_value_t = 15_000)]
    nodes: usize,
    /// Channels of the graph
    #[arg(long, default_value_t = 60_000)]
    channels: usize,
    /// Pairs of payer and payee for each amount
    #[arg(long, default_value_t = 100)]
    pairs: usize,
    /// Amounts in sat
    #[arg(long, value_delimiter = ',', default_value = "1000,100000,2000000")]
    amounts: Vec<u64>,
    /// What the graph and the pairs are drawn from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only ours
    #[arg(long)]
    alone: bool,
}

struct Silent;

impl Logger for Silent {
    fn log(&self, _record: Record) {}
}

/// What one side did with all pairs of an amount.
#[derive(Default)]
struct Tally {
    times: Vec<Duration>,
    fees_msat: Vec<u64>,
    parts: usize,
    delivered: usize,
}

impl Tally {
    fn add(&mut self, time: Duration, parts: Option<Vec<Part>>, network: &Network) {
        self.times.push(time);
        if let Some(parts) = parts {
            self.parts += parts.len();
            self.fees_msat.push(parts.iter().map(|part| part.fee_msat).sum());
            self.delivered += usize::from(is_delivered(&parts, network));
        }
    }

    fn quantile(&self, of_100: usize) -> f64 {
        let mut times = self.times.clone();
        times.sort_unstable();
        let at = (times.len() * of_100 / 100).min(times.len().saturating_sub(1));
        times.get(at).map_or(0.0, |time| time.as_secs_f64() * 1_000.0)
    }

    fn json(&self) -> serde_json::Value {
        let found = self.fees_msat.len();
        let mean = |sum: f64| if found == 0 { 0.0 } else { sum / found as f64 };
        json!({
            "p50_ms": self.quantile(50),
            "p95_ms": self.quantile(95),
            "found": found as f64 / self.times.len().max(1) as f64,
            "delivered_at_once": self.delivered as f64 / self.times.len().max(1) as f64,
            "mean_fee_sat": mean(self.fees_msat.iter().sum::<u64>() as f64 / 1_000.0),
            "mean_parts": mean(self.parts as f64),
        })
    }
}

/// A part: who sends what over which channel, and what it pays.
struct Part {
    hops: Vec<(ShortChannelId, NodeId, u64)>,
    fee_msat: u64,
}

/// Whether every channel really has what all parts want of it. Own channels are taken to have it.
fn is_delivered(parts: &[Part], network: &Network) -> bool {
    let mut wanted: std::collections::BTreeMap<(ShortChannelId, usize), u64> = std::collections::BTreeMap::new();
    for (channel, from, amount) in parts.iter().flat_map(|part| part.hops.iter().skip(1)) {
        let ends = network.channel(*channel).expect("a channel of the graph").ends;
        let end = usize::from(network.nodes[ends[1]] == from.0);
        *wanted.entry((*channel, end)).or_default() += amount;
    }
    wanted.iter().all(|((channel, end), amount)| {
        let channel = network.channel(*channel).expect("a channel of the graph");
        let first = channel.balance_msat;
        *amount <= if *end == 0 { first } else { channel.capacity_sat * 1_000 - first }
    })
}

fn our_parts(routes: &[Route], source: NodeId) -> Vec<Part> {
    let part = |route: &Route| {
        let senders = std::iter::once(source).chain(route.hops.iter().map(|hop| hop.node_id));
        let hops = senders.zip(&route.hops).map(|(from, hop)| (hop.short_channel_id, from, hop.amount.msat()));
        Part { hops: hops.collect(), fee_msat: route.fee().msat() }
    };
    routes.iter().map(part).collect()
}

fn ldk_parts(route: &lightning::routing::router::Route, source: NodeId) -> Vec<Part> {
    let part = |path: &lightning::routing::router::Path| {
        // `fee_msat` of the last hop is the amount.
        let mut amount = 0;
        let mut hops: Vec<(ShortChannelId, NodeId, u64)> = Vec::new();
        for (at, hop) in path.hops.iter().enumerate().rev() {
            amount += hop.fee_msat;
            let from = at.checked_sub(1).map_or(source, |before| NodeId(path.hops[before].pubkey));
            hops.push((ShortChannelId::from_u64(hop.short_channel_id), from, amount));
        }
        hops.reverse();
        Part { hops, fee_msat: path.fee_msat() }
    };
    route.paths.iter().map(part).collect()
}

fn main() {
    let args = Args::parse();
    let now = UnixTime::from_seconds(SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs());
    let network = Network::new(args.seed, args.nodes, args.channels);
    let logger = Silent;
    let ldk = (!args.alone).then(|| network.ldk_graph(now, &logger));
    let scorer = ldk
        .as_ref()
        .map(|graph| ProbabilisticScorer::new(ProbabilisticScoringDecayParameters::default(), graph, &logger));
    let score_params = ProbabilisticScoringFeeParameters::default();
    let snapshot = network.graph(now);
    let began = Instant::now();
    let mut router = Router::new(Liquidity::new());
    router.set_snapshot(&snapshot);
    let prepared = began.elapsed();

    let mut rng = ChaCha8Rng::seed_from_u64(args.seed ^ 0x7061_6972);
    let mut results = Vec::new();
    for amount_sat in &args.amounts {
        let (mut ours, mut theirs) = (Tally::default(), Tally::default());
        let mut reasons: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
        for _ in 0..args.pairs {
            let (one, two) = (rng.random_range(0..args.nodes), rng.random_range(0..args.nodes));
            if one == two {
                continue;
            }
            let (source, payee) = (NodeId(network.nodes[one]), NodeId(network.nodes[two]));
            let query = query(&network, one, payee, *amount_sat);
            let began = Instant::now();
            let routes = router.find(&query, now);
            let time = began.elapsed();
            if let Err(reason) = &routes {
                *reasons.entry(name(reason)).or_default() += 1;
            }
            ours.add(time, routes.ok().map(|routes| our_parts(&routes, source)), &network);
            let (Some(graph), Some(scorer)) = (&ldk, &scorer) else { continue };
            let params = ldk_params(payee, *amount_sat);
            let began = Instant::now();
            let route = find_route(&source.0, &params, graph, None, &logger, scorer, &score_params, &[7; 32]);
            theirs.add(began.elapsed(), route.ok().map(|route| ldk_parts(&route, source)), &network);
        }
        let mut result = json!({ "amount_sat": amount_sat, "channeld": ours.json(), "no_route": reasons });
        if ldk.is_some() {
            result["lightning"] = theirs.json();
            result["ratio_p50"] = json!(ours.quantile(50) / theirs.quantile(50));
            result["ratio_p95"] = json!(ours.quantile(95) / theirs.quantile(95));
        }
        results.push(result);
    }
    let report = json!({
        "nodes": args.nodes,
        "channels": args.channels,
        "pairs": args.pairs,
        "prepare_ms": prepared.as_secs_f64() * 1_000.0,
        "results": results,
    });
    println!("{}", serde_json::to_string_pretty(&report).expect("plain figures"));
}

/// What both sides are asked: up to ten parts, the fees and locks that `lightning` allows by default.
fn query(network: &Network, source: usize, payee: NodeId, amount_sat: u64) -> RouteQuery {
    let amount = Msat::from_sat(amount_sat).expect("an amount");
    let first_hops = network.first_hops(source);
    RouteQuery {
        final_cltv_delta: FINAL_CLTV_DELTA,
        max_fee: Msat::new(amount.msat() / 100 + 50_000),
        max_cltv_delta: 1_008,
        max_parts: 10,
        max_hops: 19,
        ..RouteQuery::new(NodeId(network.nodes[source]), payee, amount, first_hops)
    }
}

fn ldk_params(payee: NodeId, amount_sat: u64) -> RouteParameters {
    let mut features = lightning::types::features::Bolt11InvoiceFeatures::empty();
    features.set_variable_length_onion_required();
    features.set_payment_secret_required();
    features.set_basic_mpp_optional();
    let payment = PaymentParameters::from_node_id(payee.0, FINAL_CLTV_DELTA)
        .with_bolt11_features(features)
        .expect("a payee without blinded paths");
    RouteParameters::from_payment_params_and_value(payment, amount_sat * 1_000)
}

fn name(reason: &NoRoute) -> String {
    format!("{reason:?}").chars().take_while(|letter| letter.is_alphanumeric()).collect()
}
