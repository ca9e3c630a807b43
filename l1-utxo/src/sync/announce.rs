//! New blocks told to those who do not have them: by compact block, header or hash, as each peer wishes.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bitcoin::bip152::{HeaderAndShortIds, PrefilledTransaction, ShortId};
use bitcoin::block::Header;
use bitcoin::hashes::Hash;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::p2p::message_compact_blocks::CmpctBlock;
use bitcoin::{BlockHash, Transaction};

use super::Machine;
use super::peer::Peer;
use super::port::{Host, Packet};
use crate::chain::{BlockId, Chain};
use crate::consensus::HashedBlock;

/// Blocks that are announced one by one; of more only the last is told.
const MAX_ANNOUNCED: usize = 8;

/// The block that became the tip last, ready for all who ask for it at once.
pub(super) struct Recent {
    block: Arc<HashedBlock>,
    /// Where its transactions are, by either name.
    places: OnceLock<BTreeMap<[u8; 32], usize>>,
    compact: OnceLock<Packet>,
}

impl Recent {
    pub(super) const fn new(block: Arc<HashedBlock>) -> Self {
        Self { block, places: OnceLock::new(), compact: OnceLock::new() }
    }

    /// The block, if it is this one.
    pub(super) fn block(&self, hash: &BlockHash) -> Option<&Arc<HashedBlock>> {
        Some(&self.block).filter(|block| block.hash() == *hash)
    }

    /// A transaction of it by either name; a miss costs no hashing.
    pub(super) fn transaction(&self, name: &[u8; 32]) -> Option<&Transaction> {
        let places = self.places.get_or_init(|| {
            let txids = self.block.txids().iter().map(|txid| txid.to_byte_array()).enumerate();
            let wtxids = self.block.wtxids().iter().map(|wtxid| wtxid.to_byte_array()).enumerate();
            txids.chain(wtxids).map(|(place, name)| (name, place)).collect()
        });
        self.block.transactions().get(*places.get(name)?)
    }
}

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
                if let Some(packet) = self.compact(last, host) {
                    return peer.send_packet(packet);
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

    /// A block in its compact form: the newest one is shortened once, and all peers get the same.
    pub(super) fn compact(&mut self, hash: BlockHash, host: &dyn Host) -> Option<Packet> {
        let nonce = self.random.next();
        let Some((recent, block)) = self.recent_block.as_ref().and_then(|recent| Some((recent, recent.block(&hash)?)))
        else {
            return shorten(host.block(host.chain().find(&hash)?)?.as_ref(), nonce);
        };
        if recent.compact.get().is_none() {
            // Nobody else can have set it in between.
            let _ = recent.compact.set(shorten(block, nonce)?);
        }
        recent.compact.get().cloned()
    }

    /// Blocks to be told by their hashes alone.
    pub(super) fn take_block_inventory(peer: &mut Peer) -> Vec<Inventory> {
        std::mem::take(&mut peer.blocks.to_inv).into_iter().map(Inventory::Block).collect()
    }
}

/// Header, short ids, and the coinbase as it is: nobody has it.
fn shorten(block: &HashedBlock, nonce: u64) -> Option<Packet> {
    let header = block.block().header;
    let coinbase = block.transactions().first()?.clone();
    let keys = ShortId::calculate_siphash_keys(&header, nonce);
    let short_ids = block.wtxids().iter().skip(1).map(|wtxid| ShortId::with_siphash_keys(wtxid, keys)).collect();
    let prefilled_txs = vec![PrefilledTransaction { idx: 0, tx: coinbase }];
    let compact_block = HeaderAndShortIds { header, nonce, short_ids, prefilled_txs };
    Some(NetworkMessage::CmpctBlock(CmpctBlock { compact_block }).into())
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
