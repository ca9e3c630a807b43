//! Payments that wait: how long an HTLC towards us may be kept without an answer.
//!
//! A preimage that is shown too late must be taken to the chain, and an HTLC that is never answered closes the channel
//! (PAINS 1, 8): so what is held goes back a margin before, by itself.

use super::receive::PartSet;
use crate::units::BlockHeight;

/// Blocks before the first HTLC's expiry at which a held payment goes back: from 18 on a claim would close the channel.
pub const HOLD_MARGIN: u32 = 24;
/// Blocks before the first HTLC's expiry at which what waits for its other parts goes back (BOLT 2: what cannot be claimed
/// in time must not be).
pub const CLAIM_MARGIN: u32 = 18;
/// What an invoice whose payment is held asks for, in blocks: about a day to decide (BOLT 11 `c`).
pub const HOLD_CLTV_EXPIRY_DELTA: u16 = 144;
/// The least it may ask for: else there is nothing to decide in.
pub const MIN_HOLD_CLTV_EXPIRY_DELTA: u16 = 36;

/// The height at which the payment goes back.
pub fn deadline(set: &PartSet) -> BlockHeight {
    let first = set.parts.iter().map(|part| part.arrival.cltv_expiry.height()).min();
    let margin = if set.held { HOLD_MARGIN } else { CLAIM_MARGIN };
    BlockHeight::new(first.unwrap_or(0).saturating_sub(margin))
}

/// Whether its time is over.
pub fn is_due(set: &PartSet, height: BlockHeight) -> bool {
    !set.parts.is_empty() && height >= deadline(set)
}
