//! One transaction for every rule of standardness.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::opcodes::all::{OP_CHECKMULTISIG, OP_CHECKSIG, OP_DROP};
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::{Amount, OutPoint, ScriptHash, Sequence, Txid, WScriptHash, Witness, transaction};

use super::*;

fn outpoint(vout: u32) -> OutPoint {
    OutPoint { txid: Txid::from_byte_array([1; 32]), vout }
}

fn pay(script_pubkey: ScriptBuf) -> TxOut {
    TxOut { value: Amount::from_sat(100_000), script_pubkey }
}

fn p2wsh() -> ScriptBuf {
    ScriptBuf::new_p2wsh(&WScriptHash::from_byte_array([2; 32]))
}

fn transaction(inputs: u32) -> Transaction {
    let input = |vout| TxIn {
        previous_output: outpoint(vout),
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: Witness::new(),
    };
    Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: (0..inputs).map(input).collect(),
        output: vec![pay(p2wsh())],
    }
}

fn changed(change: impl FnOnce(&mut Transaction)) -> Result<(), Rejection> {
    let mut changed = transaction(1);
    change(&mut changed);
    check_standard(&changed, &Policy::default())
}

fn push(bytes: usize) -> PushBytesBuf {
    PushBytesBuf::try_from(vec![3; bytes]).unwrap()
}

#[test]
fn the_form_is_checked() {
    assert_eq!(changed(|_| ()), Ok(()));
    for version in [0, 4, -1] {
        assert_eq!(changed(|tx| tx.version.0 = version), Err(Rejection::Version));
    }
    assert_eq!(changed(|tx| tx.output = vec![pay(p2wsh()); 2_400]), Err(Rejection::TooHeavy));
    let long = Builder::new().push_slice(push(1_648)).into_script();
    assert_eq!(changed(|tx| tx.input[0].script_sig = long), Err(Rejection::ScriptSigSize));
    let code = Builder::new().push_opcode(OP_DROP).into_script();
    assert_eq!(changed(|tx| tx.input[0].script_sig = code), Err(Rejection::ScriptSigNotPushOnly));
    let anchor = ScriptBuf::from_bytes(vec![0x51, 2, 0x4e, 0x73]);
    let mut small = transaction(1);
    small.output = vec![pay(anchor.clone())];
    assert_eq!(
        (check_standard(&small, &Policy::default()), check_least_size(&small)),
        (Ok(()), Err(Rejection::TooSmall))
    );
    // 65 bytes are the least.
    let script_sig = Builder::new().push_int(1).into_script();
    let just = changed(|tx| {
        tx.input[0].script_sig = script_sig;
        tx.output = vec![pay(anchor)];
        assert_eq!(tx.base_size(), 65);
    });
    assert_eq!(just, Ok(()));
}

#[test]
fn outputs_are_checked() {
    let with = |output: TxOut| changed(|tx| tx.output.push(output));
    assert_eq!(with(pay(Builder::new().push_opcode(OP_DROP).into_script())), Err(Rejection::ScriptPubKey));
    let key = [&[2u8][..], &[5; 32]].concat();
    let multisig = |count: i64| {
        let keys = (0..count).fold(Builder::new().push_int(1), |script, _| {
            script.push_slice(PushBytesBuf::try_from(key.clone()).unwrap())
        });
        keys.push_int(count).push_opcode(OP_CHECKMULTISIG).into_script()
    };
    assert_eq!(with(pay(multisig(3))), Ok(()));
    assert_eq!(with(pay(multisig(4))), Err(Rejection::ScriptPubKey));
    let data = |bytes| TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::new_op_return(push(bytes)) };
    assert_eq!(with(data(80_000)), Ok(()));
    let much = changed(|tx| tx.output.extend([data(45_000), data(45_000), data(9_990)]));
    assert_eq!(much, Err(Rejection::TooHeavy));
    assert_eq!(check_outputs(&[data(50_000), data(50_000)], &Policy::default()), Err(Rejection::DataCarrier));
    let dust = TxOut { value: Amount::from_sat(329), script_pubkey: p2wsh() };
    assert_eq!(with(dust.clone()), Ok(()), "one may be spent at once");
    assert_eq!(changed(|tx| tx.output.extend([dust.clone(), dust])), Err(Rejection::Dust));
}

fn spending(prevout: ScriptBuf, script_sig: ScriptBuf) -> Result<(), Rejection> {
    let mut spend = transaction(1);
    spend.input[0].script_sig = script_sig;
    check_inputs(&spend, &[&pay(prevout)])
}

