//! What others ask for: headers, blocks and transactions, as much at a time as they read.

use bitcoin::bip152::BlockTransactions;
use bitcoin::bip152::BlockTransactionsRequest;
use bitcoin::consensus::Encodable;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::p2p::message_compact_blocks::BlockTxn;
use bitcoin::{Block, BlockHash, Transaction};

use super::Machine;
use super::peer::{Peer, SEND_LIMIT};
use super::permission::Permissions;
use super::port::{Host, Packet, Reason};
use super::wire::{Locator, MAX_HEADERS, MAX_INVENTORY, MAX_LOCATOR};
use crate::chain::{BlockId, Chain};

/// Blocks that `getblocks` is answered with.
const MAX_GETBLOCKS: usize = 500;
/// How deep a block may lie to be served in its compact form, or in pieces.
const MAX_COMPACT_DEPTH: u32 = 5;
const MAX_BLOCKTXN_DEPTH: u32 = 10;
/// Seconds by which a block off the active chain may be older than the best header.
const STALE_RELAY_AGE: u32 = 30 * 24 * 3_600;
/// Seconds by which a block may be older than the best header before it counts as history.
const HISTORICAL_AGE: u32 = 7 * 24 * 3_600;
/// Requests that one peer may have waiting.
const MAX_REQUESTS: usize = 2 * MAX_INVENTORY;

/// The last block of the active chain that the other side has (Core: `FindForkInGlobalIndex`).
fn fork(chain: &Chain, hashes: &[BlockHash]) -> BlockId {
    let tip = chain.tip();
    for id in hashes.iter().filter_map(|hash| chain.find(hash)) {
        if chain.is_active(id) {
            return id;
        }
        if chain.index().is_ancestor(tip, id) {
            return tip;
        }
    }
    chain.at_height(0).unwrap_or(tip)
}

impl Machine {
    pub(super) fn receive_getheaders(&mut self, peer: &mut Peer, locator: &Locator, host: &dyn Host) {
        if locator.hashes.len() > MAX_LOCATOR {
            return peer.close(Reason::Unwelcome("getheaders locator size"));
        }
        let chain = host.chain();
        // What we have is worth nothing yet: an answer that says so, but for those who are to have it all the same.
        let is_too_little = chain.tip_entry().chain_work < chain.minimum_work();
        if is_too_little && !peer.connection.permissions.has(Permissions::DOWNLOAD) {
            return peer.send(NetworkMessage::Headers(Vec::new()));
        }
        let start = if locator.hashes.is_empty() {
            let Some(id) = chain.find(&locator.stop).filter(|id| is_allowed(chain, *id)) else { return };
            Some(id)
        } else {
            chain.next_active(fork(chain, &locator.hashes))
        };
        let mut headers = Vec::new();
        let mut at = start;
        while let Some(id) = at {
            let entry = chain.entry(id);
            headers.push(entry.header);
            if headers.len() >= MAX_HEADERS || entry.hash == locator.stop {
                break;
            }
            at = chain.next_active(id);
        }
        peer.blocks.best_header_sent = Some(at.unwrap_or(chain.tip()));
        peer.send(NetworkMessage::Headers(headers));
    }

    pub(super) fn receive_getblocks(&mut self, peer: &mut Peer, locator: &Locator, host: &dyn Host) {
        if locator.hashes.len() > MAX_LOCATOR {
            return peer.close(Reason::Unwelcome("getblocks locator size"));
        }
        let chain = host.chain();
        let mut at = chain.next_active(fork(chain, &locator.hashes));
        let mut told = 0;
        while let Some(id) = at {
            let hash = chain.entry(id).hash;
            if hash == locator.stop || peer.blocks.to_inv.len() >= MAX_INVENTORY {
                break;
            }
            peer.blocks.to_inv.push(hash);
            told += 1;
            if told >= MAX_GETBLOCKS {
                peer.blocks.continuation = Some(hash);
                break;
            }
            at = chain.next_active(id);
        }
    }

    pub(super) fn receive_getdata(&mut self, peer: &mut Peer, items: Vec<Inventory>, host: &mut dyn Host) {
        if peer.requests.len() + items.len() > MAX_REQUESTS {
            return peer.close(Reason::Unwelcome("more is asked for than is read"));
        }
        peer.requests.extend(items);
        self.serve_requests(peer, host);
    }

    /// Serves until enough waits to be sent; what comes then waits in the peer's list.
    pub(super) fn serve_requests(&mut self, peer: &mut Peer, host: &dyn Host) {
        let mut not_found = Vec::new();
        while peer.unsent < SEND_LIMIT && !peer.is_closing {
            let Some(item) = peer.requests.pop_front() else { break };
            match item {
                Inventory::Block(hash) | Inventory::WitnessBlock(hash) | Inventory::CompactBlock(hash) => {
                    self.serve_block(peer, &item, hash, host);
                }
                Inventory::Transaction(_) | Inventory::WitnessTransaction(_) | Inventory::WTx(_)
                    if !self.serve_transaction(peer, &item, host) =>
                {
                    not_found.push(item);
                }
                // Served, or of a kind that is not.
                _ => {}
            }
        }
        for items in not_found.chunks(MAX_INVENTORY) {
            peer.send(NetworkMessage::NotFound(items.to_vec()));
        }
    }

