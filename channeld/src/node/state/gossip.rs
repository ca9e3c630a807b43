//! What was told and heard of one of our channels (BOLT 7), as far as it must outlive the process: timestamps never go back,
//! and the peer's half of an announcement is not asked for twice.

use serde::{Deserialize, Serialize};

use crate::wire::{AnnouncementSignatures, ChannelUpdate};

/// See the file's map.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChannelGossip {
    /// The peer's half of the announcement, checked; for the place on the chain that it names.
    pub remote_signatures: Option<AnnouncementSignatures>,
    /// Our newest `channel_update`, sent to the peer alone or to everybody.
    pub update: Option<ChannelUpdate>,
    /// The peer's newest `channel_update`, checked: what it asks for forwarding to us.
    pub remote_update: Option<ChannelUpdate>,
}

/// What changes in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum GossipChange {
    /// The peer's half came.
    RemoteSignatures(AnnouncementSignatures),
    /// We made an update.
    Update(Box<ChannelUpdate>),
    /// The peer sent one.
    RemoteUpdate(Box<ChannelUpdate>),
}

impl ChannelGossip {
    /// Makes one change.
    pub fn apply(&mut self, change: &GossipChange) {
        match change {
            GossipChange::RemoteSignatures(signatures) => self.remote_signatures = Some(signatures.clone()),
            GossipChange::Update(update) => self.update = Some((**update).clone()),
            GossipChange::RemoteUpdate(update) => self.remote_update = Some((**update).clone()),
        }
    }
}
