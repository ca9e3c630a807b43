//! What the fields must look like.

use bitcoin::consensus::encode::{deserialize, deserialize_partial};
use bitcoin::{TxOut, VarInt, Witness};
use secp256k1::PublicKey;

use super::kind;
use super::read::{end_of_data, legacy_transaction, without_witness};
use crate::consensus::decode::{Form, decode_transaction};

/// Which kind of map a field is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Global,
    Input,
    Output,
}

impl Place {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Input => "input",
            Self::Output => "output",
        }
    }

    pub(super) const fn article(self) -> &'static str {
        match self {
            Self::Global => "the global map",
            Self::Input => "an input map",
            Self::Output => "an output map",
        }
    }
}

/// Length of the key, its type included, and Core's name of the field, for those of one length.
const fn key_size(place: Place, kind: u8) -> Option<(usize, &'static str)> {
    Some(match (place, kind) {
        (Place::Global, 0x00) => (1, "Global Unsigned TX"),
        (Place::Global, 0x01) => (79, "Global XPUB"),
        (Place::Global, 0x02) => (1, "Global Transaction Version"),
        (Place::Global, 0x03) => (1, "Global Fallback Locktime"),
        (Place::Global, 0x04) => (1, "Global Input Count"),
        (Place::Global, 0x05) => (1, "Global Output Count"),
        (Place::Global, 0x06) => (1, "Global TX Modifiable Flags"),
        (Place::Global, 0xfb) => (1, "Global PSBT Version"),
        (Place::Input, 0x00) => (1, "Input Non-witness UTXO"),
        (Place::Input, 0x01) => (1, "Input Witness UTXO"),
        (Place::Input, 0x03) => (1, "Input Sighash Type"),
        (Place::Input, 0x04) => (1, "Input redeemScript"),
        (Place::Input, 0x05) => (1, "Input witnessScript"),
        (Place::Input, 0x07) => (1, "Input Final scriptSig"),
        (Place::Input, 0x08) => (1, "Input Final scriptWitness"),
        (Place::Input, 0x0a) => (21, "Input RIPEMD160 Preimage"),
        (Place::Input, 0x0b) => (33, "Input SHA256 Preimage"),
        (Place::Input, 0x0c) => (21, "Input Hash160 Preimage"),
        (Place::Input, 0x0d) => (33, "Input Hash256 Preimage"),
        (Place::Input, 0x0e) => (1, "Input Previous TXID"),
        (Place::Input, 0x0f) => (1, "Input Previous Output's Index"),
        (Place::Input, 0x10) => (1, "Input Sequence"),
        (Place::Input, 0x11) => (1, "Input Required Time Based Locktime"),
        (Place::Input, 0x12) => (1, "Input Required Height Based Locktime"),
        (Place::Input, 0x13) => (1, "Input Taproot Key Path Signature"),
        (Place::Input, 0x14) => (65, "Input Taproot Script Path Signature"),
        (Place::Input, 0x16) => (33, "Input Taproot BIP32 Keypath"),
        (Place::Input, 0x17) => (1, "Input Taproot Internal Key"),
        (Place::Input, 0x18) => (1, "Input Taproot Merkle Root"),
        (Place::Input, 0x1a) => (34, "Input MuSig2 Participants Pubkeys"),
        (Place::Output, 0x00) => (1, "Output redeemScript"),
        (Place::Output, 0x01) => (1, "Output witnessScript"),
        (Place::Output, 0x03) => (1, "Output Amount"),
        (Place::Output, 0x04) => (1, "Output Script"),
        (Place::Output, 0x05) => (1, "Output Taproot Internal Key"),
        (Place::Output, 0x06) => (1, "Output Taproot Tree Key"),
        (Place::Output, 0x07) => (33, "Output Taproot BIP32 Keypath"),
        (Place::Output, 0x08) => (34, "Output MuSig2 Participants Pubkeys"),
        _ => return None,
    })
}

