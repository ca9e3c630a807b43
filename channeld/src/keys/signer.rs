//! The one place that signs and does ECDH. What it is given is a digest and the role of the key; who calls has decided.
//!
//! Signatures are deterministic (RFC 6979), low-S, not ground for a low R.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use bitcoin::SegwitV0Sighash;
use rayon::prelude::*;
use secp256k1::ecdh::SharedSecret;
use secp256k1::ecdsa::{RecoverableSignature, Signature};
use secp256k1::{Message, PublicKey, SECP256K1};

use super::channel::{ChannelKeys, payment_key};
use super::derivation::{Basepoints, PaymentPubkey, PerCommitmentPoint, derive_private, derive_revocation_private};
use super::secrets::PerCommitmentSecret;
use super::{ChannelKeyId, PAYMENT_KEYS, PrivateKey, Seed};
use crate::units::CommitmentNumber;

/// From so many signatures on, all cores share the work (a signature is 20 µs, waking a core a few).
pub const PARALLEL_FROM: usize = 8;

/// So many channels' keys are kept at hand; beyond, they are derived again (0.1 ms).
const CACHED_CHANNELS: usize = 4_096;

/// Holds the seed and signs with what comes from it. Shared by reference; never printed, never stored.
pub struct Signer {
    seed: Seed,
    node: PrivateKey,
    node_id: PublicKey,
    // A pure memory: what is in it can be derived again at any time and is always the same.
    channels: RwLock<BTreeMap<ChannelKeyId, Arc<ChannelKeys>>>,
}

impl Signer {
    /// The signer of the node that `seed` makes.
    pub fn new(seed: &Seed) -> Signer {
        let node = seed.private_key("node", b"");
        let node_id = node.0.public_key(SECP256K1);
        Signer { seed: seed.clone(), node, node_id, channels: RwLock::new(BTreeMap::new()) }
    }

    /// The node's public key, its identity.
    pub const fn node_id(&self) -> PublicKey {
        self.node_id
    }

    /// Signs a digest with the node key: gossip (double SHA-256 of the message, BOLT 7) and transfer receipts.
    pub fn sign_node(&self, digest: [u8; 32]) -> Signature {
        SECP256K1.sign_ecdsa(&Message::from_digest(digest), &self.node.0)
    }

    /// Signs the hash of a BOLT 11 invoice with the node key; the key can be recovered from the signature.
    pub fn sign_invoice(&self, hash: [u8; 32]) -> RecoverableSignature {
        SECP256K1.sign_ecdsa_recoverable(&Message::from_digest(hash), &self.node.0)
    }

    /// SHA-256 of the compressed product of the node key and `point` (BOLT 8 and BOLT 4).
    pub fn ecdh_node(&self, point: &PublicKey) -> SharedSecret {
        SharedSecret::new(point, &self.node.0)
    }

    /// Our five public keys in a channel.
    pub fn basepoints(&self, id: &ChannelKeyId) -> Basepoints {
        self.channel(id).basepoints
    }

    /// The point of our commitment `number`.
    pub fn per_commitment_point(&self, id: &ChannelKeyId, number: CommitmentNumber) -> PerCommitmentPoint {
        self.per_commitment_secret(id, number).point().expect("a hash that is no private key is a 2^-127 chance")
    }

    /// The secret of our commitment `number`. To reveal it revokes that commitment: only for one that has a durable
    /// successor.
    pub fn per_commitment_secret(&self, id: &ChannelKeyId, number: CommitmentNumber) -> PerCommitmentSecret {
        PerCommitmentSecret::generate(&self.channel(id).commitment_seed, number)
    }

    /// Signs with the funding key: a commitment, a mutual close, our own anchor.
    pub fn sign_funding(&self, id: &ChannelKeyId, sighash: SegwitV0Sighash) -> Signature {
        sign(&self.channel(id).funding, sighash)
    }

    /// Signs the digest of a `channel_announcement` (double SHA-256, BOLT 7) with the funding key.
    pub fn sign_announcement(&self, id: &ChannelKeyId, digest: [u8; 32]) -> Signature {
        SECP256K1.sign_ecdsa(&Message::from_digest(digest), &self.channel(id).funding.0)
    }

    /// Signs with our HTLC key at the commitment of `point`, ours or the peer's.
    pub fn sign_htlc(&self, id: &ChannelKeyId, point: &PerCommitmentPoint, sighash: SegwitV0Sighash) -> Signature {
        sign(&self.htlc_key(id, point), sighash)
    }

    /// Signs many with our HTLC key at the commitment of `point`; the order is kept.
    pub fn sign_htlcs(
        &self,
        id: &ChannelKeyId,
        point: &PerCommitmentPoint,
        sighashes: &[SegwitV0Sighash],
    ) -> Vec<Signature> {
        if sighashes.is_empty() {
            return Vec::new();
        }
        let key = self.htlc_key(id, point);
        if sighashes.len() < PARALLEL_FROM {
            return sighashes.iter().map(|sighash| sign(&key, *sighash)).collect();
        }
        sighashes.par_iter().map(|sighash| sign(&key, *sighash)).collect()
    }

    /// Signs with our delayed payment key at our commitment of `point`: `to_local` and second-stage outputs.
    pub fn sign_delayed_payment(
        &self,
        id: &ChannelKeyId,
        point: &PerCommitmentPoint,
        sighash: SegwitV0Sighash,
    ) -> Signature {
        let channel = self.channel(id);
        let basepoint = channel.basepoints.delayed_payment_basepoint.key();
        sign(&derive_private(&channel.delayed_payment, basepoint, point), sighash)
    }

