//! The mutual close of `closing_signed` (BOLT 3, "Legacy Closing Transaction").

use bitcoin::absolute::LockTime;
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::transaction::Version;
use bitcoin::{Amount, ScriptBuf, SegwitV0Sighash, Sequence, Transaction, TxOut, Txid};
use secp256k1::ecdsa::Signature;
use secp256k1::{Message, SECP256K1};
use serde::{Deserialize, Serialize};

use super::Funding;
use crate::keys::FundingPubkey;
use crate::units::Msat;

/// What a mutual close pays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosingSpec {
    /// The opener's balance, before the fee.
    pub to_opener: Msat,
    /// The accepter's balance.
    pub to_accepter: Msat,
    /// `scriptpubkey` of the opener's `shutdown`.
    pub opener_script: ScriptBuf,
    /// `scriptpubkey` of the accepter's `shutdown`.
    pub accepter_script: ScriptBuf,
    /// `fee_satoshis`, which the opener pays.
    pub fee: Amount,
    /// Below this an output is left out: the `dust_limit_satoshis` of whoever signs.
    pub dust_limit: Amount,
}

/// Why there is no such closing transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClosingError {
    /// The fee is more than the opener has.
    #[error("a closing fee of {fee} from a balance of {balance}")]
    FeeAboveBalance {
        /// `fee_satoshis`
        fee: Amount,
        /// What the opener has.
        balance: Amount,
    },
    /// Both balances are below the dust limit.
    #[error("both balances are below the dust limit")]
    NoOutput,
}

/// A mutual close, built, without signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosingTransaction {
    transaction: Transaction,
}

impl ClosingTransaction {
    /// Builds it: outputs below the dust limit are left out, the rest in BIP 69 order.
    ///
    /// # Errors
    /// [`ClosingError`]
    pub fn build(funding: &Funding, spec: &ClosingSpec) -> Result<ClosingTransaction, ClosingError> {
        let balance = spec.to_opener.to_amount_floor();
        let to_opener =
            balance.checked_sub(spec.fee).ok_or(ClosingError::FeeAboveBalance { fee: spec.fee, balance })?;
        let to_accepter = spec.to_accepter.to_amount_floor();
        let mut output: Vec<TxOut> = [(to_opener, &spec.opener_script), (to_accepter, &spec.accepter_script)]
            .into_iter()
            .filter(|(value, _)| *value >= spec.dust_limit && *value > Amount::ZERO)
            .map(|(value, script)| TxOut { value, script_pubkey: script.clone() })
            .collect();
        if output.is_empty() {
            return Err(ClosingError::NoOutput);
        }
        output.sort_by(|a, b| a.value.cmp(&b.value).then_with(|| a.script_pubkey.cmp(&b.script_pubkey)));
        let transaction = Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![funding.input(Sequence::MAX)],
            output,
        };
        Ok(ClosingTransaction { transaction })
    }

    /// The weight of a close with outputs to these scripts, signatures of 72 bytes: what a fee is reckoned from.
    pub fn expected_weight(scripts: &[ScriptBuf]) -> u64 {
        // version, counts, lock time 10; input 41; outputs 8 + length + script; marker, flag 2; witness 1 + 1 + 73 + 73 + 72.
        let outputs: usize = scripts.iter().map(|script| 9 + script.len()).sum();
        4 * (10 + 41 + outputs as u64) + 2 + 220
    }

    /// The transaction, without witness.
    pub const fn transaction(&self) -> &Transaction {
        &self.transaction
    }

    /// Its id.
    pub fn txid(&self) -> Txid {
        self.transaction.compute_txid()
    }

    /// What both sides sign.
    pub fn sighash(&self, funding: &Funding) -> SegwitV0Sighash {
        SighashCache::new(&self.transaction)
            .p2wsh_signature_hash(0, funding.witness_script(), funding.amount(), EcdsaSighashType::All)
            .expect("a closing transaction has one input")
    }

    /// Whether `signature` is that of `pubkey` over it. The peer may have left its own output out: try both.
    pub fn verifies(&self, funding: &Funding, pubkey: &FundingPubkey, signature: &Signature) -> bool {
        let message = Message::from(self.sighash(funding));
        SECP256K1.verify_ecdsa(&message, signature, pubkey.key()).is_ok()
    }

    /// Puts both signatures in; `own` belongs to `pubkey`.
    pub fn with_signatures(
        &self,
        funding: &Funding,
        pubkey: &FundingPubkey,
        own: &Signature,
        other: &Signature,
    ) -> Transaction {
        let mut transaction = self.transaction.clone();
        transaction.input[0].witness = funding.witness(pubkey, own, other);
        transaction
    }
}
