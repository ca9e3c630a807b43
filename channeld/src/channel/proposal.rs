//! What we propose for a channel and what we accept: limits, types, keys and scripts of `open_channel` and `accept_channel`
//! (BOLT 2; PEERS.md A2).

use bitcoin::{Amount, ScriptBuf};
use secp256k1::PublicKey;

use super::close::is_shutdown_script;
use super::port::{Context, OpenRequest, Policy, SessionFeatures};
use super::{Refusal, Violation};
use crate::commitment::{Limits, Parameters, msat};
use crate::keys::{
    Basepoints, DelayedPaymentBasepoint, FundingPubkey, HtlcBasepoint, PaymentBasepoint, RevocationBasepoint,
};
use crate::transactions::CommitmentFormat;
use crate::units::FeeratePerKw;
use crate::wire::{AcceptChannel, Feature, Features, OpenChannel};

/// BOLT 2: more HTLCs would not fit into one penalty transaction.
const MAX_ACCEPTED_HTLCS: u16 = 483;

/// BOLT 2: from here on only with `option_support_large_channel`.
const LARGE_CHANNEL: Amount = Amount::from_sat(1 << 24);

pub(super) fn channel_type(format: CommitmentFormat) -> Features {
    match format {
        CommitmentFormat::StaticRemotekey => Features::channel_type(&[Feature::StaticRemotekey]),
        CommitmentFormat::Anchors => Features::channel_type(&[Feature::StaticRemotekey, Feature::Anchors]),
    }
}

/// The feerate that we propose for an estimate.
pub(super) fn clamp(feerate: FeeratePerKw, policy: &Policy) -> FeeratePerKw {
    feerate.max(*policy.proposed_feerates.start()).min(*policy.proposed_feerates.end())
}

/// What we announce; our reserve is never below a dust limit.
pub(super) fn own_limits(policy: &Policy, funding: Amount, remote_dust_limit: Amount) -> Limits {
    let permille = |of: u64| {
        let share = u128::from(funding.to_sat()) * u128::from(of.min(1_000)) / 1_000;
        Amount::from_sat(u64::try_from(share).expect("a share of an amount"))
    };
    let reserve = permille(policy.reserve_permille).max(policy.min_reserve);
    Limits {
        dust_limit: policy.dust_limit,
        max_htlc_value_in_flight: msat(permille(policy.in_flight_permille)),
        channel_reserve: reserve.max(policy.dust_limit).max(remote_dust_limit),
        htlc_minimum: policy.htlc_minimum,
        to_self_delay: policy.to_self_delay,
        max_accepted_htlcs: policy.max_accepted_htlcs.min(MAX_ACCEPTED_HTLCS),
    }
}

pub(super) fn check_request(
    request: &OpenRequest,
    parameters: &Parameters,
    feerate: FeeratePerKw,
    policy: &Policy,
) -> Result<(), Refusal> {
    let (min, max) = (*policy.funding.start(), *policy.funding.end());
    let max = if request.features.large_channels { max } else { max.min(LARGE_CHANNEL - Amount::from_sat(1)) };
    if request.funding < min || request.funding > max {
        return Err(Refusal::FundingOutOfRange { funding: request.funding, min, max });
    }
    if request.format.has_anchors() && !request.features.anchors {
        return Err(Refusal::AnchorsUnsupported);
    }
    if !is_shutdown_script(&request.close_script, request.features.any_segwit) {
        return Err(Refusal::ShutdownScript);
    }
    let kept = msat(request.funding).checked_sub(request.push);
    let needed = parameters.opener_cost(feerate, 0).checked_add(msat(parameters.local.channel_reserve));
    match (kept, needed) {
        (Some(kept), Some(needed)) if kept >= needed => Ok(()),
        _ => Err(Refusal::PushTooLarge { push: request.push }),
    }
}

/// What concerns `open_channel` alone; says what commitments will look like.
pub(super) fn check_open_channel(
    message: &OpenChannel,
    features: &SessionFeatures,
    local_keys: &Basepoints,
    cx: &Context<'_>,
) -> Result<CommitmentFormat, Violation> {
    let policy = cx.policy;
    if message.chain_hash != cx.chain_hash {
        return Err(Violation::ChainHash);
    }
    if features.dual_fund {
        return Err(Violation::DualFund);
    }
    let (min, max) = (*policy.funding.start(), *policy.funding.end());
    let max = if features.large_channels { max } else { max.min(LARGE_CHANNEL - Amount::from_sat(1)) };
    if message.funding_satoshis < min || message.funding_satoshis > max {
        return Err(Violation::FundingOutOfRange { funding: message.funding_satoshis, min, max });
    }
    if message.push_msat > msat(message.funding_satoshis) {
        return Err(Violation::PushTooLarge { push: message.push_msat, funding: message.funding_satoshis });
    }
    let (min, max) = (*policy.accepted_feerates.start(), *policy.accepted_feerates.end());
    if message.feerate_per_kw < min || message.feerate_per_kw > max {
        return Err(Violation::Feerate { feerate: message.feerate_per_kw, min, max });
    }
    if message.funding_pubkey == *local_keys.funding_pubkey.key() {
        return Err(Violation::FundingKey);
    }
    let format = [CommitmentFormat::Anchors, CommitmentFormat::StaticRemotekey].into_iter().find(|format| {
        message.channel_type.as_ref().is_some_and(|it| it.without(Feature::ScidAlias) == channel_type(*format))
    });
    // BOLT 2: a channel whose place on the chain stays hidden cannot be announced.
    let hides = is_alias_only(message);
    match format {
        Some(_) if hides && (!features.scid_alias || message.announce_channel()) => Err(Violation::ChannelType),
        Some(format) if features.anchors || !format.has_anchors() => Ok(format),
        _ => Err(Violation::ChannelType),
    }
}

