//! A live LDK node: the crate `lightning` with its own sockets, gossip, pathfinder, wallet and on-chain claims, beside the
//! real daemons and on the same chain. It lives in the test's process and is never restarted.

mod chain;
mod part;
mod wallet;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bitcoin::Network;
use lightning::chain::BestBlock;
use lightning::chain::chainmonitor::ChainMonitor;
use lightning::events::bump_transaction::sync::{BumpTransactionEventHandlerSync, WalletSync};
use lightning::events::{Event, EventsProvider};
use lightning::ln::channel_state::ChannelDetails;
use lightning::ln::channelmanager::{
    Bolt11InvoiceParameters, ChainParameters, ChannelManager, PaymentId, RecipientOnionFields, Retry,
};
use lightning::ln::peer_handler::{IgnoringMessageHandler, MessageHandler, PeerManager};
use lightning::ln::types::ChannelId;
use lightning::onion_message::messenger::NullMessageRouter;
use lightning::routing::gossip::{NetworkGraph, P2PGossipSync};
use lightning::routing::router::{DefaultRouter, PaymentParameters, RouteParameters, RouteParametersConfig};
use lightning::routing::scoring::{ProbabilisticScorer, ProbabilisticScoringDecayParameters};
use lightning::sign::{KeysManager, NodeSigner, OutputSpender, Recipient, SpendableOutputDescriptor};
use lightning::types::payment::PaymentPreimage;
use lightning::util::config::{MaxDustHTLCExposure, UserConfig};
use lightning_invoice::Bolt11Invoice;
use rand::RngCore;
use secp256k1::{PublicKey, SECP256K1, SecretKey};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::chain::ChainNode;
use crate::wait::until;
use chain::Follower;
pub use part::{Broadcasts, Fees, Graph, NoStore, Silent};
use part::{Bumper, Channels, Gossip, LdkPeers, Monitor};
pub use wallet::LdkWallet;

const STEP: Duration = Duration::from_millis(5);
/// Steps between two looks at the chain.
const CHAIN_STEPS: u32 = 5;
/// Steps between two ticks of LDK's own clocks.
const TICK_STEPS: u32 = 200;

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

struct Inner {
    peers: Arc<LdkPeers>,
    channels: Arc<Channels>,
    monitor: Arc<Monitor>,
    gossip: Arc<Gossip>,
    graph: Arc<Graph>,
    keys: Arc<KeysManager>,
    wallet: Arc<LdkWallet>,
    broadcasts: Arc<Broadcasts>,
    bumper: Bumper,
    events: Mutex<Vec<Event>>,
    sweeps: Mutex<Vec<SpendableOutputDescriptor>>,
    /// Whether payments are claimed as they come.
    claims: Mutex<bool>,
}

