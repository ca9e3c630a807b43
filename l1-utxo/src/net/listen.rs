//! Peers that connect to us: as many as there are places, a better one for a worse one, nobody who is banned.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::{Inner, NetError, connection, lock};
use crate::driver::Ledger;
use crate::sync::{Origin, choose_eviction};

/// Places kept for connections that we make ourselves (Core: 8 full, 2 for blocks only, 1 to try addresses).
const OUTBOUND_PLACES: usize = 11;
/// Connections that have not said a word yet.
const MAX_OPENING: usize = 64;
/// How long to wait after the system could not accept (it may have no descriptors left).
const PAUSE: Duration = Duration::from_millis(200);

/// Binds all addresses, then serves them.
pub(super) async fn start(inner: &Arc<Inner>) -> Result<(), NetError> {
    for address in inner.settings.listen.clone() {
        let listener = TcpListener::bind(address).await.map_err(|source| NetError::Bind { address, source })?;
        let address = listener.local_addr().unwrap_or(address);
        tracing::info!(%address, "peers may connect");
        lock(&inner.listening).push(address);
        tokio::spawn(serve(Arc::clone(inner), listener));
    }
    Ok(())
}

async fn serve(inner: Arc<Inner>, listener: TcpListener) {
    let mut stopping = inner.stopping.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((stream, address)) => admit(&inner, stream, address),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Core: `CreateNodeFromAcceptedSocket`.
fn admit(inner: &Arc<Inner>, stream: TcpStream, address: SocketAddr) {
    if !inner.is_active.load(Ordering::Relaxed) || inner.is_banned(address.ip()) {
        return;
    }
    let places = inner.places();
    if inner.inbound() + 1 >= places && lock(&inner.bans).is_discouraged(address.ip()) {
        return;
    }
    let mut opening = lock(&inner.opening);
    // Whoever connects and says nothing makes room for the next one.
    while opening.len() >= MAX_OPENING {
        if let Some((_, oldest)) = opening.pop_first() {
            oldest.abort();
        }
    }
    let key = inner.next_opening.fetch_add(1, Ordering::Relaxed);
    let task = tokio::spawn(connection::serve(Arc::clone(inner), stream, key));
    opening.insert(key, task.abort_handle());
}

/// Makes room for a peer that has begun to speak; whether there is any.
pub(super) async fn make_room(inner: &Inner) -> bool {
    inner.inbound() < inner.places() || evict(inner).await
}

/// Sends the least useful inbound peer away; whether there was one that may go.
async fn evict(inner: &Inner) -> bool {
    let salt = inner.salt;
    let choose =
        move |ledger: &mut Ledger| ledger.with_network(|machine, _| choose_eviction(machine.peers(), salt)).flatten();
    let Ok(Some(id)) = inner.node.run(choose).await else { return false };
    let mut peers = lock(&inner.peers);
    // Off the list at once, so that its place is free.
    peers.remove(&id).inspect(|peer| peer.close()).is_some()
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
