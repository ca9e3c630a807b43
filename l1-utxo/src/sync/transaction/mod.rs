//! Transactions: announced, asked for, taken in, passed on. What was refused lately is not asked for again; what lacks its
//! parent waits for it; what pays too little alone may come in with a child that pays for it.
//!
//! Core: `node/txdownloadman_impl.cpp`, the parts of `net_processing.cpp` on `inv` and `tx`.

mod filter;
mod orphan;
mod request;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bitcoin::hashes::{Hash, HashEngine, sha256};
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::{Transaction, Txid, Wtxid};

use super::Machine;
use super::peer::Peer;
use super::permission::Permissions;
use super::port::{Entered, Host, Origin, PeerId, Reason, Time, TxName};
use super::random::Random;
use super::wire::MAX_INVENTORY;
use crate::consensus::HashedBlock;
use crate::mempool::{Entry, Mempool, Rejection};
use orphan::Orphans;
use request::{Tracker, key};

pub(super) use filter::RollingFilter;
pub use orphan::Orphan;

/// Announcements of one peer that are kept.
const MAX_ANNOUNCEMENTS: usize = 5_000;
/// Requests to one peer from which on it is asked late.
const MAX_IN_FLIGHT: usize = 100;
/// How much later peers are asked that we did not dial, that use txids, or that are busy.
const DELAY: Duration = Duration::from_secs(2);
/// How long a peer may take to answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Items of one `getdata`.
const MAX_GETDATA: usize = 1_000;
/// Mean time from one announcement to the next.
const INBOUND_INTERVAL: Duration = Duration::from_secs(5);
const OUTBOUND_INTERVAL: Duration = Duration::from_secs(2);
/// Announcements at a time: as many as come in five seconds of a busy network, more if many wait.
const BROADCAST_TARGET: usize = 70;
const BROADCAST_MAX: usize = 1_000;
/// Transactions that one peer's list of announcements holds.
const MAX_TO_SEND: usize = 100_000;
/// Transactions that a new peer is told of.
const MAX_INTRODUCED: usize = 10_000;
/// Part of the user agent of those that run this software.
const KIN: &str = "(l1-utxo";
/// Orphans tried again in one turn.
const ORPHANS_A_TURN: usize = 5;
/// Transactions that may be of use for compact blocks although the mempool does not have them.
const MAX_EXTRA: usize = 100;

/// What is known of transactions across all peers.
pub(super) struct Transactions {
    tracker: Tracker,
    pub(super) orphans: Orphans,
    /// Refused since the last block, for whatever reason but their fee.
    rejected: RollingFilter,
    /// Refused for their fee: a child may still bring them in.
    underpaid: RollingFilter,
    confirmed: RollingFilter,
    extra: BTreeMap<Wtxid, Arc<Transaction>>,
    extra_order: VecDeque<Wtxid>,
    wtxid_peers: BTreeSet<PeerId>,
    /// Our own that nobody has fetched yet.
    pub(super) unbroadcast: BTreeMap<Txid, Wtxid>,
    next_rebroadcast: Option<Time>,
    /// What a reorganisation brought back: it was public before, so that nobody learns when it came.
    returned: BTreeSet<Wtxid>,
    next_inbound_inv: Time,
}

impl Transactions {
    pub(super) fn new(random: &Random) -> Self {
        let mut random = random.clone();
        let salt = random.next();
        Self {
            tracker: Tracker::new(random),
            orphans: Orphans::default(),
            rejected: RollingFilter::new(120_000, salt),
            underpaid: RollingFilter::new(120_000, salt),
            confirmed: RollingFilter::new(48_000, salt),
            extra: BTreeMap::new(),
            extra_order: VecDeque::new(),
            wtxid_peers: BTreeSet::new(),
            unbroadcast: BTreeMap::new(),
            next_rebroadcast: None,
            returned: BTreeSet::new(),
            next_inbound_inv: Time::default(),
        }
    }

