//! What a client is answered: the resources of the API, in the core's own types.

use bitcoin::{Amount, BlockHash, OutPoint, TxOut, Txid};
use serde::{Deserialize, Serialize};

use crate::payment::forward::ForwardingPolicy;
use crate::payment::receive::Invoice;
use crate::payment::send::Payment;
use crate::units::{
    BlockHeight, ChannelId, CommitmentNumber, FeeratePerKw, Msat, NodeId, PaymentHash, SessionId, ShortChannelId,
};

/// An answer. Which command or query gives which variant stands at the command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// It is done, and there is nothing to say about it.
    Done,
    /// A new address.
    Address(String),
    /// A transaction of the wallet that was made.
    Sent(Sent),
    /// A peer.
    Peer(PeerInfo),
    /// A channel.
    Channel(Box<ChannelInfo>),
    /// An invoice.
    Invoice(Box<Invoice>),
    /// A payment.
    Payment(Box<Payment>),
    /// A payment that has left the node's memory: whoever asked finds it in the archive. Never reaches a client.
    EndedPayment(PaymentHash),
    /// A stream is open.
    StreamOpened(StreamOpened),
    /// A fault was made.
    Fault(FaultDone),
    /// This node.
    Node(NodeInfo),
    /// Its money.
    Balances(Balances),
    /// A page of coins; an output's index is its place in the order of first sight.
    UnspentOutputs(Paged<UnspentOutput>),
    /// A page of the wallet's transactions.
    Transactions(Paged<WalletTransaction>),
    /// A page of peers.
    Peers(Paged<PeerInfo>),
    /// A page of channels.
    Channels(Paged<ChannelInfo>),
    /// A page of invoices.
    Invoices(Paged<Invoice>),
    /// A page of payments.
    Payments(Paged<Payment>),
    /// What a close would bring.
    ClosePlan(ClosePlan),
    /// What the audit found, one entry a channel.
    Audits(Paged<ChannelAudit>),
    /// A transaction that confirms sooner.
    Bumped(Bumped),
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Paged<T> {
    /// The items in the order asked for.
    pub items: Vec<T>,
    /// What to give as `after` for the next part; `None` where this was the last.
    pub next: Option<u64>,
}

/// A transaction that the wallet made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Its id.
    pub txid: Txid,
    /// What the receiver gets.
    pub amount: Amount,
    /// What the miner gets.
    pub fee: Amount,
}

/// See `Query::Node`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Our key.
    pub node_id: NodeId,
    /// Our name.
    pub alias: String,
    /// `regtest` or `devnet`.
    pub network: String,
    /// The last block that everything here has seen.
    pub block_height: BlockHeight,
    /// Its hash.
    pub block_hash: BlockHash,
    /// Whether that is the backend's tip.
    pub sync: SyncState,
    /// Where peers reach us, as bound: `host:port`.
    pub listen_addresses: Vec<String>,
    /// How many peers are connected.
    pub connected_peers: u32,
    /// How many channels can carry a payment now.
    pub usable_channels: u32,
    /// How many channels wait for their funding.
    pub pending_channels: u32,
    /// How many channels close or wait for their outputs.
    pub closing_channels: u32,
    /// Whether dev-only methods work.
    pub development: bool,
    /// The index of the newest event.
    pub newest_event: u64,
}

/// Where our view of the chain stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyncState {
    /// At the backend's tip.
    Synced,
    /// Behind it.
    Syncing {
        /// The backend's height.
        target: BlockHeight,
    },
    /// The backend does not answer.
    BackendUnavailable {
        /// What went wrong.
        description: String,
    },
}

/// See `Query::Balances`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balances {
    /// Coins with at least one confirmation.
    pub confirmed: Amount,
    /// Coins without one that are ours to trust.
    pub unconfirmed: Amount,
    /// Coins of blocks that are not deep enough.
    pub immature: Amount,
    /// Kept back for anchors: 10,000 sat a channel.
    pub reserved: Amount,
    /// What may be sent or put into a channel now.
    pub spendable: Amount,
    /// Our part of all channels.
    pub local: Msat,
    /// What our channels can send now.
    pub sendable: Msat,
    /// What our channels can receive now.
    pub receivable: Msat,
    /// In HTLCs and transfers on their way out.
    pub outgoing_in_flight: Msat,
    /// In HTLCs and transfers on their way in.
    pub incoming_in_flight: Msat,
    /// HTLCs forwarded with success, ever.
    pub forwarded: u64,
    /// What that brought; part of `local`.
    pub forwarding_fees: Msat,
    /// On the chain, ours, and not yet in the wallet.
    pub claimable: Vec<Claimable>,
}

