//! Peers that connect to us: as many as there are places, a better one for a worse one, nobody who is banned.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::peer::Peer;
use super::{Door, Inner, NetError, connection, lock};
use crate::driver::Ledger;
use crate::sync::{Connection, Machine, Origin, PeerId, Permissions, Transport, choose_eviction};

/// Places kept for connections that we make ourselves (Core: 8 full, 2 for blocks only, 1 to try addresses).
const OUTBOUND_PLACES: usize = 11;
/// How long to wait after the system could not accept (it may have no descriptors left).
const PAUSE: Duration = Duration::from_millis(200);

/// Binds all addresses, then serves them.
pub(super) async fn start(inner: &Arc<Inner>) -> Result<(), NetError> {
    for Door { address, is_onion } in inner.settings.listen.clone() {
        let listener = TcpListener::bind(address).await.map_err(|source| NetError::Bind { address, source })?;
        let address = listener.local_addr().unwrap_or(address);
        tracing::info!(%address, "peers may connect");
        lock(&inner.listening).push(address);
        tokio::spawn(serve(Arc::clone(inner), listener, is_onion));
    }
    Ok(())
}

async fn serve(inner: Arc<Inner>, listener: TcpListener, is_onion: bool) {
    let mut stopping = inner.stopping.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((stream, address)) => admit(&inner, stream, address, is_onion).await,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Core: `CreateNodeFromAcceptedSocket`. One at a time, so that there are never more than there are places.
async fn admit(inner: &Arc<Inner>, stream: TcpStream, address: SocketAddr, is_onion: bool) {
    let permissions = inner.permissions(address.ip(), true);
    let is_trusted = permissions.has(Permissions::NO_BAN);
    if !inner.is_active.load(Ordering::Relaxed) || (inner.is_banned(address.ip()) && !is_trusted) {
        return;
    }
    let places = inner.places();
    if inner.inbound() + 1 >= places && !is_trusted && lock(&inner.bans).is_discouraged(address.ip()) {
        return;
    }
    if inner.inbound() >= places && !evict(inner).await {
        tracing::debug!(%address, "no place for another peer");
        return;
    }
    let connection = Connection { address, origin: Origin::Inbound, transport: Transport::Detecting, permissions };
    let registered = connection::register(inner, connection, (stream.local_addr().ok(), is_onion));
    tokio::spawn(connection::run(Arc::clone(inner), stream, registered));
}

/// Sends the least useful inbound peer away; whether there was one that may go.
async fn evict(inner: &Inner) -> bool {
    // Who has not even begun to speak, the oldest first.
    let is_silent = |peer: &Peer| {
        let connection = peer.connection;
        connection.origin == Origin::Inbound && !peer.has_begun() && !connection.permissions.has(Permissions::NO_BAN)
    };
    let silent = lock(&inner.peers).iter().find(|(_, peer)| is_silent(peer)).map(|(id, _)| *id);
    let chosen = match silent {
        Some(id) => Some(id),
        None => least_useful(inner).await,
    };
    let Some(id) = chosen else { return false };
    let mut peers = lock(&inner.peers);
    // Off the list at once, so that its place is free.
    peers.remove(&id).inspect(|peer| peer.close()).is_some()
}

async fn least_useful(inner: &Inner) -> Option<PeerId> {
    // The machine may not have heard yet of those who are gone.
    let here: BTreeSet<PeerId> = lock(&inner.peers).keys().copied().collect();
    let salt = inner.salt;
    let choose = move |ledger: &mut Ledger| {
        let pick =
            |machine: &mut Machine| choose_eviction(machine.peers().filter(|peer| here.contains(&peer.id)), salt);
        ledger.with_network(|machine, _| pick(machine)).flatten()
    };
    inner.node.run(choose).await.ok().flatten()
}

impl Inner {
    /// How many peers may connect to us.
    fn places(&self) -> usize {
        self.settings.max_connections.saturating_sub(OUTBOUND_PLACES).max(1)
    }

    fn inbound(&self) -> usize {
        lock(&self.peers).values().filter(|peer| peer.connection.origin == Origin::Inbound).count()
    }
}
