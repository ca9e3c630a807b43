//! What the demo found: the one object that `--json` prints.

use serde::Serialize;

/// All of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Whether every step and every sum is right.
    pub ok: bool,
    /// The steps, in order; after the first that failed there is none.
    pub steps: Vec<Step>,
    /// Every satoshi.
    pub balance: Balance,
    /// The streams.
    pub micropayments: Micropayments,
    /// The cheater's end.
    pub penalty: Penalty,
    /// The chain beside the channel.
    pub layers: Layers,
}

/// One step.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Its name.
    pub name: &'static str,
    /// Whether it went well.
    pub ok: bool,
    /// How long it took.
    pub seconds: f64,
}

/// The balance sheet.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Balance {
    /// All coinbase outputs.
    pub mined_sat: u64,
    /// All coins of both nodes, immature ones and anchors too.
    pub wallets_sat: u64,
    /// The fees of all transactions.
    pub fees_sat: u64,
    /// Mined less wallets less fees: 0.
    pub difference_sat: i64,
}

/// The streams, both ways.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Micropayments {
    /// How many were paid.
    pub count: u64,
    /// The rate.
    pub per_second: f64,
    /// The median from handing over to committed.
    pub p50_ms: f64,
    /// Nearly the worst.
    pub p99_ms: f64,
}

/// The cheater's end.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Penalty {
    /// The revoked commitment that was broadcast.
    pub revoked_txid: String,
    /// The transactions that punished it.
    pub penalty_txids: Vec<String>,
    /// What they brought.
    pub claimed_sat: u64,
}

/// A payment on the chain beside one in a channel.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Layers {
    /// On the chain.
    pub l1: Layer,
    /// In a channel.
    pub l2: Layer,
}

/// What a payment costs and how long it takes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Layer {
    /// The rate.
    pub payments_per_second: f64,
    /// The fee of one.
    pub fee_sat: u64,
    /// Until it is final.
    pub seconds_to_final: f64,
}

/// What a demo with a whole network found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct WebReport {
    /// Whether every step and every sum is right.
    pub ok: bool,
    /// The steps, in order; after the first that failed there is none.
    pub steps: Vec<Step>,
    /// How many nodes.
    pub nodes: usize,
    /// How many channels.
    pub channels: usize,
    /// The payments across the network.
    pub multihop: Multihop,
    /// Every satoshi.
    pub balance: Balance,
}

/// Payments over several hops.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Multihop {
    /// How many were tried.
    pub count: usize,
    /// How many arrived.
    pub succeeded: usize,
    /// The most channels that one went over.
    pub hops_max: usize,
    /// The median from asking to paid.
    pub p50_ms: f64,
}
