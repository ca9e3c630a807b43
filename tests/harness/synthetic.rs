//! A network from a seed, with hubs as real ones have: as messages, as our graph, and as the graph of the crate `lightning`, so
//! that both are asked the same.

use bitcoin::constants::ChainHash;
use bitcoin::hashes::{Hash, sha256};
use bitcoin::{Amount, Network, ScriptBuf, TxOut};
use channeld::graph::{Announcement, FundingOutput, Graph, VerifiedChannel, VerifiedNode, VerifiedUpdate};
use channeld::units::{CltvDelta, Msat, NodeId, ShortChannelId, UnixTime};
use channeld::wire::{ChannelAnnouncement, ChannelUpdate, Features, Message, NodeAnnouncement};
use lightning::ln::msgs;
use lightning::routing::gossip::NetworkGraph;
use lightning::routing::utxo::{UtxoLookup, UtxoLookupError, UtxoResult};
use lightning::util::logger::{Logger, Record};
use lightning::util::ser::LengthReadable;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use secp256k1::ecdsa::Signature;
use secp256k1::{PublicKey, SECP256K1, SecretKey};

/// How many channels a new node opens.
const CHANNELS_OF_A_NODE: usize = 4;

/// A logger that says nothing.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Logger for Silent {
    fn log(&self, _record: Record<'_>) {}
}

/// The graph of the crate `lightning`.
pub type LdkGraph = NetworkGraph<&'static Silent>;

/// A network: `nodes` in no order, `channels` in rising order of their short channel ids.
#[derive(Debug)]
pub struct Synthetic {
    /// The nodes' keys.
    pub keys: Vec<SecretKey>,
    /// The nodes.
    pub nodes: Vec<PublicKey>,
    /// The channels.
    pub channels: Vec<SyntheticChannel>,
    /// Seconds since 1970: the time of all updates.
    pub now: u32,
}

/// A channel.
#[derive(Clone, Debug)]
pub struct SyntheticChannel {
    /// Where its funding output would be.
    pub short_channel_id: ShortChannelId,
    /// Places in `nodes` of `node_id_1` and `node_id_2`.
    pub nodes: [usize; 2],
    /// What its funding output would hold.
    pub capacity_sat: u64,
    /// What either end asks for; one in fifty has not said it.
    pub policies: [Option<SyntheticPolicy>; 2],
}

/// What one end of a channel asks for.
#[derive(Clone, Debug)]
pub struct SyntheticPolicy {
    /// In msat.
    pub fee_base_msat: u32,
    /// Per million.
    pub fee_proportional_millionths: u32,
    /// In blocks.
    pub cltv_expiry_delta: u16,
    /// In msat.
    pub htlc_minimum_msat: u64,
    /// In msat.
    pub htlc_maximum_msat: u64,
    /// One in twenty.
    pub disabled: bool,
}

/// Whether messages are signed (20 µs a signature) or carry one that is no good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signing {
    /// By the right keys.
    Real,
    /// For graphs that do not look at them.
    None,
}

impl Synthetic {
    /// The network of that seed. `now` is the time of all updates: graphs refuse old ones. About four channels a node.
    pub fn new(seed: u64, nodes: usize, channels: usize, now: u32) -> Synthetic {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let keys: Vec<SecretKey> = (0..nodes).map(|_| secret(&mut rng)).collect();
        let ids: Vec<PublicKey> = keys.par_iter().map(|key| key.public_key(SECP256K1)).collect();
        let serialized: Vec<[u8; 33]> = ids.iter().map(PublicKey::serialize).collect();
        let pairs = pairs(&mut rng, nodes, channels);
        let channels = pairs
            .into_iter()
            .enumerate()
            .map(|(number, (one, other))| {
                let ordered = if serialized[one] < serialized[other] { [one, other] } else { [other, one] };
                channel(&mut rng, number, ordered)
            })
            .collect();
        Synthetic { keys, nodes: ids, channels, now }
    }

    /// The id of a node.
    pub fn node_id(&self, node: usize) -> NodeId {
        NodeId(self.nodes[node])
    }

    /// The time of all updates.
    pub fn time(&self) -> UnixTime {
        UnixTime::from_seconds(u64::from(self.now))
    }

    /// The chain that it is on.
    pub fn chain_hash() -> ChainHash {
        ChainHash::using_genesis_block(Network::Regtest)
    }

