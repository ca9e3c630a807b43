//! Connections and what comes over them.

use bitcoin::Network;

use super::Node;
use super::api::event::EventKind;
use super::api::refusal::Refusal;
use super::api::reply::{PeerInfo, Reply};
use super::input::{Effect, SessionNumber};
use super::live::{Opening, Session};
use super::state::change::{Change, PeerRecord};
use crate::channel::{self, AcceptRequest, Channel, Phase};
use crate::commitment::Side;
use crate::keys::ChannelKeyId;
use crate::units::{ChannelId, NodeId, ShortChannelId};
use crate::wire::{self, Message};

/// Channels of one peer that may be opening at once: each costs memory before it costs the peer anything.
const MAX_OPENINGS: usize = 4;
/// Channels of one peer, opened by it, that may wait for a funding transaction which may never come: each is durable and
/// watched for until it is given up, 2016 blocks later.
const MAX_UNFUNDED: usize = 16;
/// The same of all peers that have no channel whose funding was ever seen.
const MAX_UNFUNDED_OF_STRANGERS: usize = 256;

impl Node {
    pub(super) fn connected(&mut self, peer: NodeId, session: Session) {
        let features = session.negotiated(&self.settings.features);
        if self.live.sessions.contains_key(&peer) {
            self.session_over(peer);
        }
        let reached_at = session.address.clone().filter(|_| !session.inbound);
        self.live.sessions.insert(peer, session);
        self.settle_address(peer, reached_at);
        self.gossip_connected(peer);
        self.event_of_session(peer, EventKind::PeerConnected { peer });
        for id in self.channels_of(peer) {
            self.drive_quietly(id, channel::Input::Connected(features));
        }
        let info = self.peer_info(peer);
        for request in self.live.connect_waiters.remove(&peer).unwrap_or_default() {
            self.answer(request, Ok(Reply::Peer(info.clone())));
        }
    }

    /// An address that led to the peer is kept from now on; where it did not, the one that is kept is called again.
    fn settle_address(&mut self, peer: NodeId, reached_at: Option<String>) {
        if !self.live.tried_addresses.remove(&peer) {
            return;
        }
        if let Some(address) = reached_at {
            let record = PeerRecord { address, persistent: true };
            return self.change(Change::PeerAdded { peer, record });
        }
        if let Some(address) = self.state.peers.get(&peer).map(|record| record.address.clone()) {
            self.turns.push(Effect::Connect { peer, address });
        }
    }

    pub(super) fn disconnected(&mut self, peer: NodeId, session: SessionNumber) {
        if self.live.sessions.get(&peer).is_some_and(|present| present.number == session) {
            self.session_over(peer);
        }
    }

    fn session_over(&mut self, peer: NodeId) {
        self.live.sessions.remove(&peer);
        self.forget_silence(peer);
        self.live.opened_as.retain(|(of, _), _| *of != peer);
        self.gossip_disconnected(peer);
        self.event_of_session(peer, EventKind::PeerDisconnected { peer });
        let openings: Vec<_> = self.live.openings.keys().filter(|(of, _)| *of == peer).copied().collect();
        for key in openings {
            self.drive_opening(key, channel::Input::Disconnected);
            if let Some(opening) = self.live.openings.remove(&key) {
                self.opening_failed(opening, Refusal::ConnectionLost(peer));
            }
        }
        for id in self.channels_of(peer) {
            self.drive_quietly(id, channel::Input::Disconnected);
        }
    }

    pub(super) fn connect_failed(&mut self, peer: NodeId, description: String) {
        let refusal = Refusal::PeerUnreachable { node_id: peer, description };
        let waiting = self.live.connect_waiters.remove(&peer).unwrap_or_default();
        if self.live.tried_addresses.contains(&peer) {
            self.settle_address(peer, None);
        } else if !waiting.is_empty() && self.state.channels_with(peer).next().is_none() {
            // A refusal leaves nothing behind: nobody is called for ever whom nobody ever reached.
            self.forget_peer(peer);
            self.turns.push(Effect::Forget { peer });
        }
        for request in waiting {
            self.answer(request, Err(refusal.clone()));
        }
    }

