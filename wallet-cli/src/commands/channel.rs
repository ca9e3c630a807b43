//! `wallet-cli channel`.

use std::time::Duration;

use clap::Subcommand;
use proto::v1::{
    AuditChannelsRequest, AuditCheck, Channel, ChannelAudit, ChannelState, ChannelType, CloseChannelRequest, CloseMode,
    ClosePlan, ForwardingPolicy, FundingStatus, GetChannelRequest, ListChannelsRequest, OpenChannelRequest,
    PlanCloseRequest, PlanCloseResponse, PlannedOutput, PlannedOutputKind, UpdateChannelPolicyRequest,
    open_channel_request,
};

use crate::args::{Global, parse_duration};
use crate::client::{Client, channel_until, request_id};
use crate::commands::{ListArgs, promised};
use crate::failure::{Exit, Failure};
use crate::money;
use crate::output::{pairs, short, spinner, table};

/// See `--help`.
#[derive(Debug, Subcommand)]
pub enum ChannelCommand {
    /// Open a channel with a connected peer.
    #[command(
        after_help = "Examples:\n  wallet-cli channel open 02ab… 1000000 --wait\n  wallet-cli channel open 02ab… --max"
    )]
    Open(OpenArgs),
    /// The channels.
    List(ListArgs),
    /// One channel.
    Show {
        /// Its id, or its short channel id.
        channel: String,
    },
    /// Close a channel: together with the peer, or alone with --force.
    #[command(
        after_help = "Examples:\n  wallet-cli channel close 100x1x0 --wait\n  wallet-cli channel close ID --force"
    )]
    Close(CloseArgs),
    /// Change what a channel asks for forwarding; what is not given stays.
    #[command(
        after_help = "Examples:\n  wallet-cli channel policy 100x1x0 --base-fee 500msat --rate 100\n  wallet-cli channel policy 100x1x0 --cltv-delta 80 --dry-run"
    )]
    Policy(PolicyArgs),
    /// What closing would cost now, together and by force, and from which block on each output could be spent.
    #[command(after_help = "Example:\n  wallet-cli channel plan-close 100x1x0")]
    PlanClose {
        /// Its id, or its short channel id.
        channel: String,
    },
    /// Check that every channel could be enforced: the peer's signatures, the secrets and rows of penalties, the funding.
    ///
    /// Ends with exit code 1 where something is wrong.
    #[command(after_help = "Examples:\n  wallet-cli channel audit\n  wallet-cli channel audit 100x1x0 --json")]
    Audit {
        /// Only this one: its id, or its short channel id.
        channel: Option<String>,
        /// How many.
        #[command(flatten)]
        list: ListArgs,
    },
}

/// See `--help`.
#[derive(Debug, clap::Args)]
pub struct OpenArgs {
    /// The peer's node id.
    peer: String,
    /// How large, in satoshi unless it says otherwise.
    #[arg(value_parser = money::parse_sat, required_unless_present = "max", conflicts_with = "max")]
    capacity: Option<u64>,
    /// All that can be spent.
    #[arg(long)]
    max: bool,
    /// What the peer gets of it at once, as a gift.
    #[arg(long, value_parser = money::parse_msat, default_value = "0", value_name = "AMOUNT")]
    push: u64,
    /// The funding transaction's feerate in satoshi per 1,000 weight units [default: the node's estimate].
    #[arg(long, value_name = "SAT")]
    feerate_per_kw: Option<u32>,
    /// Without anchors, for peers that know nothing better.
    #[arg(long)]
    without_anchors: bool,
    /// Announce it to the network at six confirmations, so that others route over it.
    #[arg(long)]
    announce: bool,
    /// Only check.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    waiting: WaitArgs,
}

/// See `--help`.
#[derive(Debug, clap::Args)]
pub struct CloseArgs {
    /// Its id, or its short channel id.
    channel: String,
    /// Alone, with the newest commitment: delayed, and dearer.
    #[arg(long)]
    force: bool,
    /// Where this node's share goes [default: its wallet].
    #[arg(long, value_name = "ADDRESS")]
    to: Option<String>,
    /// The closing transaction's feerate in satoshi per 1,000 weight units [default: the node's estimate].
    #[arg(long, value_name = "SAT")]
    feerate_per_kw: Option<u32>,
    #[command(flatten)]
    waiting: WaitArgs,
}