    /// The `channel_announcement` of a channel, type first.
    pub fn channel_announcement(&self, number: usize, signing: Signing) -> Vec<u8> {
        let channel = &self.channels[number];
        let secrets = channel.nodes.map(|node| self.keys[node]);
        let funding = self.funding_keys(number, signing);
        let dummy = dummy();
        let mut announcement = ChannelAnnouncement {
            node_signature_1: dummy,
            node_signature_2: dummy,
            bitcoin_signature_1: dummy,
            bitcoin_signature_2: dummy,
            features: Features::empty(),
            chain_hash: Synthetic::chain_hash(),
            short_channel_id: channel.short_channel_id,
            node_id_1: self.nodes[channel.nodes[0]].into(),
            node_id_2: self.nodes[channel.nodes[1]].into(),
            bitcoin_key_1: funding[0].1.into(),
            bitcoin_key_2: funding[1].1.into(),
            excess: Vec::new(),
        };
        if signing == Signing::Real {
            let digest = announcement.signed_hash();
            announcement.node_signature_1 = SECP256K1.sign_ecdsa(&digest, &secrets[0]);
            announcement.node_signature_2 = SECP256K1.sign_ecdsa(&digest, &secrets[1]);
            announcement.bitcoin_signature_1 = SECP256K1.sign_ecdsa(&digest, &funding[0].0);
            announcement.bitcoin_signature_2 = SECP256K1.sign_ecdsa(&digest, &funding[1].0);
        }
        bytes(&announcement.into())
    }

    /// The `channel_update` of that end (0 or 1) of a channel, type first, if there is one.
    pub fn channel_update(&self, number: usize, end: usize, signing: Signing) -> Option<Vec<u8>> {
        let mut update = self.unsigned_update(number, end)?;
        if signing == Signing::Real {
            let signer = self.channels[number].nodes[end];
            update.signature = SECP256K1.sign_ecdsa(&update.signed_hash(), &self.keys[signer]);
        }
        Some(bytes(&update.into()))
    }

    /// A later `channel_update` of that end, unsigned, type first, if there is one.
    pub fn channel_update_at(&self, number: usize, end: usize, timestamp: u32) -> Option<Vec<u8>> {
        let update = self.unsigned_update(number, end)?;
        Some(bytes(&ChannelUpdate { timestamp, ..update }.into()))
    }

    fn unsigned_update(&self, number: usize, end: usize) -> Option<ChannelUpdate> {
        let channel = &self.channels[number];
        let policy = channel.policies[end].as_ref()?;
        Some(ChannelUpdate {
            signature: dummy(),
            chain_hash: Synthetic::chain_hash(),
            short_channel_id: channel.short_channel_id,
            timestamp: self.now,
            message_flags: ChannelUpdate::MUST_BE_ONE,
            channel_flags: end as u8 | if policy.disabled { 2 } else { 0 },
            cltv_expiry_delta: CltvDelta::new(policy.cltv_expiry_delta),
            htlc_minimum_msat: Msat::new(policy.htlc_minimum_msat),
            fee_base_msat: policy.fee_base_msat,
            fee_proportional_millionths: policy.fee_proportional_millionths,
            htlc_maximum_msat: Msat::new(policy.htlc_maximum_msat),
            excess: Vec::new(),
        })
    }

    /// The `node_announcement` of a node, type first.
    pub fn node_announcement(&self, node: usize, signing: Signing) -> Vec<u8> {
        let mut alias = [0; 32];
        let name = format!("node {node}");
        alias[..name.len()].copy_from_slice(name.as_bytes());
        let [_, a, b, c] = (node as u32).to_be_bytes();
        let mut announcement = NodeAnnouncement {
            signature: dummy(),
            features: Features::node_announcement(),
            timestamp: self.now,
            node_id: self.nodes[node],
            rgb_color: [a, b, c],
            alias,
            addresses: vec![1, 10, a, b, c, 0x26, 0x07],
            excess: Vec::new(),
        };
        if signing == Signing::Real {
            announcement.signature = SECP256K1.sign_ecdsa(&announcement.signed_hash(), &self.keys[node]);
        }
        bytes(&announcement.into())
    }

