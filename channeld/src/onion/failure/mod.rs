//! Failures on their way back (BOLT 4, "Returning Errors" and "Failure Messages").
//!
//! Knows what each failure says, how the hop that fails packs it, how the hops before wrap it, and how the payer finds out who
//! sent it and how long each hop held the HTLC. Never decides which failure an HTLC deserves, and never knows a clock: hold
//! times come in.

mod message;
mod packet;
#[cfg(test)]
mod tests;

pub use message::{BADONION, Failure, NODE, PERM, UPDATE};
#[cfg(test)]
pub(super) use packet::pack;
pub use packet::{Attributed, Garbled, build, read, wrap};
