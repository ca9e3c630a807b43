//! Forwarding: what a channel asks for it, what stands between an incoming and an outgoing HTLC, and the checks of BOLT 4
//! ("Failure Messages", requirements of a forwarding node) and BOLT 7 ("HTLC Fees").

use serde::{Deserialize, Serialize};

use crate::commitment::{Parameters, msat};
use crate::onion::{Failure, HoldTime, ReturnPath};
use crate::units::{
    BlockHeight, ChannelId, CltvDelta, CltvExpiry, HtlcId, Msat, NodeId, PaymentHash, Preimage, UnixTime,
};
use crate::wire::ChannelUpdate;

/// A policy that was replaced is still honoured so long: the new one has not reached every payer (as CLN and LDK do).
pub const GRACE_SECONDS: u64 = 600;
/// `max_htlc_cltv` (BOLT 4): an HTLC that lasts longer than two weeks is not taken along.
pub const MAX_CLTV_DELTA: u32 = 2_016;
/// Blocks that the outgoing HTLC must have left: fewer may be gone before the next hop has it.
pub const LEAST_OUTGOING_BLOCKS: u32 = 3;
/// Blocks before its own deadline at which an incoming HTLC goes back, whatever became of the outgoing one: its peer
/// would close the channel for it.
pub const FAIL_BACK_MARGIN: u32 = 3;

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

/// What is to be forwarded, as HTLC and onion say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passage {
    /// What came.
    pub incoming_amount: Msat,
    /// When that times out.
    pub incoming_expiry: CltvExpiry,
    /// What is to go on.
    pub outgoing_amount: Msat,
    /// With which expiry.
    pub outgoing_expiry: CltvExpiry,
    /// Our best block.
    pub height: BlockHeight,
    /// Blocks before its expiry at which an incoming HTLC is claimed on the chain.
    pub fulfil_margin: u32,
}

/// A rule that forbids a passage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PassageRefusal {
    /// `amount_below_minimum`
    #[error("the channel carries nothing so small")]
    AmountBelowMinimum,
    /// `temporary_channel_failure`: above `htlc_maximum_msat`.
    #[error("the channel carries nothing so large")]
    AmountAboveMaximum,
    /// `fee_insufficient`
    #[error("the fee is too low")]
    FeeInsufficient,
    /// `incorrect_cltv_expiry`
    #[error("the expiries are too near to each other")]
    IncorrectCltvExpiry,
    /// `expiry_too_soon`
    #[error("an expiry is too near")]
    ExpiryTooSoon,
    /// `expiry_too_far`
    #[error("the expiry is too far away")]
    ExpiryTooFar,
}

impl Passage {
    /// The checks of BOLT 4 against what a channel asks, in the order of the failure codes.
    ///
    /// # Errors
    /// The first rule that is not met.
    pub fn check(&self, policy: &ForwardingPolicy) -> Result<(), PassageRefusal> {
        if self.outgoing_amount < policy.htlc_minimum {
            return Err(PassageRefusal::AmountBelowMinimum);
        }
        let needed = policy.fee(self.outgoing_amount).and_then(|fee| self.outgoing_amount.checked_add(fee));
        if needed.is_none_or(|needed| self.incoming_amount < needed) {
            return Err(PassageRefusal::FeeInsufficient);
        }
        let (incoming, outgoing) = (self.incoming_expiry.height(), self.outgoing_expiry.height());
        if incoming < outgoing.saturating_add(u32::from(policy.cltv_expiry_delta.blocks())) {
            return Err(PassageRefusal::IncorrectCltvExpiry);
        }
        let height = self.height.height();
        // BOLT 2: an HTLC whose fulfilment deadline is past is not forwarded.
        if outgoing <= height.saturating_add(LEAST_OUTGOING_BLOCKS)
            || incoming <= height.saturating_add(self.fulfil_margin)
        {
            return Err(PassageRefusal::ExpiryTooSoon);
        }
        if outgoing > height.saturating_add(MAX_CLTV_DELTA) {
            return Err(PassageRefusal::ExpiryTooFar);
        }
        if self.outgoing_amount > policy.htlc_maximum {
            return Err(PassageRefusal::AmountAboveMaximum);
        }
        Ok(())
    }

    /// The same, where what the channel asked a short while ago is good enough, too.
    ///
    /// # Errors
    /// The first rule of today's policy that is not met.
    pub fn check_with_grace(
        &self,
        policy: &ForwardingPolicy,
        before: Option<&(ForwardingPolicy, UnixTime)>,
        now: UnixTime,
    ) -> Result<(), PassageRefusal> {
        self.check(policy).or_else(|refusal| {
            let honoured = before.filter(|(_, until)| now.micros_since(*until) <= GRACE_SECONDS * 1_000_000);
            let was_right = honoured.is_some_and(|(before, _)| self.check(before).is_ok());
            if was_right { Ok(()) } else { Err(refusal) }
        })
    }

