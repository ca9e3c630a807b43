//! HTTP on loopback: who may call, how much at once, and Core's answers on HTTP's own level.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::Service;
use super::auth::Auth;
use super::dialect;

/// As many bytes as Core takes in a request (`MAX_SIZE`).
const MAX_BODY: usize = 32 * 1024 * 1024;
/// Bytes of a REST request's body: a list of outputs.
const MAX_REST_BODY: usize = 64 * 1024;
/// Connections at once; further ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 256;
/// Threads that serve: at least two, so that a long answer does not hold up all others.
const MIN_THREADS: usize = 2;
const MAX_THREADS: usize = 8;
/// Core's answer to a wrong password comes late, against guessing.
const WRONG_PASSWORD_DELAY: Duration = Duration::from_millis(250);

struct Door {
    auth: Auth,
    service: Arc<Service>,
}

/// Serves until the service stops; calls under way are finished first.
///
/// Every connection stays on one of a few threads, each with a loop of its own: a call waits for the validation thread and
/// nobody else, and no core is woken to look for work that another one has.
pub async fn serve(listener: TcpListener, auth: Auth, service: Arc<Service>) -> io::Result<()> {
    let listener = listener.into_std()?;
    let door = Arc::new(Door { auth, service });
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let threads = std::thread::available_parallelism().map_or(MIN_THREADS, usize::from);
    // Nothing is ever sent: when all have gone, so have the threads.
    let (serving, mut ended) = mpsc::channel::<Infallible>(1);
    for _ in 0..threads.clamp(MIN_THREADS, MAX_THREADS) {
        let (listener, places) = (listener.try_clone()?, Arc::clone(&places));
        let (door, serving) = (Arc::clone(&door), serving.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let work = move || {
            let outcome = runtime.block_on(serve_here(listener, places, door));
            // What was handed to other threads need not hold up the end.
            runtime.shutdown_background();
            if let Err(error) = outcome {
                tracing::error!(%error, "rpc: a thread ended");
            }
            drop(serving);
        };
        std::thread::Builder::new().name("rpc".to_owned()).spawn(work)?;
    }
    drop(serving);
    while ended.recv().await.is_some() {}
    Ok(())
}

async fn serve_here(listener: std::net::TcpListener, places: Arc<Semaphore>, door: Arc<Door>) -> io::Result<()> {
    let mut stopping = door.service.stopping();
    let router = Router::new().route("/", any(handle)).route("/rest/{*path}", any(handle_rest)).with_state(door);
    let listener = Bounded { listener: TcpListener::from_std(listener)?, places };
    axum::serve(listener, router)
        .with_graceful_shutdown(async move {
            // An error means that nobody can ask us to stop any more: stop.
            let _ = stopping.wait_for(|stop| *stop).await;
        })
        .await
}

async fn handle(State(door): State<Arc<Door>>, request: Request) -> Response {
    if request.method() != Method::POST {
        let text = "JSONRPC server handles only POST requests";
        return (StatusCode::METHOD_NOT_ALLOWED, text).into_response();
    }
    let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"jsonrpc\"")];
    let credential = request.headers().get(header::AUTHORIZATION);
    let Some(credential) = credential.map(|value| value.to_str().unwrap_or_default()) else {
        return (StatusCode::UNAUTHORIZED, challenge).into_response();
    };
    let Some(user) = door.auth.admits(credential) else {
        tracing::warn!("rpc: wrong password");
        tokio::time::sleep(WRONG_PASSWORD_DELAY).await;
        return (StatusCode::UNAUTHORIZED, challenge).into_response();
    };
    // Read only now: a stranger's body costs us nothing.
    let Ok(body) = axum::body::to_bytes(request.into_body(), MAX_BODY).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    if !door.auth.permits(&user, &body) {
        tracing::warn!(user, "rpc: a method that the user may not call");
        return StatusCode::FORBIDDEN.into_response();
    }
    let answer = dialect::respond(&body, door.service.as_ref()).await;
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match answer.body {
        Some(body) => (status, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
        None => status.into_response(),
    }
}

/// A question below `/rest/`: the body is small or it is none.
async fn handle_rest(State(door): State<Arc<Door>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if !matches!(parts.method, Method::GET | Method::POST) {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let Ok(body) = axum::body::to_bytes(body, MAX_REST_BODY).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    door.service.rest(&parts.uri, &body).await.unwrap_or_else(|| StatusCode::NOT_FOUND.into_response())
}

/// A listener that accepts no more connections than there are places.
struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let place = Arc::clone(&self.places).acquire_owned().await.expect("the semaphore is never closed");
        let (stream, address) = Listener::accept(&mut self.listener).await;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "rpc: TCP_NODELAY could not be set");
        }
        (Connection { stream, _place: place }, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// A stream that holds its place until it is closed.
struct Connection {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::watch;

    use super::*;
    use crate::rpc::Offer;
    use crate::rpc::auth::Cookie;

    async fn ask(address: SocketAddr) -> String {
        let body = r#"{"method":"getblockcount","id":1}"#;
        let request = format!(
            "POST / HTTP/1.1\r\nHost: l1\r\nConnection: close\r\nAuthorization: Basic {}\r\nContent-Length: {}\r\n\r\n{body}",
            STANDARD.encode("ann:secret"),
            body.len()
        );
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.unwrap();
        reply
    }

    #[tokio::test]
    async fn whoever_calls_while_the_node_loads_hears_so_and_the_end_comes_when_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let cookie = Cookie::create(&dir.path().join(".cookie")).unwrap();
        let stop = watch::Sender::new(false);
        let service = Arc::new(Service::new(stop.clone(), Offer::default()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(listener, Auth::new(&cookie, Some(("ann", "secret"))), service));
        for _ in 0..20 {
            let reply = ask(address).await;
            assert!(reply.starts_with("HTTP/1.1 500") && reply.contains("\"code\":-28"), "{reply}");
        }
        // Somebody who says nothing holds nothing up.
        let silent = TcpStream::connect(address).await.unwrap();
        stop.send_replace(true);
        server.await.unwrap().unwrap();
        drop(silent);
    }
}
