//! What a transaction itself looks like: one change to a good one, and Bitcoin Core's word for it.
//!
//! After `mempool_accept.py`, `mempool_dust.py`, `feature_bip68_sequence.py` and `policy/policy.cpp`.

use bitcoin::PubkeyHash;
use bitcoin::opcodes::all::{OP_CHECKMULTISIG, OP_HASH160, OP_RETURN};
use bitcoin::script::PushBytesBuf;

use super::*;

/// Name, change, and how what the mempool says begins.
type Case = (&'static str, fn(&mut Transaction), &'static str);

fn pay(script: ScriptBuf, value: u64) -> TxOut {
    TxOut { value: Amount::from_sat(value), script_pubkey: script }
}

fn raw(hex: &str) -> ScriptBuf {
    ScriptBuf::from_hex(hex).unwrap()
}

fn filled(prefix: &str, bytes: usize, suffix: &str) -> ScriptBuf {
    raw(&format!("{prefix}{}{suffix}", "11".repeat(bytes)))
}

fn key() -> Vec<u8> {
    [vec![2u8], vec![0x11; 32]].concat()
}

fn push(bytes: usize) -> PushBytesBuf {
    PushBytesBuf::try_from(vec![3; bytes]).unwrap()
}

fn pushes(sizes: &[usize]) -> ScriptBuf {
    sizes.iter().fold(Builder::new(), |builder, size| builder.push_slice(push(*size))).into_script()
}

fn multisig(required: i64, keys: usize) -> ScriptBuf {
    let mut builder = Builder::new().push_int(required);
    for _ in 0..keys {
        builder = builder.push_slice(PushBytesBuf::try_from(key()).unwrap());
    }
    builder.push_int(keys as i64).push_opcode(OP_CHECKMULTISIG).into_script()
}

fn p2pk(hex_prefix: &str, bytes: usize) -> ScriptBuf {
    filled(hex_prefix, bytes, "ac")
}

fn add(tx: &mut Transaction, script: ScriptBuf, value: u64) {
    tx.output.push(pay(script, value));
}

fn only(tx: &mut Transaction, script: ScriptBuf, value: u64) {
    tx.output = vec![pay(script, value)];
}

fn data(bytes: usize) -> ScriptBuf {
    Builder::new().push_opcode(OP_RETURN).push_slice(push(bytes)).into_script()
}

fn coinbase(tx: &mut Transaction, bytes: usize) {
    tx.input = vec![TxIn { script_sig: ScriptBuf::from_bytes(vec![0; bytes]), ..TxIn::default() }];
}

