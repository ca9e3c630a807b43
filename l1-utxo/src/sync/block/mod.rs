//! Which blocks are fetched from whom, and what happens when they come. Headers come first; bodies in parallel, within a
//! window; a peer that holds up the window is dropped. Core: `FindNextBlocksToDownload`, `mapBlocksInFlight`.

mod compact;
pub(super) mod header;
pub(super) mod lag;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::p2p::message_compact_blocks::SendCmpct;

use super::Machine;
use super::peer::Peer;
use super::port::{BlockReport, Host, Origin, Packet, PeerId, Reason, Time};
use crate::chain::{BlockId, Chain, Source};
use crate::consensus::block::is_mutated;
use crate::consensus::pow::{block_proof, check_proof_of_work};
use crate::consensus::{BlockError, HashedBlock, HeaderError, Verdict};
use compact::Partial;

/// Blocks that one peer is asked for at a time.
const IN_FLIGHT_PER_PEER: usize = 16;
/// Blocks beyond the last one in common that may be on their way.
const WINDOW: u32 = 1_024;
/// Blocks that are looked at in one step while something to ask for is looked for.
const WALK: u32 = 128;
const STALLING_TIMEOUT: Duration = Duration::from_secs(2);
const MAX_STALLING_TIMEOUT: Duration = Duration::from_secs(64);
/// Blocks that a peer of recent blocks only is asked for.
const LIMITED_BLOCKS: u32 = 288;
/// Peers that announce new blocks to us as compact blocks at once (BIP 152).
const HIGH_BANDWIDTH_PEERS: usize = 3;

/// The best chain that a peer is known to have.
#[derive(Default)]
pub(super) struct Available {
    /// With a header that we know.
    pub(super) best: Option<BlockId>,
    /// What it announced last without one.
    unknown: Option<BlockHash>,
}

/// A block on its way.
pub(super) struct InFlight {
    pub(super) id: BlockId,
    pub(super) hash: BlockHash,
    partial: Option<Box<Partial>>,
}

/// What is known across all peers of blocks on their way.
pub(super) struct Download {
    /// Who was asked for a block, the first one first.
    requested: BTreeMap<BlockHash, Vec<PeerId>>,
    /// Who sent a block that is not connected yet, and whether it answers for it.
    sources: BTreeMap<BlockHash, (PeerId, bool)>,
    stalling_timeout: Duration,
    /// The block for which headers were asked of a peer that we do not otherwise sync with.
    inv_triggered: Option<BlockHash>,
    /// Those that announce by compact blocks, the oldest choice first.
    high_bandwidth: Vec<PeerId>,
    /// Peers at fault for what another one's message brought to light.
    pub(super) punished: Vec<(PeerId, &'static str)>,
    /// Messages for others than the one whose message is being processed.
    pub(super) messages: Vec<(PeerId, Packet)>,
}

impl Default for Download {
    fn default() -> Self {
        Self {
            requested: BTreeMap::new(),
            sources: BTreeMap::new(),
            stalling_timeout: STALLING_TIMEOUT,
            inv_triggered: None,
            high_bandwidth: Vec::new(),
            punished: Vec::new(),
            messages: Vec::new(),
        }
    }
}

impl Download {
    pub(super) fn forget_peer(&mut self, peer: &Peer) {
        for block in &peer.blocks.in_flight {
            self.release(&block.hash, peer.id);
        }
        self.sources.retain(|_, (source, _)| *source != peer.id);
        self.high_bandwidth.retain(|id| *id != peer.id);
    }

    fn is_requested(&self, hash: &BlockHash) -> bool {
        self.requested.contains_key(hash)
    }

    fn release(&mut self, hash: &BlockHash, id: PeerId) {
        if let Some(peers) = self.requested.get_mut(hash) {
            peers.retain(|peer| *peer != id);
            if peers.is_empty() {
                self.requested.remove(hash);
            }
        }
    }

    /// The way is free again: later peers get no more patience than the first.
    pub(super) fn block_connected(&mut self, _now: Time) {
        self.stalling_timeout = self.stalling_timeout.mul_f64(0.85).max(STALLING_TIMEOUT);
    }

    pub(super) const fn note_inv(&mut self, hash: BlockHash) {
        self.inv_triggered = Some(hash);
    }

    /// Peers from which blocks are on their way.
    fn peers_downloading(&self) -> usize {
        let mut peers: Vec<PeerId> = self.requested.values().flatten().copied().collect();
        peers.sort_unstable();
        peers.dedup();
        peers.len()
    }
}

impl Available {
    /// Core: `ProcessBlockAvailability`.
    pub(super) fn refresh(&mut self, chain: &Chain) {
        if let Some(id) = self.unknown.and_then(|hash| chain.find(&hash)) {
            self.unknown = None;
            self.improve(id, chain);
        }
    }

