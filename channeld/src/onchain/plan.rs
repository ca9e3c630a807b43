//! What to broadcast now: made anew from the facts at every block, and compared with what is already out.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{Amount, OutPoint, Transaction};

use super::classify::CloseKind;
use super::fact::{Change, Claimed, Effect};
use super::fee_bump::{Urgency, fee_within, replacement_floor};
use super::htlc::fund_request;
use super::resolver::Turn;
use super::sweep::{Stake, Way};
use crate::transactions::{Claim, ClaimPath, ClaimTransaction};
use crate::units::{BlockHeight, FeeratePerKw};

/// So many outputs are taken by one transaction at most: 400,000 weight units hold twice as many.
const MOST_CLAIMS: usize = 300;

/// So many blocks before its deadline an output gets a transaction of its own: nobody can hold up the others by pinning
/// one (BOLT 5, `security_delay`).
const ALONE_FROM: u32 = 18;

/// Outputs that share a transaction: those of one class, or one alone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// Nobody else can take them.
    Ours,
    /// Outputs of a revoked commitment.
    Penalty,
    /// HTLCs by preimage, on the peer's commitment.
    Preimage,
    /// HTLCs that timed out, on the peer's commitment.
    Timeout,
    /// HTLC-success transactions to be funded.
    FundedSuccess,
    /// HTLC-timeout transactions of one expiry to be funded: the peer's signatures fix the lock time.
    FundedTimeout(BlockHeight),
    /// One alone.
    Alone(OutPoint),
}

