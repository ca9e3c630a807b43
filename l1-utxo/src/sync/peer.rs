//! What the machine remembers of one connection. All of it is bounded.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::p2p::{ServiceFlags, message::NetworkMessage};
use bitcoin::{BlockHash, Wtxid};

use super::address::AddressRelay;
use super::block::header::LowWork;
use super::block::lag::Lag;
use super::block::{Available, InFlight};
use super::permission::Permissions;
use super::port::{Action, Connection, Origin, Packet, PeerId, Reason, Time};
use super::transaction::RollingFilter;
use super::wire::Version;
use crate::chain::BlockId;

/// Bytes that may wait to be sent before nothing more is served (Core: `-maxsendbuffer`).
pub(super) const SEND_LIMIT: usize = 1_000_000;

/// One connection.
pub(super) struct Peer {
    pub(super) id: PeerId,
    pub(super) connection: Connection,
    pub(super) connected_at: Time,
    /// What it said first; `None` until then.
    pub(super) version: Option<Version>,
    pub(super) sent_version: bool,
    /// Whether its `verack` came: the handshake is complete.
    pub(super) is_ready: bool,
    pub(super) wtxid_relay: bool,
    pub(super) wants_addrv2: bool,
    pub(super) ping: Ping,
    pub(super) address: AddressRelay,
    pub(super) blocks: Blocks,
    pub(super) relay: Relay,
    /// How far behind it may be.
    pub(super) lag: Lag,
    /// What it asked for and has not got yet.
    pub(super) requests: VecDeque<Inventory>,
    /// Bytes given to the socket's side that it has not sent yet.
    pub(super) unsent: usize,
    pub(super) last_block: Time,
    pub(super) last_transaction: Time,
    /// Set once: what comes after is ignored.
    pub(super) is_closing: bool,
    pub(super) actions: Vec<Action>,
}

/// Whether it is alive, and how far away.
#[derive(Default)]
pub(super) struct Ping {
    /// What the pong must carry; 0 when none is due.
    pub(super) nonce: u64,
    pub(super) started: Time,
    pub(super) is_queued: bool,
    pub(super) last: Option<Duration>,
    pub(super) best: Option<Duration>,
}

/// Headers and blocks, in both directions.
#[derive(Default)]
pub(super) struct Blocks {
    /// The best chain that it has.
    pub(super) available: Available,
    /// Its blocks up to here are ours.
    pub(super) last_common: Option<BlockId>,
    /// The last header that we sent it.
    pub(super) best_header_sent: Option<BlockId>,
    /// Whether headers are fetched from it.
    pub(super) sync_started: bool,
    /// When it had shown all that it has: the next peer may be asked.
    pub(super) sync_done: Option<Time>,
    pub(super) inv_triggered_getheaders: bool,
    pub(super) headers_deadline: Option<Time>,
    /// When it was asked for headers; `None` once it answered.
    pub(super) asked_headers: Option<Time>,
    /// A chain of it whose work is not yet known to be enough.
    pub(super) low_work: Option<LowWork>,
    pub(super) in_flight: VecDeque<InFlight>,
    pub(super) downloading_since: Time,
    pub(super) stalling_since: Option<Time>,
    pub(super) prefers_headers: bool,
    pub(super) sent_sendheaders: bool,
    /// Whether it serves compact blocks.
    pub(super) provides_compact: bool,
    /// Whether it wants new blocks as compact blocks at once.
    pub(super) wants_compact: bool,
    /// Whether we asked it for that.
    pub(super) is_high_bandwidth: bool,
    /// New blocks to be announced, oldest first.
    pub(super) to_announce: Vec<BlockHash>,
    pub(super) to_inv: Vec<BlockHash>,
    /// `getblocks` goes on once it asks for this one.
    pub(super) continuation: Option<BlockHash>,
    pub(super) last_announcement: Time,
}

/// Transactions, in both directions.
pub(super) struct Relay {
    /// Whether it wants transactions at all.
    pub(super) wants: bool,
    /// sat/kvB below which it wants none.
    pub(super) fee_filter: u64,
    pub(super) fee_filter_sent: Option<u64>,
    pub(super) next_fee_filter: Time,
    pub(super) to_send: BTreeSet<Wtxid>,
    /// Whether it asked what the mempool holds.
    pub(super) asked_all: bool,
    /// What it has, by the name that it uses.
    pub(super) known: RollingFilter,
    pub(super) next_inv: Option<Time>,
    /// The mempool's sequence at the last announcement: what came later is not told to who asks.
    pub(super) last_sequence: u64,
}

/// What Core's `getpeerinfo` tells of the protocol; the sockets' side adds its counts.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // named as the fields of `getpeerinfo`
pub struct PeerInfo {
    pub id: PeerId,
    pub connection: Connection,
    pub connected_at: Time,
    pub version: Option<Version>,
    pub is_ready: bool,
    pub ping: Option<Duration>,
    pub best_ping: Option<Duration>,
    pub ping_wait: Option<Duration>,
    pub synced_headers: Option<BlockId>,
    pub synced_blocks: Option<BlockId>,
    pub presynced_headers: Option<u32>,
    pub in_flight: Vec<BlockId>,
    pub relays_transactions: bool,
    pub fee_filter: u64,
    pub last_block: Time,
    pub last_transaction: Time,
    pub high_bandwidth_to: bool,
    pub high_bandwidth_from: bool,
    pub addresses_processed: u64,
    pub addresses_rate_limited: u64,
    pub address_relay: bool,
    pub to_announce: usize,
    pub last_inv_sequence: u64,
}

