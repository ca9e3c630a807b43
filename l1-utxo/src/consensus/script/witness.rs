//! Witness programs: recognising them, and spending them (BIP 141; Bitcoin Core: `VerifyWitnessProgram`).

use bitcoin::Witness;
use bitcoin::hashes::{Hash, sha256};

use super::interpreter::{SigVersion, Spend, evaluate};
use super::opcode::{MAX_SCRIPT_ELEMENT_SIZE, op, small_number};
use super::stack::{Item, Stack};
use super::tapscript::verify_taproot;
use super::{ScriptError, ScriptFlags};

/// Bytes of a witness program that stands for a script or a taproot output key.
pub(super) const WITNESS_32_SIZE: usize = 32;
/// Bytes of a version 0 program that stands for a public key.
pub(super) const WITNESS_V0_KEYHASH_SIZE: usize = 20;
const PAY_TO_ANCHOR_PROGRAM: [u8; 2] = [0x4e, 0x73];

/// An output script that is one small number and one push of 2 to 40 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WitnessProgram<'s> {
    /// The version, 0 to 16.
    pub version: u8,
    /// The program, 2 to 40 bytes.
    pub program: &'s [u8],
}

impl<'s> WitnessProgram<'s> {
    /// The witness program that a script is, if it is one.
    pub fn parse(script: &'s [u8]) -> Option<Self> {
        let [version, length, program @ ..] = script else { return None };
        let version = if *version == op::PUSHBYTES_0 { 0 } else { small_number(*version)? };
        ((2..=40).contains(&program.len()) && usize::from(*length) == program.len())
            .then_some(Self { version, program })
    }

    /// Whether this is the pay-to-anchor program, which anyone can spend.
    pub fn is_pay_to_anchor(&self) -> bool {
        self.version == 1 && self.program == PAY_TO_ANCHOR_PROGRAM
    }
}

/// Checks the witness of an input against the witness program of its output, or of its redeem script if `in_p2sh`.
pub(super) fn verify_witness_program(
    witness_program: WitnessProgram<'_>,
    witness: &Witness,
    flags: ScriptFlags,
    spend: Spend<'_>,
    in_p2sh: bool,
) -> Result<(), ScriptError> {
    let WitnessProgram { version, program } = witness_program;
    match (version, program.len()) {
        (0, WITNESS_32_SIZE) => verify_script_hash(program, witness, flags, spend),
        (0, WITNESS_V0_KEYHASH_SIZE) => verify_key_hash(program, witness, flags, spend),
        (0, _) => Err(ScriptError::WitnessProgramWrongLength),
        (1, WITNESS_32_SIZE) if !in_p2sh => {
            if flags.contains(ScriptFlags::TAPROOT) {
                verify_taproot(program, witness, flags, spend)
            } else {
                Ok(())
            }
        }
        _ if !in_p2sh && witness_program.is_pay_to_anchor() => Ok(()),
        _ if flags.contains(ScriptFlags::DISCOURAGE_UPGRADABLE_WITNESS_PROGRAM) => {
            Err(ScriptError::DiscourageUpgradableWitnessProgram)
        }
        _ => Ok(()),
    }
}

/// P2WSH: the last element is the script.
fn verify_script_hash(
    program: &[u8],
    witness: &Witness,
    flags: ScriptFlags,
    spend: Spend<'_>,
) -> Result<(), ScriptError> {
    let script = witness.last().ok_or(ScriptError::WitnessProgramWitnessEmpty)?;
    if sha256::Hash::hash(script).as_byte_array() != program {
        return Err(ScriptError::WitnessProgramMismatch);
    }
    execute_witness_script(witness_stack(witness, witness.len() - 1), script, flags, SigVersion::WitnessV0, spend)
}

/// P2WPKH: signature and public key, as if the script were P2PKH.
fn verify_key_hash(program: &[u8], witness: &Witness, flags: ScriptFlags, spend: Spend<'_>) -> Result<(), ScriptError> {
    if witness.len() != 2 {
        return Err(ScriptError::WitnessProgramMismatch);
    }
    let mut script = [0; 25];
    script[..3].copy_from_slice(&[op::DUP, op::HASH160, 20]);
    script[3..23].copy_from_slice(program);
    script[23..].copy_from_slice(&[op::EQUALVERIFY, op::CHECKSIG]);
    execute_witness_script(witness_stack(witness, 2), &script, flags, SigVersion::WitnessV0, spend)
}

/// The first `count` elements of a witness, as a stack.
pub(super) fn witness_stack(witness: &Witness, count: usize) -> Stack<'_> {
    let mut stack = Stack::new();
    witness.iter().take(count).for_each(|element| stack.push(Item::Borrowed(element)));
    stack
}

/// Runs a script of a witness: no element too long before, exactly one true element after.
pub(super) fn execute_witness_script<'s>(
    mut stack: Stack<'s>,
    script: &'s [u8],
    flags: ScriptFlags,
    version: SigVersion,
    spend: Spend<'_>,
) -> Result<(), ScriptError> {
    if stack.items().iter().any(|item| item.bytes().len() > MAX_SCRIPT_ELEMENT_SIZE) {
        return Err(ScriptError::PushSize);
    }
    evaluate(&mut stack, script, flags, version, Some(spend))?;
    if stack.len() != 1 {
        return Err(ScriptError::CleanStack);
    }
    stack.require_true()
}
