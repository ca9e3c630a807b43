//! Changes to a finished spend: most break it, some must not.

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Amount, ScriptBuf, Sequence, TxOut};
use rand::Rng as _;

use super::Rng;
use super::soup;
use super::spend::Case;

/// One change, anywhere.
pub fn mutate(case: &mut Case, rng: &mut Rng) {
    match rng.random_range(0..16) {
        0..=7 => mutate_unlocking(case, rng),
        8 => mutate_script(&mut case.prevouts[case.index].script_pubkey, rng),
        9 => {
            // v0 and taproot commit to the amount, taproot to all of them.
            let index = rng.random_range(0..case.prevouts.len());
            case.prevouts[index].value = Amount::from_sat(rng.random_range(0..100_000_000));
        }
        10 => case.transaction.version = Version(rng.random_range(-1..4)),
        11 => case.transaction.lock_time = LockTime::from_consensus(rng.random()),
        12 => {
            let index = rng.random_range(0..case.transaction.input.len());
            let sequence = &mut case.transaction.input[index].sequence;
            *sequence = Sequence(sequence.0 ^ 1 << rng.random_range(0..32));
        }
        13 => {
            let index = rng.random_range(0..case.transaction.input.len());
            case.transaction.input[index].previous_output.vout ^= 1;
        }
        14 => {
            let index = rng.random_range(0..case.transaction.output.len());
            mutate_script(&mut case.transaction.output[index].script_pubkey, rng);
        }
        _ => {
            let output = TxOut { value: Amount::from_sat(1), script_pubkey: ScriptBuf::new() };
            if rng.random_bool(0.5) {
                case.transaction.output.push(output)
            } else {
                drop(case.transaction.output.pop())
            }
        }
    }
}

fn mutate_unlocking(case: &mut Case, rng: &mut Rng) {
    let mut witness = case.input().witness.to_vec();
    if witness.is_empty() {
        match rng.random_range(0..9) {
            8 => {
                let script_sig = [vec![0x61], case.input().script_sig.to_bytes()].concat();
                case.input().script_sig = ScriptBuf::from_bytes(script_sig);
            }
            0 => case.set_witness(vec![soup::element(rng)]),
            1 => {
                let script_sig = [soup::element(rng), case.input().script_sig.to_bytes()].concat();
                case.input().script_sig = ScriptBuf::from_bytes(script_sig);
            }
            2 => {
                let script_sig = [soup::push(&soup::element(rng)), case.input().script_sig.to_bytes()].concat();
                case.input().script_sig = ScriptBuf::from_bytes(script_sig);
            }
            _ => mutate_script(&mut case.input().script_sig, rng),
        }
        return;
    }
    let index = rng.random_range(0..witness.len());
    match rng.random_range(0..12) {
        0 => drop(witness.remove(index)),
        1 => witness.insert(index, soup::element(rng)),
        2 => {
            let other = rng.random_range(0..witness.len());
            witness.swap(index, other);
        }
        3 => witness[index].clear(),
        4 => {
            let mut script_sig = case.input().script_sig.to_bytes();
            script_sig.push(0x51);
            case.input().script_sig = ScriptBuf::from_bytes(script_sig);
        }
        5 => witness.push(vec![0x50; rng.random_range(1..10)]),
        6 => witness[index].push(rng.random_range(0..4)),
        // The parity of the output key, if this is a control block.
        7 if !witness[index].is_empty() => witness[index][0] ^= 1,
        _ => mutate_bytes(&mut witness[index], rng),
    }
    case.set_witness(witness);
}

fn mutate_script(script: &mut ScriptBuf, rng: &mut Rng) {
    let mut bytes = script.to_bytes();
    mutate_bytes(&mut bytes, rng);
    *script = ScriptBuf::from_bytes(bytes);
}

fn mutate_bytes(bytes: &mut Vec<u8>, rng: &mut Rng) {
    if bytes.is_empty() {
        bytes.push(rng.random());
        return;
    }
    let index = rng.random_range(0..bytes.len());
    match rng.random_range(0..8) {
        0 => drop(bytes.remove(index)),
        1 => bytes.insert(index, rng.random()),
        2 => drop(bytes.pop()),
        3 => bytes[index] = rng.random(),
        4 => *bytes.last_mut().expect("not empty") ^= 1 << rng.random_range(0..8),
        _ => bytes[index] ^= 1 << rng.random_range(0..8),
    }
}
