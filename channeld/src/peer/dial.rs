//! Calling peers, once or for as long as they are to be kept connected.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use super::carrier::{Carrier, link};
use super::event::{Direction, PeerEvent};
use super::registry::{Phase, connected, gone};
use super::session::{Context, Session, SetupError, call};
use crate::units::NodeId;

/// Where a peer is: `host:port` for TCP, `grpc://host:port` for the carrier inside gRPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    /// Whether the bytes go inside a gRPC stream.
    pub grpc: bool,
    /// A name or an IP address; IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// A text that is no peer's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an address: expected HOST:PORT or grpc://HOST:PORT")]
pub struct ParsePeerAddressError;

impl FromStr for PeerAddress {
    type Err = ParsePeerAddressError;

    fn from_str(text: &str) -> Result<PeerAddress, ParsePeerAddressError> {
        let (grpc, rest) = match text.strip_prefix("grpc://") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (host, port) = rest.rsplit_once(':').ok_or(ParsePeerAddressError)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inner) if inner.parse::<std::net::Ipv6Addr>().is_ok() => inner,
            Some(_) => return Err(ParsePeerAddressError),
            None => host,
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if host.is_empty() || !(host.bytes().all(plain) || host.parse::<std::net::Ipv6Addr>().is_ok()) {
            return Err(ParsePeerAddressError);
        }
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(ParsePeerAddressError)?;
        Ok(PeerAddress { grpc, host: host.to_owned(), port })
    }
}

/// The longest pause after a session, however short it was, in first pauses.
const FLAP: u32 = 4;

/// Whom we call. One task each.
#[derive(Clone, Default)]
pub struct Dialler {
    calls: Arc<Mutex<BTreeMap<NodeId, Call>>>,
}

/// What is wanted of a peer's task.
struct Call {
    address: PeerAddress,
    keep: bool,
    /// Somebody waits to hear how it went.
    asked: bool,
    wake: Arc<Notify>,
    task: tokio::task::AbortHandle,
}

/// How a call went wrong.
struct Failure {
    text: String,
    /// The peer was there and closed at once.
    closed: bool,
}

impl From<SetupError> for Failure {
    fn from(error: SetupError) -> Failure {
        Failure { text: error.to_string(), closed: false }
    }
}

impl Dialler {
    /// Calls a peer now, whatever pause its task is in.
    pub fn connect(&self, context: &Arc<Context>, node_id: NodeId, address: PeerAddress, keep: bool) {
        let mut calls = self.lock();
        if let Some(call) = calls.get_mut(&node_id) {
            (call.address, call.asked) = (address, true);
            call.keep |= keep;
            call.wake.notify_one();
            return;
        }
        let wake = Arc::new(Notify::new());
        let task = tokio::spawn(run(self.clone(), context.clone(), node_id, wake.clone())).abort_handle();
        calls.insert(node_id, Call { address, keep, asked: true, wake, task });
    }

    /// Calls the peer no more.
    pub fn forget(&self, node_id: &NodeId) {
        if let Some(call) = self.lock().get_mut(node_id) {
            call.keep = false;
            call.wake.notify_one();
        }
    }

