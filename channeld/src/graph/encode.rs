//! The whole graph as the bytes of one file and back: a cache, so that a start needs no gossip. What is in it was verified once
//! and is not verified again; a checksum tells whether it is as it was written, and everything in it is held against the rest.
//!
//! ```text
//! "chgraph" version | chain_hash | counts of nodes, channels, removed channels, blacklisted nodes
//! node:    id  length announcement                                                    in rising order
//! channel: scid capacity nodes received spent_at flags signatures keys [features] [excess] updates   in rising order
//! update:  timestamp checksum message_flags channel_flags cltv minimum maximum base proportional signature [excess]
//! removed: scid time closed      blacklisted: id      CRC32C of all before
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use bitcoin::constants::ChainHash;

use super::apply::{Extras, Graph, has_unknown_feature};
use super::message::NodeView;
use super::node::read_addresses;
use super::prune::{Zombie, Zombies};
use super::query::{EXCESS, FEATURES, UPDATE_EXCESS};
use super::snapshot::Snapshot;
use super::store::adjacency::Adjacency;
use super::store::edge::{ChannelIndex, Edge, NodeIndex};
use super::store::paged::Builder;
use super::store::record::{ChannelRecord, KeyBytes, NodeRecord, Proof};
use crate::units::Msat;
use crate::wire::DecodeError;
use crate::wire::codec::{Reader, write_bytes_u16};

/// The last byte is the version of the format.
const MAGIC: [u8; 8] = *b"chgraph\x01";

/// Which parts a channel has.
const HAS_UPDATE: [u16; 2] = [1, 2];
const HAS_FEATURES: u16 = 4;
const HAS_EXCESS: u16 = 8;
const HAS_UPDATE_EXCESS: [u16; 2] = [16, 32];
const ANNOUNCEMENT_DROPPED: u16 = 64;
const UPDATE_DROPPED: [u16; 2] = [128, 256];

/// Why the bytes are no graph; whoever reads them starts with an empty one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CacheError {
    /// They begin with something else, or were written by another version.
    #[error("not a graph of this version")]
    UnknownFormat,
    /// It is of another chain.
    #[error("the graph of another chain")]
    OtherChain,
    /// They are not as they were written.
    #[error("the checksum does not match")]
    Checksum,
    /// They end too early.
    #[error("they end too early: {0}")]
    TooShort(DecodeError),
    /// They go on after the end.
    #[error("they go on after the end")]
    TrailingBytes,
    /// The ids do not rise.
    #[error("nodes or channels are out of order")]
    OutOfOrder,
    /// A channel names a node that is not there, or one twice.
    #[error("a channel has no two nodes")]
    NodeMissing,
    /// A node has no channel.
    #[error("a node has no channel")]
    NodeUnused,
    /// The announcement of a node is not one, or another node's.
    #[error("a node's announcement is not its own")]
    WrongAnnouncement,
    /// An update is not of the end it stands at, or holds what no update can.
    #[error("an update is impossible")]
    ImpossibleUpdate,
}

impl From<DecodeError> for CacheError {
    fn from(error: DecodeError) -> CacheError {
        CacheError::TooShort(error)
    }
}

