//! Why a command or query was refused: the caller's fault or a state it has to wait for. Nothing was changed.

use crate::units::{ChannelId, Msat, NodeId, SessionId};

/// One variant for each rule. `reason` names it in the published list; `rpc` gives it a gRPC code by `kind`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// An argument is out of its range or cannot be read.
    #[error("{field}: {description}")]
    InvalidArgument {
        /// The field's name as in the request.
        field: &'static str,
        /// What is wrong with it.
        description: String,
    },
    /// The address belongs to another network.
    #[error("{field}: belongs to another network")]
    WrongNetwork {
        /// The field's name as in the request.
        field: &'static str,
    },
    /// The payment request cannot be read, or asks for what we do not know.
    #[error("payment request: {description}")]
    InvalidPaymentRequest {
        /// What is wrong with it.
        description: String,
    },
    /// There is no such channel.
    #[error("no channel {0}")]
    ChannelNotFound(ChannelId),
    /// The peer is not known.
    #[error("no peer {0}")]
    PeerNotFound(NodeId),
    /// There is no such invoice.
    #[error("no invoice with this payment hash")]
    InvoiceNotFound,
    /// There is no such payment.
    #[error("no payment with this payment hash")]
    PaymentNotFound,
    /// There is no such session, or it is closed.
    #[error("no open stream {0}")]
    StreamNotFound(SessionId),
    /// There is no such transaction in the wallet.
    #[error("no such transaction in the wallet")]
    TransactionNotFound,
    /// The same `request_id` came with another body.
    #[error("request_id was used for another request")]
    IdempotencyMismatch,
    /// There is an invoice for this preimage.
    #[error("an invoice with this payment hash exists")]
    InvoiceExists,
    /// The invoice was paid by us.
    #[error("this invoice is paid")]
    AlreadyPaid,
    /// The invoice is being paid by us.
    #[error("a payment of this invoice is in flight")]
    PaymentInFlight,
    /// The stream is open at another client.
    #[error("stream {0} is open at another client")]
    StreamInUse(SessionId),
    /// The peer is not connected.
    #[error("peer {0} is not connected")]
    PeerOffline(NodeId),
    /// Our view of the chain is behind.
    #[error("the chain is not synced: {height} of {target} blocks")]
    ChainNotSynced {
        /// Where we are.
        height: u32,
        /// Where the backend is.
        target: u32,
    },
    /// The channel is in a state in which this cannot be done.
    #[error("{description}")]
    ChannelNotUsable {
        /// Which, and what about it: a whole sentence.
        description: String,
    },
    /// The peer has channels with us; disconnecting needs `force`.
    #[error("peer {0} has channels with this node")]
    PeerHasChannels(NodeId),
    /// The invoice's expiry is over.
    #[error("the invoice expired")]
    InvoiceExpired,
    /// The invoice is settled, cancelled or expired.
    #[error("the invoice is not open")]
    InvoiceNotOpen,
    /// No payment of the invoice is held.
    #[error("no payment of this invoice is held")]
    InvoiceNotAccepted,
    /// Only on development chains.
    #[error("only on a development network")]
    NotDevelopmentNetwork,
    /// No copy was kept before.
    #[error("no old state was kept for this channel")]
    NoStateKept,
    /// We cannot pay ourselves.
    #[error("the destination is this node")]
    SelfPayment,
    /// No channel of ours leads to the destination.
    #[error("no channel to {0}")]
    NoRoute(NodeId),
    /// The peer does not speak our extension for transfers.
    #[error("the peer does not know netted transfers")]
    TransfersNotNegotiated,
    /// The peer refused to open the channel.
    #[error("the peer refused: {message}")]
    PeerRefused {
        /// Its words, cleaned of what does not print.
        message: String,
    },
    /// The transaction is confirmed or not ours to replace.
    #[error("the transaction cannot be replaced")]
    NotReplaceable,
    /// The wallet does not hold enough.
    #[error("{needed_sat} sat needed, {available_sat} sat spendable")]
    InsufficientFunds {
        /// What is needed with the fee, in satoshi.
        needed_sat: u64,
        /// What may be spent, in satoshi: the reserve is not in it.
        available_sat: u64,
    },
    /// The fee would be above what the caller allows.
    #[error("a fee of {needed_sat} sat is needed, at most {limit_sat} sat may be paid")]
    FeeAboveBudget {
        /// What it would cost, in satoshi.
        needed_sat: u64,
        /// What it may cost, in satoshi.
        limit_sat: u64,
    },
    /// The channel does not hold enough on our side.
    #[error("{needed} needed, {available} available")]
    InsufficientBalance {
        /// What is needed.
        needed: Msat,
        /// What may be sent now.
        available: Msat,
    },
    /// The channel holds as many HTLCs as it may.
    #[error("the channel's HTLC slots are used up")]
    SlotsExhausted,
    /// More HTLCs below the dust limit than may be at risk.
    #[error("the channel's dust exposure is used up")]
    DustExposureReached,
    /// More value in flight than the peer takes.
    #[error("the channel's limit on value in flight is reached")]
    InFlightLimitReached,
    /// The amount is below what the peer takes.
    #[error("{amount} is below the peer's minimum of {minimum}")]
    BelowMinimum {
        /// What was asked.
        amount: Msat,
        /// What the peer takes at least.
        minimum: Msat,
    },
    /// Too many sessions on the channel.
    #[error("too many open streams on the channel")]
    TooManyStreams,
    /// The node's queue is full; try again.
    #[error("too many requests")]
    TooManyRequests,
    /// The peer could not be reached; try again.
    #[error("peer {node_id} cannot be reached: {description}")]
    PeerUnreachable {
        /// Who.
        node_id: NodeId,
        /// What went wrong.
        description: String,
    },
    /// The chain's backend does not answer; try again.
    #[error("the chain backend does not answer: {description}")]
    ChainUnavailable {
        /// What went wrong.
        description: String,
    },
    /// The daemon starts; try again.
    #[error("the daemon starts")]
    Starting,
    /// The daemon stops.
    #[error("the daemon stops")]
    ShuttingDown,
    /// The connection went away before the work was done; nothing was changed.
    #[error("the connection to {0} was lost")]
    ConnectionLost(NodeId),
}

