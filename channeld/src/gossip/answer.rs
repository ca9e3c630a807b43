//! What peers ask of us, answered from a snapshot (BOLT 7, "Query Messages"), in portions: no peer gets more at a time than it
//! reads, and none makes us hold more than a list of ids. Pure.

use std::collections::{BTreeSet, VecDeque};

use bitcoin::constants::ChainHash;

use crate::graph::{ChannelIndex, Direction, NodeIndex, Snapshot};
use crate::units::ShortChannelId;
use crate::wire::{
    Encoded, GossipTimestampFilter, Message, QueryChannelRange, QueryFlag, QueryOption, QueryShortChannelIds,
    ReplyChannelRange, ReplyShortChannelIdsEnd, UpdatePair,
};

/// Channels in one `reply_channel_range`: with times and checksums 24 bytes each, of at most 65,535.
const IDS_A_REPLY: usize = 2_000;
/// News that may wait for one peer; above, it misses some, and asks for them when it is quicker.
const MOST_NEWS: usize = 50_000;

/// Why a question is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The last one of the kind is not answered yet.
    #[error("the last query is not answered yet")]
    TooEarly,
    /// Zlib, or an encoding that nobody knows.
    #[error("the encoding of a list must be 0")]
    UnknownEncoding,
    /// Not one flag for each channel.
    #[error("there is not one flag for each channel")]
    WrongCount,
}

/// One thing that is told to many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item {
    /// The announcement of a channel.
    Channel(ShortChannelId),
    /// The update of one end.
    Update(ShortChannelId, u8),
    /// The announcement of a node.
    Node([u8; 33]),
}

/// Reads all that there is, channel by channel, within the times of a filter.
#[derive(Debug)]
struct Dump {
    filter: GossipTimestampFilter,
    /// The channel that comes next.
    next: Option<ShortChannelId>,
    told: BTreeSet<NodeIndex>,
}

/// The answer to a `query_short_channel_ids`.
#[derive(Debug)]
struct Wanted {
    channels: VecDeque<(ShortChannelId, QueryFlag)>,
    told: BTreeSet<NodeIndex>,
    full_information: u8,
    chain_hash: ChainHash,
}

/// What is still to be told to one peer.
#[derive(Debug, Default)]
pub struct Backlog {
    ranges: VecDeque<ReplyChannelRange>,
    wanted: Option<Wanted>,
    news: VecDeque<Item>,
    dump: Option<Dump>,
}

