//! The owner of the graph as a machine: what peers and the chain say comes in, what is to be sent and looked up comes out. Pure:
//! the thread around it has the clock, the sockets and the chain's client.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::Block;
use bitcoin::constants::ChainHash;

use super::answer::{Backlog, Item};
use super::funding::{Lookup, Outputs, Waiting};
use super::intake::Incoming;
use super::limit::Buckets;
use super::status::GossipStatus;
use super::sync::{Sync, SyncError};
use crate::graph::{Announcement, Graph, Snapshot};
use crate::node::input::SessionNumber;
use crate::units::{BlockHeight, ChannelId, ShortChannelId, UnixTime};
use crate::wire::{
    Feature, Features, GossipTimestampFilter, Message, QueryFlag, ReplyChannelRange, UpdatePair, Warning,
};

/// Peers that are asked for all channels at once.
const ASKED_AT_ONCE: usize = 3;
/// Peers that are to tell us news; others only what they say of themselves.
const TELLERS: usize = 5;
/// Gossip older than this need not be heard at the first start: nobody keeps it (BOLT 7), in seconds.
const OLDEST_SECONDS: u64 = 14 * 24 * 3_600;
/// What may have been missed is asked for again from this long ago, in seconds. LDK answers no query for ids, and tells all it has
/// only to whoever wants news of more than six hours.
const OVERLAP_SECONDS: u64 = 7 * 3_600;
/// A peer is asked for all channels again after this time.
const ASK_AGAIN_MICROS: u64 = 3_600_000_000;
/// All channels are looked through for stale ones after this time.
const PRUNE_MICROS: u64 = 3_600_000_000;
/// What the chain did not know is asked again after this time, without a block.
const RETRY_MICROS: u64 = 30_000_000;
/// From here on a peer's gossip is not looked at any more: a wrong signature counts 100, an output that is not there 1.
pub(super) const MOST_FAULTS: u32 = 1_000;

/// What does not change.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The chain.
    pub chain_hash: ChainHash,
    /// News are passed on once in so many microseconds (BOLT 7: 60 seconds).
    pub flush_micros: u64,
}

/// What is to be done outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Messages for a session, each with its type.
    Send {
        /// Which.
        session: SessionNumber,
        /// In order.
        messages: Vec<Vec<u8>>,
    },
    /// An end to a session.
    Disconnect {
        /// Which.
        session: SessionNumber,
    },
    /// What stands at these places on the chain? [`Machine::looked_up`] takes the answers.
    LookUp(Vec<ShortChannelId>),
}

/// A session with a peer.
pub(super) struct Peer {
    /// What is asked of it.
    pub sync: Sync,
    /// It says that it is worth asking (`gossip_queries`).
    offers_queries: bool,
    /// We want to hear what it hears.
    is_teller: bool,
    /// What it wants to hear.
    filter: Option<GossipTimestampFilter>,
    /// What is still to be told to it.
    backlog: Backlog,
    /// What it did wrong.
    pub faults: u32,
}

/// See the file's map.
pub struct Machine {
    settings: Settings,
    pub(super) graph: Graph,
    pub(super) outputs: Outputs,
    pub(super) waiting: Waiting,
    /// Announcements of nodes whose channels wait for the chain's word.
    pub(super) early_nodes: BTreeMap<Item, (Option<SessionNumber>, Announcement)>,
    pub(super) peers: BTreeMap<SessionNumber, Peer>,
    pub(super) buckets: Buckets,
    /// What is passed on next, and who knows it.
    pub(super) news: BTreeMap<Item, BTreeSet<SessionNumber>>,
    pub(super) height: BlockHeight,
    pub(super) actions: Vec<Action>,
    /// The graph changed since it was last published.
    pub(super) changed: bool,
    /// What is asked for now was heard up to this time before the start.
    heard_until: Option<UnixTime>,
    flushed: UnixTime,
    pruned: UnixTime,
    retried: UnixTime,
    synced: Option<UnixTime>,
}

impl Machine {
    /// Over a graph that was heard up to a time, or an empty one.
    pub fn new(settings: Settings, graph: Graph, outputs: Outputs, heard_until: Option<UnixTime>) -> Machine {
        Machine {
            buckets: Buckets::new(settings.flush_micros),
            settings,
            graph,
            outputs,
            waiting: Waiting::default(),
            early_nodes: BTreeMap::new(),
            peers: BTreeMap::new(),
            news: BTreeMap::new(),
            height: BlockHeight::new(0),
            actions: Vec::new(),
            changed: true,
            heard_until,
            flushed: UnixTime::new(0),
            pruned: UnixTime::new(0),
            retried: UnixTime::new(0),
            synced: None,
        }
    }