    /// What would stand on the chain at the channel's short channel id.
    pub fn funding_output(&self, number: usize, signing: Signing) -> FundingOutput {
        let keys = self.funding_keys(number, signing).map(|(_, key)| key);
        let amount = Amount::from_sat(self.channels[number].capacity_sat);
        FundingOutput { script: funding_script(keys), amount, confirmations: 100 }
    }

    /// Our graph of it, made without looking at signatures; with the nodes' own announcements.
    pub fn graph(&self) -> Graph {
        let mut graph = Graph::new(Synthetic::chain_hash());
        let parsed: Vec<_> = (0..self.channels.len())
            .into_par_iter()
            .map(|number| {
                let announcement = announcement(self.channel_announcement(number, Signing::None));
                let channel = VerifiedChannel::assume_signed(announcement).expect("its keys are keys");
                (channel, self.funding_output(number, Signing::None))
            })
            .collect();
        for (number, (channel, output)) in parsed.iter().enumerate() {
            graph.apply_channel(channel, output, self.time()).expect("nothing is wrong with it");
            for end in 0..2 {
                let Some(update) = self.channel_update(number, end, Signing::None) else { continue };
                let signer = &self.nodes[self.channels[number].nodes[end]];
                let update = VerifiedUpdate::assume_signed(announcement(update), signer).expect("it is one");
                graph.apply_update(&update, self.time()).expect("nothing is wrong with it");
            }
        }
        for node in 0..self.nodes.len() {
            let node = announcement(self.node_announcement(node, Signing::None));
            // A node without channel is refused, and rightly.
            let _ = graph.apply_node(&VerifiedNode::assume_signed(node).expect("it is one"));
        }
        graph
    }

    /// The same graph as the crate `lightning` has it, made without looking at signatures.
    pub fn ldk_graph(&self) -> LdkGraph {
        let graph = NetworkGraph::new(Network::Regtest, &Silent);
        let chain = Some(Chain { network: self, signing: Signing::None });
        let lookup = chain.as_ref();
        for number in 0..self.channels.len() {
            let announcement = ldk_channel(&self.channel_announcement(number, Signing::None));
            let added = graph.update_channel_from_unsigned_announcement(&announcement.contents, &lookup);
            added.expect("nothing is wrong with it");
            for end in 0..2 {
                let Some(update) = self.channel_update(number, end, Signing::None) else { continue };
                graph.update_channel_unsigned(&ldk_update(&update).contents).expect("nothing is wrong with it");
            }
        }
        for node in 0..self.nodes.len() {
            let node = ldk_node(&self.node_announcement(node, Signing::None));
            let _ = graph.update_node_from_unsigned_announcement(&node.contents);
        }
        graph
    }

    /// The funding keys of a channel: its own where somebody will verify, those of the nodes otherwise.
    fn funding_keys(&self, number: usize, signing: Signing) -> [(SecretKey, PublicKey); 2] {
        let nodes = self.channels[number].nodes;
        [0, 1].map(|end| match signing {
            Signing::None => (self.keys[nodes[end]], self.nodes[nodes[end]]),
            Signing::Real => {
                let label = format!("funding key {end} of channel {number}");
                let key = SecretKey::from_slice(&sha256::Hash::hash(label.as_bytes()).to_byte_array());
                let key = key.expect("no hash of these is zero or above the order");
                (key, key.public_key(SECP256K1))
            }
        })
    }
}

/// The chain that a network would be on, for the crate `lightning` to look at.
#[derive(Debug)]
pub struct Chain<'a> {
    /// The network.
    pub network: &'a Synthetic,
    /// Whose keys the funding outputs pay to.
    pub signing: Signing,
}

impl UtxoLookup for Chain<'_> {
    fn get_utxo(&self, _chain_hash: &ChainHash, short_channel_id: u64) -> UtxoResult {
        let id = ShortChannelId::from_u64(short_channel_id);
        let found = self.network.channels.binary_search_by_key(&id, |channel| channel.short_channel_id);
        UtxoResult::Sync(found.map_err(|_| UtxoLookupError::UnknownTx).map(|number| {
            let output = self.network.funding_output(number, self.signing);
            TxOut { value: output.amount, script_pubkey: output.script }
        }))
    }
}

/// A message of ours as the crate `lightning` reads it.
pub fn ldk_channel(bytes: &[u8]) -> msgs::ChannelAnnouncement {
    LengthReadable::read_from_fixed_length_buffer(&mut &bytes[2..]).expect("it reads what we write")
}

