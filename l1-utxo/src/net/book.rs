//! Addresses of other nodes, remembered over restarts in `peers.json`: so many, the ones heard of last; those that answered
//! once are kept before those that are hearsay. Bitcoin Core: `addrman.cpp`.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::sync::{KnownAddress, NodeAddress};

const FILE: &str = "peers.json";
/// Addresses at most.
const MAX_ADDRESSES: usize = 16_384;
/// Addresses that `getaddr` is answered with.
const MAX_TOLD: usize = 1_000;
/// Seconds for which that answer stays the same: whoever asks again learns nothing more.
const ANSWER_TIME: i64 = 21 * 3_600;
const ANSWER_TIME_SPREAD: u64 = 6 * 3_600;
/// Of a hundred addresses so many are told at most: nobody gets them all (Core: `MAX_PCT_ADDR_TO_SEND`).
const TOLD_OF_A_HUNDRED: usize = 23;
/// Of them from one IP address: else one machine could fill the book.
const MAX_PER_IP: usize = 8;

/// What is known of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// What it offers.
    pub services: u64,
    /// When it was last heard of, in seconds since 1970.
    pub time: u32,
    /// When we last were connected to it; 0 if never.
    pub good: i64,
    /// Attempts since then.
    pub attempts: u32,
    /// The last attempt.
    pub tried: i64,
}

/// The book.
#[derive(Debug)]
pub struct Book {
    path: PathBuf,
    addresses: BTreeMap<NodeAddress, Known>,
    is_changed: bool,
    /// What is told to those who connected to an address of ours, and until when.
    answers: BTreeMap<Option<SocketAddr>, (i64, Arc<[KnownAddress]>)>,
}

