//! `GraphService`: pages of the newest snapshot of the public network, read without the node.

use proto::v1::graph_service_server::GraphService;
use proto::v1::{
    GraphEdge, GraphNode, GraphPolicy, ListEdgesRequest, ListEdgesResponse, ListNodesRequest, ListNodesResponse,
};
use tonic::{Request, Response, Status};

use crate::driver::handle::Handle;
use crate::graph::{Address, ChannelIndex, Direction, NodeIndex, Snapshot};
use crate::node::command::Page;
use crate::rpc::convert::timestamp;
use crate::rpc::request;
use crate::units::UnixTime;

/// See `proto/channeld/v1/graph.proto`.
pub struct Graphs {
    handle: Handle,
}

impl Graphs {
    /// Answers from this node.
    pub fn new(handle: Handle) -> Graphs {
        Graphs { handle }
    }
}

#[tonic::async_trait]
impl GraphService for Graphs {
    async fn list_nodes(&self, request: Request<ListNodesRequest>) -> Result<Response<ListNodesResponse>, Status> {
        let message = request.into_inner();
        let page = request::page("nodes", message.page_size, &message.page_token, message.order)?;
        let graph = self.handle.pathfinder().graph();
        if !message.node_id.is_empty() {
            let one = graph.node_index(&request::node_id("node_id", &message.node_id)?);
            let nodes = one.and_then(|index| node(&graph, index)).into_iter().collect();
            return Ok(Response::new(ListNodesResponse {
                nodes,
                next_page_token: String::new(),
                node_count: count(graph.node_count()),
            }));
        }
        // A place counts from 1 in the order of ids; where nodes come or go meanwhile it moves by as many.
        let places: Vec<NodeIndex> = graph.nodes().collect();
        let (items, next) = cut(&places, page);
        Ok(Response::new(ListNodesResponse {
            nodes: items.into_iter().filter_map(|index| node(&graph, index)).collect(),
            next_page_token: request::page_token("nodes", page.newest_first, next),
            node_count: count(graph.node_count()),
        }))
    }

    async fn list_edges(&self, request: Request<ListEdgesRequest>) -> Result<Response<ListEdgesResponse>, Status> {
        let message = request.into_inner();
        let page = request::page("edges", message.page_size, &message.page_token, message.order)?;
        let graph = self.handle.pathfinder().graph();
        let of_node = match message.node_id.as_str() {
            "" => None,
            text => Some(graph.node_index(&request::node_id("node_id", text)?)),
        };
        let is_wanted = |index: &ChannelIndex| {
            let ends = graph.channel(*index).map(|channel| [channel.node_1, channel.node_2]);
            of_node.is_none_or(|node| node.is_some_and(|node| ends.is_some_and(|ends| ends.contains(&node))))
        };
        let places: Vec<ChannelIndex> = graph.channels().filter(is_wanted).collect();
        let (items, next) = cut(&places, page);
        Ok(Response::new(ListEdgesResponse {
            edges: items.into_iter().filter_map(|index| edge(&graph, index)).collect(),
            next_page_token: request::page_token("edges", page.newest_first, next),
            edge_count: count(graph.channel_count()),
        }))
    }
}

/// The places of a page, and where to go on.
fn cut<T: Copy>(places: &[T], page: Page) -> (Vec<T>, Option<u64>) {
    let size = page.size as usize;
    let numbered = places.iter().copied().enumerate().map(|(at, item)| (at as u64 + 1, item));
    let mut items: Vec<(u64, T)> = match page.newest_first {
        true => {
            numbered.rev().filter(|(place, _)| page.after.is_none_or(|after| *place < after)).take(size + 1).collect()
        }
        false => numbered.filter(|(place, _)| page.after.is_none_or(|after| *place > after)).take(size + 1).collect(),
    };
    let more = items.len() > size;
    items.truncate(size);
    let next = items.last().filter(|_| more).map(|(place, _)| *place);
    (items.into_iter().map(|(_, item)| item).collect(), next)
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn node(graph: &Snapshot, index: NodeIndex) -> Option<GraphNode> {
    let node_id = graph.node_id(index)?.to_string();
    let channel_count = count(graph.edges_into(index).len());
    let Some(details) = graph.node_details(index) else {
        return Some(GraphNode { node_id, channel_count, ..Default::default() });
    };
    let [red, green, blue] = details.rgb_color;
    Some(GraphNode {
        node_id,
        alias: details.alias_text(),
        color: format!("#{red:02x}{green:02x}{blue:02x}"),
        features: hex::encode(details.features.as_bytes()),
        addresses: details.addresses.iter().map(address).collect(),
        announced_at: Some(timestamp(UnixTime::from_seconds(u64::from(details.timestamp)))),
        channel_count,
    })
}

fn address(address: &Address) -> String {
    match address {
        Address::Ipv4 { address, port } => format!("{address}:{port}"),
        Address::Ipv6 { address, port } => format!("[{address}]:{port}"),
        Address::TorV3 { onion, port } => format!("tor:{}:{port}", hex::encode(onion)),
        Address::Dns { hostname, port } => format!("{hostname}:{port}"),
    }
}

fn edge(graph: &Snapshot, index: ChannelIndex) -> Option<GraphEdge> {
    let channel = graph.channel(index)?;
    Some(GraphEdge {
        short_channel_id: channel.short_channel_id.to_string(),
        node_1_id: graph.node_id(channel.node_1)?.to_string(),
        node_2_id: graph.node_id(channel.node_2)?.to_string(),
        capacity_sat: channel.capacity.msat() / 1_000,
        node_1_policy: policy(graph, index, Direction::FromNode1),
        node_2_policy: policy(graph, index, Direction::FromNode2),
    })
}

fn policy(graph: &Snapshot, index: ChannelIndex, direction: Direction) -> Option<GraphPolicy> {
    let policy = graph.policy(index, direction)?;
    Some(GraphPolicy {
        fee_base_msat: policy.fee_base_msat.into(),
        fee_proportional_millionths: policy.fee_proportional_millionths,
        cltv_expiry_delta: policy.cltv_expiry_delta.into(),
        htlc_minimum_msat: policy.htlc_minimum.msat(),
        htlc_maximum_msat: policy.htlc_maximum.msat(),
        disabled: policy.disabled,
        updated_at: Some(timestamp(UnixTime::from_seconds(u64::from(policy.timestamp)))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_both_ways() {
        for newest_first in [false, true] {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let (items, next) = cut(&[1, 2, 3, 4, 5], Page { after, size: 2, newest_first });
                found.extend(items);
                after = next;
                if after.is_none() {
                    break;
                }
            }
            if newest_first {
                found.reverse();
            }
            assert_eq!(found, [1, 2, 3, 4, 5]);
        }
    }
}