const FORM: &[Case] = &[
    ("as it is", |_| (), "ok"),
    ("version 0", |tx| tx.version.0 = 0, "version"),
    ("version 1", |tx| tx.version.0 = 1, "ok"),
    ("version 3", |tx| tx.version.0 = 3, "ok"),
    ("version 4", |tx| tx.version.0 = 4, "version"),
    ("version -1", |tx| tx.version.0 = -1, "version"),
    ("no input", |tx| tx.input.clear(), "bad-txns-vin-empty"),
    ("no output", |tx| tx.output.clear(), "bad-txns-vout-empty"),
    ("a megabyte", |tx| tx.output = vec![tx.output[0].clone(); 25_000], "bad-txns-oversize"),
    ("a negative output", |tx| tx.output[0].value = Amount::from_sat(u64::MAX), "bad-txns-vout-negative"),
    ("more than there is", |tx| tx.output[0].value = Amount::MAX_MONEY + Amount::ONE_SAT, "bad-txns-vout-toolarge"),
    ("all there is", |tx| tx.output[0].value = Amount::MAX_MONEY, "bad-txns-in-belowout, value in (0.01) < value out"),
    (
        "twice all there is",
        |tx| tx.output = vec![pay(tx.output[0].script_pubkey.clone(), 2_100_000_000_000_000); 2],
        "bad-txns-txouttotal-toolarge",
    ),
    ("an input twice", |tx| tx.input.push(tx.input[0].clone()), "bad-txns-inputs-duplicate"),
    ("a null input", |tx| tx.input.push(TxIn::default()), "bad-txns-prevout-null"),
    ("a coinbase", |tx| coinbase(tx, 2), "coinbase"),
    ("a coinbase, short", |tx| coinbase(tx, 1), "bad-cb-length"),
    ("a coinbase, long", |tx| coinbase(tx, 101), "bad-cb-length"),
    (
        "scriptSig of 1650 bytes",
        |tx| tx.input[0].script_sig = pushes(&[520, 520, 520, 79]),
        "mempool-script-verify-flag-failed (Witness requires empty scriptSig)",
    ),
    ("scriptSig of 1651 bytes", |tx| tx.input[0].script_sig = pushes(&[520, 520, 520, 80]), "scriptsig-size"),
    (
        "code in scriptSig",
        |tx| tx.input[0].script_sig = Builder::new().push_opcode(OP_HASH160).into_script(),
        "scriptsig-not-pushonly",
    ),
    ("400,000 units of weight", |tx| tx.output = vec![tx.output[0].clone(); 2_400], "tx-size"),
    ("a huge witness", |tx| tx.input[0].witness.push(vec![0; 400_000]), "tx-size"),
    ("output OP_TRUE", |tx| only(tx, raw("51"), 10_000), "scriptpubkey"),
    ("output OP_0", |tx| only(tx, raw("00"), 10_000), "scriptpubkey"),
    ("output empty", |tx| only(tx, raw(""), 10_000), "scriptpubkey"),
    ("OP_RETURN and code", |tx| only(tx, raw("6aa9"), 0), "scriptpubkey"),
    ("OP_RETURN and half a push", |tx| add(tx, raw("6a04aa"), 0), "scriptpubkey"),
    ("OP_RETURN alone", |tx| add(tx, raw("6a"), 0), "ok"),
    ("OP_RETURN and 80 bytes", |tx| add(tx, data(80), 0), "ok"),
    ("OP_RETURN and 50,000 bytes", |tx| add(tx, data(50_000), 0), "ok"),
    ("three OP_RETURN", |tx| tx.output.extend(vec![pay(data(30), 0); 3]), "ok"),
    ("v0 program of 16 bytes", |tx| only(tx, filled("0010", 16, ""), 10_000), "scriptpubkey"),
    ("v1 program of 16 bytes", |tx| only(tx, filled("5110", 16, ""), 10_000), "ok"),
    ("v16 program of 40 bytes", |tx| only(tx, filled("6028", 40, ""), 10_000), "ok"),
    ("v16 program of 41 bytes", |tx| only(tx, filled("6029", 41, ""), 10_000), "scriptpubkey"),
    ("pay to anchor", |tx| add(tx, raw("51024e73"), 240), "ok"),
    ("pay to a key", |tx| only(tx, p2pk("2102", 32), 10_000), "ok"),
    ("pay to a long key", |tx| only(tx, p2pk("4104", 64), 10_000), "ok"),
    ("pay to a hybrid key", |tx| only(tx, p2pk("4106", 64), 10_000), "ok"),
    ("pay to a key of no kind", |tx| only(tx, p2pk("2105", 32), 10_000), "scriptpubkey"),
    ("pay to a key's hash", |tx| only(tx, ScriptBuf::new_p2pkh(&PubkeyHash::all_zeros()), 10_000), "ok"),
    ("pay to a script's hash", |tx| only(tx, filled("a914", 20, "87"), 10_000), "ok"),
    ("one of one bare", |tx| only(tx, multisig(1, 1), 10_000), "ok"),
    ("two of three bare", |tx| only(tx, multisig(2, 3), 10_000), "ok"),
    ("one of four bare", |tx| only(tx, multisig(1, 4), 10_000), "scriptpubkey"),
    ("none of one bare", |tx| only(tx, multisig(0, 1), 10_000), "scriptpubkey"),
    ("two of one bare", |tx| only(tx, multisig(2, 1), 10_000), "scriptpubkey"),
    ("64 bytes without witness", |tx| only(tx, raw("6a000000"), 0), "tx-size-small"),
    ("65 bytes without witness", |tx| only(tx, raw("6a00000000"), 0), "ok"),
    (
        "dust for a script",
        |tx| add(tx, tx.output[0].script_pubkey.clone(), 329),
        "dust, tx with dust output must be 0-fee",
    ),
    ("just no dust for a script", |tx| add(tx, tx.output[0].script_pubkey.clone(), 330), "ok"),
    ("dust for a v0 key", |tx| add(tx, filled("0014", 20, ""), 293), "dust"),
    ("just no dust for a v0 key", |tx| add(tx, filled("0014", 20, ""), 294), "ok"),
    ("dust for a taproot key", |tx| add(tx, filled("5120", 32, ""), 329), "dust"),
    ("just no dust for a taproot key", |tx| add(tx, filled("5120", 32, ""), 330), "ok"),
    ("dust for a key's hash", |tx| add(tx, filled("76a914", 20, "88ac"), 545), "dust"),
    ("just no dust for a key's hash", |tx| add(tx, filled("76a914", 20, "88ac"), 546), "ok"),
    ("dust for a script's hash", |tx| add(tx, filled("a914", 20, "87"), 539), "dust"),
    ("just no dust for a script's hash", |tx| add(tx, filled("a914", 20, "87"), 540), "ok"),
    ("dust for a key", |tx| add(tx, p2pk("2102", 32), 575), "dust"),
    ("just no dust for a key", |tx| add(tx, p2pk("2102", 32), 576), "ok"),
    ("dust for one of one", |tx| add(tx, multisig(1, 1), 581), "dust"),
    ("just no dust for one of one", |tx| add(tx, multisig(1, 1), 582), "ok"),
    ("dust for an anchor", |tx| add(tx, raw("51024e73"), 239), "dust, tx with dust output must be 0-fee"),
    ("dust for a program of 40 bytes", |tx| add(tx, filled("6028", 40, ""), 353), "dust"),
    ("just no dust for a program of 40 bytes", |tx| add(tx, filled("6028", 40, ""), 354), "ok"),
    ("dust twice", |tx| tx.output.extend(vec![pay(raw("51024e73"), 0); 2]), "dust"),
    ("locked to the height after the next", |tx| lock(tx, 201), "non-final"),
    ("locked to the next height", |tx| lock(tx, 200), "ok"),
    ("locked and final", |tx| tx.lock_time = LockTime::from_consensus(9_000), "ok"),
    ("locked to a time", |tx| lock(tx, 500_000_001), "non-final"),
    ("200 blocks after its coin", |tx| tx.input[0].sequence = Sequence(200), "ok"),
    ("201 blocks after its coin", |tx| tx.input[0].sequence = Sequence(201), "non-BIP68-final"),
    ("201 blocks after its coin, version 1", |tx| old_and(tx, Sequence(201)), "ok"),
    ("201 blocks, not enforced", |tx| tx.input[0].sequence = Sequence(1 << 31 | 201), "ok"),
    ("512 seconds after its coin", |tx| tx.input[0].sequence = Sequence(1 << 22 | 1), "non-BIP68-final"),
    ("no seconds after its coin", |tx| tx.input[0].sequence = Sequence(1 << 22), "ok"),
    ("no fee", |tx| tx.output[0].value = Amount::from_sat(COIN), "min relay fee not met, 0 < 10"),
    ("a fee of 9", |tx| tx.output[0].value = Amount::from_sat(COIN - 9), "min relay fee not met, 9 < 10"),
    ("a fee of 10", |tx| tx.output[0].value = Amount::from_sat(COIN - 10), "ok"),
    ("less in than out", |tx| tx.output[0].value = Amount::from_sat(COIN + 1), "bad-txns-in-belowout"),
    ("an input that never was", |tx| tx.input[0].previous_output.vout = 77, "bad-txns-inputs-missingorspent"),
    (
        "no witness",
        |tx| tx.input[0].witness.clear(),
        "mempool-script-verify-flag-failed (Witness program was passed an empty witness)",
    ),
    (
        "a witness of another",
        |tx| *tx = with_witness(tx, &[&[0x52]]),
        "mempool-script-verify-flag-failed (Witness program hash mismatch)",
    ),
];

