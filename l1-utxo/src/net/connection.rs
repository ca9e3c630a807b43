//! The life of one connection: bytes to messages, messages to the machine, and back, each side at its own pace.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::peer::Peer;
use super::transport::{self, Reader, TransportError, Writer};
use super::{Inner, listen, lock};
use crate::driver::{Ledger, Stopped};
use crate::sync::wire::{self, Message};
use crate::sync::{Connection, Origin, Packet};

/// How long it may take to find out how the other side speaks.
const TRANSPORT_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of messages that were read and wait for the machine (Core: `-maxreceivebuffer`).
const RECEIVE_LIMIT: usize = 5_000_000;
/// Messages that wait at most.
const MAX_WAITING: usize = 1_024;
/// What a message takes in memory once it is decoded, beyond its content and as a multiple of it: many small vectors.
const MESSAGE_COST: usize = 256;
const DECODED_COST: usize = 4;
/// Bytes that are sent before the machine hears of it.
const REPORT_STEP: usize = 64 * 1024;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// A message on its way to the machine, with its share of the peer's buffer.
struct Waiting {
    message: Message,
    _room: OwnedSemaphorePermit,
}

/// Speaks with a peer that dialled us, until the connection ends. `key` is its place among those that have said nothing.
pub(super) async fn serve(inner: Arc<Inner>, stream: TcpStream, key: u64) {
    // Without it small messages would wait for acknowledgements; not to have it is no reason to give up.
    let _ = stream.set_nodelay(true);
    let (Ok(address), local) = (stream.peer_addr(), stream.local_addr().ok()) else { return };
    let magic = inner.network.params().magic;
    let mut stopping = inner.stopping.clone();
    let opened = tokio::select! {
        opened = tokio::time::timeout(TRANSPORT_TIMEOUT, transport::accepted(stream, magic)) => opened,
        _ = stopping.wait_for(|stop| *stop) => return,
    };
    lock(&inner.opening).remove(&key);
    match opened {
        Ok(Ok((reader, writer, is_v2))) => {
            if !listen::make_room(&inner).await {
                tracing::debug!(%address, "no place for another peer");
                return;
            }
            let connection = Connection { address, origin: Origin::Inbound, is_v2 };
            run(&inner, connection, local, reader, writer).await;
        }
        Ok(Err(error)) => tracing::debug!(%address, %error, "a connection did not begin"),
        Err(_) => tracing::debug!(%address, "a connection did not begin in time"),
    }
}

/// Speaks with a peer that we dialled, until the connection ends; whether it began at all.
pub(super) async fn dialled(inner: &Arc<Inner>, stream: TcpStream, origin: Origin, is_v2: bool) -> bool {
    // As above.
    let _ = stream.set_nodelay(true);
    let (Ok(address), local) = (stream.peer_addr(), stream.local_addr().ok()) else { return false };
    let magic = inner.network.params().magic;
    match tokio::time::timeout(TRANSPORT_TIMEOUT, transport::dialled(stream, magic, is_v2)).await {
        Ok(Ok((reader, writer))) => {
            run(inner, Connection { address, origin, is_v2 }, local, reader, writer).await;
            true
        }
        Ok(Err(error)) => {
            tracing::debug!(%address, %error, "a connection did not begin");
            false
        }
        Err(_) => false,
    }
}

async fn run(
    inner: &Arc<Inner>,
    connection: Connection,
    local: Option<std::net::SocketAddr>,
    reader: Reader,
    writer: Writer,
) {
    let id = inner.new_id();
    let (peer, packets) = Peer::new(id, connection, local);
    let peer = Arc::new(peer);
    lock(&inner.peers).insert(id, Arc::clone(&peer));
    if let Err(error) = converse(inner, &peer, reader, writer, packets).await {
        tracing::debug!(peer = id.0, address = %connection.address, %error, "connection ended");
    }
    lock(&inner.peers).remove(&id);
    let forget = move |ledger: &mut Ledger| ledger.with_network(|machine, _| machine.disconnected(id));
    // An error: the validation thread is gone, and with it the machine.
    let _ = inner.node.run(forget).await;
    inner.dialling.notify_one();
}