    pub(super) fn add_peer(&mut self, peer: &Peer) {
        if peer.wtxid_relay {
            self.wtxid_peers.insert(peer.id);
        }
    }

    pub(super) fn forget_peer(&mut self, peer: PeerId) {
        self.wtxid_peers.remove(&peer);
        self.tracker.forget_peer(peer);
        self.orphans.forget_peer(peer);
    }

    pub(super) const fn extra(&self) -> &BTreeMap<Wtxid, Arc<Transaction>> {
        &self.extra
    }

    fn keep_extra(&mut self, transaction: Arc<Transaction>) {
        let wtxid = transaction.compute_wtxid();
        if self.extra.insert(wtxid, transaction).is_none() {
            self.extra_order.push_back(wtxid);
        }
        if self.extra_order.len() > MAX_EXTRA
            && let Some(oldest) = self.extra_order.pop_front()
        {
            self.extra.remove(&oldest);
        }
    }

    pub(super) fn block_connected(&mut self, block: &HashedBlock) {
        self.orphans.block_connected(block);
        for (txid, wtxid) in block.txids().iter().zip(block.wtxids()) {
            for bytes in [txid.to_byte_array(), wtxid.to_byte_array()] {
                self.confirmed.insert(&bytes);
                self.tracker.forget(&bytes);
            }
            self.unbroadcast.remove(txid);
        }
    }

    pub(super) fn block_disconnected(&mut self) {
        self.confirmed.clear();
    }

    /// What was refused may be good now: a lock time has passed, a parent is confirmed.
    pub(super) fn tip_changed(&mut self) {
        self.rejected.clear();
        self.underpaid.clear();
    }

    fn already_have(&self, name: &TxName, with_underpaid: bool, mempool: &Mempool) -> bool {
        let key = key(name);
        // A transaction without witness has one name only.
        self.orphans.contains(&Wtxid::from_byte_array(key))
            || (with_underpaid && self.underpaid.contains(&key))
            || self.confirmed.contains(&key)
            || self.rejected.contains(&key)
            || find(mempool, name).is_some()
    }

    /// What is to be done within this time is due now (RPC `mockscheduler`).
    pub(super) fn hurry(&mut self, now: Time, delta: Duration) {
        if self.next_rebroadcast.is_none_or(|next| next <= now + delta) {
            self.next_rebroadcast = Some(Time::default());
        }
    }

    /// Our own transactions that nobody fetched are announced again every ten to fifteen minutes.
    pub(super) fn rebroadcast_due(
        &mut self,
        now: Time,
        peers: &mut BTreeMap<PeerId, Peer>,
        mempool: &Mempool,
        random: &mut Random,
    ) {
        let pause = Duration::from_secs(600 + random.below(300));
        if *self.next_rebroadcast.get_or_insert(now + pause) > now {
            return;
        }
        self.next_rebroadcast = Some(now + pause);
        self.unbroadcast.retain(|txid, _| mempool.contains(txid));
        for (txid, wtxid) in &self.unbroadcast {
            peers.values_mut().for_each(|peer| queue(peer, *txid, *wtxid));
        }
    }
}

/// What decides how soon, and for how much, a peer is asked.
#[derive(Clone, Copy)]
struct Trust {
    is_preferred: bool,
    has_relay: bool,
}

impl Trust {
    fn of(peer: &Peer) -> Self {
        let has_relay = peer.connection.permissions.has(Permissions::RELAY);
        Self { is_preferred: peer.is_preferred(), has_relay }
    }
}

fn find<'a>(mempool: &'a Mempool, name: &TxName) -> Option<&'a Entry> {
    match name {
        TxName::Txid(txid) => mempool.entry(txid),
        TxName::Wtxid(wtxid) => mempool.entry_by_wtxid(wtxid),
    }
}

