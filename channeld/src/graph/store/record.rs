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
    /// Whether its announcement must not be passed on.
    pub not_for_others: bool,
}

impl NodeRecord {
    /// A place without node.
    pub const FREE: NodeRecord = NodeRecord::new([0; 33]);

    /// A node that has not announced itself.
    pub const fn new(id: KeyBytes) -> NodeRecord {
        NodeRecord { id, announcement: None, timestamp: 0, channels: 0, unknown_feature: false, not_for_others: false }
    }
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
    /// The marks of its edges, and above them which messages were too long to be kept.
    pub marks: u32,
}

/// Marks above those of the edges.
const ANNOUNCEMENT_DROPPED: u32 = 1 << 8;
const UPDATE_DROPPED: [u32; 2] = [1 << 9, 1 << 10];

impl ChannelRecord {
    /// A place without channel.
    pub const FREE: ChannelRecord = ChannelRecord {
        short_channel_id: 0,
        capacity_sat: 0,
        nodes: [0; 2],
        timestamps: [0; 2],
        checksums: [0; 2],
        received: 0,
        spent_at: 0,
        marks: 0,
    };

    /// Whether its announcement can be made again.
    pub const fn keeps_announcement(&self) -> bool {
        self.marks & ANNOUNCEMENT_DROPPED == 0
    }

    /// Whether the update of that end, if there is one, can be made again.
    pub const fn keeps_update(&self, end: usize) -> bool {
        self.marks & UPDATE_DROPPED[end] == 0
    }

    /// The record with the mark whether its announcement can be made again.
    pub const fn with_kept_announcement(mut self, kept: bool) -> ChannelRecord {
        self.marks = if kept { self.marks & !ANNOUNCEMENT_DROPPED } else { self.marks | ANNOUNCEMENT_DROPPED };
        self
    }

    /// Sets the mark whether the update of that end can be made again.
    pub const fn set_kept_update(&mut self, end: usize, kept: bool) {
        let mark = UPDATE_DROPPED[end];
        self.marks = if kept { self.marks & !mark } else { self.marks | mark };
    }
}

/// What proves a channel: the part of its announcement that stands nowhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// By the two nodes, then by the two funding keys.
    pub signatures: [[u8; 64]; 4],
    /// The funding keys of `node_id_1` and `node_id_2`.
    pub bitcoin_keys: [KeyBytes; 2],
}

impl Proof {
    /// That of a free place.
    pub const EMPTY: Proof = Proof { signatures: [[0; 64]; 4], bitcoin_keys: [[0; 33]; 2] };
}
