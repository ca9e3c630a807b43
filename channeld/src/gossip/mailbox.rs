//! The way to the owner of the graph: never blocks, and holds no more of a peer's messages than it must.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bitcoin::Block;
use tokio::sync::OwnedSemaphorePermit;

use super::funding::Lookup;
use crate::node::input::SessionNumber;
use crate::peer::{Credit, SessionHandle};
use crate::units::{BlockHeight, ShortChannelId};
use crate::wire::{ChannelUpdate, Features, Message};

/// Bytes of a peer's messages that wait here free of charge: what is above keeps the peer's credit, so that it is not read on.
const FREE_BYTES: usize = 512 * 1024;

/// The right of a peer to have so much handled, held by everybody who still has a part of it.
pub type Held = Arc<Credit>;

/// What comes to the owner.
pub(super) enum Mail {
    Connected { session: SessionHandle, features: Features },
    Disconnected { session: SessionNumber },
    Messages { session: SessionNumber, messages: Vec<Message>, bytes: usize, _credit: Option<Held> },
    Own(Message),
    Followed(BTreeSet<ShortChannelId>),
    LookedUp(Vec<(ShortChannelId, Lookup)>),
    BlockConnected { height: BlockHeight, block: Arc<Block>, _room: Option<Arc<OwnedSemaphorePermit>> },
    BlockDisconnected { height: BlockHeight },
}

#[derive(Default)]
struct Lanes {
    mail: VecDeque<Mail>,
    waiting_bytes: BTreeMap<SessionNumber, usize>,
    stopped: bool,
}

#[derive(Default)]
struct Inner {
    lanes: Mutex<Lanes>,
    filled: Condvar,
    /// The names of our own channels.
    followed: Mutex<BTreeSet<ShortChannelId>>,
}

/// The way to the owner of the graph. Cheap to clone.
#[derive(Clone, Default)]
pub struct Gossip {
    inner: Arc<Inner>,
}

impl Gossip {
    /// A peer is connected.
    pub fn connected(&self, session: SessionHandle, features: Features) {
        self.push(Mail::Connected { session, features });
    }

    /// A session is over.
    pub fn disconnected(&self, session: SessionNumber) {
        self.push(Mail::Disconnected { session });
    }

    /// Divides what a peer said: gives what is the node's, and takes in what everybody is told. The credit stays with whoever is
    /// slower.
    pub fn divide(&self, session: SessionNumber, messages: Vec<Message>, credit: Credit) -> (Vec<Message>, Held) {
        let credit = Arc::new(credit);
        if !messages.iter().any(is_gossip) {
            return (messages, credit);
        }
        let (mut for_node, mut gossip) = (Vec::new(), Vec::new());
        for message in messages {
            if self.is_for_node(&message) {
                for_node.push(message.clone());
            }
            if is_gossip(&message) && !is_for_us_alone(&message) {
                gossip.push(message);
            }
        }
        if !gossip.is_empty() {
            self.take_in(session, gossip, &credit);
        }
        (for_node, credit)
    }

    fn take_in(&self, session: SessionNumber, messages: Vec<Message>, credit: &Held) {
        let bytes = messages.iter().map(weight).sum();
        let mut lanes = self.lanes();
        let waiting = lanes.waiting_bytes.entry(session).or_default();
        *waiting += bytes;
        let credit = (*waiting > FREE_BYTES).then(|| Arc::clone(credit));
        lanes.mail.push_back(Mail::Messages { session, messages, bytes, _credit: credit });
        drop(lanes);
        self.inner.filled.notify_one();
    }

    /// Updates of our own channels concern the node as well.
    fn is_for_node(&self, message: &Message) -> bool {
        match message {
            Message::ChannelUpdate(update) => is_for_us_alone(message) || self.is_followed(update.short_channel_id),
            message => !is_gossip(message),
        }
    }

    fn is_followed(&self, id: ShortChannelId) -> bool {
        self.inner.followed.lock().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }

    /// These are names of our own channels.
    pub fn follow(&self, names: BTreeSet<ShortChannelId>) {
        self.inner.followed.lock().unwrap_or_else(PoisonError::into_inner).extend(names.iter().copied());
        self.push(Mail::Followed(names));
    }

    /// Something that we say of ourselves.
    pub fn own(&self, message: Message) {
        self.push(Mail::Own(message));
    }

    /// The best chain grew.
    /// `room` is given back when it is handled.
    pub fn block_connected(&self, height: BlockHeight, block: Arc<Block>, room: Option<Arc<OwnedSemaphorePermit>>) {
        self.push(Mail::BlockConnected { height, block, _room: room });
    }

    /// The best chain lost its last block.
    pub fn block_disconnected(&self, height: BlockHeight) {
        self.push(Mail::BlockDisconnected { height });
    }

    /// The chain's word.
    pub(super) fn looked_up(&self, answers: Vec<(ShortChannelId, Lookup)>) {
        self.push(Mail::LookedUp(answers));
    }

    /// The process stops: the owner keeps what it has, and ends.
    pub(super) fn stop(&self) {
        self.lanes().stopped = true;
        self.inner.filled.notify_one();
    }

