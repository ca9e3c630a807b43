//! Sockets of the peer-to-peer network: listens, dials, frames messages, counts bytes, and keeps out who is banned.
//!
//! What a message means is the machine's business (`sync`), which runs on the validation thread; here is nothing but
//! transport. Every peer has bounded buffers in both directions: who sends faster than we work is read slower, who reads
//! slower than we send is sent less. Bitcoin Core: `net.cpp`.

mod ban;
mod book;
mod connection;
mod dial;
mod encryption;
mod frame;
mod listen;
mod meter;
mod peer;
mod transport;
mod whitelist;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::MissedTickBehavior;

use crate::chain::BlockId;
use crate::driver::{Handle, Stopped};
use crate::params::Network as ChainNetwork;
use crate::sync::{
    Action, KnownAddress, Machine, NodeAddress, Options, Origin, Orphan, Packet, PeerId, PeerInfo, Permissions,
    SERVICE_COMPACT_FILTERS, SERVICE_P2P_V2, SERVICES, TICK, Time, Upload,
};
use ban::Bans;
use book::{Book, Known};
use peer::Peer;

pub use ban::{Ban, DEFAULT_BAN, InvalidSubnet, Subnet};
pub use dial::{AddNodeError, Added};
pub use frame::FrameError;
pub use peer::Traffic;
pub use whitelist::{WhitelistError, Whitelisted};

/// Our software, as peers and RPC clients see it: Core's name, for LND compares what follows it; then ours, or what our
/// user wants to be there instead.
pub fn user_agent(comments: &[String]) -> String {
    let comment = if comments.is_empty() { "l1-utxo".to_owned() } else { comments.join("; ") };
    format!("/Satoshi:31.0.0({comment})/")
}

/// Characters of a user agent at most (Core: `MAX_SUBVERSION_LENGTH`).
pub const MAX_USER_AGENT: usize = 256;
/// How often the address book is written if it has changed.
const SAVE_INTERVAL: Duration = Duration::from_secs(15 * 60);
/// Where peers may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Door {
    /// An address of this machine.
    pub address: SocketAddr,
    /// Whether those who come in here come through a Tor service, so that their addresses say nothing of them.
    pub is_onion: bool,
}

/// What the owner sets.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen; nowhere if empty.
    pub listen: Vec<Door>,
    /// Connect to these only.
    pub connect: Vec<String>,
    /// Connect to nobody that our user did not name.
    pub is_alone: bool,
    /// Connect to these, too.
    pub add: Vec<String>,
    /// Connections at most, in both directions.
    pub max_connections: usize,
    /// Whether to dial with the encrypted transport first; who dials us chooses for himself, unless this is `false`.
    pub v2_transport: Option<bool>,
    /// Our software, as peers see it.
    pub user_agent: String,
    /// What peers of certain addresses may do.
    pub whitelist: Vec<Whitelisted>,
    /// What those lines of the list grant that name no grant.
    pub implicit_permissions: Permissions,
    /// How long a connection lasts before its silence counts against it.
    pub peer_timeout: Duration,
    /// Whether transactions of others are not wanted.
    pub blocks_only: bool,
    /// Bytes that may be sent in a day; 0: as many as are asked for.
    pub upload_limit: u64,
    /// Where we can be called, as our user says.
    pub own_addresses: Vec<NodeAddress>,
    /// Seconds for which a ban holds if nothing else is said.
    pub ban_time: i64,
    /// Whether the node keeps block filters for light clients.
    pub serves_filters: bool,
    /// Where bans and addresses are kept.
    pub dir: PathBuf,
}

/// Why the network does not start.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The address is taken or not ours.
    #[error("listen = \"{address}\": {source}: choose another --listen HOST:PORT, or port 0 for a free one")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The system gives no random numbers.
    #[error("the system's random numbers: {0}")]
    Entropy(getrandom::Error),
    /// The validation thread is gone.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// A peer as `getpeerinfo` tells it.
#[derive(Clone, Debug)]
pub struct PeerReport {
    /// What the protocol knows.
    pub info: PeerInfo,
    /// What the socket knows.
    pub traffic: Traffic,
}

/// The network, for those who ask about it.
#[derive(Clone)]
pub struct Network {
    inner: Arc<Inner>,
}

