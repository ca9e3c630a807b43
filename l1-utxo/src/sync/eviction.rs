//! Whom to send away when a new peer wants in and all places are taken: never those that are hard to imitate.
//!
//! Core: `node/eviction.cpp`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::peer::PeerInfo;
use super::permission::Permissions;
use super::port::{Origin, PeerId};

/// Part of an address that stands for whoever runs its network.
fn network(ip: IpAddr) -> [u8; 5] {
    match ip.to_canonical() {
        IpAddr::V4(ip) => [4, ip.octets()[0], ip.octets()[1], 0, 0],
        IpAddr::V6(ip) => {
            let octets = ip.octets();
            [6, octets[0], octets[1], octets[2], octets[3]]
        }
    }
}

/// Takes the `count` best by `rank` off the list of those who may have to go.
fn protect<K: Ord>(candidates: &mut Vec<PeerInfo>, count: usize, rank: impl Fn(&PeerInfo) -> K) {
    candidates.sort_by_key(rank);
    candidates.truncate(candidates.len().saturating_sub(count));
}

fn may_go(peer: &PeerInfo) -> bool {
    peer.connection.origin == Origin::Inbound && !peer.connection.permissions.has(Permissions::NO_BAN)
}

/// The peer to be sent away, if any may be: of the network with the most peers the youngest one.
pub fn choose(peers: impl Iterator<Item = PeerInfo>, salt: u64) -> Option<PeerId> {
    let mut candidates: Vec<PeerInfo> = peers.filter(may_go).collect();
    // Who has said nothing makes room for the next one: the oldest of them.
    let silent = candidates.iter().filter(|peer| peer.version.is_none());
    if let Some(silent) = silent.min_by_key(|peer| (peer.connected_at, peer.id)) {
        return Some(silent.id);
    }
    let keyed = |peer: &PeerInfo| {
        let part = network(peer.connection.address.ip());
        part.iter().fold(salt, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3).rotate_left(23))
    };
    protect(&mut candidates, 4, keyed);
    protect(&mut candidates, 8, |peer| std::cmp::Reverse(peer.best_ping.unwrap_or(Duration::MAX)));
    protect(&mut candidates, 4, |peer| peer.last_transaction);
    protect(&mut candidates, 4, |peer| peer.last_block);
    // Half of the rest for having been here longest.
    let half = candidates.len() / 2;
    protect(&mut candidates, half, |peer| std::cmp::Reverse(peer.connected_at));
    let mut networks: BTreeMap<[u8; 5], Vec<&PeerInfo>> = BTreeMap::new();
    for peer in &candidates {
        networks.entry(network(peer.connection.address.ip())).or_default().push(peer);
    }
    let youngest = |peers: &Vec<&PeerInfo>| peers.iter().map(|peer| peer.connected_at).max();
    let largest = networks.into_values().max_by_key(|peers| (peers.len(), youngest(peers)))?;
    largest.into_iter().max_by_key(|peer| peer.connected_at).map(|peer| peer.id)
}
