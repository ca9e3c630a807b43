//! What we pay: a payment, the parts that it is tried in, and its one final outcome.

use serde::{Deserialize, Serialize};

use super::blinded::BlindedPaymentPath;
use super::forward::HtlcPlace;
use super::invoice::HintHop;
use super::parcel::Proof;
use crate::graph::Route;
use crate::onion::{HoldTime, SharedSecret};
use crate::units::{ChannelId, HtlcId, Msat, NodeId, PaymentHash, Preimage, SessionId, ShortChannelId, UnixTime};

/// Blocks that may be found while an HTLC is under way to the payee: added to the least that it wants to be left.
pub const BLOCKS_IN_FLIGHT: u32 = 3;
/// Blocks that a payment by key leaves its payee: nobody says what it wants, and LDK takes nothing below 42 (its
/// `MIN_FINAL_CLTV_EXPIRY_DELTA`).
pub const KEYSEND_FINAL_CLTV_DELTA: u16 = 42;
/// Attempts of one payment, parts among them: bounds what is kept of it.
pub const MAX_ATTEMPTS: usize = 128;
/// Parts of one payment that a caller may allow.
pub const MAX_PARTS: u32 = 64;
/// Parts of one payment where the caller does not say.
pub const DEFAULT_PARTS: u32 = 16;
/// How long a payment is tried where the caller does not say, in seconds.
pub const DEFAULT_TIMEOUT_SECONDS: u32 = 60;
/// Blocks above the present height at which a part may expire, where the caller does not say (and what most nodes take).
pub const DEFAULT_MAX_CLTV_DELTA: u32 = 2_016;
/// The least fee that is allowed where the caller does not say: small payments may cost more than a hundredth.
const LEAST_MAX_FEE: Msat = Msat::new(10_000);

/// What a payment may cost where the caller does not say: a hundredth of it, or 10 sat where that is more.
pub fn default_max_fee(amount: Msat) -> Msat {
    LEAST_MAX_FEE.max(Msat::new(amount.msat() / 100))
}

/// A payment of ours, from the moment it is journaled. One final outcome, never two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// Counts up from 1 in the order in which payments were made.
    pub index: u64,
    /// The hash that the HTLCs carry.
    pub payment_hash: PaymentHash,
    /// Who is paid.
    pub destination: NodeId,
    /// What arrives there.
    pub amount: Msat,
    /// What made it: an invoice or a key.
    pub kind: PaymentKind,
    /// When it was journaled.
    pub created: UnixTime,
    /// Where it stands.
    pub status: PaymentStatus,
    /// Whether no more parts are sent, and why; what is under way is waited for.
    pub given_up: Option<FailureReason>,
    /// What is needed to try again.
    pub terms: Terms,
    /// All attempts, the oldest first.
    pub attempts: Vec<Attempt>,
}

/// What a payment pays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PaymentKind {
    /// A BOLT 11 invoice, as it was given.
    Invoice {
        /// The payment request's text.
        payment_request: String,
    },
    /// A key, by a preimage that travels in the onion.
    Keysend,
    /// A batch of a stream, likewise.
    Stream {
        /// The session.
        session: SessionId,
    },
    /// Nothing: the HTLC asks for a receipt, and cannot be taken. It is in no list and no log.
    ReceiptRequest {
        /// The session.
        session: SessionId,
    },
    /// A BOLT 11 invoice with blinded paths; the payee is whoever they end at.
    Blinded {
        /// The payment request's text.
        payment_request: String,
        /// The paths, as far as this node can use them.
        paths: Vec<BlindedPaymentPath>,
    },
}

/// What the caller allows, and what the payee wants to see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// What shows the payee that the payment is meant for it.
    pub proof: Proof,
    /// Blocks that must be left at the payee, with what may be found meanwhile.
    pub final_cltv_delta: u32,
    /// Random blocks on top, where there are hops between: nobody on the way shall know how far the payee is (BOLT 4).
    pub shadow: u32,
    /// Ways to the payee over private channels.
    pub hints: Vec<Vec<HintHop>>,
    /// The most that all parts together may cost.
    pub max_fee: Msat,
    /// The most blocks above the present height at which a part may expire.
    pub max_cltv_delta: u32,
    /// The most parts at a time.
    pub max_parts: u32,
    /// No part is sent from then on.
    pub until: UnixTime,
    /// The channel of ours that must carry it, if one was asked for.
    pub channel: Option<ChannelId>,
}

