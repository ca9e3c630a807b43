//! What a failed part says (BOLT 4, "Failure Messages"): about the payment, about the ways to avoid in it, and for good.

use std::collections::BTreeMap;

use super::blinded::path_of;
use crate::channel::OutgoingFailure;
use crate::graph::{DirectedChannel, Route};
use crate::onion::failure::{self, BADONION, NODE, PERM, UPDATE};
use crate::onion::{Attributed, Failure, HoldTime};
use crate::payment::send::{Attempt, AttemptFailure, FailureReason, Payment};
use crate::router::{Exclusion, Lesson, Verdict};
use crate::units::{Msat, NodeId, UnixTime};
use crate::wire::ChannelUpdate;

/// `temporary_channel_failure`: less liquidity than the amount.
const TOO_MUCH: u16 = UPDATE | 7;
/// `incorrect_or_unknown_payment_details`
const UNKNOWN_DETAILS: u16 = PERM | 15;
/// `final_incorrect_cltv_expiry` and `final_incorrect_htlc_amount`: the hop before the payee did not do as it was told.
const FINAL_INCORRECT: [u16; 2] = [18, 19];
/// `expiry_too_far`
const EXPIRY_TOO_FAR: u16 = 21;
/// `invalid_onion_payload`
const INVALID_PAYLOAD: u16 = PERM | 22;
/// `mpp_timeout`
const MPP_TIMEOUT: u16 = 23;
/// `amount_below_minimum`, `fee_insufficient`, `incorrect_cltv_expiry`, `expiry_too_soon`: the channel wants something else
/// than we knew.
const POLICY: [u16; 4] = [UPDATE | 11, UPDATE | 12, UPDATE | 13, UPDATE | 14];
/// `channel_disabled`
const DISABLED: u16 = UPDATE | 20;

/// `invalid_onion_blinding`: all that comes from inside a blinded path.
pub(super) const INVALID_ONION_BLINDING: u16 = BADONION | PERM | 24;

/// What a failure means for the payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Another way may do, or the same one on the terms that were told.
    Retry,
    /// No other way will do.
    Refused(FailureReason),
}

/// A failure that was read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reading {
    /// What is kept of it.
    pub failure: AttemptFailure,
    /// What it means.
    pub meaning: Meaning,
    /// What the channel behind the hop that failed wants now, signed by that hop.
    pub update: Option<Box<ChannelUpdate>>,
    /// What the payee said to a question for a receipt.
    pub said: Option<Failure>,
    /// How long the hops say they held the HTLC, our peer first.
    pub hold_times: Vec<HoldTime>,
}

/// Reads what came back for a part.
pub(super) fn read(attempt: &Attempt, failure: &OutgoingFailure) -> Reading {
    let none = Vec::new;
    let mut said = None;
    let (failure, update, hold_times) = match failure {
        OutgoingFailure::NeverCommitted => (AttemptFailure::NeverCommitted, None, none()),
        OutgoingFailure::Malformed { failure_code, .. } => {
            (AttemptFailure::Remote { hop: 0, code: *failure_code }, None, none())
        }
        OutgoingFailure::Failed { reason, attribution_data } => {
            match failure::read(&attempt.secrets, reason, attribution_data.as_ref()) {
                Err(garbled) => {
                    let hop = garbled.hop.and_then(|hop| u8::try_from(hop).ok());
                    (AttemptFailure::Unreadable { hop }, None, garbled.hold_times)
                }
                Ok(Attributed { hop, failure, hold_times }) => {
                    let code = failure.code();
                    said = matches!(failure, Failure::StreamReceipt { .. }).then(|| failure.clone());
                    let update = update_of(failure).filter(|update| is_about_next(attempt, hop, update));
                    (AttemptFailure::Remote { hop: u8::try_from(hop).unwrap_or(u8::MAX), code }, update, hold_times)
                }
            }
        }
    };
    let meaning =
        if attempt.route.blinded_tail.is_some() { Meaning::Retry } else { meaning(failure, attempt.route.hops.len()) };
    Reading { failure, meaning, update, said, hold_times }
}

