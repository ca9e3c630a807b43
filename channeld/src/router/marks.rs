//! A byte for each node and a bit for each edge: what a search has to know at once, before it looks anything up.

use super::liquidity::Liquidity;
use crate::graph::{ChannelIndex, Direction, Edge, NodeIndex, Snapshot};
use crate::units::ShortChannelId;

/// Forwards nothing: this node itself, an excluded node, one with a feature that nobody here knows.
pub const BLOCKED: u8 = 1;
/// It failed a while ago.
pub const DOUBTED: u8 = 2;
/// Edges that the graph does not have lead there.
pub const EXTRA: u8 = 4;
/// Own channels lead there.
pub const PEER: u8 = 8;

/// The marks of one snapshot; those of one query on top, until they are taken off again.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    nodes: Vec<u8>,
    edges: Vec<u64>,
    node_bound: usize,
    /// What the query changed: the node and its mark before.
    old_nodes: Vec<(u32, u8)>,
    /// The edges that the query marked.
    new_edges: Vec<u32>,
}

impl Marks {
    /// The marks of a snapshot, with what was learned about its channels.
    pub fn new(snapshot: &Snapshot, liquidity: &Liquidity) -> Marks {
        let blocked = |at: usize| if snapshot.forwards(NodeIndex(at as u32)) { 0 } else { BLOCKED };
        let mut marks = Marks {
            nodes: (0..snapshot.node_bound()).map(blocked).collect(),
            edges: vec![0; (2 * snapshot.channel_bound()).div_ceil(64)],
            node_bound: snapshot.node_bound(),
            ..Marks::default()
        };
        liquidity.channels().for_each(|channel| marks.learned(snapshot, channel));
        marks
    }

    /// Something was learned about a channel.
    pub fn learned(&mut self, snapshot: &Snapshot, channel: ShortChannelId) {
        if let Some(index) = snapshot.channel_index(channel) {
            for bit in [2 * index.at(), 2 * index.at() + 1] {
                self.edges[bit / 64] |= 1 << (bit % 64);
            }
        }
    }

    /// The marks of a node.
    #[inline]
    pub fn node(&self, node: u32) -> u8 {
        self.nodes[node as usize]
    }

    /// Whether there is anything to look up about an edge.
    #[inline]
    pub fn edge(&self, edge: &Edge) -> bool {
        let bit = bit_of(edge.channel, edge.direction());
        self.edges[bit / 64] >> (bit % 64) & 1 != 0
    }

    /// Makes room for a node that the snapshot does not have.
    pub fn push_node(&mut self) {
        self.nodes.push(0);
    }

    /// Marks a node for this query.
    pub fn mark_node(&mut self, node: u32, mark: u8) {
        let place = &mut self.nodes[node as usize];
        self.old_nodes.push((node, *place));
        *place |= mark;
    }

    /// Marks an edge for this query.
    pub fn mark_edge(&mut self, channel: ChannelIndex, direction: Direction) {
        let bit = bit_of(channel, direction);
        let word = &mut self.edges[bit / 64];
        if *word >> (bit % 64) & 1 == 0 {
            *word |= 1 << (bit % 64);
            self.new_edges.push(bit as u32);
        }
    }

    /// Takes off what the query marked.
    pub fn end_query(&mut self) {
        while let Some((node, before)) = self.old_nodes.pop() {
            self.nodes[node as usize] = before;
        }
        self.nodes.truncate(self.node_bound);
        for bit in self.new_edges.drain(..) {
            self.edges[bit as usize / 64] &= !(1 << (bit % 64));
        }
    }
}

fn bit_of(channel: ChannelIndex, direction: Direction) -> usize {
    2 * channel.at() + usize::from(direction.bit())
}
