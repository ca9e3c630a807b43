//! Normal operation: updates, `commitment_signed`, `revoke_and_ack`, and *seal* (BOLT 2, "Normal Operation").

use super::port::{Command, Context, Effect, Notice, OutgoingFailure};
use super::proposal::clamp;
use super::state::{Change, Channel, Funded, Phase, State};
use super::{Decision, Error, Refusal, Violation};
use crate::commitment::{self, HtlcOffer, LimitRefusal, Removal, Side, Stage, View};
use crate::keys::{PerCommitmentPoint, PerCommitmentSecret};
use crate::transactions::{
    CommitmentSignature, CommitmentSignatures, VerificationError, verify_commitment, verify_htlcs,
};
use crate::units::{CommitmentNumber, FeeratePerKw, HtlcId};
use crate::wire::{
    CommitmentSigned, Message, RevealedSecret, RevokeAndAck, UpdateAddHtlc, UpdateFailHtlc, UpdateFailMalformedHtlc,
    UpdateFee, UpdateFulfillHtlc, Warning,
};

impl Channel {
    pub(super) fn receive(&self, message: Message, cx: &Context<'_>, decision: &mut Decision) -> Result<(), Error> {
        // The session was ended by us; what is still on its way says nothing any more.
        if self.link.is_none() {
            return Ok(());
        }
        match message {
            Message::Error(message) => self.receive_error(&message, cx, decision),
            Message::Warning(message) => {
                decision.effect(Effect::Noticed(Notice::PeerWarned { text: message.text() }));
                Ok(())
            }
            Message::AcceptChannel(message) => self.receive_accept_channel(&message, cx, decision),
            Message::FundingCreated(message) => self.receive_funding_created(&message, cx, decision),
            Message::FundingSigned(message) => self.receive_funding_signed(&message, cx, decision),
            _ if self.funded().is_some_and(Funded::is_deaf) && !matches!(message, Message::ChannelReestablish(_)) => {
                Ok(())
            }
            Message::ChannelReestablish(message) => self.receive_reestablish(&message, cx, decision),
            Message::ChannelReady(message) => self.receive_channel_ready(&message, decision),
            Message::AnnouncementSignatures(message) => {
                decision.effect(Effect::AnnouncementSignatures(message));
                Ok(())
            }
            Message::TransferReceipt(message) => {
                decision.effect(Effect::ReceiptReceived(message));
                Ok(())
            }
            message => self.receive_live(message, cx, decision),
        }
    }

    /// What may come only after `channel_reestablish`.
    fn receive_live(&self, message: Message, cx: &Context<'_>, decision: &mut Decision) -> Result<(), Error> {
        let message_type = message.message_type();
        let Some(funded) = self.funded().filter(|funded| funded.phase != Phase::AwaitingFundingSigned) else {
            return Err(match message {
                Message::Shutdown(_) => Violation::ShutdownTooEarly.into(),
                _ => Violation::Unexpected { message_type }.into(),
            });
        };
        if !self.is_live() {
            return Err(Violation::BeforeReestablish { message_type }.into());
        }
        match message {
            Message::Shutdown(message) => return self.receive_shutdown(&message, funded, decision),
            Message::ClosingSigned(message) => return self.receive_closing_signed(&message, funded, cx, decision),
            _ if funded.phase != Phase::Open => return Ok(()),
            Message::CommitmentSigned(message) => {
                return self.receive_commitment_signed(&message, funded, cx, decision);
            }
            Message::RevokeAndAck(message) => return self.receive_revoke_and_ack(&message, funded, decision),
            Message::TransferOpen(message) => return self.receive_transfer_open(&message, funded, cx, decision),
            Message::TransferWindow(message) => return self.receive_transfer_window(&message, funded, decision),
            Message::TransferClose(message) => return self.receive_transfer_close(&message, funded, decision),
            _ => {}
        }
        if funded.closing_has_begun() {
            return Err(Violation::UpdateWhileClosing.into());
        }
        match message {
            Message::UpdateFee(message) => self.receive_update_fee(&message, funded, cx, decision),
            _ if !funded.is_ready() => Err(Violation::NotReady.into()),
            Message::UpdateAddHtlc(message) => receive_update_add_htlc(message, funded, cx, decision),
            Message::UpdateTransfer(message) => self.receive_update_transfer(message, funded, decision),
            Message::UpdateFulfillHtlc(message) => receive_removal(message.id, fulfilled(message), funded, decision),
            Message::UpdateFailHtlc(message) => receive_removal(message.id, failed(message), funded, decision),
            Message::UpdateFailMalformedHtlc(message) => {
                receive_removal(message.id, malformed(&message), funded, decision)
            }
            _ => Err(Violation::Unexpected { message_type }.into()),
        }
    }

