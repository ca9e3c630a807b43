//! A sorted map in pages, shared with its copies until one of them writes: a tree of two levels.

use std::sync::Arc;

/// How many entries a page holds at most.
const PAGE: usize = 256;

/// The map. A copy costs one pointer and one key a page.
#[derive(Clone, Debug)]
pub struct Sorted<K, V> {
    /// The first key of each page.
    firsts: Vec<K>,
    /// None is empty.
    pages: Vec<Arc<Vec<(K, V)>>>,
    length: usize,
}

impl<K, V> Default for Sorted<K, V> {
    fn default() -> Sorted<K, V> {
        Sorted { firsts: Vec::new(), pages: Vec::new(), length: 0 }
    }
}

impl<K: Ord + Copy, V: Copy> Sorted<K, V> {
    /// The number of entries.
    pub const fn len(&self) -> usize {
        self.length
    }

    /// The value of `key`.
    pub fn get(&self, key: &K) -> Option<V> {
        let page = &self.pages[self.page_of(key)?];
        page.binary_search_by(|entry| entry.0.cmp(key)).ok().map(|at| page[at].1)
    }

    /// Sets the value of `key`, and gives the one it had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let Some(at) = self.page_of(&key).or_else(|| (!self.pages.is_empty()).then_some(0)) else {
            self.firsts.push(key);
            self.pages.push(Arc::new(vec![(key, value)]));
            self.length = 1;
            return None;
        };
        let page = Arc::make_mut(&mut self.pages[at]);
        match page.binary_search_by(|entry| entry.0.cmp(&key)) {
            Ok(place) => return Some(std::mem::replace(&mut page[place].1, value)),
            Err(place) => page.insert(place, (key, value)),
        }
        self.length += 1;
        self.firsts[at] = page[0].0;
        if page.len() > PAGE {
            // In rising order pages are left full, otherwise half full.
            let from = if page[PAGE].0 == key && at + 1 == self.firsts.len() { PAGE } else { PAGE / 2 };
            let upper = page.split_off(from);
            self.firsts.insert(at + 1, upper[0].0);
            self.pages.insert(at + 1, Arc::new(upper));
        }
        None
    }

    /// Takes `key` out, and gives the value it had.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let at = self.page_of(key)?;
        let place = self.pages[at].binary_search_by(|entry| entry.0.cmp(key)).ok()?;
        let page = Arc::make_mut(&mut self.pages[at]);
        let (_, value) = page.remove(place);
        self.length -= 1;
        match page.first() {
            Some(first) => self.firsts[at] = first.0,
            None => {
                self.pages.remove(at);
                self.firsts.remove(at);
            }
        }
        Some(value)
    }

    /// The entries from `first` on, in rising order.
    pub fn from(&self, first: K) -> impl Iterator<Item = (K, V)> + '_ {
        let at = self.page_of(&first).unwrap_or(0);
        let skipped = self.pages.get(at).map_or(0, |page| page.partition_point(|entry| entry.0 < first));
        self.pages.iter().skip(at).flat_map(|page| page.iter().copied()).skip(skipped)
    }

    /// The entries after `key` in rising order, or those before it in falling order; all of them without a key.
    pub fn beyond(&self, key: Option<K>, falling: bool) -> Box<dyn Iterator<Item = (K, V)> + '_> {
        let page = key.map(|key| self.page_of(&key));
        if falling {
            let end = page.map_or(self.pages.len(), |page| page.map_or(0, |at| at + 1));
            let entries = self.pages[..end].iter().rev().flat_map(|page| page.iter().rev().copied());
            return Box::new(entries.skip_while(move |entry| key.is_some_and(|key| entry.0 >= key)));
        }
        let entries = self.pages[page.flatten().unwrap_or(0)..].iter().flat_map(|page| page.iter().copied());
        Box::new(entries.skip_while(move |entry| key.is_some_and(|key| entry.0 <= key)))
    }

    /// All entries in rising order.
    pub fn iter(&self) -> impl Iterator<Item = (K, V)> + '_ {
        self.pages.iter().flat_map(|page| page.iter().copied())
    }

    /// The page where `key` is if it is there at all; `None` if it is before all others.
    fn page_of(&self, key: &K) -> Option<usize> {
        self.firsts.partition_point(|first| first <= key).checked_sub(1)
    }
}

/// From entries whose keys rise strictly.
impl<K: Ord + Copy, V: Copy> From<Vec<(K, V)>> for Sorted<K, V> {
    fn from(entries: Vec<(K, V)>) -> Sorted<K, V> {
        debug_assert!(entries.is_sorted_by(|one, next| one.0 < next.0), "keys rise strictly");
        let pages = entries.chunks(PAGE);
        Sorted {
            firsts: pages.clone().map(|page| page[0].0).collect(),
            length: entries.len(),
            pages: pages.map(|page| Arc::new(page.to_vec())).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn it_is_a_map(operations in proptest::collection::vec((any::<bool>(), 0_u16..900, any::<u8>()), 0..1_500)) {
            let (mut map, mut model) = (Sorted::default(), BTreeMap::new());
            let mut kept = (map.clone(), model.clone());
            for (number, (inserts, key, value)) in operations.into_iter().enumerate() {
                if inserts {
                    prop_assert_eq!(map.insert(key, value), model.insert(key, value));
                } else {
                    prop_assert_eq!(map.remove(&key), model.remove(&key));
                }
                prop_assert_eq!(map.len(), model.len());
                prop_assert_eq!(map.get(&key), model.get(&key).copied());
                if number == 300 {
                    map = map.iter().collect::<Vec<_>>().into();
                }
                if number == 500 {
                    kept = (map.clone(), model.clone());
                }
            }
            for (map, model) in [(map, model), kept] {
                prop_assert!(map.iter().eq(model.iter().map(|(key, value)| (*key, *value))));
                prop_assert!(map.from(300).eq(model.range(300..).map(|(key, value)| (*key, *value))));
                prop_assert!(map.beyond(None, false).eq(map.iter()));
                prop_assert!(map.beyond(None, true).eq(model.iter().rev().map(|(key, value)| (*key, *value))));
                for key in [0, 300, 450, 899] {
                    prop_assert!(map.beyond(Some(key), false).eq(map.from(key + 1)));
                    prop_assert!(map.beyond(Some(key), true).eq(model.range(..key).rev().map(|(key, value)| (*key, *value))));
                }
            }
        }
    }
}
