//! How each HTLC ended, and the HTLC transactions that need a fee from the wallet.

use bitcoin::OutPoint;

use super::fact::{Effect, HtlcKey, HtlcOutcome, HtlcSide};
use super::resolver::Turn;
use super::sweep::{Stake, StakeHtlc, Way};
use super::{Change, CloseKind};
use crate::transactions::Htlc;
use crate::units::BlockHeight;

impl Turn<'_> {
    /// Tells the node of every HTLC whose end has become certain.
    pub(super) fn report(&mut self, stakes: &[Stake]) {
        for (key, htlc) in self.resolver.channel().htlcs() {
            if self.resolver.facts().reported.contains(&key) {
                continue;
            }
            if let Some(outcome) = self.outcome(key, &htlc, stakes) {
                self.effects.push(Effect::HtlcResolved { key, payment_hash: htlc.payment_hash, outcome });
                self.record(Change::Reported(key));
            }
        }
    }

    /// BOLT 5: a preimage decides at once; that there is no output, or that it came back, only when buried.
    fn outcome(&self, key: HtlcKey, htlc: &Htlc, stakes: &[Stake]) -> Option<HtlcOutcome> {
        let facts = self.resolver.facts();
        let confirmed = facts.confirmed.as_ref()?;
        if key.side == HtlcSide::Outgoing
            && let Some(preimage) = facts.preimages.get(&htlc.payment_hash)
        {
            return Some(HtlcOutcome::Fulfilled(*preimage));
        }
        if !self.is_buried(confirmed.height) {
            return None;
        }
        let not_ours = match key.side {
            HtlcSide::Incoming => HtlcOutcome::Lost,
            HtlcSide::Outgoing => HtlcOutcome::Failed,
        };
        // Which outputs a commitment has that we do not know nobody tells; after its expiry the HTLC is settled anyhow.
        if matches!(confirmed.kind, CloseKind::RemoteFuture(_) | CloseKind::Unknown) {
            return self.is_buried(BlockHeight::new(htlc.cltv_expiry.height())).then_some(not_ours);
        }
        let is_it = |stake: &&Stake| stake.htlc.as_ref().is_some_and(|htlc| htlc.key == key);
        let Some(stake) = stakes.iter().find(is_it) else { return Some(not_ours) };
        if !self.is_final(stake) {
            return None;
        }
        let claimed = self.was_claimed(stake, stakes);
        Some(if key.side == HtlcSide::Incoming && claimed { HtlcOutcome::Claimed } else { not_ours })
    }

    /// Whether it was our transaction that took it: straight to the wallet, or to a second stage that is ours.
    fn was_claimed(&self, stake: &Stake, stakes: &[Stake]) -> bool {
        let Some(spend) = self.resolver.facts().spends.get(&stake.outpoint) else { return false };
        let made = OutPoint { txid: spend.txid, vout: spend.input };
        spend.is_ours || stakes.iter().any(|stake| stake.outpoint == made)
    }

    /// Whether nothing more can come of an output: its spend is buried, or nobody of us will ever spend it.
    pub(super) fn is_final(&self, stake: &Stake) -> bool {
        if let Some(spend) = self.resolver.facts().spends.get(&stake.outpoint) {
            return self.is_buried(spend.height);
        }
        match (&stake.way, &stake.htlc) {
            (Way::NoPreimage, Some(StakeHtlc { expiry, .. })) => self.is_buried(*expiry),
            _ => !stake.is_worthwhile(&self.resolver.channel().sweep_script),
        }
    }

    /// Whether a fact of that height has the confirmations that make it final.
    pub(super) fn is_buried(&self, height: BlockHeight) -> bool {
        let depth = self.cx.settings.burial_depth.max(1);
        self.resolver.facts().tip >= height.plus(depth - 1)
    }
}
