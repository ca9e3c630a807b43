//! What a claim pays: by the blocks that are left, never more than is at stake, and more with each replacement. And the child
//! that pays for our commitment.

use std::collections::BTreeMap;

use bitcoin::absolute::LockTime;
use bitcoin::sighash::SighashCache;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, Transaction, TxIn, TxOut, Txid, Witness};

use super::fact::{Change, Claimed, Delta, Effect, FundRequest};
use super::resolver::Turn;
use super::sweep::Way;
use crate::transactions::{Claim, ClaimPath, CommitmentTransaction, HtlcDirection, OutputRole, script};
use crate::units::{BlockHeight, FeeratePerKw};

/// What the backend estimates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feerates {
    /// To confirm within two blocks.
    pub urgent: FeeratePerKw,
    /// Within six.
    pub normal: FeeratePerKw,
    /// Within a day.
    pub relaxed: FeeratePerKw,
}

/// Two wallet inputs and a change output behind a child.
const FUNDING_WEIGHT: u64 = 2 * 272 + 124;
/// From so few blocks on, a claim is replaced at every block.
const PRESSING: u32 = 6;

/// How pressing a claim is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Urgency {
    /// Blocks until somebody else can take the output; `None` where nobody can.
    blocks_left: Option<u32>,
    /// Whether this decision follows a new block.
    new_block: bool,
}

impl Urgency {
    pub(super) fn new(tip: BlockHeight, deadline: Option<BlockHeight>, new_block: bool) -> Urgency {
        let blocks_left = deadline.map(|deadline| deadline.height().saturating_sub(tip.height()));
        Urgency { blocks_left, new_block }
    }

    /// The feerate that this urgency asks for; in the last blocks up to four times the most urgent estimate.
    pub(super) fn feerate(self, feerates: &Feerates) -> FeeratePerKw {
        let feerate = match self.blocks_left {
            None | Some(145..) => feerates.relaxed,
            Some(19..=144) => feerates.normal,
            Some(7..=18) => feerates.urgent,
            Some(left) => {
                FeeratePerKw::new((feerates.urgent.sat_per_kw() / 2).saturating_mul(8_u32.saturating_sub(left)))
            }
        };
        feerate.max(FeeratePerKw::FLOOR)
    }

    /// The feerate of a replacement of a claim that was made for `old`; `None` where it can wait.
    pub(super) fn replacement(self, feerates: &Feerates, old: FeeratePerKw) -> Option<FeeratePerKw> {
        let target = self.feerate(feerates);
        let grown = |parts: u32| FeeratePerKw::new(old.sat_per_kw().saturating_mul(parts) / 20);
        if target > grown(24) {
            return Some(target);
        }
        let is_pressing = self.new_block && self.blocks_left.is_some_and(|left| left <= PRESSING);
        is_pressing.then(|| target.max(grown(25)))
    }
}

/// The least that a replacement pays: the old fee and the relay feerate for its own weight (BIP 125, rules 3 and 4).
pub(super) fn replacement_floor(old_fee: Amount, weight: u64) -> Amount {
    old_fee + FeeratePerKw::FLOOR.fee_ceil(weight)
}

/// The fee for `weight` at `feerate`, between `floor` and `limit`; `None` where these leave nothing that relays.
pub(super) fn fee_within(feerate: FeeratePerKw, weight: u64, floor: Amount, limit: Amount) -> Option<Amount> {
    let floor = floor.max(FeeratePerKw::FLOOR.fee_ceil(weight));
    (floor <= limit).then(|| feerate.fee_ceil(weight).clamp(floor, limit))
}

