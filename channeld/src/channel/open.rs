//! Opening: `open_channel`, `accept_channel`, `funding_created`, `funding_signed`, `channel_ready` (BOLT 2, "Channel
//! Establishment v1"), with the limits of PEERS.md A2.

use bitcoin::{Amount, OutPoint};

use super::port::{AbandonReason, AcceptRequest, Context, Effect, OpenRequest};
use super::proposal::{
    accepter_keys, channel_type, check_first_commitment, check_limits, check_open_channel, check_request, clamp,
    is_alias_only, limits_of_accepter, limits_of_opener, opener_keys, own_limits, upfront_script,
};
use super::state::{Change, Channel, Link, Phase, Proposal, State, Terms};
use super::{Decision, Error, Funded, Refusal, Violation};
use crate::commitment::{self, Commitments, Parameters, Side, View};
use crate::keys::PerCommitmentPoint;
use crate::transactions::{CommitmentSignature, CommitmentSignatures, Funding, verify_commitment};
use crate::units::{ChannelId, CommitmentNumber, ShortChannelId};
use crate::wire::{self, AcceptChannel, ChannelReady, FundingCreated, FundingSigned, OpenChannel};

impl Channel {
    /// Opens a channel: `open_channel` is the effect. The node keeps the channel as it is.
    ///
    /// # Errors
    /// [`Error::Refused`]
    pub fn open(request: OpenRequest, cx: &Context<'_>) -> Result<(Channel, Vec<Effect>), Error> {
        let policy = cx.policy;
        let feerate = clamp(request.feerate, policy);
        let limits = own_limits(policy, request.funding, Amount::ZERO);
        let parameters = Parameters { format: request.format, opener: Side::Local, local: limits, remote: limits };
        check_request(&request, &parameters, feerate, policy)?;
        let keys = cx.signer.basepoints(&request.keys_id);
        let upfront = request.upfront_shutdown_script.then(|| request.close_script.clone());
        let first_point = cx.signer.per_commitment_point(&request.keys_id, CommitmentNumber::new(0));
        let message = OpenChannel {
            chain_hash: cx.chain_hash,
            temporary_channel_id: request.temporary_channel_id,
            funding_satoshis: request.funding,
            push_msat: request.push,
            dust_limit_satoshis: limits.dust_limit,
            max_htlc_value_in_flight_msat: limits.max_htlc_value_in_flight,
            channel_reserve_satoshis: limits.channel_reserve,
            htlc_minimum_msat: limits.htlc_minimum,
            feerate_per_kw: feerate,
            to_self_delay: limits.to_self_delay,
            max_accepted_htlcs: limits.max_accepted_htlcs,
            funding_pubkey: *keys.funding_pubkey.key(),
            revocation_basepoint: *keys.revocation_basepoint.key(),
            payment_basepoint: *keys.payment_basepoint.key(),
            delayed_payment_basepoint: *keys.delayed_payment_basepoint.key(),
            htlc_basepoint: *keys.htlc_basepoint.key(),
            first_per_commitment_point: *first_point.key(),
            channel_flags: u8::from(request.announce),
            // With the feature on both sides the record must be there, empty to opt out; without it may be.
            upfront_shutdown_script: Some(upfront.clone().unwrap_or_default()),
            channel_type: Some(channel_type(request.format)),
        };
        let proposal = Proposal {
            parameters,
            funding: request.funding,
            push: request.push,
            feerate,
            local_keys: keys,
            local_upfront_script: upfront,
        };
        let channel = Channel {
            peer: request.peer,
            keys_id: request.keys_id,
            id: request.temporary_channel_id,
            opener: Side::Local,
            announce: request.announce,
            alias: request.alias,
            is_alias_only: false,
            opened_at: cx.height,
            close_script: request.close_script,
            link: Some(Link { features: request.features, reestablished: true }),
            state: State::AwaitingAccept(Box::new(proposal)),
        };
        Ok((channel, vec![Effect::Send(message.into())]))
    }

