//! Why a channel says no: to our caller (refused), to the peer (violated), to itself (failed). One variant a rule.

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Amount, Transaction, Txid};
use serde::{Deserialize, Serialize};

use crate::commitment::{LimitRefusal, LimitViolation, Side};
use crate::units::{BlockHeight, CltvDelta, FeeratePerKw, HtlcId, Msat};

/// What [`super::Channel::decide`] fails with. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Our caller's fault.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The peer's fault: to be answered by the input [`super::Input::Violated`].
    #[error(transparent)]
    Violated(#[from] Violation),
}

impl From<LimitRefusal> for Error {
    fn from(refusal: LimitRefusal) -> Error {
        Error::Refused(Refusal::Limit(refusal))
    }
}

impl From<LimitViolation> for Error {
    fn from(violation: LimitViolation) -> Error {
        Error::Violated(Violation::Limit(violation))
    }
}

/// Our caller asked for what is not possible now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// A rule of the commitment.
    #[error(transparent)]
    Limit(#[from] LimitRefusal),
    /// The funding transaction is not deep enough, or a side is not ready.
    #[error("the channel is not ready yet")]
    NotReady,
    /// The peer is offline, or the channel not reestablished.
    #[error("the peer is not connected")]
    NotConnected,
    /// A mutual close is under way.
    #[error("the channel is being closed")]
    Closing,
    /// The channel has failed or is closed.
    #[error("the channel is closed")]
    Closed,
    /// The peer proved that our data is old: nothing may be signed or broadcast.
    #[error("our data of this channel is old: the peer has to close it")]
    Stale,
    /// The opener's feerate is out of range: we offer nothing until it is back.
    #[error("the channel's feerate of {feerate} sat/kW is outside what we accept")]
    FeerateOutOfRange {
        /// What the opener set.
        feerate: FeeratePerKw,
    },
    /// The peer knows no netted transfers.
    #[error("the peer knows no netted transfers")]
    TransfersUnsupported,
    /// No such session, or it is closed.
    #[error("no such session")]
    UnknownSession,
    /// The command belongs to another state of opening.
    #[error("not at this point of opening")]
    NotOpening,
    /// Outside the policy's range.
    #[error("funding of {funding}: allowed are {min} to {max}")]
    FundingOutOfRange {
        /// What was asked for.
        funding: Amount,
        /// The least.
        min: Amount,
        /// The most.
        max: Amount,
    },
    /// More is pushed than is there, or what is left does not pay fee and reserve.
    #[error("{push} pushed leave not enough for fee and reserve")]
    PushTooLarge {
        /// What was asked for.
        push: Msat,
    },
    /// The peer does not know anchors.
    #[error("the peer does not know anchors")]
    AnchorsUnsupported,
    /// The script is no form that BOLT 2 allows.
    #[error("not a script that a mutual close may pay to")]
    ShutdownScript,
    /// Another script was said beforehand.
    #[error("another shutdown script was fixed when the channel was opened")]
    UpfrontShutdownScript,
    /// `shutdown` was sent, or is about to be.
    #[error("the channel is being closed already")]
    AlreadyClosing,
}

/// What BOLT 1 lets us do about a violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response {
    /// `warning`, and the connection is closed: after a reconnect both sides start from what is signed.
    Warn,
    /// `error`, and the channel is closed by our commitment.
    FailChannel,
}

