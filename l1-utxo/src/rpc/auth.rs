//! Who may call: the cookie file of Bitcoin Core's form, and a user with a password if the owner set one.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bitcoin::hashes::{Hash, HashEngine, Hmac, HmacEngine, sha256};
use serde_json::Value;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::{Salted, Whitelist};

const COOKIE_USER: &str = "__cookie__";

/// The credentials that are accepted, as hashes: comparison takes the same time whatever is offered.
pub struct Auth {
    accepted: Vec<[u8; 32]>,
    salted: Vec<Salted>,
    whitelist: Whitelist,
}

impl Auth {
    /// Accepts the cookie and, if given, `user:password`.
    pub fn new(cookie: &Cookie, user_and_password: Option<(&str, &str)>) -> Self {
        let mut accepted = vec![digest(cookie.credential.as_bytes())];
        accepted.extend(user_and_password.map(|(user, password)| digest(format!("{user}:{password}").as_bytes())));
        Self { accepted, salted: Vec::new(), whitelist: Whitelist::default() }
    }

    /// The same, for more users, and with limits to what they may call.
    #[must_use]
    pub fn with(self, salted: Vec<Salted>, whitelist: Whitelist) -> Self {
        Self { salted, whitelist, ..self }
    }

    /// The user for whom an `Authorization` header's value opens the door.
    pub fn admits(&self, header: &str) -> Option<String> {
        let offered = STANDARD.decode(header.strip_prefix("Basic ")?.trim()).ok()?;
        let hash = digest(&offered);
        let known = self.accepted.iter().fold(subtle::Choice::from(0), |found, known| found | known.ct_eq(&hash));
        let text = String::from_utf8(offered).ok()?;
        let (user, password) = text.split_once(':')?;
        let is_one = |found, salted| found | is_password(salted, user, password);
        let salted = self.salted.iter().fold(subtle::Choice::from(0), is_one);
        bool::from(known | salted).then(|| user.to_owned())
    }

    /// Whether a user may have this body's calls carried out.
    pub fn permits(&self, user: &str, body: &[u8]) -> bool {
        let Some(methods) = self.whitelist.methods.get(user) else { return !self.whitelist.is_closed };
        let may = |request: &Value| {
            let method = request.get("method").and_then(Value::as_str);
            method.is_some_and(|method| methods.contains(method))
        };
        match serde_json::from_slice::<Value>(body) {
            Ok(Value::Array(requests)) => requests.iter().all(may),
            Ok(request @ Value::Object(_)) => may(&request),
            // What is no request is answered as such.
            _ => true,
        }
    }
}

fn is_password(known: &Salted, user: &str, password: &str) -> subtle::Choice {
    let mut engine = HmacEngine::<sha256::Hash>::new(known.salt.as_bytes());
    engine.input(password.as_bytes());
    let hash = hex::encode(Hmac::<sha256::Hash>::from_engine(engine).to_byte_array());
    known.user.as_bytes().ct_eq(user.as_bytes()) & known.hash.as_bytes().ct_eq(hash.as_bytes())
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
    use std::collections::{BTreeMap, BTreeSet};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// What Core's `rpcauth.py` makes is opened by its password, and lists are kept.
    #[test]
    fn salted_users_and_their_lists() {
        let dir = tempfile::tempdir().unwrap();
        let cookie = Cookie::create(&dir.path().join(".cookie")).unwrap();
        let mut engine = HmacEngine::<sha256::Hash>::new(b"salt");
        engine.input(b"secret:with:colons");
        let hash = hex::encode(Hmac::<sha256::Hash>::from_engine(engine).to_byte_array());
        let salted = Salted { user: "bob".into(), salt: "salt".into(), hash };
        let methods = BTreeMap::from([("bob".to_owned(), BTreeSet::from(["getblockcount".to_owned()]))]);
        let auth = Auth::new(&cookie, None).with(vec![salted], Whitelist { methods, is_closed: true });
        let header = |credential: &str| format!("Basic {}", STANDARD.encode(credential));
        assert_eq!(auth.admits(&header("bob:secret:with:colons")).as_deref(), Some("bob"));
        assert_eq!(auth.admits(&header("bob:secret")), None);
        assert_eq!(auth.admits(&header("ann:secret:with:colons")), None);
        assert!(auth.permits("bob", br#"{"method":"getblockcount"}"#));
        assert!(auth.permits("bob", br#"[{"method":"getblockcount"},{"method":"getblockcount"}]"#));
        assert!(!auth.permits("bob", br#"[{"method":"getblockcount"},{"method":"stop"}]"#));
        assert!(!auth.permits("bob", br#"{"method":"stop"}"#));
        assert!(auth.permits("bob", b"nonsense"));
        assert!(!auth.permits("__cookie__", br#"{"method":"getblockcount"}"#));
    }

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
        assert_eq!(auth.admits(&header(&text)).as_deref(), Some("__cookie__"));
        assert_eq!(auth.admits(&header("ann:secret")).as_deref(), Some("ann"));
        for wrong in [header("ann:wrong"), header(""), text, "Basic ***".into()] {
            assert_eq!(auth.admits(&wrong), None, "{wrong}");
        }
        drop(cookie);
        assert!(!path.exists());
    }
}
