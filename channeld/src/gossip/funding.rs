//! Which outputs stand behind the channels of the graph: announcements that wait for the chain's word, and outputs whose spend
//! ends a channel. Pure: the chain is asked by the thread.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bitcoin::{Block, OutPoint};
use serde::{Deserialize, Serialize};

use crate::graph::{Announcement, FundingOutput, VerifiedChannel};
use crate::node::input::SessionNumber;
use crate::units::{BlockHeight, ShortChannelId};

/// Announcements that wait at once; each is less than two kilobytes or comes alone.
const MOST_WAITING: usize = 20_000;
/// Of one peer.
const MOST_OF_A_PEER: usize = 5_000;
/// Looked up at once.
const MOST_ASKED: usize = 1_000;
/// Messages that rest on one announcement: two updates, and newer ones of each.
const MOST_FOLLOWERS: usize = 6;
/// An output may be so much less deep than it must be: our chain may be behind the sender's (CLN takes 12).
pub const ALMOST_DEEP: u32 = 12;
/// Blocks of which it is known what they spent, for a reorganisation.
const REMEMBERED_BLOCKS: usize = 144;

/// What the chain says of a short channel id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// There is an unspent output.
    Found {
        /// What it is.
        output: FundingOutput,
        /// Which it is.
        outpoint: OutPoint,
    },
    /// The chain is not so long yet.
    NotYet,
    /// There is no such output, or it is spent.
    Missing,
    /// The chain does not answer now.
    Unavailable,
}

/// A verified announcement whose output is not known yet.
#[derive(Debug)]
pub struct Pending {
    /// The announcement.
    pub verified: VerifiedChannel,
    /// Who sent it; ourselves where it is `None`.
    pub from: Option<SessionNumber>,
    /// What came after it and rests on it, with its sender.
    pub followers: Followers,
}

/// What rests on an announcement, with its sender, in the order in which it came.
type Followers = VecDeque<(Option<SessionNumber>, Announcement)>;

/// Announcements that wait for the chain.
#[derive(Debug, Default)]
pub struct Waiting {
    pending: BTreeMap<ShortChannelId, Pending>,
    /// Not asked yet.
    queue: BTreeSet<ShortChannelId>,
    /// Asked and not answered.
    asked: BTreeSet<ShortChannelId>,
    /// To be asked again with the next block.
    later: BTreeSet<ShortChannelId>,
    of_peer: BTreeMap<SessionNumber, usize>,
    /// Names of our own channels, and the peer's updates of those that were not announced yet.
    own: BTreeMap<ShortChannelId, Followers>,
}

impl Waiting {
    /// How many wait.
    pub fn count(&self) -> usize {
        self.pending.len()
    }

    /// Whether this one waits.
    pub fn contains(&self, id: ShortChannelId) -> bool {
        self.pending.contains_key(&id)
    }

    /// Lets an announcement wait, unless there are too many. Our own always may.
    pub fn add(&mut self, verified: VerifiedChannel, from: Option<SessionNumber>) -> bool {
        let id = verified.short_channel_id();
        if let Some(from) = from {
            let of_peer = self.of_peer.get(&from).copied().unwrap_or(0);
            if self.pending.contains_key(&id) || self.pending.len() >= MOST_WAITING || of_peer >= MOST_OF_A_PEER {
                return false;
            }
            self.of_peer.insert(from, of_peer + 1);
        }
        let before = self.take(id);
        let mut followers = before.map(|before| before.followers).unwrap_or_default();
        followers.extend(self.own.get_mut(&id).map(std::mem::take).unwrap_or_default());
        self.pending.insert(id, Pending { verified, from, followers });
        self.queue.insert(id);
        true
    }

    /// Channels of ours have these names.
    pub fn expect(&mut self, names: BTreeSet<ShortChannelId>) {
        for name in names {
            self.own.entry(name).or_default();
        }
    }

    /// Whether a message about this channel can wait: for the chain's word, or for our own announcement.
    pub fn takes_followers(&self, id: ShortChannelId) -> bool {
        self.pending.contains_key(&id) || self.own.contains_key(&id)
    }

