//! Compact blocks received (BIP 152, version 2): put together from the mempool, the rest asked for.
//!
//! Core: `blockencodings.cpp`, `ProcessCompactBlockTxns`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bitcoin::bip152::{BlockTransactions, BlockTransactionsRequest, HeaderAndShortIds, ShortId};
use bitcoin::block::Header;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::p2p::message_compact_blocks::GetBlockTxn;
use bitcoin::{Block, Transaction, Wtxid};

use super::super::Machine;
use super::super::peer::Peer;
use super::super::port::{Host, PeerId};
use super::IN_FLIGHT_PER_PEER;
use crate::chain::{BlockId, Source};
use crate::consensus::block::{MAX_BLOCK_WEIGHT, is_mutated};
use crate::consensus::pow::{block_proof, check_proof_of_work};
use crate::consensus::{HashedBlock, HeaderError};
use crate::mempool::Mempool;
use crate::params::Params;

/// Peers of whom the same block may be fetched in pieces at a time.
const PER_BLOCK: usize = 3;
/// The smallest transaction that can be in a block, as weight.
const MIN_TRANSACTION_WEIGHT: usize = 240;

/// A block of which some transactions are still missing.
pub(super) struct Partial {
    header: Header,
    height: u32,
    transactions: Vec<Option<Arc<Transaction>>>,
    /// It was filled once, and what came out was not the block.
    has_failed: bool,
}

/// Why a compact block cannot be put together.
#[derive(Debug, PartialEq, Eq)]
enum Trouble {
    /// Its sender made it wrong.
    Invalid,
    /// Bad luck: two transactions have the same short id.
    Collision,
}

impl Partial {
    fn new(
        compact: HeaderAndShortIds,
        height: u32,
        mempool: &Mempool,
        extra: &BTreeMap<Wtxid, Arc<Transaction>>,
    ) -> Result<Self, Trouble> {
        let count = compact.short_ids.len() + compact.prefilled_txs.len();
        if count == 0 || count > MAX_BLOCK_WEIGHT / MIN_TRANSACTION_WEIGHT {
            return Err(Trouble::Invalid);
        }
        let keys = ShortId::calculate_siphash_keys(&compact.header, compact.nonce);
        let mut transactions: Vec<Option<Arc<Transaction>>> = vec![None; count];
        let mut next = 0usize;
        for prefilled in compact.prefilled_txs {
            // Indexes are told as differences.
            let index = next + usize::from(prefilled.idx);
            *transactions.get_mut(index).ok_or(Trouble::Invalid)? = Some(Arc::new(prefilled.tx));
            next = index + 1;
        }
        let empty = (0..count).filter(|index| transactions[*index].is_none());
        let mut wanted: BTreeMap<ShortId, usize> = BTreeMap::new();
        for (short_id, index) in compact.short_ids.into_iter().zip(empty.collect::<Vec<_>>()) {
            if wanted.insert(short_id, index).is_some() {
                return Err(Trouble::Collision);
            }
        }
        let pool = mempool.entries().map(|entry| (&entry.wtxid, &entry.transaction));
        let mut found: BTreeMap<usize, Wtxid> = BTreeMap::new();
        for (wtxid, transaction) in pool.chain(extra.iter()) {
            let Some(index) = wanted.get(&ShortId::with_siphash_keys(wtxid, keys)).copied() else { continue };
            match found.insert(index, *wtxid) {
                None => transactions[index] = Some(Arc::clone(transaction)),
                // Two of ours look alike: whoever sent it tells which it is.
                Some(other) if other != *wtxid => transactions[index] = None,
                Some(_) => {}
            }
        }
        Ok(Self { header: compact.header, height, transactions, has_failed: false })
    }

    fn missing(&self) -> Vec<u64> {
        let empty = self.transactions.iter().enumerate().filter(|(_, transaction)| transaction.is_none());
        empty.map(|(index, _)| index as u64).collect()
    }

    /// `Err(Invalid)`: not as many transactions as were missing. `Err(Collision)`: this is not the block.
    fn fill(&mut self, missing: Vec<Transaction>, params: &Params) -> Result<HashedBlock, Trouble> {
        self.has_failed = true;
        let mut missing = missing.into_iter();
        let mut txdata = Vec::with_capacity(self.transactions.len());
        for known in std::mem::take(&mut self.transactions) {
            let transaction = match known {
                Some(transaction) => Arc::unwrap_or_clone(transaction),
                None => missing.next().ok_or(Trouble::Invalid)?,
            };
            txdata.push(transaction);
        }
        if missing.next().is_some() {
            return Err(Trouble::Invalid);
        }
        let block = HashedBlock::new(Block { header: self.header, txdata });
        if is_mutated(&block, self.height, params) { Err(Trouble::Collision) } else { Ok(block) }
    }
}

