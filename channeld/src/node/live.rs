//! What the node knows only while it runs: sessions, openings, and who waits for what. A restart forgets all of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bitcoin::{ScriptBuf, Transaction};

use crate::channel::{Awaited, Channel, SessionFeatures};
use crate::commitment::PenaltyRow;
use crate::node::api::command::{OpenChannel, RequestKey};
use crate::node::chatter::{Chatter, Measure};
use crate::node::gossip::LiveGossip;
use crate::node::input::{ChainState, RequestNumber, SessionNumber};
use crate::node::send::Search;
use crate::node::state::change::Answered;
use crate::payment::receive::PartSet;
use crate::payment::stream::Receipt;
use crate::units::{ChannelId, CommitmentNumber, Msat, NodeId, PaymentHash, SessionId, UnixTime};
use crate::wire::Features;

/// See the file's map.
#[derive(Default)]
pub(super) struct Live {
    /// Connections, one a peer.
    pub sessions: BTreeMap<NodeId, Session>,
    /// Channels whose funding is not settled yet, by peer and temporary id.
    pub openings: BTreeMap<(NodeId, ChannelId), Opening>,
    /// Scripts of the wallet that were meant for channels of which nothing came before the peer saw them: each is revealed
    /// once, however often a peer begins to open.
    pub spare_scripts: Vec<ScriptBuf>,
    /// Channels that we opened on a present connection, by the temporary id: the peer may still refuse them by that name.
    pub opened_as: BTreeMap<(NodeId, ChannelId), ChannelId>,
    /// Who is answered when a channel's funding is signed.
    pub funding_waiters: BTreeMap<ChannelId, RequestNumber>,
    /// Payments of ours that look for a way, or wait for a channel.
    pub searches: BTreeMap<PaymentHash, Search>,
    /// When the node started.
    pub started: UnixTime,
    /// Who is answered when a payment is final.
    pub payment_waiters: BTreeMap<PaymentHash, Vec<RequestNumber>>,
    /// Who is answered when a peer is connected.
    pub connect_waiters: BTreeMap<NodeId, Vec<RequestNumber>>,
    /// Peers that are called at another address than the one that is kept: it is kept once it has led to them.
    pub tried_addresses: BTreeSet<NodeId>,
    /// Clients of outgoing streams.
    pub stream_clients: BTreeMap<SessionId, StreamClient>,
    /// Outgoing streams whose closing was sent, and when.
    pub closing_streams: BTreeMap<SessionId, UnixTime>,
    /// The newest receipts for what we paid.
    pub receipts: BTreeMap<SessionId, Receipt>,
    /// Questions with a key that have no answer yet.
    pub keys: BTreeMap<RequestNumber, RequestKey>,
    /// The same by the key's id.
    pub pending: BTreeMap<String, RequestKey>,
    /// What the archive knows of the keys of commands that come next.
    pub recalled: BTreeMap<String, Answered>,
    /// Repetitions of such a question, by its key.
    pub followers: BTreeMap<String, Vec<RequestNumber>>,
    /// Room for forwards.
    pub buckets: super::forward::Buckets,
    /// Parts of payments towards us.
    pub parts: BTreeMap<PaymentHash, PartSet>,
    /// Penalty rows that the driver brought with the block in hand.
    pub block_history: Vec<(ChannelId, PenaltyRow)>,
    /// Penalty rows of turns that are not durable yet: the archive does not have them.
    pub history: Vec<(ChannelId, PenaltyRow)>,
    /// How many of them belong to turns: of the one that is being flushed, and of the open one.
    pub history_of_turns: (usize, usize),
    /// Channels whose peer owes an answer: which, and since when.
    pub unanswered: BTreeMap<ChannelId, (Awaited, UnixTime)>,
    /// Channels whose `channel_reestablish` came on this connection.
    pub greeted: BTreeSet<ChannelId>,
    /// On how many connections a mutual close went unanswered.
    pub silent_closes: BTreeMap<ChannelId, u32>,
    /// Since when a mutual close fails for want of a fee that both accept.
    pub disagreed: BTreeMap<ChannelId, UnixTime>,
    /// How much of what peers say is still written down.
    pub chatter: Chatter,
    /// How many openings of peers were looked at.
    pub knocks: Knocks,
    /// Streams whose clients are told how they stand when the turn closes.
    pub to_tell: BTreeSet<SessionId>,
    /// Streams over HTLCs that may have a batch to send.
    pub to_batch: BTreeSet<SessionId>,
    /// Channels that something happened to since the last seal.
    pub to_seal: BTreeSet<ChannelId>,
    /// Channels whose incoming HTLCs a developer holds.
    pub held: BTreeSet<ChannelId>,
    /// Copies of commitments that a developer asked for.
    pub kept: BTreeMap<ChannelId, Kept>,
    /// What the backend said last.
    pub chain: Option<ChainState>,
    /// What was told on present connections.
    pub gossip: LiveGossip,
    /// When old answers were looked for last.
    pub last_cleaning: UnixTime,
}

