//! Keys, streams and MACs of BOLT 4, "Key Generation" and "Pseudo Random Byte Stream".

use bitcoin::hashes::{Hash, HashEngine, Hmac, HmacEngine, sha256};
use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use secp256k1::{PublicKey, Scalar};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// What payer and hop share: from it come all keys of the hop, forwards and back. Stored with an HTLC, for failing it.
#[derive(Clone, Zeroize, ZeroizeOnDrop, Serialize, Deserialize)]
pub struct SharedSecret([u8; 32]);

impl SharedSecret {
    /// Around the 32 bytes that ECDH gives: SHA-256 of the compressed point.
    pub const fn new(bytes: [u8; 32]) -> SharedSecret {
        SharedSecret(bytes)
    }

    /// The key of a type that no onion uses: to know an onion again without keeping its secret.
    pub(super) fn tag_bytes(&self) -> [u8; 32] {
        self.key(b"seen")
    }

    /// The factor that blinds the ephemeral key for the next hop: SHA-256(key ‖ secret).
    pub(super) fn blinding_factor(
        &self,
        ephemeral_key: &PublicKey,
    ) -> Result<Scalar, secp256k1::scalar::OutOfRangeError> {
        let mut engine = sha256::Hash::engine();
        engine.input(&ephemeral_key.serialize());
        engine.input(&self.0);
        Scalar::from_be_bytes(sha256::Hash::from_engine(engine).to_byte_array())
    }

    /// The key of that type.
    pub(super) fn key(&self, key_type: &[u8]) -> [u8; 32] {
        derive_key(key_type, &self.0)
    }

    /// XORs the stream of the key of that type over `bytes`.
    pub(super) fn apply_stream(&self, key_type: &[u8], bytes: &mut [u8]) {
        apply_stream(&self.key(key_type), bytes);
    }
}

impl From<secp256k1::ecdh::SharedSecret> for SharedSecret {
    fn from(secret: secp256k1::ecdh::SharedSecret) -> SharedSecret {
        SharedSecret(secret.secret_bytes())
    }
}

impl PartialEq for SharedSecret {
    fn eq(&self, other: &SharedSecret) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SharedSecret {}

impl std::fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedSecret(..)")
    }
}

/// HMAC-SHA-256 with the key type as key and the secret as message.
pub(super) fn derive_key(key_type: &[u8], secret: &[u8; 32]) -> [u8; 32] {
    mac(key_type, &[secret])
}

/// HMAC-SHA-256 over the parts.
pub(super) fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut engine = HmacEngine::<sha256::Hash>::new(key);
    parts.iter().for_each(|part| engine.input(part));
    Hmac::from_engine(engine).to_byte_array()
}

/// HMAC-SHA-256 over many messages that begin alike.
pub(super) struct MacPrefix(HmacEngine<sha256::Hash>);

impl MacPrefix {
    pub(super) fn new(key: &[u8], prefix: &[u8]) -> MacPrefix {
        let mut engine = HmacEngine::new(key);
        engine.input(prefix);
        MacPrefix(engine)
    }

    pub(super) fn mac<'a>(&self, parts: impl Iterator<Item = &'a [u8]>) -> [u8; 32] {
        let mut engine = self.0.clone();
        parts.for_each(|part| engine.input(part));
        Hmac::from_engine(engine).to_byte_array()
    }
}

/// Whether two MACs are equal, in constant time.
pub(super) fn mac_eq(computed: &[u8; 32], claimed: &[u8]) -> bool {
    computed[..].ct_eq(claimed).into()
}

/// XORs the ChaCha20 stream of `key` with a zero nonce over `bytes`.
pub(super) fn apply_stream(key: &[u8; 32], bytes: &mut [u8]) {
    ChaCha20::new(&(*key).into(), &[0; 12].into()).apply_keystream(bytes);
}

/// ChaCha20-Poly1305 with a zero nonce (BOLT 4, "Route Blinding": a key is used for one message).
fn aead(key: &[u8; 32]) -> (LessSafeKey, Nonce) {
    let key = UnboundKey::new(&CHACHA20_POLY1305, key).expect("the cipher's keys have 32 bytes");
    (LessSafeKey::new(key), Nonce::assume_unique_for_key([0; 12]))
}

/// Encrypts `bytes` and appends the tag.
pub(super) fn seal(key: &[u8; 32], mut bytes: Vec<u8>) -> Vec<u8> {
    let (key, nonce) = aead(key);
    key.seal_in_place_append_tag(nonce, Aad::empty(), &mut bytes).expect("a path's data is far below 256 GiB");
    bytes
}

/// Decrypts what [`seal`] made; `None` where the tag is wrong.
pub(super) fn unseal(key: &[u8; 32], bytes: &[u8]) -> Option<Vec<u8>> {
    let (key, nonce) = aead(key);
    let mut bytes = bytes.to_vec();
    let length = key.open_in_place(nonce, Aad::empty(), &mut bytes).ok()?.len();
    bytes.truncate(length);
    Some(bytes)
}
