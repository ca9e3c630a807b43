//! Minimum-cost flow by successive shortest paths, a unit at a time (Pickhardt and Richter, "Optimally Reliable & Cheap
//! Payment Flows on the Lightning Network"). The cost of the next unit over an arc never falls, so each step is optimal.

use super::super::price::{Bounds, Tariff};
use super::super::search::Queue;

/// A channel that can take units.
#[derive(Clone, Copy, Debug)]
pub struct Arc {
    /// Where it begins.
    pub from: u32,
    /// Where it ends.
    pub to: u32,
    /// The most units.
    pub units: u32,
    /// How many it carries.
    pub flow: u32,
    /// The cost of each unit, but for the doubt.
    pub linear: u64,
    /// What is believed about its liquidity.
    pub bounds: Bounds,
    /// What already goes through, in msat.
    pub used: u64,
}

/// A network and what a unit is.
#[derive(Clone, Debug)]
pub struct Network {
    /// The channels.
    pub arcs: Vec<Arc>,
    /// How many nodes there are; arcs name them from 0 on.
    pub nodes: u32,
    /// A unit in msat.
    pub unit: u64,
    /// What doubt costs.
    pub tariff: Tariff,
}

/// An arc in the direction in which it is walked: against it where a unit is taken back.
#[derive(Clone, Copy, Debug)]
struct Step {
    arc: u32,
    is_back: bool,
}

const FAR: u64 = u64::MAX;

impl Network {
    /// The cost of the arc's unit number `flow` + 1.
    fn next_cost(&self, arc: &Arc) -> u64 {
        self.cost_of_unit(arc, arc.flow + 1)
    }

    fn cost_of_unit(&self, arc: &Arc, number: u32) -> u64 {
        let doubt = |units: u32| arc.bounds.doubt(arc.used.saturating_add(u64::from(units).saturating_mul(self.unit)));
        let more = doubt(number).saturating_sub(doubt(number - 1));
        arc.linear + ((self.tariff.bit * more) >> 10)
    }

    /// Sends up to `units` from `source` to `sink` at the least cost; how many got through.
    pub fn send(&mut self, source: u32, sink: u32, units: u32) -> u32 {
        let nodes = self.nodes as usize;
        let out = Outgoing::of(&self.arcs, nodes);
        let mut potential = vec![0_u64; nodes];
        let mut queue = Queue::default();
        for sent in 0..units {
            let Some(steps) = self.shortest(&out, &mut potential, &mut queue, source, sink) else { return sent };
            for step in steps {
                let arc = &mut self.arcs[step.arc as usize];
                arc.flow = if step.is_back { arc.flow - 1 } else { arc.flow + 1 };
            }
        }
        units
    }

    /// The cheapest way for one more unit, by reduced costs; raises the potentials by what it found.
    fn shortest(
        &self,
        out: &Outgoing,
        potential: &mut [u64],
        queue: &mut Queue,
        source: u32,
        sink: u32,
    ) -> Option<Vec<Step>> {
        let mut distance = vec![FAR; potential.len()];
        let mut reached: Vec<Option<(Step, u32)>> = vec![None; potential.len()];
        queue.clear();
        distance[source as usize] = 0;
        queue.push(0, source);
        while let Some((at, node)) = queue.pop() {
            if at > distance[node as usize] {
                continue;
            }
            if node == sink {
                break;
            }
            for step in out.steps(node) {
                let arc = &self.arcs[step.arc as usize];
                let (to, cost) = match step.is_back {
                    false if arc.flow < arc.units => (arc.to, self.next_cost(arc) as i128),
                    true if arc.flow > 0 => (arc.from, -(self.cost_of_unit(arc, arc.flow) as i128)),
                    _ => continue,
                };
                let reduced = cost + i128::from(potential[node as usize]) - i128::from(potential[to as usize]);
                // Rounding of doubts may make a unit cheaper than the one before by a millisatoshi.
                let there = at.saturating_add(u64::try_from(reduced.max(0)).unwrap_or(FAR));
                if there < distance[to as usize] {
                    distance[to as usize] = there;
                    reached[to as usize] = Some((*step, node));
                    queue.push(there, to);
                }
            }
        }
        let end = distance[sink as usize];
        if end == FAR {
            return None;
        }
        for (potential, distance) in potential.iter_mut().zip(&distance) {
            *potential = potential.saturating_add(*distance.min(&end));
        }
        let mut steps = Vec::new();
        let mut at = sink;
        while let Some((step, before)) = reached[at as usize] {
            steps.push(step);
            at = before;
        }
        Some(steps)
    }

