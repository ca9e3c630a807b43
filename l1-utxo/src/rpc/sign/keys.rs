//! The keys and scripts that a caller brought (Core: `FlatSigningProvider`).

use std::collections::BTreeMap;

use bitcoin::base58;
use bitcoin::hashes::{Hash, hash160};
use bitcoin::{PublicKey, Script, ScriptBuf};
use secp256k1::{Keypair, SECP256K1, SecretKey};

use super::{Bytes32, KeyId, TapSpend, key_id};

/// First byte of a private key in base 58 on this network.
const SECRET_PREFIX: u8 = 239;

/// A private key in Core's base 58 form, and whether its public key is compressed.
pub fn key_of_wif(text: &str) -> Option<(SecretKey, bool)> {
    let data = base58::decode_check(text).ok()?;
    let (secret, compressed) = match data.as_slice() {
        [SECRET_PREFIX, secret @ .., 1] if secret.len() == 32 => (secret, true),
        [SECRET_PREFIX, secret @ ..] if secret.len() == 32 => (secret, false),
        _ => return None,
    };
    Some((SecretKey::from_slice(secret).ok()?, compressed))
}

/// Keys, scripts and where they come from. It is never printed.
#[derive(Default)]
pub struct Keystore {
    secrets: BTreeMap<KeyId, SecretKey>,
    public: BTreeMap<KeyId, PublicKey>,
    origins: BTreeMap<KeyId, Vec<u8>>,
    scripts: BTreeMap<hash160::Hash, ScriptBuf>,
    taproot: BTreeMap<Bytes32, TapSpend>,
}

impl Drop for Keystore {
    fn drop(&mut self) {
        self.hide_secrets();
    }
}

impl Keystore {
    /// Adds a private key with its public one.
    pub fn add_secret(&mut self, secret: SecretKey, compressed: bool) {
        let inner = secret.public_key(SECP256K1);
        let key = PublicKey { compressed, inner };
        let id = key_id(&key.to_bytes());
        self.public.insert(id, key);
        self.secrets.insert(id, secret);
    }

    /// Adds a public key.
    pub fn add_public(&mut self, key: PublicKey) {
        self.public.insert(key_id(&key.to_bytes()), key);
    }

    /// Adds where a key comes from: fingerprint and path as PSBT writes them.
    pub fn add_origin(&mut self, key: PublicKey, origin: Vec<u8>) {
        self.origins.insert(key_id(&key.to_bytes()), origin);
    }

    /// Forgets where keys come from.
    pub fn hide_origins(&mut self) {
        self.origins.clear();
    }

    /// Forgets the private keys.
    pub fn hide_secrets(&mut self) {
        self.secrets.values_mut().for_each(SecretKey::non_secure_erase);
        self.secrets.clear();
    }

    /// Adds a script that an output may hold the hash of.
    pub fn add_script(&mut self, script: ScriptBuf) {
        self.scripts.insert(hash160::Hash::hash(script.as_bytes()), script);
    }

    /// Adds what is known of a taproot output key.
    pub fn add_taproot(&mut self, output_key: Bytes32, spend: TapSpend) {
        self.taproot.insert(output_key, spend);
    }

    /// The script with this hash.
    pub fn script(&self, hash: &hash160::Hash) -> Option<&ScriptBuf> {
        self.scripts.get(hash)
    }

    /// The public key with this hash.
    pub fn public(&self, id: &KeyId) -> Option<&PublicKey> {
        self.public.get(id)
    }

    /// The private key of the public key with this hash.
    pub fn secret(&self, id: &KeyId) -> Option<&SecretKey> {
        self.secrets.get(id)
    }

    /// Where the key comes from.
    pub fn origin(&self, id: &KeyId) -> Option<&Vec<u8>> {
        self.origins.get(id)
    }

    /// What is known of a taproot output key.
    pub fn taproot(&self, output_key: &Bytes32) -> Option<&TapSpend> {
        self.taproot.get(output_key)
    }

    /// The pair of an x-only key, whichever of both points it was made from.
    pub fn keypair(&self, key: &Bytes32) -> Option<Keypair> {
        let secret = both_points(key).into_iter().find_map(|id| self.secrets.get(&id))?;
        Some(Keypair::from_secret_key(SECP256K1, secret))
    }

    /// Where an x-only key comes from.
    pub fn x_only_origin(&self, key: &Bytes32) -> Option<&Vec<u8>> {
        both_points(key).into_iter().find_map(|id| self.origins.get(&id))
    }

    /// Whether the output is, or holds the hash of, a witness program (Core: `IsSegWitOutput`).
    pub fn is_segwit(&self, script: &Script) -> bool {
        if script.is_witness_program() {
            return true;
        }
        let hash = script.as_bytes().get(2..22).filter(|_| script.is_p2sh());
        let hash = hash.and_then(|hash| hash160::Hash::from_slice(hash).ok());
        hash.and_then(|hash| self.script(&hash)).is_some_and(|script| script.is_witness_program())
    }
}

fn both_points(key: &Bytes32) -> [KeyId; 2] {
    [2u8, 3].map(|parity| key_id(&[&[parity][..], key].concat()))
}