impl Book {
    /// Reads what the last run left; a file that cannot be read counts as none.
    pub fn load(dir: &Path) -> Self {
        let path = dir.join(FILE);
        let addresses = match std::fs::read(&path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?)) {
            Ok(addresses) => addresses,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the list of addresses cannot be read");
                BTreeMap::new()
            }
        };
        Self { path, addresses, is_changed: false, answers: BTreeMap::new() }
    }

    /// Notes addresses that a peer told; how many are new.
    pub fn learn(&mut self, addresses: &[KnownAddress]) -> usize {
        let mut count = 0;
        for known in addresses {
            self.is_changed = true;
            if let Some(old) = self.addresses.get_mut(&known.address) {
                old.time = old.time.max(known.time);
                old.services |= known.services;
                continue;
            }
            let host = known.address.host;
            let first = NodeAddress { host, port: 0 };
            let of_host = self.addresses.range(first..).take_while(|(address, _)| address.host == host);
            if of_host.count() >= MAX_PER_IP {
                continue;
            }
            let entry = Known { services: known.services, time: known.time, good: 0, attempts: 0, tried: 0 };
            self.addresses.insert(known.address, entry);
            count += 1;
            if self.addresses.len() > MAX_ADDRESSES {
                let worst = self.addresses.iter().min_by_key(|(_, known)| (known.good, known.time));
                if let Some(worst) = worst.map(|(address, _)| *address) {
                    self.addresses.remove(&worst);
                }
            }
        }
        count
    }

    /// We were connected to this one.
    pub fn good(&mut self, address: NodeAddress, now: i64) {
        if let Some(known) = self.addresses.get_mut(&address) {
            (known.good, known.attempts, known.time) = (now, 0, u32::try_from(now).unwrap_or(u32::MAX));
            self.is_changed = true;
        }
    }

    /// We try this one.
    pub fn tried(&mut self, address: SocketAddr, now: i64) {
        if let Some(known) = self.addresses.get_mut(&address.into()) {
            known.tried = now;
            known.attempts = known.attempts.saturating_add(1);
            self.is_changed = true;
        }
    }

    /// One to dial that was not tried in the last ten minutes, chosen by `chance`; good ones count twice.
    pub fn choose(&self, chance: u64, now: i64, is_taken: impl Fn(&SocketAddr) -> bool) -> Option<SocketAddr> {
        let sockets = self.addresses.iter().filter_map(|(address, known)| Some((address.socket()?, known)));
        let candidates = sockets.filter(|(address, known)| known.tried + 600 < now && !is_taken(address));
        let weighted: Vec<SocketAddr> = candidates
            .flat_map(|(address, known)| std::iter::repeat_n(address, if known.good > 0 { 2 } else { 1 }))
            .collect();
        let count = u64::try_from(weighted.len()).ok().filter(|count| *count > 0)?;
        weighted.get(usize::try_from(chance % count).ok()?).copied()
    }

    /// What `getaddr` is answered with where this is our end of the connection: others, so that nobody can tell that two
    /// addresses are of one node.
    pub fn answer(&mut self, local: Option<SocketAddr>, chance: u64, now: i64) -> Arc<[KnownAddress]> {
        if let Some((until, answer)) = self.answers.get(&local)
            && now <= *until
        {
            return Arc::clone(answer);
        }
        self.answers.retain(|_, (until, _)| now <= *until);
        let answer: Arc<[KnownAddress]> = self.sample(MAX_TOLD, chance).into();
        let until = now + ANSWER_TIME + (chance % ANSWER_TIME_SPREAD).cast_signed();
        // As long as there is nothing to tell, there may be soon.
        if !answer.is_empty() {
            self.answers.insert(local, (until, Arc::clone(&answer)));
        }
        answer
    }

    /// A part of them, the same for the same `salt`: whoever asks often learns no more.
    pub fn sample(&self, count: usize, salt: u64) -> Vec<KnownAddress> {
        let mut all = self.list(usize::MAX);
        let mix = |known: &KnownAddress| {
            let key = known.address.key();
            key.into_iter()
                .fold(salt, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3).rotate_left(23))
        };
        all.sort_by_cached_key(mix);
        all.truncate(count.min(all.len() * TOLD_OF_A_HUNDRED / 100));
        all
    }

    /// Up to `count` addresses, those heard of last first.
    pub fn list(&self, count: usize) -> Vec<KnownAddress> {
        let entry = |(address, known): (&NodeAddress, &Known)| KnownAddress {
            address: *address,
            services: known.services,
            time: known.time,
        };
        let mut all: Vec<KnownAddress> = self.addresses.iter().map(entry).collect();
        all.sort_by_key(|known| std::cmp::Reverse(known.time));
        all.truncate(count);
        all
    }

    /// All addresses, with whether we were ever connected to them.
    pub fn entries(&self) -> impl Iterator<Item = (NodeAddress, Known)> {
        self.addresses.iter().map(|(address, known)| (*address, *known))
    }

    /// Writes it if anything has changed.
    pub fn save(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.is_changed) {
            return Ok(());
        }
        let draft = self.path.with_extension("json.new");
        std::fs::write(&draft, serde_json::to_vec(&self.addresses)?)?;
        std::fs::File::open(&draft)?.sync_all()?;
        std::fs::rename(&draft, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> SocketAddr {
        SocketAddr::new(std::net::Ipv4Addr::from_bits(0x0800_0000 + n).into(), 18_444)
    }

    fn known(n: u32) -> KnownAddress {
        KnownAddress { address: address(n).into(), services: 9, time: n }
    }

    #[test]
    fn good_addresses_outlive_hearsay_and_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = Book::load(dir.path());
        book.learn(&[known(1), known(2)]);
        book.good(address(1).into(), 10);
        for n in 100..100 + MAX_ADDRESSES as u32 {
            book.learn(&[known(n)]);
        }
        book.save().unwrap();
        let book = Book::load(dir.path());
        assert_eq!(book.addresses.len(), MAX_ADDRESSES);
        assert!(book.addresses.contains_key(&address(1).into()) && !book.addresses.contains_key(&address(2).into()));
        assert_eq!(book.list(10).len(), 10);
        // Nobody hears of all, and who asks again hears the same.
        let told = book.sample(1_000, 7);
        assert_eq!((told.len(), book.sample(1_000, 7) == told), (1_000, true));
        assert_ne!(book.sample(1_000, 8), told);
        // The answer stays for most of a day, and is another one where another address of ours was called.
        let mut book = book;
        let told = book.answer(Some(address(1)), 1, 1_000);
        assert_eq!(told.len(), 1_000);
        assert_eq!(book.answer(Some(address(1)), 2, 1_000 + ANSWER_TIME), told);
        assert_ne!(book.answer(Some(address(2)), 3, 1_000), told);
        assert_ne!(book.answer(Some(address(1)), 4, 1_000 + 2 * ANSWER_TIME), told);
    }

    #[test]
    fn one_machine_does_not_fill_the_book() {
        let mut book = Book::load(Path::new("/nonexistent"));
        let ports = 1..1_000u16;
        let all: Vec<KnownAddress> = ports
            .map(|port| KnownAddress {
                address: SocketAddr::new([8, 8, 8, 8].into(), port).into(),
                services: 9,
                time: 1,
            })
            .collect();
        book.learn(&all);
        assert_eq!(book.addresses.len(), MAX_PER_IP);
        assert_eq!(book.sample(1_000, 1).len(), 1);
        assert!(book.choose(3, 1_000, |_| false).is_some());
        assert_eq!(book.choose(3, 1_000, |_| true), None);
    }
}