async fn converse(
    inner: &Inner,
    peer: &Peer,
    reader: Reader,
    writer: Writer,
    packets: mpsc::UnboundedReceiver<Packet>,
) -> Result<(), End> {
    let (id, connection) = (peer.id, peer.connection);
    let begin =
        move |ledger: &mut Ledger| ledger.with_network(|machine, ledger| machine.connected(id, connection, ledger));
    inner.node.run(begin).await?;
    let (messages, waiting) = mpsc::channel(MAX_WAITING);
    let mut closing = peer.closing();
    let mut stopping = inner.stopping.clone();
    // Each is a future of this task: when one ends, so do the others.
    tokio::select! {
        end = read_all(inner, peer, reader, messages) => end,
        end = write_all(inner, peer, writer, packets) => end,
        end = feed(inner, peer, waiting) => end,
        _ = closing.wait_for(|is_closing| *is_closing) => Ok(()),
        _ = stopping.wait_for(|stop| *stop) => Ok(()),
    }
}

/// Reads messages as long as there is room for them.
async fn read_all(inner: &Inner, peer: &Peer, mut reader: Reader, messages: mpsc::Sender<Waiting>) -> Result<(), End> {
    let room = Arc::new(Semaphore::new(RECEIVE_LIMIT));
    loop {
        let incoming = reader.next().await?;
        let command = incoming.command.as_deref().unwrap_or("*other*");
        peer.count_received(command, incoming.size);
        inner.received.fetch_add(incoming.size as u64, Ordering::Relaxed);
        if incoming.command.is_none() {
            tracing::debug!(peer = peer.id.0, "a message with a wrong checksum or name was skipped");
            continue;
        }
        // The largest message alone may take it all.
        let cost = (incoming.payload.len() * DECODED_COST + MESSAGE_COST).min(RECEIVE_LIMIT);
        let cost = u32::try_from(cost).unwrap_or(u32::MAX);
        let Ok(place) = Arc::clone(&room).acquire_many_owned(cost).await else { return Ok(()) };
        match wire::decode(command, &incoming.payload) {
            Ok(message) => {
                drop(incoming);
                if messages.send(Waiting { message, _room: place }).await.is_err() {
                    return Ok(());
                }
            }
            Err(error) => tracing::debug!(peer = peer.id.0, %error, "a message was skipped"),
        }
    }
}

/// Hands messages to the machine, one at a time and in order; none while the peer does not read what we send.
async fn feed(inner: &Inner, peer: &Peer, mut waiting: mpsc::Receiver<Waiting>) -> Result<(), End> {
    let id = peer.id;
    while let Some(Waiting { message, _room }) = waiting.recv().await {
        while peer.is_full() {
            peer.drained.notified().await;
        }
        let hand = move |ledger: &mut Ledger| {
            ledger.with_network(|machine, ledger| machine.received(id, message, ledger));
        };
        inner.node.run(hand).await?;
    }
    Ok(())
}

async fn write_all(
    inner: &Inner,
    peer: &Peer,
    mut writer: Writer,
    mut packets: mpsc::UnboundedReceiver<Packet>,
) -> Result<(), End> {
    let id = peer.id;
    let mut unreported = 0;
    while let Some(packet) = packets.recv().await {
        let size = writer.put(&packet).await?;
        if packets.is_empty() {
            writer.flush().await?;
        }
        peer.count_sent(&packet, size);
        inner.sent.fetch_add(size as u64, Ordering::Relaxed);
        // As the machine counts: by the content.
        unreported += packet.payload.len() + 24;
        if unreported >= REPORT_STEP {
            let bytes = std::mem::take(&mut unreported);
            let report = move |ledger: &mut Ledger| {
                ledger.with_network(|machine, ledger| machine.sent(id, bytes, ledger));
            };
            inner.node.run(report).await?;
        }
    }
    Ok(())
}
