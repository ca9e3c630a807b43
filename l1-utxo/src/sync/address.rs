//! Addresses of other nodes: told, asked for, passed on.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::p2p::address::{AddrV2, AddrV2Message};
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::{Address, ServiceFlags};

use super::Machine;
use super::peer::Peer;
use super::permission::Permissions;
use super::port::{Action, KnownAddress, Origin, PeerId, Reason, Time};
use super::transaction::RollingFilter;
use super::wire::MAX_ADDRESSES;

/// Addresses that a peer may tell a second, and how many at once after a pause, in thousandths (Core: 0.1/s, 1,000).
const TOKENS_PER_MS: u64 = 100;
const MAX_TOKENS: u64 = 1_000 * 1_000_000;
const TOKEN: u64 = 1_000_000;
/// Time from one batch of addresses to the next.
const INTERVAL: Duration = Duration::from_secs(30);
/// What is fresher than this is passed on.
const FRESH: i64 = 10 * 60;
const FIVE_DAYS: i64 = 5 * 24 * 3_600;

/// Addresses to and from one peer.
pub(super) struct AddressRelay {
    pub(super) is_enabled: bool,
    /// Whether we asked, and the answer may be large.
    is_asked: bool,
    /// Whether it asked: it is answered once.
    has_asked: bool,
    tokens: u64,
    tokens_at: Time,
    known: RollingFilter,
    to_send: Vec<KnownAddress>,
    next_send: Time,
    pub(super) processed: u64,
    pub(super) rate_limited: u64,
}

impl AddressRelay {
    pub(super) fn new(salt: u64, now: Time) -> Self {
        Self {
            is_enabled: false,
            is_asked: false,
            has_asked: false,
            tokens: TOKEN,
            tokens_at: now,
            known: RollingFilter::new(5_000, salt),
            to_send: Vec::new(),
            next_send: Time::default(),
            processed: 0,
            rate_limited: 0,
        }
    }

    pub(super) const fn asked(&mut self) {
        self.is_asked = true;
        self.tokens += MAX_TOKENS;
    }

    fn take_token(&mut self) -> bool {
        let has_one = self.tokens >= TOKEN;
        if has_one {
            self.tokens -= TOKEN;
        }
        has_one
    }

    fn refill(&mut self, now: Time) {
        if self.tokens < MAX_TOKENS {
            let passed = u64::try_from((now - self.tokens_at).as_millis()).unwrap_or(u64::MAX);
            self.tokens = self.tokens.saturating_add(passed.saturating_mul(TOKENS_PER_MS)).min(MAX_TOKENS);
        }
        self.tokens_at = now;
    }

    fn push(&mut self, address: KnownAddress, chance: u64) {
        if self.known.contains(&key(&address)) {
            return;
        }
        if self.to_send.len() >= MAX_ADDRESSES {
            let place = (chance % MAX_ADDRESSES as u64) as usize;
            self.to_send[place] = address;
        } else {
            self.to_send.push(address);
        }
    }
}

fn key(address: &KnownAddress) -> Vec<u8> {
    let mut key = match address.address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    key.extend_from_slice(&address.address.port().to_be_bytes());
    key
}

