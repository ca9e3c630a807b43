//! Unconfirmed transactions of the wallet made to confirm sooner: replaced where they are ours alone, else by a child.

use std::collections::{BTreeMap, BTreeSet};

use bdk_wallet::error::{BuildFeeBumpError, CreateTxError};
use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Weight, Witness};

use super::coin::WalletTransaction;
use super::entropy::Expander;
use super::{Claim, ClaimFee, Coin, Draft, Wallet, WalletError};
use crate::units::FeeratePerKw;

/// The witness of a P2WPKH input: a signature of 72 bytes, a key of 33, and their lengths.
const P2WPKH_WITNESS: Weight = Weight::from_wu(108);
/// A replacement is built anew so often, at most, because its weight is known only then.
const ROUNDS: usize = 4;

/// What is to confirm sooner, and what it may cost.
#[derive(Clone, Debug)]
pub struct Bump<'a> {
    /// The unconfirmed transaction.
    pub txid: Txid,
    /// What it is to pay with its unconfirmed parents and children.
    pub feerate: FeeratePerKw,
    /// The most that the new transaction may pay; what it moves where it is `None`.
    pub limit: Option<Amount>,
    /// What must stay for the anchors of open channels.
    pub reserve: Amount,
    /// Whether what is added is taken from the one output that is not ours, as of a payment of all there is.
    pub from_payment: bool,
    /// Transactions that others rest on by their id, such as those that fund channels.
    pub fixed: &'a BTreeSet<Txid>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bumped {
    /// The new transaction, signed.
    pub draft: Draft,
    /// What it replaces; `None` where it is a child.
    pub replaces: Option<Txid>,
}

/// The wallet's unconfirmed transactions, by id.
type Pending = BTreeMap<Txid, WalletTransaction>;

/// Unconfirmed parents: what they weigh and pay together.
#[derive(Clone, Copy, Default)]
struct Package {
    weight: u64,
    fee: Amount,
}

impl Package {
    fn add(&mut self, seen: &WalletTransaction) {
        let weight = seen.transaction.weight().to_wu();
        self.weight += weight;
        // What others made pays at least what nodes relay.
        self.fee += seen.fee.unwrap_or_else(|| FeeratePerKw::FLOOR.fee_ceil(weight));
    }

    /// What a transaction of that weight must pay so that it and these have `feerate` together.
    fn missing(&self, feerate: FeeratePerKw, weight: u64) -> Amount {
        feerate.fee_ceil(weight + self.weight).checked_sub(self.fee).unwrap_or_default()
    }
}

impl Wallet {
    /// Makes an unconfirmed transaction dearer. Where a child of ours spends it, that child is looked at instead, since both
    /// confirm together. A replacement keeps what others get (BIP 125); its id is a new one, so nothing in `fixed` is
    /// replaced. Nothing is applied.
    ///
    /// # Errors
    /// [`WalletError::NotUnconfirmed`] where it is confirmed, unknown, or nothing of it is ours to spend;
    /// [`WalletError::FeerateTooLow`], [`WalletError::FeeAboveLimit`], [`WalletError::InsufficientFunds`].
    pub fn bump(&mut self, bump: &Bump<'_>, entropy: &[u8; 32]) -> Result<Bumped, WalletError> {
        let unconfirmed = self.transactions().into_iter().filter(|seen| seen.confirmed_at.is_none());
        let pending: Pending = unconfirmed.map(|seen| (seen.txid, seen)).collect();
        if !pending.contains_key(&bump.txid) {
            return Err(WalletError::NotUnconfirmed(bump.txid));
        }
        let last = last_descendant(&pending, bump.txid);
        let coins: Vec<Coin> = self.coins().into_iter().filter(|coin| coin.outpoint.txid == last).collect();
        let is_replaceable = !bump.fixed.contains(&last)
            && !coins.iter().any(|coin| coin.is_locked)
            && self.spends_only_ours(&pending[&last].transaction);
        if is_replaceable {
            return self.replace(bump, &pending, last, entropy);
        }
        let coin = coins.into_iter().filter(|coin| !coin.is_locked).max_by_key(|coin| coin.output.value);
        self.child(bump, &pending, &coin.ok_or(WalletError::NotUnconfirmed(bump.txid))?)
    }

    fn spends_only_ours(&self, transaction: &Transaction) -> bool {
        let graph = self.inner.tx_graph();
        transaction.input.iter().all(|input| {
            graph.get_txout(input.previous_output).is_some_and(|output| self.is_mine(&output.script_pubkey))
        })
    }

