//! Headers: asked for, taken in, and chains of little work kept out of memory until they prove to be worth it.

use std::time::Duration;

use bitcoin::block::Header;
use bitcoin::hashes::Hash;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::{GetHeadersMessage, Inventory};
use bitcoin::{BlockHash, Work};

use super::super::Machine;
use super::super::peer::Peer;
use super::super::permission::Permissions;
use super::super::port::{Host, Reason};
use super::super::wire::MAX_HEADERS;
use super::IN_FLIGHT_PER_PEER;
use crate::chain::{BlockId, Chain};
use crate::consensus::HeaderError;
use crate::consensus::pow::{block_proof, check_proof_of_work};

/// How long an answer to `getheaders` is waited for before it is asked again.
const RESPONSE_TIME: Duration = Duration::from_secs(2 * 60);
/// How long nobody else is asked after one has shown all it has.
const NEXT_PEER_DELAY: Duration = Duration::from_secs(5);
const SYNC_TIMEOUT: Duration = Duration::from_secs(15 * 60);
const SYNC_TIMEOUT_PER_HEADER: Duration = Duration::from_millis(1);
const ONE_DAY: i64 = 24 * 3_600;
/// Messages of headers that one peer may make us remember a hash of: eight million headers.
const MAX_MARKS: usize = 4_096;

/// A long chain that a peer shows us although, so far, it has less work than ours had 144 blocks ago. Its headers are not
/// kept: only the hash at the end of each full message is, which commits to all before it. Once the work is enough, the
/// same headers are fetched again and kept (Core: `headerssync.cpp`, which commits to single bits).
pub(in super::super) struct LowWork {
    start: BlockId,
    start_height: u32,
    work: Work,
    marks: Vec<BlockHash>,
    /// How many messages were fetched again; `None` while the work is still too little.
    again: Option<usize>,
    last: BlockHash,
}

impl LowWork {
    /// The height that was shown so far.
    pub(in super::super) fn height(&self) -> u32 {
        self.start_height + u32::try_from(self.marks.len() * MAX_HEADERS).unwrap_or(u32::MAX)
    }
}

/// What to do with a message of headers.
enum Course {
    /// Take them in.
    Accept,
    /// They were looked at; there is nothing to keep.
    Done,
}

/// Hashes of a chain from `id` down, ever further apart (Core: `LocatorEntries`).
pub(in super::super) fn locator(chain: &Chain, id: BlockId) -> Vec<BlockHash> {
    let mut hashes = Vec::new();
    let (mut height, mut step) = (chain.entry(id).height, 1);
    loop {
        let at = chain.index().ancestor(id, height).unwrap_or(id);
        hashes.push(chain.entry(at).hash);
        if height == 0 {
            return hashes;
        }
        height = height.saturating_sub(step);
        if hashes.len() > 10 {
            step *= 2;
        }
    }
}

impl Machine {
    /// Asks for headers unless an answer is still due; whether it did.
    pub(in super::super) fn ask_headers(&mut self, peer: &mut Peer, hashes: Vec<BlockHash>) -> bool {
        if peer.blocks.asked_headers.is_some_and(|asked| self.now - asked <= RESPONSE_TIME) {
            return false;
        }
        peer.blocks.asked_headers = Some(self.now);
        let mut message = GetHeadersMessage::new(hashes, BlockHash::all_zeros());
        message.version = super::super::PROTOCOL_VERSION.cast_unsigned();
        peer.send(NetworkMessage::GetHeaders(message));
        true
    }

    fn best_locator(host: &dyn Host) -> Vec<BlockHash> {
        locator(host.chain(), host.chain().best_header())
    }

    /// One peer at a time at first; all once we are close to now. Core waits for minutes if the first one has nothing: here
    /// the next is asked soon after one has shown all it has.
    pub(in super::super) fn start_header_sync(&mut self, peer: &mut Peer, host: &dyn Host) {
        let chain = host.chain();
        if !peer.blocks.sent_sendheaders && peer.blocks.available.best.is_some() {
            peer.blocks.sent_sendheaders = true;
            peer.send(NetworkMessage::SendHeaders);
        }
        if peer.blocks.sync_started || !peer.serves_blocks() {
            return;
        }
        let best = chain.entry(chain.best_header());
        let is_fresh = i64::from(best.header.time) > self.now.secs() - ONE_DAY;
        let is_asked = |other: &Peer| {
            let is_done = other.blocks.sync_done.is_some_and(|done| self.now - done > NEXT_PEER_DELAY);
            other.blocks.sync_started && !is_done
        };
        let is_first = !self.peers.values().any(is_asked);
        if !(is_fresh || is_first && self.may_sync_from(peer)) {
            return;
        }
        // From the block before: a peer that is up to date then answers with one header, and we know what it has.
        let start = best.parent.unwrap_or(chain.best_header());
        if self.ask_headers(peer, locator(chain, start)) {
            peer.blocks.sync_started = true;
            let behind = (self.now.secs() - i64::from(best.header.time)).max(0).unsigned_abs();
            let missing = u32::try_from(behind / u64::from(self.params.pow_target_spacing)).unwrap_or(u32::MAX);
            peer.blocks.headers_deadline =
                Some(self.now + SYNC_TIMEOUT + SYNC_TIMEOUT_PER_HEADER.saturating_mul(missing));
        }
    }

