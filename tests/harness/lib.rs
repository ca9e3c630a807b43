//! What the end-to-end tests stand on: the real binaries as processes, in a directory of their own, on free ports.
//!
//! It starts, kills, restarts and stops them, keeps their logs and shows them when a test fails, and asks them by JSON-RPC
//! and gRPC. It knows no inside of either daemon. What goes wrong here ends the test: functions panic with what was
//! expected. Nothing outlives its value: every process is killed when it is dropped.
#![allow(clippy::unwrap_used)]

pub mod chain;
pub mod cluster;
pub mod daemon;
pub mod ldk;
pub mod money;
pub mod network;
pub mod process;
pub mod proxy;
pub mod refusal;
pub mod synthetic;
pub mod wait;

#[path = "../simulation/mod.rs"]
pub mod simulation;

pub use chain::ChainNode;
pub use cluster::Cluster;
pub use daemon::Daemon;
pub use ldk::{LdkNode, LdkTerms};
pub use proxy::Proxy;
pub use wait::until;
