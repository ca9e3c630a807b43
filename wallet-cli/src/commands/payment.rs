//! `wallet-cli pay`.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use proto::v1::{
    DecodePaymentRequestRequest, DecodePaymentRequestResponse, GetPaymentRequest, ListPaymentsRequest, Payment,
    PaymentFailureReason, PaymentState, QueryRoutesRequest, QueryRoutesResponse, SendPaymentRequest,
    query_routes_request, send_payment_request,
};

use crate::args::{Global, parse_duration};
use crate::bench::stream::{Destination, StreamPlan, pay_stream};
use crate::client::{Client, request_id};
use crate::commands::{ListArgs, promised};
use crate::failure::{Exit, Failure};
use crate::money;
use crate::output::{bar, pairs, short, spinner, table};

/// See `--help`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
#[command(
    after_help = "Examples:\n  wallet-cli pay lnbcrt25u1…\n  wallet-cli pay lnbcrt25u1… --max-fee 5 --timeout 10s\n  wallet-cli pay key 02ab… 1000\n  wallet-cli pay stream 02ab… 10msat --count 1000"
)]
pub struct PayArgs {
    /// What else than paying an invoice.
    #[command(subcommand)]
    command: Option<PayCommand>,
    /// The invoice.
    payment_request: Option<String>,
    /// How much, where the invoice leaves that to the payer.
    #[arg(long, value_parser = money::parse_msat)]
    amount: Option<u64>,
    #[command(flatten)]
    limits: PaymentLimits,
}

/// What a payment may cost and how it may go.
#[derive(Clone, Debug, Default, Args)]
pub struct PaymentLimits {
    /// The most that it may cost on top [default: a hundredth, or 10 sat where that is more].
    #[arg(long, value_parser = money::parse_msat, value_name = "AMOUNT")]
    max_fee: Option<u64>,
    /// The most parts at a time, 1 to 64 [default: 16].
    #[arg(long, value_name = "COUNT")]
    max_parts: Option<u32>,
    /// The most blocks for which it may be locked on its way, at most 4032 [default: 2016].
    #[arg(long, value_name = "BLOCKS")]
    max_blocks: Option<u32>,
    /// For how long it is tried, 1s to 1h; what is under way then is waited for [default: 60s].
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    timeout: Option<Duration>,
    /// It leaves over this channel, named by its id [default: the node chooses].
    #[arg(long, default_value = "", hide_default_value = true, value_name = "CHANNEL")]
    over: String,
    /// Only check.
    #[arg(long)]
    dry_run: bool,
}

impl PaymentLimits {
    /// The request that says so.
    fn request(&self, payee: send_payment_request::Payee, amount_msat: Option<u64>) -> SendPaymentRequest {
        let timeout = self.timeout.map(|time| prost_types::Duration { seconds: time.as_secs() as i64, nanos: 0 });
        SendPaymentRequest {
            validate_only: self.dry_run,
            payee: Some(payee),
            amount_msat,
            channel_id: self.over.clone(),
            max_fee_msat: self.max_fee,
            max_parts: self.max_parts,
            max_cltv_delta: self.max_blocks,
            timeout,
            ..Default::default()
        }
    }
}

/// See `--help`.
#[derive(Debug, Subcommand)]
pub enum PayCommand {
    /// Pay a node by its key, without an invoice.
    Key {
        /// The node's id.
        node_id: String,
        /// How much, in satoshi unless it says otherwise.
        #[arg(value_parser = money::parse_msat)]
        amount: u64,
        /// What it may cost and how it may go.
        #[command(flatten)]
        limits: PaymentLimits,
    },
    /// Many small payments to the other end of a channel.
    Stream {
        /// The node's id, or a channel's id.
        to: String,
        /// How much each, in satoshi unless it says otherwise.
        #[arg(value_parser = money::parse_msat)]
        amount: u64,
        /// How many.
        #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
        count: u64,
    },
    /// Which way a payment would go, and which channels it cannot use.
    Routes {
        /// The node's id, or an invoice.
        payee: String,
        /// How much, where no invoice says it.
        #[arg(value_parser = money::parse_msat)]
        amount: Option<u64>,
    },
    /// What an invoice says.
    Decode {
        /// The invoice.
        payment_request: String,
    },
    /// The payments.
    List(ListArgs),
    /// One payment.
    Show {
        /// Its payment hash.
        payment_hash: String,
    },
}

