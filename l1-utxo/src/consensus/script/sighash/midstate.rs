//! Hash states of one script run, so that many signatures over the same code cost one serialisation
//! (Bitcoin Core: `SigHashCache`).

use bitcoin::hashes::sha256::HashEngine;

use super::{SIGHASH_ANYONECANPAY, SIGHASH_NONE, SIGHASH_SINGLE, ScriptCode, covers};

/// For each of the six meanings of a hash type the last script code, and the state before the hash type itself is added.
#[derive(Default)]
pub(in super::super) struct Midstates<'s>([Option<(ScriptCode<'s>, HashEngine)>; 6]);

impl<'s> Midstates<'s> {
    /// The state for this hash type and script code; `write` makes it if it is not there.
    pub(super) fn load_or(
        &mut self,
        hash_type: u8,
        script_code: &ScriptCode<'s>,
        write: impl FnOnce() -> HashEngine,
    ) -> HashEngine {
        let alone = usize::from(hash_type & SIGHASH_ANYONECANPAY != 0);
        let outputs = 2 * usize::from(covers(hash_type, SIGHASH_SINGLE)) + usize::from(covers(hash_type, SIGHASH_NONE));
        let slot = &mut self.0[3 * alone + outputs];
        match slot {
            Some((code, engine)) if code == script_code => engine.clone(),
            _ => slot.insert((script_code.clone(), write())).1.clone(),
        }
    }
}
