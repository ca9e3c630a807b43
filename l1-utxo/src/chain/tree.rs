//! How headers and blocks enter the tree, and which of them may become the tip.
//!
//! Core: `AcceptBlockHeader`, `AcceptBlock`, `ReceivedBlockTransactions`, `setBlockIndexCandidates`.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use bitcoin::block::Header;
use bitcoin::{BlockHash, Work};

use super::coins::CoinsCache;
use super::index::{BlockId, BlockIndex, IndexRow};
use super::{AcceptError, Archive, Chain, ChainError};
use crate::consensus::block::{check_block, check_block_in_context};
use crate::consensus::header::{HeaderContext, check_header, check_header_in_context};
use crate::consensus::{BlockError, HashedBlock, HeaderError, Verdict, pow};
use crate::params::Params;

/// Blocks by which an unrequested block may be ahead of the tip, and a header's chain behind it in work.
const RECENT_BLOCKS: u32 = 288;
const ANTI_DOS_BLOCKS: u32 = 144;

/// Whether we asked for what we were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// We did, or our own user gave it.
    Requested,
    /// A peer sent it unasked: it must be worth our memory.
    Unrequested,
}

/// What became of a block that broke no rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceptance {
    /// Stored; `Chain::step` connects it if its chain is the best.
    New(BlockId),
    /// Stored before.
    Known(BlockId),
    /// Nobody asked for it, and it is not better than what we have: dropped.
    Ignored(BlockId),
}

/// A possible tip, in the order of preference: work, then the lowest sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Candidate {
    work: Work,
    sequence: Reverse<i64>,
    id: Reverse<BlockId>,
}

impl Candidate {
    pub(super) const fn id(&self) -> BlockId {
        self.id.0
    }
}

impl Chain {
    /// The chain as the store left it: the rows of its index, parents first, and the block whose coins it holds. Without
    /// rows it begins at the genesis block.
    pub fn open(
        params: &'static Params,
        rows: impl IntoIterator<Item = IndexRow>,
        best_block: Option<BlockHash>,
        salt: u64,
    ) -> Result<Self, ChainError> {
        let mut index = BlockIndex::default();
        let genesis = index.insert(params.genesis.header, params.genesis_hash, None);
        let mut chain = Self {
            params,
            index,
            active: vec![genesis],
            coins: CoinsCache::new(salt),
            candidates: BTreeSet::new(),
            best_header: genesis,
            next_sequence: 1,
            precious: (-1, Work::from_be_bytes([0; 32])),
            dirty_index: BTreeSet::new(),
            signatures: None,
            minimum_work: Work::from_be_bytes([0; 32]),
        };
        for row in rows {
            chain.load(row)?;
        }
        if chain.entry(genesis).data.is_some() {
            let best = best_block.unwrap_or(params.genesis_hash);
            let tip = chain.find(&best).ok_or(ChainError::BrokenIndex(best))?;
            chain.active = chain.index.ancestors(Some(tip)).collect();
            chain.active.reverse();
        }
        chain.find_candidates();
        Ok(chain)
    }

    fn load(&mut self, row: IndexRow) -> Result<(), ChainError> {
        let hash = row.header.block_hash();
        let parent = self.find(&row.header.prev_blockhash);
        if (row.height == 0) != (hash == self.params.genesis_hash) {
            return Err(ChainError::OtherGenesis(hash));
        }
        if parent.map(|id| self.entry(id).height + 1).unwrap_or(0) != row.height {
            return Err(ChainError::BrokenIndex(hash));
        }
        let id = self.index.insert(row.header, hash, parent);
        let entry = self.index.entry_mut(id);
        entry.is_failed |= row.is_failed;
        (entry.transaction_count, entry.sequence) = (row.transaction_count, row.sequence);
        (entry.data, entry.undo) = (row.data, row.undo);
        if row.data.is_some() {
            self.index.link(id);
        }
        self.next_sequence = self.next_sequence.max(row.sequence.saturating_add(1));
        Ok(())
    }

    /// Puts the genesis block into an archive that has none.
    pub fn store_genesis(&mut self, archive: &mut dyn Archive) -> Result<(), ChainError> {
        let genesis = self.active[0];
        if self.entry(genesis).data.is_none() {
            let position = archive.append_block(&self.params.genesis)?;
            self.receive(genesis, 1, position);
        }
        Ok(())
    }

    /// Takes in a block that the archive holds at `position` although the index does not know it: what was appended after
    /// the last flush. It was checked before it was appended; `false` if its parent is not known (yet).
    pub fn recover_block(&mut self, header: &Header, transaction_count: u32, position: super::Position) -> bool {
        // The clock let it in once.
        let Ok(id) = self.accept_header(header, u64::MAX, Source::Requested) else { return false };
        if self.entry(id).data.is_none() {
            self.receive(id, transaction_count, position);
        }
        true
    }

