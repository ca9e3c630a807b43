//! Streams of netted transfers: what clients ask of them, and what channels say of them.

use std::collections::BTreeSet;

use super::channel::channel_refusal;
use crate::channel::{self, Channel, Command};
use crate::commitment::{SessionMark, Side};
use crate::node::Node;
use crate::node::api::command::{OpenStream, StreamPay, StreamTarget};
use crate::node::api::event::EventKind;
use crate::node::api::refusal::Refusal;
use crate::node::api::reply::{Reply, StreamOpened};
use crate::node::input::{Effect, RequestNumber};
use crate::node::live::StreamClient;
use crate::node::send::reach;
use crate::node::state::change::{Answer, Change};
use crate::payment::batch::Carrier;
use crate::payment::stream::{
    Mark, OutgoingStream, Receipt, StreamChange, StreamCloseReason, StreamClosed, StreamStatus, StreamWindow, fitting,
};
use crate::units::{ChannelId, Msat, NodeId, SessionId};
use crate::wire::{PaymentRun, TransferCloseReason, TransferReceipt};

/// Payments of one session that may be accepted and not committed: the driver hands over fewer.
const MAX_UNCOMMITTED_PAYMENTS: u64 = 262_144;
/// Streams of ours over HTLCs at once.
const MAX_STREAMS_BY_HTLC: usize = 1_024;
/// How long the payee's receipt is waited for, in microseconds.
const ANSWER_MICROS: u64 = 5_000_000;

/// What transfers may still take, whether or not the peer is there: payments are journaled while it is away.
fn spendable(channel: &Channel) -> Msat {
    let funded = channel.funded().filter(|funded| funded.is_ready() && !funded.is_closing());
    funded.map_or(Msat::ZERO, |funded| funded.commitments.available_to_send())
}

impl Node {
    pub(super) fn open_stream(&mut self, request: RequestNumber, open: &OpenStream) {
        let outcome = match open.resume {
            Some(session) => self.resume_stream(session, open),
            None => self.begin_stream(open),
        };
        match outcome {
            Err(refusal) => self.answer(request, Err(refusal)),
            Ok(session) => {
                if let Some(key) = self.live.take_key(request) {
                    self.keep_answer(&key, Answer::Stream(session));
                }
                self.attach_client(request, session, open.max_uncommitted);
            }
        }
    }

    fn begin_stream(&mut self, open: &OpenStream) -> Result<SessionId, Refusal> {
        let session = SessionId(self.draw("stream/session"));
        let mut stream = match self.begin_transfers(session, open.target) {
            // A peer without transfers, or a payee that is no peer: HTLCs carry it.
            Err(Refusal::TransfersNotNegotiated | Refusal::NoRoute(_)) => self.begin_by_htlc(open.target)?,
            outcome => outcome?,
        };
        stream.max_total = open.max_total;
        stream.batch_delay_micros = u64::from(open.batch_delay_millis) * 1_000;
        self.change(Change::StreamAdded { session, stream: Box::new(stream) });
        Ok(session)
    }

    fn begin_transfers(&mut self, session: SessionId, target: StreamTarget) -> Result<OutgoingStream, Refusal> {
        let id = self.stream_channel(target)?;
        let command = Command::OpenSession { session, receipt_wanted: false };
        self.drive(id, channel::Input::Command(command)).map_err(channel_refusal)?;
        let payee = self.state.channels.get(&id).ok_or(Refusal::ChannelNotFound(id))?.peer;
        Ok(OutgoingStream::new(id, payee, self.moment.now))
    }

    fn begin_by_htlc(&self, target: StreamTarget) -> Result<OutgoingStream, Refusal> {
        let (channel, payee) = match target {
            StreamTarget::Channel(id) => (id, self.state.channels.get(&id).ok_or(Refusal::ChannelNotFound(id))?.peer),
            StreamTarget::Node(payee) => (ChannelId::ALL, payee),
        };
        if payee.0 == self.signer.node_id() {
            return Err(Refusal::SelfPayment);
        }
        if self.first_hops(None, &BTreeSet::new()).is_empty() {
            return Err(Refusal::NoRoute(payee));
        }
        let by_htlc = self.state.streams.values().filter(|stream| stream.is_by_htlc()).count();
        if by_htlc >= MAX_STREAMS_BY_HTLC {
            return Err(Refusal::TooManyStreams);
        }
        let mut stream = OutgoingStream::new(channel, payee, self.moment.now);
        stream.carrier = Carrier::Keysend { under_way: None };
        Ok(stream)
    }

