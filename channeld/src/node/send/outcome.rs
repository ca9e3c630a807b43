//! What becomes of parts, and of the payments they belong to: one final outcome each, told once.

use super::failure::{self, Meaning, Reading};
use crate::channel::OutgoingFailure;
use crate::graph::{DirectedChannel, DirectedPolicy, Direction, RouteHop};
use crate::node::Node;
use crate::node::api::event::EventKind;
use crate::node::api::reply::Reply;
use crate::node::input::Effect;
use crate::node::state::change::Change;
use crate::node::state::row::{RowKey, encode};
use crate::onion;
use crate::payment::forward::HtlcPlace;
use crate::payment::invoice::HintHop;
use crate::payment::send::{Attempt, AttemptStatus, FailureReason, Payment, PaymentChange, PaymentKind, PaymentStatus};
use crate::router::{Lesson, ToldPolicy};
use crate::units::{Msat, NodeId, PaymentHash, Preimage};
use crate::wire::{AttributionData, ChannelUpdate};

/// Every blinded path failed: more than this nobody says.
const NO_PATH: FailureReason = FailureReason::Remote { code: failure::INVALID_ONION_BLINDING };

/// What the first of two hops says that the channel between them wants.
fn told_policy(pair: &[RouteHop], update: &ChannelUpdate) -> ToldPolicy {
    let direction = Direction::between(&pair[0].node_id, &pair[1].node_id);
    ToldPolicy {
        channel: DirectedChannel { short_channel_id: update.short_channel_id, direction },
        policy: DirectedPolicy {
            fee_base_msat: update.fee_base_msat,
            fee_proportional_millionths: update.fee_proportional_millionths,
            cltv_expiry_delta: update.cltv_expiry_delta.blocks(),
            htlc_minimum: update.htlc_minimum_msat,
            htlc_maximum: update.htlc_maximum_msat,
            disabled: update.is_disabled(),
            timestamp: update.timestamp,
        },
    }
}

impl Node {
    /// The payee took a part: the payment has succeeded, whatever becomes of the others.
    pub(in crate::node) fn part_fulfilled(
        &mut self,
        payment: &Payment,
        place: HtlcPlace,
        preimage: Preimage,
        attribution_data: Option<&AttributionData>,
    ) {
        let Some(attempt) = payment.pending_attempt(place) else { return };
        let hold_times = attribution_data.map(|data| onion::read_fulfil(&attempt.secrets, data)).unwrap_or_default();
        let source = NodeId(self.signer.node_id());
        self.change(Change::Moved { channel: place.channel, sent: attempt.route.sent(), received: Msat::ZERO });
        self.learned(failure::paid(&attempt.route, source));
        let payment_hash = payment.payment_hash;
        self.live.searches.remove(&payment_hash);
        let is_first = !payment.status.is_final();
        let status = PaymentStatus::Succeeded { preimage, at: self.moment.now };
        if payment.pending().count() == 1 {
            let mut whole = payment.clone();
            whole.end_attempt(place, AttemptStatus::Fulfilled, hold_times);
            if is_first {
                whole.status = status;
            }
            return self.archive_payment(whole, is_first);
        }
        let ended = PaymentChange::AttemptEnded { place, status: AttemptStatus::Fulfilled, hold_times };
        self.change(Change::Payment { payment_hash, change: ended });
        if is_first {
            let change = PaymentChange::Succeeded { preimage, at: self.moment.now };
            self.change(Change::Payment { payment_hash, change });
            if let Some(payment) = self.state.payments.get(&payment_hash).cloned() {
                self.announce(&payment);
            }
        }
    }

    /// A part failed, off the chain: its HTLC is irrevocably gone.
    pub(in crate::node) fn part_failed(&mut self, payment: &Payment, place: HtlcPlace, failure: &OutgoingFailure) {
        let Some(attempt) = payment.pending_attempt(place) else { return };
        self.part_ended(payment, attempt, failure::read(attempt, failure));
    }

    /// A part timed out on the chain, buried.
    pub(in crate::node) fn part_timed_out(&mut self, payment: &Payment, place: HtlcPlace) {
        let Some(attempt) = payment.pending_attempt(place) else { return };
        self.part_ended(payment, attempt, failure::timed_out());
    }

