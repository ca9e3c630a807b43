//! A network that nobody runs: nodes, channels and policies drawn from a seed, shaped like the public one, for the crate
//! `lightning` and for `graph` alike.

use std::sync::Arc;

use bitcoin::constants::ChainHash;
use bitcoin::opcodes::all::OP_CHECKMULTISIG;
use bitcoin::script::Builder;
use bitcoin::{Amount, ScriptBuf};
use channeld::graph::{Announcement, FundingOutput, Graph, Snapshot, VerifiedChannel, VerifiedUpdate};
use channeld::router::FirstHop;
use channeld::units::{ChannelId, CltvDelta, Msat, NodeId, ShortChannelId, UnixTime};
use channeld::wire::{ChannelAnnouncement, ChannelUpdate, Features, Message};
use lightning::routing::gossip::NetworkGraph;
use lightning::util::logger::Logger;
use rand::prelude::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use secp256k1::ecdsa::Signature;
use secp256k1::{PublicKey, SECP256K1, SecretKey};

/// When everything was announced, in seconds since 1970; `lightning` refuses what is two weeks old by the clock.
const AGE_SECONDS: u64 = 3_600;
/// What the public network's nodes ask, in msat and millionths, the usual ones more often.
const BASE_FEES: [u32; 5] = [0, 0, 1_000, 1_000, 100];
const FEE_RATES: [u32; 8] = [1, 1, 10, 50, 100, 250, 500, 2_000];
const CLTV_DELTAS: [u16; 4] = [34, 40, 80, 144];

/// One end of a channel.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// In msat.
    pub fee_base_msat: u32,
    /// In millionths.
    pub fee_proportional_millionths: u32,
    /// In blocks.
    pub cltv_expiry_delta: u16,
    /// In msat.
    pub htlc_minimum_msat: u64,
    /// In msat.
    pub htlc_maximum_msat: u64,
    /// Switched off.
    pub is_disabled: bool,
}

/// A channel.
#[derive(Clone, Copy, Debug)]
pub struct Channel {
    /// Its id.
    pub short_channel_id: ShortChannelId,
    /// Its ends, as places in the list of nodes; the first one's id is the lesser.
    pub ends: [usize; 2],
    /// What it holds.
    pub capacity_sat: u64,
    /// What the first end really has of it, in msat: nobody is told.
    pub balance_msat: u64,
    /// What either end asks for.
    pub policies: [Policy; 2],
}

/// The whole network.
pub struct Network {
    /// All node ids.
    pub nodes: Vec<PublicKey>,
    /// All channels, in rising order of their ids.
    pub channels: Vec<Channel>,
    /// The channels of each node.
    pub channels_of: Vec<Vec<usize>>,
}

impl Network {
    /// `nodes` nodes with `channels` channels: most with few, a few with very many.
    pub fn new(seed: u64, nodes: usize, channels: usize) -> Network {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let keys: Vec<PublicKey> = (0..nodes).map(|_| random_key(&mut rng)).collect();
        let mut network = Network { nodes: keys, channels: Vec::new(), channels_of: vec![Vec::new(); nodes] };
        // Whoever has channels gets more: each end stands in the hat once for each channel.
        let mut hat: Vec<usize> = vec![0];
        for node in 1..nodes {
            let other = *hat.choose(&mut rng).expect("it is not empty");
            network.connect(&mut rng, node, other);
            hat.extend([node, other]);
        }
        while network.channels.len() < channels {
            // One end from the hat, the other from the hat as well in three of four.
            let one = *hat.choose(&mut rng).expect("it is not empty");
            let two = match rng.random_range(0..4) {
                0 => rng.random_range(0..nodes),
                _ => *hat.choose(&mut rng).expect("it is not empty"),
            };
            if one != two {
                network.connect(&mut rng, one, two);
                hat.extend([one, two]);
            }
        }
        network
    }

    fn connect(&mut self, rng: &mut ChaCha8Rng, one: usize, two: usize) {
        let number = self.channels.len() as u32;
        let ends = if self.nodes[one].serialize() < self.nodes[two].serialize() { [one, two] } else { [two, one] };
        // From 50,000 sat to 50 million, each order of magnitude as often.
        let capacity_sat = (50_000.0 * 1_000_f64.powf(rng.random::<f64>())) as u64;
        let policy = |rng: &mut ChaCha8Rng| Policy {
            fee_base_msat: *BASE_FEES.choose(rng).expect("not empty"),
            fee_proportional_millionths: *FEE_RATES.choose(rng).expect("not empty"),
            cltv_expiry_delta: *CLTV_DELTAS.choose(rng).expect("not empty"),
            htlc_minimum_msat: if rng.random_range(0..4) == 0 { 1 } else { 1_000 },
            htlc_maximum_msat: capacity_sat * 990,
            is_disabled: rng.random_range(0..20) == 0,
        };
        let policies = [policy(rng), policy(rng)];
        let balance_msat = rng.random_range(0..=capacity_sat * 1_000);
        let short_channel_id =
            ShortChannelId::new(100 + number / 1_000, 1 + number % 1_000, 0).expect("a small number");
        self.channels.push(Channel { short_channel_id, ends, capacity_sat, balance_msat, policies });
        self.channels_of[one].push(number as usize);
        self.channels_of[two].push(number as usize);
    }

