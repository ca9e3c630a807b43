//! One daemon of a simulated world: a whole `Node`, driven as `channeld`'s driver drives it, over the store's double.
//!
//! "Memory = disk" is checked here, at every turn: the node's state is the fold of what was given out to be stored.

use std::sync::Arc;

use bitcoin::constants::ChainHash;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, Block};
use channeld::channel::Policy;
use channeld::keys::{Signer, Words};
use channeld::node::input::{Effect, Input, Moment};
use channeld::node::state::State;
use channeld::node::state::row::RowKey;
use channeld::node::{Node, Settings};
use channeld::units::{CltvDelta, FeeratePerKw, NodeId};
use channeld::wallet::Wallet;
use channeld::wire::Features;
use l1_utxo::params::Network;

use super::disk::{Disk, Loss, Turn, differences};

/// Blocks an owner of a commitment waits for its own outputs.
pub const DELAY: u16 = 10;

/// A record that is being written, and what a checkpoint takes with it.
struct Flight {
    turn: Turn,
    rows: Option<Vec<channeld::node::state::row::Row>>,
}

/// See the file's map.
pub struct Party {
    /// `Alice`, `Bob` and so on.
    pub name: &'static str,
    /// Its key.
    pub id: NodeId,
    words: Words,
    /// Signs, and knows the node's secrets: for the checkers, too.
    pub signer: Arc<Signer>,
    settings: Settings,
    node: Option<Node>,
    disk: Disk,
    flight: Option<Flight>,
    /// The fold of what is durable.
    pub durable: State,
    /// The same with the record that is being written.
    ahead: State,
}

/// What a turn of the driver's loop brought.
#[derive(Default)]
pub struct Outcome {
    /// What leaves now.
    pub effects: Vec<Effect>,
    /// The turns that became durable just before.
    pub stored: Vec<Turn>,
}

impl Party {
    /// A daemon that never ran, with nothing on its disk.
    pub fn new(name: &'static str, seed: u8) -> Party {
        let words = Words::from_entropy(&[seed; 32]);
        let signer = Arc::new(Signer::new(&words.seed()));
        let id = NodeId(signer.node_id());
        let settings = settings(name);
        let (durable, ahead) = (State::default(), State::default());
        Party { name, id, words, signer, settings, node: None, disk: Disk::default(), flight: None, durable, ahead }
    }

    /// The same daemon over a copy of its disk, switched off.
    pub fn copy(&self) -> Party {
        let mut copy = Party::new(self.name, 0);
        copy.words = Words::parse(&self.words.text()).expect("words that were written are read");
        copy.signer = Arc::clone(&self.signer);
        copy.id = self.id;
        copy.disk = self.disk.clone();
        copy.durable = copy.disk.recover();
        copy
    }

    /// What is never different between two parties.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether the process runs.
    pub const fn is_up(&self) -> bool {
        self.node.is_some()
    }

    /// Whether a record is being written.
    pub const fn is_flushing(&self) -> bool {
        self.flight.is_some()
    }

    /// The node's state as it is in memory, where it runs.
    pub fn state(&self) -> Option<&State> {
        self.node.as_ref().map(Node::state)
    }

    /// Switches the process on: rows and tail are read, and must be what was durable when it went off.
    pub fn start(&mut self, moment: Moment, checkpoint: bool) -> Outcome {
        let state = self.disk.recover();
        let different = differences(&state, &self.durable);
        assert!(different.is_empty(), "{}: what was read is not what was stored: rows {different:?}", self.name);
        self.ahead = state.clone();
        let account = self.words.seed().account_xprv(bitcoin::Network::Regtest);
        let genesis = Network::Regtest.params().genesis_hash;
        let wallet = if state.wallet.is_empty() {
            Wallet::create(account, bitcoin::Network::Regtest, genesis)
        } else {
            Wallet::load(account, bitcoin::Network::Regtest, genesis, &state.wallet).expect("the wallet's own state")
        };
        self.node = Some(Node::new(self.settings.clone(), Arc::clone(&self.signer), wallet, state, moment));
        self.close_turn(moment, checkpoint)
    }

    /// The process dies at this instant.
    pub fn crash(&mut self, how: Loss, cut: usize) -> Vec<Turn> {
        self.node = None;
        let Some(flight) = self.flight.take() else { return Vec::new() };
        self.disk.lose(&flight.turn, how, cut);
        if how != Loss::Whole {
            return Vec::new();
        }
        self.durable = self.ahead.clone();
        vec![flight.turn]
    }

