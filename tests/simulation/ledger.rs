//! What an outsider writes down of the daemons' durable turns, and the rules that it holds them to after every step.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{OutPoint, Transaction, Txid};
use channeld::channel::Phase;
use channeld::commitment::{Commitments, Side, View};
use channeld::node::event::{Event, EventKind};
use channeld::node::input::Effect;
use channeld::node::reply::Reply;
use channeld::node::state::change::Change;
use channeld::node::state::{ChannelEntry, State};
use channeld::payment::forward::Cause;
use channeld::payment::send::{Payment, PaymentStatus};
use channeld::transactions::CommitmentFormat;
use channeld::units::{ChannelId, HtlcId, Msat, NodeId, PaymentHash, SessionId};
use channeld::wire::Message;

use super::disk::Turn;
use super::party::Party;

/// A payment as payer and payee have it on disk.
#[derive(Clone, Debug)]
pub struct Paid {
    /// Who pays.
    pub payer: usize,
    /// How much.
    pub amount: Msat,
    /// The payer's channels of all attempts.
    pub channels: BTreeSet<ChannelId>,
    /// What it cost, once it succeeded.
    pub fee: Msat,
    /// The payer's final outcome, where there is one.
    pub succeeded: Option<bool>,
    /// What the payee says it got.
    pub received: Option<Msat>,
}

/// A channel from its first record on.
#[derive(Clone, Debug)]
pub struct Book {
    /// The daemons at its two ends: what there is twice below is theirs in this order.
    pub ends: [usize; 2],
    /// Its funding output.
    pub funding: OutPoint,
    /// What it holds, in satoshi.
    pub capacity: u64,
    /// Which end opened it.
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

impl Book {
    /// Which end a daemon is.
    pub fn side(&self, who: usize) -> usize {
        usize::from(self.ends[1] == who)
    }

    /// What a daemon has sent and received, as its own books say.
    pub fn moved_by(&self, who: usize) -> (u64, u64) {
        self.moved[self.side(who)]
    }
}

/// See the file's map.
#[derive(Default)]
pub struct Ledger {
    ids: Vec<NodeId>,
    /// All payments.
    pub payments: BTreeMap<PaymentHash, Paid>,
    /// All channels that anybody ever stored.
    pub channels: BTreeMap<ChannelId, Book>,
    /// The totals of streams as the payer's and the payee's closing events say.
    pub streams: BTreeMap<SessionId, [Option<(ChannelId, Msat)>; 2]>,
    /// Channels on which money crossed the end of its session.
    pub crossed: BTreeSet<ChannelId>,
    /// Channels that went on after the copy from which one end came back.
    pub outdated: BTreeSet<ChannelId>,
    /// Who came back from an old copy: what it stores contradicts what it stored before.
    pub restored: Option<usize>,
    /// What all forwarding nodes have earned, in millisatoshi.
    pub earned: u64,
    /// Received keysend payments and settled invoices whose payer is not known yet.
    received: BTreeMap<PaymentHash, Msat>,
    events: BTreeMap<usize, u64>,
    signatures: BTreeMap<(usize, ChannelId, u64), Vec<u8>>,
    /// Commitments that were broadcast by a fault on purpose: of which channel, by whom, and their number.
    pub replayed: BTreeMap<Txid, (ChannelId, usize, u64)>,
    /// Outgoing HTLCs that have been seen, by their sender.
    caused: BTreeSet<(usize, ChannelId, HtlcId)>,
    /// Why broadcasts were refused.
    pub refused: Vec<String>,
    /// Counts for the summary.
    pub counts: BTreeMap<&'static str, u64>,
}

impl Ledger {
    /// An empty one, of these daemons.
    pub fn new(ids: Vec<NodeId>) -> Ledger {
        Ledger { ids, ..Ledger::default() }
    }

    /// Whether a payment's success is durable.
    pub fn is_paid(&self, hash: &PaymentHash) -> bool {
        self.payments.get(hash).is_some_and(|paid| paid.succeeded == Some(true))
    }

