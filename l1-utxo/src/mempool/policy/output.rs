//! What kind of output a script makes, and whether the output is dust.
//!
//! Bitcoin Core: `Solver` (`script/solver.cpp`), `GetDustThreshold` (`policy/policy.cpp`).

use bitcoin::{Script, TxOut};

use crate::chain::is_unspendable;
use crate::consensus::script::Instructions;

const OP_1: u8 = 0x51;
const OP_16: u8 = 0x60;
const OP_CHECKSIG: u8 = 0xac;
const OP_CHECKMULTISIG: u8 = 0xae;
const MAX_MULTISIG_KEYS: usize = 20;

/// The templates that Core knows, with Core's names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputType<'a> {
    /// None of the others.
    NonStandard,
    /// Pay-to-anchor.
    Anchor,
    /// A key and CHECKSIG.
    PubKey(&'a [u8]),
    /// Legacy pay to the hash of a key.
    PubKeyHash,
    /// Legacy pay to the hash of a script.
    ScriptHash,
    /// `required` of the keys.
    MultiSig {
        /// How many must sign.
        required: u8,
        /// Who may.
        keys: Vec<&'a [u8]>,
    },
    /// OP_RETURN and pushes.
    NullData,
    /// Segwit v0, key hash.
    WitnessV0KeyHash,
    /// Segwit v0, script hash.
    WitnessV0ScriptHash,
    /// Taproot; the output key.
    WitnessV1Taproot(&'a [u8]),
    /// A witness program that has no meaning yet.
    WitnessUnknown,
}

impl OutputType<'_> {
    /// Core's name, as `type` in RPC answers.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::NonStandard => "nonstandard",
            Self::Anchor => "anchor",
            Self::PubKey(_) => "pubkey",
            Self::PubKeyHash => "pubkeyhash",
            Self::ScriptHash => "scripthash",
            Self::MultiSig { .. } => "multisig",
            Self::NullData => "nulldata",
            Self::WitnessV0KeyHash => "witness_v0_keyhash",
            Self::WitnessV0ScriptHash => "witness_v0_scripthash",
            Self::WitnessV1Taproot(_) => "witness_v1_taproot",
            Self::WitnessUnknown => "witness_unknown",
        }
    }
}

/// Pay-to-anchor: OP_1 and two bytes.
pub fn is_pay_to_anchor(script: &Script) -> bool {
    script.as_bytes() == [OP_1, 0x02, 0x4e, 0x73]
}

/// The template of an output script.
pub fn classify(script: &Script) -> OutputType<'_> {
    if script.is_p2sh() {
        return OutputType::ScriptHash;
    }
    if script.is_witness_program() {
        return match (script.as_bytes()[0], script.len()) {
            (0, 22) => OutputType::WitnessV0KeyHash,
            (0, 34) => OutputType::WitnessV0ScriptHash,
            (0, _) => OutputType::NonStandard,
            (OP_1, 34) => OutputType::WitnessV1Taproot(&script.as_bytes()[2..]),
            _ if is_pay_to_anchor(script) => OutputType::Anchor,
            _ => OutputType::WitnessUnknown,
        };
    }
    if script.is_op_return() && Script::from_bytes(&script.as_bytes()[1..]).is_push_only() {
        return OutputType::NullData;
    }
    if let Some(key) = pay_to_pubkey(script) {
        return OutputType::PubKey(key);
    }
    if script.is_p2pkh() {
        return OutputType::PubKeyHash;
    }
    multisig(script).unwrap_or(OutputType::NonStandard)
}

fn pay_to_pubkey(script: &Script) -> Option<&[u8]> {
    let [length, key @ .., OP_CHECKSIG] = script.as_bytes() else {
        return None;
    };
    (matches!(length, 33 | 65) && usize::from(*length) == key.len() && is_key_size(key)).then_some(key)
}

/// The length fits the first byte (Core: `CPubKey::ValidSize`).
fn is_key_size(key: &[u8]) -> bool {
    match key.first() {
        Some(2 | 3) => key.len() == 33,
        Some(4 | 6 | 7) => key.len() == 65,
        _ => false,
    }
}

