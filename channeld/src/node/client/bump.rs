//! Unconfirmed transactions that a person wants to confirm sooner: the wallet's, and those of closing channels.

use std::collections::BTreeSet;
use std::sync::Arc;

use bitcoin::{Amount, OutPoint, Txid, Weight};

use super::{Outcome, wallet_refusal};
use crate::channel::Phase;
use crate::node::Node;
use crate::node::api::command::BumpTransaction;
use crate::node::api::refusal::Refusal;
use crate::node::api::reply::{BumpKind, Bumped, Reply};
use crate::node::input::Effect;
use crate::onchain;
use crate::units::{ChannelId, FeeratePerKw};
use crate::wallet::{Bump, WalletError};

impl Node {
    pub(super) fn bump(&mut self, bump: &BumpTransaction) -> Outcome {
        let feerate =
            bump.feerate.map_or_else(|| Ok(self.feerate(1)), |feerate| self.checked_feerate(Some(feerate)))?;
        let claim = self.state.resolvers.iter().find_map(|(id, it)| Some((*id, it.bumpable(bump.txid)?)));
        match claim {
            Some((channel, key)) => self.bump_claim(channel, key, feerate, bump),
            None => self.bump_coin(feerate, bump),
        }
        .map(Reply::Bumped)
    }

    fn bump_coin(&mut self, feerate: FeeratePerKw, bump: &BumpTransaction) -> Result<Bumped, Refusal> {
        let closing = self.closing_transaction(&bump.txid);
        let known = self.wallet.transaction(&bump.txid).is_some();
        if !known && closing.is_none() {
            return Err(Refusal::TransactionNotFound);
        }
        let now = self.moment.now.seconds();
        if let (false, Some(closing)) = (known, &closing) {
            // What it pays us is spent by a child: the wallet has to know of it.
            self.wallet.apply_unconfirmed([Arc::new(closing.clone())], now);
        }
        let mut fixed: BTreeSet<Txid> = self.funding_outpoints().map(|(_, outpoint)| outpoint.txid).collect();
        fixed.extend(closing.is_some().then_some(bump.txid));
        let (reserve, entropy) = (self.reserve(), self.draw("wallet/bump"));
        let limit = bump.max_fee_sat.map(Amount::from_sat);
        let from_payment = bump.from_payment;
        let asked = Bump { txid: bump.txid, feerate, limit, reserve, from_payment, fixed: &fixed };
        let made = self.wallet.bump(&asked, &entropy);
        if !known && (made.is_err() || bump.validate_only) {
            self.wallet.evict([bump.txid], now);
        }
        let made = made.map_err(wallet_refusal)?;
        let kind = if made.replaces.is_some() { BumpKind::Replacement } else { BumpKind::Child };
        let transaction = made.draft.transaction;
        let txid = transaction.compute_txid();
        if !bump.validate_only {
            // Two versions seen in the same second would be taken for equals.
            self.wallet.evict(made.replaces, now);
            self.wallet.apply_unconfirmed([Arc::new(transaction.clone())], now);
            self.turns.push(Effect::Broadcast(vec![transaction]));
        }
        Ok(Bumped { txid, fee: made.draft.fee, kind, replaces: made.replaces })
    }

    /// The closing transaction of a channel with that id, as long as it is in no block.
    fn closing_transaction(&self, txid: &Txid) -> Option<bitcoin::Transaction> {
        self.state.channels.values().find_map(|entry| match &entry.channel.funded()?.phase {
            Phase::MutuallyClosed { transaction, .. } if transaction.compute_txid() == *txid => {
                Some(transaction.clone())
            }
            _ => None,
        })
    }

    /// What would come of it is looked at first, so that a refusal changes nothing.
    fn bump_claim(
        &mut self,
        id: ChannelId,
        key: OutPoint,
        feerate: FeeratePerKw,
        bump: &BumpTransaction,
    ) -> Result<Bumped, Refusal> {
        let resolver = self.state.resolvers.get(&id).ok_or(Refusal::TransactionNotFound)?;
        let old = resolver.claim(&key);
        if old.is_some_and(|old| old.feerate >= feerate) {
            return Err(wallet_refusal(WalletError::FeerateTooLow));
        }
        let replaces = old.map(|old| old.transaction.compute_txid());
        let input = onchain::Input::Bump { key, feerate };
        let (delta, effects) = resolver.decide(input.clone(), &self.chain_context());
        let fee = self.claim_cost(key, &delta, &effects, bump.max_fee_sat.map(Amount::from_sat))?;
        if bump.validate_only {
            return Ok(Bumped { txid: bump.txid, fee, kind: BumpKind::Claim, replaces });
        }
        self.resolve(id, input);
        let claim = self.state.resolvers.get(&id).and_then(|resolver| resolver.claim(&key));
        let claim = claim.ok_or(Refusal::NotReplaceable)?;
        let txid = claim.transaction.compute_txid();
        Ok(Bumped { txid, fee: claim.fee, kind: BumpKind::Claim, replaces })
    }

    /// What the new version of a claim would pay: by itself, or with the wallet's help.
    fn claim_cost(
        &mut self,
        key: OutPoint,
        delta: &onchain::Delta,
        effects: &[onchain::Effect],
        limit: Option<Amount>,
    ) -> Result<Amount, Refusal> {
        let made = delta.changes.iter().find_map(|change| match change {
            onchain::Change::Claimed(name, claimed) if *name == key => Some(claimed.fee),
            _ => None,
        });
        if let Some(fee) = made {
            let limit = limit.filter(|limit| fee > *limit);
            return limit
                .map_or(Ok(fee), |limit| Err(wallet_refusal(WalletError::FeeAboveLimit { needed: fee, limit })));
        }
        let request = effects.iter().find_map(|effect| match effect {
            onchain::Effect::Fund(request) if request.key == key => Some(request),
            _ => None,
        });
        let mut claim = self.claim_of(request.ok_or(Refusal::NotReplaceable)?);
        claim.0.fee.limit = limit.map_or(claim.0.fee.limit, |limit| limit.min(claim.0.fee.limit));
        // Who names a feerate and a limit hears that they do not go together.
        claim.0.fee.yields = false;
        self.wallet.fund_claim(&claim.0, &claim.1).map(|funded| funded.fee).map_err(wallet_refusal)
    }

    /// A resolver's request in the wallet's words, with the coins of the version before it.
    pub(in crate::node) fn claim_of(
        &self,
        request: &onchain::FundRequest,
    ) -> (crate::wallet::Claim, Vec<crate::wallet::Coin>) {
        let claim = crate::wallet::Claim {
            transaction: request.transaction.clone(),
            spent: request.spent.clone(),
            witness_weight: Weight::from_wu(request.witness_weight),
            fee: crate::wallet::ClaimFee {
                feerate: request.feerate,
                parent_weight: Weight::from_wu(request.parent_weight),
                parent_fee: request.parent_fee,
                limit: request.limit,
                yields: true,
                floor: request.floor,
            },
        };
        let coins = request.replaces.iter().flat_map(|(_, coins)| coins);
        (claim, coins.filter_map(|(outpoint, output)| self.coin(*outpoint, output)).collect())
    }
}
