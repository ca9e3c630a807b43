//! Per-commitment secrets: ours made from a seed, the peer's kept in 49 places (BOLT 3, "Per-commitment Secret
//! Requirements" and "Efficient Per-commitment Secret Storage").

use bitcoin::hashes::{Hash, sha256};
use secp256k1::{SECP256K1, SecretKey};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::derivation::PerCommitmentPoint;
use crate::units::CommitmentNumber;

/// The secret behind a [`PerCommitmentPoint`]: whoever else knows it can punish that commitment. Compared in constant
/// time, wiped when dropped, never printed.
#[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct PerCommitmentSecret([u8; 32]);

impl PerCommitmentSecret {
    /// The secret as it stands in `revoke_and_ack`; not yet checked against any point.
    pub const fn new(bytes: [u8; 32]) -> PerCommitmentSecret {
        PerCommitmentSecret(bytes)
    }

    /// The bytes for `revoke_and_ack`.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its point, or `None` where the bytes are no private key.
    pub fn point(&self) -> Option<PerCommitmentPoint> {
        let mut key = SecretKey::from_slice(&self.0).ok()?;
        let point = PerCommitmentPoint::new(key.public_key(SECP256K1));
        key.non_secure_erase();
        Some(point)
    }

    /// The secret of commitment `number`, out of a channel's seed: BOLT 3 counts its index down from 2^48 - 1.
    pub(super) fn generate(seed: &[u8; 32], number: CommitmentNumber) -> PerCommitmentSecret {
        PerCommitmentSecret(derive_secret(*seed, INDEX_BITS, index_of(number)))
    }
}

impl ConstantTimeEq for PerCommitmentSecret {
    fn ct_eq(&self, other: &PerCommitmentSecret) -> subtle::Choice {
        self.0.ct_eq(&other.0)
    }
}

impl PartialEq for PerCommitmentSecret {
    fn eq(&self, other: &PerCommitmentSecret) -> bool {
        self.ct_eq(other).into()
    }
}

impl Eq for PerCommitmentSecret {}

const INDEX_BITS: u32 = 48;

fn index_of(number: CommitmentNumber) -> u64 {
    CommitmentNumber::LAST.number() - number.number()
}

/// The secret of `index` out of `base`, whose index has the same bits from `bits` up.
fn derive_secret(base: [u8; 32], bits: u32, index: u64) -> [u8; 32] {
    let mut secret = base;
    for bit in (0..bits).rev().filter(|bit| index >> bit & 1 == 1) {
        secret[(bit / 8) as usize] ^= 1 << (bit % 8);
        secret = sha256::Hash::hash(&secret).to_byte_array();
    }
    secret
}

/// Where a secret goes: by the number of zeros its index ends in.
fn bucket_of(index: u64) -> u32 {
    index.trailing_zeros().min(INDEX_BITS)
}

/// All secrets that the peer has revealed, in at most 49 places, each checked to come from one seed.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceivedSecrets {
    /// `known[b]` is the last secret received whose index ends in `b` zeros.
    known: Vec<(u64, PerCommitmentSecret)>,
}

/// Why a revealed secret is not accepted. The peer's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretsError {
    /// Not the secret of the commitment that is due.
    #[error("secret of commitment {given}, expected that of {expected}")]
    OutOfOrder {
        /// The number it was given for.
        given: CommitmentNumber,
        /// The number that is due.
        expected: CommitmentNumber,
    },
    /// An earlier secret does not derive from this one: they are not from one seed.
    #[error("the secret of commitment {0} does not derive the earlier ones")]
    NotFromOneSeed(CommitmentNumber),
}

impl ReceivedSecrets {
    /// No secret yet.
    pub const fn new() -> ReceivedSecrets {
        ReceivedSecrets { known: Vec::new() }
    }

    /// The number of the commitment whose secret comes next; so many have been revealed.
    pub fn next_number(&self) -> CommitmentNumber {
        let least = self.known.iter().map(|(index, _)| *index).min();
        // At index 0 all 2^48 are known; 2^48 is no number, and `check` refuses whatever is given then.
        CommitmentNumber::new(least.map_or(0, |index| CommitmentNumber::LAST.number() - index + 1))
    }

    /// Whether [`ReceivedSecrets::insert`] would accept it.
    ///
    /// # Errors
    /// [`SecretsError`]
    pub fn check(&self, number: CommitmentNumber, secret: &PerCommitmentSecret) -> Result<(), SecretsError> {
        let expected = self.next_number();
        if number != expected || number > CommitmentNumber::LAST {
            return Err(SecretsError::OutOfOrder { given: number, expected });
        }
        let bucket = bucket_of(index_of(number));
        let earlier = self.known.iter().take(bucket as usize);
        let derives = |(index, known): &(u64, PerCommitmentSecret)| {
            bool::from(derive_secret(secret.0, bucket, *index).ct_eq(&known.0))
        };
        if earlier.into_iter().all(derives) { Ok(()) } else { Err(SecretsError::NotFromOneSeed(number)) }
    }

