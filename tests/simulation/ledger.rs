//! What an outsider writes down of both daemons' durable turns, and the rules that it holds them to after every step.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{OutPoint, Transaction, Txid};
use channeld::channel::Phase;
use channeld::commitment::{Commitments, Side, View};
use channeld::node::event::{Event, EventKind};
use channeld::node::input::Effect;
use channeld::node::reply::Reply;
use channeld::node::state::change::Change;
use channeld::node::state::{ChannelEntry, State};
use channeld::payment::send::{Payment, PaymentStatus};
use channeld::transactions::CommitmentFormat;
use channeld::units::{ChannelId, Msat, PaymentHash, SessionId};
use channeld::wire::Message;

use super::disk::Turn;
use super::party::Party;

/// A payment as both ends have it on disk.
#[derive(Clone, Debug)]
pub struct Paid {
    /// Who pays.
    pub payer: usize,
    /// How much.
    pub amount: Msat,
    /// The channel of its last attempt.
    pub channel: ChannelId,
    /// Those of attempts before.
    pub earlier: Vec<ChannelId>,
    /// The payer's final outcome, where there is one.
    pub succeeded: Option<bool>,
    /// What the payee says it got.
    pub received: Option<Msat>,
}

/// A channel from its first record on.
#[derive(Clone, Debug)]
pub struct Book {
    /// Its funding output.
    pub funding: OutPoint,
    /// What it holds, in satoshi.
    pub capacity: u64,
    /// Who opened it.
    pub opener: usize,
    /// Its format.
    pub format: CommitmentFormat,
    /// Both balances at the beginning.
    pub initial: [u64; 2],
    /// What each end has sent and received, as its own books say.
    pub moved: [(u64, u64); 2],
    /// The most that HTLCs ever held between the two ends, in millisatoshi.
    pub moving: u64,
    /// The fee of the closing transaction that both signed.
    pub closing_fee: Option<u64>,
    /// Its opener may have broadcast its funding transaction.
    pub funded: bool,
    /// Its opener gave it up before its funding transaction left, which the other end cannot know.
    pub given_up: bool,
    /// The schedule forced it, so that it may fail.
    pub forced: bool,
    /// A commitment that its owner had revoked is in the chain.
    pub cheated: bool,
    /// The number of each end's oldest commitment that the other cannot punish: its secret has not arrived there.
    pub unrevoked: [u64; 2],
}

/// See the file's map.
#[derive(Default)]
pub struct Ledger {
    /// All payments.
    pub payments: BTreeMap<PaymentHash, Paid>,
    /// All channels that anybody ever stored.
    pub channels: BTreeMap<ChannelId, Book>,
    /// The totals of streams as the payer's and the payee's closing events say.
    pub streams: BTreeMap<SessionId, [Option<(ChannelId, Msat)>; 2]>,
    /// Channels on which money crossed the end of its session.
    pub crossed: BTreeSet<ChannelId>,
    /// Received keysend payments and settled invoices whose payer is not known yet.
    received: BTreeMap<PaymentHash, Msat>,
    events: [u64; 2],
    signatures: BTreeMap<(usize, ChannelId, u64), Vec<u8>>,
    /// Commitments that were broadcast by a fault on purpose: of which channel, by whom, and their number.
    pub replayed: BTreeMap<Txid, (ChannelId, usize, u64)>,
    /// Why broadcasts were refused.
    pub refused: Vec<String>,
    /// Counts for the summary.
    pub counts: BTreeMap<&'static str, u64>,
}

impl Ledger {
    /// Whether a payment's success is durable.
    pub fn is_paid(&self, hash: &PaymentHash) -> bool {
        self.payments.get(hash).is_some_and(|paid| paid.succeeded == Some(true))
    }

    /// How many events `who` has logged before.
    pub const fn begin(&mut self, who: usize, events: u64) {
        self.events[who] = events;
    }

    /// Counts something for the summary.
    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// The schedule does something after which the channel may fail.
    pub fn force(&mut self, channel: ChannelId) {
        if let Some(book) = self.channels.get_mut(&channel) {
            book.forced = true;
        }
    }

