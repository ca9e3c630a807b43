//! What the commitment's rules refuse to us, and what they forbid the peer: one variant a rule.

use bitcoin::Amount;
use serde::{Deserialize, Serialize};

use crate::units::{FeeratePerKw, HtlcId, Msat};

/// Our caller asked for an update that the commitment's rules do not allow; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum LimitRefusal {
    /// An HTLC or transfer of nothing.
    #[error("the amount is zero")]
    AmountZero,
    /// Below what the peer takes.
    #[error("{amount} is below {minimum}, the least HTLC that the peer takes")]
    BelowHtlcMinimum {
        /// What was asked for.
        amount: Msat,
        /// The peer's `htlc_minimum_msat`.
        minimum: Msat,
    },
    /// `cltv_expiry` would be a time in seconds.
    #[error("the expiry is not a block height")]
    ExpiryIsATime,
    /// The peer's `max_accepted_htlcs`.
    #[error("the peer takes no more than {limit} HTLCs at once")]
    TooManyHtlcs {
        /// The peer's limit.
        limit: u16,
    },
    /// The peer's `max_htlc_value_in_flight_msat`.
    #[error("the peer takes no more than {limit} in flight")]
    TooMuchInFlight {
        /// The peer's limit.
        limit: Msat,
    },
    /// Our balance after it would be below the reserve, or could not pay fee, fee buffer and anchors above it.
    #[error("{available} can be sent now, {needed} is needed")]
    InsufficientBalance {
        /// What was asked for.
        needed: Msat,
        /// The most that can be sent now.
        available: Msat,
    },
    /// The peer pays the fees and could not pay for one more output.
    #[error("the peer, which pays the fees, could not pay for this HTLC's output")]
    OpenerCannotAffordFee,
    /// Too much would be lost to fees if the channel closed.
    #[error("HTLCs below the dust limit would exceed {limit}")]
    DustExposure {
        /// Our limit.
        limit: Msat,
    },
    /// No HTLC from the peer has this id.
    #[error("no incoming HTLC {id}")]
    UnknownHtlc {
        /// The id.
        id: HtlcId,
    },
    /// BOLT 2: only an HTLC that is irrevocable on both sides may be removed.
    #[error("incoming HTLC {id} is not committed yet")]
    HtlcNotCommitted {
        /// The id.
        id: HtlcId,
    },
    /// It is being removed.
    #[error("incoming HTLC {id} is being removed already")]
    AlreadyRemoved {
        /// The id.
        id: HtlcId,
    },
    /// The preimage does not hash to the payment hash.
    #[error("not the preimage of incoming HTLC {id}")]
    WrongPreimage {
        /// The id.
        id: HtlcId,
    },
    /// BOLT 2: `failure_code` of `update_fail_malformed_htlc` has the BADONION bit.
    #[error("failure code {code:#x} lacks the BADONION bit")]
    NotBadOnion {
        /// The code.
        code: u16,
    },
    /// Longer than a message holds.
    #[error("the failure onion is longer than a message")]
    FailureTooLong,
    /// Only the opener sets the feerate.
    #[error("the peer opened the channel and sets its feerate")]
    NotOpener,
    /// We could not pay the commitment's fee at that rate.
    #[error("our balance does not pay for {feerate} sat/kW")]
    FeerateUnaffordable {
        /// What was asked for.
        feerate: FeeratePerKw,
    },
    /// The transfer's id, sequence or window: see `TransferCloseReason`.
    #[error("the session does not allow it: {0:?}")]
    Session(crate::wire::TransferCloseReason),
    /// Too many transfers are on their way; a round later there is room again.
    #[error("{limit} transfers are on their way")]
    TooManyTransfers {
        /// The limit.
        limit: usize,
    },
    /// All sessions of the direction are taken.
    #[error("{limit} sessions are open")]
    TooManySessions {
        /// The limit.
        limit: usize,
    },
}

/// The peer sent an update that BOLT 2 or TRANSFER.md forbid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum LimitViolation {
    /// Ids count up by one.
    #[error("HTLC id {got} does not follow: expected {expected}")]
    HtlcId {
        /// Which would follow.
        expected: HtlcId,
        /// Which came.
        got: HtlcId,
    },
    /// An HTLC of nothing.
    #[error("the HTLC's amount is zero")]
    AmountZero,
    /// Below our `htlc_minimum_msat`.
    #[error("the HTLC is below our minimum of {minimum}")]
    BelowHtlcMinimum {
        /// Our minimum.
        minimum: Msat,
    },
    /// `cltv_expiry` is a time in seconds.
    #[error("the HTLC's expiry is not a block height")]
    ExpiryIsATime,
    /// Above our `max_accepted_htlcs`.
    #[error("more than {limit} HTLCs")]
    TooManyHtlcs {
        /// Our limit.
        limit: u16,
    },
    /// Above our `max_htlc_value_in_flight_msat`.
    #[error("more than {limit} in flight")]
    TooMuchInFlight {
        /// Our limit.
        limit: Msat,
    },
    /// The sender's balance after it is below its reserve.
    #[error("the sender's balance would be below its reserve of {reserve}")]
    BelowChannelReserve {
        /// The sender's reserve.
        reserve: Amount,
    },
    /// The sender opened the channel and cannot pay fee and anchors above its reserve.
    #[error("the sender cannot pay the commitment's fee above its reserve")]
    CannotAffordFee,
    /// An answer to an HTLC that we did not offer.
    #[error("no outgoing HTLC {id}")]
    UnknownHtlc {
        /// The id.
        id: HtlcId,
    },
    /// An answer to an HTLC that is not committed on both sides.
    #[error("outgoing HTLC {id} is not committed yet")]
    HtlcNotCommitted {
        /// The id.
        id: HtlcId,
    },
    /// A second answer.
    #[error("outgoing HTLC {id} is removed already")]
    AlreadyRemoved {
        /// The id.
        id: HtlcId,
    },
    /// The preimage does not hash to the payment hash.
    #[error("not the preimage of outgoing HTLC {id}")]
    WrongPreimage {
        /// The id.
        id: HtlcId,
    },
    /// `update_fail_malformed_htlc` without BADONION.
    #[error("failure code {code:#x} lacks the BADONION bit")]
    NotBadOnion {
        /// The code.
        code: u16,
    },
    /// `update_fee` from the side that does not pay.
    #[error("update_fee from the side that does not pay the fee")]
    FeeFromAccepter,
    /// The opener could not pay its own feerate.
    #[error("the opener cannot pay {feerate} sat/kW above its reserve")]
    FeerateUnaffordable {
        /// What it sent.
        feerate: FeeratePerKw,
    },
    /// Transfer ids count up by one.
    #[error("transfer id {got} does not follow: expected {expected}")]
    TransferId {
        /// Which would follow.
        expected: u64,
        /// Which came.
        got: u64,
    },
    /// Too many transfers on their way.
    #[error("more than {limit} transfers on their way")]
    TooManyTransfers {
        /// The limit.
        limit: usize,
    },
    /// A transfer of nothing or of more than the channel holds.
    #[error("a transfer of {amount}")]
    TransferAmount {
        /// What came.
        amount: Msat,
    },
}