    fn receive_update_fee(
        &self,
        message: &UpdateFee,
        funded: &Funded,
        cx: &Context<'_>,
        decision: &mut Decision,
    ) -> Result<(), Error> {
        let feerate = message.feerate_per_kw;
        funded.commitments.check_receive_fee(feerate)?;
        let range = &cx.policy.accepted_feerates;
        if !range.contains(&feerate) {
            let (min, max) = (*range.start(), *range.end());
            let violation = Violation::Feerate { feerate, min, max };
            if !funded.commitments.parameters.format.has_anchors() {
                return Err(violation.into());
            }
            // With anchors the fee can be raised at the close: warn, offer nothing meanwhile, never close.
            decision.send(Warning::new(self.id, &violation.to_string()));
            decision.effect(Effect::Noticed(Notice::FeerateOutOfRange { feerate }));
        }
        decision.log(commitment::Change::FeeProposed { feerate });
        Ok(())
    }

    fn receive_commitment_signed(
        &self,
        message: &CommitmentSigned,
        funded: &Funded,
        cx: &Context<'_>,
        decision: &mut Decision,
    ) -> Result<(), Error> {
        if !funded.local_ready {
            return Err(Violation::NotReady.into());
        }
        let commitments = &funded.commitments;
        let txid = commitments.main().funding().outpoint().txid;
        // BOLT 2: of a batch, whose `start_batch` is skipped, only the one for this funding output is of account.
        if message.funding_txid.is_some_and(|named| named != txid) {
            return Ok(());
        }
        let number = commitments.number(View::LocalNext);
        let point = cx.signer.per_commitment_point(&self.keys_id, number);
        let transaction = commitments.build(View::LocalNext, &point);
        let parameters = &commitments.main().local;
        let signature = CommitmentSignature::Ecdsa(message.signature);
        let verified = verify_commitment(parameters, &transaction, &signature)
            .and_then(|()| verify_htlcs(parameters, &transaction, &message.htlc_signatures));
        verified.map_err(|error| match error {
            VerificationError::CommitmentSignature => Violation::commitment_signature(transaction.transaction()),
            VerificationError::HtlcSignatureCount { expected, found } => {
                Violation::HtlcSignatureCount { expected, found }
            }
            VerificationError::HtlcSignature(index) => Violation::HtlcSignature(index),
        })?;
        let signatures = CommitmentSignatures { commitment: signature, htlcs: message.htlc_signatures.clone() };
        decision.log(commitment::Change::LocalCommitted { signatures: vec![signatures] });
        decision.send(self.revocation(commitments.local_number, cx));
        funded.report_settled(decision);
        funded.report_transfers_committed(decision);
        Ok(())
    }

    /// `revoke_and_ack` for our commitment `number`: only for one whose successor is in the same turn's record, or older.
    pub(super) fn revocation(&self, number: CommitmentNumber, cx: &Context<'_>) -> RevokeAndAck {
        let secret = cx.signer.per_commitment_secret(&self.keys_id, number);
        let next = cx.signer.per_commitment_point(&self.keys_id, number.next().next());
        RevokeAndAck {
            channel_id: self.id,
            per_commitment_secret: RevealedSecret(*secret.as_bytes()),
            next_per_commitment_point: *next.key(),
        }
    }

