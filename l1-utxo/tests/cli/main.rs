//! The real binary: its command line, its files, and its JSON-RPC as clients of Bitcoin Core use it.
#![allow(clippy::unwrap_used)] // helpers of tests are tests, too

mod argument;
mod case;
mod command_line;
mod dialect;
mod directory;
mod mempool;
mod mining;
mod node;
mod peer;
mod query;
mod rest;
mod restart;
mod stranger;
mod wallet;
