//! How far an update has travelled, and which of the five commitments hold it (BOLT 2, "Normal Operation").

use serde::{Deserialize, Serialize};

/// A side of the channel, as this node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Side {
    /// This node.
    Local,
    /// The peer.
    Remote,
}

impl Side {
    /// The one across.
    #[must_use]
    pub const fn other(self) -> Side {
        match self {
            Side::Local => Side::Remote,
            Side::Remote => Side::Local,
        }
    }
}

/// The states of BOLT 2 that one update passes, seen from whoever proposed it.
///
/// We answer each `commitment_signed` with its `revoke_and_ack` in the same step, so an update of the peer's goes from
/// `Proposed` to `Acked` at once, and one of ours from `Acked` to `Irrevocable`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stage {
    /// Sent, and on no commitment yet.
    Proposed,
    /// On the receiver's commitment, signed by the proposer.
    Signed,
    /// And the receiver has revoked its former commitment.
    Acked,
    /// On the proposer's commitment, too, signed by the receiver.
    Countersigned,
    /// And the proposer has revoked its former commitment.
    Irrevocable,
}

/// A commitment transaction: whose, and which of the at most three that matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum View {
    /// Ours, which we may broadcast.
    LocalCurrent,
    /// Ours, as the peer would sign it next.
    LocalNext,
    /// The peer's, the oldest that is not revoked.
    RemoteCurrent,
    /// The peer's newest that we signed; equal to the current one where no revocation is awaited.
    RemoteSigned,
    /// The peer's, as we would sign it next.
    RemoteNext,
}

impl View {
    /// Whose commitment it is.
    pub const fn owner(self) -> Side {
        match self {
            View::LocalCurrent | View::LocalNext => Side::Local,
            View::RemoteCurrent | View::RemoteSigned | View::RemoteNext => Side::Remote,
        }
    }

    /// Whether an update that `proposer` sent and that is at `stage` is on this commitment.
    pub fn holds(self, proposer: Side, stage: Stage) -> bool {
        stage >= self.threshold(proposer)
    }

    const fn threshold(self, proposer: Side) -> Stage {
        match (proposer, self) {
            (Side::Local, View::LocalCurrent) => Stage::Countersigned,
            (Side::Local, View::LocalNext | View::RemoteCurrent) => Stage::Acked,
            (Side::Local, View::RemoteSigned) => Stage::Signed,
            (Side::Local, View::RemoteNext) => Stage::Proposed,
            (Side::Remote, View::LocalCurrent) => Stage::Signed,
            (Side::Remote, View::LocalNext) => Stage::Proposed,
            (Side::Remote, View::RemoteCurrent) => Stage::Irrevocable,
            (Side::Remote, View::RemoteSigned) => Stage::Countersigned,
            (Side::Remote, View::RemoteNext) => Stage::Acked,
        }
    }
}
