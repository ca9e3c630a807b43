//! Which way a payment goes: a search over `graph`'s snapshot, what attempts taught about liquidity, splitting into parts.
//!
//! Knows fees, limits and odds; every route it gives keeps each hop's announced policy to the millisatoshi (BOLT 4, 7).
//! Pure: time comes in, memory between searches belongs to the caller's [`Router`]. Never asks for a channel's true
//! balance, never builds an onion, never decides whether a payment is tried again. No floats: costs are integers.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod lesson;
mod query;

pub use lesson::{Lesson, Verdict};
pub use query::{BlindedPath, Exclusion, FirstHop, InFlight, NoRoute, RouteHint, RouteHintHop, RouteQuery};