#[test]
fn spent_outputs_are_checked() {
    let p2sh = || ScriptBuf::new_p2sh(&ScriptHash::from_byte_array([4; 20]));
    assert_eq!(spending(p2wsh(), ScriptBuf::new()), Ok(()));
    let strange = Builder::new().push_opcode(OP_DROP).into_script();
    assert_eq!(spending(strange, ScriptBuf::new()), Err(Rejection::InputScriptUnknown { input: 0 }));
    let version_2 = ScriptBuf::from_bytes([&[0x52, 32][..], &[0; 32]].concat());
    assert_eq!(spending(version_2, ScriptBuf::new()), Err(Rejection::InputWitnessUndefined { input: 0 }));
    assert_eq!(spending(p2sh(), ScriptBuf::new()), Err(Rejection::P2shRedeemScriptMissing { input: 0 }));
    let large = Builder::new().push_slice(push(521)).into_script();
    let error = ScriptError::PushSize;
    assert_eq!(spending(p2sh(), large), Err(Rejection::P2shScriptSigMalformed { input: 0, error }));
    let redeem = |sigops: usize| {
        let script = PushBytesBuf::try_from(vec![OP_CHECKSIG.to_u8(); sigops]).unwrap();
        Builder::new().push_slice(script).into_script()
    };
    assert_eq!(spending(p2sh(), redeem(15)), Ok(()));
    let error = Rejection::P2shSigops { input: 0, sigops: 16, limit: 15 };
    assert_eq!(spending(p2sh(), redeem(16)), Err(error.clone()));
    assert_eq!(error.reason(), "bad-txns-nonstandard-inputs");
    assert_eq!(error.details(), "p2sh redeemscript sigops exceed limit (input 0: 16 > 15)");
    // BIP 54: 2,500 over all inputs.
    let mut many = transaction(170);
    for input in &mut many.input {
        input.script_sig = redeem(15);
    }
    let prevout = pay(p2sh());
    assert_eq!(check_inputs(&many, &vec![&prevout; 170]), Err(Rejection::LegacySigops));
}

fn witness(prevout: ScriptBuf, items: &[Vec<u8>]) -> Result<(), Rejection> {
    let mut spend = transaction(1);
    spend.input[0].witness = Witness::from_slice(items);
    check_witnesses(&spend, &[&pay(prevout)])
}

#[test]
fn witnesses_are_checked() {
    let bad = Err(Rejection::WitnessNonStandard);
    let p2pkh = ScriptBuf::from_hex(&format!("76a914{}88ac", "00".repeat(20))).unwrap();
    assert_eq!(witness(p2pkh, &[vec![1]]), bad);
    assert_eq!(witness(ScriptBuf::from_bytes(vec![0x51, 2, 0x4e, 0x73]), &[vec![1]]), bad);
    assert_eq!(witness(p2wsh(), &[vec![0; 80], vec![0x51; 3_600]]), Ok(()));
    assert_eq!(witness(p2wsh(), &[vec![0; 81], vec![0x51]]), bad);
    assert_eq!(witness(p2wsh(), &[vec![0x51; 3_601]]), bad);
    assert_eq!(witness(p2wsh(), &vec![vec![]; 102]), bad);
    let taproot = || ScriptBuf::from_bytes([&[0x51, 32][..], &[6; 32]].concat());
    assert_eq!(witness(taproot(), &[vec![0; 64]]), Ok(()));
    assert_eq!(witness(taproot(), &[vec![0; 64], vec![0x50]]), bad);
    let leaf = |version: u8| [&[version][..], &[0; 32]].concat();
    assert_eq!(witness(taproot(), &[vec![0; 80], vec![0x51], leaf(0xc0)]), Ok(()));
    assert_eq!(witness(taproot(), &[vec![0; 81], vec![0x51], leaf(0xc1)]), bad);
    assert_eq!(witness(taproot(), &[vec![0; 81], vec![0x51], leaf(0xc2)]), Ok(()));
    assert_eq!(witness(taproot(), &[vec![0x51], vec![]]), bad);
}

#[test]
fn fees_are_rounded_up() {
    assert_eq!([fee_at(100, 110), fee_at(100, 101), fee_at(100, 0), fee_at(1, 1)], [11, 11, 0, 1]);
}

/// What the owner of a node sets holds in place of the defaults.
#[test]
fn the_owner_sets_the_limits() {
    let key = PushBytesBuf::try_from([&[2u8][..], &[5; 32]].concat()).unwrap();
    let multisig = Builder::new().push_int(1).push_slice(key).push_int(1).push_opcode(OP_CHECKMULTISIG).into_script();
    let data = TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::new_op_return(push(20)) };
    let dust = TxOut { value: Amount::from_sat(100), script_pubkey: p2wsh() };
    let default = Policy::default();
    let rows = [
        (vec![pay(multisig.clone())], default, Ok(())),
        (vec![pay(multisig)], Policy { permits_bare_multisig: false, ..default }, Err(Rejection::BareMultisig)),
        (vec![data.clone()], Policy { data_carrier_bytes: data.script_pubkey.len(), ..default }, Ok(())),
        (vec![data.clone()], Policy { data_carrier_bytes: 0, ..default }, Err(Rejection::DataCarrier)),
        (vec![dust.clone(), dust.clone()], default, Err(Rejection::Dust)),
        (vec![dust.clone(), dust.clone()], Policy { dust_feerate: 0, ..default }, Ok(())),
        (vec![pay(p2wsh()), pay(p2wsh())], Policy { dust_feerate: 100_000_000, ..default }, Err(Rejection::Dust)),
    ];
    for (outputs, policy, verdict) in rows {
        assert_eq!(check_outputs(&outputs, &policy), verdict, "{outputs:?}");
    }
}
