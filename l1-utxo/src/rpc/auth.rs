//! Who may call: the cookie file of Bitcoin Core's form, and a user with a password if the owner set one.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

const COOKIE_USER: &str = "__cookie__";

/// The credentials that are accepted, as hashes: comparison takes the same time whatever is offered.
pub struct Auth {
    accepted: Vec<[u8; 32]>,
}

impl Auth {
    /// Accepts the cookie and, if given, `user:password`.
    pub fn new(cookie: &Cookie, user_and_password: Option<(&str, &str)>) -> Self {
        let mut accepted = vec![digest(cookie.credential.as_bytes())];
        accepted.extend(user_and_password.map(|(user, password)| digest(format!("{user}:{password}").as_bytes())));
        Self { accepted }
    }

    /// Whether an `Authorization` header's value opens the door.
    pub fn admits(&self, header: &str) -> bool {
        let Some(encoded) = header.strip_prefix("Basic ") else {
            return false;
        };
        let Ok(offered) = STANDARD.decode(encoded.trim()) else {
            return false;
        };
        let offered = digest(&offered);
        self.accepted.iter().fold(subtle::Choice::from(0), |found, known| found | known.ct_eq(&offered)).into()
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The cookie file; removed when this is dropped.
pub struct Cookie {
    path: PathBuf,
    credential: String,
}

impl Cookie {
    /// Writes a fresh cookie, readable by its owner only, in one rename: a reader never sees half of it.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut secret = [0u8; 32];
        getrandom::fill(&mut secret).map_err(|error| io::Error::other(error.to_string()))?;
        let credential = format!("{COOKIE_USER}:{}", hex::encode(secret));
        let draft = path.with_extension("tmp");
        if let Err(error) = std::fs::remove_file(&draft)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(credential.as_bytes())?;
        std::fs::rename(&draft, path)?;
        Ok(Self { path: path.to_owned(), credential })
    }
}

impl Drop for Cookie {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the cookie file could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_the_cookie_and_the_password_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".cookie");
        let cookie = Cookie::create(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("__cookie__:") && text.len() == 11 + 64);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let auth = Auth::new(&cookie, Some(("ann", "secret")));
        let header = |credential: &str| format!("Basic {}", STANDARD.encode(credential));
        assert!(auth.admits(&header(&text)));
        assert!(auth.admits(&header("ann:secret")));
        assert!(!auth.admits(&header("ann:wrong")));
        assert!(!auth.admits(&header("")));
        assert!(!auth.admits(&text));
        assert!(!auth.admits("Basic ***"));
        drop(cookie);
        assert!(!path.exists());
    }
}