    fn serve_block(&mut self, peer: &mut Peer, item: &Inventory, hash: BlockHash, host: &dyn Host) {
        let chain = host.chain();
        let Some(id) = chain.find(&hash).filter(|id| is_allowed(chain, *id) && chain.entry(*id).data.is_some()) else {
            return;
        };
        let best = chain.entry(chain.best_header()).header.time;
        let is_old = best.saturating_sub(chain.entry(id).header.time) > HISTORICAL_AGE;
        let is_exempt = peer.connection.permissions.has(Permissions::DOWNLOAD);
        if is_old && !is_exempt && self.upload.is_reached_for_history(self.now) {
            return peer.close(Reason::Unwelcome("historical block serving limit reached"));
        }
        let is_recent = chain.entry(id).height + MAX_COMPACT_DEPTH >= chain.height();
        let compact = match item {
            Inventory::CompactBlock(_) if is_recent && self.can_fetch_directly(host) => self.compact(hash, host),
            _ => None,
        };
        if let Some(compact) = compact {
            peer.send_packet(compact);
        } else if matches!(item, Inventory::Block(_)) {
            let Some(block) = host.block(id) else { return };
            peer.send_packet(Packet { command: "block".into(), payload: stripped_block(block.block()) });
        } else {
            let Some(payload) = host.raw_block(id) else { return };
            peer.send_packet(Packet { command: "block".into(), payload });
        }
        if peer.blocks.continuation.take_if(|continuation| *continuation == hash).is_some() {
            peer.send(NetworkMessage::Inv(vec![Inventory::Block(chain.tip_entry().hash)]));
        }
    }

    /// Whether it was there.
    fn serve_transaction(&mut self, peer: &mut Peer, item: &Inventory, host: &dyn Host) -> bool {
        // Who wants no transactions announced gets none.
        if !peer.relay.wants {
            return true;
        }
        let Some(transaction) = self.find_for_peer(peer, item, host) else { return false };
        if !self.transactions.unbroadcast.is_empty() {
            self.transactions.unbroadcast.remove(&transaction.compute_txid());
        }
        let payload = if matches!(item, Inventory::Transaction(_)) {
            let mut out = Vec::new();
            encode_stripped(&transaction, &mut out);
            out
        } else {
            bitcoin::consensus::serialize(transaction.as_ref())
        };
        peer.send_packet(Packet { command: "tx".into(), payload });
        true
    }

    pub(super) fn receive_getblocktxn(
        &mut self,
        peer: &mut Peer,
        request: &BlockTransactionsRequest,
        host: &mut dyn Host,
    ) {
        let chain = host.chain();
        let hash = request.block_hash;
        let Some(id) = chain.find(&hash).filter(|id| chain.entry(*id).data.is_some()) else { return };
        if chain.entry(id).height + MAX_BLOCKTXN_DEPTH < chain.height() {
            // Rare, and expensive to read: who asks for pieces of old blocks gets all of it, in its turn.
            return self.receive_getdata(peer, vec![Inventory::WitnessBlock(hash)], host);
        }
        let recent = self.recent_block.as_ref().and_then(|recent| recent.block(&hash)).cloned();
        let Some(block) = recent.or_else(|| host.block(id)) else { return };
        let find = |index: &u64| block.transactions().get(usize::try_from(*index).ok()?).cloned();
        let Some(transactions) = request.indexes.iter().map(find).collect::<Option<Vec<_>>>() else {
            return peer.misbehaving("getblocktxn with out-of-bounds tx indices");
        };
        let transactions = BlockTransactions { block_hash: hash, transactions };
        peer.send(NetworkMessage::BlockTxn(BlockTxn { transactions }));
    }
}

/// Core: `BlockRequestAllowed`: old blocks off the active chain would tell who has seen them.
pub(super) fn is_allowed(chain: &Chain, id: BlockId) -> bool {
    if chain.is_active(id) {
        return true;
    }
    let (entry, best) = (chain.entry(id), chain.entry(chain.best_header()));
    // Undo data is there only for what was once connected: valid for sure.
    entry.undo.is_some() && !entry.is_failed && best.header.time.saturating_sub(entry.header.time) < STALE_RELAY_AGE
}

fn stripped_block(block: &Block) -> Vec<u8> {
    let mut out = Vec::new();
    let written = block
        .header
        .consensus_encode(&mut out)
        .and_then(|_| bitcoin::consensus::encode::VarInt::from(block.txdata.len()).consensus_encode(&mut out));
    written.expect("writing to memory does not fail");
    block.txdata.iter().for_each(|transaction| encode_stripped(transaction, &mut out));
    out
}

/// A transaction as those see it who do not know witnesses.
fn encode_stripped(transaction: &Transaction, out: &mut Vec<u8>) {
    let written = transaction
        .version
        .consensus_encode(out)
        .and_then(|_| {
            // Signatures stand in the witness, which is left out input by input.
            bitcoin::consensus::encode::VarInt::from(transaction.input.len()).consensus_encode(out)
        })
        .and_then(|_| transaction.input.iter().try_for_each(|input| input.consensus_encode(out).map(|_| ())))
        .and_then(|()| transaction.output.consensus_encode(out))
        .and_then(|_| transaction.lock_time.consensus_encode(out));
    written.expect("writing to memory does not fail");
}
