//! Addresses of other nodes: told, asked for, passed on; and our own, if our user says what it is.

mod host;

use std::sync::Arc;
use std::time::Duration;

use bitcoin::p2p::address::AddrV2Message;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::{Address, ServiceFlags};

use super::Machine;
use super::peer::Peer;
use super::permission::Permissions;
use super::port::{Action, Host, KnownAddress, Origin, PeerId, Reason, Time};
use super::transaction::RollingFilter;
use super::wire::MAX_ADDRESSES;

pub(super) use host::is_routable;
pub use host::{InvalidAddress, NodeAddress, NodeHost};

/// Addresses that a peer may tell a second, and how many at once after a pause, in thousandths (Core: 0.1/s, 1,000).
const TOKENS_PER_MS: u64 = 100;
const MAX_TOKENS: u64 = 1_000 * 1_000_000;
const TOKEN: u64 = 1_000_000;
/// Time from one batch of addresses to the next.
const INTERVAL: Duration = Duration::from_secs(30);
/// Mean time from one announcement of our own address to the next.
const OWN_INTERVAL: Duration = Duration::from_secs(24 * 3_600);
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
    /// When it hears our own address again; `None`: it has not yet.
    next_own: Option<Time>,
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
            next_own: None,
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
        if self.known.contains(&address.address.key()) {
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

impl Machine {
    /// The answer comes from the address book: whoever runs the machine calls [`Machine::set_known_addresses`] before.
    pub(super) fn receive_getaddr(&mut self, peer: &mut Peer) {
        // Who asks what it dialled itself could find out what it told us.
        if !peer.is_inbound() || std::mem::replace(&mut peer.address.has_asked, true) {
            return;
        }
        peer.address.is_enabled = true;
        peer.address.to_send.clear();
        let takes_names = peer.wants_addrv2;
        let told = Arc::clone(&self.known_addresses);
        for address in told.iter().copied().filter(|known| fits(known, takes_names)) {
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
            peer.address.known.insert(&known.address.key());
            peer.address.processed += 1;
            if !known.address.host.is_routable() {
                continue;
            }
            let is_fresh = i64::from(known.time) > now - FRESH;
            if is_fresh && !peer.address.is_asked && count <= 10 {
                self.pass_on(peer.id, known);
            }
            // What we cannot reach ourselves is passed on, but not kept.
            if known.address.host.is_reachable() {
                learnt.push(known);
            }
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

    /// To two peers, the same ones for a day; what we cannot reach ourselves to one or two (Core: `RelayAddress`).
    fn pass_on(&mut self, from: PeerId, address: KnownAddress) {
        let day = self.now.secs() / (24 * 3_600);
        let rank = |id: PeerId, random: &super::random::Random| {
            let mut bytes = address.address.key();
            bytes.extend_from_slice(&day.to_le_bytes());
            bytes.extend_from_slice(&id.0.to_le_bytes());
            random.hash(&bytes)
        };
        let takes = |peer: &&Peer| peer.address.is_enabled && peer.id != from && fits(&address, peer.wants_addrv2);
        let others = self.peers.values().filter(takes);
        let mut ranked: Vec<(u64, PeerId)> = others.map(|peer| (rank(peer.id, &self.random), peer.id)).collect();
        ranked.sort_unstable();
        let is_for_two = address.address.host.is_reachable() || rank(from, &self.random) & 1 == 1;
        for (_, id) in ranked.into_iter().rev().take(if is_for_two { 2 } else { 1 }) {
            let chance = self.random.next();
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.address.push(address, chance);
            }
        }
    }

    pub(super) fn send_addresses(&mut self, peer: &mut Peer, host: &dyn Host) {
        if !peer.address.is_enabled {
            return;
        }
        self.announce_ourselves(peer, host);
        if self.now <= peer.address.next_send {
            return;
        }
        peer.address.next_send = self.now + self.random.exponential(INTERVAL);
        let known = &mut peer.address.known;
        let mut addresses = std::mem::take(&mut peer.address.to_send);
        addresses.retain(|address| {
            let key = address.address.key();
            let is_new = !known.contains(&key);
            known.insert(&key);
            is_new
        });
        if addresses.is_empty() {
            return;
        }
        tell(peer, &addresses);
    }

    /// Tells where we are: at first in a message of its own, then now and then (Core: the first part of `MaybeSendAddr`).
    fn announce_ourselves(&mut self, peer: &mut Peer, host: &dyn Host) {
        let is_due = peer.address.next_own.is_none_or(|next| next < self.now);
        if self.options.own_addresses.is_empty() || !is_due || host.is_initial_download() {
            return;
        }
        let next = self.now + self.random.exponential(OWN_INTERVAL);
        let is_first = peer.address.next_own.replace(next).is_none();
        if !is_first {
            // It is to be told although the peer knows it.
            peer.address.known.clear();
        }
        // Who reaches us in one network is told nothing of another one that hides us.
        let family = NodeHost::from(peer.socket().ip()).family();
        let mut ours = self.options.own_addresses.iter().filter(|own| own.host.is_reachable());
        let Some(own) = ours.clone().find(|own| own.host.family() == family).or_else(|| ours.next()) else { return };
        let time = u32::try_from(self.now.secs()).unwrap_or(u32::MAX);
        let own = KnownAddress { address: *own, services: self.options.services, time };
        if is_first {
            tell(peer, &[own]);
        } else {
            let chance = self.random.next();
            peer.address.push(own, chance);
        }
    }

    /// The addresses that the next `getaddr` is answered with.
    pub fn set_known_addresses(&mut self, addresses: Arc<[KnownAddress]>) {
        self.known_addresses = addresses;
    }
}

/// Whether a peer can be told of an address: those who know the older message only know no names.
const fn fits(known: &KnownAddress, takes_names: bool) -> bool {
    takes_names || matches!(known.address.host, NodeHost::Ip(_))
}

fn tell(peer: &mut Peer, addresses: &[KnownAddress]) {
    if peer.wants_addrv2 {
        let message = |known: &KnownAddress| AddrV2Message {
            time: known.time,
            services: ServiceFlags::from(known.services),
            addr: known.address.to_wire(),
            port: known.address.port,
        };
        return peer.send(NetworkMessage::AddrV2(addresses.iter().map(message).collect()));
    }
    let message = |known: &KnownAddress| {
        let socket = known.address.socket()?;
        Some((known.time, Address::new(&socket, ServiceFlags::from(known.services))))
    };
    peer.send(NetworkMessage::Addr(addresses.iter().filter_map(message).collect()));
}
