//! Which chain is best, and which coins it leaves. Pure over a port to blocks and coins (`Archive`).
//!
//! Knows headers as a tree by work, the active chain, and a write-back cache of coins; connects, disconnects and
//! reorganises, one step at a time. It never reads a clock, touches a file or waits; the store is behind the port, and
//! unconfirmed transactions are not known here.
//! Bitcoin Core: `chain.cpp`, `coins.cpp`, `Chainstate` in `validation.cpp`.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod coin;

pub use coin::{Coin, CoinView, is_unspendable};