    /// Core: `UpdateBlockAvailability`.
    pub(super) fn update(&mut self, hash: BlockHash, chain: &Chain) {
        self.refresh(chain);
        match chain.find(&hash) {
            Some(id) => self.improve(id, chain),
            None => self.unknown = Some(hash),
        }
    }

    fn improve(&mut self, id: BlockId, chain: &Chain) {
        if self.best.is_none_or(|best| chain.entry(id).chain_work >= chain.entry(best).chain_work) {
            self.best = Some(id);
        }
    }
}

/// The blocks after `start` towards `best`, which builds on it, up to this height. Looked for step by step: most of the time
/// the first ones are all that is asked for.
fn branch(chain: &Chain, start: BlockId, best: BlockId, last: u32) -> impl Iterator<Item = BlockId> {
    let last = last.min(chain.entry(best).height);
    let mut height = chain.entry(start).height;
    let steps = std::iter::from_fn(move || {
        let first = height + 1;
        height = last.min(height + WALK);
        if first > height {
            return None;
        }
        let end = chain.index().ancestor(best, height);
        let mut step: Vec<BlockId> = chain.index().ancestors(end).take((height - first) as usize + 1).collect();
        step.reverse();
        Some(step)
    });
    steps.flatten()
}

impl Machine {
    /// Whether the tip is so fresh that new blocks are fetched as they are announced.
    pub(super) fn can_fetch_directly(&self, host: &dyn Host) -> bool {
        let spacing = i64::from(self.params.pow_target_spacing);
        i64::from(host.chain().tip_entry().header.time) > self.now.secs() - spacing * 20
    }

    /// Notes that a block is asked of a peer; `false` if it was before.
    pub(super) fn note_request(&mut self, peer: &mut Peer, id: BlockId, hash: BlockHash) -> bool {
        if peer.blocks.in_flight.iter().any(|block| block.hash == hash) {
            return false;
        }
        if peer.blocks.in_flight.is_empty() {
            peer.blocks.downloading_since = self.now;
        }
        peer.blocks.in_flight.push_back(InFlight { id, hash, partial: None });
        self.download.requested.entry(hash).or_default().push(peer.id);
        true
    }

    /// Core: `RemoveBlockRequest` for one peer.
    fn end_request(&mut self, peer: &mut Peer, hash: &BlockHash) {
        let Some(place) = peer.blocks.in_flight.iter().position(|block| block.hash == *hash) else { return };
        if place == 0 {
            // The next one's time begins now.
            peer.blocks.downloading_since = self.now;
        }
        peer.blocks.in_flight.remove(place);
        peer.blocks.stalling_since = None;
        self.download.release(hash, peer.id);
    }

    /// The same for all peers: the block is here.
    fn end_requests(&mut self, peer: &mut Peer, hash: &BlockHash) {
        self.end_request(peer, hash);
        for id in self.download.requested.remove(hash).unwrap_or_default() {
            if let Some(mut other) = self.peers.remove(&id) {
                self.end_request(&mut other, hash);
                self.peers.insert(id, other);
            }
        }
    }

    /// Whether a block announced by its hash is reason to ask for headers: of peers that we sync with always, of one more
    /// for each new block.
    pub(super) fn wants_headers_for(&self, peer: &Peer, hash: &BlockHash) -> bool {
        !self.download.is_requested(hash)
            && (peer.blocks.sync_started
                || (!peer.blocks.inv_triggered_getheaders && self.download.inv_triggered != Some(*hash)))
    }

    pub(super) fn request_by_hand(
        &mut self,
        peer: &mut Peer,
        id: BlockId,
        host: &dyn Host,
    ) -> Result<(), &'static str> {
        if !peer.serves_witness() {
            return Err("Pre-SegWit peer");
        }
        let hash = Self::hash_of(host, id);
        self.end_requests(peer, &hash);
        if !self.note_request(peer, id, hash) {
            return Err("Already requested from this peer");
        }
        peer.send(NetworkMessage::GetData(vec![Inventory::WitnessBlock(hash)]));
        Ok(())
    }