impl Turn<'_> {
    /// Our commitment, and the child that pays for it where its own feerate is too low.
    pub(super) fn plan_commitment(&mut self, new_block: bool) {
        let commitment = self.resolver.local_commitment();
        let parent = self.resolver.signed_local_commitment(self.cx.signer);
        let Some(request) = self.child_request(commitment, &parent, new_block) else {
            let child = self.child(commitment).map(|(_, child)| child.transaction.clone());
            if new_block {
                self.effects.push(Effect::Broadcast([Some(parent), child].into_iter().flatten().collect()));
            }
            return;
        };
        if new_block {
            self.effects.push(Effect::Broadcast(vec![parent]));
        }
        self.effects.push(Effect::Fund(Box::new(request)));
    }

    fn child(&self, commitment: &CommitmentTransaction) -> Option<(OutPoint, &Claimed)> {
        let vout = commitment.output_index(OutputRole::BroadcasterAnchor)?;
        let key = OutPoint { txid: commitment.txid(), vout };
        Some((key, self.resolver.facts().claimed.get(&key)?))
    }

    /// The first child or its replacement; `None` where there is no anchor, no need, or nothing at stake.
    fn child_request(
        &self,
        commitment: &CommitmentTransaction,
        parent: &Transaction,
        new_block: bool,
    ) -> Option<FundRequest> {
        let (channel, facts) = (self.resolver.channel(), self.resolver.facts());
        let vout = commitment.output_index(OutputRole::BroadcasterAnchor)?;
        let key = OutPoint { txid: commitment.txid(), vout };
        let balance = commitment.output_index(OutputRole::ToBroadcaster);
        let balance = balance.map_or(Amount::ZERO, |vout| parent.output[vout as usize].value);
        let (at_stake, deadline) = self.at_stake(commitment);
        let urgency = Urgency::new(facts.tip, deadline, new_block);
        let old = facts.claimed.get(&key);
        let feerate = match old {
            // Without an HTLC nothing presses, but nobody wants to wait a day.
            None => {
                let feerate = urgency.feerate(&self.cx.feerates).max(self.cx.feerates.normal);
                self.asked_above(&key, feerate).unwrap_or(feerate)
            }
            Some(old) => {
                let due = urgency.replacement(&self.cx.feerates, old.feerate);
                self.asked_above(&key, old.feerate).max(due)?
            }
        };
        let (parent_weight, parent_fee) = (parent.weight().to_wu(), commitment.fee());
        let is_enough = parent_fee >= feerate.fee_ceil(parent_weight);
        if is_enough || at_stake + balance < FeeratePerKw::FLOOR.fee_ceil(parent_weight) {
            return None;
        }
        let claim = Claim {
            outpoint: key,
            output: parent.output[vout as usize].clone(),
            witness_script: script::anchor(&channel.local.terms().broadcaster.funding_pubkey),
            path: ClaimPath::Anchor,
        };
        // An input, its witness, one wallet input and one change output: what the replacement weighs at least.
        let floor = old.map_or(Amount::ZERO, |old| replacement_floor(old.fee, old.transaction.weight().to_wu()));
        let transaction = unsigned(vec![claim.input()], Vec::new(), 0);
        let witness_weight = claim.weight() - 4 * 41;
        let (spent, replaces) = (vec![claim.output], old.map(replaced));
        // Whatever presses, an HTLC is not saved for more than it holds. That our balance comes at all may cost what blocks
        // cost now, and what the operator asks for.
        let usual = self.asked_above(&key, FeeratePerKw::new(0)).unwrap_or_default().max(self.cx.feerates.normal);
        let weight = parent_weight + transaction.weight().to_wu() + witness_weight + FUNDING_WEIGHT;
        let usual = usual.fee_ceil(weight).checked_sub(parent_fee).unwrap_or_default();
        let limit = at_stake.max(usual.min(at_stake + balance));
        let request = FundRequest {
            key,
            transaction,
            spent,
            witness_weight,
            feerate,
            parent_weight,
            parent_fee,
            floor,
            limit,
            replaces,
        };
        (request.floor <= request.limit).then_some(request)
    }

    /// What the HTLCs hold that a close in time saves, and when the first of them ends.
    fn at_stake(&self, commitment: &CommitmentTransaction) -> (Amount, Option<BlockHeight>) {
        let preimages = &self.resolver.facts().preimages;
        let at_risk = commitment
            .htlcs()
            .iter()
            .map(|committed| &committed.htlc)
            .filter(|htlc| htlc.direction == HtlcDirection::Offered || preimages.contains_key(&htlc.payment_hash));
        let deadline = at_risk.clone().map(|htlc| BlockHeight::new(htlc.cltv_expiry.height())).min();
        (at_risk.map(|htlc| htlc.amount.to_amount_floor()).sum(), deadline)
    }

    /// The wallet has paid: signs the channel's inputs and broadcasts.
    pub(super) fn funded(&mut self, key: OutPoint, mut transaction: Transaction, spent: Vec<TxOut>, fee: Amount) {
        let Some(request) = self.request(key) else { return };
        let own = request.transaction.input.len();
        let keeps = transaction.input[..own] == request.transaction.input[..]
            && transaction.output[..request.transaction.output.len()] == request.transaction.output[..]
            && transaction.lock_time == request.transaction.lock_time;
        assert!(keeps && fee <= request.limit, "the wallet adds inputs and change, and nothing else");
        let coins: Vec<(OutPoint, TxOut)> =
            transaction.input[own..].iter().map(|input| input.previous_output).zip(spent).collect();
        let stakes = self.resolver.stakes(self.cx.signer, &self.cx.settings);
        let unsigned = transaction.clone();
        for (index, input) in transaction.input[..own].iter_mut().enumerate() {
            let stake = stakes.iter().find(|stake| stake.outpoint == input.previous_output);
            input.witness = match stake.map(|stake| &stake.way) {
                Some(Way::HtlcTransaction(second)) => self.htlc_witness(second, &unsigned, index),
                Some(Way::Claim(_) | Way::NoPreimage) | None => self.anchor_witness(&request, &unsigned, index),
            };
        }
        let outpoints = transaction.input[..own].iter().map(|input| input.previous_output).collect();
        let package = match self.resolver.facts().confirmed {
            Some(_) => vec![transaction.clone()],
            None => vec![self.resolver.signed_local_commitment(self.cx.signer), transaction.clone()],
        };
        let claimed = Claimed { transaction, outpoints, fee, feerate: request.feerate, coins };
        self.record(Change::Claimed(key, Box::new(claimed)));
        self.effects.push(Effect::Broadcast(package));
    }

    fn anchor_witness(&self, request: &FundRequest, transaction: &Transaction, index: usize) -> Witness {
        let channel = self.resolver.channel();
        let claim = Claim {
            outpoint: request.key,
            output: request.spent[index].clone(),
            witness_script: script::anchor(&channel.local.terms().broadcaster.funding_pubkey),
            path: ClaimPath::Anchor,
        };
        let mut cache = SighashCache::new(transaction);
        claim.sign(self.cx.signer, &channel.key_id, &mut cache, index)
    }

    /// The request of that name that the facts of this moment lead to.
    fn request(&self, key: OutPoint) -> Option<FundRequest> {
        let requests = |new_block| {
            let (resolver, delta) = (self.resolver.clone(), Delta::default());
            let mut probe = Turn { resolver, cx: self.cx, delta, effects: Vec::new(), parted: BTreeMap::new() };
            probe.plan(new_block);
            probe.effects.into_iter().find_map(|effect| match effect {
                Effect::Fund(request) if request.key == key => Some(*request),
                _ => None,
            })
        };
        requests(false).or_else(|| requests(true))
    }
}

