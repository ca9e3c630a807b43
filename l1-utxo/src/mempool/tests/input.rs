//! What a transaction spends, and how: Bitcoin Core's word for each kind of coin and each way to get it wrong.
//!
//! After `policy/policy.cpp`, `script/interpreter.cpp`, `mempool_sigoplimit.py` and `feature_taproot.py`.

use bitcoin::opcodes::all::{
    OP_CAT, OP_CHECKMULTISIG, OP_CHECKSIG, OP_CLTV, OP_CODESEPARATOR, OP_CSV, OP_DROP, OP_ELSE, OP_ENDIF, OP_IF,
    OP_NOP4, OP_PUSHNUM_1, OP_RETURN, OP_VERIF,
};
use bitcoin::opcodes::{OP_FALSE, Opcode};
use bitcoin::script::PushBytesBuf;
use bitcoin::secp256k1::{SECP256K1, XOnlyPublicKey};
use bitcoin::taproot::{LeafVersion, TaprootBuilder};

use super::*;

/// The coin's script, the scriptSig, the witness.
type Spend = (ScriptBuf, ScriptBuf, Vec<Vec<u8>>);
type Case = (&'static str, fn() -> Spend, &'static str);

fn ops(ops: &[Opcode]) -> ScriptBuf {
    ops.iter().fold(Builder::new(), |builder, op| builder.push_opcode(*op)).into_script()
}

fn push(bytes: &[u8]) -> ScriptBuf {
    Builder::new().push_slice(PushBytesBuf::try_from(bytes.to_vec()).unwrap()).into_script()
}

/// A bare coin.
fn bare(script: ScriptBuf, script_sig: ScriptBuf) -> Spend {
    (script, script_sig, Vec::new())
}

/// P2SH.
fn hashed(redeem: &ScriptBuf) -> Spend {
    (redeem.to_p2sh(), push(redeem.as_bytes()), Vec::new())
}

/// P2WSH with items under the script.
fn witness(script: &ScriptBuf, items: &[&[u8]]) -> Spend {
    let mut stack: Vec<Vec<u8>> = items.iter().map(|item| item.to_vec()).collect();
    stack.push(script.to_bytes());
    (script.to_p2wsh(), ScriptBuf::new(), stack)
}

/// Taproot, spent by its script.
fn taproot(script: &ScriptBuf, version: u8, items: &[&[u8]], annex: bool) -> Spend {
    let leaf = LeafVersion::from_consensus(version).unwrap();
    let builder = TaprootBuilder::new().add_leaf_with_ver(0, script.clone(), leaf).unwrap();
    let info = builder.finalize(SECP256K1, internal_key()).unwrap();
    let control = info.control_block(&(script.clone(), leaf)).unwrap().serialize();
    let mut stack: Vec<Vec<u8>> = items.iter().map(|item| item.to_vec()).collect();
    stack.extend([script.to_bytes(), control]);
    if annex {
        stack.push(vec![0x50]);
    }
    (ScriptBuf::new_p2tr_tweaked(info.output_key()), ScriptBuf::new(), stack)
}

fn internal_key() -> XOnlyPublicKey {
    let mut one = [0; 32];
    one[31] = 1;
    let secret = bitcoin::secp256k1::SecretKey::from_slice(&one).unwrap();
    secret.x_only_public_key(SECP256K1).0
}

fn key_path(items: &[&[u8]]) -> Spend {
    let stack = items.iter().map(|item| item.to_vec()).collect();
    (ScriptBuf::new_p2tr(SECP256K1, internal_key(), None), ScriptBuf::new(), stack)
}

fn anchor() -> ScriptBuf {
    ScriptBuf::from_hex("51024e73").unwrap()
}

fn program(hex: &str, bytes: usize) -> ScriptBuf {
    ScriptBuf::from_hex(&format!("{hex}{}", "22".repeat(bytes))).unwrap()
}

