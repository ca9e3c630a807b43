//! The whole daemon as one pure machine: channels, payments, invoices, streams, coins and peers, and its turns.
//!
//! Knows what one input changes in all of them, and writes it as one record a turn. Never reads a clock, a socket or a
//! file; never acts: what should leave is an effect, released when what it rests on is durable. Recovery is a fold of
//! `State::apply` over what was stored. DESIGN.md, "The core's contract" and "Turns".
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod api;
pub mod input;
mod live;
pub mod state;
pub mod turn;

mod buried;
mod chain;
mod chatter;
pub mod client;
mod drive;
mod enforce;
mod forward;
mod gossip;
mod peer;
mod receive;
mod seal;
mod send;
mod settle;
mod silence;
#[cfg(test)]
mod tests;

pub use api::{command, event, refusal, reply};
pub use forward::ForwardingLoad;
pub use send::path_query;

use std::sync::Arc;

use bitcoin::Amount;
use bitcoin::constants::ChainHash;
use hkdf::Hkdf;
use sha2::Sha256;

use crate::channel::Policy;
use crate::keys::Signer;
use crate::payment::forward::ForwardingPolicy;
use crate::payment::jamming::Shares;
use crate::units::{ChannelId, UnixTime};
use crate::wallet::Wallet;
use crate::wire::{Address, Features};

use event::{Event, EventKind};
use input::{Effect, Input, Moment};
use live::Live;
use state::change::Change;
use state::row::Row;
use state::{State, row};
use turn::Turns;

/// What does not change as long as the process lives.
#[derive(Clone)]
pub struct Settings {
    /// Our name.
    pub alias: String,
    /// `regtest` or `devnet`.
    pub network: String,
    /// The network whose prefixes addresses and invoices have.
    pub address_network: bitcoin::Network,
    /// The chain's genesis block.
    pub chain_hash: ChainHash,
    /// What we set in `init`.
    pub features: Features,
    /// What channels offer and accept.
    pub policy: Policy,
    /// What new channels ask for forwarding, as far as they can carry it.
    pub forwarding: ForwardingPolicy,
    /// How a channel's room for forwards is cut.
    pub shares: Shares,
    /// Kept for each channel with anchors, to pay for claims.
    pub anchor_reserve: Amount,
    /// Depth at which what happened on the chain is final.
    pub burial: u32,
    /// The feerate where the backend has no estimate.
    pub fallback_feerate: crate::units::FeeratePerKw,
    /// Whether dev-only commands work.
    pub development: bool,
    /// Where peers reach us.
    pub listen_addresses: Vec<String>,
    /// Our colour in maps (`node_announcement`).
    pub color: [u8; 3],
    /// Where everybody may reach us (`node_announcement`).
    pub announced_addresses: Vec<Address>,
}

/// The daemon's mind.
pub struct Node {
    settings: Settings,
    signer: Arc<Signer>,
    wallet: Wallet,
    state: State,
    live: Live,
    turns: Turns<Effect>,
    draft: Record,
    moment: Moment,
    /// How many random values the present input has used.
    draws: u32,
}

/// What a turn leaves behind, all of it or nothing.
#[derive(Clone, Default)]
pub struct Record {
    /// The changes, in order.
    pub changes: Vec<Change>,
    /// Rows of the archive.
    pub rows: Vec<Row>,
    /// Events by index.
    pub events: Vec<(u64, Vec<u8>)>,
    /// Ended payments by the order in which they ended.
    pub payments: Vec<(u64, Vec<u8>)>,
}

impl Record {
    /// Whether there is nothing to store.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.rows.is_empty() && self.events.is_empty() && self.payments.is_empty()
    }
}

/// What comes of closing a turn.
pub struct Sealed {
    /// What must be made durable now, if anything; [`Node::flushed`] follows.
    pub record: Option<Record>,
    /// What may leave at once.
    pub effects: Vec<Effect>,
}

impl Node {
    /// The node over what was stored. Every session is over, so every channel is told so; what must be broadcast again
    /// follows with the first block or tick.
    pub fn new(settings: Settings, signer: Arc<Signer>, wallet: Wallet, state: State, moment: Moment) -> Node {
        let mut node = Node {
            settings,
            signer,
            wallet,
            state,
            live: Live::default(),
            turns: Turns::default(),
            draft: Record::default(),
            moment,
            draws: 0,
        };
        node.start();
        node
    }

