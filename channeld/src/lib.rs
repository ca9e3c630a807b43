//! The channel daemon: a Lightning node with a gRPC API.
//!
//! Pure inside, effects outside: the rooms below `node` decide, the rooms above it act. A room imports only rooms on a
//! lower floor; `tests/tidy.rs` holds the table.

pub mod chain;
pub mod channel;
pub mod commitment;
pub mod config;
pub mod daemon;
pub mod driver;
pub mod gossip;
pub mod graph;
pub mod keys;
pub mod node;
pub mod onchain;
pub mod onion;
pub mod payment;
pub mod peer;
pub mod router;
pub mod rpc;
pub mod store;
pub mod transactions;
pub mod units;
pub mod wallet;
pub mod wire;