/// The three answers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PaymentStatus {
    /// Not decided; it is decided at the latest when the last HTLC's deadline is buried.
    InFlight,
    /// The payee gave the preimage.
    Succeeded {
        /// The proof of payment.
        preimage: Preimage,
        /// When it was learned.
        at: UnixTime,
    },
    /// Failed for certain: nothing was paid and nothing can be any more.
    Failed {
        /// Why.
        reason: FailureReason,
        /// When that was certain.
        at: UnixTime,
    },
}

impl PaymentStatus {
    /// Whether the payee was paid.
    pub const fn is_success(&self) -> bool {
        matches!(self, PaymentStatus::Succeeded { .. })
    }

    /// Whether it will never change again.
    pub fn is_final(&self) -> bool {
        !matches!(self, PaymentStatus::InFlight)
    }
}

/// One HTLC along one route: a part of the payment, or all of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// The channel that carries the HTLC.
    pub channel: ChannelId,
    /// The HTLC's id on that channel.
    pub htlc_id: HtlcId,
    /// When it was added.
    pub started: UnixTime,
    /// The height at which it is decided at the latest.
    pub deadline_height: u32,
    /// What we share with each hop, to read a failure; empty when it is over.
    pub secrets: Vec<SharedSecret>,
    /// The way it takes.
    pub route: Route,
    /// What became of it.
    pub status: AttemptStatus,
    /// How long the hops say they held the HTLC, our peer first, as far as their attribution data vouches for it.
    pub hold_times: Vec<HoldTime>,
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttemptStatus {
    /// Under way.
    Pending,
    /// The payee took it.
    Fulfilled,
    /// Its HTLC is irrevocably gone, or timed out and buried on the chain.
    Failed {
        /// When that was certain.
        at: UnixTime,
        /// Why.
        failure: AttemptFailure,
    },
}

/// Why an attempt failed. Hops count from 0, our peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttemptFailure {
    /// The connection went, or the channel failed, before the HTLC was signed.
    NeverCommitted,
    /// A hop says so.
    Remote {
        /// Which.
        hop: u8,
        /// The failure code of BOLT 4.
        code: u16,
    },
    /// The failure could not be read.
    Unreadable {
        /// The hop at which it was spoilt, where the attribution data tells.
        hop: Option<u8>,
    },
    /// The HTLC timed out on the chain.
    TimedOutOnChain,
}

/// Why a payment failed for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureReason {
    /// The payee does not know the hash, or the amount or expiry is not what it wants
    /// (BOLT 4 `incorrect_or_unknown_payment_details`).
    UnknownPaymentDetails,
    /// The payee did not get all parts in time (BOLT 4 `mpp_timeout`).
    MppTimeout,
    /// The payee answered with another failure of BOLT 4: its code.
    Remote {
        /// The failure code of BOLT 4.
        code: u16,
    },
    /// The failure could not be read.
    UnreadableFailure,
    /// The channel that should carry it closed or refused before it was committed.
    ChannelUnavailable,
    /// The HTLC timed out on the chain.
    TimedOutOnChain,
    /// No way, or none that was not tried already, leads to the payee within the limits.
    NoRoute,
    /// The time that the caller gave is over.
    TimedOut,
    /// As many attempts as one payment may have have failed.
    AttemptsExhausted,
}

/// A change of a payment that goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PaymentChange {
    /// A part is over.
    AttemptEnded {
        /// Its HTLC.
        place: HtlcPlace,
        /// What became of it.
        status: AttemptStatus,
        /// What the hops say of how long they held it.
        hold_times: Vec<HoldTime>,
    },
    /// The payee was paid; other parts are still to be taken.
    Succeeded {
        /// The proof.
        preimage: Preimage,
        /// When it was learned.
        at: UnixTime,
    },
    /// No more parts are sent.
    GivenUp {
        /// Why.
        reason: FailureReason,
    },
    /// A hop told what a private channel of a hint wants now.
    HintChanged {
        /// The channel.
        short_channel_id: ShortChannelId,
        /// What it wants.
        hop: HintHop,
    },
}

/// What is to be done for a payment now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextStep {
    /// Nothing: all of it is under way, or it is decided.
    Wait,
    /// So much of it has to find a way.
    Send(Msat),
    /// No more is to be sent.
    GiveUp(FailureReason),
    /// Nothing is under way and nothing will be.
    Fail(FailureReason),
}

impl Payment {
    /// Whether it is one that its owner wants to see.
    pub const fn is_listed(&self) -> bool {
        !matches!(self.kind, PaymentKind::ReceiptRequest { .. })
    }