    /// A turn of `who` became durable.
    pub fn stored(&mut self, who: usize, turn: &Turn, durable: &State) {
        for change in turn.changes() {
            match change {
                Change::ChannelAdded { channel, .. } => {
                    if let Some(entry) = durable.channels.get(&channel.id) {
                        self.channel_added(who, channel.id, entry);
                    }
                }
                Change::PaymentAdded(payment) => self.payment_added(who, &payment),
                _ => {}
            }
        }
        for (_, bytes) in &turn.payments {
            let payment: Payment = postcard::from_bytes(bytes).expect("a payment of the archive");
            self.payment_ended(&payment);
        }
        for (index, bytes) in &turn.events {
            let event: Event = postcard::from_bytes(bytes).expect("an event of the log");
            assert_eq!((*index, event.index), (self.events[who] + 1, self.events[who] + 1), "a gap in the event log");
            self.events[who] += 1;
            self.event(&event.kind);
        }
        for (id, book) in self.channels.iter_mut().filter(|(_, book)| book.opener == who) {
            // A channel that its opener knows as signed by both has a funding transaction that may be out.
            let entry = durable.channels.get(id).and_then(|entry| entry.channel.funded());
            book.funded |= entry.is_some_and(|funded| funded.phase != Phase::AwaitingFundingSigned);
            book.given_up = entry.is_none() && !book.funded;
        }
        for (id, entry) in &durable.channels {
            self.channel_stored(who, *id, entry);
        }
    }

    fn channel_added(&mut self, who: usize, id: ChannelId, entry: &ChannelEntry) {
        let Some(commitments) = entry.channel.commitments() else { return };
        let main = commitments.main();
        let tally = commitments.tally(View::LocalCurrent);
        let (ours, theirs) = (tally.local.msat(), tally.remote.msat());
        let mut initial = [theirs, theirs];
        initial[who] = ours;
        let book = Book {
            funding: main.funding().outpoint(),
            capacity: main.capacity().to_sat(),
            opener: if entry.channel.opener == Side::Local { who } else { 1 - who },
            format: commitments.parameters.format,
            initial,
            moved: [(0, 0); 2],
            moving: 0,
            closing_fee: None,
            funded: false,
            given_up: false,
            forced: false,
            cheated: false,
            unrevoked: [0; 2],
        };
        self.channels.entry(id).or_insert(book);
    }

    fn channel_stored(&mut self, who: usize, id: ChannelId, entry: &ChannelEntry) {
        let Some(book) = self.channels.get_mut(&id) else { return };
        book.moved[who] = (entry.sent.msat(), entry.received.msat());
        let Some(commitments) = entry.channel.commitments() else { return };
        book.unrevoked[1 - who] = commitments.remote_number.number();
        assert!(
            commitments.main().tallies.all().iter().all(|tally| tally.holds(commitments.main().capacity())),
            "balances and HTLCs of {id} do not sum to its capacity"
        );
        book.moving = book.moving.max(under_way(commitments));
        let phase = entry.channel.funded().map(|funded| &funded.phase);
        if let Some(Phase::MutuallyClosed { fee, .. }) = phase {
            book.closing_fee = Some(fee.to_sat());
        }
    }

    fn payment_added(&mut self, who: usize, payment: &Payment) {
        let hash = payment.payment_hash;
        let channel = payment.attempts.last().expect("a payment is journaled with its attempt").channel;
        let mut earlier = Vec::new();
        if let Some(before) = self.payments.get(&hash) {
            assert_eq!(before.succeeded, Some(false), "{hash:?} is paid again before it failed");
            earlier.clone_from(&before.earlier);
            earlier.push(before.channel);
        }
        let received = self.received.get(&hash).copied();
        let paid = Paid { payer: who, amount: payment.amount, channel, earlier, succeeded: None, received };
        self.payments.insert(hash, paid);
    }

    fn payment_ended(&mut self, payment: &Payment) {
        let hash = payment.payment_hash;
        let paid = self.payments.get_mut(&hash).expect("a payment that ends was begun");
        assert_eq!(paid.succeeded, None, "{hash:?} has two final outcomes");
        paid.succeeded = Some(payment.status.is_success());
        if let PaymentStatus::Succeeded { preimage, .. } = payment.status {
            assert_eq!(preimage.payment_hash(), hash, "the proof of payment proves another one");
            let received = self.received.get(&hash);
            assert_eq!(received, Some(&payment.amount), "{hash:?} succeeded and its payee was not paid");
            self.count("paid");
        } else {
            self.count("failed");
        }
    }

    fn event(&mut self, kind: &EventKind) {
        match kind {
            EventKind::InvoiceSettled { payment_hash, amount, .. }
            | EventKind::KeysendReceived { payment_hash, amount, .. } => {
                let before = self.received.insert(*payment_hash, *amount);
                assert_eq!(before, None, "{payment_hash:?} was received twice");
                if let Some(paid) = self.payments.get_mut(payment_hash) {
                    paid.received = Some(*amount);
                }
            }
            EventKind::ChannelFailed { channel, reason, .. } => {
                let forced = self.channels.get(channel).is_some_and(|book| book.forced || book.given_up);
                assert!(forced, "channel {channel} failed and nobody forced it: {reason}");
                self.count("channels failed");
            }
            EventKind::StreamClosed { channel, session, incoming, total, .. } => {
                let role = usize::from(*incoming);
                self.streams.entry(*session).or_default()[role] = Some((*channel, *total));
                self.count("streams closed");
            }
            EventKind::StreamUnsolicited { channel, .. } => {
                // Money that crossed the end of its session: the transfer counts, the session's own total does not.
                self.crossed.insert(*channel);
                self.count("transfers without a session");
            }
            EventKind::ChannelReady { .. } => self.count("channels ready"),
            EventKind::ChannelClosed { .. } => self.count("channels closed"),
            _ => {}
        }
    }

