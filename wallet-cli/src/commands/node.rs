//! `wallet-cli node`.

use clap::Subcommand;
use proto::v1::{GetBalancesRequest, GetBalancesResponse, GetNodeRequest, GetNodeResponse};
use serde_json::json;

use crate::args::Global;
use crate::client::ConnectString;
use crate::failure::Failure;
use crate::money;
use crate::output::pairs;

/// See `--help`.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Who this node is, and how far it has followed the chain.
    Info,
    /// All that it owns: coins, channels, and what is on its way back.
    Balances,
    /// The one string with which another machine reaches this daemon. It holds the token: keep it secret.
    #[command(
        after_help = "Examples:\n  wallet-cli --connect \"$(wallet-cli --data-dir alice node connect-string)\" node info\n  wallet-cli --data-dir alice node connect-string --host node.example"
    )]
    ConnectString {
        /// The name or address that the other machine knows this one by [default: the address that the daemon listens on].
        #[arg(long, value_name = "NAME")]
        host: Option<String>,
    },
}

/// Runs it.
///
/// # Errors
/// Where the daemon does not answer or refuses.
pub async fn run(global: &Global, command: NodeCommand) -> Result<(), Failure> {
    let output = global.output();
    match command {
        NodeCommand::Info => {
            let node = global.client().await?.node().get_node(GetNodeRequest {}).await?.into_inner();
            output.message(&node, info)
        }
        NodeCommand::Balances => {
            let balances = global.client().await?.node().get_balances(GetBalancesRequest {}).await?.into_inner();
            output.message(&balances, balances_text)
        }
        NodeCommand::ConnectString { host } => {
            let target = global.presence()?.tcp_target()?.by_host(host.as_deref());
            let text = ConnectString(target).to_string();
            // What nobody can read is given to nobody.
            text.parse::<ConnectString>().map_err(|error| Failure::usage(error, "give --host NAME without a port"))?;
            output.either(|| json!({ "connect": text }), || text.clone())
        }
    }
}

fn info(node: &GetNodeResponse) -> String {
    let state = node.sync_state().as_str_name().trim_start_matches("SYNC_STATE_").to_lowercase();
    let sync = if node.sync_reason.is_empty() { state } else { format!("{state}: {}", node.sync_reason) };
    let network = node.network().as_str_name().trim_start_matches("NETWORK_").to_lowercase();
    let channels = format!(
        "{} usable, {} opening, {} closing",
        node.usable_channel_count, node.pending_channel_count, node.closing_channel_count
    );
    pairs(&[
        ("node id", node.node_id.clone()),
        ("alias", node.alias.clone()),
        ("version", node.version.clone()),
        ("network", network),
        ("block", format!("{} ({})", node.block_height, node.block_hash)),
        ("chain", sync),
        ("peers", node.connected_peer_count.to_string()),
        ("channels", channels),
        ("graph", graph_text(node)),
        ("reached at", node.listen_addresses.join(", ")),
        ("events", node.last_event_index.to_string()),
    ])
}

fn graph_text(node: &GetNodeResponse) -> String {
    let Some(graph) = &node.graph else { return String::new() };
    let known = format!("{} channels of {} nodes", graph.channel_count, graph.node_count);
    if graph.reason.is_empty() { known } else { format!("{known}; {}", graph.reason) }
}

fn balances_text(balances: &GetBalancesResponse) -> String {
    let mut text = pairs(&[
        ("on chain, spendable", money::sat(balances.spendable_sat)),
        ("  confirmed", money::sat(balances.confirmed_sat)),
        ("  unconfirmed", money::sat(balances.unconfirmed_sat)),
        ("  immature", money::sat(balances.immature_sat)),
        ("  kept for closing", money::sat(balances.reserved_sat)),
        ("in channels", money::msat(balances.local_msat)),
        ("  can be sent", money::msat(balances.sendable_msat)),
        ("  can be received", money::msat(balances.receivable_msat)),
        ("  on its way out", money::msat(balances.outgoing_in_flight_msat)),
        ("  on its way in", money::msat(balances.incoming_in_flight_msat)),
        ("  earned by forwarding", money::msat(balances.forwarding_fees_msat)),
    ]);
    for output in &balances.claimable_outputs {
        let when = output.claimable_height.map(|height| format!(" at block {height}")).unwrap_or_default();
        text.push_str(&format!("\nfrom closed channels  {}{when}", money::sat(output.amount_sat)));
    }
    text
}
