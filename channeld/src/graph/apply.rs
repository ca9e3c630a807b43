//! The graph of its one owner: what was verified comes in here, and whatever a rule holds against it is said.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::constants::ChainHash;
use bitcoin::hashes::{Hash, sha256};
use bitcoin::{Amount, ScriptBuf, WScriptHash};
use secp256k1::PublicKey;

use super::error::Refusal;
use super::message::{ChannelView, NodeView, UpdateView};
use super::node::read_addresses;
use super::prune::Zombies;
use super::route::Direction;
use super::snapshot::Snapshot;
use super::store::edge::{ChannelIndex, Edge, NodeIndex};
use super::store::record::{ChannelRecord, KeyBytes, NodeRecord};
use super::verify::{VerifiedChannel, VerifiedNode, VerifiedUpdate, check_update_alone, seconds};
use crate::units::{Msat, ShortChannelId, UnixTime};
use crate::wire::Features;

/// A channel is announced from this depth on (BOLT 7).
pub const LEAST_CONFIRMATIONS: u32 = 6;
/// What an announcement may hold beyond the known fields and be passed on.
pub(super) const MOST_EXCESS: usize = 1_024;
/// Nodes on the blacklist; each entry costs somebody a channel on the chain.
const MOST_BLACKLISTED: usize = 10_000;

/// The output that stands at a short channel id, unspent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FundingOutput {
    /// Its script.
    pub script: ScriptBuf,
    /// What it holds.
    pub amount: Amount,
    /// How deep it is; the block it is in counts as one.
    pub confirmations: u32,
}

/// The graph as one owner keeps it. Reading goes through [`Graph::view`].
#[derive(Clone, Debug)]
pub struct Graph {
    pub(super) now: Snapshot,
    pub(super) chain_hash: ChainHash,
    /// The keys of the nodes that were needed once, by index.
    pub(super) keys: Vec<Option<PublicKey>>,
    pub(super) free_nodes: Vec<u32>,
    pub(super) free_channels: Vec<u32>,
    pub(super) zombies: Zombies,
    pub(super) blacklist: BTreeSet<KeyBytes>,
    /// The channels whose funding output is spent, by the height that spent it.
    pub(super) spent: BTreeSet<(u32, u32)>,
}

impl Graph {
    /// An empty graph of that chain.
    pub fn new(chain_hash: ChainHash) -> Graph {
        Graph {
            now: Snapshot { chain_hash: chain_hash.to_bytes(), ..Snapshot::default() },
            chain_hash,
            keys: Vec::new(),
            free_nodes: Vec::new(),
            free_channels: Vec::new(),
            zombies: Zombies::default(),
            blacklist: BTreeSet::new(),
            spent: BTreeSet::new(),
        }
    }

    /// The graph as it is now, for its owner to read.
    pub const fn view(&self) -> &Snapshot {
        &self.now
    }

