//! Connections that we make: to those our user named, again and again, and to some of those that we know of.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{Inner, Network, connection, lock};
use crate::sync::{Connection, Origin, Transport};

/// How long a peer may take to accept.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From one attempt to the next: twice as long each time, up to the second.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(10);
/// Peers that we choose ourselves.
const AUTOMATIC: usize = 8;
const BLOCK_RELAY: usize = 2;
const SEEK_INTERVAL: Duration = Duration::from_secs(5);
/// Nodes that our user may have added.
const MAX_ADDED: usize = 1_000;

/// A node that our user wants us to be connected to.
#[derive(Clone, Debug)]
pub struct Added {
    /// As it was given.
    pub name: String,
    /// Where that is, once it was looked up.
    pub address: Option<SocketAddr>,
    pause: Duration,
    next: Instant,
}

/// Why `addnode` does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddNodeError {
    /// It is on the list.
    #[error("Error: Node already added")]
    AlreadyAdded,
    /// It is not.
    #[error("Error: Node could not be removed. It has not been added previously.")]
    NotAdded,
    /// The list is full.
    #[error("Error: too many nodes were added")]
    TooMany,
}

impl Added {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), address: None, pause: FIRST_PAUSE, next: Instant::now() }
    }
}

/// Where a name of digits and dots leads, however short it is written: nobody need be asked for it.
fn numeric(name: &str) -> Option<SocketAddr> {
    let (host, port) = name.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let parts = host.split('.').map(|part| part.parse::<u32>().ok()).collect::<Option<Vec<u32>>>()?;
    // The last number fills what the others leave, as `inet_aton` has it.
    let (last, first) = parts.split_last().filter(|(_, first)| first.len() < 4)?;
    let left = 8 * (4 - first.len());
    let mut bits = u64::from(*last);
    for (place, part) in first.iter().enumerate() {
        bits += u64::from(u8::try_from(*part).ok()?) << (24 - 8 * place);
    }
    let fits = u64::from(*last) >> left == 0;
    let bits = u32::try_from(bits).ok().filter(|_| fits)?;
    Some(SocketAddr::new(std::net::Ipv4Addr::from(bits).into(), port))
}

impl Network {
    /// Wants a connection to this node from now on.
    pub fn add(&self, name: &str) -> Result<(), AddNodeError> {
        let mut added = lock(&self.inner.added);
        let address = numeric(name);
        let is_it = |node: &Added| node.name == name || (address.is_some() && numeric(&node.name) == address);
        if added.iter().any(is_it) {
            return Err(AddNodeError::AlreadyAdded);
        }
        if added.len() >= MAX_ADDED {
            return Err(AddNodeError::TooMany);
        }
        added.push(Added::new(name));
        drop(added);
        self.inner.dialling.notify_one();
        Ok(())
    }

    /// Does not want it any more; the connection stays.
    pub fn remove(&self, name: &str) -> Result<(), AddNodeError> {
        let mut added = lock(&self.inner.added);
        let place = added.iter().position(|node| node.name == name).ok_or(AddNodeError::NotAdded)?;
        added.remove(place);
        Ok(())
    }

    /// Tries once, whatever comes of it.
    pub fn try_once(&self, name: &str, is_v2: bool) {
        let (inner, name) = (Arc::clone(&self.inner), name.to_owned());
        tokio::spawn(async move {
            if let Some(address) = resolve(&inner, &name).await {
                dial(&inner, address, Origin::Manual, is_v2).await;
            }
        });
    }

    /// Dials an address as if we had chosen it for this purpose (RPC `addconnection`); `false`: there are enough of the kind.
    pub fn open(&self, address: SocketAddr, origin: Origin, is_v2: bool) -> bool {
        let most = match origin {
            Origin::Automatic => AUTOMATIC,
            Origin::BlockRelay => BLOCK_RELAY,
            _ => usize::MAX,
        };
        let count = lock(&self.inner.peers).values().filter(|peer| peer.connection.origin == origin).count();
        if count >= most {
            return false;
        }
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move { dial(&inner, address, origin, is_v2).await });
        true
    }

    /// The nodes that our user added, each with the connection to it, if there is one: whether it was dialled by us.
    pub fn added(&self) -> Vec<(Added, Option<bool>)> {
        let added = lock(&self.inner.added).clone();
        let peers = lock(&self.inner.peers);
        let connected = |node: &Added| {
            let peer = peers.values().find(|peer| Some(peer.connection.address) == node.address)?;
            Some(peer.connection.origin != Origin::Inbound)
        };
        added.into_iter().map(|node| (node.clone(), connected(&node))).collect()
    }
}

/// The address behind HOST or HOST:PORT.
async fn resolve(inner: &Inner, name: &str) -> Option<SocketAddr> {
    if let Ok(address) = name.parse() {
        return Some(address);
    }
    let port = inner.network.params().p2p_port;
    if let Ok(ip) = name.trim_start_matches('[').trim_end_matches(']').parse() {
        return Some(SocketAddr::new(ip, port));
    }
    let name = if name.contains(':') { name.to_owned() } else { format!("{name}:{port}") };
    let mut found = tokio::net::lookup_host(&name).await.inspect_err(|error| {
        tracing::debug!(name, %error, "a peer's name could not be looked up");
    });
    found.as_mut().ok()?.next()
}