    /// A daemon was made to broadcast a commitment that it had kept: what follows is the schedule's doing.
    pub fn replayed(&mut self, who: usize, durable: &State, package: &[Transaction]) {
        for transaction in package {
            for (id, entry) in &durable.channels {
                let Some(commitments) = entry.channel.commitments() else { continue };
                let Some(number) = commitments.main().local.number_of(transaction) else { continue };
                self.replayed.insert(transaction.compute_txid(), (*id, who, number.number()));
                self.force(*id);
                self.count("faults");
            }
        }
    }

    /// An effect leaves: all that it says must be durable.
    pub fn released(&mut self, who: usize, party: &Party, effect: &Effect) {
        let durable = &party.durable;
        match effect {
            Effect::Events(newest) => assert!(*newest <= durable.head.events, "an event is told before it is durable"),
            Effect::Send { message: Message::RevokeAndAck(message), .. } => {
                let Some(entry) = durable.channels.get(&message.channel_id) else {
                    panic!("a secret of a channel that is not stored left")
                };
                let commitments = entry.channel.commitments().expect("funded");
                let last = commitments.local_number.previous().expect("something was revoked");
                let secret = party.signer.per_commitment_secret(&entry.channel.keys_id, last);
                let sent = &message.per_commitment_secret.0;
                assert_eq!(secret.as_bytes(), sent, "a secret left before the commitment after it was durable");
            }
            Effect::Send { message: Message::CommitmentSigned(message), .. } => {
                let entry = durable.channels.get(&message.channel_id).expect("a signed channel is stored");
                let commitments = entry.channel.commitments().expect("funded");
                assert!(commitments.awaiting_revocation, "a signature left before it was durable");
                let key = (who, message.channel_id, commitments.remote_number.number() + 1);
                let bytes = Message::CommitmentSigned(message.clone()).encode();
                let before = self.signatures.entry(key).or_insert_with(|| bytes.clone());
                assert_eq!(*before, bytes, "two signatures for different commitments of one number");
            }
            Effect::Reply { answer: Ok(Reply::Payment(payment)), .. } if payment.status.is_final() => {
                let ended = !durable.payments.contains_key(&payment.payment_hash);
                assert!(ended, "a payment's outcome was told before it was durable");
            }
            Effect::Broadcast(package) => package.iter().for_each(|it| self.broadcast(durable, it)),
            _ => {}
        }
    }

    fn broadcast(&mut self, durable: &State, transaction: &Transaction) {
        for (id, entry) in &durable.channels {
            let Some(commitments) = entry.channel.commitments() else { continue };
            let Some(number) = commitments.main().local.number_of(transaction) else { continue };
            let replayed = self.replayed.contains_key(&transaction.compute_txid());
            assert!(
                replayed || number >= commitments.local_number,
                "commitment {} of {id} is revoked and was broadcast; the current one is {}",
                number.number(),
                commitments.local_number.number()
            );
        }
        let added = |input: &bitcoin::TxIn| self.channels.values().any(|book| book.funding == input.previous_output);
        if transaction.input.iter().any(added) {
            self.count("funding outputs spent");
        }
    }

    /// A handful of rules that need no step of their own: what each end must agree on when nothing is under way.
    pub fn check_quiet(&self, open: &BTreeSet<ChannelId>) {
        for (hash, paid) in &self.payments {
            if !open.contains(&paid.channel) {
                continue;
            }
            let lost_as_dust = paid.earlier.iter().any(|id| self.channels.get(id).is_some_and(|book| book.forced));
            assert!(paid.succeeded.is_some(), "{hash:?} is in flight and nothing is under way");
            let agree = (paid.succeeded == Some(true)) == paid.received.is_some();
            assert!(agree || lost_as_dust, "the ends differ about {hash:?}");
        }
        for (id, book) in self.channels.iter().filter(|(id, _)| open.contains(*id)) {
            let [one, other] = book.moved;
            assert_eq!((one.0, one.1), (other.1, other.0), "the books of {id} differ");
        }
    }
}

/// All HTLCs between the two ends at this instant, in millisatoshi: they may be dust, which a close by force loses.
fn under_way(commitments: &Commitments) -> u64 {
    let htlcs = commitments.outgoing.values().chain(commitments.incoming.values());
    htlcs.map(|htlc| htlc.offer.amount.msat()).sum()
}
