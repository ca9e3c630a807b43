//! Payments: what we send and what we receive, decided without clock, socket or file.
//!
//! Knows invoices, keysend, attempts, forwards and streams of transfers. Never signs a commitment and never touches a channel's
//! state: it says what the node should ask of a channel. BOLT 4 (final hop, forwarding), BOLT 11, bLIP 39.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod batch;
pub mod blinded;
pub mod forward;
pub mod hold;
pub mod invoice;
pub mod jamming;
pub mod parcel;
pub mod receive;
pub mod send;
pub mod stream;
