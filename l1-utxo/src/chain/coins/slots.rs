//! Coins packed in memory: one slot of fixed size each, scripts in it as far as they fit.
//!
//! Half of what a map of coins with scripts of their own takes, and no allocation a coin. A slot that is free is taken
//! again before a new one is made.

use std::collections::BTreeMap;
use std::hash::BuildHasher;

use bitcoin::{Amount, OutPoint, Script};
use hashbrown::HashTable;

use super::salt::SaltedState;
use crate::chain::coin::LentCoin;

/// Scripts up to this length lie in the slot: those of all addresses, and pay-to-public-key with a compressed key.
const INLINE: usize = 38;
/// In the place of a script's length: it lies elsewhere.
const LONG: u8 = 0xff;
/// Bytes that a coin costs apart from a long script: its slot, and its place in the table at the table's mean load.
pub(super) const SLOT_COST: usize = size_of::<Slot>() + (size_of::<u32>() + 1) * 3 / 2;
/// What an allocation and its place in a map cost beyond its bytes.
const LONG_COST: usize = 48;

/// How an entry stands to the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags {
    /// It differs from what the store holds.
    pub(super) is_dirty: bool,
    /// The store does not know the coin: once spent it is forgotten.
    pub(super) is_fresh: bool,
}

const DIRTY: u8 = 1;
const FRESH: u8 = 2;
const UNSPENT: u8 = 4;
const COINBASE: u8 = 8;
/// Nobody's.
const FREE: u8 = 16;

#[derive(Clone, Debug)]
struct Slot {
    value: u64,
    outpoint: OutPoint,
    height: u32,
    bits: u8,
    script_length: u8,
    script: [u8; INLINE],
}

/// The slots, and the table that finds them.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    table: HashTable<u32>,
    salt: SaltedState,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Scripts that do not fit, by their slot.
    long: BTreeMap<u32, Box<[u8]>>,
    long_bytes: usize,
}

impl Slots {
    pub(super) const fn new(salt: SaltedState) -> Self {
        Self {
            table: HashTable::new(),
            salt,
            slots: Vec::new(),
            free: Vec::new(),
            long: BTreeMap::new(),
            long_bytes: 0,
        }
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Bytes that scripts take outside of the slots.
    pub(super) const fn long_bytes(&self) -> usize {
        self.long_bytes
    }

    /// Where an outpoint's entry is.
    pub(super) fn find(&self, outpoint: &OutPoint) -> Option<u32> {
        let is_it = |place: &u32| self.slots[*place as usize].outpoint == *outpoint;
        self.table.find(self.salt.hash_one(outpoint), is_it).copied()
    }

    /// The places of all entries.
    pub(super) fn places(&self) -> impl Iterator<Item = u32> {
        (0..).zip(&self.slots).filter(|(_, slot)| slot.bits & FREE == 0).map(|(place, _)| place)
    }

    /// How the entry at a place stands to the store.
    pub(super) fn flags(&self, place: u32) -> Flags {
        let bits = self.slots[place as usize].bits;
        Flags { is_dirty: bits & DIRTY != 0, is_fresh: bits & FRESH != 0 }
    }

    /// The coin at a place; `None` if it is spent.
    pub(super) fn coin(&self, place: u32) -> Option<LentCoin<'_>> {
        self.entry(place).1
    }

    /// What lies at a place.
    pub(super) fn entry(&self, place: u32) -> (&OutPoint, Option<LentCoin<'_>>) {
        let slot = &self.slots[place as usize];
        let coin = (slot.bits & UNSPENT != 0).then(|| LentCoin {
            value: Amount::from_sat(slot.value),
            script: Script::from_bytes(match slot.script_length {
                LONG => self.long.get(&place).map_or(&[], AsRef::as_ref),
                length => &slot.script[..usize::from(length)],
            }),
            height: slot.height,
            is_coinbase: slot.bits & COINBASE != 0,
        });
        (&slot.outpoint, coin)
    }

    /// Makes the entry of an outpoint that has none.
    pub(super) fn insert(&mut self, outpoint: &OutPoint, coin: Option<LentCoin<'_>>, flags: Flags) {
        let slot = Slot { value: 0, outpoint: *outpoint, height: 0, bits: 0, script_length: 0, script: [0; INLINE] };
        let place = match self.free.pop() {
            Some(place) => {
                self.slots[place as usize] = slot;
                place
            }
            None => {
                self.slots.push(slot);
                u32::try_from(self.slots.len() - 1).expect("four thousand million slots are more than any memory")
            }
        };
        self.set(place, coin, flags);
        let (slots, salt) = (&self.slots, self.salt);
        let hash = |place: &u32| salt.hash_one(slots[*place as usize].outpoint);
        self.table.insert_unique(salt.hash_one(outpoint), place, hash);
    }

    /// Puts another coin, or none, in the place of what was there.
    pub(super) fn set(&mut self, place: u32, coin: Option<LentCoin<'_>>, flags: Flags) {
        self.drop_long(place);
        let slot = &mut self.slots[place as usize];
        let bit = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        slot.bits = bit(flags.is_dirty, DIRTY) | bit(flags.is_fresh, FRESH);
        slot.script_length = 0;
        let Some(coin) = coin else { return };
        slot.bits |= UNSPENT | bit(coin.is_coinbase, COINBASE);
        (slot.value, slot.height) = (coin.value.to_sat(), coin.height);
        let script = coin.script.as_bytes();
        if let Some(inline) = slot.script.get_mut(..script.len()) {
            inline.copy_from_slice(script);
            slot.script_length = script.len() as u8;
        } else {
            slot.script_length = LONG;
            self.long_bytes += script.len() + LONG_COST;
            self.long.insert(place, script.into());
        }
    }

