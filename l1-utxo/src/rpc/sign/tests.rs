use bitcoin::hashes::Hash;
use bitcoin::{
    Amount, OutPoint, PublicKey, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness, absolute, transaction,
};
use secp256k1::{SECP256K1, SecretKey, XOnlyPublicKey};

use super::*;

fn secret(seed: u8) -> SecretKey {
    SecretKey::from_slice(&[seed; 32]).unwrap()
}

fn public(seed: u8) -> PublicKey {
    PublicKey::new(secret(seed).public_key(SECP256K1))
}

fn multisig(required: u8, seeds: &[u8]) -> ScriptBuf {
    let mut builder = bitcoin::script::Builder::new().push_int(required.into());
    for seed in seeds {
        builder = builder.push_key(&public(*seed));
    }
    builder.push_int(seeds.len() as i64).push_opcode(bitcoin::opcodes::all::OP_CHECKMULTISIG).into_script()
}

fn spending(count: u32) -> Transaction {
    let input = |vout| TxIn {
        previous_output: OutPoint { txid: bitcoin::Txid::all_zeros(), vout },
        sequence: Sequence(1),
        script_sig: ScriptBuf::new(),
        witness: Witness::new(),
    };
    Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: (0..count).map(input).collect(),
        output: vec![TxOut { value: Amount::from_sat(1_000), script_pubkey: ScriptBuf::new() }],
    }
}

fn sign(keys: &Keystore, script: ScriptBuf, sighash: u32) -> Data {
    let transaction = spending(1);
    let prevouts = [TxOut { value: Amount::from_sat(2_000), script_pubkey: script.clone() }];
    let prevout = &prevouts[0];
    let spend = Spend { transaction: &transaction, index: 0, prevout, prevouts: Some(&prevouts), sighash };
    let mut data = Data::default();
    assert_eq!(produce(keys, &Creator::Real(spend), &script, &mut data), data.complete);
    data
}

fn tap_output(seed: u8) -> ScriptBuf {
    let (key, _) = XOnlyPublicKey::from_keypair(&secret(seed).keypair(SECP256K1));
    ScriptBuf::new_p2tr(SECP256K1, key, None)
}

#[test]
fn every_kind_of_output_is_signed() {
    let key = public(1);
    let scripts = [multisig(2, &[1, 2, 3]), multisig(1, &[4, 1])];
    let mut keys = Keystore::default();
    (1..=2).for_each(|seed| keys.add_secret(secret(seed), true));
    let internal_key = XOnlyPublicKey::from_keypair(&secret(1).keypair(SECP256K1)).0.serialize();
    let output = tap_output(1);
    let spend = TapSpend { internal_key: Some(internal_key), ..TapSpend::default() };
    keys.add_taproot(output.as_bytes()[2..].try_into().unwrap(), spend);
    let wpkh = ScriptBuf::new_p2wpkh(&key.wpubkey_hash().unwrap());
    let older = ScriptBuf::from_hex(&format!("21{key}ad51b2")).unwrap();
    let mut outputs = vec![ScriptBuf::new_p2pk(&key), ScriptBuf::new_p2pkh(&key.pubkey_hash()), wpkh.clone(), output];
    keys.add_script(wpkh.clone());
    outputs.push(wpkh.to_p2sh());
    for script in scripts.into_iter().chain([older]) {
        keys.add_script(script.clone());
        keys.add_script(script.to_p2wsh());
        outputs.extend([script.to_p2wsh(), script.to_p2wsh().to_p2sh()]);
        if script.as_bytes()[0] < 0x60 && script.as_bytes()[0] > 0x50 {
            outputs.extend([script.to_p2sh(), script]);
        }
    }
    for script in outputs {
        for sighash in [0, 1, 2, 3, 0x81, 0x82, 0x83] {
            let data = sign(&keys, script.clone(), sighash);
            // What a leaf of zero blocks' age asks for is more than the templates know.
            assert!(data.complete, "{script} {sighash}: {:?}", data.missing);
        }
    }
}

#[test]
fn what_is_missing_is_told() {
    let script = multisig(2, &[1, 2]);
    let keys = Keystore::default();
    assert_eq!(sign(&keys, script.to_p2sh(), 1).missing.redeem_script, Some(hash160::Hash::hash(script.as_bytes())));
    let witness = sign(&keys, script.to_p2wsh(), 1).missing.witness_script;
    assert_eq!(witness.map(|hash| hash.to_vec()), Some(script.to_p2wsh().as_bytes()[2..].to_vec()));
    let key = ScriptBuf::new_p2pkh(&public(1).pubkey_hash());
    assert_eq!(sign(&keys, key, 1).missing.keys, [key_id(&public(1).to_bytes())]);
    assert_eq!(sign(&keys, script, 1).missing.signatures.len(), 2);
}

#[test]
fn half_signed_inputs_grow_together() {
    let script = multisig(2, &[1, 2, 3]);
    for output in [script.clone(), script.to_p2sh(), script.to_p2wsh(), script.to_p2wsh().to_p2sh()] {
        let prevouts = [TxOut { value: Amount::from_sat(2_000), script_pubkey: output.clone() }];
        let mut merged = Data::default();
        for seed in [3, 1] {
            let mut keys = Keystore::default();
            keys.add_secret(secret(seed), true);
            keys.add_script(script.clone());
            keys.add_script(script.to_p2wsh());
            let half = sign(&keys, output.clone(), 1);
            assert!(!half.complete);
            let mut transaction = spending(1);
            transaction.input[0].script_sig = half.script_sig;
            transaction.input[0].witness = Witness::from_slice(&half.script_witness);
            let prevout = &prevouts[0];
            let spend = Spend { transaction: &transaction, index: 0, prevout, prevouts: Some(&prevouts), sighash: 1 };
            let data = extract(&spend);
            assert_eq!(data.signatures.len(), 1, "{output}");
            merged.merge(data);
        }
        let transaction = spending(1);
        let spend =
            Spend { transaction: &transaction, index: 0, prevout: &prevouts[0], prevouts: Some(&prevouts), sighash: 1 };
        assert!(produce(&Keystore::default(), &Creator::Real(spend), &output, &mut merged), "{output}");
    }
}

#[test]
fn keys_in_base_58_are_read() {
    let (key, compressed) = key_of_wif("cVpF924EspNh8KjYsfhgY96mmxvT6DgdWiTYMtMjuM74hJaU5psW").unwrap();
    assert!(
        compressed
            && key_of_wif("").is_none()
            && key_of_wif("cVpF924EspNh8KjYsfhgY96mmxvT6DgdWiTYMtMjuM74hJaU5psX").is_none()
    );
    assert_eq!(key.secret_bytes().len(), 32);
}
