//! Our `channel_update`s, and the peers' about our channels (BOLT 7).

use std::collections::BTreeSet;

use crate::node::Node;
use crate::node::chatter::Measure;
use crate::node::input::Effect;
use crate::node::state::gossip::GossipChange;
use crate::units::{ChannelId, NodeId, ShortChannelId};
use crate::wire::ChannelUpdate;

/// A peer so long away makes its public channels useless to others, in seconds (LND and LDK wait 15 to 20 minutes).
const AWAY_SECONDS: u64 = 20 * 60;
/// A public update is said again before anybody takes the channel for dead (two weeks), in seconds.
const REFRESH_SECONDS: u32 = 13 * 24 * 3_600;
/// What a peer may ask of one channel: so many changes at once, and one more a minute.
const UPDATES: Measure = Measure { most: 10, refill: 60_000_000 };

impl Node {
    /// What our update must say now; its time and signature are those of the last one, or none.
    fn wanted_update(&self, id: ChannelId) -> Option<ChannelUpdate> {
        let entry = self.state.channels.get(&id)?;
        let funded = entry.channel.funded().filter(|funded| funded.is_ready())?;
        let is_announced = self.is_announced(id);
        let place = if is_announced { entry.place()? } else { funded.remote_alias.or(entry.place())? };
        let policy = entry.policy;
        let before = self.gossip_of(id).and_then(|gossip| gossip.update.as_ref());
        let disabled = is_announced && self.is_out_of_use(id, before);
        Some(ChannelUpdate {
            signature: before.map_or_else(|| self.signer.sign_node([0; 32]), |before| before.signature),
            chain_hash: self.settings.chain_hash,
            short_channel_id: place,
            timestamp: before.map_or(0, |before| before.timestamp),
            message_flags: if is_announced {
                ChannelUpdate::MUST_BE_ONE
            } else {
                ChannelUpdate::MUST_BE_ONE | ChannelUpdate::DONT_FORWARD
            },
            channel_flags: u8::from(!self.is_first(entry)) | u8::from(disabled) << 1,
            cltv_expiry_delta: policy.cltv_expiry_delta,
            htlc_minimum_msat: policy.htlc_minimum,
            fee_base_msat: policy.fee_base_msat,
            fee_proportional_millionths: policy.fee_proportional_millionths,
            htlc_maximum_msat: policy.htlc_maximum,
            excess: Vec::new(),
        })
    }

    /// Whether nothing can go over the channel for a while: it is closed, or its peer is away for long. One that was switched off
    /// stays so until the peer is back.
    fn is_out_of_use(&self, id: ChannelId, before: Option<&ChannelUpdate>) -> bool {
        let Some(entry) = self.state.channels.get(&id) else { return true };
        if entry.channel.funded().is_none_or(|funded| funded.is_closing()) {
            return true;
        }
        if self.live.sessions.contains_key(&entry.peer) {
            return false;
        }
        let since = self.live.gossip.away.get(&entry.peer);
        before.is_some_and(ChannelUpdate::is_disabled)
            || since.is_some_and(|since| self.moment.now.micros_since(*since) > AWAY_SECONDS * 1_000_000)
    }

    /// Makes a new update where the last one is not right any more or grows old, and tells whoever is to know.
    /// Says whether there was a reason to.
    pub(in crate::node) fn refresh_update(&mut self, id: ChannelId) -> bool {
        let renewed = self.renew_update(id);
        if renewed {
            self.send_update_to_peer(id);
            self.publish_update(id);
        }
        renewed
    }

    /// Whether a new one was made.
    fn renew_update(&mut self, id: ChannelId) -> bool {
        let Some(mut update) = self.wanted_update(id) else { return false };
        let before = self.gossip_of(id).and_then(|gossip| gossip.update.as_ref());
        let now = self.timestamp();
        let is_fresh = |before: &ChannelUpdate| now < before.timestamp.saturating_add(REFRESH_SECONDS);
        if before.is_some_and(|before| *before == update && is_fresh(before)) {
            return false;
        }
        // Never twice the same time, nor one that lies back, whatever the clock did.
        update.timestamp = now.max(update.timestamp.saturating_add(1));
        update.signature = self.signer.sign_node(*update.signed_hash().as_ref());
        self.change_gossip(id, GossipChange::Update(Box::new(update)));
        true
    }

    /// Straight to the peer, private channels too: without it most make no route hint (PEERS.md A4).
    pub(super) fn send_update_to_peer(&mut self, id: ChannelId) {
        let Some(entry) = self.state.channels.get(&id).filter(|entry| entry.channel.is_usable()) else { return };
        let peer = entry.peer;
        if let Some(update) = self.gossip_of(id).and_then(|gossip| gossip.update.clone()) {
            self.send(peer, update.into());
        }
    }

    /// To everybody, where the channel is announced.
    pub(super) fn publish_update(&mut self, id: ChannelId) {
        let update = self.gossip_of(id).and_then(|gossip| gossip.update.clone());
        if let Some(update) = update.filter(|update| update.message_flags & ChannelUpdate::DONT_FORWARD == 0) {
            self.turns.push(Effect::Gossip(update.into()));
        }
    }

    /// Our newest update, as a failure brings it to a payer that named the channel `by`: an alias stays an alias (BOLT 4).
    pub(in crate::node) fn update_for_payer(&self, id: ChannelId, by: ShortChannelId) -> Option<ChannelUpdate> {
        let mut update = self.gossip_of(id)?.update.clone()?;
        if update.short_channel_id != by {
            update.short_channel_id = by;
            update.signature = self.signer.sign_node(*update.signed_hash().as_ref());
        }
        Some(update)
    }

    /// Updates that name one of our channels come here as well as to the graph's owner.
    pub(super) fn follow_updates(&mut self, id: ChannelId) {
        let Some(entry) = self.state.channels.get(&id) else { return };
        let names: BTreeSet<ShortChannelId> = entry.place().into_iter().chain([entry.channel.alias]).collect();
        self.turns.push(Effect::FollowUpdates(names));
    }

    /// What a peer asks for forwarding to us over one of our channels.
    pub(in crate::node) fn receive_channel_update(&mut self, peer: NodeId, update: ChannelUpdate) {
        let Some(id) = self.state.channel_named_by(peer, update.short_channel_id) else { return };
        let Some(entry) = self.state.channels.get(&id) else { return };
        let of_peer = u8::from(self.is_first(entry));
        let before = self.gossip_of(id).and_then(|gossip| gossip.remote_update.as_ref());
        let is_news =
            before.is_none_or(|before| update.timestamp > before.timestamp && !says_the_same(&update, before));
        let is_for_us = update.chain_hash == self.settings.chain_hash && update.direction() == of_peer;
        if !is_for_us || !is_news {
            return;
        }
        // Each is written down, and the peer can sign any number.
        let now = self.moment.now;
        if !self.live.gossip.heard.entry(id).or_default().take(UPDATES, now) {
            tracing::debug!(channel = %id, %peer, "the peer changes its mind too often");
            return;
        }
        if update.is_signed_by(&peer.0) {
            self.change_gossip(id, GossipChange::RemoteUpdate(Box::new(update)));
        } else {
            tracing::warn!(channel = %id, %peer, "the peer's channel_update has a wrong signature");
        }
    }
}

/// Whether a newer update asks for nothing else than the one before it.
fn says_the_same(update: &ChannelUpdate, before: &ChannelUpdate) -> bool {
    let ChannelUpdate { signature, timestamp, .. } = before;
    *before == ChannelUpdate { signature: *signature, timestamp: *timestamp, ..update.clone() }
}
