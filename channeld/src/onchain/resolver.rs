//! The machine: facts in, plans out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::{Amount, OutPoint, Transaction, Txid, Witness};
use serde::{Deserialize, Serialize};

use super::classify::{CloseKind, classify_with};
use super::closed::{Built, ClosedChannel};
use super::fact::{Change, Claimed, Confirmed, Context, Delta, Effect, HtlcKey, Input, Spend};
use crate::keys::Signer;
use crate::transactions::htlc::revealed_preimage;
use crate::transactions::{CommitmentTransaction, HtlcHistory, OutputRole};
use crate::units::{BlockHeight, CommitmentNumber, FeeratePerKw, PaymentHash, Preimage};

/// One channel on the chain.
#[derive(Clone, Serialize, Deserialize)]
pub struct Resolver {
    channel: Arc<ClosedChannel>,
    facts: Facts,
    #[serde(skip)]
    built: Arc<Built>,
}

impl PartialEq for Resolver {
    fn eq(&self, other: &Resolver) -> bool {
        self.channel == other.channel && self.facts == other.facts
    }
}

impl Eq for Resolver {}

/// What is known; everything else is planned from it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Facts {
    pub(super) tip: BlockHeight,
    pub(super) closing: bool,
    pub(super) confirmed: Option<Confirmed>,
    pub(super) spends: BTreeMap<OutPoint, Spend>,
    pub(super) preimages: BTreeMap<PaymentHash, Preimage>,
    pub(super) claimed: BTreeMap<OutPoint, Claimed>,
    pub(super) reported: BTreeSet<HtlcKey>,
    pub(super) resolved: bool,
    pub(super) buried: bool,
    /// What the operator asked claims to pay at least.
    pub(super) asked: BTreeMap<OutPoint, FeeratePerKw>,
}

impl Resolver {
    /// A resolver at `tip`, from when the channel fails or its funding output is spent. `preimages` are those that this
    /// node would use: of incoming HTLCs that it has settled.
    pub fn new(channel: ClosedChannel, preimages: &[Preimage], tip: BlockHeight) -> Resolver {
        let preimages = preimages.iter().map(|preimage| (preimage.payment_hash(), *preimage)).collect();
        let facts = Facts {
            tip,
            closing: false,
            confirmed: None,
            spends: BTreeMap::new(),
            preimages,
            claimed: BTreeMap::new(),
            reported: BTreeSet::new(),
            resolved: false,
            buried: false,
            asked: BTreeMap::new(),
        };
        Resolver { channel: Arc::new(channel), facts, built: Arc::default() }
    }

    /// The preimage of a payment, where it may be used on the chain.
    pub fn preimage(&self, payment_hash: &PaymentHash) -> Option<Preimage> {
        self.facts.preimages.get(payment_hash).copied()
    }

    /// Decides, changing nothing.
    ///
    /// # Panics
    /// If [`Input::Funded`] answers something else than was asked.
    pub fn decide(&self, input: Input, cx: &Context<'_>) -> (Delta, Vec<Effect>) {
        let (resolver, delta) = (self.clone(), Delta::default());
        let mut turn = Turn { resolver, cx, delta, effects: Vec::new(), parted: BTreeMap::new() };
        match input {
            Input::ForceClose => {
                turn.record(Change::Closing);
                turn.plan(true);
            }
            Input::BlockConnected { height, transactions, history } => {
                turn.record(Change::Tip(height));
                for transaction in &transactions {
                    turn.connect(transaction, height, &history);
                }
                turn.plan(true);
            }
            Input::BlockDisconnected { height } => {
                let below = BlockHeight::new(height.height().saturating_sub(1));
                let was_closed = self.facts.confirmed.is_some();
                turn.record(Change::Unwound(below));
                if was_closed && turn.resolver.facts.confirmed.is_none() {
                    turn.effects.push(Effect::Undone);
                }
                turn.plan(false);
            }
            Input::PreimageLearned(preimage) => {
                turn.record(Change::Preimage(preimage));
                turn.plan(false);
            }
            Input::FeerateUpdated => turn.plan(false),
            Input::Bump { key, feerate } => {
                turn.record(Change::Asked(key, feerate));
                turn.plan(false);
            }
            Input::Funded { key, transaction, spent, fee } => turn.funded(key, transaction, spent, fee),
        }
        (turn.delta, turn.effects)
    }

    /// The only way to change it.
    pub fn apply(&mut self, delta: &Delta) {
        delta.changes.iter().for_each(|change| self.apply_change(change));
    }