    /// How many events `who` has logged before.
    pub fn begin(&mut self, who: usize, events: u64) {
        self.events.insert(who, events);
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
        if self.restored == Some(who) {
            return;
        }
        let mut ended = turn.payments.iter();
        for change in turn.changes() {
            match change {
                Change::ChannelAdded { channel, .. } => {
                    if let Some(entry) = durable.channels.get(&channel.id) {
                        self.channel_added(who, channel.id, entry);
                    }
                }
                Change::PaymentAdded(payment) => self.payment_added(who, &payment),
                Change::PaymentAttempted { payment_hash, attempt } => {
                    if let Some(paid) = self.payments.get_mut(&payment_hash) {
                        paid.channels.insert(attempt.channel);
                    }
                }
                // In order: what failed for certain may be begun again in the same turn.
                Change::PaymentEnded { .. } => {
                    let (_, bytes) = ended.next().expect("a payment that ends is in the archive");
                    self.payment_ended(&postcard::from_bytes(bytes).expect("a payment of the archive"));
                }
                _ => {}
            }
        }
        assert!(ended.next().is_none(), "a payment of the archive did not end");
        for (index, bytes) in &turn.events {
            let event: Event = postcard::from_bytes(bytes).expect("an event of the log");
            let newest = self.events.entry(who).or_default();
            *newest += 1;
            assert_eq!((*index, event.index), (*newest, *newest), "a gap in the event log");
            self.event(&event.kind);
        }
        for (id, book) in self.channels.iter_mut().filter(|(_, book)| book.ends[book.opener] == who) {
            // A channel that its opener knows as signed by both has a funding transaction that may be out.
            let entry = durable.channels.get(id).and_then(|entry| entry.channel.funded());
            book.funded |= entry.is_some_and(|funded| funded.phase != Phase::AwaitingFundingSigned);
            book.given_up = entry.is_none() && !book.funded;
        }
        for (id, entry) in &durable.channels {
            self.channel_stored(who, *id, entry);
        }
        self.check_causes(who, durable);
    }

    fn channel_added(&mut self, who: usize, id: ChannelId, entry: &ChannelEntry) {
        let Some(commitments) = entry.channel.commitments() else { return };
        let main = commitments.main();
        let tally = commitments.tally(View::LocalCurrent);
        let (ours, theirs) = (tally.local.msat(), tally.remote.msat());
        let peer = self.ids.iter().position(|id| *id == entry.peer).expect("nobody else is there");
        let ends = [who.min(peer), who.max(peer)];
        let side = usize::from(ends[1] == who);
        let mut initial = [theirs, theirs];
        initial[side] = ours;
        let book = Book {
            ends,
            funding: main.funding().outpoint(),
            capacity: main.capacity().to_sat(),
            opener: if entry.channel.opener == Side::Local { side } else { 1 - side },
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
        let side = book.side(who);
        book.moved[side] = (entry.sent.msat(), entry.received.msat());
        let Some(commitments) = entry.channel.commitments() else { return };
        book.unrevoked[1 - side] = commitments.remote_number.number();
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
        let mut channels: BTreeSet<ChannelId> = payment.attempts.iter().map(|attempt| attempt.channel).collect();
        if let Some(before) = self.payments.get(&hash) {
            assert_eq!(before.succeeded, Some(false), "{hash:?} is paid again before it failed");
            channels.extend(&before.channels);
        }
        let received = self.received.get(&hash).copied();
        let (amount, fee) = (payment.amount, Msat::ZERO);
        let paid = Paid { payer: who, amount, channels, fee, succeeded: None, received };
        self.payments.insert(hash, paid);
    }

    fn payment_ended(&mut self, payment: &Payment) {
        let hash = payment.payment_hash;
        let paid = self.payments.get_mut(&hash).expect("a payment that ends was begun");
        assert_eq!(paid.succeeded, None, "{hash:?} has two final outcomes");
        paid.succeeded = Some(payment.status.is_success());
        paid.fee = payment.fee();
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
            EventKind::Forwarded { incoming_amount, outgoing_amount, .. } => {
                let fee = incoming_amount.checked_sub(*outgoing_amount).expect("nobody forwards more than came");
                self.earned += fee.msat();
                self.count("forwarded");
            }
            EventKind::ForwardFailed { .. } => self.count("not forwarded"),
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
                let side = self.channels.get(id).map_or(0, |book| book.side(who));
                self.replayed.insert(transaction.compute_txid(), (*id, side, number.number()));
                self.force(*id);
                self.count("faults");
            }
        }
    }

