//! Where a node is: an address of the internet, or a name in a network that hides who has it. Of the latter we only pass on
//! what we hear: nothing here connects to them. Bitcoin Core: `CNetAddr`, `CService`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use bitcoin::p2p::address::AddrV2;
use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Serialize};
use sha3::{Digest, Sha3_256};

const TOR: &str = ".onion";
const I2P: &str = ".b32.i2p";
/// The version of Tor's names that there still is.
const TOR_VERSION: u8 = 3;

/// Where a node is, without its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeHost {
    /// An address of the internet.
    Ip(IpAddr),
    /// A key by which Tor finds a service (version 3).
    Tor([u8; 32]),
    /// A hash by which I2P finds a destination.
    I2p([u8; 32]),
    /// An address of CJDNS.
    Cjdns(Ipv6Addr),
}

/// Where a node can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeAddress {
    /// The machine.
    pub host: NodeHost,
    /// 0 where the network knows no ports.
    pub port: u16,
}

/// The text names no node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an IP address, or a name that ends in .onion or .b32.i2p")]
pub struct InvalidAddress;

impl NodeHost {
    /// Core's name of the network.
    pub const fn family(&self) -> &'static str {
        match self {
            Self::Ip(ip) if ip.to_canonical().is_ipv4() => "ipv4",
            Self::Ip(_) => "ipv6",
            Self::Tor(_) => "onion",
            Self::I2p(_) => "i2p",
            Self::Cjdns(_) => "cjdns",
        }
    }

    /// The same, unless nobody outside could reach it.
    pub const fn network(&self) -> &'static str {
        if self.is_routable() { self.family() } else { "not_publicly_routable" }
    }

    /// Whether others could reach it: not private, not local (Core: `IsRoutable`).
    pub const fn is_routable(&self) -> bool {
        match self {
            Self::Ip(ip) => is_routable(*ip),
            Self::Tor(_) | Self::I2p(_) | Self::Cjdns(_) => true,
        }
    }

    /// Whether we could connect to it.
    pub const fn is_reachable(&self) -> bool {
        matches!(self, Self::Ip(_))
    }
}

impl From<IpAddr> for NodeHost {
    fn from(ip: IpAddr) -> Self {
        Self::Ip(ip)
    }
}

impl fmt::Display for NodeHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => write!(f, "{ip}"),
            Self::Cjdns(ip) => write!(f, "{ip}"),
            Self::I2p(hash) => write!(f, "{}{I2P}", BASE32_NOPAD.encode(hash).to_ascii_lowercase()),
            Self::Tor(key) => {
                let mut bytes = key.to_vec();
                bytes.extend_from_slice(&tor_checksum(key));
                bytes.push(TOR_VERSION);
                write!(f, "{}{TOR}", BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
            }
        }
    }
}

impl FromStr for NodeHost {
    type Err = InvalidAddress;

    /// An IP address, 56 letters and `.onion`, 52 letters and `.b32.i2p`.
    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let decode = |name: &str| {
            let name = name.to_ascii_uppercase();
            BASE32_NOPAD.decode(name.as_bytes()).map_err(|_| InvalidAddress)
        };
        if let Some(name) = text.strip_suffix(TOR) {
            let bytes = decode(name)?;
            let (key, rest) = bytes.split_first_chunk::<32>().ok_or(InvalidAddress)?;
            let [a, b] = tor_checksum(key);
            return if rest == [a, b, TOR_VERSION] { Ok(Self::Tor(*key)) } else { Err(InvalidAddress) };
        }
        if let Some(name) = text.strip_suffix(I2P) {
            return decode(name)?.try_into().map(Self::I2p).map_err(|_| InvalidAddress);
        }
        text.parse().map(Self::Ip).map_err(|_| InvalidAddress)
    }
}

/// Two bytes by which a mistyped name is found out.
fn tor_checksum(key: &[u8; 32]) -> [u8; 2] {
    let hash =
        Sha3_256::new().chain_update(b".onion checksum").chain_update(key).chain_update([TOR_VERSION]).finalize();
    [hash[0], hash[1]]
}

/// Whether others could reach it: not private, not local (Core: `IsRoutable`).
pub(in super::super) const fn is_routable(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let octets = ip.octets();
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_broadcast()
                || ip.is_documentation()
                || octets[0] == 0
                || octets[0] >= 224
                || (octets[0] == 100 && octets[1] >= 64 && octets[1] < 128)
                || (octets[0] == 198 && (octets[1] == 18 || octets[1] == 19)))
        }
        IpAddr::V6(ip) => {
            let head = ip.segments()[0];
            let is_documentation = head == 0x2001 && ip.segments()[1] == 0x0db8;
            !(ip.is_loopback()
                || ip.is_unspecified()
                || (head & 0xfe00) == 0xfc00
                || (head & 0xffc0) == 0xfe80
                || (head & 0xff00) == 0xff00
                || is_documentation)
        }
    }
}

