//! The coins of the active chain: a write-back cache over what the store holds.
//!
//! A coin that is made and spent between two flushes never reaches the store: most live and die so. Core: `coins.cpp`.

use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, Hasher};

use bitcoin::OutPoint;

use super::coin::{Coin, CoinView};

// The order in this map is never seen: what leaves it for the store is written in key order there.
#[expect(clippy::disallowed_types, reason = "its hasher is fixed by the salt")]
type CoinMap = std::collections::HashMap<OutPoint, Cached, SaltedState>;

/// Bytes that one entry costs in the map apart from its script, at the map's mean load.
const ENTRY_COST: usize = (size_of::<OutPoint>() + size_of::<Cached>() + 1) * 3 / 2;
/// What an allocation costs beyond its bytes.
const ALLOCATION_COST: usize = 16;

#[derive(Clone, Debug)]
struct Cached {
    /// `None`: spent.
    coin: Option<Coin>,
    /// Differs from what the store holds.
    is_dirty: bool,
    /// The store does not know the coin: once spent it is forgotten.
    is_fresh: bool,
}

/// The cache. Its answers are those of the active chain once `base` has answered for what it does not hold.
#[derive(Clone, Debug)]
pub struct CoinsCache {
    coins: CoinMap,
    script_bytes: usize,
    dirty: usize,
}

impl CoinsCache {
    /// An empty cache; `salt` keeps others from choosing transactions that collide in the map.
    pub fn new(salt: u64) -> Self {
        Self { coins: CoinMap::with_hasher(SaltedState(salt)), script_bytes: 0, dirty: 0 }
    }

    /// `None`: ask the store. `Some(None)`: there is no such coin.
    pub fn get(&self, outpoint: &OutPoint) -> Option<Option<&Coin>> {
        self.coins.get(outpoint).map(|cached| cached.coin.as_ref())
    }

    /// Adds a coin that did not exist a moment ago.
    pub(super) fn add(&mut self, outpoint: OutPoint, coin: Coin) {
        self.script_bytes += script_cost(Some(&coin));
        self.dirty += 1;
        match self.coins.entry(outpoint) {
            Entry::Vacant(place) => {
                place.insert(Cached { coin: Some(coin), is_dirty: true, is_fresh: true });
            }
            // A spent entry that is still here may exist in the store.
            Entry::Occupied(mut place) => {
                let old = place.insert(Cached { coin: Some(coin), is_dirty: true, is_fresh: false });
                self.forget(&old);
            }
        }
    }

    /// Removes a coin that exists, here or in the store.
    pub(super) fn spend(&mut self, outpoint: &OutPoint) {
        const MARK: Cached = Cached { coin: None, is_dirty: true, is_fresh: false };
        let old = match self.coins.entry(*outpoint) {
            Entry::Occupied(place) if place.get().is_fresh => place.remove(),
            Entry::Occupied(mut place) => {
                self.dirty += 1;
                place.insert(MARK)
            }
            Entry::Vacant(place) => {
                self.dirty += 1;
                place.insert(MARK);
                return;
            }
        };
        self.forget(&old);
    }

    fn forget(&mut self, cached: &Cached) {
        self.script_bytes -= script_cost(cached.coin.as_ref());
        self.dirty -= usize::from(cached.is_dirty);
    }

    /// Bytes in memory, nearly.
    pub fn memory(&self) -> usize {
        self.coins.len() * ENTRY_COST + self.script_bytes
    }

    /// How many entries the store does not have yet.
    pub const fn dirty_count(&self) -> usize {
        self.dirty
    }

    /// What the store does not have yet, in no particular order; `None` for coins that it must remove.
    pub fn dirty(&self) -> impl Iterator<Item = (&OutPoint, Option<&Coin>)> {
        self.coins
            .iter()
            .filter(|(_, cached)| cached.is_dirty)
            .map(|(outpoint, cached)| (outpoint, cached.coin.as_ref()))
    }

    /// The store has it all now. Unspent coins stay if they take at most `keep` bytes together, else all go.
    pub(super) fn flushed(&mut self, keep: usize) {
        self.dirty = 0;
        if self.memory() > keep {
            *self = Self { coins: CoinMap::with_hasher(*self.coins.hasher()), script_bytes: 0, dirty: 0 };
            return;
        }
        self.coins.retain(|_, cached| {
            (cached.is_dirty, cached.is_fresh) = (false, false);
            cached.coin.is_some()
        });
    }
}

