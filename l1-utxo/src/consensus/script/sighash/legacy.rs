//! The first release's signature hash, with every quirk that became a rule (Bitcoin Core: `SignatureHash`).

use std::borrow::Cow;

use bitcoin::hashes::sha256::HashEngine;

use super::super::opcode::{Instructions, Push, op};
use super::{
    BLANK_INPUT_SIZE, Midstates, SIGHASH_ANYONECANPAY, SIGHASH_NONE, SIGHASH_SINGLE, Sighash, Sink, TransactionCache,
    covers, finish_double, write_compact_size, write_outpoint, write_output,
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
    script_code: &Cow<'s, [u8]>,
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

fn write_transaction(cache: &TransactionCache<'_>, index: usize, script_code: &[u8], hash_type: u8) -> HashEngine {
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
    script_code: &[u8],
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
    write_script_code(engine, script_code);
    engine.put(&input.sequence.0.to_le_bytes());
    engine.put(others.get((index + 1) * BLANK_INPUT_SIZE..).unwrap_or_default());
}

/// The script code without `OP_CODESEPARATOR`. Where a push is truncated Core's length still counts what follows it, but
/// the bytes do not; such a script fails later anyway.
fn write_script_code(engine: &mut HashEngine, script_code: &[u8]) {
    let mut instructions = Instructions::new(script_code);
    let mut separators = 0;
    while let Ok(Some(instruction)) = instructions.read() {
        separators += usize::from(instruction.opcode == op::CODESEPARATOR);
    }
    let end = instructions.position();
    write_compact_size(engine, script_code.len() - separators);
    let mut start = 0;
    if separators > 0 {
        let mut instructions = Instructions::new(script_code);
        while let Ok(Some(instruction)) = instructions.read() {
            if instruction.opcode == op::CODESEPARATOR {
                engine.put(&script_code[start..instructions.position() - 1]);
                start = instructions.position();
            }
        }
    }
    engine.put(&script_code[start..end]);
}

/// Removes every push of `signature` that stands where an instruction begins; the flag says whether there was one
/// (Bitcoin Core: `FindAndDelete`).
pub(in super::super) fn find_and_delete<'s>(script: Cow<'s, [u8]>, signature: &[u8]) -> (Cow<'s, [u8]>, bool) {
    let push = Push::new(signature);
    let mut kept: Option<Vec<u8>> = None;
    let mut instructions = Instructions::new(&script);
    let mut start = 0;
    loop {
        let mut position = instructions.position();
        if push.is_prefix_of(&script[position..]) {
            let kept = kept.get_or_insert_with(|| Vec::with_capacity(script.len()));
            kept.extend_from_slice(&script[start..position]);
            while push.is_prefix_of(&script[position..]) {
                position += push.len();
            }
            start = position;
            instructions.skip_to(position);
        }
        if !matches!(instructions.read(), Ok(Some(_))) {
            break;
        }
    }
    match kept {
        None => (script, false),
        Some(mut kept) => {
            kept.extend_from_slice(&script[start..]);
            (Cow::Owned(kept), true)
        }
    }
}
