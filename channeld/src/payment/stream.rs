//! Streams of netted transfers (TRANSFER.md): sessions, their two marks and their receipts.

use serde::{Deserialize, Serialize};

use crate::units::{ChannelId, CommitmentNumber, Msat, NodeId, SessionId};

/// What the payee signs: cumulative, so only the newest matters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The channel the session runs on.
    pub channel: ChannelId,
    /// The session.
    pub session: SessionId,
    /// Who paid.
    pub payer: NodeId,
    /// The last sequence that is paid.
    pub last_sequence: u64,
    /// All that is paid.
    pub paid: Msat,
    /// What a close at that instant would have paid the payee.
    pub enforceable: Msat,
    /// The payee's signature over all of it, compact.
    pub signature: Vec<u8>,
}

/// What a client of a stream sees; each status replaces the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamStatus {
    /// The last sequence that is journaled here.
    pub accepted_sequence: u64,
    /// The last sequence that is paid: the payee holds a signed new state and we revoked the old one.
    pub committed_sequence: u64,
    /// All that was accepted.
    pub accepted: Msat,
    /// All that is paid.
    pub committed: Msat,
    /// What a close at this instant would pay the payee.
    pub enforceable: Msat,
    /// The payee's newest commitment.
    pub commitment_number: CommitmentNumber,
    /// Microseconds from the arrival of the newest committed payment to its commitment.
    pub latency_micros: u64,
    /// How much more may be sent now.
    pub window: StreamWindow,
    /// Set when the session is over: nothing follows.
    pub closed: Option<StreamClosed>,
}

/// How much more a client may send at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamWindow {
    /// So many payments.
    pub payments: u64,
    /// Of so much together.
    pub amount: Msat,
}

/// The end of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamClosed {
    /// Why.
    pub reason: StreamCloseReason,
    /// The payee's signature over what it was paid, where it came in time.
    pub receipt: Option<Receipt>,
}

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamCloseReason {
    /// The client finished and all is committed.
    Finished,
    /// The limit that the client gave in total is reached.
    TotalReached,
    /// The channel closes, or is closed.
    ChannelClosed,
    /// The payee closed the session.
    ClosedByPayee,
    /// The balance does not carry the next payment.
    BalanceExhausted,
}