/// A part that timed out on the chain.
pub(super) const fn timed_out() -> Reading {
    let meaning = Meaning::Refused(FailureReason::TimedOutOnChain);
    Reading { failure: AttemptFailure::TimedOutOnChain, meaning, update: None, said: None, hold_times: Vec::new() }
}

fn update_of(failure: Failure) -> Option<Box<ChannelUpdate>> {
    match failure {
        Failure::TemporaryChannelFailure { update }
        | Failure::AmountBelowMinimum { update, .. }
        | Failure::FeeInsufficient { update, .. }
        | Failure::IncorrectCltvExpiry { update, .. }
        | Failure::ExpiryTooSoon { update }
        | Failure::ChannelDisabled { update } => update,
        _ => None,
    }
}

/// Whether it is about the channel that the hop was to use next, and signed by that hop.
fn is_about_next(attempt: &Attempt, hop: usize, update: &ChannelUpdate) -> bool {
    let (Some(from), Some(next)) = (attempt.route.hops.get(hop), attempt.route.hops.get(hop + 1)) else { return false };
    update.short_channel_id == next.short_channel_id && update.is_signed_by(&from.node_id.0)
}

fn meaning(failure: AttemptFailure, hops: usize) -> Meaning {
    match failure {
        AttemptFailure::NeverCommitted => Meaning::Retry,
        AttemptFailure::TimedOutOnChain => Meaning::Refused(FailureReason::TimedOutOnChain),
        AttemptFailure::Unreadable { .. } if hops == 1 => Meaning::Refused(FailureReason::UnreadableFailure),
        AttemptFailure::Unreadable { .. } => Meaning::Retry,
        AttemptFailure::Remote { hop, code } if usize::from(hop) + 1 == hops => match code {
            UNKNOWN_DETAILS => Meaning::Refused(FailureReason::UnknownPaymentDetails),
            MPP_TIMEOUT => Meaning::Retry,
            code if FINAL_INCORRECT.contains(&code) && hops > 1 => Meaning::Retry,
            code => Meaning::Refused(FailureReason::Remote { code }),
        },
        AttemptFailure::Remote { .. } => Meaning::Retry,
    }
}

/// Whether the blinded path at this place is among them.
pub(super) fn is_path_excluded(exclusions: &[Exclusion], at: usize) -> bool {
    exclusions.iter().any(|it| matches!(it, Exclusion::BlindedPath(path) if *path as usize == at))
}

/// Whether a failure came from the blinded path that a route ends in: from the node that introduces it, or from behind it.
/// Who in there failed, and why, nobody says (BOLT 4, `invalid_onion_blinding`): the path is to blame, and nothing else.
fn is_from_path(route: &Route, failure: AttemptFailure) -> bool {
    let introduction = route.hops.len().saturating_sub(1);
    route.blinded_tail.is_some()
        && match failure {
            AttemptFailure::Remote { hop, .. } => usize::from(hop) >= introduction,
            AttemptFailure::Unreadable { hop } => hop.is_none_or(|hop| usize::from(hop) >= introduction),
            _ => false,
        }
}

