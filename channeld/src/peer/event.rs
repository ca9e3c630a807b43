//! What this room tells the driver, and what the driver holds of a connection.

use std::fmt;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::outbound::Outbox;
pub use crate::node::input::SessionNumber;
use crate::units::NodeId;
use crate::wire::{DecodeError, FeatureError, Features, Message};

/// Who called whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The peer called us.
    Inbound,
    /// We called the peer.
    Outbound,
}

/// What happened with a peer. Of one session: `Connected` first, then `Messages` in the order of the wire, `Disconnected`
/// last; each session that was told as connected is told as disconnected.
#[derive(Debug)]
pub enum PeerEvent {
    /// `init` is exchanged, and its features and chains are acceptable.
    Connected {
        /// For answering.
        session: SessionHandle,
        /// Who.
        node_id: NodeId,
        /// What it set in `init`.
        features: Features,
        /// Who called whom.
        direction: Direction,
        /// Where it was reached, or where it came from, as text.
        address: String,
    },
    /// Messages other than `init`, `ping`, `pong` and unknown odd ones.
    Messages {
        /// Of which session.
        session: SessionNumber,
        /// Of whom.
        node_id: NodeId,
        /// In order; at least one.
        messages: Vec<Message>,
        /// To be dropped when they are handled: until then the peer has that much less to send.
        credit: Credit,
    },
    /// The session is over.
    Disconnected {
        /// Which.
        session: SessionNumber,
        /// With whom.
        node_id: NodeId,
        /// Why.
        reason: DisconnectReason,
    },
    /// A peer that was to be called cannot be reached. Told once for each call of `connect`; one that is to be kept up is
    /// tried again all the same.
    ConnectFailed {
        /// Whom.
        node_id: NodeId,
        /// Why, in words.
        reason: String,
    },
}

/// Where events go: the driver's mailbox. Called from the runtime's threads; must not block.
pub trait EventSink: Send + Sync + 'static {
    /// Takes an event. Order is kept for each session.
    fn push(&self, event: PeerEvent);
}

/// The right to have sent so many bytes that are not handled yet; given back when dropped.
#[derive(Debug)]
pub struct Credit {
    _permit: OwnedSemaphorePermit,
}

impl Credit {
    pub(super) const fn new(permit: OwnedSemaphorePermit) -> Credit {
        Credit { _permit: permit }
    }

    /// For tests of whoever holds credits.
    #[cfg(test)]
    pub(crate) const fn for_tests(permit: OwnedSemaphorePermit) -> Credit {
        Credit { _permit: permit }
    }
}

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DisconnectReason {
    /// The peer closed the connection, or the network did.
    #[error("the connection was closed")]
    Closed,
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Io(String),
    /// We closed it.
    #[error("closed by us")]
    Local,
    /// The peer came back on another connection.
    #[error("replaced by a newer connection")]
    Replaced,
    /// Bytes that are no message.
    #[error("not a message: {0}")]
    Decode(#[from] DecodeError),
    /// A frame that was changed on its way.
    #[error("a frame failed its authentication")]
    Noise,
    /// An `init` after the first, or another message before it.
    #[error("init at the wrong time")]
    UnexpectedInit,
    /// Features that do not go with ours.
    #[error("{0}")]
    Features(#[from] FeatureError),
    /// The peer is for other chains only.
    #[error("no chain in common")]
    NoCommonChain,
    /// More pings than anybody needs.
    #[error("too many pings")]
    PingFlood,
    /// No answer to a ping, a message begun and not ended, or no `init`, in time.
    #[error("the peer is silent")]
    Timeout,
    /// The peer does not read, and what is to be sent piles up.
    #[error("the peer does not read what is sent")]
    OutboundQueueFull,
}

/// A session for whoever sends on it. Cheap to clone; to send never blocks and never fails: what belongs to a session that
/// is over is dropped.
#[derive(Clone)]
pub struct SessionHandle {
    number: SessionNumber,
    outbox: Arc<Outbox>,
}

impl SessionHandle {
    pub(super) fn new(number: SessionNumber, outbox: Arc<Outbox>) -> SessionHandle {
        SessionHandle { number, outbox }
    }

    /// The session's number.
    pub const fn number(&self) -> SessionNumber {
        self.number
    }

    /// Sends messages in order, after all that was sent before. They leave in one write with what else waits.
    pub fn send(&self, messages: &[Message]) {
        self.outbox.push(messages);
    }

    /// The same for messages that are bytes already, each with its type first.
    pub fn send_encoded(&self, messages: &[Vec<u8>]) {
        self.outbox.push_encoded(messages);
    }

    /// How many bytes wait for the peer to read them.
    pub fn unsent_bytes(&self) -> usize {
        self.outbox.waiting_bytes()
    }

    /// Ends the session when what was sent so far has left, or a few seconds later.
    pub fn disconnect(&self) {
        self.outbox.close(DisconnectReason::Local);
    }
}

impl fmt::Debug for SessionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionHandle({})", self.number.0)
    }
}
