//! One connection from its handshake to its end (BOLT 1, BOLT 8): one task, which reads and writes at the same time.

use std::io;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::PeerConfig;
use super::carrier::Carrier;
use super::event::{Direction, DisconnectReason, EventSink, PeerEvent, SessionHandle};
use super::inbound::{Frames, Inbound, Liveness};
use super::limit::{Gate, Limits, PingLimit, Timeouts};
use super::noise::{ACT_ONE, ACT_THREE, ACT_TWO, HandshakeError, Initiator, Responder, Transport};
use super::outbound::{Outbox, send};
use super::registry::{Phase, Registry, Ticket, gone};
use crate::keys::Signer;
use crate::units::{ChannelId, NodeId};
use crate::wire::{Features, Init, Warning};

/// What all sessions share.
pub struct Context {
    pub(super) config: PeerConfig,
    pub(super) limits: Limits,
    pub(super) timeouts: Timeouts,
    pub(super) signer: Arc<Signer>,
    pub(super) sink: Arc<dyn EventSink>,
    pub(super) registry: Registry,
    pub(super) gate: Gate,
}

/// Why a connection never became a session.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The network failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It took too long.
    #[error("no answer in time")]
    Timeout,
    /// The other end is not who it should be, or speaks something else.
    #[error("the handshake failed: {0}")]
    Handshake(#[from] HandshakeError),
}

/// Answers a handshake; gives who called.
pub async fn answer(context: &Context, carrier: &mut Carrier) -> Result<(NodeId, Transport), SetupError> {
    let signer = &context.signer;
    let acts = async {
        let mut one = [0; ACT_ONE];
        carrier.source.read_exact(&mut one).await?;
        let ecdh = |point: &_| signer.ecdh_node(point);
        let (responder, two) = Responder::start(&signer.node_id(), &one, entropy()?, ecdh)?;
        carrier.sink.write_all(&two).await?;
        let mut three = [0; ACT_THREE];
        carrier.source.read_exact(&mut three).await?;
        let (node_id, transport) = responder.finish(&three)?;
        Ok((NodeId(node_id), transport))
    };
    timeout(context.timeouts.handshake, acts).await.map_err(|_| SetupError::Timeout)?
}

/// Makes a handshake with `node_id` and nobody else.
pub async fn call(context: &Context, carrier: &mut Carrier, node_id: NodeId) -> Result<Transport, SetupError> {
    let signer = &context.signer;
    let acts = async {
        let (initiator, one) = Initiator::start(signer.node_id(), &node_id.0, entropy()?)?;
        carrier.sink.write_all(&one).await?;
        let mut two = [0; ACT_TWO];
        carrier.source.read_exact(&mut two).await?;
        let (three, transport) = initiator.finish(&two, |point| signer.ecdh_node(point))?;
        carrier.sink.write_all(&three).await?;
        Ok(transport)
    };
    timeout(context.timeouts.handshake, acts).await.map_err(|_| SetupError::Timeout)?
}

fn entropy() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

/// Everything of one session.
pub struct Session {
    /// What it shares with all.
    pub context: Arc<Context>,
    /// Who is at the other end.
    pub node_id: NodeId,
    /// Who called.
    pub direction: Direction,
    /// Its place among all.
    pub ticket: Ticket,
    /// What is to be sent.
    pub outbox: Arc<Outbox>,
}

impl Session {
    /// Takes a place among all sessions, if it is to be had.
    pub fn admit(context: &Arc<Context>, node_id: NodeId, direction: Direction) -> Option<Session> {
        let outbox = Arc::new(Outbox::new());
        let ticket = context.registry.admit(node_id, direction, &outbox, context.limits.inbound)?;
        Some(Session { context: context.clone(), node_id, direction, ticket, outbox })
    }