fn lock(tx: &mut Transaction, to: u32) {
    tx.lock_time = LockTime::from_consensus(to);
    tx.input[0].sequence = Sequence::ZERO;
}

fn old_and(tx: &mut Transaction, sequence: Sequence) {
    tx.version.0 = 1;
    tx.input[0].sequence = sequence;
}

fn with_witness(tx: &Transaction, items: &[&[u8]]) -> Transaction {
    let mut changed = tx.clone();
    changed.input[0].witness = Witness::from_slice(items);
    changed
}

#[test]
fn the_form_gets_cores_words() {
    for (name, change, expected) in FORM {
        let mut world = World::new(Policy::default());
        let coin = world.coin(0);
        let mut transaction = spend(&[coin], 1, COIN - 10_000);
        change(&mut transaction);
        expect(name, &said(world.accept(&transaction)), expected);
    }
}

#[test]
fn what_is_not_standard_comes_in_where_that_is_wanted() {
    let strange: &[Case] = &[
        ("version 4", |tx| tx.version.0 = 4, "ok"),
        ("output OP_TRUE", |tx| add(tx, raw("51"), 1_000), "ok"),
        ("dust", |tx| add(tx, raw("51024e73"), 1), "ok"),
        ("64 bytes", |tx| only(tx, raw("6a000000"), 0), "tx-size-small"),
        ("no fee", |tx| tx.output[0].value = Amount::from_sat(COIN), "min relay fee not met"),
        ("script", |tx| tx.input[0].witness.clear(), "mempool-script-verify-flag-failed"),
    ];
    for (name, change, expected) in strange {
        let mut world = World::new(Policy { requires_standard: false, ..Policy::default() });
        let coin = world.coin(0);
        let mut transaction = spend(&[coin], 1, COIN - 10_000);
        change(&mut transaction);
        expect(name, &said(world.accept(&transaction)), expected);
    }
}