/// A message of ours as the crate `lightning` reads it.
pub fn ldk_update(bytes: &[u8]) -> msgs::ChannelUpdate {
    LengthReadable::read_from_fixed_length_buffer(&mut &bytes[2..]).expect("it reads what we write")
}

/// A message of ours as the crate `lightning` reads it.
pub fn ldk_node(bytes: &[u8]) -> msgs::NodeAnnouncement {
    LengthReadable::read_from_fixed_length_buffer(&mut &bytes[2..]).expect("it reads what we write")
}

/// The message as the graph takes it.
pub fn announcement(bytes: Vec<u8>) -> Announcement {
    Announcement::from_bytes(bytes).expect("it reads what we write")
}

fn bytes(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    message.encode_into(&mut bytes);
    bytes
}

fn dummy() -> Signature {
    Signature::from_compact(&[1; 64]).expect("both halves are below the order")
}

fn secret(rng: &mut ChaCha8Rng) -> SecretKey {
    loop {
        if let Ok(key) = SecretKey::from_slice(&rng.random::<[u8; 32]>()) {
            return key;
        }
    }
}

fn funding_script(keys: [PublicKey; 2]) -> ScriptBuf {
    let mut keys = keys.map(|key| key.serialize());
    keys.sort_unstable();
    let multisig = bitcoin::script::Builder::new()
        .push_int(2)
        .push_slice(keys[0])
        .push_slice(keys[1])
        .push_int(2)
        .push_opcode(bitcoin::opcodes::all::OP_CHECKMULTISIG)
        .into_script();
    multisig.to_p2wsh()
}

/// Who has a channel with whom: each new node picks nodes with a chance that grows with their channels.
fn pairs(rng: &mut ChaCha8Rng, nodes: usize, channels: usize) -> Vec<(usize, usize)> {
    assert!(nodes >= 2, "a channel has two nodes");
    let mut pairs = vec![(0, 1)];
    let mut ends = vec![0, 1];
    for node in 2..nodes {
        let mut picked: Vec<usize> = Vec::new();
        for _ in 0..CHANNELS_OF_A_NODE.min(node) {
            let peer = *ends.choose(rng).expect("there are two to begin with");
            if picked.contains(&peer) || pairs.len() == channels {
                continue;
            }
            picked.push(peer);
            pairs.push((node, peer));
        }
        for peer in picked {
            ends.extend([node, peer]);
        }
    }
    // The rest are more channels between those that have many.
    while pairs.len() < channels {
        let (one, other) = (*ends.choose(rng).expect("not empty"), *ends.choose(rng).expect("not empty"));
        if one != other {
            pairs.push((one, other));
            ends.extend([one, other]);
        }
    }
    pairs
}

fn channel(rng: &mut ChaCha8Rng, number: usize, nodes: [usize; 2]) -> SyntheticChannel {
    // Thirty channels a block, each in a transaction of its own.
    let (block, transaction) = (500_000 + number as u32 / 30, 1 + number as u32 % 30 * 7);
    let short_channel_id = ShortChannelId::new(block, transaction, rng.random_range(0..2)).expect("in range");
    // From 20,000 sat to 1 BTC, each power of ten as often.
    let capacity_sat = (10_f64.powf(rng.random_range(4.3..8.0))) as u64;
    let policies = [0, 1].map(|_| (!rng.random_bool(0.02)).then(|| policy(rng, capacity_sat)));
    SyntheticChannel { short_channel_id, nodes, capacity_sat, policies }
}

fn policy(rng: &mut ChaCha8Rng, capacity_sat: u64) -> SyntheticPolicy {
    SyntheticPolicy {
        fee_base_msat: *[0, 0, 1, 100, 1_000, 1_000, 1_000].choose(rng).expect("not empty"),
        fee_proportional_millionths: 10_f64.powf(rng.random_range(0.0..3.5)) as u32,
        cltv_expiry_delta: *[34, 40, 40, 80, 80, 144].choose(rng).expect("not empty"),
        htlc_minimum_msat: *[1, 1_000, 1_000, 1_000, 10_000].choose(rng).expect("not empty"),
        htlc_maximum_msat: capacity_sat * *[1_000, 990, 990, 450].choose(rng).expect("not empty"),
        disabled: rng.random_bool(0.05),
    }
}
