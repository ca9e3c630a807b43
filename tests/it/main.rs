//! End-to-end scenarios and differential tests.
#![allow(clippy::unwrap_used)]

mod api;
mod bad_input;
mod bolt3_differential;
mod breach;
mod channel_ldk;
mod close;
mod crash;
mod noise_ldk;
mod onchain;
mod open;
mod pay;
mod reorg;
mod simulation;
mod stream;
mod wire_ldk;
