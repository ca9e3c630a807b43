//! Failing a channel: what an error, a broken rule, a deadline or the chain does to it, and what `onchain` gets of it
//! (BOLT 1, "The `error` and `warning` Messages"; BOLT 5, "Failing a Channel").

use bitcoin::{ScriptBuf, Transaction, Txid};

use super::port::{AbandonReason, Context, Effect, Notice};
use super::state::{Change, Channel, Funded, Phase, State};
use super::{Decision, Error, Failure, Refusal, Response, Violation};
use crate::commitment::{Commitments, Htlc, Side, Stage, View};
use crate::keys::ChannelKeyId;
use crate::wire;

/// BOLT 2: so many blocks an accepter waits for the funding transaction.
const FUNDING_TIMEOUT: u32 = 2_016;

/// LND sends these without need (PEERS.md A3).
const HARMLESS_ERRORS: [&str; 2] = ["internal error", "link failed to shutdown"];

/// What `onchain` needs to classify and claim whatever spends the funding output: a copy of what the channel knew last.
/// HTLCs of revoked commitments are in here as far as they are in flight; the older ones are the penalty rows.
#[derive(Clone, Debug, PartialEq)]
pub struct ClosingFacts {
    /// Where our keys come from.
    pub keys_id: ChannelKeyId,
    /// Who opened.
    pub opener: Side,
    /// Balances, HTLCs with preimages, signatures, secrets, numbers and points; `main()` has the funding output and both
    /// sides' `CommitmentParameters`, `spec(view)` and `build(view, point)` the commitments.
    pub commitments: Commitments,
    /// Our script for a mutual close, where one was sent.
    pub local_shutdown_script: Option<ScriptBuf>,
    /// The peer's.
    pub remote_shutdown_script: Option<ScriptBuf>,
    /// The peer proved that we lost data: its commitments may be newer than any we know.
    pub stale: bool,
}

impl Channel {
    /// See [`ClosingFacts`]; `None` where there is no funding output.
    pub fn closing_facts(&self) -> Option<ClosingFacts> {
        let funded = self.funded()?;
        let phase = match &funded.phase {
            Phase::Spent { before, .. } => before.as_ref(),
            phase => phase,
        };
        Some(ClosingFacts {
            keys_id: self.keys_id,
            opener: self.opener,
            commitments: funded.commitments.clone(),
            local_shutdown_script: funded.shutdown.local_script.clone(),
            remote_shutdown_script: funded.shutdown.remote_script.clone(),
            stale: *phase == Phase::Stale,
        })
    }

    /// Our current commitment, signed by both: what goes to the chain when the channel fails. `None` where the peer's
    /// signature is not there yet, and where the peer has proved that we lost data: it may be a revoked one then.
    pub fn signed_local_commitment(&self, cx: &Context<'_>) -> Option<Transaction> {
        let funded = self.funded().filter(|funded| funded.phase != Phase::Stale)?;
        let commitments = &funded.commitments;
        let main = commitments.main();
        let signatures = main.signatures.as_ref()?;
        let point = cx.signer.per_commitment_point(&self.keys_id, commitments.local_number);
        let transaction = commitments.build(View::LocalCurrent, &point);
        Some(transaction.signed(&main.local, cx.signer, &self.keys_id, &signatures.commitment))
    }

    pub(super) fn receive_error(
        &self,
        message: &wire::Error,
        cx: &Context<'_>,
        decision: &mut Decision,
    ) -> Result<(), Error> {
        let text = message.text();
        if HARMLESS_ERRORS.contains(&text.as_str()) && self.funded().is_some() {
            decision.effect(Effect::Noticed(Notice::PeerWarned { text }));
            self.hang_up(decision);
            return Ok(());
        }
        self.fail(Failure::PeerError { text }, cx, decision);
        Ok(())
    }

    pub(super) fn violated(&self, violation: Violation, cx: &Context<'_>, decision: &mut Decision) {
        let opening = self.funded().is_none_or(|funded| funded.phase == Phase::AwaitingFundingSigned);
        if opening || violation.response() == Response::FailChannel {
            self.fail(Failure::Violation(violation), cx, decision);
            return;
        }
        decision.send(wire::Warning::new(self.id, &violation.to_string()));
        self.hang_up(decision);
    }

    /// Ends the session at once: what the peer has sent after its fault builds on what was not taken in.
    fn hang_up(&self, decision: &mut Decision) {
        self.disconnect(decision);
        decision.effect(Effect::Disconnect);
    }

    /// Fails the channel: `error` to the peer unless it was the peer's, and our commitment to the chain where that is
    /// allowed. What has ended already does not fail again.
    pub(super) fn fail(&self, failure: Failure, cx: &Context<'_>, decision: &mut Decision) {
        let told = failure.is_told();
        let error = wire::Error::new(self.id, &failure.to_string());
        match &self.state {
            State::Abandoned(_) => {}
            State::Funded(funded) if funded.phase == Phase::Open => {
                if !told {
                    decision.send(error);
                }
                funded.roll_back(decision);
                decision.change(Change::Phase(Phase::Failed { failure: failure.clone() }));
                decision.effect(Effect::Failed { failure });
                decision.effects.extend(self.signed_local_commitment(cx).map(|it| Effect::Broadcast(vec![it])));
            }
            State::Funded(funded) if funded.phase != Phase::AwaitingFundingSigned => {
                if !told {
                    decision.send(error);
                } else if matches!(&funded.phase, Phase::Failed { failure } if !failure.is_told()) {
                    // The peer knows by now: our own error is not said again. What it says a second time is no news.
                    decision.change(Change::Phase(Phase::Failed { failure }));
                }
            }
            _ => {
                if !told {
                    decision.send(error);
                }
                self.give_up(AbandonReason::Failed(failure), decision);
            }
        }
    }

