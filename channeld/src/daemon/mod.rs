//! The composition root: opens what lies on disk, joins the rooms, and takes them apart again in order.
//!
//! Knows every room and no rule of any. Never decides, never keeps a state of its own.

mod access;
mod metric;
mod seed;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bitcoin::constants::ChainHash;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, BlockHash};
use tokio::runtime;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;

use crate::chain::{Backend, BackendError, ChainTip, Credentials, Watcher};
use crate::channel::Policy;
use crate::config::{Config, Forwarding, Network};
use crate::driver::inlet::{self, PeerInlet};
use crate::driver::outlet::{Outlet, Sessions};
use crate::driver::pathfinder::{Pathfinder, into_mailbox};
use crate::driver::{Clients, Delays, Driver, Mailbox, RecoverError, moment, recover};
use crate::gossip::{self, Gossip};
use crate::keys::{Seed, Signer};
use crate::node::state::State;
use crate::node::{Node, Settings};
use crate::payment::forward::ForwardingPolicy;
use crate::payment::jamming::Shares;
use crate::peer::{PeerConfig, Peers};
use crate::rpc::presence::Presence;
use crate::rpc::server::ServeError;
use crate::store::{Options, Store, StoreError};
use crate::units::{BlockHeight, CltvDelta, FeeratePerKw, Msat, NodeId};
use crate::wallet::{Wallet, WalletError};
use crate::wire::Features;

pub use seed::SeedError;

/// The network under which l1-utxo's devnet and regtest alike write addresses and invoices.
const ADDRESS_NETWORK: bitcoin::Network = bitcoin::Network::Regtest;
/// Chain events that the watcher may be ahead.
const CHAIN_EVENTS: usize = 4;
/// How long calls under way are waited for at the end.
const FAREWELL: Duration = Duration::from_secs(5);
/// What was learned about liquidity; losing it loses no money.
const LIQUIDITY: &str = "liquidity";

