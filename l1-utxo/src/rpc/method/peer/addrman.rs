//! The address book as Core's tables show it (`getrawaddrman`, `addpeeraddress`, `getaddrmaninfo`; Core: `addrman.cpp`,
//! `netgroup.cpp`). The book here has no buckets: the places are those that Core's hashes, with the key of its tests, give
//! each address, and matter only where two that answered would share one.

use std::net::IpAddr;

use bitcoin::hashes::{Hash, sha256d};
use serde_json::{Map, Value, json};

use crate::rpc::Context;
use crate::rpc::argument::Params;
use crate::rpc::dialect::{RpcError, code};
use crate::sync::{KnownAddress, NodeAddress, NodeHost};

const KEY: [u8; 32] = {
    let mut key = [0; 32];
    key[0] = 1;
    key
};
/// Buckets of a table, and into how many of them one group of addresses may come.
const TRIED: (u64, u64) = (256, 8);
const NEW: (u64, u64) = (1_024, 64);
const PLACES: u64 = 64;
/// The networks that addresses may be of.
pub(in crate::rpc::method) const NETWORKS: [&str; 5] = ["ipv4", "ipv6", "onion", "i2p", "cjdns"];

fn hash(parts: &[&[u8]]) -> u64 {
    let digest = sha256d::Hash::hash(&[&[&KEY[..]], parts].concat().concat()).to_byte_array();
    u64::from_le_bytes(*digest.first_chunk().expect("32 bytes hold 8"))
}

/// A list as it is hashed: its length, which is below 253, and its bytes.
fn list(bytes: &[u8]) -> Vec<u8> {
    let mut listed = vec![u8::try_from(bytes.len()).unwrap_or(u8::MAX)];
    listed.extend_from_slice(bytes);
    listed
}

fn host_bytes(host: &NodeHost) -> Vec<u8> {
    match host {
        NodeHost::Ip(IpAddr::V4(ip)) => ip.to_ipv6_mapped().octets().to_vec(),
        NodeHost::Ip(IpAddr::V6(ip)) | NodeHost::Cjdns(ip) => ip.octets().to_vec(),
        NodeHost::Tor(key) => key.to_vec(),
        NodeHost::I2p(hash) => hash.to_vec(),
    }
}

/// What addresses that are likely one owner's share (Core: `GetGroup`).
fn group(host: &NodeHost) -> Vec<u8> {
    let bytes = host_bytes(host);
    let (class, bits) = match host {
        NodeHost::Ip(ip) => match ip.to_canonical() {
            IpAddr::V4(ip) => return [&[1], &ip.octets()[..2]].concat(),
            // he.net gives its customers more than others do.
            IpAddr::V6(ip) if ip.segments()[..2] == [0x2001, 0x0470] => (2, 36),
            IpAddr::V6(_) => (2, 32),
        },
        NodeHost::Tor(_) => (3, 4),
        NodeHost::I2p(_) => (4, 4),
        NodeHost::Cjdns(_) => (5, 12),
    };
    let mut group = vec![class];
    group.extend_from_slice(&bytes[..bits / 8]);
    if bits % 8 > 0 {
        group.push(bytes[bits / 8] | (0xff >> (bits % 8)));
    }
    group
}

/// Bucket and place of an address that stands for itself.
fn place(address: &NodeAddress, was_tried: bool) -> (u64, u64) {
    let key = list(&[host_bytes(&address.host), address.port.to_be_bytes().to_vec()].concat());
    let group = list(&group(&address.host));
    let ((buckets, of_group), first) = if was_tried { (TRIED, hash(&[&key])) } else { (NEW, hash(&[&group, &group])) };
    let bucket = hash(&[&group, &(first % of_group).to_le_bytes()]) % buckets;
    let number = u32::try_from(bucket).unwrap_or(0).to_le_bytes();
    let kind = if was_tried { b"K" } else { b"N" };
    (bucket, hash(&[kind, &number, &key]) % PLACES)
}

