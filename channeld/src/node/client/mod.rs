//! What clients ask: each command and query in the file of its subject; here, who is answered and what is answered again.

mod audit;
mod bump;
mod channel;
mod coin;
mod fault;
mod invoice;
mod payment;
mod query;
mod stream;

pub(in crate::node) use channel::channel_refusal;
pub use payment::request_refusal;
pub(in crate::node) use query::receivable;

use super::Node;
use super::api::command::{Command, RequestKey};
use super::api::refusal::Refusal;
use super::api::reply::Reply;
use super::input::{Effect, RequestNumber};
use super::state::change::{Answer, Answered, Change, OldAnswer, PeerRecord};
use super::state::row::{RowKey, encode};
use crate::units::NodeId;
use crate::wallet::WalletError;

/// The longest `request_id`.
const MAX_REQUEST_ID: usize = 64;
/// Calls with a `request_id` that may wait for their answer at once.
const MAX_PENDING: usize = 8_192;
/// Answers that may be kept at once, in the archive: a day of 115 calls a second.
const MAX_ANSWERS: u64 = 10_000_000;

/// What a command comes to at once.
type Outcome = Result<Reply, Refusal>;

impl Node {
    pub(super) fn command(&mut self, request: RequestNumber, key: Option<RequestKey>, command: Command) {
        if let Some(key) = key
            && !self.is_fresh(request, &key)
        {
            return;
        }
        match command {
            Command::CreateAddress => {
                let address = self.wallet.next_address().to_string();
                self.answer(request, Ok(Reply::Address(address)));
            }
            Command::SendCoins(send) => {
                let outcome = self.send_coins(&send);
                self.answer(request, outcome);
            }
            Command::BumpTransaction(bump) => {
                let outcome = self.bump(&bump);
                self.answer(request, outcome);
            }
            Command::ConnectPeer { node_id, address } => self.connect_peer(request, node_id, address),
            Command::DisconnectPeer { node_id, force } => {
                let outcome = self.disconnect_peer(node_id, force);
                self.answer(request, outcome);
            }
            Command::OpenChannel(open) => self.open_channel(request, open),
            Command::CloseChannel(close) => {
                let outcome = self.close_channel(&close);
                self.answer(request, outcome);
            }
            Command::UpdateChannelPolicy(update) => {
                let outcome = self.update_policy(&update);
                self.answer(request, outcome);
            }
            Command::CreateInvoice(create) => {
                let outcome = self.create_invoice(&create);
                self.answer(request, outcome);
            }
            Command::SettleInvoice { preimage } => {
                let outcome = self.settle_with(preimage);
                self.answer(request, outcome);
            }
            Command::CancelInvoice { payment_hash } => {
                let outcome = self.cancel_invoice(payment_hash);
                self.answer(request, outcome);
            }
            Command::SendPayment(payment) => self.send_payment(request, &payment),
            Command::OpenStream(stream) => self.open_stream(request, &stream),
            Command::StreamPay(pay) => self.stream_pay(&pay),
            Command::FinishStream { session } => self.finish_stream(session),
            Command::InjectFault(fault) => {
                let outcome = self.inject(fault);
                self.answer(request, outcome);
            }
        }
    }

    /// Whether a call with a key is new. Where it is not, it is answered here, now or with the first.
    fn is_fresh(&mut self, request: RequestNumber, key: &RequestKey) -> bool {
        if key.id.is_empty() || key.id.len() > MAX_REQUEST_ID {
            let description = format!("1 to {MAX_REQUEST_ID} bytes");
            self.reply(request, Err(Refusal::InvalidArgument { field: "request_id", description }));
            return false;
        }
        let recalled = self.live.recalled.remove(&key.id);
        if let Some(answered) = self.state.requests.get(&key.id).cloned().or(recalled) {
            self.replay(request, key, answered);
            return false;
        }
        match self.live.pending.get(&key.id).cloned() {
            Some(pending) if pending.body != key.body => {
                self.reply(request, Err(Refusal::IdempotencyMismatch));
                false
            }
            Some(_) => {
                self.live.followers.entry(key.id.clone()).or_default().push(request);
                false
            }
            None if self.live.pending.len() >= MAX_PENDING || self.state.head.answers >= MAX_ANSWERS => {
                self.reply(request, Err(Refusal::TooManyRequests));
                false
            }
            None => {
                self.live.keys.insert(request, key.clone());
                self.live.pending.insert(key.id.clone(), key.clone());
                true
            }
        }
    }

    fn replay(&mut self, request: RequestNumber, key: &RequestKey, answered: Answered) {
        if answered.body != key.body {
            return self.reply(request, Err(Refusal::IdempotencyMismatch));
        }
        match answered.answer {
            Answer::Reply(reply) => self.reply(request, Ok(*reply)),
            Answer::Payment(hash) => self.watch_payment(request, hash),
            Answer::Stream(session) => self.attach_client(request, session, None),
        }
    }

