//! `announcement_signatures` and the `channel_announcement` that comes of two of them (BOLT 7).

use crate::channel::Phase;
use crate::node::Node;
use crate::node::input::Effect;
use crate::node::state::ChannelEntry;
use crate::node::state::gossip::GossipChange;
use crate::units::{ChannelId, ShortChannelId};
use crate::wire::{AnnouncementSignatures, ChannelAnnouncement, Features, Warning};

/// BOLT 7: no channel is announced before.
const ANNOUNCEMENT_DEPTH: u32 = 6;

impl Node {
    /// The peer's half came.
    pub(in crate::node) fn receive_announcement_signatures(&mut self, id: ChannelId, message: AnnouncementSignatures) {
        // BOLT 7: whoever sends its half on a connection lacks ours.
        self.live.gossip.owed.insert(id);
        let Some(entry) = self.state.channels.get(&id) else { return };
        if !entry.channel.announce {
            tracing::debug!(channel = %id, "announcement_signatures for a private channel");
            return;
        }
        let is_ready = entry.channel.funded().is_some_and(|funded| funded.is_ready());
        match entry.place() {
            Some(place) if is_ready => self.take_signatures(id, place, message),
            // BOLT 7: deferred until `channel_ready` was sent; a peer may also know of the block sooner.
            _ => drop(self.live.gossip.early.insert(id, message)),
        }
        self.further_announcement(id);
    }

    fn take_signatures(&mut self, id: ChannelId, place: ShortChannelId, message: AnnouncementSignatures) {
        let Some(entry) = self.state.channels.get(&id) else { return };
        let peer = entry.peer;
        if self.gossip_of(id).is_some_and(|gossip| gossip.remote_signatures.as_ref() == Some(&message)) {
            return;
        }
        let is_right = message.short_channel_id == place
            && self.channel_announcement(entry, &message).is_some_and(|announcement| announcement.is_signed());
        if is_right {
            self.change_gossip(id, GossipChange::RemoteSignatures(message));
        } else {
            let text = format!("announcement_signatures do not fit the channel at {place}");
            tracing::warn!(channel = %id, %peer, named = %message.short_channel_id, "{text}");
            self.send(peer, Warning::new(id, &text).into());
        }
    }

    /// Sends our half, takes the peer's, and tells everybody once both are there: as far as that is possible now.
    pub(in crate::node) fn further_announcement(&mut self, id: ChannelId) {
        let Some(entry) = self.state.channels.get(&id) else { return };
        let Some(place) = entry.place().filter(|_| entry.channel.announce) else { return };
        if entry.channel.funded().is_some_and(|funded| funded.is_ready())
            && let Some(early) = self.live.gossip.early.remove(&id)
        {
            self.take_signatures(id, place, early);
        }
        if !self.may_announce(id) {
            return;
        }
        self.send_our_half(id, place);
        let announced = self.live.gossip.announced.get(&id) == Some(&place);
        if let Some(announcement) = self.announcement_of(id).filter(|_| !announced) {
            self.live.gossip.announced.insert(id, place);
            self.turns.push(Effect::Gossip(announcement.into()));
            if !self.refresh_update(id) {
                self.publish_update(id);
            }
            if !self.refresh_identity() {
                self.publish_identity();
            }
        }
    }

    /// Whether the channel may be announced (BOLT 7): public, both ready, deep, and nobody closes it.
    fn may_announce(&self, id: ChannelId) -> bool {
        let Some(entry) = self.state.channels.get(&id) else { return false };
        let Some((funded, place)) = entry.channel.funded().zip(entry.place()) else { return false };
        let depth = self.state.height().plus(1).height().saturating_sub(place.block());
        entry.channel.announce
            && funded.is_ready()
            && funded.phase == Phase::Open
            && !funded.is_closing()
            && depth >= ANNOUNCEMENT_DEPTH
    }

    /// Once a connection, until the peer's half is there; and in answer to it, for then the peer lacks ours.
    fn send_our_half(&mut self, id: ChannelId, place: ShortChannelId) {
        let Some(entry) = self.state.channels.get(&id).filter(|entry| entry.channel.is_live()) else { return };
        let peer = entry.peer;
        if self.live.gossip.signed_to.get(&id) != Some(&place)
            && (self.remote_signatures(id).is_none() || self.live.gossip.owed.contains(&id))
            && let Some(ours) = self.our_half(entry, place)
        {
            self.live.gossip.signed_to.insert(id, place);
            self.send(peer, ours.into());
        }
    }

