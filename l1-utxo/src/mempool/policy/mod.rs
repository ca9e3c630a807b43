//! What this node takes into its mempool beyond what blocks must obey: Bitcoin Core's standardness, with its figures.
//!
//! Bitcoin Core: `policy/policy.cpp`, `policy/policy.h`, defaults of version 31.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod output;
#[cfg(test)]
mod tests;
pub(super) mod truc;

use bitcoin::{Script, ScriptBuf, Transaction, TxIn, TxOut};

use self::output::{OutputType, classify, is_dust, is_pay_to_anchor};
use super::cluster::ClusterLimits;
use super::error::Rejection;
use crate::consensus::script::{self, ScriptError};
use crate::consensus::sigop::{count_sigops, spent_sigop_count};

const MAX_STANDARD_TX_WEIGHT: u64 = 400_000;
const MIN_STANDARD_TX_NONWITNESS_SIZE: usize = 65;
const MAX_STANDARD_SCRIPTSIG_SIZE: usize = 1_650;
const MAX_P2SH_SIGOPS: u32 = 15;
const MAX_TX_LEGACY_SIGOPS: u32 = 2_500;
const MAX_STANDARD_P2WSH_SCRIPT_SIZE: usize = 3_600;
const MAX_STANDARD_P2WSH_STACK_ITEMS: usize = 100;
const MAX_STANDARD_STACK_ITEM_SIZE: usize = 80;
const MAX_DUST_OUTPUTS: usize = 1;
const MAX_BARE_MULTISIG_KEYS: usize = 3;
/// Sigop cost of one standard transaction at most: a fifth of a block's.
pub const MAX_STANDARD_TX_SIGOPS_COST: u64 = 80_000 / 5;
/// Weight units that one sigop counts for at least by default.
const BYTES_PER_SIGOP: u64 = 20;
/// Bytes of all OP_RETURN scripts of a transaction together at most by default.
const MAX_DATA_CARRIER_BYTES: usize = 100_000;

/// What the owner of a node may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Memory that the mempool may take, in bytes.
    pub max_bytes: usize,
    /// Age in seconds at which a transaction is dropped.
    pub expiry: i64,
    /// Feerate that every transaction must pay, in sat/kvB.
    pub min_relay_feerate: u64,
    /// Feerate that a replacement must pay on top, in sat/kvB.
    pub incremental_feerate: u64,
    /// Feerate below which it is not worth spending an output, in sat/kvB (Core: `-dustrelayfee`).
    pub dust_feerate: u64,
    /// Bytes of all OP_RETURN scripts of a transaction together at most (Core: `-datacarriersize`).
    pub data_carrier_bytes: usize,
    /// Whether outputs to several keys that are not hashed are standard (Core: `-permitbaremultisig`).
    pub permits_bare_multisig: bool,
    /// Weight units that one sigop counts for at least (Core: `-bytespersigop`).
    pub bytes_per_sigop: u64,
    /// What hangs together at most.
    pub cluster_limits: ClusterLimits,
    /// Whether only standard transactions come in (Core: not `-acceptnonstdtxn`).
    pub requires_standard: bool,
    /// Whether the mempool checks itself after every change, for tests: it takes long (Core: `-checkmempool`).
    pub checks_itself: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_bytes: 300_000_000,
            expiry: 336 * 60 * 60,
            min_relay_feerate: 100,
            incremental_feerate: 100,
            dust_feerate: 3_000,
            data_carrier_bytes: MAX_DATA_CARRIER_BYTES,
            permits_bare_multisig: true,
            bytes_per_sigop: BYTES_PER_SIGOP,
            cluster_limits: ClusterLimits::default(),
            requires_standard: true,
            checks_itself: false,
        }
    }
}

/// The fee in satoshi that `feerate` (sat/kvB) asks of `vsize` virtual bytes, rounded up (Core: `CFeeRate::GetFee`).
pub const fn fee_at(feerate: u64, vsize: u64) -> u64 {
    (feerate * vsize).div_ceil(1_000)
}

/// Core's `IsStandardTx`.
pub fn check_standard(transaction: &Transaction, policy: &Policy) -> Result<(), Rejection> {
    if !(1..=3).contains(&transaction.version.0) {
        return Err(Rejection::Version);
    }
    if transaction.weight().to_wu() > MAX_STANDARD_TX_WEIGHT {
        return Err(Rejection::TooHeavy);
    }
    for input in &transaction.input {
        if input.script_sig.len() > MAX_STANDARD_SCRIPTSIG_SIZE {
            return Err(Rejection::ScriptSigSize);
        }
        if !input.script_sig.is_push_only() {
            return Err(Rejection::ScriptSigNotPushOnly);
        }
    }
    check_outputs(&transaction.output, policy)
}

/// The rule against transactions that look like two nodes of a merkle tree (CVE-2017-12842).
pub fn check_least_size(transaction: &Transaction) -> Result<(), Rejection> {
    if transaction.base_size() < MIN_STANDARD_TX_NONWITNESS_SIZE {
        return Err(Rejection::TooSmall);
    }
    Ok(())
}

