//! Payments of ours over a channel with the payee.

use secp256k1::SecretKey;

use super::channel::channel_refusal;
use crate::channel::{self, Command};
use crate::node::Node;
use crate::node::api::command::{PaymentTarget, SendPayment};
use crate::node::api::refusal::Refusal;
use crate::node::api::reply::Reply;
use crate::node::input::RequestNumber;
use crate::node::state::change::{Answer, Change};
use crate::payment::invoice::{PaymentRequest, PaymentRequestError, parse_invoice};
use crate::payment::send::{
    Attempt, BLOCKS_IN_FLIGHT, KEYSEND_FINAL_CLTV_DELTA, Parcel, Payment, PaymentKind, PaymentStatus, Proof,
};
use crate::units::{ChannelId, CltvExpiry, Msat, NodeId, PaymentHash, Preimage};

/// A payment before a channel was found for it.
struct Draft {
    payment_hash: PaymentHash,
    destination: NodeId,
    amount: Msat,
    proof: Proof,
    final_delta: u16,
    kind: PaymentKind,
}

impl Node {
    pub(super) fn send_payment(&mut self, request: RequestNumber, send: &SendPayment) {
        match self.begin_payment(send) {
            Err(refusal) => self.answer(request, Err(refusal)),
            Ok(None) => self.answer(request, Ok(Reply::Done)),
            Ok(Some(payment)) => {
                let hash = payment.payment_hash;
                let key = self.live.keys.remove(&request);
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
            Some(payment) => {
                self.reply_first(request, Reply::Payment(Box::new(payment)));
                self.live.payment_waiters.entry(hash).or_default().push(request);
            }
        }
    }

    /// Waits for a payment's end.
    pub(super) fn await_payment(&mut self, request: RequestNumber, hash: PaymentHash) {
        if self.state.payments.contains_key(&hash) {
            self.live.payment_waiters.entry(hash).or_default().push(request);
        } else {
            self.reply(request, Err(Refusal::PaymentNotFound));
        }
    }

    fn begin_payment(&mut self, send: &SendPayment) -> Result<Option<Payment>, Refusal> {
        let draft = self.draft_payment(send)?;
        if draft.destination.0 == self.signer.node_id() {
            return Err(Refusal::SelfPayment);
        }
        if self.state.payments.contains_key(&draft.payment_hash) {
            return Err(Refusal::PaymentInFlight);
        }
        let id = self.choose_channel(&draft, send.channel)?;
        let blocks = u32::from(draft.final_delta) + BLOCKS_IN_FLIGHT;
        let cltv_expiry = CltvExpiry::new(self.state.height().plus(blocks).height());
        let session_key = self.draw_key("payment/session_key");
        let parcel =
            Parcel::pack(draft.destination, draft.payment_hash, draft.amount, cltv_expiry, &draft.proof, &session_key)
                .ok_or_else(|| Refusal::InvalidPaymentRequest { description: "its metadata is too long".to_owned() })?;
        let entry = self.state.channels.get(&id).ok_or(Refusal::ChannelNotFound(id))?;
        let htlc_id = entry.channel.commitments().ok_or(Refusal::ChannelNotFound(id))?.next_outgoing;
        let command = channel::Input::Command(Command::AddHtlc {
            amount: parcel.amount,
            payment_hash: parcel.payment_hash,
            cltv_expiry: parcel.cltv_expiry,
            onion: parcel.onion,
            path_key: None,
        });
        if send.validate_only {
            return match entry.channel.decide(command, &self.context()) {
                Err(channel::Error::Refused(refusal)) => Err(channel_refusal(refusal)),
                _ => Ok(None),
            };
        }
        self.drive(id, command).map_err(channel_refusal)?;
        let attempt = Attempt {
            channel: id,
            htlc_id,
            started: self.moment.now,
            deadline_height: cltv_expiry.height() + self.settings.burial,
            secrets: parcel.secrets,
        };
        let payment = Payment {
            index: self.state.head.payments + 1,
            payment_hash: draft.payment_hash,
            destination: draft.destination,
            amount: draft.amount,
            fee: Msat::ZERO,
            kind: draft.kind,
            created: self.moment.now,
            status: PaymentStatus::InFlight,
            attempts: vec![attempt],
        };
        self.change(Change::PaymentAdded(Box::new(payment.clone())));
        Ok(Some(payment))
    }

    fn draft_payment(&mut self, send: &SendPayment) -> Result<Draft, Refusal> {
        match &send.target {
            PaymentTarget::Invoice(text) => {
                let request = parse_invoice(text, self.address_network()).map_err(request_refusal)?;
                self.draft_invoice(&request, send.amount)
            }
            PaymentTarget::Request(request) => self.draft_invoice(request, send.amount),
            PaymentTarget::Node(destination) => {
                let missing = || invalid("amount_msat", "needed for a payment to a key");
                let amount = send.amount.filter(|amount| *amount > Msat::ZERO).ok_or_else(missing)?;
                let preimage = Preimage(self.draw("payment/keysend"));
                Ok(Draft {
                    payment_hash: preimage.payment_hash(),
                    destination: *destination,
                    amount,
                    proof: Proof::Keysend(preimage),
                    final_delta: KEYSEND_FINAL_CLTV_DELTA,
                    kind: PaymentKind::Keysend,
                })
            }
        }
    }

    fn draft_invoice(&self, request: &PaymentRequest, amount: Option<Msat>) -> Result<Draft, Refusal> {
        if request.expires <= self.moment.now {
            return Err(Refusal::InvoiceExpired);
        }
        if self.state.ended_lately(&request.payment_hash) == Some(true) {
            return Err(Refusal::AlreadyPaid);
        }
        let amount = match (request.amount, amount) {
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
        Ok(Draft {
            payment_hash: request.payment_hash,
            destination: request.payee,
            amount,
            proof: Proof::Invoice {
                payment_secret: request.payment_secret,
                metadata: request.payment_metadata.clone(),
            },
            final_delta: request.min_final_cltv_expiry_delta.blocks(),
            kind: PaymentKind::Invoice { payment_request: request.text.clone() },
        })
    }

    /// The channel asked for, or of those with the payee the one that can send the most.
    fn choose_channel(&self, draft: &Draft, wanted: Option<ChannelId>) -> Result<ChannelId, Refusal> {
        if let Some(id) = wanted {
            let entry = self.state.channels.get(&id).ok_or(Refusal::ChannelNotFound(id))?;
            return if entry.peer == draft.destination { Ok(id) } else { Err(Refusal::NoRoute(draft.destination)) };
        }
        let mut all = self.state.channels_with(draft.destination).peekable();
        if all.peek().is_none() {
            return Err(Refusal::NoRoute(draft.destination));
        }
        if !self.live.sessions.contains_key(&draft.destination) {
            return Err(Refusal::PeerOffline(draft.destination));
        }
        let usable = all.filter(|(_, entry)| entry.channel.is_usable());
        usable
            .max_by_key(|(_, entry)| entry.channel.available_for_htlc())
            .map(|(id, _)| *id)
            .ok_or_else(|| Refusal::ChannelNotUsable { description: "the channel is not open for payments".to_owned() })
    }

    fn draw_key(&mut self, label: &str) -> SecretKey {
        loop {
            // A hash that is no private key is a 2^-127 chance.
            if let Ok(key) = SecretKey::from_slice(&self.draw(label)) {
                return key;
            }
        }
    }
}

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
