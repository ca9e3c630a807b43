//! The changes that a turn's record is made of.

use bitcoin::{BlockHash, Transaction};
use serde::{Deserialize, Serialize};

use super::gossip::GossipChange;
use crate::channel::{self, Channel};
use crate::node::api::reply::Reply;
use crate::onchain::{self, Resolver};
use crate::payment::forward::{Forward, ForwardStatus, ForwardingPolicy, HtlcPlace};
use crate::payment::receive::{Invoice, InvoiceStatus};
use crate::payment::send::{Attempt, Payment, PaymentChange};
use crate::payment::stream::{Mark, OutgoingStream, StreamChange};
use crate::units::{BlockHeight, ChannelId, Msat, NodeId, PaymentHash, SessionId, UnixTime};
use crate::wire::NodeAnnouncement;

/// One change of one thing. A turn's delta is a list of these, in order.
#[derive(Clone, Serialize, Deserialize)]
pub enum Change {
    /// A channel begins to matter: its first commitment is signed.
    ChannelAdded {
        /// With whom.
        peer: NodeId,
        /// Its first state.
        channel: Box<Channel>,
        /// What it asks for forwarding.
        policy: ForwardingPolicy,
    },
    /// A channel goes on.
    Channel {
        /// Which.
        channel: ChannelId,
        /// By what.
        delta: channel::Delta,
    },
    /// Nothing of a channel is left to do; what is kept for reading is in the archive.
    ChannelRemoved {
        /// Which.
        channel: ChannelId,
    },
    /// A channel is on its way to the chain: its outputs are followed from here on.
    ResolverAdded {
        /// Of which channel.
        channel: ChannelId,
        /// What follows them.
        resolver: Box<Resolver>,
    },
    /// What follows a channel's outputs goes on.
    Resolver {
        /// Of which channel.
        channel: ChannelId,
        /// By what.
        delta: onchain::Delta,
    },
    /// All is buried, or a reorganisation undid the spend.
    ResolverRemoved {
        /// Of which channel.
        channel: ChannelId,
    },
    /// Money went over a channel, for its statistics.
    Moved {
        /// Which.
        channel: ChannelId,
        /// From us.
        sent: Msat,
        /// To us.
        received: Msat,
    },
    /// Our funding transaction is kept until it is deep, to be broadcast again; `None`: not needed any more.
    FundingKept {
        /// Of which channel.
        channel: ChannelId,
        /// The transaction, signed.
        transaction: Option<Transaction>,
    },
    /// A payment of ours begins.
    PaymentAdded(Box<Payment>),
    /// It is tried along a channel.
    PaymentAttempted {
        /// Which.
        payment_hash: PaymentHash,
        /// How.
        attempt: Attempt,
    },
    /// It is final, and moves to the archive.
    PaymentEnded {
        /// Which.
        payment_hash: PaymentHash,
        /// Whether the payee was paid.
        succeeded: bool,
    },
    /// An invoice is open.
    InvoiceAdded(Box<Invoice>),
    /// An invoice is final, and moves to the archive.
    InvoiceEnded {
        /// Which.
        payment_hash: PaymentHash,
    },
    /// An outgoing stream begins.
    StreamAdded {
        /// Its session.
        session: SessionId,
        /// Its first state.
        stream: Box<OutgoingStream>,
    },
    /// An outgoing stream goes on.
    Stream {
        /// Its session.
        session: SessionId,
        /// By what.
        change: StreamChange,
    },
    /// An outgoing stream is over.
    StreamRemoved {
        /// Its session.
        session: SessionId,
    },
    /// A mutating call was answered.
    RequestAnswered {
        /// The client's `request_id`.
        id: String,
        /// What it was answered.
        answered: Answered,
    },
    /// Answers are old enough to leave the memory.
    RequestsForgotten {
        /// Those answered before.
        before: UnixTime,
    },
    /// A peer is to be remembered.
    PeerAdded {
        /// Who.
        peer: NodeId,
        /// Where.
        record: PeerRecord,
    },
    /// A peer is not to be reached any more by ourselves.
    PeerRemoved {
        /// Who.
        peer: NodeId,
    },
    /// The chain grew.
    BlockConnected {
        /// To this height.
        height: BlockHeight,
        /// By this block.
        hash: BlockHash,
    },
    /// The chain lost its last block.
    BlockDisconnected,
    /// The wallet changed; opaque to the node.
    Wallet(Vec<u8>),
    /// So many events were written.
    Events(u64),
    /// A channel asks something else for forwarding.
    ForwardingPolicySet {
        /// Which.
        channel: ChannelId,
        /// From now on.
        policy: ForwardingPolicy,
        /// When: the one before is honoured for a while.
        at: UnixTime,
    },
    /// Something was told or heard of a channel.
    Gossip {
        /// Which.
        channel: ChannelId,
        /// What.
        change: GossipChange,
    },
    /// We told everybody about ourselves.
    NodeAnnounced(Box<NodeAnnouncement>),
    /// An incoming HTLC is forwarded: the outgoing one is added in the same turn.
    ForwardAdded(Box<Forward>),
    /// An open invoice goes on.
    InvoiceProgressed {
        /// Which.
        payment_hash: PaymentHash,
        /// Where it stands now.
        status: InvoiceStatus,
    },
    /// A forward goes on.
    ForwardProgressed {
        /// Its incoming HTLC.
        incoming: HtlcPlace,
        /// How far it is now.
        status: ForwardStatus,
    },
    /// The incoming HTLC is answered, and the outgoing one decided.
    ForwardEnded {
        /// Its incoming HTLC.
        incoming: HtlcPlace,
        /// What we earned by it, where it was not counted before.
        earned: Option<Msat>,
    },
    /// A payment of ours goes on.
    Payment {
        /// Which.
        payment_hash: PaymentHash,
        /// By what.
        change: PaymentChange,
    },
    /// So many answers have left the archive.
    AnswersForgotten(u64),
    /// A payment of ours that is in no list is over.
    PaymentDropped {
        /// Which.
        payment_hash: PaymentHash,
    },
    /// A batch of a stream towards us came in an HTLC.
    BatchReceived {
        /// The session.
        session: SessionId,
        /// What it has paid with it.
        paid: Mark,
        /// When.
        at: UnixTime,
    },
    /// Streams towards us that nobody paid in for long.
    IncomingStreamsForgotten {
        /// Those whose last batch came before.
        before: UnixTime,
    },
}

/// Names an answer in the archive by its age: what is forgotten first is found first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldAnswer {
    /// When it was given.
    pub at: UnixTime,
    /// SHA-256 of the `request_id`.
    pub name: [u8; 32],
    /// The payment that it is about: the answer is kept as long as that is in flight.
    pub payment: Option<PaymentHash>,
}

/// The answer to a mutating call, kept for repetitions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answered {
    /// The hash of the call's body.
    pub body: [u8; 32],
    /// When it was answered.
    pub at: UnixTime,
    /// What it was answered.
    pub answer: Answer,
}

/// A kept answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// As it was.
    Reply(Box<Reply>),
    /// This payment, as it stands.
    Payment(PaymentHash),
    /// This stream, as it stands.
    Stream(SessionId),
}

/// A peer that is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerRecord {
    /// Where it is reached.
    pub address: String,
    /// Whether the connection is kept up.
    pub persistent: bool,
}