/// An output of a closed channel that is ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimable {
    /// The channel it comes from.
    pub channel: ChannelId,
    /// Where it lies.
    pub outpoint: OutPoint,
    /// How much.
    pub amount: Amount,
    /// The height at which it can be spent, where that is known.
    pub height: Option<BlockHeight>,
}

/// A coin of the wallet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnspentOutput {
    /// Its place in the list.
    pub index: u64,
    /// Where it lies.
    pub outpoint: OutPoint,
    /// How much.
    pub amount: Amount,
    /// The address it was paid to.
    pub address: String,
    /// The block it is in.
    pub height: Option<BlockHeight>,
    /// Locked for a transaction that is being made.
    pub locked: bool,
}

/// A transaction that concerns the wallet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalletTransaction {
    /// Its place in the list.
    pub index: u64,
    /// Its id.
    pub txid: Txid,
    /// What it brought.
    pub received: Amount,
    /// What it took, the fee included.
    pub sent: Amount,
    /// The fee, where all its inputs are known.
    pub fee: Option<Amount>,
    /// The block it is in.
    pub height: Option<BlockHeight>,
}

/// A peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerInfo {
    /// Its key.
    pub node_id: NodeId,
    /// Where it is or was reached.
    pub address: Option<String>,
    /// Whether `init` is exchanged.
    pub connected: bool,
    /// Whether it came to us.
    pub inbound: bool,
    /// Whether the connection is kept up.
    pub persistent: bool,
    /// Its features, as in `init`, big-endian.
    pub features: Vec<u8>,
    /// Our channels with it.
    pub channels: u32,
}

/// Where a channel stands, in the API's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChannelState {
    /// The two sides settle its terms; nothing is on the chain.
    Opening,
    /// The funding transaction waits for its confirmations.
    AwaitingConfirmation,
    /// It carries payments, while the peer is connected.
    Open,
    /// One side wants to close; HTLCs are waited for.
    ShuttingDown,
    /// The closing fee is settled.
    NegotiatingClose,
    /// A closing or commitment transaction is known, and not buried.
    Closing,
    /// A commitment transaction is on the chain: outputs are claimed.
    Resolving,
    /// All is buried.
    Closed,
    /// We lost data: only the peer can close, and we ask it to.
    AwaitingPeerClose,
}

/// A channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelInfo {
    /// Counts up from 1.
    pub index: u64,
    /// Its id; temporary while `state` is `Opening`.
    pub channel_id: ChannelId,
    /// The other end.
    pub peer: NodeId,
    /// Where it stands.
    pub state: ChannelState,
    /// Whether it can carry a payment at this moment.
    pub usable: bool,
    /// Whether we funded it.
    pub opener: bool,
    /// Whether it is announced.
    pub announced: bool,
    /// `anchors` or `static_remotekey`.
    pub channel_type: String,
    /// What it holds.
    pub capacity: Amount,
    /// The output that holds it.
    pub funding: Option<OutPoint>,
    /// Where that is on the chain.
    pub short_channel_id: Option<ShortChannelId>,
    /// How deep the funding transaction is.
    pub confirmations: u32,
    /// How deep it must be.
    pub confirmations_required: u32,
    /// Our balance.
    pub local: Msat,
    /// The peer's.
    pub remote: Msat,
    /// What we can send now.
    pub sendable: Msat,
    /// What we can receive now.
    pub receivable: Msat,
    /// What we must keep.
    pub local_reserve: Amount,
    /// What the peer must keep.
    pub remote_reserve: Amount,
    /// HTLCs on their way, in both directions.
    pub htlcs: Vec<HtlcInfo>,
    /// The commitment's feerate.
    pub feerate: FeeratePerKw,
    /// The number of our newest commitment.
    pub local_commitment: CommitmentNumber,
    /// The number of the peer's newest commitment.
    pub remote_commitment: CommitmentNumber,
    /// Blocks our own outputs wait after a forced close.
    pub to_self_delay: u16,
    /// The transaction that closed it, or is to.
    pub closing_txid: Option<Txid>,
    /// Whether netted transfers were negotiated on this connection.
    pub transfers: bool,
    /// All we ever sent.
    pub total_sent: Msat,
    /// All we ever received.
    pub total_received: Msat,
    /// What we ask for forwarding over it.
    pub policy: ForwardingPolicy,
}

/// An HTLC on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HtlcInfo {
    /// Towards us.
    pub incoming: bool,
    /// Its id in its direction.
    pub id: u64,
    /// How much.
    pub amount: Msat,
    /// Its hash.
    pub payment_hash: PaymentHash,
    /// The height at which it times out.
    pub cltv_expiry: u32,
}