/// Why the daemon did not start, or ended. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The seed.
    #[error(transparent)]
    Seed(#[from] SeedError),
    /// The data directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What lies in it.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// The wallet in it.
    #[error(transparent)]
    Wallet(#[from] WalletError),
    /// The chain backend.
    #[error("chain backend: {0}")]
    Backend(#[from] BackendError),
    /// The API.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A port or a file.
    #[error("{what}: {source}")]
    Io {
        /// Which.
        what: String,
        /// The operating system's words.
        source: std::io::Error,
    },
}

fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> DaemonError {
    let what = what.into();
    move |source| DaemonError::Io { what, source }
}

/// The words of this node's seed, for its owner's eyes.
///
/// # Errors
/// There is no seed yet, or it cannot be opened.
pub fn show_words(config: &Config) -> Result<zeroize::Zeroizing<String>, DaemonError> {
    Ok(seed::read(config)?.text())
}

/// A running daemon.
pub struct Daemon {
    driver: Driver,
    pathfinder: Pathfinder,
    graph: gossip::Owner,
    clients: Arc<Clients>,
    peers: Peers,
    watcher: JoinHandle<()>,
    servers: Vec<JoinHandle<Result<(), ServeError>>>,
    certificate: Option<JoinHandle<()>>,
    look: Arc<Notify>,
    stop: watch::Sender<bool>,
    folder: PathBuf,
}

impl Daemon {
    /// Has the daemon look at its certificate now: one that expires soon is made anew, one that was put there is shown.
    pub fn reload(&self) {
        self.look.notify_one();
    }

    /// Starts everything; comes back when every port is bound and the presence file is written.
    ///
    /// # Errors
    /// [`DaemonError`]; nothing runs then.
    pub async fn start(config: &Config) -> Result<Daemon, DaemonError> {
        let folder = config.folder();
        let metrics = metric::serve(config.metrics).await.map_err(io("metrics"))?;
        let (seed, store, state) = open(config, &folder)?;
        let signer = Arc::new(Signer::new(&seed));
        let backend = Backend::new(&config.chain, credentials(config))?;
        check_chain(&backend, config.network).await?;
        let wallet = open_wallet(&seed, &state, config.network)?;

        let (mailbox, sessions, clients) =
            (Arc::new(Mailbox::default()), Arc::new(Sessions::default()), Arc::new(Clients::default()));
        let delays = Arc::new(Delays::default());
        let (mail, known, slow) = (Arc::clone(&mailbox), Arc::clone(&sessions), Arc::clone(&delays));
        let gossip = Gossip::default();
        let inlet = PeerInlet { mailbox: mail, sessions: known, delays: slow, gossip: gossip.clone() };
        let chain_hash = ChainHash::from(genesis(config.network).to_byte_array());
        let features = Features::init();
        let peers =
            Peers::new(PeerConfig { features: features.clone(), chain_hash }, Arc::clone(&signer), Arc::new(inlet));
        let listen = peers.listen(config.listen).await.map_err(io(format!("listen = {}", config.listen)))?;

        let settings = settings(config, features, chain_hash, listen);
        let node = Node::new(settings.clone(), Arc::clone(&signer), wallet, state, moment());
        let tip = node.state().tip().map(|(height, hash)| ChainTip { height, hash });
        let graph = start_gossip(config, chain_hash, &backend, tip, &gossip)?;
        let snapshots = graph.rim().graph;
        let liquidity = Some(folder.join(LIQUIDITY));
        let pathfinder =
            Pathfinder::start(snapshots, liquidity, into_mailbox(Arc::clone(&mailbox))).map_err(io("threads"))?;
        let outlet = Outlet {
            pathfinder: pathfinder.asker(),
            gossip: gossip.clone(),
            rim: graph.rim(),
            clients: Arc::clone(&clients),
            sessions,
            delays,
            peers: peers.clone(),
            backend: backend.clone(),
            runtime: runtime::Handle::current(),
            newest_event: watch::channel(0).0,
        };
        let driver = Driver::start(node, store, Arc::clone(&mailbox), outlet, &settings).map_err(io("threads"))?;
        let tip = tip.unwrap_or(ChainTip { height: BlockHeight::new(0), hash: genesis(config.network) });
        let watcher = watch_chain(backend, tip, mailbox, gossip, config.development);

        let (stop, stopped) = watch::channel(false);
        let opened = access::serve(config, &folder, &driver, &stopped).await?;
        let presence = Presence {
            node_id: NodeId(signer.node_id()).to_string(),
            listen: Some(listen),
            metrics,
            chain: Some(config.chain.clone()),
            chain_cookie: config.chain_cookie.as_ref().and_then(|path| std::path::absolute(path).ok()),
            ..opened.presence
        };
        presence.write(&folder).map_err(io("daemon.json"))?;
        tracing::info!(node_id = presence.node_id, %listen, grpc = ?presence.grpc, "the daemon runs");
        let (servers, look) = (opened.servers, Arc::new(Notify::new()));
        let certificate = opened.certificate.map(|certificate| {
            tokio::spawn(access::keep_certificate(certificate, presence, folder.clone(), Arc::clone(&look)))
        });
        Ok(Daemon { driver, pathfinder, graph, clients, peers, watcher, servers, certificate, look, stop, folder })
    }

    /// Takes nothing more in, finishes what was taken, and ends.
    pub async fn stop(self) {
        tracing::info!("the daemon stops");
        self.stop.send_replace(true);
        self.watcher.abort();
        self.certificate.iter().for_each(JoinHandle::abort);
        let (driver, pathfinder, graph) = (self.driver, self.pathfinder, self.graph);
        let stop = move || {
            driver.stop();
            pathfinder.stop();
            graph.stop();
        };
        if tokio::task::spawn_blocking(stop).await.is_err() {
            tracing::error!("the node's thread could not be waited for");
        }
        // What waited for an answer that cannot come any more is told so; then the servers have nothing under way.
        self.clients.close();
        self.peers.shut_down().await;
        for server in self.servers {
            let abort = server.abort_handle();
            match tokio::time::timeout(FAREWELL, server).await {
                Ok(Ok(Err(error))) => tracing::warn!(%error, "a server ended badly"),
                Ok(_) => {}
                Err(_) => abort.abort(),
            }
        }
        if let Err(error) = Presence::remove(&self.folder) {
            tracing::warn!(%error, "daemon.json could not be removed");
        }
    }
}

/// The seed, the store that belongs to it, and what it held.
fn open(config: &Config, folder: &Path) -> Result<(Seed, Store, State), DaemonError> {
    make_private(folder).map_err(io(folder.display().to_string()))?;
    let seed = seed::open(config)?.seed();
    let node_id = NodeId(Signer::new(&seed).node_id());
    let identity = format!("{}:{node_id}", config.network.name());
    let (store, recovered) = Store::open(&folder.join("store"), &Options::new(identity))?;
    if recovered.torn {
        tracing::warn!("the journal ended in a torn record, which was cut: the process died while it wrote");
    }
    let state = recover(&recovered)?;
    tracing::info!(turns = recovered.tail.len(), channels = state.channels.len(), "the store is open");
    Ok((seed, store, state))
}

fn open_wallet(seed: &Seed, state: &State, network: Network) -> Result<Wallet, DaemonError> {
    let (account, genesis) = (seed.account_xprv(ADDRESS_NETWORK), genesis(network));
    if state.wallet.is_empty() {
        return Ok(Wallet::create(account, ADDRESS_NETWORK, genesis));
    }
    Ok(Wallet::load(account, ADDRESS_NETWORK, genesis, &state.wallet)?)
}

/// Refuses a backend of another chain; one that does not answer yet is waited for later.
async fn check_chain(backend: &Backend, network: Network) -> Result<(), DaemonError> {
    match backend.check_genesis(genesis(network)).await {
        Err(error @ BackendError::WrongChain { .. }) => Err(error.into()),
        Err(error) => {
            tracing::warn!(%error, "the chain backend does not answer yet");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Starts the owner of the graph over what it kept.
fn start_gossip(
    config: &Config,
    chain_hash: ChainHash,
    backend: &Backend,
    tip: Option<ChainTip>,
    gossip: &Gossip,
) -> Result<gossip::Owner, DaemonError> {
    let height = tip.map_or(BlockHeight::new(0), |tip| tip.height);
    let settings = gossip::Settings { chain_hash, flush_micros: config.gossip_interval_ms.saturating_mul(1_000) };
    let path = config.folder().join("graph");
    gossip::Owner::start(settings, backend.clone(), path, height, gossip.clone()).map_err(io("threads"))
}

fn watch_chain(
    backend: Backend,
    tip: ChainTip,
    mailbox: Arc<Mailbox>,
    gossip: Gossip,
    development: bool,
) -> JoinHandle<()> {
    let (sender, receiver) = mpsc::channel(CHAIN_EVENTS);
    tokio::spawn(inlet::chain(receiver, mailbox, gossip));
    tokio::spawn(Watcher::new(backend, sender, tip, development).run())
}

fn credentials(config: &Config) -> Credentials {
    match (&config.chain_cookie, &config.chain_login) {
        (_, Some((user, password))) => Credentials::Basic { user: user.clone(), password: password.0.clone() },
        (Some(cookie), None) => Credentials::CookieFile(cookie.clone()),
        (None, None) => Credentials::CookieFile(PathBuf::new()),
    }
}

/// The first block of a network; l1-utxo's devnet is its own.
fn genesis(network: Network) -> BlockHash {
    match network {
        Network::Regtest => bitcoin::constants::genesis_block(bitcoin::Network::Regtest).block_hash(),
        Network::Devnet => "000001995213aa74b5a601ba409a8a5c72c24161ec148e5ac99fe318a344620a"
            .parse()
            .expect("the hash of devnet's genesis block is well-formed"),
    }
}

fn settings(config: &Config, features: Features, chain_hash: ChainHash, listen: SocketAddr) -> Settings {
    Settings {
        alias: config.alias.clone(),
        network: config.network.name().to_owned(),
        address_network: ADDRESS_NETWORK,
        chain_hash,
        features,
        policy: policy(config),
        forwarding: forwarding(&config.forwarding),
        shares: shares(&config.forwarding),
        anchor_reserve: Amount::from_sat(config.limits.anchor_reserve_sat),
        burial: config.limits.burial,
        fallback_feerate: FeeratePerKw::new(config.limits.fallback_feerate_per_kw),
        development: config.development,
        listen_addresses: vec![listen.to_string()],
        color: config.color,
        announced_addresses: config.announce.clone(),
    }
}

fn policy(config: &Config) -> Policy {
    let limits = &config.limits;
    let mut policy = Policy {
        to_self_delay: CltvDelta::new(limits.to_self_delay),
        max_accepted_htlcs: limits.max_accepted_htlcs,
        in_flight_permille: u64::from(limits.max_in_flight_percent) * 10,
        minimum_depth: limits.confirmations,
        accepted_feerates: FeeratePerKw::new(limits.min_feerate_per_kw)..=FeeratePerKw::new(limits.max_feerate_per_kw),
        ..Policy::default()
    };
    policy.exposure.max_dust = Msat::new(limits.max_dust_exposure_msat);
    policy.transfer_window.amount = Msat::new(limits.stream_window_msat);
    policy
}

const fn shares(config: &Forwarding) -> Shares {
    Shares { general: config.general_percent, congestion: config.congestion_percent, peer: config.peer_percent }
}

fn forwarding(config: &Forwarding) -> ForwardingPolicy {
    ForwardingPolicy {
        fee_base_msat: config.fee_base_msat,
        fee_proportional_millionths: config.fee_proportional_millionths,
        cltv_expiry_delta: CltvDelta::new(config.cltv_expiry_delta),
        htlc_minimum: Msat::new(config.htlc_minimum_msat),
        htlc_maximum: config.htlc_maximum_msat.map_or(Msat::new(u64::MAX), Msat::new),
    }
}

/// Makes the folder, for its owner alone.
fn make_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(folder)?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
}
