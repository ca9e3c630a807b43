//! What is asked of the router, and why there may be no answer.

use secp256k1::PublicKey;

use crate::graph::{BlindedHop, DirectedChannel, DirectedPolicy};
use crate::units::{ChannelId, CltvDelta, Msat, NodeId, ShortChannelId};

/// A question: how does `amount` get from this node to the payee?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteQuery {
    /// This node: where each route begins, and which none crosses again.
    pub source: NodeId,
    /// Who is paid. Not looked at where `blinded` says where to.
    pub payee: NodeId,
    /// What has to arrive in all parts together; not zero.
    pub amount: Msat,
    /// The blocks that must be left at the payee, its `min_final_cltv_expiry_delta` and what may be found meanwhile. With a
    /// blinded path only the latter: the path's own delta counts the payee's.
    pub final_cltv_delta: u32,
    /// Ways to the payee over private channels (BOLT 11 `r`).
    pub hints: Vec<RouteHint>,
    /// Blinded paths to the payee; where there is one, no route ends otherwise.
    pub blinded: Vec<BlindedPath>,
    /// Own channels that are usable now. A route begins with one of them and nothing else.
    pub first_hops: Vec<FirstHop>,
    /// The most that all parts together may pay in fees.
    pub max_fee: Msat,
    /// The most blocks above the present height at which the first HTLC of any part may expire.
    pub max_cltv_delta: u32,
    /// The most parts; 1 where the payee does not wait for several (`basic_mpp`).
    pub max_parts: u32,
    /// The most HTLCs in a row, ours first: at most 27, and less where the last payload is long.
    pub max_hops: u32,
    /// The length in bytes of the payload for the payee with its length and HMAC, all blinded hops' together where the
    /// route ends in a blinded path; 0 stands for an invoice's ordinary payload.
    pub final_payload_length: u32,
    /// What must not be used, mostly because it failed in this payment.
    pub exclusions: Vec<Exclusion>,
    /// HTLCs of ours that are under way: they take liquidity that is not there twice.
    pub in_flight: Vec<InFlight>,
    /// What hops have told of announced channels since the graph was looked at: it counts where the graph's is older.
    pub told: Vec<ToldPolicy>,
}

impl RouteQuery {
    /// A question without hints, exclusions and other extras: one payee, the limits that most payments have (2,016
    /// blocks, 20 hops, 16 parts).
    pub fn new(source: NodeId, payee: NodeId, amount: Msat, first_hops: Vec<FirstHop>) -> RouteQuery {
        RouteQuery {
            source,
            payee,
            amount,
            final_cltv_delta: 0,
            hints: Vec::new(),
            blinded: Vec::new(),
            first_hops,
            max_fee: Msat::new(u64::MAX),
            max_cltv_delta: 2_016,
            max_parts: 16,
            max_hops: 20,
            final_payload_length: 0,
            exclusions: Vec::new(),
            in_flight: Vec::new(),
            told: Vec::new(),
        }
    }
}

/// A usable channel of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstHop {
    /// How the route is to name it: its short channel id or an alias.
    pub short_channel_id: ShortChannelId,
    /// Our name for it.
    pub channel: ChannelId,
    /// Who is at the other end.
    pub peer: NodeId,
    /// What one HTLC may be worth now, reserve, fees and limits taken off.
    pub spendable: Msat,
    /// The least that the peer takes in one HTLC.
    pub htlc_minimum: Msat,
}

/// A way to the payee over channels that nobody announced: from a node of the graph to the payee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteHint {
    /// The channels, the one to the payee last.
    pub hops: Vec<RouteHintHop>,
}

/// A channel of a hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteHintHop {
    /// Who forwards over it.
    pub node_id: NodeId,
    /// The channel, or an alias of it.
    pub short_channel_id: ShortChannelId,
    /// The fee for any HTLC.
    pub fee_base_msat: u32,
    /// The fee for each million of what is forwarded.
    pub fee_proportional_millionths: u32,
    /// How many blocks it wants.
    pub cltv_expiry_delta: CltvDelta,
}

