//! Why an announcement is refused, one variant for each rule of BOLT 7, and what the rule wants done with the peer.

use crate::wire::DecodeError;

/// Why an announcement does not come into the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The bytes are no message of the kind.
    #[error("it is not readable: {0}")]
    Malformed(#[from] DecodeError),
    /// `chain_hash` is not that of the graph.
    #[error("it is of another chain")]
    UnknownChain,
    /// The same bytes came before, in the graph or earlier in the batch.
    #[error("it is known already")]
    Duplicate,

    /// `node_id_1` is not less than `node_id_2`.
    #[error("the node ids are not in rising order")]
    NodeIdsOutOfOrder,
    /// Both funding keys are one.
    #[error("both funding keys are the same")]
    SameFundingKeys,
    /// Block 0 has no funding output.
    #[error("the short channel id names no funding output")]
    ImpossibleShortChannelId,
    /// A node id is no point of the curve.
    #[error("a node id is not a public key")]
    InvalidNodeId,
    /// A funding key is no point of the curve.
    #[error("a funding key is not a public key")]
    InvalidFundingKey,
    /// One of the four signatures of a `channel_announcement` is wrong.
    #[error("a signature of the channel_announcement is wrong")]
    InvalidChannelSignature,
    /// A node is on the blacklist: it signed announcements that contradict each other.
    #[error("one of its nodes is blacklisted")]
    BlacklistedNode,
    /// The channel was pruned or closed a short while ago.
    #[error("the channel was removed lately")]
    RecentlyRemoved,
    /// There is no unspent output at the short channel id.
    #[error("there is no unspent output at the short channel id")]
    FundingNotFound,
    /// The output at the short channel id does not pay to the two funding keys.
    #[error("the output at the short channel id is not the funding output of these keys")]
    FundingScriptMismatch,
    /// The funding output is not deep enough in the chain yet.
    #[error("the funding output has {confirmations} confirmations of 6")]
    FundingNotDeep {
        /// What it has.
        confirmations: u32,
    },
    /// Another announcement for the same output, signed by the same funding keys, names other nodes.
    #[error("it contradicts an earlier announcement of the same output; all nodes of both are blacklisted")]
    ConflictingNodes,

    /// The channel of an update is not announced.
    #[error("the channel is not known")]
    UnknownChannel,
    /// The update is for the peer of its sender alone.
    #[error("the update is not for others (dont_forward)")]
    NotForOthers,
    /// The update's timestamp is older than two weeks.
    #[error("the update is older than two weeks")]
    Stale,
    /// The timestamp is more than a day ahead.
    #[error("the timestamp is more than a day ahead")]
    FarInTheFuture,
    /// A later update or announcement of the same node is known.
    #[error("it is not newer than the one that is known")]
    NotNewer,
    /// The funding output is spent, and the update does not switch the channel off.
    #[error("the channel is closed, and the update does not disable it")]
    ChannelClosed,
    /// `htlc_maximum_msat` is above the channel's capacity.
    #[error("htlc_maximum_msat is above the capacity")]
    MaximumAboveCapacity,
    /// The signature of a `channel_update` is not that of the node at that end.
    #[error("the signature of the channel_update is wrong")]
    InvalidUpdateSignature,

    /// The node of a `node_announcement` has no channel that is known.
    #[error("the node has no known channel")]
    UnknownNode,
    /// An address descriptor of a known type ends beyond `addrlen`.
    #[error("the addresses end within one of them")]
    AddressesTooShort,
    /// The `node_announcement` is longer than any reasonable one.
    #[error("the node_announcement is too long to be kept")]
    TooLong,
    /// The signature of a `node_announcement` is wrong.
    #[error("the signature of the node_announcement is wrong")]
    InvalidNodeSignature,
}

/// What BOLT 7 has done with whoever sent what was refused. The message itself is dropped in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reaction {
    /// Nothing: gossip is often late, or twice.
    Ignore,
    /// Send a `warning`; the connection may be closed, and should be if it goes on.
    Warn,
    /// Send a `warning` and close the connection.
    WarnAndClose,
}

impl Refusal {
    /// What is to be done with whoever sent it.
    pub const fn reaction(&self) -> Reaction {
        match self {
            // BOLT 1: what cannot be read ends the connection; BOLT 7, channel_update: warning and close.
            Refusal::Malformed(_) | Refusal::InvalidUpdateSignature => Reaction::WarnAndClose,
            // "SHOULD send a warning, MAY close the connection."
            Refusal::InvalidChannelSignature
            | Refusal::InvalidNodeSignature
            | Refusal::InvalidNodeId
            | Refusal::InvalidFundingKey
            | Refusal::AddressesTooShort
            // What the origin MUST NOT have signed, and no honest node can pass on by chance.
            | Refusal::NodeIdsOutOfOrder
            | Refusal::SameFundingKeys
            | Refusal::ImpossibleShortChannelId => Reaction::Warn,
            _ => Reaction::Ignore,
        }
    }

    /// Whether it may be good later, or somebody else's word is missing: worth to be kept or asked for.
    pub const fn may_pass_later(&self) -> bool {
        matches!(
            self,
            Refusal::UnknownChannel | Refusal::UnknownNode | Refusal::FundingNotDeep { .. } | Refusal::FundingNotFound
        )
    }
}
