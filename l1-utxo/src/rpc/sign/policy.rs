//! Witness scripts and leaves that are none of the old templates, satisfied by the crate `miniscript`.

use bitcoin::hashes::{Hash, hash160, ripemd160, sha256};
use bitcoin::script::Instruction;
use bitcoin::{PublicKey, Script, Sequence, absolute, relative};
use miniscript::{Miniscript, Satisfier, Segwitv0, Tap, ToPublicKey, hash256};
use secp256k1::XOnlyPublicKey;

use super::digest::Version;
use super::produce::Producer;
use super::{Bytes32, Creator, Data, HashKind, key_id};

/// Types of PSBT's fields for preimages.
pub const RIPEMD160: HashKind = 0x0a;
/// As above.
pub const SHA256: HashKind = 0x0b;
/// As above.
pub const HASH160: HashKind = 0x0c;
/// As above.
pub const HASH256: HashKind = 0x0d;

impl Producer<'_, '_> {
    /// A witness for the script, without the script.
    pub(super) fn satisfy_wsh(&mut self, script: &Script) -> Option<Vec<Vec<u8>>> {
        let parsed = Miniscript::<PublicKey, Segwitv0>::parse_insane(script).ok()?;
        for key in parsed.iter_pk() {
            self.sign(&key.to_bytes(), script, Version::WitnessV0);
        }
        for id in hashes_in(script) {
            if let Some(key) = self.key(&id) {
                self.sign(&key, script, Version::WitnessV0);
            }
        }
        parsed.satisfy(Known { data: self.data, creator: self.creator, leaf: None }).ok()
    }

    /// A witness for the leaf, without script and control block.
    pub(super) fn satisfy_leaf(&mut self, script: &Script, leaf: Bytes32) -> Option<Vec<Vec<u8>>> {
        let parsed = Miniscript::<XOnlyPublicKey, Tap>::parse_insane(script).ok()?;
        for key in parsed.iter_pk() {
            self.sign_leaf(key.serialize(), leaf);
        }
        for id in hashes_in(script) {
            if let Some(key) = self.x_only(&id) {
                self.sign_leaf(key, leaf);
            }
        }
        parsed.satisfy(Known { data: self.data, creator: self.creator, leaf: Some(leaf) }).ok()
    }

    fn x_only(&self, id: &hash160::Hash) -> Option<Bytes32> {
        let known = self.data.tap_origins.keys().chain(self.data.tap_script_sigs.keys().map(|(key, _)| key));
        known.copied().find(|key| key_id(key) == *id)
    }
}

/// What might be hashes of keys.
fn hashes_in(script: &Script) -> Vec<hash160::Hash> {
    let pushed = script.instructions().filter_map(|instruction| match instruction {
        Ok(Instruction::PushBytes(bytes)) => hash160::Hash::from_slice(bytes.as_bytes()).ok(),
        _ => None,
    });
    pushed.collect()
}

/// What is known when a script is satisfied.
struct Known<'a, 'b> {
    data: &'a Data,
    creator: &'a Creator<'b>,
    leaf: Option<Bytes32>,
}

impl Known<'_, '_> {
    fn preimage(&self, kind: HashKind, hash: &[u8]) -> Option<[u8; 32]> {
        let known = self.data.preimages.get(&(kind, hash.to_vec()));
        match (known, self.creator) {
            (Some(preimage), _) => preimage.as_slice().try_into().ok(),
            (None, Creator::Dummy) => Some([0; 32]),
            (None, Creator::Real(_)) => None,
        }
    }

    fn ecdsa(&self, id: &hash160::Hash) -> Option<(PublicKey, bitcoin::ecdsa::Signature)> {
        let (key, signature) = self.data.signatures.get(id)?;
        Some((PublicKey::from_slice(key).ok()?, bitcoin::ecdsa::Signature::from_slice(signature).ok()?))
    }

    fn schnorr(&self, key: Bytes32) -> Option<bitcoin::taproot::Signature> {
        let signature = self.data.tap_script_sigs.get(&(key, self.leaf?))?;
        bitcoin::taproot::Signature::from_slice(signature).ok()
    }
}

impl<Pk> Satisfier<Pk> for Known<'_, '_>
where
    Pk: miniscript::MiniscriptKey<
            Sha256 = sha256::Hash,
            Hash256 = hash256::Hash,
            Ripemd160 = ripemd160::Hash,
            Hash160 = hash160::Hash,
        > + ToPublicKey,
{
    fn lookup_ecdsa_sig(&self, key: &Pk) -> Option<bitcoin::ecdsa::Signature> {
        self.ecdsa(&key_id(&key.to_public_key().to_bytes())).map(|(_, signature)| signature)
    }

    fn lookup_tap_leaf_script_sig(
        &self,
        key: &Pk,
        _: &bitcoin::taproot::TapLeafHash,
    ) -> Option<bitcoin::taproot::Signature> {
        self.schnorr(key.to_x_only_pubkey().serialize())
    }

    fn lookup_raw_pkh_pk(&self, id: &hash160::Hash) -> Option<PublicKey> {
        self.ecdsa(id).map(|(key, _)| key)
    }

    fn lookup_raw_pkh_ecdsa_sig(&self, id: &hash160::Hash) -> Option<(PublicKey, bitcoin::ecdsa::Signature)> {
        self.ecdsa(id)
    }

    fn lookup_raw_pkh_tap_leaf_script_sig(
        &self,
        (id, _): &(hash160::Hash, bitcoin::taproot::TapLeafHash),
    ) -> Option<(XOnlyPublicKey, bitcoin::taproot::Signature)> {
        let (key, _) = self.data.tap_script_sigs.keys().find(|(key, _)| key_id(key) == *id)?;
        Some((XOnlyPublicKey::from_slice(key).ok()?, self.schnorr(*key)?))
    }

    fn lookup_sha256(&self, hash: &sha256::Hash) -> Option<[u8; 32]> {
        self.preimage(SHA256, hash.as_byte_array())
    }

    fn lookup_hash256(&self, hash: &hash256::Hash) -> Option<[u8; 32]> {
        self.preimage(HASH256, hash.as_byte_array())
    }

    fn lookup_ripemd160(&self, hash: &ripemd160::Hash) -> Option<[u8; 32]> {
        self.preimage(RIPEMD160, hash.as_byte_array())
    }

    fn lookup_hash160(&self, hash: &hash160::Hash) -> Option<[u8; 32]> {
        self.preimage(HASH160, hash.as_byte_array())
    }

    fn check_older(&self, lock: relative::LockTime) -> bool {
        let Creator::Real(spend) = self.creator else { return true };
        let sequence = spend.transaction.input.get(spend.index).map(|input| input.sequence);
        let has = sequence.and_then(|sequence| sequence.to_relative_lock_time());
        spend.transaction.version.0.cast_unsigned() >= 2 && has.is_some_and(|has| lock.is_implied_by(has))
    }

    fn check_after(&self, lock: absolute::LockTime) -> bool {
        let Creator::Real(spend) = self.creator else { return true };
        let sequence = spend.transaction.input.get(spend.index).map(|input| input.sequence);
        sequence.is_some_and(|sequence| sequence != Sequence::MAX) && lock.is_implied_by(spend.transaction.lock_time)
    }
}
