//! Which peers our user grants more than others, by their addresses. Core: `NetWhitelistPermissions::TryParse`.

use std::net::IpAddr;
use std::str::FromStr;

use super::Subnet;
use super::ban::InvalidSubnet;
use crate::sync::{Permissions, UnknownPermission};

/// One line of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whitelisted {
    subnet: Subnet,
    /// None: those that go without saying.
    permissions: Option<Permissions>,
    is_for_inbound: bool,
    is_for_outbound: bool,
}

/// Why a line cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WhitelistError {
    /// What stands before the `@`.
    #[error(transparent)]
    Permission(#[from] UnknownPermission),
    /// In or out, and nothing else.
    #[error("Only direction was set, no permissions")]
    OnlyDirection,
    /// What stands behind it.
    #[error("expected [PERMISSIONS@]ADDRESS[/PREFIX], like noban,relay@127.0.0.1")]
    Address(#[from] InvalidSubnet),
}

impl FromStr for Whitelisted {
    type Err = WhitelistError;

    fn from_str(text: &str) -> Result<Self, WhitelistError> {
        let Some((words, address)) = text.split_once('@') else {
            let subnet = text.parse()?;
            return Ok(Self { subnet, permissions: None, is_for_inbound: true, is_for_outbound: false });
        };
        let (mut permissions, mut is_for_inbound, mut is_for_outbound) = (None, false, false);
        for word in words.split(',') {
            match word {
                "in" => is_for_inbound = true,
                "out" => is_for_outbound = true,
                word => permissions = Some(permissions.unwrap_or_default() | word.parse()?),
            }
        }
        if permissions.is_none() {
            return Err(WhitelistError::OnlyDirection);
        }
        // Without a direction: who dials us.
        is_for_inbound |= !is_for_outbound;
        Ok(Self { subnet: address.parse()?, permissions, is_for_inbound, is_for_outbound })
    }
}

/// What the list grants to an address; `implicit` where it names no grant.
pub(super) fn granted(list: &[Whitelisted], implicit: Permissions, ip: IpAddr, is_inbound: bool) -> Permissions {
    let is_meant = |line: &Whitelisted| if is_inbound { line.is_for_inbound } else { line.is_for_outbound };
    let applies = |line: &&Whitelisted| is_meant(line) && line.subnet.contains(ip);
    let lines = list.iter().filter(applies);
    lines.fold(Permissions::NONE, |all, line| all | line.permissions.unwrap_or(implicit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_hold_for_their_network_and_direction() {
        let list: Vec<Whitelisted> = ["noban,in,out@127.0.0.1", "relay,out@10.0.0.0/8", "mempool@127.0.0.0/8"]
            .map(|line| line.parse().unwrap())
            .into();
        let names = |ip: &str, is_inbound| {
            granted(&list, Permissions::NONE, ip.parse().unwrap(), is_inbound).names().collect::<Vec<_>>()
        };
        assert_eq!(names("127.0.0.1", true), ["noban", "mempool", "download"]);
        assert_eq!(names("127.0.0.1", false), ["noban", "download"]);
        assert_eq!(names("10.1.2.3", true), Vec::<&str>::new());
        assert_eq!(names("10.1.2.3", false), ["relay"]);
        let implicit: Whitelisted = "1.2.3.4".parse().unwrap();
        let all = granted(&[implicit], Permissions::IMPLICIT, "1.2.3.4".parse().unwrap(), true);
        assert_eq!(all, Permissions::IMPLICIT);
        for bad in ["oops@1.2.3.4", "in,out@1.2.3.4", "noban@here", "noban@"] {
            assert!(bad.parse::<Whitelisted>().is_err(), "{bad}");
        }
    }
}