/// A blinded path to the payee, with what it costs in all (BOLT 4, "Route Blinding"; BOLT 12 `blinded_payinfo`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlindedPath {
    /// The node that the route has to reach.
    pub introduction_node: NodeId,
    /// Its path key.
    pub first_path_key: PublicKey,
    /// The hops, the introduction node's first. Never empty.
    pub hops: Vec<BlindedHop>,
    /// The fee of the whole path for any HTLC.
    pub fee_base_msat: u32,
    /// The fee of the whole path for each million of what arrives.
    pub fee_proportional_millionths: u32,
    /// How many blocks the whole path wants, the payee's own included.
    pub cltv_expiry_delta: CltvDelta,
    /// The least that may arrive.
    pub htlc_minimum: Msat,
    /// The most that may arrive in one part.
    pub htlc_maximum: Msat,
}

/// What must not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exclusion {
    /// A node: neither through it nor, if it is the payee, to it.
    Node(NodeId),
    /// A channel, whatever the direction.
    Channel(ShortChannelId),
    /// One direction of a channel.
    Direction(DirectedChannel),
    /// One direction of a channel, for this amount and more, HTLCs in flight included.
    Amount {
        /// The channel.
        channel: DirectedChannel,
        /// The least amount that is excluded.
        from: Msat,
    },
    /// The blinded path with this index in the query.
    BlindedPath(u32),
}

/// An HTLC of ours that is under way, or a part of this payment that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// Where it is.
    pub channel: DirectedChannel,
    /// What it is worth there.
    pub amount: Msat,
}

/// What a failure said of a channel, signed by the node that forwards over it (BOLT 4, `channel_update`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToldPolicy {
    /// The channel.
    pub channel: DirectedChannel,
    /// What it wants.
    pub policy: DirectedPolicy,
}

/// Why there is no route. One reason each: the first that holds, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// Nothing can be sent over nothing.
    #[error("the amount is zero")]
    AmountZero,
    /// The payee is this node.
    #[error("the payee is this node")]
    PayeeIsSource,
    /// No usable channel of our own.
    #[error("no channel of this node is usable")]
    NoChannel,
    /// All own channels together have less.
    #[error("the channels of this node can send {spendable} together, {wanted} is wanted")]
    TooLittleToSend {
        /// What they have.
        spendable: Msat,
        /// What was asked for.
        wanted: Msat,
    },
    /// Nobody announced the payee, no hint or blinded path leads to it, and it is no peer.
    #[error("nothing leads to the payee: it is not in the graph, no peer, and no hint names a way")]
    PayeeUnknown,
    /// All channels to the payee together take less.
    #[error("the channels to the payee take {receivable} together, {wanted} is wanted")]
    TooLittleToReceive {
        /// What they take.
        receivable: Msat,
        /// What was asked for.
        wanted: Msat,
    },
    /// There are ways, and the cheapest is too dear.
    #[error("the cheapest way costs {cheapest}, at most {limit} is allowed")]
    FeeAboveLimit {
        /// Its fee.
        cheapest: Msat,
        /// The limit.
        limit: Msat,
    },
    /// There are ways, and the one with the least delay locks money for too long.
    #[error("the shortest lock is {shortest} blocks, at most {limit} are allowed")]
    CltvAboveLimit {
        /// Blocks above the present height.
        shortest: u32,
        /// The limit.
        limit: u32,
    },
    /// There are ways, all with too many hops.
    #[error("every way has more than {limit} hops")]
    TooManyHops {
        /// The limit.
        limit: u32,
    },
    /// There are ways for less.
    #[error("the channels on the way carry {found} at most, {wanted} is wanted")]
    TooLittleOnTheWay {
        /// What could be sent, in the parts that were allowed.
        found: Msat,
        /// What was asked for.
        wanted: Msat,
    },
    /// Nothing that is not excluded leads there.
    #[error("no way leads to the payee")]
    NoPath,
    /// The pathfinder has more questions than it takes: nothing was searched, and the same question may be put again.
    #[error("too many routes are searched at once")]
    Busy,
}
