//! What we pay: a payment, its attempts, and its one final outcome.

use secp256k1::SecretKey;
use serde::{Deserialize, Serialize};

use super::forward::HtlcPlace;
use crate::onion::{self, Attributed, Failure, FinalPayload, Hop, HopPayload, PaymentData, SharedSecret};
use crate::units::{ChannelId, CltvExpiry, HtlcId, Msat, NodeId, PaymentHash, Preimage, UnixTime};
use crate::wire::{AttributionData, OnionRoutingPacket};

/// Blocks that may be found while an HTLC is under way to the payee: added to the least that it wants to be left.
pub const BLOCKS_IN_FLIGHT: u32 = 3;
/// Blocks that a payment by key leaves its payee: nobody says what it wants, and LDK takes nothing below 42 (its
/// `MIN_FINAL_CLTV_EXPIRY_DELTA`).
pub const KEYSEND_FINAL_CLTV_DELTA: u16 = 42;

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
    /// Whether the payee was paid.
    pub const fn is_success(&self) -> bool {
        matches!(self, PaymentStatus::Succeeded { .. })
    }

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
    /// What we share with each hop, to read a failure.
    pub secrets: Vec<SharedSecret>,
}

impl Attempt {
    /// Its HTLC.
    pub const fn place(&self) -> HtlcPlace {
        HtlcPlace { channel: self.channel, id: self.htlc_id }
    }
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

/// What shows the payee that the payment is meant for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The secret of its invoice.
    Invoice {
        /// BOLT 11 `s`.
        payment_secret: [u8; 32],
        /// BOLT 11 `m`.
        metadata: Option<Vec<u8>>,
    },
    /// The preimage itself.
    Keysend(Preimage),
}

/// What goes into `update_add_htlc`, and what is kept to read a failure.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// What the HTLC is worth.
    pub amount: Msat,
    /// Its hash.
    pub payment_hash: PaymentHash,
    /// When it times out.
    pub cltv_expiry: CltvExpiry,
    /// For the payee.
    pub onion: OnionRoutingPacket,
    /// What we share with each hop.
    pub secrets: Vec<SharedSecret>,
}

impl Parcel {
    /// A payment of one hop. `session_key` must be random and never used twice. `None` where the payee's metadata does not
    /// fit into an onion.
    pub fn pack(
        payee: NodeId,
        payment_hash: PaymentHash,
        amount: Msat,
        cltv_expiry: CltvExpiry,
        proof: &Proof,
        session_key: &SecretKey,
    ) -> Option<Parcel> {
        let (payment_data, payment_metadata, keysend_preimage) = match proof {
            Proof::Invoice { payment_secret, metadata } => {
                let data = PaymentData { payment_secret: *payment_secret, total_msat: amount };
                (Some(data), metadata.clone(), None)
            }
            Proof::Keysend(preimage) => (None, None, Some(*preimage)),
        };
        let payload = FinalPayload {
            amt_to_forward: amount,
            outgoing_cltv_value: cltv_expiry,
            payment_data,
            payment_metadata,
            keysend_preimage,
            custom_records: Vec::new(),
        };
        let hop = Hop { node_id: payee.0, payload: HopPayload::from(payload).encode() };
        let (onion, secrets) = onion::build(&[hop], session_key, &payment_hash).ok()?;
        Some(Parcel { amount, payment_hash, cltv_expiry, onion, secrets })
    }
}

/// What a `reason` that came back means for the payment.
pub fn read_failure(
    secrets: &[SharedSecret],
    reason: &[u8],
    attribution_data: Option<&AttributionData>,
) -> FailureReason {
    match onion::failure::read(secrets, reason, attribution_data) {
        Ok(Attributed { failure, .. }) => failure_reason(&failure),
        Err(_) => FailureReason::UnreadableFailure,
    }
}

fn failure_reason(failure: &Failure) -> FailureReason {
    match failure {
        Failure::IncorrectOrUnknownPaymentDetails { .. } => FailureReason::UnknownPaymentDetails,
        Failure::MppTimeout => FailureReason::MppTimeout,
        other => FailureReason::Remote { code: other.code() },
    }
}