    /// The durable state, for tests and for the driver's first look at the chain.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Takes one input. What follows from it waits in the open turn.
    pub fn handle(&mut self, input: Input, moment: Moment) {
        self.moment = moment;
        self.draws = 0;
        match input {
            Input::Connected { peer, session, features, inbound, address } => {
                self.connected(peer, live::Session { number: session, features, inbound, address });
            }
            Input::Disconnected { peer, session } => self.disconnected(peer, session),
            Input::ConnectFailed { peer, description } => self.connect_failed(peer, description),
            Input::Messages { peer, session, messages } => {
                messages.into_iter().for_each(|message| self.message(peer, session, message));
            }
            Input::Command { request, key, command } => self.command(request, key, command),
            Input::Query { request, query } => self.query(request, query),
            Input::Recalled { id, answered } => self.recall(id, answered),
            Input::Forgettable { answers, penalties } => {
                self.forget_answers(answers);
                if let Some((channel, keys, last)) = penalties {
                    self.forget_penalties(channel, keys, last);
                }
            }
            Input::ClientGone { request } => self.live.stream_clients.retain(|_, client| client.request != request),
            Input::BlockConnected { height, block, history } => {
                self.live.block_history = history;
                self.block_connected(height, &block);
                self.live.block_history = Vec::new();
            }
            Input::BlockDisconnected { height, hash } => self.block_disconnected(height, hash),
            Input::ChainState(state) => self.chain_state(state),
            Input::RouteFound { payment_hash, attempt, result } => self.route_found(payment_hash, attempt, result),
            Input::Tick => self.tick(),
        }
    }

    /// Whether a turn may be closed: no flush is under way.
    pub fn is_store_free(&self) -> bool {
        self.turns.is_store_free()
    }

    /// Closes the open turn: signs what is due, and gives what must be stored and what may leave.
    ///
    /// # Panics
    /// While a flush is under way.
    pub fn seal(&mut self, moment: Moment) -> Sealed {
        self.moment = moment;
        self.draws = 0;
        self.sign_due();
        self.tell_streams();
        if let Some(staged) = self.wallet.take_staged() {
            self.change(Change::Wallet(staged));
        }
        if !self.draft.events.is_empty() {
            self.turns.push(Effect::Events(self.state.head.events));
        }
        self.live.history_sealed();
        let record = std::mem::take(&mut self.draft);
        let changed = !record.is_empty();
        let effects = self.turns.seal(changed);
        Sealed { record: changed.then_some(record), effects }
    }

    /// The record given out last is durable: what rests on it leaves.
    ///
    /// # Panics
    /// Where no record was given out.
    pub fn flushed(&mut self) -> Vec<Effect> {
        self.turns.flushed()
    }

    /// The rows that changed since the last call, as they stand at this turn's boundary.
    ///
    /// # Panics
    /// Inside a turn that has changed something already: a checkpoint is a turn boundary.
    pub fn take_dirty(&mut self) -> Vec<Row> {
        assert!(self.draft.is_empty(), "a checkpoint is taken at a turn's boundary");
        self.state.take_dirty()
    }

    /// When the node wants a tick, should nothing else come before.
    pub fn wake_at(&self) -> Option<UnixTime> {
        self.live.stream_clients.values().filter_map(|client| client.batch_due).min()
    }

    /// Makes a change, in memory and in the turn's record.
    fn change(&mut self, change: Change) {
        self.state.apply(&change);
        self.draft.changes.push(change);
    }

    /// Adds an event to the log.
    fn event(&mut self, kind: EventKind) {
        self.change(Change::Events(1));
        let event = Event { index: self.state.head.events, at: self.moment.now, kind };
        self.draft.events.push((event.index, row::encode(&event)));
    }

    /// Tells the operator.
    fn warn(&mut self, channel: Option<ChannelId>, message: String) {
        self.event(EventKind::Warning { channel, message });
    }

    /// 32 random bytes for one purpose, out of what came with the input.
    fn draw(&mut self, label: &str) -> [u8; 32] {
        self.draws += 1;
        let mut bytes = [0; 32];
        Hkdf::<Sha256>::new(Some(label.as_bytes()), &self.moment.entropy)
            .expand(&self.draws.to_be_bytes(), &mut bytes)
            .expect("32 bytes are within HKDF's limit");
        bytes
    }
}