/// Connects and speaks until the connection ends; whether there was one.
async fn dial(inner: &Arc<Inner>, address: SocketAddr, origin: Origin, is_v2: bool) -> bool {
    if !inner.is_active.load(Ordering::Relaxed) || (origin != Origin::Manual && inner.is_banned(address.ip())) {
        return false;
    }
    lock(&inner.book).tried(address, inner.now());
    // Who does not know the encrypted transport closes the connection: once more in the clear, then.
    let ways = if is_v2 { &[true, false][..] } else { &[false] };
    for is_v2 in ways.iter().copied() {
        match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                let transport = if is_v2 { Transport::Detecting } else { Transport::V1 };
                let permissions = inner.permissions(address.ip(), false);
                let connection = Connection { address, origin, transport, permissions };
                let registered = connection::register(inner, connection, (stream.local_addr().ok(), false));
                if connection::run(Arc::clone(inner), stream, registered).await {
                    return true;
                }
            }
            Ok(Err(error)) => {
                tracing::debug!(%address, %error, "no connection");
                return false;
            }
            Err(_) => {
                tracing::debug!(%address, "no connection in time");
                return false;
            }
        }
    }
    false
}

/// Keeps up connections to the nodes that our user added.
pub(super) async fn serve_added(inner: Arc<Inner>) {
    let mut stopping = inner.stopping.clone();
    loop {
        let due: Vec<String> = {
            let mut added = lock(&inner.added);
            let now = Instant::now();
            let due = added.iter_mut().filter(|node| node.next <= now && inner.is_active.load(Ordering::Relaxed));
            due.map(|node| {
                // Not again before this attempt has ended; that sets its next one.
                node.next = now + Duration::from_secs(u64::from(u32::MAX));
                node.name.clone()
            })
            .collect()
        };
        for name in due {
            tokio::spawn(attempt(Arc::clone(&inner), name));
        }
        let next = lock(&inner.added).iter().map(|node| node.next).min();
        let next = next.unwrap_or_else(|| Instant::now() + LAST_PAUSE).max(Instant::now() + Duration::from_millis(50));
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = inner.dialling.notified() => {}
            _ = stopping.wait_for(|stop| *stop) => return,
        }
    }
}

async fn attempt(inner: Arc<Inner>, name: String) {
    let is_v2 = inner.settings.v2_transport == Some(true);
    let address = resolve(&inner, &name).await;
    let set = |change: &dyn Fn(&mut Added)| {
        if let Some(node) = lock(&inner.added).iter_mut().find(|node| node.name == name) {
            change(node);
        }
    };
    set(&|node| node.address = address);
    let is_taken = |address: SocketAddr| lock(&inner.peers).values().any(|peer| peer.connection.address == address);
    let is_first = lock(&inner.added).iter().any(|node| node.name == name && node.pause == FIRST_PAUSE);
    let was_connected = match address {
        Some(address) if is_taken(address) => false,
        Some(address) => {
            let was_connected = dial(&inner, address, Origin::Manual, is_v2).await;
            if is_first && !was_connected {
                tracing::warn!(name, %address, "no connection to this peer; it is tried again and again");
            }
            was_connected
        }
        None => {
            if is_first {
                tracing::warn!(
                    name,
                    "no address is known by this name, HOST or HOST:PORT; it is looked up again and again"
                );
            }
            false
        }
    };
    set(&|node| {
        node.pause = if was_connected { FIRST_PAUSE } else { (node.pause * 2).min(LAST_PAUSE) };
        node.next = Instant::now() + node.pause;
    });
    inner.dialling.notify_one();
}

/// Connects to nodes of the address book, unless our user named those to connect to.
pub(super) async fn seek(inner: Arc<Inner>) {
    let mut stopping = inner.stopping.clone();
    while inner.settings.connect.is_empty() && !inner.settings.is_alone {
        tokio::select! {
            () = tokio::time::sleep(SEEK_INTERVAL) => {}
            _ = stopping.wait_for(|stop| *stop) => return,
        }
        let (taken, count) = {
            let peers = lock(&inner.peers);
            let count = peers.values().filter(|peer| peer.connection.origin == Origin::Automatic).count();
            (peers.values().map(|peer| peer.connection.address.ip()).collect::<Vec<_>>(), count)
        };
        if count >= AUTOMATIC {
            continue;
        }
        let mut chance = [0; 8];
        if getrandom::fill(&mut chance).is_err() {
            continue;
        }
        let is_unfit = |address: &SocketAddr| taken.contains(&address.ip()) || inner.is_banned(address.ip());
        let chosen = lock(&inner.book).choose(u64::from_le_bytes(chance), inner.now(), is_unfit);
        if let Some(address) = chosen {
            let (inner, is_v2) = (Arc::clone(&inner), inner.settings.v2_transport == Some(true));
            tokio::spawn(async move { dial(&inner, address, Origin::Automatic, is_v2).await });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_addresses_are_the_long_ones() {
        let whole = numeric("127.0.0.1:18444");
        assert!(whole.is_some());
        for short in ["127.1:18444", "127.0.1:18444", "2130706433:18444"] {
            assert_eq!(numeric(short), whole, "{short}");
        }
        for other in ["localhost:1", "127.1", "127.1:x", "1.2.3.4.5:1", "256.1:1", "1.2.3.256:1", "4294967296:1", ":1"]
        {
            assert_eq!(numeric(other), None, "{other}");
        }
    }
}
