//! Counts bytes as they pass a socket, whatever they turn out to mean.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Inner;
use super::peer::Peer;

/// Where bytes are counted: for the peer and for all.
#[derive(Clone)]
pub(super) struct Meter {
    pub(super) inner: Arc<Inner>,
    pub(super) peer: Arc<Peer>,
}

/// Half of a socket with its meter.
pub(super) struct Metered<S> {
    half: S,
    meter: Meter,
}

impl<S> Metered<S> {
    pub(super) const fn new(half: S, meter: Meter) -> Self {
        Self { half, meter }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.half).poll_read(cx, buffer))?;
        let bytes = buffer.filled().len() - before;
        if bytes > 0 {
            self.meter.inner.received.fetch_add(bytes as u64, Ordering::Relaxed);
            self.meter.peer.add_received(bytes);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.half).poll_write(cx, bytes))?;
        self.meter.inner.sent.fetch_add(written as u64, Ordering::Relaxed);
        self.meter.peer.add_sent(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.half).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.half).poll_shutdown(cx)
    }
}
