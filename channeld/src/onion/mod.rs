//! Onions (BOLT 4): built for a route, peeled by a hop, and the failures that travel back inside them.
//!
//! Knows how bytes are wrapped and what a hop's payload says; decides nothing about a payment. The curve work of a hop (one
//! ECDH, in the hands of the `Signer`) comes in as a [`SharedSecret`], so that a driver can do it in parallel; randomness
//! comes in as the session key. Replays are not this room's business: the node decides, when an HTLC is irrevocable.
//! Blinding fields are parsed and not followed yet; nor is attribution data made.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod cipher;
mod error;
pub mod failure;
pub mod packet;
pub mod payload;

pub use cipher::SharedSecret;
pub use error::{BadOnion, BuildError, InvalidPayload};
pub use failure::{Attributed, Failure};
pub use packet::{Hop, OnionPacket, Peeled, build, peel};
pub use payload::{FinalPayload, ForwardPayload, HopPayload, Payload, PaymentData};
