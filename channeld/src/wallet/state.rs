//! What the wallet leaves on disk: the sum of the changes that its turns staged.

use std::collections::BTreeSet;

use bdk_wallet::ChangeSet;
use bdk_wallet::chain::Merge;

use super::WalletError;

/// Blocks behind the tip whose hashes are kept: reorganisations within them are followed without a look at the chain.
const KEPT_BLOCKS: u32 = 2_016;

/// All that must be stored of a wallet.
#[derive(Clone, Default, PartialEq)]
pub struct WalletState {
    changes: ChangeSet,
}

impl WalletState {
    /// Reads what [`WalletState::to_bytes`] or [`super::Wallet::take_staged`] wrote.
    ///
    /// # Errors
    /// [`WalletError::UnreadableState`].
    pub fn from_bytes(bytes: &[u8]) -> Result<WalletState, WalletError> {
        Ok(WalletState { changes: decode(bytes)? })
    }

    /// Adds what a turn staged.
    ///
    /// # Errors
    /// [`WalletError::UnreadableState`]; nothing changed.
    pub fn merge(&mut self, staged: &[u8]) -> Result<(), WalletError> {
        self.changes.merge(decode(staged)?);
        Ok(())
    }

    /// The whole, for a checkpoint. Hashes of old blocks without a transaction of ours are left out: one a block would
    /// let the wallet grow with the chain.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut changes = self.changes.clone();
        let anchored: BTreeSet<u32> =
            changes.tx_graph.anchors.iter().map(|(anchor, _)| anchor.block_id.height).collect();
        let tip = changes.local_chain.blocks.last_key_value().map_or(0, |(height, _)| *height);
        changes.local_chain.blocks.retain(|height, hash| {
            *height == 0 || anchored.contains(height) || (hash.is_some() && height.saturating_add(KEPT_BLOCKS) > tip)
        });
        encode(&changes)
    }

    /// Whether nothing was ever stored.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    pub(super) fn change_set(&self) -> &ChangeSet {
        &self.changes
    }
}

pub(super) fn encode(changes: &ChangeSet) -> Vec<u8> {
    postcard::to_allocvec(changes).expect("a change set always encodes")
}

fn decode(bytes: &[u8]) -> Result<ChangeSet, WalletError> {
    postcard::from_bytes(bytes).map_err(|_| WalletError::UnreadableState)
}