/// Whether others could reach it: not private, not local (Core: `IsRoutable`).
pub(super) const fn is_routable(ip: IpAddr) -> bool {
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

impl Machine {
    /// The answer comes from the address book: whoever runs the machine calls [`Machine::set_known_addresses`] before.
    pub(super) fn receive_getaddr(&mut self, peer: &mut Peer) {
        // Who asks what it dialled itself could find out what it told us.
        if !peer.is_inbound() || std::mem::replace(&mut peer.address.has_asked, true) {
            return;
        }
        peer.address.is_enabled = true;
        peer.address.to_send.clear();
        for address in Arc::clone(&self.known_addresses).iter().copied() {
            let chance = self.random.next();
            peer.address.push(address, chance);
        }
    }

    pub(super) fn receive_addresses(&mut self, peer: &mut Peer, count: usize, mut addresses: Vec<KnownAddress>) {
        if peer.connection.origin == Origin::BlockRelay {
            return;
        }
        peer.address.is_enabled = true;
        peer.address.refill(self.now);
        self.shuffle(&mut addresses);
        let now = self.now.secs();
        let mut learnt = Vec::new();
        for mut known in addresses {
            if !peer.address.take_token() && !peer.connection.permissions.has(Permissions::ADDRESS) {
                peer.address.rate_limited += 1;
                continue;
            }
            let services = ServiceFlags::from(known.services);
            if !services.has(ServiceFlags::NETWORK) && !services.has(ServiceFlags::NETWORK_LIMITED) {
                continue;
            }
            if known.time <= 100_000_000 || i64::from(known.time) > now + FRESH {
                known.time = u32::try_from(now - FIVE_DAYS).unwrap_or(0);
            }
            peer.address.known.insert(&key(&known));
            peer.address.processed += 1;
            if !is_routable(known.address.ip()) {
                continue;
            }
            let is_fresh = i64::from(known.time) > now - FRESH;
            if is_fresh && !peer.address.is_asked && count <= 10 {
                self.pass_on(peer.id, known);
            }
            learnt.push(known);
        }
        if !learnt.is_empty() {
            peer.actions.push(Action::Learn(learnt));
        }
        if count < MAX_ADDRESSES {
            peer.address.is_asked = false;
        }
        // One address is the peer's own, told without being asked.
        if peer.connection.origin == Origin::AddressFetch && count > 1 {
            peer.close(Reason::Unwelcome("addrfetch connection completed"));
        }
    }

    fn shuffle(&mut self, addresses: &mut [KnownAddress]) {
        for last in (1..addresses.len()).rev() {
            addresses.swap(last, self.random.below(last as u64 + 1) as usize);
        }
    }

    /// To two peers, the same ones for a day (Core: `RelayAddress`).
    fn pass_on(&mut self, from: PeerId, address: KnownAddress) {
        let day = self.now.secs() / (24 * 3_600);
        let rank = |id: PeerId, random: &super::random::Random| {
            let mut bytes = key(&address);
            bytes.extend_from_slice(&day.to_le_bytes());
            bytes.extend_from_slice(&id.0.to_le_bytes());
            random.hash(&bytes)
        };
        let others = self.peers.values().filter(|peer| peer.address.is_enabled && peer.id != from);
        let mut ranked: Vec<(u64, PeerId)> = others.map(|peer| (rank(peer.id, &self.random), peer.id)).collect();
        ranked.sort_unstable();
        for (_, id) in ranked.into_iter().rev().take(2) {
            let chance = self.random.next();
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.address.push(address, chance);
            }
        }
    }

    pub(super) fn send_addresses(&mut self, peer: &mut Peer) {
        if !peer.address.is_enabled || self.now <= peer.address.next_send {
            return;
        }
        peer.address.next_send = self.now + self.random.exponential(INTERVAL);
        let known = &mut peer.address.known;
        let mut addresses = std::mem::take(&mut peer.address.to_send);
        addresses.retain(|address| {
            let key = key(address);
            let is_new = !known.contains(&key);
            known.insert(&key);
            is_new
        });
        if addresses.is_empty() {
            return;
        }
        if peer.wants_addrv2 {
            let message = |known: &KnownAddress| AddrV2Message {
                time: known.time,
                services: ServiceFlags::from(known.services),
                addr: match known.address.ip() {
                    IpAddr::V4(ip) => AddrV2::Ipv4(ip),
                    IpAddr::V6(ip) => AddrV2::Ipv6(ip),
                },
                port: known.address.port(),
            };
            peer.send(NetworkMessage::AddrV2(addresses.iter().map(message).collect()));
        } else {
            let message =
                |known: &KnownAddress| (known.time, Address::new(&known.address, ServiceFlags::from(known.services)));
            peer.send(NetworkMessage::Addr(addresses.iter().map(message).collect()));
        }
    }

    /// The addresses that the next `getaddr` is answered with.
    pub fn set_known_addresses(&mut self, addresses: Arc<[KnownAddress]>) {
        self.known_addresses = addresses;
    }
}
