//! Coming back after a lost connection (BOLT 2, "Message Retransmission"): what was lost is sent again in its order, what was
//! not signed is forgotten, and who has lost data finds out before it can hurt.

use subtle::ConstantTimeEq;

use super::port::{AbandonReason, Context, Effect, Notice, OutgoingFailure, SessionFeatures};
use super::state::{Change, Channel, Funded, Phase, State};
use super::{Decision, Error, Failure, Violation};
use crate::commitment::{self, Commitments, LastSent, Side, Stage, View};
use crate::keys::PerCommitmentSecret;
use crate::units::CommitmentNumber;
use crate::wire::{self, ChannelReestablish, RevealedSecret, UpdateFee};

/// What the peer's numbers say about what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It has all, but for what is to be sent again.
    Level {
        /// Our last `revoke_and_ack`.
        revocation: bool,
        /// Our last `commitment_signed` and its updates.
        commitment: bool,
    },
    /// It has lost data: it waits for us, or asks us to close.
    PeerBehind,
    /// It has proved that we have lost data.
    WeAreBehind,
}

impl Channel {
    pub(super) fn connect(&self, features: SessionFeatures, cx: &Context<'_>, decision: &mut Decision) {
        let State::Funded(funded) = &self.state else {
            decision.change(Change::Connected { features, reestablished: true });
            return;
        };
        decision.change(Change::Connected { features, reestablished: false });
        match &funded.phase {
            // BOLT 2: a failed channel retransmits its error and ignores everything else. A peer that has said one itself, or
            // sees on the chain what became of the channel, needs none: Core Lightning hangs up on an error about a channel
            // that is over, each time, and no other channel with it would be of use.
            Phase::Failed { failure: Failure::PeerError { .. } } | Phase::Spent { .. } => {}
            Phase::Failed { .. } => decision.send(self.standing_error(funded)),
            Phase::AwaitingFundingSigned => {}
            Phase::Open | Phase::MutuallyClosed { .. } | Phase::Stale => {
                if funded.misses_transfers(&features) {
                    decision.effect(Effect::Noticed(Notice::TransfersMissing));
                    return;
                }
                decision.send(self.reestablish(&funded.commitments, cx));
            }
        }
    }

    fn reestablish(&self, commitments: &Commitments, cx: &Context<'_>) -> ChannelReestablish {
        let revoked = commitments.remote_number.previous();
        let secret = revoked.map(|number| commitments.secrets.secret(number).expect("every revoked one is kept"));
        ChannelReestablish {
            channel_id: self.id,
            next_commitment_number: commitments.local_number.next().number(),
            next_revocation_number: commitments.remote_number.number(),
            your_last_per_commitment_secret: RevealedSecret(secret.map_or([0; 32], |secret| *secret.as_bytes())),
            my_current_per_commitment_point: *cx
                .signer
                .per_commitment_point(&self.keys_id, commitments.local_number)
                .key(),
            next_funding: None,
            my_current_funding_locked: None,
        }
    }

    pub(super) fn disconnect(&self, decision: &mut Decision) {
        match &self.state {
            State::Abandoned(_) => {}
            State::Funded(funded) if funded.phase != Phase::AwaitingFundingSigned => {
                if self.link.is_some() {
                    decision.change(Change::Disconnected);
                }
                funded.roll_back(decision);
            }
            // BOLT 2: what is not funded is not remembered.
            _ => {
                decision.change(Change::Disconnected);
                self.give_up(AbandonReason::Disconnected, decision);
            }
        }
    }

    pub(super) fn give_up(&self, reason: AbandonReason, decision: &mut Decision) {
        decision.change(Change::Abandoned(reason.clone()));
        decision.effect(Effect::Abandoned { reason });
    }

    pub(super) fn receive_reestablish(
        &self,
        message: &ChannelReestablish,
        cx: &Context<'_>,
        decision: &mut Decision,
    ) -> Result<(), Error> {
        let unexpected = Violation::Unexpected { message_type: ChannelReestablish::TYPE };
        let (Some(funded), Some(link)) = (self.funded(), self.link) else { return Err(unexpected.into()) };
        match funded.phase {
            Phase::Failed { .. } | Phase::Stale | Phase::Spent { .. } => {
                decision.send(self.standing_error(funded));
                return Ok(());
            }
            Phase::AwaitingFundingSigned => return Err(unexpected.into()),
            Phase::Open | Phase::MutuallyClosed { .. } => {}
        }
        if link.reestablished {
            return Err(unexpected.into());
        }
        if funded.misses_transfers(&link.features) {
            decision.send(wire::Warning::new(self.id, "a transfer is unacked and netted transfers are not negotiated"));
            return Ok(());
        }
        match self.standing(&funded.commitments, message, cx)? {
            Standing::Level { revocation, commitment } => {
                decision.change(Change::Reestablished);
                if message.next_commitment_number == 1
                    && funded.commitments.local_number == CommitmentNumber::new(0)
                    && funded.local_ready
                {
                    decision.send(self.channel_ready(cx));
                }
                self.retransmit(funded, revocation, commitment, cx, decision);
            }
            Standing::PeerBehind => decision.effect(Effect::Noticed(Notice::PeerStale)),
            Standing::WeAreBehind => {
                decision.change(Change::Phase(Phase::Stale));
                decision.effect(Effect::Stale);
                decision.send(wire::Error::new(self.id, STALE_TEXT));
            }
        }
        Ok(())
    }

