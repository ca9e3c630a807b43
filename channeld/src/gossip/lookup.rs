//! Asks the chain what stands at short channel ids, many at a time, each block once.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::{OutPoint, Txid};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::funding::Lookup;
use super::mailbox::Gossip;
use crate::chain::{Backend, BackendError};
use crate::graph::FundingOutput;
use crate::units::{BlockHeight, ShortChannelId};

/// Blocks that are asked for at once.
const AT_ONCE: usize = 8;
/// Before a question that had no answer is put again.
const PAUSE: Duration = Duration::from_secs(2);

/// Answers questions until nobody asks any more.
pub async fn serve(backend: Backend, mut questions: mpsc::UnboundedReceiver<Vec<ShortChannelId>>, gossip: Gossip) {
    while let Some(ids) = questions.recv().await {
        let mut by_block: BTreeMap<u32, Vec<ShortChannelId>> = BTreeMap::new();
        ids.into_iter().for_each(|id| by_block.entry(id.block()).or_default().push(id));
        let mut rest = by_block.into_iter();
        let mut under_way = JoinSet::new();
        loop {
            while under_way.len() < AT_ONCE
                && let Some((height, ids)) = rest.next()
            {
                under_way.spawn(in_block(backend.clone(), height, ids));
            }
            match under_way.join_next().await {
                Some(Ok(answers)) => gossip.looked_up(answers),
                Some(Err(error)) => tracing::error!(%error, "a look at the chain failed"),
                None => break,
            }
        }
    }
}

/// Tells the owner of blocks again that it may have missed, in order.
pub async fn catch_up(backend: Backend, heights: RangeInclusive<u32>, gossip: Gossip) {
    for height in heights {
        loop {
            match backend.block_at(height).await {
                Ok(Some(block)) => gossip.block_connected(BlockHeight::new(height), Arc::new(block), None),
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(height, %error, "the chain does not give a block");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            }
            break;
        }
    }
}

async fn in_block(backend: Backend, height: u32, ids: Vec<ShortChannelId>) -> Vec<(ShortChannelId, Lookup)> {
    let txids = match backend.block_txids(height).await {
        Ok(Some(txids)) => txids,
        Ok(None) => return ids.into_iter().map(|id| (id, Lookup::NotYet)).collect(),
        Err(error) => {
            tracing::debug!(height, %error, "the chain does not say what is in a block");
            return ids.into_iter().map(|id| (id, Lookup::Unavailable)).collect();
        }
    };
    let mut answers = Vec::with_capacity(ids.len());
    for id in ids {
        let answer = match output(&backend, &txids, id).await {
            Ok(Some((output, outpoint))) => Lookup::Found { output, outpoint },
            Ok(None) => Lookup::Missing,
            Err(_) => Lookup::Unavailable,
        };
        answers.push((id, answer));
    }
    answers
}

async fn output(
    backend: &Backend,
    txids: &[Txid],
    id: ShortChannelId,
) -> Result<Option<(FundingOutput, OutPoint)>, BackendError> {
    let place = usize::try_from((id.to_u64() >> 16) & 0xff_ffff).unwrap_or(usize::MAX);
    let Some(txid) = txids.get(place) else { return Ok(None) };
    let vout = u32::try_from(id.to_u64() & 0xffff).unwrap_or(u32::MAX);
    let outpoint = OutPoint::new(*txid, vout);
    let found = backend.unspent_output(outpoint).await?;
    Ok(found.map(|found| {
        let output =
            FundingOutput { script: found.script_pubkey, amount: found.value, confirmations: found.confirmations };
        (output, outpoint)
    }))
}
