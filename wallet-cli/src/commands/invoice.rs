//! `wallet-cli invoice`.

use std::time::Duration;

use clap::Subcommand;
use proto::v1::event::Detail;
use proto::v1::{
    CancelInvoiceRequest, CreateInvoiceRequest, EventKind, GetInvoiceRequest, Invoice, InvoiceState,
    ListInvoicesRequest, SettleInvoiceRequest, SubscribeEventsRequest,
};

use crate::args::{Global, parse_duration};
use crate::client::{Client, request_id};
use crate::commands::{ListArgs, promised};
use crate::failure::{Exit, Failure};
use crate::money;
use crate::output::{pairs, short, spinner, table};

/// See `--help`.
#[derive(Debug, Subcommand)]
pub enum InvoiceCommand {
    /// Make an invoice (BOLT 11), shown with its QR code.
    #[command(
        after_help = "Examples:\n  wallet-cli invoice create 2500 --description coffee\n  wallet-cli invoice create --description \"any amount\" --wait"
    )]
    Create(CreateArgs),
    /// One invoice.
    Show {
        /// Its payment hash.
        payment_hash: String,
    },
    /// The invoices.
    List(ListArgs),
    /// Take a held payment: its invoice was made with `--hold`.
    Settle {
        /// The preimage, 64 hex digits.
        preimage: String,
    },
    /// Cancel an invoice that is open: it can no longer be paid, and what is held for it goes back.
    Cancel {
        /// Its payment hash.
        payment_hash: String,
    },
}

/// See `--help`.
#[derive(Debug, clap::Args)]
pub struct CreateArgs {
    /// How much, in satoshi unless it says otherwise; without it the payer chooses.
    #[arg(value_parser = money::parse_msat)]
    amount: Option<u64>,
    /// What for: the payer sees it.
    #[arg(long, default_value = "", value_name = "TEXT")]
    description: String,
    /// How long it can be paid.
    #[arg(long, default_value = "1h", value_parser = parse_duration, value_name = "TIME")]
    expiry: Duration,
    /// Hold the payment until `invoice settle` or `invoice cancel`: the hash of a preimage that you keep, 64 hex digits.
    #[arg(long, default_value = "", value_name = "PAYMENT_HASH")]
    hold: String,
    /// Hide who is paid: blinded paths over your peers instead of your node's key (bLIP 39). Not every wallet can pay it.
    #[arg(long)]
    blinded: bool,
    /// Without the QR code.
    #[arg(long)]
    no_qr: bool,
    /// Wait until it is paid.
    #[arg(long)]
    wait: bool,
}

/// Runs it.
///
/// # Errors
/// Where the daemon does not answer or refuses.
pub async fn run(global: &Global, command: InvoiceCommand) -> Result<(), Failure> {
    let (client, output) = (global.client().await?, global.output());
    match command {
        InvoiceCommand::Create(args) => create(global, &client, args).await,
        InvoiceCommand::Show { payment_hash } => output.message(&get(&client, &payment_hash).await?, invoice_text),
        InvoiceCommand::List(args) => {
            let invoices = args.gather(|page_size, page_token| {
                let mut service = client.invoice();
                let request = ListInvoicesRequest { page_size, page_token, order: args.order() };
                async move {
                    let page = service.list_invoices(request).await?.into_inner();
                    Ok((page.invoices, page.next_page_token))
                }
            });
            output.list(&invoices.await?, invoice_table)
        }
        InvoiceCommand::Settle { preimage } => {
            let request = SettleInvoiceRequest { request_id: request_id()?, validate_only: false, preimage };
            let answer = client.invoice().settle_invoice(request).await?.into_inner();
            output.message(&promised(answer.invoice, "invoice")?, |invoice| {
                format!("settled: {}", money::msat(invoice.received_msat))
            })
        }
        InvoiceCommand::Cancel { payment_hash } => {
            let request = CancelInvoiceRequest { request_id: request_id()?, validate_only: false, payment_hash };
            let answer = client.invoice().cancel_invoice(request).await?.into_inner();
            output.message(&promised(answer.invoice, "invoice")?, |_| "cancelled".into())
        }
    }
}

