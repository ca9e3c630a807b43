//! The composition root: opens the store, starts the validation thread, the RPC server and the miner, and stops them.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::config::Config;
use crate::driver::{Driver, Handle, Ledger, LedgerError, mine_in_background};
use crate::net::{NetError, Network};
use crate::rpc::auth::{Auth, Cookie};
use crate::rpc::notify::{Notifier, NotifyError};
use crate::rpc::{self, Offer, Service};
use crate::store::Claim;

/// Calls under way may take this long to finish when the node stops.
const DRAIN: Duration = Duration::from_secs(10);

/// Why the node did not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The data directory, or what is in it.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The RPC address is taken or not ours.
    #[error("rpc = \"{address}\": {source}: choose another --rpc HOST:PORT, or port 0 for a free one")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// Peers cannot be listened for.
    #[error(transparent)]
    Net(#[from] NetError),
    /// A ZeroMQ address is taken or not ours.
    #[error(transparent)]
    Notify(#[from] NotifyError),
    /// A file beside the chain cannot be written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Signals cannot be listened to, or the server broke down.
    #[error("the system failed us: {0}")]
    System(#[from] io::Error),
}

/// Runs a node until it is told to stop: by a signal, by RPC, or by a failure of the disk.
pub async fn run(config: Config) -> Result<(), NodeError> {
    let (stop, stopping) = watch::channel(false);
    stop_on_signals(stop.clone())?;
    // First of all: it takes the directory's lock, and what is written below must not overwrite another node's.
    let claim = Claim::take(&config.dir, config.network).map_err(LedgerError::from)?;
    let listeners = bind(&config.rpc).await?;
    let cookie_path = config.dir.join(".cookie");
    let cookie = Cookie::create(&cookie_path).map_err(|source| NodeError::File { path: cookie_path, source })?;
    let first = listeners.first().map(|listener| AddressFile::create(&config.dir, "rpc.addr", listener.local_addr()?));
    let address = first.transpose()?;
    let notifier = Notifier::bind(&config.publications).await?;
    let login = config.rpc_login.as_ref().map(|(user, password)| (user.as_str(), password.as_str()));
    let auth = Auth::new(&cookie, login).with(config.rpc_users.clone(), config.rpc_whitelist.clone());
    let offer = Offer { rest: config.rest, publications: config.publications.clone() };
    let service = Arc::new(Service::new(stop.clone(), offer));
    let server = tokio::spawn(rpc::serve(listeners, auth, Arc::clone(&service), config.rpc_timeout));

    // From here on callers hear that the node is loading.
    let ledger = load(claim, &config).await?;
    let (driver, handle) = Driver::start(ledger);
    let peers = Network::start(handle.clone(), config.network, config.peers.clone(), stopping.clone()).await?;
    let peer_address = peers.listening().first().map(|address| AddressFile::create(&config.dir, "p2p.addr", *address));
    let peer_address = peer_address.transpose()?;
    service.ready(handle.clone(), config.network, peers.clone());
    let notifier = tokio::spawn(notifier.run(handle.clone(), stopping.clone()));
    let miner = config.mine.clone().map(|mine| {
        let params = config.network.params();
        tokio::spawn(mine_in_background(handle.clone(), params, mine.every, mine.script, stopping.clone()))
    });
    tracing::info!(network = %config.network, height = handle.tip().height, dir = %config.dir.display(), "ready");
    wait_for_end(&handle, stopping).await;

    tracing::info!("stopping");
    stop.send_replace(true);
    if let Some(miner) = miner {
        // A panic there was reported by its thread.
        drop(miner.await);
    }
    // A panic there was reported by its thread.
    drop(notifier.await);
    if tokio::time::timeout(DRAIN, server).await.is_err() {
        tracing::warn!("some rpc calls did not end in time");
    }
    peers.save();
    drop((cookie, address, peer_address));
    // Here, too, comes what made the validation thread end by itself.
    driver.stop().await?;
    tracing::info!("stopped");
    Ok(())
}

async fn bind(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, NodeError> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for address in addresses.iter().copied() {
        let listener = TcpListener::bind(address).await.map_err(|source| NodeError::Bind { address, source })?;
        listeners.push(listener);
    }
    Ok(listeners)
}

async fn load(claim: Claim, config: &Config) -> Result<Ledger, NodeError> {
    let (network, policy) = (config.network, config.policy);
    let options = config.ledger;
    let load = move || {
        let mut ledger = Ledger::load_claimed(claim, network, policy, options)?;
        ledger.catch_up()?;
        Ok::<_, LedgerError>(ledger)
    };
    Ok(tokio::task::spawn_blocking(load).await.map_err(lost)??)
}

/// Returns when the node is told to stop, or the validation thread has ended.
async fn wait_for_end(handle: &Handle, mut stopping: watch::Receiver<bool>) {
    tokio::select! {
        _ = stopping.wait_for(|stop| *stop) => {}
        () = handle.stopped() => {}
    }
}

fn stop_on_signals(stop: watch::Sender<bool>) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                // Core opens its log again. Ours goes to stderr: whoever took it there can do so without us.
                _ = hangup.recv() => tracing::info!("SIGHUP: nothing to open again, the node goes on"),
            }
        }
        stop.send_replace(true);
    });
    Ok(())
}

fn lost(error: tokio::task::JoinError) -> io::Error {
    io::Error::other(error)
}

/// Tells others where we listen; removed when this is dropped.
struct AddressFile(PathBuf);

impl AddressFile {
    fn create(dir: &Path, name: &str, address: SocketAddr) -> Result<Self, NodeError> {
        let path = dir.join(name);
        let draft = dir.join(format!(".{name}.tmp"));
        let write = || {
            let mut file = std::fs::File::create(&draft)?;
            writeln!(file, "{address}")?;
            std::fs::rename(&draft, &path)
        };
        write().map_err(|source| NodeError::File { path: path.clone(), source })?;
        tracing::info!(%address, file = %path.display(), "listening");
        Ok(Self(path))
    }
}

impl Drop for AddressFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "the address file could not be removed");
        }
    }
}
