//! What only the rim can audit: the archive's rows for penalties, and the funding output on the chain.

use super::super::handle::Handle;
use crate::chain::Backend;
use crate::commitment::{PenaltyRow, Side};
use crate::node::command::Query;
use crate::node::refusal::Refusal;
use crate::node::reply::{AuditCheck, ChannelAudit, FundingStatus, Reply};
use crate::node::state::row::RowKey;
use crate::store::{Reader, RowPage, StoreError};

/// Rows that are read at once.
const ROWS: usize = 1_000;
/// Problems of one kind that are told of one channel: one is enough to look closer.
const MOST_PROBLEMS: usize = 10;

/// The node's audit, with what the archive and the chain say.
pub async fn channels(handle: &Handle, query: Query) -> Result<Reply, Refusal> {
    let Reply::Audits(mut paged) = handle.ask_node(query).await? else { return Err(Refusal::ShuttingDown) };
    for audit in &mut paged.items {
        let (reader, mut copy) = (handle.reader.clone(), audit.clone());
        let read = tokio::task::spawn_blocking(move || penalties(&reader, &mut copy).map(|()| copy)).await;
        match read {
            Ok(Ok(read)) => *audit = read,
            Ok(Err(error)) => audit.problems.push((AuditCheck::Penalty, error.to_string())),
            Err(_) => return Err(Refusal::ShuttingDown),
        }
        funding(&handle.backend, audit).await;
    }
    Ok(Reply::Audits(paged))
}

/// Looks through the rows of HTLCs that are over, page by page.
fn penalties(reader: &Reader, audit: &mut ChannelAudit) -> Result<(), StoreError> {
    let prefix = RowKey::penalties_of(audit.channel);
    let mut from: Option<Vec<u8>> = None;
    loop {
        let page = RowPage { prefix: &prefix, from: from.as_deref(), limit: ROWS, descending: false };
        let rows = reader.page(&page)?;
        for (_, bytes) in &rows {
            audit.penalty_rows += 1;
            let problem = match postcard::from_bytes::<PenaltyRow>(bytes) {
                Ok(row) => problem(&row, audit),
                Err(_) => Some("a row cannot be read".to_owned()),
            };
            if audit.problems.len() < MOST_PROBLEMS {
                audit.problems.extend(problem.map(|problem| (AuditCheck::Penalty, problem)));
            }
        }
        if rows.len() < ROWS {
            return Ok(());
        }
        from = rows.into_iter().next_back().map(|(key, _)| key);
    }
}

/// What is wrong with a row: it must be of commitments that the peer was given, and of this channel's size.
fn problem(row: &PenaltyRow, audit: &ChannelAudit) -> Option<String> {
    let capacity = audit.funding.as_ref().map_or(0, |(_, output)| output.value.to_sat());
    let offered = audit.offered[usize::from(row.adder == Side::Remote)];
    let wrong = if row.first > row.last {
        "its first commitment is after its last"
    } else if row.last.number() > audit.revoked {
        "it is of a commitment that was never signed"
    } else if row.id.id() >= offered {
        "nobody ever offered it"
    } else if row.amount.to_amount_floor().to_sat() > capacity {
        "it is worth more than the channel holds"
    } else {
        return None;
    };
    Some(format!("HTLC {} of the {}: {wrong}", row.id, if row.adder == Side::Local { "node" } else { "peer" }))
}

/// Asks the chain for the funding output.
async fn funding(backend: &Backend, audit: &mut ChannelAudit) {
    let Some((outpoint, expected)) = audit.funding.clone() else { return };
    let mut wrong = |description: String| audit.problems.push((AuditCheck::Funding, description));
    audit.funding_status = match backend.unspent_output(outpoint).await {
        Err(error) => {
            wrong(format!("the chain backend does not answer: {error}"));
            FundingStatus::Unknown
        }
        Ok(None) => {
            if audit.expects_funding {
                wrong(format!("the funding output {outpoint} is spent, or not on the chain"));
            }
            FundingStatus::Missing
        }
        Ok(Some(found)) => {
            if found.value != expected.value || found.script_pubkey != expected.script_pubkey {
                wrong(format!("the funding output {outpoint} has another amount or script"));
            }
            if found.confirmations == 0 { FundingStatus::Unconfirmed } else { FundingStatus::Unspent }
        }
    };
}
