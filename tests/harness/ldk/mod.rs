//! A live LDK node: the crate `lightning` with its own sockets, gossip, pathfinder, wallet and on-chain claims, beside the
//! real daemons and on the same chain. It lives in the test's process and is never restarted.

mod blinded;
mod chain;
mod gossip;
mod inner;
mod part;
mod store;
mod wallet;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lightning::events::Event;
use lightning::ln::channel_state::ChannelDetails;
use lightning::ln::channelmanager::{Bolt11InvoiceParameters, PaymentId, RecipientOnionFields, Retry};
use lightning::ln::msgs::SocketAddress;
use lightning::ln::types::ChannelId;
use lightning::routing::router::{PaymentParameters, RouteParameters, RouteParametersConfig};
use lightning::sign::{NodeSigner, Recipient};
use lightning::types::payment::PaymentPreimage;
use lightning_invoice::Bolt11Invoice;
use rand::RngCore;
use secp256k1::PublicKey;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::chain::ChainNode;
use crate::wait::until;
pub use blinded::{from_ldk, to_ldk};
use chain::Follower;
pub use gossip::{Answers, Gossip};
use inner::Inner;
use part::LdkPeers;
pub use part::{Broadcasts, Fees, Graph, Silent};
pub use store::NoStore;
pub use wallet::LdkWallet;

/// The longest time that it does nothing.
const STEP: Duration = Duration::from_millis(5);
/// Between two looks at the chain.
const LOOK: Duration = Duration::from_millis(25);
/// Between two ticks of LDK's own clocks.
const TICK: Duration = Duration::from_secs(1);
/// The same where it is measured: as LDK's background processor ticks.
const MEASURED_TICK: Duration = Duration::from_secs(10);

/// What such a node offers and accepts.
#[derive(Clone, Copy, Debug)]
pub struct LdkTerms {
    /// Whether it offers anchors.
    pub anchors: bool,
    /// Whether its channels are announced, and forwarded over.
    pub public: bool,
}