    /// Accepts the peer's `open_channel`: `accept_channel` is the effect. The node keeps the channel as it is.
    ///
    /// # Errors
    /// [`Error::Violated`]: nothing is kept, the node sends `error` with the temporary id.
    pub fn accept(
        message: &OpenChannel,
        request: AcceptRequest,
        cx: &Context<'_>,
    ) -> Result<(Channel, Vec<Effect>), Error> {
        let policy = cx.policy;
        let local_keys = cx.signer.basepoints(&request.keys_id);
        let format = check_open_channel(message, &request.features, &local_keys, cx)?;
        let local = own_limits(policy, message.funding_satoshis, message.dust_limit_satoshis);
        let parameters = Parameters { format, opener: Side::Remote, local, remote: limits_of_opener(message) };
        check_limits(&parameters, message.funding_satoshis, policy)?;
        check_first_commitment(message, &parameters)?;
        let upfront = request.upfront_shutdown_script.then(|| request.close_script.clone());
        let terms = Terms {
            parameters,
            funding: message.funding_satoshis,
            push: message.push_msat,
            feerate: message.feerate_per_kw,
            local_keys,
            remote_keys: opener_keys(message),
            remote_point: PerCommitmentPoint::new(message.first_per_commitment_point),
            minimum_depth: policy.minimum_depth,
            local_upfront_script: upfront.clone(),
            remote_upfront_script: upfront_script(message.upfront_shutdown_script.as_ref(), &request.features)?,
        };
        let first_point = cx.signer.per_commitment_point(&request.keys_id, CommitmentNumber::new(0));
        let answer = AcceptChannel {
            temporary_channel_id: message.temporary_channel_id,
            dust_limit_satoshis: local.dust_limit,
            max_htlc_value_in_flight_msat: local.max_htlc_value_in_flight,
            channel_reserve_satoshis: local.channel_reserve,
            htlc_minimum_msat: local.htlc_minimum,
            minimum_depth: terms.minimum_depth,
            to_self_delay: local.to_self_delay,
            max_accepted_htlcs: local.max_accepted_htlcs,
            funding_pubkey: *local_keys.funding_pubkey.key(),
            revocation_basepoint: *local_keys.revocation_basepoint.key(),
            payment_basepoint: *local_keys.payment_basepoint.key(),
            delayed_payment_basepoint: *local_keys.delayed_payment_basepoint.key(),
            htlc_basepoint: *local_keys.htlc_basepoint.key(),
            first_per_commitment_point: *first_point.key(),
            upfront_shutdown_script: Some(upfront.unwrap_or_default()),
            channel_type: message.channel_type.clone(),
        };
        let channel = Channel {
            peer: request.peer,
            keys_id: request.keys_id,
            id: message.temporary_channel_id,
            opener: Side::Remote,
            announce: message.announce_channel(),
            alias: request.alias,
            is_alias_only: is_alias_only(message),
            opened_at: cx.height,
            close_script: request.close_script,
            link: Some(Link { features: request.features, reestablished: true }),
            state: State::AwaitingFundingCreated(Box::new(terms)),
        };
        Ok((channel, vec![Effect::Send(answer.into())]))
    }

