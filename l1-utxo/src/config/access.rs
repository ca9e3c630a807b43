//! What the options say of who may call what.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;

use super::{ConfigError, Options, value, within};

/// A password. `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The password itself, for whoever compares it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A user whose password is known by a salted hash only (Core: `-rpcauth`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Salted {
    /// The user's name.
    pub user: String,
    /// What the password is mixed with.
    pub salt: String,
    /// HMAC-SHA256 of the password under the salt, in hexadecimal.
    pub hash: String,
}

/// What users may call (Core: `-rpcwhitelist`, `-rpcwhitelistdefault`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Whitelist {
    /// The methods of each user that has a list.
    pub methods: BTreeMap<String, BTreeSet<String>>,
    /// Whether others may call nothing.
    pub is_closed: bool,
}

impl Options {
    pub(super) fn rpc_users(&self) -> Result<Vec<Salted>, ConfigError> {
        self.rpc_auth.iter().map(|text| salted(text)).collect()
    }

    pub(super) fn rpc_timeout(&self) -> Result<Duration, ConfigError> {
        const DEFAULT: u64 = 30;
        let seconds = within("rpc-server-timeout", self.rpc_server_timeout, 1..=u64::from(u32::MAX))?;
        Ok(Duration::from_secs(seconds.unwrap_or(DEFAULT)))
    }

    pub(super) fn rpc_lists(&self) -> Whitelist {
        let mut lists = Whitelist {
            is_closed: self.rpc_whitelist_default.unwrap_or(!self.rpc_whitelist.is_empty()),
            ..Whitelist::default()
        };
        for text in &self.rpc_whitelist {
            let (user, listed) = text.split_once(':').unwrap_or((text, ""));
            let words = listed.split([',', ' ']).filter(|word| !word.is_empty());
            let mut methods: BTreeSet<String> = words.map(str::to_owned).collect();
            // Who is named twice may call what both lists have.
            if let Some(before) = lists.methods.get(user) {
                methods.retain(|method| before.contains(method));
            }
            lists.methods.insert(user.to_owned(), methods);
        }
        lists
    }
}

fn salted(text: &str) -> Result<Salted, ConfigError> {
    // The user alone is shown: a password may stand where the hash belongs.
    let user = text.split_once(':').map_or("", |(user, _)| user);
    let wrong = || value("rpc-auth", user, "expected USER:SALT$HASH, as Bitcoin Core's rpcauth.py prints it");
    let (user, rest) = text.split_once(':').ok_or_else(wrong)?;
    let (salt, hash) = rest.split_once('$').ok_or_else(wrong)?;
    if rest.contains(':') || hash.contains('$') {
        return Err(wrong());
    }
    Ok(Salted { user: user.to_owned(), salt: salt.to_owned(), hash: hash.to_owned() })
}