    /// The blinded paths to the payee; none where it is paid by its name.
    pub fn blinded_paths(&self) -> &[BlindedPaymentPath] {
        match &self.kind {
            PaymentKind::Blinded { paths, .. } => paths,
            _ => &[],
        }
    }

    /// The invoice that is paid.
    pub fn payment_request(&self) -> Option<&str> {
        match &self.kind {
            PaymentKind::Invoice { payment_request } | PaymentKind::Blinded { payment_request, .. } => {
                Some(payment_request)
            }
            _ => None,
        }
    }

    /// The parts that are under way.
    pub fn pending(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().filter(|attempt| attempt.is_pending())
    }

    /// The part that an HTLC under way belongs to.
    pub fn pending_attempt(&self, place: HtlcPlace) -> Option<&Attempt> {
        self.pending().find(|attempt| attempt.place() == place)
    }

    /// Whether a part is under way.
    pub fn is_under_way(&self) -> bool {
        self.pending().next().is_some()
    }

    /// What is not under way.
    pub fn remaining(&self) -> Msat {
        let under_way = self.pending().fold(0u64, |sum, part| sum.saturating_add(part.route.amount().msat()));
        self.amount.saturating_sub(Msat::new(under_way))
    }

    /// What is paid on top of the amount: what the parts cost that were taken or are under way.
    pub fn fee(&self) -> Msat {
        let counted = self.attempts.iter().filter(|part| !matches!(part.status, AttemptStatus::Failed { .. }));
        Msat::new(counted.fold(0u64, |sum, part| sum.saturating_add(part.route.fee().msat())))
    }

    /// While parts are under way: the height at which the last of them is decided.
    pub fn deadline_height(&self) -> Option<u32> {
        self.pending().map(|attempt| attempt.deadline_height).max()
    }

    /// What is to be done now.
    pub fn next_step(&self, now: UnixTime) -> NextStep {
        let is_under_way = self.is_under_way();
        let remaining = self.remaining();
        let stop = |reason| if is_under_way { NextStep::GiveUp(reason) } else { NextStep::Fail(reason) };
        match self.given_up {
            _ if self.status.is_final() => NextStep::Wait,
            Some(_) if is_under_way => NextStep::Wait,
            Some(reason) => NextStep::Fail(reason),
            None if remaining == Msat::ZERO => NextStep::Wait,
            None if now >= self.terms.until => stop(FailureReason::TimedOut),
            None if self.attempts.len() >= MAX_ATTEMPTS => stop(FailureReason::AttemptsExhausted),
            None => NextStep::Send(remaining),
        }
    }

    /// The only way in which a payment that goes on changes, but for attempts that are added.
    pub fn apply(&mut self, change: &PaymentChange) {
        match change {
            PaymentChange::AttemptEnded { place, status, hold_times } => {
                self.end_attempt(*place, *status, hold_times.clone());
            }
            PaymentChange::Succeeded { preimage, at } => {
                self.status = PaymentStatus::Succeeded { preimage: *preimage, at: *at };
            }
            PaymentChange::GivenUp { reason } => self.given_up = Some(*reason),
            PaymentChange::HintChanged { short_channel_id, hop } => {
                let hops = self.terms.hints.iter_mut().flatten();
                hops.filter(|known| known.short_channel_id == *short_channel_id).for_each(|known| *known = hop.clone());
            }
        }
    }

    /// A part under way is over.
    pub fn end_attempt(&mut self, place: HtlcPlace, status: AttemptStatus, hold_times: Vec<HoldTime>) {
        let mut pending = self.attempts.iter_mut().filter(|attempt| attempt.is_pending());
        if let Some(attempt) = pending.find(|attempt| attempt.place() == place) {
            attempt.status = status;
            attempt.secrets = Vec::new();
            attempt.hold_times = hold_times;
        }
    }
}

impl Attempt {
    /// Its HTLC.
    pub const fn place(&self) -> HtlcPlace {
        HtlcPlace { channel: self.channel, id: self.htlc_id }
    }

    /// Whether it is under way.
    pub const fn is_pending(&self) -> bool {
        matches!(self.status, AttemptStatus::Pending)
    }

    /// When it failed, if it did.
    pub const fn ended(&self) -> Option<UnixTime> {
        match self.status {
            AttemptStatus::Failed { at, .. } => Some(at),
            _ => None,
        }
    }

