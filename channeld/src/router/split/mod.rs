//! A payment in several parts: by minimum-cost flow over the corridor of good ways, else one part after the other.
//!
//! A flow is counted in units; the parts are exact again when each is walked backwards with its amount, which checks every
//! hop's policy and what other parts use. The parts sum to the amount, whatever was rounded.

mod corridor;
mod flow;

use super::path::{Path, Via};
use super::price::{Bounds, Tariff};
use super::query::RouteQuery;
use super::search::{Ask, Scratch, find, find_quickly};
use super::stage::Stage;
use corridor::{Candidate, candidates};
use flow::{Arc, Network};

pub use corridor::Outward;

/// Into how many units an amount is cut, the finest first.
const UNITS: [u32; 2] = [32, 8];
/// The corridors that are tried: the most edges, and the cost of their ways in hundredths of the cheapest one's.
const CORRIDORS: [(usize, u64); 3] = [(2_000, 140), (4_000, 250), (10_000, u64::MAX)];
/// With fewer edges a corridor is too narrow to choose from, and the next is as quick.
const LEAST_EDGES: usize = 64;
/// How often the part by part way may halve its step.
const MOST_HALVINGS: u32 = 7;

/// What all parts together must keep.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most fees, in msat.
    pub max_fee: u64,
    /// The longest lock, in blocks.
    pub max_blocks: u32,
    /// The most HTLCs in a row.
    pub max_hops: u32,
    /// The most parts.
    pub max_parts: u32,
}

impl Limits {
    /// As the query says; `max_hops` as many as its payloads leave room for.
    pub fn of(query: &RouteQuery, max_hops: u32) -> Limits {
        Limits {
            max_fee: query.max_fee.msat(),
            max_blocks: query.max_cltv_delta,
            max_hops,
            max_parts: query.max_parts.max(1),
        }
    }

    /// One part of `part` msat out of `total`, with what is left of the fees.
    pub fn ask(&self, part: u64, total: u64, max_fee: u64) -> Ask {
        Ask {
            amount: part,
            max_fee,
            max_blocks: self.max_blocks,
            max_hops: self.max_hops,
            tariff: Tariff::new(part, total),
        }
    }

    fn keep(&self, parts: &[Path]) -> bool {
        let fees = parts.iter().try_fold(0_u64, |sum, part| sum.checked_add(part.fee()));
        fees.is_some_and(|fees| fees <= self.max_fee)
            && parts.len() <= self.max_parts as usize
            && parts.iter().all(|part| part.blocks() <= self.max_blocks && part.legs.len() <= self.max_hops as usize)
    }
}

/// Parts that sum to `amount` by minimum-cost flow, or `None` where that finds none within the limits.
pub fn by_flow(
    stage: &mut Stage<'_>,
    outward: &Outward,
    scratch: &mut Scratch,
    amount: u64,
    limits: &Limits,
) -> Option<Vec<Path>> {
    for (most, stretch) in CORRIDORS {
        let finest = unit_ask(amount, UNITS[0], limits);
        let corridor = candidates(stage, outward, scratch, &finest, stretch, most);
        if corridor.len() < LEAST_EDGES && stretch < CORRIDORS[CORRIDORS.len() - 1].1 {
            continue;
        }
        let mut best: Option<Vec<Path>> = None;
        // Coarse units make fewer parts; with as many units as parts there are never too many.
        for units in UNITS.into_iter().chain([limits.max_parts.min(UNITS[0])]) {
            let ask = unit_ask(amount, units, limits);
            let ways = flow_ways(stage, &corridor, &ask, u32::try_from(amount / ask.amount).unwrap_or(units));
            let load = stage.load();
            let parts = ways.and_then(|ways| parts_of(stage, scratch, ways, ask.amount, amount, limits));
            stage.set_load(&load);
            if let Some(parts) = parts
                && best.as_ref().is_none_or(|best| cost(&parts) < cost(best))
            {
                best = Some(parts);
            }
        }
        if best.is_some() {
            return best;
        }
    }
    None
}

