//! Names for nodes and channels that are places in a list, and the edge that a search walks over.

use crate::graph::route::Direction;
use crate::units::Msat;

/// A node's place in one [`Snapshot`](crate::graph::Snapshot): dense, below `node_bound`. It stays the node's own as long as the
/// node is known, and may be another node's after that: keep node ids beyond the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(pub u32);

impl NodeIndex {
    /// As an index into a list.
    pub const fn at(self) -> usize {
        self.0 as usize
    }
}

/// A channel's place in one [`Snapshot`](crate::graph::Snapshot): dense, below `channel_bound`, good for as long as a [`NodeIndex`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelIndex(pub u32);

impl ChannelIndex {
    /// As an index into a list.
    pub const fn at(self) -> usize {
        self.0 as usize
    }
}

/// A channel in one direction, with all that a search backwards from the payee asks of it, in 48 bytes. It lies with the other
/// edges into the same node; where no `channel_update` is known there is no edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Edge {
    /// The least HTLC.
    pub htlc_minimum: Msat,
    /// The greatest HTLC, as announced: see [`Edge::maximum`].
    pub htlc_maximum: Msat,
    /// What the funding output holds.
    pub capacity: Msat,
    /// The node that forwards over it and asks the fee.
    pub source: NodeIndex,
    /// The channel.
    pub channel: ChannelIndex,
    /// The fee for any HTLC, in msat.
    pub fee_base_msat: u32,
    /// The fee for each million of what is forwarded.
    pub fee_proportional_millionths: u32,
    /// How many blocks `source` wants between its two HTLCs.
    pub cltv_expiry_delta: u16,
    /// As in the `channel_update`: bit 0 direction, bit 1 disabled.
    pub channel_flags: u8,
    /// As in the `channel_update`.
    pub message_flags: u8,
    /// What was found about the channel, see the constants.
    pub(in crate::graph) marks: u32,
}

impl Edge {
    /// The channel has an even feature bit that this node does not know: no payment may go through it.
    pub(in crate::graph) const UNKNOWN_FEATURE: u32 = 1;
    /// The funding output is spent: by a close, or by a splice whose new announcement may come yet.
    pub(in crate::graph) const SPENT: u32 = 2;
    /// All of them.
    pub(in crate::graph) const ALL_MARKS: u32 = 0xff;

    /// The direction.
    pub const fn direction(&self) -> Direction {
        Direction::from_bit(self.channel_flags)
    }

    /// Whether its node has switched it off for now.
    pub const fn is_disabled(&self) -> bool {
        self.channel_flags & 2 != 0
    }

    /// Whether a feature of the channel forbids to route through it (BOLT 7, `channel_announcement`).
    pub const fn has_unknown_feature(&self) -> bool {
        self.marks & Edge::UNKNOWN_FEATURE != 0
    }

    /// Whether its funding output is spent: it still forwards if that was a splice (BOLT 7 keeps it for 72 blocks).
    pub const fn is_spent(&self) -> bool {
        self.marks & Edge::SPENT != 0
    }

    /// Whether a route may use it at all: not disabled, no unknown feature, and limits that leave an amount.
    pub fn is_usable(&self) -> bool {
        self.channel_flags & 2 == 0
            && self.marks & Edge::UNKNOWN_FEATURE == 0
            && self.htlc_minimum <= self.htlc_maximum
            && self.htlc_minimum <= self.capacity
    }

    /// The greatest HTLC that can go through: announced, and held by the funding output.
    pub fn maximum(&self) -> Msat {
        self.htlc_maximum.min(self.capacity)
    }

    /// What `source` asks for forwarding `amount` (rounded down as BOLT 7 says), or `None` on overflow.
    pub fn fee(&self, amount: Msat) -> Option<Msat> {
        let proportional = amount.msat().checked_mul(u64::from(self.fee_proportional_millionths))? / 1_000_000;
        proportional.checked_add(u64::from(self.fee_base_msat)).map(Msat::new)
    }
}

const _: () = assert!(size_of::<Edge>() == 48);
