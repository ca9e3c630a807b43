//! Counting signature operations, the way blocks and policy limit them.
//!
//! Bitcoin Core: `CScript::GetSigOpCount` (`script.cpp`), `GetTransactionSigOpCost` (`tx_verify.cpp`).

use bitcoin::{Script, Transaction, TxOut, Witness};

use super::script::{Instructions, ScriptFlags, WitnessProgram, is_pay_to_script_hash, is_push_only, op};

/// What a multisig counts as whose number of keys is not known.
const MAX_PUBKEYS_PER_MULTISIG: u32 = 20;
/// What an operation outside the witness costs more than one within.
const WITNESS_SCALE_FACTOR: u64 = 4;

/// Signature operations in one script, up to where it cannot be read; with `accurate` the keys of a multisig count by the
/// number before it, else 20.
pub fn count_sigops(script: &Script, accurate: bool) -> u32 {
    let mut count = 0;
    let mut last_opcode = op::RESERVED;
    let mut instructions = Instructions::new(script.as_bytes());
    while let Ok(Some(instruction)) = instructions.read() {
        count += match instruction.opcode {
            op::CHECKSIG | op::CHECKSIGVERIFY => 1,
            op::CHECKMULTISIG | op::CHECKMULTISIGVERIFY => match last_opcode {
                op::NUMBER_1..=op::NUMBER_16 if accurate => u32::from(last_opcode - op::NUMBER_1) + 1,
                _ => MAX_PUBKEYS_PER_MULTISIG,
            },
            _ => 0,
        };
        last_opcode = instruction.opcode;
    }
    count
}

/// Signature operations in all scriptSigs and scriptPubKeys of a transaction, inaccurately (Core: `GetLegacySigOpCount`).
pub fn legacy_sigop_count(transaction: &Transaction) -> u32 {
    let inputs = transaction.input.iter().map(|input| input.script_sig.as_script());
    let outputs = transaction.output.iter().map(|output| output.script_pubkey.as_script());
    inputs.chain(outputs).map(|script| count_sigops(script, false)).sum()
}

/// Signature operations that spending `prevout` runs outside the witness, accurately: those of the redeem script if it is
/// P2SH, else those of the output's script itself (Core: `CScript::GetSigOpCount(scriptSig)`).
pub fn spent_sigop_count(script_sig: &Script, prevout: &Script) -> u32 {
    if !is_pay_to_script_hash(prevout.as_bytes()) {
        return count_sigops(prevout, true);
    }
    pushed_last(script_sig).map_or(0, |redeem_script| count_sigops(redeem_script, true))
}

/// The cost of a transaction's signature operations, in weight units (Core: `GetTransactionSigOpCost`).
/// `prevouts` are the spent outputs in the order of the inputs; ignored for a coinbase.
pub fn sigop_cost(transaction: &Transaction, prevouts: &[&TxOut], flags: ScriptFlags) -> u64 {
    let legacy = u64::from(legacy_sigop_count(transaction)) * WITNESS_SCALE_FACTOR;
    if transaction.is_coinbase() {
        return legacy;
    }
    let spends = transaction.input.iter().zip(prevouts).map(|(input, prevout)| {
        let script_pubkey = prevout.script_pubkey.as_script();
        let mut cost = 0;
        if flags.contains(ScriptFlags::P2SH) && is_pay_to_script_hash(script_pubkey.as_bytes()) {
            cost += u64::from(spent_sigop_count(&input.script_sig, script_pubkey)) * WITNESS_SCALE_FACTOR;
        }
        if flags.contains(ScriptFlags::WITNESS) {
            cost += u64::from(witness_sigop_count(&input.script_sig, script_pubkey, &input.witness));
        }
        cost
    });
    legacy + spends.sum::<u64>()
}

fn witness_sigop_count(script_sig: &Script, script_pubkey: &Script, witness: &Witness) -> u32 {
    if let Some(program) = WitnessProgram::parse(script_pubkey.as_bytes()) {
        return program_sigop_count(program, witness);
    }
    if !is_pay_to_script_hash(script_pubkey.as_bytes()) || !is_push_only(script_sig.as_bytes()) {
        return 0;
    }
    pushed_last(script_sig)
        .and_then(|redeem_script| WitnessProgram::parse(redeem_script.as_bytes()))
        .map_or(0, |program| program_sigop_count(program, witness))
}

