//! The gRPC server: all services on one port, over TLS with a token, or on a unix socket that needs neither.

use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proto::v1::channel_service_server::ChannelServiceServer;
use proto::v1::dev_service_server::DevServiceServer;
use proto::v1::graph_service_server::GraphServiceServer;
use proto::v1::invoice_service_server::InvoiceServiceServer;
use proto::v1::node_service_server::NodeServiceServer;
use proto::v1::payment_service_server::PaymentServiceServer;
use proto::v1::peer_service_server::PeerServiceServer;
use proto::v1::token_service_server::TokenServiceServer;
use proto::v1::wallet_service_server::WalletServiceServer;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::body::Body;
use tonic::service::{Routes, RoutesBuilder};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tower::util::MapResponseLayer;

use crate::driver::handle::Handle;
use crate::rpc::auth::{AuthLayer, Tokens};
use crate::rpc::health;
use crate::rpc::place::Placed;
use crate::rpc::service::{Channels, Dev, Graphs, Invoices, Nodes, Payments, Peers, TokenKeeper, Wallets};
use crate::rpc::status::typed;
use crate::rpc::tls::Certificate;

/// What one HTTP/2 stream, and one connection, may have unread: what flow control lets a client send ahead.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Connections that may shake hands at once, and how long each may take.
const HANDSHAKES: usize = 256;
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections from elsewhere that may be open at once; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 512;
/// Before a connection is accepted again where that failed.
const BREATH: Duration = Duration::from_millis(50);
/// A connection that says nothing for so long is asked whether it lives, and given so long to answer: clients whose machine
/// is gone are not told events for ever.
const SILENCE: Duration = Duration::from_secs(60);
const ANSWER: Duration = Duration::from_secs(20);
/// Most calls at once on one connection.
const MAX_STREAMS: u32 = 1_024;

/// Who may call over TCP: the certificate that the daemon shows, and the tokens that it asks for.
pub struct Access {
    /// The certificate; without one the port speaks plain HTTP/2, which only loopback allows.
    pub certificate: Option<Arc<Certificate>>,
    /// The tokens.
    pub tokens: Arc<Tokens>,
}

/// Why the server could not be started, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The reflection service does not read our own descriptors: a defect of the build.
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// TLS or HTTP/2.
    #[error("gRPC: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// The unix socket, or the certificate.
    #[error("gRPC socket: {0}")]
    Socket(#[from] io::Error),
}

/// Serves a TCP port until `shutdown` is done; calls under way are finished, streams end with it.
///
/// # Errors
/// Where the certificate is not taken, or the port breaks.
pub async fn serve_tcp(
    handle: Handle,
    listener: TcpListener,
    access: Access,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let (routes, health) = routes(handle, Arc::clone(&access.tokens))?;
    let router = tuned().layer(readable()).layer(AuthLayer::tokens(access.tokens)).add_routes(routes);
    let served = async {
        match &access.certificate {
            Some(certificate) => {
                let incoming = shake_hands(listener, certificate.server_config()?);
                Ok::<_, ServeError>(router.serve_with_incoming_shutdown(incoming, shutdown).await?)
            }
            None => {
                let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
                Ok(router.serve_with_incoming_shutdown(incoming, shutdown).await?)
            }
        }
    };
    tokio::select! {
        served = served => served,
        () = health => unreachable!("health is reported for ever"),
    }
}

/// Connections that have shaken hands, each within its own time: a slow one holds up no other. The settings name a
/// certificate that may change while the port is open.
fn shake_hands(
    listener: TcpListener,
    settings: Arc<rustls::ServerConfig>,
) -> ReceiverStream<io::Result<Placed<TlsStream<TcpStream>>>> {
    let (ready, incoming) = mpsc::channel(HANDSHAKES);
    let (acceptor, room) = (TlsAcceptor::from(settings), Arc::new(Semaphore::new(HANDSHAKES)));
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    tokio::spawn(async move {
        loop {
            let next = async {
                let shaking = Arc::clone(&room).acquire_owned().await.map_err(io::Error::other)?;
                let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
                listener.accept().await.map(|(stream, _)| (stream, shaking, place))
            };
            let accepted = tokio::select! {
                accepted = next => accepted,
                () = ready.closed() => return,
            };
            let Ok((stream, shaking, place)) = accepted else {
                // Out of file descriptors, mostly: it passes.
                tokio::time::sleep(BREATH).await;
                continue;
            };
            let (acceptor, ready) = (acceptor.clone(), ready.clone());
            tokio::spawn(async move {
                // A connection that cannot be tuned or does not speak TLS is the client's to notice.
                let _ = stream.set_nodelay(true);
                if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                    let _ = ready.send(Ok(Placed::new(stream, place))).await;
                }
                drop(shaking);
            });
        }
    });
    ReceiverStream::new(incoming)
}

/// Binds the unix socket: a leftover of a daemon that was killed is removed, and only the owner may connect.
///
/// # Errors
/// As the file system has it.
pub fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves a unix socket until `shutdown` is done.
///
/// # Errors
/// Where the socket breaks.
pub async fn serve_unix(
    handle: Handle,
    listener: UnixListener,
    tokens: Arc<Tokens>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let (routes, health) = routes(handle, tokens)?;
    let router = tuned().layer(readable()).layer(AuthLayer::open()).add_routes(routes);
    tokio::select! {
        served = router.serve_with_incoming_shutdown(UnixListenerStream::new(listener), shutdown) => Ok(served?),
        () = health => unreachable!("health is reported for ever"),
    }
}

fn tuned() -> Server {
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .http2_keepalive_interval(Some(SILENCE))
        .http2_keepalive_timeout(Some(ANSWER))
}

/// Answers about messages that cannot be read get a reason too.
fn readable() -> MapResponseLayer<fn(http::Response<Body>) -> http::Response<Body>> {
    MapResponseLayer::new(typed)
}

/// All services, and the task that keeps their health.
fn routes(handle: Handle, tokens: Arc<Tokens>) -> Result<(Routes, impl Future<Output = ()>), ServeError> {
    let (reporter, health_service) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let mut routes = RoutesBuilder::default();
    routes
        .add_service(NodeServiceServer::new(Nodes::new(handle.clone())))
        .add_service(WalletServiceServer::new(Wallets::new(handle.clone())))
        .add_service(PeerServiceServer::new(Peers::new(handle.clone())))
        .add_service(ChannelServiceServer::new(Channels::new(handle.clone())))
        .add_service(InvoiceServiceServer::new(Invoices::new(handle.clone())))
        .add_service(PaymentServiceServer::new(Payments::new(handle.clone())))
        .add_service(GraphServiceServer::new(Graphs::new(handle.clone())))
        .add_service(TokenServiceServer::new(TokenKeeper::new(tokens)))
        .add_service(DevServiceServer::new(Dev::new(handle.clone())))
        .add_service(health_service)
        .add_service(reflection);
    Ok((routes.routes(), health::report(handle, reporter)))
}
