//! Netted transfers in flight and the sessions they belong to (TRANSFER.md).
//!
//! Sessions never refuse money: what a session does not allow is credited and booked as unsolicited.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::stage::{Side, Stage, View};
use crate::units::{Msat, SessionId};
use crate::wire::{Payments, TransferCloseReason};

/// So many sessions a direction may be open.
pub const MAX_OPEN_SESSIONS: usize = 16;

/// So many closed ones are remembered a direction, for a payer that resumes.
pub const MAX_CLOSED_SESSIONS: usize = 16;

/// So many transfers a direction may be on their way: no peer fills our memory with small ones.
pub const MAX_PENDING_TRANSFERS: usize = 256;

/// So many bytes of what single payments are may be told in all of them; what is told beyond is not kept.
const MAX_TOLD: usize = 2 << 20;

/// One `update_transfer`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Its number in its direction.
    pub id: u64,
    /// The session.
    pub session: SessionId,
    /// The sequence of its first payment.
    pub first_sequence: u64,
    /// The sequence of its last payment.
    pub last_sequence: u64,
    /// The sum of its payments.
    pub amount: Msat,
    /// The payments' own amounts and tags, as many as were told.
    pub payments: Option<Payments>,
}

impl Transfer {
    /// How many payments are in it.
    pub const fn count(&self) -> u64 {
        self.last_sequence.saturating_sub(self.first_sequence).saturating_add(1)
    }

    fn payments_agree(&self) -> bool {
        let Some(payments) = &self.payments else { return true };
        let (Some(told), Some(sum)) = (payments.count(), payments.sum()) else { return false };
        if told == self.count() { sum == self.amount } else { told < self.count() && sum <= self.amount }
    }
}

/// A transfer that is not irrevocable yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingTransfer {
    /// What was sent.
    pub transfer: Transfer,
    /// Whether its session allowed it.
    pub solicited: bool,
    /// How far it has travelled.
    pub stage: Stage,
}

/// What a commitment says of a session: cumulative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionMark {
    /// The sequence behind the last payment in it; 0 for none.
    pub next_sequence: u64,
    /// The sum of all payments before it.
    pub total: Msat,
}

impl SessionMark {
    /// The mark behind one transfer more.
    #[must_use]
    pub fn with(self, transfer: &Transfer) -> SessionMark {
        let next_sequence = transfer.last_sequence.saturating_add(1);
        SessionMark { next_sequence, total: add(self.total, transfer.amount) }
    }
}

/// What the payee allows to be uncommitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreditWindow {
    /// So much together.
    pub amount: Msat,
    /// So many payments.
    pub count: u64,
}

/// A session of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// What is irrevocable.
    pub paid: SessionMark,
    /// What the payee granted; nothing before `transfer_window`.
    pub window: CreditWindow,
    /// Whether it was opened and not closed.
    pub open: bool,
    /// Counts up with each opening: the oldest closed session is forgotten first.
    pub opening: u64,
}

/// The transfers and sessions of one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferLog {
    /// The id of the next `update_transfer`.
    pub next_id: u64,
    /// Not irrevocable yet, in the order of their ids.
    pub pending: Vec<PendingTransfer>,
    /// All that are open, and the closed ones still remembered.
    pub sessions: BTreeMap<SessionId, Session>,
    /// Irrevocable money that no session allowed.
    pub unsolicited: Msat,
    /// Counts openings.
    pub openings: u64,
}

impl TransferLog {
    /// What `session` would be at the end of all that is proposed.
    pub fn proposed_mark(&self, session: &SessionId) -> Option<SessionMark> {
        self.mark(session, |_| true)
    }

    /// What the commitment `view` says of `session`, where `payer` pays.
    pub fn mark_on(&self, session: &SessionId, view: View, payer: Side) -> Option<SessionMark> {
        self.mark(session, |stage| view.holds(payer, stage))
    }

    fn mark(&self, session: &SessionId, held: impl Fn(Stage) -> bool) -> Option<SessionMark> {
        let paid = self.sessions.get(session)?.paid;
        let held = self.pending_of(session).filter(|pending| held(pending.stage));
        Some(held.fold(paid, |mark, pending| mark.with(&pending.transfer)))
    }

    /// What `session` has in flight: uncommitted, so bounded by its window.
    pub fn uncommitted(&self, session: &SessionId) -> CreditWindow {
        self.pending_of(session).fold(CreditWindow::default(), |sum, pending| CreditWindow {
            amount: add(sum.amount, pending.transfer.amount),
            count: sum.count.saturating_add(pending.transfer.count()),
        })
    }

