//! Scripts: each opcode on both sides of what it asks for, each type of signature hash by what it does and does not cover.

mod opcode;
mod sighash;

use bitcoin::absolute::LockTime;
use bitcoin::opcodes::Opcode;
use bitcoin::script::Builder;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness, hashes::Hash};
use l1_utxo::consensus::script::{ScriptError, ScriptFlags, TransactionCache, verify_input};

/// Numbers are pushed, `0x` is raw bytes, all else are opcodes without `OP_`.
fn asm(text: &str) -> Vec<u8> {
    let mut script = Vec::new();
    for word in text.split_ascii_whitespace() {
        match (word.parse::<i64>(), word.strip_prefix("0x")) {
            (Ok(number), _) => script.extend(Builder::new().push_int(number).into_bytes()),
            (_, Some(raw)) => script.extend(bytes(raw)),
            _ => script.push(opcode(word)),
        }
    }
    script
}

fn bytes(hex: &str) -> Vec<u8> {
    hex::decode(hex).unwrap()
}

fn opcode(name: &str) -> u8 {
    match name {
        "1NEGATE" => 0x4f,
        "CLTV" => 0xb1,
        "CSV" => 0xb2,
        _ => (0x4c..=0xba)
            .find(|code: &u8| Opcode::from(*code).to_string() == format!("OP_{name}"))
            .unwrap_or_else(|| panic!("opcode {name}")),
    }
}

/// The opcodes of a script, pushes included, as far as it can be read.
fn opcodes(script: &[u8]) -> Vec<u8> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < script.len() {
        let code = script[at];
        found.push(code);
        let field = |size: usize| script.get(at + 1..at + 1 + size);
        let little = |bytes: &[u8]| bytes.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        at += 1 + match code {
            1..=0x4b => usize::from(code),
            0x4c => field(1).map_or(0, |size| 1 + little(size)),
            0x4d => field(2).map_or(0, |size| 2 + little(size)),
            0x4e => field(4).map_or(0, |size| 4 + little(size)),
            _ => 0,
        };
    }
    found
}

/// A spend with two inputs and two outputs, of which input 0 is in question.
#[derive(Clone)]
struct Spend {
    transaction: Transaction,
    prevouts: Vec<TxOut>,
}

impl Spend {
    fn of(script_pubkey: &[u8]) -> Self {
        let input = |n: u8| TxIn {
            previous_output: OutPoint { txid: Txid::from_byte_array([n; 32]), vout: n.into() },
            script_sig: ScriptBuf::new(),
            sequence: Sequence(10),
            witness: Witness::new(),
        };
        let output = |sat: u64, script: &[u8]| TxOut {
            value: Amount::from_sat(sat),
            script_pubkey: ScriptBuf::from_bytes(script.to_vec()),
        };
        Self {
            transaction: Transaction {
                version: Version::TWO,
                lock_time: LockTime::from_consensus(100),
                input: vec![input(1), input(2)],
                output: vec![output(900, &[0x51]), output(800, &[0x52])],
            },
            prevouts: vec![output(1_000, script_pubkey), output(2_000, &[0x51])],
        }
    }

    fn verify(&self, flags: ScriptFlags) -> Result<(), ScriptError> {
        let cache = TransactionCache::new(&self.transaction, self.prevouts.iter().collect());
        verify_input(&cache, 0, flags)
    }
}
