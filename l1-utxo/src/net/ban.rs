//! Who may not connect: addresses and networks that our user banned, kept in `banlist.json`, and, in memory only, the
//! addresses of peers that broke the protocol. Bitcoin Core: `banman.cpp`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::sync::NodeHost;

/// The file in the network's folder.
const FILE: &str = "banlist.json";
/// Addresses of misbehaving peers that are remembered.
const MAX_DISCOURAGED: usize = 50_000;
/// Seconds for which a ban holds if nothing else is said.
pub const DEFAULT_BAN: i64 = 24 * 3_600;

/// An address or all addresses that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subnet {
    host: NodeHost,
    prefix: u8,
}

/// The text is no address and no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Error: Invalid IP/Subnet")]
pub struct InvalidSubnet;

const fn width(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn masked(ip: IpAddr, prefix: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            Ipv4Addr::from_bits(ip.to_bits() & mask).into()
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            Ipv6Addr::from_bits(ip.to_bits() & mask).into()
        }
    }
}

impl Subnet {
    /// One address.
    pub fn single(ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        Self { host: ip.into(), prefix: width(ip) }
    }

    /// Whether the address is in it.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let NodeHost::Ip(start) = self.host else { return false };
        ip.is_ipv4() == start.is_ipv4() && masked(ip, self.prefix) == start
    }

    /// The address, if it is only one.
    fn address(&self) -> Option<IpAddr> {
        match self.host {
            NodeHost::Ip(ip) if self.prefix == width(ip) => Some(ip),
            _ => None,
        }
    }
}

impl FromStr for Subnet {
    type Err = InvalidSubnet;

    /// `1.2.3.4`, `1.2.3.0/24`, `1.2.3.0/255.255.255.0`, `fe80::/10`, and names of Tor and I2P.
    fn from_str(text: &str) -> Result<Self, InvalidSubnet> {
        let (ip, mask) = text.split_once('/').map_or((text, None), |(ip, mask)| (ip, Some(mask)));
        let ip = match (ip.parse::<NodeHost>().map_err(|_| InvalidSubnet)?, mask) {
            (NodeHost::Ip(ip), _) => ip.to_canonical(),
            (host, None) => return Ok(Self { host, prefix: 0 }),
            _ => return Err(InvalidSubnet),
        };
        let Some(mask) = mask else { return Ok(Self::single(ip)) };
        let prefix = match (mask.parse::<u8>(), mask.parse::<Ipv4Addr>()) {
            (Ok(prefix), _) => prefix,
            (_, Ok(mask)) if ip.is_ipv4() => {
                let ones = mask.to_bits().leading_ones();
                if ones + mask.to_bits().trailing_zeros().min(32 - ones) != 32 {
                    return Err(InvalidSubnet);
                }
                u8::try_from(ones).map_err(|_| InvalidSubnet)?
            }
            _ => return Err(InvalidSubnet),
        };
        if prefix > width(ip) {
            return Err(InvalidSubnet);
        }
        Ok(Self { host: masked(ip, prefix).into(), prefix })
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host {
            NodeHost::Ip(ip) => write!(f, "{ip}/{}", self.prefix),
            host => write!(f, "{host}"),
        }
    }
}

/// One ban, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ban {
    /// When it was made.
    pub created: i64,
    /// When it ends.
    pub until: i64,
}

#[derive(Serialize, Deserialize)]
struct Line {
    version: u32,
    ban_created: i64,
    banned_until: i64,
    address: String,
}

#[derive(Serialize, Deserialize)]
struct Content {
    banned_nets: Vec<Line>,
}

/// All bans.
#[derive(Debug)]
pub struct Bans {
    path: PathBuf,
    bans: BTreeMap<Subnet, Ban>,
    discouraged: BTreeSet<IpAddr>,
    discouraged_order: VecDeque<IpAddr>,
}

