//! What everybody is told, on its way into the graph: limits, signatures, the chain's word, and what becomes of whoever sent it.

use secp256k1::PublicKey;

use super::answer::Item;
use super::funding::{ALMOST_DEEP, Lookup};
use super::machine::{Action, MOST_FAULTS, Machine};
use crate::graph::{Announcement, Reaction, Refusal, Snapshot, Verified};
use crate::node::input::SessionNumber;
use crate::units::{NodeId, ShortChannelId, UnixTime};
use crate::wire::{Message, QueryFlag};

/// Announcements of nodes that wait for a channel.
const MOST_EARLY_NODES: usize = 2_000;
/// The longest messages that are looked at, in bytes: with all that BOLT 7 names, and room for what comes to it.
const LONGEST_CHANNEL: usize = 2_048;
const LONGEST_UPDATE: usize = 1_200;
const LONGEST_NODE: usize = 4_200;

/// One announcement, and who sent it.
pub(super) struct Incoming {
    /// Ourselves where it is `None`.
    from: Option<SessionNumber>,
    item: Item,
    /// Of an update or a node.
    timestamp: u32,
    announcement: Announcement,
}

impl Incoming {
    /// Of a message that everybody is told; `None` where it is another one.
    pub fn read(message: &Message, from: Option<SessionNumber>) -> Option<Incoming> {
        let (item, timestamp) = match message {
            Message::ChannelAnnouncement(it) => (Item::Channel(it.short_channel_id), 0),
            Message::ChannelUpdate(it) => (Item::Update(it.short_channel_id, it.direction()), it.timestamp),
            Message::NodeAnnouncement(it) => (Item::Node(it.node_id.serialize()), it.timestamp),
            _ => return None,
        };
        let announcement = Announcement::from_message(message)?;
        Some(Incoming { from, item, timestamp, announcement })
    }

    const fn longest(&self) -> usize {
        match self.item {
            Item::Channel(_) => LONGEST_CHANNEL,
            Item::Update(..) => LONGEST_UPDATE,
            Item::Node(_) => LONGEST_NODE,
        }
    }
}

fn is_known(view: &Snapshot, id: &[u8; 33]) -> bool {
    PublicKey::from_slice(id).is_ok_and(|key| view.node_index(&NodeId(key)).is_some())
}

impl Machine {
    /// Takes in what came, in order: what passes is applied, or waits for the chain.
    pub(super) fn take_in(&mut self, batch: Vec<Incoming>, now: UnixTime) {
        let mut senders = Vec::with_capacity(batch.len());
        let mut announcements = Vec::with_capacity(batch.len());
        for incoming in batch {
            if let Some(incoming) = self.admit(incoming, now) {
                senders.push((incoming.from, incoming.item));
                announcements.push(incoming.announcement);
            }
        }
        if announcements.is_empty() {
            return;
        }
        let results = self.graph.verify_batch(announcements, now);
        for ((from, item), result) in senders.into_iter().zip(results) {
            let applied = result.and_then(|verified| self.apply(verified, from, item, now));
            if let Err(refusal) = applied {
                self.refused(from, item, refusal, now);
            }
        }
        self.look_up();
    }

    /// Lets through what is worth looking at now. What rests on an announcement that waits, waits with it.
    fn admit(&mut self, incoming: Incoming, now: UnixTime) -> Option<Incoming> {
        let view = self.graph.view();
        if incoming.announcement.as_bytes().len() > incoming.longest() {
            return None;
        }
        match incoming.item {
            Item::Channel(id) => (!self.waiting.contains(id) || incoming.from.is_none()).then_some(incoming),
            Item::Update(id, end) => {
                let Some(index) = view.channel_index(id) else {
                    // A peer may send its update of a channel with us before our own announcement is here.
                    if self.waiting.takes_followers(id) {
                        self.waiting.follow(id, incoming.from, incoming.announcement);
                        return None;
                    }
                    return Some(incoming);
                };
                let is_newer = incoming.timestamp > view.timestamps(index)[usize::from(end)];
                let within = incoming.from.is_none() || !is_newer || self.buckets.take(incoming.item, now);
                within.then_some(incoming)
            }
            Item::Node(id) => {
                if self.waiting.count() > 0 && !is_known(view, &id) {
                    self.hold_node(incoming);
                    return None;
                }
                let known = incoming.item.timestamp(view);
                let is_newer = known.is_none_or(|known| incoming.timestamp > known);
                let within = incoming.from.is_none() || !is_newer || self.buckets.take(incoming.item, now);
                within.then_some(incoming)
            }
        }
    }

    /// A node's announcement waits for the chain's word on its channels.
    fn hold_node(&mut self, incoming: Incoming) {
        if self.early_nodes.len() < MOST_EARLY_NODES {
            self.early_nodes.insert(incoming.item, (incoming.from, incoming.announcement));
        }
    }