struct Inner {
    node: Handle,
    network: ChainNetwork,
    settings: Settings,
    peers: Mutex<BTreeMap<PeerId, Arc<Peer>>>,
    bans: Mutex<Bans>,
    book: Mutex<Book>,
    added: Mutex<Vec<Added>>,
    /// Wakes those who dial: something was added, or a connection ended.
    dialling: Notify,
    next_id: AtomicU64,
    salt: u64,
    sent: AtomicU64,
    received: AtomicU64,
    is_active: AtomicBool,
    listening: Mutex<Vec<SocketAddr>>,
    stopping: watch::Receiver<bool>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is whole after every statement.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Network {
    /// Attaches the machine to the validation thread, listens and dials. Ends when `stopping` turns true.
    pub async fn start(
        node: Handle,
        network: ChainNetwork,
        settings: Settings,
        stopping: watch::Receiver<bool>,
    ) -> Result<Self, NetError> {
        let mut seed = [0; 24];
        getrandom::fill(&mut seed).map_err(NetError::Entropy)?;
        let (seed, salt) = seed.split_first_chunk::<16>().expect("24 bytes hold 16");
        let salt = u64::from_le_bytes(*salt.first_chunk().expect("8 of 24 bytes are left"));
        let added = settings.connect.iter().chain(&settings.add).map(|address| Added::new(address)).collect();
        let inner = Arc::new(Inner {
            peers: Mutex::new(BTreeMap::new()),
            bans: Mutex::new(Bans::load(&settings.dir)),
            book: Mutex::new(Book::load(&settings.dir)),
            added: Mutex::new(added),
            dialling: Notify::new(),
            next_id: AtomicU64::new(0),
            salt,
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            is_active: AtomicBool::new(true),
            listening: Mutex::new(Vec::new()),
            node,
            network,
            settings,
            stopping,
        });
        inner.attach(*seed).await?;
        listen::start(&inner).await?;
        tokio::spawn(tick(Arc::clone(&inner)));
        tokio::spawn(dial::serve_added(Arc::clone(&inner)));
        tokio::spawn(dial::seek(Arc::clone(&inner)));
        tokio::spawn(keep_book(Arc::clone(&inner)));
        Ok(Self { inner })
    }

    /// Every peer.
    pub async fn peers(&self) -> Result<Vec<PeerReport>, Stopped> {
        let infos = self.with_machine(|machine| machine.peers().collect::<Vec<_>>()).await?;
        let peers = lock(&self.inner.peers);
        let report = |info: PeerInfo| {
            let traffic = peers.get(&info.id)?.traffic();
            Some(PeerReport { info, traffic })
        };
        Ok(infos.into_iter().filter_map(report).collect())
    }

    async fn with_machine<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Machine) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        self.inner.node.run(move |ledger| ledger.with_network(|machine, _| work(machine))).await?.ok_or(Stopped)
    }

    /// What we offer: all blocks, with witnesses, over the encrypted transport, too, and filters if they are kept.
    pub fn services(&self) -> u64 {
        self.inner.services()
    }

    /// How many peers there are: inbound, and dialled by us.
    pub fn counts(&self) -> (usize, usize) {
        let peers = lock(&self.inner.peers);
        let inbound = peers.values().filter(|peer| peer.connection.origin == Origin::Inbound).count();
        (inbound, peers.len() - inbound)
    }

    /// Our software, as peers see it.
    pub fn user_agent(&self) -> &str {
        &self.inner.settings.user_agent
    }

    /// Whether we dial with the encrypted transport first.
    pub fn dials_encrypted(&self) -> bool {
        self.inner.settings.v2_transport == Some(true)
    }

    /// Whether transactions of others are wanted.
    pub fn relays_transactions(&self) -> bool {
        !self.inner.settings.blocks_only
    }

    /// Bytes sent and received since the start.
    pub fn totals(&self) -> (u64, u64) {
        (self.inner.sent.load(Ordering::Relaxed), self.inner.received.load(Ordering::Relaxed))
    }

    /// What was sent today of what may be, and the moment for which that holds.
    pub async fn upload(&self) -> Result<(Upload, Time), Stopped> {
        self.with_machine(|machine| machine.upload()).await
    }

    /// Where we can be called, as our user says.
    pub fn own_addresses(&self) -> &[NodeAddress] {
        &self.inner.settings.own_addresses
    }

    /// Seconds for which a ban holds if nothing else is said.
    pub fn ban_time(&self) -> i64 {
        self.inner.settings.ban_time
    }

    /// Where peers may connect to us.
    pub fn listening(&self) -> Vec<SocketAddr> {
        lock(&self.inner.listening).clone()
    }

    /// Sends a ping to every peer.
    pub async fn ping(&self) -> Result<(), Stopped> {
        self.with_machine(Machine::ping_all).await
    }

    /// Transactions whose parents are missing.
    pub async fn orphans(&self) -> Result<Vec<Orphan>, Stopped> {
        self.with_machine(|machine| machine.orphan_transactions()).await
    }

    /// Sends a peer a message as it is given; `false`: there is no such peer.
    pub fn send(&self, id: PeerId, command: &str, payload: Vec<u8>) -> bool {
        let packet = Packet { command: Cow::Owned(command.to_owned()), payload };
        lock(&self.inner.peers).get(&id).inspect(|peer| peer.send(packet)).is_some()
    }

    /// Asks a peer for a block.
    pub async fn fetch_block(&self, id: PeerId, block: BlockId) -> Result<Result<(), &'static str>, Stopped> {
        let fetch = move |ledger: &mut crate::driver::Ledger| {
            ledger.with_network(|machine, ledger| machine.fetch_block(id, block, ledger))
        };
        self.inner.node.run(fetch).await?.ok_or(Stopped)
    }

    /// Whether connections are made and taken.
    pub fn is_active(&self) -> bool {
        self.inner.is_active.load(Ordering::Relaxed)
    }

    /// Ends all connections and makes none, or goes on.
    pub fn set_active(&self, is_active: bool) {
        self.inner.is_active.store(is_active, Ordering::Relaxed);
        if !is_active {
            lock(&self.inner.peers).values().for_each(|peer| peer.close());
        }
        self.inner.dialling.notify_one();
    }

    /// Closes a connection by its number; whether there was one.
    pub fn disconnect(&self, id: PeerId) -> bool {
        let peers = lock(&self.inner.peers);
        peers.get(&id).inspect(|peer| peer.close()).is_some()
    }

    /// Closes every connection to exactly this address and port; whether there was one.
    pub fn disconnect_address(&self, address: SocketAddr) -> bool {
        self.inner.close_all(|peer| peer.connection.address == address)
    }

    /// Bans a network of addresses and closes its connections; `false`: it is banned already.
    pub fn ban(&self, subnet: Subnet, ban: Ban, now: i64) -> std::io::Result<bool> {
        let mut bans = lock(&self.inner.bans);
        if bans.contains(&subnet, now) {
            return Ok(false);
        }
        bans.add(subnet, ban)?;
        drop(bans);
        self.inner.close_all(|peer| subnet.contains(peer.connection.address.ip()));
        Ok(true)
    }

    /// Takes a ban back; `false`: there was none.
    pub fn unban(&self, subnet: &Subnet) -> std::io::Result<bool> {
        lock(&self.inner.bans).remove(subnet)
    }

    /// The bans that hold.
    pub fn bans(&self, now: i64) -> Vec<(Subnet, Ban)> {
        lock(&self.inner.bans).list(now)
    }

    /// Takes all bans back.
    pub fn clear_bans(&self) -> std::io::Result<()> {
        lock(&self.inner.bans).clear()
    }

    /// Up to `count` addresses of other nodes.
    pub fn known_addresses(&self, count: usize) -> Vec<KnownAddress> {
        lock(&self.inner.book).list(count)
    }

    /// All of them, each with what is known of it.
    pub fn book_entries(&self) -> Vec<(NodeAddress, Known)> {
        lock(&self.inner.book).entries().collect()
    }

    /// Marks an address as one that answered (RPC `addpeeraddress`). `now` in seconds since 1970.
    pub fn mark_good(&self, address: NodeAddress, now: i64) {
        lock(&self.inner.book).good(address, now);
    }

    /// Remembers an address (RPC `addpeeraddress`); whether it is new.
    pub fn learn(&self, address: KnownAddress) -> bool {
        lock(&self.inner.book).learn(&[address]) > 0
    }

    /// Writes down what is to be remembered. For a clean stop.
    pub fn save(&self) {
        self.inner.save_book();
    }
}