    fn push(&self, mail: Mail) {
        self.lanes().mail.push_back(mail);
        self.inner.filled.notify_one();
    }

    /// What is there, at most `most`, and whether to stop; waits until there is something, or at most `patience`.
    pub(super) fn take(&self, most: usize, patience: Duration) -> (Vec<Mail>, bool) {
        let mut lanes = self.lanes();
        if lanes.mail.is_empty() && !lanes.stopped {
            lanes = self.inner.filled.wait_timeout(lanes, patience).unwrap_or_else(PoisonError::into_inner).0;
        }
        let count = lanes.mail.len().min(most);
        let mail: Vec<Mail> = lanes.mail.drain(..count).collect();
        for one in &mail {
            match one {
                Mail::Messages { session, bytes, .. } => {
                    if let Some(waiting) = lanes.waiting_bytes.get_mut(session) {
                        *waiting = waiting.saturating_sub(*bytes);
                    }
                }
                Mail::Disconnected { session } => drop(lanes.waiting_bytes.remove(session)),
                _ => {}
            }
        }
        (mail, lanes.stopped)
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.inner.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether it is what everybody is told, or about that.
const fn is_gossip(message: &Message) -> bool {
    matches!(
        message,
        Message::ChannelAnnouncement(_)
            | Message::NodeAnnouncement(_)
            | Message::ChannelUpdate(_)
            | Message::QueryShortChannelIds(_)
            | Message::ReplyShortChannelIdsEnd(_)
            | Message::QueryChannelRange(_)
            | Message::ReplyChannelRange(_)
            | Message::GossipTimestampFilter(_)
    )
}

/// An update that must not be passed on.
fn is_for_us_alone(message: &Message) -> bool {
    matches!(message, Message::ChannelUpdate(update) if update.message_flags & ChannelUpdate::DONT_FORWARD != 0)
}

/// About how many bytes of memory it takes.
fn weight(message: &Message) -> usize {
    let own = match message {
        Message::ChannelAnnouncement(it) => it.excess.len() + it.features.as_bytes().len(),
        Message::NodeAnnouncement(it) => it.excess.len() + it.addresses.len() + it.features.as_bytes().len(),
        Message::ChannelUpdate(it) => it.excess.len(),
        // Lists of ids and of pairs, at most as long as a message.
        Message::QueryShortChannelIds(_) | Message::ReplyChannelRange(_) => 65_535,
        _ => 0,
    };
    own + 640
}

#[cfg(test)]
mod tests {
    use bitcoin::constants::ChainHash;

    use super::*;
    use crate::wire::{GossipTimestampFilter, Ping, ReplyShortChannelIdsEnd};

    fn credit(semaphore: &Arc<tokio::sync::Semaphore>, bytes: u32) -> Credit {
        Credit::for_tests(Arc::clone(semaphore).try_acquire_many_owned(bytes).expect("enough"))
    }

    const END: ReplyShortChannelIdsEnd =
        ReplyShortChannelIdsEnd { chain_hash: ChainHash::REGTEST, full_information: 1 };

    #[test]
    fn what_is_not_gossip_goes_to_the_node() {
        let gossip = Gossip::default();
        let all = Arc::new(tokio::sync::Semaphore::new(100));
        let filter = GossipTimestampFilter { chain_hash: ChainHash::REGTEST, first_timestamp: 0, timestamp_range: 0 };
        let ping = Ping { num_pong_bytes: 0, ignored: Vec::new() };
        let messages = vec![filter.into(), ping.clone().into(), END.into()];
        let (rest, held) = gossip.divide(SessionNumber(1), messages, credit(&all, 10));
        assert_eq!(rest, [Message::from(ping)]);
        drop(held);
        assert_eq!(all.available_permits(), 100, "few messages cost no credit");
        let (mail, _) = gossip.take(10, Duration::ZERO);
        assert!(matches!(mail.as_slice(), [Mail::Messages { messages, .. }] if messages.len() == 2));
    }

    #[test]
    fn a_flood_keeps_its_credit_until_it_is_handled() {
        let gossip = Gossip::default();
        let all = Arc::new(tokio::sync::Semaphore::new(100_000));
        let mut said = 0;
        while let Ok(permit) = Arc::clone(&all).try_acquire_many_owned(10) {
            let (_, held) = gossip.divide(SessionNumber(1), vec![END.into(); 10], Credit::for_tests(permit));
            drop(held);
            said += 10;
        }
        assert_eq!(all.available_permits(), 0, "no credit is left: the peer is not read on");
        assert!(said <= 100_000 + FREE_BYTES / 640, "and no more is held than that");
        let one = Arc::new(tokio::sync::Semaphore::new(1));
        drop(gossip.divide(SessionNumber(2), vec![END.into()], credit(&one, 1)));
        assert_eq!(one.available_permits(), 1, "another peer is not held up");
        while !gossip.take(64, Duration::ZERO).0.is_empty() {}
        assert_eq!(all.available_permits(), 100_000);
    }
}
