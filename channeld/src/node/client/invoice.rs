//! Invoices of ours.

use secp256k1::SECP256K1;

use super::Outcome;
use crate::node::Node;
use crate::node::api::command::CreateInvoice;
use crate::node::api::event::EventKind;
use crate::node::api::refusal::Refusal;
use crate::node::api::reply::Reply;
use crate::node::state::change::Change;
use crate::payment::hold::{HOLD_CLTV_EXPIRY_DELTA, MIN_HOLD_CLTV_EXPIRY_DELTA};
use crate::payment::invoice::{InvoiceDescription, InvoiceTerms, InvoiceTermsError, create_invoice};
use crate::payment::receive::{INVOICE_FINAL_CLTV_EXPIRY_DELTA, Invoice, InvoiceStatus, MIN_FINAL_CLTV_EXPIRY_DELTA};
use crate::units::{CltvDelta, Msat, PaymentHash, Preimage};

/// A year.
const MAX_EXPIRY_SECONDS: u32 = 31_536_000;
/// The most that a payee may ask to be left, in blocks: what peers accept as an expiry.
const MAX_CLTV_DELTA: u16 = 2_016;
/// Invoices that may be open at once: each takes memory.
const MAX_OPEN_INVOICES: usize = 200_000;

impl Node {
    pub(super) fn create_invoice(&mut self, create: &CreateInvoice) -> Outcome {
        let delta = check_terms(create)?;
        if self.state.invoices.len() >= MAX_OPEN_INVOICES {
            return Err(Refusal::TooManyRequests);
        }
        let (preimage, payment_hash) = match create.payment_hash {
            Some(payment_hash) => (None, payment_hash),
            None => {
                let preimage = create.preimage.unwrap_or_else(|| Preimage(self.draw("invoice/preimage")));
                (Some(preimage), preimage.payment_hash())
            }
        };
        if self.state.invoices.contains_key(&payment_hash) {
            return Err(Refusal::InvoiceExists);
        }
        let created = self.moment.now;
        let mut terms = InvoiceTerms {
            amount: create.amount,
            description: InvoiceDescription::Text(create.description.clone()),
            payment_hash,
            payment_secret: self.draw("invoice/payment_secret"),
            created,
            expiry_seconds: create.expiry_seconds,
            min_final_cltv_expiry_delta: CltvDelta::new(delta),
            basic_mpp: true,
            route_hints: if create.blinded { Vec::new() } else { self.route_hints(create.amount) },
            blinded_paths: Vec::new(),
        };
        if create.blinded {
            terms.blinded_paths = self.blinded_paths(&terms)?;
        }
        let payment_request = self
            .write_invoice(&terms)
            .map_err(|error| Refusal::InvalidArgument { field: error.field(), description: error.to_string() })?;
        let invoice = Invoice {
            index: self.state.head.invoices + 1,
            payment_hash,
            payment_request,
            amount: create.amount,
            description: create.description.clone(),
            created,
            expires: created.plus_seconds(u64::from(create.expiry_seconds)),
            min_final_cltv_expiry_delta: terms.min_final_cltv_expiry_delta,
            preimage,
            payment_secret: terms.payment_secret,
            status: InvoiceStatus::Open,
        };
        self.change(Change::InvoiceAdded(Box::new(invoice.clone())));
        Ok(Reply::Invoice(Box::new(invoice)))
    }

    /// Signed by the node key; with blinded paths by a key that is used once, for the node's own would say who is paid.
    fn write_invoice(&mut self, terms: &InvoiceTerms) -> Result<String, InvoiceTermsError> {
        if terms.blinded_paths.is_empty() {
            return create_invoice(terms, self.address_network(), |hash| self.signer.sign_invoice(hash));
        }
        let key = self.draw_key("invoice/signature");
        create_invoice(terms, self.address_network(), |hash| {
            SECP256K1.sign_ecdsa_recoverable(&secp256k1::Message::from_digest(hash), &key)
        })
    }