impl Bans {
    /// Reads what the last run left. A file that cannot be read counts as none: better to speak with too many.
    pub fn load(dir: &Path) -> Self {
        let path = dir.join(FILE);
        let bans = match read(&path) {
            Ok(bans) => bans,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the list of bans cannot be read");
                BTreeMap::new()
            }
        };
        let is_there = path.exists();
        let bans = Self { path, bans, discouraged: BTreeSet::new(), discouraged_order: VecDeque::new() };
        // Whoever looks finds where bans are kept, even if there are none.
        if !is_there && let Err(error) = bans.save() {
            tracing::warn!(path = %bans.path.display(), %error, "the list of bans cannot be written");
        }
        bans
    }

    /// Whether the address is banned now.
    pub fn is_banned(&self, ip: IpAddr, now: i64) -> bool {
        self.bans.iter().any(|(subnet, ban)| ban.until > now && subnet.contains(ip))
    }

    /// Whether it was banned: a network exactly so, an address with any network that it is in.
    pub fn contains(&self, subnet: &Subnet, now: i64) -> bool {
        let is_covered = || subnet.address().is_some_and(|ip| self.is_banned(ip, now));
        self.bans.get(subnet).is_some_and(|ban| ban.until > now) || is_covered()
    }

    /// Bans; a ban that holds longer already stays.
    pub fn add(&mut self, subnet: Subnet, ban: Ban) -> io::Result<()> {
        if self.bans.get(&subnet).is_some_and(|old| old.until >= ban.until) {
            return Ok(());
        }
        self.bans.insert(subnet, ban);
        self.save()
    }

    /// Takes a ban back; whether there was one.
    pub fn remove(&mut self, subnet: &Subnet) -> io::Result<bool> {
        let was_there = self.bans.remove(subnet).is_some();
        self.save()?;
        Ok(was_there)
    }

    /// Takes all bans back.
    pub fn clear(&mut self) -> io::Result<()> {
        self.bans.clear();
        self.save()
    }

    /// The bans that hold.
    pub fn list(&mut self, now: i64) -> Vec<(Subnet, Ban)> {
        self.bans.retain(|_, ban| ban.until > now);
        self.bans.iter().map(|(subnet, ban)| (*subnet, *ban)).collect()
    }

    /// Remembers the address of a peer that broke the protocol.
    pub fn discourage(&mut self, ip: IpAddr) {
        if self.discouraged.insert(ip) {
            self.discouraged_order.push_back(ip);
        }
        if self.discouraged_order.len() > MAX_DISCOURAGED
            && let Some(oldest) = self.discouraged_order.pop_front()
        {
            self.discouraged.remove(&oldest);
        }
    }

    /// Whether the address is one of those.
    pub fn is_discouraged(&self, ip: IpAddr) -> bool {
        self.discouraged.contains(&ip)
    }

    fn save(&self) -> io::Result<()> {
        let line = |(subnet, ban): (&Subnet, &Ban)| Line {
            version: 1,
            ban_created: ban.created,
            banned_until: ban.until,
            address: subnet.to_string(),
        };
        let content = Content { banned_nets: self.bans.iter().map(line).collect() };
        let draft = self.path.with_extension("json.new");
        std::fs::write(&draft, serde_json::to_vec_pretty(&content)?)?;
        std::fs::File::open(&draft)?.sync_all()?;
        std::fs::rename(&draft, &self.path)
    }
}

fn read(path: &Path) -> io::Result<BTreeMap<Subnet, Ban>> {
    let content: Content = serde_json::from_slice(&std::fs::read(path)?)?;
    let ban = |line: Line| {
        let subnet = line.address.parse().ok()?;
        Some((subnet, Ban { created: line.ban_created, until: line.banned_until }))
    };
    Ok(content.banned_nets.into_iter().filter_map(ban).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_are_read_as_core_reads_them() {
        let table = [
            ("127.0.0.1", Some("127.0.0.1/32")),
            ("127.0.0.0/24", Some("127.0.0.0/24")),
            ("192.168.7.9/255.255.0.0", Some("192.168.0.0/16")),
            ("1.2.3.4/0", Some("0.0.0.0/0")),
            ("fe80::1/10", Some("fe80::/10")),
            (
                "pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd.onion",
                Some("pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd.onion"),
            ),
            ("pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd.onion/8", None),
            ("1.2.3.4/33", None),
            ("1.2.3.4/255.0.255.0", None),
            ("example.org", None),
            ("", None),
        ];
        for (text, wanted) in table {
            let read = text.parse::<Subnet>().ok().map(|subnet| subnet.to_string());
            assert_eq!(read.as_deref(), wanted, "{text}");
        }
        let subnet: Subnet = "10.1.0.0/16".parse().unwrap();
        assert!(subnet.contains("10.1.200.3".parse().unwrap()) && !subnet.contains("10.2.0.1".parse().unwrap()));
        assert!(subnet.contains("::ffff:10.1.2.3".parse().unwrap()));
    }

    #[test]
    fn bans_outlive_the_process_and_end() {
        let dir = tempfile::tempdir().unwrap();
        let mut bans = Bans::load(dir.path());
        let (one, two): (Subnet, Subnet) = ("1.2.3.4".parse().unwrap(), "5.0.0.0/8".parse().unwrap());
        bans.add(one, Ban { created: 1, until: 100 }).unwrap();
        bans.add(two, Ban { created: 1, until: 50 }).unwrap();
        bans.add(one, Ban { created: 2, until: 60 }).unwrap();
        let mut bans = Bans::load(dir.path());
        assert!(bans.is_banned("1.2.3.4".parse().unwrap(), 99) && !bans.is_banned("1.2.3.4".parse().unwrap(), 100));
        assert!(bans.is_banned("5.6.7.8".parse().unwrap(), 49));
        // An address that is in a banned network is banned, a smaller network is not.
        assert!(bans.contains(&"5.6.7.8".parse().unwrap(), 49) && !bans.contains(&"5.6.0.0/16".parse().unwrap(), 49));
        assert_eq!(bans.list(50).len(), 1);
        assert!(bans.remove(&one).unwrap() && !bans.remove(&one).unwrap());
        assert!(Bans::load(dir.path()).list(0).is_empty());
        std::fs::remove_file(dir.path().join(FILE)).unwrap();
        Bans::load(dir.path());
        assert!(dir.path().join(FILE).exists());
    }
}