fn multisig(script: &Script) -> Option<OutputType<'_>> {
    if *script.as_bytes().last()? != OP_CHECKMULTISIG {
        return None;
    }
    let mut rest = &script.as_bytes()[..script.len() - 1];
    let required = key_count(&mut rest)?;
    let mut keys: Vec<&[u8]> = Vec::new();
    while let Some((key, behind)) = key_push(rest) {
        rest = behind;
        keys.push(key);
    }
    let count = key_count(&mut rest)?;
    (rest.is_empty() && usize::from(count) == keys.len() && required <= count)
        .then_some(OutputType::MultiSig { required, keys })
}

/// A push of a key, in whatever encoding, and what comes behind it.
fn key_push(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut instructions = Instructions::new(bytes);
    let key = instructions.read().ok()??.data;
    is_key_size(key).then(|| (key, instructions.rest()))
}

/// 1 to 16 as an opcode, 17 to 20 as a minimal push.
fn key_count(bytes: &mut &[u8]) -> Option<u8> {
    let (count, rest) = match bytes {
        [op @ OP_1..=OP_16, rest @ ..] => (op - OP_1 + 1, rest),
        [1, count @ 17..=20, rest @ ..] => (*count, rest),
        _ => return None,
    };
    *bytes = rest;
    (usize::from(count) <= MAX_MULTISIG_KEYS).then_some(count)
}

/// Whether spending the output would cost more than it is worth at this feerate in sat/kvB.
pub fn is_dust(output: &TxOut, feerate: u64) -> bool {
    output.value.to_sat() < dust_threshold(output, feerate)
}

/// The value in satoshi below which the output is dust at this feerate in sat/kvB.
pub fn dust_threshold(output: &TxOut, feerate: u64) -> u64 {
    if is_unspendable(&output.script_pubkey) {
        return 0;
    }
    // Outpoint, script length, sequence, and a signature with a key: a quarter of it in a witness.
    let spend = if output.script_pubkey.is_witness_program() { 32 + 4 + 1 + 107 / 4 + 4 } else { 32 + 4 + 1 + 107 + 4 };
    let size = output.size() as u64 + spend;
    feerate.saturating_mul(size).div_ceil(1_000)
}

#[cfg(test)]
mod tests {
    use bitcoin::{Amount, ScriptBuf};

    use super::*;

    fn script(hex: &str) -> ScriptBuf {
        ScriptBuf::from_hex(hex).unwrap()
    }

    #[test]
    fn templates_have_core_names() {
        let key = format!("02{}", "11".repeat(32));
        let table = [
            (format!("76a914{}88ac", "00".repeat(20)), "pubkeyhash"),
            (format!("a914{}87", "00".repeat(20)), "scripthash"),
            (format!("0014{}", "00".repeat(20)), "witness_v0_keyhash"),
            (format!("0020{}", "00".repeat(32)), "witness_v0_scripthash"),
            (format!("5120{}", "00".repeat(32)), "witness_v1_taproot"),
            (format!("5220{}", "00".repeat(32)), "witness_unknown"),
            (format!("0010{}", "00".repeat(16)), "nonstandard"),
            ("51024e73".into(), "anchor"),
            ("6a".into(), "nulldata"),
            ("6a0401020304".into(), "nulldata"),
            ("6a04".into(), "nonstandard"),
            (format!("21{key}ac"), "pubkey"),
            (format!("5121{key}51ae"), "multisig"),
            (format!("514c21{key}51ae"), "multisig"),
            (format!("5221{key}51ae"), "nonstandard"),
            (format!("5121{key}52ae"), "nonstandard"),
            ("51".into(), "nonstandard"),
            (String::new(), "nonstandard"),
        ];
        for (hex, name) in table {
            assert_eq!(classify(&script(&hex)).name(), name, "{hex}");
        }
    }

    #[test]
    fn dust_is_cores() {
        let dust = |hex: &str| dust_threshold(&TxOut { value: Amount::ZERO, script_pubkey: script(hex) }, 3_000);
        assert_eq!(dust(&format!("76a914{}88ac", "00".repeat(20))), 546);
        assert_eq!(dust(&format!("0014{}", "00".repeat(20))), 294);
        assert_eq!(dust(&format!("5120{}", "00".repeat(32))), 330);
        assert_eq!(dust("51024e73"), 240);
        assert_eq!(dust("6a"), 0);
    }
}