    pub(super) fn receive_accept_channel(
        &self,
        message: &AcceptChannel,
        cx: &Context<'_>,
        decision: &mut Decision,
    ) -> Result<(), Error> {
        let State::AwaitingAccept(proposal) = &self.state else {
            return Err(Violation::Unexpected { message_type: AcceptChannel::TYPE }.into());
        };
        if message.channel_type.as_ref() != Some(&channel_type(proposal.parameters.format)) {
            return Err(Violation::ChannelTypeChanged.into());
        }
        if message.minimum_depth > cx.policy.max_minimum_depth {
            return Err(Violation::MinimumDepth { depth: message.minimum_depth }.into());
        }
        if message.funding_pubkey == *proposal.local_keys.funding_pubkey.key() {
            return Err(Violation::FundingKey.into());
        }
        let parameters = Parameters { remote: limits_of_accepter(message), ..proposal.parameters };
        check_limits(&parameters, proposal.funding, cx.policy)?;
        let features = self.link.map(|link| link.features).unwrap_or_default();
        let remote_keys = accepter_keys(message);
        let terms = Terms {
            parameters,
            funding: proposal.funding,
            push: proposal.push,
            feerate: proposal.feerate,
            local_keys: proposal.local_keys,
            remote_keys,
            remote_point: PerCommitmentPoint::new(message.first_per_commitment_point),
            minimum_depth: message.minimum_depth.max(1),
            local_upfront_script: proposal.local_upfront_script.clone(),
            remote_upfront_script: upfront_script(message.upfront_shutdown_script.as_ref(), &features)?,
        };
        let keys = (&terms.local_keys.funding_pubkey, &remote_keys.funding_pubkey);
        let script_pubkey = Funding::script_pubkey_of(keys.0, keys.1);
        decision.effect(Effect::FundingNeeded { script_pubkey, amount: terms.funding });
        decision.change(Change::Accepted(Box::new(terms)));
        Ok(())
    }

    pub(super) fn funding_built(
        &self,
        outpoint: OutPoint,
        cx: &Context<'_>,
        decision: &mut Decision,
    ) -> Result<(), Error> {
        let (State::AwaitingFunding(terms), Ok(funding_output_index)) = (&self.state, u16::try_from(outpoint.vout))
        else {
            return Err(Refusal::NotOpening.into());
        };
        let commitments = terms.begin(outpoint);
        let signature = self.sign_first(&commitments, cx);
        decision.change(Change::FundingKnown { outpoint });
        decision.effect(identified(&commitments));
        decision.send(FundingCreated {
            temporary_channel_id: self.id,
            funding_txid: outpoint.txid,
            funding_output_index,
            signature: *signature.ecdsa(),
        });
        Ok(())
    }

    pub(super) fn receive_funding_created(
        &self,
        message: &FundingCreated,
        cx: &Context<'_>,
        decision: &mut Decision,
    ) -> Result<(), Error> {
        let State::AwaitingFundingCreated(terms) = &self.state else {
            return Err(Violation::Unexpected { message_type: FundingCreated::TYPE }.into());
        };
        let outpoint = OutPoint::new(message.funding_txid, u32::from(message.funding_output_index));
        let commitments = terms.begin(outpoint);
        let signatures = self.verify_first(&commitments, CommitmentSignature::Ecdsa(message.signature), cx)?;
        let signature = self.sign_first(&commitments, cx);
        decision.change(Change::FundingKnown { outpoint });
        decision.log(commitment::Change::FirstSigned { signatures });
        decision.effect(identified(&commitments));
        let channel_id = ChannelId::from_funding_outpoint(outpoint);
        decision.send(FundingSigned { channel_id, signature: *signature.ecdsa() });
        Ok(())
    }

    pub(super) fn receive_funding_signed(
        &self,
        message: &FundingSigned,
        cx: &Context<'_>,
        decision: &mut Decision,
    ) -> Result<(), Error> {
        let funded = self.funded().filter(|funded| funded.phase == Phase::AwaitingFundingSigned);
        let Some(funded) = funded else {
            return Err(Violation::Unexpected { message_type: FundingSigned::TYPE }.into());
        };
        let signature = CommitmentSignature::Ecdsa(message.signature);
        let signatures = self.verify_first(&funded.commitments, signature, cx)?;
        decision.log(commitment::Change::FirstSigned { signatures });
        decision.change(Change::FundingSigned);
        let outpoint = funded.commitments.main().funding().outpoint();
        decision.effect(Effect::BroadcastFunding { outpoint });
        Ok(())
    }

