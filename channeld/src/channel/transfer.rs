//! Netted transfers: `update_transfer` in the shared log, and the session messages beside it (TRANSFER.md).

use std::collections::BTreeMap;

use super::port::{Command, Context, Effect};
use super::state::{Channel, Funded};
use super::{Decision, Error, Refusal, Violation};
use crate::commitment::{self, CreditWindow, PendingTransfer, SessionMark, Side, Stage, Transfer, TransferLog, View};
use crate::units::{Msat, SessionId};
use crate::wire::{TransferClose, TransferCloseReason, TransferOpen, TransferReceipt, TransferWindow, UpdateTransfer};

/// What a receipt says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiptContent {
    /// The session.
    pub session: SessionId,
    /// The sequence behind the last payment that is paid.
    pub next_sequence: u64,
    /// What is paid.
    pub paid: Msat,
    /// What a close at this instant would pay us.
    pub enforceable: Msat,
}

impl Channel {
    /// What a receipt for an incoming session would say now; `None` where the session is not known.
    pub fn receipt_content(&self, session: SessionId) -> Option<ReceiptContent> {
        let commitments = self.commitments()?;
        let paid = commitments.incoming_transfers.sessions.get(&session)?.paid;
        Some(ReceiptContent {
            session,
            next_sequence: paid.next_sequence,
            paid: paid.total,
            enforceable: commitments.enforceable(Side::Local),
        })
    }

    /// The signed receipt for an incoming session; `None` where the session is not known.
    pub fn receipt(&self, session: SessionId, cx: &Context<'_>) -> Option<TransferReceipt> {
        let content = self.receipt_content(session)?;
        let mut receipt = TransferReceipt {
            chain_hash: cx.chain_hash,
            channel_id: self.id,
            session_id: session,
            payer_node_id: self.peer.0,
            next_sequence: content.next_sequence,
            paid_msat: content.paid,
            enforceable_msat: content.enforceable,
            // A place to be filled: the signed bytes do not hold it.
            signature: cx.signer.sign_node([1; 32]),
        };
        receipt.signature = cx.signer.sign_node(*receipt.signed_hash().as_ref());
        Some(receipt)
    }

    /// Whether payments of an outgoing session are on their way: the channel or the chain decides about them.
    pub fn has_transfers_under_way(&self, session: &SessionId) -> bool {
        let pending = self.commitments().into_iter().flat_map(|it| &it.outgoing_transfers.pending);
        pending.into_iter().any(|pending| pending.transfer.session == *session)
    }

    /// What the commitment `view`, not revoked and buried, has paid of what was on its way: the books of both sides count
    /// it as if the last revocation had come (TRANSFER.md, "When is it paid"). The channel is over and does not change.
    pub fn transfers_paid_by(&self, view: View) -> Vec<Effect> {
        let Some(commitments) = self.commitments() else { return Vec::new() };
        let of_one = |payer: Side| {
            let enforceable = commitments.enforceable_on(payer.other(), view, view);
            let mut marks: BTreeMap<SessionId, SessionMark> = BTreeMap::new();
            let log = commitments.transfers(payer);
            let held = log.pending.iter().filter(|pending| view.holds(payer, pending.stage));
            let paid_by_it: Vec<Effect> = held
                .map(|pending| {
                    let session = pending.transfer.session;
                    let before = || log.sessions.get(&session).map(|session| session.paid).unwrap_or_default();
                    let mark = marks.entry(session).or_insert_with(before);
                    if pending.solicited {
                        *mark = mark.with(&pending.transfer);
                    }
                    paid(payer, pending, *mark, enforceable)
                })
                .collect();
            paid_by_it
        };
        [Side::Local, Side::Remote].into_iter().flat_map(of_one).collect()
    }

    fn has_transfers(&self) -> bool {
        self.link.is_some_and(|link| link.features.transfers)
    }

