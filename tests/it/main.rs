//! End-to-end scenarios and differential tests.

mod bolt3_differential;
mod channel_ldk;
mod noise_ldk;
mod onchain;
mod open;
mod pay;
mod stream;
mod wire_ldk;
