//! The three acts (BOLT 8, "Authenticated Key Exchange Handshake Specification").

use bitcoin::hashes::{Hash, HashEngine, sha256};
use secp256k1::ecdh::SharedSecret;
use secp256k1::{PublicKey, SECP256K1, SecretKey};
use zeroize::{Zeroize, Zeroizing};

use super::transport::{Transport, hkdf, open, seal};
use super::{ACT_ONE, ACT_THREE, ACT_TWO};

/// Why a handshake fails. The connection is closed without a word (BOLT 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// An act of another version of the handshake.
    #[error("act {act} is not of version 0")]
    Version {
        /// Which: 1 to 3.
        act: u8,
    },
    /// A key in an act is no point of the curve.
    #[error("the key in act {act} is invalid")]
    Key {
        /// Which: 1 to 3.
        act: u8,
    },
    /// An act was not made by who should have made it: it does not know our key, or is not who we called.
    #[error("act {act} failed its authentication")]
    Tag {
        /// Which: 1 to 3.
        act: u8,
    },
    /// The 32 random bytes are no private key: a 2^-127 chance.
    #[error("the ephemeral key is unusable")]
    Entropy,
}

/// What both sides compute alike: the hash of all that was said, and the chaining key.
struct Symmetric {
    hash: [u8; 32],
    chaining_key: Zeroizing<[u8; 32]>,
}

impl Symmetric {
    fn new(responder: &PublicKey) -> Symmetric {
        let name = sha256::Hash::hash(b"Noise_XK_secp256k1_ChaChaPoly_SHA256").to_byte_array();
        let mut symmetric = Symmetric { hash: name, chaining_key: Zeroizing::new(name) };
        symmetric.mix_hash(b"lightning");
        symmetric.mix_hash(&responder.serialize());
        symmetric
    }

    fn mix_hash(&mut self, bytes: &[u8]) {
        let mut engine = sha256::Hash::engine();
        engine.input(&self.hash);
        engine.input(bytes);
        self.hash = sha256::Hash::from_engine(engine).to_byte_array();
    }

    /// Mixes an ECDH output in; gives the temporary key.
    fn mix_key(&mut self, secret: &SharedSecret) -> Zeroizing<[u8; 32]> {
        let (chaining_key, key) = hkdf(&self.chaining_key, secret.as_ref());
        self.chaining_key = chaining_key;
        key
    }

    /// Encrypts with the hash as associated data, and mixes the result in.
    fn seal(&mut self, key: &[u8; 32], nonce: u64, plain: &[u8]) -> Vec<u8> {
        let mut sealed = plain.to_vec();
        seal(key, nonce, &self.hash, &mut sealed);
        self.mix_hash(&sealed);
        sealed
    }

    /// Decrypts with the hash as associated data, and mixes what came in.
    fn open(&mut self, key: &[u8; 32], nonce: u64, sealed: &[u8]) -> Option<Vec<u8>> {
        let opened = open(key, nonce, &self.hash, sealed)?;
        self.mix_hash(sealed);
        Some(opened)
    }
}

/// `0 ‖ key ‖ tag`: acts one and two look alike.
fn write_key_act(key: &PublicKey, tag: &[u8]) -> [u8; ACT_ONE] {
    let mut act = [0; ACT_ONE];
    act[1..34].copy_from_slice(&key.serialize());
    act[34..].copy_from_slice(tag);
    act
}

fn read_key_act(bytes: &[u8; ACT_ONE], act: u8) -> Result<(PublicKey, &[u8]), HandshakeError> {
    if bytes[0] != 0 {
        return Err(HandshakeError::Version { act });
    }
    let key = PublicKey::from_slice(&bytes[1..34]).map_err(|_| HandshakeError::Key { act })?;
    Ok((key, &bytes[34..]))
}

fn ephemeral(mut entropy: [u8; 32]) -> Result<SecretKey, HandshakeError> {
    let key = SecretKey::from_slice(&entropy).map_err(|_| HandshakeError::Entropy);
    entropy.zeroize();
    key
}

/// The side that calls, after act one.
pub struct Initiator {
    symmetric: Symmetric,
    ephemeral: SecretKey,
    local: PublicKey,
}