    pub(super) fn receive_update_transfer(
        &self,
        message: UpdateTransfer,
        funded: &Funded,
        decision: &mut Decision,
    ) -> Result<(), Error> {
        if !self.has_transfers() {
            return Err(Violation::TransfersNotNegotiated.into());
        }
        if funded.shutdown_by(Side::Remote) {
            return Err(Violation::AfterShutdown.into());
        }
        let mut transfer = Transfer {
            id: message.id,
            session: message.session_id,
            first_sequence: message.first_sequence,
            last_sequence: message.last_sequence,
            amount: message.amount_msat,
            payments: message.payments,
        };
        let session = transfer.session;
        let objection = funded.commitments.check_receive_transfer(&transfer)?;
        let log = &funded.commitments.incoming_transfers;
        let payments = transfer.payments.take_if(|payments| !log.may_keep(payments));
        if payments.is_some() {
            tracing::debug!(channel = %self.id, "payments of too many transfers are told: some are not kept");
        }
        let solicited = objection.is_none();
        decision.log(commitment::Change::Transferred { payer: Side::Remote, transfer, solicited });
        if let Some(reason) = objection {
            self.refuse_session(session, reason, funded, decision);
        }
        Ok(())
    }

    /// Tells the payer that the session is over, with what we count of it.
    fn refuse_session(
        &self,
        session: SessionId,
        reason: TransferCloseReason,
        funded: &Funded,
        decision: &mut Decision,
    ) {
        let log = &funded.commitments.incoming_transfers;
        let next_sequence = log.proposed_mark(&session).map_or(0, |mark| mark.next_sequence);
        decision.send(TransferClose { channel_id: self.id, session_id: session, reason, next_sequence });
        if log.sessions.get(&session).is_some_and(|session| session.open) {
            decision.log(commitment::Change::SessionClosed { payer: Side::Remote, session });
            decision.effect(Effect::SessionClosed { payer: Side::Remote, session, reason });
        }
    }

    pub(super) fn receive_transfer_open(
        &self,
        message: &TransferOpen,
        funded: &Funded,
        cx: &Context<'_>,
        decision: &mut Decision,
    ) -> Result<(), Error> {
        if !self.has_transfers() {
            return Err(Violation::TransfersNotNegotiated.into());
        }
        let session = message.session_id;
        if let Some(reason) = objection_to_open(message, funded, cx) {
            self.refuse_session(session, reason, funded, decision);
            return Ok(());
        }
        let window = cx.policy.transfer_window;
        decision.log(commitment::Change::SessionOpened { payer: Side::Remote, session });
        decision.log(commitment::Change::WindowGranted { payer: Side::Remote, session, window });
        decision.send(self.window_message(session, window));
        decision.effect(Effect::SessionOpened { session, receipt_wanted: message.receipt_wanted() });
        Ok(())
    }

    pub(super) fn receive_transfer_window(
        &self,
        message: &TransferWindow,
        funded: &Funded,
        decision: &mut Decision,
    ) -> Result<(), Error> {
        let session = message.session_id;
        let log = &funded.commitments.outgoing_transfers;
        if log.sessions.get(&session).is_some_and(|session| session.open) {
            let window = CreditWindow { amount: message.window_msat, count: u64::from(message.window_count) };
            decision.log(commitment::Change::WindowGranted { payer: Side::Local, session, window });
            decision.effect(Effect::WindowGranted { session, window });
        }
        Ok(())
    }

    pub(super) fn receive_transfer_close(
        &self,
        message: &TransferClose,
        funded: &Funded,
        decision: &mut Decision,
    ) -> Result<(), Error> {
        let (session, reason) = (message.session_id, message.reason);
        for payer in [Side::Local, Side::Remote] {
            let known = funded.commitments.transfers(payer).sessions.get(&session);
            if known.is_some_and(|session| session.open) {
                decision.log(commitment::Change::SessionClosed { payer, session });
                decision.effect(Effect::SessionClosed { payer, session, reason });
            }
        }
        Ok(())
    }

    pub(super) fn open_session(
        &self,
        session: SessionId,
        receipt_wanted: bool,
        cx: &Context<'_>,
        decision: &mut Decision,
    ) -> Result<(), Error> {
        let funded = self.sendable(cx)?;
        if !self.has_transfers() {
            return Err(Refusal::TransfersUnsupported.into());
        }
        let log = &funded.commitments.outgoing_transfers;
        if !log.sessions.get(&session).is_some_and(|session| session.open) {
            funded.commitments.check_open_session(Side::Local)?;
        }
        decision.send(self.open_message(log, session, receipt_wanted));
        decision.log(commitment::Change::SessionOpened { payer: Side::Local, session });
        Ok(())
    }

