//! Plans and audits of closes, and faults on purpose for development.

use bitcoin::{Amount, Transaction};

use super::Outcome;
use crate::commitment::{Side, View};
use crate::node::Node;
use crate::node::api::command::Fault;
use crate::node::api::refusal::Refusal;
use crate::node::api::reply::{ChannelAudit, CloseEstimate, ClosePlan, FaultDone, PlannedOutput, Reply};
use crate::node::input::Effect;
use crate::node::live::Kept;
use crate::node::state::ChannelEntry;
use crate::transactions::{CommitmentFormat, HtlcDirection};
use crate::units::{ChannelId, FeeratePerKw};

/// A mutual close of two P2WPKH outputs, signed.
const CLOSING_WEIGHT: u64 = 672;
/// An input that claims `to_local` or an HTLC, with an output: what a claim weighs, rounded up.
const CLAIM_WEIGHT: u64 = 600;
/// An anchor's value (BOLT 3).
const ANCHOR: Amount = Amount::from_sat(330);

impl Node {
    pub(super) fn plan_close(&self, id: ChannelId) -> Outcome {
        let entry = self.state.channels.get(&id).ok_or(Refusal::ChannelNotFound(id))?;
        let forced = self.plan_forced(entry).ok_or(Refusal::ChannelNotFound(id))?;
        let cooperative = entry.channel.is_live().then(|| self.plan_cooperative(entry)).flatten();
        Ok(Reply::ClosePlan(ClosePlan { channel: id, cooperative, forced }))
    }

    fn plan_cooperative(&self, entry: &ChannelEntry) -> Option<CloseEstimate> {
        let commitments = entry.channel.commitments()?;
        let fee = self.feerate(6).fee_ceil(CLOSING_WEIGHT);
        let ours = commitments.tally(View::LocalCurrent).local.to_amount_floor();
        let paid = if entry.channel.opener == Side::Local { fee } else { Amount::ZERO };
        let amount = ours.checked_sub(paid).unwrap_or_default();
        let outputs = output("closing", amount, 0, commitments.parameters.local.dust_limit);
        Some(CloseEstimate { fee, claim_fees: Amount::ZERO, outputs })
    }

    fn plan_forced(&self, entry: &ChannelEntry) -> Option<CloseEstimate> {
        let commitments = entry.channel.commitments()?;
        let tally = commitments.tally(View::LocalCurrent);
        let cost = commitments.parameters.opener_cost(tally.feerate, tally.untrimmed).to_amount_floor();
        let paid = if entry.channel.opener == Side::Local { cost } else { Amount::ZERO };
        let dust = commitments.parameters.local.dust_limit;
        let delay = u32::from(commitments.parameters.remote.to_self_delay.blocks());
        let ours = tally.local.to_amount_floor().checked_sub(paid).unwrap_or_default();
        let mut outputs = output("to_local", ours, delay, dust);
        if commitments.parameters.format == CommitmentFormat::Anchors {
            outputs.extend(output("anchor", ANCHOR, 0, Amount::ZERO));
        }
        let height = self.state.height().height();
        for htlc in commitments.outgoing.values().chain(commitments.incoming.values()) {
            let wait = htlc.offer.cltv_expiry.height().saturating_sub(height) + delay;
            outputs.extend(output("htlc", htlc.amount_sat(), wait, dust));
        }
        let claims = outputs.iter().filter(|output| output.kind != "anchor").count() as u64;
        let feerate: FeeratePerKw = self.feerate(6);
        Some(CloseEstimate { fee: cost, claim_fees: feerate.fee_ceil(CLAIM_WEIGHT * claims), outputs })
    }

    /// Each channel's newest commitment is built and checked as if it went to the chain now.
    pub(super) fn audit(&self, wanted: Option<ChannelId>) -> Outcome {
        if let Some(id) = wanted
            && !self.state.channels.contains_key(&id)
        {
            return Err(Refusal::ChannelNotFound(id));
        }
        let audited = self.state.channels.iter().filter(|(id, _)| wanted.is_none_or(|wanted| wanted == **id));
        Ok(Reply::Audits(audited.map(|(id, entry)| self.audit_one(*id, entry)).collect()))
    }

