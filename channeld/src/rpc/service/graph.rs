//! `GraphService`: pages of the newest snapshot of the public network, read without the node.

use proto::v1::graph_service_server::GraphService;
use proto::v1::{
    GraphEdge, GraphNode, GraphPolicy, ListEdgesRequest, ListEdgesResponse, ListNodesRequest, ListNodesResponse,
};
use tonic::{Request, Response, Status};

use crate::driver::handle::Handle;
use crate::graph::{Address, ChannelIndex, Direction, NodeIndex, Snapshot};
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
        let falling = page.newest_first;
        let nodes = graph.nodes_beyond(page.after.map(|after| bound(after, falling)), falling);
        let (items, next) = cut(nodes.map(|(id, index)| (place(&id), index)), page.size);
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
        let is_wanted = |index: ChannelIndex| {
            let ends = graph.channel(index).map(|channel| [channel.node_1, channel.node_2]);
            of_node.is_none_or(|node| node.is_some_and(|node| ends.is_some_and(|ends| ends.contains(&node))))
        };
        let edges = graph.channels_beyond(page.after, page.newest_first).filter(|(_, index)| is_wanted(*index));
        let (items, next) = cut(edges, page.size);
        Ok(Response::new(ListEdgesResponse {
            edges: items.into_iter().filter_map(|index| edge(&graph, index)).collect(),
            next_page_token: request::page_token("edges", page.newest_first, next),
            edge_count: count(graph.channel_count()),
        }))
    }
}

/// The first `size` items, each of which comes with its place, and where to go on if there are more.
fn cut<T>(items: impl Iterator<Item = (u64, T)>, size: u32) -> (Vec<T>, Option<u64>) {
    let size = size as usize;
    let mut items: Vec<(u64, T)> = items.take(size + 1).collect();
    let more = items.len() > size;
    items.truncate(size);
    let next = items.last().filter(|_| more).map(|(place, _)| *place);
    (items.into_iter().map(|(_, item)| item).collect(), next)
}

/// Where a node stands in the order of ids, in the 64 bits of a page token: its sign, and the front of its coordinate.
fn place([sign, coordinate @ ..]: &[u8; 33]) -> u64 {
    let front = coordinate[..8].iter().fold(0, |front, byte| front << 8 | u64::from(*byte));
    u64::from(sign & 1) << 63 | front >> 1
}

/// The last id of that place; the first, in falling order.
fn bound(place: u64, falling: bool) -> [u8; 33] {
    let mut id = [if falling { 0 } else { 0xff }; 33];
    id[0] = 2 | (place >> 63) as u8;
    id[1..9].copy_from_slice(&(place << 1 | u64::from(!falling)).to_be_bytes());
    id
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
    fn pages_follow_each_other() {
        let (mut found, mut after) = (Vec::new(), Some(0));
        while let Some(from) = after {
            let items = (from + 1..=5).map(|place| (place, place));
            let (page, next) = cut(items, 2);
            found.extend(page);
            after = next;
        }
        assert_eq!(found, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn the_place_of_a_node_keeps_the_order_of_ids() {
        let id = |sign: u8, first: u8, eighth: u8, last: u8| {
            let mut id = [7; 33];
            [id[0], id[1], id[8], id[32]] = [sign, first, eighth, last];
            id
        };
        let ids = [id(2, 1, 0, 9), id(2, 1, 2, 0), id(2, 255, 0, 0), id(3, 0, 0, 0), id(3, 0, 254, 255)];
        for pair in ids.windows(2) {
            assert!(place(&pair[0]) < place(&pair[1]));
            assert!((pair[0]..pair[1]).contains(&bound(place(&pair[0]), false)));
            assert!(bound(place(&pair[1]), true) > pair[0] && bound(place(&pair[1]), true) <= pair[1]);
        }
    }
}