/// `count` sigops that are never run, and true.
fn sigops(op: Opcode, count: usize) -> ScriptBuf {
    let mut all = vec![OP_FALSE, OP_IF];
    all.extend(vec![op; count]);
    all.extend([OP_ENDIF, OP_PUSHNUM_1]);
    ops(&all)
}

/// A witness script of just so many bytes, that is true.
fn long(bytes: usize) -> ScriptBuf {
    let mut script = Vec::new();
    while bytes - script.len() > 524 + 200 {
        script.extend([0x4d, 0x08, 0x02]);
        script.extend([7; 520]);
        script.push(0x75);
    }
    let left = bytes - script.len() - 1;
    let (first, second) = (left / 2, left - left / 2);
    for part in [first, second] {
        // A push of 76 to 255 bytes and a drop take three bytes more.
        let filled = part - 3;
        assert!((76..256).contains(&filled), "{filled}");
        script.extend([0x4c, u8::try_from(filled).unwrap()]);
        script.extend(vec![7; filled]);
        script.push(0x75);
    }
    script.push(0x51);
    ScriptBuf::from_bytes(script)
}

fn true_op() -> ScriptBuf {
    ops(&[OP_PUSHNUM_1])
}

fn key_and_checksig(key: &[u8]) -> ScriptBuf {
    let key = PushBytesBuf::try_from(key.to_vec()).unwrap();
    Builder::new().push_slice(key).push_opcode(OP_CHECKSIG).into_script()
}

fn generator() -> Vec<u8> {
    hex::decode("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798").unwrap()
}

fn generator_uncompressed() -> Vec<u8> {
    bitcoin::secp256k1::PublicKey::from_slice(&generator()).unwrap().serialize_uncompressed().to_vec()
}

/// A signature that is well formed and signs nothing.
fn der() -> Vec<u8> {
    vec![0x30, 6, 2, 1, 1, 2, 1, 1, 1]
}