/// Puts a transaction on a peer's list unless it has it.
fn queue(peer: &mut Peer, txid: Txid, wtxid: Wtxid) {
    if !peer.is_ready || peer.relay.next_inv.is_none() || peer.relay.to_send.len() >= MAX_TO_SEND {
        return;
    }
    let name = if peer.wtxid_relay { TxName::Wtxid(wtxid) } else { TxName::Txid(txid) };
    if !peer.relay.known.contains(&key(&name)) {
        peer.relay.to_send.insert(wtxid);
    }
}

const fn name_of(item: &Inventory) -> Option<TxName> {
    match item {
        Inventory::Transaction(txid) | Inventory::WitnessTransaction(txid) => Some(TxName::Txid(*txid)),
        Inventory::WTx(wtxid) => Some(TxName::Wtxid(*wtxid)),
        _ => None,
    }
}

/// Names a parent and a child together: what was refused as a pair is not tried again.
fn pair_key(parent: &Transaction, child: &Transaction) -> [u8; 32] {
    let mut engine = sha256::Hash::engine();
    engine.input(parent.compute_wtxid().as_byte_array());
    engine.input(child.compute_wtxid().as_byte_array());
    sha256::Hash::from_engine(engine).to_byte_array()
}

/// A transaction by the name that the peer uses.
const fn item_for(peer: &Peer, entry: &Entry) -> (Inventory, TxName) {
    if peer.wtxid_relay {
        (Inventory::WTx(entry.wtxid), TxName::Wtxid(entry.wtxid))
    } else {
        (Inventory::Transaction(entry.txid), TxName::Txid(entry.txid))
    }
}

/// Whether it pays what the peer asks for.
fn is_worth(peer: &Peer, entry: &Entry) -> bool {
    let required = u128::from(peer.relay.fee_filter) * u128::from(entry.vsize());
    u128::from(entry.fee.to_sat()) * 1_000 >= required
}

fn parents(transaction: &Transaction) -> BTreeSet<Txid> {
    transaction.input.iter().map(|input| input.previous_output.txid).collect()
}

impl Machine {
    /// A transaction of the mempool is to be announced, be it again.
    pub fn announce_transaction(&mut self, txid: Txid, wtxid: Wtxid) {
        self.peers.values_mut().for_each(|peer| queue(peer, txid, wtxid));
    }

    /// Transactions that a reorganisation brought back into the mempool.
    pub(super) fn announce_returned(&mut self, txids: &[Txid], mempool: &Mempool) {
        self.transactions.returned.retain(|wtxid| mempool.entry_by_wtxid(wtxid).is_some());
        for entry in txids.iter().filter_map(|txid| mempool.entry(txid)) {
            self.transactions.returned.insert(entry.wtxid);
            self.announce_transaction(entry.txid, entry.wtxid);
        }
    }

    /// Tells a new peer what the mempool holds already, if it is one that our user chose or that runs this software: after
    /// a partition nobody else would. Core tells new peers nothing that came before them.
    pub(super) fn introduce(&self, peer: &mut Peer, mempool: &Mempool) {
        let is_kin = peer.version.as_ref().is_some_and(|version| version.user_agent.contains(KIN));
        if !is_kin && peer.connection.origin != Origin::Manual {
            return;
        }
        let entries = mempool.chunks().flat_map(|chunk| chunk.entries).take(MAX_INTRODUCED);
        entries.for_each(|entry| queue(peer, entry.txid, entry.wtxid));
    }