impl Backlog {
    /// Whether nothing is to be told.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty() && self.wanted.is_none() && self.news.is_empty() && self.dump.is_none()
    }

    /// The peer wants all of these times that there is, and then what is news.
    pub fn dump(&mut self, filter: &GossipTimestampFilter) {
        let first = ShortChannelId::from_u64(0);
        self.dump = Some(Dump { filter: filter.clone(), next: Some(first), told: BTreeSet::new() });
    }

    /// Something is news.
    pub fn add_news(&mut self, item: Item) {
        if self.news.len() < MOST_NEWS {
            self.news.push_back(item);
        }
    }

    /// The peer asks which channels there are.
    ///
    /// # Errors
    /// [`QueryError::TooEarly`]
    pub fn query_range(
        &mut self,
        query: &QueryChannelRange,
        graph: &Snapshot,
        chain_hash: ChainHash,
    ) -> Result<(), QueryError> {
        if !self.ranges.is_empty() {
            return Err(QueryError::TooEarly);
        }
        self.ranges = replies(query, graph, query.chain_hash == chain_hash).into();
        Ok(())
    }

    /// The peer asks for what is known of channels.
    ///
    /// # Errors
    /// [`QueryError`]
    pub fn query_channels(
        &mut self,
        query: &QueryShortChannelIds,
        chain_hash: ChainHash,
        is_synced: bool,
    ) -> Result<(), QueryError> {
        if self.wanted.is_some() {
            return Err(QueryError::TooEarly);
        }
        let ids = query.short_channel_ids.elements().ok_or(QueryError::UnknownEncoding)?;
        let flags = query.query_flags.as_ref().map(|flags| flags.elements().ok_or(QueryError::UnknownEncoding));
        let flags = flags.transpose()?;
        if flags.is_some_and(|flags| flags.len() != ids.len()) {
            return Err(QueryError::WrongCount);
        }
        let is_ours = query.chain_hash == chain_hash;
        let flag = |at| flags.and_then(|flags| flags.get(at).copied()).unwrap_or(QueryFlag::ALL);
        let channels = ids.iter().enumerate().filter(|_| is_ours).map(|(at, id)| (*id, flag(at))).collect();
        let full_information = u8::from(is_ours && is_synced);
        self.wanted = Some(Wanted { channels, told: BTreeSet::new(), full_information, chain_hash: query.chain_hash });
        Ok(())
    }

    /// The next messages, about `room` bytes of them: answers first, then news, then what is old.
    pub fn take(&mut self, room: usize, graph: &Snapshot) -> Vec<Vec<u8>> {
        let mut portion = Portion { room, messages: Vec::new() };
        while portion.has_room()
            && let Some(reply) = self.ranges.pop_front()
        {
            portion.push(Some(Message::from(reply).encode()));
        }
        while portion.has_room()
            && let Some(wanted) = &mut self.wanted
        {
            if let Some((id, flag)) = wanted.channels.pop_front() {
                portion.channel(graph, id, flag, None, &mut wanted.told);
            } else {
                let (chain_hash, full_information) = (wanted.chain_hash, wanted.full_information);
                let end = ReplyShortChannelIdsEnd { chain_hash, full_information };
                portion.push(Some(Message::from(end).encode()));
                self.wanted = None;
            }
        }
        while portion.has_room()
            && let Some(item) = self.news.pop_front()
        {
            portion.push(item.encoded(graph));
        }
        self.take_dump(&mut portion, graph);
        portion.messages
    }

    fn take_dump(&mut self, portion: &mut Portion, graph: &Snapshot) {
        let Some(dump) = &mut self.dump else { return };
        while portion.has_room()
            && let Some(next) = dump.next
        {
            // Closed channels are not told; nor those without an update: they have no time (BOLT 7).
            let mut rest = graph.channels_in_blocks(next.block(), u32::MAX).filter(|(id, _)| *id >= next);
            let Some((id, index)) = rest.next() else {
                dump.next = None;
                break;
            };
            dump.next = id.to_u64().checked_add(1).map(ShortChannelId::from_u64);
            let is_open = graph.channel(index).is_some_and(|channel| channel.spent_at.is_none());
            let wanted = graph.timestamps(index).into_iter().any(|time| time != 0 && dump.filter.wants(time));
            if is_open && wanted {
                portion.channel(graph, id, QueryFlag::ALL, Some(&dump.filter), &mut dump.told);
            } else {
                portion.push(None);
            }
        }
        if dump.next.is_none() {
            self.dump = None;
        }
    }
}

impl Item {
    /// The message as it came, if it may be passed on and is still known.
    pub fn encoded(&self, graph: &Snapshot) -> Option<Vec<u8>> {
        match self {
            Item::Channel(id) => graph.channel_announcement(graph.channel_index(*id)?),
            Item::Update(id, end) => graph.channel_update(graph.channel_index(*id)?, direction(*end)),
            Item::Node(id) => {
                let id = secp256k1::PublicKey::from_slice(id).ok()?;
                let index = graph.node_index(&crate::units::NodeId(id))?;
                graph.node_announcement(index).map(|bytes| bytes.to_vec())
            }
        }
    }

    /// The time of the message; that of a channel is its newest update's, and there is none without one.
    pub fn timestamp(&self, graph: &Snapshot) -> Option<u32> {
        let times = |id: &ShortChannelId| graph.channel_index(*id).map(|index| graph.timestamps(index));
        let time = match self {
            Item::Channel(id) => times(id)?.into_iter().max(),
            Item::Update(id, end) => times(id)?.get(usize::from(*end)).copied(),
            Item::Node(id) => {
                let id = secp256k1::PublicKey::from_slice(id).ok()?;
                let index = graph.node_index(&crate::units::NodeId(id))?;
                graph.node_details(index).map(|details| details.timestamp)
            }
        };
        time.filter(|time| *time != 0)
    }
}

