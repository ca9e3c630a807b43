//! Incoming HTLCs that are irrevocable: opened, judged, and sent on, collected, held, claimed or failed.

use super::Node;
use super::api::event::EventKind;
use super::forward::Errand;
use super::state::change::Change;
use super::state::row::{RowKey, encode};
use crate::channel::{self, Command, Phase};
use crate::commitment::{HtlcOffer, Stage};
use crate::onion::{self, Answer, Failure, HoldTime, Incoming, Opened, Receiving, ReturnPath};
use crate::payment::forward::HtlcPlace;
use crate::payment::hold;
use crate::payment::receive::{Arrival, Claim, Invoice, InvoiceStatus, Part, PartSet, Verdict};
use crate::units::{ChannelId, HtlcId, Msat, PaymentHash, Preimage};
use crate::wire::Feature;

impl Node {
    pub(super) fn incoming_htlc(&mut self, id: ChannelId, offer: &HtlcOffer, must_fail: bool) {
        let funded = self.state.channels.get(&id).and_then(|entry| entry.channel.funded());
        // On a channel that is over the chain decides: a payment that was not accepted before goes back to its payer.
        let may_answer = funded.is_some_and(|funded| funded.phase == Phase::Open) && !self.live.held.contains(&id);
        let Some(opened) = may_answer.then(|| self.open_onion(offer)).flatten() else { return };
        match opened {
            Opened::Malformed { sha256_of_onion, failure_code } => {
                self.answer_htlc(id, offer.id, Answer::Malformed { sha256_of_onion, failure_code });
            }
            Opened::Failed(failure, return_path) => self.fail_htlc(id, offer.id, &failure, &return_path),
            Opened::Forward(forwarding) if must_fail => {
                self.fail_htlc(id, offer.id, &Failure::TemporaryNodeFailure, &forwarding.return_path);
            }
            Opened::Forward(forwarding) => {
                let incoming = HtlcPlace { channel: id, id: offer.id };
                self.forward_htlc(&Errand { incoming, offer, forwarding: &forwarding });
            }
            Opened::Final(receiving) if must_fail => {
                self.fail_htlc(id, offer.id, &Failure::TemporaryNodeFailure, &receiving.return_path);
            }
            Opened::Final(receiving) => self.receive_part(id, offer, *receiving),
        }
    }

    fn arrival(&self, channel: ChannelId, offer: &HtlcOffer) -> Arrival {
        Arrival {
            channel,
            htlc_id: offer.id,
            amount: offer.amount,
            payment_hash: offer.payment_hash,
            cltv_expiry: offer.cltv_expiry,
            height: self.state.height(),
            now: self.moment.now,
        }
    }

    /// The preimage with which an incoming HTLC can be taken, where it is a good payment to us.
    pub(super) fn preimage_for(&self, channel: ChannelId, offer: &HtlcOffer) -> Option<Preimage> {
        let Opened::Final(receiving) = self.open_onion(offer)? else { return None };
        let invoice = self.state.invoices.get(&offer.payment_hash);
        match self.arrival(channel, offer).judge(&receiving.payload, invoice) {
            Verdict::Accepted { claim: Claim::Invoice(preimage) | Claim::Keysend(preimage), .. } => Some(preimage),
            _ => None,
        }
    }

    /// `None` where nobody needs the onion any more.
    fn open_onion(&self, offer: &HtlcOffer) -> Option<Opened> {
        let incoming = Incoming {
            onion: offer.onion.as_ref()?,
            payment_hash: &offer.payment_hash,
            amount: offer.amount,
            cltv_expiry: offer.cltv_expiry,
            path_key: offer.path_key.as_ref(),
        };
        Some(onion::open(&incoming, |point| self.signer.ecdh_node(point)))
    }

    pub(super) fn fail_htlc(&mut self, channel: ChannelId, id: HtlcId, failure: &Failure, return_path: &ReturnPath) {
        self.answer_htlc(channel, id, return_path.fail(failure, HoldTime::UNKNOWN));
    }

    /// Whether the channel took the answer: one that is over has no use for it.
    pub(super) fn answer_htlc(&mut self, channel: ChannelId, id: HtlcId, answer: Answer) -> bool {
        let command = match answer {
            Answer::Fail { reason, attribution_data } => Command::FailHtlc { id, reason, attribution_data },
            Answer::Malformed { sha256_of_onion, failure_code } => {
                Command::FailMalformedHtlc { id, sha256_of_onion, failure_code }
            }
        };
        self.drive(channel, channel::Input::Command(command)).is_ok()
    }

