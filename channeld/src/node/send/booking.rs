//! The payee's side of streams over HTLCs: what a batch says is booked in the turn that takes it, and a receipt for it all is
//! given to whoever asks along the same way.

use crate::node::Node;
use crate::node::api::event::EventKind;
use crate::node::state::change::Change;
use crate::onion::{Failure, FinalPayload};
use crate::payment::batch::{BatchRecord, KEEP_SECONDS, MAX_INCOMING, receipt_wanted};
use crate::payment::receive::Arrival;
use crate::units::{ChannelId, Msat, PaymentHash, SessionId, UnixTime};
use crate::wire::TransferReceipt;

impl Node {
    /// A keysend came in whole: booked as its record says. Whatever the books say, the money is taken.
    pub(in crate::node) fn keysend_received(
        &mut self,
        payment_hash: PaymentHash,
        amount: Msat,
        channel: ChannelId,
        custom_records: Vec<(u64, Vec<u8>)>,
    ) {
        let Some(record) = BatchRecord::find(&custom_records) else {
            return self.event(EventKind::KeysendReceived { payment_hash, amount, channel, custom_records });
        };
        let session = record.session;
        let known = self.state.incoming_streams.get(&session).copied();
        if known.is_none() && self.state.incoming_streams.len() >= MAX_INCOMING {
            return self.event(EventKind::KeysendReceived { payment_hash, amount, channel, custom_records });
        }
        match known.unwrap_or_default().with(&record, amount) {
            None => self.event(EventKind::StreamUnsolicited { channel, amount }),
            Some(paid) => {
                self.change(Change::BatchReceived { session, paid, at: self.moment.now });
                self.event(EventKind::StreamPaid {
                    channel,
                    session,
                    last_sequence: paid.sequence,
                    total: paid.total,
                    enforceable: paid.total,
                    tags: record.tags(),
                });
            }
        }
    }

    /// The answer to an HTLC that asks for a receipt, where it asks for one that we can give.
    pub(in crate::node) fn receipt_for(&mut self, payload: &FinalPayload, arrival: &Arrival) -> Option<Failure> {
        let session = receipt_wanted(&payload.custom_records)?;
        let paid = self.state.incoming_streams.get(&session)?.paid;
        let mut receipt = TransferReceipt {
            chain_hash: self.settings.chain_hash,
            channel_id: ChannelId::ALL,
            session_id: session,
            // Nobody knows who pays over a route: the receipt is made out to the payee, for whoever holds the session.
            payer_node_id: self.signer.node_id(),
            next_sequence: paid.sequence,
            paid_msat: paid.total,
            enforceable_msat: paid.total,
            // A place to be filled: the signed bytes do not hold it.
            signature: self.signer.sign_node([1; 32]),
        };
        receipt.signature = self.signer.sign_node(*receipt.signed_hash().as_ref());
        self.incoming_receipt_given(arrival.channel, session);
        Some(Failure::StreamReceipt { htlc_msat: arrival.amount, height: arrival.height, receipt: Box::new(receipt) })
    }

    /// Whoever asks for a receipt is done.
    fn incoming_receipt_given(&mut self, channel: ChannelId, session: SessionId) {
        let Some(stream) = self.state.incoming_streams.get(&session).copied() else { return };
        let (last_sequence, total) = (stream.paid.sequence, stream.paid.total);
        self.event(EventKind::StreamClosed { channel, session, incoming: true, last_sequence, total });
    }

    /// Sessions that nobody paid in for long.
    pub(in crate::node) fn forget_incoming_streams(&mut self) {
        let before = UnixTime::from_seconds(self.moment.now.seconds().saturating_sub(KEEP_SECONDS));
        if self.state.incoming_streams.values().any(|stream| stream.at < before) {
            self.change(Change::IncomingStreamsForgotten { before });
        }
    }
}