    fn open_message(&self, log: &TransferLog, session: SessionId, receipt_wanted: bool) -> TransferOpen {
        let mark = log.proposed_mark(&session).unwrap_or_default();
        TransferOpen {
            channel_id: self.id,
            session_id: session,
            next_sequence: mark.next_sequence,
            sent_msat: mark.total,
            flags: if receipt_wanted { TransferOpen::RECEIPT_WANTED } else { 0 },
        }
    }

    fn window_message(&self, session: SessionId, window: CreditWindow) -> TransferWindow {
        TransferWindow {
            channel_id: self.id,
            session_id: session,
            window_msat: window.amount,
            window_count: u32::try_from(window.count).unwrap_or(u32::MAX),
        }
    }

    pub(super) fn transfer(&self, command: Command, cx: &Context<'_>, decision: &mut Decision) -> Result<(), Error> {
        let Command::Transfer { session, first_sequence, last_sequence, amount, payments } = command else {
            unreachable!("the caller has looked");
        };
        let funded = self.sendable(cx)?;
        if !self.has_transfers() {
            return Err(Refusal::TransfersUnsupported.into());
        }
        let id = funded.commitments.outgoing_transfers.next_id;
        let transfer = Transfer { id, session, first_sequence, last_sequence, amount, payments };
        funded.commitments.check_send_transfer(&transfer)?;
        decision.send(self.transfer_message(&transfer));
        decision.log(commitment::Change::Transferred { payer: Side::Local, transfer, solicited: true });
        Ok(())
    }

    /// `update_transfer`, first or again.
    pub(super) fn transfer_message(&self, transfer: &Transfer) -> UpdateTransfer {
        UpdateTransfer {
            channel_id: self.id,
            id: transfer.id,
            session_id: transfer.session,
            first_sequence: transfer.first_sequence,
            last_sequence: transfer.last_sequence,
            amount_msat: transfer.amount,
            payments: transfer.payments.clone(),
        }
    }

    pub(super) fn grant_window(
        &self,
        session: SessionId,
        window: CreditWindow,
        decision: &mut Decision,
    ) -> Result<(), Error> {
        let log = self.commitments().map(|commitments| &commitments.incoming_transfers);
        let known = log.and_then(|log| log.sessions.get(&session)).filter(|session| session.open);
        if known.is_none() {
            return Err(Refusal::UnknownSession.into());
        }
        if self.is_live() {
            decision.send(self.window_message(session, window));
        }
        decision.log(commitment::Change::WindowGranted { payer: Side::Remote, session, window });
        Ok(())
    }

    pub(super) fn close_session(
        &self,
        payer: Side,
        session: SessionId,
        reason: TransferCloseReason,
        decision: &mut Decision,
    ) -> Result<(), Error> {
        let log = self.commitments().map(|commitments| commitments.transfers(payer));
        let known = log.and_then(|log| log.sessions.get(&session)).filter(|session| session.open);
        let (Some(log), Some(_)) = (log, known) else {
            return Err(Refusal::UnknownSession.into());
        };
        let next_sequence = log.proposed_mark(&session).map_or(0, |mark| mark.next_sequence);
        if self.is_live() {
            decision.send(TransferClose { channel_id: self.id, session_id: session, reason, next_sequence });
        }
        decision.log(commitment::Change::SessionClosed { payer, session });
        Ok(())
    }

    /// Session messages have no acknowledgement: after a reconnect the payer says again which sessions are open and
    /// which are over, and the payee grants its windows again.
    pub(super) fn resend_sessions(&self, funded: &Funded, decision: &mut Decision) {
        if !self.has_transfers() || funded.is_closing() {
            return;
        }
        let log = &funded.commitments.outgoing_transfers;
        for (id, session) in &log.sessions {
            if session.open {
                decision.send(self.open_message(log, *id, false));
                continue;
            }
            let next_sequence = log.proposed_mark(id).map_or(0, |mark| mark.next_sequence);
            let reason = TransferCloseReason::Finished;
            decision.send(TransferClose { channel_id: self.id, session_id: *id, reason, next_sequence });
        }
    }
}

