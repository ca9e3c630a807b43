//! A small network with node numbers for names, all possible ways through it, and what a forwarding node would say.

use std::sync::Arc;

use bitcoin::constants::ChainHash;
use bitcoin::opcodes::all::OP_CHECKMULTISIG;
use bitcoin::script::Builder;
use bitcoin::{Amount, ScriptBuf};
use secp256k1::ecdsa::Signature;
use secp256k1::{PublicKey, SECP256K1, SecretKey};

use crate::graph::{
    Announcement, DirectedChannel, Direction, FundingOutput, Graph, Route, Snapshot, VerifiedChannel, VerifiedUpdate,
};
use crate::router::price::Tariff;
use crate::router::{FirstHop, Lesson, Liquidity, RouteQuery, Router};
use crate::units::{ChannelId, CltvDelta, Msat, NodeId, ShortChannelId, UnixTime};
use crate::wire::{ChannelAnnouncement, ChannelUpdate, Features, Message};

pub const NOW: UnixTime = UnixTime::from_seconds(1_700_000_000);

#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub base: u32,
    pub rate: u32,
    pub delta: u16,
    pub minimum: u64,
    pub maximum: u64,
    pub disabled: bool,
}

impl Terms {
    pub fn free() -> Terms {
        Terms { base: 0, rate: 0, delta: 40, minimum: 1, maximum: u64::MAX, disabled: false }
    }

    pub fn fee(base: u32, rate: u32) -> Terms {
        Terms { base, rate, ..Terms::free() }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Line {
    pub id: ShortChannelId,
    /// Numbers of nodes; the terms are in the same order.
    pub ends: [usize; 2],
    pub capacity_sat: u64,
    pub terms: [Terms; 2],
}

/// Node 0 is this node.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub lines: Vec<Line>,
    pub liquidity: Liquidity,
}

pub fn node(number: usize) -> NodeId {
    let mut secret = [1; 32];
    secret[24..].copy_from_slice(&(number as u64 + 1).to_be_bytes());
    NodeId(SecretKey::from_slice(&secret).unwrap().public_key(SECP256K1))
}

/// A way: the lines and who is reached by each.
pub type Way = Vec<(usize, usize)>;

impl World {
    pub fn line(&mut self, one: usize, two: usize, capacity_sat: u64, terms: [Terms; 2]) -> ShortChannelId {
        let id = ShortChannelId::new(100, self.lines.len() as u32 + 1, 0).unwrap();
        // The graph takes no policy that promises more than the channel holds.
        let terms = terms.map(|terms| match terms.maximum {
            u64::MAX => Terms { maximum: capacity_sat * 1_000, ..terms },
            _ => terms,
        });
        self.lines.push(Line { id, ends: [one, two], capacity_sat, terms });
        id
    }

    pub fn snapshot(&self) -> Arc<Snapshot> {
        let mut graph = Graph::new(ChainHash::REGTEST);
        for line in &self.lines {
            line.announce(&mut graph);
        }
        graph.snapshot()
    }

    pub fn router(&self) -> Router {
        let mut router = Router::new(self.liquidity.clone());
        router.set_snapshot(&self.snapshot());
        router
    }

    pub fn learn(&mut self, lessons: &[Lesson]) {
        lessons.iter().for_each(|lesson| self.liquidity.learn(lesson, NOW));
    }

    /// All lines at node 0, each with all its capacity.
    pub fn first_hops(&self) -> Vec<FirstHop> {
        let own = self.lines.iter().filter(|line| line.ends.contains(&0));
        own.map(|line| FirstHop {
            short_channel_id: line.id,
            channel: ChannelId([0; 32]),
            peer: node(line.ends[0] + line.ends[1]),
            spendable: Msat::new(line.capacity_sat * 1_000),
            htlc_minimum: Msat::ZERO,
        })
        .collect()
    }

    pub fn query(&self, payee: usize, amount_msat: u64) -> RouteQuery {
        RouteQuery {
            final_cltv_delta: 20,
            ..RouteQuery::new(node(0), node(payee), Msat::new(amount_msat), self.first_hops())
        }
    }

    /// Every way from node 0 that crosses no node twice.
    pub fn ways(&self, payee: usize) -> Vec<Way> {
        fn go(world: &World, payee: usize, at: usize, way: &mut Way, all: &mut Vec<Way>) {
            if at == payee {
                all.push(way.clone());
                return;
            }
            for (number, line) in world.lines.iter().enumerate() {
                let Some(end) = line.ends.iter().position(|end| *end == at) else { continue };
                let next = line.ends[1 - end];
                if next != 0 && way.iter().all(|(_, node)| *node != next) {
                    way.push((number, next));
                    go(world, payee, next, way, all);
                    way.pop();
                }
            }
        }
        let mut all = Vec::new();
        go(self, payee, 0, &mut Vec::new(), &mut all);
        all
    }

    /// The HTLCs of a way by the rules of BOLT 7 alone: amounts and locks; `None` where a node would refuse.
    pub fn htlcs(&self, query: &RouteQuery, way: &Way, amount: u64) -> Option<Vec<(u64, u32)>> {
        let (mut amount, mut blocks) = (amount, query.final_cltv_delta);
        let mut htlcs = vec![(amount, blocks)];
        for (number, to) in way.iter().skip(1).rev() {
            let line = &self.lines[*number];
            let terms = line.terms[usize::from(line.ends[0] == *to)];
            let fits = amount >= terms.minimum && amount <= terms.maximum && amount <= line.capacity_sat * 1_000;
            if terms.disabled || !fits {
                return None;
            }
            amount += u64::from(terms.base) + amount * u64::from(terms.rate) / 1_000_000;
            blocks += u32::from(terms.delta);
            htlcs.push((amount, blocks));
        }
        htlcs.reverse();
        let own = &self.lines[way[0].0];
        let keeps = amount <= own.capacity_sat * 1_000
            && blocks <= query.max_cltv_delta
            && way.len() <= query.max_hops as usize;
        keeps.then_some(htlcs)
    }

