//! Payments of ours on their way: parts go out, fail, are tried again another way, until one outcome is certain.
//!
//! Knows what of a payment is under way, asks for routes and checks what comes back, reads failures and says what they
//! taught. Streams that HTLCs carry are here as well, on both ends. Never searches itself (`router` does, at the rim), and never calls a payment failed while an HTLC of it may
//! still be taken. BOLT 4.

mod batch;
mod blinded;
mod booking;
mod failure;
mod outcome;
mod part;

pub use blinded::path_query;
pub(super) use part::reach;

use std::collections::BTreeSet;

use super::Node;
use super::input::Effect;
use super::state::change::Change;
use crate::graph::Route;
use crate::payment::send::{FailureReason, NextStep, PaymentChange};
use crate::router::{NoRoute, ToldPolicy};
use crate::units::{ChannelId, Msat, PaymentHash};

/// Questions to the router for one payment in the life of a process.
const MAX_SEARCHES: u32 = 256;
/// After a start peers come back one by one, and the graph with them: so long a missing way is not the last word.
const GRACE_MICROS: u64 = 30_000_000;

/// The search for ways of one payment. Not stored: after a start it is begun again.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// The number of the newest question.
    number: u32,
    /// It is not answered yet.
    is_asked: bool,
    /// There was no way for what is left: it is asked again when a part comes back.
    is_parked: bool,
    /// Channels of ours that refused a part, since the last tick: what was in the way may be gone then.
    refused: BTreeSet<ChannelId>,
    /// What hops told of channels; the graph takes it up after a while.
    told: Vec<ToldPolicy>,
}

impl Node {
    /// Goes on with a payment: what of it is not under way is sent, or a way is searched for; or the payment ends.
    pub(super) fn advance_payment(&mut self, hash: PaymentHash) {
        let Some(payment) = self.state.payments.get(&hash) else {
            self.live.searches.remove(&hash);
            return;
        };
        match payment.next_step(self.moment.now) {
            NextStep::Wait => {}
            NextStep::Send(amount) => self.send_rest(hash, amount),
            NextStep::GiveUp(reason) => self.give_up(hash, reason),
            NextStep::Fail(reason) => self.fail_payment(hash, reason),
        }
    }

    fn give_up(&mut self, payment_hash: PaymentHash, reason: FailureReason) {
        self.live.searches.remove(&payment_hash);
        self.change(Change::Payment { payment_hash, change: PaymentChange::GivenUp { reason } });
    }

    /// Over a channel with the payee where one carries all that is left; else a way is asked for.
    fn send_rest(&mut self, hash: PaymentHash, amount: Msat) {
        if self.live.searches.get(&hash).is_some_and(|search| search.is_asked || search.is_parked) {
            return;
        }
        if self.send_to_peer(hash, amount).is_ok() {
            self.live.searches.remove(&hash);
            return;
        }
        self.search(hash, amount);
    }

    /// Asks for a way, where our channels have enough; where they have not, it is looked again when one comes back.
    pub(super) fn search(&mut self, payment_hash: PaymentHash, amount: Msat) {
        let search = self.live.searches.entry(payment_hash).or_default();
        if search.number >= MAX_SEARCHES {
            return self.end_search(payment_hash, FailureReason::AttemptsExhausted);
        }
        let (refused, told) = (search.refused.clone(), search.told.clone());
        let Some(mut query) = self.route_query(payment_hash, amount, &refused) else { return };
        query.told = told;
        let Some(search) = self.live.searches.get_mut(&payment_hash) else { return };
        search.number += 1;
        search.is_asked = true;
        let attempt = search.number;
        self.turns.push(Effect::FindRoute { payment_hash, attempt, query: Box::new(query) });
    }

    /// What the router found. Nothing of it is believed: limits and sums are checked, and our channels say what they carry.
    pub(super) fn route_found(&mut self, hash: PaymentHash, attempt: u32, result: Result<Vec<Route>, NoRoute>) {
        let Some(search) = self.live.searches.get_mut(&hash) else { return };
        if !std::mem::take(&mut search.is_asked) || search.number != attempt {
            // An answer to an older question: the newer one is still asked.
            search.is_asked |= search.number != attempt;
            return;
        }
        let step = self.state.payments.get(&hash).map(|payment| payment.next_step(self.moment.now));
        let Some(NextStep::Send(_)) = step else { return self.advance_payment(hash) };
        let checked = result.map_err(Some).and_then(|routes| match self.check_routes(hash, &routes) {
            Ok(()) => Ok(routes),
            Err(fault) => {
                tracing::error!(payment = %hash, %fault, "the router gave what cannot be used");
                Err(None)
            }
        });
        match checked {
            Ok(routes) => {
                routes.into_iter().for_each(|route| self.send_part(hash, route));
                self.advance_payment(hash);
            }
            // It is asked again with the next tick.
            Err(Some(NoRoute::Busy)) => {}
            Err(reason) => {
                tracing::debug!(payment = %hash, reason = ?reason, "no route");
                self.no_route(hash);
            }
        }
    }

    fn no_route(&mut self, hash: PaymentHash) {
        let is_under_way = self.state.payments.get(&hash).is_some_and(|payment| payment.is_under_way());
        let is_fresh = self.moment.now.micros_since(self.live.started) < GRACE_MICROS;
        let is_older = self.state.payments.get(&hash).is_some_and(|payment| payment.created < self.live.started);
        if is_under_way {
            // The payee gives back what it waits with in vain (BOLT 4, `mpp_timeout`).
            if let Some(search) = self.live.searches.get_mut(&hash) {
                search.is_parked = true;
            }
        } else if !(is_fresh && is_older) {
            self.end_search(hash, FailureReason::NoRoute);
        }
    }

    fn end_search(&mut self, hash: PaymentHash, reason: FailureReason) {
        match self.state.payments.get(&hash).is_some_and(|payment| payment.is_under_way()) {
            true => self.give_up(hash, reason),
            false => self.fail_payment(hash, reason),
        }
    }

    /// Payments that wait for a channel, for time, or in vain: with every tick, and when a channel comes back.
    pub(super) fn advance_waiting(&mut self) {
        let waiting: Vec<PaymentHash> = self.live.searches.keys().copied().collect();
        for hash in waiting {
            let is_late = self.state.payments.get(&hash).is_some_and(|it| self.moment.now >= it.terms.until);
            if let Some(search) = self.live.searches.get_mut(&hash) {
                search.refused.clear();
                if is_late {
                    (search.is_asked, search.is_parked) = (false, false);
                }
            }
            self.advance_payment(hash);
        }
    }

    /// After a start: what was not under way is sent as soon as there is a channel, and while there is time.
    pub(super) fn resume_payments(&mut self) {
        self.live.started = self.moment.now;
        let now = self.moment.now;
        let open = self.state.payments.values().filter(|payment| payment.next_step(now) != NextStep::Wait);
        let hashes: Vec<PaymentHash> = open.map(|payment| payment.payment_hash).collect();
        for hash in hashes {
            self.live.searches.entry(hash).or_default();
        }
    }
}