    pub(super) fn check_header_timeout(&mut self, peer: &mut Peer, host: &dyn Host) {
        let Some(deadline) = peer.blocks.headers_deadline.filter(|_| peer.blocks.sync_started) else { return };
        let best = host.chain().entry(host.chain().best_header());
        if i64::from(best.header.time) > self.now.secs() - ONE_DAY {
            peer.blocks.headers_deadline = None;
            return;
        }
        let others = self.peers.values().filter(|other| other.is_ready);
        let has_other = others.clone().any(Peer::is_preferred);
        let is_only_one = !others.clone().any(|other| other.blocks.sync_started && other.blocks.sync_done.is_none());
        if self.now > deadline && is_only_one && has_other {
            if peer.connection.permissions.has(Permissions::NO_BAN) {
                // It stays, but another one is asked.
                peer.blocks.sync_started = false;
                peer.blocks.headers_deadline = None;
                return;
            }
            peer.close(Reason::Timeout("timeout downloading headers"));
        }
    }

    pub(in super::super) fn receive_headers(
        &mut self,
        peer: &mut Peer,
        headers: Vec<Header>,
        is_via_compact: bool,
        host: &mut dyn Host,
    ) {
        let Some(first) = headers.first() else {
            // Nothing new there, whatever we asked.
            peer.blocks.sync_done.get_or_insert(self.now);
            peer.blocks.headers_deadline = None;
            peer.blocks.low_work = None;
            peer.blocks.asked_headers = None;
            return;
        };
        let hashes: Vec<BlockHash> = headers.iter().map(Header::block_hash).collect();
        let is_proven = |(header, hash): (&Header, &BlockHash)| check_proof_of_work(*hash, header.bits, self.params);
        if !headers.iter().zip(&hashes).all(is_proven) {
            return peer.misbehaving("header with invalid proof of work");
        }
        if headers.iter().skip(1).zip(&hashes).any(|(header, parent)| header.prev_blockhash != *parent) {
            return peer.misbehaving("non-continuous headers sequence");
        }
        let last = *hashes.last().expect("as many as headers, which are not none");
        let mut has_enough_work = false;
        if peer.blocks.low_work.is_some() {
            match self.go_on_low_work(peer, &headers, last, host) {
                Some(Course::Accept) => has_enough_work = true,
                Some(Course::Done) => return,
                // Not what we wait for: as if nothing had been under way.
                None => peer.blocks.low_work = None,
            }
        }
        let Some(parent) = host.chain().find(&first.prev_blockhash) else {
            self.ask_headers(peer, Self::best_locator(host));
            peer.blocks.available.update(last, host.chain());
            return;
        };
        peer.blocks.asked_headers = None;
        let chain = host.chain();
        let known_last = chain.find(&last);
        let best = chain.best_header();
        // Who is trusted may show us any chain.
        has_enough_work |= peer.connection.permissions.has(Permissions::NO_BAN);
        has_enough_work |= known_last.is_some_and(|id| chain.is_active(id) || chain.index().is_ancestor(id, best));
        if !has_enough_work && self.is_low_work(peer, parent, &headers, last, host) {
            return;
        }
        let Ok(last_id) = self.take_headers(peer, &headers, is_via_compact, host) else { return };
        self.headers_taken(peer, last_id, known_last.is_none(), headers.len() == MAX_HEADERS, host);
    }

    fn take_headers(
        &mut self,
        peer: &mut Peer,
        headers: &[Header],
        is_via_compact: bool,
        host: &mut dyn Host,
    ) -> Result<BlockId, HeaderError> {
        let mut last = host.chain().tip();
        for header in headers {
            match host.accept_header(header) {
                Ok(id) => last = id,
                Err(error) => {
                    match error {
                        HeaderError::TimeTooNew | HeaderError::TooLittleChainwork => {}
                        // BIP 152 lets a peer pass on what it has not validated.
                        HeaderError::DuplicateInvalid if is_via_compact || peer.is_inbound() => {}
                        _ => peer.misbehaving("invalid header received"),
                    }
                    return Err(error);
                }
            }
        }
        Ok(last)
    }

