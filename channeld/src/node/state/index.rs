//! What follows from the state and is kept beside it, so that no page of a list, no tick and no turn looks through all of
//! something: places by index, what is due first, what belongs to a channel.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::node::api::command::Page;
use crate::node::api::reply::Paged;
use crate::units::{ChannelId, PaymentHash, SessionId, UnixTime};

/// See the file's map.
#[derive(Clone, Default)]
pub struct Index {
    /// Channels by their index.
    pub channels: BTreeMap<u64, ChannelId>,
    /// Payments in flight by their index.
    pub payments: BTreeMap<u64, PaymentHash>,
    /// Open invoices by their index.
    pub invoices: BTreeMap<u64, PaymentHash>,
    /// Open invoices by the time at which they expire.
    pub expiries: BTreeSet<(UnixTime, PaymentHash)>,
    /// Streams in which we pay, by channel.
    pub streams: BTreeSet<(ChannelId, SessionId)>,
    /// Answers in memory, the oldest first.
    pub answers: BTreeSet<(UnixTime, String)>,
}

impl Index {
    /// The streams on a channel.
    pub fn streams_on(&self, channel: ChannelId) -> impl Iterator<Item = SessionId> {
        let all = (channel, SessionId([0; 32]))..=(channel, SessionId([u8::MAX; 32]));
        self.streams.range(all).map(|(_, session)| *session)
    }
}

/// The part of a list that a page asks for, out of places in rising order; `item` may leave some out.
pub fn page_of<K: Copy, T>(places: &BTreeMap<u64, K>, page: Page, mut item: impl FnMut(K) -> Option<T>) -> Paged<T> {
    let size = page.size as usize;
    let after = |place: u64| {
        if page.newest_first {
            (Bound::Unbounded, Bound::Excluded(place))
        } else {
            (Bound::Excluded(place), Bound::Unbounded)
        }
    };
    let range = page.after.map_or((Bound::Unbounded, Bound::Unbounded), after);
    let mut range = places.range(range);
    let (mut items, mut next) = (Vec::new(), None);
    while let Some((place, key)) = if page.newest_first { range.next_back() } else { range.next() } {
        let Some(found) = item(*key) else { continue };
        if items.len() == size {
            return Paged { items, next };
        }
        items.push(found);
        next = Some(*place);
    }
    Paged { items, next: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_both_ways() {
        let places: BTreeMap<u64, u64> = [1, 3, 4, 9].map(|place| (place, place)).into();
        let all = |newest_first: bool| {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let page = page_of(&places, Page { after, size: 2, newest_first }, |key| (key != 3).then_some(key));
                found.extend(page.items);
                after = page.next;
                if after.is_none() {
                    return found;
                }
            }
        };
        assert_eq!(all(false), [1, 4, 9]);
        assert_eq!(all(true), [9, 4, 1]);
        let none = page_of(&places, Page { after: Some(9), size: 2, newest_first: false }, Some);
        assert_eq!(none, Paged { items: Vec::new(), next: None });
    }
}