    /// The failure that the payer is told (BOLT 4), with what the channel asks.
    pub fn failure(&self, refusal: PassageRefusal, update: Option<Box<ChannelUpdate>>) -> Failure {
        match refusal {
            PassageRefusal::AmountBelowMinimum => {
                Failure::AmountBelowMinimum { htlc_msat: self.outgoing_amount, update }
            }
            PassageRefusal::AmountAboveMaximum => Failure::TemporaryChannelFailure { update },
            PassageRefusal::FeeInsufficient => Failure::FeeInsufficient { htlc_msat: self.incoming_amount, update },
            PassageRefusal::IncorrectCltvExpiry => {
                Failure::IncorrectCltvExpiry { cltv_expiry: self.outgoing_expiry, update }
            }
            PassageRefusal::ExpiryTooSoon => Failure::ExpiryTooSoon { update },
            PassageRefusal::ExpiryTooFar => Failure::ExpiryTooFar,
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
    /// For the answer to the incoming one.
    pub return_path: ReturnPath,
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

    /// How long we have held it, for the payer to see.
    pub fn held(&self, now: UnixTime) -> HoldTime {
        HoldTime::from_micros(now.micros_since(self.started))
    }

    /// Whether the incoming HTLC must go back at this height, though the outgoing one is not decided.
    pub const fn must_fail_back(&self, height: BlockHeight) -> bool {
        let undecided = matches!(self.status, ForwardStatus::InFlight);
        undecided && height.height().saturating_add(FAIL_BACK_MARGIN) >= self.incoming_expiry.height()
    }

    /// The height at which half of the time between the two deadlines is over.
    pub const fn warning_height(&self) -> BlockHeight {
        let (first, last) = (self.outgoing_expiry.height(), self.incoming_expiry.height());
        BlockHeight::new(first.saturating_add(last.saturating_sub(first) / 2))
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

    fn passage() -> Passage {
        Passage {
            incoming_amount: Msat::new(1_002_000),
            incoming_expiry: CltvExpiry::new(200),
            outgoing_amount: Msat::new(1_000_000),
            outgoing_expiry: CltvExpiry::new(160),
            height: BlockHeight::new(100),
            fulfil_margin: 18,
        }
    }

    #[test]
    fn each_rule_has_its_failure() {
        use PassageRefusal as R;
        let policy = ForwardingPolicy {
            htlc_minimum: Msat::new(1_000),
            htlc_maximum: Msat::new(5_000_000),
            ..ForwardingPolicy::default()
        };
        let good = passage();
        let code = |passage: Passage| passage.check(&policy).map_err(|refusal| passage.failure(refusal, None).code());
        assert_eq!(code(good), Ok(()));
        assert_eq!(good.check(&ForwardingPolicy { fee_base_msat: 2_000, ..policy }), Err(R::FeeInsufficient));
        assert_eq!(code(Passage { outgoing_amount: Msat::new(999), ..good }), Err(0x1000 | 11));
        assert_eq!(code(Passage { incoming_amount: Msat::new(1_001_000), ..good }), Err(0x1000 | 12));
        assert_eq!(code(Passage { incoming_expiry: CltvExpiry::new(199), ..good }), Err(0x1000 | 13));
        let soon = Passage { incoming_expiry: CltvExpiry::new(143), outgoing_expiry: CltvExpiry::new(103), ..good };
        assert_eq!(code(soon), Err(0x1000 | 14));
        let far = Passage { incoming_expiry: CltvExpiry::new(2_157), outgoing_expiry: CltvExpiry::new(2_117), ..good };
        assert_eq!(code(far), Err(21));
        let large = Passage { outgoing_amount: Msat::new(5_000_001), incoming_amount: Msat::new(6_000_000), ..good };
        assert_eq!(code(large), Err(0x1000 | 7));
    }

    #[test]
    fn what_was_asked_before_is_honoured_for_a_while() {
        let before = ForwardingPolicy::default();
        let now = ForwardingPolicy { fee_base_msat: 5_000, ..before };
        let changed = UnixTime::from_seconds(1_000);
        let check = |at| passage().check_with_grace(&now, Some(&(before, changed)), UnixTime::from_seconds(at));
        assert_eq!(check(1_600), Ok(()));
        assert_eq!(check(1_601), Err(PassageRefusal::FeeInsufficient));
    }

    #[test]
    fn an_update_changes_what_it_names() {
        let update = PolicyUpdate { fee_base_msat: Some(5), ..PolicyUpdate::default() };
        let policy = update.over(ForwardingPolicy::default());
        assert_eq!(policy, ForwardingPolicy { fee_base_msat: 5, ..ForwardingPolicy::default() });
    }
}
