//! A question laid over the graph: own channels, hints and blinded paths as edges, exclusions and HTLCs in flight in place.
//!
//! It alone says whether an amount may cross an edge, and what that costs: search, splitting and explanation ask it.

use std::collections::BTreeMap;

use super::exclude::WhyNot;
use super::liquidity::Liquidity;
use super::marks::{BLOCKED, DOUBTED, EXTRA, Marks, PEER};
use super::path::{Leg, Path, Via};
use super::price::{Bounds, Tariff};
use super::query::{Exclusion, NoRoute, RouteQuery};
use super::told::Told;
use crate::graph::{DirectedChannel, Direction, Edge, NodeIndex, Snapshot};
use crate::units::{MAX_MONEY_MSAT, Msat, NodeId, UnixTime};

/// A channel of ours that may begin a route.
#[derive(Clone, Copy, Debug)]
pub struct OwnChannel {
    /// Where it leads.
    pub node: u32,
    /// What is left of it, in msat.
    pub spendable: u64,
    /// The least HTLC, in msat.
    pub minimum: u64,
    /// Its place in the query.
    pub at: usize,
}

/// A hop that the graph does not know.
#[derive(Clone, Copy, Debug)]
pub struct ExtraEdge {
    /// Who forwards.
    pub source: u32,
    /// To whom.
    pub target: u32,
    /// Its name; none for a blinded path.
    pub channel: Option<DirectedChannel>,
    /// Which blinded path it stands for.
    pub blinded: Option<u32>,
    fee_base: u64,
    fee_millionths: u64,
    blocks: u32,
    minimum: u64,
    maximum: u64,
}

/// What it takes to have an amount cross an edge.
#[derive(Clone, Copy, Debug)]
pub struct Crossing {
    /// Who forwards.
    pub source: u32,
    /// What it keeps, in msat.
    pub fee: u64,
    /// How doubtful it is.
    pub doubt: u64,
    /// The blocks it wants.
    pub blocks: u32,
}

/// The HTLCs under way on each channel, and what is left of our own.
#[derive(Clone, Debug)]
pub struct Load {
    used: BTreeMap<DirectedChannel, u64>,
    own: Vec<OwnChannel>,
}

/// See the file's map.
pub struct Stage<'a> {
    /// The graph.
    pub snapshot: &'a Snapshot,
    /// The question.
    pub query: &'a RouteQuery,
    /// Where routes end.
    pub goal: u32,
    /// The marks of nodes and edges; given back after the query.
    pub marks: Marks,
    /// What the graph does not have.
    pub extra_edges: Vec<ExtraEdge>,
    liquidity: &'a Liquidity,
    now: UnixTime,
    extra_nodes: Vec<NodeId>,
    /// By node, then by what they can send.
    own: Vec<OwnChannel>,
    doubts: BTreeMap<u32, u64>,
    excluded: BTreeMap<DirectedChannel, u64>,
    used: BTreeMap<DirectedChannel, u64>,
    told: Told,
}