    /// The graph as it is now, for anybody to read: costs a few thousand pointers, whatever has changed.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::new(self.now.clone())
    }

    /// The chain that all its channels are on.
    pub const fn chain_hash(&self) -> ChainHash {
        self.chain_hash
    }

    /// Adds a channel whose `output` was found at its short channel id.
    ///
    /// # Errors
    /// [`Refusal`]; after [`Refusal::ConflictingNodes`] the channels of the nodes that contradict themselves are gone.
    pub fn apply_channel(
        &mut self,
        verified: &VerifiedChannel,
        output: &FundingOutput,
        now: UnixTime,
    ) -> Result<ChannelIndex, Refusal> {
        let view = verified.view();
        self.check_channel(&view)?;
        if output.script != funding_script(view.bitcoin_keys) {
            return Err(Refusal::FundingScriptMismatch);
        }
        if output.confirmations < LEAST_CONFIRMATIONS {
            return Err(Refusal::FundingNotDeep { confirmations: output.confirmations });
        }
        if let Some(known) = self.now.by_scid.get(&view.short_channel_id).map(ChannelIndex) {
            self.check_conflict(known, &view)?;
            // Another funding output at the same place: a reorganization has put it there.
            self.remove_channel(known);
        }
        self.zombies.remove(view.short_channel_id);
        Ok(self.insert_channel(&view, verified.keys, output.amount, seconds(now)))
    }

    /// Sets the policy of one end of a channel, and says which end it was.
    ///
    /// # Errors
    /// [`Refusal`]
    pub fn apply_update(
        &mut self,
        verified: &VerifiedUpdate,
        now: UnixTime,
    ) -> Result<(ChannelIndex, Direction), Refusal> {
        let view = verified.view();
        check_update_alone(self, &view, seconds(now))?;
        let (index, mut record) = self.known_channel(view.short_channel_id).ok_or(Refusal::UnknownChannel)?;
        self.check_update(&record, &view)?;
        let end = view.end();
        let [source, target] = [record.nodes[end], record.nodes[1 - end]];
        // The channel may be another one than when the signature was checked.
        if self.now.nodes.get(source as usize).is_none_or(|node| node.id != verified.signer) {
            return Err(Refusal::InvalidUpdateSignature);
        }
        self.now.adjacency.set(target as usize, edge(&view, index, source, &record));
        let kept = self.now.keep_update(index, end, &view);
        record.timestamps[end] = view.timestamp;
        record.checksums[end] = view.checksum();
        record.set_kept_update(end, kept);
        self.set_record(index, record);
        Ok((index, Direction::from_bit(view.channel_flags)))
    }

    /// Sets what a node says about itself.
    ///
    /// # Errors
    /// [`Refusal`]
    pub fn apply_node(&mut self, verified: &VerifiedNode) -> Result<NodeIndex, Refusal> {
        let view = verified.view();
        let index = self.check_node(&view)?;
        let (_, several_hostnames) = read_addresses(view.addresses)?;
        let record = self.now.nodes.get_mut(index.at()).expect("the index was found a moment ago");
        record.timestamp = view.timestamp;
        record.unknown_feature = has_unknown_feature(view.features);
        record.not_for_others = several_hostnames;
        record.announcement = Some(verified.announcement.as_bytes().into());
        Ok(index)
    }

    /// What can be said against a `channel_announcement` without curve work and without chain.
    pub(super) fn check_channel(&self, view: &ChannelView<'_>) -> Result<(), Refusal> {
        if *view.chain_hash != self.chain_hash.to_bytes() {
            return Err(Refusal::UnknownChain);
        }
        if ShortChannelId::from_u64(view.short_channel_id).block() == 0 {
            return Err(Refusal::ImpossibleShortChannelId);
        }
        if view.node_ids[0] >= view.node_ids[1] {
            return Err(Refusal::NodeIdsOutOfOrder);
        }
        if view.bitcoin_keys[0] == view.bitcoin_keys[1] {
            return Err(Refusal::SameFundingKeys);
        }
        if view.node_ids.iter().any(|id| self.blacklist.contains(*id)) {
            return Err(Refusal::BlacklistedNode);
        }
        if let Some((_, record)) = self.known_channel(view.short_channel_id)
            && record.nodes.iter().zip(view.node_ids).all(|(node, id)| self.now.has_id(*node, id))
        {
            return Err(Refusal::Duplicate);
        }
        if self.zombies.contains(view.short_channel_id) {
            return Err(Refusal::RecentlyRemoved);
        }
        Ok(())
    }

    /// What can be said against an update of a known channel without curve work.
    pub(super) fn check_update(&self, record: &ChannelRecord, view: &UpdateView<'_>) -> Result<(), Refusal> {
        let last = record.timestamps[view.end()];
        if view.timestamp == last && view.checksum() == record.checksums[view.end()] {
            return Err(Refusal::Duplicate);
        }
        if view.timestamp <= last {
            return Err(Refusal::NotNewer);
        }
        if record.spent_at != 0 && !view.is_disabled() {
            return Err(Refusal::ChannelClosed);
        }
        if view.htlc_maximum_msat > record.capacity_sat.saturating_mul(1_000) {
            return Err(Refusal::MaximumAboveCapacity);
        }
        Ok(())
    }

    /// What can be said against a `node_announcement` without curve work.
    pub(super) fn check_node(&self, view: &NodeView<'_>) -> Result<NodeIndex, Refusal> {
        let index = self.now.by_id.get(view.node_id).map(NodeIndex).ok_or(Refusal::UnknownNode)?;
        let record = self.now.nodes.get(index.at()).ok_or(Refusal::UnknownNode)?;
        if record.announcement.is_some() && view.timestamp <= record.timestamp {
            return Err(if view.timestamp == record.timestamp { Refusal::Duplicate } else { Refusal::NotNewer });
        }
        Ok(index)
    }

    pub(super) fn known_channel(&self, short_channel_id: u64) -> Option<(ChannelIndex, ChannelRecord)> {
        let index = self.now.by_scid.get(&short_channel_id).map(ChannelIndex)?;
        self.now.record(index).map(|record| (index, *record))
    }

    /// The node's key, if it was needed before.
    pub(super) fn key(&self, id: &KeyBytes) -> Option<PublicKey> {
        *self.keys.get(self.now.by_id.get(id)? as usize)?
    }

    pub(super) fn set_record(&mut self, index: ChannelIndex, record: ChannelRecord) {
        *self.now.channels.get_mut(index.at()).expect("the index was found a moment ago") = record;
    }

    /// BOLT 7: announcements of one output by the same funding keys for different nodes show that keys have leaked.
    fn check_conflict(&mut self, known: ChannelIndex, view: &ChannelView<'_>) -> Result<(), Refusal> {
        let same_output = self
            .now
            .proofs
            .get(known.at())
            .is_some_and(|proof| proof.bitcoin_keys.iter().all(|key| view.bitcoin_keys.contains(&key)));
        if !same_output {
            return Ok(());
        }
        let mut nodes: Vec<KeyBytes> = view.node_ids.iter().map(|id| **id).collect();
        if let Some(record) = self.now.record(known) {
            nodes.extend(record.nodes.iter().filter_map(|node| self.now.nodes.get(*node as usize)).map(|node| node.id));
        }
        for node in nodes {
            self.blacklist(node);
        }
        Err(Refusal::ConflictingNodes)
    }

    fn blacklist(&mut self, id: KeyBytes) {
        if let Some(node) = self.now.by_id.get(&id) {
            let channels: Vec<ChannelIndex> = self.now.channels().collect();
            for channel in channels {
                if self.now.record(channel).is_some_and(|record| record.nodes.contains(&node)) {
                    self.remove_channel(channel);
                }
            }
        }
        if self.blacklist.len() < MOST_BLACKLISTED {
            self.blacklist.insert(id);
        }
    }

    fn insert_channel(
        &mut self,
        view: &ChannelView<'_>,
        keys: [PublicKey; 2],
        amount: Amount,
        received: u32,
    ) -> ChannelIndex {
        let nodes = [0, 1].map(|end| self.node_of(view.node_ids[end], keys[end]));
        let record = ChannelRecord {
            short_channel_id: view.short_channel_id,
            capacity_sat: amount.to_sat(),
            nodes,
            timestamps: [0; 2],
            checksums: [0; 2],
            received,
            spent_at: 0,
            marks: if has_unknown_feature(view.features) { Edge::UNKNOWN_FEATURE } else { 0 },
        };
        let index = match self.free_channels.pop() {
            Some(free) => ChannelIndex(free),
            None => self.now.push_free_channel(),
        };
        let kept = self.now.keep_announcement(index, view);
        self.set_record(index, record.with_kept_announcement(kept));
        self.now.by_scid.insert(view.short_channel_id, index.0);
        for node in nodes {
            self.now.nodes.get_mut(node as usize).expect("it was made a moment ago").channels += 1;
        }
        index
    }

    fn node_of(&mut self, id: &KeyBytes, key: PublicKey) -> u32 {
        let index = match self.now.by_id.get(id) {
            Some(index) => index,
            None => {
                let index = self.free_nodes.pop().unwrap_or_else(|| self.now.push_free_node());
                let record = self.now.nodes.get_mut(index as usize).expect("it is free or was made a moment ago");
                *record = NodeRecord::new(*id);
                self.now.by_id.insert(*id, index);
                index
            }
        };
        if self.keys.len() <= index as usize {
            self.keys.resize(self.now.nodes.len(), None);
        }
        self.keys[index as usize] = Some(key);
        index
    }

    /// Takes a channel out, and its nodes if it was their last one.
    pub(super) fn remove_channel(&mut self, index: ChannelIndex) {
        let Some(record) = self.now.record(index).copied() else { return };
        self.now.by_scid.remove(&record.short_channel_id);
        self.now.adjacency.remove(record.nodes[0] as usize, index);
        self.now.adjacency.remove(record.nodes[1] as usize, index);
        self.now.drop_messages(index);
        self.spent.remove(&(record.spent_at, index.0));
        self.set_record(index, ChannelRecord::FREE);
        self.free_channels.push(index.0);
        for node in record.nodes {
            let place = self.now.nodes.get_mut(node as usize).expect("a channel's nodes are there");
            place.channels -= 1;
            if place.channels == 0 {
                let id = std::mem::replace(place, NodeRecord::FREE).id;
                self.now.by_id.remove(&id);
                self.keys[node as usize] = None;
                self.free_nodes.push(node);
            }
        }
    }

    /// Sets or takes a mark of a channel, in its record and its edges.
    pub(super) fn mark(&mut self, index: ChannelIndex, mark: u32, set: bool) {
        let Some(mut record) = self.now.record(index).copied() else { return };
        record.marks = if set { record.marks | mark } else { record.marks & !mark };
        self.set_record(index, record);
        for target in record.nodes {
            if let Some(edge) = self.now.adjacency.edge(target as usize, index).copied() {
                let marks = record.marks & Edge::ALL_MARKS;
                self.now.adjacency.set(target as usize, Edge { marks, ..edge });
            }
        }
    }
}

