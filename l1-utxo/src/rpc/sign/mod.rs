//! Signing for callers who bring their keys: from an output script, what is known of it and some keys to a scriptSig and
//! a witness, or to what is still missing.
//!
//! Bitcoin Core: `script/sign.cpp`. It knows no coins and no files: transactions, outputs and keys come from the caller, and
//! no key outlives the call. Whether what came out is valid is asked of `consensus::script`.

mod digest;
mod expand;
mod extract;
mod keys;
mod policy;
mod produce;
mod taproot;

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::hashes::{Hash, hash160};
use bitcoin::{Amount, ScriptBuf, Transaction, TxIn, TxOut, Witness};

pub use expand::{at_hardened, expand, has_hardened_range, is_derivable};
pub use extract::extract;
pub use keys::{Keystore, key_of_wif};
pub use produce::produce;

use crate::consensus::script::{ScriptError, ScriptFlags, TransactionCache, verify_input};

/// The hash of a public key.
pub type KeyId = hash160::Hash;
/// An x-only key, or the hash of a leaf.
pub type Bytes32 = [u8; 32];

/// The hash by which a key is known.
pub fn key_id(key: &[u8]) -> KeyId {
    hash160::Hash::hash(key)
}

/// What is known of a taproot output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TapSpend {
    /// The key before it was tweaked.
    pub internal_key: Option<Bytes32>,
    /// The root of its scripts, if it has any.
    pub merkle_root: Option<Bytes32>,
    /// Leaves (script and version) and the control blocks that prove them.
    pub scripts: BTreeMap<(Vec<u8>, u8), BTreeSet<Vec<u8>>>,
    /// Depth, version and script of the leaves in Core's order, if a descriptor tells them.
    pub tree: Vec<(u8, u8, Vec<u8>)>,
}

/// The four hashes that scripts ask preimages of, numbered as PSBT does.
pub type HashKind = u8;

/// What is known about one input while it is signed (Core: `SignatureData`).
#[derive(Debug, Clone, Default)]
pub struct Data {
    /// The input is signed, and was verified.
    pub complete: bool,
    /// The signatures cover the amount.
    pub witness: bool,
    /// The finished scriptSig, or as much as there is of it.
    pub script_sig: ScriptBuf,
    /// The finished witness, or as much as there is of it.
    pub script_witness: Vec<Vec<u8>>,
    /// The script behind a P2SH output.
    pub redeem_script: Option<ScriptBuf>,
    /// The script behind a P2WSH output.
    pub witness_script: Option<ScriptBuf>,
    /// Keys with their signatures.
    pub signatures: BTreeMap<KeyId, (Vec<u8>, Vec<u8>)>,
    /// Keys, and where they come from, as PSBT writes it.
    pub origins: BTreeMap<KeyId, (Vec<u8>, Vec<u8>)>,
    /// The signature of a taproot output key.
    pub tap_key_sig: Vec<u8>,
    /// Signatures by key and leaf.
    pub tap_script_sigs: BTreeMap<(Bytes32, Bytes32), Vec<u8>>,
    /// Keys and scripts of a taproot output.
    pub tap: TapSpend,
    /// X-only keys, the leaves they are in, and where they come from.
    pub tap_origins: BTreeMap<Bytes32, (BTreeSet<Bytes32>, Vec<u8>)>,
    /// Preimages by hash.
    pub preimages: BTreeMap<(HashKind, Vec<u8>), Vec<u8>>,
    /// What is missing.
    pub missing: Missing,
}

/// What an input lacks.
#[derive(Debug, Clone, Default)]
pub struct Missing {
    /// Keys that are known by their hash only.
    pub keys: Vec<KeyId>,
    /// Keys that did not sign.
    pub signatures: Vec<KeyId>,
    /// A script known by its hash only.
    pub redeem_script: Option<hash160::Hash>,
    /// A witness script known by its hash only.
    pub witness_script: Option<Bytes32>,
}

impl Data {
    /// Takes over what another signer has (Core: `MergeSignatureData`).
    pub fn merge(&mut self, other: Self) {
        if self.complete {
            return;
        }
        if other.complete {
            *self = other;
            return;
        }
        self.redeem_script = self.redeem_script.take().or(other.redeem_script);
        self.witness_script = self.witness_script.take().or(other.witness_script);
        for (key, signature) in other.signatures {
            self.signatures.entry(key).or_insert(signature);
        }
    }
}

/// Who makes signatures and looks at them.
pub enum Creator<'a> {
    /// For this input.
    Real(Spend<'a>),
    /// As if every key had signed, to measure.
    Dummy,
}

/// The input that is signed.
#[derive(Clone, Copy)]
pub struct Spend<'a> {
    /// The transaction.
    pub transaction: &'a Transaction,
    /// Which of its inputs.
    pub index: usize,
    /// What is spent.
    pub prevout: &'a TxOut,
    /// All that the transaction spends, if it is known: taproot signs it.
    pub prevouts: Option<&'a [TxOut]>,
    /// The type of signature hash; 0 for the default.
    pub sighash: u32,
}

impl Spend<'_> {
    /// Whether the input would be valid with this scriptSig and witness.
    pub fn verify(&self, script_sig: &ScriptBuf, witness: &[Vec<u8>]) -> Result<(), ScriptError> {
        let mut transaction = self.transaction.clone();
        if let Some(input) = transaction.input.get_mut(self.index) {
            let witness = Witness::from_slice(witness);
            *input = TxIn { script_sig: script_sig.clone(), witness, ..input.clone() };
        }
        let unknown = TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::new() };
        let mut prevouts: Vec<&TxOut> = match self.prevouts {
            Some(all) if all.len() == transaction.input.len() => all.iter().collect(),
            // Without the others nothing that signs them can be valid.
            _ if self.prevout.script_pubkey.is_p2tr() => return Err(ScriptError::SchnorrSig),
            _ => vec![&unknown; transaction.input.len()],
        };
        if let Some(prevout) = prevouts.get_mut(self.index) {
            *prevout = self.prevout;
        }
        verify_input(&TransactionCache::new(&transaction, prevouts), self.index, ScriptFlags::STANDARD)
    }
}

#[cfg(test)]
mod tests;
