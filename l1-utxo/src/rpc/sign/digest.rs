//! What a signature is over, made and checked (Core: `MutableTransactionSignatureCreator`).

use bitcoin::hashes::Hash;
use bitcoin::key::TapTweak;
use bitcoin::sighash::{EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::taproot::{TapLeafHash, TapNodeHash};
use bitcoin::{Amount, Script};
use secp256k1::{Keypair, Message, PublicKey, SECP256K1, SecretKey};

use super::{Bytes32, Spend};

/// Signatures of scripts of these two kinds are made alike, but over different bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Before segwit.
    Base,
    /// Version 0.
    WitnessV0,
}

/// Core's `SIGHASH_ALL`.
const ALL: u32 = 1;
/// Randomness that Core mixes into Schnorr signatures: none.
const NO_RANDOMNESS: [u8; 32] = [0; 32];

impl Spend<'_> {
    fn digest(&self, script: &Script, version: Version, sighash: u32) -> Option<Message> {
        let cache = SighashCache::new(self.transaction);
        let digest = match version {
            Version::Base => cache.legacy_signature_hash(self.index, script, sighash).ok()?.to_byte_array(),
            Version::WitnessV0 => {
                let mut cache = cache;
                let sighash = EcdsaSighashType::from_consensus(sighash);
                cache.p2wsh_signature_hash(self.index, script, self.prevout.value, sighash).ok()?.to_byte_array()
            }
        };
        Some(Message::from_digest(digest))
    }

    /// A signature with its type at the end.
    pub fn sign(&self, secret: &SecretKey, compressed: bool, script: &Script, version: Version) -> Option<Vec<u8>> {
        // Keys of segwit are compressed, and its signatures cover the amount.
        if version == Version::WitnessV0 && (!compressed || self.prevout.value > Amount::MAX_MONEY) {
            return None;
        }
        let sighash = if self.sighash == 0 { ALL } else { self.sighash };
        let digest = self.digest(script, version, sighash)?;
        let mut bytes = SECP256K1.sign_ecdsa_low_r(&digest, secret).serialize_der().to_vec();
        bytes.push(u8::try_from(sighash).ok()?);
        Some(bytes)
    }

    /// Whether a signature with its type at the end is one of this key's.
    pub fn is_signed_by(&self, signature: &[u8], key: &[u8], script: &Script, version: Version) -> bool {
        let Some((sighash, der)) = signature.split_last() else { return false };
        let Ok(key) = PublicKey::from_slice(key) else { return false };
        let Ok(mut parsed) = secp256k1::ecdsa::Signature::from_der_lax(der) else { return false };
        parsed.normalize_s();
        let digest = self.digest(script, version, u32::from(*sighash));
        digest.is_some_and(|digest| SECP256K1.verify_ecdsa(&digest, &parsed, &key).is_ok())
    }

    /// A signature of a taproot output key, or of a key in a leaf.
    pub fn sign_schnorr(&self, pair: &Keypair, leaf: Option<Bytes32>, tweak: Tweak) -> Option<Vec<u8>> {
        let prevouts = self.prevouts.filter(|all| all.len() == self.transaction.input.len())?;
        let sighash = TapSighashType::from_consensus_u8(u8::try_from(self.sighash).ok()?).ok()?;
        let leaf = leaf.map(|leaf| (TapLeafHash::from_byte_array(leaf), u32::MAX));
        let digest = SighashCache::new(self.transaction)
            .taproot_signature_hash(self.index, &Prevouts::All(prevouts), None, leaf, sighash)
            .ok()?;
        let pair = match tweak {
            Tweak::None => *pair,
            Tweak::Root(root) => pair.tap_tweak(SECP256K1, root.map(TapNodeHash::assume_hidden)).to_keypair(),
        };
        let message = Message::from_digest(digest.to_byte_array());
        let mut bytes = SECP256K1.sign_schnorr_with_aux_rand(&message, &pair, &NO_RANDOMNESS).serialize().to_vec();
        if self.sighash != 0 {
            bytes.push(u8::try_from(self.sighash).ok()?);
        }
        Some(bytes)
    }
}

/// How the key that signs differs from the one that is held.
#[derive(Debug, Clone, Copy)]
pub enum Tweak {
    /// Not at all.
    None,
    /// By the root of the scripts, or by their absence.
    Root(Option<Bytes32>),
}
