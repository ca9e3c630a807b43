//! End-to-end scenarios and differential tests.

mod bolt3_differential;
mod channel_ldk;
mod noise_ldk;
mod onchain;
mod wire_ldk;