/// Runs it.
///
/// # Errors
/// Where the daemon does not answer or refuses, or the payment fails.
pub async fn run(global: &Global, args: PayArgs) -> Result<(), Failure> {
    let (client, output) = (global.client().await?, global.output());
    let Some(command) = args.command else {
        let invoice =
            args.payment_request.ok_or_else(|| Failure::usage("no invoice", "see `wallet-cli pay --help`"))?;
        let payee = send_payment_request::Payee::PaymentRequest(invoice);
        return send(global, &client, args.limits.request(payee, args.amount)).await;
    };
    match command {
        PayCommand::Key { node_id, amount, limits } => {
            let payee = send_payment_request::Payee::NodeId(node_id);
            send(global, &client, limits.request(payee, Some(amount))).await
        }
        PayCommand::Stream { to, amount, count } => stream(global, &client, to, amount, count).await,
        PayCommand::Routes { payee, amount } => {
            let payee = match payee.len() {
                66 => query_routes_request::Payee::NodeId(payee),
                _ => query_routes_request::Payee::PaymentRequest(payee),
            };
            let request = QueryRoutesRequest { payee: Some(payee), amount_msat: amount, ..Default::default() };
            let answer = client.payment().query_routes(request).await?.into_inner();
            output.message(&answer, routes_text)
        }
        PayCommand::Decode { payment_request } => {
            let request = DecodePaymentRequestRequest { payment_request };
            let answer = client.payment().decode_payment_request(request).await?.into_inner();
            output.message(&answer, decoded)
        }
        PayCommand::List(args) => {
            let payments = args.gather(|page_size, page_token| {
                let mut service = client.payment();
                let request = ListPaymentsRequest { page_size, page_token, order: args.order() };
                async move {
                    let page = service.list_payments(request).await?.into_inner();
                    Ok((page.payments, page.next_page_token))
                }
            });
            output.list(&payments.await?, payment_table)
        }
        PayCommand::Show { payment_hash } => {
            let answer = client.payment().get_payment(GetPaymentRequest { payment_hash }).await?.into_inner();
            output.message(&promised(answer.payment, "payment")?, payment_text)
        }
    }
}

async fn send(global: &Global, client: &Client, request: SendPaymentRequest) -> Result<(), Failure> {
    if request.validate_only {
        client.payment().send_payment(request).await?;
        return global.output().either(|| serde_json::json!({}), || "it can be tried".into());
    }
    let progress = spinner("paying");
    let started = Instant::now();
    let payment = follow(client, request).await;
    let took = started.elapsed();
    progress.finish_and_clear();
    let payment = payment?;
    if payment.state() == PaymentState::Failed {
        if global.json {
            global.output().message(&payment, |_| String::new())?;
        }
        let reason = payment.failure_reason().as_str_name().trim_start_matches("PAYMENT_FAILURE_REASON_");
        let message = format!("the payment failed: {}", reason.to_lowercase().replace('_', " "));
        return Err(Failure::new(Exit::PaymentFailed, message, after_failure(payment.failure_reason())));
    }
    global.output().message(&payment, |payment| paid(payment, took))
}

/// What to do next about a payment that failed for certain.
fn after_failure(reason: PaymentFailureReason) -> String {
    use PaymentFailureReason as R;
    let advice = match reason {
        R::NoRoute => "see which channels are of no use to it: `wallet-cli pay routes`; or allow more with --max-fee",
        R::TimedOut => "try again with a longer --timeout",
        R::AttemptsExhausted => "try again later, or in fewer parts: --max-parts 1",
        R::ChannelUnavailable => "see `wallet-cli channel list`, then try again",
        R::TimedOutOnChain => {
            "a node on the way did not answer in time; try again over another channel: --over CHANNEL"
        }
        R::UnknownPaymentDetails | R::MppTimeout | R::Remote | R::UnreadableFailure | R::Unspecified => {
            "ask the payee for a new invoice"
        }
    };
    format!("nothing was paid; {advice}")
}

/// Pays and follows the payment to its final state.
///
/// # Errors
/// Where the daemon refuses, or goes away before the payment is final.
pub async fn pay_to_end(
    client: &Client,
    payee: send_payment_request::Payee,
    amount_msat: Option<u64>,
) -> Result<Payment, Failure> {
    follow(client, PaymentLimits::default().request(payee, amount_msat)).await
}

async fn follow(client: &Client, mut request: SendPaymentRequest) -> Result<Payment, Failure> {
    request.request_id = request_id()?;
    let mut updates = client.payment().send_payment(request).await?.into_inner();
    let mut last = None;
    while let Some(update) = updates.message().await? {
        last = update.payment.or(last);
    }
    match last {
        Some(payment) if payment.state() != PaymentState::InFlight => Ok(payment),
        _ => {
            let message = "the daemon stopped while the payment was in flight: it may still succeed";
            Err(Failure::new(Exit::Unreachable, message, "start channeld, then see `wallet-cli pay list`"))
        }
    }
}