/// What the payment's next search must not use. Derived from its attempts, so that a restart forgets nothing but what hops
/// told of their channels: before `started` no newer policy is known, and each channel has its one failure again.
pub(super) fn exclusions(payment: &Payment, source: NodeId, started: UnixTime) -> Vec<Exclusion> {
    let mut exclusions = Vec::new();
    let mut policies: BTreeMap<DirectedChannel, u32> = BTreeMap::new();
    for attempt in &payment.attempts {
        let channels: Vec<_> = attempt.route.channels(source).collect();
        if let (Some(tail), Some(failure)) = (&attempt.route.blinded_tail, attempt.failure())
            && is_from_path(&attempt.route, failure)
        {
            exclusions.extend(path_of(payment, tail).map(|at| Exclusion::BlindedPath(at as u32)));
            continue;
        }
        match attempt.failure() {
            Some(AttemptFailure::Remote { hop, code }) => {
                let hop = usize::from(hop);
                if POLICY.contains(&code) && attempt.ended().is_some_and(|at| at < started) {
                    continue;
                }
                if POLICY.contains(&code)
                    && let Some((channel, _)) = channels.get(hop + 1)
                {
                    let times = policies.entry(*channel).or_default();
                    *times += 1;
                    // Once it may be that we knew an older policy; the newer one came with the failure.
                    if *times < 2 {
                        continue;
                    }
                }
                exclusions.extend(exclusion(&attempt.route, &channels, hop, code));
            }
            Some(AttemptFailure::Unreadable { hop }) => {
                // The hop that the attribution data names, or the one before it; all, where there is none.
                let between = attempt.route.hops.iter().take(attempt.route.hops.len().saturating_sub(1));
                let is_near = |at: usize, hop: u8| at == usize::from(hop) || at + 1 == usize::from(hop);
                let spoilt = between.enumerate().filter(|(at, _)| hop.is_none_or(|hop| is_near(*at, hop)));
                exclusions.extend(spoilt.map(|(_, hop)| Exclusion::Node(hop.node_id)));
            }
            _ => {}
        }
    }
    exclusions
}

fn exclusion(route: &Route, channels: &[(DirectedChannel, Msat)], hop: usize, code: u16) -> Option<Exclusion> {
    let Some((channel, amount)) = channels.get(hop + 1).copied() else {
        // The payee: only what the hop before it did can be avoided.
        let last = channels.last().filter(|_| FINAL_INCORRECT.contains(&code))?;
        return Some(Exclusion::Direction(last.0));
    };
    Some(match code {
        code if code & NODE != 0 || code == INVALID_PAYLOAD => Exclusion::Node(route.hops.get(hop)?.node_id),
        TOO_MUCH => Exclusion::Amount { channel, from: amount },
        EXPIRY_TOO_FAR => Exclusion::Direction(channel),
        code if code & PERM != 0 => Exclusion::Channel(channel.short_channel_id),
        _ => Exclusion::Direction(channel),
    })
}

/// What a failed part taught about channels that are not ours.
pub(super) fn lessons(route: &Route, source: NodeId, failure: AttemptFailure) -> Vec<Lesson> {
    let channels: Vec<_> = route.channels(source).collect();
    match failure {
        AttemptFailure::Remote { hop, code } => {
            let hop = usize::from(hop);
            let lesson =
                |(channel, amount): (DirectedChannel, Msat), verdict| Lesson::Channel { channel, amount, verdict };
            let passed = channels.iter().take(hop + 1).skip(1);
            let mut lessons: Vec<Lesson> = passed.map(|passed| lesson(*passed, Verdict::Forwarded)).collect();
            let next = channels.get(hop + 1).copied();
            match (next, route.hops.get(hop)) {
                (Some(_), Some(node)) if code & NODE != 0 => lessons.push(Lesson::NodeFailed { node_id: node.node_id }),
                (Some(next), _) if code == TOO_MUCH => lessons.push(lesson(next, Verdict::TooMuch)),
                (Some(next), _) if code & PERM != 0 || code == DISABLED => {
                    lessons.push(lesson(next, Verdict::Unusable));
                }
                _ => {}
            }
            lessons
        }
        AttemptFailure::Unreadable { hop: Some(hop) } => {
            let node = route.hops.get(usize::from(hop));
            node.map(|node| Lesson::NodeFailed { node_id: node.node_id }).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// What a part that was taken taught.
pub(super) fn paid(route: &Route, source: NodeId) -> Vec<Lesson> {
    let beyond = route.channels(source).skip(1);
    beyond.map(|(channel, amount)| Lesson::Channel { channel, amount, verdict: Verdict::Paid }).collect()
}
