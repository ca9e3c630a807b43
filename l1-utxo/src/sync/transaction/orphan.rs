//! Transactions whose parents have not come: kept with those who announced them, so much a peer, until a parent comes.
//!
//! When space ends, the oldest of the peer that takes most goes first, so nobody can push out what others brought.
//! Core: `node/txorphanage.cpp`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::{OutPoint, Transaction, Txid, Wtxid};

use super::super::port::PeerId;
use crate::consensus::HashedBlock;

/// Weight that each peer may fill (Core: `DEFAULT_RESERVED_ORPHAN_WEIGHT_PER_PEER`), and entries of all together.
const WEIGHT_PER_PEER: u64 = 404_000;
const MAX_ANNOUNCEMENTS: usize = 3_000;
/// Heavier ones are no standard transactions.
const MAX_WEIGHT: u64 = 400_000;

/// A transaction that waits, for those who ask.
#[derive(Clone, Debug)]
pub struct Orphan {
    /// The transaction.
    pub transaction: Arc<Transaction>,
    /// Who has it.
    pub announcers: Vec<PeerId>,
}

struct Waiting {
    transaction: Arc<Transaction>,
    announcers: BTreeSet<PeerId>,
    weight: u64,
    sequence: u64,
}

/// The transactions that wait.
#[derive(Default)]
pub(in super::super) struct Orphans {
    by_wtxid: BTreeMap<Wtxid, Waiting>,
    by_parent: BTreeMap<OutPoint, BTreeSet<Wtxid>>,
    /// Weight and number of entries by announcer.
    usage: BTreeMap<PeerId, (u64, usize)>,
    /// What is to be tried again, by the peer on whose account.
    work: BTreeMap<PeerId, BTreeSet<Wtxid>>,
    next: u64,
}

impl Orphans {
    pub(in super::super) fn len(&self) -> usize {
        self.by_wtxid.len()
    }

    pub(in super::super) fn list(&self) -> Vec<Orphan> {
        let orphans = self.by_wtxid.values();
        let shown = |orphan: &Waiting| Orphan {
            transaction: Arc::clone(&orphan.transaction),
            announcers: orphan.announcers.iter().copied().collect(),
        };
        orphans.map(shown).collect()
    }

    pub(super) fn contains(&self, wtxid: &Wtxid) -> bool {
        self.by_wtxid.contains_key(wtxid)
    }

    pub(super) fn get(&self, wtxid: &Wtxid) -> Option<&Arc<Transaction>> {
        self.by_wtxid.get(wtxid).map(|orphan| &orphan.transaction)
    }

    pub(super) fn is_from(&self, wtxid: &Wtxid, peer: PeerId) -> bool {
        self.by_wtxid.get(wtxid).is_some_and(|orphan| orphan.announcers.contains(&peer))
    }

    /// Keeps a transaction, or notes that another peer has it, too.
    pub(super) fn add(&mut self, transaction: &Arc<Transaction>, peer: PeerId) {
        let wtxid = transaction.compute_wtxid();
        let weight = transaction.weight().to_wu();
        if weight > MAX_WEIGHT {
            return;
        }
        let next = self.next;
        let orphan = self.by_wtxid.entry(wtxid).or_insert_with(|| Waiting {
            transaction: Arc::clone(transaction),
            announcers: BTreeSet::new(),
            weight,
            sequence: next,
        });
        self.next += 1;
        if !orphan.announcers.insert(peer) {
            return;
        }
        for input in &transaction.input {
            self.by_parent.entry(input.previous_output).or_default().insert(wtxid);
        }
        let usage = self.usage.entry(peer).or_default();
        *usage = (usage.0 + weight, usage.1 + 1);
        self.limit();
    }

    fn limit(&mut self) {
        loop {
            let (weight, count) = self.usage.values().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
            let peers = self.usage.len().max(1);
            if weight <= WEIGHT_PER_PEER * peers as u64 && count <= MAX_ANNOUNCEMENTS {
                return;
            }
            // The share of what it may use that each takes, in weight or in number, whichever is more.
            let share = |(weight, count): &(u64, usize)| {
                let by_weight = u128::from(*weight) * MAX_ANNOUNCEMENTS as u128;
                let by_count = *count as u128 * peers as u128 * u128::from(WEIGHT_PER_PEER);
                by_weight.max(by_count)
            };
            let Some(worst) = self.usage.iter().max_by_key(|(_, usage)| share(usage)).map(|(peer, _)| *peer) else {
                return;
            };
            let of_worst = self.by_wtxid.iter().filter(|(_, orphan)| orphan.announcers.contains(&worst));
            let Some(oldest) = of_worst.min_by_key(|(_, orphan)| orphan.sequence).map(|(wtxid, _)| *wtxid) else {
                return;
            };
            self.leave(&oldest, worst);
        }
    }

    /// A peer no longer stands for a transaction; without any the transaction goes.
    fn leave(&mut self, wtxid: &Wtxid, peer: PeerId) {
        let Some(orphan) = self.by_wtxid.get_mut(wtxid) else { return };
        if !orphan.announcers.remove(&peer) {
            return;
        }
        let (weight, is_last) = (orphan.weight, orphan.announcers.is_empty());
        if let Some(usage) = self.usage.get_mut(&peer) {
            *usage = (usage.0 - weight, usage.1 - 1);
            if usage.1 == 0 {
                self.usage.remove(&peer);
            }
        }
        if let Some(work) = self.work.get_mut(&peer) {
            work.remove(wtxid);
        }
        if is_last && let Some(orphan) = self.by_wtxid.remove(wtxid) {
            for input in &orphan.transaction.input {
                if let Some(children) = self.by_parent.get_mut(&input.previous_output) {
                    children.remove(wtxid);
                    if children.is_empty() {
                        self.by_parent.remove(&input.previous_output);
                    }
                }
            }
        }
    }

