//! The script interpreter: may this input spend that output, under these flags?
//!
//! Legacy, P2SH, segwit v0, taproot and tapscript; consensus and policy. Checks run in Bitcoin Core's order, so that the
//! error has Core's name. Scripts are read in place, and what signature hashes share is computed once per transaction.
//! It never looks at other transactions, blocks or the clock: lock times are compared with the spending transaction only.
//! Bitcoin Core: `src/script/interpreter.cpp`; BIP 16, 65, 66, 112, 141, 143, 147, 341, 342.

mod error;
mod flags;
mod interpreter;
mod number;
mod opcode;
mod sighash;
mod signature;
mod stack;
mod tapscript;
mod witness;

use bitcoin::Witness;

pub use error::ScriptError;
pub use flags::ScriptFlags;
use interpreter::{SigVersion, Spend, evaluate};
use opcode::Push;
pub use opcode::{Instruction, Instructions, is_push_only, op};
pub use sighash::TransactionCache;
pub use signature::SignatureCache;
use stack::Stack;
pub use witness::WitnessProgram;
use witness::verify_witness_program;

/// Checks that input `input_index` of the transaction may spend its output under `flags`.
///
/// Panics if `flags` holds `WITNESS` without `P2SH`, or `CLEANSTACK` without both, or if there is no such input.
pub fn verify_input(cache: &TransactionCache<'_>, input_index: usize, flags: ScriptFlags) -> Result<(), ScriptError> {
    let input = &cache.transaction().input[input_index];
    let script_pubkey = &cache.prevouts()[input_index].script_pubkey;
    let spend = Spend { cache, input_index };
    verify_script(input.script_sig.as_bytes(), script_pubkey.as_bytes(), &input.witness, flags, spend)
}

/// Whether a script is `OP_HASH160 <20 bytes> OP_EQUAL` (BIP 16).
pub fn is_pay_to_script_hash(script: &[u8]) -> bool {
    matches!(script, [op::HASH160, 20, hash @ .., op::EQUAL] if hash.len() == 20)
}

/// What a scriptSig leaves on top of the stack when it is run by itself: the redeem script of a P2SH spend, `None` if
/// nothing. No signature is valid here and no flag set.
pub fn redeem_script(script_sig: &[u8]) -> Result<Option<Vec<u8>>, ScriptError> {
    let mut stack = Stack::new();
    evaluate(&mut stack, script_sig, ScriptFlags::NONE, SigVersion::Base, None)?;
    Ok(stack.items().last().map(|item| item.bytes().to_vec()))
}

fn verify_script(
    script_sig: &[u8],
    script_pubkey: &[u8],
    witness: &Witness,
    flags: ScriptFlags,
    spend: Spend<'_>,
) -> Result<(), ScriptError> {
    // Otherwise a flag more could make a spend valid that was not, and it would be no soft fork.
    assert!(!flags.contains(ScriptFlags::WITNESS) || flags.contains(ScriptFlags::P2SH), "WITNESS needs P2SH");
    assert!(
        !flags.contains(ScriptFlags::CLEANSTACK) || flags.contains(ScriptFlags::WITNESS),
        "CLEANSTACK needs WITNESS"
    );

    if flags.contains(ScriptFlags::SIGPUSHONLY) && !is_push_only(script_sig) {
        return Err(ScriptError::SigPushOnly);
    }
    let mut stack = Stack::new();
    evaluate(&mut stack, script_sig, flags, SigVersion::Base, Some(spend))?;
    let p2sh_stack = (flags.contains(ScriptFlags::P2SH) && is_pay_to_script_hash(script_pubkey)).then(|| stack.clone());
    evaluate(&mut stack, script_pubkey, flags, SigVersion::Base, Some(spend))?;
    stack.require_true()?;

    let mut ended = Ended { elements: stack.len(), witness_program: false };
    if let Some(program) = witness_program(script_pubkey, flags) {
        if !script_sig.is_empty() {
            return Err(ScriptError::WitnessMalleated);
        }
        verify_witness_program(program, witness, flags, spend, false)?;
        ended = Ended::WITNESS;
    }
    if let Some(p2sh_stack) = p2sh_stack {
        ended = verify_p2sh(p2sh_stack, script_sig, witness, flags, spend)?;
    }
    if flags.contains(ScriptFlags::CLEANSTACK) && ended.elements != 1 {
        return Err(ScriptError::CleanStack);
    }
    if flags.contains(ScriptFlags::WITNESS) && !ended.witness_program && !witness.is_empty() {
        return Err(ScriptError::WitnessUnexpected);
    }
    Ok(())
}

/// How the scripts of an input ended.
struct Ended {
    /// Elements left on the stack.
    elements: usize,
    /// Whether a witness program was spent.
    witness_program: bool,
}

impl Ended {
    /// A witness program has looked after its own stack.
    const WITNESS: Self = Self { elements: 1, witness_program: true };
}

fn witness_program(script: &[u8], flags: ScriptFlags) -> Option<WitnessProgram<'_>> {
    if flags.contains(ScriptFlags::WITNESS) { WitnessProgram::parse(script) } else { None }
}

/// Runs the redeem script on what the scriptSig left below it (BIP 16).
fn verify_p2sh(
    mut stack: Stack<'_>,
    script_sig: &[u8],
    witness: &Witness,
    flags: ScriptFlags,
    spend: Spend<'_>,
) -> Result<Ended, ScriptError> {
    if !is_push_only(script_sig) {
        return Err(ScriptError::SigPushOnly);
    }
    let redeem_script = stack.pop()?;
    let redeem_script = redeem_script.bytes();
    let mut stack = stack;
    evaluate(&mut stack, redeem_script, flags, SigVersion::Base, Some(spend))?;
    stack.require_true()?;

    let Some(program) = witness_program(redeem_script, flags) else {
        return Ok(Ended { elements: stack.len(), witness_program: false });
    };
    if !Push::new(redeem_script).is_exactly(script_sig) {
        return Err(ScriptError::WitnessMalleatedP2sh);
    }
    verify_witness_program(program, witness, flags, spend, true)?;
    Ok(Ended::WITNESS)
}

#[cfg(test)]
mod tests;