    pub(super) fn message(&mut self, peer: NodeId, session: SessionNumber, message: Message) {
        // What belongs to a session that is gone is dropped.
        if self.live.sessions.get(&peer).is_none_or(|present| present.number != session) {
            return;
        }
        match message {
            Message::OpenChannel(open) => self.receive_open(peer, *open),
            Message::Error(error) if error.channel_id == ChannelId::ALL => self.receive_error_for_all(peer, &error),
            Message::Warning(warning) if warning.channel_id == ChannelId::ALL => {
                let message = format!("{peer} warns: {}", printable(&warning.data));
                self.event_by_peer(peer, EventKind::Warning { channel: None, message });
            }
            Message::ChannelUpdate(update) => self.receive_channel_update(peer, *update),
            message => self.channel_message(peer, message),
        }
    }

    fn channel_message(&mut self, peer: NodeId, message: Message) {
        let Some(id) = message.channel_id() else { return };
        if let Some(opening) = self.live.openings.get_mut(&(peer, id)) {
            opening.since = self.moment.now;
            self.drive_opening((peer, id), channel::Input::Message(message));
            return;
        }
        match self.state.channels.get(&id) {
            Some(entry) if entry.peer == peer => {
                let comes_back = matches!(message, Message::ChannelReestablish(_));
                if comes_back {
                    self.live.greeted.insert(id);
                }
                let may_be_usable = comes_back || matches!(message, Message::ChannelReady(_));
                self.drive_quietly(id, channel::Input::Message(message));
                if may_be_usable {
                    self.advance_waiting();
                }
                if comes_back && self.state.channels.get(&id).is_some_and(|entry| entry.channel.is_usable()) {
                    self.gossip_live(id);
                }
            }
            // BOLT 1: an error about a channel that we do not know needs no answer; nor does a warning.
            _ if matches!(message, Message::Error(_) | Message::Warning(_)) => self.word_of_opening(peer, id, message),
            _ => self.unknown_channel(peer, id, &message),
        }
    }

    /// BOLT 1: an accepter's `error` names the temporary id until it has sent `funding_signed`.
    fn word_of_opening(&mut self, peer: NodeId, temporary: ChannelId, message: Message) {
        let Some(id) = self.live.opened_as.get(&(peer, temporary)).copied() else { return };
        let funded = self.state.channels.get(&id).and_then(|entry| entry.channel.funded());
        if funded.is_some_and(|funded| funded.phase == channel::Phase::AwaitingFundingSigned) {
            self.drive_quietly(id, channel::Input::Message(message));
        }
    }

    /// BOLT 2: a peer that comes back with a channel that we do not know is told, so that it can close it.
    fn unknown_channel(&mut self, peer: NodeId, id: ChannelId, message: &Message) {
        tracing::debug!(%peer, channel = %id, message = message.message_type(), "message for an unknown channel");
        self.send(peer, wire::Error { channel_id: id, data: b"unknown channel".to_vec() }.into());
    }

    fn receive_error_for_all(&mut self, peer: NodeId, error: &wire::Error) {
        let openings: Vec<_> = self.live.openings.keys().filter(|(of, _)| *of == peer).copied().collect();
        for key in openings {
            self.drive_opening(key, channel::Input::Message(Message::Error(error.clone())));
        }
        for id in self.channels_of(peer) {
            self.drive_quietly(id, channel::Input::Message(Message::Error(error.clone())));
        }
    }

    fn receive_open(&mut self, peer: NodeId, open: wire::OpenChannel) {
        let temporary = open.temporary_channel_id;
        let pending = self.live.openings.keys().filter(|(of, _)| *of == peer).count();
        if self.live.openings.contains_key(&(peer, temporary)) {
            // BOLT 2: the id is unique between the two. What it names already cannot be told apart from this any more.
            let violation = channel::Violation::Unexpected { message_type: wire::OpenChannel::TYPE };
            return self.drive_opening((peer, temporary), channel::Input::Violated(violation));
        }
        let refusal = if self.state.channels.contains_key(&temporary) {
            Some("the temporary channel id is that of a channel")
        } else if pending >= MAX_OPENINGS {
            Some("too many channels are being opened")
        } else if !self.is_synced() {
            Some("this node is not synced with the chain")
        } else if !self.live.knocks.0.take(peer, self.moment.now) {
            Some("too many channels were begun of late")
        } else if self.has_too_many_unfunded(peer) {
            Some("too many channels wait for their funding transactions")
        } else {
            None
        };
        if let Some(reason) = refusal {
            return self.refuse_open(peer, temporary, reason.to_owned());
        }
        let Some(session) = self.live.sessions.get(&peer) else { return };
        let features = session.negotiated(&self.settings.features);
        let close_script = self.live.spare_scripts.pop().unwrap_or_else(|| self.wallet.next_change_script());
        let request = AcceptRequest {
            peer,
            keys_id: ChannelKeyId(self.draw("channel/keys")),
            alias: self.draw_alias(),
            close_script: close_script.clone(),
            upfront_shutdown_script: false,
            features,
        };
        match Channel::accept(&open, request, &self.context()) {
            Ok((channel, effects)) => {
                let opening = Opening { channel, funding: None, since: self.moment.now, request: None };
                self.live.openings.insert((peer, temporary), opening);
                self.carry_out_opening((peer, temporary), effects);
            }
            Err(error) => {
                self.live.spare_scripts.push(close_script);
                self.refuse_open(peer, temporary, error.to_string());
            }
        }
    }