async fn stream(global: &Global, client: &Client, to: String, amount_msat: u64, count: u64) -> Result<(), Failure> {
    let destination = if to.len() == 66 { Destination::Peer(to) } else { Destination::Channel(to) };
    let plan = StreamPlan { destination, amount_msat, count, batch: 1 };
    let progress = bar(count, "paying");
    let report = pay_stream(client, plan, |committed| progress.set_position(committed)).await;
    progress.finish_and_clear();
    let report = report?;
    let text = pairs(&[
        ("paid", format!("{} payments, {}", money::grouped(report.committed), money::msat(report.committed_msat))),
        ("rate", format!("{:.0} payments/s", report.per_second())),
        ("until committed", format!("{:.2} ms (p50), {:.2} ms (p99)", report.p50_ms(), report.p99_ms())),
        ("enforceable", money::msat(report.enforceable_msat)),
    ]);
    global.output().either(|| report.to_json(), || text)
}

fn paid(payment: &Payment, took: Duration) -> String {
    pairs(&[
        ("paid", money::msat(payment.amount_msat)),
        ("fee", money::msat(payment.fee_msat)),
        ("in", format!("{:.1} ms", took.as_secs_f64() * 1_000.0)),
        ("preimage", payment.preimage.clone()),
    ])
}

fn state_text(payment: &Payment) -> String {
    payment.state().as_str_name().trim_start_matches("PAYMENT_STATE_").to_lowercase().replace('_', " ")
}

fn payment_table(payments: &[Payment]) -> String {
    let rows = payments.iter().map(|payment| {
        vec![
            payment.index.to_string(),
            short(&payment.payment_hash),
            state_text(payment),
            money::msat(payment.amount_msat),
            money::msat(payment.fee_msat),
            short(&payment.payee_node_id),
        ]
    });
    table(&[">no.", "payment hash", "state", ">amount", ">fee", "to"], rows)
}

fn payment_text(payment: &Payment) -> String {
    let mut rows = vec![
        ("payment hash", payment.payment_hash.clone()),
        ("state", state_text(payment)),
        ("amount", money::msat(payment.amount_msat)),
        ("fee", money::msat(payment.fee_msat)),
        ("to", payment.payee_node_id.clone()),
        ("preimage", payment.preimage.clone()),
    ];
    if payment.state() == PaymentState::Failed {
        let reason = payment.failure_reason().as_str_name().trim_start_matches("PAYMENT_FAILURE_REASON_");
        rows.push(("because", reason.to_lowercase().replace('_', " ")));
    }
    if let Some(height) = payment.deadline_height {
        rows.push(("certain at", format!("block {height}")));
    }
    pairs(&rows)
}

fn routes_text(answer: &QueryRoutesResponse) -> String {
    let hops = (1..).zip(&answer.routes).flat_map(|(part, route)| {
        route.hops.iter().map(move |hop| {
            let (amount, blocks) = (money::msat(hop.amount_msat), hop.cltv_delta.to_string());
            vec![part.to_string(), hop.short_channel_id.clone(), hop.node_id.clone(), amount, blocks]
        })
    });
    let edges = answer.excluded_edges.iter().map(|edge| {
        let (from, to) = (short(&edge.from_node_id), short(&edge.to_node_id));
        vec![edge.short_channel_id.clone(), from, to, edge.description.clone()]
    });
    let mut text = match answer.routes.is_empty() {
        true => format!("no way: {}", answer.no_route_reason),
        false => {
            let hops = table(&[">part", "channel", "to", ">amount", ">blocks"], hops);
            format!("{hops}\nfee  {}", money::msat(answer.fee_msat))
        }
    };
    if !answer.excluded_edges.is_empty() {
        text += &format!("\n\nnot used:\n{}", table(&["channel", "from", "to", "because"], edges));
    }
    text
}

fn decoded(answer: &DecodePaymentRequestResponse) -> String {
    let amount = answer.amount_msat.map_or_else(|| "what you like".into(), money::msat);
    let expires = answer.expires_at.as_ref().map(|at| at.to_string()).unwrap_or_default();
    let introductions = answer.blinded_paths.iter().map(|path| path.introduction_node_id.as_str());
    let to = match answer.blinded_paths.len() {
        0 => answer.payee_node_id.clone(),
        // The key that signed is nobody's node.
        _ => format!("somebody behind {}", introductions.collect::<Vec<_>>().join(", ")),
    };
    pairs(&[
        ("amount", amount),
        ("for", answer.description.clone()),
        ("to", to),
        ("payment hash", answer.payment_hash.clone()),
        ("expires", expires),
    ])
}
