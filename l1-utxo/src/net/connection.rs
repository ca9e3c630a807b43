//! The life of one connection: bytes to messages, messages to the machine, and back, each side at its own pace.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::meter::{Meter, Metered};
use super::peer::Peer;
use super::transport::{self, Halves, Reader, TransportError, Writer};
use super::{Inner, lock};
use crate::driver::{Ledger, Stopped};
use crate::sync::wire::{self, Message};
use crate::sync::{Connection, Origin, Packet, Transport};

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
    room: OwnedSemaphorePermit,
}

/// Registers a connection; what is to be sent waits until it is known how the other side speaks.
/// `local` is our end, and whether it is a Tor service's.
pub(super) fn register(inner: &Inner, connection: Connection, local: (Option<SocketAddr>, bool)) -> Registered {
    let id = inner.new_id();
    let (peer, packets) = Peer::new(id, connection, local, inner.node.clock().clone());
    let peer = Arc::new(peer);
    lock(&inner.peers).insert(id, Arc::clone(&peer));
    Registered { peer, packets }
}

/// A connection that `getpeerinfo` knows, before its first byte.
pub(super) struct Registered {
    peer: Arc<Peer>,
    packets: mpsc::UnboundedReceiver<Packet>,
}

/// Speaks with a peer until the connection ends; whether it became clear how to.
pub(super) async fn run(inner: Arc<Inner>, stream: TcpStream, registered: Registered) -> bool {
    // Without it small messages would wait for acknowledgements; not to have it is no reason to give up.
    let _ = stream.set_nodelay(true);
    let Registered { peer, packets } = registered;
    let id = peer.id;
    if let Err(error) = converse(&inner, &peer, stream, packets).await {
        tracing::debug!(peer = id.0, address = %peer.connection.address, %error, "connection ended");
    }
    lock(&inner.peers).remove(&id);
    let forget = move |ledger: &mut Ledger| ledger.with_network(|machine, _| machine.disconnected(id));
    // An error: the validation thread is gone, and with it the machine.
    let _ = inner.node.run(forget).await;
    inner.dialling.notify_one();
    peer.has_begun()
}

async fn converse(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    stream: TcpStream,
    packets: mpsc::UnboundedReceiver<Packet>,
) -> Result<(), End> {
    let (id, connection) = (peer.id, peer.connection);
    let begin =
        move |ledger: &mut Ledger| ledger.with_network(|machine, ledger| machine.connected(id, connection, ledger));
    inner.node.run(begin).await?;
    let mut closing = peer.closing();
    let mut stopping = inner.stopping.clone();
    tokio::select! {
        end = talk(inner, peer, stream, packets) => end,
        _ = closing.wait_for(|is_closing| *is_closing) => Ok(()),
        _ = stopping.wait_for(|stop| *stop) => Ok(()),
    }
}

async fn talk(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    stream: TcpStream,
    packets: mpsc::UnboundedReceiver<Packet>,
) -> Result<(), End> {
    let magic = inner.network.params().magic;
    let meter = Meter { inner: Arc::clone(inner), peer: Arc::clone(peer) };
    let (reader, writer) = stream.into_split();
    let (reader, writer) = (Box::new(Metered::new(reader, meter.clone())), Box::new(Metered::new(writer, meter)));
    let connection = peer.connection;
    // The handshake's time is the machine's to watch.
    let Halves { reader, writer, session } = match (connection.origin, connection.transport) {
        (Origin::Inbound, _) => transport::accepted(reader, writer, magic, inner.takes_encrypted()).await?,
        (_, transport) => transport::dialled(reader, writer, magic, transport != Transport::V1).await?,
    };
    let (id, transport) = (peer.id, if session.is_some() { Transport::V2 } else { Transport::V1 });
    peer.begin(session);
    inner.node.run(move |ledger| ledger.with_network(|machine, _| machine.opened(id, transport))).await?;
    let (messages, waiting) = mpsc::channel(MAX_WAITING);
    // Each is a future of this task: when one ends, so do the others.
    tokio::select! {
        end = read_all(peer, reader, messages) => end,
        end = write_all(inner, peer, writer, packets) => end,
        end = feed(inner, peer, waiting) => end,
    }
}

/// Reads messages as long as there is room for them.
async fn read_all(peer: &Peer, mut reader: Reader, messages: mpsc::Sender<Waiting>) -> Result<(), End> {
    let room = Arc::new(Semaphore::new(RECEIVE_LIMIT));
    loop {
        let incoming = reader.next().await?;
        let command = incoming.command.as_deref().unwrap_or("*other*");
        peer.count_received(command, incoming.size);
        tracing::trace!(peer = peer.id.0, command, bytes = incoming.size, "received");
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
                if messages.send(Waiting { message, room: place }).await.is_err() {
                    return Ok(());
                }
            }
            Err(error) => tracing::debug!(peer = peer.id.0, %error, "a message was skipped"),
        }
    }
}

/// Hands messages to the machine, in order; none while the peer does not read what we send. The next one is handed in while
/// one is processed, so that the validation thread has it at once: it waits for no task to wake in between.
async fn feed(inner: &Inner, peer: &Peer, mut waiting: mpsc::Receiver<Waiting>) -> Result<(), End> {
    let id = peer.id;
    let mut before = None;
    while let Some(Waiting { message, room }) = waiting.recv().await {
        while peer.is_full() {
            peer.drained.notified().await;
        }
        let answer = (message == Message::GetAddr).then(|| inner.addresses_for(peer));
        let hand = move |ledger: &mut Ledger| {
            ledger.with_network(|machine, ledger| {
                if let Some(answer) = answer {
                    machine.set_known_addresses(answer);
                }
                machine.received(id, message, ledger);
            });
            drop(room);
        };
        if let Some(before) = before.replace(inner.node.hand(hand).await?) {
            before.await.map_err(|_| Stopped)?;
        }
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
        tracing::trace!(peer = id.0, command = %packet.command, bytes = size, "sent");
        unreported += packet.cost();
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