    /// A payment to us, or a part of one. All parts together are claimed in one turn, or held, or none is.
    fn receive_part(&mut self, id: ChannelId, offer: &HtlcOffer, receiving: Receiving) {
        let arrival = self.arrival(id, offer);
        if let Some(receipt) = self.receipt_for(&receiving.payload, &arrival) {
            return self.fail_htlc(id, offer.id, &receipt, &receiving.return_path);
        }
        let invoice = self.state.invoices.get(&offer.payment_hash);
        let path = receiving.return_path;
        let (total, claim) = match arrival.judge(&receiving.payload, invoice) {
            Verdict::Accepted { total, claim } => (total, claim),
            Verdict::Failed(failure) => return self.fail_htlc(id, offer.id, &failure, &path),
        };
        let hash = offer.payment_hash;
        let records = receiving.payload.custom_records;
        let fresh = || PartSet::new(total, arrival.now, records);
        let set = self.live.parts.entry(hash).or_insert_with(fresh);
        // After a restart or a reconnect a part may be told again.
        if set.knows(id, offer.id) {
            return;
        }
        if !set.takes(total) {
            return self.fail_htlc(id, offer.id, &arrival.unknown_failure(), &path);
        }
        set.parts.push(Part { arrival, return_path: path });
        if !set.is_whole() {
            return;
        }
        if set.is_overpaid() {
            return self.fail_parts(hash, None);
        }
        match claim {
            Claim::Held => self.hold_parts(hash),
            Claim::Invoice(preimage) => self.claim_parts(hash, preimage, false),
            Claim::Keysend(preimage) => self.claim_parts(hash, preimage, true),
        }
    }

    fn claim_parts(&mut self, hash: PaymentHash, preimage: Preimage, keysend: bool) {
        let Some(set) = self.live.parts.remove(&hash) else { return };
        let Some(last) = set.parts.last().map(|part| part.arrival.channel) else { return };
        let received = set.received();
        if keysend {
            self.keysend_received(hash, received, last, set.custom_records);
        } else {
            self.settle_invoice(hash, received, last, None);
        }
        set.parts.into_iter().for_each(|part| self.claim_part(&part, preimage));
    }

    fn claim_part(&mut self, part: &Part, preimage: Preimage) {
        let arrival = part.arrival;
        self.change(Change::Moved { channel: arrival.channel, sent: Msat::ZERO, received: arrival.amount });
        let held = HoldTime::from_micros(self.moment.now.micros_since(arrival.now));
        let attribution_data = self.attributes(arrival.channel).then(|| part.return_path.fulfil(None, held)).flatten();
        let command = Command::FulfillHtlc { id: arrival.htlc_id, preimage, attribution_data };
        if self.drive(arrival.channel, channel::Input::Command(command)).is_err() {
            // The other parts came on channels that live; this one is taken on the chain.
            self.preimage_learned(arrival.channel, preimage);
        }
    }

    /// Whether the peer of a channel wants to know how long HTLCs were held (BOLT 4, `option_attribution_data`).
    fn attributes(&self, channel: ChannelId) -> bool {
        let peer = self.state.channels.get(&channel).map(|entry| entry.peer);
        let session = peer.and_then(|peer| self.live.sessions.get(&peer));
        session.is_some_and(|session| session.features.has(Feature::AttributionData))
    }

    /// All parts of a payment that its invoice's owner decides about are here.
    fn hold_parts(&mut self, hash: PaymentHash) {
        let Some(set) = self.live.parts.get_mut(&hash) else { return };
        set.held = true;
        let Some(last) = set.parts.last().map(|part| part.arrival.channel) else { return };
        let (amount, deadline) = (set.received(), hold::deadline(set));
        let is_new = self.state.invoices.get(&hash).is_some_and(|invoice| invoice.status == InvoiceStatus::Open);
        if !is_new {
            return;
        }
        let (channel, at) = (last, self.moment.now);
        let status = InvoiceStatus::Accepted { received: amount, channel, at, deadline_height: deadline };
        self.change(Change::InvoiceProgressed { payment_hash: hash, status });
        self.event(EventKind::InvoiceAccepted { payment_hash: hash, amount, channel, deadline_height: deadline });
    }

