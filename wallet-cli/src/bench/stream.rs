//! A stream of micropayments, timed: from handing a payment over to knowing that it is committed.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use proto::v1::stream_payments_request::Request;
use proto::v1::stream_payments_response::Response;
use proto::v1::{
    StreamCloseReason, StreamClosed, StreamFinish, StreamOpen, StreamPay, StreamPayBatch, StreamPaymentsRequest,
    StreamPaymentsResponse, stream_open,
};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::bench::latency::Latencies;
use crate::client::{Client, request_id};
use crate::failure::{Exit, Failure};

/// Messages that wait for the transport.
const QUEUE: usize = 1_024;

/// Where a stream goes.
#[derive(Clone, Debug)]
pub enum Destination {
    /// This channel.
    Channel(String),
    /// A channel with this peer.
    Peer(String),
}

/// What is to be paid.
#[derive(Clone, Debug)]
pub struct StreamPlan {
    /// To whom.
    pub destination: Destination,
    /// How much each.
    pub amount_msat: u64,
    /// How many.
    pub count: u64,
    /// How many in one message: 1 to 1,000.
    pub batch: u64,
}

/// What came of it.
pub struct StreamReport {
    /// Payments committed.
    pub committed: u64,
    /// Their sum.
    pub committed_msat: u64,
    /// What a close would have paid the payee in the end.
    pub enforceable_msat: u64,
    /// From the first payment to the last commitment.
    pub elapsed: Duration,
    /// From handing over to committed.
    pub latencies: Latencies,
}

