use bitcoin::hashes::Hash;
use secp256k1::{SECP256K1, SecretKey};

use super::*;
use crate::rpc::sign::Keystore;

fn transaction() -> Transaction {
    let input = |vout| TxIn { previous_output: OutPoint { txid: Txid::all_zeros(), vout }, ..TxIn::default() };
    let output = TxOut { value: Amount::from_sat(1_000), script_pubkey: ScriptBuf::from_bytes(vec![0x51]) };
    Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::from_consensus(7),
        input: vec![input(0), input(1)],
        output: vec![output],
    }
}

#[test]
fn both_versions_come_back_as_they_were() {
    for version in [0, 2] {
        let psbt = Psbt::new(&transaction(), version);
        let read = Psbt::parse(&psbt.to_base64()).unwrap();
        assert_eq!((&read, read.unsigned()), (&psbt, Some(transaction())), "{version}");
    }
    // What the crate `bitcoin` makes is what is made here.
    let theirs = bitcoin::Psbt::from_unsigned_tx(transaction()).unwrap().to_string();
    assert_eq!(Psbt::new(&transaction(), 0).to_base64(), theirs);
}

#[test]
fn what_is_none_is_refused_with_cores_words() {
    let good = STANDARD.decode(Psbt::new(&transaction(), 0).to_base64()).unwrap();
    let refusal = |bytes: &[u8]| Psbt::parse(&STANDARD.encode(bytes)).unwrap_err();
    assert_eq!(Psbt::parse("*").unwrap_err(), "invalid base64");
    assert_eq!(refusal(b"abcdefgh"), "Invalid PSBT magic bytes: iostream error");
    assert_eq!(refusal(&[&good[..], &[0]].concat()), "extra data after PSBT");
    assert_eq!(
        refusal(&good[..good.len() - 1]),
        "Outputs provided does not match the number of outputs in transaction.: iostream error"
    );
    assert_eq!(refusal(b"psbt\xff\x00"), "No unsigned transaction was provided: iostream error");
    for length in 0..good.len() {
        assert!(Psbt::parse(&STANDARD.encode(&good[..length])).is_err(), "cut at {length}");
    }
    let field = |key: &[u8], value: &[u8]| {
        let mut psbt = Psbt::new(&transaction(), 0);
        psbt.inputs[0].insert(key.to_vec(), value.to_vec());
        let parsed = Psbt::parse(&psbt.to_base64());
        parsed.map_or_else(|error| error.trim_end_matches(": iostream error").to_owned(), |_| String::new())
    };
    let key = SecretKey::from_slice(&[1; 32]).unwrap().public_key(SECP256K1).serialize();
    let keyed = |kind: u8| [&[kind][..], &key].concat();
    let rows: [(&[u8], &[u8], &str); 12] = [
        (&[0x00, 1], &[], "Size of key was not 1 for the type Input Non-witness UTXO"),
        (&[0x03], &[1], "SpanReader::read(): end of data"),
        (&[0x03], &[1; 5], "Size of value was not the stated size"),
        (&[0x02, 1], &[], "Size of key was not the expected size for the type partial signature pubkey"),
        (&keyed(0x02), &[1, 2], "Signature is not a valid encoding"),
        (&keyed(0x06), &[1, 2, 3], "Invalid length for HD key path"),
        (&keyed(0x06), &[1, 2, 3, 4], ""),
        (&[0x0e], &[0; 32], "Previous txid is not allowed in PSBTv0"),
        (&[0x13], &[0; 63], "Input Taproot key path signature is shorter than 64 bytes"),
        (&[0x13], &[0; 66], "Input Taproot key path signature is longer than 65 bytes"),
        (&[0x15, 1], &[], "Input Taproot leaf script key is not at least 34 bytes"),
        (&[0xf0, 1], &[9], ""),
    ];
    for (key, value, message) in rows {
        assert_eq!(field(key, value), message, "{key:x?}");
    }
}

#[test]
fn lock_times_of_inputs_are_joined() {
    let mut psbt = Psbt::new(&transaction(), 2);
    let lock = |psbt: &mut Psbt, index: usize, kind: u8, lock: u32| {
        psbt.inputs[index].insert(vec![kind], lock.to_le_bytes().to_vec());
    };
    assert_eq!(psbt.lock_time(), Some(7));
    lock(&mut psbt, 0, kind::IN_HEIGHT_LOCKTIME, 10);
    assert_eq!(psbt.lock_time(), Some(10));
    lock(&mut psbt, 1, kind::IN_HEIGHT_LOCKTIME, 12);
    lock(&mut psbt, 1, kind::IN_TIME_LOCKTIME, 500_000_001);
    assert_eq!(psbt.lock_time(), Some(12), "only heights suit both");
    lock(&mut psbt, 0, kind::IN_TIME_LOCKTIME, 500_000_000);
    assert_eq!(psbt.lock_time(), Some(12), "heights where there is a choice");
    psbt.inputs[0].remove(&[kind::IN_HEIGHT_LOCKTIME][..]);
    assert_eq!(psbt.lock_time(), Some(500_000_001));
    psbt.inputs[1].remove(&[kind::IN_TIME_LOCKTIME][..]);
    assert_eq!(psbt.unsigned(), None, "one wants a time, the other a height");
}

#[test]
fn an_input_is_signed_and_finished() {
    let secret = SecretKey::from_slice(&[3; 32]).unwrap();
    let mut keys = Keystore::default();
    keys.add_secret(secret, true);
    let hash = bitcoin::PublicKey::new(secret.public_key(SECP256K1)).wpubkey_hash().unwrap();
    let prevout = TxOut { value: Amount::from_sat(9_000), script_pubkey: ScriptBuf::new_p2wpkh(&hash) };
    for version in [0, 2] {
        let mut psbt = Psbt::new(&transaction(), version);
        for input in &mut psbt.inputs {
            input.insert(vec![kind::IN_WITNESS_UTXO], serialize(&prevout));
        }
        assert!(finalize(&mut psbt.clone()).is_none());
        let spends = Spends::of(&psbt).unwrap();
        for (index, input) in psbt.inputs.iter_mut().enumerate() {
            let outcome = sign_input(&spends, index, input, &keys, None, true, false);
            assert!(matches!(outcome, Outcome::Complete), "{outcome:?}");
            assert!(!is_final(input));
        }
        let mut read = Psbt::parse(&psbt.to_base64()).unwrap();
        assert_eq!(read, psbt);
        let whole = finalize(&mut read).unwrap();
        assert!(whole.input.iter().all(|input| input.witness.len() == 2));
        assert!(Psbt::parse(&read.to_base64()).unwrap().inputs.iter().all(is_final));
    }
}
