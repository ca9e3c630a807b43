//! One node of the tests' world, and its disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use bitcoin::constants::ChainHash;
use bitcoin::hashes::{Hash, sha256};
use bitcoin::{Amount, Block};

use super::ledger::{NETWORK, genesis};
use crate::channel::Policy;
use crate::commitment;
use crate::keys::{Signer, Words};
use crate::node::event::Event;
use crate::node::input::Moment;
use crate::node::refusal::Refusal;
use crate::node::reply::Reply;
use crate::node::state::State;
use crate::node::state::row::RowKey;
use crate::node::{Node, Record, Settings};
use crate::payment::forward::{Cause, ForwardStatus};
use crate::payment::send::Payment;
use crate::payment::stream::StreamStatus;
use crate::units::{ChannelId, CltvDelta, FeeratePerKw, NodeId, UnixTime};
use crate::wallet::Wallet;
use crate::wire::{Features, Message};

/// What a crash does to the turn that was being flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// It is lost, and so is all that should have left.
    BeforeFlush,
    /// It is durable, and nothing of it has left.
    AfterFlush,
}

/// One node and what it has on disk.
pub struct Member {
    pub node: Node,
    pub signer: Arc<Signer>,
    words: Words,
    /// What the disk holds: the fold of all durable turns, and the archive.
    pub disk: State,
    pub archive: BTreeMap<Vec<u8>, Vec<u8>>,
    pub events: Vec<Event>,
    pub payments: Vec<Payment>,
    pub replies: BTreeMap<u64, Vec<Result<Reply, Refusal>>>,
    pub statuses: BTreeMap<u64, StreamStatus>,
    /// What it told everybody, in order.
    pub gossip: Vec<Message>,
    /// Whose calls it takes however many strangers there are.
    pub protected: std::collections::BTreeSet<NodeId>,
    pub turns: u64,
    /// Outgoing HTLCs whose preimage was shown, and those that a test sent by hand: they have no cause.
    pub paid: std::collections::BTreeSet<(ChannelId, crate::units::HtlcId)>,
    /// Crash at this turn.
    pub crash_at: Option<(u64, Crash)>,
}

fn settings() -> Settings {
    Settings {
        alias: "test".to_owned(),
        network: "regtest".to_owned(),
        address_network: NETWORK,
        chain_hash: ChainHash::from(genesis().block_hash().to_byte_array()),
        features: Features::init(),
        policy: Policy { minimum_depth: 1, to_self_delay: CltvDelta::new(12), ..Policy::default() },
        forwarding: crate::payment::forward::ForwardingPolicy::default(),
        shares: crate::payment::jamming::Shares::default(),
        anchor_reserve: Amount::from_sat(10_000),
        burial: 6,
        fallback_feerate: FeeratePerKw::FLOOR,
        development: true,
        listen_addresses: Vec::new(),
        color: [1, 2, 3],
        announced_addresses: Vec::new(),
    }
}

pub fn moment(clock: &mut u64) -> Moment {
    *clock += 1;
    let entropy = sha256::Hash::hash(&clock.to_be_bytes()).to_byte_array();
    Moment { now: UnixTime::new(1_700_000_000_000_000 + *clock * 1_000), entropy }
}

impl Member {
    pub fn new(seed: u8, moment: Moment) -> Member {
        let words = Words::from_entropy(&[seed; 32]);
        let signer = Arc::new(Signer::new(&words.seed()));
        let wallet = Wallet::create(words.seed().account_xprv(NETWORK), NETWORK, genesis().block_hash());
        let node = Node::new(settings(), Arc::clone(&signer), wallet, State::default(), moment);
        Member {
            node,
            signer,
            words,
            disk: State::default(),
            archive: BTreeMap::new(),
            events: Vec::new(),
            payments: Vec::new(),
            replies: BTreeMap::new(),
            statuses: BTreeMap::new(),
            gossip: Vec::new(),
            protected: std::collections::BTreeSet::new(),
            turns: 0,
            paid: Default::default(),
            crash_at: None,
        }
    }

    pub fn restart(&mut self, moment: Moment) {
        // Through rows, as a start after a checkpoint.
        let state = State::from_rows(&self.disk.rows()).expect("our own rows");
        let (account, genesis) = (self.words.seed().account_xprv(NETWORK), genesis().block_hash());
        let wallet = match state.wallet.is_empty() {
            true => Wallet::create(account, NETWORK, genesis),
            false => Wallet::load(account, NETWORK, genesis, &state.wallet).expect("our own wallet"),
        };
        self.node = Node::new(settings(), Arc::clone(&self.signer), wallet, state, moment);
    }