    /// Takes the flow apart: ways from `source` to `sink` as lists of arcs, with their units, the widest first.
    pub fn ways(&mut self, source: u32, sink: u32) -> Vec<(Vec<u32>, u32)> {
        let out = Outgoing::of(&self.arcs, self.nodes as usize);
        let mut ways = Vec::new();
        while let Some((way, is_cycle)) = self.widest(&out, source, sink) {
            let units = way.iter().map(|arc| self.arcs[*arc as usize].flow).min().unwrap_or(0);
            way.iter().for_each(|arc| self.arcs[*arc as usize].flow -= units);
            if !is_cycle {
                ways.push((way, units));
            }
        }
        ways.sort_by_key(|(_, units)| std::cmp::Reverse(*units));
        ways
    }

    /// Follows the widest flow from node to node until the sink, or until a node comes again: then only that circle.
    fn widest(&self, out: &Outgoing, source: u32, sink: u32) -> Option<(Vec<u32>, bool)> {
        let mut way: Vec<u32> = Vec::new();
        let mut at = source;
        while at != sink {
            let forward = out.steps(at).iter().filter(|step| !step.is_back).map(|step| step.arc);
            let arc = forward.filter(|arc| self.arcs[*arc as usize].flow > 0).max_by_key(|arc| {
                // The first among equals, so that the order is fixed.
                (self.arcs[*arc as usize].flow, std::cmp::Reverse(*arc))
            })?;
            way.push(arc);
            at = self.arcs[arc as usize].to;
            if let Some(from) = way.iter().position(|arc| self.arcs[*arc as usize].from == at) {
                return Some((way.split_off(from), true));
            }
        }
        Some((way, false))
    }
}

/// The arcs at each node, both ways.
struct Outgoing {
    starts: Vec<u32>,
    steps: Vec<Step>,
}

impl Outgoing {
    fn of(arcs: &[Arc], nodes: usize) -> Outgoing {
        let mut starts = vec![0_u32; nodes + 1];
        for arc in arcs {
            starts[arc.from as usize + 1] += 1;
            starts[arc.to as usize + 1] += 1;
        }
        for at in 0..nodes {
            starts[at + 1] += starts[at];
        }
        let mut next = starts.clone();
        let mut steps = vec![Step { arc: 0, is_back: false }; 2 * arcs.len()];
        for (at, arc) in arcs.iter().enumerate() {
            for (node, is_back) in [(arc.from, false), (arc.to, true)] {
                let place = &mut next[node as usize];
                steps[*place as usize] = Step { arc: at as u32, is_back };
                *place += 1;
            }
        }
        Outgoing { starts, steps }
    }

