//! HTTP on loopback: who may call, how much at once, and Core's answers on HTTP's own level.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::Service;
use super::auth::Auth;
use super::dialect;
use super::places::{Place, Places};

/// As many bytes as Core takes in a request (`MAX_SIZE`).
const MAX_BODY: usize = 32 * 1024 * 1024;
/// Bytes of a request's first line and headers together (Core: `MAX_HEADERS_SIZE`).
const MAX_HEADER_BYTES: usize = 8_192;
/// Headers that are read, so that many small ones are judged by their bytes, too.
const MAX_HEADERS: usize = 512;
/// Bytes of a REST request's body: a list of outputs.
const MAX_REST_BODY: usize = 64 * 1024;
/// Connections at once; a further one takes the place of who has been silent for longest.
const MAX_CONNECTIONS: usize = 256;
/// Threads that serve: at least two, so that a long answer does not hold up all others.
const MIN_THREADS: usize = 2;
const MAX_THREADS: usize = 8;
/// Core's answer to a wrong password comes late, against guessing.
const WRONG_PASSWORD_DELAY: Duration = Duration::from_millis(250);
/// How long to wait after the system could not accept (it may have no descriptors left).
const PAUSE: Duration = Duration::from_millis(200);

struct Door {
    auth: Auth,
    service: Arc<Service>,
    patience: Duration,
}

/// Serves until the service stops; calls under way are finished first. A connection may be silent for `patience` while a
/// request is due or under way from the other side.
///
/// Every connection stays on one of a few threads, each with a loop of its own: a call waits for the validation thread and
/// nobody else, and no core is woken to look for work that another one has.
pub async fn serve(
    listeners: Vec<TcpListener>,
    auth: Auth,
    service: Arc<Service>,
    patience: Duration,
) -> io::Result<()> {
    let listeners = listeners.into_iter().map(TcpListener::into_std).collect::<io::Result<Vec<_>>>()?;
    let door = Arc::new(Door { auth, service, patience });
    let places = Places::new(MAX_CONNECTIONS);
    let threads = std::thread::available_parallelism().map_or(MIN_THREADS, usize::from);
    // Nothing is ever sent: when all have gone, so have the threads.
    let (serving, mut ended) = mpsc::channel::<Infallible>(1);
    for _ in 0..threads.clamp(MIN_THREADS, MAX_THREADS) {
        let shared = listeners.iter().map(std::net::TcpListener::try_clone);
        let (shared, places) = (shared.collect::<io::Result<Vec<_>>>()?, Arc::clone(&places));
        let (door, serving) = (Arc::clone(&door), serving.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let work = move || {
            let outcome = runtime.block_on(serve_all(shared, &places, &door));
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

async fn serve_all(listeners: Vec<std::net::TcpListener>, places: &Arc<Places>, door: &Arc<Door>) -> io::Result<()> {
    let begin = |listener| tokio::spawn(serve_here(listener, Arc::clone(places), Arc::clone(door)));
    let serving: Vec<_> = listeners.into_iter().map(begin).collect();
    for task in serving {
        task.await??;
    }
    Ok(())
}

async fn serve_here(listener: std::net::TcpListener, places: Arc<Places>, door: Arc<Door>) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let mut stopping = door.service.stopping();
    // Nothing is ever sent: when all connections have ended, so has this.
    let (serving, mut ended) = mpsc::channel::<Infallible>(1);
    loop {
        let next = async {
            let accepted = listener.accept().await;
            (accepted, places.take().await)
        };
        let (accepted, place) = tokio::select! {
            next = next => next,
            // An error means that nobody can ask us to stop any more: stop.
            _ = stopping.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let (door, serving) = (Arc::clone(&door), serving.clone());
                tokio::spawn(async move {
                    converse(stream, door, place).await;
                    drop(serving);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "rpc: a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(serving);
    while ended.recv().await.is_some() {}
    Ok(())
}

/// Answers the requests of one connection, one after the other, until it ends or the service does.
async fn converse(stream: TcpStream, door: Arc<Door>, place: Place) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "rpc: TCP_NODELAY could not be set");
    }
    let mut stopping = door.service.stopping();
    let place = Arc::new(place);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(door.patience).max_headers(MAX_HEADERS);
    let respond = |request: hyper::Request<hyper::body::Incoming>| {
        let (door, place) = (Arc::clone(&door), Arc::clone(&place));
        async move {
            let response = answer(&door, &place, request.map(Body::new)).await;
            place.fall_silent();
            Ok::<_, Infallible>(response)
        }
    };
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service_fn(respond)));
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = place.needed() => return tracing::debug!("rpc: a silent connection made room"),
        () = async { drop(stopping.wait_for(|stop| *stop).await) } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "rpc: a connection ended");
    }
}

async fn answer(door: &Door, place: &Place, request: Request) -> Response {
    if header_bytes(&request) > MAX_HEADER_BYTES {
        return (StatusCode::BAD_REQUEST, [(header::CONNECTION, "close")]).into_response();
    }
    if request.uri().path_and_query().is_some_and(|target| target == "/") {
        return handle(door, place, request).await;
    }
    if request.uri().path().strip_prefix("/rest/").is_some_and(|rest| !rest.is_empty()) {
        return handle_rest(door, place, request).await;
    }
    StatusCode::NOT_FOUND.into_response()
}

/// Bytes of a request's first line and its headers, as they are usually written.
fn header_bytes(request: &Request) -> usize {
    let path = request.uri().path_and_query().map_or(1, |path| path.as_str().len());
    let line = request.method().as_str().len() + path + "  HTTP/1.1\r\n".len();
    let headers = request.headers().iter();
    line + headers.map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len()).sum::<usize>()
}