/// Why a session cannot be opened, or opened again.
fn objection_to_open(message: &TransferOpen, funded: &Funded, cx: &Context<'_>) -> Option<TransferCloseReason> {
    let commitments = &funded.commitments;
    let parameters = &commitments.parameters;
    if funded.is_closing() {
        return Some(TransferCloseReason::ChannelClosing);
    }
    // TRANSFER.md: below the dust limit the payee's balance has no output.
    if parameters.local.dust_limit.max(parameters.remote.dust_limit) > cx.policy.max_transfer_dust_limit {
        return Some(TransferCloseReason::NotAccepted);
    }
    let log = &commitments.incoming_transfers;
    let is_open = log.sessions.get(&message.session_id).is_some_and(|session| session.open);
    if !is_open && commitments.check_open_session(Side::Remote).is_err() {
        return Some(TransferCloseReason::TooManySessions);
    }
    let claimed = SessionMark { next_sequence: message.next_sequence, total: message.sent_msat };
    match log.proposed_mark(&message.session_id) {
        Some(mark) if mark == claimed => None,
        Some(_) => Some(TransferCloseReason::WrongSequence),
        None if claimed == SessionMark::default() => None,
        None => Some(TransferCloseReason::UnknownSession),
    }
}

impl Funded {
    /// Seal: the payee will hold a signed commitment with them.
    pub(super) fn report_transfers_signed(&self, decision: &mut Decision) {
        let log = &self.commitments.outgoing_transfers;
        for (pending, mark) in marked(log, View::RemoteSigned, Side::Local, Stage::Proposed) {
            decision.effect(in_flight(Side::Local, pending, mark));
        }
    }

    /// Our `revoke_and_ack`: what we paid and the peer acked is paid; what the peer proposed is in flight.
    pub(super) fn report_transfers_committed(&self, decision: &mut Decision) {
        let enforceable = self.commitments.enforceable_on(Side::Remote, View::LocalNext, View::RemoteCurrent);
        let log = &self.commitments.outgoing_transfers;
        for (pending, mark) in marked(log, View::LocalCurrent, Side::Local, Stage::Acked) {
            decision.effect(paid(Side::Local, pending, mark, enforceable));
        }
        let log = &self.commitments.incoming_transfers;
        for (pending, mark) in marked(log, View::LocalCurrent, Side::Remote, Stage::Proposed) {
            decision.effect(in_flight(Side::Remote, pending, mark));
        }
    }

    /// The peer's `revoke_and_ack`: what it proposed and we countersigned is paid.
    pub(super) fn report_transfers_received(&self, decision: &mut Decision) {
        let enforceable = self.commitments.enforceable_on(Side::Local, View::LocalCurrent, View::RemoteSigned);
        let log = &self.commitments.incoming_transfers;
        for (pending, mark) in marked(log, View::RemoteCurrent, Side::Remote, Stage::Countersigned) {
            decision.effect(paid(Side::Remote, pending, mark, enforceable));
        }
    }

    /// Transfers of ours that no `commitment_signed` covered count as never sent.
    pub(super) fn report_transfers_returned(&self, decision: &mut Decision) {
        let pending = self.commitments.outgoing_transfers.pending.iter();
        for pending in pending.filter(|pending| pending.stage == Stage::Proposed) {
            decision.effect(Effect::TransferReturned { transfer: pending.transfer.clone() });
        }
    }
}

/// The transfers at `stage`, each with its session's mark on `view` and with it.
fn marked(log: &TransferLog, view: View, payer: Side, stage: Stage) -> Vec<(&PendingTransfer, SessionMark)> {
    let mut marks: BTreeMap<SessionId, SessionMark> = BTreeMap::new();
    let at_stage = log.pending.iter().filter(|pending| pending.stage == stage);
    let with_mark = at_stage.map(|pending| {
        let transfer = &pending.transfer;
        let before = || log.mark_on(&transfer.session, view, payer).unwrap_or_default();
        let mark = marks.entry(transfer.session).or_insert_with(before);
        if pending.solicited {
            *mark = mark.with(transfer);
        }
        (pending, *mark)
    });
    with_mark.collect()
}

fn in_flight(payer: Side, pending: &PendingTransfer, mark: SessionMark) -> Effect {
    Effect::TransferInFlight { payer, transfer: pending.transfer.clone(), mark, solicited: pending.solicited }
}

fn paid(payer: Side, pending: &PendingTransfer, mark: SessionMark, enforceable: Msat) -> Effect {
    let (transfer, solicited) = (pending.transfer.clone(), pending.solicited);
    Effect::TransferPaid { payer, transfer, mark, solicited, enforceable }
}