    /// Lets a message wait with the announcement that it rests on; the oldest gives way.
    pub fn follow(&mut self, id: ShortChannelId, from: Option<SessionNumber>, announcement: Announcement) {
        let pending = self.pending.get_mut(&id).map(|pending| &mut pending.followers);
        if let Some(followers) = pending.or_else(|| self.own.get_mut(&id)) {
            if followers.len() >= MOST_FOLLOWERS {
                followers.pop_front();
            }
            followers.push_back((from, announcement));
        }
    }

    /// What is to be looked up now.
    pub fn ask(&mut self) -> Vec<ShortChannelId> {
        let mut ids = Vec::new();
        while self.asked.len() < MOST_ASKED
            && let Some(id) = self.queue.pop_first()
        {
            self.asked.insert(id);
            ids.push(id);
        }
        ids
    }

    /// The answer came: the announcement does not wait any more.
    pub fn take(&mut self, id: ShortChannelId) -> Option<Pending> {
        self.asked.remove(&id);
        self.queue.remove(&id);
        self.later.remove(&id);
        let pending = self.pending.remove(&id)?;
        if let Some(from) = pending.from
            && let Some(count) = self.of_peer.get_mut(&from)
        {
            *count -= 1;
            if *count == 0 {
                self.of_peer.remove(&from);
            }
        }
        Some(pending)
    }

    /// The answer was not final: it is asked again with the next block.
    pub fn ask_later(&mut self, id: ShortChannelId, pending: Pending) {
        if let Some(from) = pending.from {
            *self.of_peer.entry(from).or_default() += 1;
        }
        self.pending.insert(id, pending);
        self.later.insert(id);
    }

    /// A block came, or some time passed: what was not deep enough may be now.
    pub fn retry(&mut self) {
        self.queue.append(&mut self.later);
    }
}

/// The outputs of the channels in the graph: whoever spends one closes its channel.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outputs {
    by_outpoint: BTreeMap<OutPoint, ShortChannelId>,
    by_id: BTreeMap<ShortChannelId, OutPoint>,
    /// What the last blocks spent, for a reorganisation.
    spent: VecDeque<(BlockHeight, Vec<ShortChannelId>)>,
}

impl Outputs {
    /// A channel came into the graph.
    pub fn insert(&mut self, id: ShortChannelId, outpoint: OutPoint) {
        if let Some(before) = self.by_id.insert(id, outpoint) {
            self.by_outpoint.remove(&before);
        }
        self.by_outpoint.insert(outpoint, id);
    }

    /// Keeps only those of channels that are still known.
    pub fn retain(&mut self, is_known: impl Fn(ShortChannelId) -> bool) {
        self.by_id.retain(|id, _| is_known(*id));
        self.by_outpoint.retain(|_, id| is_known(*id));
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.by_id.len()
    }

    /// The channels that a block closes.
    pub fn spent_by(&mut self, height: BlockHeight, block: &Block) -> Vec<ShortChannelId> {
        let inputs = block.txdata.iter().flat_map(|transaction| &transaction.input);
        let spent: Vec<ShortChannelId> =
            inputs.filter_map(|input| self.by_outpoint.get(&input.previous_output).copied()).collect();
        if !spent.is_empty() {
            self.spent.push_back((height, spent.clone()));
        }
        if self.spent.len() > REMEMBERED_BLOCKS {
            self.spent.pop_front();
        }
        spent
    }

    /// The channels that a block had closed which is not in the chain any more.
    pub fn unspent_by(&mut self, height: BlockHeight) -> Vec<ShortChannelId> {
        if self.spent.back().is_none_or(|(spent_at, _)| *spent_at != height) {
            return Vec::new();
        }
        self.spent.pop_back().map(|(_, ids)| ids).unwrap_or_default()
    }

    /// The channels whose output is in the block at a height.
    pub fn in_block(&self, height: BlockHeight) -> Vec<ShortChannelId> {
        let first = ShortChannelId::from_u64(u64::from(height.height()) << 40);
        self.by_id.range(first..).map(|(id, _)| *id).take_while(|id| id.block() == height.height()).collect()
    }

    /// Whether the channel's output is where it is said to be in this block.
    pub fn stands_in(&self, id: ShortChannelId, block: &Block) -> bool {
        let Some(outpoint) = self.by_id.get(&id) else { return false };
        let place = usize::try_from((id.to_u64() >> 16) & 0xff_ffff).unwrap_or(usize::MAX);
        block.txdata.get(place).is_some_and(|transaction| transaction.compute_txid() == outpoint.txid)
    }
}
