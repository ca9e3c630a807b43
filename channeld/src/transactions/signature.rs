//! Signatures of a commitment: made by the countersignatory, checked by the broadcaster.

use bitcoin::SegwitV0Sighash;
use bitcoin::sighash::EcdsaSighashType;
use rayon::prelude::*;
use secp256k1::ecdsa::Signature;
use secp256k1::{Message, PublicKey, SECP256K1};
use serde::{Deserialize, Serialize};

use super::commitment::CommitmentTransaction;
use super::parameter::CommitmentParameters;
use crate::keys::signer::PARALLEL_FROM;

/// The countersignatory's signature over a commitment. An enum, for formats to come sign otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommitmentSignature {
    /// `OP_CHECKMULTISIG` of a P2WSH funding output.
    Ecdsa(Signature),
}

impl CommitmentSignature {
    /// The ECDSA signature in it.
    pub const fn ecdsa(&self) -> &Signature {
        match self {
            CommitmentSignature::Ecdsa(signature) => signature,
        }
    }
}

/// What `commitment_signed` carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitmentSignatures {
    /// Over the commitment.
    pub commitment: CommitmentSignature,
    /// Over each HTLC transaction, in the order of the commitment's outputs.
    pub htlcs: Vec<Signature>,
}

/// Why signatures are not accepted. The peer's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerificationError {
    /// The commitment's signature does not verify.
    #[error("the commitment signature does not verify")]
    CommitmentSignature,
    /// Not one signature for each untrimmed HTLC.
    #[error("{found} HTLC signatures for {expected} HTLC outputs")]
    HtlcSignatureCount {
        /// Untrimmed HTLCs.
        expected: usize,
        /// Signatures given.
        found: usize,
    },
    /// An HTLC transaction's signature does not verify.
    #[error("the signature of HTLC output {0} does not verify")]
    HtlcSignature(usize),
}

/// Checks the countersignatory's signature over the broadcaster's commitment.
///
/// # Errors
/// [`VerificationError::CommitmentSignature`]
pub fn verify_commitment(
    parameters: &CommitmentParameters,
    commitment: &CommitmentTransaction,
    signature: &CommitmentSignature,
) -> Result<(), VerificationError> {
    let key = parameters.terms().countersignatory.funding_pubkey;
    if verifies(commitment.sighash(parameters), signature.ecdsa(), key.key()) {
        Ok(())
    } else {
        Err(VerificationError::CommitmentSignature)
    }
}

/// Checks the countersignatory's signatures over the broadcaster's HTLC transactions, in parallel from 8 up.
///
/// # Errors
/// [`VerificationError::HtlcSignatureCount`], or [`VerificationError::HtlcSignature`] with the first that fails.
pub fn verify_htlcs(
    parameters: &CommitmentParameters,
    commitment: &CommitmentTransaction,
    signatures: &[Signature],
) -> Result<(), VerificationError> {
    let htlcs = commitment.htlcs();
    if htlcs.len() != signatures.len() {
        return Err(VerificationError::HtlcSignatureCount { expected: htlcs.len(), found: signatures.len() });
    }
    if htlcs.is_empty() {
        return Ok(());
    }
    let key = *commitment.keys().countersignatory_htlc().key();
    let fails = |index: &usize| {
        let sighash = commitment.htlc_transaction(parameters, *index).countersignatory_sighash();
        !verifies(sighash, &signatures[*index], &key)
    };
    let failed = if htlcs.len() < PARALLEL_FROM {
        (0..htlcs.len()).find(fails)
    } else {
        (0..htlcs.len()).into_par_iter().find_first(fails)
    };
    failed.map_or(Ok(()), |index| Err(VerificationError::HtlcSignature(index)))
}

fn verifies(sighash: SegwitV0Sighash, signature: &Signature, key: &PublicKey) -> bool {
    SECP256K1.verify_ecdsa(&Message::from(sighash), signature, key).is_ok()
}

/// DER and the sighash byte, as it goes into a witness.
pub(super) fn with_sighash(signature: &Signature, sighash_type: EcdsaSighashType) -> Vec<u8> {
    bitcoin::ecdsa::Signature { signature: *signature, sighash_type }.to_vec()
}

pub(super) fn with_sighash_all(signature: &Signature) -> Vec<u8> {
    with_sighash(signature, EcdsaSighashType::All)
}
