//! How each HTLC ended, and the HTLC transactions that need a fee from the wallet.

use bitcoin::{Amount, OutPoint, Transaction, Witness};

use super::classify::CloseKind;
use super::fact::{Change, Claimed, Effect, FundRequest, HtlcKey, HtlcOutcome, HtlcSide};
use super::fee_bump::{replaced, replacement_floor, unsigned};
use super::resolver::Turn;
use super::sweep::{SecondStage, Stake, StakeHtlc, Way};
use crate::transactions::Htlc;
use crate::units::{BlockHeight, FeeratePerKw};

/// So many blocks an output that is not worth its claim at present waits for cheaper ones. BOLT 5 counts what is spent as
/// resolved after 100, and leaves to us what is not worth spending.
const PATIENCE: u32 = 2_016;

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
        if !matches!(stake.way, Way::NoPreimage) && stake.is_worthwhile(&self.resolver.channel().sweep_script) {
            return self.is_given_up(stake);
        }
        // What is worth nothing to us may be worth something to the peer, in a claim of many: while its preimage counts, an
        // HTLC has not failed. Nobody waits for one of the peer's whose preimage we know.
        match (&stake.way, &stake.htlc) {
            (Way::NoPreimage, Some(StakeHtlc { expiry, .. })) => self.is_buried(*expiry),
            (_, Some(StakeHtlc { key, expiry, .. })) => key.side == HtlcSide::Incoming || self.is_buried(*expiry),
            _ => true,
        }
    }

    /// Whether an output was ours to take for two weeks, and blocks are so dear that nobody would.
    fn is_given_up(&self, stake: &Stake) -> bool {
        let since = stake.htlc.map_or(stake.mature_at, |htlc| htlc.expiry.max(stake.mature_at));
        let script = &self.resolver.channel().sweep_script;
        self.resolver.facts().tip >= since.plus(PATIENCE) && !stake.is_worth(self.cx.feerates.relaxed, script)
    }

    /// Whether a fact of that height has the confirmations that make it final.
    pub(super) fn is_buried(&self, height: BlockHeight) -> bool {
        let depth = self.cx.settings.burial_depth.max(1);
        self.resolver.facts().tip >= height.plus(depth - 1)
    }

    /// Signs an HTLC transaction that carries its own fee.
    pub(super) fn sign_htlc(&self, second: &SecondStage) -> Transaction {
        let sighash = second.transaction.broadcaster_sighash(second.transaction.transaction(), 0);
        let own = self.cx.signer.sign_htlc(&self.resolver.channel().key_id, &second.point, sighash);
        second.transaction.signed(&second.countersignature, &own, second.preimage.as_ref())
    }

    /// The witness of an HTLC input at `index` of `transaction`, whose fee the wallet pays.
    pub(super) fn htlc_witness(&self, second: &SecondStage, transaction: &Transaction, index: usize) -> Witness {
        let sighash = second.transaction.broadcaster_sighash(transaction, index);
        let own = self.cx.signer.sign_htlc(&self.resolver.channel().key_id, &second.point, sighash);
        second.transaction.witness(&second.countersignature, &own, second.preimage.as_ref())
    }
}

/// HTLC transactions of an anchor channel, each input beside its output, to be funded together.
pub(super) fn fund_request(group: &[&Stake], feerate: FeeratePerKw, old: Option<&Claimed>) -> FundRequest {
    let (mut input, mut output, mut spent) = (Vec::new(), Vec::new(), Vec::new());
    let (mut witness_weight, mut lock_time) = (0, 0);
    for stake in group {
        if let Way::HtlcTransaction(second) = &stake.way {
            let transaction = second.transaction.transaction();
            input.extend(transaction.input.iter().cloned());
            output.extend(transaction.output.iter().cloned());
            spent.push(stake.output.clone());
            witness_weight += second.transaction.witness_weight();
            lock_time = lock_time.max(transaction.lock_time.to_consensus_u32());
        }
    }
    let limit = spent.iter().map(|output| output.value).sum();
    let weight = |old: &Claimed| old.transaction.weight().to_wu();
    FundRequest {
        key: group[0].outpoint,
        transaction: unsigned(input, output, lock_time),
        spent,
        witness_weight,
        feerate,
        parent_weight: 0,
        parent_fee: Amount::ZERO,
        floor: old.map_or(Amount::ZERO, |old| replacement_floor(old.fee, weight(old))),
        limit,
        replaces: old.map(replaced),
    }
}
