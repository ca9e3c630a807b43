//! Sealing: what is due is signed, once for each channel and turn. Streams hand over what they have collected just before,
//! so that a batch grows for as long as nothing can be signed.

use super::Node;
use crate::channel::{self, Command};
use crate::commitment::CreditWindow;
use crate::units::{ChannelId, SessionId};

impl Node {
    /// Signs one `commitment_signed` for every channel that has something due and nothing unanswered.
    pub(super) fn sign_due(&mut self) {
        self.send_batches();
        for id in std::mem::take(&mut self.live.to_seal) {
            self.hand_over_streams(id);
            if self.state.channels.get(&id).is_some_and(|entry| entry.channel.seal_due()) {
                self.drive_quietly(id, channel::Input::Seal);
            }
            // What sealing itself touched is not looked at again in this turn: there is at most one signature.
            self.live.to_seal.remove(&id);
        }
    }

    /// Lets the channel's streams put what they hold into one transfer each, where a commitment could be signed now.
    fn hand_over_streams(&mut self, id: ChannelId) {
        let Some(entry) = self.state.channels.get(&id) else { return };
        let Some(commitments) = entry.channel.commitments() else { return };
        if !entry.channel.is_usable() || commitments.awaiting_revocation {
            return;
        }
        let is_open = |session: &SessionId| self.state.streams.get(session).is_some_and(|it| !it.is_settled());
        let sessions: Vec<SessionId> = self.state.index.streams_on(id).filter(is_open).collect();
        for session in sessions {
            if self.is_batch_due(&session)
                && let Some(command) = self.next_transfer(id, session)
            {
                self.drive_quietly(id, channel::Input::Command(command));
            }
        }
    }

    pub(super) fn is_batch_due(&self, session: &SessionId) -> bool {
        let due = self.live.stream_clients.get(session).and_then(|client| client.batch_due);
        due.is_none_or(|due| self.moment.now >= due)
    }

    fn next_transfer(&mut self, id: ChannelId, session: SessionId) -> Option<Command> {
        let channel = &self.state.channels.get(&id)?.channel;
        let log = &channel.commitments()?.outgoing_transfers;
        let handed = log.proposed_mark(&session)?;
        let room = remaining(log.sessions.get(&session)?.window, log.uncommitted(&session));
        let limit = room.amount.min(channel.available_for_transfer());
        let stream = self.state.streams.get(&session)?;
        let batch = stream.batch(handed.next_sequence, limit, room.count)?;
        if let Some(client) = self.live.stream_clients.get_mut(&session) {
            client.batch_due = None;
        }
        Some(Command::Transfer {
            session,
            first_sequence: batch.first_sequence,
            last_sequence: batch.last_sequence,
            amount: batch.amount,
            payments: Some(batch.payments),
        })
    }
}

/// What a window still allows.
pub(super) fn remaining(window: CreditWindow, used: CreditWindow) -> CreditWindow {
    CreditWindow { amount: window.amount.saturating_sub(used.amount), count: window.count.saturating_sub(used.count) }
}