/// A running LDK node. It ends with this value.
pub struct LdkNode {
    inner: Arc<Inner>,
    address: SocketAddr,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for LdkNode {
    fn drop(&mut self) {
        self.inner.peers.disconnect_all_peers();
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl LdkNode {
    /// Starts one on a cluster's chain.
    pub async fn start(chain: &ChainNode, terms: LdkTerms) -> LdkNode {
        LdkNode::start_with(chain, terms, None).await
    }

    /// One that is to be measured: what it tells others is on disk, in this folder, before.
    pub async fn start_durable(chain: &ChainNode, terms: LdkTerms, folder: &Path) -> LdkNode {
        LdkNode::start_with(chain, terms, Some(folder)).await
    }

    async fn start_with(chain: &ChainNode, terms: LdkTerms, folder: Option<&Path>) -> LdkNode {
        let inner = Inner::new(terms, folder);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let tick = if folder.is_some() { MEASURED_TICK } else { TICK };
        let tasks = vec![
            tokio::spawn(accept(listener, inner.peers.clone())),
            tokio::spawn(live(inner.clone(), follower(&inner, chain), tick)),
        ];
        let node = LdkNode { inner, address, tasks };
        node.synced(chain).await;
        node
    }

    /// Its key.
    pub fn node_id(&self) -> PublicKey {
        self.inner.keys.get_node_id(Recipient::Node).expect("it has a node id")
    }

    /// Its key, and where it listens.
    pub fn place(&self) -> (PublicKey, SocketAddr) {
        (self.node_id(), self.address)
    }

    /// `id@host:port`.
    pub fn peer_address(&self) -> String {
        format!("{}@{}", self.node_id(), self.address)
    }

    /// Where its wallet is paid.
    pub fn wallet_address(&self) -> String {
        self.inner.wallet.address()
    }

    /// Its wallet.
    pub fn wallet(&self) -> &LdkWallet {
        &self.inner.wallet
    }

    /// Its channels with their peer, usable or not.
    pub fn channels(&self) -> Vec<ChannelDetails> {
        self.inner.channels.list_channels()
    }

    /// Its map of the network.
    pub fn graph(&self) -> &Graph {
        &self.inner.graph
    }

    /// What it says and hears of the network.
    pub fn gossip(&self) -> &Gossip {
        &self.inner.gossip
    }

    /// Says who it is; those who know a channel of its own believe it.
    pub fn announce(&self) {
        let mut alias = [0; 32];
        alias[..3].copy_from_slice(b"LDK");
        let SocketAddr::V4(at) = self.address else { unreachable!("it listens on 127.0.0.1") };
        let address = SocketAddress::TcpIpV4 { addr: at.ip().octets(), port: at.port() };
        self.inner.peers.broadcast_node_announcement([1, 2, 3], alias, vec![address]);
    }

    /// Waits until it has followed the chain.
    pub async fn synced(&self, chain: &ChainNode) {
        let tip = chain.tip().await;
        until("LDK at the tip", async || {
            (self.inner.channels.current_best_block().block_hash.to_string() == tip).then_some(())
        })
        .await;
    }

    /// Connects to a peer.
    pub async fn connect(&self, id: PublicKey, address: SocketAddr) {
        let connection = lightning_net_tokio::connect_outbound(self.inner.peers.clone(), id, address).await;
        tokio::spawn(connection.expect("the peer listens"));
        until("LDK's session", async || self.inner.peers.peer_by_node_id(&id).map(drop)).await;
    }

    /// Cuts the connection with a peer.
    pub fn cut(&self, id: PublicKey) {
        self.inner.peers.disconnect_by_node_id(id);
    }

    /// Whether there is no session with a peer.
    pub fn is_alone(&self, id: PublicKey) -> bool {
        self.inner.peers.peer_by_node_id(&id).is_none()
    }

    /// Asks a peer for a channel; the funding transaction follows by itself.
    pub fn open(&self, id: PublicKey, capacity_sat: u64, push_msat: u64) {
        let opened = self.inner.channels.create_channel(id, capacity_sat, push_msat, 7, None, None);
        opened.expect("LDK opens a channel");
    }

    /// Closes a channel with the peer.
    pub fn close(&self, channel: &ChannelId, peer: &PublicKey) {
        self.inner.channels.close_channel(channel, peer).expect("LDK closes");
    }

    /// Closes a channel without the peer.
    pub fn force_close(&self, channel: &ChannelId, peer: &PublicKey) {
        let closed = self.inner.channels.force_close_broadcasting_latest_txn(channel, peer, "a test".into());
        closed.expect("LDK closes by force");
    }

    /// Whether payments are claimed as they come; on by default.
    pub fn claim_payments(&self, claim: bool) {
        *self.inner.claims.lock().expect("no panic while it is held") = claim;
    }

    /// Claims a payment that was left waiting.
    pub fn claim(&self, preimage: PaymentPreimage) {
        self.inner.channels.claim_funds(preimage);
    }

    /// An invoice with hints, where its channels are private.
    pub fn invoice(&self, amount_msat: Option<u64>) -> Bolt11Invoice {
        let params = Bolt11InvoiceParameters { amount_msats: amount_msat, ..Bolt11InvoiceParameters::default() };
        self.inner.channels.create_bolt11_invoice(params).expect("an invoice")
    }

    /// Begins to pay an invoice; the payment's name.
    ///
    /// # Errors
    /// Where it knows at once that it cannot: its peer is away, say.
    pub fn pay(&self, invoice: &Bolt11Invoice) -> Result<PaymentId, String> {
        let id = random_id();
        let config = RouteParametersConfig::default();
        let paid = self.inner.channels.pay_for_bolt11_invoice(invoice, id, None, config, Retry::Attempts(5));
        paid.map(|()| id).map_err(|error| format!("{error:?}"))
    }

    /// Begins to pay a key.
    pub fn keysend(&self, payee: PublicKey, amount_msat: u64) -> PaymentId {
        self.keysend_as(random_id(), payee, amount_msat).expect("LDK begins to pay")
    }

    /// Pays a key; whether it succeeded, as soon as LDK says so.
    pub async fn keysend_to_end(&self, payee: PublicKey, amount_msat: u64) -> bool {
        let (id, (teller, told)) = (random_id(), oneshot::channel());
        self.inner.awaited.lock().expect("no panic while it is held").insert(id.0, teller);
        self.keysend_as(id, payee, amount_msat).is_ok() && told.await.unwrap_or(false)
    }

    fn keysend_as(&self, id: PaymentId, payee: PublicKey, amount_msat: u64) -> Result<PaymentId, String> {
        let params = PaymentParameters::for_keysend(payee, 40, false);
        let route = RouteParameters::from_payment_params_and_value(params, amount_msat);
        let preimage = PaymentPreimage(random_id().0);
        let onion = RecipientOnionFields::spontaneous_empty();
        let paid = self.inner.channels.send_spontaneous_payment(Some(preimage), onion, id, route, Retry::Attempts(5));
        paid.map(|_| id).map_err(|error| format!("{error:?}"))
    }

    /// Waits until a payment of its own ends; whether it succeeded, and its fee in millisatoshi.
    pub async fn paid(&self, id: PaymentId) -> Result<u64, String> {
        self.event("the end of its payment", |event| match event {
            Event::PaymentSent { payment_id, fee_paid_msat, .. } if *payment_id == Some(id) => {
                Some(Ok(fee_paid_msat.unwrap_or(0)))
            }
            Event::PaymentFailed { payment_id, reason, .. } if *payment_id == id => Some(Err(format!("{reason:?}"))),
            _ => None,
        })
        .await
    }

    /// Waits for an event, among those there were too.
    pub async fn event<T>(&self, what: &str, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
        until(&format!("LDK: {what}"), async || self.events().iter().find_map(&mut wanted)).await
    }

    /// All events so far.
    pub fn events(&self) -> Vec<Event> {
        self.inner.events.lock().expect("no panic while it is held").clone()
    }
}

fn random_id() -> PaymentId {
    let mut id = [0; 32];
    rand::rng().fill_bytes(&mut id);
    PaymentId(id)
}

fn follower(inner: &Inner, chain: &ChainNode) -> Follower {
    Follower {
        chain: chain.client().clone(),
        channels: inner.channels.clone(),
        monitor: inner.monitor.clone(),
        wallet: inner.wallet.clone(),
        broadcasts: inner.broadcasts.clone(),
        known: Vec::new(),
        waiting: Vec::new(),
    }
}

async fn accept(listener: TcpListener, peers: Arc<LdkPeers>) {
    while let Ok((stream, _)) = listener.accept().await {
        let stream = stream.into_std().expect("a socket");
        tokio::spawn(lightning_net_tokio::setup_inbound(peers.clone(), stream));
    }
}

/// What an LDK node does by itself: at once where there is something to do.
async fn live(inner: Arc<Inner>, mut follower: Follower, tick: Duration) {
    let (mut looked, mut ticked) = (None::<Instant>, Instant::now());
    loop {
        inner.work();
        inner.keep();
        if looked.is_none_or(|looked| looked.elapsed() >= LOOK) {
            looked = Some(Instant::now());
            if follower.follow().await {
                inner.sweep();
            }
        }
        if ticked.elapsed() >= tick {
            ticked = Instant::now();
            inner.channels.timer_tick_occurred();
            inner.peers.timer_tick_occurred();
        }
        tokio::select! {
            () = inner.channels.get_event_or_persistence_needed_future() => {}
            () = inner.monitor.get_update_future() => {}
            () = tokio::time::sleep(STEP) => {}
        }
    }
}
