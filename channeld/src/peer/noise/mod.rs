//! BOLT 8: `Noise_XK_secp256k1_ChaChaPoly_SHA256`, the handshake and the frames behind it, as pure state machines.
//!
//! Bytes in, bytes out: no socket, clock or randomness here; the ephemeral key comes in as 32 random bytes and ECDH with the
//! node key as a closure, for that key is the `Signer`'s alone.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod handshake;
#[cfg(test)]
mod tests;
mod transport;

pub use handshake::{HandshakeError, Initiator, Responder};
pub use transport::{Decryptor, Encryptor, LENGTH_HEADER, TAG, Tampered, Transport};

/// How many bytes act one has.
pub const ACT_ONE: usize = 50;
/// How many bytes act two has.
pub const ACT_TWO: usize = 50;
/// How many bytes act three has.
pub const ACT_THREE: usize = 66;