    fn resume_stream(&mut self, session: SessionId, open: &OpenStream) -> Result<SessionId, Refusal> {
        let stream = self.state.streams.get(&session).ok_or(Refusal::StreamNotFound(session))?;
        if stream.finishing.is_some() {
            return Err(Refusal::StreamNotFound(session));
        }
        let change = StreamChange::Resumed {
            max_total: open.max_total,
            batch_delay_micros: u64::from(open.batch_delay_millis) * 1_000,
        };
        self.change(Change::Stream { session, change });
        Ok(session)
    }

    fn stream_channel(&self, target: StreamTarget) -> Result<ChannelId, Refusal> {
        match target {
            StreamTarget::Channel(id) if self.state.channels.contains_key(&id) => Ok(id),
            StreamTarget::Channel(id) => Err(Refusal::ChannelNotFound(id)),
            StreamTarget::Node(peer) => {
                let all = self.state.channels_with(peer);
                let best = all.max_by_key(|(_, entry)| entry.channel.available_for_transfer());
                best.map(|(id, _)| *id).ok_or(Refusal::NoRoute(peer))
            }
        }
    }

    /// A client takes a session over; one that had it before hears no more.
    pub(in crate::node) fn attach_client(&mut self, request: RequestNumber, session: SessionId, max: Option<Msat>) {
        let Some(stream) = self.state.streams.get(&session) else {
            return self.reply(request, Err(Refusal::StreamNotFound(session)));
        };
        let channel = stream.channel;
        let available = self.stream_spendable(stream);
        let opened = StreamOpened {
            session,
            channel,
            available: available.saturating_sub(stream.uncommitted()),
            accepted_sequence: stream.accepted.sequence,
            committed_sequence: stream.committed.sequence,
        };
        let client = StreamClient {
            request,
            arrivals: std::collections::VecDeque::new(),
            latency_micros: 0,
            enforceable: Msat::ZERO,
            batch_due: None,
            max_uncommitted: max,
        };
        self.live.stream_clients.insert(session, client);
        self.reply(request, Ok(Reply::StreamOpened(opened)));
        self.live.to_tell.insert(session);
    }

    pub(super) fn stream_pay(&mut self, pay: &StreamPay) {
        let session = pay.session;
        let Some(stream) = self.state.streams.get(&session) else { return };
        if stream.finishing.is_some() {
            return;
        }
        // The driver keeps its clients to sequences without a gap; what came before counts once.
        let Some(runs) = stream.fresh(pay.first_sequence, &pay.amounts, &pay.tags) else { return };
        let (channel, delay) = (stream.channel, stream.batch_delay_micros);
        // How payments come together is chance: those that fit count, and the first that does not ends the session.
        let most = stream.max_total.map_or(u64::MAX, |most| most.saturating_sub(stream.accepted.total).msat());
        let room = self.room_for_payments(session, stream);
        let (runs, within_total) = fitting(runs, Msat::new(most), u64::MAX);
        let (runs, within_balance) = fitting(runs, room.amount, u64::MAX);
        // What memory does not allow was never accepted: it comes again, with what follows.
        let (runs, _) = fitting(runs, room.amount, room.payments);
        self.accept_payments(session, channel, delay, runs);
        if !within_balance {
            self.finish_with(session, StreamCloseReason::BalanceExhausted);
        } else if !within_total {
            self.finish_with(session, StreamCloseReason::TotalReached);
        }
    }

    fn accept_payments(&mut self, session: SessionId, channel: ChannelId, delay: u64, runs: Vec<PaymentRun>) {
        if runs.is_empty() {
            return;
        }
        self.change(Change::Stream { session, change: StreamChange::Accepted { runs } });
        let accepted = self.state.streams.get(&session).map_or(0, |stream| stream.accepted.sequence);
        let now = self.moment.now;
        if let Some(client) = self.live.stream_clients.get_mut(&session) {
            client.arrivals.push_back((accepted, now));
            if delay > 0 {
                client.batch_due.get_or_insert(crate::units::UnixTime::new(now.micros().saturating_add(delay)));
            }
        }
        self.live.to_seal.insert(channel);
        self.live.to_batch.insert(session);
        self.live.to_tell.insert(session);
    }

