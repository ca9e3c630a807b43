//! The same bytes inside a bidirectional gRPC stream (`channeld.peer.v1.LinkService`): for nodes behind proxies and load
//! balancers. The carrier is trusted with nothing; identity and secrecy are noise's.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as Waker, Poll};
use std::time::Duration;

use futures::{Stream, StreamExt};
use proto::peer::v1::link_service_client::LinkServiceClient;
use proto::peer::v1::link_service_server::{LinkService, LinkServiceServer};
use proto::peer::v1::{OpenLinkRequest, OpenLinkResponse};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

use super::listener::serve;
use super::{Carrier, Sink, Source};
use crate::peer::limit::Pending;
use crate::peer::session::Context;

/// The most bytes in one gRPC message; the reader takes up to 1 MiB, as the .proto says.
const MAX_FRAME: usize = 64 * 1024;
const MAX_FRAME_TAKEN: usize = 1024 * 1024 + 16;
/// So much may be under way in one stream before it is read.
const WINDOW: u32 = 1024 * 1024;
/// How many gRPC messages wait for the network.
const QUEUE: usize = 4;

type Frames = Pin<Box<dyn Stream<Item = Result<Vec<u8>, Status>> + Send>>;

/// What comes in through a gRPC stream.
pub struct LinkSource {
    frames: Frames,
    rest: Vec<u8>,
    read: usize,
    // What must live as long as the stream: at the caller's end the channel, at the other end the guard of the socket.
    _keep: Box<dyn Send + Sync>,
}

impl LinkSource {
    /// As [`Source::read`].
    pub async fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.read == self.rest.len() {
            match self.frames.next().await {
                None => return Ok(0),
                Some(Err(status)) => return Err(io::Error::other(status.message().to_owned())),
                Some(Ok(frames)) => (self.rest, self.read) = (frames, 0),
            }
        }
        let length = into.len().min(self.rest.len() - self.read);
        into[..length].copy_from_slice(&self.rest[self.read..self.read + length]);
        self.read += length;
        Ok(length)
    }
}

/// What goes out through a gRPC stream.
pub struct LinkSink(Option<mpsc::Sender<Vec<u8>>>);

impl LinkSink {
    /// As [`Sink::write_all`].
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sender = self.0.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        for frames in bytes.chunks(MAX_FRAME) {
            sender.send(frames.to_vec()).await.map_err(|_| io::ErrorKind::BrokenPipe)?;
        }
        Ok(())
    }

    /// As [`Sink::finish`].
    pub fn finish(&mut self) {
        self.0 = None;
    }
}

/// Calls a node at a gRPC address.
pub async fn connect(host: &str, port: u16, timeout: Duration) -> io::Result<Carrier> {
    let channel = Endpoint::from_shared(format!("http://{host}:{port}"))
        .map_err(io::Error::other)?
        .tcp_nodelay(true)
        .connect_timeout(timeout)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .connect()
        .await
        .map_err(io::Error::other)?;
    let (sender, receiver) = mpsc::channel(QUEUE);
    let mut client = LinkServiceClient::new(channel).max_decoding_message_size(MAX_FRAME_TAKEN);
    let requests = ReceiverStream::new(receiver).map(|frames| OpenLinkRequest { frames });
    let response = client.open_link(requests).await.map_err(|status| io::Error::other(status.message().to_owned()))?;
    let frames = response.into_inner().map(|response| response.map(|it| it.frames));
    let keep = Box::new(client);
    let source = LinkSource { frames: Box::pin(frames), rest: Vec::new(), read: 0, _keep: keep };
    let address = format!("grpc://{host}:{port}");
    Ok(Carrier { source: Source::Link(source), sink: Sink::Link(LinkSink(Some(sender))), address })
}

/// Nobody has opened a link on the socket yet.
const WAITING: u8 = 0;
/// A link is open.
const OPEN: u8 = 1;
/// The link was closed.
const OVER: u8 = 2;

/// What the socket and the link inside it share.
#[derive(Clone)]
pub struct LinkConnection {
    address: String,
    phase: Arc<AtomicU8>,
    taken: Arc<AtomicBool>,
    pending: Arc<Mutex<Option<Pending>>>,
}

/// Ends the socket when the link is gone.
struct Guard(Arc<AtomicU8>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.store(OVER, Ordering::Release);
    }
}

/// A socket on which HTTP/2 is spoken: closed when no link is opened on it in time, or none is left.
pub struct LinkSocket {
    stream: TcpStream,
    connection: LinkConnection,
    timeout: Duration,
    deadline: Pin<Box<Sleep>>,
}

impl LinkSocket {
    /// Around a socket whose first byte is that of HTTP/2.
    pub fn new(stream: TcpStream, address: String, pending: Pending, timeout: Duration) -> LinkSocket {
        let connection = LinkConnection {
            address,
            phase: Arc::new(AtomicU8::new(WAITING)),
            taken: Arc::new(AtomicBool::new(false)),
            pending: Arc::new(Mutex::new(Some(pending))),
        };
        LinkSocket { stream, connection, timeout, deadline: Box::pin(sleep(timeout)) }
    }
}

impl Connected for LinkSocket {
    type ConnectInfo = LinkConnection;

    fn connect_info(&self) -> LinkConnection {
        self.connection.clone()
    }
}

impl AsyncRead for LinkSocket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Waker<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.deadline.as_mut().poll(cx).is_ready() {
            if self.connection.phase.load(Ordering::Acquire) != OPEN {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            let next = Instant::now() + self.timeout;
            self.deadline.as_mut().reset(next);
        }
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for LinkSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Waker<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Waker<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Waker<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Waker<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Serves links on the sockets that come in, until the sender of them is gone.
pub async fn serve_links(context: Arc<Context>, sockets: mpsc::Receiver<LinkSocket>) {
    let service = LinkServiceServer::new(Links { context }).max_decoding_message_size(MAX_FRAME_TAKEN);
    let sockets = ReceiverStream::new(sockets).map(Ok::<_, io::Error>);
    let served = Server::builder()
        .max_concurrent_streams(QUEUE as u32)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .http2_max_header_list_size(16 * 1024)
        .add_service(service)
        .serve_with_incoming(sockets)
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the carrier inside gRPC has stopped");
    }
}

struct Links {
    context: Arc<Context>,
}

#[tonic::async_trait]
impl LinkService for Links {
    type OpenLinkStream = Pin<Box<dyn Stream<Item = Result<OpenLinkResponse, Status>> + Send>>;

    async fn open_link(
        &self,
        request: Request<Streaming<OpenLinkRequest>>,
    ) -> Result<Response<Self::OpenLinkStream>, Status> {
        let Some(connection) = request.extensions().get::<LinkConnection>().cloned() else {
            return Err(Status::internal("the connection is unknown"));
        };
        if connection.taken.swap(true, Ordering::AcqRel) {
            return Err(Status::resource_exhausted("one link a connection"));
        }
        let pending = connection.pending.lock().unwrap_or_else(PoisonError::into_inner).take();
        connection.phase.store(OPEN, Ordering::Release);
        let (sender, receiver) = mpsc::channel(QUEUE);
        let frames = request.into_inner().map(|request| request.map(|it| it.frames));
        let keep = Box::new(Guard(connection.phase));
        let source = LinkSource { frames: Box::pin(frames), rest: Vec::new(), read: 0, _keep: keep };
        let address = connection.address;
        let carrier = Carrier { source: Source::Link(source), sink: Sink::Link(LinkSink(Some(sender))), address };
        tokio::spawn(serve(self.context.clone(), carrier, pending));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver).map(|frames| Ok(OpenLinkResponse { frames })))))
    }
}
