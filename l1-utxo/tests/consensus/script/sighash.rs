//! Types of signature hashes: what each covers and what it leaves open, in legacy scripts, version 0 and taproot.
//! Signatures are made over the hashes of the crate `bitcoin`.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::key::TapTweak as _;
use bitcoin::secp256k1::{Keypair, Message, SECP256K1};
use bitcoin::sighash::{Annex, EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::transaction::Version;
use bitcoin::{Amount, CompressedPublicKey, ScriptBuf, Sequence, Witness};
use l1_utxo::consensus::script::{ScriptError, ScriptFlags};

use super::Spend;

/// A change to a spend: its name, how it is made, and which types of hash must not notice it.
struct Change {
    name: &'static str,
    make: fn(&mut Spend),
    open: fn(Type) -> bool,
}

/// The lower bits and the upper one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Type {
    outputs: Outputs,
    alone: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outputs {
    All,
    None,
    Single,
}

const CHANGES: &[Change] = &[
    Change { name: "version", make: |spend| spend.transaction.version = Version::ONE, open: |_| false },
    Change {
        name: "lock time",
        make: |spend| spend.transaction.lock_time = LockTime::from_consensus(99),
        open: |_| false,
    },
    Change { name: "outpoint", make: |spend| spend.transaction.input[0].previous_output.vout ^= 1, open: |_| false },
    Change { name: "sequence", make: |spend| spend.transaction.input[0].sequence = Sequence(11), open: |_| false },
    Change {
        name: "another outpoint",
        make: |spend| spend.transaction.input[1].previous_output.vout ^= 1,
        open: |kind| kind.alone,
    },
    Change {
        name: "another sequence",
        make: |spend| spend.transaction.input[1].sequence = Sequence(11),
        // Taproot has no such exception for NONE and SINGLE: see there.
        open: |kind| kind.alone || kind.outputs != Outputs::All,
    },
    Change {
        name: "one input less",
        make: |spend| {
            spend.transaction.input.pop();
            spend.prevouts.pop();
        },
        open: |kind| kind.alone,
    },
    Change {
        name: "the output beside the input",
        make: |spend| spend.transaction.output[0].value = Amount::from_sat(901),
        open: |kind| kind.outputs == Outputs::None,
    },
    Change {
        name: "another output",
        make: |spend| spend.transaction.output[1].script_pubkey = ScriptBuf::from_bytes(vec![0x53]),
        open: |kind| kind.outputs != Outputs::All,
    },
    Change {
        name: "one output less",
        make: |spend| drop(spend.transaction.output.pop()),
        open: |kind| kind.outputs != Outputs::All,
    },
];

fn key() -> Keypair {
    Keypair::from_seckey_slice(SECP256K1, &[3; 32]).unwrap()
}

/// What the interpreter makes of an ECDSA hash type, whatever its number.
fn meaning(hash_type: u8) -> Type {
    let outputs = match hash_type & 0x1f {
        2 => Outputs::None,
        3 => Outputs::Single,
        _ => Outputs::All,
    };
    Type { outputs, alone: hash_type & 0x80 != 0 }
}

/// A signed P2PK spend under a hash type.
fn legacy(hash_type: u8) -> Spend {
    let script = [&[33][..], &key().public_key().serialize(), &[0xac]].concat();
    let mut spend = Spend::of(&script);
    let hash = SighashCache::new(&spend.transaction)
        .legacy_signature_hash(0, &ScriptBuf::from_bytes(script), hash_type.into())
        .unwrap();
    let signature = SECP256K1.sign_ecdsa(&Message::from_digest(hash.to_byte_array()), &key().secret_key());
    let signature = [&signature.serialize_der()[..], &[hash_type]].concat();
    let script_sig = [&[signature.len() as u8][..], &signature].concat();
    spend.transaction.input[0].script_sig = ScriptBuf::from_bytes(script_sig);
    spend
}

/// A signed P2WPKH spend; the crate knows the six types only.
fn version_0(hash_type: u8) -> Spend {
    let pubkey = CompressedPublicKey(key().public_key());
    let script = ScriptBuf::new_p2wpkh(&pubkey.wpubkey_hash());
    let mut spend = Spend::of(script.as_bytes());
    let sighash_type = EcdsaSighashType::from_standard(hash_type.into()).unwrap();
    let hash = SighashCache::new(&spend.transaction)
        .p2wpkh_signature_hash(0, &script, spend.prevouts[0].value, sighash_type)
        .unwrap();
    let signature = SECP256K1.sign_ecdsa(&Message::from_digest(hash.to_byte_array()), &key().secret_key());
    let signature = [&signature.serialize_der()[..], &[hash_type]].concat();
    spend.transaction.input[0].witness = Witness::from_slice(&[signature, pubkey.to_bytes().to_vec()]);
    spend
}

fn taproot(hash_type: u8, annex: Option<&[u8]>) -> Spend {
    let tweaked = key().tap_tweak(SECP256K1, None).to_keypair();
    let mut spend = Spend::of(&[&[0x51, 32][..], &tweaked.x_only_public_key().0.serialize()].concat());
    let annex = annex.map(|annex| Annex::new(annex).unwrap());
    let kind = TapSighashType::from_consensus_u8(hash_type).unwrap();
    let hash = SighashCache::new(&spend.transaction)
        .taproot_signature_hash(0, &Prevouts::All(&spend.prevouts), annex.clone(), None, kind)
        .unwrap();
    let mut signature =
        SECP256K1.sign_schnorr_no_aux_rand(&Message::from_digest(hash.to_byte_array()), &tweaked).serialize().to_vec();
    signature.extend((hash_type != 0).then_some(hash_type));
    let mut witness = vec![signature];
    witness.extend(annex.map(|annex| annex.as_bytes().to_vec()));
    spend.transaction.input[0].witness = Witness::from_slice(&witness);
    spend
}

fn judge(signed: &Spend, kind: Type, what: &str, is_taproot: bool) {
    assert_eq!(signed.verify(ScriptFlags::CONSENSUS), Ok(()), "{what}");
    for change in CHANGES {
        let mut changed = signed.clone();
        (change.make)(&mut changed);
        let stays_open = match change.name {
            "another sequence" if is_taproot => kind.alone,
            _ => (change.open)(kind),
        };
        let verdict = changed.verify(ScriptFlags::CONSENSUS);
        assert_eq!(verdict.is_ok(), stays_open, "{what}, {}: {verdict:?}", change.name);
    }
}

#[test]
fn legacy_hashes_of_all_256_types() {
    for hash_type in 0..=255 {
        let signed = legacy(hash_type);
        judge(&signed, meaning(hash_type), &format!("legacy {hash_type:02x}"), false);
        // The type itself is signed, and policy knows six of them.
        let mut other = signed.clone();
        let mut script_sig = other.transaction.input[0].script_sig.to_bytes();
        *script_sig.last_mut().unwrap() ^= 0x40;
        other.transaction.input[0].script_sig = ScriptBuf::from_bytes(script_sig);
        assert_eq!(other.verify(ScriptFlags::CONSENSUS), Err(ScriptError::EvalFalse), "{hash_type:02x}");
        let standard = if matches!(hash_type & !0x80, 1..=3) { Ok(()) } else { Err(ScriptError::SigHashtype) };
        assert_eq!(signed.verify(ScriptFlags::STANDARD), standard, "{hash_type:02x}");
        // Amounts are not covered, nor is the other coin.
        let mut richer = signed.clone();
        richer.prevouts[0].value = Amount::from_sat(1);
        richer.prevouts[1].value = Amount::from_sat(1);
        assert_eq!(richer.verify(ScriptFlags::CONSENSUS), Ok(()), "{hash_type:02x}");
    }
}

#[test]
fn version_0_hashes_of_six_types() {
    for hash_type in [1, 2, 3, 0x81, 0x82, 0x83] {
        let signed = version_0(hash_type);
        judge(&signed, meaning(hash_type), &format!("version 0 {hash_type:02x}"), false);
        let mut richer = signed.clone();
        richer.prevouts[1].value = Amount::from_sat(1);
        assert_eq!(richer.verify(ScriptFlags::CONSENSUS), Ok(()), "another's amount");
        richer.prevouts[0].value = Amount::from_sat(1);
        assert_eq!(richer.verify(ScriptFlags::CONSENSUS), Err(ScriptError::EvalFalse), "its own amount");
    }
}

#[test]
fn taproot_hashes_of_seven_types() {
    for hash_type in [0, 1, 2, 3, 0x81, 0x82, 0x83] {
        for annex in [None, Some(&[0x50, 1, 2][..])] {
            let signed = taproot(hash_type, annex);
            judge(&signed, meaning(hash_type), &format!("taproot {hash_type:02x} {annex:?}"), true);
            let alone = hash_type & 0x80 != 0;
            // All coins are covered, or its own only.
            for (index, make) in [(0, true), (1, alone)] {
                for part in 0..2 {
                    let mut changed = signed.clone();
                    if part == 0 {
                        changed.prevouts[index].value = Amount::from_sat(1);
                    } else if index == 1 {
                        changed.prevouts[index].script_pubkey = ScriptBuf::from_bytes(vec![0x55]);
                    } else {
                        continue;
                    }
                    let is_open = index == 1 && make;
                    assert_eq!(
                        changed.verify(ScriptFlags::CONSENSUS).is_ok(),
                        is_open,
                        "{hash_type:02x}, coin {index}"
                    );
                }
            }
            // The annex is covered.
            let mut witness = signed.transaction.input[0].witness.to_vec();
            if witness.len() == 2 {
                witness[1].push(7);
            } else {
                witness.push(vec![0x50]);
            }
            let mut changed = signed.clone();
            changed.transaction.input[0].witness = Witness::from_slice(&witness);
            assert_eq!(changed.verify(ScriptFlags::CONSENSUS), Err(ScriptError::SchnorrSig));
        }
    }
    // All other types are errors, an explicit zero too.
    let signed = taproot(0, None).transaction.input[0].witness.nth(0).unwrap().to_vec();
    for hash_type in 0..=255_u8 {
        let mut spend = taproot(0, None);
        spend.transaction.input[0].witness = Witness::from_slice(&[[&signed[..], &[hash_type]].concat()]);
        let is_known = matches!(hash_type, 1..=3 | 0x81..=0x83);
        let expected = if is_known { ScriptError::SchnorrSig } else { ScriptError::SchnorrSigHashtype };
        assert_eq!(spend.verify(ScriptFlags::CONSENSUS), Err(expected), "{hash_type:02x}");
    }
}

/// SINGLE without an output beside the input: the number one in legacy scripts, zeros in version 0, an error in taproot.
#[test]
fn single_without_an_output() {
    for hash_type in [3, 0x83] {
        let mut spend = taproot(hash_type, None);
        spend.transaction.output.clear();
        assert_eq!(spend.verify(ScriptFlags::CONSENSUS), Err(ScriptError::SchnorrSigHashtype));
        let pubkey = CompressedPublicKey(key().public_key());
        let mut spend = version_0(hash_type);
        spend.transaction.output.clear();
        assert_eq!(spend.verify(ScriptFlags::CONSENSUS), Err(ScriptError::EvalFalse));
        let script = spend.prevouts[0].script_pubkey.clone();
        let kind = EcdsaSighashType::from_standard(hash_type.into()).unwrap();
        let hash = SighashCache::new(&spend.transaction)
            .p2wpkh_signature_hash(0, &script, spend.prevouts[0].value, kind)
            .unwrap();
        let signature = SECP256K1.sign_ecdsa(&Message::from_digest(hash.to_byte_array()), &key().secret_key());
        let signature = [&signature.serialize_der()[..], &[hash_type]].concat();
        spend.transaction.input[0].witness = Witness::from_slice(&[signature, pubkey.to_bytes().to_vec()]);
        assert_eq!(spend.verify(ScriptFlags::CONSENSUS), Ok(()));
    }
}
