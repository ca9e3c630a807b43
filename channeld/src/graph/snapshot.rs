//! The graph as it was at one moment, to be read by anybody at any time.

use std::sync::Arc;

use crate::graph::apply::Extras;
use crate::graph::route::Direction;
use crate::graph::store::adjacency::Adjacency;
use crate::graph::store::edge::{ChannelIndex, Edge, NodeIndex};
use crate::graph::store::paged::Paged;
use crate::graph::store::record::{ChannelRecord, KeyBytes, NodeRecord, Proof};
use crate::graph::store::sorted::Sorted;
use crate::units::{Msat, NodeId, ShortChannelId};

/// All nodes, channels and policies, in lists by index. Indexes are good within one snapshot. It holds public knowledge only.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub(in crate::graph) nodes: Paged<NodeRecord, 64>,
    pub(in crate::graph) channels: Paged<ChannelRecord, 128>,
    pub(in crate::graph) adjacency: Adjacency,
    pub(in crate::graph) by_id: Sorted<KeyBytes, u32>,
    pub(in crate::graph) by_scid: Sorted<u64, u32>,
    /// By channel.
    pub(in crate::graph) proofs: Paged<Proof, 16>,
    /// Of the updates of both ends, by channel.
    pub(in crate::graph) signatures: Paged<[[u8; 64]; 2], 64>,
    pub(in crate::graph) extras: Arc<Extras>,
    pub(in crate::graph) chain_hash: [u8; 32],
}

/// A channel as its announcement says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Where its funding output is.
    pub short_channel_id: ShortChannelId,
    /// `node_id_1`.
    pub node_1: NodeIndex,
    /// `node_id_2`.
    pub node_2: NodeIndex,
    /// What its funding output holds.
    pub capacity: Msat,
    /// The height of the block that spent its funding output.
    pub spent_at: Option<u32>,
}

impl Channel {
    /// The node that forwards in that direction.
    pub const fn source(&self, direction: Direction) -> NodeIndex {
        match direction {
            Direction::FromNode1 => self.node_1,
            Direction::FromNode2 => self.node_2,
        }
    }

    /// The node that is forwarded to in that direction.
    pub const fn target(&self, direction: Direction) -> NodeIndex {
        self.source(direction.reversed())
    }
}

/// The latest `channel_update` of one end of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectedPolicy {
    /// The fee for any HTLC, in msat.
    pub fee_base_msat: u32,
    /// The fee for each million of what is forwarded.
    pub fee_proportional_millionths: u32,
    /// How many blocks the node wants between its two HTLCs.
    pub cltv_expiry_delta: u16,
    /// The least HTLC.
    pub htlc_minimum: Msat,
    /// The greatest HTLC.
    pub htlc_maximum: Msat,
    /// Whether it is switched off.
    pub disabled: bool,
    /// Seconds since 1970, by the node's own clock.
    pub timestamp: u32,
}

impl Snapshot {
    /// Every [`NodeIndex`] is below; some below may be free places. The length for lists by node.
    pub fn node_bound(&self) -> usize {
        self.nodes.len()
    }

    /// Every [`ChannelIndex`] is below; some below may be free places. The length for lists by channel.
    pub fn channel_bound(&self) -> usize {
        self.channels.len()
    }

    /// How many nodes have a channel.
    pub fn node_count(&self) -> usize {
        self.by_id.len()
    }

    /// How many channels are known.
    pub fn channel_count(&self) -> usize {
        self.by_scid.len()
    }

    /// The place of the node, if it has a channel.
    pub fn node_index(&self, node_id: &NodeId) -> Option<NodeIndex> {
        self.by_id.get(&node_id.0.serialize()).map(NodeIndex)
    }

    /// The id of the node as it stands in messages; `None` beyond the snapshot and on a free place.
    pub fn node_id_bytes(&self, node: NodeIndex) -> Option<&[u8; 33]> {
        self.nodes.get(node.at()).filter(|record| record.channels > 0).map(|record| &record.id)
    }

