//! Taproot outputs: by their key, else by the cheapest leaf (Core: `SignTaproot`).

use bitcoin::Script;
use bitcoin::hashes::Hash;
use bitcoin::taproot::{LeafVersion, TapLeafHash};

use super::digest::Tweak;
use super::produce::{Producer, Step};
use super::{Bytes32, Creator};

/// A signature with the default type, for measuring.
const DUMMY_SIGNATURE: [u8; 64] = [0; 64];

impl Producer<'_, '_> {
    pub(super) fn taproot(&mut self, output_key: Bytes32) -> Step {
        if let Some(known) = self.keys.taproot(&output_key) {
            let tap = &mut self.data.tap;
            tap.internal_key = tap.internal_key.or(known.internal_key);
            tap.merkle_root = tap.merkle_root.or(known.merkle_root);
            tap.tree.clone_from(&known.tree);
            for (leaf, blocks) in &known.scripts {
                tap.scripts.entry(leaf.clone()).or_default().extend(blocks.iter().cloned());
            }
        }
        for key in self.data.tap.internal_key.into_iter().chain([output_key]) {
            self.note_origin(key, None);
        }
        if let Some(internal_key) = self.data.tap.internal_key {
            self.sign_key_path(internal_key, Tweak::Root(self.data.tap.merkle_root));
        }
        self.sign_key_path(output_key, Tweak::None);
        if !self.data.tap_key_sig.is_empty() {
            return (vec![self.data.tap_key_sig.clone()], true);
        }
        let mut best: Option<Vec<Vec<u8>>> = None;
        for ((script, version), blocks) in self.data.tap.scripts.clone() {
            let Some(mut stack) = self.leaf(Script::from_bytes(&script), version) else { continue };
            stack.push(script);
            stack.extend(blocks.into_iter().next());
            let size = |stack: &[Vec<u8>]| stack.iter().map(|item| item.len() + 1).sum::<usize>();
            if best.as_ref().is_none_or(|best| size(&stack) < size(best)) {
                best = Some(stack);
            }
        }
        best.map_or((Vec::new(), false), |stack| (stack, true))
    }

    fn sign_key_path(&mut self, key: Bytes32, tweak: Tweak) {
        if !self.data.tap_key_sig.is_empty() {
            return;
        }
        let made = match self.creator {
            Creator::Dummy => Some(DUMMY_SIGNATURE.to_vec()),
            Creator::Real(spend) => self.keys.keypair(&key).and_then(|pair| spend.sign_schnorr(&pair, None, tweak)),
        };
        self.data.tap_key_sig = made.unwrap_or_default();
    }

    fn leaf(&mut self, script: &Script, version: u8) -> Option<Vec<Vec<u8>>> {
        let version = LeafVersion::from_consensus(version).ok().filter(|version| *version == LeafVersion::TapScript)?;
        self.satisfy_leaf(script, TapLeafHash::from_script(script, version).to_byte_array())
    }

    /// A signature of a key in a leaf, found or made.
    pub(super) fn sign_leaf(&mut self, key: Bytes32, leaf: Bytes32) {
        self.note_origin(key, Some(leaf));
        if self.data.tap_script_sigs.contains_key(&(key, leaf)) {
            return;
        }
        let made = match self.creator {
            Creator::Dummy => Some(DUMMY_SIGNATURE.to_vec()),
            Creator::Real(spend) => {
                let pair = self.keys.keypair(&key);
                pair.and_then(|pair| spend.sign_schnorr(&pair, Some(leaf), Tweak::None))
            }
        };
        if let Some(signature) = made {
            self.data.tap_script_sigs.insert((key, leaf), signature);
        }
    }

    fn note_origin(&mut self, key: Bytes32, leaf: Option<Bytes32>) {
        if let Some(origin) = self.keys.x_only_origin(&key) {
            let (leaves, _) = self.data.tap_origins.entry(key).or_insert_with(|| (Default::default(), origin.clone()));
            leaves.extend(leaf);
        }
    }
}
