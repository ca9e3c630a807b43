//! How a connection begins, and how it is kept alive.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_compact_blocks::SendCmpct;
use bitcoin::p2p::message_network::VersionMessage;
use bitcoin::p2p::{Address, ServiceFlags};

use super::address::is_routable;
use super::peer::Peer;
use super::permission::Permissions;
use super::port::{Action, Host, Origin, Reason, Time};
use super::wire::{Message, Version};
use super::{Machine, PROTOCOL_VERSION};
use crate::consensus::transaction::MAX_MONEY;

/// The oldest protocol that we speak.
const MIN_PROTOCOL_VERSION: i32 = 31_800;
const WTXID_RELAY_VERSION: i32 = 70_016;
const FEATURE_VERSION: i32 = 70_017;
const SHORT_IDS_VERSION: i32 = 70_014;
const FEEFILTER_VERSION: i32 = 70_013;
const COMPACT_VERSION: u64 = 2;
/// Blocks by which we may be behind and still be served by a peer that has only recent ones.
const LIMITED_ALLOWED_BLOCKS: i64 = 144;
const PING_INTERVAL: Duration = Duration::from_secs(120);
/// How long a peer may take to tell addresses if that is all we want of it.
const ADDRESS_FETCH_TIMEOUT: Duration = Duration::from_secs(5 * 60);
const PING_TIMEOUT: Duration = Duration::from_secs(20 * 60);
const FEEFILTER_INTERVAL: Duration = Duration::from_secs(600);
const FEEFILTER_DELAY: u64 = 300;
/// sat/kvB: Core's highest step of a fee filter.
const MAX_FILTER_FEERATE: f64 = 1e7;