fn edge(view: &UpdateView<'_>, channel: ChannelIndex, source: u32, record: &ChannelRecord) -> Edge {
    Edge {
        htlc_minimum: Msat::new(view.htlc_minimum_msat),
        htlc_maximum: Msat::new(view.htlc_maximum_msat),
        capacity: Msat::new(record.capacity_sat.saturating_mul(1_000)),
        source: NodeIndex(source),
        channel,
        fee_base_msat: view.fee_base_msat,
        fee_proportional_millionths: view.fee_proportional_millionths,
        cltv_expiry_delta: view.cltv_expiry_delta,
        channel_flags: view.channel_flags,
        message_flags: view.message_flags,
        marks: record.marks & Edge::ALL_MARKS,
    }
}

/// The P2WSH of BOLT 3's funding output, from keys that need be no points.
pub(super) fn funding_script(keys: [&KeyBytes; 2]) -> ScriptBuf {
    let (lesser, greater) = if keys[0] < keys[1] { (keys[0], keys[1]) } else { (keys[1], keys[0]) };
    let mut script = [0_u8; 71];
    // OP_2, two pushes of 33 bytes, OP_2, OP_CHECKMULTISIG.
    script[0] = 0x52;
    script[1] = 33;
    script[2..35].copy_from_slice(lesser);
    script[35] = 33;
    script[36..69].copy_from_slice(greater);
    script[69..].copy_from_slice(&[0x52, 0xae]);
    ScriptBuf::new_p2wsh(&WScriptHash::from_raw_hash(sha256::Hash::hash(&script)))
}

pub(super) fn has_unknown_feature(features: &[u8]) -> bool {
    features.iter().any(|byte| *byte != 0) && Features::from_bytes(features.to_vec()).unknown_even_bit().is_some()
}

/// The bytes of messages that are not of the usual form, by channel and part.
pub(super) type Extras = BTreeMap<(u32, u8), Arc<[u8]>>;
