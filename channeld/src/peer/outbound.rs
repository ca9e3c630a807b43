//! What is to be sent on a session: encoded by whoever sends, encrypted and written by the session's own task.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::event::DisconnectReason;
use crate::wire::codec::Field;
use crate::wire::{MAX_MESSAGE_LENGTH, Message};

/// The most bytes that may wait for a peer to read them; above, the session ends.
const MAX_WAITING: usize = 8 * 1024 * 1024;

/// Messages that wait, each behind its `u16` length.
pub struct Outbox {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Default)]
struct Waiting {
    frames: Vec<u8>,
    closing: Option<DisconnectReason>,
}

impl Outbox {
    /// Nothing waits.
    pub fn new() -> Outbox {
        Outbox { waiting: Mutex::new(Waiting::default()), wake: Notify::new() }
    }

    /// Adds messages, unless the session is ending. Never blocks but for the copy of a peer's bytes.
    pub fn push(&self, messages: &[Message]) {
        let mut waiting = self.lock();
        if waiting.closing.is_some() {
            return;
        }
        for message in messages {
            append(message, &mut waiting.frames);
        }
        if waiting.frames.len() > MAX_WAITING {
            waiting.frames = Vec::new();
            waiting.closing = Some(DisconnectReason::OutboundQueueFull);
        }
        drop(waiting);
        self.wake.notify_one();
    }

    /// Takes no more; the first reason stays.
    pub fn close(&self, reason: DisconnectReason) {
        self.lock().closing.get_or_insert(reason);
        self.wake.notify_one();
    }

    /// Waits until something was added or the session is to end.
    pub async fn ready(&self) {
        self.wake.notified().await;
    }

    /// Exchanges all that waits for the empty `frames`, and says whether the session is to end then.
    pub fn take(&self, frames: &mut Vec<u8>) -> Option<DisconnectReason> {
        let mut waiting = self.lock();
        std::mem::swap(&mut waiting.frames, frames);
        waiting.closing.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
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
