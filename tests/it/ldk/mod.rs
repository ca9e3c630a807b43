//! Beside the crate `lightning`: the same transactions byte for byte, the same messages, sessions and channels with it.
//!
//! An implementation of others is the judge here; it is never used by the product.

mod bolt3;
mod channel;
mod noise;
mod wire;