async fn create(global: &Global, client: &Client, args: CreateArgs) -> Result<(), Failure> {
    let expiry = prost_types::Duration { seconds: args.expiry.as_secs() as i64, nanos: 0 };
    let request = CreateInvoiceRequest {
        request_id: request_id()?,
        amount_msat: args.amount,
        description: args.description,
        expiry: Some(expiry),
        payment_hash: args.hold,
        blinded: args.blinded,
        ..Default::default()
    };
    let answer = client.invoice().create_invoice(request).await?.into_inner();
    let invoice = promised(answer.invoice, "invoice")?;
    let show = |invoice: &Invoice| {
        let code = if args.no_qr { String::new() } else { qr_code(&invoice.payment_request).unwrap_or_default() };
        format!("{code}{}", invoice.payment_request)
    };
    let output = global.output();
    if !args.wait {
        return output.message(&invoice, show);
    }
    if !output.json {
        output.message(&invoice, show)?;
    }
    let settled = until_settled(client, &invoice.payment_hash, args.expiry).await?;
    output.message(&settled, |invoice| format!("paid: {}", money::msat(invoice.received_msat)))
}

async fn get(client: &Client, payment_hash: &str) -> Result<Invoice, Failure> {
    let request = GetInvoiceRequest { payment_hash: payment_hash.into() };
    promised(client.invoice().get_invoice(request).await?.into_inner().invoice, "invoice")
}

/// Waits for the event of this invoice.
async fn until_settled(client: &Client, payment_hash: &str, expiry: Duration) -> Result<Invoice, Failure> {
    let kinds = [EventKind::InvoiceSettled, EventKind::InvoiceCancelled, EventKind::InvoiceExpired];
    let kinds = kinds.into_iter().map(i32::from).collect();
    let request = SubscribeEventsRequest { after_index: None, kinds, channel_id: String::new() };
    let mut events = client.node().subscribe_events(request).await?.into_inner();
    let progress = spinner("waiting to be paid");
    let waiting = async {
        loop {
            // The first message says that the subscription stands: what happened before it is seen by asking.
            let message = events.message().await?;
            let message =
                message.ok_or_else(|| Failure::new(Exit::Unreachable, "the daemon stopped", "start it again"))?;
            let ours = match message.event.and_then(|event| event.detail) {
                Some(Detail::Invoice(event)) => event.payment_hash == payment_hash,
                Some(_) => false,
                None => true,
            };
            if !ours {
                continue;
            }
            let invoice = get(client, payment_hash).await?;
            match invoice.state() {
                InvoiceState::Open | InvoiceState::Accepted => {}
                InvoiceState::Settled => return Ok(invoice),
                _ => return Err(Failure::new(Exit::TimedOut, "the invoice was not paid", "make a new one")),
            }
        }
    };
    let settled = tokio::time::timeout(expiry + Duration::from_secs(5), waiting).await;
    progress.finish_and_clear();
    settled.unwrap_or_else(|_| Err(Failure::new(Exit::TimedOut, "the invoice expired unpaid", "make a new one")))
}

/// A QR code in half blocks, two pixels a character. Upper case is what a QR code holds most densely (BOLT 11).
///
/// # Errors
/// A text that is too long for a code.
pub fn qr_code(payment_request: &str) -> Result<String, Failure> {
    let code = qrcode::QrCode::with_error_correction_level(payment_request.to_uppercase(), qrcode::EcLevel::L);
    let code = code.map_err(|error| Failure::defect(format!("no QR code: {error}")))?;
    // Light on dark terminals: what is light in the code must shine.
    let image = code
        .render::<qrcode::render::unicode::Dense1x2>()
        .dark_color(qrcode::render::unicode::Dense1x2::Light)
        .light_color(qrcode::render::unicode::Dense1x2::Dark)
        .build();
    Ok(image + "\n")
}

fn state_text(invoice: &Invoice) -> String {
    invoice.state().as_str_name().trim_start_matches("INVOICE_STATE_").to_lowercase()
}

fn amount_text(invoice: &Invoice) -> String {
    invoice.amount_msat.map_or_else(|| "any".into(), money::msat)
}

fn invoice_table(invoices: &[Invoice]) -> String {
    let rows = invoices.iter().map(|invoice| {
        vec![
            invoice.index.to_string(),
            short(&invoice.payment_hash),
            state_text(invoice),
            amount_text(invoice),
            money::msat(invoice.received_msat),
            invoice.description.clone(),
        ]
    });
    table(&[">no.", "payment hash", "state", ">amount", ">received", "for"], rows)
}

fn invoice_text(invoice: &Invoice) -> String {
    pairs(&[
        ("payment hash", invoice.payment_hash.clone()),
        ("state", state_text(invoice)),
        ("amount", amount_text(invoice)),
        ("received", money::msat(invoice.received_msat)),
        ("for", invoice.description.clone()),
        ("preimage", invoice.preimage.clone()),
        ("invoice", invoice.payment_request.clone()),
    ])
}
