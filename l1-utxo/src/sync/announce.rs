//! New blocks told to those who do not have them: by compact block, header or hash, as each peer wishes.

use bitcoin::bip152::{HeaderAndShortIds, PrefilledTransaction, ShortId};
use bitcoin::block::Header;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::p2p::message_compact_blocks::CmpctBlock;

use super::Machine;
use super::peer::Peer;
use super::port::Host;
use crate::chain::{BlockId, Chain};
use crate::consensus::HashedBlock;

/// Blocks that are announced one by one; of more only the last is told.
const MAX_ANNOUNCED: usize = 8;

impl Machine {
    /// Notes what is new since the tip that was announced last (Core: `UpdatedBlockTip`).
    pub(super) fn queue_announcements(&mut self, host: &dyn Host) {
        let chain = host.chain();
        let tip = chain.tip();
        let before = self.announced_tip.replace(tip);
        if before == Some(tip) || host.is_initial_download() {
            return;
        }
        let fork = before.map(|before| chain.index().fork(before, tip));
        let new = chain.index().ancestors(Some(tip)).take_while(|id| Some(*id) != fork).take(MAX_ANNOUNCED);
        let mut hashes: Vec<_> = new.map(|id| chain.entry(id).hash).collect();
        hashes.reverse();
        for peer in self.peers.values_mut() {
            peer.blocks.to_announce.extend(&hashes);
            // More than that is told as one hash anyway.
            let excess = peer.blocks.to_announce.len().saturating_sub(4 * MAX_ANNOUNCED);
            peer.blocks.to_announce.drain(..excess);
        }
    }

    /// Core: the part of `SendMessages` on block announcements.
    pub(super) fn send_announcements(&mut self, peer: &mut Peer, host: &dyn Host) {
        let hashes = std::mem::take(&mut peer.blocks.to_announce);
        let Some(last) = hashes.last().copied() else { return };
        let chain = host.chain();
        peer.blocks.available.refresh(chain);
        let wants_one_by_one = peer.blocks.prefers_headers || (peer.blocks.wants_compact && hashes.len() == 1);
        let headers = if wants_one_by_one && hashes.len() <= MAX_ANNOUNCED {
            let ids = hashes.iter().map(|hash| chain.find(hash)).collect::<Option<Vec<_>>>();
            ids.and_then(|ids| connecting(peer, chain, &ids))
        } else {
            None
        };
        match headers {
            Some(headers) if headers.is_empty() => return,
            Some(headers) if headers.len() == 1 && peer.blocks.wants_compact => {
                peer.blocks.best_header_sent = chain.find(&last);
                if let Some(message) = self.compact(last, host) {
                    return peer.send(message);
                }
            }
            Some(headers) if peer.blocks.prefers_headers => {
                peer.blocks.best_header_sent = chain.find(&last);
                return peer.send(NetworkMessage::Headers(headers));
            }
            _ => {}
        }
        let id = chain.find(&last);
        if id.is_some_and(|id| !has_header(peer, chain, id)) {
            peer.blocks.to_inv.push(last);
        }
    }

    /// A block in its compact form, from memory if it is the newest one.
    pub(super) fn compact(&mut self, hash: bitcoin::BlockHash, host: &dyn Host) -> Option<NetworkMessage> {
        let nonce = self.random.next();
        let recent = self.recent_block.as_ref().filter(|block| block.hash() == hash).cloned();
        let block = match recent {
            Some(block) => block,
            None => host.block(host.chain().find(&hash)?)?,
        };
        Some(NetworkMessage::CmpctBlock(CmpctBlock { compact_block: shorten(&block, nonce)? }))
    }

    /// Blocks to be told by their hashes alone.
    pub(super) fn take_block_inventory(peer: &mut Peer) -> Vec<Inventory> {
        std::mem::take(&mut peer.blocks.to_inv).into_iter().map(Inventory::Block).collect()
    }
}

/// Header, short ids, and the coinbase as it is: nobody has it.
fn shorten(block: &HashedBlock, nonce: u64) -> Option<HeaderAndShortIds> {
    let header = block.block().header;
    let (coinbase, rest) = block.transactions().split_first()?;
    let keys = ShortId::calculate_siphash_keys(&header, nonce);
    let short_ids = rest.iter().map(|tx| ShortId::with_siphash_keys(&tx.compute_wtxid(), keys)).collect();
    let prefilled_txs = vec![PrefilledTransaction { idx: 0, tx: coinbase.clone() }];
    Some(HeaderAndShortIds { header, nonce, short_ids, prefilled_txs })
}

fn has_header(peer: &Peer, chain: &Chain, id: BlockId) -> bool {
    let known = [peer.blocks.available.best, peer.blocks.best_header_sent];
    known.into_iter().flatten().any(|known| chain.index().is_ancestor(id, known))
}

/// The headers that the peer lacks, if they connect to one that it has. `None`: they do not.
fn connecting(peer: &Peer, chain: &Chain, ids: &[BlockId]) -> Option<Vec<Header>> {
    let mut headers: Vec<Header> = Vec::new();
    let mut before: Option<BlockId> = None;
    for id in ids.iter().copied() {
        let entry = chain.entry(id);
        if !chain.is_active(id) || before.is_some_and(|before| entry.parent != Some(before)) {
            return None;
        }
        before = Some(id);
        if headers.is_empty() && has_header(peer, chain, id) {
            continue;
        }
        let connects = entry.parent.is_none_or(|parent| has_header(peer, chain, parent));
        if headers.is_empty() && !connects {
            return None;
        }
        headers.push(entry.header);
    }
    Some(headers)
}
