//! How one peer is asked for what we do not know: which channels there are, then those that are news (BOLT 7, "Query
//! Messages"). Pure: it decides what to ask next, and holds what is left to ask.

use std::collections::VecDeque;

use bitcoin::constants::ChainHash;

use crate::units::{ShortChannelId, UnixTime};
use crate::wire::{
    Encoded, Message, QueryChannelRange, QueryFlag, QueryOption, QueryShortChannelIds, ReplyChannelRange,
    ReplyShortChannelIdsEnd, UpdatePair,
};

/// Channels in one `query_short_channel_ids`: what Eclair asks, and an answer that fits into what we take at a time.
const IDS_A_QUERY: usize = 100;
/// Channels that one peer may have us ask for: each takes 16 bytes until it is asked.
const MOST_WANTED: usize = 500_000;
/// Replies to one `query_channel_range`; each may name thousands of channels.
const MOST_REPLIES: u32 = 4_096;
/// A peer that says nothing for so long does not answer this, in microseconds (LDK never answers ids).
const PATIENCE_MICROS: u64 = 30_000_000;

/// Why an answer is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SyncError {
    /// Nothing was asked.
    #[error("nothing was asked")]
    NotAsked,
    /// Another chain.
    #[error("it is of another chain")]
    WrongChain,
    /// Zlib, or an encoding that nobody knows.
    #[error("the encoding of a list must be 0")]
    UnknownEncoding,
    /// The range does not go on where the last one ended.
    #[error("the ranges are out of order")]
    OutOfOrder,
    /// Not one figure for each channel.
    #[error("there is not one figure for each channel")]
    WrongCount,
    /// More than any network has.
    #[error("the answer is too long")]
    TooLong,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing asked.
    Idle,
    /// `query_channel_range` asked; so far it is answered up to this block.
    Range { covered: u32, replies: u32 },
    /// `query_short_channel_ids` asked.
    Ids,
}

/// What is asked of one peer.
#[derive(Debug)]
pub struct Sync {
    chain_hash: ChainHash,
    /// The peer knows the extended queries.
    extended: bool,
    stage: Stage,
    wanted: VecDeque<(ShortChannelId, QueryFlag)>,
    /// When the peer last got on with its answer.
    heard: UnixTime,
    /// The peer once listed all its channels, and what was news in it was asked for.
    complete: bool,
    /// It left a question unanswered: it is not asked again.
    mute: bool,
}

impl Sync {
    /// Nothing is asked yet of a peer that knows the extended queries, or not.
    pub const fn new(chain_hash: ChainHash, extended: bool) -> Sync {
        let heard = UnixTime::new(0);
        Sync { chain_hash, extended, stage: Stage::Idle, wanted: VecDeque::new(), heard, complete: false, mute: false }
    }

    /// Asks for all channels there are.
    pub fn begin(&mut self, now: UnixTime) -> Message {
        self.stage = Stage::Range { covered: 0, replies: 0 };
        self.heard = now;
        let wants = QueryOption(QueryOption::TIMESTAMPS | QueryOption::CHECKSUMS);
        let query_option = self.extended.then_some(wants);
        let (chain_hash, number_of_blocks) = (self.chain_hash, u32::MAX);
        QueryChannelRange { chain_hash, first_blocknum: 0, number_of_blocks, query_option }.into()
    }

    /// A part of the list came. `news` says of each channel what of it is wanted, if anything; it gets the times and checksums of
    /// its two updates where the peer gave them. What is to be asked next, if the list is complete.
    ///
    /// # Errors
    /// It is no answer to what was asked; nothing more is asked of this peer.
    pub fn receive_range(
        &mut self,
        reply: &ReplyChannelRange,
        now: UnixTime,
        mut news: impl FnMut(ShortChannelId, Option<UpdatePair>, Option<UpdatePair>) -> Option<QueryFlag>,
    ) -> Result<Option<Message>, SyncError> {
        let Stage::Range { covered, replies } = self.stage else { return Err(SyncError::NotAsked) };
        let ids = self.check_range(reply, covered, replies).inspect_err(|_| self.give_up())?;
        let times = reply.timestamps.as_ref().and_then(Encoded::elements);
        let checksums = reply.checksums.as_deref();
        for (at, id) in ids.iter().enumerate() {
            let pair = |list: Option<&[UpdatePair]>| list.and_then(|list| list.get(at).copied());
            if let Some(flag) = news(*id, pair(times), pair(checksums)) {
                self.want(*id, flag);
            }
        }
        self.heard = now;
        // The last part reaches to the end of what was asked. Some never do, and say that they are done.
        let is_last = reply.end() == u32::MAX || reply.sync_complete == 1 && reply.number_of_blocks > 0;
        self.stage = Stage::Range { covered: reply.first_blocknum, replies: replies + 1 };
        Ok(if is_last { self.next(now) } else { None })
    }

