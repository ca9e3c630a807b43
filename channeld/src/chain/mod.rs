//! The chain, as any Bitcoin Core-like node tells of it over JSON-RPC: `l1-utxo`, or Bitcoin Core itself.
//!
//! Asks for blocks in order from the daemon's own tip on, tells of each that joins or leaves the best chain, sends
//! transactions and estimates fees. It knows Bitcoin Core's method names, fields and codes; never what a channel is, and it
//! believes nothing that it can check: a block's hash, its place and its merkle root.

mod backend;
mod broadcast;
mod error;
mod fee;
mod reply;
#[cfg(test)]
mod tests;
mod watcher;

use std::sync::Arc;

use bitcoin::{Block, BlockHash};

use crate::units::BlockHeight;

pub use backend::{Backend, Credentials};
pub use broadcast::Broadcast;
pub use error::BackendError;
pub use fee::FeeEstimates;
pub use reply::UnspentOutput;
pub use watcher::Watcher;

/// A block's place and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainTip {
    /// Its height.
    pub height: BlockHeight,
    /// Its hash.
    pub hash: BlockHash,
}

/// What happened to the best chain, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainEvent {
    /// The next block of the best chain.
    BlockConnected {
        /// Its height.
        height: BlockHeight,
        /// The block, its hash and merkle root checked.
        block: Arc<Block>,
    },
    /// The last block told of is not on the best chain any more; the one before it is the tip now.
    BlockDisconnected {
        /// Its height.
        height: BlockHeight,
        /// Its hash.
        hash: BlockHash,
        /// The hash of the block before it.
        previous: BlockHash,
    },
    /// How far we are: sent after each run of blocks.
    Progress {
        /// The height that the backend knows of.
        best: BlockHeight,
        /// Whether the backend's own tip is the network's, as far as it knows; always so on a development chain.
        is_current: bool,
    },
    /// New estimates.
    Fees(FeeEstimates),
    /// The backend does not answer, or not rightly; it is asked again. For the log and for `GetNode`.
    Unavailable(String),
    /// The backend does not know our tip: it is on another chain, or was reset. Nothing more follows until it does.
    TipUnknown {
        /// Our tip.
        tip: ChainTip,
        /// The backend's best height.
        best: BlockHeight,
    },
}
