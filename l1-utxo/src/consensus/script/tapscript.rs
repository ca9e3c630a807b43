//! Spending taproot outputs, by key or by script (BIP 341), and what is particular to tapscript (BIP 342).

use bitcoin::Witness;
use secp256k1::{Parity, SECP256K1, Scalar, XOnlyPublicKey};

use super::interpreter::{SigVersion, Spend};
use super::opcode::{Instructions, MAX_STACK_SIZE, is_success};
use super::sighash::{TaprootSpend, annex_hash, branch_hash, leaf_hash, taproot_sighash, tweak_hash};
use super::signature::verify_schnorr;
use super::witness::{execute_witness_script, witness_stack};
use super::{ScriptError, ScriptFlags};

/// First byte of an annex.
pub(super) const ANNEX_TAG: u8 = 0x50;
/// The bits of a control block's first byte that are the leaf version; the last one is the parity of the output key.
pub(super) const LEAF_VERSION_MASK: u8 = 0xfe;
/// The leaf version of tapscript.
pub(super) const LEAF_VERSION_TAPSCRIPT: u8 = 0xc0;
const CONTROL_BASE_SIZE: usize = 33;
const CONTROL_NODE_SIZE: usize = 32;
const CONTROL_MAX_NODES: usize = 128;

/// What a signature costs, and what every input has, in units of its budget: bytes of its witness.
const VALIDATION_WEIGHT_PER_SIGNATURE: i64 = 50;
const VALIDATION_WEIGHT_OFFSET: i64 = 50;
const NO_SEPARATOR: u32 = 0xffff_ffff;

/// What a tapscript carries while it runs.
pub(super) struct Tapscript {
    spend: TaprootSpend,
    validation_weight_left: i64,
}

impl Tapscript {
    pub(super) fn spend(&self) -> &TaprootSpend {
        &self.spend
    }

    /// Notes the last executed `OP_CODESEPARATOR`, counted in opcodes from 0.
    pub(super) fn set_separator_position(&mut self, position: u32) {
        if let Some((_, separator_position)) = &mut self.spend.leaf {
            *separator_position = position;
        }
    }

    /// What comes before a signature is verified: its price, and the type of the key. A key of unknown type passes.
    pub(super) fn check_pubkey(
        &mut self,
        signature: &[u8],
        pubkey: &[u8],
        flags: ScriptFlags,
    ) -> Result<(), ScriptError> {
        if !signature.is_empty() {
            self.validation_weight_left -= VALIDATION_WEIGHT_PER_SIGNATURE;
            if self.validation_weight_left < 0 {
                return Err(ScriptError::TapscriptValidationWeight);
            }
        }
        match pubkey.len() {
            0 => Err(ScriptError::TapscriptEmptyPubkey),
            32 => Ok(()),
            _ if flags.contains(ScriptFlags::DISCOURAGE_UPGRADABLE_PUBKEYTYPE) => {
                Err(ScriptError::DiscourageUpgradablePubkeyType)
            }
            _ => Ok(()),
        }
    }
}

/// Checks the witness of an input that spends a taproot output with this output key.
pub(super) fn verify_taproot(
    output_key: &[u8],
    witness: &Witness,
    flags: ScriptFlags,
    spend: Spend<'_>,
) -> Result<(), ScriptError> {
    let last = witness.last().ok_or(ScriptError::WitnessProgramWitnessEmpty)?;
    let has_annex = witness.len() >= 2 && last.first() == Some(&ANNEX_TAG);
    let mut taproot = TaprootSpend::new(has_annex.then(|| annex_hash(last)));
    let elements = witness.len() - usize::from(has_annex);
    if elements == 1 {
        return check_schnorr(Some(spend), &taproot, &witness[0], output_key);
    }

    let (control, script) = (&witness[elements - 1], &witness[elements - 2]);
    let Some((base, path)) = split_control_block(control) else { return Err(ScriptError::TaprootWrongControlSize) };
    let leaf_version = base[0] & LEAF_VERSION_MASK;
    let leaf = leaf_hash(leaf_version, script);
    if !is_committed(output_key, base, path, leaf) {
        return Err(ScriptError::WitnessProgramMismatch);
    }
    if leaf_version != LEAF_VERSION_TAPSCRIPT {
        return if flags.contains(ScriptFlags::DISCOURAGE_UPGRADABLE_TAPROOT_VERSION) {
            Err(ScriptError::DiscourageUpgradableTaprootVersion)
        } else {
            Ok(())
        };
    }
    taproot.leaf = Some((leaf, NO_SEPARATOR));
    let tapscript =
        Tapscript { spend: taproot, validation_weight_left: witness.size() as i64 + VALIDATION_WEIGHT_OFFSET };
    execute_tapscript(witness, elements - 2, script, flags, tapscript, spend)
}