    fn headers_taken(
        &mut self,
        peer: &mut Peer,
        last: BlockId,
        has_new: bool,
        may_have_more: bool,
        host: &mut dyn Host,
    ) {
        let chain = host.chain();
        let entry = chain.entry(last);
        peer.blocks.available.update(entry.hash, chain);
        if has_new && entry.chain_work > chain.tip_entry().chain_work {
            peer.blocks.last_announcement = self.now;
        }
        if !may_have_more {
            peer.blocks.sync_done.get_or_insert(self.now);
            peer.blocks.headers_deadline = None;
            self.check_usefulness(peer, host);
        }
        self.consider_protection(peer, host);
        if may_have_more {
            let hashes = match &peer.blocks.low_work {
                Some(low) if low.again.is_some() => {
                    let mut hashes = vec![low.last];
                    hashes.extend(locator(chain, low.start));
                    hashes
                }
                _ => locator(chain, last),
            };
            self.ask_headers(peer, hashes);
        }
        self.fetch_directly(peer, last, host);
    }

    /// Fetches the blocks towards a new header at once (Core: `HeadersDirectFetchBlocks`).
    fn fetch_directly(&mut self, peer: &mut Peer, last: BlockId, host: &dyn Host) {
        let chain = host.chain();
        let entry = chain.entry(last);
        if !self.can_fetch_directly(host) || entry.is_failed || entry.chain_work < chain.tip_entry().chain_work {
            return;
        }
        let (mut wanted, mut walk) = (Vec::new(), Some(last));
        while let Some(id) = walk.filter(|id| !chain.is_active(*id) && wanted.len() <= IN_FLIGHT_PER_PEER) {
            let entry = chain.entry(id);
            if entry.data.is_none() && !self.download.is_requested(&entry.hash) && peer.serves_witness() {
                wanted.push((id, entry.hash));
            }
            walk = entry.parent;
        }
        // A very long branch is left to the ordinary download.
        if walk.is_none_or(|id| !chain.is_active(id)) {
            return;
        }
        let mut items = Vec::new();
        for (id, hash) in wanted.into_iter().rev() {
            if peer.blocks.in_flight.len() >= IN_FLIGHT_PER_PEER {
                break;
            }
            self.note_request(peer, id, hash);
            items.push(Inventory::WitnessBlock(hash));
        }
        let is_next = entry.parent == Some(chain.tip());
        if let [Inventory::WitnessBlock(hash)] = items[..]
            && peer.blocks.provides_compact
            && !self.options.blocks_only
            && self.download.requested.len() == 1
            && is_next
        {
            items = vec![Inventory::CompactBlock(hash)];
        }
        if !items.is_empty() {
            peer.send(NetworkMessage::GetData(items));
        }
    }

    /// Whether the headers have too little work to be kept; a full message begins a longer look.
    fn is_low_work(
        &mut self,
        peer: &mut Peer,
        parent: BlockId,
        headers: &[Header],
        last: BlockHash,
        host: &dyn Host,
    ) -> bool {
        let chain = host.chain();
        let work = add_work(chain.entry(parent).chain_work, headers);
        if work >= chain.anti_dos_work() {
            return false;
        }
        if headers.len() == MAX_HEADERS {
            let start_height = chain.entry(parent).height;
            let low = LowWork { start: parent, start_height, work, marks: vec![last], again: None, last };
            peer.blocks.low_work = Some(low);
            let mut hashes = vec![last];
            hashes.extend(locator(chain, parent));
            self.ask_headers(peer, hashes);
        }
        true
    }

    /// The next message of a chain of little work. `None`: it is not that.
    fn go_on_low_work(
        &mut self,
        peer: &mut Peer,
        headers: &[Header],
        last: BlockHash,
        host: &dyn Host,
    ) -> Option<Course> {
        let low = peer.blocks.low_work.as_mut()?;
        if headers.first()?.prev_blockhash != low.last {
            return None;
        }
        let chain = host.chain();
        let is_full = headers.len() == MAX_HEADERS;
        peer.blocks.asked_headers = None;
        if let Some(done) = low.again {
            if low.marks.get(done).is_some_and(|mark| *mark != last) {
                // Other headers than the first time: the peer went over to another chain, or plays with us.
                peer.blocks.low_work = None;
                return Some(Course::Done);
            }
            (low.again, low.last) = (Some(done + 1), last);
            if done + 1 >= low.marks.len() || !is_full {
                peer.blocks.low_work = None;
            }
            return Some(Course::Accept);
        }
        low.work = add_work(low.work, headers);
        low.marks.push(last);
        let is_enough = low.work >= chain.anti_dos_work();
        if !is_enough && (!is_full || low.marks.len() >= MAX_MARKS) {
            peer.blocks.low_work = None;
            return Some(Course::Done);
        }
        low.last = last;
        let mut hashes = vec![last];
        if is_enough {
            (low.again, low.last) = (Some(0), chain.entry(low.start).hash);
            hashes.clear();
        }
        hashes.extend(locator(chain, low.start));
        self.ask_headers(peer, hashes);
        Some(Course::Done)
    }
}

fn add_work(work: Work, headers: &[Header]) -> Work {
    headers.iter().fold(work, |work, header| work + block_proof(header.bits))
}