/// Whether the type has `option_scid_alias`: nobody but the peer may learn where the channel stands.
pub(super) fn is_alias_only(message: &OpenChannel) -> bool {
    message.channel_type.as_ref().is_some_and(|it| it.requires(Feature::ScidAlias))
}

/// What concerns both `open_channel` and `accept_channel`.
pub(super) fn check_limits(parameters: &Parameters, funding: Amount, policy: &Policy) -> Result<(), Violation> {
    let (ours, theirs) = (&parameters.local, &parameters.remote);
    if theirs.to_self_delay > policy.max_to_self_delay {
        return Err(Violation::ToSelfDelay { delay: theirs.to_self_delay, max: policy.max_to_self_delay });
    }
    let count = theirs.max_accepted_htlcs;
    if count > MAX_ACCEPTED_HTLCS || count < policy.min_accepted_htlcs {
        return Err(Violation::MaxAcceptedHtlcs { count });
    }
    if theirs.max_htlc_value_in_flight < policy.min_in_flight {
        return Err(Violation::MaxInFlight { value: theirs.max_htlc_value_in_flight });
    }
    if theirs.htlc_minimum > policy.max_htlc_minimum {
        return Err(Violation::HtlcMinimum { minimum: theirs.htlc_minimum });
    }
    if !policy.accepted_dust_limit.contains(&theirs.dust_limit) {
        return Err(Violation::DustLimit { dust_limit: theirs.dust_limit });
    }
    let pairs = [
        (theirs.dust_limit, theirs.channel_reserve),
        (theirs.dust_limit, ours.channel_reserve),
        (ours.dust_limit, theirs.channel_reserve),
    ];
    if let Some((dust_limit, reserve)) = pairs.into_iter().find(|(dust_limit, reserve)| dust_limit > reserve) {
        return Err(Violation::DustAboveReserve { dust_limit, reserve });
    }
    let most = u128::from(funding.to_sat()) * u128::from(policy.max_reserve_permille) / 1_000;
    if u128::from(theirs.channel_reserve.to_sat()) > most {
        return Err(Violation::Reserve { reserve: theirs.channel_reserve });
    }
    Ok(())
}

pub(super) fn check_first_commitment(message: &OpenChannel, parameters: &Parameters) -> Result<(), Violation> {
    let balance = msat(message.funding_satoshis).saturating_sub(message.push_msat);
    let cost = parameters.opener_cost(message.feerate_per_kw, 0);
    let Some(to_opener) = balance.checked_sub(cost) else {
        return Err(Violation::FeeUnaffordable);
    };
    let reserve = msat(message.channel_reserve_satoshis);
    if to_opener <= reserve && message.push_msat <= reserve {
        return Err(Violation::BelowReserve);
    }
    Ok(())
}

/// What the peer said beforehand: nothing where the record is empty, a violation where it must be there and is not.
pub(super) fn upfront_script(
    script: Option<&ScriptBuf>,
    features: &SessionFeatures,
) -> Result<Option<ScriptBuf>, Violation> {
    match script {
        None if features.upfront_shutdown_script => Err(Violation::UpfrontShutdownMissing),
        Some(script) if !script.is_empty() && !is_shutdown_script(script, features.any_segwit) => {
            Err(Violation::ShutdownScript)
        }
        script => Ok(script.filter(|script| !script.is_empty() && features.upfront_shutdown_script).cloned()),
    }
}

pub(super) const fn limits_of_opener(message: &OpenChannel) -> Limits {
    Limits {
        dust_limit: message.dust_limit_satoshis,
        max_htlc_value_in_flight: message.max_htlc_value_in_flight_msat,
        channel_reserve: message.channel_reserve_satoshis,
        htlc_minimum: message.htlc_minimum_msat,
        to_self_delay: message.to_self_delay,
        max_accepted_htlcs: message.max_accepted_htlcs,
    }
}

pub(super) const fn limits_of_accepter(message: &AcceptChannel) -> Limits {
    Limits {
        dust_limit: message.dust_limit_satoshis,
        max_htlc_value_in_flight: message.max_htlc_value_in_flight_msat,
        channel_reserve: message.channel_reserve_satoshis,
        htlc_minimum: message.htlc_minimum_msat,
        to_self_delay: message.to_self_delay,
        max_accepted_htlcs: message.max_accepted_htlcs,
    }
}

pub(super) fn opener_keys(message: &OpenChannel) -> Basepoints {
    basepoints([
        message.funding_pubkey,
        message.revocation_basepoint,
        message.payment_basepoint,
        message.delayed_payment_basepoint,
        message.htlc_basepoint,
    ])
}

pub(super) fn accepter_keys(message: &AcceptChannel) -> Basepoints {
    basepoints([
        message.funding_pubkey,
        message.revocation_basepoint,
        message.payment_basepoint,
        message.delayed_payment_basepoint,
        message.htlc_basepoint,
    ])
}

/// In the order of the message.
pub(super) const fn basepoints([funding, revocation, payment, delayed_payment, htlc]: [PublicKey; 5]) -> Basepoints {
    Basepoints {
        funding_pubkey: FundingPubkey::new(funding),
        revocation_basepoint: RevocationBasepoint::new(revocation),
        payment_basepoint: PaymentBasepoint::new(payment),
        delayed_payment_basepoint: DelayedPaymentBasepoint::new(delayed_payment),
        htlc_basepoint: HtlcBasepoint::new(htlc),
    }
}