impl Turn<'_> {
    /// Plans everything; `new_block` where this follows a block, so that what is out is broadcast again.
    pub(super) fn plan(&mut self, new_block: bool) {
        let facts = self.resolver.facts();
        if facts.resolved {
            return;
        }
        let Some(confirmed) = &facts.confirmed else {
            self.drop_dead(&BTreeMap::new());
            if self.resolver.facts().closing {
                self.plan_commitment(new_block);
            }
            return;
        };
        let (kind, height) = (confirmed.kind, confirmed.height);
        let stakes = self.resolver.stakes(self.cx.signer, &self.cx.settings);
        let by_outpoint: BTreeMap<OutPoint, &Stake> = stakes.iter().map(|stake| (stake.outpoint, stake)).collect();
        self.drop_dead(&by_outpoint);
        self.renew(&by_outpoint, new_block);
        self.launch(&stakes, new_block);
        self.report(&stakes);
        if self.is_buried(height) && !self.resolver.facts().buried {
            self.record(Change::Buried);
            self.effects.push(Effect::Buried { kind });
        }
        let reported = &self.resolver.facts().reported;
        let all_told = self.resolver.channel().htlcs().iter().all(|(key, _)| reported.contains(key));
        if all_told && self.is_buried(height) && stakes.iter().all(|stake| self.is_final(stake)) {
            self.record(Change::Resolved);
            self.effects.push(Effect::Resolved { height: self.resolver.facts().tip });
        }
    }

    /// Forgets claims that have confirmed, and those that cannot any more: an input was taken by somebody else, or what it
    /// spent is no longer in the chain. Near a deadline one that takes several outputs is taken apart.
    fn drop_dead(&mut self, stakes: &BTreeMap<OutPoint, &Stake>) {
        let facts = self.resolver.facts();
        let (tip, confirmed) = (facts.tip, facts.confirmed.as_ref().map(|confirmed| confirmed.kind));
        let commitment = self.resolver.local_commitment().txid();
        let mut dead = Vec::new();
        for (key, claimed) in &facts.claimed {
            let is_child = key.txid == commitment && !stakes.contains_key(key) && claimed.outpoints == [*key];
            if is_child && confirmed.is_none() {
                continue;
            }
            let txid = claimed.transaction.compute_txid();
            let spent_by = |outpoint: &OutPoint| facts.spends.get(outpoint).map(|spend| spend.txid);
            let is_unspent = |outpoint: &OutPoint| stakes.contains_key(outpoint) && spent_by(outpoint).is_none();
            let is_alive = claimed.outpoints.iter().all(is_unspent);
            let has_confirmed = claimed.outpoints.iter().any(|outpoint| spent_by(outpoint) == Some(txid))
                || (is_child && confirmed == Some(CloseKind::Local));
            let parts = is_alive && must_part(claimed, stakes, tip);
            if !is_alive || parts {
                let abandoned = !is_alive && !has_confirmed;
                dead.push((*key, abandoned.then_some(txid), parts.then_some(claimed.fee)));
            }
        }
        for (key, abandoned, parted) in dead {
            self.effects.extend(abandoned.map(Effect::Abandoned));
            if let (Some(fee), Some(largest)) = (parted, self.largest(key)) {
                self.parted.insert(largest, fee);
            }
            self.record(Change::Dropped(key));
        }
    }

    /// The most valuable output that a claim takes: what can pay most to push the claim of them all out of the mempool.
    fn largest(&self, key: OutPoint) -> Option<OutPoint> {
        let claimed = self.resolver.facts().claimed.get(&key)?;
        let stakes = self.resolver.stakes(self.cx.signer, &self.cx.settings);
        let taken = stakes.iter().filter(|stake| claimed.outpoints.contains(&stake.outpoint));
        taken.max_by_key(|stake| stake.output.value).map(|stake| stake.outpoint)
    }

    /// Replaces what is out and lags; else, after a block, broadcasts it again.
    fn renew(&mut self, stakes: &BTreeMap<OutPoint, &Stake>, new_block: bool) {
        let out: Vec<(OutPoint, Claimed)> =
            self.resolver.facts().claimed.iter().map(|(key, claimed)| (*key, claimed.clone())).collect();
        for (key, old) in out {
            let group: Vec<&Stake> =
                old.outpoints.iter().filter_map(|outpoint| stakes.get(outpoint).copied()).collect();
            // After a reorganisation it may have to wait again.
            if group.iter().any(|stake| stake.mature_at > self.resolver.facts().tip.plus(1)) {
                continue;
            }
            let urgency = self.urgency(&group, new_block);
            let feerate = self.asked_above(&key, old.feerate).max(urgency.replacement(&self.cx.feerates, old.feerate));
            let replaced = feerate.is_some_and(|feerate| self.broadcast_claim(&group, feerate, Some((key, &old))));
            // A replacement that the wallet must fund may be refused: what is out stays out then.
            if new_block && (!replaced || !old.coins.is_empty()) {
                self.effects.push(Effect::Broadcast(vec![old.transaction]));
            }
        }
    }

    /// Claims what is mature, worth it, and not yet claimed.
    fn launch(&mut self, stakes: &[Stake], new_block: bool) {
        let facts = self.resolver.facts();
        let next = facts.tip.plus(1);
        let covered: BTreeSet<OutPoint> =
            facts.claimed.values().flat_map(|claimed| &claimed.outpoints).copied().collect();
        let script = &self.resolver.channel().sweep_script;
        let mut groups: BTreeMap<Class, Vec<&Stake>> = BTreeMap::new();
        for stake in stakes {
            let is_open = !covered.contains(&stake.outpoint) && !facts.spends.contains_key(&stake.outpoint);
            if is_open
                && stake.mature_at <= next
                && stake.is_worthwhile(script)
                && let Some(class) = class_of(stake, facts.tip)
            {
                groups.entry(class).or_default().push(stake);
            }
        }
        for group in groups.values().flat_map(|group| group.chunks(MOST_CLAIMS)) {
            let feerate = self.urgency(group, new_block).feerate(&self.cx.feerates);
            self.broadcast_claim(group, feerate, None);
        }
    }

    /// What the operator asked this claim to pay, where that is more than it pays.
    pub(super) fn asked_above(&self, key: &OutPoint, paid: FeeratePerKw) -> Option<FeeratePerKw> {
        self.resolver.facts().asked.get(key).copied().filter(|asked| *asked > paid)
    }

    fn urgency(&self, group: &[&Stake], new_block: bool) -> Urgency {
        let deadline = group.iter().filter_map(|stake| stake.deadline).min();
        Urgency::new(self.resolver.facts().tip, deadline, new_block)
    }

    /// Broadcasts, or asks a fee for, one claim; whether it did.
    fn broadcast_claim(&mut self, group: &[&Stake], feerate: FeeratePerKw, old: Option<(OutPoint, &Claimed)>) -> bool {
        let Some(first) = group.first() else { return false };
        match &first.way {
            Way::NoPreimage => false,
            Way::Claim(_) => self.broadcast_sweep(group, feerate, old),
            Way::HtlcTransaction(second) if second.has_anchors => {
                let request = fund_request(group, feerate, old.map(|(_, old)| old));
                let asked = request.floor <= request.limit;
                if asked {
                    self.effects.push(Effect::Fund(Box::new(request)));
                }
                asked
            }
            Way::HtlcTransaction(_) if old.is_some() => false,
            Way::HtlcTransaction(second) => {
                let transaction = self.sign_htlc(second);
                self.claimed(first.outpoint, transaction, vec![first.outpoint], Amount::ZERO, feerate);
                true
            }
        }
    }

    fn broadcast_sweep(&mut self, group: &[&Stake], feerate: FeeratePerKw, old: Option<(OutPoint, &Claimed)>) -> bool {
        let script = self.resolver.channel().sweep_script.clone();
        let claims: Vec<Claim> = group
            .iter()
            .filter_map(|stake| match &stake.way {
                Way::Claim(claim) => Some((**claim).clone()),
                Way::HtlcTransaction(_) | Way::NoPreimage => None,
            })
            .collect();
        let total: Amount = claims.iter().map(|claim| claim.output.value).sum();
        let has_rival = group.iter().any(|stake| stake.deadline.is_some());
        // What is ours whatever comes can wait for a better feerate; half of it is the most that a miner gets.
        let budget = if has_rival { total } else { total / 2 };
        let limit = budget.min(total.checked_sub(script.minimal_non_dust()).unwrap_or(Amount::ZERO));
        let weight = ClaimTransaction::weight(&claims, &script);
        let parted = self.parted.get(&group[0].outpoint).copied();
        let old_fee = old.map(|(_, old)| old.fee).or(parted);
        let floor = old_fee.map_or(Amount::ZERO, |fee| replacement_floor(fee, weight));
        let Some(fee) = fee_within(feerate, weight, floor, limit) else { return false };
        let Some(transaction) = ClaimTransaction::build(claims, script, fee) else { return false };
        let signed = transaction.sign(self.cx.signer, &self.resolver.channel().key_id);
        let key = old.map_or(group[0].outpoint, |(key, _)| key);
        self.claimed(key, signed, group.iter().map(|stake| stake.outpoint).collect(), fee, feerate);
        true
    }

    fn claimed(
        &mut self,
        key: OutPoint,
        transaction: Transaction,
        outpoints: Vec<OutPoint>,
        fee: Amount,
        feerate: FeeratePerKw,
    ) {
        let claimed = Claimed { transaction: transaction.clone(), outpoints, fee, feerate, coins: Vec::new() };
        self.record(Change::Claimed(key, Box::new(claimed)));
        self.effects.push(Effect::Broadcast(vec![transaction]));
    }
}

