//! `wallet-cli graph`.

use clap::{Args, Subcommand};
use proto::v1::{GraphEdge, GraphNode, GraphPolicy, ListEdgesRequest, ListNodesRequest};

use crate::args::Global;
use crate::commands::ListArgs;
use crate::failure::Failure;
use crate::money;
use crate::output::{short, table};

/// See `--help`.
#[derive(Debug, Subcommand)]
pub enum GraphCommand {
    /// The nodes that have an announced channel.
    Nodes(PartArgs),
    /// The announced channels, with what each end asks for forwarding.
    Edges(PartArgs),
}

/// Which part of the graph.
#[derive(Debug, Args)]
pub struct PartArgs {
    /// Only this node, or the channels of this node.
    #[arg(long, value_name = "NODE_ID", default_value = "", hide_default_value = true)]
    pub node: String,
    /// How many.
    #[command(flatten)]
    pub list: ListArgs,
}

/// Runs it.
///
/// # Errors
/// Where the daemon does not answer or refuses.
pub async fn run(global: &Global, command: GraphCommand) -> Result<(), Failure> {
    let (client, output) = (global.client().await?, global.output());
    match command {
        GraphCommand::Nodes(PartArgs { node, list }) => {
            let nodes = list.gather(|page_size, page_token| {
                let mut service = client.graph();
                let request = ListNodesRequest { page_size, page_token, order: list.order(), node_id: node.clone() };
                async move {
                    let page = service.list_nodes(request).await?.into_inner();
                    Ok((page.nodes, page.next_page_token))
                }
            });
            output.list(&nodes.await?, node_table)
        }
        GraphCommand::Edges(PartArgs { node, list }) => {
            let edges = list.gather(|page_size, page_token| {
                let mut service = client.graph();
                let request = ListEdgesRequest { page_size, page_token, order: list.order(), node_id: node.clone() };
                async move {
                    let page = service.list_edges(request).await?.into_inner();
                    Ok((page.edges, page.next_page_token))
                }
            });
            output.list(&edges.await?, edge_table)
        }
    }
}

fn node_table(nodes: &[GraphNode]) -> String {
    let rows = nodes.iter().map(|node| {
        let address = node.addresses.first().cloned().unwrap_or_default();
        vec![node.node_id.clone(), node.alias.clone(), address, node.channel_count.to_string()]
    });
    table(&["node", "alias", "address", ">channels"], rows)
}

fn edge_table(edges: &[GraphEdge]) -> String {
    let rows = edges.iter().map(|edge| {
        vec![
            edge.short_channel_id.clone(),
            short(&edge.node_1_id),
            short(&edge.node_2_id),
            money::grouped(edge.capacity_sat),
            policy_text(edge.node_1_policy.as_ref()),
            policy_text(edge.node_2_policy.as_ref()),
        ]
    });
    table(&["channel", "node 1", "node 2", ">sat", ">asks 1", ">asks 2"], rows)
}

fn policy_text(policy: Option<&GraphPolicy>) -> String {
    match policy {
        None => "unknown".into(),
        Some(policy) if policy.disabled => "off".into(),
        Some(policy) => {
            format!("{} + {} ppm", money::msat(policy.fee_base_msat), policy.fee_proportional_millionths)
        }
    }
}
