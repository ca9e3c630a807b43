//! How the core's types are written as messages of the contract.

mod channel;
mod close;
mod event;
mod node;
mod payment;

pub use channel::{channel, peer, policy};
pub use close::{audit, bumped, close_plan};
pub use event::event;
pub use node::{balances, node, unspent_output, wallet_transaction};
pub use payment::{
    failure_reason, hop, invoice, payment, payment_request, payment_summary, progress, stream_closed, window,
};

use bitcoin::OutPoint;
use proto::v1::Outpoint;

use crate::units::UnixTime;

/// A point in time.
pub fn timestamp(at: UnixTime) -> prost_types::Timestamp {
    let micros = at.micros();
    prost_types::Timestamp { seconds: (micros / 1_000_000) as i64, nanos: (micros % 1_000_000) as i32 * 1_000 }
}

/// A span of time.
pub fn duration(micros: u64) -> prost_types::Duration {
    prost_types::Duration { seconds: (micros / 1_000_000) as i64, nanos: (micros % 1_000_000) as i32 * 1_000 }
}

/// An output of a transaction.
pub fn outpoint(outpoint: OutPoint) -> Outpoint {
    Outpoint { txid: outpoint.txid.to_string(), output_index: outpoint.vout }
}