    pub(super) fn remove(&mut self, wtxid: &Wtxid) {
        let announcers: Vec<PeerId> =
            self.by_wtxid.get(wtxid).into_iter().flat_map(|orphan| orphan.announcers.iter().copied()).collect();
        announcers.into_iter().for_each(|peer| self.leave(wtxid, peer));
    }

    pub(super) fn forget_peer(&mut self, peer: PeerId) {
        let of_peer = self.by_wtxid.iter().filter(|(_, orphan)| orphan.announcers.contains(&peer));
        let wtxids: Vec<Wtxid> = of_peer.map(|(wtxid, _)| *wtxid).collect();
        wtxids.iter().for_each(|wtxid| self.leave(wtxid, peer));
        self.work.remove(&peer);
    }

    fn children(&self, txid: Txid) -> BTreeSet<Wtxid> {
        let outputs = OutPoint { txid, vout: 0 }..=OutPoint { txid, vout: u32::MAX };
        self.by_parent.range(outputs).flat_map(|(_, children)| children).copied().collect()
    }

    /// A parent came: its children are tried again, each on the account of one of its announcers.
    pub(super) fn parent_came(&mut self, parent: Txid) {
        for wtxid in self.children(parent) {
            let Some(peer) = self.by_wtxid.get(&wtxid).and_then(|orphan| orphan.announcers.first()) else { continue };
            self.work.entry(*peer).or_default().insert(wtxid);
        }
    }

    /// The next one to be tried again on this peer's account.
    pub(super) fn next_for(&mut self, peer: PeerId) -> Option<Arc<Transaction>> {
        let work = self.work.get_mut(&peer)?;
        while let Some(wtxid) = work.pop_first() {
            if let Some(orphan) = self.by_wtxid.get(&wtxid) {
                return Some(Arc::clone(&orphan.transaction));
            }
        }
        self.work.remove(&peer);
        None
    }

    /// The peers on whose account something is to be tried again.
    pub(in super::super) fn waiting_for_turn(&self) -> Vec<PeerId> {
        self.work.keys().copied().collect()
    }

    /// The children of a transaction that this peer brought, the newest first.
    pub(super) fn children_from(&self, parent: &Transaction, peer: PeerId) -> Vec<Arc<Transaction>> {
        let children = self.children(parent.compute_txid());
        let mut found: Vec<&Waiting> = children
            .iter()
            .filter_map(|wtxid| self.by_wtxid.get(wtxid))
            .filter(|orphan| orphan.announcers.contains(&peer))
            .collect();
        found.sort_by_key(|orphan| std::cmp::Reverse(orphan.sequence));
        found.into_iter().map(|orphan| Arc::clone(&orphan.transaction)).collect()
    }

    /// What a block confirms or contradicts goes.
    pub(super) fn block_connected(&mut self, block: &HashedBlock) {
        if self.by_wtxid.is_empty() {
            return;
        }
        for transaction in block.transactions() {
            for input in &transaction.input {
                let gone: Vec<Wtxid> =
                    self.by_parent.get(&input.previous_output).into_iter().flatten().copied().collect();
                gone.iter().for_each(|wtxid| self.remove(wtxid));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::absolute::LockTime;
    use bitcoin::hashes::Hash;
    use bitcoin::{Amount, ScriptBuf, TxIn, TxOut, transaction};

    use super::*;

    fn spend(parent: u8, vout: u32, size: usize) -> Arc<Transaction> {
        let previous_output = OutPoint { txid: Txid::from_byte_array([parent; 32]), vout };
        let output = TxOut { value: Amount::from_sat(1), script_pubkey: ScriptBuf::from_bytes(vec![0x51; size]) };
        Arc::new(Transaction {
            version: transaction::Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![TxIn { previous_output, ..TxIn::default() }],
            output: vec![output],
        })
    }

    #[test]
    fn one_peer_cannot_push_out_what_another_brought() {
        let mut orphans = Orphans::default();
        let kept = spend(9, 0, 100);
        orphans.add(&kept, PeerId(1));
        for vout in 0..5_000 {
            orphans.add(&spend(1, vout, 50), PeerId(2));
        }
        assert!(orphans.contains(&kept.compute_wtxid()));
        assert!(orphans.len() <= MAX_ANNOUNCEMENTS);
        orphans.forget_peer(PeerId(2));
        assert_eq!(orphans.len(), 1);
        orphans.forget_peer(PeerId(1));
        assert!(orphans.by_parent.is_empty() && orphans.usage.is_empty() && orphans.work.is_empty());
    }

    #[test]
    fn children_are_tried_again_when_their_parent_comes() {
        let mut orphans = Orphans::default();
        let parent = spend(7, 0, 10);
        let child = Arc::new(Transaction {
            input: vec![TxIn { previous_output: OutPoint { txid: parent.compute_txid(), vout: 0 }, ..TxIn::default() }],
            ..(*spend(0, 0, 3)).clone()
        });
        orphans.add(&child, PeerId(1));
        orphans.add(&child, PeerId(2));
        assert_eq!(orphans.children_from(&parent, PeerId(2)), [Arc::clone(&child)]);
        orphans.parent_came(parent.compute_txid());
        assert_eq!(orphans.next_for(PeerId(1)), Some(Arc::clone(&child)));
        assert_eq!(orphans.next_for(PeerId(1)), None);
        orphans.remove(&child.compute_wtxid());
        assert_eq!(orphans.len(), 0);
    }
}