    pub(super) fn finish_stream(&mut self, session: SessionId) {
        self.finish_with(session, StreamCloseReason::Finished);
    }

    fn finish_with(&mut self, session: SessionId, reason: StreamCloseReason) {
        let Some(stream) = self.state.streams.get(&session) else { return };
        if stream.finishing.is_some() {
            return;
        }
        self.change(Change::Stream { session, change: StreamChange::Finishing { reason } });
        if let Some(client) = self.live.stream_clients.get_mut(&session) {
            client.batch_due = None;
        }
        self.stream_moved(session);
        self.close_if_settled(session);
    }

    /// All that was accepted is paid, and no more comes: the payee is told, and answers with a receipt.
    fn close_if_settled(&mut self, session: SessionId) {
        let Some(stream) = self.state.streams.get(&session) else { return };
        if stream.finishing.is_none() || !stream.is_settled() {
            return;
        }
        if stream.is_by_htlc() {
            let reason = stream.finishing.unwrap_or(StreamCloseReason::Finished);
            return match self.ask_receipt(session) {
                true => drop(self.live.closing_streams.insert(session, self.moment.now)),
                false => self.end_stream(session, reason),
            };
        }
        let channel = stream.channel;
        let command = Command::CloseSession { payer: Side::Local, session, reason: TransferCloseReason::Finished };
        match self.drive(channel, channel::Input::Command(command)) {
            Ok(()) => drop(self.live.closing_streams.insert(session, self.moment.now)),
            // It is tried again when the peer is back.
            Err(channel::Refusal::NotConnected | channel::Refusal::NotReady) => {}
            Err(_) => self.end_stream(session, StreamCloseReason::ChannelClosed),
        }
    }

    /// Streams that are done are closed as soon as the peer is there, and not waited for longer than it takes to answer.
    pub(in crate::node) fn close_settled_streams(&mut self) {
        let done = self.state.streams.iter().filter(|(_, stream)| stream.finishing.is_some() && stream.is_settled());
        let sessions: Vec<(SessionId, Option<StreamCloseReason>)> =
            done.map(|(session, stream)| (*session, stream.finishing)).collect();
        for (session, reason) in sessions {
            match self.live.closing_streams.get(&session) {
                None => self.close_if_settled(session),
                Some(since) if self.moment.now.micros_since(*since) > ANSWER_MICROS => {
                    self.end_stream(session, reason.unwrap_or(StreamCloseReason::Finished));
                }
                Some(_) => {}
            }
        }
    }

    /// The payee closed the session, or answered our closing of it; its receipt came before, if it came.
    pub(in crate::node) fn stream_closed(&mut self, session: SessionId, reason: TransferCloseReason) {
        let Some(stream) = self.state.streams.get(&session) else { return };
        let reason = match (stream.finishing, reason) {
            (Some(finishing), _) => finishing,
            (None, TransferCloseReason::ChannelClosing) => StreamCloseReason::ChannelClosed,
            (None, _) => StreamCloseReason::ClosedByPayee,
        };
        self.end_when_decided(session, reason);
    }

    /// Streams of a channel that is not used any more are over, as soon as it is known what is paid.
    pub(in crate::node) fn end_streams_of(&mut self, channel: ChannelId) {
        for session in self.streams_on(channel) {
            self.end_when_decided(session, StreamCloseReason::ChannelClosed);
        }
    }

    /// The outgoing streams of a channel.
    pub(in crate::node) fn streams_on(&self, channel: ChannelId) -> Vec<SessionId> {
        // One by HTLCs ends when what is under way is decided.
        let is_by_htlc = |session: &SessionId| self.state.streams.get(session).is_some_and(OutgoingStream::is_by_htlc);
        self.state.index.streams_on(channel).filter(|session| !is_by_htlc(session)).collect()
    }

    /// A stream that takes no payments any more ends now, or when the channel or the chain has decided about those that are
    /// on their way: its client must not hear that they failed.
    fn end_when_decided(&mut self, session: SessionId, reason: StreamCloseReason) {
        let Some(stream) = self.state.streams.get(&session) else { return };
        let channel = self.state.channels.get(&stream.channel).map(|entry| &entry.channel);
        if channel.is_none_or(|channel| !channel.has_transfers_under_way(&session)) {
            return self.end_stream(session, stream.finishing.unwrap_or(reason));
        }
        if stream.finishing.is_none() {
            self.change(Change::Stream { session, change: StreamChange::Finishing { reason } });
        }
        self.live.to_tell.insert(session);
    }

