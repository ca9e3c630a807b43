//! What a close would cost, and whether everything that a close needs is there and right.

use bitcoin::Amount;

use super::Outcome;
use super::query::paged;
use crate::channel::{Channel, Phase};
use crate::commitment::{Commitments, Side, View};
use crate::node::Node;
use crate::node::api::command::Page;
use crate::node::api::refusal::Refusal;
use crate::node::api::reply::{
    AuditCheck, ChannelAudit, CloseEstimate, ClosePlan, FundingStatus, PlannedKind, PlannedOutput, Reply,
};
use crate::node::state::ChannelEntry;
use crate::onchain::{ClosedChannel, Outlook, Prospect, ProspectKind};
use crate::transactions::{verify_commitment, verify_htlcs};
use crate::units::{ChannelId, FeeratePerKw};

/// A mutual close of two P2WPKH outputs, signed.
const CLOSING_WEIGHT: u64 = 672;

impl Node {
    pub(super) fn plan_close(&self, id: ChannelId) -> Outcome {
        let entry = self.state.channels.get(&id).ok_or(Refusal::ChannelNotFound(id))?;
        let funded = entry.channel.funded().ok_or(Refusal::ChannelNotFound(id))?;
        if !matches!(funded.phase, Phase::Open | Phase::Failed { .. } | Phase::Stale) {
            return Err(Refusal::ChannelNotUsable { description: "closed already: see GetBalances".to_owned() });
        }
        let is_open = funded.phase == Phase::Open;
        let htlcs = funded.commitments.outgoing.len() + funded.commitments.incoming.len();
        Ok(Reply::ClosePlan(ClosePlan {
            channel: id,
            height: self.state.height(),
            cooperative: (is_open && entry.channel.is_live()).then(|| self.plan_cooperative(entry)).flatten(),
            forced: (funded.phase != Phase::Stale).then(|| self.plan_forced(id, entry)).flatten(),
            pending_htlcs: u32::try_from(htlcs).unwrap_or(u32::MAX),
        }))
    }

    fn plan_cooperative(&self, entry: &ChannelEntry) -> Option<CloseEstimate> {
        let commitments = entry.channel.commitments()?;
        let fee = self.feerate(6).max(FeeratePerKw::FLOOR).fee_ceil(CLOSING_WEIGHT);
        let ours = commitments.tally(View::LocalCurrent).local.to_amount_floor();
        let own_fee = if entry.channel.opener == Side::Local { fee.min(ours) } else { Amount::ZERO };
        let amount = ours - own_fee;
        let is_worth_it = amount >= commitments.parameters.local.dust_limit;
        let output = PlannedOutput {
            kind: PlannedKind::Closing,
            amount,
            claim_fee: Amount::ZERO,
            // The closing transaction is in the next block; the wallet spends it from there on.
            spendable_at: self.state.height().plus(2),
            payment_hash: None,
        };
        let outputs = is_worth_it.then_some(output).into_iter().collect();
        Some(CloseEstimate { fee, own_fee, claim_fees: Amount::ZERO, outputs })
    }

    fn plan_forced(&self, id: ChannelId, entry: &ChannelEntry) -> Option<CloseEstimate> {
        let facts = entry.channel.closing_facts()?;
        // Nothing is sent there: a plan needs a script of the right length.
        let script = facts.commitments.main().funding().output().script_pubkey;
        let closed = ClosedChannel::new(facts.keys_id, &facts.commitments, &self.signer, Vec::new(), script)?;
        let preimages = self.settled_preimages(id);
        let outlook = Outlook::new(closed, &preimages, self.state.height(), &self.chain_context());
        let claims: Amount = outlook.prospects.iter().map(|prospect| prospect.claim_fee).sum();
        Some(CloseEstimate {
            fee: outlook.fee,
            own_fee: if entry.channel.opener == Side::Local { outlook.fee } else { Amount::ZERO },
            claim_fees: outlook.child_fee + claims,
            outputs: outlook.prospects.iter().map(planned).collect(),
        })
    }