    fn audit_one(&self, id: ChannelId, entry: &ChannelEntry) -> ChannelAudit {
        let mut problems = Vec::new();
        let commitment = entry.channel.signed_local_commitment(&self.context());
        match (&commitment, entry.channel.commitments()) {
            (Some(commitment), Some(commitments)) => {
                let spends = commitment.input.first().map(|input| input.previous_output);
                if spends != Some(commitments.main().funding().outpoint()) {
                    problems.push("our commitment does not spend the funding output".to_owned());
                }
                let paid: Amount = commitment.output.iter().map(|output| output.value).sum();
                if paid > commitments.main().funding().amount() {
                    problems.push("our commitment pays more than the channel holds".to_owned());
                }
                if !commitments.tally(View::LocalCurrent).holds(commitments.main().funding().amount()) {
                    problems.push("balances and HTLCs are not the capacity".to_owned());
                }
            }
            _ => problems.push("our commitment is not signed by the peer".to_owned()),
        }
        ChannelAudit {
            channel: id,
            commitment_txid: commitment.map(|commitment| commitment.compute_txid()),
            penalties: entry.channel.commitments().map_or(0, |commitments| commitments.remote_number.number()),
            problems,
            checked: self.moment.now,
        }
    }

    pub(super) fn inject(&mut self, fault: Fault) -> Outcome {
        if !self.settings.development {
            return Err(Refusal::NotDevelopmentNetwork);
        }
        match fault {
            Fault::KeepState { channel } => self.keep_state(channel),
            Fault::ReplayOldState { channel } => self.replay_old_state(channel),
            Fault::HoldHtlcs { channel, hold } => self.hold_htlcs(channel, hold),
            Fault::Cut { peer } => {
                if !self.live.sessions.contains_key(&peer) {
                    return Err(Refusal::PeerOffline(peer));
                }
                self.disconnect(peer);
                Ok(Reply::Fault(FaultDone::Cut))
            }
        }
    }

    fn keep_state(&mut self, id: ChannelId) -> Outcome {
        let entry = self.state.channels.get(&id).ok_or(Refusal::ChannelNotFound(id))?;
        let unsigned = || Refusal::ChannelNotUsable { description: "the channel has no signed commitment".to_owned() };
        let commitments = entry.channel.commitments().ok_or_else(unsigned)?;
        let number = commitments.local_number;
        let transaction = entry.channel.signed_local_commitment(&self.context()).ok_or_else(unsigned)?;
        let txid = transaction.compute_txid();
        let mut transactions = vec![transaction];
        transactions.extend(self.claims_of_kept(id).unwrap_or_default());
        self.live.kept.insert(id, Kept { number, transactions });
        Ok(Reply::Fault(FaultDone::Kept { commitment: number, txid }))
    }

    /// The HTLC-success transactions of our newest commitment for which we have the preimage: a cheater broadcasts them
    /// at once. With anchors they pay no fee, and no node relays them.
    fn claims_of_kept(&self, id: ChannelId) -> Option<Vec<Transaction>> {
        let facts = self.state.channels.get(&id)?.channel.closing_facts()?;
        let main = facts.commitments.main();
        let signatures = main.signatures.as_ref()?;
        if main.local.format().has_anchors() {
            return None;
        }
        let point = self.signer.per_commitment_point(&facts.keys_id, facts.commitments.local_number);
        let commitment = facts.commitments.build(View::LocalCurrent, &point);
        let pairs = commitment.htlcs().iter().zip(&signatures.htlcs).enumerate();
        let received = pairs.filter(|(_, (committed, _))| committed.htlc.direction == HtlcDirection::Received);
        let claims = received.filter_map(|(index, (committed, countersignature))| {
            let incoming = facts.commitments.incoming.get(&committed.htlc.id)?;
            let preimage = self.preimage_for(id, &incoming.offer)?;
            let claim = commitment.htlc_transaction(&main.local, index);
            let sighash = claim.broadcaster_sighash(claim.transaction(), 0);
            let own = self.signer.sign_htlc(&facts.keys_id, &point, sighash);
            Some(claim.signed(countersignature, &own, Some(&preimage)))
        });
        Some(claims.collect())
    }

    fn hold_htlcs(&mut self, id: ChannelId, hold: bool) -> Outcome {
        if !self.state.channels.contains_key(&id) {
            return Err(Refusal::ChannelNotFound(id));
        }
        if hold {
            self.live.held.insert(id);
        } else if self.live.held.remove(&id) {
            self.judge_again(id);
        }
        Ok(Reply::Fault(FaultDone::Held))
    }

    /// What a cheater does: its victim is to take everything.
    fn replay_old_state(&mut self, id: ChannelId) -> Outcome {
        let kept = self.live.kept.get(&id).ok_or(Refusal::NoStateKept)?;
        let txid = kept.transactions.first().ok_or(Refusal::NoStateKept)?.compute_txid();
        let commitment = kept.number;
        self.turns.push(Effect::Broadcast(kept.transactions.clone()));
        Ok(Reply::Fault(FaultDone::Replayed { commitment, txid }))
    }
}

/// An output, unless it would be below `dust`.
fn output(kind: &str, amount: Amount, delay: u32, dust: Amount) -> Vec<PlannedOutput> {
    if amount < dust || amount == Amount::ZERO {
        return Vec::new();
    }
    vec![PlannedOutput { kind: kind.to_owned(), amount, delay }]
}