impl StreamReport {
    /// The rate.
    pub fn per_second(&self) -> f64 {
        self.committed as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// The median.
    pub fn p50_ms(&self) -> f64 {
        self.latencies.quantile_ms(0.5)
    }

    /// Nearly the worst.
    pub fn p99_ms(&self) -> f64 {
        self.latencies.quantile_ms(0.99)
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        json!({
            "committed": self.committed, "committed_msat": self.committed_msat,
            "enforceable_msat": self.enforceable_msat, "seconds": self.elapsed.as_secs_f64(),
            "per_second": self.per_second(), "p50_ms": self.p50_ms(), "p99_ms": self.p99_ms(),
        })
    }
}

/// How far one may go: what the node has accepted, and its window from there.
#[derive(Clone, Copy)]
struct Limit {
    sequence: u64,
    msat: u64,
}

/// A message with payments that are not all committed.
struct Message {
    first: u64,
    last: u64,
    at: Instant,
}

/// The messages that were handed over and are not committed, the oldest first.
type Sent = Mutex<VecDeque<Message>>;

/// Pays all of the plan and waits until the session is closed; `progress` sees the committed mark.
///
/// # Errors
/// Where the daemon refuses, or the stream ends before all is committed.
pub async fn pay_stream(client: &Client, plan: StreamPlan, progress: impl FnMut(u64)) -> Result<StreamReport, Failure> {
    let destination = match plan.destination.clone() {
        Destination::Channel(id) => stream_open::Destination::ChannelId(id),
        Destination::Peer(id) => stream_open::Destination::PeerNodeId(id),
    };
    let open = StreamOpen { request_id: request_id()?, destination: Some(destination), ..Default::default() };
    let (requests, queue) = mpsc::channel(QUEUE);
    say(&requests, Request::Open(open)).await?;
    let mut answers = client.payment().stream_payments(ReceiverStream::new(queue)).await?.into_inner();
    let Some(StreamPaymentsResponse { response: Some(Response::Opened(opened)) }) = answers.message().await? else {
        return Err(Failure::defect("a stream that does not begin with Opened"));
    };
    let first = opened.accepted_sequence + 1;
    let (limit, limits) = watch::channel(Limit { sequence: u64::MAX, msat: u64::MAX });
    let (sent, started) = (Sent::default(), Instant::now());
    let sending = hand_over(&plan, first, &sent, limits, requests);
    let listening = listen(answers, limit, &sent, progress);
    let ((), mut report) = tokio::try_join!(sending, listening)?;
    report.elapsed = started.elapsed();
    report.committed = report.latencies.count();
    if report.committed < plan.count {
        let message = format!("{} of {} payments were committed", report.committed, plan.count);
        return Err(Failure::new(Exit::PaymentFailed, message, "see `wallet-cli channel list` for the balance"));
    }
    Ok(report)
}

async fn say(requests: &mpsc::Sender<StreamPaymentsRequest>, request: Request) -> Result<(), Failure> {
    let gone =
        |_| Failure::new(Exit::Unreachable, "the stream broke", "see the daemon's log; the session can be resumed");
    requests.send(StreamPaymentsRequest { request: Some(request) }).await.map_err(gone)
}

/// Hands the payments over as fast as the limit allows, then says that this was all.
async fn hand_over(
    plan: &StreamPlan,
    first: u64,
    sent: &Sent,
    mut limits: watch::Receiver<Limit>,
    requests: mpsc::Sender<StreamPaymentsRequest>,
) -> Result<(), Failure> {
    let mut done = 0;
    while done < plan.count {
        let count = plan.batch.clamp(1, 1_000).min(plan.count - done);
        let (sequence, last) = (first + done, first + done + count - 1);
        let msat = (done + count).saturating_mul(plan.amount_msat);
        // The listener goes first only with an error of its own, which says more than this one.
        if limits.wait_for(|limit| last <= limit.sequence && msat <= limit.msat).await.is_err() {
            return Ok(());
        }
        sent.lock().unwrap_or_else(PoisonError::into_inner).push_back(Message {
            first: sequence,
            last,
            at: Instant::now(),
        });
        let request = if count == 1 {
            Request::Pay(StreamPay { sequence, amount_msat: plan.amount_msat, tag: Vec::new() })
        } else {
            let amounts_msat = vec![plan.amount_msat; count as usize];
            Request::PayBatch(StreamPayBatch { first_sequence: sequence, amounts_msat })
        };
        if say(&requests, request).await.is_err() {
            return Ok(());
        }
        done += count;
    }
    let _ = say(&requests, Request::Finish(StreamFinish {})).await;
    // The queue stays open until the session is closed: its end would be taken for the client's leaving.
    limits.wait_for(|limit| limit.sequence == 0).await.ok();
    Ok(())
}

/// Reads the marks until the session is closed.
async fn listen(
    mut answers: Streaming<StreamPaymentsResponse>,
    limit: watch::Sender<Limit>,
    sent: &Sent,
    mut progress: impl FnMut(u64),
) -> Result<StreamReport, Failure> {
    let mut latencies = Latencies::default();
    let (mut accepted, mut accepted_msat) = (0, 0);
    while let Some(answer) = answers.message().await? {
        match answer.response {
            Some(Response::Progress(marks)) => {
                (accepted, accepted_msat) = (marks.accepted_sequence, marks.accepted_msat);
                count(sent, marks.committed_sequence, &mut latencies);
                progress(latencies.count());
            }
            Some(Response::Window(window)) => {
                let sequence = accepted.saturating_add(window.payments);
                let _ = limit.send(Limit { sequence, msat: accepted_msat.saturating_add(window.amount_msat) });
            }
            Some(Response::Closed(closed)) => {
                count(sent, closed.committed_sequence, &mut latencies);
                let _ = limit.send(Limit { sequence: 0, msat: 0 });
                return report(&closed, latencies);
            }
            Some(Response::Opened(_)) | None => {}
        }
    }
    let message = "the stream ended before it was closed";
    Err(Failure::new(Exit::Unreachable, message, "see the daemon's log; the session can be resumed"))
}

/// Counts the latency of each payment that is committed by now.
fn count(sent: &Sent, committed: u64, latencies: &mut Latencies) {
    let now = Instant::now();
    let mut sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
    while let Some(message) = sent.front().filter(|message| message.last <= committed) {
        for _ in message.first..=message.last {
            latencies.record(now - message.at);
        }
        sent.pop_front();
    }
}

fn report(closed: &StreamClosed, latencies: Latencies) -> Result<StreamReport, Failure> {
    if closed.reason() != StreamCloseReason::Finished {
        let reason = closed.reason().as_str_name().trim_start_matches("STREAM_CLOSE_REASON_").to_lowercase();
        let message =
            format!("the stream was closed: {}, {} paid", reason.replace('_', " "), closed.committed_sequence);
        return Err(Failure::new(Exit::PaymentFailed, message, "see `wallet-cli channel list` for the balance"));
    }
    Ok(StreamReport {
        committed: closed.committed_sequence,
        committed_msat: closed.committed_msat,
        enforceable_msat: closed.enforceable_msat,
        elapsed: Duration::ZERO,
        latencies,
    })
}