/// See `--help`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
pub struct PolicyArgs {
    /// Its id, or its short channel id.
    channel: String,
    /// The fee for any payment, in satoshi unless it says otherwise.
    #[arg(long, group = "what", value_parser = money::parse_msat, value_name = "AMOUNT")]
    base_fee: Option<u64>,
    /// The fee for each million of what is sent on.
    #[arg(long, group = "what", value_name = "MILLIONTHS")]
    rate: Option<u32>,
    /// How many blocks the incoming HTLC must last longer than the outgoing one: 34 to 2016.
    #[arg(long, group = "what", value_name = "BLOCKS")]
    cltv_delta: Option<u32>,
    /// The smallest payment that is sent on.
    #[arg(long, group = "what", value_parser = money::parse_msat, value_name = "AMOUNT")]
    min: Option<u64>,
    /// The largest payment that is sent on.
    #[arg(long, group = "what", value_parser = money::parse_msat, value_name = "AMOUNT")]
    max: Option<u64>,
    /// Only check.
    #[arg(long)]
    dry_run: bool,
}

/// Whether to wait, and how long.
#[derive(Clone, Debug, clap::Args)]
pub struct WaitArgs {
    /// Wait until it is done; blocks may have to be mined meanwhile.
    #[arg(long)]
    wait: bool,
    /// How long to wait at most.
    #[arg(long, default_value = "1h", value_parser = parse_duration, value_name = "TIME")]
    timeout: Duration,
}

/// Runs it.
///
/// # Errors
/// Where the daemon does not answer or refuses.
pub async fn run(global: &Global, command: ChannelCommand) -> Result<(), Failure> {
    let (client, output) = (global.client().await?, global.output());
    match command {
        ChannelCommand::Open(args) => open(global, &client, args).await,
        ChannelCommand::List(args) => output.list(&list(&client, &args).await?, channel_table),
        ChannelCommand::Show { channel } => {
            let request = GetChannelRequest { channel_id: channel };
            let answer = client.channel().get_channel(request).await?.into_inner();
            output.message(&promised(answer.channel, "channel")?, channel_text)
        }
        ChannelCommand::Close(args) => close(global, &client, args).await,
        ChannelCommand::Policy(args) => update_policy(global, &client, args).await,
        ChannelCommand::PlanClose { channel } => {
            let request = PlanCloseRequest { channel_id: channel };
            output.message(&client.channel().plan_close(request).await?.into_inner(), plan_text)
        }
        ChannelCommand::Audit { channel, list } => audit(global, &client, channel, &list).await,
    }
}

async fn open(global: &Global, client: &Client, args: OpenArgs) -> Result<(), Failure> {
    let amount = match args.capacity {
        Some(sat) if !args.max => open_channel_request::Amount::CapacitySat(sat),
        _ => open_channel_request::Amount::Max(true),
    };
    let kind = if args.without_anchors { ChannelType::StaticRemotekey } else { ChannelType::Anchors };
    let request = OpenChannelRequest {
        request_id: request_id()?,
        validate_only: args.dry_run,
        peer_node_id: args.peer,
        amount: Some(amount),
        push_msat: args.push,
        feerate_per_kw: args.feerate_per_kw,
        channel_type: kind.into(),
        announce: args.announce,
    };
    let answer = client.channel().open_channel(request).await?.into_inner();
    let output = global.output();
    if args.dry_run {
        return output.message(&answer, |_| "it can be opened".into());
    }
    let mut channel = promised(answer.channel, "channel")?;
    if args.waiting.wait {
        channel = wait(client, &channel.channel_id, &args.waiting, |channel| {
            channel.usable || channel.state() as i32 > ChannelState::Open as i32
        })
        .await?;
        if !channel.usable {
            let message = format!("the channel is {} and not open", state_text(&channel));
            return Err(Failure::new(Exit::Refused, message, "see `wallet-cli events --after 0` for what happened"));
        }
    }
    output.message(&channel, |channel| format!("{}\n{}", channel.channel_id, state_line(channel)))
}

async fn close(global: &Global, client: &Client, args: CloseArgs) -> Result<(), Failure> {
    let mode = if args.force { CloseMode::Force } else { CloseMode::Cooperative };
    let request = CloseChannelRequest {
        request_id: request_id()?,
        validate_only: false,
        channel_id: args.channel,
        mode: mode.into(),
        address: args.to.unwrap_or_default(),
        feerate_per_kw: args.feerate_per_kw,
    };
    let mut channel = promised(client.channel().close_channel(request).await?.into_inner().channel, "channel")?;
    if args.waiting.wait {
        let closed = |channel: &Channel| channel.state() == ChannelState::Closed;
        channel = wait(client, &channel.channel_id, &args.waiting, closed).await?;
    }
    global.output().message(&channel, state_line)
}

async fn wait(
    client: &Client,
    channel_id: &str,
    args: &WaitArgs,
    done: impl Fn(&Channel) -> bool,
) -> Result<Channel, Failure> {
    let progress = spinner("waiting");
    let waited = channel_until(client, channel_id, args.timeout, |channel| {
        progress.set_message(state_line(channel));
        done(channel)
    });
    let channel = waited.await;
    progress.finish_and_clear();
    channel
}