    pub(super) fn force_close(&self, cx: &Context<'_>, decision: &mut Decision) -> Result<(), Error> {
        let funded = self.funded().ok_or(Refusal::NotReady)?;
        match funded.phase {
            Phase::Open => self.fail(Failure::ByUser, cx, decision),
            Phase::AwaitingFundingSigned => return Err(Refusal::NotReady.into()),
            Phase::Stale => return Err(Refusal::Stale.into()),
            _ => return Err(Refusal::Closed.into()),
        }
        Ok(())
    }

    pub(super) fn abandon(&self, reason: AbandonReason, decision: &mut Decision) -> Result<(), Error> {
        let opening = self.funded().is_none_or(|funded| funded.phase == Phase::AwaitingFundingSigned);
        if !opening || matches!(self.state, State::Abandoned(_)) {
            return Err(Refusal::NotOpening.into());
        }
        decision.send(wire::Error::new(self.id, "opening given up"));
        self.give_up(reason, decision);
        Ok(())
    }

    pub(super) fn funding_spent(&self, txid: Txid, decision: &mut Decision) {
        let Some(funded) = self.funded() else { return };
        let before = match &funded.phase {
            Phase::Spent { txid: known, .. } if *known == txid => return,
            Phase::Spent { before, .. } => before.clone(),
            phase => Box::new(phase.clone()),
        };
        funded.roll_back(decision);
        decision.change(Change::Phase(Phase::Spent { txid, before }));
    }

    pub(super) fn funding_unspent(&self, decision: &mut Decision) {
        let Some(Phase::Spent { before, .. }) = self.funded().map(|funded| &funded.phase) else { return };
        decision.change(Change::Phase(before.as_ref().clone()));
        // What the peer sent meanwhile was not listened to: both sides start again from what is signed.
        if self.link.is_some() {
            decision.effect(Effect::Disconnect);
        }
    }

    pub(super) fn block(&self, cx: &Context<'_>, decision: &mut Decision) {
        let Some(funded) = self.funded() else { return };
        let phase = &funded.phase;
        let waits = funded.short_channel_id.is_none() && !funded.local_ready && self.opener == Side::Remote;
        // Also one that failed meanwhile: the opener may have forgotten it, and then nothing ever comes.
        let is_unused = matches!(phase, Phase::Open | Phase::Failed { .. });
        if waits && is_unused && cx.height > self.opened_at.plus(FUNDING_TIMEOUT) {
            decision.send(wire::Error::new(self.id, "no funding transaction"));
            self.give_up(AbandonReason::NotFunded, decision);
            return;
        }
        if *phase != Phase::Open {
            return;
        }
        if let Some(failure) = funded.deadlines(cx, decision) {
            self.fail(failure, cx, decision);
        }
    }
}

impl Funded {
    /// What the height does to HTLCs: the first one past its deadline fails the channel, unless it has no output on any
    /// commitment that could confirm: that one is written off (PAINS 1).
    fn deadlines(&self, cx: &Context<'_>, decision: &mut Decision) -> Option<Failure> {
        let height = cx.height.height();
        let mut first = None;
        for adder in [Side::Local, Side::Remote] {
            for htlc in self.commitments.htlcs(adder).values() {
                let Some((deadline, notice_at)) = deadline(htlc, adder, cx) else { continue };
                let id = htlc.offer.id;
                if height < notice_at || (height > notice_at && height < deadline) {
                    continue;
                }
                if self.has_output(htlc, adder) && height >= deadline {
                    first.get_or_insert(Failure::HtlcDeadline { adder, id, height: cx.height });
                } else if self.has_output(htlc, adder) {
                    let close_height = crate::units::BlockHeight::new(deadline);
                    decision.effect(Effect::Noticed(Notice::DeadlineNear { adder, id, close_height }));
                } else if height == deadline {
                    decision.effect(Effect::Noticed(Notice::WrittenOff { adder, id }));
                }
            }
        }
        first
    }

    fn has_output(&self, htlc: &Htlc, adder: Side) -> bool {
        let commitments = &self.commitments;
        [View::LocalCurrent, View::RemoteCurrent, View::RemoteSigned].into_iter().any(|view| {
            let feerate = commitments.tally(view).feerate;
            htlc.on(view, adder) && !commitments.parameters.trims(view.owner(), adder, htlc.offer.amount, feerate)
        })
    }
}

/// The height at which an HTLC has to be settled on the chain, and the one at which to say so beforehand; nothing where
/// it never has to.
fn deadline(htlc: &Htlc, adder: Side, cx: &Context<'_>) -> Option<(u32, u32)> {
    let expiry = htlc.offer.cltv_expiry.height();
    let fulfilled = htlc.removal.as_ref().is_some_and(|removal| removal.removal.is_fulfilled());
    match adder {
        // Ours, timed out: the peer might still claim it. One whose preimage we have is paid, whatever comes.
        Side::Local if htlc.stage >= Stage::Signed && !fulfilled => {
            Some((expiry.saturating_add(cx.policy.expiry_grace), expiry))
        }
        // The peer's, whose preimage we gave: claimed on the chain before the peer can take it back.
        Side::Remote if fulfilled => {
            let margin = cx.policy.fulfil_margin;
            Some((expiry.saturating_sub(margin), expiry.saturating_sub(margin.saturating_add(margin / 2))))
        }
        _ => None,
    }
}
