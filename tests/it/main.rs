//! End-to-end scenarios and differential tests.
#![allow(clippy::unwrap_used)]

mod access;
mod api;
mod bad_input;
mod breach;
mod cells;
mod clients;
mod close;
mod crash;
mod fees;
mod gossip;
mod interop;
mod ldk;
mod multihop;
mod onchain;
mod open;
mod pay;
mod reorg;
mod simulation;
mod stream;
