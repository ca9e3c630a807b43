//! The part of a script that signatures commit to.

use std::borrow::Cow;

use bitcoin::hashes::sha256::HashEngine;

use super::super::opcode::{Instructions, Push, op};
use super::{Sink, write_compact_size};

/// The script from its last executed `OP_CODESEPARATOR` on; it owns bytes only where signatures were cut out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct ScriptCode<'s>(Cow<'s, [u8]>);

impl<'s> ScriptCode<'s> {
    /// All of `script`.
    pub fn new(script: &'s [u8]) -> Self {
        Self(Cow::Borrowed(script))
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Removes every push of `signature` that stands where an instruction begins; the flag says whether there was one
    /// (Bitcoin Core: `FindAndDelete`).
    pub fn without(self, signature: &[u8]) -> (Self, bool) {
        let push = Push::new(signature);
        let script = self.bytes();
        let mut kept: Option<Vec<u8>> = None;
        let mut instructions = Instructions::new(script);
        let mut start = 0;
        loop {
            let mut position = instructions.position();
            if push.is_prefix_of(&script[position..]) {
                let kept = kept.get_or_insert_with(|| Vec::with_capacity(script.len()));
                kept.extend_from_slice(&script[start..position]);
                while push.is_prefix_of(&script[position..]) {
                    position += push.len();
                }
                start = position;
                instructions.skip_to(position);
            }
            if !matches!(instructions.read(), Ok(Some(_))) {
                break;
            }
        }
        let Some(mut kept) = kept else { return (self, false) };
        kept.extend_from_slice(&script[start..]);
        (Self(Cow::Owned(kept)), true)
    }

    /// Writes length and code without `OP_CODESEPARATOR`, as legacy hashes do. Where a push is truncated Core's length
    /// still counts what follows it, but the bytes do not; such a script fails later anyway.
    pub(super) fn write_without_separators(&self, engine: &mut HashEngine) {
        let script = self.bytes();
        let mut instructions = Instructions::new(script);
        let mut separators = 0;
        while let Ok(Some(instruction)) = instructions.read() {
            separators += usize::from(instruction.opcode == op::CODESEPARATOR);
        }
        let end = instructions.position();
        write_compact_size(engine, script.len() - separators);
        let mut start = 0;
        if separators > 0 {
            let mut instructions = Instructions::new(script);
            while let Ok(Some(instruction)) = instructions.read() {
                if instruction.opcode == op::CODESEPARATOR {
                    engine.put(&script[start..instructions.position() - 1]);
                    start = instructions.position();
                }
            }
        }
        engine.put(&script[start..end]);
    }
}