    fn replace(
        &mut self,
        bump: &Bump<'_>,
        pending: &Pending,
        txid: Txid,
        entropy: &[u8; 32],
    ) -> Result<Bumped, WalletError> {
        let (old, parents) = (&pending[&txid], ancestors(pending, txid));
        let old_fee = old.fee.ok_or(WalletError::NotUnconfirmed(txid))?;
        let mut weight = old.transaction.weight().to_wu();
        if parents.missing(bump.feerate, weight) <= old_fee {
            return Err(WalletError::FeerateTooLow);
        }
        let moved: Amount = old.transaction.output.iter().map(|output| output.value).sum();
        let limit = bump.limit.unwrap_or(moved);
        let spare = self.balance(bump.reserve).spendable;
        if let [output] = old.transaction.output.as_slice()
            && self.is_mine(&output.script_pubkey)
        {
            let floor = old_fee + FeeratePerKw::FLOOR.fee_ceil(weight);
            let draft = self.pay_from(bump, &old.transaction.input, parents, floor, limit)?;
            return Ok(Bumped { draft, replaces: Some(txid) });
        }
        if bump.from_payment {
            let floor = old_fee + FeeratePerKw::FLOOR.fee_ceil(weight);
            let fee = parents.missing(bump.feerate, weight + old.transaction.input.len() as u64).max(floor);
            if fee > limit {
                return Err(WalletError::FeeAboveLimit { needed: fee, limit });
            }
            let draft = self.shrink(old, fee, fee - old_fee)?;
            return Ok(Bumped { draft, replaces: Some(txid) });
        }
        for _ in 0..ROUNDS {
            // BIP 125: what was paid, and the relay feerate for its own weight on top.
            let floor = old_fee + FeeratePerKw::FLOOR.fee_ceil(weight);
            let fee = parents.missing(bump.feerate, weight).max(floor);
            if fee > limit {
                return Err(WalletError::FeeAboveLimit { needed: fee, limit });
            }
            let draft = self.rebuild(txid, fee, entropy)?;
            let grown = draft.transaction.weight().to_wu();
            // The fee that was asked for holds the few bytes by which signatures differ.
            if draft.fee >= parents.missing(bump.feerate, grown.saturating_sub(8)) || grown <= weight {
                let extra = draft.fee - old_fee;
                if extra > spare {
                    return Err(WalletError::InsufficientFunds { needed: extra, available: spare });
                }
                return Ok(Bumped { draft, replaces: Some(txid) });
            }
            weight = grown;
        }
        Err(WalletError::FeeAboveLimit { needed: parents.missing(bump.feerate, weight), limit })
    }

    /// The same transaction, of which whoever is paid gets `extra` less, signed.
    fn shrink(&mut self, old: &WalletTransaction, fee: Amount, extra: Amount) -> Result<Draft, WalletError> {
        let mut transaction = (*old.transaction).clone();
        let graph = self.inner.tx_graph();
        let spent: Vec<TxOut> =
            transaction.input.iter().filter_map(|input| graph.get_txout(input.previous_output).cloned()).collect();
        transaction.input.iter_mut().for_each(|input| input.witness = Witness::new());
        let is_mine: Vec<bool> = transaction.output.iter().map(|output| self.is_mine(&output.script_pubkey)).collect();
        let mut foreign = transaction.output.iter_mut().zip(is_mine).filter(|(_, is_mine)| !is_mine);
        // With several nobody can say whose it should be.
        let (Some((output, _)), None) = (foreign.next(), foreign.next()) else {
            return Err(WalletError::NotUnconfirmed(old.txid));
        };
        let left = output.value.checked_sub(extra).filter(|left| *left >= output.script_pubkey.minimal_non_dust());
        output.value = left.ok_or(WalletError::InsufficientFunds { needed: extra, available: output.value })?;
        if self.sign_inputs(&mut transaction, &spent) != transaction.input.len() {
            return Err(WalletError::NotUnconfirmed(old.txid));
        }
        Ok(Draft { transaction, fee, output_index: 0 })
    }