impl Inner {
    async fn attach(self: &Arc<Self>, seed: [u8; 16]) -> Result<(), Stopped> {
        let inner = Arc::clone(self);
        let (params, services) = (self.network.params(), self.services());
        let settings = &self.settings;
        let (user_agent, peer_timeout) = (settings.user_agent.clone(), settings.peer_timeout);
        let (blocks_only, upload_limit) = (settings.blocks_only, settings.upload_limit);
        // Who takes no connections need not be found.
        let is_open = !settings.listen.is_empty();
        let own_addresses = if is_open { settings.own_addresses.clone() } else { Vec::new() };
        self.node
            .run(move |ledger| {
                let policy = *ledger.mempool().policy();
                let options = Options {
                    user_agent,
                    services,
                    min_relay_feerate: policy.min_relay_feerate,
                    incremental_feerate: policy.incremental_feerate,
                    peer_timeout,
                    blocks_only,
                    upload_limit,
                    own_addresses,
                };
                ledger.attach_network(Machine::new(params, options, seed), Box::new(move |action| inner.act(action)));
            })
            .await
    }

    const fn services(&self) -> u64 {
        let filters = if self.settings.serves_filters { SERVICE_COMPACT_FILTERS } else { 0 };
        let encrypted = if matches!(self.settings.v2_transport, Some(false)) { 0 } else { SERVICE_P2P_V2 };
        SERVICES | encrypted | filters
    }

