//! What a client may ask: commands change something, queries read what is durable.

use bitcoin::Txid;
use serde::{Deserialize, Serialize};

use crate::payment::forward::PolicyUpdate;
use crate::payment::invoice::PaymentRequest;
use crate::units::{ChannelId, FeeratePerKw, Msat, NodeId, PaymentHash, Preimage, SessionId, ShortChannelId};

/// The name a client gives to a mutating call so that a repetition is answered and not done again (AIP-155).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestKey {
    /// The client's `request_id`, at most 64 bytes.
    pub id: String,
    /// SHA-256 of the method's name and of the request without its `request_id`.
    pub body: [u8; 32],
}

/// What changes something. Each is answered once, after the flush of its turn, but for those that say otherwise.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// The next unused address of the wallet. Answer: `Reply::Address`.
    CreateAddress,
    /// Coins to an address. Answer: `Reply::Sent`.
    SendCoins(SendCoins),
    /// A higher fee for an unconfirmed transaction: the wallet's, or one of a closing channel's. Answer: `Reply::Bumped`.
    BumpTransaction(BumpTransaction),
    /// A connection that is kept up from now on. Answer, when `init` is exchanged or it failed: `Reply::Peer`.
    ConnectPeer {
        /// Who.
        node_id: NodeId,
        /// Where: `host:port` or `grpc://host:port`.
        address: String,
    },
    /// An end to the connection and to its being kept up. Answer: `Reply::Done`.
    DisconnectPeer {
        /// Who.
        node_id: NodeId,
        /// Also where it has channels with us.
        force: bool,
    },
    /// A channel that we fund. Answer, when its funding transaction may be broadcast: `Reply::Channel`.
    OpenChannel(OpenChannel),
    /// The end of a channel. Answer: `Reply::Channel`.
    CloseChannel(CloseChannel),
    /// What a channel asks for forwarding from now on; what it asked before is honoured for ten minutes more.
    /// Answer: `Reply::Channel`.
    UpdateChannelPolicy(UpdateChannelPolicy),
    /// A BOLT 11 invoice. Answer: `Reply::Invoice`.
    CreateInvoice(CreateInvoice),
    /// The preimage of an invoice whose payment is held. Answer: `Reply::Invoice`.
    SettleInvoice {
        /// The preimage.
        preimage: Preimage,
    },
    /// An open invoice is not to be paid any more; what is held for it goes back. Answer: `Reply::Invoice`.
    CancelInvoice {
        /// Its hash.
        payment_hash: PaymentHash,
    },
    /// A payment. Answered twice with `Reply::Payment`: when it is journaled, and when it is final (once where the first
    /// answer is final).
    SendPayment(SendPayment),
    /// A stream of payments, or one to be resumed. Answer: `Reply::StreamOpened`; what follows is in the stream's status.
    OpenStream(OpenStream),
    /// Payments of an open stream. No answer of its own: the stream's status tells.
    StreamPay(StreamPay),
    /// No more payments: the rest is committed, then the stream closes with a receipt. No answer of its own.
    FinishStream {
        /// The session.
        session: SessionId,
    },
    /// A fault on purpose, on development chains only. Answer: `Reply::Fault`.
    InjectFault(Fault),
}

/// On-chain money: an amount, or all there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AmountOrAll {
    /// So many satoshi.
    Sat(u64),
    /// All that is spendable, less the fee and the anchor reserve.
    All,
}

/// See [`Command::SendCoins`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendCoins {
    /// Where to, in the network's encoding.
    pub address: String,
    /// How much.
    pub amount: AmountOrAll,
    /// The feerate; an estimate for six blocks where it is `None`.
    pub feerate: Option<FeeratePerKw>,
    /// Only say what it would be: nothing is signed or kept.
    pub validate_only: bool,
}

/// See [`Command::BumpTransaction`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BumpTransaction {
    /// The transaction to make dearer.
    pub txid: Txid,
    /// The feerate it should have with its unconfirmed parents and children; an estimate for the next block where it is
    /// `None`.
    pub feerate: Option<FeeratePerKw>,
    /// The most that the new transaction may pay; what it is worth where it is `None`.
    pub max_fee_sat: Option<u64>,
    /// Whether what is added is taken from the payment, as of one of all there was.
    pub from_payment: bool,
    /// Only say what it would be: nothing is broadcast or kept.
    pub validate_only: bool,
}

