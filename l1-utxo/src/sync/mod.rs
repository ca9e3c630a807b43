//! The peer-to-peer protocol as a machine: handshakes, headers, blocks, transactions and addresses, for all peers at once.
//!
//! Inputs are connections, messages, the passing of time and what happens on the chain; what it wants done comes out as a
//! list of actions. It reads no clock, opens no socket, draws no randomness (a seed comes in), and keeps nothing of a peer
//! that is not bounded. Whether a block or a transaction is good is asked of the node around it (`Host`).
//! Bitcoin Core: `net_processing.cpp`, `node/txdownloadman_impl.cpp`, `txrequest.cpp`, `node/txorphanage.cpp`.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod address;
mod announce;
mod block;
mod eviction;
mod filter;
mod handshake;
mod peer;
mod permission;
mod port;
mod random;
mod serve;
mod transaction;
mod upload;
pub mod wire;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bitcoin::{BlockHash, Txid, Wtxid};

use crate::chain::BlockId;
use crate::consensus::HashedBlock;
use crate::params::Params;
use announce::Recent;
use block::Download;
use peer::Peer;
use random::Random;
use transaction::Transactions;
use wire::Message;

pub use address::{InvalidAddress, NodeAddress, NodeHost};
pub use eviction::choose as choose_eviction;
pub use peer::PeerInfo;
pub use permission::{Permissions, UnknownPermission};
pub use port::{
    Action, BlockReport, Connection, Entered, Host, KnownAddress, Origin, Packet, PeerId, Reason, Time, Transport,
    TxName,
};
pub use transaction::Orphan;
pub use upload::{TIMEFRAME as UPLOAD_TIMEFRAME, Upload};

/// What we advertise: the version with `feature` (BIP 434), of which we know none yet.
pub const PROTOCOL_VERSION: i32 = 70_017;
/// NODE_NETWORK, NODE_WITNESS and NODE_NETWORK_LIMITED.
pub const SERVICES: u64 = 0x409;
/// NODE_P2P_V2: told when the encrypted transport is accepted.
pub const SERVICE_P2P_V2: u64 = 0x800;
/// NODE_COMPACT_FILTERS: told when the node keeps block filters.
pub const SERVICE_COMPACT_FILTERS: u64 = 0x40;
/// How often `tick` is worth its work.
pub const TICK: Duration = Duration::from_millis(100);

/// What the owner sets.
#[derive(Clone, Debug)]
pub struct Options {
    /// Our software, as `version` tells it.
    pub user_agent: String,
    /// What we offer.
    pub services: u64,
    /// sat/kvB that every transaction must pay.
    pub min_relay_feerate: u64,
    /// sat/kvB by which feerates are told apart.
    pub incremental_feerate: u64,
    /// How long a connection lasts before its silence counts against it (Core: `-peertimeout`).
    pub peer_timeout: Duration,
    /// Whether transactions of others are not wanted (Core: `-blocksonly`).
    pub blocks_only: bool,
    /// Bytes that may be sent in a day; 0: as many as are asked for (Core: `-maxuploadtarget`).
    pub upload_limit: u64,
    /// Where we can be called, as our user says (Core: `-externalip`).
    pub own_addresses: Vec<NodeAddress>,
}

/// The protocol with all peers.
pub struct Machine {
    params: &'static Params,
    options: Options,
    random: Random,
    now: Time,
    peers: BTreeMap<PeerId, Peer>,
    download: Download,
    transactions: Transactions,
    /// The block that became the tip last, for peers that ask for it at once.
    recent_block: Option<Recent>,
    /// The tip that was announced last.
    announced_tip: Option<BlockId>,
    /// Nonces of our own `version` messages to those we dialled.
    nonces: BTreeMap<PeerId, u64>,
    /// What `getaddr` is answered with.
    known_addresses: Arc<[KnownAddress]>,
    upload: Upload,
    actions: VecDeque<Action>,
}

/// A block that was connected, or a mark that one was disconnected.
#[derive(Clone, Debug)]
pub enum ChainNews {
    /// It is in the active chain now.
    Connected(Arc<HashedBlock>),
    /// A block left the active chain.
    Disconnected,
    /// Transactions of blocks that left it, which may be in the mempool again.
    Returned(Vec<Txid>),
}

impl Machine {
    /// A machine without peers. `seed` is secret, so that nobody can foresee its choices.
    pub fn new(params: &'static Params, options: Options, seed: [u8; 16]) -> Self {
        let random = Random::new(seed);
        Self {
            upload: Upload::new(options.upload_limit),
            params,
            options,
            transactions: Transactions::new(&random),
            random,
            now: Time::default(),
            peers: BTreeMap::new(),
            download: Download::default(),
            recent_block: None,
            announced_tip: None,
            nonces: BTreeMap::new(),
            known_addresses: Arc::default(),
            actions: VecDeque::new(),
        }
    }

