//! Frames (BOLT 8, "Lightning Message Specification"): an encrypted length, an encrypted message, a new key every 1,000 uses.

use hkdf::Hkdf;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use sha2::Sha256;
use zeroize::Zeroizing;

/// A tag's bytes.
pub const TAG: usize = 16;
/// The bytes of an encrypted length.
pub const LENGTH_HEADER: usize = 2 + TAG;
/// So often a key is used.
const ROTATION: u64 = 1_000;

/// Bytes that the peer did not send like this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame failed its authentication")]
pub struct Tampered;

/// HKDF-SHA-256 with an empty info: 64 bytes in two halves.
pub(super) fn hkdf(salt: &[u8; 32], input: &[u8]) -> (Zeroizing<[u8; 32]>, Zeroizing<[u8; 32]>) {
    let (mut first, mut second) = (Zeroizing::new([0; 32]), Zeroizing::new([0; 32]));
    let mut both = Zeroizing::new([0; 64]);
    Hkdf::<Sha256>::new(Some(salt), input).expand(&[], &mut both[..]).expect("64 bytes are two blocks of 255");
    first.copy_from_slice(&both[..32]);
    second.copy_from_slice(&both[32..]);
    (first, second)
}

/// 32 zero bits, then the number in little-endian order: Noise's way, not Lightning's.
fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&number.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

fn cipher(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).expect("the cipher's keys have 32 bytes"))
}

/// Encrypts `bytes` and appends the tag.
pub(super) fn seal(key: &[u8; 32], number: u64, associated: &[u8], bytes: &mut Vec<u8>) {
    cipher(key).seal_in_place_append_tag(nonce(number), Aad::from(associated), bytes).expect("the input is short");
}

/// What was encrypted, if the tag is right.
pub(super) fn open(key: &[u8; 32], number: u64, associated: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = sealed.to_vec();
    let opened = cipher(key).open_in_place(nonce(number), Aad::from(associated), &mut bytes).ok()?.len();
    bytes.truncate(opened);
    Some(bytes)
}

/// The ciphers of one connection.
pub struct Transport {
    /// For what we send.
    pub encryptor: Encryptor,
    /// For what the peer sends.
    pub decryptor: Decryptor,
}

impl Transport {
    pub(super) fn new(
        chaining_key: &[u8; 32],
        sending: Zeroizing<[u8; 32]>,
        receiving: Zeroizing<[u8; 32]>,
    ) -> Transport {
        let direction = |key: Zeroizing<[u8; 32]>| Rotating::new(Zeroizing::new(*chaining_key), key);
        Transport { encryptor: Encryptor(direction(sending)), decryptor: Decryptor(direction(receiving)) }
    }
}

/// A key, how often it was used, and what the next one comes from.
struct Rotating {
    cipher: LessSafeKey,
    key: Zeroizing<[u8; 32]>,
    chaining_key: Zeroizing<[u8; 32]>,
    used: u64,
}

impl Rotating {
    fn new(chaining_key: Zeroizing<[u8; 32]>, key: Zeroizing<[u8; 32]>) -> Rotating {
        Rotating { cipher: cipher(&key), key, chaining_key, used: 0 }
    }

    /// Counts one use; gives its nonce. The key that is replaced is gone for good.
    fn next_nonce(&mut self) -> Nonce {
        if self.used == ROTATION {
            let (chaining_key, key) = hkdf(&self.chaining_key, &self.key[..]);
            *self = Rotating::new(chaining_key, key);
        }
        self.used += 1;
        nonce(self.used - 1)
    }
}

/// Makes frames.
pub struct Encryptor(Rotating);

impl Encryptor {
    /// Appends the frame of a message to `out`; nothing else is allocated.
    ///
    /// # Panics
    /// Above 65,535 bytes, which no message has.
    pub fn seal(&mut self, message: &[u8], out: &mut Vec<u8>) {
        let length = u16::try_from(message.len()).expect("a message has at most 65,535 bytes");
        self.append(&length.to_be_bytes(), out);
        self.append(message, out);
    }

    fn append(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        let at = out.len();
        out.extend_from_slice(plain);
        let nonce = self.0.next_nonce();
        let sealed = self.0.cipher.seal_in_place_separate_tag(nonce, Aad::empty(), &mut out[at..]);
        out.extend_from_slice(sealed.expect("a message is far shorter than the cipher's limit").as_ref());
    }
}

/// Reads frames, in place.
pub struct Decryptor(Rotating);

impl Decryptor {
    /// How long the message is that follows these 18 bytes.
    pub fn open_length(&mut self, header: &mut [u8]) -> Result<u16, Tampered> {
        let opened = self.open(header)?;
        opened.try_into().map(u16::from_be_bytes).map_err(|_| Tampered)
    }

    /// The message whose ciphertext and tag these are.
    pub fn open<'a>(&mut self, sealed: &'a mut [u8]) -> Result<&'a [u8], Tampered> {
        let nonce = self.0.next_nonce();
        self.0.cipher.open_in_place(nonce, Aad::empty(), sealed).map(|opened| &*opened).map_err(|_| Tampered)
    }
}