    /// The peer's half, where it is for the channel's present place on the chain.
    fn remote_signatures(&self, id: ChannelId) -> Option<&AnnouncementSignatures> {
        let place = self.state.channels.get(&id)?.place()?;
        self.gossip_of(id)?.remote_signatures.as_ref().filter(|theirs| theirs.short_channel_id == place)
    }

    /// Whether everybody may know of the channel: both halves are there, and it is deep.
    pub(in crate::node) fn is_announced(&self, id: ChannelId) -> bool {
        let Some(place) = self.state.channels.get(&id).and_then(ChannelEntry::place) else { return false };
        let depth = self.state.height().plus(1).height().saturating_sub(place.block());
        self.remote_signatures(id).is_some() && depth >= ANNOUNCEMENT_DEPTH
    }

    /// The announcement, where both halves are there.
    fn announcement_of(&self, id: ChannelId) -> Option<ChannelAnnouncement> {
        self.channel_announcement(self.state.channels.get(&id)?, self.remote_signatures(id)?)
    }

    fn our_half(&self, entry: &ChannelEntry, place: ShortChannelId) -> Option<AnnouncementSignatures> {
        // Any signature stands in for the peer's: it is not part of what is signed.
        let stand_in = self.signer.sign_node([0; 32]);
        let theirs = AnnouncementSignatures {
            channel_id: entry.channel.id,
            short_channel_id: place,
            node_signature: stand_in,
            bitcoin_signature: stand_in,
        };
        let announcement = self.channel_announcement(entry, &theirs)?;
        let (node_signature, bitcoin_signature) = if self.is_first(entry) {
            (announcement.node_signature_1, announcement.bitcoin_signature_1)
        } else {
            (announcement.node_signature_2, announcement.bitcoin_signature_2)
        };
        Some(AnnouncementSignatures { node_signature, bitcoin_signature, ..theirs })
    }

    /// Whether this node is `node_id_1`: the lesser key.
    pub(in crate::node) fn is_first(&self, entry: &ChannelEntry) -> bool {
        self.signer.node_id().serialize() < entry.peer.0.serialize()
    }

    /// The announcement with our signatures and those of `theirs`.
    fn channel_announcement(
        &self,
        entry: &ChannelEntry,
        theirs: &AnnouncementSignatures,
    ) -> Option<ChannelAnnouncement> {
        let commitments = entry.channel.commitments()?;
        let terms = commitments.main().local.terms();
        let our_key = *terms.broadcaster.funding_pubkey.key();
        let their_key = *terms.countersignatory.funding_pubkey.key();
        let ours_first = self.is_first(entry);
        let sorted = |ours, theirs| if ours_first { [ours, theirs] } else { [theirs, ours] };
        let [node_id_1, node_id_2] = sorted(self.signer.node_id(), entry.peer.0);
        let [bitcoin_key_1, bitcoin_key_2] = sorted(our_key, their_key);
        let mut announcement = ChannelAnnouncement {
            node_signature_1: theirs.node_signature,
            node_signature_2: theirs.node_signature,
            bitcoin_signature_1: theirs.bitcoin_signature,
            bitcoin_signature_2: theirs.bitcoin_signature,
            features: Features::empty(),
            chain_hash: self.settings.chain_hash,
            short_channel_id: entry.place()?,
            node_id_1: node_id_1.into(),
            node_id_2: node_id_2.into(),
            bitcoin_key_1: bitcoin_key_1.into(),
            bitcoin_key_2: bitcoin_key_2.into(),
            excess: Vec::new(),
        };
        let digest = *announcement.signed_hash().as_ref();
        let node_signature = self.signer.sign_node(digest);
        let bitcoin_signature = self.signer.sign_announcement(&entry.channel.keys_id, digest);
        if ours_first {
            announcement.node_signature_1 = node_signature;
            announcement.bitcoin_signature_1 = bitcoin_signature;
        } else {
            announcement.node_signature_2 = node_signature;
            announcement.bitcoin_signature_2 = bitcoin_signature;
        }
        Some(announcement)
    }
}
