//! The life of one connection: bytes to messages, messages to the machine, and back, each side at its own pace.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::frame::{self, FrameError, FrameHeader, HEADER_SIZE};
use super::peer::Peer;
use super::{Inner, lock};
use crate::driver::{Ledger, Stopped};
use crate::sync::wire::{self, Message};
use crate::sync::{Connection, Origin, Packet};

/// Bytes of messages that were read and wait for the machine (Core: `-maxreceivebuffer`).
const RECEIVE_LIMIT: usize = 5_000_000;
/// What a small message costs beyond its content.
const MESSAGE_COST: usize = 256;
/// Content is read in steps, so that a length alone takes no memory.
const READ_STEP: usize = 256 * 1024;
/// Bytes that are sent before the machine hears of it.
const REPORT_STEP: usize = 64 * 1024;
const BUFFER: usize = 64 * 1024;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// A message on its way to the machine, with its share of the peer's buffer.
struct Waiting {
    message: Message,
    _room: OwnedSemaphorePermit,
}

/// Speaks with a peer until the connection ends, for whatever reason.
pub(super) async fn run(inner: Arc<Inner>, stream: TcpStream, origin: Origin) {
    let Ok(address) = stream.peer_addr() else { return };
    // Without it small messages would wait for acknowledgements; not to have it is no reason to give up.
    let _ = stream.set_nodelay(true);
    let connection = Connection { address, origin, is_v2: false };
    let id = inner.new_id();
    let (peer, packets) = Peer::new(id, connection, stream.local_addr().ok(), None);
    let peer = Arc::new(peer);
    lock(&inner.peers).insert(id, Arc::clone(&peer));
    let (reader, writer) = stream.into_split();
    if let Err(error) = converse(&inner, &peer, reader, writer, packets).await {
        tracing::debug!(peer = id.0, %address, %error, "connection ended");
    }
    lock(&inner.peers).remove(&id);
    let forget = move |ledger: &mut Ledger| ledger.with_network(|machine, _| machine.disconnected(id));
    // An error: the validation thread is gone, and with it the machine.
    let _ = inner.node.run(forget).await;
    inner.dialling.notify_waiters();
}

async fn converse(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    packets: mpsc::UnboundedReceiver<Packet>,
) -> Result<(), End> {
    let (id, connection) = (peer.id, peer.connection);
    let begin =
        move |ledger: &mut Ledger| ledger.with_network(|machine, ledger| machine.connected(id, connection, ledger));
    inner.node.run(begin).await?;
    let (messages, waiting) = mpsc::channel(1_024);
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
async fn read_all(
    inner: &Inner,
    peer: &Peer,
    reader: OwnedReadHalf,
    messages: mpsc::Sender<Waiting>,
) -> Result<(), End> {
    let magic = inner.network.params().magic;
    let mut reader = BufReader::with_capacity(BUFFER, reader);
    let room = Arc::new(Semaphore::new(RECEIVE_LIMIT));
    loop {
        let mut bytes = [0; HEADER_SIZE];
        reader.read_exact(&mut bytes).await?;
        let header = FrameHeader::read(&bytes, magic)?;
        let mut payload = Vec::new();
        while payload.len() < header.length {
            let from = payload.len();
            payload.resize(header.length.min(from + READ_STEP), 0);
            reader.read_exact(&mut payload[from..]).await?;
        }
        let size = HEADER_SIZE + payload.len();
        let command = header.command.as_deref().unwrap_or("*other*");
        peer.count_received(command, size);
        inner.received.fetch_add(size as u64, Ordering::Relaxed);
        if header.command.is_none() || !header.is_content(&payload) {
            tracing::debug!(peer = peer.id.0, command, "a message with a wrong checksum or name was skipped");
            continue;
        }
        let cost = u32::try_from(payload.len() + MESSAGE_COST).unwrap_or(u32::MAX);
        let Ok(place) = Arc::clone(&room).acquire_many_owned(cost).await else { return Ok(()) };
        match wire::decode(command, &payload) {
            Ok(message) => {
                drop(payload);
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
    writer: OwnedWriteHalf,
    mut packets: mpsc::UnboundedReceiver<Packet>,
) -> Result<(), End> {
    let (id, magic) = (peer.id, inner.network.params().magic);
    let mut writer = BufWriter::with_capacity(BUFFER, writer);
    let mut unreported = 0;
    while let Some(packet) = packets.recv().await {
        writer.write_all(&frame::header(packet.command, &packet.payload, magic)).await?;
        writer.write_all(&packet.payload).await?;
        if packets.is_empty() {
            writer.flush().await?;
        }
        let size = HEADER_SIZE + packet.payload.len();
        peer.count_sent(&packet, size);
        inner.sent.fetch_add(size as u64, Ordering::Relaxed);
        unreported += size;
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