    /// A copy of the disk.
    pub fn backup(&self) -> Disk {
        self.disk.clone()
    }

    /// The process dies, and its disk is that of a copy.
    pub fn restore(&mut self, mut copy: Disk) {
        self.node = None;
        self.flight = None;
        self.durable = copy.recover();
        self.disk = copy;
    }

    /// Hands an input to the node, with what the driver reads of the archive for it.
    pub fn handle(&mut self, input: Input, moment: Moment) {
        let Some(node) = &mut self.node else { return };
        let input = match input {
            Input::BlockConnected { height, block, mut history } => {
                for channel in node.wants_history(&block) {
                    let prefix = RowKey::penalties_of(channel);
                    let rows = self.disk.cold(&prefix);
                    history.extend(rows.map(|bytes| (channel, postcard::from_bytes(bytes).expect("a penalty row"))));
                }
                Input::BlockConnected { height, block, history }
            }
            other => other,
        };
        node.handle(input, moment);
    }

    /// Closes the open turn if the store is free: what it changed is on its way to the disk, what rests on nothing new
    /// leaves.
    pub fn close_turn(&mut self, moment: Moment, checkpoint: bool) -> Outcome {
        let Some(node) = self.node.as_mut().filter(|node| node.is_store_free()) else { return Outcome::default() };
        assert!(self.flight.is_none(), "{}: two records in flight", self.name);
        let sealed = node.seal(moment);
        if let Some(record) = sealed.record {
            let turn = Turn::from(record);
            turn.changes().iter().for_each(|change| self.ahead.apply(change));
            let rows = checkpoint.then(|| node.take_dirty());
            self.flight = Some(Flight { turn, rows });
        }
        let different = differences(node.state(), &self.ahead);
        assert!(different.is_empty(), "{}: memory is not what is stored: rows {different:?}", self.name);
        Outcome { effects: sealed.effects, stored: Vec::new() }
    }

    /// The record in flight is durable: what waited for it leaves, and the next turn closes.
    pub fn flush(&mut self) -> Outcome {
        let Some(flight) = self.flight.take() else { return Outcome::default() };
        let Some(node) = &mut self.node else { return Outcome::default() };
        self.disk.append(&flight.turn);
        flight.turn.changes().iter().for_each(|change| self.durable.apply(change));
        if let Some(rows) = flight.rows {
            self.disk.checkpoint(rows);
        }
        Outcome { effects: node.flushed(), stored: vec![flight.turn] }
    }

    /// A wallet over what is durable, to ask whose a script is.
    pub fn stored_wallet(&self) -> Wallet {
        let account = self.words.seed().account_xprv(bitcoin::Network::Regtest);
        let genesis = Network::Regtest.params().genesis_hash;
        Wallet::load(account, bitcoin::Network::Regtest, genesis, &self.durable.wallet).expect("the wallet's own state")
    }

    /// When the node wants to be woken.
    pub fn wake_at(&self) -> Option<channeld::units::UnixTime> {
        self.node.as_ref().and_then(Node::wake_at)
    }
}

fn settings(name: &str) -> Settings {
    // With the usual margin of 18, three blocks while the peer is away are enough to close.
    let mut policy = Policy { to_self_delay: CltvDelta::new(DELAY), fulfil_margin: 12, ..Policy::default() };
    policy.exposure.max_dust = channeld::units::Msat::new(20_000_000);
    Settings {
        alias: name.to_owned(),
        network: "regtest".to_owned(),
        address_network: bitcoin::Network::Regtest,
        chain_hash: ChainHash::from(Network::Regtest.params().genesis_hash.to_byte_array()),
        features: Features::init(),
        policy,
        forwarding: channeld::payment::forward::ForwardingPolicy::default(),
        shares: channeld::payment::jamming::Shares::default(),
        anchor_reserve: Amount::from_sat(10_000),
        burial: 6,
        fallback_feerate: FeeratePerKw::new(500),
        development: true,
        listen_addresses: Vec::new(),
        color: [0; 3],
        announced_addresses: Vec::new(),
    }
}

/// A block as an input.
pub fn block_input(height: u32, block: Arc<Block>) -> Input {
    Input::BlockConnected { height: channeld::units::BlockHeight::new(height), block, history: Vec::new() }
}
