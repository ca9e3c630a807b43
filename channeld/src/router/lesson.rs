//! What one attempt taught: the node says it, [`super::Liquidity`] learns it.

use serde::{Deserialize, Serialize};

use crate::graph::DirectedChannel;
use crate::units::{Msat, NodeId};

/// What an attempt showed about one direction of one channel, or about one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lesson {
    /// About a channel.
    Channel {
        /// Which, and in which direction the HTLC went or should have gone.
        channel: DirectedChannel,
        /// What the HTLC there was worth.
        amount: Msat,
        /// What became of it.
        verdict: Verdict,
    },
    /// A node failed for a reason of its own (BOLT 4 `NODE` failures, or a failure nobody could read): avoided for a while.
    NodeFailed {
        /// The node.
        node_id: NodeId,
    },
}

/// What became of an HTLC on one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It went over the channel, the payment may have failed further on: there was so much liquidity, and still is.
    Forwarded,
    /// It went over and was paid: that much has moved to the other side.
    Paid,
    /// `temporary_channel_failure`: there was less than the amount.
    TooMuch,
    /// `channel_disabled`, `permanent_channel_failure`, `unknown_next_peer`, `required_channel_feature_missing`: avoided
    /// for a while whatever the amount. A `channel_update` inside a failure is the graph owner's to apply.
    Unusable,
}