/// The peer broke a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Violation {
    /// A rule of the commitment.
    #[error(transparent)]
    Limit(#[from] LimitViolation),
    /// A message that does not belong to this state.
    #[error("message {message_type} is not expected now")]
    Unexpected {
        /// Its type.
        message_type: u16,
    },
    /// A message before `channel_reestablish`.
    #[error("message {message_type} before channel_reestablish")]
    BeforeReestablish {
        /// Its type.
        message_type: u16,
    },
    /// `open_channel` for another chain.
    #[error("another chain")]
    ChainHash,
    /// Both sides know dual funding: `open_channel` must not come.
    #[error("open_channel with dual funding negotiated")]
    DualFund,
    /// `funding_satoshis` outside what we accept.
    #[error("funding of {funding}: accepted are {min} to {max}")]
    FundingOutOfRange {
        /// What was proposed.
        funding: Amount,
        /// The least.
        min: Amount,
        /// The most.
        max: Amount,
    },
    /// `push_msat` above the funding.
    #[error("{push} pushed out of {funding}")]
    PushTooLarge {
        /// What was proposed.
        push: Msat,
        /// The funding.
        funding: Amount,
    },
    /// `to_self_delay` above what we accept.
    #[error("to_self_delay of {delay} blocks: at most {max}")]
    ToSelfDelay {
        /// What was asked for.
        delay: CltvDelta,
        /// The most.
        max: CltvDelta,
    },
    /// `max_accepted_htlcs` above 483 or too small to be of use.
    #[error("max_accepted_htlcs of {count}")]
    MaxAcceptedHtlcs {
        /// What was announced.
        count: u16,
    },
    /// `max_htlc_value_in_flight_msat` too small to be of use.
    #[error("max_htlc_value_in_flight_msat of {value} is too small")]
    MaxInFlight {
        /// What was announced.
        value: Msat,
    },
    /// `htlc_minimum_msat` too large to be of use.
    #[error("htlc_minimum_msat of {minimum} is too large")]
    HtlcMinimum {
        /// What was announced.
        minimum: Msat,
    },
    /// `dust_limit_satoshis` outside what we accept.
    #[error("dust limit of {dust_limit}")]
    DustLimit {
        /// What was announced.
        dust_limit: Amount,
    },
    /// `dust_limit_satoshis` above `channel_reserve_satoshis`, of one side or across.
    #[error("dust limit of {dust_limit} above a reserve of {reserve}")]
    DustAboveReserve {
        /// The dust limit.
        dust_limit: Amount,
        /// The reserve.
        reserve: Amount,
    },
    /// `channel_reserve_satoshis` above what we keep.
    #[error("reserve of {reserve} is too large")]
    Reserve {
        /// What was asked for.
        reserve: Amount,
    },
    /// `feerate_per_kw` of `open_channel` or, without anchors, of `update_fee` outside what we accept.
    #[error("feerate of {feerate} sat/kW: accepted are {min} to {max}")]
    Feerate {
        /// What was proposed.
        feerate: FeeratePerKw,
        /// The least.
        min: FeeratePerKw,
        /// The most.
        max: FeeratePerKw,
    },
    /// The opener cannot pay the first commitment.
    #[error("the opener cannot pay the first commitment's fee")]
    FeeUnaffordable,
    /// Neither balance is above the reserve.
    #[error("no balance of the first commitment is above the reserve")]
    BelowReserve,
    /// No `channel_type`, or one that we do not know.
    #[error("channel_type is missing or not supported")]
    ChannelType,
    /// `channel_type` of `accept_channel` is not that of `open_channel`.
    #[error("channel_type is not the one that was proposed")]
    ChannelTypeChanged,
    /// With `option_upfront_shutdown_script` the record must be there.
    #[error("upfront_shutdown_script is missing")]
    UpfrontShutdownMissing,
    /// `minimum_depth` above what we accept, or 0.
    #[error("minimum_depth of {depth}")]
    MinimumDepth {
        /// What was asked for.
        depth: u32,
    },
    /// A key of a point or basepoint that repeats ours: the funding output would not be 2-of-2.
    #[error("the peer repeats our funding key")]
    FundingKey,
    /// The signature of a commitment does not verify.
    #[error("the signature does not verify for commitment {txid}: {transaction}")]
    CommitmentSignature {
        /// The transaction we checked it against.
        txid: Txid,
        /// The same, raw and hex (BOLT 1).
        transaction: String,
    },
    /// Not one HTLC signature for each HTLC output.
    #[error("{found} HTLC signatures, expected {expected}")]
    HtlcSignatureCount {
        /// How many outputs.
        expected: usize,
        /// How many came.
        found: usize,
    },
    /// An HTLC signature does not verify.
    #[error("the signature of HTLC output {0} does not verify")]
    HtlcSignature(usize),
    /// `revoke_and_ack` without an unrevoked `commitment_signed`.
    #[error("revoke_and_ack with nothing to revoke")]
    UnexpectedRevocation,
    /// The secret is not that of the revoked commitment.
    #[error("the revealed secret is not that of commitment {number}")]
    RevocationSecret {
        /// The number of the commitment.
        number: u64,
    },
    /// The secret does not derive the earlier ones.
    #[error("the revealed secrets are not from one seed")]
    RevocationSeed,
    /// An update before both sides were ready.
    #[error("an update before the channel is ready")]
    NotReady,
    /// A new HTLC or transfer after the peer's own `shutdown`.
    #[error("an addition after shutdown")]
    AfterShutdown,
    /// Any update when nothing is left and closing has begun.
    #[error("an update while the closing fee is negotiated")]
    UpdateWhileClosing,
    /// `update_transfer` without the feature.
    #[error("transfers were not negotiated")]
    TransfersNotNegotiated,
    /// `shutdown` before the funding is signed.
    #[error("shutdown before the funding is signed")]
    ShutdownTooEarly,
    /// A script that a mutual close may not pay to.
    #[error("not a script that a mutual close may pay to")]
    ShutdownScript,
    /// Another script than said beforehand, or a second, different `shutdown`.
    #[error("not the shutdown script that was fixed before")]
    ShutdownScriptChanged,
    /// `shutdown` with unsigned updates of the sender's.
    #[error("shutdown with updates pending")]
    ShutdownWithPending,
    /// `closing_signed` while HTLCs or updates are left.
    #[error("closing_signed too early")]
    ClosingTooEarly,
    /// The fee is more than the opener has.
    #[error("a closing fee of {fee}")]
    ClosingFee {
        /// What was proposed.
        fee: Amount,
    },
    /// No overlap of fee ranges, so far.
    #[error("the closing fee ranges do not overlap")]
    ClosingFeeRange,
    /// The fee moved not between the last two, or out of the overlap.
    #[error("a closing fee of {fee} that does not converge")]
    ClosingFeeNotBetween {
        /// What was proposed.
        fee: Amount,
    },
    /// The signature fits no form of the closing transaction.
    #[error("the signature does not verify for closing transaction {txid}: {transaction}")]
    ClosingSignature {
        /// The transaction we checked it against.
        txid: Txid,
        /// The same, raw and hex (BOLT 1).
        transaction: String,
    },
    /// `next_commitment_number` is 0.
    #[error("next_commitment_number is 0")]
    ReestablishZero,
    /// `next_commitment_number` or `next_revocation_number` fits no state that we could be in, and proves nothing.
    #[error("channel_reestablish with numbers {commitment} and {revocation}")]
    ReestablishNumber {
        /// `next_commitment_number`
        commitment: u64,
        /// `next_revocation_number`
        revocation: u64,
    },
    /// `your_last_per_commitment_secret` is not what we revealed.
    #[error("channel_reestablish with a secret that is not ours")]
    ReestablishSecret,
    /// A receipt or session message that makes no sense is ignored; this is the wrong channel id.
    #[error("the message names another channel")]
    ChannelId,
}