    fn apply_change(&mut self, change: &Change) {
        let facts = &mut self.facts;
        match change {
            Change::Tip(height) => facts.tip = *height,
            Change::Closing => facts.closing = true,
            Change::Confirmed(confirmed) => facts.confirmed = Some((**confirmed).clone()),
            Change::Spent(outpoint, spend) => {
                facts.spends.insert(*outpoint, (**spend).clone());
            }
            Change::Unwound(height) => {
                facts.tip = *height;
                facts.spends.retain(|_, spend| spend.height <= *height);
                facts.confirmed = facts.confirmed.take().filter(|confirmed| confirmed.height <= *height);
                facts.resolved = false;
            }
            Change::Preimage(preimage) => {
                facts.preimages.insert(preimage.payment_hash(), *preimage);
            }
            Change::Claimed(key, claimed) => {
                facts.claimed.insert(*key, (**claimed).clone());
            }
            Change::Dropped(key) => {
                facts.claimed.remove(key);
                facts.asked.remove(key);
            }
            Change::Reported(key) => {
                facts.reported.insert(*key);
            }
            Change::Resolved => facts.resolved = true,
            Change::Buried => facts.buried = true,
            Change::Asked(key, feerate) => {
                facts.asked.insert(*key, *feerate);
            }
        }
    }

    /// What this is about.
    pub fn channel(&self) -> &ClosedChannel {
        &self.channel
    }

    /// Our newest commitment.
    pub(super) fn local_commitment(&self) -> &CommitmentTransaction {
        self.built.local(&self.channel)
    }

    /// The peer's newest commitment that is not revoked.
    pub(super) fn remote_commitment(&self) -> &CommitmentTransaction {
        self.built.remote(&self.channel)
    }

    /// The one that will replace it.
    pub(super) fn next_remote_commitment(&self) -> Option<&CommitmentTransaction> {
        self.built.next_remote(&self.channel)
    }

    /// Our newest commitment, signed by both sides: what goes on the chain when the channel fails.
    pub fn signed_local_commitment(&self, signer: &Signer) -> Transaction {
        let channel = &self.channel;
        let signature = &channel.local_commitment.signatures.commitment;
        self.local_commitment().signed(&channel.local, signer, &channel.key_id, signature)
    }

    pub(super) const fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Whether our commitment is to be on the chain.
    pub const fn is_closing(&self) -> bool {
        self.facts.closing
    }

    /// What took the funding output, and where; `None` while it is unspent.
    pub fn confirmed(&self) -> Option<(CloseKind, BlockHeight)> {
        self.facts.confirmed.as_ref().map(|confirmed| (confirmed.kind, confirmed.height))
    }

    /// The height it has seen.
    pub const fn tip(&self) -> BlockHeight {
        self.facts.tip
    }

    /// Whether the spend of the funding output was buried once: what it says of payments is booked.
    pub const fn was_buried(&self) -> bool {
        self.facts.buried
    }

    /// Whether nothing is left to do.
    pub const fn is_resolved(&self) -> bool {
        self.facts.resolved
    }

    /// The claims that are out and unconfirmed.
    pub fn claims(&self) -> impl Iterator<Item = &Claimed> {
        self.facts.claimed.values()
    }

    /// The claim that is out under this name.
    pub fn claim(&self, key: &OutPoint) -> Option<&Claimed> {
        self.facts.claimed.get(key)
    }

    /// The name of the claim that [`Input::Bump`] is to be about, by the id of a transaction that is out: a claim, the child
    /// of our commitment, or our commitment itself, which only a child makes dearer.
    pub fn bumpable(&self, txid: Txid) -> Option<OutPoint> {
        let is_it = |claimed: &Claimed| claimed.transaction.compute_txid() == txid;
        let claim = self.facts.claimed.iter().find(|(_, claimed)| is_it(claimed)).map(|(key, _)| *key);
        let commitment = self.local_commitment();
        let is_out = self.facts.closing && self.facts.confirmed.is_none() && commitment.txid() == txid;
        let anchor = || Some(OutPoint { txid, vout: commitment.output_index(OutputRole::BroadcasterAnchor)? });
        claim.or_else(|| is_out.then(anchor).flatten())
    }

    /// Outputs that are ours to take and are not taken yet, with what they hold and the first block that may hold the claim.
    pub fn claimable(&self, cx: &Context<'_>) -> Vec<(OutPoint, Amount, BlockHeight)> {
        let stakes = self.stakes(cx.signer, &cx.settings).into_iter();
        let ours = stakes.filter(|stake| {
            !self.facts.spends.contains_key(&stake.outpoint) && !matches!(stake.way, super::sweep::Way::NoPreimage)
        });
        ours.map(|stake| (stake.outpoint, stake.output.value, stake.mature_at)).collect()
    }

    /// Of a revoked commitment, the outputs that are the peer's and that we take for its fraud: not our own balance.
    pub fn penalty_outputs(&self, cx: &Context<'_>) -> BTreeSet<OutPoint> {
        let stakes = self.stakes(cx.signer, &cx.settings).into_iter();
        stakes.filter(super::sweep::Stake::is_penalty).map(|stake| stake.outpoint).collect()
    }

    /// The number of the revoked commitment in `transaction`, whose rows of history the next input must bring.
    pub fn revoked_number(&self, signer: &Signer, transaction: &Transaction) -> Option<CommitmentNumber> {
        let funding = self.channel.funding_outpoint();
        if !transaction.input.iter().any(|input| input.previous_output == funding) {
            return None;
        }
        match classify_with(&self.channel, &self.built, signer, transaction) {
            CloseKind::Revoked(number) => Some(number),
            _ => None,
        }
    }