    /// Asks for blocks that a peer has and we do not.
    pub(super) fn request_blocks(&mut self, peer: &mut Peer, host: &dyn Host) {
        let budget = IN_FLIGHT_PER_PEER.saturating_sub(peer.blocks.in_flight.len());
        let is_useful = !host.is_initial_download() || (self.may_sync_from(peer) && !peer.is_limited());
        if budget == 0 || !peer.serves_blocks() || !is_useful {
            return;
        }
        let (blocks, staller) = self.next_blocks(peer, budget, host);
        if peer.blocks.in_flight.is_empty()
            && blocks.is_empty()
            && let Some(staller) = staller.and_then(|id| self.peers.get_mut(&id))
        {
            staller.blocks.stalling_since.get_or_insert(self.now);
        }
        let mut wanted = Vec::new();
        for id in blocks {
            let hash = Self::hash_of(host, id);
            self.note_request(peer, id, hash);
            wanted.push(Inventory::WitnessBlock(hash));
        }
        if !wanted.is_empty() {
            peer.send(NetworkMessage::GetData(wanted));
        }
    }

    /// Core: `FindNextBlocksToDownload`: what to ask for, and who holds up the window.
    fn next_blocks(&self, peer: &mut Peer, count: usize, host: &dyn Host) -> (Vec<BlockId>, Option<PeerId>) {
        let chain = host.chain();
        peer.blocks.available.refresh(chain);
        let Some(best) = peer.blocks.available.best else { return (Vec::new(), None) };
        let least = chain.tip_entry().chain_work.max(chain.minimum_work());
        if chain.entry(best).chain_work < least || !peer.serves_witness() {
            return (Vec::new(), None);
        }
        let fork = chain.index().fork(best, chain.tip());
        let start = match peer.blocks.last_common {
            Some(common)
                if chain.entry(common).chain_work >= chain.entry(fork).chain_work
                    && chain.index().is_ancestor(common, best) =>
            {
                common
            }
            _ => fork,
        };
        peer.blocks.last_common = Some(start);
        let window_end = chain.entry(start).height + WINDOW;
        let (mut wanted, mut waiting_for) = (Vec::new(), None);
        for id in branch(chain, start, best, window_end + 1) {
            let entry = chain.entry(id);
            if entry.is_failed {
                break;
            }
            if entry.data.is_some() || chain.is_active(id) {
                if entry.chain_transaction_count != 0 {
                    peer.blocks.last_common = Some(id);
                }
                continue;
            }
            if let Some(others) = self.download.requested.get(&entry.hash) {
                waiting_for = waiting_for.or(others.first().copied());
                continue;
            }
            if entry.height > window_end {
                let staller = waiting_for.filter(|staller| wanted.is_empty() && *staller != peer.id);
                return (wanted, staller);
            }
            if peer.is_limited() && chain.entry(best).height - entry.height >= LIMITED_BLOCKS - 2 {
                continue;
            }
            wanted.push(id);
            if wanted.len() == count {
                break;
            }
        }
        (wanted, None)
    }

    /// Whether a peer is one to fetch blocks and headers from while we are behind.
    pub(super) fn may_sync_from(&self, peer: &Peer) -> bool {
        if peer.is_preferred() || peer.connection.origin == Origin::AddressFetch {
            return peer.is_preferred();
        }
        let has_preferred = self.peers.values().any(|other| other.is_ready && other.is_preferred());
        peer.serves_blocks() && (!has_preferred || self.download.requested.is_empty())
    }

    pub(super) fn check_block_timeouts(&mut self, peer: &mut Peer, host: &dyn Host) {
        if peer.blocks.stalling_since.is_some_and(|since| self.now - since > self.download.stalling_timeout) {
            self.download.stalling_timeout = (self.download.stalling_timeout * 2).min(MAX_STALLING_TIMEOUT);
            return peer.close(Reason::Timeout("the peer is stalling block download"));
        }
        if !peer.blocks.in_flight.is_empty() {
            let others = self.download.peers_downloading().saturating_sub(1);
            let spacing = Duration::from_secs(u64::from(self.params.pow_target_spacing).max(60));
            let patience = spacing.mul_f64(1.0 + 0.5 * others as f64);
            if self.now - peer.blocks.downloading_since > patience {
                return peer.close(Reason::Timeout("timeout downloading block"));
            }
        }
        self.check_header_timeout(peer, host);
        self.check_lag(peer, host);
    }

