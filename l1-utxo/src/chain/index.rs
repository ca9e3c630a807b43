//! The tree of all known headers, with what is known of each block. Entries are never removed.
//!
//! Core: `CBlockIndex`, `BlockManager::AddToBlockIndex`. Ancestors are found in logarithmic time by jump pointers
//! (Myers' skew-binary list), so nothing that happens once a block grows with the chain.

use std::collections::{BTreeMap, VecDeque};

use bitcoin::block::Header;
use bitcoin::{BlockHash, Work};

use super::deployment::{Deployment, PERIOD, votes};
use crate::consensus::header::{MEDIAN_TIME_SPAN, median_time};
use crate::consensus::pow::{self, Timing};

/// A header's place in the tree of one process. A parent's id is always below its children's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(u32);

/// Where the archive holds a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The segment file's number.
    pub segment: u32,
    /// Bytes from the start of the file to the record.
    pub offset: u32,
    /// Length of the record's content in bytes.
    pub length: u32,
}

/// What is known of one header and its block.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The header.
    pub header: Header,
    /// Its hash.
    pub hash: BlockHash,
    /// Blocks before it.
    pub height: u32,
    /// Work of the chain that ends here.
    pub chain_work: Work,
    /// Median time of this and the ten blocks before: the BIP 113 clock of its children.
    pub median_time_past: u32,
    /// The block before; `None` for block 0.
    pub parent: Option<BlockId>,
    jump: BlockId,
    /// Whether it, or a block before it, broke a rule or was marked by hand.
    pub is_failed: bool,
    /// Transactions in the block; 0 as long as its body is not here.
    pub transaction_count: u32,
    /// Transactions in the chain that ends here; 0 as long as a body of it is missing.
    pub chain_transaction_count: u64,
    /// Order in which chains became complete: at equal work the lowest wins (first seen, or made precious).
    pub sequence: i64,
    /// Where the body is.
    pub data: Option<Position>,
    /// Where the undo data is; it depends on nothing but the chain that ends here, so it is written once.
    pub undo: Option<Position>,
    /// What the block after it is to vote.
    pub deployment: Deployment,
}

/// What the store keeps of an entry; the rest follows from the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexRow {
    /// Blocks before it: rows are loaded in this order, parents first.
    pub height: u32,
    /// The header.
    pub header: Header,
    /// See `Entry`.
    pub is_failed: bool,
    /// See `Entry`.
    pub transaction_count: u32,
    /// See `Entry`.
    pub sequence: i64,
    /// See `Entry`.
    pub data: Option<Position>,
    /// See `Entry`.
    pub undo: Option<Position>,
}

impl Entry {
    /// What the store keeps of it.
    pub fn row(&self) -> IndexRow {
        IndexRow {
            height: self.height,
            header: self.header,
            is_failed: self.is_failed,
            transaction_count: self.transaction_count,
            sequence: self.sequence,
            data: self.data,
            undo: self.undo,
        }
    }

    /// What the retarget rule needs of it.
    pub const fn timing(&self) -> Timing {
        Timing { height: self.height, time: self.header.time, bits: self.header.bits }
    }

    /// Whether it and all before it are here and none is known to be invalid: it may become the tip.
    pub const fn is_connectable(&self) -> bool {
        self.chain_transaction_count != 0 && !self.is_failed
    }
}

/// The tree of headers.
#[derive(Clone, Debug, Default)]
pub struct BlockIndex {
    entries: Vec<Entry>,
    by_hash: BTreeMap<BlockHash, BlockId>,
    /// Bodies that came before their parent's.
    unlinked: BTreeMap<BlockId, Vec<BlockId>>,
}

impl BlockIndex {
    /// How many headers there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether not even block 0 is there.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The header with this hash.
    pub fn find(&self, hash: &BlockHash) -> Option<BlockId> {
        self.by_hash.get(hash).copied()
    }

    /// The entry of an id that this index gave out.
    pub fn entry(&self, id: BlockId) -> &Entry {
        &self.entries[id.0 as usize]
    }

    pub(super) fn entry_mut(&mut self, id: BlockId) -> &mut Entry {
        &mut self.entries[id.0 as usize]
    }