    /// Takes the entry at a place away.
    pub(super) fn remove(&mut self, place: u32) {
        self.drop_long(place);
        let slot = &mut self.slots[place as usize];
        slot.bits = FREE;
        let hash = self.salt.hash_one(slot.outpoint);
        if let Ok(entry) = self.table.find_entry(hash, |other| *other == place) {
            entry.remove();
            self.free.push(place);
        }
    }

    /// The store knows all there is: spent ones go, the others are neither dirty nor fresh.
    pub(super) fn settle(&mut self) {
        let spent: Vec<u32> = self.places().filter(|place| self.coin(*place).is_none()).collect();
        spent.into_iter().for_each(|place| self.remove(place));
        self.slots.iter_mut().for_each(|slot| slot.bits &= !(DIRTY | FRESH));
    }

    fn drop_long(&mut self, place: u32) {
        if self.slots[place as usize].script_length == LONG
            && let Some(script) = self.long.remove(&place)
        {
            self.long_bytes -= script.len() + LONG_COST;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::Txid;
    use bitcoin::hashes::Hash;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_slot_is_as_small_as_its_docs_say() {
        assert_eq!(size_of::<Slot>(), 88);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Put { vout: u32, script: Vec<u8>, sat: u64, is_coinbase: bool, is_fresh: bool },
        Spend(u32),
        Remove(u32),
        Settle,
    }

    fn step() -> impl Strategy<Value = Step> {
        let script = prop_oneof![
            3 => proptest::collection::vec(any::<u8>(), 0..=INLINE),
            1 => proptest::collection::vec(any::<u8>(), INLINE..300),
        ];
        prop_oneof![
            6 => (0..40u32, script, any::<u64>(), any::<bool>(), any::<bool>()).prop_map(
                |(vout, script, sat, is_coinbase, is_fresh)| Step::Put { vout, script, sat, is_coinbase, is_fresh }
            ),
            2 => (0..40u32).prop_map(Step::Spend),
            2 => (0..40u32).prop_map(Step::Remove),
            1 => Just(Step::Settle),
        ]
    }

    /// Value, script and whether it is a coinbase's; `None`: spent.
    type Plain = Option<(u64, Vec<u8>, bool)>;

    fn put(slots: &mut Slots, outpoint: &OutPoint, coin: &Plain, flags: Flags) {
        let lent = coin.as_ref().map(|(sat, script, is_coinbase)| LentCoin {
            value: Amount::from_sat(*sat),
            script: Script::from_bytes(script),
            height: outpoint.vout,
            is_coinbase: *is_coinbase,
        });
        match slots.find(outpoint) {
            Some(place) => slots.set(place, lent, flags),
            None => slots.insert(outpoint, lent, flags),
        }
    }

    proptest! {
        #[test]
        fn slots_hold_what_a_plain_map_holds(steps in proptest::collection::vec(step(), 0..200), salt in any::<u64>()) {
            let outpoint = |vout| OutPoint { txid: Txid::from_byte_array([9; 32]), vout };
            let mut slots = Slots::new(SaltedState(salt));
            let mut model: BTreeMap<u32, (Plain, Flags)> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Put { vout, script, sat, is_coinbase, is_fresh } => {
                        let (coin, flags) = (Some((sat, script, is_coinbase)), Flags { is_dirty: true, is_fresh });
                        put(&mut slots, &outpoint(vout), &coin, flags);
                        model.insert(vout, (coin, flags));
                    }
                    Step::Spend(vout) => {
                        let flags = Flags { is_dirty: true, is_fresh: false };
                        put(&mut slots, &outpoint(vout), &None, flags);
                        model.insert(vout, (None, flags));
                    }
                    Step::Remove(vout) => {
                        if let Some(place) = slots.find(&outpoint(vout)) {
                            slots.remove(place);
                        }
                        model.remove(&vout);
                    }
                    Step::Settle => {
                        slots.settle();
                        model.retain(|_, (coin, _)| coin.is_some());
                        model.values_mut().for_each(|(_, flags)| *flags = Flags::default());
                    }
                }
                let plain = |place| {
                    let (outpoint, coin) = slots.entry(place);
                    let coin = coin.map(|coin| {
                        assert_eq!(coin.height, outpoint.vout);
                        (coin.value.to_sat(), coin.script.to_bytes(), coin.is_coinbase)
                    });
                    (outpoint.vout, (coin, slots.flags(place)))
                };
                let found: BTreeMap<_, _> = slots.places().map(plain).collect();
                prop_assert_eq!(&found, &model);
                prop_assert_eq!(slots.len(), model.len());
                let long = |(coin, _): &(Plain, Flags)| match coin {
                    Some((_, script, _)) if script.len() > INLINE => script.len() + LONG_COST,
                    _ => 0,
                };
                prop_assert_eq!(slots.long_bytes(), model.values().map(long).sum::<usize>());
                prop_assert!((0..40).all(|vout| slots.find(&outpoint(vout)).is_some() == model.contains_key(&vout)));
            }
            prop_assert!(slots.slots.len() <= 40, "free slots are taken again");
        }
    }
}
