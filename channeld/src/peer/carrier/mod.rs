//! What carries the bytes of a connection: a TCP socket, or a stream of gRPC frames. Above, nobody knows which.
//!
//! Knows sockets and HTTP/2, and nothing of what the bytes say: noise is spoken above. BOLT 8 leaves the carrier open.

pub mod link;
pub mod listener;

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use self::link::{LinkSink, LinkSource};

/// Both directions of a connection.
pub struct Carrier {
    /// What the peer sends.
    pub source: Source,
    /// What goes to the peer.
    pub sink: Sink,
    /// The other end, as text.
    pub address: String,
}

/// Bytes that come in.
pub enum Source {
    /// A socket's.
    Tcp(OwnedReadHalf),
    /// Those inside a gRPC stream.
    Link(LinkSource),
}

/// Where bytes go out.
pub enum Sink {
    /// To a socket.
    Tcp(OwnedWriteHalf),
    /// Into a gRPC stream.
    Link(LinkSink),
}

impl Carrier {
    /// Around a socket. Small writes leave at once: nobody waits for an acknowledgement here.
    pub fn tcp(stream: TcpStream, address: String) -> io::Result<Carrier> {
        stream.set_nodelay(true)?;
        let (source, sink) = stream.into_split();
        Ok(Carrier { source: Source::Tcp(source), sink: Sink::Tcp(sink), address })
    }

    /// Calls a TCP address.
    pub async fn connect_tcp(host: &str, port: u16) -> io::Result<Carrier> {
        let stream = TcpStream::connect((host, port)).await?;
        Carrier::tcp(stream, format!("{host}:{port}"))
    }
}

impl Source {
    /// Reads what is there, at least a byte; 0 is the end.
    pub async fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Source::Tcp(socket) => socket.read(into).await,
            Source::Link(link) => link.read(into).await,
        }
    }

    /// Fills all of `into`.
    pub async fn read_exact(&mut self, into: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < into.len() {
            match self.read(&mut into[filled..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => filled += read,
            }
        }
        Ok(())
    }
}

impl Sink {
    /// Writes all of it.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Sink::Tcp(socket) => socket.write_all(bytes).await,
            Sink::Link(link) => link.write_all(bytes).await,
        }
    }

    /// Says that no more follows.
    pub async fn finish(&mut self) {
        match self {
            // A socket that is gone already needs no farewell.
            Sink::Tcp(socket) => drop(socket.shutdown().await),
            Sink::Link(link) => link.finish(),
        }
    }
}
