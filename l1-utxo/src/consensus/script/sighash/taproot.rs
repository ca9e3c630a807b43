//! Taproot's hashes: the signature hash of both paths, leaves, branches, the tweak and the annex (BIP 341, 342).

use std::cell::OnceCell;

use bitcoin::hashes::sha256::{HashEngine, Midstate};

use super::{
    SIGHASH_ALL, SIGHASH_ANYONECANPAY, SIGHASH_NONE, SIGHASH_SINGLE, Sighash, Sink, TransactionCache, finish,
    write_bytes, write_outpoint, write_output,
};

const TAP_SIGHASH: Midstate = Midstate::hash_tag(b"TapSighash");
const TAP_LEAF: Midstate = Midstate::hash_tag(b"TapLeaf");
const TAP_BRANCH: Midstate = Midstate::hash_tag(b"TapBranch");
const TAP_TWEAK: Midstate = Midstate::hash_tag(b"TapTweak");

/// The only type of key in tapscript so far: 32 bytes.
const KEY_VERSION: u8 = 0;

/// What all signatures of one taproot input commit to besides the transaction.
pub(in super::super) struct TaprootSpend {
    /// The hash of the annex, if there is one.
    pub annex_hash: Option<[u8; 32]>,
    /// On the script path the hash of the leaf, and the position of the last executed `OP_CODESEPARATOR`, 0xffffffff if none.
    pub leaf: Option<([u8; 32], u32)>,
    /// The hash of the output at the input's index, once asked for.
    single_output: OnceCell<[u8; 32]>,
}

impl TaprootSpend {
    /// A spend by key, or by a script whose leaf is set later.
    pub fn new(annex_hash: Option<[u8; 32]>) -> Self {
        Self { annex_hash, leaf: None, single_output: OnceCell::new() }
    }
}

/// The hash that a Schnorr signature commits to; `None` for a hash type that is not defined, or `SIGHASH_SINGLE` without
/// an output. `hash_type` 0 is the one of a signature of 64 bytes.
pub(in super::super) fn taproot_sighash(
    cache: &TransactionCache<'_>,
    input_index: usize,
    spend: &TaprootSpend,
    hash_type: u8,
) -> Option<Sighash> {
    let transaction = cache.transaction;
    if !matches!(hash_type, 0x00..=0x03 | 0x81..=0x83) {
        return None;
    }
    let outputs = if hash_type == 0 { SIGHASH_ALL } else { hash_type & SIGHASH_SINGLE };
    debug_assert!(outputs == SIGHASH_ALL || outputs == SIGHASH_NONE || outputs == SIGHASH_SINGLE);
    let alone = hash_type & SIGHASH_ANYONECANPAY != 0;

    let mut engine = tagged(TAP_SIGHASH);
    engine.put(&[0, hash_type]); // the epoch, and the type
    engine.put(&transaction.version.0.to_le_bytes());
    engine.put(&transaction.lock_time.to_consensus_u32().to_le_bytes());
    if !alone {
        engine.put(&cache.hashes().prevouts);
        engine.put(&cache.spent_hashes().amounts);
        engine.put(&cache.spent_hashes().scripts);
        engine.put(&cache.hashes().sequences);
    }
    if outputs == SIGHASH_ALL {
        engine.put(&cache.hashes().outputs);
    }
    engine.put(&[u8::from(spend.leaf.is_some()) << 1 | u8::from(spend.annex_hash.is_some())]);
    if alone {
        let input = &transaction.input[input_index];
        write_outpoint(&mut engine, &input.previous_output);
        write_output(&mut engine, cache.prevouts[input_index]);
        engine.put(&input.sequence.0.to_le_bytes());
    } else {
        engine.put(&(input_index as u32).to_le_bytes());
    }
    if let Some(annex_hash) = &spend.annex_hash {
        engine.put(annex_hash);
    }
    if outputs == SIGHASH_SINGLE {
        let output = transaction.output.get(input_index)?;
        engine.put(spend.single_output.get_or_init(|| {
            let mut output_engine = HashEngine::default();
            write_output(&mut output_engine, output);
            finish(output_engine)
        }));
    }
    if let Some((leaf_hash, separator_position)) = &spend.leaf {
        engine.put(leaf_hash);
        engine.put(&[KEY_VERSION]);
        engine.put(&separator_position.to_le_bytes());
    }
    Some(finish(engine))
}

/// The hash of an annex, its length included.
pub(in super::super) fn annex_hash(annex: &[u8]) -> [u8; 32] {
    let mut engine = HashEngine::default();
    write_bytes(&mut engine, annex);
    finish(engine)
}

/// The hash of a leaf of the script tree.
pub(in super::super) fn leaf_hash(leaf_version: u8, script: &[u8]) -> [u8; 32] {
    let mut engine = tagged(TAP_LEAF);
    engine.put(&[leaf_version]);
    write_bytes(&mut engine, script);
    finish(engine)
}

/// The hash of two nodes of the script tree, the smaller one first.
pub(in super::super) fn branch_hash(one: &[u8; 32], other: &[u8; 32]) -> [u8; 32] {
    let mut engine = tagged(TAP_BRANCH);
    engine.put(one.min(other));
    engine.put(one.max(other));
    finish(engine)
}

/// The tweak that commits an internal key to a script tree.
pub(in super::super) fn tweak_hash(internal_key: &[u8], merkle_root: &[u8; 32]) -> [u8; 32] {
    let mut engine = tagged(TAP_TWEAK);
    engine.put(internal_key);
    engine.put(merkle_root);
    finish(engine)
}

fn tagged(midstate: Midstate) -> HashEngine {
    HashEngine::from_midstate(midstate, 64)
}