async fn list(client: &Client, args: &ListArgs) -> Result<Vec<Channel>, Failure> {
    let channels = args.gather(|page_size, page_token| {
        let mut service = client.channel();
        let request = ListChannelsRequest { page_size, page_token, order: args.order(), peer_node_id: String::new() };
        async move {
            let page = service.list_channels(request).await?.into_inner();
            Ok((page.channels, page.next_page_token))
        }
    });
    channels.await
}

async fn update_policy(global: &Global, client: &Client, args: PolicyArgs) -> Result<(), Failure> {
    let named = [
        ("fee_base_msat", args.base_fee.is_some()),
        ("fee_proportional_millionths", args.rate.is_some()),
        ("cltv_expiry_delta", args.cltv_delta.is_some()),
        ("htlc_minimum_msat", args.min.is_some()),
        ("htlc_maximum_msat", args.max.is_some()),
    ];
    let paths = named.iter().filter(|(_, given)| *given).map(|(name, _)| (*name).to_owned()).collect();
    let request = UpdateChannelPolicyRequest {
        request_id: request_id()?,
        validate_only: args.dry_run,
        channel_id: args.channel,
        policy: Some(ForwardingPolicy {
            fee_base_msat: args.base_fee.unwrap_or_default(),
            fee_proportional_millionths: args.rate.unwrap_or_default(),
            cltv_expiry_delta: args.cltv_delta.unwrap_or_default(),
            htlc_minimum_msat: args.min.unwrap_or_default(),
            htlc_maximum_msat: args.max.unwrap_or_default(),
        }),
        update_mask: Some(prost_types::FieldMask { paths }),
    };
    let answer = client.channel().update_channel_policy(request).await?.into_inner();
    global.output().message(&promised(answer.policy, "policy")?, |policy| pairs(&policy_rows(policy)))
}

fn policy_rows(policy: &ForwardingPolicy) -> Vec<(&'static str, String)> {
    vec![
        (
            "forwarding fee",
            format!("{} and {} of a million", money::msat(policy.fee_base_msat), policy.fee_proportional_millionths),
        ),
        ("cltv delta", format!("{} blocks", policy.cltv_expiry_delta)),
        ("carries", format!("{} to {}", money::msat(policy.htlc_minimum_msat), money::msat(policy.htlc_maximum_msat))),
    ]
}

async fn audit(global: &Global, client: &Client, channel: Option<String>, args: &ListArgs) -> Result<(), Failure> {
    let audits = args.gather(|page_size, page_token| {
        let mut service = client.channel();
        let request = AuditChannelsRequest { channel_id: channel.clone().unwrap_or_default(), page_size, page_token };
        async move {
            let page = service.audit_channels(request).await?.into_inner();
            Ok((page.audits, page.next_page_token))
        }
    });
    let audits = audits.await?;
    global.output().list(&audits, audit_table)?;
    let wrong = audits.iter().filter(|audit| !audit.ok).count();
    if wrong == 0 {
        return Ok(());
    }
    let message = format!("{wrong} of {} channels would not be enforced as they should", audits.len());
    let next = "close these channels together with their peers, and report what the table says with the daemon's log";
    Err(Failure::new(Exit::Refused, message, next))
}

fn audit_table(audits: &[ChannelAudit]) -> String {
    let lower = |name: &str, prefix: &str| name.trim_start_matches(prefix).to_lowercase();
    let rows = audits.iter().map(|audit| {
        let status = FundingStatus::try_from(audit.funding_status).unwrap_or_default();
        vec![
            short(&audit.channel_id),
            if audit.ok { "ok".into() } else { "WRONG".into() },
            audit.signature_count.to_string(),
            money::grouped(audit.revoked_count),
            money::grouped(audit.penalty_row_count),
            lower(status.as_str_name(), "FUNDING_STATUS_"),
        ]
    });
    let mut text = table(&["channel", "audit", ">signatures", ">revoked", ">penalty rows", "funding"], rows);
    for audit in audits {
        for problem in &audit.problems {
            let check = AuditCheck::try_from(problem.check).unwrap_or_default();
            let check = lower(check.as_str_name(), "AUDIT_CHECK_");
            text.push_str(&format!("\n{}: {check}: {}", short(&audit.channel_id), problem.description));
        }
    }
    text
}

