//! The graph: a small network that signs for itself, and what each file of tests shares.

mod model;
mod refusal;
mod store;

use std::sync::OnceLock;

use bitcoin::constants::ChainHash;
use bitcoin::{Amount, Network, ScriptBuf};
use secp256k1::{Message as Digest, PublicKey, SECP256K1, SecretKey};

use super::apply::funding_script;
use super::{Announcement, ChannelIndex, Direction, FundingOutput, Graph, Refusal, Verified};
use crate::units::{BlockHeight, CltvDelta, Msat, ShortChannelId, UnixTime};
use crate::wire::{ChannelAnnouncement, ChannelUpdate, Features, Message, NodeAnnouncement};

/// Seconds since 1970.
pub const NOW: u32 = 1_700_000_000;
pub const CAPACITY_SAT: u64 = 100_000;

pub fn now() -> UnixTime {
    UnixTime::from_seconds(u64::from(NOW))
}

pub fn chain() -> ChainHash {
    ChainHash::using_genesis_block(Network::Regtest)
}

pub fn height(height: u32) -> BlockHeight {
    BlockHeight::new(height)
}

/// The keys of twenty nodes, in the order of their ids.
fn nodes() -> &'static [(SecretKey, PublicKey)] {
    static NODES: OnceLock<Vec<(SecretKey, PublicKey)>> = OnceLock::new();
    NODES.get_or_init(|| {
        let keys = (1..=20).map(|byte| SecretKey::from_slice(&[byte; 32]).expect("a key"));
        let mut keys: Vec<_> = keys.map(|key| (key, key.public_key(SECP256K1))).collect();
        keys.sort_by_key(|(_, id)| id.serialize());
        keys
    })
}

pub fn node(number: u8) -> SecretKey {
    nodes()[usize::from(number)].0
}

pub fn id(number: u8) -> PublicKey {
    nodes()[usize::from(number)].1
}

pub fn funding_key(scid: u64, end: u8) -> SecretKey {
    let mut bytes = [100 + end; 32];
    bytes[8..16].copy_from_slice(&scid.to_be_bytes());
    SecretKey::from_slice(&bytes).expect("a key")
}

pub fn scid(block: u32, transaction: u32) -> ShortChannelId {
    ShortChannelId::new(block, transaction, 0).expect("in range")
}

/// A `channel_announcement`, unsigned.
pub fn channel(scid: ShortChannelId, nodes: [u8; 2]) -> ChannelAnnouncement {
    let dummy = SECP256K1.sign_ecdsa(&Digest::from_digest([1; 32]), &node(0));
    ChannelAnnouncement {
        node_signature_1: dummy,
        node_signature_2: dummy,
        bitcoin_signature_1: dummy,
        bitcoin_signature_2: dummy,
        features: Features::empty(),
        chain_hash: chain(),
        short_channel_id: scid,
        node_id_1: id(nodes[0]).into(),
        node_id_2: id(nodes[1]).into(),
        bitcoin_key_1: funding_key(scid.to_u64(), 0).public_key(SECP256K1).into(),
        bitcoin_key_2: funding_key(scid.to_u64(), 1).public_key(SECP256K1).into(),
        excess: Vec::new(),
    }
}

/// Signs it with the keys of these nodes and the channel's own funding keys.
pub fn sign_channel(mut announcement: ChannelAnnouncement, nodes: [u8; 2]) -> Announcement {
    let (digest, scid) = (announcement.signed_hash(), announcement.short_channel_id.to_u64());
    announcement.node_signature_1 = SECP256K1.sign_ecdsa(&digest, &node(nodes[0]));
    announcement.node_signature_2 = SECP256K1.sign_ecdsa(&digest, &node(nodes[1]));
    announcement.bitcoin_signature_1 = SECP256K1.sign_ecdsa(&digest, &funding_key(scid, 0));
    announcement.bitcoin_signature_2 = SECP256K1.sign_ecdsa(&digest, &funding_key(scid, 1));
    announcement_of(announcement.into())
}