    pub(super) fn receive_inv(&mut self, peer: &mut Peer, items: Vec<Inventory>, host: &dyn Host) {
        let chain = host.chain();
        let mut best_block = None;
        for item in items {
            match item {
                Inventory::Block(hash) => {
                    peer.blocks.available.update(hash, chain);
                    if chain.find(&hash).is_none_or(|id| chain.entry(id).data.is_none()) {
                        best_block = Some(hash);
                    }
                }
                Inventory::Transaction(_) if peer.wtxid_relay => {}
                Inventory::WTx(_) if !peer.wtxid_relay => {}
                Inventory::Transaction(_) | Inventory::WTx(_) => {
                    let Some(name) = name_of(&item) else { continue };
                    if self.refuses_transactions(peer) {
                        return peer.close(Reason::Unwelcome("transaction inv sent in violation of protocol"));
                    }
                    peer.relay.known.insert(&key(&name));
                    if !host.is_initial_download() {
                        self.note_announcement(peer, name, host.mempool());
                    }
                }
                _ => {}
            }
        }
        if let Some(hash) = best_block.filter(|hash| self.wants_headers_for(peer, hash)) {
            let hashes = super::block::header::locator(chain, chain.best_header());
            self.ask_headers(peer, hashes);
            if !peer.blocks.sync_started {
                peer.blocks.inv_triggered_getheaders = true;
                self.download.note_inv(hash);
            }
        }
    }

    /// Core: `AddTxAnnouncement`.
    fn note_announcement(&mut self, peer: &Peer, name: TxName, mempool: &Mempool) {
        if let TxName::Wtxid(wtxid) = &name
            && let Some(orphan) = self.transactions.orphans.get(wtxid).cloned()
        {
            let missing = self.missing_parents(&orphan, mempool);
            if !missing.is_empty() {
                self.seek_parents(peer.id, Trust::of(peer), &orphan, &missing);
            }
            return;
        }
        let transactions = &mut self.transactions;
        let is_trusted = peer.connection.permissions.has(Permissions::RELAY);
        let is_full = !is_trusted && transactions.tracker.count(peer.id) >= MAX_ANNOUNCEMENTS;
        if transactions.already_have(&name, true, mempool) || is_full {
            return;
        }
        let mut delay = if peer.is_preferred() { Duration::ZERO } else { DELAY };
        if matches!(name, TxName::Txid(_)) && !transactions.wtxid_peers.is_empty() {
            delay += DELAY;
        }
        if !is_trusted && transactions.tracker.in_flight(peer.id) >= MAX_IN_FLIGHT {
            delay += DELAY;
        }
        transactions.tracker.announced(peer.id, name, peer.is_preferred(), self.now + delay);
    }

    fn missing_parents(&self, orphan: &Transaction, mempool: &Mempool) -> Vec<TxName> {
        let names = parents(orphan).into_iter().map(TxName::Txid);
        names.filter(|name| !self.transactions.already_have(name, false, mempool)).collect()
    }

    /// A peer is asked for the parents of an orphan that it has (Core: `MaybeAddOrphanResolutionCandidate`).
    fn seek_parents(&mut self, peer: PeerId, trust: Trust, orphan: &Arc<Transaction>, missing: &[TxName]) {
        let transactions = &mut self.transactions;
        if transactions.orphans.is_from(&orphan.compute_wtxid(), peer) {
            return;
        }
        if !trust.has_relay && transactions.tracker.count(peer) + missing.len() > MAX_ANNOUNCEMENTS {
            return;
        }
        let mut delay = if trust.is_preferred { Duration::ZERO } else { DELAY };
        if !transactions.wtxid_peers.is_empty() {
            delay += DELAY;
        }
        if !trust.has_relay && transactions.tracker.in_flight(peer) >= MAX_IN_FLIGHT {
            delay += DELAY;
        }
        for name in missing {
            transactions.tracker.announced(peer, *name, trust.is_preferred, self.now + delay);
        }
        transactions.orphans.add(orphan, peer);
    }

