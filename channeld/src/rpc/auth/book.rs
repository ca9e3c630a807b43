//! The tokens that the owner made: one file beside the certificate, written whole or not at all. It holds hashes only.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::scope::Scope;
use crate::node::command::RequestKey;

/// The file's name in the network's folder.
pub const FILE: &str = "tokens.json";
/// Tokens that there may be, those that are over included.
pub const MOST_TOKENS: usize = 1_000;
/// How long a token that is over stays in the list, in seconds: who still shows it learns what became of it.
const KEEP_SECONDS: u64 = 90 * 86_400;
/// How long a repeated `RevokeToken` is answered from the first, in seconds.
const KEEP_REQUESTS_SECONDS: u64 = 86_400;

/// A token that the owner made. The token itself is nowhere: whoever was given it has it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Counts up from 1.
    pub index: u64,
    /// Names it: 16 hex digits.
    pub id: String,
    /// The owner's word for it.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// What it may do besides: `channeld.v1.PaymentService/SendPayment`.
    pub methods: Vec<String>,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// From when on it is not taken any more.
    pub expires: Option<u64>,
    /// When it was revoked.
    pub revoked: Option<u64>,
    /// SHA-256 of the token's text.
    hash: String,
    /// What the token was made from, together with the admin token: a repeated request gets the same one.
    salt: String,
    /// The request that made it.
    request: Option<Request>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Request {
    id: String,
    body: String,
}

impl Request {
    fn new(key: &RequestKey) -> Request {
        Request { id: key.id.clone(), body: hex::encode(key.body) }
    }
}

impl Token {
    /// When it ended, at `now`: revoked or expired, whichever came first.
    pub fn ended(&self, now: u64) -> Option<u64> {
        let expired = self.expires.filter(|expires| *expires <= now);
        [self.revoked, expired].into_iter().flatten().min()
    }

    /// Whether it is for this method, given as the path of its HTTP request.
    pub fn covers(&self, path: &str) -> bool {
        let named = |method: &String| path.strip_prefix('/') == Some(method.as_str());
        self.scopes.iter().any(|scope| scope.covers(path)) || self.methods.iter().any(named)
    }

    /// Whether this is the token whose text has that hash, in constant time.
    pub fn has_hash(&self, hash: &str) -> bool {
        self.hash.as_bytes().ct_eq(hash.as_bytes()).into()
    }
}

/// What a new token is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewToken {
    /// The owner's word for it.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// What it may do besides.
    pub methods: Vec<String>,
    /// From when on it is not taken any more.
    pub expires: Option<u64>,
}

/// Why a token was not made or revoked.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// As many as there may be.
    #[error("there are {MOST_TOKENS} tokens already")]
    Full,
    /// There is none of that name.
    #[error("no token {0}")]
    NotFound(String),
    /// The `request_id` came with another body before.
    #[error("request_id was used for another request")]
    IdempotencyMismatch,
    /// The file.
    #[error("{FILE}: {0}")]
    Io(#[from] io::Error),
}

/// The file and what it holds.
pub struct Book {
    path: PathBuf,
    content: Content,
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Content {
    newest_index: u64,
    tokens: Vec<Token>,
    revocations: Vec<Revocation>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Revocation {
    request: Request,
    token_id: String,
    at: u64,
}

impl Book {
    /// Reads the file of the folder; there is none before the first token.
    ///
    /// # Errors
    /// As the file system has it, or where the file is no book.
    pub fn open(folder: &Path) -> io::Result<Book> {
        let path = folder.join(FILE);
        let content = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display())))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Content::default(),
            Err(error) => return Err(error),
        };
        Ok(Book { path, content })
    }

    /// All tokens, the oldest first; those that have long been over are not there any more.
    pub fn tokens(&self) -> &[Token] {
        &self.content.tokens
    }

    /// Makes a token. `root` is what only this daemon has: with it and `salt` the token can be made again for the same
    /// request, though it is written nowhere.
    ///
    /// # Errors
    /// [`BookError`]; nothing changed.
    pub fn create(
        &mut self,
        new: NewToken,
        key: Option<&RequestKey>,
        (root, salt): (&str, [u8; 32]),
        now: u64,
    ) -> Result<(Token, Zeroizing<String>), BookError> {
        if let Some(key) = key {
            let same = |token: &&Token| token.request.as_ref().is_some_and(|request| request.id == key.id);
            match self.content.tokens.iter().find(same) {
                Some(token) if token.request != Some(Request::new(key)) => return Err(BookError::IdempotencyMismatch),
                Some(token) => return Ok((token.clone(), secret(root, &token.salt))),
                None if self.revocation(&key.id).is_some() => return Err(BookError::IdempotencyMismatch),
                None => {}
            }
        }
        let mut content = self.content.clone();
        content.tokens.retain(|token| token.ended(now).is_none_or(|ended| ended + KEEP_SECONDS > now));
        if content.tokens.len() >= MOST_TOKENS {
            return Err(BookError::Full);
        }
        let salt = hex::encode(salt);
        let text = secret(root, &salt);
        content.newest_index += 1;
        let token = Token {
            index: content.newest_index,
            id: hash(&salt)[..16].to_owned(),
            name: new.name,
            scopes: new.scopes,
            methods: new.methods,
            created: now,
            expires: new.expires,
            revoked: None,
            hash: hash(&text),
            salt,
            request: key.map(Request::new),
        };
        content.tokens.push(token.clone());
        self.write(content)?;
        Ok((token, text))
    }

    /// From now on the token is not taken any more. One that is over stays as it is.
    ///
    /// # Errors
    /// [`BookError`]; nothing changed.
    pub fn revoke(&mut self, id: &str, key: Option<&RequestKey>, now: u64) -> Result<Token, BookError> {
        if let Some(key) = key {
            let made = self.content.tokens.iter().filter_map(|token| token.request.as_ref());
            let is_mismatch = self.revocation(&key.id).is_some_and(|before| before.request != Request::new(key));
            if is_mismatch || made.into_iter().any(|request| request.id == key.id) {
                return Err(BookError::IdempotencyMismatch);
            }
        }
        let mut content = self.content.clone();
        let found = content.tokens.iter_mut().find(|token| token.id == id);
        let token = found.ok_or_else(|| BookError::NotFound(id.to_owned()))?;
        if token.ended(now).is_none() {
            token.revoked = Some(now);
        }
        let token = token.clone();
        content.revocations.retain(|before| before.at + KEEP_REQUESTS_SECONDS > now);
        if let Some(key) = key.filter(|key| self.revocation(&key.id).is_none()) {
            // As many as there are tokens: each is revoked once.
            if content.revocations.len() >= MOST_TOKENS {
                return Err(BookError::Full);
            }
            content.revocations.push(Revocation { request: Request::new(key), token_id: id.to_owned(), at: now });
        }
        self.write(content)?;
        Ok(token)
    }

    fn revocation(&self, request_id: &str) -> Option<&Revocation> {
        self.content.revocations.iter().find(|before| before.request.id == request_id)
    }

    /// The file first, then what is in memory: what was answered survives a crash.
    fn write(&mut self, content: Content) -> io::Result<()> {
        let bytes = serde_json::to_vec_pretty(&content)?;
        replace(&self.path, &bytes, 0o600)?;
        self.content = content;
        Ok(())
    }
}

