//! Keys, and signatures in all the encodings that were ever valid.

use std::sync::LazyLock;

use bitcoin::hashes::{Hash, sha256d};
use bitcoin::sighash::{EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::taproot::TapLeafHash;
use bitcoin::{Script, Transaction, TxOut};
use rand::Rng as _;
use rand::seq::IndexedRandom as _;
use secp256k1::{Keypair, Message, SECP256K1, ecdsa};

use super::Rng;

/// The keys of all cases.
pub static KEYS: LazyLock<Vec<Keypair>> = LazyLock::new(|| {
    let key = |n: u8| Keypair::from_seckey_slice(SECP256K1, &[n; 32]).expect("below the order of the curve");
    (1..=20).map(key).collect()
});

/// A public key as ECDSA scripts hold it: compressed mostly, or uncompressed or hybrid.
pub fn public_key(key: usize, rng: &mut Rng) -> Vec<u8> {
    let key = KEYS[key].public_key();
    let mut uncompressed = key.serialize_uncompressed();
    match rng.random_range(0..10) {
        0 => uncompressed.to_vec(),
        1 => {
            uncompressed[0] = 6 | uncompressed[64] & 1; // hybrid
            uncompressed.to_vec()
        }
        _ => key.serialize().to_vec(),
    }
}

/// What is spent, and by which input of what.
pub struct Signing<'t> {
    pub transaction: &'t Transaction,
    pub prevouts: &'t [TxOut],
    pub index: usize,
}

impl Signing<'_> {
    /// A legacy signature with its hash type, over a script code without separators.
    pub fn legacy(&self, key: usize, script_code: &[u8], rng: &mut Rng) -> Vec<u8> {
        let hash_type = hash_type(rng);
        let cache = SighashCache::new(self.transaction);
        let hash = cache.legacy_signature_hash(self.index, Script::from_bytes(script_code), u32::from(hash_type));
        ecdsa(key, hash.expect("an input").to_byte_array(), hash_type, rng)
    }

    /// A v0 signature with its hash type.
    pub fn witness_v0(&self, key: usize, script_code: &[u8], rng: &mut Rng) -> Vec<u8> {
        let hash_type = hash_type(rng);
        let mut cache = SighashCache::new(self.transaction);
        let mut preimage = Vec::new();
        let (script_code, value) = (Script::from_bytes(script_code), self.prevouts[self.index].value);
        let meaning = EcdsaSighashType::from_consensus(u32::from(hash_type));
        cache
            .segwit_v0_encode_signing_data_to(&mut preimage, self.index, script_code, value, meaning)
            .expect("an input");
        // The crate knows six types; what is signed ends in the one that is used.
        let end = preimage.len() - 4;
        preimage[end..].copy_from_slice(&u32::from(hash_type).to_le_bytes());
        ecdsa(key, sha256d::Hash::hash(&preimage).to_byte_array(), hash_type, rng)
    }

    /// A Schnorr signature, with its hash type unless that is the default.
    pub fn taproot(
        &self,
        keypair: &Keypair,
        annex: Option<&[u8]>,
        leaf: Option<(TapLeafHash, u32)>,
        rng: &mut Rng,
    ) -> Vec<u8> {
        let mut types = vec![0x00, 0x00, 0x01, 0x02, 0x81, 0x82];
        if self.index < self.transaction.output.len() {
            types.extend([0x03, 0x83]);
        }
        let hash_type = *types.choose(rng).expect("not empty");
        let mut cache = SighashCache::new(self.transaction);
        let annex = annex.map(|annex| bitcoin::sighash::Annex::new(annex).expect("begins with 0x50"));
        let meaning = TapSighashType::from_consensus_u8(hash_type).expect("a known type");
        let prevouts = Prevouts::All(self.prevouts);
        let hash = cache.taproot_signature_hash(self.index, &prevouts, annex, leaf, meaning).expect("an input");
        let message = Message::from_digest(hash.to_byte_array());
        let mut signature = SECP256K1.sign_schnorr_no_aux_rand(&message, keypair).serialize().to_vec();
        if hash_type != 0 {
            signature.push(hash_type);
        }
        signature
    }
}

/// Mostly a type with a meaning, sometimes any byte.
fn hash_type(rng: &mut Rng) -> u8 {
    match rng.random_range(0..8) {
        0 => rng.random(),
        1..=3 => 0x01,
        _ => *[0x01, 0x02, 0x03, 0x81, 0x82, 0x83].choose(rng).expect("not empty"),
    }
}

fn ecdsa(key: usize, hash: [u8; 32], hash_type: u8, rng: &mut Rng) -> Vec<u8> {
    let signature = SECP256K1.sign_ecdsa(&Message::from_digest(hash), &KEYS[key].secret_key());
    let mut bytes = encode(&signature, rng);
    bytes.push(hash_type);
    bytes
}

/// DER mostly; or a high S, or what only a lax reader takes.
fn encode(signature: &ecdsa::Signature, rng: &mut Rng) -> Vec<u8> {
    let compact = signature.serialize_compact();
    let (r, s) = (integer(&compact[..32]), integer(&compact[32..]));
    match rng.random_range(0..24) {
        0 | 1 => der(&r, &integer(&negate(&compact[32..])), &[]),
        2 => der(&[&[0, 0][..], &r].concat(), &s, &[]),
        3 => der(&r, &[&[0][..], &s].concat(), &[]),
        4 => der(&r, &s, &[0x55]),
        5 => der(compact[..32].strip_prefix(&[0]).unwrap_or(&compact[..32]), &s, &[]),
        6 => {
            let mut long_form = der(&r, &s, &[]);
            long_form.splice(1..2, [0x81, long_form[1]]);
            long_form
        }
        7 => {
            let mut wrong_length = der(&r, &s, &[]);
            wrong_length[1] ^= 1;
            wrong_length
        }
        _ => signature.serialize_der().to_vec(),
    }
}

fn der(r: &[u8], s: &[u8], tail: &[u8]) -> Vec<u8> {
    let body = [&[0x02, r.len() as u8][..], r, &[0x02, s.len() as u8], s, tail].concat();
    [&[0x30, body.len() as u8][..], &body].concat()
}

/// The shortest positive integer.
fn integer(bytes: &[u8]) -> Vec<u8> {
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len() - 1);
    let mut integer = bytes[start..].to_vec();
    if integer[0] & 0x80 != 0 {
        integer.insert(0, 0);
    }
    integer
}

/// The order of the curve minus `s`.
fn negate(s: &[u8]) -> [u8; 32] {
    let mut difference = [0; 32];
    let mut borrow = 0;
    for index in (0..32).rev() {
        let value = i16::from(secp256k1::constants::CURVE_ORDER[index]) - i16::from(s[index]) - borrow;
        borrow = i16::from(value < 0);
        difference[index] = (value & 0xff) as u8;
    }
    difference
}