impl Violation {
    pub(super) fn commitment_signature(transaction: &Transaction) -> Violation {
        Violation::CommitmentSignature { txid: transaction.compute_txid(), transaction: shown(transaction) }
    }

    pub(super) fn closing_signature(transaction: &Transaction) -> Violation {
        Violation::ClosingSignature { txid: transaction.compute_txid(), transaction: shown(transaction) }
    }

    /// What is done about it. Whatever a reconnect mends, and whatever costs nobody money, is worth a warning only.
    pub const fn response(&self) -> Response {
        match self {
            Violation::BeforeReestablish { .. }
            | Violation::ShutdownScript
            | Violation::ShutdownScriptChanged
            | Violation::ShutdownWithPending
            | Violation::ClosingTooEarly
            | Violation::ClosingFee { .. }
            | Violation::UpdateWhileClosing
            | Violation::ClosingFeeRange
            | Violation::TransfersNotNegotiated
            | Violation::ChannelId
            | Violation::Unexpected { .. } => Response::Warn,
            _ => Response::FailChannel,
        }
    }
}

/// The largest transaction that is shown: hex is twice as long, and a message ends at 65,535 bytes. A commitment may hold 966
/// HTLCs, and then it is larger.
const MOST_SHOWN: usize = 32_000;

/// Raw and hex, as BOLT 1 wants the transaction whose signature did not verify.
fn shown(transaction: &Transaction) -> String {
    match transaction.total_size() {
        0..=MOST_SHOWN => serialize_hex(transaction),
        size => format!("{size} bytes, too many to show"),
    }
}

/// Why a channel ended in a failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Failure {
    /// The peer broke a rule.
    #[error("the peer broke a rule: {0}")]
    Violation(Violation),
    /// The peer sent `error`.
    #[error("the peer failed the channel: {text}")]
    PeerError {
        /// Its text, made printable.
        text: String,
    },
    /// Our user asked for it.
    #[error("closed by the operator")]
    ByUser,
    /// An HTLC reached its deadline.
    #[error("HTLC {id} of {adder:?} reached its deadline at height {height}")]
    HtlcDeadline {
        /// Who offered it.
        adder: Side,
        /// Which.
        id: HtlcId,
        /// When.
        height: BlockHeight,
    },
    /// The closing fees that the two sides accept did not meet for too long.
    #[error("no agreement on a mutual close")]
    NoClosingAgreement,
    /// We sent something that the node could not deliver in time (no `revoke_and_ack`, no `closing_signed`).
    #[error("the peer does not answer")]
    NoAnswer,
    /// Opening failed on our side.
    #[error("opening failed: {0}")]
    Opening(Refusal),
    /// A reorganisation undid a close that was final: its payments are booked, so the channel cannot go on.
    #[error("a reorganisation undid a close that was buried")]
    CloseUndone,
}

impl Failure {
    /// Whether the peer said it itself: it need not be told.
    pub(super) const fn is_told(&self) -> bool {
        matches!(self, Failure::PeerError { .. })
    }

    /// Whether the fault is the peer's.
    pub const fn by_peer(&self) -> bool {
        matches!(
            self,
            Failure::Violation(_) | Failure::PeerError { .. } | Failure::NoAnswer | Failure::NoClosingAgreement
        )
    }
}