pub fn signed_channel(scid: ShortChannelId, nodes: [u8; 2]) -> Announcement {
    sign_channel(channel(scid, nodes), nodes)
}

/// A `channel_update`, unsigned.
pub fn update(scid: ShortChannelId, end: u8, timestamp: u32) -> ChannelUpdate {
    ChannelUpdate {
        signature: SECP256K1.sign_ecdsa(&Digest::from_digest([1; 32]), &node(0)),
        chain_hash: chain(),
        short_channel_id: scid,
        timestamp,
        message_flags: ChannelUpdate::MUST_BE_ONE,
        channel_flags: end,
        cltv_expiry_delta: CltvDelta::new(40),
        htlc_minimum_msat: Msat::new(1),
        fee_base_msat: 1_000,
        fee_proportional_millionths: 100,
        htlc_maximum_msat: Msat::new(CAPACITY_SAT * 1_000),
        excess: Vec::new(),
    }
}

pub fn sign_update(mut update: ChannelUpdate, signer: u8) -> Announcement {
    update.signature = SECP256K1.sign_ecdsa(&update.signed_hash(), &node(signer));
    announcement_of(update.into())
}

/// A `node_announcement`, unsigned.
pub fn description(number: u8, timestamp: u32) -> NodeAnnouncement {
    NodeAnnouncement {
        signature: SECP256K1.sign_ecdsa(&Digest::from_digest([1; 32]), &node(0)),
        features: Features::node_announcement(),
        timestamp,
        node_id: id(number),
        rgb_color: [1, 2, 3],
        alias: *b"IRATEMONK\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        addresses: vec![1, 127, 0, 0, 1, 0x26, 0x07],
        excess: Vec::new(),
    }
}

pub fn sign_node(mut announcement: NodeAnnouncement, signer: u8) -> Announcement {
    announcement.signature = SECP256K1.sign_ecdsa(&announcement.signed_hash(), &node(signer));
    announcement_of(announcement.into())
}

pub fn announcement_of(message: Message) -> Announcement {
    let announcement = Announcement::from_message(&message).expect("it is gossip");
    assert_eq!(Announcement::from_bytes(announcement.as_bytes().to_vec()).as_ref(), Ok(&announcement));
    announcement
}

pub fn output(scid: ShortChannelId) -> FundingOutput {
    let keys = [0, 1].map(|end| funding_key(scid.to_u64(), end).public_key(SECP256K1).serialize());
    output_to(funding_script([&keys[0], &keys[1]]))
}

pub fn output_to(script: ScriptBuf) -> FundingOutput {
    FundingOutput { script, amount: Amount::from_sat(CAPACITY_SAT), confirmations: 6 }
}

pub fn verify(graph: &Graph, announcement: Announcement) -> Result<Verified, Refusal> {
    graph.verify_batch(vec![announcement], now()).remove(0)
}

/// Verifies and applies; the funding output of a channel is as announced.
pub fn take(graph: &mut Graph, announcement: Announcement) -> Result<(), Refusal> {
    match verify(graph, announcement)? {
        Verified::Channel(channel) => {
            let output = output(channel.short_channel_id());
            graph.apply_channel(&channel, &output, now()).map(|_| ())
        }
        Verified::Update(update) => graph.apply_update(&update, now()).map(|_| ()),
        Verified::Node(node) => graph.apply_node(&node).map(|_| ()),
    }
}

/// Nodes 0 and 1 with the channel 100x1x0.
pub fn two_nodes() -> (Graph, ShortChannelId) {
    let mut graph = Graph::new(chain());
    take(&mut graph, signed_channel(scid(100, 1), [0, 1])).expect("nothing is wrong with it");
    (graph, scid(100, 1))
}

pub fn index(graph: &Graph, scid: ShortChannelId) -> ChannelIndex {
    graph.view().channel_index(scid).expect("the channel is there")
}

pub const ENDS: [Direction; 2] = [Direction::FromNode1, Direction::FromNode2];
