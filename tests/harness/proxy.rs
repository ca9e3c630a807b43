//! A wire between two peers that breaks where a test wants it: after so many bytes, counted both ways.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

const UNLIMITED: u64 = u64::MAX;

/// A port that leads to another one. It ends with this value.
pub struct Proxy {
    address: SocketAddr,
    wire: Arc<Wire>,
    task: JoinHandle<()>,
}

struct Wire {
    target: SocketAddr,
    /// Bytes until the next break.
    left: AtomicU64,
    breaks: AtomicU64,
    broken: Notify,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// Leads to `target`, unbroken.
    pub async fn start(target: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (left, breaks) = (AtomicU64::new(UNLIMITED), AtomicU64::new(0));
        let wire = Arc::new(Wire { target, left, breaks, broken: Notify::new() });
        let task = tokio::spawn(serve(listener, wire.clone()));
        Proxy { address, wire, task }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks the connections there are after so many more bytes, once.
    pub fn break_after(&self, bytes: u64) {
        self.wire.left.store(bytes, Ordering::SeqCst);
    }

    /// How often it broke.
    pub fn breaks(&self) -> u64 {
        self.wire.breaks.load(Ordering::SeqCst)
    }
}

async fn serve(listener: TcpListener, wire: Arc<Wire>) {
    while let Ok((near, _)) = listener.accept().await {
        let wire = wire.clone();
        tokio::spawn(async move {
            let Ok(far) = TcpStream::connect(wire.target).await else { return };
            let ((mut near_in, mut near_out), (mut far_in, mut far_out)) = (near.into_split(), far.into_split());
            tokio::select! {
                () = carry(&mut near_in, &mut far_out, &wire) => {}
                () = carry(&mut far_in, &mut near_out, &wire) => {}
                () = wire.broken.notified() => {}
            }
        });
    }
}

async fn carry(from: &mut tokio::net::tcp::OwnedReadHalf, to: &mut tokio::net::tcp::OwnedWriteHalf, wire: &Wire) {
    let mut buffer = [0; 4_096];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let left = wire.left.load(Ordering::SeqCst);
        let passes = usize::try_from(left).unwrap_or(usize::MAX).min(read);
        if to.write_all(&buffer[..passes]).await.is_err() {
            return;
        }
        if left == UNLIMITED {
            continue;
        }
        if passes < read {
            wire.left.store(UNLIMITED, Ordering::SeqCst);
            wire.breaks.fetch_add(1, Ordering::SeqCst);
            wire.broken.notify_waiters();
            return;
        }
        wire.left.fetch_sub(passes as u64, Ordering::SeqCst);
    }
}