    /// Keeps the secret of commitment `number`.
    ///
    /// # Errors
    /// [`SecretsError`]; nothing is kept then.
    pub fn insert(&mut self, number: CommitmentNumber, secret: PerCommitmentSecret) -> Result<(), SecretsError> {
        self.check(number, &secret)?;
        let index = index_of(number);
        let bucket = bucket_of(index) as usize;
        // Indices come in descending order, so bucket b is filled for the first time right after bucket b - 1.
        match self.known.get_mut(bucket) {
            Some(place) => *place = (index, secret),
            None => self.known.push((index, secret)),
        }
        Ok(())
    }

    /// Checks again that all that is kept comes from one seed: what an audit asks for.
    ///
    /// # Errors
    /// [`SecretsError::NotFromOneSeed`] with the first commitment whose secret does not derive an earlier one.
    pub fn verify(&self) -> Result<(), SecretsError> {
        for (bucket, (index, secret)) in (0..).zip(&self.known) {
            let number = CommitmentNumber::new(CommitmentNumber::LAST.number() - index);
            let covered =
                self.known.iter().take(bucket as usize).filter(|(known, _)| known >> bucket == index >> bucket);
            let derives = |(known, kept): &(u64, PerCommitmentSecret)| {
                bool::from(derive_secret(secret.0, bucket, *known).ct_eq(&kept.0))
            };
            if bucket_of(*index) != bucket || !covered.into_iter().all(derives) || secret.point().is_none() {
                return Err(SecretsError::NotFromOneSeed(number));
            }
        }
        Ok(())
    }

    /// The secret of commitment `number`, or `None` where it has not been revealed.
    pub fn secret(&self, number: CommitmentNumber) -> Option<PerCommitmentSecret> {
        if number >= self.next_number() {
            return None;
        }
        let index = index_of(number);
        (0..).zip(&self.known).find_map(|(bucket, (known, secret))| {
            let covers = index >> bucket == known >> bucket;
            covers.then(|| PerCommitmentSecret(derive_secret(secret.0, bucket, index)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hexadecimal: &serde_json::Value) -> [u8; 32] {
        let mut bytes = [0; 32];
        hex::decode_to_slice(hexadecimal.as_str().expect("a string"), &mut bytes).expect("hex");
        bytes
    }

    fn number(index: &serde_json::Value) -> CommitmentNumber {
        CommitmentNumber::new(CommitmentNumber::LAST.number() - index.as_u64().expect("an index"))
    }

    #[test]
    fn published_vectors() {
        let Ok(dir) = std::env::var("SPEC_VECTORS") else {
            eprintln!("SPEC_VECTORS is not set: skipped");
            return;
        };
        let text = std::fs::read_to_string(format!("{dir}/bolt03-per-commitment-secrets.json")).expect("file");
        let vectors: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        for case in vectors["generate"].as_array().expect("a list") {
            let secret = PerCommitmentSecret::generate(&bytes(&case["seed"]), number(&case["index"]));
            assert_eq!(secret.as_bytes(), &bytes(&case["output"]), "{}", case["name"]);
        }
        for case in vectors["store"].as_array().expect("a list") {
            let mut store = ReceivedSecrets::new();
            for step in case["steps"].as_array().expect("a list") {
                let inserted = store.insert(number(&step["index"]), PerCommitmentSecret::new(bytes(&step["secret"])));
                assert_eq!(inserted.is_ok(), step["ok"].as_bool().expect("a bool"), "{}", case["name"]);
            }
        }
    }

    #[test]
    fn every_revealed_secret_is_found_again() {
        let seed = [9; 32];
        let mut store = ReceivedSecrets::new();
        for n in 0..1_000 {
            let n = CommitmentNumber::new(n);
            assert_eq!(store.next_number(), n);
            assert!(store.secret(n).is_none());
            store.insert(n, PerCommitmentSecret::generate(&seed, n)).expect("in order, from one seed");
        }
        for n in (0..1_000).map(CommitmentNumber::new) {
            assert!(store.secret(n) == Some(PerCommitmentSecret::generate(&seed, n)));
        }
        assert!(store.known.len() <= 11);
    }

    #[test]
    fn a_secret_out_of_order_or_of_another_seed_is_refused() {
        let (zero, one) = (CommitmentNumber::new(0), CommitmentNumber::new(1));
        let mut store = ReceivedSecrets::new();
        let secret = PerCommitmentSecret::generate(&[1; 32], one);
        let error = SecretsError::OutOfOrder { given: one, expected: zero };
        assert_eq!(store.insert(one, secret), Err(error));
        store.insert(zero, PerCommitmentSecret::generate(&[1; 32], zero)).expect("the first");
        let foreign = PerCommitmentSecret::generate(&[2; 32], one);
        assert_eq!(store.insert(one, foreign), Err(SecretsError::NotFromOneSeed(one)));
    }
}