    /// What is to be done, in order.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// The graph as it is now, if it changed since the last call.
    pub fn take_snapshot(&mut self) -> Option<Arc<Snapshot>> {
        std::mem::take(&mut self.changed).then(|| self.graph.snapshot())
    }

    /// The graph and its outputs, to be kept.
    pub const fn kept(&self) -> (&Graph, &Outputs) {
        (&self.graph, &self.outputs)
    }

    /// The height up to which blocks were seen.
    pub const fn height(&self) -> BlockHeight {
        self.height
    }

    /// Blocks up to there were seen before the start.
    pub const fn set_height(&mut self, height: BlockHeight) {
        self.height = height;
    }

    /// Up to when news were heard before the start; long ago where there was none.
    pub fn heard_until(&self) -> UnixTime {
        self.heard_until.unwrap_or(UnixTime::new(0))
    }

    /// The graph as it is now, for anybody.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.graph.snapshot()
    }

    /// How far we are.
    pub fn status(&self) -> GossipStatus {
        let asking = self.peers.values().filter(|peer| peer.sync.is_asking());
        let left = self.peers.values().map(|peer| peer.sync.left()).sum::<usize>() + self.waiting.count();
        GossipStatus {
            channels: self.graph.view().channel_count(),
            nodes: self.graph.view().node_count(),
            is_synced: self.synced.is_some(),
            peers: self.peers.len(),
            peers_asked: asking.count(),
            left,
        }
    }

    /// A peer is connected, and says what it knows.
    pub fn connected(&mut self, session: SessionNumber, features: &Features, now: UnixTime) {
        let offers_queries = features.has(Feature::GossipQueries);
        let extended = offers_queries && features.has(Feature::GossipQueriesEx);
        let tellers = self.peers.values().filter(|peer| peer.is_teller).count();
        let is_teller = offers_queries && tellers < TELLERS;
        let peer = Peer {
            sync: Sync::new(self.settings.chain_hash, extended),
            offers_queries,
            is_teller,
            filter: None,
            backlog: Backlog::default(),
            faults: 0,
        };
        self.peers.insert(session, peer);
        let first_timestamp = if is_teller { self.first_wanted(now) } else { u32::MAX };
        self.ask_for_news(session, first_timestamp);
        self.begin_syncs(now);
    }

    /// A session is over.
    pub fn disconnected(&mut self, session: SessionNumber, now: UnixTime) {
        self.peers.remove(&session);
        self.begin_syncs(now);
    }

    /// From when on news are wanted.
    fn first_wanted(&self, now: UnixTime) -> u32 {
        let known = self.heard_until.filter(|heard| heard.seconds() > 0);
        let heard = self.synced.map(|_| now).or(known);
        let first = match heard {
            Some(heard) => heard.seconds().saturating_sub(OVERLAP_SECONDS),
            None => now.seconds().saturating_sub(OLDEST_SECONDS),
        };
        u32::try_from(first).unwrap_or(u32::MAX)
    }

    fn ask_for_news(&mut self, session: SessionNumber, first_timestamp: u32) {
        let timestamp_range = if first_timestamp == u32::MAX { 0 } else { u32::MAX };
        let chain_hash = self.settings.chain_hash;
        self.send(session, GossipTimestampFilter { chain_hash, first_timestamp, timestamp_range }.into());
    }

    pub(super) fn send(&mut self, session: SessionNumber, message: Message) {
        self.actions.push(Action::Send { session, messages: vec![message.encode()] });
    }

    pub(super) fn warn(&mut self, session: SessionNumber, text: &str) {
        self.send(session, Warning::new(ChannelId::ALL, text).into());
    }

    /// Asks peers for all their channels, a few at once.
    fn begin_syncs(&mut self, now: UnixTime) {
        let stale = self.synced.is_some_and(|synced| now.micros_since(synced) > ASK_AGAIN_MICROS);
        let asked = self.peers.values().filter(|peer| peer.sync.is_asking()).count();
        let mut begun = Vec::new();
        for (session, peer) in &mut self.peers {
            let due = stale || !peer.sync.is_complete();
            let may = peer.offers_queries && peer.sync.may_ask() && !peer.sync.is_asking();
            if due && may && asked + begun.len() < ASKED_AT_ONCE {
                begun.push((*session, peer.sync.begin(now)));
            }
        }
        if stale && !begun.is_empty() {
            self.synced = Some(now);
        }
        begun.into_iter().for_each(|(session, question)| self.send(session, question));
    }

    /// What a peer said, in order.
    pub fn messages(&mut self, session: SessionNumber, messages: Vec<Message>, now: UnixTime) {
        let Some(peer) = self.peers.get_mut(&session) else { return };
        peer.sync.touch(now);
        if peer.faults >= MOST_FAULTS {
            return;
        }
        let mut batch = Vec::new();
        for message in messages {
            match Incoming::read(&message, Some(session)) {
                Some(incoming) => batch.push(incoming),
                None => {
                    self.take_in(std::mem::take(&mut batch), now);
                    self.query(session, message, now);
                }
            }
        }
        self.take_in(batch, now);
    }

    fn query(&mut self, session: SessionNumber, message: Message, now: UnixTime) {
        let chain_hash = self.settings.chain_hash;
        let is_synced = self.synced.is_some();
        let Some(peer) = self.peers.get_mut(&session) else { return };
        let refused = match message {
            Message::QueryShortChannelIds(query) => peer.backlog.query_channels(&query, chain_hash, is_synced).err(),
            Message::QueryChannelRange(query) => peer.backlog.query_range(&query, self.graph.view(), chain_hash).err(),
            Message::GossipTimestampFilter(filter) if filter.chain_hash == chain_hash => {
                // Nothing has times that lie wholly ahead: the peer wants only what it cannot have heard.
                if filter.timestamp_range > 0 && u64::from(filter.first_timestamp) <= now.seconds() {
                    peer.backlog.dump(&filter);
                }
                peer.filter = Some(filter);
                None
            }
            Message::ReplyChannelRange(reply) => return self.receive_range(session, &reply, now),
            Message::ReplyShortChannelIdsEnd(reply) => {
                let next = peer.sync.receive_end(&reply, now);
                return self.go_on(session, next, now);
            }
            _ => None,
        };
        if let Some(error) = refused {
            self.warn(session, &error.to_string());
        }
    }

    fn receive_range(&mut self, session: SessionNumber, reply: &ReplyChannelRange, now: UnixTime) {
        let (Some(peer), graph, waiting) = (self.peers.get_mut(&session), &mut self.graph, &self.waiting) else {
            return;
        };
        let next = peer.sync.receive_range(reply, now, |id, times, checksums| {
            if waiting.contains(id) { None } else { wanted_of(graph, id, times, checksums, now) }
        });
        self.go_on(session, next, now);
    }

    fn go_on(&mut self, session: SessionNumber, next: Result<Option<Message>, SyncError>, now: UnixTime) {
        match next {
            Ok(Some(question)) => self.send(session, question),
            Ok(None) => {
                if self.peers.get(&session).is_some_and(|peer| peer.sync.is_complete() && !peer.sync.is_asking()) {
                    self.synced.get_or_insert(now);
                    self.begin_syncs(now);
                }
            }
            // A late answer; or one of somebody who counts otherwise.
            Err(SyncError::NotAsked) => {}
            Err(error) => {
                self.warn(session, &error.to_string());
                self.ask_for_news(session, 0);
            }
        }
    }

    /// Something that we say of ourselves.
    pub fn own(&mut self, message: &Message, now: UnixTime) {
        if let Some(incoming) = Incoming::read(message, None) {
            self.take_in(vec![incoming], now);
        }
    }

    /// Channels of ours have these names.
    pub fn expect(&mut self, names: BTreeSet<ShortChannelId>) {
        self.waiting.expect(names);
    }

    /// Adds what is news to what is passed on; our own goes to everybody at once (BOLT 7).
    pub(super) fn add_news(&mut self, item: Item, from: Option<SessionNumber>) {
        self.changed = true;
        match from {
            Some(from) => drop(self.news.entry(item).or_default().insert(from)),
            None => self.peers.values_mut().for_each(|peer| peer.backlog.add_news(item)),
        }
    }

    /// The chain's word.
    pub fn looked_up(&mut self, answers: Vec<(ShortChannelId, Lookup)>, now: UnixTime) {
        self.take_answers(answers, now);
        self.look_up();
    }

    /// The best chain grew.
    pub fn block_connected(&mut self, height: BlockHeight, block: &Block, now: UnixTime) {
        self.height = self.height.max(height);
        for id in self.outputs.spent_by(height, block) {
            self.graph.funding_spent(id, height);
            self.changed = true;
        }
        // After a reorganisation an output may be back where it was.
        for id in self.outputs.in_block(height) {
            if self.outputs.stands_in(id, block) {
                self.graph.funding_unspent(id);
                self.changed = true;
            }
        }
        if self.graph.prune_closed(now, height).closed > 0 {
            self.forget_outputs();
        }
        self.waiting.retry();
        self.look_up();
    }

    /// The best chain lost its last block.
    pub fn block_disconnected(&mut self, height: BlockHeight) {
        self.height = BlockHeight::new(height.height().saturating_sub(1));
        for id in self.outputs.unspent_by(height) {
            self.graph.funding_unspent(id);
        }
        for id in self.outputs.in_block(height) {
            self.graph.funding_spent(id, height);
        }
        self.changed = true;
    }

    fn forget_outputs(&mut self) {
        let view = self.graph.view();
        self.outputs.retain(|id| view.channel_index(id).is_some());
        self.changed = true;
    }

    pub(super) fn look_up(&mut self) {
        let ids = self.waiting.ask();
        if !ids.is_empty() {
            self.actions.push(Action::LookUp(ids));
        }
    }

    /// Time passed: at least once a second.
    pub fn tick(&mut self, now: UnixTime) {
        self.go_on_asking(now);
        if now.micros_since(self.flushed) >= self.settings.flush_micros {
            self.flushed = now;
            self.flush();
        }
        if now.micros_since(self.retried) >= RETRY_MICROS {
            self.retried = now;
            self.waiting.retry();
        }
        if now.micros_since(self.pruned) >= PRUNE_MICROS {
            self.pruned = now;
            let pruned = self.graph.prune(now, self.height);
            tracing::debug!(?pruned, "the graph was looked through");
            self.buckets.forget_full(now);
            self.forget_outputs();
        }
        self.look_up();
    }

    fn go_on_asking(&mut self, now: UnixTime) {
        let mut silent = Vec::new();
        let mut questions = Vec::new();
        for (session, peer) in &mut self.peers {
            if peer.sync.is_overdue(now) {
                silent.push(*session);
            } else if let Some(question) = peer.sync.ask_wanted(now).filter(|_| peer.offers_queries) {
                questions.push((*session, question));
            }
        }
        questions.into_iter().for_each(|(session, question)| self.send(session, question));
        for session in silent {
            tracing::debug!(session = session.0, "a peer does not answer queries: it is to tell all it has");
            // LDK answers no query for ids, and sends everything to whoever sets a filter.
            self.ask_for_news(session, 0);
            self.synced.get_or_insert(now);
        }
        self.begin_syncs(now);
    }

    /// Gives what is news to whoever wants it, but for those it came from.
    fn flush(&mut self) {
        let view = self.graph.view();
        let news = std::mem::take(&mut self.news);
        for (item, known_by) in news {
            let Some(timestamp) = item.timestamp(view) else {
                // BOLT 7: a channel is told with its first update, not before.
                if matches!(item, Item::Channel(id) if view.channel_index(id).is_some()) {
                    self.news.insert(item, known_by);
                }
                continue;
            };
            for (session, peer) in &mut self.peers {
                let wanted = peer.filter.as_ref().is_some_and(|filter| filter.wants(timestamp));
                if wanted && !known_by.contains(session) {
                    peer.backlog.add_news(item);
                }
            }
        }
    }

    /// Hands out what peers are to hear, as much as each has room for, in bytes.
    pub fn feed(&mut self, room: impl Fn(SessionNumber) -> usize) {
        for (session, peer) in &mut self.peers {
            if peer.backlog.is_empty() {
                continue;
            }
            let messages = peer.backlog.take(room(*session), self.graph.view());
            if !messages.is_empty() {
                self.actions.push(Action::Send { session: *session, messages });
            }
        }
    }

    /// Whether somebody is still to hear something.
    pub fn has_backlog(&self) -> bool {
        self.peers.values().any(|peer| !peer.backlog.is_empty())
    }
}

