//! What comes into the machine and what leaves it.

use std::collections::BTreeSet;
use std::sync::Arc;

use bitcoin::{Block, BlockHash, Transaction};

use super::api::command::{Command, Query, RequestKey};
use super::api::refusal::Refusal;
use super::api::reply::Reply;
use super::state::change::{Answered, OldAnswer};
use crate::commitment::PenaltyRow;
use crate::graph::Route;
use crate::payment::stream::StreamStatus;
use crate::router::{Lesson, NoRoute, RouteQuery};
use crate::units::{BlockHeight, ChannelId, FeeratePerKw, NodeId, PaymentHash, SessionId, ShortChannelId, UnixTime};
use crate::wire::{Features, Message};

/// One connection with a peer: never used twice in the life of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionNumber(pub u64);

/// One question of a client: never used twice in the life of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestNumber(pub u64);

/// What comes with each input: the core has no clock and no randomness of its own.
#[derive(Clone, Copy)]
pub struct Moment {
    /// The wall clock.
    pub now: UnixTime,
    /// 32 fresh random bytes, expanded by label.
    pub entropy: [u8; 32],
}

/// What happened outside.
#[derive(Clone, Debug)]
pub enum Input {
    /// `init` is exchanged with a peer.
    Connected {
        /// Who.
        peer: NodeId,
        /// The connection.
        session: SessionNumber,
        /// Its features.
        features: Features,
        /// Whether it came to us.
        inbound: bool,
        /// Where it was reached, where we went there.
        address: Option<String>,
    },
    /// A connection is gone.
    Disconnected {
        /// Who.
        peer: NodeId,
        /// The connection.
        session: SessionNumber,
    },
    /// A peer could not be reached.
    ConnectFailed {
        /// Who.
        peer: NodeId,
        /// Why, in words.
        description: String,
    },
    /// Messages of a peer's, in the order of the wire.
    Messages {
        /// Who.
        peer: NodeId,
        /// The connection it came on.
        session: SessionNumber,
        /// What it said.
        messages: Vec<Message>,
    },
    /// A client wants something changed.
    Command {
        /// Whom to answer.
        request: RequestNumber,
        /// The client's name for it.
        key: Option<RequestKey>,
        /// What.
        command: Command,
    },
    /// A client wants to know something.
    Query {
        /// Whom to answer.
        request: RequestNumber,
        /// What.
        query: Query,
    },
    /// The archive has an answer to the call that comes next: it is a repetition.
    Recalled {
        /// Its `request_id`.
        id: String,
        /// What was answered.
        answered: Answered,
    },
    /// What the archive holds and may be forgotten: answers that are old, rows of channels that are over.
    Forgettable {
        /// Answers, by their age.
        answers: Vec<OldAnswer>,
        /// A channel, keys of its penalty rows, and whether these are the last.
        penalties: Option<(ChannelId, Vec<Vec<u8>>, bool)>,
    },
    /// A client does not wait any more. Nothing else changes.
    ClientGone {
        /// Who.
        request: RequestNumber,
    },
    /// The best chain has a new block on top of the last one told.
    BlockConnected {
        /// Its height.
        height: BlockHeight,
        /// The block.
        block: Arc<Block>,
        /// The archive's rows for the channels that `Node::wants_history` names.
        history: Vec<(ChannelId, PenaltyRow)>,
    },
    /// The last block told is not in the best chain any more.
    BlockDisconnected {
        /// Its height.
        height: BlockHeight,
        /// Its hash.
        hash: BlockHash,
    },
    /// What the backend says of the chain and its fees.
    ChainState(ChainState),
    /// The answer to [`Effect::FindRoute`]: checked before it is used, dropped where nobody waits for it any more.
    RouteFound {
        /// For which payment.
        payment_hash: PaymentHash,
        /// Which question of that payment's.
        attempt: u32,
        /// The parts' routes, or why there are none.
        result: Result<Vec<Route>, NoRoute>,
    },
    /// Time passed: about once a second, and when the machine asked for it.
    Tick,
}

/// What the backend says of the chain and its fees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainState {
    /// The backend's height.
    pub target: BlockHeight,
    /// What is wrong with it, where it does not answer.
    pub problem: Option<String>,
    /// Feerates for confirmation in 1, 6 and 144 blocks; `None` where it has no estimate.
    pub feerates: Option<[FeeratePerKw; 3]>,
}

/// What is to be done outside, after the flush of the turn that it was decided in.
#[derive(Clone, Debug)]
pub enum Effect {
    /// A message to a peer, on this connection or not at all.
    Send {
        /// To whom.
        peer: NodeId,
        /// The connection.
        session: SessionNumber,
        /// What.
        message: Message,
    },
    /// An end to this connection.
    Disconnect {
        /// With whom.
        peer: NodeId,
        /// The connection.
        session: SessionNumber,
    },
    /// A connection is wanted.
    Connect {
        /// With whom.
        peer: NodeId,
        /// Where.
        address: String,
    },
    /// There is a channel with a peer: its calls are taken however many strangers there are.
    Protect {
        /// Whose.
        peer: NodeId,
    },
    /// A fault on purpose: what a peer says is to arrive so much later.
    Delay {
        /// Who.
        peer: NodeId,
        /// By so many milliseconds.
        millis: u32,
    },
    /// A peer is not to be called any more, and counts among the strangers.
    Forget {
        /// Whom.
        peer: NodeId,
    },
    /// An answer to a client.
    Reply {
        /// To which question.
        request: RequestNumber,
        /// The answer.
        answer: Result<Reply, Refusal>,
        /// Whether it is the last to this question.
        last: bool,
    },
    /// How a stream stands, for the client that has it open.
    Stream {
        /// The question that opened it.
        request: RequestNumber,
        /// The session.
        session: SessionId,
        /// How it stands.
        status: Box<StreamStatus>,
    },
    /// Transactions for the chain, parents first, as one package.
    Broadcast(Vec<Transaction>),
    /// New events are durable up to this index.
    Events(u64),
    /// A way is wanted; the answer is [`Input::RouteFound`]. Lost with the process: the node asks again after a start.
    FindRoute {
        /// For which payment.
        payment_hash: PaymentHash,
        /// Which question of that payment's.
        attempt: u32,
        /// What is asked.
        query: Box<RouteQuery>,
    },
    /// What attempts taught; losing it loses no money.
    Learned(Vec<Lesson>),
    /// What we tell everybody of ourselves: for the owner of the graph, and through it for all.
    Gossip(Message),
    /// `channel_update`s that name one of these come to the node as well as to the owner of the graph.
    FollowUpdates(BTreeSet<ShortChannelId>),
}
