//! HTTP on loopback: who may call, how much at once, and Core's answers on HTTP's own level.

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
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Service;
use super::auth::Auth;
use super::dialect;

/// As many bytes as Core takes in a request (`MAX_SIZE`).
const MAX_BODY: usize = 32 * 1024 * 1024;
/// Bytes of a REST request's body: a list of outputs.
const MAX_REST_BODY: usize = 64 * 1024;
/// Connections at once; further ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 256;
/// Core's answer to a wrong password comes late, against guessing.
const WRONG_PASSWORD_DELAY: Duration = Duration::from_millis(250);

struct Door {
    auth: Auth,
    service: Arc<Service>,
}

/// Serves until the service stops; calls under way are finished first.
pub async fn serve(listener: TcpListener, auth: Auth, service: Arc<Service>) -> io::Result<()> {
    let mut stopping = service.stopping();
    let door = Arc::new(Door { auth, service });
    let router = Router::new().route("/", any(handle)).route("/rest/{*path}", any(handle_rest)).with_state(door);
    let listener = Bounded { listener, places: Arc::new(Semaphore::new(MAX_CONNECTIONS)) };
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