    /// The id of the node (some 3 µs: a point is decompressed); `None` beyond the snapshot and on a free place.
    pub fn node_id(&self, node: NodeIndex) -> Option<NodeId> {
        secp256k1::PublicKey::from_slice(self.node_id_bytes(node)?).ok().map(NodeId)
    }

    /// Whether payments may go through the node: not if it announces an even feature bit that this node does not know (BOLT 7).
    pub fn forwards(&self, node: NodeIndex) -> bool {
        self.nodes.get(node.at()).is_some_and(|record| !record.unknown_feature)
    }

    /// The edges that lead to the node, in rising order of channels; those of both usable and unusable channels.
    pub fn edges_into(&self, node: NodeIndex) -> &[Edge] {
        self.adjacency.edges_into(node.at())
    }

    /// The edge over the channel in that direction, if its node has announced a policy.
    pub fn edge(&self, channel: ChannelIndex, direction: Direction) -> Option<&Edge> {
        let target = self.channel(channel)?.target(direction);
        self.adjacency.edge(target.at(), channel)
    }

    /// The place of the channel.
    pub fn channel_index(&self, short_channel_id: ShortChannelId) -> Option<ChannelIndex> {
        self.by_scid.get(&short_channel_id.to_u64()).map(ChannelIndex)
    }

    /// The channel; `None` beyond the snapshot and on a free place.
    pub fn channel(&self, channel: ChannelIndex) -> Option<Channel> {
        let record = self.record(channel)?;
        Some(Channel {
            short_channel_id: ShortChannelId::from_u64(record.short_channel_id),
            node_1: NodeIndex(record.nodes[0]),
            node_2: NodeIndex(record.nodes[1]),
            capacity: Msat::from_sat(record.capacity_sat).unwrap_or(Msat::new(u64::MAX)),
            spent_at: (record.spent_at > 0).then_some(record.spent_at),
        })
    }

    /// What the node of that end asks for forwarding, if it has said so.
    pub fn policy(&self, channel: ChannelIndex, direction: Direction) -> Option<DirectedPolicy> {
        let edge = self.edge(channel, direction)?;
        Some(DirectedPolicy {
            fee_base_msat: edge.fee_base_msat,
            fee_proportional_millionths: edge.fee_proportional_millionths,
            cltv_expiry_delta: edge.cltv_expiry_delta,
            htlc_minimum: edge.htlc_minimum,
            htlc_maximum: edge.htlc_maximum,
            disabled: edge.is_disabled(),
            timestamp: self.record(channel)?.timestamps[usize::from(direction.bit())],
        })
    }

    /// All channels in rising order of their short channel ids.
    pub fn channels(&self) -> impl Iterator<Item = ChannelIndex> + '_ {
        self.by_scid.iter().map(|(_, index)| ChannelIndex(index))
    }

    /// All nodes in rising order of their ids.
    pub fn nodes(&self) -> impl Iterator<Item = NodeIndex> + '_ {
        self.by_id.iter().map(|(_, index)| NodeIndex(index))
    }

    /// The channels after a short channel id in rising order, or those before it in falling order; all of them without one.
    pub fn channels_beyond(&self, id: Option<u64>, falling: bool) -> impl Iterator<Item = (u64, ChannelIndex)> + '_ {
        self.by_scid.beyond(id, falling).map(|(id, index)| (id, ChannelIndex(index)))
    }

    /// The nodes after an id in rising order, or those before it in falling order; all of them without one.
    pub fn nodes_beyond(
        &self,
        id: Option<[u8; 33]>,
        falling: bool,
    ) -> impl Iterator<Item = ([u8; 33], NodeIndex)> + '_ {
        self.by_id.beyond(id, falling).map(|(id, index)| (id, NodeIndex(index)))
    }

    /// Whether that place is the node's.
    pub(in crate::graph) fn has_id(&self, node: u32, id: &KeyBytes) -> bool {
        self.nodes.get(node as usize).is_some_and(|record| record.id == *id)
    }

    pub(in crate::graph) fn record(&self, channel: ChannelIndex) -> Option<&ChannelRecord> {
        self.channels.get(channel.at()).filter(|record| record.short_channel_id != 0)
    }
}