/// See `Command::OpenStream`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamOpened {
    /// The session; also for resuming it.
    pub session: SessionId,
    /// The channel it runs on.
    pub channel: ChannelId,
    /// What can be sent now.
    pub available: Msat,
    /// The last sequence that is journaled: go on with the next.
    pub accepted_sequence: u64,
    /// The last sequence that is paid.
    pub committed_sequence: u64,
}

/// What an injected fault did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FaultDone {
    /// The commitment with this number was kept.
    Kept {
        /// Its number.
        commitment: CommitmentNumber,
        /// Its id.
        txid: Txid,
    },
    /// The commitment with this number was handed to the chain.
    Replayed {
        /// Its number.
        commitment: CommitmentNumber,
        /// Its id.
        txid: Txid,
    },
    /// HTLCs are held from now on, or were let go.
    Held,
    /// The connection was cut.
    Cut,
    /// What the peer says comes later, or at once again.
    Delayed,
}

/// See `Command::BumpTransaction`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bumped {
    /// The new transaction.
    pub txid: Txid,
    /// What it pays.
    pub fee: Amount,
    /// How it helps.
    pub kind: BumpKind,
    /// What it replaces.
    pub replaces: Option<Txid>,
}

/// How a transaction was made to confirm sooner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BumpKind {
    /// By one in its place.
    Replacement,
    /// By a child that pays for it.
    Child,
    /// By a new version of a channel's claim or of its anchor's child.
    Claim,
}

/// What a close would cost and bring, at this instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosePlan {
    /// Which channel.
    pub channel: ChannelId,
    /// The block that it counts from.
    pub height: BlockHeight,
    /// By agreement; `None` where the peer is offline or the channel has failed.
    pub cooperative: Option<CloseEstimate>,
    /// By our commitment; `None` where only the peer can close.
    pub forced: Option<CloseEstimate>,
    /// HTLCs on their way.
    pub pending_htlcs: u32,
}

/// One way of closing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloseEstimate {
    /// What the transaction that closes costs.
    pub fee: Amount,
    /// How much of that is ours.
    pub own_fee: Amount,
    /// What the commitment's child and all claims cost besides.
    pub claim_fees: Amount,
    /// What comes to us, and when.
    pub outputs: Vec<PlannedOutput>,
}

/// One output of a close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedOutput {
    /// What it is.
    pub kind: PlannedKind,
    /// How much.
    pub amount: Amount,
    /// What claiming it costs.
    pub claim_fee: Amount,
    /// The first block that may hold a transaction of ours that spends it.
    pub spendable_at: BlockHeight,
    /// Of an HTLC.
    pub payment_hash: Option<PaymentHash>,
}

/// What an output of a close is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PlannedKind {
    /// Our share in a cooperative close.
    Closing,
    /// Our delayed balance.
    ToLocal,
    /// An HTLC of ours, which the peer may still fulfil.
    OfferedHtlc,
    /// An HTLC of the peer's whose preimage we know.
    ReceivedHtlc,
}

/// What the audit of one channel found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelAudit {
    /// Which channel.
    pub channel: ChannelId,
    /// Its place in the list.
    pub index: u64,
    /// Our commitment's id, signed by both.
    pub commitment_txid: Option<Txid>,
    /// Its number.
    pub commitment_number: CommitmentNumber,
    /// How many signatures of the peer's verified.
    pub signatures: u32,
    /// How many commitments of the peer's are revoked.
    pub revoked: u64,
    /// How many HTLCs each side has offered so far: the bounds of the archive's rows.
    pub offered: [u64; 2],
    /// Rows of ended HTLCs; the driver counts them.
    pub penalty_rows: u64,
    /// The funding output, with what it must hold.
    pub funding: Option<(OutPoint, TxOut)>,
    /// Whether it should be unspent as far as the node knows.
    pub expects_funding: bool,
    /// Where it stands; the driver asks the chain.
    pub funding_status: FundingStatus,
    /// What is wrong.
    pub problems: Vec<(AuditCheck, String)>,
}

/// What an audit checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuditCheck {
    /// The sums of our commitment.
    Balance,
    /// The peer's signatures.
    Signature,
    /// The peer's secrets.
    Secret,
    /// The archive's rows for penalties.
    Penalty,
    /// The funding output on the chain.
    Funding,
}

/// Where a funding output stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FundingStatus {
    /// In a block, and unspent.
    Unspent,
    /// Unspent, and in no block yet.
    Unconfirmed,
    /// Spent, or never seen.
    Missing,
    /// Nobody could be asked.
    Unknown,
}
