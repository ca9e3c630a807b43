//! The first release's signature hash, with every quirk that became a rule (Bitcoin Core: `SignatureHash`).

use bitcoin::hashes::sha256::HashEngine;

use super::{
    BLANK_INPUT_SIZE, Midstates, SIGHASH_ANYONECANPAY, SIGHASH_NONE, SIGHASH_SINGLE, ScriptCode, Sighash, Sink,
    TransactionCache, covers, finish_double, write_compact_size, write_outpoint, write_output,
};

/// What is signed under `SIGHASH_SINGLE` where the input has no output: the number 1. Whoever has such a signature can
/// use it for anything.
const ONE: Sighash = {
    let mut one = [0; 32];
    one[0] = 1;
    one
};

/// The hash that a signature in a legacy script commits to. `script_code` runs from the last `OP_CODESEPARATOR`, without
/// the signatures themselves; the separators left in it are skipped here.
pub(in super::super) fn legacy_sighash<'s>(
    cache: &TransactionCache<'_>,
    input_index: usize,
    script_code: &ScriptCode<'s>,
    hash_type: u8,
    midstates: &mut Midstates<'s>,
) -> Sighash {
    if covers(hash_type, SIGHASH_SINGLE) && input_index >= cache.transaction.output.len() {
        return ONE;
    }
    let mut engine =
        midstates.load_or(hash_type, script_code, || write_transaction(cache, input_index, script_code, hash_type));
    engine.put(&u32::from(hash_type).to_le_bytes());
    finish_double(engine)
}

pub(super) fn write_transaction(
    cache: &TransactionCache<'_>,
    index: usize,
    script_code: &ScriptCode<'_>,
    hash_type: u8,
) -> HashEngine {
    let transaction = cache.transaction;
    let mut engine = HashEngine::default();
    engine.put(&transaction.version.0.to_le_bytes());
    write_inputs(&mut engine, cache, index, script_code, hash_type);
    if covers(hash_type, SIGHASH_NONE) {
        engine.put(&[0]);
    } else if covers(hash_type, SIGHASH_SINGLE) {
        write_compact_size(&mut engine, index + 1);
        for _ in 0..index {
            // A default output: value −1 and an empty script.
            engine.put(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]);
        }
        write_output(&mut engine, &transaction.output[index]);
    } else {
        write_compact_size(&mut engine, transaction.output.len());
        engine.put(cache.outputs());
    }
    engine.put(&transaction.lock_time.to_consensus_u32().to_le_bytes());
    engine
}

fn write_inputs(
    engine: &mut HashEngine,
    cache: &TransactionCache<'_>,
    index: usize,
    script_code: &ScriptCode<'_>,
    hash_type: u8,
) {
    let alone = hash_type & SIGHASH_ANYONECANPAY != 0;
    let others = if alone {
        &[]
    } else if covers(hash_type, SIGHASH_NONE) || covers(hash_type, SIGHASH_SINGLE) {
        cache.blank_inputs_sequence_zero()
    } else {
        cache.blank_inputs()
    };
    let input = &cache.transaction.input[index];
    write_compact_size(engine, if alone { 1 } else { cache.transaction.input.len() });
    engine.put(others.get(..index * BLANK_INPUT_SIZE).unwrap_or_default());
    write_outpoint(engine, &input.previous_output);
    script_code.write_without_separators(engine);
    engine.put(&input.sequence.0.to_le_bytes());
    engine.put(others.get((index + 1) * BLANK_INPUT_SIZE..).unwrap_or_default());
}