    /// As `recover_block`, for undo data.
    pub fn recover_undo(&mut self, hash: &BlockHash, position: super::Position) {
        if let Some(id) = self.find(hash).filter(|id| self.entry(*id).undo.is_none()) {
            self.index.entry_mut(id).undo = Some(position);
            self.dirty_index.insert(id);
        }
    }

    pub(super) fn header_context(&self, parent: BlockId, now: u64) -> HeaderContext {
        let entry = self.entry(parent);
        let at_height =
            |height| self.index.ancestor(parent, height).map_or(entry.timing(), |id| self.entry(id).timing());
        HeaderContext {
            parent: entry.timing(),
            median_time_past: entry.median_time_past,
            required_bits: pow::next_work_required(self.params, entry.timing(), at_height),
            now,
        }
    }

    /// The bits that the next block of the active chain must have.
    pub fn next_bits(&self) -> bitcoin::CompactTarget {
        self.header_context(self.tip(), 0).required_bits
    }

    /// Takes in a header; `now` is our clock in seconds since 1970. A known one is checked only for being marked invalid.
    pub fn accept_header(&mut self, header: &Header, now: u64, source: Source) -> Result<BlockId, HeaderError> {
        let hash = header.block_hash();
        if let Some(id) = self.find(&hash) {
            return if self.entry(id).is_failed { Err(HeaderError::DuplicateInvalid) } else { Ok(id) };
        }
        check_header(header, hash, self.params)?;
        let parent = self.find(&header.prev_blockhash).ok_or(HeaderError::PrevBlockNotFound)?;
        if self.entry(parent).is_failed {
            return Err(HeaderError::BadPrevBlock);
        }
        check_header_in_context(header, &self.header_context(parent, now), self.params)?;
        let work = self.entry(parent).chain_work + pow::block_proof(header.bits);
        if source == Source::Unrequested && work < self.anti_dos_work() {
            return Err(HeaderError::TooLittleChainwork);
        }
        let id = self.index.insert(*header, hash, Some(parent));
        self.dirty_index.insert(id);
        if work > self.entry(self.best_header).chain_work {
            self.best_header = id;
        }
        Ok(id)
    }

    /// Chains with less work than this are not worth memory, whatever the tip.
    pub const fn require_work(&mut self, work: Work) {
        self.minimum_work = work;
    }

    /// The work that our user requires of every chain.
    pub const fn minimum_work(&self) -> Work {
        self.minimum_work
    }

    /// The work of the active chain 144 blocks of the tip's difficulty ago: what has less is not worth memory.
    pub fn anti_dos_work(&self) -> Work {
        self.work_near_tip().max(self.minimum_work)
    }

    fn work_near_tip(&self) -> Work {
        let tip = self.tip_entry();
        let proof = pow::block_proof(tip.header.bits);
        let mut work = tip.chain_work;
        for _ in 0..ANTI_DOS_BLOCKS {
            if work < proof {
                return Work::from_be_bytes([0; 32]);
            }
            work = work - proof;
        }
        work
    }

    /// Takes in a block: checks all that needs no coins, appends it to the archive, and makes it a candidate.
    pub fn accept_block(
        &mut self,
        archive: &mut dyn Archive,
        block: &HashedBlock,
        now: u64,
        source: Source,
    ) -> Result<Acceptance, AcceptError> {
        // Before the header is stored, so that nothing is marked for a body that may not be its own.
        check_block(block, self.params, true)?;
        let id = self.accept_header(&block.block().header, now, source).map_err(BlockError::from)?;
        if self.entry(id).data.is_some() {
            return Ok(Acceptance::Known(id));
        }
        if source == Source::Unrequested && !self.is_worth_storing(id) {
            return Ok(Acceptance::Ignored(id));
        }
        if let Err(error) = self.check_in_context(id, block) {
            if error.verdict() == Verdict::Permanent {
                self.mark_failed(id);
            }
            return Err(error.into());
        }
        let position = archive.append_block(block.block()).map_err(ChainError::from)?;
        let transaction_count = u32::try_from(block.transactions().len()).expect("a block has at most 4 MB");
        self.receive(id, transaction_count, position);
        Ok(Acceptance::New(id))
    }

    fn check_in_context(&self, id: BlockId, block: &HashedBlock) -> Result<(), BlockError> {
        let entry = self.entry(id);
        let median_time_past = entry.parent.map_or(0, |parent| self.entry(parent).median_time_past);
        Ok(check_block_in_context(block, entry.height, median_time_past, self.params)?)
    }

    fn is_worth_storing(&self, id: BlockId) -> bool {
        let (entry, tip) = (self.entry(id), self.tip_entry());
        let is_better = entry.chain_work >= tip.chain_work.max(self.minimum_work);
        is_better && entry.height <= tip.height + RECENT_BLOCKS
    }

