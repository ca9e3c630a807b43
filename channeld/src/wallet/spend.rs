//! Transactions of our own: payments and funding outputs.

use bdk_wallet::error::CreateTxError;
use bitcoin::{Amount, FeeRate, OutPoint, ScriptBuf, Transaction, TxOut};

use super::entropy::Expander;
use super::{DUST, Wallet, WalletError};
use crate::units::FeeratePerKw;

/// What to pay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spend {
    /// Exactly this output; the change comes back.
    Exact(TxOut),
    /// All that is spendable, less the fee, to this script.
    All(ScriptBuf),
}

/// A signed transaction that nobody has seen yet. Its inputs are locked until it is applied or given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The transaction, signed.
    pub transaction: Transaction,
    /// What it pays the miner.
    pub fee: Amount,
    /// Where the payment stands among its outputs.
    pub output_index: u32,
}

impl Draft {
    /// The coins it spends.
    pub fn inputs(&self) -> impl Iterator<Item = OutPoint> + '_ {
        self.transaction.input.iter().map(|input| input.previous_output)
    }
}

impl Wallet {
    /// Builds and signs a payment at `feerate` that leaves `reserve` alone, and locks its inputs. `entropy` orders inputs and
    /// outputs.
    ///
    /// # Errors
    /// [`WalletError::InsufficientFunds`], [`WalletError::Dust`].
    pub fn build(
        &mut self,
        spend: &Spend,
        feerate: FeeratePerKw,
        reserve: Amount,
        entropy: &[u8; 32],
    ) -> Result<Draft, WalletError> {
        if let Spend::Exact(output) = spend
            && output.value < output.script_pubkey.minimal_non_dust()
        {
            return Err(WalletError::Dust(output.value));
        }
        let spendable = self.balance(reserve).spendable;
        let kept: Vec<_> =
            self.coins().into_iter().filter(|coin| !coin.is_spendable()).map(|coin| coin.outpoint).collect();
        let reserve_output = match spend {
            Spend::All(_) if reserve >= DUST => Some(self.next_change_script()),
            Spend::All(_) | Spend::Exact(_) => None,
        };
        let mut builder = self.inner.build_tx();
        builder.fee_rate(fee_rate(feerate)).unspendable(kept);
        let script = match spend {
            Spend::Exact(output) => {
                builder.add_recipient(output.script_pubkey.clone(), output.value);
                &output.script_pubkey
            }
            Spend::All(script) => {
                builder.drain_wallet().drain_to(script.clone());
                script
            }
        };
        if let Some(change) = reserve_output {
            builder.add_recipient(change, reserve);
        }
        let psbt = builder
            .finish_with_aux_rand(&mut Expander::new(entropy))
            .map_err(|error| refusal(&error, spend, spendable))?;
        let spent: Vec<TxOut> = psbt
            .inputs
            .iter()
            .map(|input| input.witness_utxo.clone().expect("bdk names what a segwit input spends"))
            .collect();
        let mut transaction = psbt.unsigned_tx;
        let fee = spent.iter().map(|output| output.value).sum::<Amount>()
            - transaction.output.iter().map(|output| output.value).sum::<Amount>();
        self.check_reserve(spend, fee, spendable)?;
        assert_eq!(self.sign_inputs(&mut transaction, &spent), spent.len(), "every input is a coin of ours");
        let output_index = transaction
            .output
            .iter()
            .position(|output| output.script_pubkey == *script)
            .and_then(|index| u32::try_from(index).ok())
            .expect("bdk keeps the recipient");
        transaction.input.iter().for_each(|input| self.inner.lock_outpoint(input.previous_output));
        Ok(Draft { transaction, fee, output_index })
    }

    /// A payment of an exact amount must not eat into the reserve; that of all leaves it by an output of its own.
    fn check_reserve(&self, spend: &Spend, fee: Amount, available: Amount) -> Result<(), WalletError> {
        let Spend::Exact(output) = spend else {
            return Ok(());
        };
        // What goes to a script of ours stays ours; only the rest leaves.
        let needed = if self.is_mine(&output.script_pubkey) { fee } else { output.value + fee };
        if needed > available {
            return Err(WalletError::InsufficientFunds { needed, available });
        }
        Ok(())
    }

    /// The most that one output with `script` can hold at `feerate`; zero where nothing is left.
    pub fn spendable_to(&mut self, script: &ScriptBuf, feerate: FeeratePerKw, reserve: Amount) -> Amount {
        match self.build(&Spend::All(script.clone()), feerate, reserve, &[0; 32]) {
            Ok(draft) => {
                let inputs: Vec<_> = draft.inputs().collect();
                inputs.into_iter().for_each(|outpoint| self.inner.unlock_outpoint(outpoint));
                draft.transaction.output[draft.output_index as usize].value
            }
            Err(_) => Amount::ZERO,
        }
    }
}

fn fee_rate(feerate: FeeratePerKw) -> FeeRate {
    FeeRate::from_sat_per_kwu(u64::from(feerate.sat_per_kw()))
}

fn refusal(error: &CreateTxError, spend: &Spend, available: Amount) -> WalletError {
    match (error, spend) {
        (CreateTxError::OutputBelowDustLimit(_), Spend::Exact(output)) => WalletError::Dust(output.value),
        (CreateTxError::CoinSelection(missing), _) => {
            WalletError::InsufficientFunds { needed: missing.needed, available }
        }
        (_, Spend::Exact(output)) => WalletError::InsufficientFunds { needed: output.value, available },
        (_, Spend::All(_)) => WalletError::InsufficientFunds { needed: DUST, available },
    }
}