impl<'a> Stage<'a> {
    /// Lays the question out. `marks` are the snapshot's, and come back in the stage, or at once with the reason why there
    /// can be no route.
    pub fn new(
        snapshot: &'a Snapshot,
        liquidity: &'a Liquidity,
        marks: Marks,
        query: &'a RouteQuery,
        now: UnixTime,
    ) -> Stage<'a> {
        let mut stage = Stage {
            snapshot,
            query,
            goal: u32::MAX,
            marks,
            extra_edges: Vec::new(),
            liquidity,
            now,
            extra_nodes: Vec::new(),
            own: Vec::new(),
            doubts: BTreeMap::new(),
            excluded: BTreeMap::new(),
            used: BTreeMap::new(),
            told: Told::new(snapshot, &query.told),
        };
        stage.told.places(snapshot).for_each(|(channel, direction)| stage.marks.mark_edge(channel, direction));
        stage.exclude();
        stage.add_own_channels();
        stage.add_extra_edges();
        stage.add_doubts();
        for htlc in &query.in_flight {
            stage.use_up(htlc.channel, htlc.amount.msat());
        }
        stage
    }

    /// What can be said without a search.
    pub fn check(&self) -> Result<(), NoRoute> {
        let wanted = self.query.amount;
        if wanted.msat() == 0 {
            return Err(NoRoute::AmountZero);
        }
        if self.query.blinded.is_empty() && self.query.payee == self.query.source {
            return Err(NoRoute::PayeeIsSource);
        }
        if self.own.is_empty() {
            return Err(NoRoute::NoChannel);
        }
        if self.goal == u32::MAX {
            return Err(NoRoute::PayeeUnknown);
        }
        let spendable = self.own.iter().fold(0_u64, |sum, channel| sum.saturating_add(channel.spendable));
        if spendable < wanted.msat() {
            return Err(NoRoute::TooLittleToSend { spendable: Msat::new(spendable), wanted });
        }
        let receivable = self.receivable();
        if receivable < wanted.msat() {
            return Err(NoRoute::TooLittleToReceive { receivable: Msat::new(receivable), wanted });
        }
        Ok(())
    }

    fn receivable(&self) -> u64 {
        let announced = self.edges_into(self.goal).iter().filter(|edge| edge.is_usable());
        let extra = self.extra_edges.iter().filter(|extra| extra.target == self.goal);
        let own = self.own.iter().filter(|channel| channel.node == self.goal);
        let announced = announced.map(|edge| edge.capacity.msat());
        announced
            .chain(extra.map(|extra| extra.maximum.saturating_mul(u64::from(self.query.max_parts))))
            .chain(own.map(|channel| channel.spendable))
            .fold(0, u64::saturating_add)
    }

    /// Nodes are numbered below: those of the snapshot, then those that only the query knows.
    pub fn node_bound(&self) -> usize {
        self.snapshot.node_bound() + self.extra_nodes.len()
    }

    /// The edges of the graph that lead to a node.
    #[inline]
    pub fn edges_into(&self, node: u32) -> &'a [Edge] {
        self.snapshot.edges_into(NodeIndex(node))
    }

    /// The id of a node; none for the end of blinded paths.
    pub fn node_id(&self, node: u32) -> Option<NodeId> {
        match (node as usize).checked_sub(self.snapshot.node_bound()) {
            Some(extra) => self.extra_nodes.get(extra).copied(),
            None => self.snapshot.node_id(NodeIndex(node)),
        }
    }

    /// The name of an edge of the graph.
    pub fn channel_of(&self, edge: &Edge) -> DirectedChannel {
        let channel = self.snapshot.channel(edge.channel).expect("an edge of the snapshot has its channel there");
        DirectedChannel { short_channel_id: channel.short_channel_id, direction: edge.direction() }
    }

    /// All own channels, by peer.
    pub fn own_channels(&self) -> &[OwnChannel] {
        &self.own
    }

    /// The own channel to `node` that fits `amount` the closest, or the most that fits.
    pub fn own_channel(&self, node: u32, amount: u64) -> Result<usize, u64> {
        let from = self.own.partition_point(|channel| channel.node < node);
        let mut fitting: Option<usize> = None;
        let mut most = 0;
        for (at, channel) in self.own.iter().enumerate().skip(from).take_while(|(_, channel)| channel.node == node) {
            if channel.minimum > amount {
                continue;
            }
            most = most.max(channel.spendable);
            if channel.spendable >= amount && fitting.is_none_or(|old| self.own[old].spendable > channel.spendable) {
                fitting = Some(at);
            }
        }
        fitting.ok_or(most)
    }

    /// Whether `amount` may cross an edge of the graph, and what that takes.
    #[inline]
    pub fn cross(&self, edge: &Edge, amount: u64) -> Result<Crossing, WhyNot> {
        let is_marked = self.marks.edge(edge);
        let edge = if is_marked { self.as_told(edge) } else { edge };
        if edge.is_disabled() {
            return Err(WhyNot::Disabled);
        }
        if edge.has_unknown_feature() {
            return Err(WhyNot::UnknownFeature);
        }
        if amount < edge.htlc_minimum.msat() {
            return Err(WhyNot::BelowMinimum { minimum: edge.htlc_minimum });
        }
        if amount > edge.maximum().msat() || amount > MAX_MONEY_MSAT {
            return Err(WhyNot::AboveMaximum { maximum: edge.maximum() });
        }
        let marks = self.marks.node(edge.source.0);
        if marks & BLOCKED != 0 {
            return Err(WhyNot::NodeExcluded);
        }
        let Some(fee) = fee(u64::from(edge.fee_base_msat), u64::from(edge.fee_proportional_millionths), amount) else {
            return Err(WhyNot::FeeAboveLimit);
        };
        let capacity = edge.capacity.msat();
        let mut doubt = match is_marked {
            false => Bounds::unknown(capacity).doubt(amount),
            true => self.doubt(self.channel_of(edge), capacity, amount)?,
        };
        if marks & DOUBTED != 0 {
            doubt += self.doubts.get(&edge.source.0).copied().unwrap_or_default();
        }
        Ok(Crossing { source: edge.source.0, fee, doubt, blocks: u32::from(edge.cltv_expiry_delta) })
    }

    /// The edge with what was told of it, where that is newer.
    fn as_told<'e>(&'e self, edge: &'e Edge) -> &'e Edge {
        if self.told.is_empty() {
            return edge;
        }
        self.told.edge(&self.channel_of(edge)).unwrap_or(edge)
    }

    /// The same for an edge that the graph does not have.
    pub fn cross_extra(&self, extra: &ExtraEdge, amount: u64) -> Result<Crossing, WhyNot> {
        if amount < extra.minimum {
            return Err(WhyNot::BelowMinimum { minimum: Msat::new(extra.minimum) });
        }
        if amount > extra.maximum {
            return Err(WhyNot::AboveMaximum { maximum: Msat::new(extra.maximum) });
        }
        if self.marks.node(extra.source) & BLOCKED != 0 {
            return Err(WhyNot::NodeExcluded);
        }
        let fee = fee(extra.fee_base, extra.fee_millionths, amount).ok_or(WhyNot::FeeAboveLimit)?;
        let mut doubt = match extra.channel {
            Some(channel) => self.doubt(channel, MAX_MONEY_MSAT, amount)?,
            None => 0,
        };
        doubt += self.doubts.get(&extra.source).copied().unwrap_or_default();
        Ok(Crossing { source: extra.source, fee, doubt, blocks: extra.blocks })
    }

    /// The bounds of an edge and what is in flight there.
    pub fn belief(&self, edge: &Edge) -> (Bounds, u64) {
        let capacity = edge.capacity.msat();
        if !self.marks.edge(edge) {
            return (Bounds::unknown(capacity), 0);
        }
        let channel = self.channel_of(edge);
        (self.liquidity.bounds(channel, capacity, self.now), self.used.get(&channel).copied().unwrap_or_default())
    }

    fn doubt(&self, channel: DirectedChannel, capacity: u64, amount: u64) -> Result<u64, WhyNot> {
        let used = self.used.get(&channel).copied().unwrap_or_default();
        let total = used.saturating_add(amount);
        if let Some(from) = self.excluded.get(&channel)
            && total >= *from
        {
            return Err(WhyNot::Excluded { from: Msat::new(from.saturating_sub(used)) });
        }
        if total > capacity {
            return Err(WhyNot::InFlight { left: Msat::new(capacity.saturating_sub(used)) });
        }
        Ok(self.liquidity.bounds(channel, capacity, self.now).doubt_beside(used, amount))
    }

    /// The edge that a leg takes to `node`, crossed by `amount`.
    pub fn cross_leg(&self, node: u32, via: Via, amount: u64) -> Result<Crossing, WhyNot> {
        match via {
            Via::Own(at) => {
                let own = self.own.get(at).expect("a way names own channels of this stage");
                if amount < own.minimum {
                    return Err(WhyNot::BelowMinimum { minimum: Msat::new(own.minimum) });
                }
                if amount > own.spendable {
                    return Err(WhyNot::TooLittleToSend { spendable: Msat::new(own.spendable) });
                }
                Ok(Crossing { source: u32::MAX, fee: 0, doubt: 0, blocks: 0 })
            }
            Via::Graph(at) => self.cross(&self.edges_into(node)[at as usize], amount),
            Via::Extra(at) => self.cross_extra(&self.extra_edges[at as usize], amount),
        }
    }

    /// The most that one HTLC on an edge may be worth, in msat.
    pub fn most(&self, node: u32, via: Via) -> u64 {
        match via {
            Via::Own(at) => self.own[at].spendable,
            Via::Graph(at) => self.as_told(&self.edges_into(node)[at as usize]).maximum().msat(),
            Via::Extra(at) => self.extra_edges[at as usize].maximum,
        }
    }

    /// Walks a way backwards with `amount` arriving: each HTLC as the hops want it, and what it all costs. `way` is what
    /// leads where, our own channel first.
    pub fn walk(&self, way: &[(u32, Via)], amount: u64, tariff: &Tariff) -> Result<Path, WhyNot> {
        let mut legs = Vec::with_capacity(way.len());
        let (mut arriving, mut blocks, mut cost) = (amount, self.query.final_cltv_delta, 0_u64);
        for (node, via) in way.iter().rev() {
            legs.push(Leg { node: *node, via: *via, amount: arriving, blocks });
            let crossing = self.cross_leg(*node, *via, arriving)?;
            if !matches!(via, Via::Own(_)) {
                cost = cost.saturating_add(tariff.cost(crossing.fee, crossing.doubt, crossing.blocks));
            }
            arriving = arriving.checked_add(crossing.fee).ok_or(WhyNot::FeeAboveLimit)?;
            blocks = blocks.checked_add(crossing.blocks).ok_or(WhyNot::CltvAboveLimit)?;
        }
        legs.reverse();
        Ok(Path { legs, amount, cost })
    }

    /// A part takes its way: what it uses is not there for the next.
    pub fn reserve(&mut self, path: &Path) {
        for leg in &path.legs {
            match leg.via {
                Via::Own(at) => self.own[at].spendable = self.own[at].spendable.saturating_sub(leg.amount),
                Via::Graph(at) => self.use_up(self.channel_of(&self.edges_into(leg.node)[at as usize]), leg.amount),
                Via::Extra(at) => {
                    if let Some(channel) = self.extra_edges[at as usize].channel {
                        self.use_up(channel, leg.amount);
                    }
                }
            }
        }
    }

    /// What is used now, to come back to it.
    pub fn load(&self) -> Load {
        Load { used: self.used.clone(), own: self.own.clone() }
    }

    /// Back to what was used then.
    pub fn set_load(&mut self, load: &Load) {
        self.used.clone_from(&load.used);
        self.own.clone_from(&load.own);
    }

    fn use_up(&mut self, channel: DirectedChannel, amount: u64) {
        let used = self.used.entry(channel).or_default();
        *used = used.saturating_add(amount);
        self.mark(channel);
    }

    fn mark(&mut self, channel: DirectedChannel) {
        if let Some(index) = self.snapshot.channel_index(channel.short_channel_id) {
            self.marks.mark_edge(index, channel.direction);
        }
    }

    fn exclude(&mut self) {
        for exclusion in &self.query.exclusions {
            match exclusion {
                Exclusion::Node(node) => {
                    // Another node may have the same number only if it is the same node.
                    let node = self.intern(*node);
                    self.marks.mark_node(node, BLOCKED);
                }
                Exclusion::Channel(short_channel_id) => {
                    for direction in [Direction::FromNode1, Direction::FromNode2] {
                        self.exclude_from(DirectedChannel { short_channel_id: *short_channel_id, direction }, 0);
                    }
                }
                Exclusion::Direction(channel) => self.exclude_from(*channel, 0),
                Exclusion::Amount { channel, from } => self.exclude_from(*channel, from.msat()),
                Exclusion::BlindedPath(_) => {}
            }
        }
        let source = self.intern(self.query.source);
        self.marks.mark_node(source, BLOCKED);
    }

    fn exclude_from(&mut self, channel: DirectedChannel, from: u64) {
        let least = self.excluded.entry(channel).or_insert(from);
        *least = from.min(*least);
        self.mark(channel);
    }

    /// The number of a node, a new one if nobody has announced it.
    fn intern(&mut self, node: NodeId) -> u32 {
        if let Some(index) = self.snapshot.node_index(&node) {
            return index.0;
        }
        let bound = self.snapshot.node_bound();
        if let Some(at) = self.extra_nodes.iter().position(|known| *known == node) {
            return (bound + at) as u32;
        }
        self.extra_nodes.push(node);
        self.marks.push_node();
        (bound + self.extra_nodes.len() - 1) as u32
    }

    fn add_own_channels(&mut self) {
        for (at, first) in self.query.first_hops.iter().enumerate() {
            let direction = Direction::between(&self.query.source, &first.peer);
            let channel = DirectedChannel { short_channel_id: first.short_channel_id, direction };
            let excluded = self.excluded.get(&channel).map_or(u64::MAX, |from| from.saturating_sub(1));
            let spendable = first.spendable.msat().min(excluded).min(MAX_MONEY_MSAT);
            let node = self.intern(first.peer);
            // A peer that is excluded forwards nothing.
            if spendable == 0 || spendable < first.htlc_minimum.msat() || self.marks.node(node) & BLOCKED != 0 {
                continue;
            }
            self.own.push(OwnChannel { node, spendable, minimum: first.htlc_minimum.msat(), at });
            self.marks.mark_node(node, PEER);
        }
        self.own.sort_by_key(|channel| (channel.node, channel.at));
    }

    fn add_extra_edges(&mut self) {
        let query = self.query;
        if query.blinded.is_empty() {
            for hint in &query.hints {
                let targets = hint.hops.iter().skip(1).map(|hop| hop.node_id).chain([query.payee]);
                for (hop, target) in hint.hops.iter().zip(targets) {
                    let direction = Direction::between(&hop.node_id, &target);
                    let (source, target) = (self.intern(hop.node_id), self.intern(target));
                    self.push_extra(ExtraEdge {
                        source,
                        target,
                        channel: Some(DirectedChannel { short_channel_id: hop.short_channel_id, direction }),
                        blinded: None,
                        fee_base: u64::from(hop.fee_base_msat),
                        fee_millionths: u64::from(hop.fee_proportional_millionths),
                        blocks: u32::from(hop.cltv_expiry_delta.blocks()),
                        minimum: 0,
                        maximum: MAX_MONEY_MSAT,
                    });
                }
            }
            self.goal = self.known_payee();
        } else {
            let ends = query.blinded.iter().map(|path| self.intern(path.introduction_node)).collect::<Vec<u32>>();
            // The payee's own number: nobody knows who it is, and no two paths end at different ones.
            let goal = self.node_bound() as u32;
            self.marks.push_node();
            self.extra_nodes.push(query.payee);
            for (at, (path, source)) in query.blinded.iter().zip(ends).enumerate() {
                if !query.exclusions.contains(&Exclusion::BlindedPath(at as u32)) {
                    self.push_extra(ExtraEdge {
                        source,
                        target: goal,
                        channel: None,
                        blinded: Some(at as u32),
                        fee_base: u64::from(path.fee_base_msat),
                        fee_millionths: u64::from(path.fee_proportional_millionths),
                        blocks: u32::from(path.cltv_expiry_delta.blocks()),
                        minimum: path.htlc_minimum.msat(),
                        maximum: path.htlc_maximum.msat().min(MAX_MONEY_MSAT),
                    });
                }
            }
            self.goal = goal;
        }
    }

    fn known_payee(&self) -> u32 {
        if let Some(index) = self.snapshot.node_index(&self.query.payee) {
            return index.0;
        }
        let extra = self.extra_nodes.iter().position(|node| *node == self.query.payee);
        extra.map_or(u32::MAX, |at| (self.snapshot.node_bound() + at) as u32)
    }

    fn push_extra(&mut self, edge: ExtraEdge) {
        self.marks.mark_node(edge.target, EXTRA);
        self.extra_edges.push(edge);
    }

    fn add_doubts(&mut self) {
        for (node, doubt) in self.liquidity.failed_nodes(self.now) {
            let extra = || self.extra_nodes.iter().position(|known| *known == node);
            let index = self.snapshot.node_index(&node).map(|index| index.0);
            let index = index.or_else(|| extra().map(|at| (self.snapshot.node_bound() + at) as u32));
            if let Some(index) = index.filter(|_| doubt > 0) {
                self.marks.mark_node(index, DOUBTED);
                self.doubts.insert(index, doubt);
            }
        }
    }
}

/// What is kept for forwarding `amount` (BOLT 7), or `None` where no money pays it.
#[inline]
fn fee(base: u64, millionths: u64, amount: u64) -> Option<u64> {
    let proportional = amount.checked_mul(millionths)? / 1_000_000;
    proportional.checked_add(base)
}