const fn direction(end: u8) -> Direction {
    if end == 0 { Direction::FromNode1 } else { Direction::FromNode2 }
}

/// Messages up to a number of bytes.
struct Portion {
    room: usize,
    messages: Vec<Vec<u8>>,
}

impl Portion {
    const fn has_room(&self) -> bool {
        self.room > 0
    }

    fn push(&mut self, message: Option<Vec<u8>>) {
        if let Some(message) = message {
            self.room = self.room.saturating_sub(message.len());
            self.messages.push(message);
        } else {
            // What is not there costs a look, too.
            self.room = self.room.saturating_sub(8);
        }
    }

    /// What the flag asks of a channel; no node twice in one answer.
    fn channel(
        &mut self,
        graph: &Snapshot,
        id: ShortChannelId,
        flag: QueryFlag,
        filter: Option<&GossipTimestampFilter>,
        told: &mut BTreeSet<NodeIndex>,
    ) {
        let Some(index) = graph.channel_index(id) else { return self.push(None) };
        if flag.wants(QueryFlag::ANNOUNCEMENT) {
            self.push(graph.channel_announcement(index));
        }
        let times = graph.timestamps(index);
        let in_time = |time: u32| filter.is_none_or(|filter| filter.wants(time));
        for (end, bit) in [(0, QueryFlag::UPDATE_1), (1, QueryFlag::UPDATE_2)] {
            if flag.wants(bit) && in_time(times[usize::from(end)]) {
                self.push(graph.channel_update(index, direction(end)));
            }
        }
        let Some(channel) = graph.channel(index) else { return };
        for (node, bit) in [(channel.node_1, QueryFlag::NODE_1), (channel.node_2, QueryFlag::NODE_2)] {
            if flag.wants(bit) && told.insert(node) {
                self.push(graph.node_announcement(node).map(|bytes| bytes.to_vec()));
            }
        }
    }
}

/// The answer to `query_channel_range`, as many messages as it takes; at least one.
fn replies(query: &QueryChannelRange, graph: &Snapshot, is_known_chain: bool) -> Vec<ReplyChannelRange> {
    let (first, end) = (query.first_blocknum, query.end());
    let blocks = if is_known_chain { query.number_of_blocks } else { 0 };
    let found: Vec<(ShortChannelId, ChannelIndex)> = graph
        .channels_in_blocks(first, blocks)
        .filter(|(_, index)| graph.channel(*index).is_some_and(|channel| channel.spent_at.is_none()))
        .collect();
    let option = query.query_option.unwrap_or(QueryOption(0));
    let parts = found.len().div_ceil(IDS_A_REPLY).max(1);
    let mut replies = Vec::with_capacity(parts);
    let mut begins = first;
    for part in 0..parts {
        let ids = &found[part * IDS_A_REPLY..found.len().min((part + 1) * IDS_A_REPLY)];
        let is_last = part + 1 == parts;
        // A block may be split over two parts; then the next one begins with it again.
        let last_block = ids.last().map_or(begins, |(id, _)| id.block());
        let ends = if is_last { end } else { last_block.saturating_add(1) };
        let pairs = |of: fn(&Snapshot, ChannelIndex) -> [u32; 2]| -> Vec<UpdatePair> {
            ids.iter()
                .map(|(_, index)| of(graph, *index))
                .map(|[node_1, node_2]| UpdatePair { node_1, node_2 })
                .collect()
        };
        replies.push(ReplyChannelRange {
            chain_hash: query.chain_hash,
            first_blocknum: begins,
            number_of_blocks: ends.saturating_sub(begins),
            sync_complete: u8::from(is_last),
            short_channel_ids: Encoded::Plain(ids.iter().map(|(id, _)| *id).collect()),
            timestamps: option.wants(QueryOption::TIMESTAMPS).then(|| Encoded::Plain(pairs(Snapshot::timestamps))),
            checksums: option.wants(QueryOption::CHECKSUMS).then(|| pairs(Snapshot::checksums)),
        });
        let splits = found.get((part + 1) * IDS_A_REPLY).is_some_and(|(next, _)| next.block() == last_block);
        begins = if splits { last_block } else { ends };
    }
    replies
}
