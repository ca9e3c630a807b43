//! How the rest of the process asks the node: cloneable, asynchronous, bounded.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

use super::archive;
use super::client::{Answer, Clients};
use super::mailbox::{Credit, Mailbox};
use super::pathfinder::Asker;
use crate::chain::Backend;
use crate::gossip::{GossipStatus, Rim};
use crate::graph::Snapshot;
use crate::node::client::request_refusal;
use crate::node::command::{Command, OpenStream, PaymentTarget, Query, RequestKey, SendPayment};
use crate::node::event::Event;
use crate::node::input::{Input, RequestNumber};
use crate::node::refusal::Refusal;
use crate::node::reply::Reply;
use crate::payment::invoice::parse_invoice;
use crate::payment::send::Payment;
use crate::store::{Reader, Stream as History};

pub use super::stream::{Stream, StreamSender, StreamUpdates};

/// A way to the node. Dropping a future that waits for an answer never undoes what was asked.
#[derive(Clone)]
pub struct Handle {
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) clients: Arc<Clients>,
    pub(super) reader: Reader,
    pub(super) pathfinder: Asker,
    pub(super) newest_event: watch::Receiver<u64>,
    pub(super) network: bitcoin::Network,
    pub(super) backend: Backend,
    pub(super) rim: Rim,
}

impl Handle {
    /// The newest graph of the public network.
    pub fn graph(&self) -> Arc<Snapshot> {
        Arc::clone(&self.rim.graph.borrow())
    }

    /// How complete the graph is.
    pub fn graph_status(&self) -> GossipStatus {
        *self.rim.status.borrow()
    }

    /// Has a command done; comes back after the flush of its turn. With a key, a repetition is answered from the first.
    /// Not for `SendPayment`, `OpenStream`, `StreamPay` and `FinishStream`.
    ///
    /// # Errors
    /// A refusal: nothing was changed.
    pub async fn command(&self, command: Command, key: Option<RequestKey>) -> Result<Reply, Refusal> {
        let cancelled = match &command {
            Command::CancelInvoice { payment_hash } => Some(*payment_hash),
            _ => None,
        };
        let named = match &command {
            Command::CreateInvoice(create) => {
                create.payment_hash.or_else(|| create.preimage.map(|preimage| preimage.payment_hash()))
            }
            _ => None,
        };
        if named.is_some_and(|hash| archive::invoice(&self.reader, &hash).is_ok()) {
            // The node forgets an invoice that has ended. A repetition of what made it hears its answer.
            return self.ask_node(Query::Replay(key.ok_or(Refusal::InvoiceExists)?)).await.map_err(|refusal| {
                match refusal {
                    Refusal::AlreadyPaid => Refusal::InvoiceExists,
                    other => other,
                }
            });
        }
        self.recall(key.as_ref());
        let (_, mut answers, credit) = self.ask(|request| Input::Command { request, key, command })?;
        self.push(credit);
        match (answers.next().await, cancelled) {
            // The node forgets an invoice that has ended; the archive does not.
            (Err(Refusal::InvoiceNotFound), Some(hash)) if archive::invoice(&self.reader, &hash).is_ok() => {
                Err(Refusal::InvoiceNotOpen)
            }
            (answer, _) => answer.map_err(|refusal| self.known_as_closed(refusal)),
        }
    }

    /// The node forgets a channel that is closed; the archive does not, and whoever names it learns why it is of no use.
    fn known_as_closed(&self, refusal: Refusal) -> Refusal {
        match refusal {
            Refusal::ChannelNotFound(id) if archive::channel(&self.reader, id).is_ok() => {
                Refusal::ChannelNotUsable { description: "the channel is closed".to_owned() }
            }
            other => other,
        }
    }