    fn receive_revoke_and_ack(
        &self,
        message: &RevokeAndAck,
        funded: &Funded,
        decision: &mut Decision,
    ) -> Result<(), Error> {
        let commitments = &funded.commitments;
        if !commitments.awaiting_revocation {
            return Err(Violation::UnexpectedRevocation.into());
        }
        let secret = PerCommitmentSecret::new(message.per_commitment_secret.0);
        let number = commitments.remote_number;
        if secret.point() != Some(commitments.remote_point) {
            return Err(Violation::RevocationSecret { number: number.number() }.into());
        }
        commitments.secrets.check(number, &secret).map_err(|_| Violation::RevocationSeed)?;
        decision.log(commitment::Change::RemoteRevoked {
            secret: message.per_commitment_secret,
            next_point: PerCommitmentPoint::new(message.next_per_commitment_point),
        });
        funded.report_irrevocable(decision);
        funded.report_transfers_received(decision);
        Ok(())
    }

    pub(super) fn command(&self, command: Command, cx: &Context<'_>, decision: &mut Decision) -> Result<(), Error> {
        match command {
            Command::FundingBuilt { outpoint } => self.funding_built(outpoint, cx, decision),
            Command::Abandon(reason) => self.abandon(reason, decision),
            Command::AddHtlc { .. } => self.add_htlc(command, cx, decision),
            Command::FulfillHtlc { id, preimage, attribution_data } => {
                self.remove_htlc(id, Removal::Fulfilled { preimage, attribution_data }, decision)
            }
            Command::FailHtlc { id, reason, attribution_data } => {
                self.remove_htlc(id, Removal::Failed { reason, attribution_data }, decision)
            }
            Command::FailMalformedHtlc { id, sha256_of_onion, failure_code } => {
                self.remove_htlc(id, Removal::Malformed { sha256_of_onion, failure_code }, decision)
            }
            Command::UpdateFee { feerate } => self.update_fee(feerate, cx, decision),
            Command::OpenSession { session, receipt_wanted } => {
                self.open_session(session, receipt_wanted, cx, decision)
            }
            Command::Transfer { .. } => self.transfer(command, cx, decision),
            Command::GrantWindow { session, window } => self.grant_window(session, window, decision),
            Command::CloseSession { payer, session, reason } => self.close_session(payer, session, reason, decision),
            Command::Shutdown { script, feerate } => self.shutdown(script, feerate, decision),
            Command::ForceClose => self.force_close(cx, decision),
        }
    }

    fn add_htlc(&self, command: Command, cx: &Context<'_>, decision: &mut Decision) -> Result<(), Error> {
        let Command::AddHtlc { amount, payment_hash, cltv_expiry, onion, path_key } = command else {
            unreachable!("the caller has looked");
        };
        let funded = self.sendable(cx)?;
        let commitments = &funded.commitments;
        commitments.check_send_htlc(amount, cltv_expiry, cx.policy.exposure)?;
        let offer = HtlcOffer {
            id: commitments.next_outgoing,
            amount,
            payment_hash,
            cltv_expiry,
            onion: Some(onion),
            path_key,
        };
        decision.effects.extend(self.add_message(&offer).map(Effect::Send));
        decision.log(commitment::Change::HtlcAdded { adder: Side::Local, offer, over_exposed: false });
        Ok(())
    }

    /// Removals are taken in whether the peer is there or not: what cannot be sent now is after the next reestablish.
    fn remove_htlc(&self, id: HtlcId, removal: Removal, decision: &mut Decision) -> Result<(), Error> {
        let funded = self.funded().ok_or(Refusal::Limit(LimitRefusal::UnknownHtlc { id }))?;
        match funded.phase {
            Phase::Open => {}
            Phase::Stale => return Err(Refusal::Stale.into()),
            _ => return Err(Refusal::Closed.into()),
        }
        funded.commitments.check_send_removal(id, &removal)?;
        if self.is_live() {
            decision.send(self.removal_message(id, &removal));
        }
        decision.log(commitment::Change::HtlcRemoved { adder: Side::Remote, id, removal });
        Ok(())
    }

    fn update_fee(&self, feerate: FeeratePerKw, cx: &Context<'_>, decision: &mut Decision) -> Result<(), Error> {
        let funded = self.updatable()?;
        if !funded.is_ready() {
            return Err(Refusal::NotReady.into());
        }
        if funded.is_negotiable() {
            return Err(Refusal::Closing.into());
        }
        let feerate = clamp(feerate, cx.policy);
        funded.commitments.check_send_fee(feerate, cx.policy.exposure)?;
        if feerate == funded.commitments.proposed_feerate() {
            return Ok(());
        }
        decision.send(UpdateFee { channel_id: self.id, feerate_per_kw: feerate });
        decision.log(commitment::Change::FeeProposed { feerate });
        Ok(())
    }

