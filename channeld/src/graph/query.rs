//! The messages that the graph was made of, byte for byte, for whoever asks for them (BOLT 7, "Query Messages").
//!
//! Of a usual announcement only signatures and funding keys are kept, of a usual update the signature: the rest is in the records
//! and is put together again.

use std::sync::Arc;

use super::apply::MOST_EXCESS;
use super::message::{ChannelView, NodeView, UpdateView};
use super::node::NodeDetails;
use super::route::Direction;
use super::snapshot::Snapshot;
use super::store::edge::{ChannelIndex, NodeIndex};
use super::store::record::{ChannelRecord, NodeRecord, Proof};
use crate::units::ShortChannelId;
use crate::wire::{ChannelAnnouncement, ChannelUpdate};

/// The parts of `Snapshot::extras`.
pub(super) const FEATURES: u8 = 0;
pub(super) const EXCESS: u8 = 1;
pub(super) const UPDATE_EXCESS: [u8; 2] = [2, 3];

impl Snapshot {
    /// The channels whose funding output is in the `count` blocks from `first` on, in rising order.
    pub fn channels_in_blocks(
        &self,
        first: u32,
        count: u32,
    ) -> impl Iterator<Item = (ShortChannelId, ChannelIndex)> + '_ {
        let last = u64::from(first) + u64::from(count);
        // Short channel ids have 24 bits for the height: beyond, there are none.
        let from = if first >> 24 == 0 { u64::from(first) << 40 } else { u64::MAX };
        let channels = self.by_scid.from(from).take_while(move |(scid, _)| scid >> 40 < last);
        channels.map(|(scid, index)| (ShortChannelId::from_u64(scid), ChannelIndex(index)))
    }

    /// The times of the latest updates of `node_id_1` and `node_id_2`, 0 where there is none (`channel_update_timestamps`).
    pub fn timestamps(&self, channel: ChannelIndex) -> [u32; 2] {
        self.record(channel).map_or([0; 2], |record| record.timestamps)
    }

    /// Their checksums, 0 where there is none (`channel_update_checksums`).
    pub fn checksums(&self, channel: ChannelIndex) -> [u32; 2] {
        self.record(channel).map_or([0; 2], |record| record.checksums)
    }

    /// The channels to be told to whoever has set that `gossip_timestamp_filter`: not closed, and with an update of that time.
    pub fn channels_updated(
        &self,
        first_timestamp: u32,
        timestamp_range: u32,
    ) -> impl Iterator<Item = ChannelIndex> + '_ {
        let times = times(first_timestamp, timestamp_range);
        self.channels().filter(move |channel| {
            self.record(*channel).is_some_and(|record| {
                record.spent_at == 0
                    && record.timestamps.iter().any(|time| *time != 0 && times.contains(&u64::from(*time)))
            })
        })
    }

    /// The nodes that announced themselves in that time.
    pub fn nodes_updated(&self, first_timestamp: u32, timestamp_range: u32) -> impl Iterator<Item = NodeIndex> + '_ {
        let times = times(first_timestamp, timestamp_range);
        self.nodes().filter(move |node| {
            let record = self.nodes.get(node.at());
            record.is_some_and(|record| record.announcement.is_some() && times.contains(&u64::from(record.timestamp)))
        })
    }

    /// The `channel_announcement` as it came, type first. `None` also where it was too long to be passed on.
    pub fn channel_announcement(&self, channel: ChannelIndex) -> Option<Vec<u8>> {
        let record = self.record(channel).filter(|record| record.keeps_announcement())?;
        let proof = self.proofs.get(channel.at())?;
        let [features, excess] = [FEATURES, EXCESS].map(|part| self.extra(channel, part));
        let mut bytes = Vec::with_capacity(432 + features.len() + excess.len());
        bytes.extend_from_slice(&ChannelAnnouncement::TYPE.to_be_bytes());
        proof.signatures.iter().for_each(|signature| bytes.extend_from_slice(signature));
        crate::wire::codec::write_bytes_u16(features, &mut bytes);
        bytes.extend_from_slice(&self.chain_hash);
        bytes.extend_from_slice(&record.short_channel_id.to_be_bytes());
        for node in record.nodes {
            bytes.extend_from_slice(&self.nodes.get(node as usize)?.id);
        }
        proof.bitcoin_keys.iter().for_each(|key| bytes.extend_from_slice(key));
        bytes.extend_from_slice(excess);
        Some(bytes)
    }

    /// The latest `channel_update` of that end as it came, type first. `None` also where it was too long to be passed on.
    pub fn channel_update(&self, channel: ChannelIndex, direction: Direction) -> Option<Vec<u8>> {
        let end = usize::from(direction.bit());
        let record = self.record(channel).filter(|record| record.keeps_update(end))?;
        let edge = self.edge(channel, direction)?;
        let excess = self.extra(channel, UPDATE_EXCESS[end]);
        let mut bytes = Vec::with_capacity(138 + excess.len());
        bytes.extend_from_slice(&ChannelUpdate::TYPE.to_be_bytes());
        bytes.extend_from_slice(&self.signatures.get(channel.at())?[end]);
        bytes.extend_from_slice(&self.chain_hash);
        bytes.extend_from_slice(&record.short_channel_id.to_be_bytes());
        bytes.extend_from_slice(&record.timestamps[end].to_be_bytes());
        bytes.extend_from_slice(&[edge.message_flags, edge.channel_flags]);
        bytes.extend_from_slice(&edge.cltv_expiry_delta.to_be_bytes());
        bytes.extend_from_slice(&edge.htlc_minimum.msat().to_be_bytes());
        bytes.extend_from_slice(&edge.fee_base_msat.to_be_bytes());
        bytes.extend_from_slice(&edge.fee_proportional_millionths.to_be_bytes());
        bytes.extend_from_slice(&edge.htlc_maximum.msat().to_be_bytes());
        bytes.extend_from_slice(excess);
        Some(bytes)
    }

    /// The latest `node_announcement` as it came, type first. `None` also where it must not be passed on.
    pub fn node_announcement(&self, node: NodeIndex) -> Option<Arc<[u8]>> {
        let record = self.nodes.get(node.at()).filter(|record| !record.not_for_others)?;
        record.announcement.clone()
    }

    /// What the node says about itself, if it does.
    pub fn node_details(&self, node: NodeIndex) -> Option<NodeDetails> {
        let announcement = self.nodes.get(node.at())?.announcement.as_ref()?;
        NodeView::read(announcement).ok().map(|view| view.details())
    }

    fn extra(&self, channel: ChannelIndex, part: u8) -> &[u8] {
        self.extras.get(&(channel.0, part)).map_or(&[], |bytes| bytes)
    }

    /// Keeps what is needed to make the announcement again; whether it is kept.
    pub(super) fn keep_announcement(&mut self, channel: ChannelIndex, view: &ChannelView<'_>) -> bool {
        if view.features.len() + view.excess.len() > MOST_EXCESS {
            return false;
        }
        let proof = self.proofs.get_mut(channel.at()).expect("there is one for each place of a channel");
        *proof = Proof { signatures: view.signatures.map(|it| *it), bitcoin_keys: view.bitcoin_keys.map(|it| *it) };
        self.keep_extra(channel, FEATURES, view.features);
        self.keep_extra(channel, EXCESS, view.excess);
        true
    }

    /// Keeps what is needed to make the update again; whether it is kept.
    pub(super) fn keep_update(&mut self, channel: ChannelIndex, end: usize, view: &UpdateView<'_>) -> bool {
        let short = view.excess.len() <= MOST_EXCESS;
        let signatures = self.signatures.get_mut(channel.at()).expect("there is one for each place of a channel");
        signatures[end] = *view.signature;
        self.keep_extra(channel, UPDATE_EXCESS[end], if short { view.excess } else { &[] });
        short
    }

    pub(super) fn keep_extra(&mut self, channel: ChannelIndex, part: u8, bytes: &[u8]) {
        let key = (channel.0, part);
        if !bytes.is_empty() {
            Arc::make_mut(&mut self.extras).insert(key, bytes.into());
        } else if self.extras.contains_key(&key) {
            Arc::make_mut(&mut self.extras).remove(&key);
        }
    }

    pub(super) fn drop_messages(&mut self, channel: ChannelIndex) {
        for part in [FEATURES, EXCESS, UPDATE_EXCESS[0], UPDATE_EXCESS[1]] {
            self.keep_extra(channel, part, &[]);
        }
    }

    pub(super) fn push_free_channel(&mut self) -> ChannelIndex {
        self.channels.push(ChannelRecord::FREE);
        self.proofs.push(Proof::EMPTY);
        self.signatures.push([[0; 64]; 2]);
        ChannelIndex(u32::try_from(self.channels.len() - 1).expect("the chain has no 2^32 outputs that are channels"))
    }

    pub(super) fn push_free_node(&mut self) -> u32 {
        self.nodes.push(NodeRecord::FREE);
        self.adjacency.push_node();
        u32::try_from(self.nodes.len() - 1).expect("there are fewer nodes than channels twice over")
    }
}

fn times(first_timestamp: u32, timestamp_range: u32) -> std::ops::Range<u64> {
    u64::from(first_timestamp)..u64::from(first_timestamp) + u64::from(timestamp_range)
}
