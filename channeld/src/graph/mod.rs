//! The network as gossip tells it (BOLT 7): which channels there are, between whom and on which terms, and the ways
//! through them.
//!
//! Knows what was announced and verified, compactly. Never opens a socket, reads a clock or decides which way is good: that
//! is `router`'s. Own private channels are not in it.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod route;

pub use route::{BlindedHop, BlindedTail, DirectedChannel, Direction, Route, RouteHop};
