//! Signature hashes, and what they share within one transaction.
//!
//! `legacy` with its quirks, `witness_v0` (BIP 143), `taproot` (BIP 341, 342). They only hash; nothing here verifies.

mod legacy;
mod midstate;
mod script_code;
mod taproot;
mod witness_v0;

use std::sync::OnceLock;

use bitcoin::hashes::{Hash, HashEngine, sha256};
use bitcoin::{OutPoint, Transaction, TxIn, TxOut};

use super::SignatureCache;
pub(super) use legacy::legacy_sighash;
pub(super) use midstate::Midstates;
pub(super) use script_code::ScriptCode;
pub(super) use taproot::{TaprootSpend, annex_hash, branch_hash, leaf_hash, taproot_sighash, tweak_hash};
pub(super) use witness_v0::witness_v0_sighash;

/// What a signature commits to.
pub(super) type Sighash = [u8; 32];

pub(super) const SIGHASH_ALL: u8 = 0x01;
pub(super) const SIGHASH_NONE: u8 = 0x02;
pub(super) const SIGHASH_SINGLE: u8 = 0x03;
pub(super) const SIGHASH_ANYONECANPAY: u8 = 0x80;

/// A transaction with the outputs that it spends, and what the signature hashes of its inputs share.
///
/// Shared parts are computed on first use, once, whichever thread comes first: `&TransactionCache` goes to all of them.
pub struct TransactionCache<'a> {
    transaction: &'a Transaction,
    prevouts: Vec<&'a TxOut>,
    signatures: Option<&'a SignatureCache>,
    hashes: OnceLock<SharedHashes>,
    double_hashes: OnceLock<SharedHashes>,
    spent_hashes: OnceLock<SpentHashes>,
    /// Every input without its script, and all outputs, serialised for legacy hashes.
    blank_inputs: OnceLock<Vec<u8>>,
    blank_inputs_sequence_zero: OnceLock<Vec<u8>>,
    outputs: OnceLock<Vec<u8>>,
}

/// Hashes over all outpoints, sequences and outputs: single for BIP 341, double for BIP 143.
#[derive(Clone, Copy)]
struct SharedHashes {
    prevouts: [u8; 32],
    sequences: [u8; 32],
    outputs: [u8; 32],
}

/// Hashes over the amounts and scripts of all spent outputs (BIP 341).
#[derive(Clone, Copy)]
struct SpentHashes {
    amounts: [u8; 32],
    scripts: [u8; 32],
}

impl<'a> TransactionCache<'a> {
    /// The transaction and the outputs its inputs spend, in the order of the inputs.
    ///
    /// Panics if their numbers differ.
    pub fn new(transaction: &'a Transaction, prevouts: Vec<&'a TxOut>) -> Self {
        assert_eq!(transaction.input.len(), prevouts.len(), "one spent output for each input");
        Self {
            transaction,
            prevouts,
            signatures: None,
            hashes: OnceLock::new(),
            double_hashes: OnceLock::new(),
            spent_hashes: OnceLock::new(),
            blank_inputs: OnceLock::new(),
            blank_inputs_sequence_zero: OnceLock::new(),
            outputs: OnceLock::new(),
        }
    }

    /// Looks up and stores valid signatures in `signatures`, so that a block does not verify again what the mempool did.
    #[must_use]
    pub fn with_signature_cache(self, signatures: &'a SignatureCache) -> Self {
        Self { signatures: Some(signatures), ..self }
    }