/// Openings that peers begin, whatever comes of them: each costs keys.
pub(super) struct Knocks(pub Chatter);

impl Default for Knocks {
    fn default() -> Knocks {
        Knocks(Chatter::new(Measure { most: 50, refill: 1_000_000 }, Measure { most: 500, refill: 100_000 }))
    }
}

/// A connection.
pub(super) struct Session {
    /// Its number.
    pub number: SessionNumber,
    /// What the peer set in `init`.
    pub features: Features,
    /// Whether it came to us.
    pub inbound: bool,
    /// Where it was reached.
    pub address: Option<String>,
}

impl Session {
    /// What both sides know.
    pub fn negotiated(&self, ours: &Features) -> SessionFeatures {
        SessionFeatures::negotiate(ours, &self.features)
    }
}

/// A channel whose funding is not settled yet.
pub(super) struct Opening {
    /// The machine.
    pub channel: Channel,
    /// The funding transaction, once it is built.
    pub funding: Option<Transaction>,
    /// When the last message of it came or went.
    pub since: UnixTime,
    /// Who is answered, where we open.
    pub request: Option<(RequestNumber, OpenChannel)>,
}

/// Whoever has a stream open.
pub(super) struct StreamClient {
    /// The question that opened it.
    pub request: RequestNumber,
    /// When payments came, by the last sequence of each `Pay`.
    pub arrivals: VecDeque<(u64, UnixTime)>,
    /// The time from the arrival of the newest committed payment to its commitment.
    pub latency_micros: u64,
    /// What a close at the newest commitment would pay the payee.
    pub enforceable: Msat,
    /// When the batch that is being collected is due.
    pub batch_due: Option<UnixTime>,
    /// The most that may be uncommitted, as the client wants it.
    pub max_uncommitted: Option<Msat>,
}

/// A commitment of ours that a developer had kept.
pub(super) struct Kept {
    /// Its number.
    pub number: CommitmentNumber,
    /// The commitment, and its HTLC transactions where there were any.
    pub transactions: Vec<Transaction>,
}

impl Live {
    /// The key of a question that is answered now.
    pub fn take_key(&mut self, request: RequestNumber) -> Option<RequestKey> {
        let key = self.keys.remove(&request)?;
        self.pending.remove(&key.id);
        Some(key)
    }

    /// Keeps a penalty row until its turn is durable: before, the archive does not have it.
    pub fn add_history(&mut self, channel: ChannelId, row: PenaltyRow) {
        self.history.push((channel, row));
        self.history_of_turns.1 += 1;
    }

    /// A turn is sealed, so the one before it is durable.
    pub fn history_sealed(&mut self) {
        let (durable, sealed) = self.history_of_turns;
        self.history.drain(..durable);
        self.history_of_turns = (sealed, 0);
    }
}