const SCRIPT: &[Case] = &[
    ("bare OP_TRUE", || bare(true_op(), ScriptBuf::new()), "bad-txns-nonstandard-inputs, input 0 script unknown"),
    (
        "v16 program",
        || bare(program("6028", 40), ScriptBuf::new()),
        "bad-txns-nonstandard-inputs, input 0 witness program is undefined",
    ),
    (
        "v1 program of 16 bytes",
        || bare(program("5110", 16), ScriptBuf::new()),
        "bad-txns-nonstandard-inputs, input 0 witness program is undefined",
    ),
    ("anchor", || bare(anchor(), ScriptBuf::new()), "ok"),
    ("anchor with a witness", || (anchor(), ScriptBuf::new(), vec![vec![1]]), "bad-witness-nonstandard"),
    (
        "anchor with a scriptSig",
        || bare(anchor(), push(&[7, 7])),
        "mempool-script-verify-flag-failed (Witness requires empty scriptSig)",
    ),
    ("script hash", || hashed(&true_op()), "ok"),
    (
        "script hash, nothing pushed",
        || bare(true_op().to_p2sh(), ScriptBuf::new()),
        "bad-txns-nonstandard-inputs, input 0 P2SH redeemscript missing",
    ),
    (
        "script hash, another script",
        || bare(true_op().to_p2sh(), push(&[0x52])),
        "mempool-script-verify-flag-failed (Script evaluated without error but finished with a false/empty top stack element)",
    ),
    (
        "script hash, half a push",
        || bare(true_op().to_p2sh(), ScriptBuf::from_bytes(vec![5, 1])),
        "scriptsig-not-pushonly",
    ),
    ("script hash, 15 sigops", || hashed(&sigops(OP_CHECKSIG, 15)), "ok"),
    (
        "script hash, 16 sigops",
        || hashed(&sigops(OP_CHECKSIG, 16)),
        "bad-txns-nonstandard-inputs, p2sh redeemscript sigops exceed limit (input 0: 16 > 15)",
    ),
    (
        "script hash with more on the stack",
        || {
            let (script, sig, none) = hashed(&true_op());
            (script, ScriptBuf::from_bytes([&[0x51][..], sig.as_bytes()].concat()), none)
        },
        "mempool-script-verify-flag-failed (Stack size must be exactly one after execution)",
    ),
    (
        "script hash with OP_CODESEPARATOR",
        || hashed(&ops(&[OP_CODESEPARATOR, OP_PUSHNUM_1])),
        "mempool-script-verify-flag-failed (Using OP_CODESEPARATOR in non-witness script)",
    ),
    ("script hash with a witness", || (true_op().to_p2sh(), push(&[0x51]), vec![vec![1]]), "bad-witness-nonstandard"),
    (
        "key hash with a witness",
        || {
            (
                program("76a914", 20).into_bytes().into_iter().chain([0x88, 0xac]).collect::<Vec<u8>>().into(),
                ScriptBuf::new(),
                vec![vec![1]],
            )
        },
        "bad-witness-nonstandard",
    ),
    ("witness script", || witness(&true_op(), &[]), "ok"),
    ("witness script of 3600 bytes", || witness(&long(3_600), &[]), "ok"),
    ("witness script of 3601 bytes", || witness(&long(3_601), &[]), "bad-witness-nonstandard"),
    ("witness item of 80 bytes", || witness(&ops(&[OP_DROP, OP_PUSHNUM_1]), &[&[0; 80]]), "ok"),
    ("witness item of 81 bytes", || witness(&ops(&[OP_DROP, OP_PUSHNUM_1]), &[&[0; 81]]), "bad-witness-nonstandard"),
    (
        "100 witness items",
        || {
            let mut script = vec![OP_DROP; 100];
            script.push(OP_PUSHNUM_1);
            witness(&ops(&script), &[&[] as &[u8]; 100])
        },
        "ok",
    ),
    (
        "101 witness items",
        || {
            let mut script = vec![OP_DROP; 101];
            script.push(OP_PUSHNUM_1);
            witness(&ops(&script), &[&[] as &[u8]; 101])
        },
        "bad-witness-nonstandard",
    ),
    (
        "false",
        || witness(&ops(&[OP_FALSE]), &[]),
        "mempool-script-verify-flag-failed (Script evaluated without error but finished with a false/empty top stack element)",
    ),
    (
        "more on the stack",
        || witness(&true_op(), &[&[1]]),
        "mempool-script-verify-flag-failed (Stack size must be exactly one after execution)",
    ),
    (
        "IF 2",
        || witness(&ops(&[OP_IF, OP_PUSHNUM_1, OP_ELSE, OP_PUSHNUM_1, OP_ENDIF]), &[&[2]]),
        "mempool-script-verify-flag-failed (OP_IF/NOTIF argument must be minimal)",
    ),
    (
        "a push that is too long",
        || witness(&ScriptBuf::from_bytes(vec![1, 5, 0x75, 0x51]), &[]),
        "mempool-script-verify-flag-failed (Data push larger than necessary)",
    ),
    (
        "NOP4",
        || witness(&ops(&[OP_NOP4, OP_PUSHNUM_1]), &[]),
        "mempool-script-verify-flag-failed (NOPx reserved for soft-fork upgrades)",
    ),
    (
        "CHECKLOCKTIMEVERIFY",
        || witness(&ops(&[OP_PUSHNUM_1, OP_CLTV]), &[]),
        "mempool-script-verify-flag-failed (Locktime requirement not satisfied)",
    ),
    (
        "CHECKLOCKTIMEVERIFY of -1",
        || witness(&Builder::new().push_int(-1).push_opcode(OP_CLTV).into_script(), &[]),
        "mempool-script-verify-flag-failed (Negative locktime)",
    ),
    (
        "CHECKSEQUENCEVERIFY",
        || witness(&ops(&[OP_PUSHNUM_1, OP_CSV]), &[]),
        "mempool-script-verify-flag-failed (Locktime requirement not satisfied)",
    ),
    (
        "VERIF",
        || witness(&ops(&[OP_VERIF]), &[]),
        "mempool-script-verify-flag-failed (Opcode missing or not understood)",
    ),
    ("CAT", || witness(&ops(&[OP_CAT]), &[]), "mempool-script-verify-flag-failed (Attempted to use a disabled opcode)"),
    ("RETURN", || witness(&ops(&[OP_RETURN]), &[]), "mempool-script-verify-flag-failed (OP_RETURN was encountered)"),
    (
        "DROP of nothing",
        || witness(&ops(&[OP_DROP]), &[]),
        "mempool-script-verify-flag-failed (Operation not valid with the current stack size)",
    ),
    (
        "IF without ENDIF",
        || witness(&ops(&[OP_IF]), &[&[1]]),
        "mempool-script-verify-flag-failed (Invalid OP_IF construction)",
    ),
    (
        "a signature that is none",
        || witness(&key_and_checksig(&generator()), &[&[5; 9]]),
        "mempool-script-verify-flag-failed (Non-canonical DER signature)",
    ),
    (
        "a signature of nothing",
        || witness(&key_and_checksig(&generator()), &[&der()]),
        "mempool-script-verify-flag-failed (Signature must be zero for failed CHECK(MULTI)SIG operation)",
    ),
    (
        "a hash type of no kind",
        || witness(&key_and_checksig(&generator()), &[&[&der()[..8], &[0x55]].concat()]),
        "mempool-script-verify-flag-failed (Signature hash type missing or not understood)",
    ),
    (
        "no signature",
        || witness(&key_and_checksig(&generator()), &[&[]]),
        "mempool-script-verify-flag-failed (Script evaluated without error but finished with a false/empty top stack element)",
    ),
    (
        "a long key",
        || witness(&key_and_checksig(&generator_uncompressed()), &[&der()]),
        "mempool-script-verify-flag-failed (Using non-compressed keys in segwit)",
    ),
    (
        "a dummy that is not zero",
        || witness(&ops(&[OP_FALSE, OP_FALSE, OP_CHECKMULTISIG]), &[&[1]]),
        "mempool-script-verify-flag-failed (Dummy CHECKMULTISIG argument must be zero)",
    ),
    (
        "taproot without witness",
        || key_path(&[]),
        "mempool-script-verify-flag-failed (Witness program was passed an empty witness)",
    ),
    (
        "taproot, a signature of nothing",
        || key_path(&[&[1; 64]]),
        "mempool-script-verify-flag-failed (Invalid Schnorr signature)",
    ),
    (
        "taproot, a short signature",
        || key_path(&[&[1; 10]]),
        "mempool-script-verify-flag-failed (Invalid Schnorr signature size)",
    ),
    (
        "taproot, a hash type of no kind",
        || key_path(&[&[4; 65]]),
        "mempool-script-verify-flag-failed (Invalid Schnorr signature hash type)",
    ),
    (
        "taproot, a short control block",
        || key_path(&[&[0x51], &[0xc0; 32]]),
        "mempool-script-verify-flag-failed (Invalid Taproot control block size)",
    ),
    (
        "taproot, another script",
        || key_path(&[&[0x51], &[0xc0; 33]]),
        "mempool-script-verify-flag-failed (Witness program hash mismatch)",
    ),
    ("taproot, an empty control block", || key_path(&[&[0x51], &[]]), "bad-witness-nonstandard"),
    ("tapscript", || taproot(&true_op(), 0xc0, &[], false), "ok"),
    ("tapscript with an annex", || taproot(&true_op(), 0xc0, &[], true), "bad-witness-nonstandard"),
    ("tapscript item of 80 bytes", || taproot(&ops(&[OP_DROP, OP_PUSHNUM_1]), 0xc0, &[&[0; 80]], false), "ok"),
    (
        "tapscript item of 81 bytes",
        || taproot(&ops(&[OP_DROP, OP_PUSHNUM_1]), 0xc0, &[&[0; 81]], false),
        "bad-witness-nonstandard",
    ),
    (
        "tapscript OP_SUCCESS",
        || taproot(&ops(&[OP_CAT]), 0xc0, &[], false),
        "mempool-script-verify-flag-failed (OP_SUCCESSx reserved for soft-fork upgrades)",
    ),
    (
        "tapscript CHECKMULTISIG",
        || taproot(&ops(&[OP_CHECKMULTISIG]), 0xc0, &[], false),
        "mempool-script-verify-flag-failed (OP_CHECKMULTISIG(VERIFY) is not available in tapscript)",
    ),
    (
        "tapscript IF 2",
        || taproot(&ops(&[OP_IF, OP_PUSHNUM_1, OP_ENDIF]), 0xc0, &[&[2]], false),
        "mempool-script-verify-flag-failed (OP_IF/NOTIF argument must be minimal in tapscript)",
    ),
    (
        "tapscript, a key of no kind",
        || taproot(&key_and_checksig(&[7; 20]), 0xc0, &[&[1; 64]], false),
        "mempool-script-verify-flag-failed (Public key version reserved for soft-fork upgrades)",
    ),
    (
        "a leaf of another version",
        || taproot(&true_op(), 0xc2, &[], false),
        "mempool-script-verify-flag-failed (Taproot version reserved for soft-fork upgrades)",
    ),
];