impl Machine {
    pub(super) fn send_version(&mut self, peer: &mut Peer, host: &dyn Host) {
        let nonce = self.random.next();
        if !peer.is_inbound() {
            self.nonces.insert(peer.id, nonce);
        }
        let ours = ServiceFlags::from(self.options.services);
        let receiver = peer.socket();
        let nobody = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);
        let message = VersionMessage {
            version: PROTOCOL_VERSION.cast_unsigned(),
            services: ours,
            timestamp: self.now.secs(),
            receiver: Address::new(
                if is_routable(peer.socket().ip()) { &receiver } else { &nobody },
                ServiceFlags::NONE,
            ),
            sender: Address::new(&nobody, ours),
            nonce,
            user_agent: self.options.user_agent.clone(),
            start_height: i32::try_from(host.chain().height()).unwrap_or(i32::MAX),
            relay: !self.refuses_transactions(peer),
        };
        peer.sent_version = true;
        peer.send(NetworkMessage::Version(message));
    }

    pub(super) fn receive_version(&mut self, peer: &mut Peer, version: Version, host: &dyn Host) {
        if peer.version.is_some() {
            return;
        }
        // Core: `GetDesirableServiceFlags`.
        let behind = self.now.secs() - i64::from(host.chain().tip_entry().header.time);
        let is_near = behind < LIMITED_ALLOWED_BLOCKS * i64::from(self.params.pow_target_spacing);
        let is_limited = ServiceFlags::from(version.services).has(ServiceFlags::NETWORK_LIMITED);
        let blocks = if is_near && is_limited { ServiceFlags::NETWORK_LIMITED } else { ServiceFlags::NETWORK };
        let wanted = blocks | ServiceFlags::WITNESS;
        if peer.connection.origin.expects_services() && !ServiceFlags::from(version.services).has(wanted) {
            return peer.close(Reason::Unwelcome("the peer does not offer the expected services"));
        }
        if version.version < MIN_PROTOCOL_VERSION {
            return peer.close(Reason::Unwelcome("the peer uses an obsolete version"));
        }
        if peer.is_inbound() && self.nonces.values().any(|nonce| *nonce == version.nonce) {
            return peer.close(Reason::Unwelcome("connected to self"));
        }
        peer.relay.wants = version.relay;
        peer.version = Some(version);
        if peer.is_inbound() {
            self.send_version(peer, host);
        }
        if peer.common_version() >= WTXID_RELAY_VERSION {
            peer.send(NetworkMessage::WtxidRelay);
            peer.send(NetworkMessage::SendAddrV2);
        }
        peer.send(NetworkMessage::Verack);
        if !peer.is_inbound() {
            peer.actions.push(Action::Good(peer.socket()));
        }
        if peer.connection.origin == Origin::Feeler {
            return peer.close(Reason::Unwelcome("there is a node: that is all we wanted to know"));
        }
        if !peer.is_inbound() && peer.connection.origin != Origin::BlockRelay {
            peer.address.is_enabled = true;
            peer.address.asked();
            peer.send(NetworkMessage::GetAddr);
        }
    }

    /// Whether the peer is to send us no transactions (Core: `RejectIncomingTxs`).
    pub(super) fn refuses_transactions(&self, peer: &Peer) -> bool {
        match peer.connection.origin {
            Origin::BlockRelay | Origin::Feeler => true,
            _ => self.options.blocks_only && !peer.connection.permissions.has(Permissions::RELAY),
        }
    }

    pub(super) fn receive_verack(&mut self, peer: &mut Peer) {
        if peer.is_ready {
            return;
        }
        // It has answered: its nonce is needed no more.
        self.nonces.remove(&peer.id);
        peer.is_ready = true;
        if peer.common_version() >= SHORT_IDS_VERSION {
            peer.send(NetworkMessage::SendCmpct(SendCmpct { send_compact: false, version: COMPACT_VERSION }));
        }
        self.transactions.add_peer(peer);
        if !peer.is_inbound() {
            tracing::info!(peer = peer.id.0, address = %peer.socket(), transport = peer.connection.transport.name(), "connected");
        }
    }

    /// What may only come between `version` and `verack`.
    pub(super) fn negotiate(peer: &mut Peer, message: &Message) {
        // Transaction reconciliation is not offered: Core ignores it then, too.
        if *message == Message::SendTxRcncl {
            return;
        }
        if peer.is_ready {
            return peer.close(Reason::Unwelcome("received after verack what must come before"));
        }
        match message {
            Message::WtxidRelay if peer.common_version() >= WTXID_RELAY_VERSION => peer.wtxid_relay = true,
            Message::SendAddrV2 => peer.wants_addrv2 = true,
            Message::Feature { .. } if peer.common_version() < FEATURE_VERSION => {
                peer.close(Reason::Unwelcome("feature received with incompatible version"));
            }
            Message::Feature { is_sound: false } => peer.close(Reason::Unwelcome("invalid feature payload")),
            _ => {}
        }
    }

    pub(super) fn receive_sendcmpct(peer: &mut Peer, high_bandwidth: u8, version: u64) {
        if high_bandwidth > 1 {
            return peer.misbehaving("invalid sendcmpct announce field");
        }
        if version == COMPACT_VERSION {
            peer.blocks.provides_compact = true;
            peer.blocks.wants_compact = high_bandwidth == 1;
        }
    }

    pub(super) fn send_ping(&mut self, peer: &mut Peer) {
        let is_old = self.now - peer.connected_at > self.options.peer_timeout;
        if is_old && peer.ping.nonce != 0 && self.now - peer.ping.started > PING_TIMEOUT {
            return peer.close(Reason::Timeout("ping timeout"));
        }
        let is_due = peer.ping.nonce == 0 && self.now - peer.ping.started > PING_INTERVAL;
        if is_due || peer.ping.is_queued {
            peer.ping.is_queued = false;
            peer.ping.nonce = self.random.next().max(1);
            peer.ping.started = self.now;
            peer.send(NetworkMessage::Ping(peer.ping.nonce));
        }
    }

    pub(super) fn receive_pong(&mut self, peer: &mut Peer, nonce: Option<u64>) {
        if peer.ping.nonce == 0 {
            return;
        }
        match nonce {
            Some(nonce) if nonce == peer.ping.nonce => {
                let took = self.now - peer.ping.started;
                peer.ping.last = Some(took);
                peer.ping.best = Some(peer.ping.best.map_or(took, |best| best.min(took)));
                peer.ping.nonce = 0;
            }
            // A mistake of the other side: this ping is given up.
            Some(0) | None => peer.ping.nonce = 0,
            // Overlapping pings.
            Some(_) => {}
        }
    }

    /// Timeouts that hold whatever the peer does.
    pub(super) fn check_timeouts(&mut self, peer: &mut Peer, host: &dyn Host) {
        if !peer.is_ready {
            if self.now - peer.connected_at > self.options.peer_timeout {
                peer.close(Reason::Timeout("version handshake timeout"));
            }
            return;
        }
        let age = self.now - peer.connected_at;
        if peer.connection.origin == Origin::AddressFetch && age > ADDRESS_FETCH_TIMEOUT {
            return peer.close(Reason::Timeout("addrfetch connection timeout"));
        }
        self.check_block_timeouts(peer, host);
    }

    pub(super) fn receive_feefilter(peer: &mut Peer, feerate: i64) {
        if let Some(feerate) = u64::try_from(feerate).ok().filter(|feerate| *feerate <= MAX_MONEY) {
            peer.relay.fee_filter = feerate;
        }
    }

    /// Core: `MaybeSendFeefilter`.
    pub(super) fn send_feefilter(&mut self, peer: &mut Peer, host: &dyn Host) {
        // Who may force transactions on us is told nothing that would keep them back.
        let is_forced = peer.connection.permissions.has(Permissions::FORCE_RELAY);
        let sends_none = self.options.blocks_only || peer.connection.origin == Origin::BlockRelay;
        if peer.common_version() < FEEFILTER_VERSION || is_forced || sends_none {
            return;
        }
        let is_initial_download = host.is_initial_download();
        // What comes while we are far behind would be thrown away.
        let current = if is_initial_download { MAX_MONEY } else { host.mempool().rolling_feerate() };
        let relay = &mut peer.relay;
        if !is_initial_download && relay.fee_filter_sent.is_some_and(|sent| sent as f64 > MAX_FILTER_FEERATE / 2.0) {
            relay.next_fee_filter = Time::default();
        }
        if self.now > relay.next_fee_filter {
            relay.next_fee_filter = self.now + self.random.exponential(FEEFILTER_INTERVAL);
            let filter = self.round_feerate(current).max(self.options.min_relay_feerate);
            if peer.relay.fee_filter_sent != Some(filter) {
                peer.relay.fee_filter_sent = Some(filter);
                peer.send(NetworkMessage::FeeFilter(i64::try_from(filter).unwrap_or(i64::MAX)));
            }
        } else if let Some(sent) = relay.fee_filter_sent
            && self.now + Duration::from_secs(FEEFILTER_DELAY) < relay.next_fee_filter
            && (current < 3 * sent / 4 || current > 4 * sent / 3)
        {
            relay.next_fee_filter = self.now + Duration::from_millis(self.random.below(FEEFILTER_DELAY * 1_000));
        }
    }

    /// Core: `FeeFilterRounder`: one of few steps, so that the filter does not tell nodes apart.
    fn round_feerate(&mut self, feerate: u64) -> u64 {
        if feerate == 0 {
            return 0;
        }
        let (mut step, mut below) = ((self.options.incremental_feerate as f64 / 2.0).max(1.0), 0.0);
        while step <= MAX_FILTER_FEERATE {
            if step >= feerate as f64 {
                return if self.random.below(3) != 0 { below as u64 } else { step as u64 };
            }
            below = step;
            step *= 1.1;
        }
        below as u64
    }
}
