//! The world of these tests.

use std::collections::{BTreeMap, VecDeque};

use bitcoin::constants::ChainHash;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, OutPoint, Txid};
use secp256k1::{PublicKey, SECP256K1, SecretKey};

use crate::gossip::funding::{Lookup, Outputs};
use crate::gossip::machine::{Action, Machine, Settings};
use crate::graph::{FundingOutput, Graph};
use crate::keys::FundingPubkey;
use crate::node::input::SessionNumber;
use crate::transactions::Funding;
use crate::units::{CltvDelta, Msat, ShortChannelId, UnixTime};
use crate::wire::{ChannelAnnouncement, ChannelUpdate, Feature, Features, Message, NodeAnnouncement};

pub const START: u64 = 1_750_000_000;
pub const CAPACITY: u64 = 1_000_000;

pub fn key(number: u32) -> SecretKey {
    let mut bytes = [1; 32];
    bytes[28..].copy_from_slice(&(number + 1).to_be_bytes());
    SecretKey::from_slice(&bytes).unwrap()
}

pub fn id(number: u32) -> PublicKey {
    key(number).public_key(SECP256K1)
}

fn funding_key(number: u32) -> SecretKey {
    key(1_000_000 + number)
}

pub fn place(block: u32) -> ShortChannelId {
    ShortChannelId::new(block, 1, 0).unwrap()
}

/// The two nodes of a channel in the order of an announcement.
pub fn sorted(a: u32, b: u32) -> (u32, u32) {
    if id(a).serialize() < id(b).serialize() { (a, b) } else { (b, a) }
}

fn sign(key: &SecretKey, hash: secp256k1::Message) -> secp256k1::ecdsa::Signature {
    SECP256K1.sign_ecdsa(&hash, key)
}

/// The channel of two nodes whose funding output is in that block.
pub fn announcement(a: u32, b: u32, block: u32) -> ChannelAnnouncement {
    let (first, second) = sorted(a, b);
    let stand_in = sign(&key(0), secp256k1::Message::from_digest([1; 32]));
    let mut message = ChannelAnnouncement {
        node_signature_1: stand_in,
        node_signature_2: stand_in,
        bitcoin_signature_1: stand_in,
        bitcoin_signature_2: stand_in,
        features: Features::empty(),
        chain_hash: ChainHash::REGTEST,
        short_channel_id: place(block),
        node_id_1: id(first).into(),
        node_id_2: id(second).into(),
        bitcoin_key_1: funding_key(first).public_key(SECP256K1).into(),
        bitcoin_key_2: funding_key(second).public_key(SECP256K1).into(),
        excess: Vec::new(),
    };
    let hash = message.signed_hash();
    message.node_signature_1 = sign(&key(first), hash);
    message.node_signature_2 = sign(&key(second), hash);
    message.bitcoin_signature_1 = sign(&funding_key(first), hash);
    message.bitcoin_signature_2 = sign(&funding_key(second), hash);
    message
}

/// What `from` asks on its channel with `to`.
pub fn update(from: u32, to: u32, block: u32, timestamp: u64, fee: u32) -> ChannelUpdate {
    let mut message = ChannelUpdate {
        signature: sign(&key(0), secp256k1::Message::from_digest([1; 32])),
        chain_hash: ChainHash::REGTEST,
        short_channel_id: place(block),
        timestamp: timestamp as u32,
        message_flags: 1,
        channel_flags: u8::from(sorted(from, to).0 != from),
        cltv_expiry_delta: CltvDelta::new(40),
        htlc_minimum_msat: Msat::new(1),
        fee_base_msat: fee,
        fee_proportional_millionths: 1,
        htlc_maximum_msat: Msat::new(CAPACITY * 1_000),
        excess: Vec::new(),
    };
    message.signature = sign(&key(from), message.signed_hash());
    message
}

pub fn node(number: u32, timestamp: u64) -> NodeAnnouncement {
    let mut message = NodeAnnouncement {
        signature: sign(&key(0), secp256k1::Message::from_digest([1; 32])),
        features: Features::empty(),
        timestamp: timestamp as u32,
        node_id: id(number),
        rgb_color: [0; 3],
        alias: [0; 32],
        addresses: Vec::new(),
        excess: Vec::new(),
    };
    message.signature = sign(&key(number), message.signed_hash());
    message
}

/// All that is told of a channel: six messages.
pub fn told(a: u32, b: u32, block: u32) -> Vec<Message> {
    vec![
        announcement(a, b, block).into(),
        update(a, b, block, START - 60, 1).into(),
        update(b, a, block, START - 50, 2).into(),
        node(a, START - 40).into(),
        node(b, START - 40).into(),
    ]
}

pub fn outpoint(block: u32) -> OutPoint {
    OutPoint::new(Txid::from_byte_array([block as u8; 32]), block)
}

/// What the chain says of the channel's place.
pub fn found(a: u32, b: u32, block: u32, confirmations: u32) -> Lookup {
    let keys = [a, b].map(|it| FundingPubkey::new(funding_key(it).public_key(SECP256K1)));
    let output = FundingOutput {
        script: Funding::script_pubkey_of(&keys[0], &keys[1]),
        amount: Amount::from_sat(CAPACITY),
        confirmations,
    };
    Lookup::Found { output, outpoint: outpoint(block) }
}

