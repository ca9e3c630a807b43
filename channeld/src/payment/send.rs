//! What we pay: a payment, its attempts, and its one final outcome.

use serde::{Deserialize, Serialize};

use crate::units::{ChannelId, HtlcId, Msat, NodeId, PaymentHash, Preimage, UnixTime};

/// A payment of ours, from the moment it is journaled. One final outcome, never two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// Counts up from 1 in the order in which payments were made.
    pub index: u64,
    /// The hash that the HTLC carries.
    pub payment_hash: PaymentHash,
    /// Who is paid.
    pub destination: NodeId,
    /// What arrives there.
    pub amount: Msat,
    /// What is paid on top of it; zero on a direct channel.
    pub fee: Msat,
    /// What made it: an invoice or a key.
    pub kind: PaymentKind,
    /// When it was journaled.
    pub created: UnixTime,
    /// Where it stands.
    pub status: PaymentStatus,
    /// All attempts, the oldest first.
    pub attempts: Vec<Attempt>,
}

/// What a payment pays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PaymentKind {
    /// A BOLT 11 invoice, as it was given.
    Invoice {
        /// The payment request's text.
        payment_request: String,
    },
    /// A key, by a preimage that travels in the onion.
    Keysend,
}

/// The three answers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PaymentStatus {
    /// Not decided; it is decided at the latest when the HTLC's deadline is buried.
    InFlight,
    /// The payee gave the preimage.
    Succeeded {
        /// The proof of payment.
        preimage: Preimage,
        /// When it was learned.
        at: UnixTime,
    },
    /// Failed for certain: nothing was paid and nothing can be any more.
    Failed {
        /// Why.
        reason: FailureReason,
        /// When that was certain.
        at: UnixTime,
    },
}

impl PaymentStatus {
    /// Whether it will never change again.
    pub fn is_final(&self) -> bool {
        !matches!(self, PaymentStatus::InFlight)
    }
}

/// One try along one channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// The channel that carries the HTLC.
    pub channel: ChannelId,
    /// The HTLC's id on that channel.
    pub htlc_id: HtlcId,
    /// When it was added.
    pub started: UnixTime,
    /// The height at which it is decided at the latest.
    pub deadline_height: u32,
}

/// Why a payment failed for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureReason {
    /// The payee does not know the hash, or the amount or expiry is not what it wants
    /// (BOLT 4 `incorrect_or_unknown_payment_details`).
    UnknownPaymentDetails,
    /// The payee did not get all parts in time (BOLT 4 `mpp_timeout`).
    MppTimeout,
    /// The payee answered with another failure of BOLT 4: its code.
    Remote {
        /// The failure code of BOLT 4.
        code: u16,
    },
    /// The failure could not be read.
    UnreadableFailure,
    /// The channel that should carry it closed or refused before it was committed.
    ChannelUnavailable,
    /// The HTLC timed out on the chain.
    TimedOutOnChain,
}
