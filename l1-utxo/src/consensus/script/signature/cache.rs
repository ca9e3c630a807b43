//! The signatures that were found valid, by salted hash.

/// A bounded set of valid signatures, shared by the mempool and block connection, from any number of threads.
pub struct SignatureCache {}

impl SignatureCache {
    /// A cache of about `bytes` bytes. `salt` is random and private, so that nobody can aim at its slots.
    pub fn new(bytes: usize, salt: [u8; 32]) -> Self {
        let _ = (bytes, salt);
        Self {}
    }
}