    /// All ids, parents before children.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = BlockId> + use<> {
        (0..self.entries.len() as u32).map(BlockId)
    }

    /// The ids given out after `id`: among them are all its descendants.
    pub fn ids_after(&self, id: BlockId) -> impl Iterator<Item = BlockId> + use<> {
        (id.0 + 1..self.entries.len() as u32).map(BlockId)
    }

    /// Adds a header whose parent is `parent` (`None`: block 0), unless it is there.
    pub(super) fn insert(&mut self, header: Header, hash: BlockHash, parent: Option<BlockId>) -> BlockId {
        if let Some(id) = self.find(&hash) {
            return id;
        }
        let id = BlockId(u32::try_from(self.entries.len()).expect("2^32 headers do not fit into memory"));
        let work = pow::block_proof(header.bits);
        let (height, chain_work, is_failed) = parent
            .map(|parent| self.entry(parent))
            .map_or((0, work, false), |parent| (parent.height + 1, parent.chain_work + work, parent.is_failed));
        let times = std::iter::once(header.time).chain(self.ancestors(parent).map(|id| self.entry(id).header.time));
        let entry = Entry {
            median_time_past: median_time(times.take(MEDIAN_TIME_SPAN)),
            jump: parent.map_or(id, |parent| self.jump_of_child(parent)),
            header,
            hash,
            height,
            chain_work,
            parent,
            is_failed,
            transaction_count: 0,
            chain_transaction_count: 0,
            sequence: 0,
            data: None,
            undo: None,
            deployment: parent.map(|parent| self.entry(parent).deployment).unwrap_or_default(),
        };
        self.entries.push(entry);
        self.by_hash.insert(hash, id);
        if (height + 1).is_multiple_of(PERIOD) {
            let period = self.ancestors(Some(id)).take(PERIOD as usize);
            let count = period.filter(|id| votes(&self.entry(*id).header)).count();
            let entry = self.entry_mut(id);
            entry.deployment = entry.deployment.next(u32::try_from(count).unwrap_or(u32::MAX));
        }
        id
    }

    /// Two jumps of equal length before a node merge into one twice as long.
    fn jump_of_child(&self, parent: BlockId) -> BlockId {
        let near = self.entry(parent);
        let middle = self.entry(near.jump);
        let far = self.entry(middle.jump);
        if near.height - middle.height == middle.height - far.height { middle.jump } else { parent }
    }

    /// `id` and all before it, down to block 0.
    pub fn ancestors(&self, id: Option<BlockId>) -> impl Iterator<Item = BlockId> + '_ {
        std::iter::successors(id, |id| self.entry(*id).parent)
    }

    /// The block at `height` of the chain that ends at `id`; `None` above it.
    pub fn ancestor(&self, id: BlockId, height: u32) -> Option<BlockId> {
        let mut at = id;
        loop {
            let entry = self.entry(at);
            match entry.height.cmp(&height) {
                std::cmp::Ordering::Less => return None,
                std::cmp::Ordering::Equal => return Some(at),
                std::cmp::Ordering::Greater if self.entry(entry.jump).height >= height => at = entry.jump,
                std::cmp::Ordering::Greater => at = entry.parent?,
            }
        }
    }

    /// Whether `ancestor` is `id` or before it.
    pub fn is_ancestor(&self, ancestor: BlockId, id: BlockId) -> bool {
        self.ancestor(id, self.entry(ancestor).height) == Some(ancestor)
    }

    /// The last block that the chains of `a` and `b` share, in logarithmic steps (Core: `LastCommonAncestor`).
    pub fn fork(&self, a: BlockId, b: BlockId) -> BlockId {
        let (mut low, mut high) = (0, self.entry(a).height.min(self.entry(b).height));
        // Chains that share a height share all below it.
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if self.ancestor(a, middle) == self.ancestor(b, middle) { low = middle } else { high = middle - 1 }
        }
        self.ancestor(a, low).unwrap_or(a)
    }

    /// Notes that the body of `id` is here, and returns the blocks whose chain became complete, in order.
    pub(super) fn link(&mut self, id: BlockId) -> Vec<BlockId> {
        let mut linked = Vec::new();
        let mut queue = VecDeque::from([id]);
        while let Some(id) = queue.pop_front() {
            let entry = self.entry(id);
            let before = match entry.parent {
                None => Some(0),
                Some(parent) => Some(self.entry(parent).chain_transaction_count).filter(|count| *count != 0),
            };
            let Some(before) = before else {
                if let Some(parent) = entry.parent {
                    self.unlinked.entry(parent).or_default().push(id);
                }
                continue;
            };
            let entry = self.entry_mut(id);
            entry.chain_transaction_count = before + u64::from(entry.transaction_count);
            linked.push(id);
            queue.extend(self.unlinked.remove(&id).unwrap_or_default());
        }
        linked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::Network;

    /// A chain of `count` headers on `parent` that differ by `salt`.
    fn extend(index: &mut BlockIndex, parent: Option<BlockId>, count: u32, salt: u32) -> Vec<BlockId> {
        let mut parent = parent;
        (0..count)
            .map(|n| {
                let mut header = Network::Regtest.params().genesis.header;
                header.nonce = salt;
                header.time = n + 1;
                if let Some(parent) = parent {
                    header.prev_blockhash = index.entry(parent).hash;
                }
                let id = index.insert(header, header.block_hash(), parent);
                parent = Some(id);
                id
            })
            .collect()
    }

    #[test]
    fn ancestors_by_jumps_are_those_by_steps() {
        let mut index = BlockIndex::default();
        let chain = extend(&mut index, None, 3_000, 0);
        for (height, id) in chain.iter().enumerate() {
            for back in [0, 1, 2, 3, 10, 100, 1_000] {
                if let Some(wanted) = height.checked_sub(back) {
                    assert_eq!(index.ancestor(*id, wanted as u32), Some(chain[wanted]));
                }
            }
            assert_eq!(index.ancestor(*id, height as u32 + 1), None);
        }
    }

    #[test]
    fn forks_are_found() {
        let mut index = BlockIndex::default();
        let trunk = extend(&mut index, None, 100, 0);
        let branch = extend(&mut index, Some(trunk[40]), 30, 1);
        assert_eq!(index.fork(trunk[99], branch[29]), trunk[40]);
        assert_eq!(index.fork(branch[29], trunk[20]), trunk[20]);
        assert_eq!(index.fork(trunk[5], trunk[5]), trunk[5]);
        assert!(index.is_ancestor(trunk[40], branch[0]) && !index.is_ancestor(trunk[41], branch[29]));
    }

    #[test]
    fn bodies_link_when_the_last_missing_one_comes() {
        let mut index = BlockIndex::default();
        let chain = extend(&mut index, None, 4, 0);
        let mut receive = |n: usize| {
            index.entry_mut(chain[n]).transaction_count = 1;
            index.link(chain[n])
        };
        assert_eq!(receive(0), vec![chain[0]]);
        assert_eq!(receive(3), vec![]);
        assert_eq!(receive(2), vec![]);
        assert_eq!(receive(1), vec![chain[1], chain[2], chain[3]]);
        assert_eq!(index.entry(chain[3]).chain_transaction_count, 4);
        assert_eq!(index.entry(chain[3]).median_time_past, 3);
    }
}
