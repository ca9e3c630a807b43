//! What comes of HTLCs and transfers: payments end, invoices are paid, streams go on.

use super::Node;
use super::api::event::EventKind;
use super::state::change::Change;
use crate::channel::{self, OutgoingFailure};
use crate::commitment::{SessionMark, Side, Transfer};
use crate::payment::forward::{Cause, HtlcPlace};
use crate::units::{ChannelId, HtlcId, Msat, NodeId, Preimage};
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
