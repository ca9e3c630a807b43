//! End-to-end scenarios and differential tests.

mod bolt3_differential;
mod onchain;
