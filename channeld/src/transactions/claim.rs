//! Outputs that our keys can take, and the transactions that take them: one witness builder for each way a BOLT 3 output
//! can be spent (HTLC transactions apart, which need both sides).

use bitcoin::absolute::LockTime;
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, SegwitV0Sighash, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use secp256k1::ecdsa::Signature;

use super::parameter::CommitmentFormat;
use super::signature::with_sighash_all;
use crate::keys::{ChannelKeyId, PaymentPubkey, PerCommitmentPoint, PerCommitmentSecret, RevocationPubkey, Signer};
use crate::units::{CltvDelta, CltvExpiry, Preimage};

/// One output, and our way to take it.
#[derive(Clone)]
pub struct Claim {
    /// Where it is.
    pub outpoint: OutPoint,
    /// What it is.
    pub output: TxOut,
    /// The script behind a P2WSH output; empty for P2WPKH.
    pub witness_script: ScriptBuf,
    /// The way.
    pub path: ClaimPath,
}

/// How a claim satisfies its script.
#[derive(Clone)]
pub enum ClaimPath {
    /// `to_local` of our commitment, or the output of our HTLC transaction, `to_self_delay` after its confirmation.
    DelayedPayment {
        /// The commitment's point.
        point: PerCommitmentPoint,
        /// The delay.
        to_self_delay: CltvDelta,
    },
    /// `to_remote` of the peer's commitment, with anchors one block after its confirmation.
    ToRemote {
        /// How the commitment is built.
        format: CommitmentFormat,
        /// Our payment key.
        payment: PaymentPubkey,
    },
    /// An HTLC the peer offered, on its commitment, by preimage.
    HtlcPreimage {
        /// How the commitment is built.
        format: CommitmentFormat,
        /// The commitment's point.
        point: PerCommitmentPoint,
        /// The preimage.
        preimage: Preimage,
    },
    /// An HTLC we offered, on the peer's commitment, timed out.
    HtlcTimeout {
        /// How the commitment is built.
        format: CommitmentFormat,
        /// The commitment's point.
        point: PerCommitmentPoint,
        /// From this height on.
        cltv_expiry: CltvExpiry,
    },
    /// `to_local` of a revoked commitment, or the output of an HTLC transaction made from it.
    Revoked {
        /// The revealed secret of the commitment.
        secret: PerCommitmentSecret,
    },
    /// An HTLC output of a revoked commitment.
    RevokedHtlc {
        /// The revealed secret of the commitment.
        secret: PerCommitmentSecret,
        /// The key in the script.
        revocation: RevocationPubkey,
    },
    /// Our anchor.
    Anchor,
    /// Any anchor, 16 blocks after its confirmation, without a signature.
    AnchorByAnyone,
}

/// The weight of an input without its witness: outpoint 36, empty script 1, sequence 4.
const INPUT_WEIGHT: u64 = 4 * 41;

/// Length byte, DER of a low-S signature (at most 71 bytes), sighash byte.
const SIGNATURE: u64 = 1 + 72;

impl Claim {
    /// The most this input weighs, witness included.
    pub fn weight(&self) -> u64 {
        let script = 1 + self.witness_script.len() as u64;
        let elements = match &self.path {
            ClaimPath::DelayedPayment { .. } | ClaimPath::HtlcTimeout { .. } => SIGNATURE + 1 + script,
            ClaimPath::ToRemote { format: CommitmentFormat::StaticRemotekey, .. } => SIGNATURE + 34,
            ClaimPath::ToRemote { format: CommitmentFormat::Anchors, .. } | ClaimPath::Anchor => SIGNATURE + script,
            ClaimPath::HtlcPreimage { .. } => SIGNATURE + 33 + script,
            ClaimPath::Revoked { .. } => SIGNATURE + 2 + script,
            ClaimPath::RevokedHtlc { .. } => SIGNATURE + 34 + script,
            ClaimPath::AnchorByAnyone => 1 + script,
        };
        INPUT_WEIGHT + 1 + elements
    }

    /// The sequence its script asks for; where it asks for none, one that allows replacement.
    pub const fn sequence(&self) -> Sequence {
        match &self.path {
            ClaimPath::DelayedPayment { to_self_delay, .. } => Sequence(to_self_delay.blocks() as u32),
            ClaimPath::ToRemote { format, .. }
            | ClaimPath::HtlcPreimage { format, .. }
            | ClaimPath::HtlcTimeout { format, .. }
                if format.has_anchors() =>
            {
                Sequence(1)
            }
            ClaimPath::AnchorByAnyone => Sequence(16),
            _ => Sequence::ENABLE_RBF_NO_LOCKTIME,
        }
    }

    /// The lock time its script asks for, as a height.
    pub const fn lock_time(&self) -> u32 {
        match &self.path {
            ClaimPath::HtlcTimeout { cltv_expiry, .. } => cltv_expiry.height(),
            _ => 0,
        }
    }

    /// The input, without witness.
    pub const fn input(&self) -> TxIn {
        TxIn {
            previous_output: self.outpoint,
            script_sig: ScriptBuf::new(),
            sequence: self.sequence(),
            witness: Witness::new(),
        }
    }

