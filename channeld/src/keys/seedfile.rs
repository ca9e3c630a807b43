//! The words encrypted at rest. Bytes in, bytes out: the daemon reads and writes the file.
//!
//! Layout, all in the clear but the last part, all authenticated:
//! magic (8) | version (1) | key source (1) | argon2 memory KiB (4) | passes (4) | lanes (4) | salt (16) | nonce (12) |
//! ChaCha20-Poly1305 of the 32 bytes of entropy (48).

use argon2::{Algorithm, Argon2, Params, Version};
use hkdf::Hkdf;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::Words;

const MAGIC: &[u8; 8] = b"channeld";
const VERSION: u8 = 1;
const HEADER: usize = 8 + 1 + 1 + 12 + 16 + 12;
const LENGTH: usize = HEADER + 32 + 16;

/// What argon2id may cost for a file that we did not write: 1 GiB, 16 passes, 16 lanes.
const MOST_MEMORY_KIB: u32 = 1 << 20;
const MOST_PASSES: u32 = 16;
const MOST_LANES: u32 = 16;

/// What opens the seed file.
#[derive(Clone, Copy)]
pub enum Lock<'a> {
    /// A passphrase a person remembers: stretched by argon2id.
    Passphrase(&'a str),
    /// The bytes of a key file, at least 32 of them, random: used as they are (HKDF).
    KeyFile(&'a [u8]),
}

/// What argon2id costs when a file is written; the file tells the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretching {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Stretching {
    /// The second recommended choice of RFC 9106: 64 MiB, 3 passes, 4 lanes.
    pub const RECOMMENDED: Stretching = Stretching { memory_kib: 64 * 1024, passes: 3, lanes: 4 };
}

/// Why a seed file cannot be opened or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeedfileError {
    /// Not a seed file, or cut off.
    #[error("not a seed file")]
    NotASeedfile,
    /// Written by a newer program.
    #[error("seed file version {0} is not known to this program")]
    UnknownVersion(u8),
    /// The file wants a passphrase and a key file was given, or the other way round.
    #[error("the seed file is locked by {}, not by what was given", if *.passphrase { "a passphrase" } else { "a key file" })]
    OtherLock {
        /// Whether a passphrase is what it wants.
        passphrase: bool,
    },
    /// The file asks for more memory or time than any that we write.
    #[error("the seed file asks for unreasonable argon2 parameters")]
    Stretching,
    /// The key file has fewer than 32 bytes.
    #[error("the key file has {0} bytes, at least 32 are needed")]
    KeyFileTooShort(usize),
    /// Wrong passphrase or key file, or a byte of the file was changed: nobody can tell these apart.
    #[error("wrong passphrase or key file, or the seed file is damaged")]
    WrongKey,
}

/// Encrypts the words. `entropy` is 32 random bytes for salt and nonce, never used for anything else.
///
/// # Errors
/// [`SeedfileError::KeyFileTooShort`], [`SeedfileError::Stretching`]
pub fn encrypt(
    words: &Words,
    lock: Lock<'_>,
    stretching: Stretching,
    entropy: &[u8; 32],
) -> Result<Vec<u8>, SeedfileError> {
    let (salt, nonce) = (&entropy[..16], &entropy[16..28]);
    let mut file = Vec::with_capacity(LENGTH);
    file.extend_from_slice(MAGIC);
    file.push(VERSION);
    file.push(lock.tag());
    for cost in [stretching.memory_kib, stretching.passes, stretching.lanes] {
        file.extend_from_slice(&cost.to_be_bytes());
    }
    file.extend_from_slice(salt);
    file.extend_from_slice(nonce);
    let key = lock.key(stretching, salt)?;
    let mut secret = words.entropy();
    let tag = key
        .seal_in_place_separate_tag(nonce_of(nonce), Aad::from(&file), secret.as_mut())
        .expect("32 bytes are within the cipher's limit");
    file.extend_from_slice(secret.as_ref());
    file.extend_from_slice(tag.as_ref());
    Ok(file)
}

/// Decrypts what [`encrypt`] wrote.
///
/// # Errors
/// [`SeedfileError`]; a wrong passphrase is [`SeedfileError::WrongKey`].
pub fn decrypt(file: &[u8], lock: Lock<'_>) -> Result<Words, SeedfileError> {
    if file.len() < HEADER || &file[..8] != MAGIC {
        return Err(SeedfileError::NotASeedfile);
    }
    if file[8] != VERSION {
        return Err(SeedfileError::UnknownVersion(file[8]));
    }
    if file.len() != LENGTH || file[9] > 1 {
        return Err(SeedfileError::NotASeedfile);
    }
    if file[9] != lock.tag() {
        return Err(SeedfileError::OtherLock { passphrase: file[9] == 0 });
    }
    let number = |at: usize| u32::from_be_bytes([file[at], file[at + 1], file[at + 2], file[at + 3]]);
    let stretching = Stretching { memory_kib: number(10), passes: number(14), lanes: number(18) };
    let (header, sealed) = file.split_at(HEADER);
    let key = lock.key(stretching, &header[22..38])?;
    let mut sealed = Zeroizing::new(sealed.to_vec());
    let opened = key
        .open_in_place(nonce_of(&header[38..50]), Aad::from(header), sealed.as_mut_slice())
        .map_err(|_| SeedfileError::WrongKey)?;
    let mut entropy = Zeroizing::new([0; 32]);
    entropy.copy_from_slice(opened);
    Ok(Words::from_entropy(&entropy))
}

