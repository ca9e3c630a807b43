//! The signatures that were found valid, by salted hash.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bitcoin::hashes::{Hash, HashEngine, sha256};

/// The salted hash of one signature with its key and what it signs.
pub(super) type Entry = [u8; 32];

/// Entries that share a place; the oldest goes first.
const WAYS: usize = 8;
/// Independent parts, so that threads seldom meet at one lock.
const SHARDS: usize = 64;

/// A bounded set of valid signatures, shared by the mempool and block connection, from any number of threads.
///
/// Its memory is that of its constructor; a full place forgets its oldest entry. Forgetting costs time, never correctness.
pub struct SignatureCache {
    ecdsa: sha256::HashEngine,
    schnorr: sha256::HashEngine,
    shards: Vec<Mutex<Vec<[Entry; WAYS]>>>,
}

impl SignatureCache {
    /// A cache of about `bytes` bytes. `salt` is random and private, so that nobody can aim at its places.
    pub fn new(bytes: usize, salt: [u8; 32]) -> Self {
        let places = (bytes / (SHARDS * WAYS * size_of::<Entry>())).max(1);
        let shard = || Mutex::new(vec![[Entry::default(); WAYS]; places]);
        Self {
            ecdsa: salted(salt, b'E'),
            schnorr: salted(salt, b'S'),
            shards: std::iter::repeat_with(shard).take(SHARDS).collect(),
        }
    }

    pub(super) fn ecdsa_entry(&self, sighash: &[u8; 32], pubkey: &[u8], signature: &[u8]) -> Entry {
        entry(self.ecdsa.clone(), sighash, pubkey, signature)
    }

    pub(super) fn schnorr_entry(&self, sighash: &[u8; 32], pubkey: &[u8], signature: &[u8]) -> Entry {
        entry(self.schnorr.clone(), sighash, pubkey, signature)
    }

    pub(super) fn contains(&self, entry: &Entry) -> bool {
        let (shard, place) = self.locate(entry);
        shard[place].contains(entry)
    }

    pub(super) fn insert(&self, entry: Entry) {
        let (mut shard, place) = self.locate(&entry);
        if !shard[place].contains(&entry) {
            shard[place].rotate_right(1);
            shard[place][0] = entry;
        }
    }

    fn locate(&self, entry: &Entry) -> (MutexGuard<'_, Vec<[Entry; WAYS]>>, usize) {
        // A thread that panicked between two writes of an entry leaves at worst an entry that no signature has.
        let shard = self.shards[usize::from(entry[0]) % SHARDS].lock().unwrap_or_else(PoisonError::into_inner);
        let (_, tail) = entry.split_last_chunk::<8>().expect("an entry has 32 bytes");
        let place = (u64::from_le_bytes(*tail) % shard.len() as u64) as usize;
        (shard, place)
    }
}

/// A hasher that has taken one whole block: the salt, and what kind of signature follows.
fn salted(salt: [u8; 32], kind: u8) -> sha256::HashEngine {
    let mut padding = [0; 32];
    padding[0] = kind;
    let mut engine = sha256::HashEngine::default();
    engine.input(&salt);
    engine.input(&padding);
    engine
}

fn entry(mut engine: sha256::HashEngine, sighash: &[u8; 32], pubkey: &[u8], signature: &[u8]) -> Entry {
    engine.input(sighash);
    // The length of a key follows from its first byte (or is 32), so two different triples never write the same bytes.
    engine.input(pubkey);
    engine.input(signature);
    sha256::Hash::from_engine(engine).to_byte_array()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_what_was_inserted_and_stays_bounded() {
        let cache = SignatureCache::new(64 << 10, [7; 32]);
        let entries: Vec<Entry> =
            (0..100_000u32).map(|n| cache.ecdsa_entry(&[1; 32], &[2; 33], &n.to_le_bytes())).collect();
        for entry in &entries {
            assert!(!cache.contains(entry));
            cache.insert(*entry);
            assert!(cache.contains(entry));
        }
        let kept = entries.iter().filter(|entry| cache.contains(entry)).count();
        assert!((1_000..=2_048).contains(&kept), "{kept}");
    }

    #[test]
    fn kinds_and_salts_do_not_mix() {
        let (one, other) = (SignatureCache::new(0, [1; 32]), SignatureCache::new(0, [2; 32]));
        let of = |cache: &SignatureCache| cache.ecdsa_entry(&[0; 32], &[2; 33], &[3; 70]);
        assert_ne!(of(&one), of(&other));
        assert_ne!(of(&one), one.schnorr_entry(&[0; 32], &[2; 33], &[3; 70]));
    }
}
