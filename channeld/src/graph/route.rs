//! A way from this node to a payee: what each HTLC on it is worth and when it times out.

use secp256k1::PublicKey;
use serde::{Deserialize, Serialize};

use crate::onion::BlindedHop;
use crate::units::{Msat, NodeId, ShortChannelId};

/// Which of a channel's two nodes sends (BOLT 7, bit 0 of `channel_flags`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Direction {
    /// From the lesser node id to the greater one.
    FromNode1,
    /// From the greater node id to the lesser one.
    FromNode2,
}

impl Direction {
    /// The direction in which `from` sends to `to`.
    pub fn between(from: &NodeId, to: &NodeId) -> Direction {
        if from.0.serialize() < to.0.serialize() { Direction::FromNode1 } else { Direction::FromNode2 }
    }

    /// 0 or 1, as in `channel_flags`.
    pub const fn bit(self) -> u8 {
        match self {
            Direction::FromNode1 => 0,
            Direction::FromNode2 => 1,
        }
    }

    /// From bit 0 of `channel_flags`; the other bits make no difference.
    pub const fn from_bit(flags: u8) -> Direction {
        if flags & 1 == 0 { Direction::FromNode1 } else { Direction::FromNode2 }
    }

    /// The other way round.
    #[must_use]
    pub const fn reversed(self) -> Direction {
        match self {
            Direction::FromNode1 => Direction::FromNode2,
            Direction::FromNode2 => Direction::FromNode1,
        }
    }
}

/// One direction of one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DirectedChannel {
    /// The channel, or the alias by which a hint names it.
    pub short_channel_id: ShortChannelId,
    /// Who sends.
    pub direction: Direction,
}

/// A way to a payee, one HTLC on it after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// From our peer to the payee, or to the node that introduces a blinded path. Never empty.
    pub hops: Vec<RouteHop>,
    /// What follows the last hop, if it is only known to the payee.
    pub blinded_tail: Option<BlindedTail>,
}

/// One HTLC of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteHop {
    /// Who gets the HTLC.
    pub node_id: NodeId,
    /// The channel that leads to `node_id`: for the first hop the channel of ours as the query named it.
    pub short_channel_id: ShortChannelId,
    /// What the HTLC on that channel is worth.
    pub amount: Msat,
    /// Its expiry, in blocks above the present height.
    pub cltv_delta: u32,
}

/// The end of a route inside a blinded path (BOLT 4, "Route Blinding").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlindedTail {
    /// The path key for the first of `hops`, which is the last of the route's hops.
    pub first_path_key: PublicKey,
    /// The hops of the blinded path, the one that introduces it first where that is not the payer. Never empty.
    pub hops: Vec<BlindedHop>,
    /// What arrives at the payee.
    pub amount: Msat,
    /// The least expiry at the payee, in blocks above the present height.
    pub cltv_delta: u32,
    /// The payer itself introduces the path: the route's only hop is the first behind it, and gets its path key with the HTLC.
    pub is_entered: bool,
}

impl Route {
    /// What arrives at the payee.
    pub fn amount(&self) -> Msat {
        match (&self.blinded_tail, self.hops.last()) {
            (Some(tail), _) => tail.amount,
            (None, Some(hop)) => hop.amount,
            (None, None) => Msat::ZERO,
        }
    }

    /// What leaves this node: the worth of the first HTLC.
    pub fn sent(&self) -> Msat {
        self.hops.first().map_or(Msat::ZERO, |hop| hop.amount)
    }

    /// What the hops in between keep, a blinded path's included.
    pub fn fee(&self) -> Msat {
        self.sent().saturating_sub(self.amount())
    }

    /// The expiry of the first HTLC, in blocks above the present height.
    pub fn cltv_delta(&self) -> u32 {
        self.hops.first().map_or(0, |hop| hop.cltv_delta)
    }

    /// The channels it uses as directed ones, given who sends first.
    pub fn channels(&self, source: NodeId) -> impl Iterator<Item = (DirectedChannel, Msat)> {
        let senders = std::iter::once(source).chain(self.hops.iter().map(|hop| hop.node_id));
        senders.zip(&self.hops).map(|(from, hop)| {
            let direction = Direction::between(&from, &hop.node_id);
            (DirectedChannel { short_channel_id: hop.short_channel_id, direction }, hop.amount)
        })
    }
}