/// Whose turn it is after a refusal: decides the gRPC code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// INVALID_ARGUMENT
    Malformed,
    /// NOT_FOUND
    NotFound,
    /// ALREADY_EXISTS
    AlreadyExists,
    /// FAILED_PRECONDITION
    Precondition,
    /// RESOURCE_EXHAUSTED
    Exhausted,
    /// UNAVAILABLE: worth trying again
    Unavailable,
    /// ABORTED: lost a race
    Aborted,
}

impl Refusal {
    /// The reason's name in the published enum (`REASON_` is the rpc's prefix).
    pub fn reason(&self) -> &'static str {
        self.classify().1
    }

    /// What kind of refusal it is.
    pub fn kind(&self) -> RefusalKind {
        self.classify().0
    }

    fn classify(&self) -> (RefusalKind, &'static str) {
        use RefusalKind::{Aborted, AlreadyExists, Exhausted, Malformed, NotFound, Precondition, Unavailable};
        match self {
            Refusal::InvalidArgument { .. } => (Malformed, "INVALID_ARGUMENT"),
            Refusal::WrongNetwork { .. } => (Malformed, "WRONG_NETWORK"),
            Refusal::InvalidPaymentRequest { .. } => (Malformed, "INVALID_PAYMENT_REQUEST"),
            Refusal::ChannelNotFound(_) => (NotFound, "CHANNEL_NOT_FOUND"),
            Refusal::PeerNotFound(_) => (NotFound, "PEER_NOT_FOUND"),
            Refusal::InvoiceNotFound => (NotFound, "INVOICE_NOT_FOUND"),
            Refusal::PaymentNotFound => (NotFound, "PAYMENT_NOT_FOUND"),
            Refusal::StreamNotFound(_) => (NotFound, "STREAM_NOT_FOUND"),
            Refusal::TransactionNotFound => (NotFound, "TRANSACTION_NOT_FOUND"),
            Refusal::IdempotencyMismatch => (AlreadyExists, "IDEMPOTENCY_MISMATCH"),
            Refusal::InvoiceExists => (AlreadyExists, "INVOICE_EXISTS"),
            Refusal::AlreadyPaid => (AlreadyExists, "ALREADY_PAID"),
            Refusal::PaymentInFlight => (AlreadyExists, "PAYMENT_IN_FLIGHT"),
            Refusal::StreamInUse(_) => (AlreadyExists, "STREAM_IN_USE"),
            Refusal::PeerOffline(_) => (Precondition, "PEER_OFFLINE"),
            Refusal::ChainNotSynced { .. } => (Precondition, "CHAIN_NOT_SYNCED"),
            Refusal::ChannelNotUsable { .. } => (Precondition, "CHANNEL_NOT_USABLE"),
            Refusal::PeerHasChannels(_) => (Precondition, "PEER_HAS_CHANNELS"),
            Refusal::InvoiceExpired => (Precondition, "INVOICE_EXPIRED"),
            Refusal::InvoiceNotOpen => (Precondition, "INVOICE_NOT_OPEN"),
            Refusal::InvoiceNotAccepted => (Precondition, "INVOICE_NOT_ACCEPTED"),
            Refusal::NotDevelopmentNetwork => (Precondition, "NOT_DEVELOPMENT_NETWORK"),
            Refusal::NoStateKept => (Precondition, "NO_STATE_KEPT"),
            Refusal::SelfPayment => (Precondition, "SELF_PAYMENT"),
            Refusal::NoRoute(_) => (Precondition, "NO_ROUTE"),
            Refusal::TransfersNotNegotiated => (Precondition, "TRANSFERS_NOT_NEGOTIATED"),
            Refusal::PeerRefused { .. } => (Precondition, "PEER_REFUSED"),
            Refusal::NotReplaceable => (Precondition, "NOT_REPLACEABLE"),
            Refusal::InsufficientFunds { .. } => (Exhausted, "INSUFFICIENT_FUNDS"),
            Refusal::FeeAboveBudget { .. } => (Exhausted, "FEE_ABOVE_BUDGET"),
            Refusal::InsufficientBalance { .. } => (Exhausted, "INSUFFICIENT_BALANCE"),
            Refusal::SlotsExhausted => (Exhausted, "SLOTS_EXHAUSTED"),
            Refusal::DustExposureReached => (Exhausted, "DUST_EXPOSURE_REACHED"),
            Refusal::InFlightLimitReached => (Exhausted, "IN_FLIGHT_LIMIT_REACHED"),
            Refusal::BelowMinimum { .. } => (Precondition, "BELOW_MINIMUM"),
            Refusal::TooManyStreams => (Exhausted, "TOO_MANY_STREAMS"),
            Refusal::TooManyRequests => (Exhausted, "TOO_MANY_REQUESTS"),
            Refusal::PeerUnreachable { .. } => (Unavailable, "PEER_UNREACHABLE"),
            Refusal::ChainUnavailable { .. } => (Unavailable, "CHAIN_UNAVAILABLE"),
            Refusal::Starting => (Unavailable, "STARTING"),
            Refusal::ShuttingDown => (Unavailable, "SHUTTING_DOWN"),
            Refusal::ConnectionLost(_) => (Aborted, "CONNECTION_LOST"),
        }
    }
}
