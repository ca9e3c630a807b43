//! Connections with other nodes: BOLT 8 noise over TCP or inside a gRPC stream, the session of BOLT 1 on top.
//!
//! Knows sockets, handshakes, `init`, pings and limits. Handles these by itself; every other message goes up as a
//! [`PeerEvent`], decoded, and what the node says comes down through a [`SessionHandle`]. Decides nothing about a channel or
//! a payment, keeps nothing on disk, never waits for the node but by not reading on. BOLT 1, BOLT 8; PEERS.md A1, A3, A6.

mod carrier;
mod dial;
mod event;
mod inbound;
mod limit;
pub mod noise;
mod outbound;
mod registry;
mod session;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bitcoin::constants::ChainHash;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

pub use dial::{ParsePeerAddressError, PeerAddress};
pub use event::{Credit, Direction, DisconnectReason, EventSink, PeerEvent, SessionHandle, SessionNumber};
pub use limit::{Limits, Timeouts};

use crate::keys::Signer;
use crate::units::NodeId;
use crate::wire::Features;

/// What `init` says.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// Our features, usually [`Features::init`].
    pub features: Features,
    /// Our chain: the hash of its genesis block.
    pub chain_hash: ChainHash,
}

/// All connections of this node. Cheap to clone; they end with [`Peers::shut_down`].
#[derive(Clone)]
pub struct Peers {
    context: Arc<session::Context>,
    dialler: dial::Dialler,
    listeners: Arc<Mutex<Vec<AbortHandle>>>,
    runtime: Handle,
}

impl Peers {
    /// Ready to call and to be called, within the limits that fit a node. Must be called inside a tokio runtime, whose
    /// tasks do all the work.
    pub fn new(config: PeerConfig, signer: Arc<Signer>, sink: Arc<dyn EventSink>) -> Peers {
        Peers::with_limits(config, signer, sink, Limits::default(), Timeouts::default())
    }

    /// Ready to call and to be called, within these limits. Must be called inside a tokio runtime.
    pub fn with_limits(
        config: PeerConfig,
        signer: Arc<Signer>,
        sink: Arc<dyn EventSink>,
        limits: Limits,
        timeouts: Timeouts,
    ) -> Peers {
        let registry = registry::Registry::new(NodeId(signer.node_id()));
        let gate = limit::Gate::new(&limits);
        Peers {
            context: Arc::new(session::Context { config, limits, timeouts, signer, sink, registry, gate }),
            dialler: dial::Dialler::default(),
            listeners: Arc::default(),
            runtime: Handle::current(),
        }
    }

    /// Takes calls on this address, over TCP and gRPC alike, until the end. Gives the address with the port that it got.
    pub async fn listen(&self, address: SocketAddr) -> std::io::Result<SocketAddr> {
        let listener = TcpListener::bind(address).await?;
        let bound = listener.local_addr()?;
        let task = self.runtime.spawn(carrier::listener::listen(self.context.clone(), listener));
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(task.abort_handle());
        Ok(bound)
    }

    /// Calls a peer at `host:port` or `grpc://host:port`, unless it is connected; `keep` it connected from now on, with
    /// pauses that grow. Never blocks, and may be called from any thread: `Connected` or `ConnectFailed` follows, but for a
    /// peer that is connected already.
    pub fn connect(&self, node_id: NodeId, address: &str, keep: bool) {
        let Ok(address) = address.parse() else {
            let reason = ParsePeerAddressError.to_string();
            return self.context.sink.push(PeerEvent::ConnectFailed { node_id, reason });
        };
        if node_id.0 == self.context.signer.node_id() {
            let reason = "this is the node itself".to_owned();
            return self.context.sink.push(PeerEvent::ConnectFailed { node_id, reason });
        }
        let _inside = self.runtime.enter();
        self.dialler.connect(&self.context, node_id, address, keep);
        if keep {
            self.context.registry.protect(node_id, true);
        }
    }

    /// Calls the peer no more, and counts it among the strangers. A session that there is goes on.
    pub fn forget(&self, node_id: NodeId) {
        self.dialler.forget(&node_id);
        self.context.registry.protect(node_id, false);
    }

    /// Takes the peer's calls however many strangers there are: for one with which there is a channel.
    pub fn protect(&self, node_id: NodeId) {
        self.context.registry.protect(node_id, true);
    }

    /// Ends all sessions, once what waits to be sent has left or a few seconds have passed, and takes no more calls.
    pub async fn shut_down(&self) {
        self.dialler.close();
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).drain(..).for_each(|task| task.abort());
        let deadline = Instant::now() + self.context.timeouts.farewell + Duration::from_secs(1);
        for phase in self.context.registry.close() {
            // A peer that reads nothing may keep its session a little longer; the process ends without it.
            let _ = timeout_at(deadline, registry::gone(phase)).await;
        }
    }
}
