//! HTLCs as a commitment sees them, and the HTLC-success and HTLC-timeout transactions that spend their outputs.

use bitcoin::absolute::LockTime;
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, SegwitV0Sighash, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use secp256k1::ecdsa::Signature;
use serde::{Deserialize, Serialize};

use super::commitment::CommittedHtlc;
use super::parameter::{CommitmentFormat, CommitmentParameters, TransactionKeys};
use super::script;
use super::signature::{with_sighash, with_sighash_all};
use crate::units::{CltvExpiry, FeeratePerKw, HtlcId, Msat, PaymentHash, Preimage};

/// Who made the HTLC, as the broadcaster sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum HtlcDirection {
    /// By the broadcaster: it gets it back by HTLC-timeout.
    Offered,
    /// By the countersignatory: the broadcaster takes it by HTLC-success.
    Received,
}

impl HtlcDirection {
    /// The same HTLC on the other side's commitment.
    #[must_use]
    pub const fn reversed(self) -> HtlcDirection {
        match self {
            HtlcDirection::Offered => HtlcDirection::Received,
            HtlcDirection::Received => HtlcDirection::Offered,
        }
    }
}

/// An HTLC on one commitment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Htlc {
    /// Who offered it.
    pub direction: HtlcDirection,
    /// Its id among those that the same side offered. No part of any transaction.
    pub id: HtlcId,
    /// Its amount.
    pub amount: Msat,
    /// What the preimage must hash to.
    pub payment_hash: PaymentHash,
    /// The height from which it can be timed out.
    pub cltv_expiry: CltvExpiry,
}

/// The second-stage transaction of one HTLC output: HTLC-timeout for an offered HTLC, HTLC-success for a received one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HtlcTransaction {
    format: CommitmentFormat,
    transaction: Transaction,
    /// Of the HTLC output that is spent.
    witness_script: ScriptBuf,
    amount: Amount,
}

impl HtlcTransaction {
    /// Builds it, without signatures.
    pub fn build(
        parameters: &CommitmentParameters,
        keys: &TransactionKeys,
        commitment: Txid,
        feerate: FeeratePerKw,
        committed: &CommittedHtlc,
    ) -> HtlcTransaction {
        let (format, htlc) = (parameters.format(), &committed.htlc);
        let amount = htlc.amount.to_amount_floor();
        let lock_time = match htlc.direction {
            HtlcDirection::Offered => LockTime::from_consensus(htlc.cltv_expiry.height()),
            HtlcDirection::Received => LockTime::ZERO,
        };
        let input = TxIn {
            previous_output: OutPoint { txid: commitment, vout: committed.output_index },
            script_sig: ScriptBuf::new(),
            sequence: Sequence(u32::from(format.has_anchors())),
            witness: Witness::new(),
        };
        // An untrimmed HTLC is above its fee; a trimmed one has no transaction.
        let value = amount.checked_sub(format.htlc_fee(htlc.direction, feerate)).unwrap_or(Amount::ZERO);
        let script_pubkey = second_stage_script(parameters, keys).to_p2wsh();
        HtlcTransaction {
            format,
            transaction: Transaction {
                version: Version::TWO,
                lock_time,
                input: vec![input],
                output: vec![TxOut { value, script_pubkey }],
            },
            witness_script: script::htlc(format, keys, htlc),
            amount,
        }
    }

    /// The transaction, without witness.
    pub const fn transaction(&self) -> &Transaction {
        &self.transaction
    }

    /// The script of the output that it spends.
    pub const fn witness_script(&self) -> &ScriptBuf {
        &self.witness_script
    }

    /// The amount of the output that it spends.
    pub const fn amount(&self) -> Amount {
        self.amount
    }

    /// What the countersignatory signs: with anchors SINGLE | ANYONECANPAY, so that a fee can be added.
    pub fn countersignatory_sighash(&self) -> SegwitV0Sighash {
        self.sighash(&self.transaction, 0, countersignatory_sighash_type(self.format))
    }

    /// What the broadcaster signs, ALL, in `transaction`: this one as it is (then `index` is 0) or, with anchors, one that
    /// has this input and this output at `index`, others around them, and inputs that pay the fee.
    ///
    /// # Panics
    /// If `transaction` has no input `index`.
    pub fn broadcaster_sighash(&self, transaction: &Transaction, index: usize) -> SegwitV0Sighash {
        self.sighash(transaction, index, EcdsaSighashType::All)
    }

    fn sighash(&self, transaction: &Transaction, index: usize, sighash_type: EcdsaSighashType) -> SegwitV0Sighash {
        SighashCache::new(transaction)
            .p2wsh_signature_hash(index, &self.witness_script, self.amount, sighash_type)
            .expect("the input is there, and with SINGLE its output")
    }

    /// The most that its witness weighs, signatures of 72 bytes.
    pub fn witness_weight(&self) -> u64 {
        let preimage = if self.transaction.lock_time == LockTime::ZERO { 33 } else { 1 };
        1 + 1 + 73 + 73 + preimage + 1 + self.witness_script.len() as u64
    }

    /// `0 <remotehtlcsig> <localhtlcsig> <preimage>`, without preimage for HTLC-timeout.
    pub fn witness(
        &self,
        countersignatory: &Signature,
        broadcaster: &Signature,
        preimage: Option<&Preimage>,
    ) -> Witness {
        let mut witness = Witness::new();
        witness.push([]);
        witness.push(with_sighash(countersignatory, countersignatory_sighash_type(self.format)));
        witness.push(with_sighash_all(broadcaster));
        match preimage {
            Some(preimage) => witness.push(preimage.0),
            None => witness.push([]),
        }
        witness.push(&self.witness_script);
        witness
    }

    /// The transaction as it is, signed: complete for `StaticRemotekey`; with anchors it pays no fee.
    pub fn signed(
        &self,
        countersignatory: &Signature,
        broadcaster: &Signature,
        preimage: Option<&Preimage>,
    ) -> Transaction {
        let mut transaction = self.transaction.clone();
        transaction.input[0].witness = self.witness(countersignatory, broadcaster, preimage);
        transaction
    }
}

/// The witness script of an HTLC transaction's output.
pub fn second_stage_script(parameters: &CommitmentParameters, keys: &TransactionKeys) -> ScriptBuf {
    script::revocable(keys.revocation(), parameters.terms().to_self_delay, keys.broadcaster_delayed_payment())
}

const fn countersignatory_sighash_type(format: CommitmentFormat) -> EcdsaSighashType {
    match format {
        CommitmentFormat::StaticRemotekey => EcdsaSighashType::All,
        CommitmentFormat::Anchors => EcdsaSighashType::SinglePlusAnyoneCanPay,
    }
}

/// The preimage that an input reveals when it takes an HTLC output whose hash is `payment_hash`, whatever the way: the
/// HTLC-success transaction or a direct claim. Looked for by its hash, so that no witness layout can hide it.
pub fn revealed_preimage(witness: &Witness, payment_hash: &PaymentHash) -> Option<Preimage> {
    witness
        .iter()
        .filter_map(|item| <[u8; 32]>::try_from(item).ok().map(Preimage))
        .find(|preimage| preimage.payment_hash() == *payment_hash)
}
