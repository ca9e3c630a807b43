//! A small proof-of-work UTXO chain whose consensus, wire and JSON-RPC are those of Bitcoin Core's regtest.
//!
//! Pure inside, effects outside. A room imports only rooms on a lower floor; `tests/tidy.rs` holds the table.

pub mod chain;
pub mod check;
pub mod config;
pub mod consensus;
pub mod driver;
pub mod estimator;
pub mod mempool;
pub mod mining;
pub mod net;
pub mod node;
pub mod params;
pub mod rpc;
pub mod store;
pub mod sync;