    /// Signs with our payment key: the `to_remote` output of the peer's commitment.
    pub fn sign_payment(&self, id: &ChannelKeyId, sighash: SegwitV0Sighash) -> Signature {
        sign(&self.channel(id).payment, sighash)
    }

    /// Signs with the revocation key of the peer's commitment whose `secret` it has revealed; `None` where the bytes are
    /// no private key, which [`PerCommitmentSecret::point`] finds out on receipt.
    pub fn sign_revocation(
        &self,
        id: &ChannelKeyId,
        secret: &PerCommitmentSecret,
        sighash: SegwitV0Sighash,
    ) -> Option<Signature> {
        let channel = self.channel(id);
        let key = derive_revocation_private(&channel.revocation, &channel.basepoints.revocation_basepoint, secret)?;
        Some(sign(&key, sighash))
    }

    /// The payment key of one index below [`PAYMENT_KEYS`]: whoever has only the words looks for `to_remote` outputs to
    /// each of these.
    pub fn payment_pubkey(&self, index: u16) -> PaymentPubkey {
        PaymentPubkey::new(payment_key(&self.seed, index % PAYMENT_KEYS).0.public_key(SECP256K1))
    }

    /// Signs with the payment key of one index: for a `to_remote` output found by the words alone.
    pub fn sign_payment_index(&self, index: u16, sighash: SegwitV0Sighash) -> Signature {
        sign(&payment_key(&self.seed, index % PAYMENT_KEYS), sighash)
    }

    fn htlc_key(&self, id: &ChannelKeyId, point: &PerCommitmentPoint) -> PrivateKey {
        let channel = self.channel(id);
        derive_private(&channel.htlc, channel.basepoints.htlc_basepoint.key(), point)
    }

    fn channel(&self, id: &ChannelKeyId) -> Arc<ChannelKeys> {
        let cached = self.channels.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(keys) = cached.get(id) {
            return Arc::clone(keys);
        }
        drop(cached);
        let keys = Arc::new(ChannelKeys::derive(&self.seed, id));
        let mut cached = self.channels.write().unwrap_or_else(PoisonError::into_inner);
        if cached.len() >= CACHED_CHANNELS {
            cached.clear();
        }
        cached.insert(*id, Arc::clone(&keys));
        keys
    }
}

fn sign(key: &PrivateKey, sighash: SegwitV0Sighash) -> Signature {
    SECP256K1.sign_ecdsa(&Message::from(sighash), &key.0)
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash;

    use super::*;
    use crate::keys::{HtlcPubkey, RevocationPubkey, Words};

    fn signer() -> Signer {
        Signer::new(&Words::from_entropy(&[3; 32]).seed())
    }

    fn digest(byte: u8) -> SegwitV0Sighash {
        SegwitV0Sighash::from_byte_array([byte; 32])
    }

    fn verifies(sighash: SegwitV0Sighash, signature: &Signature, key: &PublicKey) -> bool {
        SECP256K1.verify_ecdsa(&Message::from(sighash), signature, key).is_ok()
    }

    #[test]
    fn each_role_signs_for_its_public_key() {
        let (signer, id) = (signer(), ChannelKeyId([5; 32]));
        let keys = signer.basepoints(&id);
        let number = CommitmentNumber::new(7);
        let point = signer.per_commitment_point(&id, number);
        let sighash = digest(1);
        assert!(verifies(sighash, &signer.sign_funding(&id, sighash), keys.funding_pubkey.key()));
        assert!(verifies(sighash, &signer.sign_payment(&id, sighash), keys.payment_basepoint.key()));
        let htlc = HtlcPubkey::derive(&keys.htlc_basepoint, &point);
        assert!(verifies(sighash, &signer.sign_htlc(&id, &point, sighash), htlc.key()));
        let secret = signer.per_commitment_secret(&id, number);
        let revocation = RevocationPubkey::derive(&keys.revocation_basepoint, &point);
        let signature = signer.sign_revocation(&id, &secret, sighash).expect("a key");
        assert!(verifies(sighash, &signature, revocation.key()));
    }

    #[test]
    fn many_signatures_keep_their_order() {
        let (signer, id) = (signer(), ChannelKeyId([6; 32]));
        let point = signer.per_commitment_point(&id, CommitmentNumber::new(0));
        let sighashes: Vec<_> = (0..40).map(digest).collect();
        let one_by_one: Vec<_> = sighashes.iter().map(|sighash| signer.sign_htlc(&id, &point, *sighash)).collect();
        assert_eq!(signer.sign_htlcs(&id, &point, &sighashes), one_by_one);
    }

    #[test]
    fn the_words_alone_find_the_payment_key() {
        let (signer, id) = (signer(), ChannelKeyId([0xfe; 32]));
        let payment = signer.basepoints(&id).payment_basepoint.payment_pubkey();
        assert!((0..PAYMENT_KEYS).any(|index| signer.payment_pubkey(index) == payment));
    }

    #[test]
    fn the_same_seed_makes_the_same_node() {
        assert_eq!(signer().node_id(), signer().node_id());
        let other = Signer::new(&Words::from_entropy(&[4; 32]).seed());
        assert_ne!(signer().node_id(), other.node_id());
    }
}
