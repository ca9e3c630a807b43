//! One connection as the rest of the room sees it: a way to send, a way to close, and what went through it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use tokio::sync::{Notify, mpsc, watch};

use super::lock;
use crate::driver::Clock;
use crate::sync::{Connection, Packet, PeerId};

/// Names of messages that are counted apart; the rest is "*other*".
const MAX_NAMES: usize = 64;
/// Bytes that may wait to be sent before nothing more is read from the peer.
pub(super) const SEND_LIMIT: usize = 1_000_000;

/// What went through a connection.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)] // named as the fields of `getpeerinfo`
pub struct Traffic {
    pub local: Option<SocketAddr>,
    pub is_onion: bool,
    pub session: Option<[u8; 32]>,
    pub sent: u64,
    pub received: u64,
    pub last_send: i64,
    pub last_receive: i64,
    pub sent_by_message: BTreeMap<String, u64>,
    pub received_by_message: BTreeMap<String, u64>,
}

/// One connection.
pub(super) struct Peer {
    pub(super) id: PeerId,
    pub(super) connection: Connection,
    local: Option<SocketAddr>,
    is_onion: bool,
    clock: Clock,
    outbox: mpsc::UnboundedSender<Packet>,
    closing: watch::Sender<bool>,
    /// Bytes given to the writer and not yet written.
    queued: AtomicUsize,
    pub(super) drained: Notify,
    sent: AtomicU64,
    received: AtomicU64,
    last_send: AtomicI64,
    has_begun: AtomicBool,
    session: OnceLock<[u8; 32]>,
    last_receive: AtomicI64,
    by_message: Mutex<[BTreeMap<String, u64>; 2]>,
}

impl Peer {
    pub(super) fn new(
        id: PeerId,
        connection: Connection,
        (local, is_onion): (Option<SocketAddr>, bool),
        clock: Clock,
    ) -> (Self, mpsc::UnboundedReceiver<Packet>) {
        let (outbox, packets) = mpsc::unbounded_channel();
        let peer = Self {
            id,
            connection,
            local,
            is_onion,
            clock,
            outbox,
            closing: watch::Sender::new(false),
            queued: AtomicUsize::new(0),
            drained: Notify::new(),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            last_send: AtomicI64::new(0),
            has_begun: AtomicBool::new(false),
            session: OnceLock::new(),
            last_receive: AtomicI64::new(0),
            by_message: Mutex::default(),
        };
        (peer, packets)
    }

    /// Our end of the connection.
    pub(super) const fn local(&self) -> Option<SocketAddr> {
        self.local
    }

    /// Puts a message into the queue; the machine keeps it short.
    pub(super) fn send(&self, packet: Packet) {
        self.queued.fetch_add(packet.cost(), Ordering::Relaxed);
        // An error: the connection is ending.
        let _ = self.outbox.send(packet);
    }

    pub(super) fn close(&self) {
        self.closing.send_replace(true);
    }

    pub(super) fn closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }

    pub(super) fn is_full(&self) -> bool {
        self.queued.load(Ordering::Relaxed) >= SEND_LIMIT
    }

    /// A message was written, in so many bytes on the wire.
    pub(super) fn count_sent(&self, packet: &Packet, bytes: usize) {
        self.queued.fetch_sub(packet.cost(), Ordering::Relaxed);
        self.drained.notify_one();
        self.count(0, &packet.command, bytes);
    }

    pub(super) fn count_received(&self, command: &str, bytes: usize) {
        self.count(1, command, bytes);
    }

    pub(super) fn add_sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        self.last_send.store(self.clock.now(), Ordering::Relaxed);
    }

    pub(super) fn add_received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
        self.last_receive.store(self.clock.now(), Ordering::Relaxed);
    }

    /// It is known how the other side speaks, and what both call the session if it is encrypted.
    pub(super) fn begin(&self, session: Option<[u8; 32]>) {
        if let Some(session) = session {
            // It is set once: a connection begins once.
            let _ = self.session.set(session);
        }
        self.has_begun.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Relaxed)
    }

    fn count(&self, direction: usize, command: &str, bytes: usize) {
        let mut counts = lock(&self.by_message);
        let counts = &mut counts[direction];
        let name = if counts.contains_key(command) || counts.len() < MAX_NAMES { command } else { "*other*" };
        match counts.get_mut(name) {
            Some(count) => *count += bytes as u64,
            None => drop(counts.insert(name.to_owned(), bytes as u64)),
        }
    }

    pub(super) fn traffic(&self) -> Traffic {
        let [sent_by_message, received_by_message] = lock(&self.by_message).clone();
        Traffic {
            local: self.local,
            is_onion: self.is_onion,
            session: self.session.get().copied(),
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
            last_send: self.last_send.load(Ordering::Relaxed),
            last_receive: self.last_receive.load(Ordering::Relaxed),
            sent_by_message,
            received_by_message,
        }
    }
}