    /// An effect leaves: all that it says must be durable.
    pub fn released(&mut self, who: usize, party: &Party, effect: &Effect) {
        let durable = &party.durable;
        if self.restored == Some(who) {
            return self.released_by_restored(durable, effect);
        }
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
                // Decided by its first part; it stays until the last one has come to its end. One that failed may be begun again.
                let known = durable.payments.get(&payment.payment_hash);
                let ended = known.is_none_or(|known| known.status.is_final() || known.index > payment.index);
                assert!(ended, "a payment's outcome was told before it was durable");
            }
            Effect::Broadcast(package) => package.iter().for_each(|it| self.broadcast(durable, it)),
            _ => {}
        }
    }

    /// Whoever has lost data signs nothing and broadcasts no commitment of a channel that has gone on meanwhile.
    fn released_by_restored(&self, durable: &State, effect: &Effect) {
        match effect {
            Effect::Send { message: Message::CommitmentSigned(message), .. } => {
                assert!(!self.outdated.contains(&message.channel_id), "old data is signed");
            }
            Effect::Broadcast(package) => {
                for transaction in package {
                    let spends = |id: &&ChannelId| {
                        let commitments = durable.channels.get(*id).and_then(|entry| entry.channel.commitments());
                        commitments.is_some_and(|it| it.main().local.number_of(transaction).is_some())
                    };
                    let old = self.outdated.iter().find(spends);
                    assert_eq!(old, None, "a commitment of old data is broadcast");
                }
            }
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
    /// Payments that are `waiting` for time alone are not decided.
    pub fn check_quiet(&self, open: &BTreeSet<ChannelId>, waiting: &BTreeSet<PaymentHash>) {
        // A payment may wait for the chain on any channel of its way; of a pair's, its own says it all.
        let all_open = self.channels.iter().all(|(id, book)| open.contains(id) || book.given_up);
        let any_forced = self.channels.values().any(|book| book.forced);
        for (hash, paid) in &self.payments {
            let decided = if self.is_network() { all_open } else { paid.channels.is_subset(open) };
            if !decided || waiting.contains(hash) {
                continue;
            }
            let mut before = paid.channels.iter().filter_map(|id| self.channels.get(id));
            let lost_as_dust = before.any(|book| book.forced) || (self.is_network() && any_forced);
            assert!(paid.succeeded.is_some(), "{hash:?} is in flight and nothing is under way");
            let agree = (paid.succeeded == Some(true)) == paid.received.is_some();
            assert!(agree || lost_as_dust, "payer and payee differ about {hash:?}");
        }
        for (id, book) in self.channels.iter().filter(|(id, _)| open.contains(*id)) {
            let [one, other] = book.moved;
            assert_eq!((one.0, one.1), (other.1, other.0), "the books of {id} differ");
        }
    }

    /// No HTLC goes out without a reason: a payment of its own, or one HTLC that came in. The reason ends when the preimage is
    /// known, also where a lost connection takes the removal back.
    fn check_causes(&mut self, who: usize, durable: &State) {
        for (channel, entry) in &durable.channels {
            for htlc in entry.channel.commitments().into_iter().flat_map(|it| it.outgoing.values()) {
                let id = htlc.offer.id;
                if self.caused.insert((who, *channel, id)) {
                    let known = htlc.removal.is_some() || durable.cause_of(*channel, id).is_some();
                    assert!(known, "{who}: HTLC {id} of {channel} has no cause");
                }
            }
        }
        let mut forwarded = BTreeSet::new();
        for (place, cause) in durable.causes() {
            match cause {
                Cause::Payment(hash) => assert!(durable.payments.contains_key(&hash), "{place:?} is of no payment"),
                Cause::Forward(incoming) => {
                    assert!(durable.forwards.contains_key(&incoming), "{place:?} is of no forward");
                    assert!(forwarded.insert(incoming), "{incoming:?} is forwarded twice");
                }
            }
        }
    }

    /// Whether there are more than two.
    pub fn is_network(&self) -> bool {
        self.ids.len() > 2
    }
}

/// All HTLCs between the two ends at this instant, in millisatoshi: they may be dust, which a close by force loses.
fn under_way(commitments: &Commitments) -> u64 {
    let htlcs = commitments.outgoing.values().chain(commitments.incoming.values());
    htlcs.map(|htlc| htlc.offer.amount.msat()).sum()
}