    /// The owner of a held payment has shown its preimage: everything of it is taken.
    pub(super) fn settle_held(&mut self, invoice: &Invoice, preimage: Preimage) {
        let InvoiceStatus::Accepted { received, channel, .. } = invoice.status else { return };
        let hash = invoice.payment_hash;
        self.settle_invoice(hash, received, channel, Some(preimage));
        let set = self.live.parts.remove(&hash);
        set.into_iter().flat_map(|set| set.parts).for_each(|part| self.claim_part(&part, preimage));
        // Parts whose channel went to the chain meanwhile are taken there.
        let has_part = |id: &&ChannelId| {
            let commitments = self.state.channels.get(*id).and_then(|entry| entry.channel.commitments());
            commitments.is_some_and(|it| it.incoming.values().any(|htlc| htlc.offer.payment_hash == hash))
        };
        let on_chain: Vec<ChannelId> = self.state.resolvers.keys().filter(has_part).copied().collect();
        on_chain.into_iter().for_each(|id| self.preimage_learned(id, preimage));
    }

    fn settle_invoice(&mut self, hash: PaymentHash, received: Msat, channel: ChannelId, shown: Option<Preimage>) {
        let at = self.moment.now;
        self.end_invoice_with(hash, InvoiceStatus::Settled { received, channel, at }, shown);
        self.event(EventKind::InvoiceSettled { payment_hash: hash, amount: received, channel });
    }

    /// An invoice gets its final state and moves to the archive.
    pub(super) fn end_invoice(&mut self, hash: PaymentHash, status: InvoiceStatus) {
        self.end_invoice_with(hash, status, None);
    }

    fn end_invoice_with(&mut self, hash: PaymentHash, status: InvoiceStatus, shown: Option<Preimage>) {
        let Some(mut invoice) = self.state.invoices.get(&hash).cloned() else { return };
        invoice.status = status;
        invoice.preimage = invoice.preimage.or(shown);
        self.change(Change::InvoiceEnded { payment_hash: hash });
        let index = invoice.index;
        self.draft.rows.push((RowKey::EndedInvoice(index).bytes(), Some(encode(&invoice))));
        self.draft.rows.push((RowKey::EndedInvoiceIndex(hash).bytes(), Some(encode(&index))));
    }

    /// No part of this payment is taken: all go back, with the failure that says nothing where none is given.
    pub(super) fn fail_parts(&mut self, hash: PaymentHash, failure: Option<&Failure>) {
        let Some(set) = self.live.parts.remove(&hash) else { return };
        for part in set.parts {
            let unknown = part.arrival.unknown_failure();
            let held = HoldTime::from_micros(self.moment.now.micros_since(part.arrival.now));
            let answer = part.return_path.fail(failure.unwrap_or(&unknown), held);
            self.answer_htlc(part.arrival.channel, part.arrival.htlc_id, answer);
        }
    }

    /// Parts that waited too long go back (BOLT 4, `mpp_timeout`).
    pub(super) fn fail_late_parts(&mut self) {
        let now = self.moment.now;
        let late: Vec<_> = self.live.parts.iter().filter(|(_, set)| set.is_late(now)).map(|(hash, _)| *hash).collect();
        late.into_iter().for_each(|hash| self.fail_parts(hash, Some(&Failure::MppTimeout)));
    }

    /// A block came: what waits goes back before anybody has to close a channel for it, and a held payment is cancelled.
    pub(super) fn part_deadlines(&mut self) {
        let height = self.state.height();
        let due = self.live.parts.iter().filter(|(_, set)| hold::is_due(set, height));
        let due: Vec<(PaymentHash, bool)> = due.map(|(hash, set)| (*hash, set.held)).collect();
        for (hash, held) in due {
            self.fail_parts(hash, None);
            if held {
                self.cancel_held(hash, "its HTLCs are near their deadline");
            }
        }
    }

    /// The owner of a held payment did not decide in time.
    pub(super) fn cancel_held(&mut self, payment_hash: PaymentHash, why: &str) {
        self.end_invoice(payment_hash, InvoiceStatus::Cancelled { at: self.moment.now });
        self.event(EventKind::InvoiceCancelled { payment_hash });
        self.warn(None, format!("the held payment {payment_hash} was cancelled: {why}"));
    }

    /// After a restart: HTLCs that are irrevocable and have no answer are judged again.
    pub(super) fn judge_again(&mut self, id: ChannelId) {
        let Some(commitments) = self.state.channels.get(&id).and_then(|entry| entry.channel.commitments()) else {
            return;
        };
        let unanswered =
            commitments.incoming.values().filter(|htlc| htlc.stage == Stage::Irrevocable && htlc.removal.is_none());
        let offers: Vec<_> = unanswered.map(|htlc| (htlc.offer.clone(), htlc.over_exposed)).collect();
        for (offer, must_fail) in offers {
            self.incoming_htlc(id, &offer, must_fail);
        }
    }
}