    /// Answers a question for good, and keeps the answer under its key.
    pub(super) fn answer(&mut self, request: RequestNumber, outcome: Outcome) {
        let key = self.live.take_key(request);
        let followers = key.as_ref().and_then(|key| self.live.followers.remove(&key.id)).unwrap_or_default();
        if let (Some(key), Ok(reply)) = (&key, &outcome) {
            self.keep_answer(key, Answer::Reply(Box::new(reply.clone())));
        }
        for follower in followers {
            self.reply(follower, outcome.clone());
        }
        self.reply(request, outcome);
    }

    /// Answers without a thought of keys.
    pub(super) fn reply(&mut self, request: RequestNumber, answer: Outcome) {
        self.turns.push(Effect::Reply { request, answer, last: true });
    }

    /// Answers, and will answer once more.
    pub(super) fn reply_first(&mut self, request: RequestNumber, reply: Reply) {
        self.turns.push(Effect::Reply { request, answer: Ok(reply), last: false });
    }

    pub(super) fn keep_answer(&mut self, key: &RequestKey, answer: Answer) {
        let answered = Answered { body: key.body, at: self.moment.now, answer };
        let name = RowKey::answer_name(&key.id);
        let payment = match answered.answer {
            Answer::Payment(hash) => Some(hash),
            Answer::Reply(_) | Answer::Stream(_) => None,
        };
        self.draft.rows.push((RowKey::Answer(name).bytes(), Some(encode(&answered))));
        self.draft.rows.push((RowKey::AnswerAge(answered.at, name).bytes(), Some(encode(&payment))));
        self.change(Change::RequestAnswered { id: key.id.clone(), answered });
    }

    /// What the archive says was answered under a key; the command that it is about comes next.
    pub(super) fn recall(&mut self, id: String, answered: Answered) {
        self.live.recalled.insert(id, answered);
    }

    /// Answers that are old enough leave the archive; those about a payment that is in flight stay.
    pub(super) fn forget_answers(&mut self, answers: Vec<OldAnswer>) {
        let mut count = 0;
        for answer in answers {
            if answer.payment.is_some_and(|hash| self.state.payments.contains_key(&hash)) {
                continue;
            }
            self.draft.rows.push((RowKey::Answer(answer.name).bytes(), None));
            self.draft.rows.push((RowKey::AnswerAge(answer.at, answer.name).bytes(), None));
            count += 1;
        }
        if count > 0 {
            self.change(Change::AnswersForgotten(count));
        }
    }

    fn connect_peer(&mut self, request: RequestNumber, node_id: NodeId, address: String) {
        if node_id.0 == self.signer.node_id() {
            return self.answer(request, Err(Refusal::SelfPayment));
        }
        let known = self.state.peers.get(&node_id).filter(|record| record.persistent);
        let is_other = known.map(|record| record.address != address);
        if is_other.is_none() {
            let record = PeerRecord { address: address.clone(), persistent: true };
            self.change(Change::PeerAdded { peer: node_id, record });
        }
        if self.live.sessions.contains_key(&node_id) {
            let info = self.peer_info(node_id);
            return self.answer(request, Ok(Reply::Peer(info)));
        }
        if is_other == Some(true) {
            self.live.tried_addresses.insert(node_id);
        }
        self.live.connect_waiters.entry(node_id).or_default().push(request);
        self.turns.push(Effect::Connect { peer: node_id, address });
    }

    fn disconnect_peer(&mut self, node_id: NodeId, force: bool) -> Outcome {
        if !self.live.sessions.contains_key(&node_id) && !self.state.peers.contains_key(&node_id) {
            return Err(Refusal::PeerNotFound(node_id));
        }
        if !force && self.state.channels_with(node_id).next().is_some() {
            return Err(Refusal::PeerHasChannels(node_id));
        }
        self.forget_peer(node_id);
        self.turns.push(Effect::Forget { peer: node_id });
        if self.state.channels_with(node_id).next().is_some() {
            self.turns.push(Effect::Protect { peer: node_id });
        }
        self.disconnect(node_id);
        Ok(Reply::Done)
    }
}

/// The wallet's no, in the API's words.
pub(super) fn wallet_refusal(error: WalletError) -> Refusal {
    match error {
        WalletError::InsufficientFunds { needed, available } => {
            Refusal::InsufficientFunds { needed_sat: needed.to_sat(), available_sat: available.to_sat() }
        }
        WalletError::FeeAboveLimit { needed, limit } => {
            Refusal::FeeAboveBudget { needed_sat: needed.to_sat(), limit_sat: limit.to_sat() }
        }
        WalletError::Dust(_) => Refusal::InvalidArgument { field: "amount_sat", description: error.to_string() },
        WalletError::NotUnconfirmed(_) => Refusal::NotReplaceable,
        WalletError::FeerateTooLow => Refusal::InvalidArgument { field: "feerate", description: error.to_string() },
        other => Refusal::InvalidArgument { field: "amount_sat", description: other.to_string() },
    }
}
