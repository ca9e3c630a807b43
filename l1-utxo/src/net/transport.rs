//! How messages travel: framed in the clear, or encrypted (BIP 324), told apart by the first bytes of whoever dials.
//!
//! Bitcoin Core: `V1Transport` and `V2Transport` in `net.cpp`.

use std::io;

use bip324::{InboundCipher, OutboundCipher, PacketType, Role};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter};

use super::encryption::{self, Session};
use super::frame::{self, FrameError, FrameHeader, HEADER_SIZE};
use crate::sync::Packet;
use crate::sync::wire::MAX_PAYLOAD;

const BUFFER: usize = 64 * 1024;
/// Content is read in steps, so that a length alone takes no memory.
const READ_STEP: usize = 256 * 1024;
/// What a `version` message begins with after the magic.
const VERSION: &[u8; 12] = b"version\0\0\0\0\0";
/// Bytes by which the two are told apart.
const PREFIX: usize = 4 + VERSION.len();
/// Bytes of an encrypted packet besides its content: the flag and the tag.
const PACKET_OVERHEAD: usize = 1 + 16;
/// Names that BIP 324 gives one byte.
const SHORT_NAMES: [&str; 29] = [
    "",
    "addr",
    "block",
    "blocktxn",
    "cmpctblock",
    "feefilter",
    "filteradd",
    "filterclear",
    "filterload",
    "getblocks",
    "getblocktxn",
    "getdata",
    "getheaders",
    "headers",
    "inv",
    "mempool",
    "merkleblock",
    "notfound",
    "ping",
    "pong",
    "sendcmpct",
    "tx",
    "getcfilters",
    "cfilter",
    "getcfheaders",
    "cfheaders",
    "getcfcheckpt",
    "cfcheckpt",
    "addrv2",
];

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransportError {
    /// The socket.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What came is no frame of ours.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The handshake of the encrypted transport failed.
    #[error("the encrypted handshake failed: {0}")]
    Handshake(#[from] bip324::Error),
    /// A packet does not carry its tag.
    #[error("a packet was forged or damaged")]
    Forged,
}

pub(super) type Source = Box<dyn AsyncRead + Send + Sync + Unpin>;
pub(super) type Sink = Box<dyn AsyncWrite + Send + Sync + Unpin>;

/// The incoming half.
pub(super) enum Reader {
    /// In the clear.
    V1 { source: BufReader<Source>, magic: [u8; 4] },
    /// Encrypted.
    V2 { source: BufReader<Source>, cipher: Box<InboundCipher> },
}

/// The outgoing half.
pub(super) enum Writer {
    /// In the clear.
    V1 { sink: BufWriter<Sink>, magic: [u8; 4] },
    /// Encrypted.
    V2 { sink: BufWriter<Sink>, cipher: Box<OutboundCipher> },
}

/// Both halves of a connection.
pub(super) struct Halves {
    pub(super) reader: Reader,
    pub(super) writer: Writer,
    /// What both ends call the session, if it is encrypted.
    pub(super) session: Option<[u8; 32]>,
}

/// A message as it came; `command` is `None` if it is to be skipped.
pub(super) struct Incoming {
    pub(super) command: Option<String>,
    pub(super) payload: Vec<u8>,
    pub(super) size: usize,
}

/// Opens a connection that we dialled.
pub(super) async fn dialled(
    reader: Source,
    writer: Sink,
    magic: [u8; 4],
    is_v2: bool,
) -> Result<Halves, TransportError> {
    if is_v2 { encrypt(reader, writer, magic, Role::Initiator).await } else { Ok(plain(reader, writer, magic)) }
}

/// Opens a connection that the other side dialled, as it wishes.
pub(super) async fn accepted(
    mut reader: Source,
    writer: Sink,
    magic: [u8; 4],
    takes_encrypted: bool,
) -> Result<Halves, TransportError> {
    if !takes_encrypted {
        return Ok(plain(reader, writer, magic));
    }
    let prefix = prefix(&mut reader, magic).await?;
    let is_plain = prefix.len() == PREFIX && prefix.starts_with(&magic) && prefix.ends_with(VERSION);
    // Another network's `version` could be a key only by a miracle.
    if !is_plain && prefix.ends_with(VERSION) {
        return Err(FrameError::Magic.into());
    }
    let source = Box::new(io::Cursor::new(prefix).chain(reader));
    if is_plain { Ok(plain(source, writer, magic)) } else { encrypt(source, writer, magic, Role::Responder).await }
}

/// As many bytes as are needed to know that this is not the beginning of a plain connection.
async fn prefix(reader: &mut Source, magic: [u8; 4]) -> io::Result<Vec<u8>> {
    let wanted: Vec<u8> = magic.iter().chain(VERSION).copied().collect();
    let mut prefix = vec![0; PREFIX];
    let mut length = 0;
    while length < PREFIX && wanted.starts_with(&prefix[..length]) {
        match reader.read(&mut prefix[length..]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => length += read,
        }
    }
    prefix.truncate(length);
    Ok(prefix)
}

fn plain(source: Source, writer: Sink, magic: [u8; 4]) -> Halves {
    let source = BufReader::with_capacity(BUFFER, source);
    let sink = BufWriter::with_capacity(BUFFER, writer);
    Halves { reader: Reader::V1 { source, magic }, writer: Writer::V1 { sink, magic }, session: None }
}

async fn encrypt(source: Source, mut writer: Sink, magic: [u8; 4], role: Role) -> Result<Halves, TransportError> {
    let Session { inbound, outbound, id, source } = encryption::establish(source, &mut writer, magic, role).await?;
    let source = BufReader::with_capacity(BUFFER, source);
    let sink = BufWriter::with_capacity(BUFFER, writer);
    let reader = Reader::V2 { source, cipher: Box::new(inbound) };
    Ok(Halves { reader, writer: Writer::V2 { sink, cipher: Box::new(outbound) }, session: Some(id) })
}

pub(super) async fn read_bounded(source: &mut (impl AsyncRead + Unpin), length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while bytes.len() < length {
        let from = bytes.len();
        bytes.resize(length.min(from + READ_STEP), 0);
        source.read_exact(&mut bytes[from..]).await?;
    }
    Ok(bytes)
}

impl Reader {
    /// The next message.
    pub(super) async fn next(&mut self) -> Result<Incoming, TransportError> {
        match self {
            Self::V1 { source, magic } => {
                let mut bytes = [0; HEADER_SIZE];
                source.read_exact(&mut bytes).await?;
                let header = FrameHeader::read(&bytes, *magic)?;
                let payload = read_bounded(source, header.length).await?;
                let is_content = header.is_content(&payload);
                let size = HEADER_SIZE + payload.len();
                Ok(Incoming { command: header.command.filter(|_| is_content), payload, size })
            }
            Self::V2 { source, cipher } => loop {
                if let Some(message) = next_packet(source, cipher).await? {
                    return Ok(message);
                }
            },
        }
    }
}

/// The next packet; `None` for a decoy.
async fn next_packet(
    source: &mut BufReader<Source>,
    cipher: &mut InboundCipher,
) -> Result<Option<Incoming>, TransportError> {
    let mut length = [0; 3];
    source.read_exact(&mut length).await?;
    let length = cipher.decrypt_packet_len(length);
    if length > MAX_PAYLOAD + 13 + PACKET_OVERHEAD {
        return Err(FrameError::TooLong(u32::try_from(length).unwrap_or(u32::MAX)).into());
    }
    let mut packet = read_bounded(source, length).await?;
    let size = packet.len() + 3;
    let (kind, _) = cipher.decrypt_in_place(&mut packet, None).map_err(|_| TransportError::Forged)?;
    if matches!(kind, PacketType::Decoy) {
        return Ok(None);
    }
    // The flag before, the tag behind.
    packet.truncate(length - 16);
    packet.drain(..1);
    let (command, skip) = name(&packet);
    packet.drain(..skip.min(packet.len()));
    Ok(Some(Incoming { command, payload: packet, size }))
}

/// The name at the beginning of an encrypted message, and how many bytes it takes.
fn name(content: &[u8]) -> (Option<String>, usize) {
    match content.first() {
        Some(0) => match content.get(1..13).and_then(|name| name.first_chunk::<12>()) {
            Some(name) => (frame::command(name), 13),
            None => (None, content.len()),
        },
        Some(short) => (SHORT_NAMES.get(usize::from(*short)).map(|name| (*name).to_owned()), 1),
        None => (None, 0),
    }
}

impl Writer {
    /// Puts a message into the buffer; how many bytes it takes on the wire.
    pub(super) async fn put(&mut self, packet: &Packet) -> io::Result<usize> {
        match self {
            Self::V1 { sink, magic } => {
                sink.write_all(&frame::header(&packet.command, &packet.payload, *magic)).await?;
                sink.write_all(&packet.payload).await?;
                Ok(HEADER_SIZE + packet.payload.len())
            }
            Self::V2 { sink, cipher } => {
                let mut content = Vec::with_capacity(packet.payload.len() + 13);
                match SHORT_NAMES.iter().position(|name| *name == packet.command) {
                    Some(short) => content.push(short as u8),
                    None => {
                        content.resize(13, 0);
                        content[1..=packet.command.len()].copy_from_slice(packet.command.as_bytes());
                    }
                }
                content.extend_from_slice(&packet.payload);
                let encrypted = cipher.encrypt_to_vec(&content, PacketType::Genuine, None);
                sink.write_all(&encrypted).await?;
                Ok(encrypted.len())
            }
        }
    }

    /// Sends what is in the buffer.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::V1 { sink, .. } | Self::V2 { sink, .. } => sink.flush().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    const MAGIC: [u8; 4] = [0xfa, 0xbf, 0xb5, 0xda];

    fn split(stream: TcpStream) -> (Source, Sink) {
        let (reader, writer) = stream.into_split();
        (Box::new(reader), Box::new(writer))
    }

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (dialled, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        (dialled.unwrap(), accepted.unwrap().0)
    }

    #[tokio::test]
    async fn messages_arrive_over_either_transport() {
        for wants_v2 in [false, true] {
            let (one, two) = pair().await;
            let dial = async {
                let (reader, writer) = split(one);
                let Halves { reader, mut writer, session } = dialled(reader, writer, MAGIC, wants_v2).await.unwrap();
                // Who is asked in the clear waits for the first message.
                writer.put(&Packet { command: "version".into(), payload: vec![1; 100] }).await.unwrap();
                writer.flush().await.unwrap();
                (reader, writer, session)
            };
            let accept = async {
                let (reader, writer) = split(two);
                let Halves { mut reader, writer, session } = accepted(reader, writer, MAGIC, true).await.unwrap();
                assert_eq!(session.is_some(), wants_v2);
                let first = reader.next().await.unwrap();
                assert_eq!((first.command.as_deref(), first.payload.len()), (Some("version"), 100));
                (reader, writer, session)
            };
            let ((mut reader, _a, here), (_b, mut writer, there)) = tokio::join!(dial, accept);
            assert_eq!(here, there);
            for (command, size) in [("block", 3_000_000), ("wtxidrelay", 0), ("ping", 8)] {
                let packet = Packet { command: command.into(), payload: vec![7; size] };
                let (sent, came) = tokio::join!(
                    async {
                        let sent = writer.put(&packet).await.unwrap();
                        writer.flush().await.unwrap();
                        sent
                    },
                    reader.next()
                );
                let came = came.unwrap();
                assert_eq!((came.command.as_deref(), &came.payload, came.size), (Some(command), &packet.payload, sent));
            }
        }
    }

    #[tokio::test]
    async fn strangers_are_sent_away_at_once() {
        let (mut one, two) = pair().await;
        one.write_all(&[&[1, 2, 3, 4][..], VERSION].concat()).await.unwrap();
        let (reader, writer) = split(two);
        assert!(matches!(accepted(reader, writer, MAGIC, true).await, Err(TransportError::Frame(FrameError::Magic))));
        // Garbage that is no key ends within bounds, too.
        let (mut one, two) = pair().await;
        let garbage = async {
            let sent = one.write_all(&vec![0x55; 20_000]).await;
            let mut sink = Vec::new();
            // The other side closes, cleanly or not.
            let _ = one.read_to_end(&mut sink).await;
            sent
        };
        let (reader, writer) = split(two);
        let (_, accepted) = tokio::join!(garbage, accepted(reader, writer, MAGIC, true));
        assert!(accepted.is_err());
    }
}