    pub(super) fn cancel_invoice(&mut self, payment_hash: PaymentHash) -> Outcome {
        let mut invoice = self.state.invoices.get(&payment_hash).cloned().ok_or(Refusal::InvoiceNotFound)?;
        invoice.status = InvoiceStatus::Cancelled { at: self.moment.now };
        self.end_invoice(payment_hash, invoice.status);
        self.fail_parts(payment_hash, None);
        self.event(EventKind::InvoiceCancelled { payment_hash });
        Ok(Reply::Invoice(Box::new(invoice)))
    }

    /// The owner of a held payment takes it; refused once it was cancelled, by anybody.
    pub(super) fn settle_with(&mut self, preimage: Preimage) -> Outcome {
        let payment_hash = preimage.payment_hash();
        let mut invoice = self.state.invoices.get(&payment_hash).cloned().ok_or(Refusal::InvoiceNotFound)?;
        let InvoiceStatus::Accepted { received, channel, deadline_height, .. } = invoice.status else {
            return Err(Refusal::InvoiceNotAccepted);
        };
        if self.state.height() >= deadline_height {
            return Err(Refusal::InvoiceNotOpen);
        }
        self.settle_held(&invoice, preimage);
        invoice.status = InvoiceStatus::Settled { received, channel, at: self.moment.now };
        invoice.preimage = Some(preimage);
        Ok(Reply::Invoice(Box::new(invoice)))
    }

    /// Invoices whose time is over are not waited for any more.
    pub(in crate::node) fn expire_invoices(&mut self) {
        let now = self.moment.now;
        let parts = &self.live.parts;
        let height = self.state.height();
        let due = self.state.index.expiries.iter().take_while(|(expires, _)| *expires <= now);
        let idle = due.map(|(_, hash)| *hash).filter(|hash| !parts.contains_key(hash));
        let (mut expired, mut lost) = (Vec::new(), Vec::new());
        for hash in idle {
            match self.state.invoices.get(&hash).map(|invoice| invoice.status) {
                // Its channels went to the chain, and nobody settled it in time.
                Some(InvoiceStatus::Accepted { deadline_height, .. }) if height >= deadline_height => lost.push(hash),
                Some(InvoiceStatus::Open) => expired.push(hash),
                _ => {}
            }
        }
        lost.into_iter().for_each(|hash| self.cancel_held(hash, "its channels are closed"));
        for payment_hash in expired {
            self.end_invoice(payment_hash, InvoiceStatus::Expired);
            self.event(EventKind::InvoiceExpired { payment_hash });
        }
    }
}

/// What can be said against an invoice's terms by themselves; the blocks that it asks for.
fn check_terms(create: &CreateInvoice) -> Result<u16, Refusal> {
    let invalid =
        |field, description: &str| Err(Refusal::InvalidArgument { field, description: description.to_owned() });
    if !(1..=MAX_EXPIRY_SECONDS).contains(&create.expiry_seconds) {
        return invalid("expiry", "1 second to 1 year");
    }
    if create.amount == Some(Msat::ZERO) {
        return invalid("amount_msat", "at least 1; leave it out for any amount");
    }
    if create.preimage.is_some() && create.payment_hash.is_some() {
        return invalid("payment_hash", "not with a preimage: whose payment is held, keeps the preimage");
    }
    let held = create.payment_hash.is_some();
    let usual = if held { HOLD_CLTV_EXPIRY_DELTA } else { INVOICE_FINAL_CLTV_EXPIRY_DELTA };
    let delta = create.min_final_cltv_expiry_delta.unwrap_or(usual);
    if held && delta < MIN_HOLD_CLTV_EXPIRY_DELTA {
        return invalid("min_final_cltv_expiry_delta", "36 to 2016 blocks where the payment is held");
    }
    if !(MIN_FINAL_CLTV_EXPIRY_DELTA..=MAX_CLTV_DELTA).contains(&delta) {
        return invalid("min_final_cltv_expiry_delta", "18 to 2016 blocks");
    }
    Ok(delta)
}