/// See [`Command::OpenChannel`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenChannel {
    /// With whom; must be connected.
    pub peer: NodeId,
    /// How much we put in: 100,000 to 16,777,215 sat, or all that the wallet can spare within that.
    pub capacity: AmountOrAll,
    /// What the peer gets of it at once.
    pub push: Msat,
    /// The feerate of the funding transaction; an estimate where it is `None`.
    pub funding_feerate: Option<FeeratePerKw>,
    /// Whether the channel is to be announced to the network.
    pub announce: bool,
    /// `static_remotekey` without anchors, for peers that know nothing better.
    pub without_anchors: bool,
    /// Only check: nothing is sent.
    pub validate_only: bool,
}

/// See [`Command::CloseChannel`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseChannel {
    /// Which.
    pub channel: ChannelId,
    /// By our commitment transaction, without asking the peer.
    pub force: bool,
    /// Where our part goes on a cooperative close; a wallet address where it is `None`.
    pub address: Option<String>,
    /// The feerate of the closing transaction; an estimate where it is `None`.
    pub feerate: Option<FeeratePerKw>,
    /// Only check: nothing is sent.
    pub validate_only: bool,
}

/// See [`Command::UpdateChannelPolicy`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateChannelPolicy {
    /// Which.
    pub channel: ChannelId,
    /// What changes.
    pub update: PolicyUpdate,
    /// Only check: nothing is changed.
    pub validate_only: bool,
}

/// See [`Command::CreateInvoice`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateInvoice {
    /// What it asks for, or any amount.
    pub amount: Option<Msat>,
    /// What it is for; at most 639 bytes.
    pub description: String,
    /// Seconds until it expires: 1 to 31,536,000.
    pub expiry_seconds: u32,
    /// The preimage, where the client wants to choose it.
    pub preimage: Option<Preimage>,
    /// The hash of a preimage that the client keeps: the payment is held until it is settled or cancelled.
    pub payment_hash: Option<PaymentHash>,
    /// The least number of blocks that must be left when it is paid; the node's default where it is `None`.
    pub min_final_cltv_expiry_delta: Option<u16>,
    /// Hide who is paid behind blinded paths.
    pub blinded: bool,
}

/// See [`Command::SendPayment`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendPayment {
    /// What to pay.
    pub target: PaymentTarget,
    /// How much: needed for a key and for an invoice of any amount; else it must be at least what the invoice asks and
    /// at most twice that.
    pub amount: Option<Msat>,
    /// Over which channel of ours it leaves; the node chooses where it is `None`.
    pub channel: Option<ChannelId>,
    /// The most that it may cost; a hundredth of the amount, or 10 sat where that is more, where it is `None`.
    pub max_fee: Option<Msat>,
    /// The most parts at a time: 1 to 64; 16 where it is `None`. One, where the payee takes no parts.
    pub max_parts: Option<u32>,
    /// The most blocks above the present height at which a part may expire: up to 4,032; 2,016 where it is `None`.
    pub max_cltv_delta: Option<u32>,
    /// For how long parts are sent, in seconds: 1 to 3,600; 60 where it is `None`. What is under way then is waited for.
    pub timeout_seconds: Option<u32>,
    /// For the payee, with a payment to a key: types from 65,537 on, odd, each once; at most 1,000 bytes together.
    pub custom_records: Vec<(u64, Vec<u8>)>,
    /// Only check: nothing is sent.
    pub validate_only: bool,
}

impl SendPayment {
    /// A payment with the node's own limits.
    pub const fn new(target: PaymentTarget, amount: Option<Msat>) -> SendPayment {
        SendPayment {
            target,
            amount,
            channel: None,
            max_fee: None,
            max_parts: None,
            max_cltv_delta: None,
            timeout_seconds: None,
            custom_records: Vec::new(),
            validate_only: false,
        }
    }
}

/// What a payment pays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PaymentTarget {
    /// A BOLT 11 invoice, as text; the driver reads it before the node sees it.
    Invoice(String),
    /// The same, read and checked.
    Request(Box<PaymentRequest>),
    /// A node, by keysend.
    Node(NodeId),
}

