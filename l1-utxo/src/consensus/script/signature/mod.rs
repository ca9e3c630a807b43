//! Signatures: their encoding, their verification, and the cache of those that were valid.

mod cache;

pub use cache::SignatureCache;
