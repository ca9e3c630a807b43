//! The whole daemon as one pure machine: channels, payments, invoices, streams, coins and peers, and its turns.
//!
//! Knows what one input changes in all of them, and writes it as one delta. Never reads a clock, a socket or a file;
//! never acts: what should leave is an effect, released when what it rests on is durable. DESIGN.md, "The core's
//! contract" and "Turns".
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod command;
pub mod event;
pub mod refusal;
pub mod reply;
pub mod turn;
