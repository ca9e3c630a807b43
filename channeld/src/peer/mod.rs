//! Connections with other nodes: BOLT 8 noise over TCP or inside a gRPC stream, the session of BOLT 1 on top.
//!
//! Knows sockets, handshakes, `init`, pings and limits. Handles these by itself; every other message goes up as a
//! [`PeerEvent`], decoded, and what the node says comes down through a [`SessionHandle`]. Decides nothing about a channel or
//! a payment, keeps nothing on disk, never waits for the node but by not reading on. BOLT 1, BOLT 8; PEERS.md A1, A3, A6.

#[allow(dead_code)]
mod event;
pub mod noise;
#[allow(dead_code)]
mod outbound;

pub use event::{Credit, Direction, DisconnectReason, EventSink, PeerEvent, SessionHandle, SessionNumber};

use std::net::SocketAddr;
use std::sync::Arc;

use bitcoin::constants::ChainHash;

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

/// All connections of this node. Cheap to clone; the last clone that goes, or [`Peers::shut_down`], ends them all.
#[derive(Clone)]
pub struct Peers {}

impl Peers {
    /// Ready to call and to be called. Must be called inside a tokio runtime, whose tasks do all the work.
    pub fn new(config: PeerConfig, signer: Arc<Signer>, sink: Arc<dyn EventSink>) -> Peers {
        let _ = (config, signer, sink);
        todo!()
    }

    /// Takes calls on this address, over TCP and gRPC alike, until the end. Gives the address with the port that it got.
    pub async fn listen(&self, address: SocketAddr) -> std::io::Result<SocketAddr> {
        let _ = address;
        todo!()
    }

    /// Calls a peer at `host:port` or `grpc://host:port`, unless it is connected; `keep` it connected from now on, with
    /// pauses that grow. Never blocks: `Connected` or `ConnectFailed` follows, `Connected` never for a peer that is
    /// connected already.
    pub fn connect(&self, node_id: NodeId, address: &str, keep: bool) {
        let _ = (node_id, address, keep);
        todo!()
    }

    /// Calls the peer no more. A session that there is goes on.
    pub fn forget(&self, node_id: NodeId) {
        let _ = node_id;
        todo!()
    }

    /// Ends all sessions, once what waits to be sent has left or a few seconds have passed, and takes no more calls.
    pub async fn shut_down(&self) {
        todo!()
    }
}