    pub(super) fn request_transactions(&mut self, peer: &mut Peer, host: &dyn Host) {
        let mut items = Vec::new();
        for name in self.transactions.tracker.requestable(peer.id, self.now) {
            if self.transactions.already_have(&name, false, host.mempool()) {
                self.transactions.tracker.forget(&key(&name));
                continue;
            }
            self.transactions.tracker.requested(peer.id, &name, self.now + REQUEST_TIMEOUT);
            items.push(match name {
                TxName::Wtxid(wtxid) => Inventory::WTx(wtxid),
                TxName::Txid(txid) if peer.serves_witness() => Inventory::WitnessTransaction(txid),
                TxName::Txid(txid) => Inventory::Transaction(txid),
            });
        }
        for items in items.chunks(MAX_GETDATA) {
            peer.send(NetworkMessage::GetData(items.to_vec()));
        }
    }

    pub(super) fn receive_notfound(&mut self, peer: &Peer, items: &[Inventory]) {
        if items.len() <= MAX_ANNOUNCEMENTS + 16 {
            let names = items.iter().filter_map(name_of);
            names.for_each(|name| self.transactions.tracker.answered(peer.id, &key(&name)));
        }
    }

    pub(super) fn receive_transaction(&mut self, peer: &mut Peer, transaction: Arc<Transaction>, host: &mut dyn Host) {
        if self.refuses_transactions(peer) {
            return peer.close(Reason::Unwelcome("transaction sent in violation of protocol"));
        }
        if host.is_initial_download() {
            return;
        }
        let (txid, wtxid) = (transaction.compute_txid(), transaction.compute_wtxid());
        let name = if peer.wtxid_relay { TxName::Wtxid(wtxid) } else { TxName::Txid(txid) };
        peer.relay.known.insert(&key(&name));
        self.transactions.tracker.answered(peer.id, &txid.to_byte_array());
        self.transactions.tracker.answered(peer.id, &wtxid.to_byte_array());
        if self.transactions.already_have(&TxName::Wtxid(wtxid), false, host.mempool()) {
            if peer.connection.permissions.has(Permissions::FORCE_RELAY) && host.mempool().contains(&txid) {
                self.announce_transaction(txid, wtxid);
            }
            return;
        }
        if self.transactions.underpaid.contains(wtxid.as_byte_array()) {
            return self.try_pair(peer, &transaction, host);
        }
        match host.submit_transaction(Arc::clone(&transaction)) {
            Ok(entered) => {
                peer.last_transaction = self.now;
                self.transaction_entered(entered);
            }
            Err(rejection) => self.transaction_refused(peer, &transaction, &rejection, true, host),
        }
    }

    /// Core: `ProcessValidTx`.
    fn transaction_entered(&mut self, entered: Entered) {
        let Entered { txid, wtxid, replaced } = entered;
        self.transactions.tracker.forget(&txid.to_byte_array());
        self.transactions.tracker.forget(&wtxid.to_byte_array());
        self.transactions.orphans.parent_came(txid);
        self.transactions.orphans.remove(&wtxid);
        self.announce_transaction(txid, wtxid);
        replaced.into_iter().for_each(|replaced| self.transactions.keep_extra(replaced));
    }

    /// Core: `MempoolRejectedTx`.
    fn transaction_refused(
        &mut self,
        peer: &mut Peer,
        transaction: &Arc<Transaction>,
        rejection: &Rejection,
        is_first_time: bool,
        host: &mut dyn Host,
    ) {
        let (txid, wtxid) = (transaction.compute_txid(), transaction.compute_wtxid());
        if rejection.is_missing_inputs() {
            if is_first_time && !self.transactions.rejected.contains(wtxid.as_byte_array()) {
                self.keep_orphan(peer, transaction, host.mempool());
            }
            return;
        }
        let has_witness = transaction.input.iter().any(|input| !input.witness.is_empty());
        if !has_witness && rejection.may_lack_witness() {
            // Somebody may have stripped it: its true form has another wtxid, but the same txid.
            self.transactions.orphans.remove(&wtxid);
            return;
        }
        self.transactions.tracker.forget(&wtxid.to_byte_array());
        if rejection.is_reconsiderable() {
            self.transactions.underpaid.insert(wtxid.as_byte_array());
            if is_first_time {
                self.try_pair(peer, transaction, host);
            }
        } else {
            self.transactions.rejected.insert(wtxid.as_byte_array());
            if rejection.is_about_spent_scripts() && has_witness {
                // No witness would help.
                self.transactions.rejected.insert(txid.as_byte_array());
                self.transactions.tracker.forget(&txid.to_byte_array());
            }
        }
        if is_first_time {
            self.transactions.keep_extra(Arc::clone(transaction));
        }
        self.transactions.orphans.remove(&wtxid);
    }