impl Machine {
    pub(in super::super) fn receive_compact_block(
        &mut self,
        peer: &mut Peer,
        compact: HeaderAndShortIds,
        host: &mut dyn Host,
    ) {
        // Who takes no transactions has nothing to put it together from.
        if !peer.blocks.provides_compact || self.options.blocks_only {
            return;
        }
        let header = compact.header;
        let chain = host.chain();
        let Some(parent) = chain.find(&header.prev_blockhash) else {
            if !host.is_initial_download() {
                let hashes = super::header::locator(chain, chain.best_header());
                self.ask_headers(peer, hashes);
            }
            return;
        };
        let hash = header.block_hash();
        if !check_proof_of_work(hash, header.bits, self.params) {
            return peer.misbehaving("invalid header via cmpctblock");
        }
        if chain.entry(parent).chain_work + block_proof(header.bits) < chain.anti_dos_work() {
            return;
        }
        let is_new_header = chain.find(&hash).is_none();
        let id = match host.accept_header(&header) {
            Ok(id) => id,
            Err(HeaderError::TimeTooNew | HeaderError::DuplicateInvalid | HeaderError::TooLittleChainwork) => return,
            Err(_) => return peer.misbehaving("invalid header via cmpctblock"),
        };
        let chain = host.chain();
        peer.blocks.available.update(hash, chain);
        let (entry, tip) = (chain.entry(id), chain.tip_entry());
        let is_better = entry.chain_work > tip.chain_work;
        if is_new_header && is_better {
            peer.blocks.last_announcement = self.now;
        }
        if entry.data.is_some() {
            return;
        }
        let is_requested = peer.blocks.in_flight.iter().any(|block| block.hash == hash);
        if !is_requested && !peer.blocks.is_high_bandwidth {
            return;
        }
        let is_near = entry.height <= tip.height + 2;
        if !is_better || (!is_near && is_requested) {
            if is_requested {
                peer.send(NetworkMessage::GetData(vec![Inventory::WitnessBlock(hash)]));
            }
            return;
        }
        if !self.download.is_requested(&hash) && !self.can_fetch_directly(host) {
            return;
        }
        if is_near {
            self.assemble(peer, id, compact, is_requested, host);
        } else {
            self.receive_headers(peer, vec![header], true, host);
        }
    }

    fn assemble(
        &mut self,
        peer: &mut Peer,
        id: BlockId,
        compact: HeaderAndShortIds,
        is_requested: bool,
        host: &mut dyn Host,
    ) {
        let hash = compact.header.block_hash();
        let others: Vec<PeerId> = self.download.requested.get(&hash).cloned().unwrap_or_default();
        let is_first = others.first().is_none_or(|first| *first == peer.id);
        // Who says the same again has us go through the mempool no second time.
        if peer.blocks.in_flight.iter().any(|block| block.hash == hash && block.partial.is_some()) {
            return;
        }
        let partial = Partial::new(compact, host.chain().entry(id).height, host.mempool(), self.transactions.extra());
        let has_room = others.len() < PER_BLOCK && peer.blocks.in_flight.len() < IN_FLIGHT_PER_PEER;
        if !has_room && !is_requested {
            // Others are at it; without asking anything it may be whole at once.
            if let Ok(mut partial) = partial
                && partial.missing().is_empty()
                && let Ok(block) = partial.fill(Vec::new(), self.params)
            {
                self.finish(peer, block, host);
            }
            return;
        }
        self.note_request(peer, id, hash);
        let Some(place) = peer.blocks.in_flight.iter().position(|block| block.hash == hash) else { return };
        let partial = match partial {
            Ok(partial) => partial,
            Err(Trouble::Invalid) => {
                self.end_request(peer, &hash);
                return peer.misbehaving("invalid compact block");
            }
            Err(Trouble::Collision) if is_first => {
                return peer.send(NetworkMessage::GetData(vec![Inventory::WitnessBlock(hash)]));
            }
            Err(Trouble::Collision) => return self.end_request(peer, &hash),
        };
        let missing = partial.missing();
        peer.blocks.in_flight[place].partial = Some(Box::new(partial));
        if missing.is_empty() {
            return self.receive_blocktxn(peer, BlockTransactions { block_hash: hash, transactions: Vec::new() }, host);
        }
        let may_ask =
            is_first || (peer.blocks.is_high_bandwidth && (!peer.is_inbound() || others.len() + 1 < PER_BLOCK));
        if !may_ask {
            return self.end_request(peer, &hash);
        }
        let request = BlockTransactionsRequest { block_hash: hash, indexes: missing };
        peer.send(NetworkMessage::GetBlockTxn(GetBlockTxn { txs_request: request }));
    }

    pub(in super::super) fn receive_blocktxn(
        &mut self,
        peer: &mut Peer,
        answer: BlockTransactions,
        host: &mut dyn Host,
    ) {
        let hash = answer.block_hash;
        let is_first = self.download.requested.get(&hash).and_then(|peers| peers.first()) == Some(&peer.id);
        let mut in_flight = peer.blocks.in_flight.iter_mut();
        let Some(partial) = in_flight.find(|block| block.hash == hash).and_then(|block| block.partial.as_mut()) else {
            return;
        };
        if partial.has_failed {
            self.end_request(peer, &hash);
            return peer.misbehaving("previous compact block reconstruction attempt failed");
        }
        match partial.fill(answer.transactions, self.params) {
            Ok(block) => self.finish(peer, block, host),
            Err(Trouble::Invalid) => {
                self.end_request(peer, &hash);
                peer.misbehaving("invalid compact block/non-matching block transactions");
            }
            // Two short ids looked alike: the whole block, then.
            Err(Trouble::Collision) if is_first => {
                peer.send(NetworkMessage::GetData(vec![Inventory::WitnessBlock(hash)]));
            }
            Err(Trouble::Collision) => self.end_request(peer, &hash),
        }
    }

    /// A block that was put together. Whoever sent the compact form need not have validated it (BIP 152).
    fn finish(&mut self, peer: &mut Peer, block: HashedBlock, host: &mut dyn Host) {
        let hash = block.hash();
        self.end_request(peer, &hash);
        self.download.sources.insert(hash, (peer.id, false));
        self.take_block(peer, Arc::new(block), Source::Requested, host);
    }
}
