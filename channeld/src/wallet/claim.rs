//! Coins of ours for claims that cannot pay their own fee: anchor children and HTLC transactions without fee (BOLT 3).

use bitcoin::{Amount, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Weight, Witness};

use super::{Coin, DUST, Wallet, WalletError};
use crate::units::FeeratePerKw;

/// A P2WPKH input with its witness: 41 bytes × 4 and 108 (signature of 72 bytes, key of 33).
const INPUT_WEIGHT: u64 = 272;
/// A P2WPKH output.
const OUTPUT_WEIGHT: u64 = 124;

/// A transaction that begins with somebody's inputs and outputs and needs ours to pay its fee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Its fixed inputs and outputs, which keep their places; witnesses empty.
    pub transaction: Transaction,
    /// The outputs that the fixed inputs spend, in their order.
    pub spent: Vec<TxOut>,
    /// The weight of the witnesses that the fixed inputs will get.
    pub witness_weight: Weight,
    /// What it is to pay.
    pub fee: ClaimFee,
}

/// The fee that a claim is to pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimFee {
    /// The feerate of the claim, or of the package with its parent.
    pub feerate: FeeratePerKw,
    /// The weight of an unconfirmed parent that the claim pays for, else zero.
    pub parent_weight: Weight,
    /// What that parent pays itself.
    pub parent_fee: Amount,
    /// More is never paid: the value at stake.
    pub limit: Amount,
    /// Where the feerate asks for more than the limit: whether the limit is paid, or nothing is made.
    pub yields: bool,
    /// Less is never paid: what a replacement must exceed.
    pub floor: Amount,
}

/// A claim with our inputs and change. Inputs of ours are signed by [`Wallet::sign_inputs`] last, when all outputs stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FundedClaim {
    /// The transaction with our inputs and change behind the fixed ones; no witnesses yet.
    pub transaction: Transaction,
    /// The outputs that all inputs spend, in their order.
    pub spent: Vec<TxOut>,
    /// What it pays.
    pub fee: Amount,
}

impl Wallet {
    /// Adds confirmed coins, largest first, until `claim` pays its fee; what is over comes back as change. The reserve is
    /// there for this, so it is not spared. `reuse` are coins that an earlier version of the claim spends: they come first,
    /// locked or not. The coins are not locked: the claim holds them once it is applied as unconfirmed.
    ///
    /// # Errors
    /// [`WalletError::InsufficientFunds`], [`WalletError::FeeAboveLimit`].
    pub fn fund_claim(&mut self, claim: &Claim, reuse: &[Coin]) -> Result<FundedClaim, WalletError> {
        let mut funded =
            FundedClaim { transaction: claim.transaction.clone(), spent: claim.spent.clone(), fee: Amount::ZERO };
        let mut candidates = self.candidates(reuse);
        loop {
            let available = in_minus_out(&funded);
            let fee = claim.fee_for(weight_of(&funded, claim));
            let needed = if claim.fee.yields { claim.least_for(weight_of(&funded, claim)) } else { fee };
            if needed > claim.fee.limit {
                return Err(WalletError::FeeAboveLimit { needed, limit: claim.fee.limit });
            }
            if available.is_some_and(|available| available >= fee) {
                // Revealed where it is used: what is refused is asked for again at every block.
                let change = self.inner.reveal_next_address(bdk_wallet::KeychainKind::Internal).address.script_pubkey();
                funded.add_change(claim, change);
                if funded.fee > claim.fee.limit {
                    return Err(WalletError::FeeAboveLimit { needed: funded.fee, limit: claim.fee.limit });
                }
                return Ok(funded);
            }
            let Some(coin) = candidates.pop() else {
                return Err(WalletError::InsufficientFunds {
                    needed: fee,
                    available: available.unwrap_or(Amount::ZERO),
                });
            };
            funded.transaction.input.push(TxIn {
                previous_output: coin.outpoint,
                script_sig: ScriptBuf::new(),
                sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
                witness: Witness::new(),
            });
            funded.spent.push(coin.output);
        }
    }

    /// The coins to take, the first last.
    fn candidates(&self, reuse: &[Coin]) -> Vec<Coin> {
        let mut coins: Vec<_> = self
            .coins()
            .into_iter()
            .filter(|coin| coin.is_spendable() && coin.confirmed_at.is_some())
            .filter(|coin| reuse.iter().all(|reused| reused.outpoint != coin.outpoint))
            .collect();
        coins.sort_by_key(|coin| coin.output.value);
        coins.extend(reuse.iter().rev().cloned());
        coins
    }
}

impl Claim {
    fn fee_for(&self, weight: Weight) -> Amount {
        let package = self.fee.feerate.fee_ceil((weight + self.fee.parent_weight).to_wu());
        let own = self.fee.feerate.fee_ceil(weight.to_wu());
        // A parent that pays more than its share never makes the child cheaper than its own feerate.
        let wanted = package.checked_sub(self.fee.parent_fee).unwrap_or(own).max(own).max(self.fee.floor);
        if self.fee.yields { wanted.min(self.fee.limit) } else { wanted }
    }

    /// The least that is relayed, and replaces what is to be replaced.
    fn least_for(&self, weight: Weight) -> Amount {
        FeeratePerKw::FLOOR.fee_ceil(weight.to_wu()).max(self.fee.floor)
    }
}

impl FundedClaim {
    fn add_change(&mut self, claim: &Claim, script_pubkey: ScriptBuf) {
        let with_change = weight_of(self, claim) + Weight::from_wu(OUTPUT_WEIGHT);
        let available = in_minus_out(self).unwrap_or(Amount::ZERO);
        let value = available.checked_sub(claim.fee_for(with_change)).unwrap_or(Amount::ZERO);
        if value >= DUST {
            self.transaction.output.push(TxOut { value, script_pubkey });
        }
        self.fee = in_minus_out(self).unwrap_or(Amount::ZERO);
    }
}

fn in_minus_out(funded: &FundedClaim) -> Option<Amount> {
    let inputs = funded.spent.iter().map(|output| output.value).sum::<Amount>();
    inputs.checked_sub(funded.transaction.output.iter().map(|output| output.value).sum::<Amount>())
}

/// The weight that the transaction will have when every witness is there.
fn weight_of(funded: &FundedClaim, claim: &Claim) -> Weight {
    let ours = (funded.transaction.input.len() - claim.transaction.input.len()) as u64;
    let stripped = funded.transaction.base_size() as u64 * 4;
    // Marker and flag are 2; an input counted below brings 164 that the stripped size already holds.
    Weight::from_wu(stripped + 2 + ours * (INPUT_WEIGHT - 164)) + claim.witness_weight
}
