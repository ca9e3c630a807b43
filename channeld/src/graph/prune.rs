//! What leaves the graph: closed channels after 72 blocks, channels that nobody refreshes, nodes without channels; and the memory
//! of them, so that they are not asked for again and again (BOLT 7, "Pruning the Network View").

use std::collections::BTreeMap;

use super::apply::Graph;
use super::store::edge::{ChannelIndex, Edge};
use super::verify::{STALE_SECONDS, seconds};
use crate::units::{BlockHeight, ShortChannelId, UnixTime};

/// A closed channel is kept that many blocks, the closing one included: it may have been a splice (BOLT 7).
pub const SPENT_BLOCKS: u32 = 72;
/// How long a removed channel is remembered.
const REMEMBERED_SECONDS: u32 = STALE_SECONDS;
/// How many removed channels are remembered.
const MOST_ZOMBIES: usize = 200_000;

/// The channels that were removed lately.
#[derive(Clone, Debug, Default)]
pub(super) struct Zombies {
    /// By short channel id: when it was removed, and whether it was closed.
    pub(super) removed: BTreeMap<u64, Zombie>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Zombie {
    pub removed_at: u32,
    pub closed: bool,
}

impl Zombies {
    pub fn contains(&self, short_channel_id: u64) -> bool {
        self.removed.contains_key(&short_channel_id)
    }

    pub fn remove(&mut self, short_channel_id: u64) {
        self.removed.remove(&short_channel_id);
    }

    pub(super) fn insert(&mut self, short_channel_id: u64, zombie: Zombie) {
        if self.removed.len() >= MOST_ZOMBIES {
            self.removed.pop_first();
        }
        self.removed.insert(short_channel_id, zombie);
    }
}

/// What [`Graph::prune`] has removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Channels whose funding output was spent 72 blocks ago.
    pub closed: usize,
    /// Channels without a fresh update of both ends.
    pub stale: usize,
    /// Nodes whose last channel was among them.
    pub nodes: usize,
}

impl Graph {
    /// The funding output of a channel was spent, or reorganized out of the chain, in the block at `height`. The channel stays
    /// for 72 blocks, marked, and no update but a disabling one is taken. Whether the channel was known.
    pub fn funding_spent(&mut self, short_channel_id: ShortChannelId, height: BlockHeight) -> bool {
        let Some((index, mut record)) = self.known_channel(short_channel_id.to_u64()) else { return false };
        self.spent.remove(&(record.spent_at, index.0));
        record.spent_at = height.height().max(1);
        self.spent.insert((record.spent_at, index.0));
        self.set_record(index, record);
        self.mark(index, Edge::SPENT, true);
        true
    }

    /// A reorganization took the spend back.
    pub fn funding_unspent(&mut self, short_channel_id: ShortChannelId) {
        let Some((index, mut record)) = self.known_channel(short_channel_id.to_u64()) else { return };
        self.spent.remove(&(record.spent_at, index.0));
        record.spent_at = 0;
        self.set_record(index, record);
        self.mark(index, Edge::SPENT, false);
    }

    /// Removes what is closed, stale or forgotten long enough. Looks at every channel: some milliseconds, once an hour is enough;
    /// with each block [`Graph::prune_closed`] is.
    pub fn prune(&mut self, now: UnixTime, height: BlockHeight) -> Pruned {
        let mut pruned = self.prune_closed(now, height);
        let (nodes, now) = (self.now.node_count(), seconds(now));
        let oldest = now.saturating_sub(STALE_SECONDS);
        let stale: Vec<ChannelIndex> = self.now.channels().filter(|channel| self.is_stale(*channel, oldest)).collect();
        pruned.stale = stale.len();
        for channel in stale {
            self.bury(channel, Zombie { removed_at: now, closed: false });
        }
        pruned.nodes += nodes - self.now.node_count();
        self.zombies.removed.retain(|_, zombie| zombie.removed_at > now.saturating_sub(REMEMBERED_SECONDS));
        pruned
    }

    /// Removes the channels that were closed 72 blocks ago. Looks at nothing else.
    pub fn prune_closed(&mut self, now: UnixTime, height: BlockHeight) -> Pruned {
        let nodes = self.now.node_count();
        let mut closed = 0;
        while let Some((spent_at, channel)) = self.spent.first().copied()
            && spent_at.saturating_add(SPENT_BLOCKS - 1) <= height.height()
        {
            self.spent.pop_first();
            self.bury(ChannelIndex(channel), Zombie { removed_at: seconds(now), closed: true });
            closed += 1;
        }
        Pruned { closed, stale: 0, nodes: nodes - self.now.node_count() }
    }

    /// Whether a channel that somebody names is worth asking for: not if it is known, was closed, or was pruned and has no fresh
    /// update since. `timestamps` are those of its two updates where they were said (0: none). A pruned channel that is alive
    /// again is forgotten as pruned, so that its announcement will be taken.
    pub fn wants(&mut self, short_channel_id: ShortChannelId, timestamps: Option<[u32; 2]>, now: UnixTime) -> bool {
        let id = short_channel_id.to_u64();
        let oldest = seconds(now).saturating_sub(STALE_SECONDS);
        let fresh = timestamps.is_some_and(|times| times.into_iter().all(|time| time > oldest));
        match self.zombies.removed.get(&id) {
            Some(zombie) if zombie.closed || !fresh => false,
            Some(_) => {
                self.zombies.remove(id);
                true
            }
            None => self.now.by_scid.get(&id).is_none(),
        }
    }

    /// The older of its two updates counts: both ends must be there for a channel to be of use. An end that never said anything
    /// has two weeks from the announcement.
    fn is_stale(&self, channel: ChannelIndex, oldest: u32) -> bool {
        let Some(record) = self.now.record(channel) else { return false };
        record.timestamps.iter().any(|time| if *time == 0 { record.received < oldest } else { *time < oldest })
    }

    fn bury(&mut self, channel: ChannelIndex, zombie: Zombie) {
        if let Some(record) = self.now.record(channel) {
            self.zombies.insert(record.short_channel_id, zombie);
        }
        self.remove_channel(channel);
    }
}
