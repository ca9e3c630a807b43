//! Payments by HTLC, timed: from the call to the final answer.

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use proto::v1::send_payment_request::Payee;
use proto::v1::{ErrorReason, PaymentState};

use crate::bench::latency::Latencies;
use crate::client::Client;
use crate::commands::payment::pay_to_end;
use crate::failure::{Exit, Failure};

/// What is to be paid, by key.
#[derive(Clone, Debug)]
pub struct HtlcPlan {
    /// To whom.
    pub payee: String,
    /// How much each.
    pub amount_msat: u64,
    /// How many.
    pub count: u64,
    /// How many at the same time.
    pub in_flight: usize,
}

/// Pays all of the plan; how long it took in all, and each.
///
/// # Errors
/// Where the daemon refuses, or a payment fails.
pub async fn pay_htlcs(
    client: &Client,
    plan: &HtlcPlan,
    mut progress: impl FnMut(u64),
) -> Result<(Duration, Latencies), Failure> {
    let started = Instant::now();
    let pay = |_| async {
        let started = Instant::now();
        pay_once(client, plan).await?;
        Ok::<_, Failure>(started.elapsed())
    };
    let mut latencies = Latencies::default();
    let mut payments = std::pin::pin!(stream::iter(0..plan.count).map(pay).buffer_unordered(plan.in_flight));
    while let Some(took) = payments.try_next().await? {
        latencies.record(took);
        progress(latencies.count());
    }
    Ok((started.elapsed(), latencies))
}

/// One payment. A limit of the channel that is reached for the moment is waited for, and that wait counts.
async fn pay_once(client: &Client, plan: &HtlcPlan) -> Result<(), Failure> {
    loop {
        let payment = match pay_to_end(client, Payee::NodeId(plan.payee.clone()), Some(plan.amount_msat)).await {
            Err(failure) if is_full(&failure) => {
                tokio::time::sleep(Duration::from_micros(200)).await;
                continue;
            }
            payment => payment?,
        };
        if payment.state() == PaymentState::Succeeded {
            return Ok(());
        }
        let reason = payment.failure_reason().as_str_name();
        let message = format!("payment {} failed: {reason}", payment.index);
        return Err(Failure::new(Exit::PaymentFailed, message, "see the daemons' logs"));
    }
}

/// Whether the channel, or the node, has taken as much as it may for the moment.
fn is_full(failure: &Failure) -> bool {
    let full = [
        ErrorReason::SlotsExhausted,
        ErrorReason::DustExposureReached,
        ErrorReason::InFlightLimitReached,
        ErrorReason::TooManyRequests,
    ];
    let name = |reason: &ErrorReason| reason.as_str_name().trim_start_matches("ERROR_REASON_").to_string();
    failure.reason.as_ref().is_some_and(|reason| full.iter().any(|full| name(full) == *reason))
}