async fn handle(door: &Door, place: &Place, request: Request) -> Response {
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
    place.speak();
    // Read only now: a stranger's body costs us nothing.
    let body = match read(door, request.into_body(), MAX_BODY).await {
        Ok(body) => body,
        Err(status) => return status.into_response(),
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
async fn handle_rest(door: &Door, place: &Place, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if !matches!(parts.method, Method::GET | Method::POST) {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let body = match read(door, body, MAX_REST_BODY).await {
        Ok(body) => body,
        Err(status) => return status.into_response(),
    };
    place.speak();
    door.service.rest(&parts.uri, &body).await.unwrap_or_else(|| StatusCode::NOT_FOUND.into_response())
}

/// A body of at most `limit` bytes that comes in time.
async fn read(door: &Door, body: Body, limit: usize) -> Result<Bytes, StatusCode> {
    if body.size_hint().lower() > limit as u64 {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    match tokio::time::timeout(door.patience, axum::body::to_bytes(body, limit)).await {
        Ok(read) => read.map_err(|_| StatusCode::PAYLOAD_TOO_LARGE),
        Err(_) => Err(StatusCode::REQUEST_TIMEOUT),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::watch;

    use super::*;
    use crate::rpc::Offer;
    use crate::rpc::auth::Cookie;

    fn credentials() -> String {
        STANDARD.encode("ann:secret")
    }

    async fn ask(address: SocketAddr) -> String {
        let body = r#"{"method":"getblockcount","id":1}"#;
        let (credentials, length) = (credentials(), body.len());
        let headers = format!("Connection: close\r\nAuthorization: Basic {credentials}\r\nContent-Length: {length}");
        exchange(address, &format!("POST / HTTP/1.1\r\nHost: l1\r\n{headers}\r\n\r\n{body}")).await
    }

    async fn exchange(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.unwrap();
        reply
    }

    struct Running {
        _dir: tempfile::TempDir,
        address: SocketAddr,
        stop: watch::Sender<bool>,
        server: tokio::task::JoinHandle<io::Result<()>>,
    }

    async fn run(patience: Duration) -> Running {
        let dir = tempfile::tempdir().unwrap();
        let cookie = Cookie::create(&dir.path().join(".cookie")).unwrap();
        let stop = watch::Sender::new(false);
        let service = Arc::new(Service::new(stop.clone(), Offer::default()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server =
            tokio::spawn(serve(vec![listener], Auth::new(&cookie, Some(("ann", "secret"))), service, patience));
        Running { _dir: dir, address, stop, server }
    }

    #[tokio::test]
    async fn whoever_calls_while_the_node_loads_hears_so_and_the_end_comes_when_asked_for() {
        let running = run(Duration::from_secs(3_600)).await;
        for _ in 0..20 {
            let reply = ask(running.address).await;
            assert!(reply.starts_with("HTTP/1.1 500") && reply.contains("\"code\":-28"), "{reply}");
        }
        // Somebody who says nothing holds nothing up.
        let silent = TcpStream::connect(running.address).await.unwrap();
        running.stop.send_replace(true);
        running.server.await.unwrap().unwrap();
        drop(silent);
    }

    #[tokio::test]
    async fn long_heads_are_refused_as_core_refuses_them() {
        let running = run(Duration::from_secs(3_600)).await;
        let many = |count: usize| (0..count).map(|n| format!("header_{n:04}: foo\r\n")).collect::<String>();
        let table = [
            (format!("GET /{} HTTP/1.1\r\n", "x".repeat(7_000)), "404"),
            (format!("GET /{} HTTP/1.1\r\n", "x".repeat(8_192)), "400"),
            (format!("GET /x HTTP/1.1\r\n{}", many(399)), "404"),
            (format!("GET /x HTTP/1.1\r\n{}", many(455)), "400"),
        ];
        for (head, status) in table {
            let reply = exchange(running.address, &format!("{head}Connection: close\r\n\r\n")).await;
            assert!(reply.starts_with(&format!("HTTP/1.1 {status}")), "{status}: {reply}");
        }
    }

    #[tokio::test]
    async fn connections_that_say_nothing_keep_nobody_waiting() {
        let running = run(Duration::from_secs(3_600)).await;
        let mut silent = Vec::new();
        for _ in 0..MAX_CONNECTIONS + 8 {
            let mut stream = TcpStream::connect(running.address).await.unwrap();
            stream.write_all(b"POST / HTTP/1.1\r\nHost: somehost\r\n").await.unwrap();
            silent.push(stream);
        }
        let reply = ask(running.address).await;
        assert!(reply.starts_with("HTTP/1.1 500") && reply.contains("\"code\":-28"), "{reply}");
    }

    #[tokio::test]
    async fn who_does_not_finish_a_request_is_left() {
        let running = run(Duration::from_millis(50)).await;
        for begun in ["GET /x HTTP/1.1\r\nHost: somehost\r\n", ""] {
            assert_eq!(exchange(running.address, begun).await, "");
        }
        let head = post(9);
        let reply = exchange(running.address, &head).await;
        assert!(reply.starts_with("HTTP/1.1 408"), "{reply}");
    }

    fn post(length: usize) -> String {
        let credentials = credentials();
        format!("POST / HTTP/1.1\r\nAuthorization: Basic {credentials}\r\nContent-Length: {length}\r\n\r\n")
    }

    #[tokio::test]
    async fn a_body_that_will_be_too_long_is_refused_before_it_comes() {
        let running = run(Duration::from_secs(3_600)).await;
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(post(MAX_BODY + 1).as_bytes()).await.unwrap();
        let mut reply = [0; 12];
        stream.read_exact(&mut reply).await.unwrap();
        assert_eq!(&reply, b"HTTP/1.1 413");
    }
}