    fn keep_orphan(&mut self, peer: &Peer, transaction: &Arc<Transaction>, mempool: &Mempool) {
        let (txid, wtxid) = (transaction.compute_txid(), transaction.compute_wtxid());
        let mut underpaid = 0;
        let is_hopeless = parents(transaction).iter().any(|parent| {
            let bytes = parent.as_byte_array();
            underpaid += usize::from(self.transactions.underpaid.contains(bytes) && !mempool.contains(parent));
            self.transactions.rejected.contains(bytes) || underpaid > 1
        });
        if is_hopeless {
            self.transactions.rejected.insert(txid.as_byte_array());
            self.transactions.rejected.insert(wtxid.as_byte_array());
        } else {
            // None may be missing: those that we have may be orphans themselves.
            let missing = self.missing_parents(transaction, mempool);
            let mut candidates = vec![(peer.id, Trust::of(peer))];
            for key in [txid.to_byte_array(), wtxid.to_byte_array()] {
                let others = self.transactions.tracker.candidates(&key);
                let others = others.into_iter().filter_map(|id| Some((id, Trust::of(self.peers.get(&id)?))));
                candidates.extend(others);
            }
            for (id, trust) in candidates {
                self.seek_parents(id, trust, transaction, &missing);
            }
            self.transactions.keep_extra(Arc::clone(transaction));
        }
        self.transactions.tracker.forget(&txid.to_byte_array());
        self.transactions.tracker.forget(&wtxid.to_byte_array());
    }

    /// A parent that pays too little, with a child of the same peer that may pay for both (one parent, one child).
    fn try_pair(&mut self, peer: &mut Peer, parent: &Arc<Transaction>, host: &mut dyn Host) {
        let child = self.transactions.orphans.children_from(parent, peer.id).into_iter().find(|child| {
            !self.transactions.underpaid.contains(&pair_key(parent, child))
                && !self.transactions.rejected.contains(child.compute_txid().as_byte_array())
        });
        let Some(child) = child else { return };
        let outcomes = host.submit_package(Arc::clone(parent), Arc::clone(&child));
        if outcomes.iter().any(Result::is_err) {
            self.transactions.underpaid.insert(&pair_key(parent, &child));
        }
        for (transaction, outcome) in [parent, &child].into_iter().zip(outcomes) {
            match outcome {
                Ok(entered) => self.transaction_entered(entered),
                Err(rejection) => self.transaction_refused(peer, transaction, &rejection, false, host),
            }
        }
    }

    /// Orphans whose parent has come.
    pub(super) fn reconsider_orphans(&mut self, peer: &mut Peer, host: &mut dyn Host) {
        for _ in 0..ORPHANS_A_TURN {
            let Some(orphan) = self.transactions.orphans.next_for(peer.id) else { return };
            match host.submit_transaction(Arc::clone(&orphan)) {
                Ok(entered) => self.transaction_entered(entered),
                Err(rejection) => self.transaction_refused(peer, &orphan, &rejection, false, host),
            }
        }
    }

