//! What a `node_announcement` says, to be shown: nothing in it is checked but by the node itself.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::error::Refusal;
use super::message::NodeView;
use crate::wire::Features;
use crate::wire::codec::Reader;

/// A node's own description of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeDetails {
    /// When it said so, in seconds since 1970 by its own clock.
    pub timestamp: u32,
    /// Its features.
    pub features: Features,
    /// Red, green, blue.
    pub rgb_color: [u8; 3],
    /// The name as it came: padded with zeros, and any bytes at all (BOLT 7, "Security Considerations for Node Aliases").
    pub alias: [u8; 32],
    /// Where it can be reached; those of unknown types and those with port 0 are left out.
    pub addresses: Vec<Address>,
}

impl NodeDetails {
    /// The alias as text: without its padding, with control characters and what is no UTF-8 replaced.
    pub fn alias_text(&self) -> String {
        let end = self.alias.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let text = String::from_utf8_lossy(&self.alias[..end]);
        text.chars().map(|letter| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter }).collect()
    }
}

/// Where a node can be reached (BOLT 7, address descriptors).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// Type 1.
    Ipv4 {
        /// The address.
        address: Ipv4Addr,
        /// The TCP port, never 0.
        port: u16,
    },
    /// Type 2.
    Ipv6 {
        /// The address.
        address: Ipv6Addr,
        /// The TCP port, never 0.
        port: u16,
    },
    /// Type 4: public key, checksum and version of an onion service.
    TorV3 {
        /// The 35 bytes that the name encodes.
        onion: [u8; 35],
        /// The port.
        port: u16,
    },
    /// Type 5: ASCII.
    Dns {
        /// The name.
        hostname: String,
        /// The TCP port, never 0.
        port: u16,
    },
}

/// The descriptors of the known types, up to the first of an unknown one, and whether there is more than one host name.
///
/// # Errors
/// [`Refusal::AddressesTooShort`].
pub(super) fn read_addresses(bytes: &[u8]) -> Result<(Vec<Address>, bool), Refusal> {
    let mut reader = Reader::new(bytes);
    let (mut addresses, mut hostnames) = (Vec::new(), 0);
    while let Ok([kind]) = reader.array() {
        let known = match kind {
            1 => read_ipv4(&mut reader),
            2 => read_ipv6(&mut reader),
            // Tor v2, which nobody runs any more.
            3 => reader.take(12).ok().map(|_| None),
            4 => read_tor(&mut reader),
            5 => {
                hostnames += 1;
                read_dns(&mut reader)
            }
            // They rise by type: what follows is unknown as well, or padding.
            _ => break,
        };
        // "SHOULD ignore the additional data" behind the first host name.
        let address = known.ok_or(Refusal::AddressesTooShort)?;
        addresses.extend(address.filter(|_| kind != 5 || hostnames == 1));
    }
    Ok((addresses, hostnames > 1))
}

/// The outer `None`: too short; the inner one: not to be used.
fn read_ipv4(reader: &mut Reader<'_>) -> Option<Option<Address>> {
    let address = Ipv4Addr::from(reader.array::<4>().ok()?);
    let port = read_port(reader)?;
    Some((port != 0).then_some(Address::Ipv4 { address, port }))
}

fn read_ipv6(reader: &mut Reader<'_>) -> Option<Option<Address>> {
    let address = Ipv6Addr::from(reader.array::<16>().ok()?);
    let port = read_port(reader)?;
    Some((port != 0).then_some(Address::Ipv6 { address, port }))
}

fn read_tor(reader: &mut Reader<'_>) -> Option<Option<Address>> {
    let onion = reader.array().ok()?;
    let port = read_port(reader)?;
    Some(Some(Address::TorV3 { onion, port }))
}

fn read_dns(reader: &mut Reader<'_>) -> Option<Option<Address>> {
    let [length] = reader.array().ok()?;
    let hostname = reader.take(usize::from(length)).ok()?;
    let port = read_port(reader)?;
    // BOLT 7 says ASCII; whoever shows it must not be fooled by what a terminal obeys.
    let is_shown = hostname.iter().all(u8::is_ascii_graphic);
    let hostname = is_shown.then(|| String::from_utf8_lossy(hostname).into_owned());
    Some(hostname.filter(|_| port != 0).map(|hostname| Address::Dns { hostname, port }))
}

fn read_port(reader: &mut Reader<'_>) -> Option<u16> {
    reader.array().ok().map(u16::from_be_bytes)
}

impl NodeView<'_> {
    /// What it says; addresses that are not readable are left out.
    pub(super) fn details(&self) -> NodeDetails {
        NodeDetails {
            timestamp: self.timestamp,
            features: Features::from_bytes(self.features.to_vec()),
            rgb_color: *self.rgb_color,
            alias: *self.alias,
            addresses: read_addresses(self.addresses).map_or_else(|_| Vec::new(), |(addresses, _)| addresses),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_is_what_can_be_shown() {
        let read = |name: &[u8]| {
            let bytes = [&[5, name.len() as u8][..], name, &[0, 82]].concat();
            read_addresses(&bytes).expect("whole").0
        };
        let known = |hostname: &str| vec![Address::Dns { hostname: hostname.to_owned(), port: 82 }];
        assert_eq!(read(b"node.example"), known("node.example"));
        for name in [&b"node\x1b[2J"[..], b"a b", b"a\n", "b\u{fc}cher".as_bytes()] {
            assert_eq!(read(name), []);
        }
    }
}
