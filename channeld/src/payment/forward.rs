//! Forwarding: what a channel asks for it, what stands between an incoming and an outgoing HTLC, and the checks of BOLT 4
//! ("Failure Messages", requirements of a forwarding node) and BOLT 7 ("HTLC Fees").

use serde::{Deserialize, Serialize};

use crate::commitment::{Parameters, msat};
use crate::onion::SharedSecret;
use crate::units::{ChannelId, CltvDelta, CltvExpiry, HtlcId, Msat, NodeId, PaymentHash, Preimage, UnixTime};

/// A policy that was replaced is still honoured so long: the new one has not reached every payer (as CLN and LDK do).
pub const GRACE_SECONDS: u64 = 600;

/// What a channel asks of what is forwarded over it, away from us: what `channel_update` says (BOLT 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardingPolicy {
    /// The fee for any HTLC, in msat.
    pub fee_base_msat: u32,
    /// The fee for each million of what is sent on.
    pub fee_proportional_millionths: u32,
    /// How many blocks the incoming HTLC must last longer than the outgoing one.
    pub cltv_expiry_delta: CltvDelta,
    /// The smallest HTLC that is sent on.
    pub htlc_minimum: Msat,
    /// The largest; at most the channel's capacity.
    pub htlc_maximum: Msat,
}

impl Default for ForwardingPolicy {
    /// LND's and CLN's fee base, LND's rate; a delta above BOLT 2's 34 blocks, between CLN's 34 and LND's 80.
    fn default() -> ForwardingPolicy {
        ForwardingPolicy {
            fee_base_msat: 1_000,
            fee_proportional_millionths: 1,
            cltv_expiry_delta: CltvDelta::new(40),
            htlc_minimum: Msat::new(1),
            htlc_maximum: Msat::new(u64::MAX),
        }
    }
}

impl ForwardingPolicy {
    /// The same within what a channel of that capacity and those limits can carry.
    #[must_use]
    pub fn within(self, parameters: &Parameters, capacity: bitcoin::Amount) -> ForwardingPolicy {
        let reserve = msat(parameters.remote.channel_reserve);
        let most = msat(capacity).saturating_sub(reserve).min(parameters.remote.max_htlc_value_in_flight);
        let least = self.htlc_minimum.max(parameters.remote.htlc_minimum).max(Msat::new(1)).min(most);
        ForwardingPolicy { htlc_minimum: least, htlc_maximum: self.htlc_maximum.min(most).max(least), ..self }
    }

    /// The fee for sending `amount` on (BOLT 7, "HTLC Fees"); `None` where it is more than any amount.
    pub fn fee(&self, amount: Msat) -> Option<Msat> {
        let proportional = u128::from(amount.msat()) * u128::from(self.fee_proportional_millionths) / 1_000_000;
        u64::try_from(u128::from(self.fee_base_msat) + proportional).ok().map(Msat::new)
    }
}

/// A change of a policy: what is `None` stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyUpdate {
    /// See [`ForwardingPolicy::fee_base_msat`].
    pub fee_base_msat: Option<u32>,
    /// See [`ForwardingPolicy::fee_proportional_millionths`].
    pub fee_proportional_millionths: Option<u32>,
    /// See [`ForwardingPolicy::cltv_expiry_delta`].
    pub cltv_expiry_delta: Option<CltvDelta>,
    /// See [`ForwardingPolicy::htlc_minimum`].
    pub htlc_minimum: Option<Msat>,
    /// See [`ForwardingPolicy::htlc_maximum`].
    pub htlc_maximum: Option<Msat>,
}

impl PolicyUpdate {
    /// The policy with these changes.
    pub fn over(&self, policy: ForwardingPolicy) -> ForwardingPolicy {
        ForwardingPolicy {
            fee_base_msat: self.fee_base_msat.unwrap_or(policy.fee_base_msat),
            fee_proportional_millionths: self.fee_proportional_millionths.unwrap_or(policy.fee_proportional_millionths),
            cltv_expiry_delta: self.cltv_expiry_delta.unwrap_or(policy.cltv_expiry_delta),
            htlc_minimum: self.htlc_minimum.unwrap_or(policy.htlc_minimum),
            htlc_maximum: self.htlc_maximum.unwrap_or(policy.htlc_maximum),
        }
    }
}

/// Names an HTLC of one direction on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HtlcPlace {
    /// Its channel.
    pub channel: ChannelId,
    /// Its id there, in its direction.
    pub id: HtlcId,
}

/// Why there is an outgoing HTLC. Each has exactly one cause, until its preimage is known or it failed for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// A payment of ours.
    Payment(PaymentHash),
    /// This incoming HTLC.
    Forward(HtlcPlace),
}

/// An HTLC that is forwarded: durable from the turn in which the outgoing one was added until the incoming one is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// The HTLC that came.
    pub incoming: HtlcPlace,
    /// The HTLC that went.
    pub outgoing: HtlcPlace,
    /// Who it went to.
    pub next: NodeId,
    /// Of both.
    pub payment_hash: PaymentHash,
    /// What came.
    pub incoming_amount: Msat,
    /// What went; the difference is our fee.
    pub outgoing_amount: Msat,
    /// When the incoming one times out.
    pub incoming_expiry: CltvExpiry,
    /// When the outgoing one times out.
    pub outgoing_expiry: CltvExpiry,
    /// What we share with the payer: to wrap a failure.
    pub secret: SharedSecret,
    /// When the incoming one was irrevocable.
    pub started: UnixTime,
    /// How far it is.
    pub status: ForwardStatus,
}

/// How far a forward is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ForwardStatus {
    /// Nothing is known of its end.
    InFlight,
    /// The preimage is known, and the incoming channel cannot take it off the chain: it is claimed there.
    Fulfilled(Preimage),
    /// The incoming one was failed back before its deadline, though the outgoing one is not decided yet.
    FailedBack,
}

impl Forward {
    /// What we earn if it succeeds.
    pub const fn fee(&self) -> Msat {
        self.incoming_amount.saturating_sub(self.outgoing_amount)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fees_are_those_of_bolt_7() {
        let policy =
            ForwardingPolicy { fee_base_msat: 200, fee_proportional_millionths: 2_000, ..ForwardingPolicy::default() };
        // BOLT 7's example: 200 + 4,999,999 × 2,000 / 1,000,000.
        assert_eq!(policy.fee(Msat::new(4_999_999)), Some(Msat::new(10_199)));
        let dear = ForwardingPolicy { fee_proportional_millionths: u32::MAX, ..policy };
        assert_eq!(dear.fee(Msat::new(u64::MAX)), None);
    }

    #[test]
    fn an_update_changes_what_it_names() {
        let update = PolicyUpdate { fee_base_msat: Some(5), ..PolicyUpdate::default() };
        let policy = update.over(ForwardingPolicy::default());
        assert_eq!(policy, ForwardingPolicy { fee_base_msat: 5, ..ForwardingPolicy::default() });
    }
}