    /// What parts cost by our own cost function, one beside the other.
    pub fn cost(&self, query: &RouteQuery, parts: &[(Way, u64)]) -> Option<u64> {
        let mut used = std::collections::BTreeMap::<(usize, usize), u64>::new();
        let (mut cost, mut fees) = (0, 0);
        for (way, part) in parts {
            let tariff = Tariff::new(*part, query.amount.msat());
            let htlcs = self.htlcs(query, way, *part)?;
            fees += htlcs[0].0 - part;
            for (at, (number, to)) in way.iter().enumerate() {
                let line = &self.lines[*number];
                let used = used.entry((*number, *to)).or_default();
                let capacity = line.capacity_sat * 1_000;
                if *used + htlcs[at].0 > capacity {
                    return None;
                }
                if at > 0 {
                    let from = line.ends[0] + line.ends[1] - to;
                    let direction = Direction::between(&node(from), &node(*to));
                    let channel = DirectedChannel { short_channel_id: line.id, direction };
                    let bounds = self.liquidity.bounds(channel, capacity, NOW);
                    let doubt = bounds.doubt_beside(*used, htlcs[at].0);
                    let terms = line.terms[usize::from(line.ends[0] == *to)];
                    cost += tariff.cost(htlcs[at - 1].0 - htlcs[at].0, doubt, u32::from(terms.delta));
                }
                *used += htlcs[at].0;
            }
        }
        (fees <= query.max_fee.msat()).then_some(cost)
    }

    /// The ways of routes, each checked hop by hop as the nodes on it would.
    pub fn checked(&self, query: &RouteQuery, routes: &[Route]) -> Vec<(Way, u64)> {
        assert!(routes.len() <= query.max_parts as usize, "too many parts");
        let total: u64 = routes.iter().map(|route| route.amount().msat()).sum();
        assert_eq!(total, query.amount.msat(), "the parts are the amount");
        routes.iter().map(|route| self.checked_one(query, route)).collect()
    }

    fn checked_one(&self, query: &RouteQuery, route: &Route) -> (Way, u64) {
        let mut way = Way::new();
        let mut at = 0;
        for hop in &route.hops {
            let number = self.lines.iter().position(|line| line.id == hop.short_channel_id).expect("a known line");
            let ends = self.lines[number].ends;
            assert!(ends.contains(&at), "the hop does not go on from the one before");
            at = ends[0] + ends[1] - at;
            assert_eq!(node(at), hop.node_id);
            assert!(at != 0 && way.iter().all(|(_, known)| *known != at), "no node twice");
            way.push((number, at));
        }
        let htlcs = self.htlcs(query, &way, route.amount().msat()).expect("every node forwards it");
        let given: Vec<(u64, u32)> = route.hops.iter().map(|hop| (hop.amount.msat(), hop.cltv_delta)).collect();
        assert_eq!(given, htlcs, "not a millisatoshi or block more or less than asked for");
        (way, route.amount().msat())
    }
}

impl Line {
    fn announce(&self, graph: &mut Graph) {
        let mut keys = self.ends.map(|end| node(end).0);
        let mut terms = self.terms;
        if keys[0].serialize() > keys[1].serialize() {
            keys.reverse();
            terms.reverse();
        }
        let signature = Signature::from_compact(&[1; 64]).unwrap();
        let announcement = ChannelAnnouncement {
            node_signature_1: signature,
            node_signature_2: signature,
            bitcoin_signature_1: signature,
            bitcoin_signature_2: signature,
            features: Features::empty(),
            chain_hash: ChainHash::REGTEST,
            short_channel_id: self.id,
            node_id_1: keys[0].into(),
            node_id_2: keys[1].into(),
            bitcoin_key_1: keys[0].into(),
            bitcoin_key_2: keys[1].into(),
            excess: Vec::new(),
        };
        let message = Message::ChannelAnnouncement(announcement.into());
        let verified = VerifiedChannel::assume_signed(Announcement::from_message(&message).unwrap()).unwrap();
        let amount = Amount::from_sat(self.capacity_sat);
        let output = FundingOutput { script: funding_script(keys), amount, confirmations: 100 };
        graph.apply_channel(&verified, &output, NOW).unwrap();
        for end in [0, 1] {
            let update = ChannelUpdate {
                signature,
                chain_hash: ChainHash::REGTEST,
                short_channel_id: self.id,
                timestamp: NOW.seconds() as u32,
                message_flags: 1,
                channel_flags: end as u8 | u8::from(terms[end].disabled) << 1,
                cltv_expiry_delta: CltvDelta::new(terms[end].delta),
                htlc_minimum_msat: Msat::new(terms[end].minimum),
                fee_base_msat: terms[end].base,
                fee_proportional_millionths: terms[end].rate,
                htlc_maximum_msat: Msat::new(terms[end].maximum),
                excess: Vec::new(),
            };
            let update = Announcement::from_message(&Message::ChannelUpdate(update.into())).unwrap();
            let verified = VerifiedUpdate::assume_signed(update, &keys[end]).unwrap();
            // A policy that the graph refuses is none.
            let _ = graph.apply_update(&verified, NOW);
        }
    }
}

fn funding_script(keys: [PublicKey; 2]) -> ScriptBuf {
    let mut keys = keys.map(|key| key.serialize());
    keys.sort_unstable();
    let script = Builder::new().push_int(2).push_slice(keys[0]).push_slice(keys[1]).push_int(2);
    script.push_opcode(OP_CHECKMULTISIG).into_script().to_p2wsh()
}