/// Whether the key fits its type.
pub(super) fn check_key(place: Place, key: &[u8]) -> Result<(), String> {
    let fails = |message: &str| Err(message.to_owned());
    if let Some((size, name)) = key_size(place, key[0])
        && key.len() != size
    {
        return Err(format!("Size of key was not {size} for the type {name}"));
    }
    let is_derivation = matches!(
        (place, key[0]),
        (Place::Input, kind::IN_BIP32_DERIVATION) | (Place::Output, kind::OUT_BIP32_DERIVATION)
    );
    let is_signature = (place, key[0]) == (Place::Input, kind::IN_PARTIAL_SIG);
    if is_derivation || is_signature {
        let name = if is_signature { "partial signature pubkey" } else { "BIP32 keypath" };
        if !matches!(key.len(), 34 | 66) {
            return Err(format!("Size of key was not the expected size for the type {name}"));
        }
        if PublicKey::from_slice(&key[1..]).is_err() {
            return fails("Invalid pubkey");
        }
    }
    match (place, key[0]) {
        (Place::Input, kind::IN_TAP_LEAF_SCRIPT) if key.len() < 34 => {
            fails("Input Taproot leaf script key is not at least 34 bytes")
        }
        (Place::Input, kind::IN_TAP_LEAF_SCRIPT) if !(key.len() - 2).is_multiple_of(32) => {
            fails("Input Taproot leaf script key's control block size is not valid")
        }
        (Place::Input, kind::IN_MUSIG2_PUB_NONCE) if !matches!(key.len(), 67 | 99) => {
            fails("Input musig2 pubnonce key is not expected size of 67 or 99 bytes")
        }
        (Place::Input, kind::IN_MUSIG2_PARTIAL_SIG) if !matches!(key.len(), 67 | 99) => {
            fails("Input musig2 partial sig key is not expected size of 67 or 99 bytes")
        }
        (Place::Global, kind::GLOBAL_XPUB) if PublicKey::from_slice(&key[46..]).is_err() => fails("Invalid pubkey"),
        (Place::Input, kind::IN_MUSIG2_PARTICIPANTS) | (Place::Output, kind::OUT_MUSIG2_PARTICIPANTS)
            if PublicKey::from_slice(&key[1..]).is_err() =>
        {
            let context = if place == Place::Input { "Input" } else { "Output" };
            Err(format!("{context} musig2 aggregate pubkey is invalid"))
        }
        (_, kind::PROPRIETARY) => proprietary(key).map(|_| ()).ok_or_else(end_of_data),
        _ => Ok(()),
    }
}

/// Identifier and subtype of a proprietary field.
pub fn proprietary(key: &[u8]) -> Option<(&[u8], u64)> {
    let rest = &key[1..];
    let (length, size) = deserialize_partial::<VarInt>(rest).ok()?;
    let end = size.checked_add(usize::try_from(length.0).ok()?)?;
    let identifier = rest.get(size..end)?;
    let (subtype, _) = deserialize_partial::<VarInt>(&rest[end..]).ok()?;
    Some((identifier, subtype.0))
}

/// Whether the value fits; it comes back as it is kept.
pub(super) fn check(place: Place, key: &[u8], value: Vec<u8>, version: u32) -> Result<Vec<u8>, String> {
    match place {
        Place::Global => check_global(key[0], &value)?,
        Place::Input => return check_input(key, value, version),
        Place::Output => check_output(key[0], &value, version)?,
    }
    Ok(value)
}

const SIZE: &str = "Size of value was not the stated size";

fn sized(value: &[u8], size: usize) -> Result<(), String> {
    match value.len() {
        length if length < size => Err(end_of_data()),
        length if length > size => Err(SIZE.into()),
        _ => Ok(()),
    }
}