impl World {
    /// A confirmed coin of any script.
    fn coin_of(&mut self, number: u32, script: ScriptBuf) -> OutPoint {
        let outpoint = self.coin(number);
        self.coins.0.get_mut(&outpoint).unwrap().output.script_pubkey = script;
        outpoint
    }
}

/// A transaction of one output that spends these.
fn spending(world: &mut World, spends: Vec<Spend>, fee: u64) -> Transaction {
    let total = COIN * spends.len() as u64;
    let mut transaction = spend(&[], 1, total - fee);
    for (number, (script, script_sig, witness)) in (0u32..).zip(spends) {
        let previous_output = world.coin_of(number, script);
        let witness = Witness::from_slice(&witness);
        transaction.input.push(TxIn { previous_output, script_sig, sequence: Sequence::MAX, witness });
    }
    transaction
}

#[test]
fn what_is_spent_gets_cores_words() {
    for (name, spend, expected) in SCRIPT {
        let mut world = World::new(Policy::default());
        let transaction = spending(&mut world, vec![spend()], 10_000);
        expect(name, &said(world.accept(&transaction)), expected);
    }
}

#[test]
fn signature_operations_are_counted() {
    let many = |count: usize| vec![witness(&sigops(OP_CHECKMULTISIG, 198), &[]); count];
    let legacy = |count: usize| vec![hashed(&sigops(OP_CHECKSIG, 15)); count];
    let table: [(&str, Vec<Spend>, u64, &str); 6] = [
        ("cost of 19,800", many(5), 100_000, "bad-txns-too-many-sigops, 19800"),
        ("cost of 15,840", many(4), 100_000, "ok"),
        ("each counts for five virtual bytes", many(4), 7_919, "min relay fee not met, 7919 < 7920"),
        ("each counts for five virtual bytes, paid", many(4), 7_920, "ok"),
        (
            "2,505 without witness",
            legacy(167),
            100_000,
            "bad-txns-nonstandard-inputs, non-witness sigops exceed bip54 limit",
        ),
        ("2,490 without witness", legacy(166), 100_000, "ok"),
    ];
    for (name, spends, fee, expected) in table {
        let mut world = World::new(Policy::default());
        let transaction = spending(&mut world, spends, fee);
        expect(name, &said(world.accept(&transaction)), expected);
    }
}

#[test]
fn coinbases_must_be_old() {
    for (height, expected) in [
        (101, "ok"),
        (102, "bad-txns-premature-spend-of-coinbase, tried to spend coinbase at depth 99"),
        (200, "bad-txns-premature-spend-of-coinbase, tried to spend coinbase at depth 1"),
    ] {
        let mut world = World::new(Policy::default());
        let outpoint = world.coin(0);
        let coin = world.coins.0.get_mut(&outpoint).unwrap();
        (coin.is_coinbase, coin.height) = (true, height);
        expect("coinbase", &said(world.accept(&spend(&[outpoint], 1, COIN - 1_000))), expected);
    }
}
