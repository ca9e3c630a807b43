//! What comes of HTLCs and transfers: payments end, invoices are paid, streams go on.

use super::Node;
use super::api::event::EventKind;
use super::forward::Errand;
use super::state::change::Change;
use super::state::row::{RowKey, encode};
use crate::channel::{self, Command, OutgoingFailure, Phase};
use crate::commitment::{HtlcOffer, SessionMark, Side, Stage, Transfer};
use crate::onion::{self, Answer, Failure, HoldTime, Incoming, Opened, ReturnPath};
use crate::payment::forward::{Cause, HtlcPlace};
use crate::payment::receive::{Arrival, InvoiceStatus, MAX_PARTS, PartSet, Verdict};
use crate::units::{ChannelId, HtlcId, Msat, NodeId, PaymentHash, Preimage};
use crate::wire::AttributionData;

impl Node {
    /// The channel effects that are about money.
    pub(super) fn settle(&mut self, id: ChannelId, peer: NodeId, effect: channel::Effect) {
        use channel::Effect as E;
        match effect {
            E::IncomingHtlc { offer, must_fail } => self.incoming_htlc(id, &offer, must_fail),
            E::OutgoingFulfilled { id: htlc, preimage, attribution_data } => {
                self.outgoing_fulfilled(id, htlc, preimage, attribution_data.as_ref());
            }
            E::OutgoingFailed { id: htlc, failure, .. } => self.outgoing_failed(id, htlc, failure),
            E::SessionOpened { session, receipt_wanted } if receipt_wanted => self.send_receipt(id, peer, session),
            E::WindowGranted { session, .. } => self.stream_moved(session),
            E::SessionClosed { payer: Side::Local, session, reason } => self.stream_closed(session, reason),
            E::SessionClosed { payer: Side::Remote, session, .. } => {
                self.send_receipt(id, peer, session);
                self.incoming_stream_closed(id, session);
            }
            E::TransferInFlight { payer: Side::Remote, transfer, mark, solicited } => {
                self.transfer_in_flight(id, &transfer, mark, solicited);
            }
            E::TransferPaid { payer: Side::Remote, transfer, mark, solicited, enforceable } => {
                self.transfer_received(id, &transfer, mark, solicited, enforceable);
            }
            E::TransferPaid { payer: Side::Local, transfer, mark, enforceable, .. } => {
                self.change(Change::Moved { channel: id, sent: transfer.amount, received: Msat::ZERO });
                self.stream_committed(transfer.session, mark, enforceable);
            }
            E::TransferReturned { transfer } => self.stream_moved(transfer.session),
            E::ReceiptReceived(receipt) => self.receipt_received(id, peer, &receipt),
            // Settled HTLCs were counted when their preimage was shown.
            _ => {}
        }
    }

