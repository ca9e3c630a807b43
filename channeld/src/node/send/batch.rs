//! The payer's side of streams over HTLCs: one batch at a time, journaled with its preimage before it leaves, so that
//! nothing is paid twice whatever happens.

use crate::node::Node;
use crate::node::state::change::Change;
use crate::onion::Failure;
use crate::payment::batch::{BatchRecord, Carrier, receipt_request};
use crate::payment::parcel::Proof;
use crate::payment::send::{Payment, PaymentKind, PaymentStatus, default_max_fee};
use crate::payment::stream::{Mark, OutgoingStream, Receipt, StreamChange, StreamCloseReason};
use crate::units::{ChannelId, Msat, NodeId, PaymentHash, Preimage, SessionId};
use crate::wire::TransferReceipt;

/// What the HTLC that asks for a receipt is worth: nobody can take it.
const QUESTION: Msat = Msat::new(1_000);
/// How long the answer is waited for.
const ANSWER_SECONDS: u64 = 5;
/// Payments of one batch.
const MAX_PAYMENTS: u64 = 16_384;

impl Node {
    /// Sends the batches that are due: before anything is signed, so that they are in this turn's commitments.
    pub(in crate::node) fn send_batches(&mut self) {
        for session in std::mem::take(&mut self.live.to_batch) {
            self.send_batch(session);
        }
    }

    /// With every tick: what waits for a channel, or for time.
    pub(in crate::node) fn wake_batches(&mut self) {
        let waiting = self.state.streams.iter().filter(|(_, stream)| stream.is_batch_wanted());
        let sessions: Vec<SessionId> = waiting.map(|(session, _)| *session).collect();
        self.live.to_batch.extend(sessions);
    }

    fn send_batch(&mut self, session: SessionId) {
        let Some(stream) = self.state.streams.get(&session).filter(|stream| stream.is_batch_wanted()) else { return };
        if !self.is_batch_due(&session) {
            return;
        }
        let wanted = stream.outgoing_channel();
        let is_gone = |id: &ChannelId| {
            let funded = self.state.channels.get(id).and_then(|entry| entry.channel.funded());
            funded.is_none_or(crate::channel::Funded::is_closing)
        };
        if wanted.as_ref().is_some_and(is_gone) {
            return self.end_stream(session, StreamCloseReason::ChannelClosed);
        }
        let hops = self.first_hops(wanted, &std::collections::BTreeSet::new());
        let is_direct = hops.iter().any(|hop| hop.peer == stream.payee);
        let most = hops.iter().map(|hop| hop.spendable).max().unwrap_or(Msat::ZERO);
        let limit = if is_direct { most } else { most.saturating_sub(default_max_fee(most)) };
        let Some(batch) = stream.batch(stream.committed.sequence, limit, MAX_PAYMENTS) else { return };
        if batch.amount < self.least_batch(wanted) && stream.finishing.is_none() {
            return;
        }
        let mark = Mark {
            sequence: batch.last_sequence.saturating_add(1),
            total: Msat::new(stream.committed.total.msat().saturating_add(batch.amount.msat())),
        };
        let payee = stream.payee;
        let preimage = Preimage(self.draw("stream/preimage"));
        let mut payment = self.draft_keysend(payee, batch.amount, preimage);
        payment.kind = PaymentKind::Stream { session };
        payment.terms.channel = wanted;
        payment.terms.proof.custom_records = vec![BatchRecord::of(session, &batch).to_record()];
        let payment_hash = payment.payment_hash;
        // Where it is refused it is tried again with the next tick: a channel may come back.
        match self.start_payment(payment) {
            Ok(_) => {
                self.change(Change::Stream { session, change: StreamChange::BatchSent { payment_hash, mark } });
                if let Some(client) = self.live.stream_clients.get_mut(&session) {
                    client.batch_due = None;
                }
                self.live.to_tell.insert(session);
            }
            Err(refusal) => tracing::debug!(%session, %refusal, "a batch waits"),
        }
    }

