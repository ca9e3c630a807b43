//! Who answers the daemons' questions for routes: it knows all channels, and takes ways at random, in one part or two.

use std::collections::BTreeSet;

use channeld::graph::{DirectedChannel, Direction, Route, RouteHop};
use channeld::node::input::Input;
use channeld::payment::forward::ForwardingPolicy;
use channeld::router::{Exclusion, NoRoute, RouteQuery};
use channeld::units::{ChannelId, Msat, NodeId, PaymentHash, ShortChannelId};
use rand::prelude::*;

use super::world::World;

/// A question that a daemon put.
pub struct Question {
    /// Who.
    pub who: usize,
    /// For which payment.
    pub payment_hash: PaymentHash,
    /// Which question of it.
    pub attempt: u32,
    /// What is asked.
    pub query: Box<RouteQuery>,
}

/// One direction of a channel that carries payments.
#[derive(Clone, Copy)]
struct Edge {
    channel: ChannelId,
    from: NodeId,
    to: NodeId,
    name: ShortChannelId,
    policy: ForwardingPolicy,
}

impl World {
    /// Answers a question, where who put it still runs.
    pub fn answer_question(&mut self, question: Question) {
        let Question { who, payment_hash, attempt, query } = question;
        let result = self.find_routes(&query);
        let name = self.parties[who].name;
        match &result {
            Ok(routes) => self.say(format_args!("{name} is told of {} routes", routes.len())),
            Err(none) => self.say(format_args!("{name} is told that {none}")),
        }
        self.input(who, Input::RouteFound { payment_hash, attempt, result });
    }

    fn edges(&self) -> Vec<Edge> {
        let mut edges = Vec::new();
        for id in self.ready_channels() {
            let ends = self.ledger.channels[&id].ends;
            for (who, peer) in [(ends[0], ends[1]), (ends[1], ends[0])] {
                let entry = &self.parties[who].durable.channels[&id];
                let Some(name) = entry.place() else { continue };
                let (from, to) = (self.parties[who].id, self.parties[peer].id);
                edges.push(Edge { channel: id, from, to, name, policy: entry.policy });
            }
        }
        edges
    }

    fn find_routes(&mut self, query: &RouteQuery) -> Result<Vec<Route>, NoRoute> {
        let edges = self.edges();
        let split = query.max_parts > 1 && query.amount > Msat::new(1) && self.one_in(3);
        let half = Msat::new(query.amount.msat() / 2);
        let parts = if split { vec![half, query.amount.saturating_sub(half)] } else { vec![query.amount] };
        let mut fee = 0;
        let mut routes = Vec::new();
        for amount in parts {
            let way = self.some_way(&edges, query, amount).ok_or(NoRoute::NoPath)?;
            let route = priced(&way, query, amount).ok_or(NoRoute::NoPath)?;
            fee += route.hops[0].amount.msat() - amount.msat();
            routes.push(route);
        }
        if fee > query.max_fee.msat() {
            return Err(NoRoute::FeeAboveLimit { cheapest: Msat::new(fee), limit: query.max_fee });
        }
        Ok(routes)
    }

    /// A way without a circle, depth first in an order of chance.
    fn some_way(&mut self, edges: &[Edge], query: &RouteQuery, amount: Msat) -> Option<Vec<Edge>> {
        let mut edges: Vec<Edge> = edges.iter().filter(|edge| !is_excluded(edge, query, amount)).copied().collect();
        edges.shuffle(&mut self.rng);
        let mut ways: Vec<Vec<Edge>> = Vec::new();
        for first in &query.first_hops {
            let own = edges.iter().find(|edge| edge.from == query.source && edge.channel == first.channel);
            ways.extend(own.map(|edge| vec![Edge { name: first.short_channel_id, ..*edge }]));
        }
        while let Some(way) = ways.pop() {
            let last = way.last().expect("no way is empty");
            if last.to == query.payee {
                return Some(way);
            }
            let mut seen: BTreeSet<NodeId> = way.iter().map(|edge| edge.from).collect();
            seen.insert(last.to);
            let on = edges.iter().filter(|edge| edge.from == last.to && !seen.contains(&edge.to));
            let longer: Vec<_> = on.map(|edge| way.iter().copied().chain([*edge]).collect()).collect();
            ways.extend(longer);
        }
        None
    }
}

fn is_excluded(edge: &Edge, query: &RouteQuery, amount: Msat) -> bool {
    let directed = DirectedChannel { short_channel_id: edge.name, direction: Direction::between(&edge.from, &edge.to) };
    query.exclusions.iter().any(|exclusion| match exclusion {
        Exclusion::Node(node) => *node == edge.to || (*node == edge.from && edge.from != query.source),
        Exclusion::Channel(name) => *name == edge.name,
        Exclusion::Direction(channel) => *channel == directed,
        Exclusion::Amount { channel, from } => *channel == directed && amount >= *from,
        Exclusion::BlindedPath(_) => false,
    })
}

/// The way with what each HTLC on it is worth and when it times out (BOLT 7, "HTLC Fees").
fn priced(way: &[Edge], query: &RouteQuery, amount: Msat) -> Option<Route> {
    let (mut amount, mut cltv_delta) = (amount, query.final_cltv_delta);
    let mut hops = Vec::new();
    for (place, edge) in way.iter().enumerate().rev() {
        hops.push(RouteHop { node_id: edge.to, short_channel_id: edge.name, amount, cltv_delta });
        if place > 0 {
            amount = amount.checked_add(edge.policy.fee(amount)?)?;
            cltv_delta += u32::from(edge.policy.cltv_expiry_delta.blocks());
        }
    }
    hops.reverse();
    (cltv_delta <= query.max_cltv_delta).then_some(Route { hops, blinded_tail: None })
}