/// Writes a file whole or not at all, durably.
///
/// # Errors
/// As the file system has it.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let unfinished = path.with_extension("unfinished");
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    let folder = path.parent().unwrap_or(path);
    File::open(folder)?.sync_all()
}

/// What is kept of a token.
pub fn hash(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

fn secret(root: &str, salt: &str) -> Zeroizing<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(root.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(b"channeld token");
    mac.update(salt.as_bytes());
    Zeroizing::new(hex::encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn new(name: &str) -> NewToken {
        NewToken { name: name.into(), scopes: vec![Scope::Pay], methods: Vec::new(), expires: Some(NOW + 100) }
    }

    fn key(id: &str, body: u8) -> RequestKey {
        RequestKey { id: id.into(), body: [body; 32] }
    }

    #[test]
    fn a_token_is_kept_as_its_hash_and_found_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let mut book = Book::open(folder.path()).unwrap();
        let (token, text) = book.create(new("till"), None, ("root", [1; 32]), NOW).unwrap();
        let file = fs::read_to_string(folder.path().join(FILE)).unwrap();
        assert!(!file.contains(text.as_str()) && file.contains(&token.hash));
        let book = Book::open(folder.path()).unwrap();
        assert!(book.tokens().iter().any(|known| known.has_hash(&hash(&text))));
        assert!(!book.tokens().iter().any(|known| known.has_hash(&hash("root"))));
    }

    #[test]
    fn the_same_request_gets_the_same_token() {
        let folder = tempfile::tempdir().unwrap();
        let mut book = Book::open(folder.path()).unwrap();
        let first = book.create(new("till"), Some(&key("a", 1)), ("root", [1; 32]), NOW).unwrap();
        let again = book.create(new("till"), Some(&key("a", 1)), ("root", [2; 32]), NOW).unwrap();
        assert!(first == again && book.tokens().len() == 1);
        let other = book.create(new("till"), Some(&key("a", 2)), ("root", [3; 32]), NOW);
        assert!(matches!(other, Err(BookError::IdempotencyMismatch)));
        let id = first.0.id.clone();
        assert!(matches!(book.revoke(&id, Some(&key("a", 1)), NOW), Err(BookError::IdempotencyMismatch)));
        let revoked = book.revoke(&id, Some(&key("b", 1)), NOW).unwrap();
        assert!(book.revoke(&id, Some(&key("b", 1)), NOW + 1).unwrap() == revoked);
        assert!(matches!(book.revoke(&id, Some(&key("b", 2)), NOW), Err(BookError::IdempotencyMismatch)));
    }

    #[test]
    fn what_is_over_says_since_when_and_goes_in_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut book = Book::open(folder.path()).unwrap();
        let (token, _) = book.create(new("till"), None, ("root", [1; 32]), NOW).unwrap();
        assert_eq!((token.ended(NOW), token.ended(NOW + 100)), (None, Some(NOW + 100)));
        assert_eq!(book.revoke(&token.id, None, NOW + 10).unwrap().ended(NOW + 200), Some(NOW + 10));
        assert!(matches!(book.revoke("none", None, NOW), Err(BookError::NotFound(_))));
        book.create(new("next"), None, ("root", [2; 32]), NOW + 10 + KEEP_SECONDS).unwrap();
        assert_eq!(book.tokens().iter().map(|token| token.index).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn there_is_a_limit() {
        let folder = tempfile::tempdir().unwrap();
        let mut book = Book::open(folder.path()).unwrap();
        let (token, _) = book.create(new("till"), None, ("root", [1; 32]), NOW).unwrap();
        book.content.tokens = vec![token; MOST_TOKENS];
        assert!(matches!(book.create(new("one"), None, ("root", [1; 32]), NOW), Err(BookError::Full)));
    }
}