    fn part_ended(&mut self, payment: &Payment, attempt: &Attempt, reading: Reading) {
        let (payment_hash, at) = (payment.payment_hash, self.moment.now);
        let source = NodeId(self.signer.node_id());
        self.learned(failure::lessons(&attempt.route, source, reading.failure));
        if let Some(update) = reading.update {
            self.policy_told(payment, attempt, *update);
        }
        if let PaymentKind::ReceiptRequest { session } = payment.kind {
            self.receipt_answered(session, reading.said.as_ref());
        }
        let status = AttemptStatus::Failed { at, failure: reading.failure };
        let change = PaymentChange::AttemptEnded { place: attempt.place(), status, hold_times: reading.hold_times };
        self.change(Change::Payment { payment_hash, change });
        let Some(payment) = self.state.payments.get(&payment_hash) else { return };
        let is_under_way = payment.is_under_way();
        if payment.status.is_final() {
            if !is_under_way {
                self.archive_payment(payment.clone(), false);
            }
            return;
        }
        let meaning = if self.has_path_left(payment) { reading.meaning } else { Meaning::Refused(NO_PATH) };
        match meaning {
            Meaning::Refused(reason) if !is_under_way => return self.fail_payment(payment_hash, reason),
            Meaning::Refused(reason) if payment.given_up.is_none() => {
                self.live.searches.remove(&payment_hash);
                let change = PaymentChange::GivenUp { reason };
                return self.change(Change::Payment { payment_hash, change });
            }
            Meaning::Refused(_) => {}
            Meaning::Retry => {
                let search = self.live.searches.entry(payment_hash).or_default();
                search.is_parked = false;
            }
        }
        self.advance_payment(payment_hash);
    }

    /// Whether one of the payment's blinded paths has not failed yet; true of payments without.
    fn has_path_left(&self, payment: &Payment) -> bool {
        let paths = payment.blinded_paths();
        if paths.is_empty() {
            return true;
        }
        let excluded = failure::exclusions(payment, NodeId(self.signer.node_id()), self.live.started);
        (0..paths.len()).any(|at| !failure::is_path_excluded(&excluded, at))
    }

    /// A hop told what its channel wants: the graph's owner hears, and the next search at once; where a hint named the channel,
    /// the hint follows.
    fn policy_told(&mut self, payment: &Payment, attempt: &Attempt, update: ChannelUpdate) {
        let mut pairs = attempt.route.hops.windows(2);
        let pair = pairs.find(|pair| pair[1].short_channel_id == update.short_channel_id);
        if let Some(pair) = pair {
            let search = self.live.searches.entry(payment.payment_hash).or_default();
            search.told.retain(|told| told.channel.short_channel_id != update.short_channel_id);
            search.told.push(told_policy(pair, &update));
        }
        let is_hinted = payment.terms.hints.iter().flatten().any(|hop| hop.short_channel_id == update.short_channel_id);
        if let (true, Some(pair)) = (is_hinted, pair) {
            let hop = HintHop {
                node_id: pair[0].node_id,
                short_channel_id: update.short_channel_id,
                fee_base_msat: update.fee_base_msat,
                fee_proportional_millionths: update.fee_proportional_millionths,
                cltv_expiry_delta: update.cltv_expiry_delta,
            };
            let change = PaymentChange::HintChanged { short_channel_id: update.short_channel_id, hop };
            self.change(Change::Payment { payment_hash: payment.payment_hash, change });
        }
        self.turns.push(Effect::Gossip(update.into()));
    }

    fn learned(&mut self, lessons: Vec<Lesson>) {
        if !lessons.is_empty() {
            self.turns.push(Effect::Learned(lessons));
        }
    }

    /// Nothing of a payment is under way, and nothing will be.
    pub(super) fn fail_payment(&mut self, hash: PaymentHash, reason: FailureReason) {
        let Some(mut payment) = self.state.payments.get(&hash).cloned() else { return };
        assert!(!payment.is_under_way(), "a payment fails only when no HTLC of it may be taken");
        payment.status = PaymentStatus::Failed { reason, at: self.moment.now };
        self.archive_payment(payment, true);
    }

    /// Nothing of a decided payment is under way any more: it moves to the archive.
    fn archive_payment(&mut self, payment: Payment, is_news: bool) {
        let payment_hash = payment.payment_hash;
        self.live.searches.remove(&payment_hash);
        if !payment.is_listed() {
            self.change(Change::PaymentDropped { payment_hash });
            return self.stream_payment_over(&payment);
        }
        self.change(Change::PaymentEnded { payment_hash, succeeded: payment.status.is_success() });
        let place = self.state.head.ended_payments;
        self.draft.payments.push((place, encode(&payment)));
        self.draft.rows.push((RowKey::EndedPayment(payment_hash).bytes(), Some(encode(&place))));
        if is_news {
            self.announce(&payment);
        }
    }

    /// The one outcome, for the log and for whoever waits.
    fn announce(&mut self, payment: &Payment) {
        let (payment_hash, index, amount, fee) = (payment.payment_hash, payment.index, payment.amount, payment.fee());
        match payment.status {
            PaymentStatus::Failed { reason, .. } => {
                self.event(EventKind::PaymentFailed { payment_hash, index, reason });
            }
            _ => self.event(EventKind::PaymentSucceeded { payment_hash, index, amount, fee }),
        }
        for request in self.live.payment_waiters.remove(&payment_hash).unwrap_or_default() {
            self.answer(request, Ok(Reply::Payment(Box::new(payment.clone()))));
        }
        self.stream_payment_over(payment);
    }
}
