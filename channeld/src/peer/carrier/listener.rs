//! One port for peers: noise and gRPC are told apart by the first byte, everything else is turned away.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::Carrier;
use super::link::{LinkSocket, serve_links};
use crate::peer::event::Direction;
use crate::peer::limit::Pending;
use crate::peer::session::{Context, Session, SetupError, answer};

/// BOLT 8: act one begins with its version.
const NOISE: u8 = 0;
/// HTTP/2 begins with `PRI * HTTP/2.0`.
const HTTP2: u8 = b'P';
/// A TLS handshake record; TLS in front of gRPC is a proxy's business so far.
const TLS: u8 = 0x16;
/// The TLS alert `handshake_failure`, fatal: a caller that tries TLS knows at once that there is none.
const TLS_REFUSED: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 40];

/// Takes calls until the task is aborted.
pub async fn listen(context: Arc<Context>, listener: TcpListener) {
    let (links, sockets) = mpsc::channel(1);
    let serving = tokio::spawn(serve_links(context.clone(), sockets));
    let _aborted_with_us = AbortOnDrop(serving.abort_handle());
    loop {
        match listener.accept().await {
            Ok((stream, address)) => take(&context, &links, stream, address),
            Err(error) => {
                // Out of file descriptors, as a rule: what frees them is time.
                tracing::warn!(%error, "a call could not be taken");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn take(context: &Arc<Context>, links: &mpsc::Sender<LinkSocket>, stream: TcpStream, address: SocketAddr) {
    let Some(pending) = context.gate.enter(address.ip()) else {
        tracing::debug!(%address, "too many callers, this one is turned away");
        return;
    };
    let (context, links) = (context.clone(), links.clone());
    tokio::spawn(async move {
        if let Err(error) = sort(context, links, stream, address, pending).await {
            tracing::debug!(%address, %error, "a caller went wrong");
        }
    });
}

/// Looks at the first byte.
async fn sort(
    context: Arc<Context>,
    links: mpsc::Sender<LinkSocket>,
    mut stream: TcpStream,
    address: SocketAddr,
    pending: Pending,
) -> Result<(), SetupError> {
    let mut first = [0];
    let peeked = timeout(context.timeouts.handshake, stream.peek(&mut first));
    if peeked.await.map_err(|_| SetupError::Timeout)?? == 0 {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    match first[0] {
        NOISE => serve(context, Carrier::tcp(stream, address.to_string())?, Some(pending)).await,
        HTTP2 => {
            stream.set_nodelay(true)?;
            let socket = LinkSocket::new(stream, address.to_string(), pending, context.timeouts.handshake);
            links.send(socket).await.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        }
        TLS => {
            // A socket that is closed with something unread takes what was written down with it.
            let mut hello = [0; 4_096];
            timeout(context.timeouts.handshake, stream.read(&mut hello)).await.map_err(|_| SetupError::Timeout)??;
            stream.write_all(&TLS_REFUSED).await?;
            stream.shutdown().await?;
        }
        other => tracing::debug!(%address, first_byte = other, "neither noise nor gRPC"),
    }
    Ok(())
}

/// Serves one caller, whatever carries its bytes; `pending` is given up when it is known who calls.
pub async fn serve(context: Arc<Context>, mut carrier: Carrier, pending: Option<Pending>) {
    let (node_id, transport) = match answer(&context, &mut carrier).await {
        Ok(known) => known,
        Err(error) => return tracing::debug!(address = carrier.address, %error, "a caller went wrong"),
    };
    drop(pending);
    match Session::admit(&context, node_id, Direction::Inbound) {
        Some(session) => session.run(carrier, transport).await,
        None => tracing::debug!(peer = %node_id, "a caller is turned away"),
    }
}