    /// As our graph has it.
    pub fn graph(&self, now: UnixTime) -> Arc<Snapshot> {
        let mut graph = Graph::new(ChainHash::REGTEST);
        let signature = Signature::from_compact(&[1; 64]).expect("two figures in range");
        for channel in &self.channels {
            let keys = channel.ends.map(|end| self.nodes[end]);
            let announcement = ChannelAnnouncement {
                node_signature_1: signature,
                node_signature_2: signature,
                bitcoin_signature_1: signature,
                bitcoin_signature_2: signature,
                features: Features::empty(),
                chain_hash: ChainHash::REGTEST,
                short_channel_id: channel.short_channel_id,
                node_id_1: keys[0],
                node_id_2: keys[1],
                bitcoin_key_1: keys[0],
                bitcoin_key_2: keys[1],
                excess: Vec::new(),
            };
            let announcement = Announcement::from_message(&Message::ChannelAnnouncement(announcement.into()));
            let verified = announcement.and_then(VerifiedChannel::assume_signed).expect("an announcement");
            let amount = Amount::from_sat(channel.capacity_sat);
            let output = FundingOutput { script: funding_script(keys), amount, confirmations: 100 };
            graph.apply_channel(&verified, &output, now).expect("a good channel");
            for (end, policy) in channel.policies.iter().enumerate() {
                let update = ChannelUpdate {
                    signature,
                    chain_hash: ChainHash::REGTEST,
                    short_channel_id: channel.short_channel_id,
                    timestamp: (now.seconds() - AGE_SECONDS) as u32,
                    message_flags: 1,
                    channel_flags: end as u8 | u8::from(policy.is_disabled) << 1,
                    cltv_expiry_delta: CltvDelta::new(policy.cltv_expiry_delta),
                    htlc_minimum_msat: Msat::new(policy.htlc_minimum_msat),
                    fee_base_msat: policy.fee_base_msat,
                    fee_proportional_millionths: policy.fee_proportional_millionths,
                    htlc_maximum_msat: Msat::new(policy.htlc_maximum_msat),
                    excess: Vec::new(),
                };
                let update = Announcement::from_message(&Message::ChannelUpdate(update.into()));
                let update = update.and_then(|it| VerifiedUpdate::assume_signed(it, &keys[end])).expect("an update");
                graph.apply_update(&update, now).expect("a good update");
            }
        }
        graph.snapshot()
    }

    /// As the crate `lightning` has it.
    pub fn ldk_graph<L: std::ops::Deref<Target = impl Logger>>(&self, now: UnixTime, logger: L) -> NetworkGraph<L> {
        use lightning::ln::msgs::UnsignedChannelUpdate;
        use lightning::routing::gossip::NodeId as LdkNodeId;
        let graph = NetworkGraph::new(bitcoin::Network::Regtest, logger);
        let timestamp = now.seconds() - AGE_SECONDS;
        for channel in &self.channels {
            let [one, two] = channel.ends.map(|end| LdkNodeId::from_pubkey(&self.nodes[end]));
            let id = channel.short_channel_id.to_u64();
            let features = lightning::types::features::ChannelFeatures::empty();
            let capacity = Some(channel.capacity_sat);
            graph
                .add_channel_from_partial_announcement(id, capacity, timestamp, features, one, two)
                .expect("a good channel");
            for (end, policy) in channel.policies.iter().enumerate() {
                let update = UnsignedChannelUpdate {
                    chain_hash: ChainHash::REGTEST,
                    short_channel_id: id,
                    timestamp: timestamp as u32,
                    message_flags: 1,
                    channel_flags: end as u8 | u8::from(policy.is_disabled) << 1,
                    cltv_expiry_delta: policy.cltv_expiry_delta,
                    htlc_minimum_msat: policy.htlc_minimum_msat,
                    htlc_maximum_msat: policy.htlc_maximum_msat,
                    fee_base_msat: policy.fee_base_msat,
                    fee_proportional_millionths: policy.fee_proportional_millionths,
                    excess_data: Vec::new(),
                };
                graph.update_channel_unsigned(&update).expect("a good update");
            }
        }
        graph
    }

    /// The channels that `node` may send over, as if it were ours. It is taken to know no more than anybody else: each can
    /// send what its policy allows.
    pub fn first_hops(&self, node: usize) -> Vec<FirstHop> {
        let own = self.channels_of[node].iter().map(|at| &self.channels[*at]);
        let usable = own.filter_map(|channel| {
            let end = usize::from(channel.ends[1] == node);
            let policy = channel.policies[end];
            (!policy.is_disabled).then(|| FirstHop {
                short_channel_id: channel.short_channel_id,
                channel: ChannelId([0; 32]),
                peer: NodeId(self.nodes[channel.ends[1 - end]]),
                spendable: Msat::new(policy.htlc_maximum_msat),
                htlc_minimum: Msat::new(policy.htlc_minimum_msat),
            })
        });
        usable.collect()
    }

    /// The channel with this id.
    pub fn channel(&self, short_channel_id: ShortChannelId) -> Option<&Channel> {
        let at = self.channels.binary_search_by_key(&short_channel_id, |channel| channel.short_channel_id).ok()?;
        Some(&self.channels[at])
    }
}

fn random_key(rng: &mut ChaCha8Rng) -> PublicKey {
    loop {
        if let Ok(key) = SecretKey::from_slice(&rng.random::<[u8; 32]>()) {
            return key.public_key(SECP256K1);
        }
    }
}

/// BOLT 3, "Funding Transaction Output".
fn funding_script(keys: [PublicKey; 2]) -> ScriptBuf {
    let mut keys = keys.map(|key| key.serialize());
    keys.sort_unstable();
    let script = Builder::new().push_int(2).push_slice(keys[0]).push_slice(keys[1]).push_int(2);
    script.push_opcode(OP_CHECKMULTISIG).into_script().to_p2wsh()
}
