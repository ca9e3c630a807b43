use bitcoin::consensus::deserialize;
use bitcoin::sighash::{Annex, EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::taproot::TapLeafHash;
use bitcoin::{Amount, Script, ScriptBuf};
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;

use super::*;

fn transaction(rng: &mut impl rand::Rng) -> (Transaction, Vec<TxOut>) {
    let output = |rng: &mut dyn rand::RngCore| {
        let mut script = vec![0; (rng.next_u32() % 300) as usize];
        rng.fill_bytes(&mut script);
        TxOut { value: Amount::from_sat(rng.next_u64() >> 14), script_pubkey: ScriptBuf::from_bytes(script) }
    };
    let inputs = rng.random_range(1..=300usize).min(rng.random_range(1..=300));
    let transaction = Transaction {
        version: bitcoin::transaction::Version(rng.random()),
        lock_time: bitcoin::absolute::LockTime::from_consensus(rng.random()),
        input: (0..inputs)
            .map(|_| TxIn {
                previous_output: OutPoint::new(bitcoin::Txid::from_byte_array(rng.random()), rng.random()),
                sequence: bitcoin::Sequence(rng.random()),
                ..TxIn::default()
            })
            .collect(),
        output: (0..rng.random_range(0..5)).map(|_| output(rng)).collect(),
    };
    let prevouts = (0..inputs).map(|_| output(rng)).collect();
    (transaction, prevouts)
}

#[test]
fn agrees_with_the_crate_bitcoin() {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    for _ in 0..200 {
        let (transaction, prevouts) = transaction(&mut rng);
        let cache = TransactionCache::new(&transaction, prevouts.iter().collect());
        let mut theirs = SighashCache::new(&transaction);
        let script_code = ScriptCode::new(&[0x51, 0x75, 0xac]);
        let script = Script::from_bytes(script_code.bytes());
        for _ in 0..4 {
            let index = rng.random_range(0..transaction.input.len());
            let hash_type: u8 = rng.random();
            let legacy = theirs.legacy_signature_hash(index, script, u32::from(hash_type)).unwrap().to_byte_array();
            assert_eq!(legacy_sighash(&cache, index, &script_code, hash_type, &mut Midstates::default()), legacy);

            let hash_type = [0x01, 0x02, 0x03, 0x81, 0x82, 0x83][rng.random_range(0..6)];
            let meaning = EcdsaSighashType::from_consensus(hash_type);
            let v0 =
                theirs.p2wsh_signature_hash(index, script, prevouts[index].value, meaning).unwrap().to_byte_array();
            assert_eq!(witness_v0_sighash(&cache, index, &script_code, hash_type as u8, &mut Midstates::default()), v0);

            let annex = [0x50, 7, 8];
            let leaf = rng.random_bool(0.5).then(|| (rng.random::<[u8; 32]>(), rng.random::<u32>()));
            let with_annex = rng.random_bool(0.5);
            let mut spend = TaprootSpend::new(with_annex.then(|| annex_hash(&annex)));
            spend.leaf = leaf;
            let expected = theirs.taproot_signature_hash(
                index,
                &Prevouts::All(&prevouts),
                with_annex.then(|| Annex::new(&annex).unwrap()),
                leaf.map(|(hash, position)| (TapLeafHash::from_byte_array(hash), position)),
                TapSighashType::from_consensus_u8(hash_type as u8).unwrap(),
            );
            let ours = taproot_sighash(&cache, index, &spend, hash_type as u8);
            assert_eq!(ours, expected.ok().map(|hash| hash.to_byte_array()));
        }
    }
}

#[test]
fn many_signatures_of_one_script_share_a_state() {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(2);
    let (transaction, prevouts) = transaction(&mut rng);
    let cache = TransactionCache::new(&transaction, prevouts.iter().collect());
    let codes = [ScriptCode::new(&[0x51]), ScriptCode::new(&[0x52, 0xab, 0x51]).without(&[]).0];
    let (mut legacy, mut v0) = (Midstates::default(), Midstates::default());
    for step in 0..600usize {
        let (code, hash_type) = (&codes[step / 7 % 2], (step % 256) as u8);
        let fresh = legacy_sighash(&cache, 0, code, hash_type, &mut Midstates::default());
        assert_eq!(legacy_sighash(&cache, 0, code, hash_type, &mut legacy), fresh);
        let fresh = witness_v0_sighash(&cache, 0, code, hash_type, &mut Midstates::default());
        assert_eq!(witness_v0_sighash(&cache, 0, code, hash_type, &mut v0), fresh);
    }
}

#[test]
fn undefined_taproot_hash_types_have_no_hash() {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
    let (mut transaction, prevouts) = transaction(&mut rng);
    transaction.output.clear();
    let cache = TransactionCache::new(&transaction, prevouts.iter().collect());
    for hash_type in 0..=u8::MAX {
        let defined = matches!(hash_type, 0..=2 | 0x81 | 0x82);
        assert_eq!(
            taproot_sighash(&cache, 0, &TaprootSpend::new(None), hash_type).is_some(),
            defined,
            "{hash_type:02x}"
        );
    }
}

/// BIP 143's native P2WPKH example.
#[test]
fn bip_143_example() {
    let transaction = "0100000002fff7f7881a8099afa6940d42d1e7f6362bec38171ea3edf433541db4e4ad969f0000000000eeffffff\
        ef51e1b804cc89d182d279655c3aa89e815b1b309fe287d9b2b55d57b90ec68a0100000000ffffffff02202cb206000000001976a914\
        8280b37df378db99f66f85c95a783a76ac7a6d5988ac9093510d000000001976a9143bde42dbee7e4dbe6a21b2d50ce2f0167faa8159\
        88ac11000000";
    let transaction: Transaction = deserialize(&hex::decode(transaction).unwrap()).unwrap();
    let prevout = |sat| TxOut { value: Amount::from_sat(sat), script_pubkey: ScriptBuf::new() };
    let (one, two) = (prevout(625_000_000), prevout(600_000_000));
    let cache = TransactionCache::new(&transaction, vec![&one, &two]);
    let script_code = hex::decode("76a9141d0f172a0ecb48aee1be1f2687d2963ae33f71a188ac").unwrap();
    let hash = witness_v0_sighash(&cache, 1, &ScriptCode::new(&script_code), 0x01, &mut Midstates::default());
    assert_eq!(hex::encode(hash), "c37af31116d1b27caf68aae9e3ac82f1477929014d5b917657d0eb49478cb670");
}

#[test]
fn separators_and_signatures_leave_the_script_code() {
    let signature = [9; 70];
    let push = [&[70][..], &signature].concat();
    let delete = |script: &[&[u8]]| {
        let script = script.concat();
        let (left, found) = ScriptCode::new(&script).without(&signature);
        (left.bytes().to_vec(), found)
    };
    assert_eq!(delete(&[&[0x51], &push, &push, &[0xac], &push]), (vec![0x51, 0xac], true));
    assert_eq!(delete(&[&[0x51, 0xac]]), (vec![0x51, 0xac], false));
    let hidden = [&[71][..], &push].concat();
    assert_eq!(delete(&[&hidden]), (hidden.clone(), false), "data that looks like the push");
    assert_eq!(delete(&[&push, &[0x05, 0x01]]), (vec![0x05, 0x01], true), "up to what cannot be read");
    let (left, found) = ScriptCode::new(&[0x00, 0x51, 0x00]).without(&[]);
    assert_eq!((left.bytes(), found), (&[0x51][..], true), "an empty signature is a push of nothing");
}

/// A file of Bitcoin Core's `src/test/data`, where `$CORE_TEST_DATA` names that directory.
fn core_vectors(name: &str) -> Option<Value> {
    let Some(directory) = std::env::var_os("CORE_TEST_DATA") else {
        println!("skipped: CORE_TEST_DATA names no directory with Bitcoin Core's src/test/data");
        return None;
    };
    let text = std::fs::read_to_string(std::path::PathBuf::from(directory).join(name)).expect("the file of vectors");
    Some(serde_json::from_str(&text).expect("JSON"))
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().expect("text")).expect("hex")
}

