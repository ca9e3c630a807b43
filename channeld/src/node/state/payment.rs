//! Changes of payments, invoices and streams.

use super::change::Change;
use super::row::RowKey;
use super::{RECENT_PAYMENTS, State};
use crate::payment::batch::IncomingStream;
use crate::payment::forward::Cause;
use crate::payment::send::{Payment, PaymentChange};
use crate::units::PaymentHash;

impl State {
    pub(super) fn apply_payment(&mut self, change: &Change) {
        match change {
            Change::PaymentAdded(payment) => {
                self.head.payments = payment.index;
                self.dirty.insert(RowKey::Head);
                self.dirty.insert(RowKey::Payment(payment.payment_hash));
                let cause = Cause::Payment(payment.payment_hash);
                self.causes.extend(payment.attempts.iter().map(|attempt| (attempt.place(), cause)));
                if payment.is_listed() {
                    self.index.payments.insert(payment.index, payment.payment_hash);
                }
                self.payments.insert(payment.payment_hash, (**payment).clone());
            }
            Change::PaymentAttempted { payment_hash, attempt } => {
                self.dirty.insert(RowKey::Payment(*payment_hash));
                self.causes.insert(attempt.place(), Cause::Payment(*payment_hash));
                let payment = self.payments.get_mut(payment_hash).expect("an attempt is of a payment");
                payment.attempts.push(attempt.clone());
            }
            Change::Payment { payment_hash, change } => {
                self.dirty.insert(RowKey::Payment(*payment_hash));
                if let PaymentChange::AttemptEnded { place, .. } = change {
                    self.causes.remove(place);
                }
                self.payments.get_mut(payment_hash).expect("a change is of a payment").apply(change);
            }
            Change::PaymentDropped { payment_hash } => {
                self.dirty.insert(RowKey::Payment(*payment_hash));
                if let Some(payment) = self.payments.remove(payment_hash) {
                    self.forget_parts(&payment);
                }
            }
            Change::PaymentEnded { payment_hash, succeeded } => self.end_payment(*payment_hash, *succeeded),
            _ => self.apply_stream(change),
        }
    }

    fn apply_stream(&mut self, change: &Change) {
        match change {
            Change::InvoiceAdded(invoice) => {
                self.head.invoices = invoice.index;
                self.dirty.insert(RowKey::Head);
                self.dirty.insert(RowKey::Invoice(invoice.payment_hash));
                self.index.invoices.insert(invoice.index, invoice.payment_hash);
                self.index.expiries.insert((invoice.expires, invoice.payment_hash));
                self.invoices.insert(invoice.payment_hash, (**invoice).clone());
            }
            Change::InvoiceProgressed { payment_hash, status } => {
                self.dirty.insert(RowKey::Invoice(*payment_hash));
                let invoice = self.invoices.get_mut(payment_hash).expect("an invoice that goes on is open");
                invoice.status = *status;
            }
            Change::InvoiceEnded { payment_hash } => {
                self.dirty.insert(RowKey::Invoice(*payment_hash));
                if let Some(invoice) = self.invoices.remove(payment_hash) {
                    self.index.invoices.remove(&invoice.index);
                    self.index.expiries.remove(&(invoice.expires, *payment_hash));
                }
            }
            Change::StreamAdded { session, stream } => {
                self.dirty.insert(RowKey::Stream(*session));
                self.index.streams.insert((stream.channel, *session));
                self.streams.insert(*session, (**stream).clone());
            }
            Change::Stream { session, change } => {
                self.dirty.insert(RowKey::Stream(*session));
                self.streams.get_mut(session).expect("a change is of a stream").apply(change);
            }
            Change::StreamRemoved { session } => {
                self.dirty.insert(RowKey::Stream(*session));
                if let Some(stream) = self.streams.remove(session) {
                    self.index.streams.remove(&(stream.channel, *session));
                }
            }
            Change::BatchReceived { session, paid, at } => {
                self.dirty.insert(RowKey::IncomingStream(*session));
                self.incoming_streams.insert(*session, IncomingStream { paid: *paid, at: *at });
            }
            Change::IncomingStreamsForgotten { before } => {
                let old = self.incoming_streams.iter().filter(|(_, stream)| stream.at < *before);
                let sessions: Vec<_> = old.map(|(session, _)| *session).collect();
                for session in sessions {
                    self.incoming_streams.remove(&session);
                    self.dirty.insert(RowKey::IncomingStream(session));
                }
            }
            _ => unreachable!("sorted by `apply`"),
        }
    }

    fn end_payment(&mut self, hash: PaymentHash, succeeded: bool) {
        self.head.ended_payments += 1;
        self.dirty.insert(RowKey::Head);
        self.dirty.insert(RowKey::Payment(hash));
        let payment = self.payments.remove(&hash).expect("a payment that ends was begun");
        self.index.payments.remove(&payment.index);
        self.forget_parts(&payment);
        self.recent.push_back(hash);
        self.recent_outcomes.insert(hash, succeeded);
        if self.recent.len() > RECENT_PAYMENTS
            && let Some(oldest) = self.recent.pop_front()
        {
            self.recent_outcomes.remove(&oldest);
        }
    }

    /// The place of a part that is over may be another HTLC's by now: ids are rolled back.
    fn forget_parts(&mut self, payment: &Payment) {
        for attempt in payment.pending() {
            self.causes.remove(&attempt.place());
        }
    }
}