    pub fn store(&mut self, record: Record) {
        let bytes = postcard::to_allocvec(&record.changes).expect("changes encode");
        let changes: Vec<crate::node::state::change::Change> = postcard::from_bytes(&bytes).expect("changes decode");
        for change in &changes {
            self.disk.apply(change);
            self.note_paid(change);
        }
        for (key, value) in record.rows {
            match value {
                Some(value) => drop(self.archive.insert(key, value)),
                None => drop(self.archive.remove(&key)),
            }
        }
        for (index, bytes) in record.events {
            assert_eq!(index, self.events.len() as u64 + 1, "events count up without a gap");
            self.events.push(postcard::from_bytes(&bytes).expect("an event"));
        }
        for (index, bytes) in record.payments {
            assert_eq!(index, self.payments.len() as u64 + 1, "ended payments count up without a gap");
            self.payments.push(postcard::from_bytes(&bytes).expect("a payment"));
        }
    }

    fn note_paid(&mut self, change: &crate::node::state::change::Change) {
        let crate::node::state::change::Change::Channel { channel, delta } = change else { return };
        for change in &delta.changes {
            if let crate::channel::Change::Commitment(commitment::Change::HtlcRemoved { adder, id, removal }) = change
                && *adder == commitment::Side::Local
                && removal.is_fulfilled()
            {
                self.paid.insert((*channel, *id));
            }
        }
    }

    /// Memory is disk: the state equals the fold of what was stored, and what its rows say.
    pub fn check_disk(&self) {
        let rows = self.node.state().rows();
        assert_eq!(rows, self.disk.rows());
        if self.turns.is_multiple_of(8) {
            let loaded = State::from_rows(&rows).expect("rows are read");
            assert!(loaded.causes().eq(self.node.state().causes()), "causes follow from rows");
        }
        self.check_causes();
        let forwards = self.node.state().forwards.values();
        let under_way = forwards.filter(|it| !matches!(it.status, ForwardStatus::Fulfilled(_)));
        let load = self.node.forwarding_load();
        assert_eq!(load.in_flight, under_way.count() as u64, "each forward under way has its room");
        let slots: u64 = load.buckets.iter().map(|(_, _, room)| room.slots).sum();
        assert_eq!(load.in_flight, slots, "and no room is lost");
    }

    /// Each outgoing HTLC that is not decided has exactly one cause, and each cause has its HTLC.
    fn check_causes(&self) {
        let state = self.node.state();
        let on_chain = |id: &ChannelId| state.resolvers.contains_key(id);
        let mut known = std::collections::BTreeSet::new();
        for (id, entry) in &state.channels {
            let Some(commitments) = entry.channel.commitments() else { continue };
            for htlc_id in commitments.outgoing.keys() {
                known.insert((*id, *htlc_id));
                // Paid once its preimage was shown, whatever a reconnect makes of the removal.
                let is_paid = self.paid.contains(&(*id, *htlc_id));
                let cause = state.cause_of(*id, *htlc_id);
                assert!(is_paid || on_chain(id) || cause.is_some(), "HTLC {htlc_id} of {id} has no cause");
            }
        }
        for (place, cause) in state.causes() {
            assert!(known.contains(&(place.channel, place.id)), "{cause:?} has no HTLC");
        }
        let forwards =
            state.forwards.values().filter(|it| state.cause_of(it.outgoing.channel, it.outgoing.id).is_some());
        let of_forwards = state.causes().filter(|(_, cause)| matches!(cause, Cause::Forward(_)));
        assert_eq!(forwards.count(), of_forwards.count(), "each forward is the cause of one HTLC");
    }

    pub fn history(&self, block: &Block) -> Vec<(ChannelId, crate::commitment::PenaltyRow)> {
        let mut history = Vec::new();
        for channel in self.node.wants_history(block) {
            let prefix = RowKey::penalties_of(channel);
            let rows = self.archive.iter().filter(|(key, _)| key.starts_with(&prefix));
            history.extend(rows.map(|(_, bytes)| (channel, postcard::from_bytes(bytes).expect("a penalty row"))));
        }
        history
    }
}