    /// Reads what is durable.
    ///
    /// # Errors
    /// A refusal.
    pub async fn query(&self, query: Query) -> Result<Reply, Refusal> {
        match query {
            Query::ListPayments(page) => archive::payments(self, page).await,
            Query::ListChannels { peer, page } => archive::channels(self, peer, page).await,
            Query::ListInvoices(page) => archive::invoices(self, page).await,
            query @ Query::AuditChannels { .. } => archive::audit::channels(self, query).await,
            Query::Payment(hash) => match self.ask_node(Query::Payment(hash)).await {
                Err(Refusal::PaymentNotFound) => archive::payment(&self.reader, &hash),
                answer => answer,
            },
            Query::AwaitPayment(hash) => match self.ask_node(Query::AwaitPayment(hash)).await {
                Err(Refusal::PaymentNotFound) => archive::payment(&self.reader, &hash),
                answer => answer,
            },
            Query::Channel(id) => match self.ask_node(Query::Channel(id)).await {
                Err(Refusal::ChannelNotFound(_)) => archive::channel(&self.reader, id),
                answer => answer,
            },
            Query::ChannelNamed(name) => match self.ask_node(Query::ChannelNamed(name)).await {
                Err(Refusal::ChannelNotFound(_)) => archive::channel_named(&self.reader, name),
                answer => answer,
            },
            Query::Invoice(hash) => match self.ask_node(Query::Invoice(hash)).await {
                Err(Refusal::InvoiceNotFound) => archive::invoice(&self.reader, &hash),
                answer => answer,
            },
            query => self.ask_node(query).await.map_err(|refusal| self.known_as_closed(refusal)),
        }
    }

    /// Asks the node itself, without the archive.
    pub(super) async fn ask_node(&self, query: Query) -> Result<Reply, Refusal> {
        let (_, mut answers, credit) = self.ask(|request| Input::Query { request, query })?;
        self.push(credit);
        answers.next().await
    }

    /// Has a payment made: the first state comes when it is journaled, the last is final.
    ///
    /// # Errors
    /// A refusal: nothing was paid and nothing will be.
    pub async fn send_payment(
        &self,
        mut payment: SendPayment,
        key: Option<RequestKey>,
    ) -> Result<PaymentUpdates, Refusal> {
        let mut input: Option<Query> = None;
        if let PaymentTarget::Invoice(text) = &payment.target {
            // Read here, and not in the node's thread: the signature costs more than all else about it.
            let request = parse_invoice(text, self.network).map_err(request_refusal)?;
            if archive::is_paid(&self.reader, &request.payment_hash) {
                input = Some(Query::Replay(key.clone().ok_or(Refusal::AlreadyPaid)?));
            }
            payment.target = PaymentTarget::Request(Box::new(request));
        }
        let validate_only = payment.validate_only;
        self.recall(key.as_ref());
        let (_, mut answers, credit) = self.ask(|request| match input {
            Some(query) => Input::Query { request, query },
            None => Input::Command { request, key, command: Command::SendPayment(payment) },
        })?;
        self.push(credit);
        let first = match self.whole(answers.next().await?)? {
            Reply::Payment(payment) => Some(*payment),
            Reply::Done if validate_only => None,
            _ => return Err(Refusal::ShuttingDown),
        };
        Ok(PaymentUpdates { next: first, answers, handle: self.clone(), is_waiting: false })
    }

    /// What the node has forgotten is in the archive.
    fn whole(&self, reply: Reply) -> Result<Reply, Refusal> {
        match reply {
            Reply::EndedPayment(hash) => archive::payment(&self.reader, &hash),
            reply => Ok(reply),
        }
    }

    /// Opens or resumes a stream.
    ///
    /// # Errors
    /// A refusal.
    pub async fn open_stream(&self, stream: OpenStream, key: Option<RequestKey>) -> Result<Stream, Refusal> {
        let (rate, most) = (stream.max_payments_per_second, stream.max_uncommitted);
        let command = Command::OpenStream(stream);
        self.recall(key.as_ref());
        let (request, mut answers, credit) = self.ask(|request| Input::Command { request, key, command })?;
        let status = self.clients.watch_stream(request);
        self.push(credit);
        match answers.next().await {
            Ok(Reply::StreamOpened(opened)) => Ok(Stream::new(self.clone(), request, opened, status, rate, most)),
            other => {
                self.clients.forget_stream(request);
                Err(self.known_as_closed(other.err().unwrap_or(Refusal::ShuttingDown)))
            }
        }
    }