fn program_sigop_count(program: WitnessProgram<'_>, witness: &Witness) -> u32 {
    match (program.version, program.program.len()) {
        (0, 20) => 1,
        (0, 32) => witness.last().map_or(0, |script| count_sigops(Script::from_bytes(script), true)),
        _ => 0,
    }
}

/// The data of the last push of a script that only pushes; what a number pushes does not count as data.
fn pushed_last(script_sig: &Script) -> Option<&Script> {
    let mut instructions = Instructions::new(script_sig.as_bytes());
    let mut data: &[u8] = &[];
    loop {
        match instructions.read() {
            Ok(None) => return Some(Script::from_bytes(data)),
            Ok(Some(instruction)) if instruction.opcode <= op::NUMBER_16 => data = instruction.data,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::absolute::LockTime;
    use bitcoin::hashes::Hash;
    use bitcoin::transaction::Version;
    use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, TxIn, Txid};

    use super::*;

    fn script(bytes: &[u8]) -> ScriptBuf {
        ScriptBuf::from_bytes(bytes.to_vec())
    }

    fn p2sh(redeem: &[u8]) -> TxOut {
        TxOut { value: Amount::ZERO, script_pubkey: script(redeem).to_p2sh() }
    }

    fn spend(script_sig: &[u8], witness: &[&[u8]]) -> Transaction {
        Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![TxIn {
                previous_output: OutPoint::new(Txid::all_zeros(), 0),
                script_sig: script(script_sig),
                sequence: Sequence::MAX,
                witness: Witness::from_slice(witness),
            }],
            output: vec![],
        }
    }

    #[test]
    fn counts_up_to_what_cannot_be_read() {
        assert_eq!(count_sigops(&script(&[0xac, 0xad, 0xae]), false), 22);
        assert_eq!(count_sigops(&script(&[0x53, 0xae, 0x52, 0xaf, 0xae]), true), 3 + 2 + 20);
        assert_eq!(count_sigops(&script(&[0x53, 0xae]), false), 20);
        assert_eq!(count_sigops(&script(&[0xac, 0x05, 0xac, 0xac]), true), 1);
        assert_eq!(count_sigops(&script(&[0x01, 0xac]), true), 0);
    }

    #[test]
    fn a_redeem_script_counts_accurately() {
        let redeem = [0x52, 0xae, 0xac];
        let push = [3, 0x52, 0xae, 0xac];
        let cost = |script_sig: &[u8]| sigop_cost(&spend(script_sig, &[]), &[&p2sh(&redeem)], ScriptFlags::CONSENSUS);
        assert_eq!(cost(&push), 4 * 3);
        assert_eq!(cost(&[&push[..], &[0x51]].concat()), 0);
        assert_eq!(cost(&[&[0x61], &push[..]].concat()), 0);
        assert_eq!(sigop_cost(&spend(&push, &[]), &[&p2sh(&redeem)], ScriptFlags::NONE), 0);
    }

    #[test]
    fn witness_operations_cost_a_quarter() {
        let (key_hash, script_hash) = ([&[0, 20][..], &[7; 20]].concat(), [&[0, 32][..], &[7; 32]].concat());
        let taproot = [&[0x51, 32][..], &[7; 32]].concat();
        let cost = |script_sig: &[u8], output: &[u8]| {
            let prevout = TxOut { value: Amount::ZERO, script_pubkey: script(output) };
            sigop_cost(&spend(script_sig, &[&[0x53, 0xae]]), &[&prevout], ScriptFlags::CONSENSUS)
        };
        assert_eq!(cost(&[], &key_hash), 1);
        assert_eq!(cost(&[], &script_hash), 3);
        assert_eq!(cost(&[], &taproot), 0);
        let nested = p2sh(&script_hash).script_pubkey;
        assert_eq!(cost(&[&[34], &script_hash[..]].concat(), nested.as_bytes()), 3);
        assert_eq!(cost(&[&[0x61, 34], &script_hash[..]].concat(), nested.as_bytes()), 0);
    }
}