    /// What is signed for input `index` of `transaction`.
    pub fn sighash(&self, cache: &mut SighashCache<&Transaction>, index: usize) -> SegwitV0Sighash {
        let (value, all) = (self.output.value, EcdsaSighashType::All);
        if self.output.script_pubkey.is_p2wpkh() {
            cache.p2wpkh_signature_hash(index, &self.output.script_pubkey, value, all).expect("the input is there")
        } else {
            cache.p2wsh_signature_hash(index, &self.witness_script, value, all).expect("the input is there")
        }
    }

    /// The witness for input `index` of `transaction`.
    pub fn sign(
        &self,
        signer: &Signer,
        id: &ChannelKeyId,
        cache: &mut SighashCache<&Transaction>,
        index: usize,
    ) -> Witness {
        if matches!(self.path, ClaimPath::AnchorByAnyone) {
            return self.witness(None);
        }
        let sighash = self.sighash(cache, index);
        let signature = match &self.path {
            ClaimPath::DelayedPayment { point, .. } => signer.sign_delayed_payment(id, point, sighash),
            ClaimPath::ToRemote { .. } => signer.sign_payment(id, sighash),
            ClaimPath::HtlcPreimage { point, .. } | ClaimPath::HtlcTimeout { point, .. } => {
                signer.sign_htlc(id, point, sighash)
            }
            ClaimPath::Revoked { secret } | ClaimPath::RevokedHtlc { secret, .. } => signer
                .sign_revocation(id, secret, sighash)
                .expect("a secret was checked against its point before it was kept"),
            ClaimPath::Anchor | ClaimPath::AnchorByAnyone => signer.sign_funding(id, sighash),
        };
        self.witness(Some(&signature))
    }

    /// The witness around a signature, which only [`ClaimPath::AnchorByAnyone`] does without.
    pub fn witness(&self, signature: Option<&Signature>) -> Witness {
        let mut witness = Witness::new();
        witness.push(signature.map(with_sighash_all).unwrap_or_default());
        match &self.path {
            ClaimPath::DelayedPayment { .. } | ClaimPath::HtlcTimeout { .. } => witness.push([]),
            ClaimPath::HtlcPreimage { preimage, .. } => witness.push(preimage.0),
            ClaimPath::Revoked { .. } => witness.push([1]),
            ClaimPath::RevokedHtlc { revocation, .. } => witness.push(revocation.serialize()),
            ClaimPath::ToRemote { format: CommitmentFormat::StaticRemotekey, payment } => {
                witness.push(payment.serialize());
                return witness;
            }
            ClaimPath::ToRemote { .. } | ClaimPath::Anchor | ClaimPath::AnchorByAnyone => {}
        }
        witness.push(&self.witness_script);
        witness
    }
}

/// A transaction that takes several outputs of one channel to one script of our wallet.
pub struct ClaimTransaction {
    claims: Vec<Claim>,
    transaction: Transaction,
}

impl ClaimTransaction {
    /// The weight of a transaction that takes `claims` to `script`, at most.
    pub fn weight(claims: &[Claim], script: &ScriptBuf) -> u64 {
        // Version 4, lock time 4, counts 1 (3 above 252) and 1, output 8 + length + script; marker and flag.
        let counts = if claims.len() > 252 { 4 } else { 2 };
        let base = 4 * (8 + counts + 9 + script.len() as u64) + 2;
        base + claims.iter().map(Claim::weight).sum::<u64>()
    }

    /// Builds it, with `fee` taken from what the claims bring. `None` where what is left would be dust.
    pub fn build(claims: Vec<Claim>, script: ScriptBuf, fee: Amount) -> Option<ClaimTransaction> {
        let total: Amount = claims.iter().map(|claim| claim.output.value).sum();
        let value = total.checked_sub(fee)?;
        if claims.is_empty() || value < script.minimal_non_dust() {
            return None;
        }
        let lock_time = claims.iter().map(Claim::lock_time).max().unwrap_or(0);
        let transaction = Transaction {
            version: Version::TWO,
            lock_time: LockTime::from_consensus(lock_time),
            input: claims.iter().map(Claim::input).collect(),
            output: vec![TxOut { value, script_pubkey: script }],
        };
        Some(ClaimTransaction { claims, transaction })
    }

    /// What it takes.
    pub fn claims(&self) -> &[Claim] {
        &self.claims
    }

    /// The transaction, without witnesses.
    pub const fn transaction(&self) -> &Transaction {
        &self.transaction
    }

    /// Its id, which no signature changes.
    pub fn txid(&self) -> Txid {
        self.transaction.compute_txid()
    }

    /// The fee it pays.
    pub fn fee(&self) -> Amount {
        let total: Amount = self.claims.iter().map(|claim| claim.output.value).sum();
        total.checked_sub(self.transaction.output[0].value).unwrap_or(Amount::ZERO)
    }

    /// The transaction, signed with the keys of the channel.
    pub fn sign(&self, signer: &Signer, id: &ChannelKeyId) -> Transaction {
        let mut cache = SighashCache::new(&self.transaction);
        let witnesses: Vec<Witness> =
            self.claims.iter().enumerate().map(|(index, claim)| claim.sign(signer, id, &mut cache, index)).collect();
        let mut signed = self.transaction.clone();
        for (input, witness) in signed.input.iter_mut().zip(witnesses) {
            input.witness = witness;
        }
        signed
    }
}