    /// Each channel's newest commitment is built and checked as if it went to the chain now.
    pub(super) fn audit(&self, wanted: Option<ChannelId>, page: Page) -> Outcome {
        if let Some(id) = wanted
            && !self.state.channels.contains_key(&id)
        {
            return Err(Refusal::ChannelNotFound(id));
        }
        let chosen = self.state.channels.iter().filter(|(id, _)| wanted.is_none_or(|wanted| wanted == **id));
        let mut chosen: Vec<_> = chosen.map(|(id, entry)| (entry.index, *id)).collect();
        chosen.sort_unstable();
        let chosen = paged(chosen, page);
        let audits = chosen.items.into_iter().filter_map(|id| Some(self.audit_one(id, self.state.channels.get(&id)?)));
        Ok(Reply::Audits(crate::node::api::reply::Paged { items: audits.collect(), next: chosen.next }))
    }

    fn audit_one(&self, id: ChannelId, entry: &ChannelEntry) -> ChannelAudit {
        let mut audit = ChannelAudit {
            channel: id,
            index: entry.index,
            commitment_txid: None,
            commitment_number: crate::units::CommitmentNumber::new(0),
            signatures: 0,
            revoked: 0,
            offered: [0; 2],
            penalty_rows: 0,
            funding: None,
            expects_funding: expects_funding(&entry.channel),
            funding_status: FundingStatus::Unknown,
            problems: Vec::new(),
        };
        let Some(commitments) = entry.channel.commitments() else {
            audit.problems.push((AuditCheck::Signature, "it has no commitment".to_owned()));
            return audit;
        };
        let funding = commitments.main().funding();
        audit.commitment_number = commitments.local_number;
        audit.revoked = commitments.remote_number.number();
        audit.offered = [commitments.next_outgoing.id(), commitments.next_incoming.id()];
        audit.funding = Some((funding.outpoint(), funding.output()));
        if !commitments.tally(View::LocalCurrent).holds(funding.amount()) {
            audit.problems.push((AuditCheck::Balance, "balances and HTLCs are not the capacity".to_owned()));
        }
        self.audit_signatures(entry, commitments, &mut audit);
        if commitments.secrets.next_number() != commitments.remote_number {
            let description = format!("secrets of {} commitments are kept", commitments.secrets.next_number());
            audit.problems.push((AuditCheck::Secret, description));
        }
        if let Err(error) = commitments.secrets.verify() {
            audit.problems.push((AuditCheck::Secret, error.to_string()));
        }
        audit
    }

    fn audit_signatures(&self, entry: &ChannelEntry, commitments: &Commitments, audit: &mut ChannelAudit) {
        let main = commitments.main();
        let Some(signatures) = &main.signatures else {
            audit.problems.push((AuditCheck::Signature, "the peer has not signed our commitment".to_owned()));
            return;
        };
        let point = self.signer.per_commitment_point(&entry.channel.keys_id, commitments.local_number);
        let commitment = commitments.build(View::LocalCurrent, &point);
        audit.commitment_txid = Some(commitment.txid());
        let verified = verify_commitment(&main.local, &commitment, &signatures.commitment)
            .and_then(|()| verify_htlcs(&main.local, &commitment, &signatures.htlcs));
        match verified {
            Ok(()) => audit.signatures = u32::try_from(1 + signatures.htlcs.len()).unwrap_or(u32::MAX),
            Err(error) => audit.problems.push((AuditCheck::Signature, error.to_string())),
        }
        let paid: Amount = commitment.transaction().output.iter().map(|output| output.value).sum();
        if paid > main.funding().amount() {
            let description = "our commitment pays more than the channel holds".to_owned();
            audit.problems.push((AuditCheck::Balance, description));
        }
    }
}

/// Whether the funding output should be there: it was in a block, and nothing is on its way that spends it.
fn expects_funding(channel: &Channel) -> bool {
    channel
        .funded()
        .is_some_and(|funded| funded.short_channel_id.is_some() && matches!(funded.phase, Phase::Open | Phase::Stale))
}

fn planned(prospect: &Prospect) -> PlannedOutput {
    PlannedOutput {
        kind: match prospect.kind {
            ProspectKind::ToLocal => PlannedKind::ToLocal,
            ProspectKind::Offered => PlannedKind::OfferedHtlc,
            ProspectKind::Received => PlannedKind::ReceivedHtlc,
        },
        amount: prospect.amount,
        claim_fee: prospect.claim_fee,
        spendable_at: prospect.spendable_at,
        payment_hash: prospect.payment_hash,
    }
}