    /// Below the dust limit an HTLC cannot be enforced: smaller batches wait for more.
    fn least_batch(&self, wanted: Option<ChannelId>) -> Msat {
        let candidates = self.state.channels.iter().filter(|(id, _)| wanted.is_none_or(|wanted| wanted == **id));
        let dust = candidates.filter_map(|(_, entry)| {
            let parameters = &entry.channel.commitments().filter(|_| entry.channel.is_usable())?.parameters;
            Some(parameters.local.dust_limit.max(parameters.remote.dust_limit))
        });
        let least = dust.min().unwrap_or(self.settings.policy.dust_limit);
        Msat::from_amount(least).unwrap_or(Msat::ZERO)
    }

    /// A payment of a stream is decided.
    pub(super) fn batch_ended(&mut self, payment: &Payment, session: SessionId) {
        let Some(stream) = self.state.streams.get(&session) else { return };
        let Carrier::Keysend { under_way: Some((hash, mark)) } = stream.carrier else { return };
        if hash != payment.payment_hash {
            return;
        }
        if payment.status.is_success() {
            self.stream_paid(session, mark, mark.total);
            self.live.to_batch.insert(session);
        } else {
            // Failed for certain: nothing of this batch was paid, and the way that there was is gone.
            self.change(Change::Stream { session, change: StreamChange::BatchReturned });
            self.end_stream(session, StreamCloseReason::PaymentFailed);
        }
    }

    /// Asks the payee for a receipt, by an HTLC that it can only fail: the failure carries it (docs/protocol.md).
    pub(in crate::node) fn ask_receipt(&mut self, session: SessionId) -> bool {
        let Some(stream) = self.state.streams.get(&session) else { return false };
        let (payee, channel) = (stream.payee, stream.outgoing_channel());
        let known = self.live.sessions.get(&payee).map(|peer| peer.negotiated(&self.settings.features).transfers);
        if stream.committed.sequence == 0 || known == Some(false) {
            return false;
        }
        // In no list, so it takes no place in it.
        let hash = PaymentHash(self.draw("stream/question"));
        let mut question = self.draft_keysend(payee, QUESTION, Preimage([0; 32]));
        question.payment_hash = hash;
        question.index = self.state.head.payments;
        question.kind = PaymentKind::ReceiptRequest { session };
        question.terms.channel = channel;
        question.terms.proof = Proof { preimage: None, ..question.terms.proof };
        question.terms.proof.custom_records = vec![receipt_request(session)];
        question.terms.until = self.moment.now.plus_seconds(ANSWER_SECONDS);
        self.start_payment(question).is_ok()
    }

    /// A question for a receipt came back.
    pub(super) fn receipt_answered(&mut self, session: SessionId, failure: Option<&Failure>) {
        let Some(Failure::StreamReceipt { receipt, .. }) = failure else { return };
        let Some(stream) = self.state.streams.get(&session) else { return };
        if let Some(receipt) = self.checked_receipt(session, stream, receipt) {
            self.live.receipts.insert(session, receipt);
        }
    }

    fn checked_receipt(
        &self,
        session: SessionId,
        stream: &OutgoingStream,
        receipt: &TransferReceipt,
    ) -> Option<Receipt> {
        let is_ours = receipt.session_id == session
            && receipt.chain_hash == self.settings.chain_hash
            && receipt.payer_node_id == stream.payee.0
            && receipt.is_signed_by(&stream.payee.0);
        is_ours.then(|| Receipt {
            channel: receipt.channel_id,
            session,
            payer: NodeId(receipt.payer_node_id),
            last_sequence: receipt.next_sequence,
            paid: receipt.paid_msat,
            enforceable: receipt.enforceable_msat,
            signature: receipt.signature.serialize_compact().to_vec(),
        })
    }

    /// What a payment of a stream that is over means for the stream.
    pub(super) fn stream_payment_over(&mut self, payment: &Payment) {
        match payment.kind {
            PaymentKind::Stream { session } => self.batch_ended(payment, session),
            PaymentKind::ReceiptRequest { session } if !matches!(payment.status, PaymentStatus::InFlight) => {
                let reason = self.state.streams.get(&session).and_then(|stream| stream.finishing);
                self.end_stream(session, reason.unwrap_or(StreamCloseReason::Finished));
            }
            _ => {}
        }
    }
}
