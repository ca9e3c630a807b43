//! What the mempool tells others: every transaction that came or went, numbered.

use std::sync::Arc;

use bitcoin::{Transaction, Txid};

/// Why a transaction went (Core: `MemPoolRemovalReason`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// A block holds it.
    Block,
    /// A block holds what it conflicts with.
    Conflict,
    /// Another took its place.
    Replaced,
    /// It was too old.
    Expired,
    /// There was no room left.
    SizeLimit,
    /// It is not valid any more after a reorganisation.
    Reorg,
}

/// Something that happened to a mempool.
#[derive(Debug, Clone)]
pub enum Event {
    /// A transaction came.
    Added {
        /// The transaction.
        transaction: Arc<Transaction>,
        /// Its txid.
        txid: Txid,
        /// The number of this event.
        sequence: u64,
    },
    /// A transaction went.
    Removed {
        /// Its txid.
        txid: Txid,
        /// Why.
        reason: Removal,
        /// The number of this event.
        sequence: u64,
    },
}
