//! Whoever sits at the daemons' APIs: what was asked, what is waited for, and what can be asked next.

use std::collections::BTreeMap;

use bitcoin::{Amount, OutPoint};
use channeld::node::command::{Command, Query};
use channeld::node::input::{Input, RequestNumber};
use channeld::node::refusal::Refusal;
use channeld::node::reply::Reply;
use channeld::units::{Msat, PaymentHash, SessionId};

/// An invoice that may be paid.
#[derive(Clone, Debug)]
pub struct Bill {
    /// Who made it.
    pub payee: usize,
    /// Its text.
    pub text: String,
    /// Its hash.
    pub payment_hash: PaymentHash,
    /// What it asks for.
    pub amount: Option<Msat>,
    /// Who pays it: whoever tried first.
    pub payer: Option<usize>,
}

/// A stream in which we pay.
#[derive(Clone, Debug)]
pub struct Payer {
    /// Whose.
    pub who: usize,
    /// Its session.
    pub session: SessionId,
    /// The sequence of the next payment.
    pub next: u64,
    /// The client is gone: it must resume before it goes on.
    pub detached: bool,
    /// No more is paid.
    pub finished: bool,
}

/// See the file's map.
#[derive(Default)]
pub struct Clients {
    next: u64,
    waiting: BTreeMap<RequestNumber, usize>,
    /// Invoices that were made.
    pub bills: Vec<Bill>,
    /// Streams that were opened.
    pub streams: Vec<Payer>,
    /// The coins of each daemon's wallet, as it said last.
    pub coins: BTreeMap<usize, BTreeMap<OutPoint, Amount>>,
}

impl Clients {
    /// A question to `who`.
    pub fn ask(&mut self, who: usize, command: Command) -> Input {
        self.next += 1;
        let request = RequestNumber(self.next);
        self.waiting.insert(request, who);
        Input::Command { request, key: None, command }
    }

    /// A question to `who` that changes nothing.
    pub fn query(&mut self, who: usize, query: Query) -> Input {
        self.next += 1;
        let request = RequestNumber(self.next);
        self.waiting.insert(request, who);
        Input::Query { request, query }
    }

    /// The process of `who` died: nobody is answered any more.
    pub fn crashed(&mut self, who: usize) {
        self.waiting.retain(|_, asked| *asked != who);
        self.streams.iter_mut().filter(|stream| stream.who == who).for_each(|stream| stream.detached = true);
    }

    /// An answer came.
    ///
    /// # Panics
    /// Where nobody waits for it.
    pub fn answered(&mut self, who: usize, request: RequestNumber, answer: &Result<Reply, Refusal>, last: bool) {
        assert_eq!(self.waiting.get(&request), Some(&who), "an answer that nobody waits for");
        if last {
            self.waiting.remove(&request);
        }
        match answer {
            Ok(Reply::Invoice(invoice)) => {
                let (text, payment_hash) = (invoice.payment_request.clone(), invoice.payment_hash);
                let bill = Bill { payee: who, text, payment_hash, amount: invoice.amount, payer: None };
                self.bills.push(bill);
            }
            Ok(Reply::StreamOpened(opened)) => {
                let (session, next) = (opened.session, opened.accepted_sequence + 1);
                self.streams.retain(|stream| stream.session != session);
                self.streams.push(Payer { who, session, next, detached: false, finished: false });
            }
            Ok(Reply::UnspentOutputs(page)) => {
                let coins = page.items.iter().map(|coin| (coin.outpoint, coin.amount)).collect();
                self.coins.insert(who, coins);
            }
            Err(Refusal::StreamNotFound(session)) => self.streams.retain(|stream| stream.session != *session),
            _ => {}
        }
    }

    /// A stream is over.
    pub fn closed(&mut self, session: SessionId) {
        self.streams.retain(|stream| stream.session != session);
    }
}