fn check_outputs(outputs: &[TxOut], policy: &Policy) -> Result<(), Rejection> {
    let mut data_carrier_left = policy.data_carrier_bytes;
    for output in outputs {
        match classify(&output.script_pubkey) {
            OutputType::NonStandard => return Err(Rejection::ScriptPubKey),
            OutputType::MultiSig { keys, .. } if keys.len() > MAX_BARE_MULTISIG_KEYS => {
                return Err(Rejection::ScriptPubKey);
            }
            OutputType::MultiSig { .. } if !policy.permits_bare_multisig => return Err(Rejection::BareMultisig),
            OutputType::NullData => {
                data_carrier_left =
                    data_carrier_left.checked_sub(output.script_pubkey.len()).ok_or(Rejection::DataCarrier)?;
            }
            _ => {}
        }
    }
    if outputs.iter().filter(|output| is_dust(output, policy.dust_feerate)).count() > MAX_DUST_OUTPUTS {
        return Err(Rejection::Dust);
    }
    Ok(())
}

/// Core's `ValidateInputsStandardness`; `prevouts` in the order of the inputs.
pub fn check_inputs(transaction: &Transaction, prevouts: &[&TxOut]) -> Result<(), Rejection> {
    let mut legacy_sigops = 0u32;
    for (input, prevout) in transaction.input.iter().zip(prevouts) {
        legacy_sigops +=
            count_sigops(&input.script_sig, true) + spent_sigop_count(&input.script_sig, &prevout.script_pubkey);
        if legacy_sigops > MAX_TX_LEGACY_SIGOPS {
            return Err(Rejection::LegacySigops);
        }
    }
    for (index, (input, prevout)) in transaction.input.iter().zip(prevouts).enumerate() {
        match classify(&prevout.script_pubkey) {
            OutputType::NonStandard => return Err(Rejection::InputScriptUnknown { input: index }),
            OutputType::WitnessUnknown => return Err(Rejection::InputWitnessUndefined { input: index }),
            OutputType::ScriptHash => check_redeem_script(index, input)?,
            _ => {}
        }
    }
    Ok(())
}

fn check_redeem_script(index: usize, input: &TxIn) -> Result<(), Rejection> {
    let redeem = redeem_script(&input.script_sig)
        .map_err(|error| Rejection::P2shScriptSigMalformed { input: index, error })?
        .ok_or(Rejection::P2shRedeemScriptMissing { input: index })?;
    let sigops = count_sigops(&redeem, true);
    if sigops > MAX_P2SH_SIGOPS {
        return Err(Rejection::P2shSigops { input: index, sigops, limit: MAX_P2SH_SIGOPS });
    }
    Ok(())
}

/// What a scriptSig leaves on top of the stack: the redeem script of a P2SH spend.
fn redeem_script(script_sig: &Script) -> Result<Option<ScriptBuf>, ScriptError> {
    Ok(script::redeem_script(script_sig.as_bytes())?.map(ScriptBuf::from_bytes))
}

/// Core's `IsWitnessStandard`.
pub fn check_witnesses(transaction: &Transaction, prevouts: &[&TxOut]) -> Result<(), Rejection> {
    let mut inputs = transaction.input.iter().zip(prevouts).filter(|(input, _)| !input.witness.is_empty());
    if inputs.all(|(input, prevout)| is_witness_standard(input, &prevout.script_pubkey)) {
        return Ok(());
    }
    Err(Rejection::WitnessNonStandard)
}

fn is_witness_standard(input: &TxIn, script_pubkey: &Script) -> bool {
    if is_pay_to_anchor(script_pubkey) {
        return false;
    }
    let redeem = match (script_pubkey.is_p2sh(), redeem_script(&input.script_sig)) {
        (false, _) => None,
        (true, Ok(Some(redeem))) => Some(redeem),
        (true, _) => return false,
    };
    let script = redeem.as_deref().unwrap_or(script_pubkey);
    if !script.is_witness_program() {
        return false;
    }
    let stack: Vec<&[u8]> = input.witness.iter().collect();
    if script.is_p2wsh() {
        return is_p2wsh_standard(&stack);
    }
    if script.is_p2tr() && redeem.is_none() {
        return is_taproot_standard(&stack);
    }
    true
}

fn is_p2wsh_standard(stack: &[&[u8]]) -> bool {
    let Some((script, items)) = stack.split_last() else {
        return false;
    };
    script.len() <= MAX_STANDARD_P2WSH_SCRIPT_SIZE
        && items.len() <= MAX_STANDARD_P2WSH_STACK_ITEMS
        && items.iter().all(|item| item.len() <= MAX_STANDARD_STACK_ITEM_SIZE)
}

fn is_taproot_standard(stack: &[&[u8]]) -> bool {
    const ANNEX_TAG: u8 = 0x50;
    const LEAF_MASK: u8 = 0xfe;
    const LEAF_TAPSCRIPT: u8 = 0xc0;
    match stack {
        [] => false,
        [_] => true,
        [.., annex] if annex.first() == Some(&ANNEX_TAG) => false,
        [items @ .., _script, control] => match control.first() {
            None => false,
            Some(leaf) if leaf & LEAF_MASK == LEAF_TAPSCRIPT => {
                items.iter().all(|item| item.len() <= MAX_STANDARD_STACK_ITEM_SIZE)
            }
            Some(_) => true,
        },
    }
}