impl Peer {
    pub(super) fn new(id: PeerId, connection: Connection, salt: u64, now: Time) -> Self {
        Self {
            id,
            connection,
            connected_at: now,
            version: None,
            sent_version: false,
            is_ready: false,
            wtxid_relay: false,
            wants_addrv2: false,
            ping: Ping::default(),
            address: AddressRelay::new(salt, now),
            blocks: Blocks::default(),
            relay: Relay::new(salt),
            lag: Lag::default(),
            requests: VecDeque::new(),
            unsent: 0,
            last_block: Time::default(),
            last_transaction: Time::default(),
            is_closing: false,
            actions: Vec::new(),
        }
    }

    pub(super) fn is_inbound(&self) -> bool {
        self.connection.origin == Origin::Inbound
    }

    pub(super) const fn socket(&self) -> SocketAddr {
        self.connection.address
    }

    pub(super) fn send(&mut self, message: NetworkMessage) {
        self.send_packet(message.into());
    }

    pub(super) fn send_packet(&mut self, packet: Packet) {
        self.unsent += packet.cost();
        self.actions.push(Action::Send(self.id, packet));
    }

    pub(super) fn close(&mut self, reason: Reason) {
        if !std::mem::replace(&mut self.is_closing, true) {
            self.actions.push(Action::Disconnect(self.id, reason));
        }
    }

    /// Core: `Misbehaving` and `MaybeDiscourageAndDisconnect`. Who shares our machine is never discouraged.
    pub(super) fn misbehaving(&mut self, what: &'static str) {
        if self.is_closing {
            return;
        }
        if self.connection.origin == Origin::Manual || self.connection.permissions.has(Permissions::NO_BAN) {
            tracing::warn!(peer = self.id.0, what, "not punishing a peer that our user chose");
            return;
        }
        if !self.socket().ip().is_loopback() {
            self.actions.push(Action::Discourage(self.socket()));
        }
        self.close(Reason::Misbehaving(what));
    }

    pub(super) fn services(&self) -> ServiceFlags {
        ServiceFlags::from(self.version.as_ref().map_or(0, |version| version.services))
    }

    /// The protocol that both speak.
    pub(super) fn common_version(&self) -> i32 {
        self.version.as_ref().map_or(0, |version| version.version.min(super::PROTOCOL_VERSION))
    }

    pub(super) fn serves_witness(&self) -> bool {
        self.services().has(ServiceFlags::WITNESS)
    }

    /// Whether blocks may be asked of it.
    pub(super) fn serves_blocks(&self) -> bool {
        let services = self.services();
        services.has(ServiceFlags::NETWORK) || services.has(ServiceFlags::NETWORK_LIMITED)
    }

    /// Whether it has only recent blocks.
    pub(super) fn is_limited(&self) -> bool {
        let services = self.services();
        !services.has(ServiceFlags::NETWORK) && services.has(ServiceFlags::NETWORK_LIMITED)
    }

    /// Whether it is asked before others.
    pub(super) fn is_preferred(&self) -> bool {
        let is_near = !self.is_inbound() || self.connection.permissions.has(Permissions::NO_BAN);
        is_near && self.connection.origin != Origin::AddressFetch && self.serves_blocks()
    }

    pub(super) fn info(&self, now: Time) -> PeerInfo {
        PeerInfo {
            id: self.id,
            connection: self.connection,
            connected_at: self.connected_at,
            version: self.version.clone(),
            is_ready: self.is_ready,
            ping: self.ping.last,
            best_ping: self.ping.best,
            ping_wait: (self.ping.nonce != 0).then(|| now - self.ping.started),
            synced_headers: self.blocks.available.best,
            synced_blocks: self.blocks.last_common,
            presynced_headers: self.blocks.low_work.as_ref().map(LowWork::height),
            in_flight: self.blocks.in_flight.iter().map(|block| block.id).collect(),
            relays_transactions: self.relay.wants && self.connection.origin != Origin::BlockRelay,
            fee_filter: self.relay.fee_filter,
            last_block: self.last_block,
            last_transaction: self.last_transaction,
            high_bandwidth_to: self.blocks.is_high_bandwidth,
            high_bandwidth_from: self.blocks.wants_compact,
            addresses_processed: self.address.processed,
            addresses_rate_limited: self.address.rate_limited,
            address_relay: self.address.is_enabled,
            to_announce: self.relay.to_send.len(),
            last_inv_sequence: self.relay.last_sequence,
        }
    }
}

impl Relay {
    fn new(salt: u64) -> Self {
        Self {
            wants: false,
            fee_filter: 0,
            fee_filter_sent: None,
            next_fee_filter: Time::default(),
            to_send: BTreeSet::new(),
            asked_all: false,
            known: RollingFilter::new(50_000, salt),
            next_inv: None,
            last_sequence: 0,
        }
    }
}