    fn check_range<'a>(
        &self,
        reply: &'a ReplyChannelRange,
        covered: u32,
        replies: u32,
    ) -> Result<&'a [ShortChannelId], SyncError> {
        if reply.chain_hash != self.chain_hash {
            return Err(SyncError::WrongChain);
        }
        if reply.first_blocknum < covered {
            return Err(SyncError::OutOfOrder);
        }
        if replies >= MOST_REPLIES || self.wanted.len() > MOST_WANTED {
            return Err(SyncError::TooLong);
        }
        let ids = reply.short_channel_ids.elements().ok_or(SyncError::UnknownEncoding)?;
        let times = reply.timestamps.as_ref().map(|times| times.elements().ok_or(SyncError::UnknownEncoding));
        let times = times.transpose()?.map(<[UpdatePair]>::len);
        let checksums = reply.checksums.as_ref().map(Vec::len);
        if [times, checksums].into_iter().flatten().any(|count| count != ids.len()) {
            return Err(SyncError::WrongCount);
        }
        Ok(ids)
    }

    /// An answer to `query_short_channel_ids` is over: what is asked next.
    ///
    /// # Errors
    /// Nothing was asked.
    pub fn receive_end(
        &mut self,
        reply: &ReplyShortChannelIdsEnd,
        now: UnixTime,
    ) -> Result<Option<Message>, SyncError> {
        if reply.chain_hash != self.chain_hash {
            return Err(SyncError::WrongChain);
        }
        if self.stage != Stage::Ids {
            return Err(SyncError::NotAsked);
        }
        Ok(self.next(now))
    }

    /// A channel that was heard of and is not known: it is asked for when nothing else is.
    pub fn want(&mut self, id: ShortChannelId, flag: QueryFlag) {
        if self.wanted.len() < MOST_WANTED && !self.mute {
            self.wanted.push_back((id, flag));
        }
    }

    /// Asks for what is wanted, if the peer has nothing to answer.
    pub fn ask_wanted(&mut self, now: UnixTime) -> Option<Message> {
        if self.stage != Stage::Idle || self.wanted.is_empty() || self.mute { None } else { self.next(now) }
    }

    /// The next question; `None` when all is asked.
    fn next(&mut self, now: UnixTime) -> Option<Message> {
        self.heard = now;
        let count = self.wanted.len().min(IDS_A_QUERY);
        if count == 0 {
            self.stage = Stage::Idle;
            self.complete = true;
            return None;
        }
        self.stage = Stage::Ids;
        let mut asked: Vec<(ShortChannelId, QueryFlag)> = self.wanted.drain(..count).collect();
        asked.sort_by_key(|(id, _)| *id);
        asked.dedup_by_key(|(id, _)| *id);
        let flags = asked.iter().map(|(_, flag)| *flag).collect();
        let query = QueryShortChannelIds {
            chain_hash: self.chain_hash,
            short_channel_ids: Encoded::Plain(asked.into_iter().map(|(id, _)| id).collect()),
            query_flags: self.extended.then_some(Encoded::Plain(flags)),
        };
        Some(query.into())
    }

    /// The peer said something that gossips: it is not silent.
    pub fn touch(&mut self, now: UnixTime) {
        self.heard = now;
    }

    /// Whether a question is left unanswered for too long; then nothing more is asked of this peer.
    pub fn is_overdue(&mut self, now: UnixTime) -> bool {
        let overdue = self.is_asking() && now.micros_since(self.heard) > PATIENCE_MICROS;
        if overdue {
            self.give_up();
        }
        overdue
    }

    fn give_up(&mut self) {
        self.stage = Stage::Idle;
        self.wanted = VecDeque::new();
        self.mute = true;
    }

    /// Whether a question is open.
    pub fn is_asking(&self) -> bool {
        self.stage != Stage::Idle
    }

    /// Whether the peer may still be asked.
    pub const fn may_ask(&self) -> bool {
        !self.mute
    }

    /// Whether all that the peer listed was asked for and answered, at least once.
    pub const fn is_complete(&self) -> bool {
        self.complete
    }

    /// Channels that are still to be asked for.
    pub fn left(&self) -> usize {
        self.wanted.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime::new(1_000_000);

    fn id(block: u32) -> ShortChannelId {
        ShortChannelId::new(block, 1, 0).unwrap()
    }

    fn reply(first: u32, end: u32, blocks: &[u32]) -> ReplyChannelRange {
        ReplyChannelRange {
            chain_hash: ChainHash::REGTEST,
            first_blocknum: first,
            number_of_blocks: end - first,
            sync_complete: u8::from(end == u32::MAX),
            short_channel_ids: Encoded::Plain(blocks.iter().map(|block| id(*block)).collect()),
            timestamps: None,
            checksums: None,
        }
    }

    const END: ReplyShortChannelIdsEnd =
        ReplyShortChannelIdsEnd { chain_hash: ChainHash::REGTEST, full_information: 1 };

    fn all(_: ShortChannelId, _: Option<UpdatePair>, _: Option<UpdatePair>) -> Option<QueryFlag> {
        Some(QueryFlag::ALL)
    }

    fn asked(message: Option<Message>) -> Vec<ShortChannelId> {
        match message {
            Some(Message::QueryShortChannelIds(query)) => query.short_channel_ids.elements().unwrap().to_vec(),
            None => Vec::new(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn everything_listed_is_asked_for_in_parts() {
        let mut sync = Sync::new(ChainHash::REGTEST, true);
        assert!(matches!(sync.begin(NOW), Message::QueryChannelRange(_)));
        let blocks: Vec<u32> = (1..=150).collect();
        assert_eq!(sync.receive_range(&reply(0, 100, &blocks[..99]), NOW, all), Ok(None));
        let first = sync.receive_range(&reply(100, u32::MAX, &blocks[99..]), NOW, all).unwrap();
        assert_eq!(asked(first).len(), IDS_A_QUERY);
        assert!(!sync.is_complete());
        assert_eq!(asked(sync.receive_end(&END, NOW).unwrap()).len(), 50);
        assert_eq!(sync.receive_end(&END, NOW), Ok(None));
        assert!(sync.is_complete() && !sync.is_asking());
        sync.want(id(7), QueryFlag::ALL);
        assert_eq!(asked(sync.ask_wanted(NOW)), [id(7)]);
    }

    #[test]
    fn one_test_for_each_refusal() {
        let begun = || {
            let mut sync = Sync::new(ChainHash::REGTEST, true);
            sync.begin(NOW);
            sync
        };
        let mut idle = Sync::new(ChainHash::REGTEST, false);
        assert_eq!(idle.receive_range(&reply(0, u32::MAX, &[]), NOW, all), Err(SyncError::NotAsked));
        assert_eq!(idle.receive_end(&END, NOW), Err(SyncError::NotAsked));
        let wrong = ReplyChannelRange { chain_hash: ChainHash::BITCOIN, ..reply(0, 9, &[]) };
        assert_eq!(begun().receive_range(&wrong, NOW, all), Err(SyncError::WrongChain));
        let zlib = Encoded::Unknown { encoding: 1, bytes: vec![] };
        let wrong = ReplyChannelRange { short_channel_ids: zlib, ..reply(0, 9, &[]) };
        assert_eq!(begun().receive_range(&wrong, NOW, all), Err(SyncError::UnknownEncoding));
        let wrong = ReplyChannelRange { timestamps: Some(Encoded::Plain(vec![])), ..reply(0, 9, &[1]) };
        assert_eq!(begun().receive_range(&wrong, NOW, all), Err(SyncError::WrongCount));
        let mut sync = begun();
        assert_eq!(sync.receive_range(&reply(50, 60, &[]), NOW, all), Ok(None));
        assert_eq!(sync.receive_range(&reply(40, 70, &[]), NOW, all), Err(SyncError::OutOfOrder));
        assert!(!sync.may_ask(), "a peer that answers wrongly is not asked again");
        let mut sync = begun();
        let part = reply(0, 1, &[]);
        let over = (0..=MOST_REPLIES).find_map(|_| sync.receive_range(&part, NOW, all).err());
        assert_eq!(over, Some(SyncError::TooLong));
    }

    #[test]
    fn who_does_not_answer_is_not_asked_again() {
        let mut sync = Sync::new(ChainHash::REGTEST, false);
        sync.begin(NOW);
        assert!(!sync.is_overdue(UnixTime::new(NOW.micros_since(UnixTime::new(0)) + PATIENCE_MICROS)));
        assert!(sync.is_overdue(UnixTime::new(NOW.micros_since(UnixTime::new(0)) + PATIENCE_MICROS + 1)));
        assert!(!sync.may_ask() && !sync.is_asking());
        sync.want(id(1), QueryFlag::ALL);
        assert_eq!(sync.left(), 0);
    }
}