    pub(super) fn receive_block(&mut self, peer: &mut Peer, block: Arc<HashedBlock>, host: &mut dyn Host) {
        let (hash, header) = (block.hash(), &block.block().header);
        let parent = host.chain().find(&header.prev_blockhash);
        // Before anything is marked: the body may not be the header's own.
        let height = parent.map(|parent| host.chain().entry(parent).height + 1);
        if height.is_some_and(|height| is_mutated(&block, height, self.params)) {
            peer.misbehaving("mutated block");
            return self.end_request(peer, &hash);
        }
        let is_requested = self.download.is_requested(&hash);
        self.end_request(peer, &hash);
        if !check_proof_of_work(hash, header.bits, self.params) {
            return peer.misbehaving("invalid header received");
        }
        self.download.sources.insert(hash, (peer.id, true));
        let work = parent.map(|parent| host.chain().entry(parent).chain_work + block_proof(header.bits));
        let has_work = work.is_some_and(|work| work >= host.chain().anti_dos_work());
        let source = if is_requested { Source::Requested } else { Source::Unrequested };
        if !is_requested && parent.is_some() && !has_work {
            self.download.sources.remove(&hash);
            return;
        }
        self.take_block(peer, block, source, host);
    }

    /// Core: `ProcessBlock`, with `BlockChecked`.
    pub(super) fn take_block(&mut self, peer: &mut Peer, block: Arc<HashedBlock>, source: Source, host: &mut dyn Host) {
        let hash = block.hash();
        let Some(report) = host.submit_block(Arc::clone(&block), source) else { return };
        let BlockReport { is_new, error, refused } = report;
        if is_new {
            peer.last_block = self.now;
            self.end_requests(peer, &hash);
        }
        let is_active = host.chain().find(&hash).is_some_and(|id| host.chain().is_active(id));
        match error {
            Some(error) => self.blame(peer, &hash, &error),
            None if is_active && !host.is_initial_download() && self.download.sources.contains_key(&hash) => {
                self.choose_high_bandwidth(peer);
            }
            None => {}
        }
        for (id, error) in refused {
            let hash = Self::hash_of(host, id);
            self.blame(peer, &hash, &error);
        }
        if !is_new || is_active {
            self.download.sources.remove(&hash);
        }
        // Headers may have waited for nothing but this.
        if self.download.sources.len() > 4 * WINDOW as usize {
            self.download.sources.clear();
        }
    }

    /// Core: `MaybePunishNodeForBlock`.
    fn blame(&mut self, peer: &mut Peer, hash: &BlockHash, error: &BlockError) {
        let Some((id, answers)) = self.download.sources.remove(hash) else { return };
        let what = match error {
            BlockError::Header(HeaderError::TimeTooNew | HeaderError::TooLittleChainwork) => return,
            BlockError::Header(HeaderError::DuplicateInvalid) if !answers || peer.is_inbound() => return,
            BlockError::Header(HeaderError::PrevBlockNotFound) => "block with an unknown parent",
            BlockError::Header(_) => "invalid header received",
            _ if !answers => return,
            other if other.verdict() == Verdict::Permanent => "invalid block",
            _ => "mutated block",
        };
        if id == peer.id { peer.misbehaving(what) } else { self.download.punished.push((id, what)) }
    }

    /// The last three that gave us new tips announce them by compact blocks (Core: `MaybeSetPeerAsAnnouncingHeaderAndIDs`).
    fn choose_high_bandwidth(&mut self, peer: &mut Peer) {
        // Without transactions of others there is nothing to put blocks together from.
        if !peer.blocks.provides_compact || self.options.blocks_only {
            return;
        }
        let chosen = &mut self.download.high_bandwidth;
        if let Some(place) = chosen.iter().position(|id| *id == peer.id) {
            let id = chosen.remove(place);
            return chosen.push(id);
        }
        // The last one that we dialled is not given up for one that dialled us.
        let is_dialled = |id: &PeerId| self.peers.get(id).is_some_and(|other| !other.is_inbound());
        let is_last = chosen.iter().filter(|id| is_dialled(id)).count() == 1 && is_dialled(&chosen[0]);
        if chosen.len() >= HIGH_BANDWIDTH_PEERS && peer.is_inbound() && is_last {
            chosen.swap(0, 1);
        }
        if chosen.len() >= HIGH_BANDWIDTH_PEERS {
            let oldest = chosen.remove(0);
            if let Some(other) = self.peers.get_mut(&oldest) {
                other.blocks.is_high_bandwidth = false;
                let message = NetworkMessage::SendCmpct(SendCmpct { send_compact: false, version: 2 });
                self.download.messages.push((oldest, message.into()));
            }
        }
        self.download.high_bandwidth.push(peer.id);
        peer.blocks.is_high_bandwidth = true;
        peer.send(NetworkMessage::SendCmpct(SendCmpct { send_compact: true, version: 2 }));
    }
}