fn script_cost(coin: Option<&Coin>) -> usize {
    coin.map_or(0, |coin| coin.output.script_pubkey.len() + ALLOCATION_COST)
}

/// The coins of the active chain: the cache, and behind it the store.
#[derive(Clone, Copy)]
pub struct CoinsTip<'a> {
    pub(super) cache: &'a CoinsCache,
    pub(super) base: &'a dyn CoinView,
}

impl CoinView for CoinsTip<'_> {
    fn coin(&self, outpoint: &OutPoint) -> Option<Coin> {
        match self.cache.get(outpoint) {
            Some(cached) => cached.cloned(),
            None => self.base.coin(outpoint),
        }
    }

    fn has_coin(&self, outpoint: &OutPoint) -> bool {
        match self.cache.get(outpoint) {
            Some(cached) => cached.is_some(),
            None => self.base.has_coin(outpoint),
        }
    }
}

/// Hashes outpoints with a salt.
#[derive(Clone, Copy, Debug, Default)]
pub struct SaltedState(pub u64);

impl BuildHasher for SaltedState {
    type Hasher = SaltedHasher;

    fn build_hasher(&self) -> SaltedHasher {
        SaltedHasher(self.0)
    }
}

/// One multiplication folded to 64 bits for every 8 bytes.
#[derive(Clone, Copy, Debug)]
pub struct SaltedHasher(u64);

impl SaltedHasher {
    fn fold(&mut self, word: u64) {
        const FACTOR: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
        let product = u128::from(self.0 ^ word).wrapping_add(1).wrapping_mul(FACTOR);
        self.0 = (product >> 64) as u64 ^ product as u64 ^ self.0.rotate_left(29);
    }
}

impl Hasher for SaltedHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.fold(u64::from_le_bytes(word));
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.fold(u64::from(value));
    }

    fn write_usize(&mut self, value: usize) {
        self.fold(value as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::hashes::Hash;
    use bitcoin::{Amount, ScriptBuf, TxOut, Txid};
    use std::collections::BTreeMap;

    fn outpoint(n: u32) -> OutPoint {
        OutPoint { txid: Txid::from_byte_array([7; 32]), vout: n }
    }

    fn coin(sat: u64) -> Coin {
        let output = TxOut { value: Amount::from_sat(sat), script_pubkey: ScriptBuf::from_bytes(vec![0; 22]) };
        Coin { output, height: 1, is_coinbase: false }
    }

    fn dirty(cache: &CoinsCache) -> BTreeMap<OutPoint, Option<u64>> {
        cache.dirty().map(|(o, c)| (*o, c.map(|c| c.output.value.to_sat()))).collect()
    }

    #[test]
    fn what_lives_and_dies_here_never_reaches_the_store() {
        let mut cache = CoinsCache::new(1);
        cache.add(outpoint(0), coin(1));
        cache.spend(&outpoint(0));
        assert_eq!((cache.memory(), cache.dirty_count()), (0, 0));
        assert_eq!(cache.get(&outpoint(0)), None);
    }

    #[test]
    fn coins_of_the_store_leave_a_mark_when_spent() {
        let mut cache = CoinsCache::new(1);
        cache.spend(&outpoint(1));
        assert_eq!(cache.get(&outpoint(1)), Some(None));
        // Added again (a disconnected block): the store may still have it, so it is not fresh.
        cache.add(outpoint(1), coin(2));
        cache.spend(&outpoint(1));
        assert_eq!(dirty(&cache), BTreeMap::from([(outpoint(1), None)]));
        cache.flushed(usize::MAX);
        assert_eq!((cache.memory(), cache.dirty_count()), (0, 0));
    }

    #[test]
    fn unspent_coins_stay_after_a_flush_if_they_fit() {
        let mut cache = CoinsCache::new(1);
        cache.add(outpoint(0), coin(1));
        cache.flushed(usize::MAX);
        assert_eq!(cache.get(&outpoint(0)), Some(Some(&coin(1))));
        assert_eq!(cache.dirty_count(), 0);
        cache.spend(&outpoint(0));
        assert_eq!(dirty(&cache), BTreeMap::from([(outpoint(0), None)]));
        cache.add(outpoint(5), coin(5));
        cache.flushed(10);
        assert_eq!((cache.get(&outpoint(5)), cache.memory()), (None, 0));
    }
}
