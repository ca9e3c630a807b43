//! What the two sides agreed on when they opened the channel, and what follows from it for every commitment.

use bitcoin::Amount;
use serde::{Deserialize, Serialize};

use super::stage::Side;
use crate::transactions::{CommitmentFormat, HtlcDirection};
use crate::units::{CltvDelta, FeeratePerKw, Msat};

/// What one side announced in `open_channel` or `accept_channel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Its own commitments have no output below.
    pub dust_limit: Amount,
    /// The most it lets the other side have in flight.
    pub max_htlc_value_in_flight: Msat,
    /// What it demands that the other side keeps.
    pub channel_reserve: Amount,
    /// The least HTLC it takes.
    pub htlc_minimum: Msat,
    /// How long it makes the other side wait for its own outputs.
    pub to_self_delay: CltvDelta,
    /// The most HTLCs it takes at once.
    pub max_accepted_htlcs: u16,
}

/// What does not change as long as the channel lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameters {
    /// What commitments look like.
    pub format: CommitmentFormat,
    /// Who opened, and pays the fees.
    pub opener: Side,
    /// What we announced.
    pub local: Limits,
    /// What the peer announced.
    pub remote: Limits,
}

impl Parameters {
    /// What `side` announced.
    pub const fn limits(&self, side: Side) -> &Limits {
        match side {
            Side::Local => &self.local,
            Side::Remote => &self.remote,
        }
    }

    /// What `side` must keep: the other side says.
    pub fn reserve_of(&self, side: Side) -> Msat {
        msat(self.limits(side.other()).channel_reserve)
    }

    /// Whether an HTLC has no output on the commitment of `owner` at `feerate` (BOLT 3, "Trimmed Outputs").
    pub fn trims(&self, owner: Side, adder: Side, amount: Msat, feerate: FeeratePerKw) -> bool {
        self.format.is_trimmed(direction(owner, adder), amount, feerate, self.limits(owner).dust_limit)
    }

    /// What the opener pays for a commitment with so many outputs for HTLCs: fee and anchors.
    pub fn opener_cost(&self, feerate: FeeratePerKw, untrimmed: u16) -> Msat {
        msat(self.format.opener_cost(feerate, usize::from(untrimmed)))
    }
}

/// How the commitments of `owner` see an HTLC that `adder` offered.
pub fn direction(owner: Side, adder: Side) -> HtlcDirection {
    if owner == adder { HtlcDirection::Offered } else { HtlcDirection::Received }
}

/// An amount of a channel in millisatoshi.
pub fn msat(amount: Amount) -> Msat {
    // Amounts of a channel are at most 21e14 sat: wire and policy see to it. Fees saturate far below.
    Msat::from_amount(amount).unwrap_or(Msat::new(u64::MAX))
}