    /// Announcements of blocks by hash, and of transactions when it is time.
    pub(super) fn send_inventory(&mut self, peer: &mut Peer, host: &dyn Host) {
        let mut items = Self::take_block_inventory(peer);
        let is_trusted = peer.connection.permissions.has(Permissions::NO_BAN);
        if is_trusted || peer.relay.next_inv.is_none_or(|next| next < self.now) {
            if peer.relay.next_inv.replace(self.next_inv(peer)).is_none() && !host.is_initial_download() {
                self.introduce(peer, host.mempool());
            }
            if std::mem::take(&mut peer.relay.asked_all) {
                items.extend(Self::all_transactions(peer, host.mempool()));
            }
            if peer.relay.wants {
                items.extend(self.due_transactions(peer, host.mempool()));
            } else {
                peer.relay.to_send.clear();
            }
            peer.relay.last_sequence = host.mempool().sequence();
        }
        for items in items.chunks(MAX_INVENTORY) {
            peer.send(NetworkMessage::Inv(items.to_vec()));
        }
    }

    /// What the mempool holds, for a peer that may ask (BIP 35).
    fn all_transactions(peer: &mut Peer, mempool: &Mempool) -> Vec<Inventory> {
        let mut items = Vec::new();
        for entry in mempool.chunks().flat_map(|chunk| chunk.entries) {
            peer.relay.to_send.remove(&entry.wtxid);
            let (item, name) = item_for(peer, entry);
            if is_worth(peer, entry) {
                peer.relay.known.insert(&key(&name));
                items.push(item);
            }
        }
        items
    }

    pub(super) fn receive_mempool(peer: &mut Peer) {
        let permissions = peer.connection.permissions;
        if permissions.has(Permissions::MEMPOOL) {
            peer.relay.asked_all = true;
        } else if !permissions.has(Permissions::NO_BAN) {
            peer.close(Reason::Unwelcome("mempool request with bloom filters disabled"));
        }
    }

    /// Peers that dialled us all hear at the same time: connecting twice tells nobody more.
    fn next_inv(&mut self, peer: &Peer) -> Time {
        if !peer.is_inbound() {
            return self.now + self.random.exponential(OUTBOUND_INTERVAL);
        }
        if self.transactions.next_inbound_inv < self.now {
            self.transactions.next_inbound_inv = self.now + self.random.exponential(INBOUND_INTERVAL);
        }
        self.transactions.next_inbound_inv
    }

    /// The best of what the peer does not have, parents before children.
    fn due_transactions(&self, peer: &mut Peer, mempool: &Mempool) -> Vec<Inventory> {
        let waiting = peer.relay.to_send.len();
        let limit = (BROADCAST_TARGET + waiting / 1_000 * 5).min(BROADCAST_MAX);
        let mut entries: Vec<&Entry> = Vec::with_capacity(waiting);
        peer.relay.to_send.retain(|wtxid| {
            let entry = mempool.entry_by_wtxid(wtxid);
            entries.extend(entry);
            entry.is_some()
        });
        entries.sort_by_cached_key(|entry| mempool.mining_place(entry));
        let mut items = Vec::new();
        for entry in entries {
            if items.len() >= limit {
                break;
            }
            peer.relay.to_send.remove(&entry.wtxid);
            let (item, name) = item_for(peer, entry);
            let key = key(&name);
            if is_worth(peer, entry) && !peer.relay.known.contains(&key) {
                peer.relay.known.insert(&key);
                items.push(item);
            }
        }
        items
    }

    /// A transaction that the peer may know we have: announced, or confirmed just now. Others would tell when it came.
    pub(super) fn find_for_peer(&self, peer: &Peer, item: &Inventory, host: &dyn Host) -> Option<Arc<Transaction>> {
        let name = name_of(item)?;
        let is_told = |entry: &&Entry| {
            !peer.relay.to_send.contains(&entry.wtxid) || self.transactions.returned.contains(&entry.wtxid)
        };
        let entry = find(host.mempool(), &name).filter(is_told);
        if let Some(entry) = entry {
            return Some(Arc::clone(&entry.transaction));
        }
        let transaction = self.recent_block.as_ref()?.transaction(&key(&name))?;
        Some(Arc::new(transaction.clone()))
    }
}
