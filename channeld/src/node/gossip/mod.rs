//! What this node tells everybody of itself: that its public channels exist, what they ask for forwarding, where it is; and what
//! it tells its peers and payers of the private ones.
//!
//! Knows when BOLT 7 lets it say so, and stores what must not be said twice or taken back: timestamps and the peer's half of each
//! announcement. Never keeps a graph and never passes on what others say: that goes around the node, to the room `gossip`, which
//! also gets our own messages by [`Effect::Gossip`](super::input::Effect::Gossip). BOLT 7; PEERS.md A4.

mod announcement;
mod hint;
mod identity;
mod update;

use std::collections::{BTreeMap, BTreeSet};

use super::Node;
use super::chatter::Vessel;
use super::state::change::Change;
use super::state::gossip::{ChannelGossip, GossipChange};
use crate::units::{ChannelId, NodeId, ShortChannelId, UnixTime};
use crate::wire::AnnouncementSignatures;

/// What is not worth storing: a restart begins it anew.
#[derive(Default)]
pub(super) struct LiveGossip {
    /// Channels whose `announcement_signatures` we sent on the peer's present connection, and for which place on the chain.
    signed_to: BTreeMap<ChannelId, ShortChannelId>,
    /// Channels whose peer sent its half on the present connection: it lacks ours.
    owed: BTreeSet<ChannelId>,
    /// The peers' halves that came before we could check them.
    early: BTreeMap<ChannelId, AnnouncementSignatures>,
    /// Channels that were announced since the start, and for which place on the chain.
    announced: BTreeMap<ChannelId, ShortChannelId>,
    /// For which place on the chain a channel's updates are followed.
    followed: BTreeMap<ChannelId, ShortChannelId>,
    /// How many of the peers' updates were written down of late.
    heard: BTreeMap<ChannelId, Vessel>,
    /// Since when a peer with channels is away.
    away: BTreeMap<NodeId, UnixTime>,
}

impl Node {
    /// After a start: everybody is away since now; what was announced is announced to the graph's owner again.
    pub(super) fn start_gossip(&mut self) {
        let channels: Vec<(ChannelId, NodeId)> =
            self.state.channels.iter().map(|(id, entry)| (*id, entry.peer)).collect();
        for (id, peer) in channels {
            self.live.gossip.away.insert(peer, self.moment.now);
            self.further_announcement(id);
            self.follow_updates(id);
        }
    }

    /// A peer is connected.
    pub(super) fn gossip_connected(&mut self, peer: NodeId) {
        self.live.gossip.away.remove(&peer);
    }

    /// A peer is gone.
    pub(super) fn gossip_disconnected(&mut self, peer: NodeId) {
        let channels = self.channels_of(peer);
        if !channels.is_empty() {
            self.live.gossip.away.insert(peer, self.moment.now);
        }
        for id in channels {
            self.live.gossip.signed_to.remove(&id);
            self.live.gossip.owed.remove(&id);
            self.live.gossip.early.remove(&id);
        }
    }

    /// A channel is over.
    pub(super) fn gossip_forgotten(&mut self, id: ChannelId) {
        let LiveGossip { signed_to, owed, early, announced, followed, heard, .. } = &mut self.live.gossip;
        for places in [announced, followed, signed_to] {
            places.remove(&id);
        }
        owed.remove(&id);
        early.remove(&id);
        heard.remove(&id);
    }

    /// Both sides are ready, or the channel came back: the peer hears what we ask, and whether we have its signatures.
    pub(super) fn gossip_live(&mut self, id: ChannelId) {
        self.follow_updates(id);
        // Again on every connection: the peer may have lost it.
        if !self.refresh_update(id) {
            self.send_update_to_peer(id);
        }
        self.further_announcement(id);
    }

    /// A new block: announcements become due. A peer may send its update in one breath with its `channel_ready` (LDK does), so it
    /// is followed as soon as the channel has a place on the chain.
    pub(super) fn gossip_block(&mut self, id: ChannelId) {
        let place = self.state.channels.get(&id).and_then(|entry| entry.place());
        if let Some(place) = place
            && self.live.gossip.followed.insert(id, place) != Some(place)
        {
            self.follow_updates(id);
        }
        self.further_announcement(id);
    }

    /// Now and then: peers that stay away, updates and our own announcement that grow old.
    pub(super) fn gossip_tick(&mut self) {
        let ids: Vec<ChannelId> = self.state.channels.keys().copied().collect();
        for id in ids {
            self.refresh_update(id);
        }
        self.refresh_identity();
    }

    /// What was told and heard of a channel.
    pub(super) fn gossip_of(&self, id: ChannelId) -> Option<&ChannelGossip> {
        self.state.gossip.get(&id)
    }

    /// The wall clock, as gossip has it: seconds since 1970.
    fn timestamp(&self) -> u32 {
        u32::try_from(self.moment.now.seconds()).unwrap_or(u32::MAX)
    }

    fn change_gossip(&mut self, channel: ChannelId, change: GossipChange) {
        self.change(Change::Gossip { channel, change });
    }
}
