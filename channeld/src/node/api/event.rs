//! The durable event log: one list, one index, nothing lost.

use bitcoin::{Amount, OutPoint, Txid};
use serde::{Deserialize, Serialize};

use crate::payment::send::FailureReason;
use crate::units::{BlockHeight, ChannelId, Msat, NodeId, PaymentHash, SessionId, UnixTime};

/// Something that happened, as every client sees it: at least once, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counts up from 1 without a gap.
    pub index: u64,
    /// When the node learned of it.
    pub at: UnixTime,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// A peer is connected and its `init` read.
    PeerConnected {
        /// Who.
        peer: NodeId,
    },
    /// A peer is gone.
    PeerDisconnected {
        /// Who.
        peer: NodeId,
    },
    /// A channel's funding transaction is signed and handed to the chain, or the peer's is awaited.
    ChannelPending {
        /// Which.
        channel: ChannelId,
        /// With whom.
        peer: NodeId,
        /// Its funding output.
        funding: OutPoint,
        /// What it holds.
        capacity: Amount,
    },
    /// A channel carries payments.
    ChannelReady {
        /// Which.
        channel: ChannelId,
        /// With whom.
        peer: NodeId,
    },
    /// A channel is to be closed by agreement.
    ChannelShuttingDown {
        /// Which.
        channel: ChannelId,
    },
    /// A transaction that closes a channel is known.
    ChannelClosing {
        /// Which.
        channel: ChannelId,
        /// How.
        how: CloseKind,
        /// The transaction.
        txid: Txid,
    },
    /// All of a channel's outputs are buried.
    ChannelClosed {
        /// Which.
        channel: ChannelId,
        /// How.
        how: CloseKind,
    },
    /// A channel failed: why, in words.
    ChannelFailed {
        /// Which.
        channel: ChannelId,
        /// Why.
        reason: String,
        /// Whether the fault was the peer's.
        by_peer: bool,
    },
    /// A peer wanted to open a channel and was refused, by us.
    InboundOpenRefused {
        /// Who.
        peer: NodeId,
        /// Why.
        reason: String,
    },
    /// A claim of ours for an output was handed to the chain.
    ClaimBroadcast {
        /// Of which channel.
        channel: ChannelId,
        /// The transaction that claims.
        txid: Txid,
        /// Whether it punishes a revoked commitment.
        penalty: bool,
        /// What it brings, its fee deducted.
        amount: Amount,
    },
    /// A claim of ours is confirmed.
    ClaimConfirmed {
        /// Of which channel.
        channel: ChannelId,
        /// The transaction that claims.
        txid: Txid,
        /// Whether it punishes a revoked commitment.
        penalty: bool,
        /// What it brings.
        amount: Amount,
        /// Where.
        height: BlockHeight,
    },
    /// An invoice of ours is paid.
    InvoiceSettled {
        /// Which.
        payment_hash: PaymentHash,
        /// What came in.
        amount: Msat,
        /// On which channel.
        channel: ChannelId,
    },
    /// An invoice of ours was cancelled.
    InvoiceCancelled {
        /// Which.
        payment_hash: PaymentHash,
    },
    /// An invoice of ours expired.
    InvoiceExpired {
        /// Which.
        payment_hash: PaymentHash,
    },
    /// Somebody paid us without an invoice.
    KeysendReceived {
        /// Its hash.
        payment_hash: PaymentHash,
        /// What came in.
        amount: Msat,
        /// On which channel.
        channel: ChannelId,
        /// What the payer wrote beside it: types from 65,536 on, rising.
        custom_records: Vec<(u64, Vec<u8>)>,
    },
    /// A payment of ours succeeded.
    PaymentSucceeded {
        /// Which.
        payment_hash: PaymentHash,
        /// The payment's index.
        index: u64,
        /// What the payee got.
        amount: Msat,
        /// What it cost on top.
        fee: Msat,
    },
    /// A payment of ours failed for certain.
    PaymentFailed {
        /// Which.
        payment_hash: PaymentHash,
        /// The payment's index.
        index: u64,
        /// Why.
        reason: FailureReason,
    },
    /// A batch of a stream towards us is in flight: it may be served against the window.
    StreamInFlight {
        /// On which channel.
        channel: ChannelId,
        /// The session.
        session: SessionId,
        /// The last sequence in flight.
        last_sequence: u64,
        /// All of the session, with what is in flight.
        total: Msat,
    },
    /// A batch of a stream towards us is paid.
    StreamPaid {
        /// On which channel.
        channel: ChannelId,
        /// The session.
        session: SessionId,
        /// The last sequence that is paid.
        last_sequence: u64,
        /// All that the session paid.
        total: Msat,
        /// What a close at this instant would bring us.
        enforceable: Msat,
        /// The payments' tags in this batch: sequence and tag.
        tags: Vec<(u64, [u8; 32])>,
    },
    /// Money of a stream came that no session allows: it is credited, and not to be served.
    StreamUnsolicited {
        /// On which channel.
        channel: ChannelId,
        /// What came.
        amount: Msat,
    },
    /// A stream of ours or towards us is closed.
    StreamClosed {
        /// On which channel.
        channel: ChannelId,
        /// The session.
        session: SessionId,
        /// Whether it was towards us.
        incoming: bool,
        /// The last sequence that is paid.
        last_sequence: u64,
        /// All that the session paid.
        total: Msat,
    },
    /// A transaction of the wallet is in a block.
    TransactionConfirmed {
        /// Which.
        txid: Txid,
        /// Where.
        height: BlockHeight,
        /// What it brought.
        received: Amount,
        /// What it took.
        sent: Amount,
    },
    /// Something an operator should look at.
    Warning {
        /// The channel it concerns.
        channel: Option<ChannelId>,
        /// What, in words.
        message: String,
    },
    /// All of a payment is here, and its invoice's owner decides.
    InvoiceAccepted {
        /// Which.
        payment_hash: PaymentHash,
        /// What came in.
        amount: Msat,
        /// On which channel.
        channel: ChannelId,
        /// The height at which it goes back by itself.
        deadline_height: BlockHeight,
    },
    /// Somebody's payment went through us.
    Forwarded {
        /// Its hash.
        payment_hash: PaymentHash,
        /// The channel it came on.
        incoming: ChannelId,
        /// The channel it went on.
        outgoing: ChannelId,
        /// What came in.
        incoming_amount: Msat,
        /// What went out; the rest is what we earned.
        outgoing_amount: Msat,
    },
    /// Somebody's payment did not go through us; it costs nobody anything.
    ForwardFailed {
        /// Its hash.
        payment_hash: PaymentHash,
        /// The channel it came on.
        incoming: ChannelId,
        /// The channel it went on, where it got so far.
        outgoing: Option<ChannelId>,
        /// What came in.
        incoming_amount: Msat,
        /// What we told the payer (BOLT 4); `None` where a node behind us did.
        code: Option<u16>,
    },
}

/// How a channel was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CloseKind {
    /// By a closing transaction of both.
    Mutual,
    /// By our commitment transaction.
    LocalForced,
    /// By the peer's commitment transaction.
    RemoteForced,
    /// By a revoked commitment transaction of the peer's: a penalty follows.
    Revoked,
    /// Its funding transaction never confirmed, or was spent otherwise.
    Abandoned,
}
