//! The signature hash of version 0 witness programs (BIP 143).

use bitcoin::hashes::sha256::HashEngine;

use super::{
    Midstates, SIGHASH_ANYONECANPAY, SIGHASH_NONE, SIGHASH_SINGLE, ScriptCode, Sighash, Sink, TransactionCache, covers,
    finish_double, write_bytes, write_outpoint, write_output,
};

/// The hash that a signature in a v0 script commits to. `script_code` runs from the last executed `OP_CODESEPARATOR`.
pub(in super::super) fn witness_v0_sighash<'s>(
    cache: &TransactionCache<'_>,
    input_index: usize,
    script_code: &ScriptCode<'s>,
    hash_type: u8,
    midstates: &mut Midstates<'s>,
) -> Sighash {
    let mut engine =
        midstates.load_or(hash_type, script_code, || write_transaction(cache, input_index, script_code, hash_type));
    engine.put(&u32::from(hash_type).to_le_bytes());
    finish_double(engine)
}

fn write_transaction(
    cache: &TransactionCache<'_>,
    index: usize,
    script_code: &ScriptCode<'_>,
    hash_type: u8,
) -> HashEngine {
    let transaction = cache.transaction;
    let input = &transaction.input[index];
    let alone = hash_type & SIGHASH_ANYONECANPAY != 0;
    let single = covers(hash_type, SIGHASH_SINGLE);
    let all = !single && !covers(hash_type, SIGHASH_NONE);
    let hashes = cache.double_hashes();
    let zero = [0; 32];

    let mut engine = HashEngine::default();
    engine.put(&transaction.version.0.to_le_bytes());
    engine.put(if alone { &zero } else { &hashes.prevouts });
    engine.put(if alone || !all { &zero } else { &hashes.sequences });
    write_outpoint(&mut engine, &input.previous_output);
    write_bytes(&mut engine, script_code.bytes());
    engine.put(&cache.prevouts[index].value.to_sat().to_le_bytes());
    engine.put(&input.sequence.0.to_le_bytes());
    match transaction.output.get(index) {
        _ if all => engine.put(&hashes.outputs),
        Some(output) if single => {
            let mut output_engine = HashEngine::default();
            write_output(&mut output_engine, output);
            engine.put(&finish_double(output_engine));
        }
        _ => engine.put(&zero),
    }
    engine.put(&transaction.lock_time.to_consensus_u32().to_le_bytes());
    engine
}
