//! What our user should know of the chain: that others follow rules which this software does not have.

use super::Ledger;
use crate::chain::{BlockId, unknown_rules};

/// What was found out, and up to which block.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    at: Option<BlockId>,
    texts: Vec<String>,
}

impl Ledger {
    /// Warnings in Core's words. The chain's versions are looked at once in a period; while we are far behind, never.
    pub fn warnings(&mut self) -> Vec<String> {
        let period = self.chain().params().difficulty_adjustment_interval();
        let whole = (self.chain.height() + 1) / period * period;
        let last = whole.checked_sub(1).and_then(|height| self.chain.at_height(height));
        if self.is_initial_download() || last.is_none() {
            return Vec::new();
        }
        if self.warnings.at != last {
            let texts = self.find_unknown(whole, period);
            self.warnings = Warnings { at: last, texts };
        }
        self.warnings.texts.clone()
    }

    fn find_unknown(&self, blocks: u32, period: u32) -> Vec<String> {
        let version = |height: u32| {
            let entry = self.chain.entry(self.chain.at_height(height)?);
            let ours = entry.parent.map_or(0, |parent| self.version_after(self.chain.entry(parent)));
            Some((entry.header.version.to_consensus(), ours))
        };
        let bits = unknown_rules((0..blocks).filter_map(version), period);
        // One is enough to be told to look for newer software.
        let text = |bit| format!("Unknown new rules activated (versionbit {bit})");
        bits.into_iter().map(text).take(1).collect()
    }
}