pub(super) async fn addpeeraddress(cx: &Context, params: Params) -> Result<Value, RpcError> {
    let text = params.text(0)?;
    let port = u16::try_from(params.int(1)?).map_err(|_| RpcError::new(code::MISC, "JSON integer out of range"))?;
    let was_tried = params.bool_or(2, false)?;
    let refusal = |_| RpcError::new(code::INVALID_IP_OR_SUBNET, "Invalid IP address");
    let host = text.parse::<NodeHost>().map_err(refusal)?;
    let now = cx.run(|ledger| ledger.now()).await?;
    let address = NodeAddress { host, port };
    let known = KnownAddress { address, services: 9, time: u32::try_from(now).unwrap_or(u32::MAX) };
    if !host.is_routable() || !cx.peers.learn(known) {
        return Ok(json!({"success": false, "error": "failed-adding-to-new"}));
    }
    if was_tried {
        let own = place(&address, true);
        let tried = cx.peers.book_entries().into_iter().filter(|(_, known)| known.good > 0);
        // Core keeps who answered before.
        if tried.map(|(other, _)| place(&other, true)).any(|other| other == own) {
            return Ok(json!({"success": false, "error": "failed-adding-to-tried"}));
        }
        cx.peers.mark_good(address, now);
    }
    Ok(json!({"success": true}))
}

pub(super) fn getaddrmaninfo(cx: &Context) -> Value {
    let entries = cx.peers.book_entries();
    let count = |is_counted: &dyn Fn(&str) -> bool| {
        let counted = entries.iter().filter(|(address, _)| is_counted(address.host.family()));
        let (new, tried) = counted.fold(
            (0, 0),
            |(new, tried), (_, known)| {
                if known.good > 0 { (new, tried + 1) } else { (new + 1, tried) }
            },
        );
        json!({"new": new, "tried": tried, "total": new + tried})
    };
    let of = |name: &&str| ((*name).to_owned(), count(&|network| network == *name));
    let mut counts: Map<String, Value> = NETWORKS.iter().map(of).collect();
    counts.insert("all_networks".into(), count(&|_| true));
    Value::Object(counts)
}

pub(super) fn getrawaddrman(cx: &Context) -> Value {
    let (mut new, mut tried) = (Map::new(), Map::new());
    for (address, known) in cx.peers.book_entries() {
        let table = if known.good > 0 { &mut tried } else { &mut new };
        let (bucket, first) = place(&address, known.good > 0);
        // Core would have dropped one of two that share a place.
        let free = (0..table.len() as u64 + 1).map(|step| format!("{bucket}/{}", first + step));
        let Some(free) = free.into_iter().find(|place| !table.contains_key(place)) else { continue };
        let network = address.host.family();
        let entry = json!({
            "address": address.host.to_string(),
            "port": address.port,
            "services": known.services,
            "time": known.time,
            "network": network,
            // Who told it is not kept: it stands for itself.
            "source": address.host.to_string(),
            "source_network": network,
        });
        table.insert(free, entry);
    }
    json!({"new": new, "tried": tried})
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Places of Bitcoin Core's `rpc_net.py`.
    #[test]
    fn places_are_cores() {
        let known = [
            ("2.0.0.0", 8_333, false, (82, 8)),
            ("2803:0:1234:abcd::1", 45_324, false, (613, 6)),
            ("c4gfnttsuwqomiygupdqqqyy5y5emnk5c73hrfvatri67prd7vyq.b32.i2p", 8_333, false, (963, 46)),
            ("1.2.3.4", 8_333, true, (6, 33)),
            ("1233:3432:2434:2343:3234:2345:6546:4534", 8_333, true, (197, 34)),
            ("pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd.onion", 8_333, true, (72, 61)),
            ("nrfj6inpyf73gpkyool35hcmne5zwfmse3jl3aw23vk7chdemalyaqad.onion", 45_324, true, (139, 46)),
        ];
        for (host, port, was_tried, expected) in known {
            let address = NodeAddress { host: host.parse().unwrap(), port };
            assert_eq!(place(&address, was_tried), expected, "{host}");
        }
        let cjdns = NodeAddress { host: NodeHost::Cjdns("fc00:1:2:3:4:5:6:7".parse().unwrap()), port: 8_333 };
        assert_eq!(place(&cjdns, false), (336, 24));
        let colliding = NodeAddress { host: "1.2.5.45".parse().unwrap(), port: 8_333 };
        assert_eq!(place(&colliding, true), (6, 33));
    }
}
