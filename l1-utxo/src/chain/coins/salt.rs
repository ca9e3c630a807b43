//! How outpoints find their place in tables.

use std::hash::{BuildHasher, Hasher};

/// Hashes outpoints with a salt.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SaltedState(pub(super) u64);

impl BuildHasher for SaltedState {
    type Hasher = SaltedHasher;

    fn build_hasher(&self) -> SaltedHasher {
        SaltedHasher(self.0)
    }
}

/// One multiplication folded to 64 bits for every 8 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct SaltedHasher(u64);

impl SaltedHasher {
    fn fold(&mut self, word: u64) {
        const FACTOR: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
        let product = u128::from(self.0 ^ word).wrapping_add(1).wrapping_mul(FACTOR);
        self.0 = (product >> 64) as u64 ^ product as u64 ^ self.0.rotate_left(29);
    }
}

impl Hasher for SaltedHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.fold(u64::from_le_bytes(word));
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.fold(u64::from(value));
    }

    fn write_usize(&mut self, value: usize) {
        self.fold(value as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