pub fn all_features() -> Features {
    let mut features = Features::empty();
    features.set_optional(Feature::GossipQueries);
    features.set_optional(Feature::GossipQueriesEx);
    features
}

/// Machines, what is on its way between them, and what the chain knows.
pub struct World {
    pub machines: Vec<Machine>,
    /// The other end of each session of each machine; `None` is the test itself.
    ends: BTreeMap<(usize, SessionNumber), Option<(usize, SessionNumber)>>,
    wire: VecDeque<(usize, SessionNumber, Vec<u8>)>,
    pub chain: BTreeMap<ShortChannelId, Lookup>,
    /// What the test was sent.
    pub heard: BTreeMap<(usize, SessionNumber), Vec<Message>>,
    pub closed: Vec<(usize, SessionNumber)>,
    sessions: u64,
    pub seconds: u64,
    pub is_chain_silent: bool,
}

impl World {
    pub fn new(count: usize) -> World {
        let settings = Settings { chain_hash: ChainHash::REGTEST, flush_micros: 1_000_000 };
        let machine = || Machine::new(settings.clone(), Graph::new(ChainHash::REGTEST), Outputs::default(), None);
        World {
            machines: (0..count).map(|_| machine()).collect(),
            ends: BTreeMap::new(),
            wire: VecDeque::new(),
            chain: BTreeMap::new(),
            heard: BTreeMap::new(),
            closed: Vec::new(),
            sessions: 0,
            seconds: START,
            is_chain_silent: false,
        }
    }

    pub fn now(&self) -> UnixTime {
        UnixTime::from_seconds(self.seconds)
    }

    fn session(&mut self) -> SessionNumber {
        self.sessions += 1;
        SessionNumber(self.sessions)
    }

    /// Joins two machines.
    pub fn join(&mut self, a: usize, b: usize, features: &Features) -> (SessionNumber, SessionNumber) {
        let (of_a, of_b, now) = (self.session(), self.session(), self.now());
        self.ends.insert((a, of_a), Some((b, of_b)));
        self.ends.insert((b, of_b), Some((a, of_a)));
        self.machines[a].connected(of_a, features, now);
        self.machines[b].connected(of_b, features, now);
        self.run();
        (of_a, of_b)
    }

    /// A session of the test's own.
    pub fn attach(&mut self, machine: usize, features: &Features) -> SessionNumber {
        let (session, now) = (self.session(), self.now());
        self.ends.insert((machine, session), None);
        self.machines[machine].connected(session, features, now);
        self.run();
        session
    }

    pub fn say(&mut self, machine: usize, session: SessionNumber, messages: Vec<Message>) {
        let now = self.now();
        self.machines[machine].messages(session, messages, now);
        self.run();
    }

    /// What the test heard on a session since the last call.
    pub fn take_heard(&mut self, machine: usize, session: SessionNumber) -> Vec<Message> {
        self.heard.remove(&(machine, session)).unwrap_or_default()
    }

    /// Carries messages and the chain's answers until nothing moves.
    pub fn run(&mut self) {
        for _ in 0..100_000 {
            let mut moved = false;
            for at in 0..self.machines.len() {
                self.machines[at].feed(|_| 64 * 1024);
                for action in self.machines[at].take_actions() {
                    moved = true;
                    self.act(at, action);
                }
            }
            while let Some((to, session, bytes)) = self.wire.pop_front() {
                moved = true;
                let message = Message::decode(&bytes).expect("what we send can be read");
                let now = self.now();
                self.machines[to].messages(session, vec![message], now);
            }
            if !moved {
                return;
            }
        }
        panic!("the machines never come to rest");
    }

    fn act(&mut self, at: usize, action: Action) {
        match action {
            Action::Send { session, messages } => match self.ends.get(&(at, session)).copied().flatten() {
                Some((to, other)) => self.wire.extend(messages.into_iter().map(|bytes| (to, other, bytes))),
                None => {
                    let messages = messages.iter().map(|bytes| Message::decode(bytes).expect("readable"));
                    self.heard.entry((at, session)).or_default().extend(messages);
                }
            },
            Action::Disconnect { session } => self.closed.push((at, session)),
            Action::LookUp(_) if self.is_chain_silent => {}
            Action::LookUp(ids) => {
                let answer = |id| (id, self.chain.get(&id).cloned().unwrap_or(Lookup::Missing));
                let answers = ids.into_iter().map(answer).collect();
                let now = self.now();
                self.machines[at].looked_up(answers, now);
            }
        }
    }

    /// Lets time pass for all.
    pub fn wait(&mut self, seconds: u64) {
        self.seconds += seconds;
        let now = self.now();
        self.machines.iter_mut().for_each(|machine| machine.tick(now));
        self.run();
    }

    /// How many channels, policies and announced nodes a machine knows.
    pub fn known(&self, machine: usize) -> (usize, usize, usize) {
        let graph = self.machines[machine].snapshot();
        let policies = graph.channels().flat_map(|it| graph.timestamps(it)).filter(|time| *time != 0).count();
        let nodes = graph.nodes().filter(|node| graph.node_details(*node).is_some()).count();
        (graph.channel_count(), policies, nodes)
    }
}
