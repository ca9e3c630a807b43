//! BOLT 5: what becomes of a channel after its funding output is spent, or is to be spent by our commitment.
//!
//! Knows, for one channel, which transaction took the funding output and when, what was spent of it, which claims are out,
//! and which preimages are known; from these facts it plans every claim anew at every block: the delayed outputs, HTLCs in
//! one and two stages, the penalty for a revoked commitment, the child of our own commitment, each with a deadline and a
//! budget that never exceeds the value at stake. A reorganisation takes facts back. Pure: `decide` and `apply`.
//! Never: holds a coin of the wallet (it asks by [`Effect::Fund`]), watches the chain, knows an upstream channel.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod classify;
pub mod closed;
pub mod fact;
pub mod fee_bump;
pub mod resolver;

mod htlc;
mod outlook;
mod penalty;
mod plan;
mod sweep;

pub use classify::{CloseKind, classify};
pub use closed::{ClosedChannel, LocalCommitment, RemoteCommitment};
pub use fact::{
    Change, Claimed, Confirmed, Context, Delta, Effect, FundRequest, HtlcKey, HtlcOutcome, HtlcSide, Input, Settings,
};
pub use fee_bump::Feerates;
pub use outlook::{Outlook, Prospect, ProspectKind};
pub use resolver::{Resolver, relevant_transactions};