    /// The same payment with this fee, signed.
    fn rebuild(&mut self, txid: Txid, fee: Amount, entropy: &[u8; 32]) -> Result<Draft, WalletError> {
        let spendable = self.balance(Amount::ZERO).spendable;
        let mut builder = self.inner.build_fee_bump(txid).map_err(|error| match error {
            BuildFeeBumpError::FeeRateUnavailable => WalletError::FeerateTooLow,
            _ => WalletError::NotUnconfirmed(txid),
        })?;
        builder.fee_absolute(fee);
        let psbt = builder.finish_with_aux_rand(&mut Expander::new(entropy)).map_err(|error| match error {
            CreateTxError::FeeTooLow { .. } | CreateTxError::FeeRateTooLow { .. } => WalletError::FeerateTooLow,
            CreateTxError::CoinSelection(missing) => {
                WalletError::InsufficientFunds { needed: missing.needed, available: missing.available }
            }
            _ => WalletError::InsufficientFunds { needed: fee, available: spendable },
        })?;
        let spent: Vec<TxOut> = psbt.inputs.iter().filter_map(|input| input.witness_utxo.clone()).collect();
        let mut transaction = psbt.unsigned_tx;
        if spent.len() != transaction.input.len() || self.sign_inputs(&mut transaction, &spent) != spent.len() {
            return Err(WalletError::NotUnconfirmed(txid));
        }
        let fee = spent.iter().map(|output| output.value).sum::<Amount>()
            - transaction.output.iter().map(|output| output.value).sum::<Amount>();
        Ok(Draft { transaction, fee, output_index: 0 })
    }

    fn child(&mut self, bump: &Bump<'_>, pending: &Pending, coin: &Coin) -> Result<Bumped, WalletError> {
        let parent = coin.outpoint.txid;
        let mut parents = ancestors(pending, parent);
        parents.add(&pending[&parent]);
        if parents.missing(bump.feerate, 0) == Amount::ZERO {
            return Err(WalletError::FeerateTooLow);
        }
        let input = TxIn {
            previous_output: coin.outpoint,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::new(),
        };
        let limit = bump.limit.unwrap_or(coin.output.value);
        let draft = self.pay_from(bump, &[input], parents, Amount::ZERO, limit)?;
        Ok(Bumped { draft, replaces: None })
    }

    /// A transaction from these coins to ourselves, which pays for `parents` and itself; other coins help where they must.
    fn pay_from(
        &mut self,
        bump: &Bump<'_>,
        inputs: &[TxIn],
        parents: Package,
        floor: Amount,
        limit: Amount,
    ) -> Result<Draft, WalletError> {
        let input: Vec<TxIn> = inputs.iter().map(|it| TxIn { witness: Witness::new(), ..it.clone() }).collect();
        let graph = self.inner.tx_graph();
        let spent: Vec<TxOut> =
            input.iter().filter_map(|input| graph.get_txout(input.previous_output).cloned()).collect();
        let (worth, lock_time) = (spent.iter().map(|output| output.value).sum::<Amount>(), LockTime::ZERO);
        let witness_weight = P2WPKH_WITNESS * input.len() as u64;
        let transaction = Transaction { version: Version::TWO, lock_time, input, output: Vec::new() };
        let parent_weight = Weight::from_wu(parents.weight);
        let fee =
            ClaimFee { feerate: bump.feerate, parent_weight, parent_fee: parents.fee, limit, yields: false, floor };
        let spare = self.balance(bump.reserve).spendable;
        let mut funded = self.fund_claim(&Claim { transaction, spent, witness_weight, fee }, &[])?;
        let extra = funded.fee.checked_sub(worth).unwrap_or_default();
        if extra > spare {
            return Err(WalletError::InsufficientFunds { needed: extra, available: spare });
        }
        if funded.transaction.output.is_empty() {
            // A transaction must pay somebody: with nothing left over, the coins are worth less than the fee.
            return Err(WalletError::FeeAboveLimit { needed: funded.fee, limit: worth });
        }
        if self.sign_inputs(&mut funded.transaction, &funded.spent) != funded.spent.len() {
            return Err(WalletError::NotUnconfirmed(bump.txid));
        }
        Ok(Draft { transaction: funded.transaction, fee: funded.fee, output_index: 0 })
    }
}

/// The last in the row of our own unconfirmed transactions that spend it.
fn last_descendant(pending: &Pending, txid: Txid) -> Txid {
    let mut known = BTreeSet::from([txid]);
    let mut last = txid;
    while let Some(next) = pending.values().find(|seen| spends(seen, last) && !known.contains(&seen.txid)) {
        known.insert(next.txid);
        last = next.txid;
    }
    last
}

fn spends(seen: &WalletTransaction, txid: Txid) -> bool {
    seen.transaction.input.iter().any(|input| input.previous_output.txid == txid)
}

/// What the unconfirmed transactions that it rests on weigh and pay.
fn ancestors(pending: &Pending, txid: Txid) -> Package {
    let (mut package, mut known, mut open) = (Package::default(), BTreeSet::from([txid]), vec![txid]);
    while let Some(txid) = open.pop() {
        let inputs = pending[&txid].transaction.input.iter().map(|input| input.previous_output);
        for OutPoint { txid, .. } in inputs {
            if let Some(parent) = pending.get(&txid).filter(|_| known.insert(txid)) {
                package.add(parent);
                open.push(txid);
            }
        }
    }
    package
}
