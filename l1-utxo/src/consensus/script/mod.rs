//! The script interpreter: may this input spend that output, under these flags?
//!
//! Legacy, P2SH, segwit v0, taproot and tapscript; consensus and policy. Checks run in Bitcoin Core's order, so that the
//! error has Core's name. Scripts are read in place, and what signature hashes share is computed once per transaction.
//! It never looks at other transactions, blocks or the clock: lock times are compared with the spending transaction only.
//! Bitcoin Core: `src/script/interpreter.cpp`; BIP 16, 65, 66, 112, 141, 143, 147, 341, 342.

mod error;
mod flags;
mod sighash;
mod signature;

pub use error::ScriptError;
pub use flags::ScriptFlags;
pub use sighash::TransactionCache;
pub use signature::SignatureCache;

/// Checks that input `input_index` of the transaction may spend its output under `flags`.
///
/// Panics if `flags` holds `WITNESS` without `P2SH`, or `CLEANSTACK` without both, or if there is no such input.
pub fn verify_input(cache: &TransactionCache<'_>, input_index: usize, flags: ScriptFlags) -> Result<(), ScriptError> {
    let _ = (cache, input_index, flags);
    todo!()
}