    /// Runs until one side ends it.
    pub async fn run(mut self, carrier: Carrier, transport: Transport) {
        if let Some(before) = self.ticket.before.take() {
            gone(before).await;
        }
        let number = self.ticket.number;
        tracing::debug!(session = number.0, peer = %self.node_id, address = carrier.address, "session begins");
        let (reason, rest) = self.exchange(carrier, transport).await;
        tracing::debug!(session = number.0, peer = %self.node_id, %reason, "session ends");
        let was_connected = *self.ticket.phase.borrow() == Phase::Connected;
        // Whoever waits for this session to end must not take it for alive when the node hears of its end.
        self.ticket.phase.send_replace(Phase::Over(reason.clone()));
        if was_connected {
            let event = PeerEvent::Disconnected { session: number, node_id: self.node_id, reason };
            self.context.sink.push(event);
        }
        let farewell = self.context.timeouts.farewell;
        drop(self);
        // The last word is said; the peer has a moment to hear it and to close, too.
        if let Some(mut rest) = rest {
            let _ = timeout(farewell, rest.drain()).await;
        }
    }

    async fn exchange(&self, carrier: Carrier, transport: Transport) -> (DisconnectReason, Option<Frames>) {
        let Carrier { source, mut sink, address } = carrier;
        let Transport { mut encryptor, decryptor } = transport;
        let timeouts = &self.context.timeouts;
        let liveness = Liveness::new();
        let config = &self.context.config;
        self.outbox.push(&[Init::new(config.features.clone(), config.chain_hash).into()]);
        let mut frames = Frames::new(source, decryptor);
        let outbound = send(&self.outbox, &mut sink, &mut encryptor, &liveness, timeouts);
        tokio::pin!(outbound);
        let (reason, sent) = tokio::select! {
            reason = self.receive(&mut frames, address, &liveness) => (reason, false),
            reason = &mut outbound => (reason, true),
            reason = self.outbox.killed() => return (reason, None),
        };
        if let Some(text) = farewell(&reason) {
            self.outbox.push(&[Warning::new(ChannelId::ALL, &text).into()]);
            self.outbox.close(reason.clone());
            if !sent {
                // The peer may not listen any more; then it does not hear why.
                let _ = timeout(timeouts.farewell, outbound).await;
            }
        } else if reason != DisconnectReason::Local {
            return (reason, None);
        }
        (reason, Some(frames))
    }

    async fn receive(&self, frames: &mut Frames, address: String, liveness: &Liveness) -> DisconnectReason {
        let timeouts = &self.context.timeouts;
        let features = match self.receive_init(frames, timeouts).await {
            Ok(features) => features,
            Err(reason) => return reason,
        };
        self.ticket.phase.send_replace(Phase::Connected);
        let session = SessionHandle::new(self.ticket.number, self.outbox.clone());
        let (node_id, direction) = (self.node_id, self.direction);
        self.context.sink.push(PeerEvent::Connected { session, node_id, features, direction, address });
        let mut inbound = Inbound {
            session: self.ticket.number,
            node_id,
            sink: self.context.sink.clone(),
            credit: Arc::new(Semaphore::new(self.context.limits.credit as usize)),
            outbox: self.outbox.clone(),
            pings: PingLimit::new(self.context.limits.pings),
        };
        match inbound.receive(frames, liveness, timeouts).await {
            Ok(()) => DisconnectReason::Closed,
            Err(reason) => reason,
        }
    }

    async fn receive_init(&self, frames: &mut Frames, timeouts: &Timeouts) -> Result<Features, DisconnectReason> {
        let init = frames.receive_init(timeouts).await?;
        let features = init.all_features();
        self.context.config.features.check_remote(&features)?;
        if !init.is_for(self.context.config.chain_hash) {
            return Err(DisconnectReason::NoCommonChain);
        }
        Ok(features)
    }
}

/// What a peer is told that broke a rule.
fn farewell(reason: &DisconnectReason) -> Option<String> {
    match reason {
        DisconnectReason::Decode(_)
        | DisconnectReason::UnexpectedInit
        | DisconnectReason::Features(_)
        | DisconnectReason::NoCommonChain
        | DisconnectReason::PingFlood => Some(reason.to_string()),
        DisconnectReason::Closed
        | DisconnectReason::Io(_)
        | DisconnectReason::Local
        | DisconnectReason::Replaced
        | DisconnectReason::Noise
        | DisconnectReason::Timeout
        | DisconnectReason::OutboundQueueFull => None,
    }
}
