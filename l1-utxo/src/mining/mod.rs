//! Making blocks: what goes in, and the search for a nonce.
//!
//! Pure: the time, the parent and the mempool come in as arguments, and the search is told how long it may go on.
//! It never submits a block. Bitcoin Core: `node/miner.cpp`.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod nonce;
mod template;

pub use nonce::{Search, search};
pub use template::{Chosen, Draft, Limits, Parent, build_with, draft};