    /// The channel or the chain has decided about payments of a stream: if its session is over, it ends with the last one.
    fn end_if_over(&mut self, session: SessionId) {
        let over = self.state.streams.get(&session).filter(|stream| !stream.is_by_htlc());
        let Some((stream, reason)) = over.and_then(|it| Some((it, it.finishing?))) else { return };
        let funded = self.state.channels.get(&stream.channel).and_then(|entry| entry.channel.funded());
        let sessions = funded.map(|funded| &funded.commitments.outgoing_transfers.sessions);
        let is_closed = !sessions.is_some_and(|all| all.get(&session).is_some_and(|session| session.open));
        // Where we have just closed it the payee's receipt is waited for, as long as it takes to answer.
        let is_answer_due = self.live.closing_streams.contains_key(&session);
        if (is_closed && !is_answer_due) || funded.is_none_or(|funded| funded.phase != channel::Phase::Open) {
            self.end_when_decided(session, reason);
        }
    }

    pub(in crate::node) fn end_stream(&mut self, session: SessionId, reason: StreamCloseReason) {
        let Some(stream) = self.state.streams.get(&session) else { return };
        let (channel, mark) = (stream.channel, stream.committed);
        let receipt = self.live.receipts.remove(&session);
        self.tell_stream(session, Some(StreamClosed { reason, receipt }));
        self.live.stream_clients.remove(&session);
        self.live.closing_streams.remove(&session);
        self.change(Change::StreamRemoved { session });
        let (last_sequence, total) = (mark.sequence, mark.total);
        self.event(EventKind::StreamClosed { channel, session, incoming: false, last_sequence, total });
    }

    /// The payer is done, or gave up, in a session towards us.
    pub(in crate::node) fn incoming_stream_closed(&mut self, channel: ChannelId, session: SessionId) {
        let commitments = self.state.channels.get(&channel).and_then(|entry| entry.channel.commitments());
        let paid = commitments.and_then(|it| it.incoming_transfers.sessions.get(&session)).map(|known| known.paid);
        let Some(SessionMark { next_sequence, total }) = paid else { return };
        let last_sequence = next_sequence;
        self.event(EventKind::StreamClosed { channel, session, incoming: true, last_sequence, total });
    }

    /// Payments of a stream are paid. The wire counts from 0: what it expects next is what we count as last.
    pub(in crate::node) fn stream_committed(&mut self, session: SessionId, mark: SessionMark, enforceable: Msat) {
        if !self.state.streams.contains_key(&session) {
            return;
        }
        self.stream_paid(session, Mark { sequence: mark.next_sequence, total: mark.total }, enforceable);
    }

    /// Payments of a stream are paid, whatever carried them.
    pub(in crate::node) fn stream_paid(&mut self, session: SessionId, mark: Mark, enforceable: Msat) {
        self.change(Change::Stream { session, change: StreamChange::Committed { mark } });
        let now = self.moment.now;
        if let Some(client) = self.live.stream_clients.get_mut(&session) {
            client.enforceable = enforceable;
            while let Some((last, came)) = client.arrivals.front().copied() {
                if last > mark.sequence {
                    break;
                }
                client.latency_micros = now.micros_since(came);
                client.arrivals.pop_front();
            }
        }
        self.live.to_tell.insert(session);
        self.close_if_settled(session);
        self.end_if_over(session);
    }

    /// Something changed for a session: what it holds may be handed over, and its client is told.
    pub(in crate::node) fn stream_moved(&mut self, session: SessionId) {
        let Some(stream) = self.state.streams.get(&session) else { return };
        self.live.to_seal.insert(stream.channel);
        self.live.to_batch.insert(session);
        self.live.to_tell.insert(session);
        self.end_if_over(session);
    }

    /// Each client hears once a turn, however much happened in it.
    pub(in crate::node) fn tell_streams(&mut self) {
        for session in std::mem::take(&mut self.live.to_tell) {
            self.tell_stream(session, None);
        }
    }