/// See [`Command::OpenStream`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenStream {
    /// On which channel, or to whom.
    pub target: StreamTarget,
    /// The session to go on with, after its last committed sequence.
    pub resume: Option<SessionId>,
    /// The most the session may pay in total; no limit where it is `None`.
    pub max_total: Option<Msat>,
    /// The most that may be accepted and not yet committed; the node's limit where it is `None`.
    pub max_uncommitted: Option<Msat>,
    /// The most payments a second; no limit where it is `None`.
    pub max_payments_per_second: Option<u32>,
    /// How long to collect payments before a round begins; 0: a round begins with the first.
    pub batch_delay_millis: u32,
}

/// Where a stream goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamTarget {
    /// This channel.
    Channel(ChannelId),
    /// One channel with this node, chosen at opening.
    Node(NodeId),
}

/// See [`Command::StreamPay`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamPay {
    /// The session.
    pub session: SessionId,
    /// The sequence of the first; sequences count up from 1. What was accepted before counts once.
    pub first_sequence: u64,
    /// The payments' amounts, in order; at most 1,000.
    pub amounts: Vec<Msat>,
    /// A tag for the payee with a payment: its place in `amounts` and 32 bytes.
    pub tags: Vec<(u32, [u8; 32])>,
}

/// See [`Command::InjectFault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Keep a copy of the current commitment transaction with its HTLC transactions.
    KeepState {
        /// Of this channel.
        channel: ChannelId,
    },
    /// Broadcast the copy kept before: a revoked commitment once a payment has been made since.
    ReplayOldState {
        /// Of this channel.
        channel: ChannelId,
    },
    /// Give incoming HTLCs no answer, until it is let go of or the node restarts.
    HoldHtlcs {
        /// Of this channel.
        channel: ChannelId,
        /// Whether to hold, or to let go: what was held is answered then.
        hold: bool,
    },
    /// Cut the connection; it comes back by itself.
    Cut {
        /// To this peer.
        peer: NodeId,
    },
    /// Have what a peer says arrive later, until the node restarts.
    Delay {
        /// This peer.
        peer: NodeId,
        /// By so many milliseconds; 0 ends it.
        millis: u32,
    },
}

/// Which part of a list, by the items' own indexes. The indexes never change, so a page never skips or repeats one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// The index after which to go on, in the list's order; from the beginning where it is `None`.
    pub after: Option<u64>,
    /// How many at most: 1 to 1,000.
    pub size: u32,
    /// The newest first.
    pub newest_first: bool,
}

/// What only reads. The answer holds what is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// Answer: `Reply::Node`.
    Node,
    /// Answer: `Reply::Balances`.
    Balances,
    /// Answer: `Reply::UnspentOutputs`.
    ListUnspentOutputs(Page),
    /// Answer: `Reply::Transactions`.
    ListTransactions(Page),
    /// Answer: `Reply::Peers`.
    ListPeers(Page),
    /// Also one that is over. Answer: `Reply::Channel`.
    Channel(ChannelId),
    /// By its place on the chain or our alias, also one that is over. Answer: `Reply::Channel`.
    ChannelNamed(ShortChannelId),
    /// Channels, those that are over among them. Answer: `Reply::Channels`.
    ListChannels {
        /// Only those with this node.
        peer: Option<NodeId>,
        /// Which part; a channel's index counts up from 1 as channels are made.
        page: Page,
    },
    /// What a close would cost and when each output is spendable. Answer: `Reply::ClosePlan`.
    PlanClose(ChannelId),
    /// Each commitment and each secret, checked again. Answer: `Reply::Audits`; the driver adds what the archive and the
    /// chain say.
    AuditChannels {
        /// Only this one.
        channel: Option<ChannelId>,
        /// Which part, by the channels' indexes, the oldest first.
        page: Page,
    },
    /// Answer: `Reply::Invoice`.
    Invoice(PaymentHash),
    /// Answer: `Reply::Invoices`.
    ListInvoices(Page),
    /// Answer: `Reply::Payment`.
    Payment(PaymentHash),
    /// Answered when the payment is final: `Reply::Payment`.
    AwaitPayment(PaymentHash),
    /// Answer: `Reply::Payments`.
    ListPayments(Page),
    /// The answer to an earlier `SendPayment`, for one whose invoice was paid long ago; of use to the driver only.
    Replay(RequestKey),
}