/// What of a channel that a peer lists is wanted: all of it where it is not known, an update where the peer's is newer and says
/// something else.
fn wanted_of(
    graph: &mut Graph,
    id: ShortChannelId,
    times: Option<UpdatePair>,
    checksums: Option<UpdatePair>,
    now: UnixTime,
) -> Option<QueryFlag> {
    let Some(index) = graph.view().channel_index(id) else {
        let times = times.map(|times| [times.node_1, times.node_2]);
        return graph.wants(id, times, now).then_some(QueryFlag::ALL);
    };
    let theirs = times.map(|times| [times.node_1, times.node_2])?;
    let (ours, sums) = (graph.view().timestamps(index), graph.view().checksums(index));
    let their_sums = checksums.map(|sums| [sums.node_1, sums.node_2]);
    let is_news = |end: usize| theirs[end] > ours[end] && their_sums.is_none_or(|their| their[end] != sums[end]);
    let flag = [(0, QueryFlag::UPDATE_1 | QueryFlag::NODE_1), (1, QueryFlag::UPDATE_2 | QueryFlag::NODE_2)]
        .into_iter()
        .filter(|(end, _)| is_news(*end))
        .fold(0, |flags, (_, flag)| flags | flag);
    (flag != 0).then_some(QueryFlag(flag))
}
