//! Netted transfers: sessions, windows, receipts (TRANSFER.md).

use crate::units::{Msat, SessionId};

/// What a receipt says; the node signs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiptContent {
    /// The session.
    pub session: SessionId,
    /// The sequence behind the last payment that is paid.
    pub next_sequence: u64,
    /// What is paid.
    pub paid: Msat,
    /// What a close at this instant would pay us.
    pub enforceable: Msat,
}