/// What parts cost together.
pub fn cost(parts: &[Path]) -> u64 {
    parts.iter().fold(0, |sum, part| sum.saturating_add(part.cost))
}

/// One unit of `amount`. A hop's own price is a part's, and a part is several units.
fn unit_ask(amount: u64, units: u32, limits: &Limits) -> Ask {
    let unit = (amount / u64::from(units)).max(1);
    let tariff = Tariff::new(unit, amount);
    Ask { tariff: Tariff { hop: tariff.hop / 4, ..tariff }, ..limits.ask(unit, amount, limits.max_fee) }
}

/// A way and how many units take it.
type Way = (Vec<(u32, Via)>, u32);

fn flow_ways(stage: &Stage<'_>, corridor: &[Candidate], ask: &Ask, units: u32) -> Option<Vec<Way>> {
    // Nodes of the network: 0 is this node, 1 the payee.
    let mut places = vec![u32::MAX; stage.node_bound()];
    places[stage.goal as usize] = 1;
    let mut nodes = 2;
    let mut place = |node: u32| {
        let place = &mut places[node as usize];
        if *place == u32::MAX {
            *place = nodes;
            nodes += 1;
        }
        *place
    };
    // Fees on the way make an HTLC greater than what it is for.
    let room = ask.amount.saturating_add(ask.amount >> 6).max(1);
    let count = |msat: u64| u32::try_from(msat / room).unwrap_or(u32::MAX).min(units);
    let mut arcs = Vec::with_capacity(corridor.len() + stage.own_channels().len());
    let mut vias = Vec::with_capacity(arcs.capacity());
    for (at, own) in stage.own_channels().iter().enumerate().filter(|(_, own)| own.minimum <= ask.amount) {
        let bounds = Bounds { least: own.spendable, most: own.spendable, penalty: 0 };
        // All of it may go without a fee, to a payee who is the peer.
        let units = if own.node == stage.goal { own.spendable / ask.amount } else { u64::from(count(own.spendable)) };
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        arcs.push(Arc { from: 0, to: place(own.node), units, flow: 0, linear: 0, bounds, used: 0 });
        vias.push((own.node, Via::Own(at)));
    }
    for candidate in corridor {
        let Ok(crossing) = stage.cross_leg(candidate.node, candidate.via, ask.amount) else { continue };
        let (bounds, used, units) = match candidate.via {
            Via::Graph(at) => {
                let edge = &stage.edges_into(candidate.node)[at as usize];
                let (bounds, used) = stage.belief(edge);
                (bounds, used, count(edge.capacity.msat().saturating_sub(used)))
            }
            _ => (Bounds::unknown(u64::MAX / 4), 0, units),
        };
        let linear = ask.tariff.cost(crossing.fee, bounds.penalty, crossing.blocks);
        let (from, to) = (place(candidate.source), place(candidate.node));
        arcs.push(Arc { from, to, units, flow: 0, linear, bounds, used });
        vias.push((candidate.node, candidate.via));
    }
    let mut network = Network { arcs, nodes, unit: ask.amount, tariff: ask.tariff };
    if network.send(0, 1, units) < units {
        return None;
    }
    let mut ways = Vec::new();
    for (arcs, units) in network.ways(0, 1) {
        let way: Vec<(u32, Via)> = arcs.iter().map(|arc| vias[*arc as usize]).collect();
        // A channel may hold more than its node takes in one HTLC: then the way is gone more than once.
        let most = way.iter().map(|(node, via)| stage.most(*node, *via)).min().map_or(1, count).max(1);
        let pieces = units.div_ceil(most);
        ways.extend((0..pieces).map(|piece| (way.clone(), units / pieces + u32::from(piece < units % pieces))));
    }
    Some(ways)
}

