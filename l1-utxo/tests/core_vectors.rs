//! Bitcoin Core's published script vectors (`src/test/data/*.json`), where `$CORE_TEST_DATA` names their directory:
//! every expected error by name, and that more flags never make an invalid spend valid.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bitcoin::absolute::LockTime;
use bitcoin::consensus::deserialize;
use bitcoin::opcodes::Opcode;
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::taproot::{LeafVersion, TaprootBuilder, TaprootSpendInfo};
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use l1_utxo::consensus::script::{ScriptError, ScriptFlags, TransactionCache, verify_input};
use secp256k1::{SECP256K1, SecretKey};
use serde_json::Value;

/// The lists of a file of vectors; lists of one element are comments.
fn vectors(name: &str) -> Vec<Vec<Value>> {
    let Some(directory) = std::env::var_os("CORE_TEST_DATA") else {
        println!("skipped: CORE_TEST_DATA names no directory with Bitcoin Core's src/test/data");
        return Vec::new();
    };
    let text = std::fs::read_to_string(PathBuf::from(directory).join(name)).expect("the file of vectors");
    let vectors: Vec<Vec<Value>> = serde_json::from_str(&text).expect("a list of vectors");
    vectors.into_iter().filter(|vector| vector.len() > 1).collect()
}

/// Core's notation: numbers, `0x` raw bytes, `'text'`, opcodes with or without `OP_`.
fn parse_script(text: &str) -> ScriptBuf {
    let mut script = Vec::new();
    for word in text.split_ascii_whitespace() {
        if let Ok(number) = word.parse::<i64>() {
            script.extend(Builder::new().push_int(number).into_script().into_bytes());
        } else if let Some(raw) = word.strip_prefix("0x") {
            script.extend(hex::decode(raw).expect("hex"));
        } else if let Some(data) = word.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
            let data = PushBytesBuf::try_from(data.as_bytes().to_vec()).expect("short text");
            script.extend(Builder::new().push_slice(data).into_script().into_bytes());
        } else {
            script.push(parse_opcode(word.trim_start_matches("OP_")));
        }
    }
    ScriptBuf::from_bytes(script)
}

fn parse_opcode(name: &str) -> u8 {
    match name {
        "CHECKLOCKTIMEVERIFY" => 0xb1,
        "CHECKSEQUENCEVERIFY" => 0xb2,
        name => {
            let known = |code: &u8| Opcode::from(*code).to_string().trim_start_matches("OP_") == name;
            (0x4c..=0xba).find(known).unwrap_or_else(|| panic!("opcode {name}"))
        }
    }
}

fn parse_flags(text: &str) -> ScriptFlags {
    let names = text.split(',').filter(|name| !name.is_empty() && *name != "NONE");
    names.fold(ScriptFlags::NONE, |flags, name| flags | ScriptFlags::from_name(name).expect("a known flag"))
}

/// Whether Core's name for an error is that of ours, but for underscores and the words that only one side has.
fn is_named(result: Result<(), ScriptError>, name: &str) -> bool {
    let plain = name.replace('_', "").to_lowercase();
    match result {
        Ok(()) => plain == "ok",
        Err(ScriptError::SigNullFail) => plain == "nullfail",
        Err(error) => format!("{error:?}").to_lowercase() == plain,
    }
}

fn transaction(previous_output: OutPoint, script_sig: ScriptBuf, witness: Witness, output: TxOut) -> Transaction {
    Transaction {
        version: Version::ONE,
        lock_time: LockTime::ZERO,
        input: vec![TxIn { previous_output, script_sig, sequence: Sequence::MAX, witness }],
        output: vec![output],
    }
}

/// The witness elements, the amount, and the taproot tree if the vector asks for one.
fn parse_witness(items: &[Value]) -> (Vec<Vec<u8>>, Amount, Option<TaprootSpendInfo>) {
    let (amount, items) = items.split_last().expect("an amount");
    let amount = (amount.as_f64().expect("a number") * 1e8).round() as u64;
    let key = SecretKey::from_slice(&[&[0; 31][..], &[1]].concat()).expect("key 0").x_only_public_key(SECP256K1).0;
    let (mut witness, mut tree) = (Vec::<Vec<u8>>::new(), None);
    for item in items.iter().map(|item| item.as_str().expect("text")) {
        if let Some(script) = item.strip_prefix("#SCRIPT#") {
            witness.push(parse_script(script).into_bytes());
        } else if item == "#CONTROLBLOCK#" {
            let leaf = ScriptBuf::from_bytes(witness.last().expect("a script").clone());
            let builder = TaprootBuilder::new().add_leaf(0, leaf.clone()).expect("one leaf");
            let info = builder.finalize(SECP256K1, key).expect("a tree");
            witness.push(info.control_block(&(leaf, LeafVersion::TapScript)).expect("the leaf").serialize());
            tree = Some(info);
        } else {
            witness.push(hex::decode(item).expect("hex"));
        }
    }
    (witness, Amount::from_sat(amount), tree)
}

