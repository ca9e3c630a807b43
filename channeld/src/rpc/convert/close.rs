//! Plans of closes, audits, and transactions made dearer.

use proto::v1::{
    AuditCheck, AuditProblem, BumpKind, BumpTransactionResponse, ChannelAudit, ClosePlan, FundingStatus,
    PlanCloseResponse, PlannedOutput, PlannedOutputKind,
};

use crate::node::reply::{self, CloseEstimate};

/// A transaction with a higher fee.
pub fn bumped(bumped: reply::Bumped, validate_only: bool) -> BumpTransactionResponse {
    let kind = match bumped.kind {
        reply::BumpKind::Replacement => BumpKind::Replacement,
        reply::BumpKind::Child => BumpKind::Child,
        reply::BumpKind::Claim => BumpKind::Claim,
    };
    BumpTransactionResponse {
        txid: if validate_only { String::new() } else { bumped.txid.to_string() },
        fee_sat: bumped.fee.to_sat(),
        kind: kind.into(),
        replaced_txid: bumped.replaces.map(|txid| txid.to_string()).unwrap_or_default(),
    }
}

/// What a close would cost.
pub fn close_plan(plan: reply::ClosePlan) -> PlanCloseResponse {
    PlanCloseResponse {
        channel_id: plan.channel.to_string(),
        block_height: plan.height.height(),
        cooperative: plan.cooperative.map(estimate),
        forced: plan.forced.map(estimate),
        pending_htlc_count: plan.pending_htlcs,
    }
}

fn estimate(estimate: CloseEstimate) -> ClosePlan {
    let outputs = estimate.outputs.iter();
    let brought: u64 = outputs.map(|output| output.amount.to_sat()).sum();
    ClosePlan {
        fee_sat: estimate.fee.to_sat(),
        own_fee_sat: estimate.own_fee.to_sat(),
        claim_fee_sat: estimate.claim_fees.to_sat(),
        net_sat: brought.saturating_sub(estimate.claim_fees.to_sat()),
        outputs: estimate.outputs.into_iter().map(planned_output).collect(),
    }
}

fn planned_output(output: reply::PlannedOutput) -> PlannedOutput {
    let kind = match output.kind {
        reply::PlannedKind::Closing => PlannedOutputKind::Closing,
        reply::PlannedKind::ToLocal => PlannedOutputKind::ToLocal,
        reply::PlannedKind::OfferedHtlc => PlannedOutputKind::OfferedHtlc,
        reply::PlannedKind::ReceivedHtlc => PlannedOutputKind::ReceivedHtlc,
    };
    PlannedOutput {
        kind: kind.into(),
        amount_sat: output.amount.to_sat(),
        claim_fee_sat: output.claim_fee.to_sat(),
        spendable_height: output.spendable_at.height(),
        payment_hash: output.payment_hash.map(|hash| hash.to_string()).unwrap_or_default(),
        uncertain: output.kind == reply::PlannedKind::OfferedHtlc,
    }
}

/// The audit of a channel.
pub fn audit(audit: reply::ChannelAudit) -> ChannelAudit {
    let status = match audit.funding_status {
        reply::FundingStatus::Unspent => FundingStatus::Unspent,
        reply::FundingStatus::Unconfirmed => FundingStatus::Unconfirmed,
        reply::FundingStatus::Missing => FundingStatus::Missing,
        reply::FundingStatus::Unknown => FundingStatus::Unknown,
    };
    ChannelAudit {
        channel_id: audit.channel.to_string(),
        ok: audit.problems.is_empty(),
        problems: audit.problems.into_iter().map(problem).collect(),
        commitment_txid: audit.commitment_txid.map(|txid| txid.to_string()).unwrap_or_default(),
        commitment_number: audit.commitment_number.number(),
        signature_count: audit.signatures,
        revoked_count: audit.revoked,
        penalty_row_count: audit.penalty_rows,
        funding_status: status.into(),
    }
}

fn problem((check, description): (reply::AuditCheck, String)) -> AuditProblem {
    let check = match check {
        reply::AuditCheck::Balance => AuditCheck::Balance,
        reply::AuditCheck::Signature => AuditCheck::Signature,
        reply::AuditCheck::Secret => AuditCheck::Secret,
        reply::AuditCheck::Penalty => AuditCheck::Penalty,
        reply::AuditCheck::Funding => AuditCheck::Funding,
    };
    AuditProblem { check: check.into(), description }
}