    /// Calls nobody any more.
    pub fn close(&self) {
        std::mem::take(&mut *self.lock()).values().for_each(|call| call.task.abort());
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Call>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The address to call, or `None` where nobody wants a call any more; then the task is forgotten.
    fn next(&self, node_id: &NodeId) -> Option<PeerAddress> {
        let mut calls = self.lock();
        let call = calls.get(node_id)?;
        if call.keep || call.asked {
            return Some(call.address.clone());
        }
        calls.remove(node_id);
        None
    }

    /// Whether somebody waited to hear how it went; now they do not.
    fn take_asked(&self, node_id: &NodeId) -> bool {
        self.lock().get_mut(node_id).is_some_and(|call| std::mem::take(&mut call.asked))
    }

    fn is_kept(&self, node_id: &NodeId) -> bool {
        self.lock().get(node_id).is_some_and(|call| call.keep)
    }
}

/// The task of one peer: calls it, waits while it is connected, calls it again.
async fn run(dialler: Dialler, context: Arc<Context>, node_id: NodeId, wake: Arc<Notify>) {
    let timeouts = context.timeouts;
    let (mut pause, mut first_try) = (timeouts.pause, Instant::now());
    while let Some(address) = dialler.next(&node_id) {
        let reached = match context.registry.find(&node_id) {
            Some(phase) => await_session(phase).await,
            None => attempt(&context, node_id, &address).await,
        };
        match reached {
            Ok(phase) => {
                dialler.take_asked(&node_id);
                if dialler.next(&node_id).is_none() {
                    return;
                }
                let since = Instant::now();
                gone(phase).await;
                // Who was there a moment ago is soon called again, but not without end.
                let lasted = since.elapsed() > timeouts.longest_pause;
                pause = if lasted { timeouts.pause } else { pause.min(timeouts.pause * FLAP) };
                first_try = Instant::now();
            }
            Err(failure) => {
                let again = failure.closed && first_try.elapsed() < timeouts.retry;
                if !again && dialler.take_asked(&node_id) {
                    context.sink.push(PeerEvent::ConnectFailed { node_id, reason: failure.text });
                }
                if !again && !dialler.is_kept(&node_id) {
                    continue;
                }
            }
        }
        tokio::select! {
            () = sleep(jitter(pause)) => pause = (pause * 2).min(timeouts.longest_pause),
            () = wake.notified() => (pause, first_try) = (timeouts.pause, Instant::now()),
        }
    }
}

/// Waits for a session that there is already, made by us or by the peer.
async fn await_session(phase: watch::Receiver<Phase>) -> Result<watch::Receiver<Phase>, Failure> {
    match connected(phase.clone()).await {
        Ok(()) => Ok(phase),
        Err(reason) => {
            gone(phase).await;
            Err(Failure { text: reason.to_string(), closed: true })
        }
    }
}

async fn attempt(
    context: &Arc<Context>,
    node_id: NodeId,
    address: &PeerAddress,
) -> Result<watch::Receiver<Phase>, Failure> {
    let limit = context.timeouts.connect;
    let carrier = async {
        if address.grpc {
            link::connect(&address.host, address.port, limit).await
        } else {
            Carrier::connect_tcp(&address.host, address.port).await
        }
    };
    let failed = |text: String| Failure { text, closed: false };
    let carrier = timeout(limit, carrier).await.map_err(|_| failed(SetupError::Timeout.to_string()))?;
    let mut carrier = carrier.map_err(|error| failed(error.to_string()))?;
    let transport = call(context, &mut carrier, node_id).await?;
    let Some(session) = Session::admit(context, node_id, Direction::Outbound) else {
        return Err(Failure { text: "the peer is connected already".to_owned(), closed: true });
    };
    let phase = session.ticket.phase.subscribe();
    tokio::spawn(session.run(carrier, transport));
    await_session(phase).await
}

/// The pause and up to half of it more, so that two nodes do not call each other in step for ever.
fn jitter(pause: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness the pause is merely even.
    let _ = getrandom::fill(&mut byte);
    pause + pause * u32::from(byte[0]) / 512
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let read = |text: &str| text.parse::<PeerAddress>().map(|it| (it.grpc, it.host, it.port));
        assert_eq!(read("127.0.0.1:9735"), Ok((false, "127.0.0.1".to_owned(), 9735)));
        assert_eq!(read("grpc://node.example:443"), Ok((true, "node.example".to_owned(), 443)));
        assert_eq!(read("[::1]:9735"), Ok((false, "::1".to_owned(), 9735)));
        for wrong in ["", "host", "host:", ":1", "host:0", "host:65536", "[x]:1", "http://host:1", "a b:1", "a/b:1"] {
            assert_eq!(read(wrong), Err(ParsePeerAddressError), "{wrong}");
        }
    }
}
