//! What is believed about where money is: learned from attempts, forgotten with time, kept for as many channels as fit.
//!
//! Knows only channels that an attempt touched. A success raises what is surely there, a failure lowers what can be, a
//! payment that was paid moves both; each direction tells about the other. Belief halves in an hour.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::lesson::{Lesson, Verdict};
use super::price::{Bounds, MOST_DOUBT};
use crate::graph::{DirectedChannel, Direction};
use crate::units::{NodeId, ShortChannelId, UnixTime};

/// In this time what was learned loses half of its weight.
pub const HALF_LIFE_SECONDS: u64 = 3_600;
/// More channels than these are not remembered: the ones that were touched the longest ago go first.
pub const MOST_CHANNELS: usize = 20_000;
/// The same for nodes that failed.
pub const MOST_NODES: usize = 1_000;
/// The first byte of what [`Liquidity::encode`] gives.
const VERSION: u8 = 1;

/// A figure and when it was learned, in seconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Belief {
    amount: u64,
    at: u64,
}

/// One direction of a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Side {
    /// That much was there.
    floor: Option<Belief>,
    /// That much was not: the greatest amount that might be.
    ceiling: Option<Belief>,
    /// When it was found unusable.
    unusable: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    sides: [Side; 2],
    touched: u64,
}

/// See the file's map.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Liquidity {
    channels: BTreeMap<ShortChannelId, Entry>,
    nodes: BTreeMap<NodeId, u64>,
}

/// Bytes that are no memory of liquidity: a file that is damaged or of another version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a memory of liquidity that this version can read")]
pub struct UnreadableLiquidity;

impl Liquidity {
    /// Nothing is known.
    pub fn new() -> Liquidity {
        Liquidity::default()
    }

    /// How many channels were touched.
    pub fn len(&self) -> usize {
        self.channels.len()
    }

    /// Whether nothing is known about any channel.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// The channels about which something is known.
    pub fn channels(&self) -> impl Iterator<Item = ShortChannelId> {
        self.channels.keys().copied()
    }

    /// Learns from an attempt.
    pub fn learn(&mut self, lesson: &Lesson, now: UnixTime) {
        let now = now.seconds();
        match lesson {
            Lesson::NodeFailed { node_id } => {
                self.nodes.insert(*node_id, now);
                if self.nodes.len() > MOST_NODES {
                    forget_oldest(&mut self.nodes, |at| *at);
                }
            }
            Lesson::Channel { channel, amount, verdict } => {
                let entry = self.channels.entry(channel.short_channel_id).or_default();
                entry.touched = now;
                entry.learn(side_of(channel.direction), amount.msat(), *verdict, now);
                if self.channels.len() > MOST_CHANNELS {
                    forget_oldest(&mut self.channels, |entry| entry.touched);
                }
            }
        }
    }

    /// What is believed now about a direction of a channel that can hold `capacity` msat.
    pub fn bounds(&self, channel: DirectedChannel, capacity: u64, now: UnixTime) -> Bounds {
        match self.channels.get(&channel.short_channel_id) {
            Some(entry) => entry.bounds(side_of(channel.direction), capacity, now.seconds()),
            None => Bounds::unknown(capacity),
        }
    }

    /// The nodes that failed, with the doubt that is left about them.
    pub fn failed_nodes(&self, now: UnixTime) -> impl Iterator<Item = (NodeId, u64)> {
        let doubt = move |at: u64| decayed(MOST_DOUBT, now.seconds().saturating_sub(at));
        self.nodes.iter().map(move |(node, at)| (*node, doubt(*at)))
    }

    /// The bytes to keep.
    pub fn encode(&self) -> Vec<u8> {
        let head = vec![VERSION];
        postcard::to_extend(self, head).expect("maps of plain figures are always written")
    }

    /// What was kept.
    ///
    /// # Errors
    /// Bytes that were not made by [`Liquidity::encode`] of this version.
    pub fn decode(bytes: &[u8]) -> Result<Liquidity, UnreadableLiquidity> {
        let (VERSION, rest) = bytes.split_first().map(|(first, rest)| (*first, rest)).ok_or(UnreadableLiquidity)?
        else {
            return Err(UnreadableLiquidity);
        };
        let liquidity: Liquidity = postcard::from_bytes(rest).map_err(|_| UnreadableLiquidity)?;
        if liquidity.channels.len() > MOST_CHANNELS || liquidity.nodes.len() > MOST_NODES {
            return Err(UnreadableLiquidity);
        }
        Ok(liquidity)
    }
}

