//! What a person types: a thin client of `channeld` (gRPC) and `l1-utxo` (JSON-RPC), the demo, and the benchmark.
//!
//! It knows the contract in `proto` and Bitcoin Core's JSON-RPC, and nothing of the inside of either daemon: no crate of
//! theirs is imported. stdout is data, stderr is talk; `--json` is stable; every error ends in what to do next.

pub mod args;
pub mod bench;
pub mod chain;
pub mod client;
pub mod commands;
pub mod demo;
pub mod failure;
pub mod money;
pub mod output;