/// Whether the file wants a passphrase (`Some(true)`) or a key file (`Some(false)`); `None` where it is no seed file.
pub fn wants_passphrase(file: &[u8]) -> Option<bool> {
    (file.len() == LENGTH && &file[..8] == MAGIC && file[9] <= 1).then(|| file[9] == 0)
}

impl Lock<'_> {
    const fn tag(&self) -> u8 {
        match self {
            Lock::Passphrase(_) => 0,
            Lock::KeyFile(_) => 1,
        }
    }

    fn key(&self, stretching: Stretching, salt: &[u8]) -> Result<LessSafeKey, SeedfileError> {
        let mut key = Zeroizing::new([0; 32]);
        match self {
            Lock::Passphrase(passphrase) => stretch(passphrase, stretching, salt, &mut key)?,
            Lock::KeyFile(bytes) if bytes.len() < 32 => return Err(SeedfileError::KeyFileTooShort(bytes.len())),
            Lock::KeyFile(bytes) => Hkdf::<Sha256>::new(Some(salt), bytes)
                .expand(b"channeld seed file", key.as_mut())
                .expect("32 bytes are less than HKDF's 8,160"),
        }
        Ok(LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key.as_ref()).expect("the key has 32 bytes")))
    }
}

fn stretch(
    passphrase: &str,
    stretching: Stretching,
    salt: &[u8],
    key: &mut Zeroizing<[u8; 32]>,
) -> Result<(), SeedfileError> {
    let Stretching { memory_kib, passes, lanes } = stretching;
    if memory_kib > MOST_MEMORY_KIB || passes > MOST_PASSES || lanes > MOST_LANES {
        return Err(SeedfileError::Stretching);
    }
    let parameters = Params::new(memory_kib, passes, lanes, Some(32)).map_err(|_| SeedfileError::Stretching)?;
    Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters)
        .hash_password_into(passphrase.as_bytes(), salt, key.as_mut())
        .map_err(|_| SeedfileError::Stretching)
}

fn nonce_of(bytes: &[u8]) -> Nonce {
    Nonce::try_assume_unique_for_key(bytes).expect("12 bytes of the layout")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Stretching = Stretching { memory_kib: 64, passes: 1, lanes: 1 };

    fn words() -> Words {
        Words::from_entropy(&[0x5a; 32])
    }

    #[test]
    fn a_passphrase_opens_what_it_locked() {
        let file = encrypt(&words(), Lock::Passphrase("correct horse"), CHEAP, &[1; 32]).expect("written");
        assert_eq!(file.len(), LENGTH);
        assert_eq!(wants_passphrase(&file), Some(true));
        let opened = decrypt(&file, Lock::Passphrase("correct horse")).expect("opened");
        assert_eq!(opened.text().as_str(), words().text().as_str());
        assert_eq!(decrypt(&file, Lock::Passphrase("wrong")).err(), Some(SeedfileError::WrongKey));
        let other = SeedfileError::OtherLock { passphrase: true };
        assert_eq!(decrypt(&file, Lock::KeyFile(&[0; 32])).err(), Some(other));
    }

    #[test]
    fn a_key_file_opens_what_it_locked() {
        let file = encrypt(&words(), Lock::KeyFile(&[9; 64]), CHEAP, &[1; 32]).expect("written");
        assert!(decrypt(&file, Lock::KeyFile(&[9; 64])).is_ok());
        assert_eq!(decrypt(&file, Lock::KeyFile(&[8; 64])).err(), Some(SeedfileError::WrongKey));
        assert_eq!(decrypt(&file, Lock::KeyFile(&[8; 31])).err(), Some(SeedfileError::KeyFileTooShort(31)));
        let other = SeedfileError::OtherLock { passphrase: false };
        assert_eq!(decrypt(&file, Lock::Passphrase("x")).err(), Some(other));
    }

    #[test]
    fn no_changed_byte_and_no_cut_is_accepted() {
        let lock = Lock::KeyFile(&[9; 32]);
        let file = encrypt(&words(), lock, CHEAP, &[2; 32]).expect("written");
        for at in 0..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 0x40;
            assert!(decrypt(&changed, lock).is_err(), "byte {at}");
            assert!(decrypt(&file[..at], lock).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn unreasonable_costs_are_refused() {
        let mut file = encrypt(&words(), Lock::Passphrase("x"), CHEAP, &[3; 32]).expect("written");
        file[10] = 0xff;
        assert_eq!(decrypt(&file, Lock::Passphrase("x")).err(), Some(SeedfileError::Stretching));
        file[8] = 2;
        assert_eq!(decrypt(&file, Lock::Passphrase("x")).err(), Some(SeedfileError::UnknownVersion(2)));
    }
}
