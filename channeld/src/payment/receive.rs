//! What we are paid: invoices, and what a final hop checks (BOLT 4).

use serde::{Deserialize, Serialize};

use crate::units::{ChannelId, CltvDelta, Msat, PaymentHash, Preimage, UnixTime};

/// An invoice of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invoice {
    /// Counts up from 1 in the order in which invoices were made.
    pub index: u64,
    /// Its hash.
    pub payment_hash: PaymentHash,
    /// The payment request (BOLT 11).
    pub payment_request: String,
    /// What it asks for, or `None` for any amount.
    pub amount: Option<Msat>,
    /// What it is for.
    pub description: String,
    /// When it was made.
    pub created: UnixTime,
    /// When it expires.
    pub expires: UnixTime,
    /// The least number of blocks that must be left when the HTLC comes in.
    pub min_final_cltv_expiry_delta: CltvDelta,
    /// What pays it.
    pub preimage: Preimage,
    /// What a payer must show (BOLT 11 `s`).
    pub payment_secret: [u8; 32],
    /// Where it stands.
    pub status: InvoiceStatus,
}

/// Where an invoice stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InvoiceStatus {
    /// It may be paid.
    Open,
    /// It was paid.
    Settled {
        /// What came in.
        received: Msat,
        /// On which channel.
        channel: ChannelId,
        /// When the payment was irrevocable.
        at: UnixTime,
    },
    /// It was cancelled by its owner.
    Cancelled {
        /// When.
        at: UnixTime,
    },
    /// Nobody paid it in time.
    Expired,
}