    /// The spending transaction.
    pub fn transaction(&self) -> &'a Transaction {
        self.transaction
    }

    /// The outputs that are spent, in the order of the inputs.
    pub fn prevouts(&self) -> &[&'a TxOut] {
        &self.prevouts
    }

    pub(super) fn signatures(&self) -> Option<&'a SignatureCache> {
        self.signatures
    }

    fn hashes(&self) -> &SharedHashes {
        self.hashes.get_or_init(|| SharedHashes {
            prevouts: hash_all(&self.transaction.input, |engine, input| write_outpoint(engine, &input.previous_output)),
            sequences: hash_all(&self.transaction.input, |engine, input| {
                engine.put(&input.sequence.0.to_le_bytes());
            }),
            outputs: hash_all(&self.transaction.output, write_output),
        })
    }

    fn double_hashes(&self) -> &SharedHashes {
        self.double_hashes.get_or_init(|| {
            let again = |hash: [u8; 32]| sha256::Hash::hash(&hash).to_byte_array();
            let single = self.hashes();
            SharedHashes {
                prevouts: again(single.prevouts),
                sequences: again(single.sequences),
                outputs: again(single.outputs),
            }
        })
    }

    fn spent_hashes(&self) -> &SpentHashes {
        self.spent_hashes.get_or_init(|| SpentHashes {
            amounts: hash_all(&self.prevouts, |engine, prevout| engine.put(&prevout.value.to_sat().to_le_bytes())),
            scripts: hash_all(&self.prevouts, |engine, prevout| write_bytes(engine, prevout.script_pubkey.as_bytes())),
        })
    }

    fn blank_inputs(&self) -> &[u8] {
        self.blank_inputs
            .get_or_init(|| serialize_all(&self.transaction.input, |bytes, input| blank(bytes, input, false)))
    }

    fn blank_inputs_sequence_zero(&self) -> &[u8] {
        self.blank_inputs_sequence_zero
            .get_or_init(|| serialize_all(&self.transaction.input, |bytes, input| blank(bytes, input, true)))
    }

    fn outputs(&self) -> &[u8] {
        self.outputs.get_or_init(|| serialize_all(&self.transaction.output, write_output))
    }
}

/// Bytes of an input with an empty script: outpoint, length 0, sequence.
const BLANK_INPUT_SIZE: usize = 36 + 1 + 4;

fn blank(sink: &mut Vec<u8>, input: &TxIn, sequence_zero: bool) {
    write_outpoint(sink, &input.previous_output);
    sink.push(0);
    sink.extend(if sequence_zero { [0; 4] } else { input.sequence.0.to_le_bytes() });
}

/// What takes bytes: a hash, or a buffer that is hashed many times.
pub(super) trait Sink {
    /// Appends `bytes`.
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for sha256::HashEngine {
    fn put(&mut self, bytes: &[u8]) {
        HashEngine::input(self, bytes);
    }
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

fn hash_all<T>(items: &[T], write: impl Fn(&mut sha256::HashEngine, &T)) -> [u8; 32] {
    let mut engine = sha256::HashEngine::default();
    items.iter().for_each(|item| write(&mut engine, item));
    finish(engine)
}

fn serialize_all<T>(items: &[T], write: impl Fn(&mut Vec<u8>, &T)) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(items.len() * BLANK_INPUT_SIZE);
    items.iter().for_each(|item| write(&mut bytes, item));
    bytes
}

fn write_outpoint(sink: &mut impl Sink, outpoint: &OutPoint) {
    sink.put(outpoint.txid.as_byte_array());
    sink.put(&outpoint.vout.to_le_bytes());
}

fn write_output(sink: &mut impl Sink, output: &TxOut) {
    sink.put(&output.value.to_sat().to_le_bytes());
    write_bytes(sink, output.script_pubkey.as_bytes());
}

fn write_bytes(sink: &mut impl Sink, bytes: &[u8]) {
    write_compact_size(sink, bytes.len());
    sink.put(bytes);
}

fn write_compact_size(sink: &mut impl Sink, size: usize) {
    let size = size as u64;
    match size {
        0..=0xfc => sink.put(&[size as u8]),
        0xfd..=0xffff => {
            sink.put(&[0xfd]);
            sink.put(&(size as u16).to_le_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            sink.put(&[0xfe]);
            sink.put(&(size as u32).to_le_bytes());
        }
        _ => {
            sink.put(&[0xff]);
            sink.put(&size.to_le_bytes());
        }
    }
}

fn finish(engine: sha256::HashEngine) -> [u8; 32] {
    sha256::Hash::from_engine(engine).to_byte_array()
}

fn finish_double(engine: sha256::HashEngine) -> [u8; 32] {
    sha256::Hash::from_engine(engine).hash_again().to_byte_array()
}

/// Which outputs a legacy or v0 hash type covers: the low five bits decide, and what has no meaning is `ALL`.
fn covers(hash_type: u8, part: u8) -> bool {
    hash_type & 0x1f == part
}

#[cfg(test)]
mod tests;