    /// Does what the machine wants; called on the validation thread, so it never waits.
    fn act(&self, action: Action) {
        match action {
            Action::Send(id, packet) => {
                if let Some(peer) = lock(&self.peers).get(&id) {
                    peer.send(packet);
                }
            }
            Action::Disconnect(id, reason) => {
                tracing::debug!(peer = id.0, %reason, "disconnecting");
                if let Some(peer) = lock(&self.peers).get(&id) {
                    peer.close();
                }
            }
            Action::Discourage(address) => lock(&self.bans).discourage(address.ip()),
            Action::Learn(addresses) => {
                lock(&self.book).learn(&addresses);
            }
            Action::Good(address) => lock(&self.book).good(address.into(), self.now()),
        }
    }

    fn close_all(&self, is_meant: impl Fn(&Peer) -> bool) -> bool {
        let peers = lock(&self.peers);
        let meant = peers.values().filter(|peer| is_meant(peer));
        meant.map(|peer| peer.close()).count() > 0
    }

    fn permissions(&self, ip: IpAddr, is_inbound: bool) -> Permissions {
        whitelist::granted(&self.settings.whitelist, self.settings.implicit_permissions, ip, is_inbound)
    }

    fn takes_encrypted(&self) -> bool {
        self.settings.v2_transport != Some(false)
    }

    fn is_banned(&self, ip: IpAddr) -> bool {
        lock(&self.bans).is_banned(ip, self.now())
    }

    /// Seconds since 1970 by the node's clock.
    fn now(&self) -> i64 {
        self.node.clock().now()
    }

    /// What `getaddr` is answered with: a part of the book, the same for a day to all who come in where this peer did.
    fn addresses_for(&self, peer: &Peer) -> Arc<[KnownAddress]> {
        let mut chance = [0; 8];
        // Without it the answer is the same as last time, which is safe, too.
        let _ = getrandom::fill(&mut chance);
        lock(&self.book).answer(peer.local(), self.salt ^ u64::from_le_bytes(chance), self.now())
    }

    fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    fn new_id(&self) -> PeerId {
        PeerId(self.next_id.fetch_add(1, Ordering::Relaxed))
    }

    fn save_book(&self) {
        if let Err(error) = lock(&self.book).save() {
            tracing::warn!(%error, "the list of addresses cannot be written");
        }
    }
}

/// Lets the machine do what is due by time.
async fn tick(inner: Arc<Inner>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !inner.is_stopping() {
        interval.tick().await;
        let has_peers = !lock(&inner.peers).is_empty();
        let work = |ledger: &mut crate::driver::Ledger| {
            ledger.with_network(|machine, ledger| machine.tick(ledger));
        };
        if has_peers && inner.node.run(work).await.is_err() {
            return;
        }
    }
}

/// Writes the address book now and then.
async fn keep_book(inner: Arc<Inner>) {
    let mut interval = tokio::time::interval(SAVE_INTERVAL);
    let mut stopping = inner.stopping.clone();
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            _ = stopping.wait_for(|stop| *stop) => return inner.save_book(),
        }
        inner.save_book();
    }
}