fn must_part(claimed: &Claimed, stakes: &BTreeMap<OutPoint, &Stake>, tip: BlockHeight) -> bool {
    let near = |outpoint: &OutPoint| stakes.get(outpoint).is_some_and(|stake| is_near(stake, tip));
    claimed.outpoints.len() > 1 && claimed.coins.is_empty() && claimed.outpoints.iter().any(near)
}

fn is_near(stake: &Stake, tip: BlockHeight) -> bool {
    stake.deadline.is_some_and(|deadline| deadline <= tip.plus(ALONE_FROM))
}

fn class_of(stake: &Stake, tip: BlockHeight) -> Option<Class> {
    let alone = Class::Alone(stake.outpoint);
    match &stake.way {
        Way::NoPreimage => None,
        Way::HtlcTransaction(second) if !second.has_anchors => Some(alone),
        // The wallet may have one coin only: its claims share it, near the deadline too.
        Way::HtlcTransaction(second) if second.preimage.is_some() => Some(Class::FundedSuccess),
        Way::HtlcTransaction(_) => stake.htlc.map(|htlc| Class::FundedTimeout(htlc.expiry)),
        Way::Claim(_) if is_near(stake, tip) => Some(alone),
        Way::Claim(claim) => Some(match &claim.path {
            ClaimPath::HtlcPreimage { .. } => Class::Preimage,
            ClaimPath::HtlcTimeout { .. } => Class::Timeout,
            ClaimPath::Revoked { .. } | ClaimPath::RevokedHtlc { .. } => Class::Penalty,
            ClaimPath::DelayedPayment { .. } | ClaimPath::ToRemote { .. } => Class::Ours,
            ClaimPath::Anchor | ClaimPath::AnchorByAnyone => alone,
        }),
    }
}
