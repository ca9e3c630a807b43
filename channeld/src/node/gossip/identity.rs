//! Our `node_announcement` (BOLT 7): sent once a channel of ours is announced, for others ignore nodes without one.

use crate::node::Node;
use crate::node::input::Effect;
use crate::node::state::change::Change;
use crate::units::ChannelId;
use crate::wire::{Address, Features, NodeAnnouncement};

/// It is said again after this time, in seconds, with the updates of the channels.
const REFRESH_SECONDS: u32 = 13 * 24 * 3_600;

impl Node {
    /// Makes a new one where the last is not right any more or grows old, and tells everybody. Says whether there was
    /// a reason to.
    pub(super) fn refresh_identity(&mut self) -> bool {
        let announced: Vec<ChannelId> = self.state.gossip.keys().copied().collect();
        if !announced.into_iter().any(|id| self.is_announced(id)) {
            return false;
        }
        let before = self.state.identity.as_ref();
        let mut wanted = self.wanted_identity();
        let now = self.timestamp();
        if before.is_some_and(|it| *it == wanted && now < it.timestamp.saturating_add(REFRESH_SECONDS)) {
            return false;
        }
        wanted.timestamp = now.max(wanted.timestamp.saturating_add(1));
        wanted.signature = self.signer.sign_node(*wanted.signed_hash().as_ref());
        self.change(Change::NodeAnnounced(Box::new(wanted)));
        self.publish_identity();
        true
    }

    pub(super) fn publish_identity(&mut self) {
        if let Some(announcement) = self.state.identity.clone() {
            self.turns.push(Effect::Gossip(announcement.into()));
        }
    }

    /// What it must say now, with the time and signature of the last one.
    fn wanted_identity(&self) -> NodeAnnouncement {
        let before = self.state.identity.as_ref();
        NodeAnnouncement {
            signature: before.map_or_else(|| self.signer.sign_node([0; 32]), |before| before.signature),
            features: Features::node_announcement(),
            timestamp: before.map_or(0, |before| before.timestamp),
            node_id: self.signer.node_id(),
            rgb_color: self.settings.color,
            alias: padded(&self.settings.alias),
            addresses: Address::write_all(&self.settings.announced_addresses),
            excess: Vec::new(),
        }
    }
}

/// A name in 32 bytes; a longer one is cut between two letters, so that it stays UTF-8.
fn padded(alias: &str) -> [u8; 32] {
    let mut end = alias.len().min(32);
    while !alias.is_char_boundary(end) {
        end -= 1;
    }
    let mut bytes = [0; 32];
    bytes[..end].copy_from_slice(&alias.as_bytes()[..end]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_cut_between_letters() {
        assert_eq!(&padded("ann")[..5], b"ann\0\0");
        let long = padded(&"ä".repeat(17));
        assert_eq!(std::str::from_utf8(&long).unwrap().chars().count(), 16);
        let odd = padded(&format!("x{}", "ä".repeat(16)));
        assert_eq!(odd[31], 0, "half a letter is left out");
    }
}