    fn steps(&self, node: u32) -> &[Step] {
        &self.steps[self.starts[node as usize] as usize..self.starts[node as usize + 1] as usize]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn arc(from: u32, to: u32, units: u32, linear: u64) -> Arc {
        let bounds = Bounds { least: u64::MAX / 2, most: u64::MAX / 2, penalty: 0 };
        Arc { from, to, units, flow: 0, linear, bounds, used: 0 }
    }

    fn network(nodes: u32, arcs: Vec<Arc>) -> Network {
        Network { arcs, nodes, unit: 1_000, tariff: Tariff::new(1_000, 1_000) }
    }

    #[test]
    fn a_unit_is_taken_back_where_that_is_better() {
        // The cheapest single way 0-1-2-3 blocks both others.
        let arcs = vec![arc(0, 1, 1, 1), arc(1, 2, 1, 1), arc(2, 3, 1, 1), arc(1, 3, 1, 10), arc(0, 2, 1, 10)];
        let mut network = network(4, arcs);
        assert_eq!(network.send(0, 3, 5), 2);
        let mut ways = network.ways(0, 3);
        ways.sort();
        assert_eq!(ways, [(vec![0, 3], 1), (vec![4, 2], 1)]);
    }

    #[test]
    fn a_channel_gets_dearer_the_more_it_carries() {
        let mut arcs = vec![arc(0, 1, 10, 1), arc(0, 1, 10, 1)];
        arcs[0].bounds = Bounds::unknown(12_000);
        arcs[1].bounds = Bounds::unknown(12_000);
        let mut network = network(2, arcs);
        assert_eq!(network.send(0, 1, 10), 10);
        assert_eq!((network.arcs[0].flow, network.arcs[1].flow), (5, 5));
    }

    /// All ways to send `units` over at most 6 arcs.
    fn brute_force(network: &Network, sink: u32, units: u32) -> Option<u64> {
        fn total(network: &Network, flows: &[u32]) -> u64 {
            let arcs = network.arcs.iter().zip(flows);
            arcs.map(|(arc, flow)| (1..=*flow).map(|number| network.cost_of_unit(arc, number)).sum::<u64>()).sum()
        }
        fn is_flow(network: &Network, flows: &[u32], sink: u32, units: u32) -> bool {
            (0..network.nodes).all(|node| {
                let sum = |end: fn(&Arc) -> u32| -> i64 {
                    let arcs = network.arcs.iter().zip(flows).filter(|(arc, _)| end(arc) == node);
                    arcs.map(|(_, flow)| i64::from(*flow)).sum()
                };
                let net = sum(|arc| arc.from) - sum(|arc| arc.to);
                net == match node {
                    0 => i64::from(units),
                    node if node == sink => -i64::from(units),
                    _ => 0,
                }
            })
        }
        let mut best = None;
        let mut flows = vec![0_u32; network.arcs.len()];
        loop {
            if is_flow(network, &flows, sink, units) {
                let cost = total(network, &flows);
                best = Some(best.map_or(cost, |old: u64| old.min(cost)));
            }
            let Some(at) = (0..flows.len()).find(|at| flows[*at] < network.arcs[*at].units) else { return best };
            flows[..at].fill(0);
            flows[at] += 1;
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn no_flow_is_cheaper(
            ends in proptest::collection::vec((0_u32..4, 0_u32..4, 1_u32..4, 0_u64..5_000, 2_000_u64..9_000), 3..7),
            units in 1_u32..4,
        ) {
            let arcs = ends.iter().filter(|(from, to, ..)| from != to).map(|(from, to, units, linear, capacity)| Arc {
                bounds: Bounds::unknown(*capacity),
                ..arc(*from, *to, *units, *linear)
            });
            let mut network = network(4, arcs.collect());
            let best = brute_force(&network, 3, units);
            let sent = network.send(0, 3, units);
            prop_assert_eq!(sent == units, best.is_some());
            if let Some(best) = best {
                let cost: u64 = network.arcs.iter().map(|arc| {
                    (1..=arc.flow).map(|number| network.cost_of_unit(arc, number)).sum::<u64>()
                }).sum();
                // Rounded doubts are convex but for a millisatoshi a unit.
                prop_assert!(cost <= best + 12 + best / 100, "{cost} against {best}");
                let total: u32 = network.ways(0, 3).iter().map(|(_, units)| units).sum();
                prop_assert_eq!(total, units);
            }
        }
    }
}