impl Graph {
    /// The graph as bytes, some 550 a channel.
    pub fn encode(&self) -> Vec<u8> {
        let now = &self.now;
        let mut out = Vec::with_capacity(64 + now.channel_count() * 600 + now.node_count() * 300);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&now.chain_hash);
        let counts = [now.by_id.len(), now.by_scid.len(), self.zombies.removed.len(), self.blacklist.len()];
        counts.iter().for_each(|count| out.extend_from_slice(&(*count as u32).to_be_bytes()));
        // Places are renumbered, so that those in the file have no holes.
        let mut places = vec![0_u32; now.node_bound()];
        for (place, (id, index)) in now.by_id.iter().enumerate() {
            places[index as usize] = place as u32;
            let announcement = now.nodes.get(index as usize).and_then(|record| record.announcement.as_deref());
            out.extend_from_slice(&id);
            write_bytes_u16(announcement.unwrap_or_default(), &mut out);
        }
        for channel in now.channels() {
            write_channel(now, channel, &places, &mut out);
        }
        for (scid, zombie) in &self.zombies.removed {
            out.extend_from_slice(&scid.to_be_bytes());
            out.extend_from_slice(&zombie.removed_at.to_be_bytes());
            out.push(u8::from(zombie.closed));
        }
        self.blacklist.iter().for_each(|id| out.extend_from_slice(id));
        out.extend_from_slice(&crc32c::crc32c(&out).to_be_bytes());
        out
    }

    /// The graph that was encoded. Reads the bytes once and allocates no more than a few times their number.
    ///
    /// # Errors
    /// [`CacheError`]
    pub fn decode(bytes: &[u8], chain_hash: ChainHash) -> Result<Graph, CacheError> {
        let (rest, checksum) = bytes.split_last_chunk::<4>().ok_or(DecodeError::TooShort)?;
        let mut reader = Reader::new(rest);
        if reader.array::<8>()? != MAGIC {
            return Err(CacheError::UnknownFormat);
        }
        if reader.array::<32>()? != chain_hash.to_bytes() {
            return Err(CacheError::OtherChain);
        }
        if crc32c::crc32c(rest) != u32::from_be_bytes(*checksum) {
            return Err(CacheError::Checksum);
        }
        let mut counts = [0_u32; 4];
        for count in &mut counts {
            *count = u32::from_be_bytes(reader.array()?);
        }
        let mut graph = Graph::new(chain_hash);
        let mut nodes = read_nodes(&mut reader, counts[0])?;
        let channels = read_channels(&mut reader, counts[1], &mut nodes)?;
        graph.zombies = read_zombies(&mut reader, counts[2])?;
        graph.blacklist = (0..counts[3]).map(|_| reader.array()).collect::<Result<BTreeSet<KeyBytes>, _>>()?;
        if !reader.is_empty() {
            return Err(CacheError::TrailingBytes);
        }
        if nodes.iter().any(|node| node.channels == 0) {
            return Err(CacheError::NodeUnused);
        }
        graph.keys = vec![None; nodes.len()];
        graph.spent = channels.spent;
        graph.now = Snapshot {
            by_id: nodes.iter().zip(0..).map(|(node, place)| (node.id, place)).collect::<Vec<_>>().into(),
            adjacency: Adjacency::build(nodes.len(), &channels.edges),
            nodes: nodes.into_iter().collect(),
            channels: channels.records.finish(),
            by_scid: channels.places.into(),
            proofs: channels.proofs.finish(),
            signatures: channels.signatures.finish(),
            extras: Arc::new(channels.extras),
            chain_hash: chain_hash.to_bytes(),
        };
        Ok(graph)
    }
}