    /// Why it failed, if it did.
    pub const fn failure(&self) -> Option<AttemptFailure> {
        match self.status {
            AttemptStatus::Failed { failure, .. } => Some(failure),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::RouteHop;

    fn payment(parts: &[(u64, AttemptStatus)]) -> Payment {
        let destination = NodeId(secp256k1::PublicKey::from_slice(&[2; 33]).expect("a point"));
        let attempt = |(id, (msat, status)): (usize, &(u64, AttemptStatus))| Attempt {
            channel: ChannelId([1; 32]),
            htlc_id: HtlcId::new(id as u64),
            started: UnixTime::new(0),
            deadline_height: 100 + id as u32,
            secrets: Vec::new(),
            route: Route {
                hops: [msat + 5, *msat]
                    .map(|msat| RouteHop {
                        node_id: destination,
                        short_channel_id: ShortChannelId::from_u64(1),
                        amount: Msat::new(msat),
                        cltv_delta: 40,
                    })
                    .to_vec(),
                blinded_tail: None,
            },
            status: *status,
            hold_times: Vec::new(),
        };
        Payment {
            index: 1,
            payment_hash: PaymentHash([3; 32]),
            destination,
            amount: Msat::new(1_000),
            kind: PaymentKind::Keysend,
            created: UnixTime::new(0),
            status: PaymentStatus::InFlight,
            given_up: None,
            terms: Terms {
                proof: Proof::keysend(Preimage([4; 32])),
                final_cltv_delta: 21,
                shadow: 0,
                hints: Vec::new(),
                max_fee: Msat::new(10),
                max_cltv_delta: 2_016,
                max_parts: 16,
                until: UnixTime::new(1_000),
                channel: None,
            },
            attempts: parts.iter().enumerate().map(attempt).collect(),
        }
    }

    fn failed(failure: AttemptFailure) -> AttemptStatus {
        AttemptStatus::Failed { at: UnixTime::new(5), failure }
    }

    #[test]
    fn what_is_not_under_way_is_sent_again() {
        let now = UnixTime::new(10);
        let gone = failed(AttemptFailure::Remote { hop: 0, code: 7 });
        assert_eq!(payment(&[]).next_step(now), NextStep::Send(Msat::new(1_000)));
        assert_eq!(payment(&[(1_000, AttemptStatus::Pending)]).next_step(now), NextStep::Wait);
        assert_eq!(
            payment(&[(600, gone), (400, AttemptStatus::Pending)]).next_step(now),
            NextStep::Send(Msat::new(600))
        );
        assert_eq!(payment(&[(600, gone), (400, AttemptStatus::Pending)]).fee(), Msat::new(5));
    }

    #[test]
    fn it_fails_only_when_nothing_is_under_way() {
        let late = UnixTime::new(1_000);
        let gone = failed(AttemptFailure::NeverCommitted);
        let half = payment(&[(600, gone), (400, AttemptStatus::Pending)]);
        assert_eq!(half.next_step(late), NextStep::GiveUp(FailureReason::TimedOut));
        assert_eq!(payment(&[(600, gone)]).next_step(late), NextStep::Fail(FailureReason::TimedOut));
        let mut given_up = half;
        given_up.apply(&PaymentChange::GivenUp { reason: FailureReason::NoRoute });
        assert_eq!(given_up.next_step(late), NextStep::Wait);
        given_up.end_attempt(given_up.attempts[1].place(), gone, Vec::new());
        assert_eq!(given_up.next_step(late), NextStep::Fail(FailureReason::NoRoute));
        let tried = payment(&vec![(1_000, gone); MAX_ATTEMPTS]);
        assert_eq!(tried.next_step(UnixTime::new(10)), NextStep::Fail(FailureReason::AttemptsExhausted));
    }

    #[test]
    fn an_id_that_was_rolled_back_may_be_used_again() {
        let mut payment = payment(&[(1_000, failed(AttemptFailure::NeverCommitted)), (1_000, AttemptStatus::Pending)]);
        payment.attempts[1].htlc_id = payment.attempts[0].htlc_id;
        payment.end_attempt(payment.attempts[1].place(), AttemptStatus::Fulfilled, Vec::new());
        assert_eq!(payment.attempts[0].failure(), Some(AttemptFailure::NeverCommitted));
        assert_eq!(payment.attempts[1].status, AttemptStatus::Fulfilled);
    }

    #[test]
    fn small_payments_may_cost_ten_satoshi() {
        assert_eq!(default_max_fee(Msat::new(1)), Msat::new(10_000));
        assert_eq!(default_max_fee(Msat::new(5_000_000)), Msat::new(50_000));
    }
}
