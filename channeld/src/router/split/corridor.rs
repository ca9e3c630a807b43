//! The part of the graph that a flow is looked for in: the edges on ways that are not much dearer than the cheapest.

use super::super::path::Via;
use super::super::search::{Ask, Queue, Scratch, explore};
use super::super::stage::{Crossing, Stage};
use crate::graph::{NodeIndex, Snapshot};

/// The edges of a snapshot by the node that they lead away from.
#[derive(Clone, Debug, Default)]
pub struct Outward {
    starts: Vec<u32>,
    /// The node that an edge leads to, and its place among the edges into that node.
    edges: Vec<(u32, u32)>,
}

impl Outward {
    /// Of all edges of the snapshot.
    pub fn new(snapshot: &Snapshot) -> Outward {
        let nodes = snapshot.node_bound();
        let mut starts = vec![0_u32; nodes + 1];
        let all = || (0..nodes as u32).map(|node| (node, snapshot.edges_into(NodeIndex(node))));
        for edge in all().flat_map(|(_, edges)| edges) {
            starts[edge.source.at() + 1] += 1;
        }
        for at in 0..nodes {
            starts[at + 1] += starts[at];
        }
        let mut next = starts.clone();
        let mut edges = vec![(0, 0); starts[nodes] as usize];
        for (node, into) in all() {
            for (at, edge) in into.iter().enumerate() {
                let place = &mut next[edge.source.at()];
                edges[*place as usize] = (node, at as u32);
                *place += 1;
            }
        }
        Outward { starts, edges }
    }

    fn edges(&self, node: u32) -> &[(u32, u32)] {
        match self.starts.get(node as usize..node as usize + 2) {
            Some(range) => &self.edges[range[0] as usize..range[1] as usize],
            None => &[],
        }
    }
}

/// An edge that a flow may use.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// The cost of the cheapest way through it, for one unit.
    pub cost: u64,
    /// Where it begins.
    pub source: u32,
    /// Where it leads.
    pub node: u32,
    /// What it is.
    pub via: Via,
}

/// The candidates that lie on the cheapest ways for `ask.amount`, at most `most`, and none on a way that costs more than
/// `stretch` hundredths of the cheapest one.
pub fn candidates(
    stage: &Stage<'_>,
    outward: &Outward,
    scratch: &mut Scratch,
    ask: &Ask,
    stretch: u64,
    most: usize,
) -> Vec<Candidate> {
    let Some(limit) = explore(stage, scratch, ask, stretch) else { return Vec::new() };
    let peers = stage.own_channels().iter().filter(|channel| channel.spendable >= ask.amount);
    let mut distance = vec![u64::MAX; stage.node_bound()];
    let mut is_settled = vec![false; stage.node_bound()];
    let mut queue = Queue::default();
    for channel in peers {
        distance[channel.node as usize] = 0;
        queue.push(0, channel.node);
    }
    let mut found = Vec::new();
    while let Some((at, node)) = queue.pop() {
        if node == stage.goal || std::mem::replace(&mut is_settled[node as usize], true) {
            continue;
        }
        let mut consider = |target: u32, rest: u64, via: Via, crossing: Crossing| {
            let cost = at.saturating_add(ask.tariff.cost(crossing.fee, crossing.doubt, crossing.blocks));
            let through = cost.saturating_add(rest);
            if through > limit {
                return;
            }
            found.push(Candidate { cost: through, source: node, node: target, via });
            if cost < distance[target as usize] {
                distance[target as usize] = cost;
                queue.push(cost, target);
            }
        };
        // What is too dear whatever the edge costs is not even looked at: most edges are.
        let rest = |target: u32| {
            scratch.cost(target).filter(|rest| at.saturating_add(*rest).saturating_add(ask.tariff.hop) <= limit)
        };
        for (target, place) in outward.edges(node) {
            let Some(rest) = rest(*target) else { continue };
            let edge = &stage.edges_into(*target)[*place as usize];
            if let Ok(crossing) = stage.cross(edge, ask.amount) {
                consider(*target, rest, Via::Graph(*place), crossing);
            }
        }
        for (place, extra) in stage.extra_edges.iter().enumerate().filter(|(_, extra)| extra.source == node) {
            let Some(rest) = rest(extra.target) else { continue };
            if let Ok(crossing) = stage.cross_extra(extra, ask.amount) {
                consider(extra.target, rest, Via::Extra(place as u32), crossing);
            }
        }
    }
    if found.len() > most {
        found.select_nth_unstable_by_key(most, |candidate| (candidate.cost, candidate.node, candidate.via));
        found.truncate(most);
    }
    found
}
