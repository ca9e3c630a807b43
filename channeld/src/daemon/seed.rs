//! The seed on disk: made at first start, encrypted by a passphrase or by a key file beside it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::config::Config;
use crate::keys::Words;
use crate::keys::seedfile::{Lock, SeedfileError, Stretching, decrypt, encrypt};

/// The seed's file in the network's folder.
const SEED_FILE: &str = "seed";
/// The key file beside it, where no passphrase is set.
const KEY_FILE: &str = "seed.key";

/// Why there is no seed.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// A file cannot be read or written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// The operating system's words.
        source: std::io::Error,
    },
    /// The seed cannot be opened.
    #[error("{}: {source}", .path.display())]
    Seedfile {
        /// The seed's file.
        path: PathBuf,
        /// Why.
        source: SeedfileError,
    },
    /// There is a store and no seed: a new seed would be another node's.
    #[error("{} is missing, and there is a store beside it: put the seed file back", .0.display())]
    Lost(PathBuf),
    /// There is no seed yet.
    #[error("there is no seed in {} yet: start the daemon once", .0.display())]
    None(PathBuf),
    /// No randomness.
    #[error("the operating system gives no randomness")]
    Randomness,
    /// The passphrase file cannot be read.
    #[error("passphrase-file = {}: {source}", .path.display())]
    UnreadablePassphrase {
        /// The file.
        path: PathBuf,
        /// The refusal.
        source: std::io::Error,
    },
    /// The passphrase file holds no text.
    #[error("passphrase-file: empty")]
    EmptyPassphrase,
}

enum Key {
    Passphrase(Zeroizing<String>),
    File(Zeroizing<Vec<u8>>),
}

impl Key {
    fn lock(&self) -> Lock<'_> {
        match self {
            Key::Passphrase(passphrase) => Lock::Passphrase(passphrase),
            Key::File(bytes) => Lock::KeyFile(bytes),
        }
    }
}

/// The words of this node; drawn at its first start.
pub fn open(config: &Config) -> Result<Words, SeedError> {
    let folder = config.folder();
    let path = folder.join(SEED_FILE);
    if path.exists() {
        return read(config);
    }
    if folder.join("store").exists() {
        return Err(SeedError::Lost(path));
    }
    let words = Words::from_entropy(&*random()?);
    let key = key(config, true)?;
    let file = encrypt(&words, key.lock(), Stretching::RECOMMENDED, &*random()?)
        .map_err(|source| SeedError::Seedfile { path: path.clone(), source })?;
    write_new(&path, &file)?;
    tracing::info!("a seed was made: note its words (--show-words) and keep them in a safe place");
    Ok(words)
}

/// The words of this node, which must be there.
pub fn read(config: &Config) -> Result<Words, SeedError> {
    let path = config.folder().join(SEED_FILE);
    if !path.exists() {
        return Err(SeedError::None(config.folder()));
    }
    let file = fs::read(&path).map_err(|source| SeedError::Io { path: path.clone(), source })?;
    let key = key(config, false)?;
    decrypt(&file, key.lock()).map_err(|source| SeedError::Seedfile { path, source })
}

fn key(config: &Config, may_make: bool) -> Result<Key, SeedError> {
    if let Some(path) = &config.passphrase_file {
        let text = fs::read_to_string(path)
            .map_err(|source| SeedError::UnreadablePassphrase { path: path.clone(), source })?;
        let text = Zeroizing::new(text);
        let passphrase = text.trim_end_matches(['\r', '\n']);
        if passphrase.is_empty() {
            return Err(SeedError::EmptyPassphrase);
        }
        return Ok(Key::Passphrase(Zeroizing::new(passphrase.to_owned())));
    }
    let path = config.folder().join(KEY_FILE);
    if may_make && !path.exists() {
        write_new(&path, &*random()?)?;
    }
    let bytes = fs::read(&path).map_err(|source| SeedError::Io { path, source })?;
    Ok(Key::File(Zeroizing::new(bytes)))
}

fn random() -> Result<Zeroizing<[u8; 32]>, SeedError> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut()).map_err(|_| SeedError::Randomness)?;
    Ok(bytes)
}

/// Writes a file that was not there, for its owner alone, and syncs it and its folder.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), SeedError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(|source| SeedError::Io { path: path.to_owned(), source })
}