    /// Who searches routes: for `QueryRoutes`, which the node's thread is not asked for.
    pub fn pathfinder(&self) -> &Asker {
        &self.pathfinder
    }

    /// The network in which addresses and invoices are written.
    pub fn network(&self) -> bitcoin::Network {
        self.network
    }

    /// The durable event log.
    pub fn events(&self) -> EventLog {
        EventLog { reader: self.reader.clone(), newest: self.newest_event.clone() }
    }

    /// Answers that the node has forgotten are in the archive: it is told of the one that the next call repeats.
    fn recall(&self, key: Option<&RequestKey>) {
        if let Some(key) = key
            && let Some(answered) = archive::answered(&self.reader, &key.id)
        {
            self.mailbox.push(Input::Recalled { id: key.id.clone(), answered }, Credit::None);
        }
    }

    /// A number, a place for the answers, and the credit: refused where too many wait already.
    fn ask(&self, input: impl FnOnce(RequestNumber) -> Input) -> Result<(RequestNumber, Answers, Asked), Refusal> {
        let credit = self.clients.credit()?;
        let (request, answers) = self.clients.register()?;
        let answers = Answers { answers, request, clients: Arc::clone(&self.clients) };
        Ok((request, answers, Asked { input: input(request), credit }))
    }

    fn push(&self, asked: Asked) {
        self.mailbox.push(asked.input, Credit::Client(asked.credit));
    }
}

struct Asked {
    input: Input,
    credit: OwnedSemaphorePermit,
}

/// The answers to one question; the place is given back on drop.
struct Answers {
    answers: mpsc::Receiver<Answer>,
    request: RequestNumber,
    clients: Arc<Clients>,
}

impl Answers {
    async fn next(&mut self) -> Result<Reply, Refusal> {
        self.answers.recv().await.unwrap_or(Err(Refusal::ShuttingDown))
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.clients.forget(self.request);
    }
}

fn payment_of(reply: Reply) -> Result<Payment, Refusal> {
    match reply {
        Reply::Payment(payment) => Ok(*payment),
        _ => Err(Refusal::ShuttingDown),
    }
}

/// The states of one payment.
pub struct PaymentUpdates {
    next: Option<Payment>,
    answers: Answers,
    handle: Handle,
    is_waiting: bool,
}

impl PaymentUpdates {
    /// The next state, or `None` after the final one, and at once where the payment was only checked. Waits as long as
    /// the payment is in flight.
    pub async fn next(&mut self) -> Option<Payment> {
        if std::mem::take(&mut self.is_waiting) {
            let answer = self.answers.next().await.and_then(|reply| self.handle.whole(reply));
            return answer.and_then(payment_of).ok();
        }
        let payment = self.next.take()?;
        self.is_waiting = !payment.status.is_final();
        Some(payment)
    }
}

/// The durable event log.
#[derive(Clone)]
pub struct EventLog {
    reader: Reader,
    newest: watch::Receiver<u64>,
}

impl EventLog {
    /// The index of the newest durable event, 0 where there is none.
    pub fn newest(&self) -> u64 {
        *self.newest.borrow()
    }

    /// The index of the oldest event that is kept.
    pub fn first(&self) -> u64 {
        self.reader.history_first(History::Events)
    }

    /// Up to `limit` events after `index`, in order; waits until there is one. Read from disk where they are old: a
    /// slow reader never holds the node back. Empty only when the daemon stops.
    pub async fn after(&self, index: u64, limit: usize) -> Vec<Event> {
        let mut newest = self.newest.clone();
        if newest.wait_for(|newest| *newest > index).await.is_err() {
            return Vec::new();
        }
        let reader = self.reader.clone();
        let read = tokio::task::spawn_blocking(move || reader.history_after(History::Events, index, limit)).await;
        match read {
            Ok(Ok(entries)) => entries.iter().filter_map(|(_, bytes)| postcard::from_bytes(bytes).ok()).collect(),
            Ok(Err(error)) => {
                tracing::error!(%error, "the event log cannot be read");
                Vec::new()
            }
            Err(_) => Vec::new(),
        }
    }
}
