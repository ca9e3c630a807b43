//! What a peer sends: frames cut from the stream, decrypted in place, decoded, and passed up in batches against credit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::carrier::Source;
use super::event::{Credit, DisconnectReason, EventSink, PeerEvent, SessionNumber};
use super::limit::{PingLimit, Timeouts};
use super::noise::{Decryptor, LENGTH_HEADER, TAG};
use super::outbound::Outbox;
use crate::units::NodeId;
use crate::wire::{Init, MAX_MESSAGE_LENGTH, Message};

/// Room for the longest frame; several short ones are read at a time.
const BUFFER: usize = LENGTH_HEADER + MAX_MESSAGE_LENGTH + TAG;

/// When a peer was heard last. A peer that we do not listen to is not silent.
pub struct Liveness {
    start: Instant,
    heard: AtomicU64,
}

impl Liveness {
    const NOT_LISTENING: u64 = u64::MAX;

    /// Heard now.
    pub fn new() -> Liveness {
        Liveness { start: Instant::now(), heard: AtomicU64::new(0) }
    }

    /// Heard now, or listened to again.
    fn touch(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(Liveness::NOT_LISTENING - 1);
        self.heard.store(now, Ordering::Relaxed);
    }

    /// Until the next `touch` the peer may say what it wants.
    fn stop_listening(&self) {
        self.heard.store(Liveness::NOT_LISTENING, Ordering::Relaxed);
    }

    /// For how long the peer has said nothing.
    pub fn silence(&self) -> Duration {
        match self.heard.load(Ordering::Relaxed) {
            Liveness::NOT_LISTENING => Duration::ZERO,
            heard => self.start.elapsed().saturating_sub(Duration::from_millis(heard)),
        }
    }
}

/// Cuts a stream into frames.
pub struct Frames {
    source: Source,
    decryptor: Decryptor,
    buffer: Box<[u8]>,
    /// What is read and not used yet: from here ...
    start: usize,
    /// ... to here.
    end: usize,
    /// The length of the message that comes next, once it is known.
    length: Option<usize>,
    /// When the message that is not complete was begun.
    begun: Option<Instant>,
}

impl Frames {
    /// Of a stream behind the handshake.
    pub fn new(source: Source, decryptor: Decryptor) -> Frames {
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Frames { source, decryptor, buffer, start: 0, end: 0, length: None, begun: None }
    }

    /// The next message that is there in whole, if one is.
    fn next(&mut self) -> Result<Option<&[u8]>, DisconnectReason> {
        let length = match self.length {
            Some(length) => length,
            None if self.end - self.start < LENGTH_HEADER => return Ok(None),
            None => {
                let header = &mut self.buffer[self.start..self.start + LENGTH_HEADER];
                let length = self.decryptor.open_length(header).map_err(|_| DisconnectReason::Noise)?;
                self.start += LENGTH_HEADER;
                *self.length.insert(usize::from(length))
            }
        };
        if self.end - self.start < length + TAG {
            return Ok(None);
        }
        let sealed = &mut self.buffer[self.start..self.start + length + TAG];
        let message = self.decryptor.open(sealed).map_err(|_| DisconnectReason::Noise)?;
        self.start += length + TAG;
        (self.length, self.begun) = (None, None);
        Ok(Some(message))
    }

    /// Waits for more of the stream. A message that was begun must be complete in time.
    async fn fill(&mut self, timeouts: &Timeouts) -> Result<(), DisconnectReason> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let reading = self.source.read(&mut self.buffer[self.end..]);
        let read = if self.length.is_some() || self.end > 0 {
            let begun = *self.begun.get_or_insert_with(Instant::now);
            timeout_at(begun + timeouts.message, reading).await.map_err(|_| DisconnectReason::Timeout)?
        } else {
            reading.await
        };
        match read {
            Ok(0) => Err(DisconnectReason::Closed),
            Ok(read) => {
                self.end += read;
                Ok(())
            }
            Err(error) => Err(DisconnectReason::Io(error.to_string())),
        }
    }

    /// Reads to the end and forgets it: a connection that is closed with something unread takes what was written down
    /// with it.
    pub async fn drain(&mut self) {
        while let Ok(1..) = self.source.read(&mut self.buffer).await {}
    }

    /// The peer's `init`: its first message, but for unknown odd ones, which CLN sends before.
    pub async fn receive_init(&mut self, timeouts: &Timeouts) -> Result<Init, DisconnectReason> {
        let deadline = Instant::now() + timeouts.init;
        loop {
            while let Some(bytes) = self.next()? {
                match Message::decode(bytes)? {
                    Message::Init(init) => return Ok(init),
                    Message::Unknown { .. } => {}
                    _ => return Err(DisconnectReason::UnexpectedInit),
                }
            }
            timeout_at(deadline, self.fill(timeouts)).await.map_err(|_| DisconnectReason::Timeout)??;
        }
    }
}

/// Where a session's messages go, and what bounds them.
pub struct Inbound {
    /// Of which session.
    pub session: SessionNumber,
    /// Of whom.
    pub node_id: NodeId,
    /// The driver's mailbox.
    pub sink: Arc<dyn EventSink>,
    /// The bytes that the node may still be given.
    pub credit: Arc<Semaphore>,
    /// For answers to pings.
    pub outbox: Arc<Outbox>,
    /// The pings that the peer may still send.
    pub pings: PingLimit,
}

impl Inbound {
    /// Passes up what comes in, until the session ends.
    pub async fn receive(
        &mut self,
        frames: &mut Frames,
        liveness: &Liveness,
        timeouts: &Timeouts,
    ) -> Result<(), DisconnectReason> {
        loop {
            let (mut messages, mut bytes) = (Vec::new(), 0);
            let mut ended = Ok(());
            loop {
                match frames.next().and_then(|frame| frame.map(|frame| self.read(frame)).transpose()) {
                    Ok(None) => break,
                    Ok(Some((length, message))) => {
                        bytes += length;
                        messages.extend(message);
                    }
                    // What came before a mistake is still good.
                    Err(reason) => {
                        ended = Err(reason);
                        break;
                    }
                }
            }
            if bytes > 0 {
                liveness.touch();
            }
            if !messages.is_empty() {
                liveness.stop_listening();
                self.pass_up(messages, bytes).await?;
                liveness.touch();
            }
            ended?;
            frames.fill(timeouts).await?;
        }
    }

    /// Decodes a message; gives its length, and itself if it is not this room's business.
    fn read(&mut self, frame: &[u8]) -> Result<(usize, Option<Message>), DisconnectReason> {
        let message = match Message::decode(frame)? {
            Message::Init(_) => return Err(DisconnectReason::UnexpectedInit),
            Message::Ping(ping) => {
                if let Some(pong) = ping.pong() {
                    if !self.pings.take() {
                        return Err(DisconnectReason::PingFlood);
                    }
                    self.outbox.push(&[pong.into()]);
                }
                None
            }
            // That it came is all that matters.
            Message::Pong(_) | Message::Unknown { .. } => None,
            message => Some(message),
        };
        Ok((frame.len(), message))
    }

    async fn pass_up(&self, messages: Vec<Message>, bytes: usize) -> Result<(), DisconnectReason> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let permit = self.credit.clone().acquire_many_owned(bytes).await.map_err(|_| DisconnectReason::Local)?;
        self.sink.push(PeerEvent::Messages {
            session: self.session,
            node_id: self.node_id,
            messages,
            credit: Credit::new(permit),
        });
        Ok(())
    }
}
