//! A way in the search's own numbers, and how it becomes a route.

use super::stage::Stage;
use crate::graph::{BlindedTail, Route, RouteHop};
use crate::units::Msat;

/// What leads to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Via {
    /// An own channel: its place among the stage's.
    Own(usize),
    /// The edge at this place among those that the graph has into the node.
    Graph(u32),
    /// The extra edge at this place.
    Extra(u32),
}

/// One HTLC on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leg {
    /// Who gets it.
    pub node: u32,
    /// Over what.
    pub via: Via,
    /// What it is worth, in msat.
    pub amount: u64,
    /// When it expires, in blocks above the present height.
    pub blocks: u32,
}

/// A way, our own channel first. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Its HTLCs.
    pub legs: Vec<Leg>,
    /// What arrives, in msat.
    pub amount: u64,
    /// What it costs by the tariff that it was found with.
    pub cost: u64,
}

impl Path {
    /// What is kept on the way, in msat.
    pub fn fee(&self) -> u64 {
        self.legs.first().map_or(0, |leg| leg.amount.saturating_sub(self.amount))
    }

    /// The lock of its first HTLC.
    pub fn blocks(&self) -> u32 {
        self.legs.first().map_or(0, |leg| leg.blocks)
    }

    /// What leads where.
    pub fn way(&self) -> Vec<(u32, Via)> {
        self.legs.iter().map(|leg| (leg.node, leg.via)).collect()
    }

    /// In the words of everybody else. `None` where the snapshot holds a node id that is no key.
    pub fn route(&self, stage: &Stage<'_>) -> Option<Route> {
        let mut hops = Vec::with_capacity(self.legs.len());
        let mut blinded_tail = None;
        for leg in &self.legs {
            let short_channel_id = match leg.via {
                Via::Own(at) => stage.query.first_hops[stage.own_channels()[at].at].short_channel_id,
                Via::Graph(at) => stage.channel_of(&stage.edges_into(leg.node)[at as usize]).short_channel_id,
                Via::Extra(at) => match stage.extra_edges[at as usize] {
                    extra if extra.channel.is_some() => extra.channel?.short_channel_id,
                    extra => {
                        let path = stage.query.blinded.get(extra.blinded? as usize)?;
                        blinded_tail = Some(BlindedTail {
                            first_path_key: path.first_path_key,
                            hops: path.hops.clone(),
                            amount: Msat::new(leg.amount),
                            cltv_delta: leg.blocks,
                            is_entered: false,
                        });
                        continue;
                    }
                },
            };
            let node_id = stage.node_id(leg.node)?;
            let hop = RouteHop { node_id, short_channel_id, amount: Msat::new(leg.amount), cltv_delta: leg.blocks };
            hops.push(hop);
        }
        Some(Route { hops, blinded_tail })
    }
}