    fn receive(&mut self, id: BlockId, transaction_count: u32, position: super::Position) {
        let entry = self.index.entry_mut(id);
        entry.transaction_count = transaction_count;
        entry.data = Some(position);
        self.dirty_index.insert(id);
        for linked in self.index.link(id) {
            self.index.entry_mut(linked).sequence = self.next_sequence;
            self.next_sequence += 1;
            self.dirty_index.insert(linked);
            self.consider(linked);
        }
    }

    fn candidate(&self, id: BlockId) -> Candidate {
        let entry = self.entry(id);
        Candidate { work: entry.chain_work, sequence: Reverse(entry.sequence), id: Reverse(id) }
    }

    /// Makes a block a candidate if it may become the tip and is not worse.
    pub(super) fn consider(&mut self, id: BlockId) {
        let candidate = self.candidate(id);
        if self.entry(id).is_connectable() && candidate >= self.candidate(self.tip()) {
            self.candidates.insert(candidate);
        }
    }

    /// The best possible tip.
    pub(super) fn best_candidate(&self) -> BlockId {
        self.candidates.last().map_or(self.tip(), Candidate::id)
    }

    /// Forgets candidates that are worse than the tip.
    pub(super) fn prune_candidates(&mut self) {
        let tip = self.candidate(self.tip());
        self.candidates.insert(tip);
        self.candidates = self.candidates.split_off(&tip);
    }

    /// Looks through the whole index for candidates and the best header: after a start, or what a user marked by hand.
    pub(super) fn find_candidates(&mut self) {
        self.best_header = self.active[0];
        self.candidates.clear();
        // The fork below which the active chain is valid stands for the tip if the tip itself is marked.
        let valid = self.active.iter().rposition(|id| !self.entry(*id).is_failed).unwrap_or(0);
        let floor = self.candidate(self.active[valid]);
        for id in self.index.ids() {
            let entry = self.entry(id);
            if !entry.is_failed && entry.chain_work > self.entry(self.best_header).chain_work {
                self.best_header = id;
            }
            let candidate = self.candidate(id);
            if self.entry(id).is_connectable() && candidate >= floor {
                self.candidates.insert(candidate);
            }
        }
        self.candidates.insert(floor);
    }

    /// Marks a block and all that builds on it as invalid.
    pub(super) fn mark_failed(&mut self, id: BlockId) {
        self.fail(id);
        for later in self.index.ids_after(id) {
            let builds_on_failed = self.entry(later).parent.is_some_and(|parent| self.entry(parent).is_failed);
            if builds_on_failed && !self.entry(later).is_failed {
                self.fail(later);
            }
        }
        if self.entry(self.best_header).is_failed {
            self.find_best_header();
        }
    }

    fn fail(&mut self, id: BlockId) {
        let candidate = self.candidate(id);
        self.candidates.remove(&candidate);
        self.index.entry_mut(id).is_failed = true;
        self.dirty_index.insert(id);
    }

    fn find_best_header(&mut self) {
        let mut best = self.active[0];
        for id in self.index.ids() {
            if !self.entry(id).is_failed && self.entry(id).chain_work > self.entry(best).chain_work {
                best = id;
            }
        }
        self.best_header = best;
    }

    /// Makes a block count as seen first among those of equal work, as Core's `preciousblock`. Then `step`.
    pub fn make_precious(&mut self, id: BlockId) {
        let tip_work = self.tip_entry().chain_work;
        if self.entry(id).chain_work < tip_work {
            return;
        }
        if tip_work > self.precious.1 {
            self.precious.0 = -1;
        }
        self.precious.1 = tip_work;
        let candidate = self.candidate(id);
        self.candidates.remove(&candidate);
        self.index.entry_mut(id).sequence = self.precious.0;
        self.dirty_index.insert(id);
        self.precious.0 = self.precious.0.saturating_sub(1);
        self.consider(id);
    }

    /// Marks a block invalid by hand (`invalidateblock`); the genesis block cannot be. Then `step`. Returns whether it did.
    pub fn invalidate(&mut self, id: BlockId) -> bool {
        if self.entry(id).parent.is_none() {
            return false;
        }
        self.mark_failed(id);
        self.find_candidates();
        true
    }

    /// Takes back the mark on a block, on all before it and all that builds on it (`reconsiderblock`). Then `step`.
    pub fn reconsider(&mut self, id: BlockId) {
        let mut cleared: BTreeSet<BlockId> =
            self.index.ancestors(Some(id)).take_while(|id| !self.is_active(*id)).collect();
        cleared.insert(id);
        for later in self.index.ids_after(id) {
            if self
                .entry(later)
                .parent
                .is_some_and(|parent| cleared.contains(&parent) && self.index.is_ancestor(id, later))
            {
                cleared.insert(later);
            }
        }
        for id in cleared {
            if self.entry(id).is_failed {
                self.index.entry_mut(id).is_failed = false;
                self.dirty_index.insert(id);
            }
        }
        self.find_candidates();
    }
}