impl NodeAddress {
    /// The address of a socket, if the host is one of the internet.
    pub const fn socket(&self) -> Option<SocketAddr> {
        match self.host {
            NodeHost::Ip(ip) => Some(SocketAddr::new(ip, self.port)),
            _ => None,
        }
    }

    /// As `addrv2` carries it; `None` for a kind that nobody knows any more.
    pub(in super::super) const fn from_wire(address: &AddrV2, port: u16) -> Option<Self> {
        let host = match address {
            AddrV2::Ipv4(ip) => NodeHost::Ip(IpAddr::V4(*ip)),
            AddrV2::Ipv6(ip) => NodeHost::Ip(IpAddr::V6(*ip)),
            AddrV2::TorV3(key) => NodeHost::Tor(*key),
            AddrV2::I2p(hash) => NodeHost::I2p(*hash),
            AddrV2::Cjdns(ip) => NodeHost::Cjdns(*ip),
            AddrV2::TorV2(_) | AddrV2::Unknown(..) => return None,
        };
        Some(Self { host, port })
    }

    /// The host as `addrv2` carries it.
    pub(in super::super) const fn to_wire(self) -> AddrV2 {
        match self.host {
            NodeHost::Ip(IpAddr::V4(ip)) => AddrV2::Ipv4(ip),
            NodeHost::Ip(IpAddr::V6(ip)) => AddrV2::Ipv6(ip),
            NodeHost::Tor(key) => AddrV2::TorV3(key),
            NodeHost::I2p(hash) => AddrV2::I2p(hash),
            NodeHost::Cjdns(ip) => AddrV2::Cjdns(ip),
        }
    }

    /// Bytes that no other address has.
    pub fn key(&self) -> Vec<u8> {
        let mut key = match self.host {
            NodeHost::Ip(IpAddr::V4(ip)) => ip.to_ipv6_mapped().octets().to_vec(),
            NodeHost::Ip(IpAddr::V6(ip)) | NodeHost::Cjdns(ip) => ip.octets().to_vec(),
            NodeHost::Tor(bytes) | NodeHost::I2p(bytes) => bytes.to_vec(),
        };
        key.extend_from_slice(self.host.family().as_bytes());
        key.extend_from_slice(&self.port.to_be_bytes());
        key
    }
}

impl From<SocketAddr> for NodeAddress {
    fn from(socket: SocketAddr) -> Self {
        Self { host: NodeHost::Ip(socket.ip()), port: socket.port() }
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host {
            NodeHost::Ip(IpAddr::V6(ip)) | NodeHost::Cjdns(ip) => write!(f, "[{ip}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

impl FromStr for NodeAddress {
    type Err = InvalidAddress;

    /// HOST:PORT.
    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        if let Ok(socket) = text.parse::<SocketAddr>() {
            return Ok(socket.into());
        }
        let (host, port) = text.rsplit_once(':').ok_or(InvalidAddress)?;
        Ok(Self { host: host.parse()?, port: port.parse().map_err(|_| InvalidAddress)? })
    }
}

impl TryFrom<String> for NodeAddress {
    type Error = InvalidAddress;

    fn try_from(text: String) -> Result<Self, InvalidAddress> {
        text.parse()
    }
}

impl From<NodeAddress> for String {
    fn from(address: NodeAddress) -> Self {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written_as_core_does() {
        let table = [
            ("pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd.onion", Some("onion")),
            ("PG6MMJIYJMCRSSLVYKFWNNTLARU7P5SVN6Y2YMMJU6NUBXNDF4PSCRYD.onion", Some("onion")),
            // One letter is another one.
            ("pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4psdryd.onion", None),
            ("6hzph5hv6337r6p2.onion", None),
            ("c4gfnttsuwqomiygupdqqqyy5y5emnk5c73hrfvatri67prd7vyq.b32.i2p", Some("i2p")),
            ("c4gfnttsuwqomiygupdqqqyy5y5emnk5c73hrfvatri67prd7vy.b32.i2p", None),
            ("1.2.3.4", Some("ipv4")),
            ("::1", Some("ipv6")),
            ("example.org", None),
            ("", None),
        ];
        for (text, family) in table {
            let host = text.parse::<NodeHost>().ok();
            assert_eq!(host.map(|host| host.family()), family, "{text}");
            if let Some(host) = host {
                assert_eq!(host.to_string(), text.to_ascii_lowercase());
                let address = NodeAddress { host, port: 8_333 };
                assert_eq!(address.to_string().parse(), Ok(address));
                assert_eq!(NodeAddress::from_wire(&address.to_wire(), 8_333), Some(address));
            }
        }
        assert_eq!("127.0.0.1".parse::<NodeHost>().unwrap().network(), "not_publicly_routable");
    }
}
