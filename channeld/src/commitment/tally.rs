//! The running sums of one commitment: balances, feerate, and what its HTLCs come to. Kept up with every update, so that
//! no check walks over HTLCs.

use bitcoin::Amount;
use serde::{Deserialize, Serialize};

use super::htlc::Htlc;
use super::stage::Side;
use crate::units::{FeeratePerKw, Msat};

/// HTLCs of one direction on one commitment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slots {
    /// How many.
    pub count: u16,
    /// What they come to.
    pub value: Msat,
}

/// What one commitment holds, fees not yet taken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Our balance.
    pub local: Msat,
    /// The peer's balance.
    pub remote: Msat,
    /// The feerate of the commitment and of its HTLC transactions.
    pub feerate: FeeratePerKw,
    /// HTLCs we offered.
    pub outgoing: Slots,
    /// HTLCs we were offered.
    pub incoming: Slots,
    /// HTLCs of both directions that have an output.
    pub untrimmed: u16,
}

/// Why sums never run below zero or over: what enters was checked when it was proposed.
const CHECKED: &str = "every update is checked against the balances when it is proposed";

impl Tally {
    /// The first commitment of a channel.
    pub const fn new(local: Msat, remote: Msat, feerate: FeeratePerKw) -> Tally {
        let none = Slots { count: 0, value: Msat::ZERO };
        Tally { local, remote, feerate, outgoing: none, incoming: none, untrimmed: 0 }
    }

    /// The balance of one side.
    pub const fn balance(&self, side: Side) -> Msat {
        match side {
            Side::Local => self.local,
            Side::Remote => self.remote,
        }
    }

    /// The HTLCs that one side offered.
    pub const fn offered(&self, side: Side) -> Slots {
        match side {
            Side::Local => self.outgoing,
            Side::Remote => self.incoming,
        }
    }

    /// Whether all of `capacity` is accounted for.
    pub fn holds(&self, capacity: Amount) -> bool {
        let sum = Msat::checked_sum([self.local, self.remote, self.outgoing.value, self.incoming.value]);
        sum.is_some() && sum == Msat::from_amount(capacity)
    }

    pub(super) fn add(&mut self, adder: Side, htlc: &Htlc, trimmed: bool) {
        let amount = htlc.offer.amount;
        self.debit(adder, amount);
        let slots = self.slots(adder);
        slots.count += 1;
        slots.value = slots.value.checked_add(amount).expect(CHECKED);
        self.untrimmed += u16::from(!trimmed);
    }

    pub(super) fn remove(&mut self, adder: Side, htlc: &Htlc, fulfilled: bool, trimmed: bool) {
        let amount = htlc.offer.amount;
        let slots = self.slots(adder);
        slots.count -= 1;
        slots.value = slots.value.checked_sub(amount).expect(CHECKED);
        self.untrimmed -= u16::from(!trimmed);
        self.credit(if fulfilled { adder.other() } else { adder }, amount);
    }

    pub(super) fn transfer(&mut self, payer: Side, amount: Msat) {
        self.debit(payer, amount);
        self.credit(payer.other(), amount);
    }

    fn debit(&mut self, side: Side, amount: Msat) {
        let balance = self.side(side);
        *balance = balance.checked_sub(amount).expect(CHECKED);
    }

    fn credit(&mut self, side: Side, amount: Msat) {
        let balance = self.side(side);
        *balance = balance.checked_add(amount).expect(CHECKED);
    }

    fn side(&mut self, side: Side) -> &mut Msat {
        match side {
            Side::Local => &mut self.local,
            Side::Remote => &mut self.remote,
        }
    }

    fn slots(&mut self, adder: Side) -> &mut Slots {
        match adder {
            Side::Local => &mut self.outgoing,
            Side::Remote => &mut self.incoming,
        }
    }
}

/// The five commitments' sums over one funding output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tallies {
    /// See [`super::View::LocalCurrent`].
    pub local_current: Tally,
    /// See [`super::View::LocalNext`].
    pub local_next: Tally,
    /// See [`super::View::RemoteCurrent`].
    pub remote_current: Tally,
    /// See [`super::View::RemoteSigned`].
    pub remote_signed: Tally,
    /// See [`super::View::RemoteNext`].
    pub remote_next: Tally,
}

impl Tallies {
    /// All five as one.
    pub const fn new(first: Tally) -> Tallies {
        Tallies {
            local_current: first,
            local_next: first,
            remote_current: first,
            remote_signed: first,
            remote_next: first,
        }
    }

    /// All five, in the order of the views.
    pub const fn all(&self) -> [&Tally; 5] {
        [&self.local_current, &self.local_next, &self.remote_current, &self.remote_signed, &self.remote_next]
    }
}

/// Sums over all HTLCs in flight, whatever commitment holds them: the worst that either side's commitment can come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exposure {
    /// HTLCs without an output on our commitments.
    pub local_dust: Msat,
    /// HTLCs without an output on the peer's commitments.
    pub remote_dust: Msat,
    /// HTLCs with an output on our commitments.
    pub local_untrimmed: u16,
    /// HTLCs with an output on the peer's commitments.
    pub remote_untrimmed: u16,
}

impl Exposure {
    pub(super) fn add(&mut self, amount: Msat, trimmed_local: bool, trimmed_remote: bool) {
        let sum = |dust: Msat| Msat::new(dust.msat().saturating_add(amount.msat()));
        match trimmed_local {
            true => self.local_dust = sum(self.local_dust),
            false => self.local_untrimmed += 1,
        }
        match trimmed_remote {
            true => self.remote_dust = sum(self.remote_dust),
            false => self.remote_untrimmed += 1,
        }
    }

    /// The larger count of outputs.
    pub fn most_untrimmed(&self) -> u16 {
        self.local_untrimmed.max(self.remote_untrimmed)
    }
}