    fn incoming_htlc(&mut self, id: ChannelId, offer: &HtlcOffer, must_fail: bool) {
        let funded = self.state.channels.get(&id).and_then(|entry| entry.channel.funded());
        // On a channel that is over the chain decides: a payment that was not accepted before goes back to its payer.
        let may_answer = funded.is_some_and(|funded| funded.phase == Phase::Open) && !self.live.held.contains(&id);
        let Some(opened) = may_answer.then(|| self.open_onion(offer)).flatten() else { return };
        let arrival = self.arrival(id, offer);
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
            Opened::Final(receiving) => {
                let invoice = self.state.invoices.get(&offer.payment_hash);
                match arrival.judge(&receiving.payload, invoice) {
                    Verdict::Failed(failure) => self.fail_htlc(id, offer.id, &failure, &receiving.return_path),
                    Verdict::Accepted { total, preimage, keysend } => {
                        self.accept_part(arrival, total, preimage, keysend, &receiving.return_path);
                    }
                }
            }
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
            Verdict::Accepted { preimage, .. } => Some(preimage),
            Verdict::Failed(_) => None,
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

    /// A part of a payment is good; all parts together are claimed in one turn.
    fn accept_part(&mut self, part: Arrival, total: Msat, preimage: Preimage, keysend: bool, path: &ReturnPath) {
        let hash = part.payment_hash;
        let now = self.moment.now;
        let set = self.live.parts.entry(hash).or_insert_with(|| PartSet::new(total, now));
        if set.total != total || set.parts.len() >= MAX_PARTS {
            return self.fail_htlc(part.channel, part.htlc_id, &part.unknown_failure(), path);
        }
        // After a restart or a reconnect a part may be told again.
        if !set.parts.iter().any(|known| (known.channel, known.htlc_id) == (part.channel, part.htlc_id)) {
            set.parts.push(part);
        }
        let received = set.received();
        if received < total {
            return;
        }
        let Some(set) = self.live.parts.remove(&hash) else { return };
        if !keysend {
            self.settle_invoice(hash, received, part.channel);
        } else {
            self.event(EventKind::KeysendReceived { payment_hash: hash, amount: received, channel: part.channel });
        }
        for part in set.parts {
            self.change(Change::Moved { channel: part.channel, sent: Msat::ZERO, received: part.amount });
            let command = Command::FulfillHtlc { id: part.htlc_id, preimage, attribution_data: None };
            if self.drive(part.channel, channel::Input::Command(command)).is_err() {
                // The other parts came on channels that live; this one is taken on the chain.
                self.preimage_learned(part.channel, preimage);
            }
        }
    }

    fn settle_invoice(&mut self, hash: PaymentHash, received: Msat, channel: ChannelId) {
        let at = self.moment.now;
        self.end_invoice(hash, InvoiceStatus::Settled { received, channel, at });
        self.event(EventKind::InvoiceSettled { payment_hash: hash, amount: received, channel });
    }

    /// An invoice gets its final state and moves to the archive.
    pub(super) fn end_invoice(&mut self, hash: PaymentHash, status: InvoiceStatus) {
        let Some(mut invoice) = self.state.invoices.get(&hash).cloned() else { return };
        invoice.status = status;
        self.change(Change::InvoiceEnded { payment_hash: hash });
        let index = invoice.index;
        self.draft.rows.push((RowKey::EndedInvoice(index).bytes(), Some(encode(&invoice))));
        self.draft.rows.push((RowKey::EndedInvoiceIndex(hash).bytes(), Some(encode(&index))));
    }

    /// Parts that waited too long go back (BOLT 4, `mpp_timeout`).
    pub(super) fn fail_late_parts(&mut self) {
        let now = self.moment.now;
        let late: Vec<_> = self.live.parts.iter().filter(|(_, set)| set.is_late(now)).map(|(hash, _)| *hash).collect();
        for hash in late {
            let Some(set) = self.live.parts.remove(&hash) else { continue };
            for part in set.parts {
                let offer = self.incoming_offer(part.channel, part.htlc_id);
                if let Some(Opened::Final(receiving)) = offer.and_then(|offer| self.open_onion(&offer)) {
                    self.fail_htlc(part.channel, part.htlc_id, &Failure::MppTimeout, &receiving.return_path);
                }
            }
        }
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

    fn incoming_offer(&self, channel: ChannelId, htlc: HtlcId) -> Option<HtlcOffer> {
        let commitments = self.state.channels.get(&channel)?.channel.commitments()?;
        Some(commitments.incoming.get(&htlc)?.offer.clone())
    }

    pub(super) fn outgoing_fulfilled(
        &mut self,
        channel: ChannelId,
        id: HtlcId,
        preimage: Preimage,
        attribution_data: Option<&AttributionData>,
    ) {
        if let Some(Cause::Forward(incoming)) = self.state.cause_of(channel, id) {
            return self.forward_fulfilled(incoming, preimage, attribution_data);
        }
        if let Some(payment) = self.state.payment_of(channel, id).cloned() {
            self.part_fulfilled(&payment, HtlcPlace { channel, id }, preimage, attribution_data);
        }
    }

    fn outgoing_failed(&mut self, channel: ChannelId, id: HtlcId, failure: OutgoingFailure) {
        if let Some(Cause::Forward(incoming)) = self.state.cause_of(channel, id) {
            return self.forward_failed(incoming, failure);
        }
        if let Some(payment) = self.state.payment_of(channel, id).cloned() {
            self.part_failed(&payment, HtlcPlace { channel, id }, &failure);
        }
    }

    fn transfer_in_flight(&mut self, channel: ChannelId, transfer: &Transfer, mark: SessionMark, solicited: bool) {
        if solicited {
            let (session, last_sequence, total) = (transfer.session, mark.next_sequence, mark.total);
            self.event(EventKind::StreamInFlight { channel, session, last_sequence, total });
        }
    }

    fn transfer_received(
        &mut self,
        channel: ChannelId,
        transfer: &Transfer,
        mark: SessionMark,
        solicited: bool,
        enforceable: Msat,
    ) {
        self.change(Change::Moved { channel, sent: Msat::ZERO, received: transfer.amount });
        if !solicited {
            return self.event(EventKind::StreamUnsolicited { channel, amount: transfer.amount });
        }
        self.event(EventKind::StreamPaid {
            channel,
            session: transfer.session,
            last_sequence: mark.next_sequence,
            total: mark.total,
            enforceable,
            tags: tags_of(transfer),
        });
    }
}

/// The tags of a transfer's payments, by their sequence counted from 1. Runs of equal tags are told once, by their first.
fn tags_of(transfer: &Transfer) -> Vec<(u64, [u8; 32])> {
    let mut sequence = transfer.first_sequence + 1;
    let mut tags = Vec::new();
    for run in transfer.payments.iter().flat_map(|payments| payments.runs()) {
        if let Some(tag) = run.tag {
            tags.push((sequence, tag));
        }
        sequence = sequence.saturating_add(run.count);
    }
    tags
}