/// The first 33 bytes, and the nodes of the path from the leaf up.
fn split_control_block(control: &[u8]) -> Option<(&[u8; CONTROL_BASE_SIZE], &[[u8; CONTROL_NODE_SIZE]])> {
    let (base, path) = control.split_first_chunk()?;
    let (nodes, rest) = path.as_chunks();
    (rest.is_empty() && nodes.len() <= CONTROL_MAX_NODES).then_some((base, nodes))
}

/// Whether the output key is the internal key tweaked by the tree that `leaf` and `path` lead up to.
fn is_committed(output_key: &[u8], base: &[u8; CONTROL_BASE_SIZE], path: &[[u8; 32]], leaf: [u8; 32]) -> bool {
    let root = path.iter().fold(leaf, |hash, node| branch_hash(&hash, node));
    let (Ok(internal_key), Ok(tweak)) =
        (XOnlyPublicKey::from_slice(&base[1..]), Scalar::from_be_bytes(tweak_hash(&base[1..], &root)))
    else {
        return false;
    };
    let parity = if base[0] & 1 == 0 { Parity::Even } else { Parity::Odd };
    internal_key
        .add_tweak(SECP256K1, &tweak)
        .is_ok_and(|(key, key_parity)| key_parity == parity && key.serialize() == output_key)
}

/// Runs a tapscript, unless an `OP_SUCCESSx` anywhere in its readable part ends it at once.
fn execute_tapscript(
    witness: &Witness,
    arguments: usize,
    script: &[u8],
    flags: ScriptFlags,
    tapscript: Tapscript,
    spend: Spend<'_>,
) -> Result<(), ScriptError> {
    let mut instructions = Instructions::new(script);
    while let Some(instruction) = instructions.read()? {
        if is_success(instruction.opcode) {
            return if flags.contains(ScriptFlags::DISCOURAGE_OP_SUCCESS) {
                Err(ScriptError::DiscourageOpSuccess)
            } else {
                Ok(())
            };
        }
    }
    if arguments > MAX_STACK_SIZE {
        return Err(ScriptError::StackSize);
    }
    let stack = witness_stack(witness, arguments);
    execute_witness_script(stack, script, flags, SigVersion::Tapscript(tapscript), spend)
}

/// Checks a Schnorr signature of 64 bytes, or 65 with a hash type that is not 0.
pub(super) fn check_schnorr(
    spend: Option<Spend<'_>>,
    taproot: &TaprootSpend,
    signature: &[u8],
    pubkey: &[u8],
) -> Result<(), ScriptError> {
    let (signature, hash_type) = match signature {
        [signature @ .., hash_type] if signature.len() == 64 => match hash_type {
            0 => return Err(ScriptError::SchnorrSigHashtype),
            hash_type => (signature, *hash_type),
        },
        _ if signature.len() == 64 => (signature, 0),
        _ => return Err(ScriptError::SchnorrSigSize),
    };
    let Some(Spend { cache, input_index }) = spend else { return Err(ScriptError::SchnorrSig) };
    let sighash = taproot_sighash(cache, input_index, taproot, hash_type).ok_or(ScriptError::SchnorrSigHashtype)?;
    if verify_schnorr(cache.signatures(), signature, pubkey, &sighash) { Ok(()) } else { Err(ScriptError::SchnorrSig) }
}