    /// What is to be done, in order; each is given once.
    pub fn actions(&mut self) -> impl Iterator<Item = Action> + '_ {
        let bytes = |action: &Action| if let Action::Send(_, packet) = action { packet.cost() } else { 0 };
        self.upload.record(self.actions.iter().map(bytes).sum(), self.now);
        self.actions.drain(..)
    }

    /// Sets the clock of all that follows.
    pub const fn set_time(&mut self, now: Time) {
        self.now = now;
    }

    /// A connection is there. An id is used once.
    pub fn connected(&mut self, id: PeerId, connection: Connection, host: &dyn Host) {
        let salt = self.random.next();
        let mut peer = Peer::new(id, connection, salt, self.now);
        if !peer.is_inbound() {
            self.send_version(&mut peer, host);
        }
        self.collect(&mut peer);
        self.peers.insert(id, peer);
    }

    /// It is known now how a peer's messages travel.
    pub fn opened(&mut self, id: PeerId, transport: Transport) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.connection.transport = transport;
        }
    }

    /// A connection is gone, whoever closed it.
    pub fn disconnected(&mut self, id: PeerId) {
        let Some(peer) = self.peers.remove(&id) else { return };
        self.nonces.remove(&id);
        self.download.forget_peer(&peer);
        self.transactions.forget_peer(id);
    }

    /// A message came.
    pub fn received(&mut self, id: PeerId, message: Message, host: &mut dyn Host) {
        let Some(mut peer) = self.peers.remove(&id) else { return };
        if !peer.is_closing {
            self.process(&mut peer, message, host);
            self.check_timeouts(&mut peer, host);
            self.send_messages(&mut peer, host);
        }
        self.collect(&mut peer);
        self.peers.insert(id, peer);
        self.close_marked();
        self.reconsider_others(host);
    }

    /// `bytes` that were given out with `Action::Send` have left.
    pub fn sent(&mut self, id: PeerId, bytes: usize, host: &mut dyn Host) {
        let Some(mut peer) = self.peers.remove(&id) else { return };
        let was_full = peer.unsent >= peer::SEND_LIMIT;
        peer.unsent = peer.unsent.saturating_sub(bytes);
        if (was_full || !peer.requests.is_empty()) && !peer.is_closing {
            self.serve_requests(&mut peer, host);
        }
        self.collect(&mut peer);
        self.peers.insert(id, peer);
    }

    /// Time has passed, or something has changed: whatever is due is sent.
    pub fn tick(&mut self, host: &mut dyn Host) {
        let ids: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in ids {
            let Some(mut peer) = self.peers.remove(&id) else { continue };
            if !peer.is_closing {
                self.check_timeouts(&mut peer, host);
                self.send_messages(&mut peer, host);
            }
            self.collect(&mut peer);
            self.peers.insert(id, peer);
        }
        self.close_marked();
        self.transactions.rebroadcast_due(self.now, &mut self.peers, host.mempool(), &mut self.random);
    }

    /// Blocks came or went, in this order.
    pub fn chain_changed(&mut self, news: Vec<ChainNews>, host: &mut dyn Host) {
        let is_initial_download = host.is_initial_download();
        for item in news {
            match item {
                ChainNews::Connected(block) => {
                    self.download.block_connected(self.now);
                    if !is_initial_download {
                        self.transactions.block_connected(&block);
                    }
                    self.recent_block = Some(Recent::new(block));
                }
                ChainNews::Disconnected => self.transactions.block_disconnected(),
                // Not all peers have seen them: some were on the other branch.
                ChainNews::Returned(txids) => self.announce_returned(&txids, host.mempool()),
            }
        }
        if !is_initial_download {
            self.transactions.tip_changed();
        }
        self.queue_announcements(host);
    }

    /// A transaction of our own user is in the mempool: it is announced until somebody fetches it.
    pub fn broadcast(&mut self, txid: Txid, wtxid: Wtxid) {
        self.transactions.unbroadcast.insert(txid, wtxid);
        self.announce_transaction(txid, wtxid);
    }

    /// Does what is to be done within `delta` from now on (RPC `mockscheduler`).
    pub fn hurry(&mut self, delta: std::time::Duration, host: &mut dyn Host) {
        self.transactions.hurry(self.now, delta);
        self.tick(host);
    }

    /// Sends a ping to every peer, to see who is there (RPC `ping`).
    pub fn ping_all(&mut self) {
        self.peers.values_mut().for_each(|peer| peer.ping.is_queued = true);
    }

    /// Asks a peer for a block whose header is known (RPC `getblockfrompeer`).
    pub fn fetch_block(&mut self, id: PeerId, block: BlockId, host: &mut dyn Host) -> Result<(), &'static str> {
        let Some(mut peer) = self.peers.remove(&id) else { return Err("Peer does not exist") };
        let outcome = self.request_by_hand(&mut peer, block, host);
        self.collect(&mut peer);
        self.peers.insert(id, peer);
        outcome
    }

    /// What was sent of what may be, and the moment for which that holds.
    pub const fn upload(&self) -> (Upload, Time) {
        (self.upload, self.now)
    }

    /// Every peer, in the order of their ids.
    pub fn peers(&self) -> impl Iterator<Item = PeerInfo> + '_ {
        self.peers.values().map(|peer| peer.info(self.now))
    }

    /// Transactions of our own that nobody has fetched yet.
    pub fn unbroadcast(&self) -> impl Iterator<Item = &Txid> {
        self.transactions.unbroadcast.keys()
    }

    /// Whether there is any connection.
    pub fn has_peers(&self) -> bool {
        !self.peers.is_empty()
    }

    /// The transactions whose parents are missing, with those who brought them.
    pub fn orphan_transactions(&self) -> Vec<Orphan> {
        self.transactions.orphans.list()
    }

    /// How many transactions lack a parent.
    pub fn orphans(&self) -> usize {
        self.transactions.orphans.len()
    }

    /// What came from one peer may be the parent that another one's transactions wait for.
    fn reconsider_others(&mut self, host: &mut dyn Host) {
        for id in self.transactions.orphans.waiting_for_turn() {
            let Some(mut peer) = self.peers.remove(&id) else { continue };
            self.reconsider_orphans(&mut peer, host);
            self.collect(&mut peer);
            self.peers.insert(id, peer);
        }
    }

    fn collect(&mut self, peer: &mut Peer) {
        self.actions.extend(peer.actions.drain(..));
    }

    /// Peers that were at fault for what another one's message brought to light.
    fn close_marked(&mut self) {
        for (id, what) in std::mem::take(&mut self.download.punished) {
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.misbehaving(what);
                self.actions.extend(peer.actions.drain(..));
            }
        }
        for (id, packet) in std::mem::take(&mut self.download.messages) {
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.send_packet(packet);
                self.actions.extend(peer.actions.drain(..));
            }
        }
    }

    fn process(&mut self, peer: &mut Peer, message: Message, host: &mut dyn Host) {
        match message {
            Message::Version(version) => return self.receive_version(peer, version, host),
            // Everything else comes after it.
            _ if peer.version.is_none() => return,
            Message::Verack => return self.receive_verack(peer),
            Message::WtxidRelay | Message::SendAddrV2 | Message::Feature { .. } | Message::SendTxRcncl => {
                return Self::negotiate(peer, &message);
            }
            Message::SendHeaders => peer.blocks.prefers_headers = true,
            Message::SendCmpct { high_bandwidth, version } => Self::receive_sendcmpct(peer, high_bandwidth, version),
            _ => {}
        }
        if !peer.is_ready {
            return;
        }
        match message {
            Message::Ping(nonce) => peer.send(bitcoin::p2p::message::NetworkMessage::Pong(nonce)),
            Message::Pong(nonce) => self.receive_pong(peer, nonce),
            Message::FeeFilter(feerate) => Self::receive_feefilter(peer, feerate),
            Message::Excessive(what) => peer.misbehaving(what),
            Message::MemPool => Self::receive_mempool(peer),
            Message::BloomFilter => peer.close(Reason::Unwelcome("bloom filters are not offered")),
            Message::GetCFilters(request) => self.receive_getcfilters(peer, &request, host),
            Message::GetCFHeaders(request) => self.receive_getcfheaders(peer, &request, host),
            Message::GetCFCheckpt(request) => self.receive_getcfcheckpt(peer, &request, host),
            Message::GetAddr => self.receive_getaddr(peer),
            Message::Addresses { count, addresses } => self.receive_addresses(peer, count, addresses),
            Message::Inv(items) => self.receive_inv(peer, items, host),
            Message::NotFound(items) => self.receive_notfound(peer, &items),
            Message::Tx(transaction) => self.receive_transaction(peer, transaction, host),
            Message::GetData(items) => self.receive_getdata(peer, items, host),
            Message::GetBlocks(locator) => self.receive_getblocks(peer, &locator, host),
            Message::GetHeaders(locator) => self.receive_getheaders(peer, &locator, host),
            Message::GetBlockTxn(request) => self.receive_getblocktxn(peer, &request, host),
            Message::Headers(headers) => self.receive_headers(peer, headers, false, host),
            Message::Block(block) => self.receive_block(peer, block, host),
            Message::CmpctBlock(compact) => self.receive_compact_block(peer, *compact, host),
            Message::BlockTxn(transactions) => self.receive_blocktxn(peer, transactions, host),
            _ => {}
        }
    }

    /// Everything that is due to a peer (Core: `SendMessages`).
    fn send_messages(&mut self, peer: &mut Peer, host: &mut dyn Host) {
        if !peer.is_ready || peer.is_closing {
            return;
        }
        self.serve_requests(peer, host);
        self.send_ping(peer);
        // A peer that reads nothing gets nothing more to wait for.
        if peer.is_closing || peer.unsent >= peer::SEND_LIMIT {
            return;
        }
        self.send_addresses(peer, host);
        self.start_header_sync(peer, host);
        self.send_announcements(peer, host);
        self.send_inventory(peer, host);
        self.request_blocks(peer, host);
        self.reconsider_orphans(peer, host);
        self.request_transactions(peer, host);
        self.send_feefilter(peer, host);
    }

    fn hash_of(host: &dyn Host, id: BlockId) -> BlockHash {
        host.chain().entry(id).hash
    }
}
