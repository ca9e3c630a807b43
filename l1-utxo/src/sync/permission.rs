//! What our user grants to peers of certain addresses. Core: `net_permissions.h`.

use std::ops::BitOr;
use std::str::FromStr;

/// Any number of grants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permissions(u8);

/// The word names no grant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Invalid P2P permission: '{0}'")]
pub struct UnknownPermission(pub String);

/// Each with its name, in the order in which Core tells them.
const NAMES: [(Permissions, &str); 7] = [
    (Permissions::BLOOM_FILTER, "bloomfilter"),
    (Permissions::NO_BAN, "noban"),
    (Permissions::FORCE_RELAY, "forcerelay"),
    (Permissions::RELAY, "relay"),
    (Permissions::MEMPOOL, "mempool"),
    (Permissions::DOWNLOAD, "download"),
    (Permissions::ADDRESS, "addr"),
];

impl Permissions {
    /// None.
    pub const NONE: Self = Self(0);
    /// May use bloom filters; without effect, for they are not offered.
    pub const BLOOM_FILTER: Self = Self(1 << 1);
    /// May have transactions relayed where others may not, and more of them at a time.
    pub const RELAY: Self = Self(1 << 3);
    /// Has its transactions relayed even if we knew them.
    pub const FORCE_RELAY: Self = Self(1 << 2 | Self::RELAY.0);
    /// May ask what the mempool holds.
    pub const MEMPOOL: Self = Self(1 << 5);
    /// May have headers and blocks whatever our own state.
    pub const DOWNLOAD: Self = Self(1 << 6);
    /// Is never sent away, and hears of transactions at once.
    pub const NO_BAN: Self = Self(1 << 4 | Self::DOWNLOAD.0);
    /// May tell as many addresses as it likes.
    pub const ADDRESS: Self = Self(1 << 7);
    /// Where our user names an address and no grant; relay comes on top unless he switched it off.
    pub const IMPLICIT: Self = Self(Self::NO_BAN.0 | Self::MEMPOOL.0);

    /// Whether all of these are granted.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The names of the grants.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.into_iter().filter(move |(one, _)| self.has(*one)).map(|(_, name)| name)
    }
}

impl BitOr for Permissions {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl FromStr for Permissions {
    type Err = UnknownPermission;

    fn from_str(name: &str) -> Result<Self, UnknownPermission> {
        match name {
            "" => Ok(Self::NONE),
            "all" => Ok(NAMES.into_iter().fold(Self::NONE, |all, (one, _)| all | one)),
            "bloom" => Ok(Self::BLOOM_FILTER),
            _ => {
                let known = NAMES.into_iter().find(|(_, known)| *known == name);
                known.map(|(one, _)| one).ok_or_else(|| UnknownPermission(name.to_owned()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_bring_others_with_them() {
        let noban: Permissions = "noban".parse().unwrap();
        assert_eq!(noban.names().collect::<Vec<_>>(), ["noban", "download"]);
        let force: Permissions = "forcerelay".parse().unwrap();
        assert!(force.has(Permissions::RELAY) && !Permissions::RELAY.has(force));
        assert_eq!("all".parse::<Permissions>().unwrap().names().count(), 7);
        assert_eq!("everything".parse::<Permissions>(), Err(UnknownPermission("everything".into())));
        assert_eq!(Permissions::NONE.names().count(), 0);
    }
}
