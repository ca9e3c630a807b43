//! What is to be sent on a session: encoded by whoever sends, encrypted and written by the session's own task.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::{Instant, interval, timeout};

use super::carrier::Sink;
use super::event::DisconnectReason;
use super::inbound::Liveness;
use super::limit::Timeouts;
use super::noise::Encryptor;
use crate::wire::codec::Field;
use crate::wire::{MAX_MESSAGE_LENGTH, Message, Ping};

/// The most bytes that may wait for a peer to read them; above, the session ends.
const MAX_WAITING: usize = 8 * 1024 * 1024;
/// So much is written at a time.
const MAX_WRITE: usize = 128 * 1024;

/// Messages that wait, each behind its `u16` length.
pub struct Outbox {
    waiting: Mutex<Waiting>,
    wake: Notify,
    killed: Notify,
    probe: AtomicBool,
}

#[derive(Default)]
struct Waiting {
    frames: Vec<u8>,
    closing: Option<DisconnectReason>,
}

impl Outbox {
    /// Nothing waits.
    pub fn new() -> Outbox {
        Outbox {
            waiting: Mutex::new(Waiting::default()),
            wake: Notify::new(),
            killed: Notify::new(),
            probe: AtomicBool::new(false),
        }
    }

    /// Adds messages, unless the session is ending. Never blocks but for the copy of a peer's bytes.
    pub fn push(&self, messages: &[Message]) {
        self.push_all(|frames| messages.iter().for_each(|message| append(message, frames)));
    }

    /// The same for messages that are bytes already.
    pub fn push_encoded(&self, messages: &[Vec<u8>]) {
        self.push_all(|frames| messages.iter().for_each(|bytes| append_encoded(bytes, frames)));
    }

    /// How many bytes wait to be taken.
    pub fn waiting_bytes(&self) -> usize {
        self.lock().frames.len()
    }

    fn push_all(&self, append_all: impl FnOnce(&mut Vec<u8>)) {
        let mut waiting = self.lock();
        if waiting.closing.is_some() {
            return;
        }
        append_all(&mut waiting.frames);
        let full = waiting.frames.len() > MAX_WAITING;
        drop(waiting);
        if full {
            self.kill(DisconnectReason::OutboundQueueFull);
        } else {
            self.wake.notify_one();
        }
    }

    /// Takes no more, and ends the session when all has left; the first reason stays.
    pub fn close(&self, reason: DisconnectReason) {
        self.lock().closing.get_or_insert(reason);
        self.wake.notify_one();
    }

    /// Takes no more, and ends the session at once.
    pub fn kill(&self, reason: DisconnectReason) {
        let mut waiting = self.lock();
        waiting.frames = Vec::new();
        waiting.closing.get_or_insert(reason);
        drop(waiting);
        self.killed.notify_one();
    }

    /// Waits until the session is to end at once; gives the reason.
    pub async fn killed(&self) -> DisconnectReason {
        self.killed.notified().await;
        self.lock().closing.clone().unwrap_or(DisconnectReason::Local)
    }

    /// Whether the session is ending.
    pub fn is_closing(&self) -> bool {
        self.lock().closing.is_some()
    }