fn check_global(kind: u8, value: &[u8]) -> Result<(), String> {
    match kind {
        kind::GLOBAL_UNSIGNED_TX => {
            let transaction = legacy_transaction(value).ok_or_else(end_of_data)?;
            if transaction.input.iter().any(|input| !input.script_sig.is_empty()) {
                return Err("Unsigned tx does not have empty scriptSigs and scriptWitnesses.".into());
            }
            Ok(())
        }
        kind::GLOBAL_XPUB => origin(value),
        kind::GLOBAL_TX_VERSION | kind::GLOBAL_FALLBACK_LOCKTIME => sized(value, 4),
        kind::GLOBAL_INPUT_COUNT | kind::GLOBAL_OUTPUT_COUNT => {
            deserialize::<VarInt>(value).map(|_| ()).map_err(|_| SIZE.to_owned())
        }
        kind::GLOBAL_TX_MODIFIABLE => sized(value, 1),
        kind::GLOBAL_VERSION => {
            sized(value, 4)?;
            let version = value.try_into().map(u32::from_le_bytes).unwrap_or(u32::MAX);
            if version > 2 { Err("Unsupported version number".into()) } else { Ok(()) }
        }
        _ => Ok(()),
    }
}

/// A fingerprint and a path.
fn origin(value: &[u8]) -> Result<(), String> {
    if value.is_empty() || !value.len().is_multiple_of(4) {
        return Err("Invalid length for HD key path".into());
    }
    Ok(())
}

fn check_input(key: &[u8], value: Vec<u8>, version: u32) -> Result<Vec<u8>, String> {
    const LOCK_TIMES: u32 = 500_000_000;
    let only_later = |name: &str| {
        if version == 0 { Err(format!("{name} is not allowed in PSBTv0")) } else { Ok(()) }
    };
    let number = || value.as_slice().try_into().map(u32::from_le_bytes).unwrap_or(0);
    match key[0] {
        kind::IN_NON_WITNESS_UTXO => {
            let transaction = decode_transaction(&value, Form::Witness).map_err(|_| end_of_data())?;
            return Ok(without_witness(&transaction));
        }
        kind::IN_WITNESS_UTXO => {
            let (_, size) = deserialize_partial::<TxOut>(&value).map_err(|_| end_of_data())?;
            if size != value.len() {
                return Err(SIZE.into());
            }
        }
        kind::IN_PARTIAL_SIG if !is_signature(&value) => return Err("Signature is not a valid encoding".into()),
        kind::IN_SIGHASH => sized(&value, 4)?,
        kind::IN_BIP32_DERIVATION => origin(&value)?,
        kind::IN_FINAL_SCRIPT_WITNESS => {
            deserialize::<Witness>(&value).map_err(|_| end_of_data())?;
        }
        kind::IN_PREVIOUS_TXID => {
            only_later("Previous txid")?;
            sized(&value, 32)?;
        }
        kind::IN_OUTPUT_INDEX => {
            only_later("Previous output's index")?;
            sized(&value, 4)?;
        }
        kind::IN_SEQUENCE => {
            only_later("Sequence")?;
            sized(&value, 4)?;
        }
        kind::IN_TIME_LOCKTIME => {
            only_later("Required time based locktime")?;
            sized(&value, 4)?;
            if number() < LOCK_TIMES {
                return Err("Required time based locktime is invalid (less than 500000000)".into());
            }
        }
        kind::IN_HEIGHT_LOCKTIME => {
            only_later("Required height based locktime")?;
            sized(&value, 4)?;
            if number() >= LOCK_TIMES {
                let message = "Required height based locktime is invalid (greater than or equal to 500000000)";
                return Err(message.into());
            }
            if number() == 0 {
                return Err("Required height based locktime is invalid (0)".into());
            }
        }
        kind::IN_TAP_KEY_SIG => schnorr(&value, "key")?,
        kind::IN_TAP_SCRIPT_SIG => schnorr(&value, "script")?,
        kind::IN_TAP_LEAF_SCRIPT if value.is_empty() => {
            return Err("Input Taproot leaf script must be at least 1 byte".into());
        }
        kind::IN_TAP_BIP32_DERIVATION => tap_origin(&value, "Input")?,
        kind::IN_TAP_INTERNAL_KEY | kind::IN_TAP_MERKLE_ROOT | kind::IN_MUSIG2_PARTIAL_SIG => sized(&value, 32)?,
        kind::IN_MUSIG2_PARTICIPANTS => participants(&value, "Input")?,
        kind::IN_MUSIG2_PUB_NONCE if value.len() != 66 => {
            return Err("Input musig2 pubnonce value is not 66 bytes".into());
        }
        _ => {}
    }
    Ok(value)
}