impl Entry {
    fn learn(&mut self, side: usize, amount: u64, verdict: Verdict, now: u64) {
        let other = 1 - side;
        match verdict {
            Verdict::Forwarded => self.sides[side].carried(amount, now),
            Verdict::Paid => {
                self.sides[side].carried(amount, now);
                self.sides[side].shift(|it| it.saturating_sub(amount));
                self.sides[other].shift(|it| it.saturating_add(amount));
                // What went over can come back, whatever was there before.
                let floor = self.sides[other].floor_at(now).max(amount);
                self.sides[other].floor = Some(Belief { amount: floor, at: now });
            }
            Verdict::TooMuch => self.sides[side].refused(amount, now),
            Verdict::Unusable => self.sides[side].unusable = Some(now),
        }
    }

    fn bounds(&self, side: usize, capacity: u64, now: u64) -> Bounds {
        let (this, other) = (&self.sides[side], &self.sides[1 - side]);
        // What one side surely has, the other surely lacks.
        let least = this.floor_at(now).max(capacity.saturating_sub(other.ceiling_at(capacity, now))).min(capacity);
        let most = this.ceiling_at(capacity, now).min(capacity.saturating_sub(other.floor_at(now)));
        let penalty = this.unusable.map_or(0, |at| decayed(MOST_DOUBT, now.saturating_sub(at)));
        // Where old news contradict each other, a refusal costs a retry and an empty promise costs one as well: take the lower.
        Bounds { least: least.min(most), most, penalty }
    }
}

impl Side {
    fn floor_at(&self, now: u64) -> u64 {
        self.floor.map_or(0, |belief| decayed(belief.amount, now.saturating_sub(belief.at)))
    }

    fn ceiling_at(&self, capacity: u64, now: u64) -> u64 {
        let Some(belief) = self.ceiling else { return capacity };
        capacity - decayed(capacity.saturating_sub(belief.amount), now.saturating_sub(belief.at))
    }

    fn carried(&mut self, amount: u64, now: u64) {
        let floor = self.floor_at(now).max(amount);
        self.floor = Some(Belief { amount: floor, at: now });
        if self.ceiling.is_some_and(|ceiling| ceiling.amount < amount) {
            self.ceiling = None;
        }
        self.unusable = None;
    }

    fn refused(&mut self, amount: u64, now: u64) {
        let most = amount.saturating_sub(1);
        // An older and lower one is forgotten over time, this one is news.
        let ceiling = match self.ceiling {
            Some(old) if old.amount < most && now.saturating_sub(old.at) < HALF_LIFE_SECONDS => old,
            _ => Belief { amount: most, at: now },
        };
        self.ceiling = Some(ceiling);
        if self.floor.is_some_and(|floor| floor.amount > most) {
            self.floor = None;
        }
    }

    fn shift(&mut self, change: impl Fn(u64) -> u64) {
        for belief in [&mut self.floor, &mut self.ceiling].into_iter().flatten() {
            belief.amount = change(belief.amount);
        }
    }
}

const fn side_of(direction: Direction) -> usize {
    match direction {
        Direction::FromNode1 => 0,
        Direction::FromNode2 => 1,
    }
}

/// `figure` after `seconds`: halved each half-life, in a straight line in between.
fn decayed(figure: u64, seconds: u64) -> u64 {
    let halvings = seconds / HALF_LIFE_SECONDS;
    if halvings >= 64 {
        return 0;
    }
    let left = figure >> halvings;
    let gone = u128::from(left / 2) * u128::from(seconds % HALF_LIFE_SECONDS) / u128::from(HALF_LIFE_SECONDS);
    left - u64::try_from(gone).expect("it is less than half of `left`")
}