    /// Has the peer pinged, and the session ended if no answer comes.
    pub fn probe(&self) {
        self.probe.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Whether a probe was asked for since the last call.
    pub fn take_probe(&self) -> bool {
        self.probe.swap(false, Ordering::AcqRel)
    }

    /// Exchanges all that waits for the empty `frames`, and says whether the session is to end then.
    fn take(&self, frames: &mut Vec<u8>) -> Option<DisconnectReason> {
        let mut waiting = self.lock();
        std::mem::swap(&mut waiting.frames, frames);
        waiting.closing.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Whoever panicked while it appended left at worst a message cut short; the process ends with that panic.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Appends a message behind its length.
///
/// # Panics
/// If the message is longer than any may be: a bug of ours.
fn append(message: &Message, frames: &mut Vec<u8>) {
    let at = frames.len();
    0u16.write(frames);
    message.encode_into(frames);
    let length = frames.len() - at - 2;
    assert!(length <= MAX_MESSAGE_LENGTH, "message {} is too long for the wire", message.message_type());
    frames[at..at + 2].copy_from_slice(&(length as u16).to_be_bytes());
}

/// Appends the bytes of a message behind their length.
///
/// # Panics
/// If there are more than any message may have: a bug of ours.
fn append_encoded(bytes: &[u8], frames: &mut Vec<u8>) {
    let length = u16::try_from(bytes.len()).expect("what was a message is not too long for the wire");
    length.write(frames);
    frames.extend_from_slice(bytes);
}

/// Encrypts and writes what waits, many messages in one write, and pings a silent peer; ends with the session.
pub async fn send(
    outbox: &Outbox,
    sink: &mut Sink,
    encryptor: &mut Encryptor,
    liveness: &Liveness,
    timeouts: &Timeouts,
) -> DisconnectReason {
    let (mut frames, mut sealed) = (Vec::new(), Vec::new());
    let mut keepalive = Keepalive::default();
    let mut ticker = interval(timeouts.probe.min(timeouts.ping / 2));
    loop {
        let closing = outbox.take(&mut frames);
        if let Err(reason) = write(&frames, &mut sealed, sink, encryptor, timeouts).await {
            return reason;
        }
        if let Some(reason) = closing {
            sink.finish().await;
            return reason;
        }
        frames.clear();
        frames.shrink_to(MAX_WRITE);
        tokio::select! {
            () = outbox.wake.notified() => {
                if outbox.take_probe() {
                    keepalive.probed.get_or_insert_with(Instant::now);
                    outbox.push(&[ping()]);
                }
            }
            _ = ticker.tick() => {
                if keepalive.is_dead(liveness, timeouts) {
                    return DisconnectReason::Timeout;
                }
                if keepalive.is_ping_due(liveness, timeouts) {
                    outbox.push(&[ping()]);
                }
            }
        }
    }
}

/// Encrypts `frames`, message by message, and writes them a good many at a time.
async fn write(
    mut frames: &[u8],
    sealed: &mut Vec<u8>,
    sink: &mut Sink,
    encryptor: &mut Encryptor,
    timeouts: &Timeouts,
) -> Result<(), DisconnectReason> {
    while !frames.is_empty() {
        sealed.clear();
        while let Some((length, rest)) = frames.split_first_chunk::<2>()
            && sealed.len() < MAX_WRITE
        {
            let (message, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)));
            encryptor.seal(message, sealed);
            frames = rest;
        }
        match timeout(timeouts.write, sink.write_all(sealed)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(DisconnectReason::Io(error.to_string())),
            Err(_) => return Err(DisconnectReason::Timeout),
        }
    }
    Ok(())
}

/// We ask for one byte, as CLN does.
fn ping() -> Message {
    Ping { num_pong_bytes: 1, ignored: Vec::new() }.into()
}

#[derive(Default)]
struct Keepalive {
    pinged: Option<Instant>,
    probed: Option<Instant>,
}

impl Keepalive {
    fn is_dead(&mut self, liveness: &Liveness, timeouts: &Timeouts) -> bool {
        let silence = liveness.silence();
        if self.probed.is_some_and(|probed| silence < probed.elapsed()) {
            self.probed = None;
        }
        silence >= timeouts.silence || self.probed.is_some_and(|probed| probed.elapsed() >= timeouts.probe)
    }

    /// One ping for each silence.
    fn is_ping_due(&mut self, liveness: &Liveness, timeouts: &Timeouts) -> bool {
        let silence = liveness.silence();
        if silence < timeouts.ping {
            self.pinged = None;
            return false;
        }
        let due = self.pinged.is_none();
        self.pinged.get_or_insert_with(Instant::now);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Pong;

    #[test]
    fn what_nobody_reads_ends_the_session() {
        let outbox = Outbox::new();
        let longest = Message::from(Pong { ignored: vec![0; 65_531] });
        for _ in 0..MAX_WAITING / 65_537 {
            outbox.push(std::slice::from_ref(&longest));
        }
        assert!(!outbox.is_closing());
        outbox.push(&[longest.clone(), longest]);
        let mut frames = Vec::new();
        assert_eq!(outbox.take(&mut frames), Some(DisconnectReason::OutboundQueueFull));
        assert!(frames.is_empty());
    }

    #[test]
    fn the_first_reason_stays_and_nothing_is_added_behind_it() {
        let outbox = Outbox::new();
        outbox.push(&[ping()]);
        outbox.close(DisconnectReason::Local);
        outbox.close(DisconnectReason::Replaced);
        outbox.push(&[ping()]);
        let mut frames = Vec::new();
        assert_eq!(outbox.take(&mut frames), Some(DisconnectReason::Local));
        assert_eq!(frames, [0, 6, 0, 18, 0, 1, 0, 0]);
    }
}