impl Initiator {
    /// Calls `remote`: gives act one. `entropy` is 32 random bytes for this handshake alone.
    pub fn start(
        local: PublicKey,
        remote: &PublicKey,
        entropy: [u8; 32],
    ) -> Result<(Initiator, [u8; ACT_ONE]), HandshakeError> {
        let ephemeral = ephemeral(entropy)?;
        let mut symmetric = Symmetric::new(remote);
        let key = ephemeral.public_key(SECP256K1);
        symmetric.mix_hash(&key.serialize());
        let temporary = symmetric.mix_key(&SharedSecret::new(remote, &ephemeral));
        let tag = symmetric.seal(&temporary, 0, &[]);
        Ok((Initiator { symmetric, ephemeral, local }, write_key_act(&key, &tag)))
    }

    /// Reads act two; gives act three, with which the handshake is over for this side. `ecdh` is that of the node key.
    pub fn finish(
        mut self,
        act_two: &[u8; ACT_TWO],
        ecdh: impl FnOnce(&PublicKey) -> SharedSecret,
    ) -> Result<([u8; ACT_THREE], Transport), HandshakeError> {
        let (remote_ephemeral, tag) = read_key_act(act_two, 2)?;
        let symmetric = &mut self.symmetric;
        symmetric.mix_hash(&remote_ephemeral.serialize());
        let temporary = symmetric.mix_key(&SharedSecret::new(&remote_ephemeral, &self.ephemeral));
        symmetric.open(&temporary, 0, tag).ok_or(HandshakeError::Tag { act: 2 })?;
        let sealed_key = symmetric.seal(&temporary, 1, &self.local.serialize());
        let temporary = symmetric.mix_key(&ecdh(&remote_ephemeral));
        let tag = symmetric.seal(&temporary, 0, &[]);
        let mut act = [0; ACT_THREE];
        act[1..50].copy_from_slice(&sealed_key);
        act[50..].copy_from_slice(&tag);
        let (first, second) = hkdf(&self.symmetric.chaining_key, &[]);
        Ok((act, Transport::new(&self.symmetric.chaining_key, first, second)))
    }
}

impl Drop for Initiator {
    fn drop(&mut self) {
        self.ephemeral.non_secure_erase();
    }
}

/// The side that is called, after act two.
pub struct Responder {
    symmetric: Symmetric,
    ephemeral: SecretKey,
    temporary: Zeroizing<[u8; 32]>,
}

impl Responder {
    /// Reads act one; gives act two. `ecdh` is that of the node key, `entropy` 32 random bytes for this handshake alone.
    pub fn start(
        local: &PublicKey,
        act_one: &[u8; ACT_ONE],
        entropy: [u8; 32],
        ecdh: impl FnOnce(&PublicKey) -> SharedSecret,
    ) -> Result<(Responder, [u8; ACT_TWO]), HandshakeError> {
        let (remote_ephemeral, tag) = read_key_act(act_one, 1)?;
        let mut symmetric = Symmetric::new(local);
        symmetric.mix_hash(&remote_ephemeral.serialize());
        let temporary = symmetric.mix_key(&ecdh(&remote_ephemeral));
        symmetric.open(&temporary, 0, tag).ok_or(HandshakeError::Tag { act: 1 })?;
        let ephemeral = ephemeral(entropy)?;
        let key = ephemeral.public_key(SECP256K1);
        symmetric.mix_hash(&key.serialize());
        let temporary = symmetric.mix_key(&SharedSecret::new(&remote_ephemeral, &ephemeral));
        let tag = symmetric.seal(&temporary, 0, &[]);
        Ok((Responder { symmetric, ephemeral, temporary }, write_key_act(&key, &tag)))
    }

    /// Reads act three: who called, and the frames' ciphers.
    pub fn finish(mut self, act_three: &[u8; ACT_THREE]) -> Result<(PublicKey, Transport), HandshakeError> {
        if act_three[0] != 0 {
            return Err(HandshakeError::Version { act: 3 });
        }
        let key = self.symmetric.open(&self.temporary, 1, &act_three[1..50]).ok_or(HandshakeError::Tag { act: 3 })?;
        let remote = PublicKey::from_slice(&key).map_err(|_| HandshakeError::Key { act: 3 })?;
        let temporary = self.symmetric.mix_key(&SharedSecret::new(&remote, &self.ephemeral));
        self.symmetric.open(&temporary, 0, &act_three[50..]).ok_or(HandshakeError::Tag { act: 3 })?;
        let (first, second) = hkdf(&self.symmetric.chaining_key, &[]);
        Ok((remote, Transport::new(&self.symmetric.chaining_key, second, first)))
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.ephemeral.non_secure_erase();
    }
}
