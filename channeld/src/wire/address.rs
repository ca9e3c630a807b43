//! Where a node is reached, as `node_announcement` says it (BOLT 7, "address descriptor").

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::codec::{Field, Reader};
use super::error::DecodeError;

/// One address. Sorted as an announcement wants them: by type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// Type 1.
    Ipv4(Ipv4Addr, u16),
    /// Type 2.
    Ipv6(Ipv6Addr, u16),
    /// Type 4: the 35 bytes of a Tor v3 onion service.
    TorV3(Box<[u8; 35]>, u16),
    /// Type 5: a name in ASCII, at most 255 bytes.
    Dns(String, u16),
}

/// A text that is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected HOST:PORT with a name or a number, and a port other than 0")]
pub struct ParseAddressError;

impl Address {
    /// The addresses of an announcement, as far as they are understood: up to the first unknown type, those with port 0 and
    /// Tor v2 left out.
    ///
    /// # Errors
    /// One of a known type is cut short.
    pub fn read_all(bytes: &[u8]) -> Result<Vec<Address>, DecodeError> {
        let mut reader = Reader::new(bytes);
        let mut addresses = Vec::new();
        while !reader.is_empty() {
            let address = match u8::read(&mut reader)? {
                1 => Some(Address::Ipv4(Ipv4Addr::from(reader.array::<4>()?), u16::read(&mut reader)?)),
                2 => Some(Address::Ipv6(Ipv6Addr::from(reader.array::<16>()?), u16::read(&mut reader)?)),
                3 => {
                    reader.take(12)?;
                    None
                }
                4 => Some(Address::TorV3(Box::new(reader.array()?), u16::read(&mut reader)?)),
                5 => {
                    let length = u8::read(&mut reader)?;
                    let name = reader.take(usize::from(length))?;
                    let port = u16::read(&mut reader)?;
                    let is_name = name.is_ascii() && !name.iter().any(u8::is_ascii_control);
                    is_name.then(|| Address::Dns(String::from_utf8_lossy(name).into_owned(), port))
                }
                _ => break,
            };
            addresses.extend(address.filter(|address| address.port() != 0));
        }
        Ok(addresses)
    }

    /// The descriptors of these, in the order that BOLT 7 demands, with one name at most.
    pub fn write_all(addresses: &[Address]) -> Vec<u8> {
        let mut sorted: Vec<&Address> = addresses.iter().collect();
        sorted.sort();
        let names = sorted.iter().filter(|it| matches!(it, Address::Dns(..))).count();
        sorted.truncate(sorted.len() - names.saturating_sub(1));
        let mut out = Vec::new();
        sorted.into_iter().for_each(|address| address.write(&mut out));
        out
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Address::Ipv4(ip, _) => {
                out.push(1);
                out.extend_from_slice(&ip.octets());
            }
            Address::Ipv6(ip, _) => {
                out.push(2);
                out.extend_from_slice(&ip.octets());
            }
            Address::TorV3(bytes, _) => {
                out.push(4);
                out.extend_from_slice(bytes.as_slice());
            }
            Address::Dns(name, _) => {
                out.push(5);
                let name = &name.as_bytes()[..name.len().min(255)];
                out.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
                out.extend_from_slice(name);
            }
        }
        self.port().write(out);
    }

    /// The port.
    pub const fn port(&self) -> u16 {
        match self {
            Address::Ipv4(_, port) | Address::Ipv6(_, port) | Address::TorV3(_, port) | Address::Dns(_, port) => *port,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        match address.ip() {
            IpAddr::V4(ip) => Address::Ipv4(ip, address.port()),
            IpAddr::V6(ip) => Address::Ipv6(ip, address.port()),
        }
    }
}

impl FromStr for Address {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Address, ParseAddressError> {
        let address = match text.parse::<SocketAddr>() {
            Ok(address) => Address::from(address),
            Err(_) => {
                let (name, port) = text.rsplit_once(':').ok_or(ParseAddressError)?;
                let letters = name.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'.' || it == b'-');
                if name.is_empty() || name.len() > 255 || !letters {
                    return Err(ParseAddressError);
                }
                Address::Dns(name.to_owned(), port.parse().map_err(|_| ParseAddressError)?)
            }
        };
        if address.port() == 0 { Err(ParseAddressError) } else { Ok(address) }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ipv4(ip, port) => write!(f, "{ip}:{port}"),
            Address::Ipv6(ip, port) => write!(f, "[{ip}]:{port}"),
            Address::TorV3(bytes, port) => write!(f, "{}.onion:{port}", base32(bytes.as_slice())),
            Address::Dns(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// RFC 4648, lower case; 35 bytes are 56 letters without padding.
fn base32(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let (mut text, mut held, mut bits) = (String::new(), 0u32, 0);
    for byte in bytes {
        held = held << 8 | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(LETTERS[(held >> bits & 31) as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_go_there_and_back_in_order() {
        let texts = ["example.org:9735", "[2001:db8::1]:9736", "203.0.113.7:9735", "other.example:1"];
        let addresses: Vec<Address> = texts.iter().map(|text| text.parse().unwrap()).collect();
        let read = Address::read_all(&Address::write_all(&addresses)).unwrap();
        let shown: Vec<String> = read.iter().map(Address::to_string).collect();
        assert_eq!(shown, ["203.0.113.7:9735", "[2001:db8::1]:9736", "example.org:9735"], "one name at most");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "host", "host:0", ":1", "1.2.3.4:0", "a b:1", "host:65536"] {
            assert_eq!(text.parse::<Address>(), Err(ParseAddressError), "{text}");
        }
        assert_eq!(Address::read_all(&[1, 1, 2, 3]), Err(DecodeError::TooShort));
        assert_eq!(Address::read_all(&[1, 1, 2, 3, 4, 0, 0]), Ok(vec![]), "port 0");
        assert_eq!(Address::read_all(&[9, 1, 2, 3, 4]), Ok(vec![]), "an unknown type ends the list");
    }

    #[test]
    fn an_onion_service_is_shown_as_people_write_it() {
        let address = Address::TorV3(Box::new([0; 35]), 80);
        assert_eq!(address.to_string(), format!("{}.onion:80", "a".repeat(56)));
    }
}