/// What a request says of the version that it replaces.
pub(super) fn replaced(old: &Claimed) -> (Txid, Vec<(OutPoint, TxOut)>) {
    (old.transaction.compute_txid(), old.coins.clone())
}

/// A transaction of version 2 without witnesses.
pub(super) fn unsigned(input: Vec<TxIn>, output: Vec<TxOut>, lock_time: u32) -> Transaction {
    Transaction { version: Version::TWO, lock_time: LockTime::from_consensus(lock_time), input, output }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEERATES: Feerates = Feerates {
        urgent: FeeratePerKw::new(4_000),
        normal: FeeratePerKw::new(2_000),
        relaxed: FeeratePerKw::new(100),
    };

    fn urgency(left: Option<u32>, new_block: bool) -> Urgency {
        Urgency::new(BlockHeight::new(100), left.map(|left| BlockHeight::new(100 + left)), new_block)
    }

    #[test]
    fn the_nearer_the_deadline_the_higher_the_feerate() {
        let mut last = FeeratePerKw::new(0);
        for left in [None, Some(1_000), Some(144), Some(18), Some(6), Some(3), Some(0)] {
            let feerate = urgency(left, true).feerate(&FEERATES);
            assert!(feerate >= last, "{left:?}");
            assert!(feerate >= FeeratePerKw::FLOOR);
            last = feerate;
        }
        assert_eq!(last, FeeratePerKw::new(16_000));
    }

    #[test]
    fn a_claim_is_replaced_when_it_lags_or_presses() {
        let old = FeeratePerKw::new(2_000);
        assert_eq!(urgency(Some(100), true).replacement(&FEERATES, old), None);
        assert_eq!(urgency(Some(18), true).replacement(&FEERATES, old), Some(FeeratePerKw::new(4_000)));
        let high = FeeratePerKw::new(8_000);
        assert_eq!(urgency(Some(5), false).replacement(&FEERATES, high), None);
        assert_eq!(urgency(Some(5), true).replacement(&FEERATES, high), Some(FeeratePerKw::new(10_000)));
    }

    #[test]
    fn a_fee_never_exceeds_its_limit() {
        let (feerate, sat) = (FeeratePerKw::new(10_000), Amount::from_sat);
        assert_eq!(fee_within(feerate, 1_000, Amount::ZERO, sat(4_000)), Some(sat(4_000)));
        assert_eq!(fee_within(feerate, 1_000, Amount::ZERO, sat(252)), None);
        assert_eq!(fee_within(feerate, 1_000, sat(11_000), sat(20_000)), Some(sat(11_000)));
        assert_eq!(fee_within(feerate, 1_000, sat(11_000), sat(10_999)), None);
    }
}
