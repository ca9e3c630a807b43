//! Payments of ours as clients ask for them: what is paid, on which terms, and who hears of it.

use crate::node::Node;
use crate::node::api::command::{PaymentTarget, SendPayment};
use crate::node::api::refusal::Refusal;
use crate::node::api::reply::Reply;
use crate::node::input::RequestNumber;
use crate::node::send::reach;
use crate::node::state::change::{Answer, Change};
use crate::payment::invoice::{PaymentRequest, PaymentRequestError, parse_invoice};
use crate::payment::parcel::Proof;
use crate::payment::send::{
    BLOCKS_IN_FLIGHT, DEFAULT_MAX_CLTV_DELTA, DEFAULT_PARTS, DEFAULT_TIMEOUT_SECONDS, KEYSEND_FINAL_CLTV_DELTA,
    MAX_PARTS, Payment, PaymentKind, PaymentStatus, Terms, default_max_fee,
};
use crate::units::{Msat, NodeId, PaymentHash, Preimage};
use crate::wire::Feature;

/// Random blocks on top of what the payee wants, where there are hops between, at most.
const MAX_SHADOW: u32 = 36;
/// The longest time that a payment may be tried, in seconds.
const MAX_TIMEOUT_SECONDS: u32 = 3_600;
/// The most blocks above the present height that a caller may allow: four weeks.
const LARGEST_CLTV_DELTA: u32 = 4_032;
/// Custom records of a payment together, in bytes: more do not fit into an onion.
const MAX_RECORDS: usize = 1_000;

impl Node {
    pub(super) fn send_payment(&mut self, request: RequestNumber, send: &SendPayment) {
        match self.begin_payment(send) {
            Err(refusal) => self.answer(request, Err(refusal)),
            Ok(None) => self.answer(request, Ok(Reply::Done)),
            Ok(Some(payment)) => {
                let hash = payment.payment_hash;
                let key = self.live.take_key(request);
                let followers = key.as_ref().and_then(|key| self.live.followers.remove(&key.id)).unwrap_or_default();
                if let Some(key) = key {
                    self.keep_answer(&key, Answer::Payment(hash));
                }
                for waiting in [request].into_iter().chain(followers) {
                    self.reply_first(waiting, Reply::Payment(Box::new(payment.clone())));
                    self.live.payment_waiters.entry(hash).or_default().push(waiting);
                }
            }
        }
    }

    /// A repetition of a payment's request: told as the payment stands, and once more when it is final.
    pub(super) fn watch_payment(&mut self, request: RequestNumber, hash: PaymentHash) {
        match self.state.payments.get(&hash).cloned() {
            None => self.reply(request, Ok(Reply::EndedPayment(hash))),
            Some(payment) if payment.status.is_final() => {
                self.reply(request, Ok(Reply::Payment(Box::new(payment))));
            }
            Some(payment) => {
                self.reply_first(request, Reply::Payment(Box::new(payment)));
                self.live.payment_waiters.entry(hash).or_default().push(request);
            }
        }
    }

    /// Waits for a payment's end.
    pub(super) fn await_payment(&mut self, request: RequestNumber, hash: PaymentHash) {
        match self.state.payments.get(&hash) {
            None => self.reply(request, Err(Refusal::PaymentNotFound)),
            Some(payment) if payment.status.is_final() => {
                let payment = Box::new(payment.clone());
                self.reply(request, Ok(Reply::Payment(payment)));
            }
            Some(_) => self.live.payment_waiters.entry(hash).or_default().push(request),
        }
    }

    fn begin_payment(&mut self, send: &SendPayment) -> Result<Option<Payment>, Refusal> {
        let payment = self.draft_payment(send)?;
        if payment.destination.0 == self.signer.node_id() {
            return Err(Refusal::SelfPayment);
        }
        if let Some(known) = self.state.payments.get(&payment.payment_hash) {
            let is_paid = known.status.is_success();
            return Err(if is_paid { Refusal::AlreadyPaid } else { Refusal::PaymentInFlight });
        }
        if send.validate_only {
            return self.check_payment(&payment).map(|()| None);
        }
        self.start_payment(payment).map(Some)
    }