/// The ways with exact amounts. What a way does not carry after all is sent by single searches beside the rest.
fn parts_of(
    stage: &mut Stage<'_>,
    scratch: &mut Scratch,
    ways: Vec<Way>,
    unit: u64,
    amount: u64,
    limits: &Limits,
) -> Option<Vec<Path>> {
    if ways.len() > limits.max_parts as usize {
        return None;
    }
    let mut left = amount;
    let mut parts: Vec<Path> = Vec::with_capacity(ways.len());
    // The widest way, which is the first, also takes what the division left.
    let mut rest = amount - unit * u64::from(ways.iter().map(|(_, units)| units).sum::<u32>());
    for (way, units) in &ways {
        let wanted = unit * u64::from(*units) + rest;
        if let Ok(path) = stage.walk(way, wanted, &Tariff::new(wanted, amount))
            && limits.keep(std::slice::from_ref(&path))
        {
            stage.reserve(&path);
            left -= wanted;
            parts.push(path);
            rest = 0;
        }
    }
    let spent = parts.iter().fold(0_u64, |sum, part| sum.saturating_add(part.fee()));
    let limits_left = Limits {
        max_fee: limits.max_fee.saturating_sub(spent),
        max_parts: limits.max_parts - parts.len() as u32,
        ..*limits
    };
    parts.extend(fill(stage, scratch, left, amount, &limits_left).ok()?);
    limits.keep(&parts).then_some(parts)
}

/// Parts that sum to `amount`, each the cheapest beside those before it, halved where nothing takes so much. `Err` is what
/// could be sent.
pub fn one_by_one(
    stage: &mut Stage<'_>,
    scratch: &mut Scratch,
    amount: u64,
    limits: &Limits,
) -> Result<Vec<Path>, u64> {
    let load = stage.load();
    let parts = fill(stage, scratch, amount, amount, limits);
    stage.set_load(&load);
    let parts = merged(stage, parts?, amount, limits);
    stage.set_load(&load);
    if limits.keep(&parts) { Ok(parts) } else { Err(0) }
}

fn fill(
    stage: &mut Stage<'_>,
    scratch: &mut Scratch,
    amount: u64,
    total: u64,
    limits: &Limits,
) -> Result<Vec<Path>, u64> {
    let (mut left, mut step, mut halvings, mut max_fee) = (amount, amount, 0, limits.max_fee);
    let mut parts: Vec<Path> = Vec::new();
    while left > 0 {
        let parts_left = u64::from(limits.max_parts) - parts.len() as u64;
        if parts_left == 0 {
            return Err(amount - left);
        }
        // The last parts must carry what is left.
        let wanted = step.max(left.div_ceil(parts_left)).min(left);
        // Only the last part is worth a thorough search.
        let ask = limits.ask(wanted, total, max_fee);
        let found = if parts_left == 1 { find(stage, scratch, &ask) } else { find_quickly(stage, scratch, &ask) };
        match found {
            Some(path) => {
                stage.reserve(&path);
                left -= wanted;
                max_fee -= path.fee().min(max_fee);
                parts.push(path);
            }
            None if halvings == MOST_HALVINGS || wanted > step || wanted == 1 => return Err(amount - left),
            None => {
                halvings += 1;
                step = wanted.div_ceil(2);
            }
        }
    }
    Ok(parts)
}

/// Parts on the same way made one, where that way takes them together.
fn merged(stage: &mut Stage<'_>, parts: Vec<Path>, total: u64, limits: &Limits) -> Vec<Path> {
    let mut sums: Vec<(Vec<(u32, Via)>, u64)> = Vec::new();
    for part in &parts {
        let way = part.way();
        match sums.iter_mut().find(|(known, _)| *known == way) {
            Some((_, sum)) => *sum += part.amount,
            None => sums.push((way, part.amount)),
        }
    }
    if sums.len() == parts.len() {
        return parts;
    }
    let mut joined = Vec::with_capacity(sums.len());
    for (way, sum) in &sums {
        let Ok(path) = stage.walk(way, *sum, &Tariff::new(*sum, total)) else { return parts };
        stage.reserve(&path);
        joined.push(path);
    }
    if limits.keep(&joined) { joined } else { parts }
}
