//! What is kept of a node and of a channel beside the edges.

use std::sync::Arc;

/// A compressed public key, as it stands in messages.
pub type KeyBytes = [u8; 33];

/// A node that has a channel, or a place that is free for the next one.
#[derive(Clone, Debug)]
pub struct NodeRecord {
    /// Its id; zeros on a free place.
    pub id: KeyBytes,
    /// Its `node_announcement` as it came, type first.
    pub announcement: Option<Arc<[u8]>>,
    /// When it announced itself, 0 where it did not.
    pub timestamp: u32,
    /// How many channels it has; 0 on a free place.
    pub channels: u32,
    /// Whether it has an even feature bit that this node does not know.
    pub unknown_feature: bool,
}

/// A channel, or a place that is free for the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelRecord {
    /// Its short channel id; 0 on a free place.
    pub short_channel_id: u64,
    /// What its funding output holds.
    pub capacity_sat: u64,
    /// The places of `node_id_1` and `node_id_2`.
    pub nodes: [u32; 2],
    /// The times of the latest updates from either, 0 where there is none.
    pub timestamps: [u32; 2],
    /// Their checksums (BOLT 7, `channel_update_checksums`), 0 where there is none.
    pub checksums: [u32; 2],
    /// When it was announced to us, in seconds since 1970.
    pub received: u32,
    /// The block that spent its funding output, 0 while it stands.
    pub spent_at: u32,
    /// The marks of its edges.
    pub marks: u32,
}