    /// Journals a payment and sends it: at once to a peer whose channel carries it, else as soon as a way is found.
    ///
    /// # Errors
    /// None of our channels carries it, alone or, in parts, with others.
    pub(in crate::node) fn start_payment(&mut self, mut payment: Payment) -> Result<Payment, Refusal> {
        let direct = self
            .direct_part(&payment, payment.amount)
            .and_then(|(channel, route)| self.begin_part(channel, &payment, route));
        match direct {
            Ok(attempt) => {
                payment.attempts.push(attempt);
                self.change(Change::PaymentAdded(Box::new(payment.clone())));
            }
            Err(refusal) => {
                self.check_reach(&payment, refusal)?;
                let shadow = u32::from(self.draw("payment/shadow")[0]) % (MAX_SHADOW + 1);
                // A blinded path hides the payee by itself, and is good only up to a height that nobody else knows.
                payment.terms.shadow = if payment.blinded_paths().is_empty() { shadow } else { 0 };
                self.change(Change::PaymentAdded(Box::new(payment.clone())));
                self.search(payment.payment_hash, payment.amount);
            }
        }
        Ok(payment)
    }

    /// What [`Node::start_payment`] would refuse.
    fn check_payment(&mut self, payment: &Payment) -> Result<(), Refusal> {
        let direct = self
            .direct_part(payment, payment.amount)
            .and_then(|(channel, route)| self.check_part(channel, payment, route));
        direct.or_else(|refusal| self.check_reach(payment, refusal))
    }

    /// Whether a search is worth while after the channel with the payee, if there is one, said no.
    fn check_reach(&self, payment: &Payment, refusal: Refusal) -> Result<(), Refusal> {
        let terms = &payment.terms;
        let hops = self.first_hops(terms.channel, &std::collections::BTreeSet::new());
        let is_named = payment.blinded_paths().is_empty();
        let is_peer = |hop: &crate::router::FirstHop| is_named && hop.peer == payment.destination;
        let only_direct = hops.iter().all(is_peer) && (hops.len() < 2 || terms.max_parts < 2);
        if only_direct || matches!(refusal, Refusal::InvalidPaymentRequest { .. }) {
            return Err(refusal);
        }
        let available = reach(&hops, terms.max_parts);
        if available < payment.amount {
            let is_any_peer = hops.iter().any(is_peer);
            let needed = payment.amount;
            return Err(if is_any_peer { refusal } else { Refusal::InsufficientBalance { needed, available } });
        }
        Ok(())
    }

    fn draft_payment(&mut self, send: &SendPayment) -> Result<Payment, Refusal> {
        match &send.target {
            PaymentTarget::Invoice(text) => {
                let request = parse_invoice(text, self.address_network()).map_err(request_refusal)?;
                self.draft_invoice(&request, send)
            }
            PaymentTarget::Request(request) => self.draft_invoice(request, send),
            PaymentTarget::Node(destination) => {
                let missing = || invalid("amount_msat", "needed for a payment to a key");
                let amount = send.amount.filter(|amount| *amount > Msat::ZERO).ok_or_else(missing)?;
                let preimage = Preimage(self.draw("payment/keysend"));
                let mut payment = self.draft_keysend(*destination, amount, preimage);
                payment.terms.proof.custom_records = records(&send.custom_records)?;
                self.with_limits(payment, send)
            }
        }
    }

    /// A payment to a key, on the terms that a caller gets who says nothing.
    pub(in crate::node) fn draft_keysend(&self, destination: NodeId, amount: Msat, preimage: Preimage) -> Payment {
        let delta = u32::from(KEYSEND_FINAL_CLTV_DELTA);
        // One part: most payees put parts together by the secret of an invoice only.
        let terms = self.default_terms(Proof::keysend(preimage), amount, delta, 1);
        self.draft(preimage.payment_hash(), destination, amount, PaymentKind::Keysend, terms)
    }

    fn draft_invoice(&self, request: &PaymentRequest, send: &SendPayment) -> Result<Payment, Refusal> {
        if request.expires <= self.moment.now {
            return Err(Refusal::InvoiceExpired);
        }
        if self.state.ended_lately(&request.payment_hash) == Some(true) {
            return Err(Refusal::AlreadyPaid);
        }
        if !send.custom_records.is_empty() {
            return Err(invalid("custom_records", "only with a payment to a key"));
        }
        let amount = match (request.amount, send.amount) {
            (None, None) => return Err(invalid("amount_msat", "the invoice leaves the amount open")),
            (None, Some(amount)) => amount,
            (Some(asked), None) => asked,
            (Some(asked), Some(amount)) if amount >= asked && amount.msat() <= asked.msat().saturating_mul(2) => amount,
            (Some(_), Some(_)) => {
                return Err(invalid("amount_msat", "between what the invoice asks and twice that"));
            }
        };
        if amount == Msat::ZERO {
            return Err(invalid("amount_msat", "at least 1"));
        }
        let proof = match request.payment_secret {
            Some(secret) => Proof::invoice(secret, request.payment_metadata.clone()),
            None => Proof::blinded(),
        };
        let delta = u32::from(request.min_final_cltv_expiry_delta.blocks());
        // BOLT 4: parts only to a payee that says it waits for them.
        let parts = if request.features.has(Feature::BasicMpp) { DEFAULT_PARTS } else { 1 };
        let mut terms = self.default_terms(proof, amount, delta, parts);
        terms.hints.clone_from(&request.route_hints);
        let payment_request = request.text.clone();
        let kind = if request.blinded_paths.is_empty() {
            PaymentKind::Invoice { payment_request }
        } else {
            // Its signer is nobody's node: only the paths say where it goes.
            if self.state.invoices.get(&request.payment_hash).is_some_and(|it| it.payment_request == request.text) {
                return Err(Refusal::SelfPayment);
            }
            let paths = self.blinded_paths_from_here(&request.blinded_paths, request.payee)?;
            PaymentKind::Blinded { payment_request, paths }
        };
        let payment = self.draft(request.payment_hash, request.payee, amount, kind, terms);
        self.with_limits(payment, send)
    }

