//! Executes what `node` decides: takes inputs in, has turns stored, lets effects out.
//!
//! Owns the node's thread and the store's thread, the mailbox with its lanes and credits, the clock and the source of
//! randomness. Decides nothing about money: it never looks into a channel.

pub mod handle;
