use super::*;

const ALL: ScriptFlags = ScriptFlags::STANDARD;

/// A strict signature with small integers and hash type 1.
fn der(r: &[u8], s: &[u8]) -> Vec<u8> {
    let body = [&[0x02, r.len() as u8][..], r, &[0x02, s.len() as u8], s].concat();
    [&[0x30, body.len() as u8][..], &body, &[0x01]].concat()
}

#[test]
fn strict_der() {
    let good = der(&[0x01], &[0x7f]);
    assert_eq!(check_signature_encoding(&good, ALL), Ok(()));
    assert_eq!(check_signature_encoding(&[], ALL), Ok(()));
    assert!(is_strict_der(&der(&[0x00, 0x80], &[0x00, 0xff])));
    for (r, s) in [(&[][..], &[1][..]), (&[1], &[]), (&[0x80], &[1]), (&[1], &[0x80]), (&[0, 1], &[1]), (&[1], &[0, 1])]
    {
        assert!(!is_strict_der(&der(r, s)), "{r:02x?} {s:02x?}");
    }
    for index in [0, 1, 2, 3, 5, 6] {
        let mut changed = good.clone();
        changed[index] ^= 0x08;
        assert_eq!(check_signature_encoding(&changed, ScriptFlags::DERSIG), Err(ScriptError::SigDer), "{index}");
        assert_eq!(check_signature_encoding(&changed, ScriptFlags::NONE), Ok(()));
    }
    for length in 1..good.len() {
        assert!(!is_strict_der(&good[..length]));
    }
    assert!(!is_strict_der(&[&good[..], &[0]].concat()));
    let longest = der(&[&[0][..], &[0xff; 32]].concat(), &[&[0][..], &[0xff; 32]].concat());
    assert!(is_strict_der(&longest) && longest.len() == 73);
    assert!(!is_strict_der(&der(&[0x7f; 34], &[0x7f; 33])));
}

#[test]
fn hash_types() {
    for hash_type in 0..=u8::MAX {
        let mut signature = der(&[1], &[1]);
        *signature.last_mut().unwrap() = hash_type;
        let defined = matches!(hash_type, 0x01..=0x03 | 0x81..=0x83);
        let expected = if defined { Ok(()) } else { Err(ScriptError::SigHashtype) };
        assert_eq!(check_signature_encoding(&signature, ScriptFlags::STRICTENC), expected);
        assert_eq!(check_signature_encoding(&signature, ScriptFlags::DERSIG), Ok(()));
    }
}

#[test]
fn public_keys() {
    let check = |first: u8, length: usize, flags, witness| {
        let mut key = vec![7; length];
        if let Some(byte) = key.first_mut() {
            *byte = first;
        }
        check_pubkey_encoding(&key, flags, witness)
    };
    for (first, length) in [(2, 33), (3, 33), (4, 65)] {
        assert_eq!(check(first, length, ScriptFlags::STRICTENC, false), Ok(()));
    }
    for (first, length) in [(0, 0), (2, 32), (2, 65), (4, 33), (6, 65), (5, 33)] {
        assert_eq!(check(first, length, ScriptFlags::STRICTENC, false), Err(ScriptError::PubkeyType));
        assert_eq!(check(first, length, ScriptFlags::NONE, true), Ok(()));
    }
    assert_eq!(check(4, 65, ScriptFlags::WITNESS_PUBKEYTYPE, true), Err(ScriptError::WitnessPubkeyType));
    assert_eq!(check(4, 65, ScriptFlags::WITNESS_PUBKEYTYPE, false), Ok(()));
    assert_eq!(check(2, 33, ScriptFlags::WITNESS_PUBKEYTYPE, true), Ok(()));
}

#[test]
fn what_cannot_be_read_verifies_nothing() {
    let key = secp256k1::Keypair::from_seckey_slice(SECP256K1, &[5; 32]).unwrap();
    let hash = [8; 32];
    let signature = SECP256K1.sign_ecdsa(&Message::from_digest(hash), &key.secret_key()).serialize_der();
    let pubkey = key.public_key().serialize();
    assert!(verify_ecdsa(None, &signature, &pubkey, &hash));
    assert!(!verify_ecdsa(None, &signature, &pubkey, &[9; 32]));
    assert!(!verify_ecdsa(None, &[], &pubkey, &hash));
    assert!(!verify_ecdsa(None, &signature, &[], &hash));
    assert!(!verify_ecdsa(None, &signature, &pubkey[..32], &hash));
    assert!(!verify_ecdsa(None, &signature, &[&pubkey[..], &[0]].concat(), &hash));
    assert!(!verify_ecdsa(None, &signature, &[2; 33], &hash) && !verify_schnorr(None, &[0; 64], &[0xff; 32], &hash));
}