    /// Every output whose spend matters now: what the node watches after a restart.
    pub fn watched(&self, cx: &Context<'_>) -> BTreeSet<OutPoint> {
        let mut watched = BTreeSet::from([self.channel.funding_outpoint()]);
        if let Some(confirmed) = &self.facts.confirmed {
            let txid = confirmed.transaction.compute_txid();
            watched.extend((0..).zip(&confirmed.transaction.output).map(|(vout, _)| OutPoint { txid, vout }));
            watched.extend(self.stakes(cx.signer, &cx.settings).iter().map(|stake| stake.outpoint));
        }
        watched
    }
}

/// The transactions of a block that spend an output in `watched`, or an output of one that does: what a resolver must see
/// when commitment, HTLC transactions and their spends share a block. In the order of the block.
pub fn relevant_transactions<'a>(
    watched: &BTreeSet<OutPoint>,
    block: impl IntoIterator<Item = &'a Transaction>,
) -> Vec<Transaction> {
    let mut made = BTreeSet::new();
    let mut relevant = Vec::new();
    for transaction in block {
        let concerns = |outpoint: &OutPoint| watched.contains(outpoint) || made.contains(&outpoint.txid);
        if transaction.input.iter().any(|input| concerns(&input.previous_output)) {
            made.insert(transaction.compute_txid());
            relevant.push(transaction.clone());
        }
    }
    relevant
}

/// One decision on its way: a copy of the resolver that is already changed, and what has come of it so far.
pub(super) struct Turn<'a> {
    pub(super) resolver: Resolver,
    pub(super) cx: &'a Context<'a>,
    pub(super) delta: Delta,
    pub(super) effects: Vec<Effect>,
    /// Outputs whose common claim was just taken apart, and what that claim paid.
    pub(super) parted: BTreeMap<OutPoint, Amount>,
}

impl Turn<'_> {
    pub(super) fn record(&mut self, change: Change) {
        self.resolver.apply_change(&change);
        self.delta.changes.push(change);
    }

    fn connect(&mut self, transaction: &Transaction, height: BlockHeight, history: &[HtlcHistory]) {
        let funding = self.resolver.channel.funding_outpoint();
        let spends_funding = transaction.input.iter().any(|input| input.previous_output == funding);
        if spends_funding {
            self.confirm(transaction, height, history);
        } else if self.resolver.facts.confirmed.is_some() {
            self.spend(transaction, height);
        }
    }

    fn confirm(&mut self, transaction: &Transaction, height: BlockHeight, history: &[HtlcHistory]) {
        let resolver = &self.resolver;
        let kind = classify_with(&resolver.channel, &resolver.built, self.cx.signer, transaction);
        let history = match kind {
            CloseKind::Revoked(number) => history.iter().filter(|row| row.was_on(number)).copied().collect(),
            _ => Vec::new(),
        };
        let transaction = transaction.clone();
        let txid = transaction.compute_txid();
        self.effects.push(Effect::Closed { kind, txid, height });
        let watch = (0..).zip(&transaction.output).map(|(vout, _)| Effect::Watch(OutPoint { txid, vout }));
        self.effects.extend(watch);
        self.record(Change::Confirmed(Box::new(Confirmed { kind, height, transaction, history })));
    }

    fn spend(&mut self, transaction: &Transaction, height: BlockHeight) {
        let stakes = self.resolver.stakes(self.cx.signer, &self.cx.settings);
        let txid = transaction.compute_txid();
        for (index, input) in (0..).zip(&transaction.input) {
            let outpoint = input.previous_output;
            let Some(stake) = stakes.iter().find(|stake| stake.outpoint == outpoint) else { continue };
            if let Some(htlc) = &stake.htlc {
                self.learn(&input.witness, &htlc.payment_hash);
            }
            let sibling = transaction.output.get(index as usize).cloned();
            let script = &self.resolver.channel.sweep_script;
            let is_ours = transaction.output.iter().any(|output| output.script_pubkey == *script);
            if is_ours {
                let amount = stake.output.value;
                self.effects.push(Effect::OutputSwept { outpoint, amount, txid, height });
            }
            let spend = Spend { txid, height, input: index, sibling, is_ours };
            self.record(Change::Spent(outpoint, Box::new(spend)));
        }
        let known: BTreeSet<OutPoint> = stakes.iter().map(|stake| stake.outpoint).collect();
        let now = self.resolver.stakes(self.cx.signer, &self.cx.settings);
        let new = now.iter().map(|stake| stake.outpoint).filter(|outpoint| !known.contains(outpoint));
        self.effects.extend(new.map(Effect::Watch));
    }

    fn learn(&mut self, witness: &Witness, payment_hash: &PaymentHash) {
        if self.resolver.facts.preimages.contains_key(payment_hash) {
            return;
        }
        if let Some(preimage) = revealed_preimage(witness, payment_hash) {
            self.record(Change::Preimage(preimage));
        }
    }
}