fn plan_text(plan: &PlanCloseResponse) -> String {
    let mut text = format!(
        "as of block {}; the closing transaction would be in block {}",
        plan.block_height,
        plan.block_height + 1
    );
    let ways = [
        ("together", &plan.cooperative, "not possible: the peer is away, or the channel has failed"),
        ("by force", &plan.forced, "not possible: this node lost data, only the peer can close"),
    ];
    for (name, way, otherwise) in ways {
        text.push_str(&format!("\n\n{name}: "));
        match way {
            None => text.push_str(otherwise),
            Some(way) => text.push_str(&way_text(way)),
        }
    }
    if plan.pending_htlc_count > 0 {
        let waits = format!("\n\n{} HTLCs are on their way: closing together waits for them", plan.pending_htlc_count);
        text.push_str(&waits);
    }
    text
}

fn way_text(way: &ClosePlan) -> String {
    let figures = pairs(&[
        ("  reaches the wallet", money::sat(way.net_sat)),
        ("  transaction fee", format!("{}, {} of it ours", money::sat(way.fee_sat), money::sat(way.own_fee_sat))),
        ("  claims and child", money::sat(way.claim_fee_sat)),
    ]);
    let row = |output: &PlannedOutput| {
        let kind = match output.kind() {
            PlannedOutputKind::Closing => "our share",
            PlannedOutputKind::ToLocal => "our balance, delayed",
            PlannedOutputKind::OfferedHtlc => "HTLC out, if the peer does not take it",
            PlannedOutputKind::ReceivedHtlc => "HTLC in",
            PlannedOutputKind::Unspecified => "",
        };
        let figures = [output.amount_sat, output.claim_fee_sat].map(money::grouped);
        [vec![kind.to_owned()], figures.to_vec(), vec![output.spendable_height.to_string()]].concat()
    };
    let outputs = table(&["output", ">sat", ">claim fee", ">spendable from block"], way.outputs.iter().map(row));
    format!("\n{figures}\n{outputs}")
}

fn state_text(channel: &Channel) -> String {
    channel.state().as_str_name().trim_start_matches("CHANNEL_STATE_").to_lowercase().replace('_', " ")
}

fn state_line(channel: &Channel) -> String {
    match channel.state() {
        ChannelState::AwaitingConfirmation => {
            format!("awaiting confirmation: {} of {} blocks", channel.confirmations, channel.required_confirmations)
        }
        ChannelState::Open if !channel.usable => "open, the peer is away".into(),
        _ if !channel.closing_txid.is_empty() => format!("{}: {}", state_text(channel), channel.closing_txid),
        _ => state_text(channel),
    }
}

fn channel_table(channels: &[Channel]) -> String {
    let rows = channels.iter().map(|channel| {
        let id = if channel.short_channel_id.is_empty() { &channel.channel_id } else { &channel.short_channel_id };
        vec![
            short(id),
            short(&channel.peer_node_id),
            state_text(channel),
            money::grouped(channel.capacity_sat),
            money::msat(channel.local_msat),
            money::msat(channel.remote_msat),
            channel.htlcs.len().to_string(),
        ]
    });
    table(&["channel", "peer", "state", ">capacity", ">ours", ">theirs", ">htlcs"], rows)
}

fn channel_text(channel: &Channel) -> String {
    let funding = channel.funding_outpoint.clone().unwrap_or_default();
    let mut rows = vec![
        ("channel", channel.channel_id.clone()),
        ("short id", channel.short_channel_id.clone()),
        ("peer", channel.peer_node_id.clone()),
        ("state", state_line(channel)),
        ("type", channel.channel_type().as_str_name().trim_start_matches("CHANNEL_TYPE_").to_lowercase()),
        ("funding", format!("{}:{}", funding.txid, funding.output_index)),
        ("capacity", money::sat(channel.capacity_sat)),
        ("ours", money::msat(channel.local_msat)),
        ("theirs", money::msat(channel.remote_msat)),
        ("can be sent", money::msat(channel.sendable_msat)),
        ("can be received", money::msat(channel.receivable_msat)),
        (
            "reserves",
            format!(
                "{} ours, {} theirs",
                money::sat(channel.local_reserve_sat),
                money::sat(channel.remote_reserve_sat)
            ),
        ),
        ("feerate", format!("{} sat/kW", channel.feerate_per_kw)),
        (
            "commitments",
            format!("{} ours, {} theirs", channel.local_commitment_number, channel.remote_commitment_number),
        ),
        ("sent in total", money::msat(channel.total_sent_msat)),
        ("received in total", money::msat(channel.total_received_msat)),
    ];
    rows.extend(channel.forwarding_policy.iter().flat_map(policy_rows));
    for htlc in &channel.htlcs {
        let way = if htlc.incoming { "htlc in" } else { "htlc out" };
        rows.push((way, format!("{} until block {}", money::msat(htlc.amount_msat), htlc.cltv_expiry)));
    }
    pairs(&rows)
}
