//! Peers that do not answer: whatever one of them owes is waited for a bounded time (BOLT 2 leaves the time to us; PEERS.md
//! A3 has that of others). After a disconnect both sides start again from what is signed; a mutual close that never comes
//! to an end is made by force, and an opening is given up.

use std::collections::BTreeMap;

use super::Node;
use crate::channel::{self, AbandonReason, Awaited, Failure};
use crate::units::{ChannelId, NodeId, UnixTime};

/// How long an answer may take, in microseconds.
const ANSWER_MICROS: u64 = 60_000_000;
/// How long a peer that we open to may take for each of its messages.
const OPENING_MICROS: u64 = 120_000_000;
/// How long a peer that opens to us may take: its user may have to sign the funding transaction by hand.
const ACCEPTING_MICROS: u64 = 600_000_000;
/// How long the two sides may offer closing fees that do not meet.
const DISAGREEMENT_MICROS: u64 = 600_000_000;
/// After so many connections on which a mutual close went unanswered it is made by force.
const SILENT_CLOSES: u32 = 3;

impl Node {
    /// Looks who is late.
    pub(super) fn end_silence(&mut self) {
        let now = self.moment.now;
        let mut waiting = BTreeMap::new();
        let mut silent: Vec<(ChannelId, NodeId, Awaited)> = Vec::new();
        for (id, entry) in &self.state.channels {
            let Some(awaited) = entry.channel.awaited().filter(|awaited| self.is_owed(id, awaited)) else { continue };
            let known = self.live.unanswered.get(id).filter(|(before, _)| *before == awaited);
            let since = known.map_or(now, |(_, since)| *since);
            if now.micros_since(since) > ANSWER_MICROS {
                silent.push((*id, entry.peer, awaited));
            }
            waiting.insert(*id, (awaited, since));
        }
        self.live.unanswered = waiting;
        for (id, peer, awaited) in silent {
            tracing::warn!(channel = %id, %peer, ?awaited, "the peer does not answer");
            self.live.unanswered.remove(&id);
            if awaited.is_of_a_close() && self.is_silent_again(id) {
                self.drive_quietly(id, channel::Input::Fail(Failure::NoAnswer));
            }
            self.disconnect(peer);
        }
        self.give_up_late_openings(now);
    }

    /// A peer that has said where it stands, and waits for us to close, owes nothing.
    fn is_owed(&self, id: &ChannelId, awaited: &Awaited) -> bool {
        *awaited != Awaited::Reestablish || !self.live.greeted.contains(id)
    }

    fn is_silent_again(&mut self, id: ChannelId) -> bool {
        let count = self.live.silent_closes.entry(id).or_default();
        *count += 1;
        *count >= SILENT_CLOSES
    }

    /// BOLT 2: a peer that sends no satisfying `fee_range` after a reasonable time; each connection brings a new try.
    pub(super) fn disagrees_for_long(&mut self, id: ChannelId) -> bool {
        let now = self.moment.now;
        let since = *self.live.disagreed.entry(id).or_insert(now);
        now.micros_since(since) > DISAGREEMENT_MICROS
    }

    fn give_up_late_openings(&mut self, now: UnixTime) {
        let is_late = |opening: &super::live::Opening| {
            let most = if opening.request.is_some() { OPENING_MICROS } else { ACCEPTING_MICROS };
            now.micros_since(opening.since) > most
        };
        let late: Vec<_> = self.live.openings.iter().filter(|(_, it)| is_late(it)).map(|(key, _)| *key).collect();
        for key in late {
            self.drive_opening(key, channel::Input::Command(channel::Command::Abandon(AbandonReason::NoAnswer)));
        }
    }

    /// A session is over: what was waited for on it is waited for anew on the next.
    pub(super) fn forget_silence(&mut self, peer: NodeId) {
        for id in self.channels_of(peer) {
            self.live.unanswered.remove(&id);
            self.live.greeted.remove(&id);
        }
    }
}