    /// The funded part, where updates of ours may go at all.
    fn updatable(&self) -> Result<&Funded, Refusal> {
        let funded = match &self.state {
            State::Funded(funded) => funded,
            State::Abandoned(_) => return Err(Refusal::Closed),
            _ => return Err(Refusal::NotReady),
        };
        match funded.phase {
            Phase::Open => {}
            Phase::AwaitingFundingSigned => return Err(Refusal::NotReady),
            Phase::Stale => return Err(Refusal::Stale),
            _ => return Err(Refusal::Closed),
        }
        if self.is_live() { Ok(funded) } else { Err(Refusal::NotConnected) }
    }

    /// The funded part, where new HTLCs and transfers of ours may go.
    pub(super) fn sendable(&self, cx: &Context<'_>) -> Result<&Funded, Refusal> {
        let funded = self.updatable()?;
        if funded.is_closing() {
            return Err(Refusal::Closing);
        }
        if !funded.is_ready() {
            return Err(Refusal::NotReady);
        }
        let feerate = funded.commitments.proposed_feerate();
        if self.opener == Side::Remote && !cx.policy.accepted_feerates.contains(&feerate) {
            return Err(Refusal::FeerateOutOfRange { feerate });
        }
        Ok(funded)
    }

    /// Signs the peer's next commitment, where there is something to sign: the one place that does.
    pub(super) fn seal(&self, cx: &Context<'_>, decision: &mut Decision) {
        if !self.seal_due() {
            return;
        }
        let Some(commitments) = self.commitments() else { return };
        let Some(message) = self.sign_remote(commitments, View::RemoteNext, cx) else { return };
        decision.delta.penalty_rows = commitments.penalty_rows();
        decision.log(commitment::Change::RemoteSigned);
        decision.send(message);
        if let Some(funded) = self.funded() {
            funded.report_transfers_signed(decision);
        }
    }

    /// `commitment_signed` for `view`: the next commitment in seal, the signed one again in `channel_reestablish`.
    pub(super) fn sign_remote(
        &self,
        commitments: &commitment::Commitments,
        view: View,
        cx: &Context<'_>,
    ) -> Option<CommitmentSigned> {
        let point = commitments.remote_commitment_point(view)?;
        let transaction = commitments.build(view, &point);
        let signatures = transaction.sign(&commitments.main().remote, cx.signer, &self.keys_id);
        Some(CommitmentSigned {
            channel_id: self.id,
            signature: *signatures.commitment.ecdsa(),
            htlc_signatures: signatures.htlcs,
            funding_txid: Some(commitments.main().funding().outpoint().txid),
        })
    }

    /// `update_add_htlc` for an offer of ours; nothing once its onion is gone, for then it is never sent again.
    pub(super) fn add_message(&self, offer: &HtlcOffer) -> Option<Message> {
        let message = UpdateAddHtlc {
            channel_id: self.id,
            id: offer.id,
            amount_msat: offer.amount,
            payment_hash: offer.payment_hash,
            cltv_expiry: offer.cltv_expiry,
            onion_routing_packet: offer.onion.clone()?,
            path_key: offer.path_key,
        };
        Some(message.into())
    }

    /// The `update_` message of a removal of ours.
    pub(super) fn removal_message(&self, id: HtlcId, removal: &Removal) -> Message {
        let channel_id = self.id;
        match removal {
            Removal::Fulfilled { preimage, attribution_data } => {
                let attribution_data = attribution_data.clone();
                UpdateFulfillHtlc { channel_id, id, payment_preimage: *preimage, attribution_data }.into()
            }
            Removal::Failed { reason, attribution_data } => {
                let (reason, attribution_data) = (reason.clone(), attribution_data.clone());
                UpdateFailHtlc { channel_id, id, reason, attribution_data }.into()
            }
            Removal::Malformed { sha256_of_onion, failure_code } => {
                let (sha256_of_onion, failure_code) = (*sha256_of_onion, *failure_code);
                UpdateFailMalformedHtlc { channel_id, id, sha256_of_onion, failure_code }.into()
            }
        }
    }
}

