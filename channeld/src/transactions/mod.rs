//! BOLT 3: every transaction of a channel, from the broadcaster's view.
//!
//! Knows scripts, outputs, their order, trimming, fees, weights and witnesses of funding, commitment, HTLC, closing and claim
//! transactions, for the formats of [`CommitmentFormat`]. Its words are broadcaster and countersignatory, offered and
//! received; whoever calls converts from local and remote once. Never: decides whether a commitment is allowed, holds a
//! private key (it asks [`crate::keys::Signer`]), knows the chain's height.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod claim;
pub mod closing;
pub mod commitment;
pub mod fee;
pub mod htlc;
pub mod parameter;
pub mod penalty;
pub mod script;
pub mod signature;

pub use claim::{Claim, ClaimPath, ClaimTransaction};
pub use closing::{ClosingError, ClosingSpec, ClosingTransaction};
pub use commitment::{CommitmentSpec, CommitmentTransaction, CommittedHtlc, OutputRole};
pub use htlc::{Htlc, HtlcDirection, HtlcTransaction};
pub use parameter::{CommitmentFormat, CommitmentParameters, CommitmentTerms, Funding, TransactionKeys};
pub use penalty::{HtlcHistory, Penalty, RevokedOutput};
pub use signature::{CommitmentSignature, CommitmentSignatures, VerificationError, verify_commitment, verify_htlcs};

#[cfg(test)]
mod tests;
