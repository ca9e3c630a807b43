//! The five workloads, and what each is measured by.

use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use crate::bench::htlc::{HtlcPlan, pay_htlcs};
use crate::bench::latency::Latencies;
use crate::bench::meter;
use crate::bench::stream::{Destination, StreamPlan, pay_stream};
use crate::client::{Client, Presence};
use crate::failure::Failure;
use crate::output::bar;

/// Payments at the same time in the pipelined workloads.
const PIPELINE: usize = 400;

/// A workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// HTLCs of 100 sat (dust), one at a time.
    #[value(name = "sequential-100sat")]
    Sequential100,
    /// HTLCs of 10,000 sat, one at a time.
    #[value(name = "sequential-10000sat")]
    Sequential10000,
    /// HTLCs of 100 sat, 400 in flight.
    #[value(name = "pipelined-100sat")]
    Pipelined100,
    /// HTLCs of 10,000 sat, 400 in flight.
    #[value(name = "pipelined-10000sat")]
    Pipelined10000,
    /// Micropayments of 1 sat in a stream.
    #[value(name = "stream")]
    Stream,
}

impl Workload {
    /// All of them, in the order in which they run.
    pub const ALL: [Workload; 5] = [
        Workload::Sequential100,
        Workload::Sequential10000,
        Workload::Pipelined100,
        Workload::Pipelined10000,
        Workload::Stream,
    ];

    /// Its name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Workload::Sequential100 => "sequential-100sat",
            Workload::Sequential10000 => "sequential-10000sat",
            Workload::Pipelined100 => "pipelined-100sat",
            Workload::Pipelined10000 => "pipelined-10000sat",
            Workload::Stream => "stream",
        }
    }

    /// How many payments it makes unless it is told otherwise: some seconds' worth, within one channel's balance.
    fn payments(self) -> u64 {
        match self {
            Workload::Sequential100 | Workload::Sequential10000 => 500,
            Workload::Pipelined100 => 6_000,
            Workload::Pipelined10000 => 1_200,
            Workload::Stream => 2_000_000,
        }
    }

    fn amount_msat(self) -> u64 {
        match self {
            Workload::Sequential100 | Workload::Pipelined100 => 100_000,
            Workload::Sequential10000 | Workload::Pipelined10000 => 10_000_000,
            Workload::Stream => 1_000,
        }
    }

    fn in_flight(self) -> usize {
        match self {
            Workload::Pipelined100 | Workload::Pipelined10000 => PIPELINE,
            _ => 1,
        }
    }
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The workload's name.
    pub workload: &'static str,
    /// How many payments were made.
    pub payments: u64,
    /// The rate.
    pub payments_per_second: f64,
    /// The median of one payment, from the call to its final answer.
    pub p50_ms: f64,
    /// Nearly the worst.
    pub p99_ms: f64,
    /// Processor time of both daemons.
    pub cpu_us_per_payment: f64,
    /// Bytes that both daemons' journals grew by; `null` where they do not say.
    pub bytes_per_payment: Option<f64>,
    /// Flushes of both daemons' journals; `null` where they do not say.
    pub flushes_per_payment: Option<f64>,
}

/// A node under test.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    /// The way to it.
    pub client: &'a Client,
    /// Its process and key.
    pub presence: &'a Presence,
}

/// Runs one workload from payer to payee; `scale` makes it longer or shorter.
///
/// # Errors
/// Where a daemon refuses or a payment fails.
pub async fn run(
    workload: Workload,
    payer: Side<'_>,
    payee: Side<'_>,
    scale: f64,
    stream_batch: u64,
) -> Result<Report, Failure> {
    let count = ((workload.payments() as f64 * scale) as u64).max(10);
    let progress = bar(count, workload.name());
    let before = meter::read(payer.presence).await.plus(meter::read(payee.presence).await);
    let node_id = payee.presence.node_id.clone();
    let amount_msat = workload.amount_msat();
    let paid = match workload {
        Workload::Stream => {
            let plan = StreamPlan { destination: Destination::Peer(node_id), amount_msat, count, batch: stream_batch };
            let report = pay_stream(payer.client, plan, |done| progress.set_position(done)).await;
            report.map(|report| (report.elapsed, report.latencies))
        }
        _ => {
            let plan = HtlcPlan { payee: node_id, amount_msat, count, in_flight: workload.in_flight() };
            pay_htlcs(payer.client, &plan, |done| progress.set_position(done)).await
        }
    };
    progress.finish_and_clear();
    let (elapsed, latencies) = paid?;
    let used = meter::read(payer.presence).await.plus(meter::read(payee.presence).await).since(before);
    Ok(report(workload, elapsed, &latencies, used))
}

fn report(workload: Workload, elapsed: Duration, latencies: &Latencies, used: meter::Usage) -> Report {
    let payments = latencies.count();
    let each = |figure: f64| figure / payments.max(1) as f64;
    Report {
        workload: workload.name(),
        payments,
        payments_per_second: payments as f64 / elapsed.as_secs_f64().max(1e-9),
        p50_ms: latencies.quantile_ms(0.5),
        p99_ms: latencies.quantile_ms(0.99),
        cpu_us_per_payment: each(used.cpu.as_secs_f64() * 1e6),
        bytes_per_payment: used.bytes.map(|bytes| each(bytes as f64)),
        flushes_per_payment: used.flushes.map(|flushes| each(flushes as f64)),
    }
}