fn write_channel(now: &Snapshot, channel: ChannelIndex, places: &[u32], out: &mut Vec<u8>) {
    let record = now.record(channel).expect("it is one of the channels");
    let proof = now.proofs.get(channel.at()).expect("there is one for each place of a channel");
    let extra = |part: u8| now.extras.get(&(channel.0, part));
    let edges = [0, 1].map(|end| now.adjacency.edge(record.nodes[1 - end] as usize, channel));
    let mut flags = 0;
    let mut set = |flag: u16, whether: bool| flags |= if whether { flag } else { 0 };
    set(HAS_FEATURES, extra(FEATURES).is_some());
    set(HAS_EXCESS, extra(EXCESS).is_some());
    set(ANNOUNCEMENT_DROPPED, !record.keeps_announcement());
    for end in 0..2 {
        set(HAS_UPDATE[end], edges[end].is_some());
        set(HAS_UPDATE_EXCESS[end], extra(UPDATE_EXCESS[end]).is_some());
        set(UPDATE_DROPPED[end], !record.keeps_update(end));
    }
    out.extend_from_slice(&record.short_channel_id.to_be_bytes());
    out.extend_from_slice(&record.capacity_sat.to_be_bytes());
    record.nodes.iter().for_each(|node| out.extend_from_slice(&places[*node as usize].to_be_bytes()));
    out.extend_from_slice(&record.received.to_be_bytes());
    out.extend_from_slice(&record.spent_at.to_be_bytes());
    out.extend_from_slice(&flags.to_be_bytes());
    proof.signatures.iter().for_each(|signature| out.extend_from_slice(signature));
    proof.bitcoin_keys.iter().for_each(|key| out.extend_from_slice(key));
    [FEATURES, EXCESS].into_iter().filter_map(extra).for_each(|bytes| write_bytes_u16(bytes, out));
    for end in 0..2 {
        let Some(edge) = edges[end] else { continue };
        out.extend_from_slice(&record.timestamps[end].to_be_bytes());
        out.extend_from_slice(&record.checksums[end].to_be_bytes());
        out.extend_from_slice(&[edge.message_flags, edge.channel_flags]);
        out.extend_from_slice(&edge.cltv_expiry_delta.to_be_bytes());
        out.extend_from_slice(&edge.htlc_minimum.msat().to_be_bytes());
        out.extend_from_slice(&edge.htlc_maximum.msat().to_be_bytes());
        out.extend_from_slice(&edge.fee_base_msat.to_be_bytes());
        out.extend_from_slice(&edge.fee_proportional_millionths.to_be_bytes());
        out.extend_from_slice(&now.signatures.get(channel.at()).expect("there is one for each place")[end]);
        extra(UPDATE_EXCESS[end]).into_iter().for_each(|bytes| write_bytes_u16(bytes, out));
    }
}

fn read_nodes(reader: &mut Reader<'_>, count: u32) -> Result<Vec<NodeRecord>, CacheError> {
    // A node takes 35 bytes at least: what is allocated is bounded by what is there.
    let mut nodes = Vec::with_capacity((count as usize).min(reader.remaining() / 35));
    let mut last = [0; 33];
    for _ in 0..count {
        let id: KeyBytes = reader.array()?;
        if id <= last {
            return Err(CacheError::OutOfOrder);
        }
        last = id;
        let announcement = reader.bytes_u16()?;
        let mut node = NodeRecord::new(id);
        if !announcement.is_empty() {
            let view = NodeView::read(announcement).map_err(|_| CacheError::WrongAnnouncement)?;
            if *view.node_id != id {
                return Err(CacheError::WrongAnnouncement);
            }
            node.timestamp = view.timestamp;
            node.unknown_feature = has_unknown_feature(view.features);
            node.not_for_others = read_addresses(view.addresses).is_ok_and(|(_, several)| several);
            node.announcement = Some(announcement.into());
        }
        nodes.push(node);
    }
    Ok(nodes)
}

/// The channels while they are read.
struct Channels {
    records: Builder<ChannelRecord, 128>,
    proofs: Builder<Proof, 16>,
    signatures: Builder<[[u8; 64]; 2], 64>,
    places: Vec<(u64, u32)>,
    /// With the node that they lead to.
    edges: Vec<(u32, Edge)>,
    extras: Extras,
    spent: BTreeSet<(u32, u32)>,
}

fn read_channels(reader: &mut Reader<'_>, count: u32, nodes: &mut [NodeRecord]) -> Result<Channels, CacheError> {
    // A channel takes 356 bytes at least.
    let most = (count as usize).min(reader.remaining() / 356);
    let mut channels = Channels {
        records: Builder::default(),
        proofs: Builder::default(),
        signatures: Builder::default(),
        places: Vec::with_capacity(most),
        edges: Vec::with_capacity(most * 2),
        extras: Extras::new(),
        spent: BTreeSet::new(),
    };
    let mut last = 0;
    for place in 0..count {
        let record = read_channel(reader, ChannelIndex(place), &mut channels)?;
        if record.short_channel_id <= last {
            return Err(CacheError::OutOfOrder);
        }
        last = record.short_channel_id;
        let [one, other] = record.nodes;
        if one >= other || other as usize >= nodes.len() {
            return Err(CacheError::NodeMissing);
        }
        nodes[one as usize].channels += 1;
        nodes[other as usize].channels += 1;
        channels.places.push((last, place));
        if record.spent_at != 0 {
            channels.spent.insert((record.spent_at, place));
        }
        channels.records.push(record);
    }
    Ok(channels)
}