    fn default_terms(&self, proof: Proof, amount: Msat, delta: u32, max_parts: u32) -> Terms {
        Terms {
            proof,
            final_cltv_delta: delta.saturating_add(BLOCKS_IN_FLIGHT),
            shadow: 0,
            hints: Vec::new(),
            max_fee: default_max_fee(amount),
            max_cltv_delta: DEFAULT_MAX_CLTV_DELTA.max(delta.saturating_add(BLOCKS_IN_FLIGHT)),
            max_parts,
            until: self.moment.now.plus_seconds(u64::from(DEFAULT_TIMEOUT_SECONDS)),
            channel: None,
        }
    }

    fn draft(
        &self,
        payment_hash: PaymentHash,
        destination: NodeId,
        amount: Msat,
        kind: PaymentKind,
        terms: Terms,
    ) -> Payment {
        Payment {
            index: self.state.head.payments + 1,
            payment_hash,
            destination,
            amount,
            kind,
            created: self.moment.now,
            status: PaymentStatus::InFlight,
            given_up: None,
            terms,
            attempts: Vec::new(),
        }
    }

    /// What the caller allows, where it says so.
    fn with_limits(&self, mut payment: Payment, send: &SendPayment) -> Result<Payment, Refusal> {
        let terms = &mut payment.terms;
        terms.channel = send.channel;
        terms.max_fee = send.max_fee.unwrap_or(terms.max_fee);
        if let Some(parts) = send.max_parts {
            if !(1..=MAX_PARTS).contains(&parts) {
                return Err(invalid("max_parts", "1 to 64"));
            }
            terms.max_parts = if terms.max_parts == 1 { 1 } else { parts };
        }
        if let Some(delta) = send.max_cltv_delta {
            if delta < terms.final_cltv_delta || delta > LARGEST_CLTV_DELTA {
                return Err(invalid("max_cltv_delta", "at least what the payee wants and 3, at most 4032 blocks"));
            }
            terms.max_cltv_delta = delta;
        }
        if let Some(seconds) = send.timeout_seconds {
            if !(1..=MAX_TIMEOUT_SECONDS).contains(&seconds) {
                return Err(invalid("timeout", "1 second to 1 hour"));
            }
            terms.until = self.moment.now.plus_seconds(u64::from(seconds));
        }
        Ok(payment)
    }
}

fn records(given: &[(u64, Vec<u8>)]) -> Result<Vec<(u64, Vec<u8>)>, Refusal> {
    let mut records = given.to_vec();
    records.sort_by_key(|(tlv_type, _)| *tlv_type);
    let is_odd = |(tlv_type, _): &(u64, Vec<u8>)| *tlv_type >= 65_536 && tlv_type % 2 == 1;
    let is_reserved = |(tlv_type, _): &(u64, Vec<u8>)| RESERVED_RECORDS.contains(tlv_type);
    if !records.iter().all(is_odd) || records.iter().any(is_reserved) {
        return Err(invalid("custom_records", "types are odd, from 65537 on, and none that has a meaning already"));
    }
    if records.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(invalid("custom_records", "a type twice"));
    }
    if records.iter().map(|(_, value)| value.len()).sum::<usize>() > MAX_RECORDS {
        return Err(invalid("custom_records", "at most 1000 bytes together"));
    }
    Ok(records)
}

/// The preimage of keysend.
const RESERVED_RECORDS: [u64; 1] = [5_482_373_484];

fn invalid(field: &'static str, description: &str) -> Refusal {
    Refusal::InvalidArgument { field, description: description.to_owned() }
}

/// A payment request's fault, in the API's words.
pub fn request_refusal(error: PaymentRequestError) -> Refusal {
    match error {
        PaymentRequestError::OtherNetwork => Refusal::WrongNetwork { field: "payment_request" },
        other => Refusal::InvalidPaymentRequest { description: other.to_string() },
    }
}