impl Drop for LdkNode {
    fn drop(&mut self) {
        self.inner.peers.disconnect_all_peers();
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn config(terms: LdkTerms) -> UserConfig {
    let mut config = UserConfig {
        manually_accept_inbound_channels: true,
        accept_forwards_to_priv_channels: true,
        ..UserConfig::default()
    };
    let handshake = &mut config.channel_handshake_config;
    handshake.announce_for_forwarding = terms.public;
    handshake.negotiate_anchors_zero_fee_htlc_tx = terms.anchors;
    handshake.minimum_depth = 1;
    handshake.our_to_self_delay = 144;
    handshake.max_inbound_htlc_value_in_flight_percent_of_channel = 100;
    handshake.our_max_accepted_htlcs = 483;
    // LDK refuses a channel whose flag is not its own, unless it is told otherwise (PEERS.md A2).
    config.channel_handshake_limits.force_announced_channel_preference = false;
    // Else LDK offers next to no dust at 253 sat/kW (PEERS.md A2).
    config.channel_config.max_dust_htlc_exposure = MaxDustHTLCExposure::FixedLimitMsat(100_000_000);
    config
}

impl LdkNode {
    /// Starts one on a cluster's chain.
    pub async fn start(chain: &ChainNode, terms: LdkTerms) -> LdkNode {
        let inner = Inner::new(terms);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let tasks = vec![
            tokio::spawn(accept(listener, inner.peers.clone())),
            tokio::spawn(live(inner.clone(), follower(&inner, chain))),
        ];
        let node = LdkNode { inner, address, tasks };
        node.synced(chain).await;
        node
    }

    /// Its key.
    pub fn node_id(&self) -> PublicKey {
        self.inner.keys.get_node_id(Recipient::Node).expect("it has a node id")
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
        let id = random_id();
        let params = PaymentParameters::for_keysend(payee, 40, false);
        let route = RouteParameters::from_payment_params_and_value(params, amount_msat);
        let preimage = PaymentPreimage(random_id().0);
        let onion = RecipientOnionFields::spontaneous_empty();
        let paid = self.inner.channels.send_spontaneous_payment(Some(preimage), onion, id, route, Retry::Attempts(5));
        paid.expect("LDK begins to pay");
        id
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

/// What an LDK node does by itself.
async fn live(inner: Arc<Inner>, mut follower: Follower) {
    let mut step: u32 = 0;
    loop {
        inner.work();
        if step.is_multiple_of(CHAIN_STEPS) && follower.follow().await {
            inner.sweep();
        }
        if step.is_multiple_of(TICK_STEPS) {
            inner.channels.timer_tick_occurred();
            inner.peers.timer_tick_occurred();
        }
        step = step.wrapping_add(1);
        tokio::time::sleep(STEP).await;
    }
}

impl Inner {
    /// All its parts, joined; nothing runs yet.
    fn new(terms: LdkTerms) -> Arc<Inner> {
        let mut seed = [0; 32];
        rand::rng().fill_bytes(&mut seed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        let keys = Arc::new(KeysManager::new(&seed, now.as_secs(), now.subsec_nanos(), false));
        let wallet = LdkWallet::new(SecretKey::from_slice(&[seed[0] | 1; 32].map(|byte| byte & 0x7f)).expect("a key"));
        let (logger, fees, broadcasts) = (Arc::new(Silent), Arc::new(Fees), Arc::new(Broadcasts::default()));
        let monitor: Arc<Monitor> = Arc::new(ChainMonitor::new(
            None,
            broadcasts.clone(),
            logger.clone(),
            fees.clone(),
            Arc::new(NoStore),
            keys.clone(),
            keys.get_peer_storage_key(),
        ));
        let graph = Arc::new(NetworkGraph::new(Network::Regtest, logger.clone()));
        let scorer =
            ProbabilisticScorer::new(ProbabilisticScoringDecayParameters::default(), graph.clone(), logger.clone());
        let router = Arc::new(DefaultRouter::new(
            graph.clone(),
            logger.clone(),
            keys.clone(),
            Arc::new(RwLock::new(scorer)),
            Default::default(),
        ));
        let params =
            ChainParameters { network: Network::Regtest, best_block: BestBlock::from_network(Network::Regtest) };
        let seconds = u32::try_from(now.as_secs()).expect("before 2106");
        let channels: Arc<Channels> = Arc::new(ChannelManager::new(
            fees,
            monitor.clone(),
            broadcasts.clone(),
            router,
            Arc::new(NullMessageRouter {}),
            logger.clone(),
            keys.clone(),
            keys.clone(),
            keys.clone(),
            config(terms),
            params,
            seconds,
        ));
        let gossip: Arc<Gossip> = Arc::new(P2PGossipSync::new(graph.clone(), None, logger.clone()));
        let ignoring = || Arc::new(IgnoringMessageHandler {});
        let handler = MessageHandler {
            chan_handler: channels.clone(),
            route_handler: gossip.clone(),
            onion_message_handler: ignoring(),
            custom_message_handler: ignoring(),
            send_only_message_handler: monitor.clone(),
        };
        let peers = Arc::new(PeerManager::new(handler, seconds, &seed, logger.clone(), keys.clone()));
        let source = Arc::new(WalletSync::new(wallet.clone(), logger.clone()));
        let bumper = BumpTransactionEventHandlerSync::new(broadcasts.clone(), source, keys.clone(), logger);
        Arc::new(Inner {
            peers,
            channels,
            monitor,
            gossip,
            graph,
            keys,
            wallet,
            broadcasts,
            bumper,
            events: Mutex::default(),
            sweeps: Mutex::default(),
            claims: Mutex::new(true),
        })
    }

    fn work(&self) {
        self.peers.process_events();
        self.channels.process_pending_htlc_forwards();
        let found = Mutex::new(Vec::new());
        let collect = |event: Event| {
            found.lock().expect("no panic while it is held").push(event);
            Ok(())
        };
        self.channels.process_pending_events(&collect);
        self.monitor.process_pending_events(&collect);
        for event in found.into_inner().expect("no panic while it is held") {
            self.answer(&event);
            self.events.lock().expect("no panic while it is held").push(event);
        }
        self.peers.process_events();
        // Keeps the type of the field in use: announcements leave with the peers.
        let _ = &self.gossip;
    }

    fn answer(&self, event: &Event) {
        match event {
            Event::OpenChannelRequest { temporary_channel_id, counterparty_node_id, .. } => {
                let accepted =
                    self.channels.accept_inbound_channel(temporary_channel_id, counterparty_node_id, 0, None);
                accepted.expect("LDK takes our channel");
            }
            Event::FundingGenerationReady {
                temporary_channel_id,
                counterparty_node_id,
                channel_value_satoshis,
                output_script,
                ..
            } => {
                let value = bitcoin::Amount::from_sat(*channel_value_satoshis);
                let funding = self.wallet.pay(output_script.clone(), value);
                let given =
                    self.channels.funding_transaction_generated(*temporary_channel_id, *counterparty_node_id, funding);
                given.expect("LDK takes the funding transaction");
            }
            Event::PaymentClaimable { purpose, .. } => {
                let claims = *self.claims.lock().expect("no panic while it is held");
                if let Some(preimage) = purpose.preimage().filter(|_| claims) {
                    self.channels.claim_funds(preimage);
                }
            }
            Event::SpendableOutputs { outputs, .. } => {
                self.sweeps.lock().expect("no panic while it is held").extend(outputs.iter().cloned());
                self.sweep();
            }
            Event::BumpTransaction(bump) => self.bumper.handle_event(bump),
            _ => {}
        }
    }

    /// Takes what is its own on the chain into its wallet, each output by itself; said again with each block.
    fn sweep(&self) {
        let outputs = self.sweeps.lock().expect("no panic while it is held").clone();
        for output in outputs {
            // LDK asserts in debug builds that its guess of the weight was close; short signatures prove it wrong.
            let spend = || {
                let script = self.wallet.script();
                self.keys.spend_spendable_outputs(&[&output], Vec::new(), script, 500, None, SECP256K1)
            };
            let swept = std::panic::catch_unwind(std::panic::AssertUnwindSafe(spend));
            if let Ok(Ok(transaction)) = swept {
                lightning::chain::chaininterface::BroadcasterInterface::broadcast_transactions(
                    &*self.broadcasts,
                    &[&transaction],
                );
            }
        }
    }
}
