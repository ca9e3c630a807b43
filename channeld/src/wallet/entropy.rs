//! The random numbers that bdk asks for, made of the 32 bytes that came with the input.

use secp256k1::rand::{Error, RngCore};
use sha2::{Digest, Sha256};
use zeroize::Zeroize;

/// SHA-256 of the entropy and a counter, block after block: the order of outputs and a tie between coins, never a key.
pub(super) struct Expander {
    entropy: [u8; 32],
    counter: u64,
}

impl Expander {
    pub(super) fn new(entropy: &[u8; 32]) -> Expander {
        Expander { entropy: *entropy, counter: 0 }
    }
}

impl RngCore for Expander {
    fn next_u32(&mut self) -> u32 {
        secp256k1::rand::RngCore::next_u64(self) as u32
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, destination: &mut [u8]) {
        for chunk in destination.chunks_mut(32) {
            let block = Sha256::new()
                .chain_update(b"channeld wallet entropy")
                .chain_update(self.entropy)
                .chain_update(self.counter.to_le_bytes())
                .finalize();
            chunk.copy_from_slice(&block[..chunk.len()]);
            self.counter += 1;
        }
    }

    fn try_fill_bytes(&mut self, destination: &mut [u8]) -> Result<(), Error> {
        self.fill_bytes(destination);
        Ok(())
    }
}

impl Drop for Expander {
    fn drop(&mut self) {
        self.entropy.zeroize();
    }
}
