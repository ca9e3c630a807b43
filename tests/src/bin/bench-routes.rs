//! Routes over one synthetic graph, ours beside the crate `lightning`'s in the same run: the same pairs, each pair by both.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use channeld::graph::Route;
use channeld::router::{FirstHop, Liquidity, NoRoute, RouteQuery, Router};
use channeld::units::{ChannelId, Msat, NodeId, ShortChannelId, UnixTime};
use clap::Parser;
use lightning::routing::router::{PaymentParameters, RouteParameters, find_route};
use lightning::routing::scoring::{
    ProbabilisticScorer, ProbabilisticScoringDecayParameters, ProbabilisticScoringFeeParameters,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tests::synthetic::{Silent, Synthetic};

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

/// The graph, what hangs on each node of it, and what nobody is told: how much of each channel its first end really has.
struct World {
    network: Synthetic,
    channels_of: Vec<Vec<usize>>,
    balances_msat: Vec<u64>,
}

impl World {
    fn new(args: &Args, now: UnixTime) -> World {
        let network = Synthetic::new(args.seed, args.nodes, args.channels, (now.seconds() - 3_600) as u32);
        let mut rng = ChaCha8Rng::seed_from_u64(args.seed ^ 0x6261_6c61);
        let mut channels_of = vec![Vec::new(); args.nodes];
        let mut balances_msat = Vec::with_capacity(network.channels.len());
        for (at, channel) in network.channels.iter().enumerate() {
            channel.nodes.iter().for_each(|node| channels_of[*node].push(at));
            balances_msat.push(rng.random_range(0..=channel.capacity_sat * 1_000));
        }
        World { network, channels_of, balances_msat }
    }

    fn channel(&self, short_channel_id: ShortChannelId) -> usize {
        let channels = &self.network.channels;
        let found = channels.binary_search_by_key(&short_channel_id, |channel| channel.short_channel_id);
        found.expect("a route uses channels of the graph")
    }

    /// The channels that `node` may send over, as if it were ours: each can send what its policy allows.
    fn first_hops(&self, node: usize) -> Vec<FirstHop> {
        let own = self.channels_of[node].iter().map(|at| &self.network.channels[*at]);
        let usable = own.filter_map(|channel| {
            let end = usize::from(channel.nodes[1] == node);
            let policy = channel.policies[end].as_ref().filter(|policy| !policy.disabled)?;
            Some(FirstHop {
                short_channel_id: channel.short_channel_id,
                channel: ChannelId([0; 32]),
                peer: self.network.node_id(channel.nodes[1 - end]),
                spendable: Msat::new(policy.htlc_maximum_msat),
                htlc_minimum: Msat::new(policy.htlc_minimum_msat),
            })
        });
        usable.collect()
    }
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
    fn add(&mut self, time: Duration, parts: Option<Vec<Part>>, world: &World) {
        self.times.push(time);
        if let Some(parts) = parts {
            self.parts += parts.len();
            self.fees_msat.push(parts.iter().map(|part| part.fee_msat).sum());
            self.delivered += usize::from(is_delivered(&parts, world));
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
fn is_delivered(parts: &[Part], world: &World) -> bool {
    let mut wanted: BTreeMap<(usize, bool), u64> = BTreeMap::new();
    for (id, from, amount) in parts.iter().flat_map(|part| part.hops.iter().skip(1)) {
        let channel = world.channel(*id);
        let is_first = world.network.node_id(world.network.channels[channel].nodes[0]) == *from;
        *wanted.entry((channel, is_first)).or_default() += amount;
    }
    wanted.iter().all(|((channel, is_first), amount)| {
        let first = world.balances_msat[*channel];
        let capacity = world.network.channels[*channel].capacity_sat * 1_000;
        *amount <= if *is_first { first } else { capacity - first }
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
    let world = World::new(&args, now);
    let network = &world.network;
    let ldk = (!args.alone).then(|| network.ldk_graph());
    let scorer = ldk
        .as_ref()
        .map(|graph| ProbabilisticScorer::new(ProbabilisticScoringDecayParameters::default(), graph, &Silent));
    let score_params = ProbabilisticScoringFeeParameters::default();
    let snapshot = network.graph().snapshot();
    let began = Instant::now();
    let mut router = Router::new(Liquidity::new());
    router.set_snapshot(&snapshot);
    let prepared = began.elapsed();

    let mut rng = ChaCha8Rng::seed_from_u64(args.seed ^ 0x7061_6972);
    let mut results = Vec::new();
    for amount_sat in &args.amounts {
        let (mut ours, mut theirs) = (Tally::default(), Tally::default());
        let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..args.pairs {
            let (one, two) = (rng.random_range(0..args.nodes), rng.random_range(0..args.nodes));
            if one == two {
                continue;
            }
            let (source, payee) = (network.node_id(one), network.node_id(two));
            let query = query(&world, one, payee, *amount_sat);
            let began = Instant::now();
            let routes = router.find(&query, now);
            let time = began.elapsed();
            if let Err(reason) = &routes {
                *reasons.entry(name(reason)).or_default() += 1;
            }
            ours.add(time, routes.ok().map(|routes| our_parts(&routes, source)), &world);
            let (Some(graph), Some(scorer)) = (&ldk, &scorer) else { continue };
            let params = ldk_params(payee, *amount_sat);
            let began = Instant::now();
            let route = find_route(&source.0, &params, graph, None, &Silent, scorer, &score_params, &[7; 32]);
            theirs.add(began.elapsed(), route.ok().map(|route| ldk_parts(&route, source)), &world);
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
fn query(world: &World, source: usize, payee: NodeId, amount_sat: u64) -> RouteQuery {
    let amount = Msat::from_sat(amount_sat).expect("an amount");
    let first_hops = world.first_hops(source);
    RouteQuery {
        final_cltv_delta: FINAL_CLTV_DELTA,
        max_fee: Msat::new(amount.msat() / 100 + 50_000),
        max_cltv_delta: 1_008,
        max_parts: 10,
        max_hops: 19,
        ..RouteQuery::new(world.network.node_id(source), payee, amount, first_hops)
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