/// Forgets the quarter that was touched the longest ago, so that it is not done at each new one.
fn forget_oldest<K: Ord, V>(map: &mut BTreeMap<K, V>, touched: impl Fn(&V) -> u64) {
    let mut times: Vec<u64> = map.values().map(&touched).collect();
    let quarter = times.len() / 4;
    let (_, oldest_kept, _) = times.select_nth_unstable(quarter);
    let oldest_kept = *oldest_kept;
    let mut surplus = quarter;
    map.retain(|_, value| {
        let goes = surplus > 0 && touched(value) <= oldest_kept;
        surplus -= usize::from(goes);
        !goes
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Msat;

    const CHANNEL: DirectedChannel =
        DirectedChannel { short_channel_id: ShortChannelId::from_u64(7), direction: Direction::FromNode1 };
    const BACK: DirectedChannel =
        DirectedChannel { short_channel_id: ShortChannelId::from_u64(7), direction: Direction::FromNode2 };
    const NOW: UnixTime = UnixTime::from_seconds(1_000_000);

    fn taught(lessons: &[(DirectedChannel, u64, Verdict)]) -> Liquidity {
        let mut liquidity = Liquidity::new();
        for (channel, amount, verdict) in lessons {
            let lesson = Lesson::Channel { channel: *channel, amount: Msat::new(*amount), verdict: *verdict };
            liquidity.learn(&lesson, NOW);
        }
        liquidity
    }

    fn bounds(liquidity: &Liquidity, channel: DirectedChannel, seconds: u64) -> (u64, u64) {
        let bounds = liquidity.bounds(channel, 1_000, NOW.plus_seconds(seconds));
        (bounds.least, bounds.most)
    }

    #[test]
    fn each_direction_tells_about_the_other() {
        let liquidity = taught(&[(CHANNEL, 300, Verdict::Forwarded), (CHANNEL, 801, Verdict::TooMuch)]);
        assert_eq!(bounds(&liquidity, CHANNEL, 0), (300, 800));
        assert_eq!(bounds(&liquidity, BACK, 0), (200, 700));
    }

    #[test]
    fn what_was_paid_has_moved() {
        let liquidity = taught(&[(CHANNEL, 801, Verdict::TooMuch), (CHANNEL, 300, Verdict::Paid)]);
        assert_eq!(bounds(&liquidity, CHANNEL, 0), (0, 500));
        assert_eq!(bounds(&liquidity, BACK, 0).0, 500, "it is there as the other side lacks it");
    }

    #[test]
    fn belief_fades() {
        let liquidity = taught(&[(CHANNEL, 400, Verdict::Forwarded), (CHANNEL, 601, Verdict::TooMuch)]);
        assert_eq!(bounds(&liquidity, CHANNEL, HALF_LIFE_SECONDS), (200, 800));
        assert_eq!(bounds(&liquidity, CHANNEL, HALF_LIFE_SECONDS / 2), (300, 700));
        assert_eq!(bounds(&liquidity, CHANNEL, 100 * HALF_LIFE_SECONDS), (0, 1_000));
        // A clock that was set back ages nothing.
        let early = liquidity.bounds(CHANNEL, 1_000, UnixTime::from_seconds(5));
        assert_eq!((early.least, early.most), (400, 600));
    }

    #[test]
    fn what_is_unusable_is_doubted_and_then_tried_again() {
        let mut liquidity = taught(&[(CHANNEL, 1, Verdict::Unusable)]);
        assert_eq!(liquidity.bounds(CHANNEL, 1_000, NOW).penalty, MOST_DOUBT);
        assert_eq!(liquidity.bounds(CHANNEL, 1_000, NOW.plus_seconds(HALF_LIFE_SECONDS)).penalty, MOST_DOUBT / 2);
        liquidity.learn(&Lesson::Channel { channel: CHANNEL, amount: Msat::new(1), verdict: Verdict::Forwarded }, NOW);
        assert_eq!(liquidity.bounds(CHANNEL, 1_000, NOW).penalty, 0);
    }

    #[test]
    fn news_that_contradict_leave_bounds_in_order() {
        for lessons in [
            [(CHANNEL, 900, Verdict::Forwarded), (BACK, 900, Verdict::Forwarded)],
            [(CHANNEL, 100, Verdict::TooMuch), (CHANNEL, 900, Verdict::Forwarded)],
            [(CHANNEL, u64::MAX, Verdict::Paid), (BACK, u64::MAX, Verdict::Paid)],
            [(CHANNEL, 0, Verdict::TooMuch), (BACK, 0, Verdict::TooMuch)],
        ] {
            let liquidity = taught(&lessons);
            for channel in [CHANNEL, BACK] {
                let (least, most) = bounds(&liquidity, channel, 0);
                assert!(least <= most && most <= 1_000, "{lessons:?}: {least} to {most}");
            }
        }
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_goes() {
        let mut liquidity = Liquidity::new();
        for number in 0..=MOST_CHANNELS as u64 {
            let channel =
                DirectedChannel { short_channel_id: ShortChannelId::from_u64(number), direction: Direction::FromNode1 };
            let lesson = Lesson::Channel { channel, amount: Msat::new(1), verdict: Verdict::Forwarded };
            liquidity.learn(&lesson, NOW.plus_seconds(number));
        }
        assert_eq!(liquidity.len(), MOST_CHANNELS + 1 - (MOST_CHANNELS + 1) / 4);
        assert!(!liquidity.channels().any(|id| id.to_u64() == 0));
        assert!(liquidity.channels().any(|id| id.to_u64() == MOST_CHANNELS as u64));
    }

    #[test]
    fn it_is_kept_and_read_again() {
        let liquidity = taught(&[(CHANNEL, 300, Verdict::Forwarded), (BACK, 801, Verdict::TooMuch)]);
        assert_eq!(Liquidity::decode(&liquidity.encode()), Ok(liquidity));
        for bytes in [&[][..], &[9], &[VERSION, 255, 255, 255, 255, 255], &[VERSION]] {
            assert_eq!(Liquidity::decode(bytes), Err(UnreadableLiquidity));
        }
    }
}