/// Strict DER, and a type of signature hash that has a meaning.
fn is_signature(value: &[u8]) -> bool {
    let Some((sighash, der)) = value.split_last() else { return false };
    matches!(sighash & !0x80, 1..=3) && secp256k1::ecdsa::Signature::from_der(der).is_ok()
}

fn schnorr(value: &[u8], path: &str) -> Result<(), String> {
    match value.len() {
        ..64 => Err(format!("Input Taproot {path} path signature is shorter than 64 bytes")),
        64 | 65 => Ok(()),
        _ => Err(format!("Input Taproot {path} path signature is longer than 65 bytes")),
    }
}

fn tap_origin(value: &[u8], context: &str) -> Result<(), String> {
    let invalid = || format!("{context} Taproot BIP32 keypath has an invalid length");
    let (count, size) = deserialize_partial::<VarInt>(value).map_err(|_| end_of_data())?;
    let hashes = usize::try_from(count.0).ok().and_then(|count| count.checked_mul(32)?.checked_add(size));
    origin(value.get(hashes.ok_or_else(invalid)?..).ok_or_else(invalid)?)
}

fn participants(value: &[u8], context: &str) -> Result<(), String> {
    let keys = value.chunks_exact(33);
    if !keys.remainder().is_empty() {
        return Err(format!("{context} musig2 participants pubkeys value size is not a multiple of 33"));
    }
    for key in keys {
        if PublicKey::from_slice(key).is_err() {
            return Err(format!("{context} musig2 participant pubkey is invalid"));
        }
    }
    Ok(())
}

fn check_output(kind: u8, value: &[u8], version: u32) -> Result<(), String> {
    let only_later = |name: &str| {
        if version == 0 { Err(format!("{name} is not allowed in PSBTv0")) } else { Ok(()) }
    };
    match kind {
        kind::OUT_BIP32_DERIVATION => origin(value),
        kind::OUT_AMOUNT => only_later("Output amount").and_then(|()| sized(value, 8)),
        kind::OUT_SCRIPT => only_later("Output script"),
        kind::OUT_TAP_INTERNAL_KEY => sized(value, 32),
        kind::OUT_TAP_TREE => tap_tree(value),
        kind::OUT_TAP_BIP32_DERIVATION => tap_origin(value, "Output"),
        kind::OUT_MUSIG2_PARTICIPANTS => participants(value, "Output"),
        _ => Ok(()),
    }
}

/// Depth, version and script of each leaf.
pub fn leaves(value: &[u8]) -> Option<Vec<(u8, u8, Vec<u8>)>> {
    let (mut rest, mut leaves) = (value, Vec::new());
    while let [depth, version, after @ ..] = rest {
        let (script, size) = deserialize_partial::<Vec<u8>>(after).ok()?;
        leaves.push((*depth, *version, script));
        rest = &after[size..];
    }
    rest.is_empty().then_some(leaves)
}

fn tap_tree(value: &[u8]) -> Result<(), String> {
    const MAX_DEPTH: u8 = 128;
    if value.is_empty() {
        return Err("Output Taproot tree must not be empty".into());
    }
    let leaves = leaves(value).ok_or_else(end_of_data)?;
    // Depths that are open on the way from the root; two of one depth close the one above.
    let mut open: Vec<u8> = Vec::new();
    for (depth, version, _) in leaves {
        if depth > MAX_DEPTH {
            return Err("Output Taproot tree has as leaf greater than Taproot maximum depth".into());
        }
        if version & 1 != 0 {
            return Err("Output Taproot tree has a leaf with an invalid leaf version".into());
        }
        if open.last().is_some_and(|last| *last > depth) || open == [0] {
            return Err("Output Taproot tree is malformed".into());
        }
        let mut depth = depth;
        while open.last() == Some(&depth) && depth > 0 {
            open.pop();
            depth -= 1;
        }
        open.push(depth);
    }
    if open == [0] { Ok(()) } else { Err("Output Taproot tree is malformed".into()) }
}