#[test]
fn script_vectors() {
    let vectors = vectors("script_tests.json");
    for vector in &vectors {
        let (witness, amount, tree, rest) = match &vector[0] {
            Value::Array(items) => {
                let (witness, amount, tree) = parse_witness(items);
                (witness, amount, tree, &vector[1..])
            }
            _ => (Vec::new(), Amount::ZERO, None, &vector[..]),
        };
        let text = |index: usize| rest[index].as_str().expect("text");
        let output_key = tree.map(|tree| hex::encode(tree.output_key().to_x_only_public_key().serialize()));
        let script_pubkey = text(1).replace("#TAPROOTOUTPUT#", &format!("0x{}", output_key.unwrap_or_default()));
        let script_pubkey = parse_script(&script_pubkey);
        let start = ScriptBuf::from_bytes(vec![0, 0]);
        let credit = transaction(OutPoint::null(), start, Witness::new(), TxOut { value: amount, script_pubkey });
        let spend = transaction(
            OutPoint::new(credit.compute_txid(), 0),
            parse_script(text(0)),
            Witness::from_slice(&witness),
            TxOut { value: amount, script_pubkey: ScriptBuf::new() },
        );
        let cache = TransactionCache::new(&spend, vec![&credit.output[0]]);
        let result = verify_input(&cache, 0, fill(parse_flags(text(2))));
        assert!(is_named(result, text(3)), "{result:?} {vector:?}");
    }
    println!("{} script vectors", vectors.len());
}

/// The flags with those that they need.
fn fill(mut flags: ScriptFlags) -> ScriptFlags {
    if flags.contains(ScriptFlags::CLEANSTACK) {
        flags |= ScriptFlags::WITNESS;
    }
    if flags.contains(ScriptFlags::WITNESS) {
        flags |= ScriptFlags::P2SH;
    }
    flags
}

/// The flags without those that lack what they need.
fn trim(mut flags: ScriptFlags) -> ScriptFlags {
    if !flags.contains(ScriptFlags::P2SH) {
        flags = flags.without(ScriptFlags::WITNESS);
    }
    if !flags.contains(ScriptFlags::WITNESS) {
        flags = flags.without(ScriptFlags::CLEANSTACK);
    }
    flags
}

/// A transaction, the outputs it spends, and the flags of the vector; `None` if that is no transaction at all.
fn parse_transaction(vector: &[Value]) -> Option<(Transaction, Vec<TxOut>, ScriptFlags)> {
    let inputs = vector[0].as_array()?;
    let prevouts: BTreeMap<OutPoint, TxOut> = inputs
        .iter()
        .map(|input| {
            let txid: Txid = input[0].as_str().expect("a txid").parse().expect("a txid");
            let vout = input[1].as_i64().expect("an index") as u32;
            let value = Amount::from_sat(input.get(3).and_then(Value::as_u64).unwrap_or_default());
            let script_pubkey = parse_script(input[2].as_str().expect("a script"));
            (OutPoint::new(txid, vout), TxOut { value, script_pubkey })
        })
        .collect();
    let bytes = hex::decode(vector[1].as_str()?).expect("hex");
    let flags = vector[2].as_str().filter(|flags| *flags != "BADTX")?;
    let transaction: Transaction = deserialize(&bytes).expect("a transaction");
    let prevouts = transaction.input.iter().map(|input| prevouts[&input.previous_output].clone()).collect();
    Some((transaction, prevouts, parse_flags(flags)))
}

fn all_valid(transaction: &Transaction, prevouts: &[TxOut], flags: ScriptFlags) -> bool {
    let cache = TransactionCache::new(transaction, prevouts.iter().collect());
    (0..prevouts.len()).all(|index| verify_input(&cache, index, flags).is_ok())
}

#[test]
fn valid_transaction_vectors() {
    let all = ScriptFlags::from_bits_truncate(u32::MAX);
    for vector in vectors("tx_valid.json") {
        let Some((transaction, prevouts, excluded)) = parse_transaction(&vector) else { continue };
        let flags = all.without(excluded);
        assert!(all_valid(&transaction, &prevouts, flags), "{vector:?}");
        for (name, flag) in ScriptFlags::NAMED {
            assert!(all_valid(&transaction, &prevouts, trim(flags.without(*flag))), "{name} {vector:?}");
            let more = all.without(trim(excluded.without(*flag)));
            assert!(more == flags || !all_valid(&transaction, &prevouts, more), "{name} {vector:?}");
        }
    }
}

#[test]
fn invalid_transaction_vectors() {
    for vector in vectors("tx_invalid.json") {
        let Some((transaction, prevouts, flags)) = parse_transaction(&vector) else { continue };
        assert!(!all_valid(&transaction, &prevouts, flags), "{vector:?}");
        for (name, flag) in ScriptFlags::NAMED {
            assert!(!all_valid(&transaction, &prevouts, fill(flags | *flag)), "{name} {vector:?}");
        }
    }
}