fn read_channel(
    reader: &mut Reader<'_>,
    channel: ChannelIndex,
    channels: &mut Channels,
) -> Result<ChannelRecord, CacheError> {
    let mut record = ChannelRecord {
        short_channel_id: u64::from_be_bytes(reader.array()?),
        capacity_sat: u64::from_be_bytes(reader.array()?),
        nodes: [u32::from_be_bytes(reader.array()?), u32::from_be_bytes(reader.array()?)],
        received: u32::from_be_bytes(reader.array()?),
        spent_at: u32::from_be_bytes(reader.array()?),
        ..ChannelRecord::FREE
    };
    let flags = u16::from_be_bytes(reader.array()?);
    let mut proof = Proof::EMPTY;
    for signature in &mut proof.signatures {
        *signature = reader.array()?;
    }
    proof.bitcoin_keys = [reader.array()?, reader.array()?];
    channels.proofs.push(proof);
    if flags & HAS_FEATURES != 0 {
        let features = reader.bytes_u16()?;
        record.marks |= if has_unknown_feature(features) { Edge::UNKNOWN_FEATURE } else { 0 };
        channels.extras.insert((channel.0, FEATURES), features.into());
    }
    if flags & HAS_EXCESS != 0 {
        channels.extras.insert((channel.0, EXCESS), reader.bytes_u16()?.into());
    }
    record.marks |= if record.spent_at != 0 { Edge::SPENT } else { 0 };
    record = record.with_kept_announcement(flags & ANNOUNCEMENT_DROPPED == 0);
    let mut signatures = [[0; 64]; 2];
    for end in 0..2 {
        record.set_kept_update(end, flags & UPDATE_DROPPED[end] == 0);
        if flags & HAS_UPDATE[end] != 0 {
            let edge = read_update(reader, channel, end, &mut record)?;
            channels.edges.push((record.nodes[1 - end], edge));
            signatures[end] = reader.array()?;
        }
        if flags & HAS_UPDATE_EXCESS[end] != 0 {
            channels.extras.insert((channel.0, UPDATE_EXCESS[end]), reader.bytes_u16()?.into());
        }
    }
    channels.signatures.push(signatures);
    Ok(record)
}

fn read_update(
    reader: &mut Reader<'_>,
    channel: ChannelIndex,
    end: usize,
    record: &mut ChannelRecord,
) -> Result<Edge, CacheError> {
    record.timestamps[end] = u32::from_be_bytes(reader.array()?);
    record.checksums[end] = u32::from_be_bytes(reader.array()?);
    let [message_flags, channel_flags] = reader.array()?;
    if usize::from(channel_flags & 1) != end || record.timestamps[end] == 0 {
        return Err(CacheError::ImpossibleUpdate);
    }
    Ok(Edge {
        cltv_expiry_delta: u16::from_be_bytes(reader.array()?),
        htlc_minimum: Msat::new(u64::from_be_bytes(reader.array()?)),
        htlc_maximum: Msat::new(u64::from_be_bytes(reader.array()?)),
        fee_base_msat: u32::from_be_bytes(reader.array()?),
        fee_proportional_millionths: u32::from_be_bytes(reader.array()?),
        capacity: Msat::new(record.capacity_sat.saturating_mul(1_000)),
        source: NodeIndex(record.nodes[end]),
        channel,
        message_flags,
        channel_flags,
        marks: record.marks & Edge::ALL_MARKS,
    })
}

fn read_zombies(reader: &mut Reader<'_>, count: u32) -> Result<Zombies, CacheError> {
    let mut zombies = Zombies::default();
    for _ in 0..count {
        let scid = u64::from_be_bytes(reader.array()?);
        let removed_at = u32::from_be_bytes(reader.array()?);
        let [closed] = reader.array()?;
        zombies.insert(scid, Zombie { removed_at, closed: closed != 0 });
    }
    Ok(zombies)
}