    fn apply(
        &mut self,
        verified: Verified,
        from: Option<SessionNumber>,
        item: Item,
        now: UnixTime,
    ) -> Result<(), Refusal> {
        match verified {
            Verified::Channel(channel) => {
                self.waiting.add(channel, from);
                return Ok(());
            }
            Verified::Update(update) => {
                if let Item::Update(id, _) = item
                    && self.waiting.takes_followers(id)
                    && self.graph.view().channel_index(id).is_none()
                {
                    self.waiting.follow(id, from, update.announcement().clone());
                    return Ok(());
                }
                self.graph.apply_update(&update, now)?;
            }
            Verified::Node(node) => match self.graph.apply_node(&node) {
                Err(Refusal::UnknownNode) => {
                    let announcement = node.announcement().clone();
                    self.hold_node(Incoming { from, item, timestamp: 0, announcement });
                    return Ok(());
                }
                applied => drop(applied?),
            },
        }
        self.add_news(item, from);
        Ok(())
    }

    fn refused(&mut self, from: Option<SessionNumber>, item: Item, refusal: Refusal, now: UnixTime) {
        let Some(session) = from else {
            if refusal != Refusal::Duplicate {
                tracing::warn!(?item, %refusal, "our own announcement is refused");
            }
            return;
        };
        match refusal {
            // Whoever sends it knows it.
            Refusal::Duplicate | Refusal::NotNewer => {
                if let Some(known_by) = self.news.get_mut(&item) {
                    known_by.insert(session);
                }
            }
            Refusal::UnknownChannel => {
                if let Item::Update(id, _) = item
                    && self.graph.wants(id, None, now)
                    && let Some(peer) = self.peers.get_mut(&session)
                {
                    // BOLT 7: an update of an unknown channel is a reason to ask for it.
                    peer.sync.want(id, QueryFlag::ALL);
                }
            }
            refusal => self.judge(session, refusal),
        }
    }

    /// What BOLT 7 has done with whoever sent what was refused.
    fn judge(&mut self, session: SessionNumber, refusal: Refusal) {
        let Some(peer) = self.peers.get_mut(&session) else { return };
        let before = peer.faults;
        match refusal.reaction() {
            Reaction::Ignore if refusal == Refusal::FundingNotFound || refusal == Refusal::FundingScriptMismatch => {
                peer.faults += 1;
            }
            Reaction::Ignore => return,
            Reaction::Warn | Reaction::WarnAndClose => peer.faults += 100,
        }
        let is_too_much = peer.faults >= MOST_FAULTS && before < MOST_FAULTS;
        tracing::debug!(session = session.0, %refusal, "gossip is refused");
        if refusal.reaction() != Reaction::Ignore {
            self.warn(session, &refusal.to_string());
        }
        if refusal.reaction() == Reaction::WarnAndClose {
            self.actions.push(Action::Disconnect { session });
        } else if is_too_much {
            self.warn(session, "too much of your gossip is wrong: none of it is heard on this connection any more");
        }
    }

    /// The chain's word on announcements that waited; then what rests on them.
    pub(super) fn take_answers(&mut self, answers: Vec<(ShortChannelId, Lookup)>, now: UnixTime) {
        let mut next = Vec::new();
        for (id, answer) in answers {
            let Some(pending) = self.waiting.take(id) else { continue };
            let from = pending.from;
            let refusal = match answer {
                Lookup::Found { output, outpoint } => match self.graph.apply_channel(&pending.verified, &output, now) {
                    Ok(_) => {
                        self.outputs.insert(id, outpoint);
                        self.add_news(Item::Channel(id), from);
                        next.extend(pending.followers);
                        continue;
                    }
                    Err(Refusal::FundingNotDeep { .. }) => {
                        self.waiting.ask_later(id, pending);
                        continue;
                    }
                    Err(refusal) => refusal,
                },
                Lookup::Unavailable => {
                    self.waiting.ask_later(id, pending);
                    continue;
                }
                Lookup::NotYet if id.block() <= self.height.plus(ALMOST_DEEP).height() => {
                    self.waiting.ask_later(id, pending);
                    continue;
                }
                Lookup::NotYet | Lookup::Missing => Refusal::FundingNotFound,
            };
            self.refused(from, Item::Channel(id), refusal, now);
        }
        let nodes = std::mem::take(&mut self.early_nodes).into_values();
        let batch: Vec<Incoming> = next.into_iter().chain(nodes).filter_map(again).collect();
        self.take_in(batch, now);
    }
}

/// What waited comes in again.
fn again((from, announcement): (Option<SessionNumber>, Announcement)) -> Option<Incoming> {
    let message = Message::decode(announcement.as_bytes()).ok()?;
    Incoming::read(&message, from)
}