    /// Whether channels that this peer, or strangers together, opened and never funded are as many as there may be.
    fn has_too_many_unfunded(&self, peer: NodeId) -> bool {
        let (mut of_peer, mut of_all, mut is_stranger) = (0, 0, true);
        for entry in self.state.channels.values() {
            let Some(funded) = entry.channel.funded() else { continue };
            let is_seen = funded.short_channel_id.is_some() || matches!(funded.phase, Phase::Spent { .. });
            let waits = !is_seen && funded.commitments.parameters.opener == Side::Remote;
            of_all += usize::from(waits);
            of_peer += usize::from(waits && entry.peer == peer);
            is_stranger &= !(is_seen && entry.peer == peer);
        }
        of_peer >= MAX_UNFUNDED || (is_stranger && of_all >= MAX_UNFUNDED_OF_STRANGERS)
    }

    fn refuse_open(&mut self, peer: NodeId, temporary: ChannelId, reason: String) {
        self.send(peer, wire::Error { channel_id: temporary, data: reason.clone().into_bytes() }.into());
        self.event_by_peer(peer, EventKind::InboundOpenRefused { peer, reason });
    }

    /// A short channel id that no block gives: BOLT 2's alias.
    pub(super) fn draw_alias(&mut self) -> ShortChannelId {
        let bytes = self.draw("channel/alias");
        let [a, b, c, d, e, f, g, h, ..] = bytes;
        ShortChannelId::from_u64(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }

    /// Sends on the peer's present connection, if there is one.
    pub(super) fn send(&mut self, peer: NodeId, message: Message) {
        if let Some(session) = self.live.sessions.get(&peer) {
            self.turns.push(Effect::Send { peer, session: session.number, message });
        }
    }

    /// Ends the peer's present connection.
    pub(super) fn disconnect(&mut self, peer: NodeId) {
        if let Some(session) = self.live.sessions.get(&peer) {
            self.turns.push(Effect::Disconnect { peer, session: session.number });
        }
    }

    pub(super) fn channels_of(&self, peer: NodeId) -> Vec<ChannelId> {
        self.state.channels_with(peer).map(|(id, _)| *id).collect()
    }

    /// What the API shows of a peer.
    pub(super) fn peer_info(&self, peer: NodeId) -> PeerInfo {
        let session = self.live.sessions.get(&peer);
        let record = self.state.peers.get(&peer);
        let channels = self.state.channels_with(peer).count();
        PeerInfo {
            node_id: peer,
            address: record
                .map(|record| record.address.clone())
                .or_else(|| session.and_then(|session| session.address.clone())),
            connected: session.is_some(),
            inbound: session.is_some_and(|session| session.inbound),
            persistent: record.is_some_and(|record| record.persistent),
            features: session.map(|session| session.features.as_bytes().to_vec()).unwrap_or_default(),
            channels: u32::try_from(channels).unwrap_or(u32::MAX),
        }
    }

    /// Forgets a peer: it is not called any more.
    pub(super) fn forget_peer(&mut self, peer: NodeId) {
        self.live.tried_addresses.remove(&peer);
        if self.state.peers.contains_key(&peer) {
            self.change(Change::PeerRemoved { peer });
        }
    }

    /// The network whose prefixes addresses have.
    pub(super) const fn address_network(&self) -> Network {
        self.settings.address_network
    }
}

/// A peer's words, without what would play tricks on a terminal.
pub(super) fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).take(500).collect()
}