fn receive_update_add_htlc(
    message: UpdateAddHtlc,
    funded: &Funded,
    cx: &Context<'_>,
    decision: &mut Decision,
) -> Result<(), Error> {
    if funded.shutdown_by(Side::Remote) {
        return Err(Violation::AfterShutdown.into());
    }
    let offer = HtlcOffer {
        id: message.id,
        amount: message.amount_msat,
        payment_hash: message.payment_hash,
        cltv_expiry: message.cltv_expiry,
        onion: Some(message.onion_routing_packet),
        path_key: message.path_key,
    };
    let over_exposed = funded.commitments.check_receive_htlc(&offer, cx.policy.exposure)?;
    decision.log(commitment::Change::HtlcAdded { adder: Side::Remote, offer, over_exposed });
    Ok(())
}

fn receive_removal(id: HtlcId, removal: Removal, funded: &Funded, decision: &mut Decision) -> Result<(), Error> {
    funded.commitments.check_receive_removal(id, &removal)?;
    if let Removal::Fulfilled { preimage, attribution_data } = &removal {
        let attribution_data = attribution_data.clone();
        decision.effect(Effect::OutgoingFulfilled { id, preimage: *preimage, attribution_data });
    }
    decision.log(commitment::Change::HtlcRemoved { adder: Side::Local, id, removal });
    Ok(())
}

fn fulfilled(message: UpdateFulfillHtlc) -> Removal {
    Removal::Fulfilled { preimage: message.payment_preimage, attribution_data: message.attribution_data }
}

fn failed(message: UpdateFailHtlc) -> Removal {
    Removal::Failed { reason: message.reason, attribution_data: message.attribution_data }
}

const fn malformed(message: &UpdateFailMalformedHtlc) -> Removal {
    Removal::Malformed { sha256_of_onion: message.sha256_of_onion, failure_code: message.failure_code }
}

impl Funded {
    /// Whether messages of the peer are of no account any more, `channel_reestablish` and `error` apart.
    pub(super) const fn is_deaf(&self) -> bool {
        matches!(self.phase, Phase::Failed { .. } | Phase::Stale | Phase::Spent { .. })
    }

    /// Our `revoke_and_ack` makes our removals irrevocable that the peer has acked.
    fn report_settled(&self, decision: &mut Decision) {
        for htlc in self.commitments.incoming.values() {
            if let Some(removal) = htlc.removal.as_ref().filter(|removal| removal.stage == Stage::Acked) {
                let fulfilled = removal.removal.is_fulfilled();
                decision.effect(Effect::IncomingSettled { id: htlc.offer.id, fulfilled });
            }
        }
    }

    /// The peer's `revoke_and_ack` makes what it proposed, and we countersigned, irrevocable.
    fn report_irrevocable(&self, decision: &mut Decision) {
        for htlc in self.commitments.incoming.values().filter(|htlc| htlc.stage == Stage::Countersigned) {
            decision.effect(Effect::IncomingHtlc { offer: htlc.offer.clone(), must_fail: htlc.over_exposed });
        }
        for htlc in self.commitments.outgoing.values() {
            let Some(removal) = htlc.removal.as_ref().filter(|removal| removal.stage == Stage::Countersigned) else {
                continue;
            };
            let id = htlc.offer.id;
            let failure = match &removal.removal {
                Removal::Fulfilled { .. } => {
                    decision.effect(Effect::OutgoingSettled { id });
                    continue;
                }
                Removal::Failed { reason, attribution_data } => {
                    OutgoingFailure::Failed { reason: reason.clone(), attribution_data: attribution_data.clone() }
                }
                Removal::Malformed { sha256_of_onion, failure_code } => {
                    OutgoingFailure::Malformed { sha256_of_onion: *sha256_of_onion, failure_code: *failure_code }
                }
            };
            decision.effect(Effect::OutgoingFailed { id, payment_hash: htlc.offer.payment_hash, failure });
        }
    }
}

impl Change {
    /// Whether it may call for the next step of a mutual close.
    pub(super) const fn concerns_closing(&self) -> bool {
        matches!(self, Change::ShutdownDecided { .. } | Change::ShutdownReceived { .. })
    }
}
