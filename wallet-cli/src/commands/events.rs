//! `wallet-cli events`.

use clap::Args;
use proto::v1::event::Detail;
use proto::v1::{Event, EventKind, SubscribeEventsRequest};

use crate::args::Global;
use crate::failure::{Exit, Failure};
use crate::money;
use crate::output::short;

/// See `--help`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wallet-cli events                              from now on\n  wallet-cli events --after 0                    all that is kept, then from now on\n  wallet-cli events --kind channel_ready --count 1    wait for a channel\n  wallet-cli --json events | jq .kind"
)]
pub struct EventsArgs {
    /// Begin after this event's index; 0 is the first that is kept [default: from now on].
    #[arg(long, value_name = "INDEX")]
    after: Option<u64>,
    /// Only this kind, such as channel_ready or invoice_settled; may be given more than once.
    #[arg(long, value_name = "KIND", value_parser = parse_kind)]
    kind: Vec<EventKind>,
    /// Only this channel.
    #[arg(long, value_name = "ID", default_value = "")]
    channel: String,
    /// End after so many.
    #[arg(long, value_name = "COUNT")]
    count: Option<u64>,
}

fn parse_kind(text: &str) -> Result<EventKind, String> {
    let name = format!("EVENT_KIND_{}", text.to_uppercase().replace('-', "_"));
    EventKind::from_str_name(&name).filter(|kind| *kind != EventKind::Unspecified).ok_or_else(|| {
        let kinds = (1..).map_while(|number| EventKind::try_from(number).ok());
        let names: Vec<String> = kinds.map(kind_text).collect();
        format!("not a kind of event; there are: {}", names.join(", "))
    })
}

fn kind_text(kind: EventKind) -> String {
    kind.as_str_name().trim_start_matches("EVENT_KIND_").to_lowercase()
}

/// Runs it.
///
/// # Errors
/// Where the daemon does not answer, refuses, or stops.
pub async fn run(global: &Global, args: EventsArgs) -> Result<(), Failure> {
    let kinds = args.kind.iter().map(|kind| i32::from(*kind)).collect();
    let request = SubscribeEventsRequest { after_index: args.after, kinds, channel_id: args.channel };
    let mut events = global.client().await?.node().subscribe_events(request).await?.into_inner();
    let mut seen = 0;
    while args.count.is_none_or(|count| seen < count) {
        let message = events.message().await?;
        let Some(message) = message else {
            let next = "start channeld again, and go on with --after and the last index";
            return Err(Failure::new(Exit::Unreachable, "the daemon stopped", next));
        };
        let Some(event) = message.event else {
            let first = message.first_event_index;
            if args.after.is_some_and(|after| after > 0 && after < first.saturating_sub(1)) {
                eprintln!("events before {first} are no longer kept");
            }
            continue;
        };
        global.output().item(&event, event_line)?;
        seen += 1;
    }
    Ok(())
}

fn event_line(event: &Event) -> String {
    let at = event.created_at.as_ref().map(|at| at.to_string()).unwrap_or_default();
    format!("{:>6}  {at}  {:22}  {}", event.index, kind_text(event.kind()), detail(event))
}

fn detail(event: &Event) -> String {
    let Some(detail) = &event.detail else { return String::new() };
    match detail {
        Detail::Peer(peer) => format!("{} {}", short(&peer.node_id), peer.reason),
        Detail::Channel(channel) => {
            format!("{} {}{}", short(&channel.channel_id), channel.closing_txid, channel.reason)
        }
        Detail::Claim(claim) => {
            let what = if claim.penalty { "penalty of " } else { "" };
            format!("{} {what}{} by {}", short(&claim.channel_id), money::sat(claim.amount_sat), claim.txid)
        }
        Detail::Invoice(invoice) => format!("{} {}", short(&invoice.payment_hash), money::msat(invoice.received_msat)),
        Detail::Payment(payment) => format!("{} {}", short(&payment.payment_hash), money::msat(payment.amount_msat)),
        Detail::Stream(stream) => {
            format!("{} up to {}, {}", short(&stream.session_id), stream.last_sequence, money::msat(stream.total_msat))
        }
        Detail::Transaction(transaction) => {
            let (received, sent) = (money::sat(transaction.received_sat), money::sat(transaction.sent_sat));
            format!("{} +{received} -{sent}", transaction.txid)
        }
        Detail::Warning(warning) => warning.message.clone(),
        Detail::Forward(forward) => {
            let (came, fee) = (money::msat(forward.incoming_msat), money::msat(forward.fee_msat));
            let end = forward.failure_code.map(|code| format!(", failure {code:#06x}")).unwrap_or_default();
            format!("{} {came}, fee {fee}{end}", short(&forward.payment_hash))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_read_as_they_are_written() {
        assert_eq!(parse_kind("channel_ready"), Ok(EventKind::ChannelReady));
        assert_eq!(parse_kind("invoice-settled"), Ok(EventKind::InvoiceSettled));
        assert!(parse_kind("nothing").unwrap_err().contains("channel_ready"));
        assert!(parse_kind("unspecified").is_err());
    }
}
