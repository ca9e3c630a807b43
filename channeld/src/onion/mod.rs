//! Onions (BOLT 4): built for a route, opened by a hop, blinded paths inside them, and what travels back: failures and how
//! long each hop held an HTLC.
//!
//! Knows how bytes are wrapped and what a hop's payload says; decides nothing about a payment: fees, limits and replays are
//! the node's. The curve work of a hop is in [`open`] and needs one function of the `Signer`, its ECDH, so that a driver can
//! do it in parallel; randomness comes in as session keys, time as hold times. Onion messages are not made here.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod answer;
pub mod attribution;
pub mod blinding;
mod cipher;
mod error;
pub mod failure;
pub mod open;
pub mod packet;
pub mod path;
pub mod payload;
#[cfg(test)]
mod tests;

pub use answer::{Answer, ReturnPath};
pub use attribution::{HoldTime, fulfil, read_fulfil};
pub use blinding::{EncryptedData, PaymentConstraints, PaymentRelay};
pub use cipher::SharedSecret;
pub use error::{BadOnion, BlindingError, BuildError, InvalidPayload, PathError};
pub use failure::{Attributed, Failure, Garbled};
pub use open::{Forwarding, Incoming, NextHop, Opened, Receiving, open};
pub use packet::{Hop, OnionPacket, Peeled, build, peel};
pub use path::{BlindedHop, BlindedPath, Entered, PathEnd, PathRelay, PathTerms};
pub use payload::{BlindedLast, BlindedPayload, FinalPayload, ForwardPayload, HopPayload, Payload, PaymentData};