    fn tell_stream(&mut self, session: SessionId, closed: Option<StreamClosed>) {
        let Some(stream) = self.state.streams.get(&session) else { return };
        let Some(client) = self.live.stream_clients.get(&session) else { return };
        let commitments = self.state.channels.get(&stream.channel).and_then(|entry| entry.channel.commitments());
        let status = StreamStatus {
            accepted_sequence: stream.accepted.sequence,
            committed_sequence: stream.committed.sequence,
            accepted: stream.accepted.total,
            committed: stream.committed.total,
            enforceable: client.enforceable,
            commitment_number: commitments.map(|it| it.remote_number).unwrap_or_default(),
            latency_micros: client.latency_micros,
            window: self.stream_window(session),
            closed,
        };
        let request = client.request;
        self.turns.push(Effect::Stream { request, session, status: Box::new(status) });
    }

    /// What the stream's carrier may still take.
    fn stream_spendable(&self, stream: &OutgoingStream) -> Msat {
        if stream.is_by_htlc() {
            let hops = self.first_hops(stream.outgoing_channel(), &BTreeSet::new());
            return reach(&hops, u32::MAX);
        }
        let entry = self.state.channels.get(&stream.channel);
        entry.map_or(Msat::ZERO, |entry| spendable(&entry.channel))
    }

    /// How much more may be accepted: within the balance, the client's own limits and what memory allows. The payee's
    /// window bounds what is handed over, not what is accepted.
    fn stream_window(&self, session: SessionId) -> StreamWindow {
        let none = StreamWindow { payments: 0, amount: Msat::ZERO };
        let Some(stream) = self.state.streams.get(&session).filter(|stream| stream.finishing.is_none()) else {
            return none;
        };
        let mut room = self.room_for_payments(session, stream);
        if let Some(most) = self.live.stream_clients.get(&session).and_then(|client| client.max_uncommitted) {
            room.amount = room.amount.min(most.saturating_sub(stream.uncommitted()));
        }
        if let Some(most) = stream.max_total {
            room.amount = room.amount.min(most.saturating_sub(stream.accepted.total));
        }
        room
    }

    /// What the balance and our memory still take of a stream.
    fn room_for_payments(&self, session: SessionId, stream: &OutgoingStream) -> StreamWindow {
        let commitments = self.state.channels.get(&stream.channel).and_then(|entry| entry.channel.commitments());
        let log = commitments.map(|commitments| &commitments.outgoing_transfers).filter(|_| !stream.is_by_htlc());
        let handed = log.and_then(|log| log.proposed_mark(&session));
        let handed = handed.map_or(stream.handed_over(), |mark| mark.total);
        // What was handed over is off the balance already.
        let queued = stream.accepted.total.saturating_sub(handed);
        let amount = self.stream_spendable(stream).saturating_sub(queued);
        let waiting = stream.accepted.sequence - stream.committed.sequence;
        StreamWindow { payments: MAX_UNCOMMITTED_PAYMENTS.saturating_sub(waiting), amount }
    }

    /// Signs what a session towards us was paid, for its payer.
    pub(in crate::node) fn send_receipt(&mut self, id: ChannelId, peer: NodeId, session: SessionId) {
        let Some(channel) = self.state.channels.get(&id).map(|entry| &entry.channel) else { return };
        if let Some(receipt) = channel.receipt(session, &self.context()) {
            self.send(peer, receipt.into());
        }
    }

    pub(in crate::node) fn receipt_received(&mut self, id: ChannelId, peer: NodeId, receipt: &TransferReceipt) {
        let is_ours = receipt.payer_node_id == self.signer.node_id()
            && receipt.chain_hash == self.settings.chain_hash
            && receipt.channel_id == id;
        if !is_ours || !self.state.streams.contains_key(&receipt.session_id) || !receipt.is_signed_by(&peer.0) {
            return;
        }
        let receipt = Receipt {
            channel: id,
            session: receipt.session_id,
            payer: NodeId(receipt.payer_node_id),
            last_sequence: receipt.next_sequence,
            paid: receipt.paid_msat,
            enforceable: receipt.enforceable_msat,
            signature: receipt.signature.serialize_compact().to_vec(),
        };
        let session = receipt.session;
        self.live.receipts.insert(session, receipt);
        if self.live.closing_streams.contains_key(&session) {
            // It answers our closing: everything is said.
            let reason = self.state.streams.get(&session).and_then(|stream| stream.finishing);
            self.end_stream(session, reason.unwrap_or(StreamCloseReason::Finished));
        }
    }
}