    fn standing(
        &self,
        commitments: &Commitments,
        message: &ChannelReestablish,
        cx: &Context<'_>,
    ) -> Result<Standing, Violation> {
        let (commitment, revocation) = (message.next_commitment_number, message.next_revocation_number);
        if commitment == 0 {
            return Err(Violation::ReestablishZero);
        }
        let local = commitments.local_number.number();
        // BOLT 2: the secret proves what was revoked. `my_current_per_commitment_point` is never looked at: LDK sends a
        // dummy (PEERS.md A2).
        let proved = match revocation.checked_sub(1) {
            None => true,
            Some(number) if number >= CommitmentNumber::LAST.number() => false,
            Some(number) => {
                let own = cx.signer.per_commitment_secret(&self.keys_id, CommitmentNumber::new(number));
                let shown = PerCommitmentSecret::new(message.your_last_per_commitment_secret.0);
                own.ct_eq(&shown).into()
            }
        };
        if !proved {
            return Err(Violation::ReestablishSecret);
        }
        if revocation > local {
            return Ok(Standing::WeAreBehind);
        }
        let signed = commitments.number(View::RemoteSigned).number();
        if revocation + 1 < local || commitment < signed.max(1) {
            return Ok(Standing::PeerBehind);
        }
        let next = signed + 1;
        if commitment > next || (commitment < next && !commitments.awaiting_revocation) {
            // Without a pending signature a number below the next is that of a revoked commitment.
            return match commitment < next {
                true => Ok(Standing::PeerBehind),
                false => Err(Violation::ReestablishNumber { commitment, revocation }),
            };
        }
        Ok(Standing::Level { revocation: revocation < local, commitment: commitment < next })
    }

    fn retransmit(
        &self,
        funded: &Funded,
        revocation: bool,
        commitment: bool,
        cx: &Context<'_>,
        decision: &mut Decision,
    ) {
        let commitments = &funded.commitments;
        let resend_revocation = |decision: &mut Decision| {
            if let Some(number) = commitments.local_number.previous().filter(|_| revocation) {
                decision.send(self.revocation(number, cx));
            }
        };
        if commitments.last_sent == LastSent::Commitment {
            resend_revocation(decision);
        }
        if commitment {
            self.resend_updates(commitments, Stage::Signed, decision);
            let message = self.sign_remote(commitments, View::RemoteSigned, cx);
            decision.effects.extend(message.map(|message| Effect::Send(message.into())));
        }
        if commitments.last_sent == LastSent::Revocation {
            resend_revocation(decision);
        }
        // Removals that were never signed survive a lost connection; the peer has forgotten them.
        self.resend_updates(commitments, Stage::Proposed, decision);
        self.resend_sessions(funded, decision);
    }

    /// All our updates at `stage`. Removals first: what comes after may live on the balance that they bring.
    fn resend_updates(&self, commitments: &Commitments, stage: Stage, decision: &mut Decision) {
        for htlc in commitments.incoming.values() {
            if let Some(removal) = htlc.removal.as_ref().filter(|removal| removal.stage == stage) {
                decision.send(self.removal_message(htlc.offer.id, &removal.removal));
            }
        }
        if commitments.parameters.opener == Side::Local
            && let Some(fee) = commitments.fees.iter().rev().find(|fee| fee.stage == stage)
        {
            decision.send(UpdateFee { channel_id: self.id, feerate_per_kw: fee.feerate });
        }
        for pending in commitments.outgoing_transfers.pending.iter().filter(|pending| pending.stage == stage) {
            decision.send(self.transfer_message(&pending.transfer));
        }
        for htlc in commitments.outgoing.values().filter(|htlc| htlc.stage == stage) {
            decision.effects.extend(self.add_message(&htlc.offer).map(Effect::Send));
        }
    }

    /// What a failed channel has to say whenever it is asked.
    fn standing_error(&self, funded: &Funded) -> wire::Error {
        match &funded.phase {
            Phase::Failed { failure } => wire::Error::new(self.id, &failure.to_string()),
            Phase::Stale => wire::Error::new(self.id, STALE_TEXT),
            _ => wire::Error::new(self.id, "the funding output is spent"),
        }
    }
}

/// BOLT 2: asks the peer to close, for we must not.
const STALE_TEXT: &str = "we have lost data of this channel: please close it";

impl Funded {
    /// Forgets what no `commitment_signed` covered, and says what became of ours.
    pub(super) fn roll_back(&self, decision: &mut Decision) {
        let commitments = &self.commitments;
        if !commitments.has_uncommitted() {
            return;
        }
        for htlc in commitments.outgoing.values().filter(|htlc| htlc.stage == Stage::Proposed) {
            let (id, payment_hash) = (htlc.offer.id, htlc.offer.payment_hash);
            decision.effect(Effect::OutgoingFailed { id, payment_hash, failure: OutgoingFailure::NeverCommitted });
        }
        self.report_transfers_returned(decision);
        decision.log(commitment::Change::RolledBack);
    }

    /// TRANSFER.md: a peer that comes back without transfers while a signed one is unacked has to wait.
    pub(super) fn misses_transfers(&self, features: &SessionFeatures) -> bool {
        let log = &self.commitments;
        let pending = !log.outgoing_transfers.pending.is_empty() || !log.incoming_transfers.pending.is_empty();
        pending && !features.transfers
    }
}