    fn sign_first(&self, commitments: &Commitments, cx: &Context<'_>) -> CommitmentSignature {
        let transaction = commitments.build(View::RemoteCurrent, &commitments.remote_point);
        transaction.sign(&commitments.main().remote, cx.signer, &self.keys_id).commitment
    }

    fn verify_first(
        &self,
        commitments: &Commitments,
        signature: CommitmentSignature,
        cx: &Context<'_>,
    ) -> Result<CommitmentSignatures, Error> {
        let point = cx.signer.per_commitment_point(&self.keys_id, commitments.local_number);
        let transaction = commitments.build(View::LocalCurrent, &point);
        if verify_commitment(&commitments.main().local, &transaction, &signature).is_err() {
            return Err(Violation::commitment_signature(transaction.transaction()).into());
        }
        Ok(CommitmentSignatures { commitment: signature, htlcs: Vec::new() })
    }

    pub(super) fn funding_depth(
        &self,
        depth: u32,
        short_channel_id: ShortChannelId,
        cx: &Context<'_>,
        decision: &mut Decision,
    ) {
        let Some(funded) = self.funded() else { return };
        if funded.short_channel_id != Some(short_channel_id) {
            decision.change(Change::FundingConfirmed(Some(short_channel_id)));
        }
        if depth < funded.minimum_depth || funded.local_ready || funded.phase != Phase::Open {
            return;
        }
        decision.change(Change::LocalReady);
        if self.is_live() {
            decision.send(self.channel_ready(cx));
        }
        if funded.remote_ready {
            decision.effect(Effect::Ready);
        }
    }

    /// BOLT 2: no `channel_ready` unless the output pays exactly `funding_satoshis` to the agreed script. What the opener named
    /// instead never becomes the channel's: no commitment of ours can spend it, and nobody's money is in it but the opener's.
    pub(super) fn funding_invalid(&self, decision: &mut Decision) {
        if self.funded().is_some() && self.opener == Side::Remote {
            decision.send(wire::Error::new(self.id, "the funding output is not the one that was agreed on"));
            self.give_up(AbandonReason::FundingInvalid, decision);
        }
    }

    pub(super) fn funding_reorged(&self, decision: &mut Decision) {
        if self.funded().is_some_and(|funded| funded.short_channel_id.is_some()) {
            decision.change(Change::FundingConfirmed(None));
        }
    }

    /// Our `channel_ready`, first or again.
    pub(super) fn channel_ready(&self, cx: &Context<'_>) -> ChannelReady {
        let point = cx.signer.per_commitment_point(&self.keys_id, CommitmentNumber::new(1));
        ChannelReady {
            channel_id: self.id,
            second_per_commitment_point: *point.key(),
            short_channel_id: Some(self.alias),
        }
    }

    /// Also before `channel_reestablish`, as LND sends it: it changes nothing that was signed.
    pub(super) fn receive_channel_ready(&self, message: &ChannelReady, decision: &mut Decision) -> Result<(), Error> {
        let ready_phase = |funded: &&Funded| funded.phase != Phase::AwaitingFundingSigned;
        let Some(funded) = self.funded().filter(ready_phase) else {
            return Err(Violation::Unexpected { message_type: ChannelReady::TYPE }.into());
        };
        let alias = message.short_channel_id;
        if funded.remote_ready {
            // BOLT 2: a redundant one is ignored, but it may bring another alias.
            if alias.is_some() && alias != funded.remote_alias {
                decision.change(Change::RemoteReady { alias, point: None });
            }
            return Ok(());
        }
        decision.change(Change::RemoteReady { alias, point: Some(message.second_per_commitment_point) });
        if funded.local_ready {
            decision.effect(Effect::Ready);
        }
        Ok(())
    }
}

fn identified(commitments: &Commitments) -> Effect {
    let funding = commitments.main().funding();
    Effect::Identified {
        channel_id: ChannelId::from_funding_outpoint(funding.outpoint()),
        outpoint: funding.outpoint(),
        script_pubkey: funding.output().script_pubkey,
    }
}