#[test]
fn core_legacy_vectors() {
    let Some(vectors) = core_vectors("sighash.json") else { return };
    for vector in vectors.as_array().expect("a list").iter().filter(|vector| vector[1].is_string()) {
        let transaction: Transaction = deserialize(&bytes(&vector[0])).expect("a transaction");
        let script = bytes(&vector[1]);
        let script_code = ScriptCode::new(&script);
        let index = vector[2].as_u64().expect("an index") as usize;
        let hash_type = vector[3].as_i64().expect("a number") as u32;
        let prevout = TxOut::NULL;
        let cache = TransactionCache::new(&transaction, transaction.input.iter().map(|_| &prevout).collect());
        // The vectors have hash types of 32 bits, of which a signature carries eight.
        let hash = if hash_type & 0x1f == 3 && index >= transaction.output.len() {
            legacy_sighash(&cache, index, &script_code, 3, &mut Midstates::default())
        } else {
            let mut engine = legacy::write_transaction(&cache, index, &script_code, hash_type as u8);
            engine.put(&hash_type.to_le_bytes());
            finish_double(engine)
        };
        let mut expected = bytes(&vector[4]);
        expected.reverse();
        assert_eq!(hash.as_slice(), expected, "{vector}");
    }
}

#[test]
fn bip_341_wallet_vectors() {
    let Some(vectors) = core_vectors("bip341_wallet_vectors.json") else { return };
    let vector = &vectors["keyPathSpending"][0];
    let transaction: Transaction = deserialize(&bytes(&vector["given"]["rawUnsignedTx"])).expect("a transaction");
    let spent = vector["given"]["utxosSpent"].as_array().expect("a list").iter();
    let prevouts: Vec<TxOut> = spent
        .map(|output| TxOut {
            value: Amount::from_sat(output["amountSats"].as_u64().expect("an amount")),
            script_pubkey: ScriptBuf::from_bytes(bytes(&output["scriptPubKey"])),
        })
        .collect();
    let cache = TransactionCache::new(&transaction, prevouts.iter().collect());
    let intermediary = &vector["intermediary"];
    assert_eq!(cache.spent_hashes().amounts.as_slice(), bytes(&intermediary["hashAmounts"]));
    assert_eq!(cache.spent_hashes().scripts.as_slice(), bytes(&intermediary["hashScriptPubkeys"]));
    assert_eq!(cache.hashes().outputs.as_slice(), bytes(&intermediary["hashOutputs"]));
    for input in vector["inputSpending"].as_array().expect("a list") {
        let index = input["given"]["txinIndex"].as_u64().expect("an index") as usize;
        let hash_type = input["given"]["hashType"].as_u64().expect("a type") as u8;
        let hash = taproot_sighash(&cache, index, &TaprootSpend::new(None), hash_type).expect("a defined type");
        assert_eq!(hash.as_slice(), bytes(&input["intermediary"]["sigHash"]));
    }
}
