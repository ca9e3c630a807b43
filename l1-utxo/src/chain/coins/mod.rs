//! The coins of the active chain: a write-back cache over what the store holds.
//!
//! A coin that is made and spent between two flushes never reaches the store: most live and die so. Coins lie packed in
//! slots one behind the other, and a table finds them by their outpoint. Core: `coins.cpp`.

mod salt;
mod slots;

use bitcoin::OutPoint;

use self::salt::SaltedState;
use self::slots::{Flags, SLOT_COST, Slots};
use super::coin::{Coin, CoinView, LentCoin};

/// The cache. Its answers are those of the active chain once `base` has answered for what it does not hold.
#[derive(Clone, Debug)]
pub struct CoinsCache {
    slots: Slots,
    salt: u64,
    dirty: usize,
}

impl CoinsCache {
    /// An empty cache; `salt` keeps others from choosing transactions that collide in the table.
    pub const fn new(salt: u64) -> Self {
        Self { slots: Slots::new(SaltedState(salt)), salt, dirty: 0 }
    }

    /// `None`: ask the store. `Some(None)`: there is no such coin.
    pub fn get(&self, outpoint: &OutPoint) -> Option<Option<LentCoin<'_>>> {
        self.slots.find(outpoint).map(|place| self.slots.coin(place))
    }

    /// Adds a coin that did not exist a moment ago.
    pub(super) fn add(&mut self, outpoint: &OutPoint, coin: LentCoin<'_>) {
        match self.slots.find(outpoint) {
            None => {
                self.slots.insert(outpoint, Some(coin), Flags { is_dirty: true, is_fresh: true });
                self.dirty += 1;
            }
            // A spent entry that is still here may exist in the store.
            Some(place) => self.change(place, Some(coin)),
        }
    }

    /// Removes a coin that exists, here or in the store.
    pub(super) fn spend(&mut self, outpoint: &OutPoint) {
        match self.slots.find(outpoint) {
            Some(place) if self.slots.flags(place).is_fresh => {
                self.dirty -= usize::from(self.slots.flags(place).is_dirty);
                self.slots.remove(place);
            }
            Some(place) => self.change(place, None),
            None => {
                self.slots.insert(outpoint, None, Flags { is_dirty: true, is_fresh: false });
                self.dirty += 1;
            }
        }
    }

    fn change(&mut self, place: u32, coin: Option<LentCoin<'_>>) {
        self.dirty += usize::from(!self.slots.flags(place).is_dirty);
        self.slots.set(place, coin, Flags { is_dirty: true, is_fresh: false });
    }

    /// Bytes in memory, nearly.
    pub fn memory(&self) -> usize {
        self.slots.len() * SLOT_COST + self.slots.long_bytes()
    }

    /// How many entries the store does not have yet.
    pub const fn dirty_count(&self) -> usize {
        self.dirty
    }

    /// What the store does not have yet, in no particular order; `None` for coins that it must remove.
    pub fn dirty(&self) -> impl Iterator<Item = (&OutPoint, Option<LentCoin<'_>>)> {
        self.slots.places().filter(|place| self.slots.flags(*place).is_dirty).map(|place| self.slots.entry(place))
    }

    /// The store has it all now. Unspent coins stay if they take at most `keep` bytes together, else all go.
    pub(super) fn flushed(&mut self, keep: usize) {
        if self.memory() > keep {
            *self = Self::new(self.salt);
            return;
        }
        self.dirty = 0;
        self.slots.settle();
    }
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
            Some(cached) => cached.map(LentCoin::to_coin),
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
        cache.dirty().map(|(o, c)| (*o, c.map(|c| c.value.to_sat()))).collect()
    }

    #[test]
    fn what_lives_and_dies_here_never_reaches_the_store() {
        let mut cache = CoinsCache::new(1);
        cache.add(&outpoint(0), coin(1).lent());
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
        cache.add(&outpoint(1), coin(2).lent());
        cache.spend(&outpoint(1));
        assert_eq!(dirty(&cache), BTreeMap::from([(outpoint(1), None)]));
        cache.flushed(usize::MAX);
        assert_eq!((cache.memory(), cache.dirty_count()), (0, 0));
    }

    #[test]
    fn unspent_coins_stay_after_a_flush_if_they_fit() {
        let mut cache = CoinsCache::new(1);
        cache.add(&outpoint(0), coin(1).lent());
        cache.flushed(usize::MAX);
        assert_eq!(cache.get(&outpoint(0)), Some(Some(coin(1).lent())));
        assert_eq!(cache.dirty_count(), 0);
        cache.spend(&outpoint(0));
        assert_eq!(dirty(&cache), BTreeMap::from([(outpoint(0), None)]));
        cache.add(&outpoint(5), coin(5).lent());
        cache.flushed(10);
        assert_eq!((cache.get(&outpoint(5)), cache.memory()), (None, 0));
    }
}