    /// Why the session does not allow `transfer` now, or nothing where it does: it is open, the sequence follows, the
    /// window holds it, and what it tells of its payments agrees with its sum.
    pub fn objection(&self, transfer: &Transfer) -> Option<TransferCloseReason> {
        let open = self.sessions.get(&transfer.session).filter(|session| session.open);
        let (Some(session), Some(mark)) = (open, self.proposed_mark(&transfer.session)) else {
            return Some(TransferCloseReason::UnknownSession);
        };
        let last = transfer.last_sequence;
        if mark.next_sequence != transfer.first_sequence || last < transfer.first_sequence || last == u64::MAX {
            return Some(TransferCloseReason::WrongSequence);
        }
        let used = self.uncommitted(&transfer.session);
        let amount_fits = used.amount.checked_add(transfer.amount).is_some_and(|sum| sum <= session.window.amount);
        let count_fits = used.count.checked_add(transfer.count()).is_some_and(|sum| sum <= session.window.count);
        if !amount_fits || !count_fits {
            return Some(TransferCloseReason::WindowExceeded);
        }
        (!transfer.payments_agree()).then_some(TransferCloseReason::NotAccepted)
    }

    /// Whether what a peer tells of single payments may be kept: the money counts without.
    pub fn may_keep(&self, payments: &Payments) -> bool {
        let told = self.pending.iter().filter_map(|pending| pending.transfer.payments.as_ref());
        told.map(Payments::encoded_length).sum::<usize>() + payments.encoded_length() <= MAX_TOLD
    }

    /// How many sessions are open.
    pub fn open_sessions(&self) -> usize {
        self.sessions.values().filter(|session| session.open).count()
    }

    /// Opens `id`, or opens it again where it is remembered; forgets the oldest closed one where too many are.
    pub(super) fn open(&mut self, id: SessionId) {
        self.openings = self.openings.saturating_add(1);
        let opening = self.openings;
        let fresh = Session { paid: SessionMark::default(), window: CreditWindow::default(), open: true, opening };
        let session = self.sessions.entry(id).or_insert(fresh);
        session.open = true;
        session.opening = opening;
        session.window = CreditWindow::default();
        self.forget_closed();
    }

    pub(super) fn close(&mut self, id: &SessionId) {
        if let Some(session) = self.sessions.get_mut(id) {
            session.open = false;
        }
        self.forget_closed();
    }

    fn forget_closed(&mut self) {
        let idle = |id: &SessionId| self.pending_of(id).next().is_none();
        let closed: Vec<_> = self.sessions.iter().filter(|(id, session)| !session.open && idle(id)).collect();
        if closed.len() <= MAX_CLOSED_SESSIONS {
            return;
        }
        let oldest = closed.iter().min_by_key(|(_, session)| session.opening).map(|(id, _)| **id);
        if let Some(id) = oldest {
            self.sessions.remove(&id);
        }
    }

    /// Books what has become irrevocable and takes it off the list.
    pub(super) fn settle(&mut self) {
        for pending in self.pending.iter().filter(|pending| pending.stage == Stage::Irrevocable) {
            let transfer = &pending.transfer;
            match self.sessions.get_mut(&transfer.session) {
                Some(session) if pending.solicited => session.paid = session.paid.with(transfer),
                _ => self.unsolicited = add(self.unsolicited, transfer.amount),
            }
        }
        self.pending.retain(|pending| pending.stage != Stage::Irrevocable);
    }

    /// Forgets what no `commitment_signed` covered and rolls the ids back.
    pub(super) fn roll_back(&mut self) {
        if let Some(first) = self.pending.iter().find(|pending| pending.stage == Stage::Proposed) {
            self.next_id = first.transfer.id;
        }
        self.pending.retain(|pending| pending.stage != Stage::Proposed);
    }

    fn pending_of(&self, session: &SessionId) -> impl Iterator<Item = &PendingTransfer> {
        self.pending.iter().filter(move |pending| pending.solicited && pending.transfer.session == *session)
    }
}

fn add(one: Msat, other: Msat) -> Msat {
    // A session's total is bounded by what went through the channel: 2^64 msat is 184 million bitcoin.
    Msat::new(one.msat().saturating_add(other.msat()))
}
