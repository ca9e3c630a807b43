//! Inputs filled, signed and finished (Core: `SignPSBTInput`, `FinalizePSBT`).

use std::collections::BTreeSet;

use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::{OutPoint, ScriptBuf, Transaction, TxOut, VarInt, Witness};

use super::read::legacy_transaction;
use super::{Map, Psbt, all, final_witness, kind, number, single};
use crate::rpc::sign::{Bytes32, Creator, Data, Keystore, Missing, Spend, key_id, produce};

/// How signing an input went.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It is complete.
    Complete,
    /// Not yet.
    Incomplete(Missing),
    /// What it spends is not known.
    MissingUtxo,
    /// It wants another type of signature hash.
    SighashMismatch,
}

/// The transaction that a PSBT makes, and what its inputs spend as far as that is told: read once for all inputs.
pub struct Spends {
    /// It, without what unlocks its inputs.
    pub transaction: Transaction,
    known: Vec<Option<TxOut>>,
    /// All of them, if all are known.
    all: Option<Vec<TxOut>>,
}

impl Spends {
    /// Of this one; `None` if it makes no transaction.
    pub fn of(psbt: &Psbt) -> Option<Spends> {
        let transaction = psbt.unsigned()?;
        let known: Vec<Option<TxOut>> =
            transaction.input.iter().zip(&psbt.inputs).map(|(input, map)| told(map, input.previous_output)).collect();
        Some(Spends { transaction, all: known.iter().cloned().collect(), known })
    }

    /// What an input spends, if that is told and is what the input names.
    pub fn output(&self, index: usize) -> Option<&TxOut> {
        self.known.get(index)?.as_ref()
    }

    fn spend<'a>(&'a self, index: usize, prevout: &'a TxOut, sighash: u32) -> Spend<'a> {
        Spend { transaction: &self.transaction, index, prevout, prevouts: self.all.as_deref(), sighash }
    }
}

fn told(input: &Map, outpoint: OutPoint) -> Option<TxOut> {
    if let Some(bytes) = single(input, kind::IN_NON_WITNESS_UTXO) {
        let transaction = legacy_transaction(bytes)?;
        let output = transaction.output.get(outpoint.vout as usize)?.clone();
        return (transaction.compute_txid() == outpoint.txid).then_some(output);
    }
    single(input, kind::IN_WITNESS_UTXO).and_then(|bytes| deserialize(bytes).ok())
}

/// Whether the final scripts of an input are there and hold.
pub fn is_verified(spends: &Spends, index: usize, input: &Map) -> bool {
    let Some(prevout) = spends.output(index) else { return false };
    let script_sig = single(input, kind::IN_FINAL_SCRIPT_SIG).cloned().unwrap_or_default();
    let spend = spends.spend(index, prevout, 0);
    spend.verify(&ScriptBuf::from_bytes(script_sig), &final_witness(input).to_vec()).is_ok()
}

/// Signs an input with these keys. If it is not for real nothing is signed or checked, to measure.
pub fn sign_input(
    spends: &Spends,
    index: usize,
    input: &mut Map,
    keys: &Keystore,
    sighash: Option<u32>,
    is_real: bool,
    ends: bool,
) -> Outcome {
    if is_real && is_verified(spends, index, input) {
        return Outcome::Complete;
    }
    let Some(prevout) = spends.output(index) else { return Outcome::MissingUtxo };
    let needs_witness = single(input, kind::IN_NON_WITNESS_UTXO).is_none();
    let is_taproot = prevout.script_pubkey.is_p2tr();
    let sighash = sighash.unwrap_or(if is_taproot { 0 } else { 1 });
    if number(input, kind::IN_SIGHASH).is_some_and(|wanted| wanted != sighash) {
        return Outcome::SighashMismatch;
    }
    if sighash > 1 || (is_taproot && sighash == 1) {
        input.insert(vec![kind::IN_SIGHASH], sighash.to_le_bytes().to_vec());
    }
    if !signatures_are(input, sighash) {
        return Outcome::SighashMismatch;
    }
    let mut data = fill(input);
    let creator = if is_real { Creator::Real(spends.spend(index, prevout, sighash)) } else { Creator::Dummy };
    let complete = produce(keys, &creator, &prevout.script_pubkey, &mut data);
    if needs_witness && !data.witness {
        return Outcome::Incomplete(data.missing);
    }
    let (missing, has_witness) = (data.missing.clone(), data.witness);
    data.complete &= ends;
    store(input, data);
    if has_witness {
        input.insert(vec![kind::IN_WITNESS_UTXO], serialize(prevout));
    }
    if complete { Outcome::Complete } else { Outcome::Incomplete(missing) }
}

/// Whether all signatures that are there have this type.
fn signatures_are(input: &Map, sighash: u32) -> bool {
    let schnorr = |signature: &Vec<u8>| match sighash {
        0 => signature.len() == 64,
        _ => signature.len() == 65 && signature.last().is_some_and(|last| u32::from(*last) == sighash),
    };
    let ecdsa = |signature: &Vec<u8>| sighash == 0 || signature.last().is_some_and(|last| u32::from(*last) == sighash);
    single(input, kind::IN_TAP_KEY_SIG).is_none_or(schnorr)
        && all(input, kind::IN_TAP_SCRIPT_SIG).all(|(_, signature)| schnorr(signature))
        && all(input, kind::IN_PARTIAL_SIG).all(|(_, signature)| ecdsa(signature))
}

fn bytes32(bytes: &[u8]) -> Option<Bytes32> {
    bytes.try_into().ok()
}

/// What the fields of an input say (Core: `FillSignatureData`).
fn fill(input: &Map) -> Data {
    let script = |kind| single(input, kind).filter(|script| !script.is_empty()).cloned().map(ScriptBuf::from_bytes);
    let mut data = Data {
        script_sig: script(kind::IN_FINAL_SCRIPT_SIG).unwrap_or_default(),
        script_witness: final_witness(input).to_vec(),
        ..Data::default()
    };
    if !data.script_sig.is_empty() || !data.script_witness.is_empty() {
        data.complete = true;
        return data;
    }
    data.redeem_script = script(kind::IN_REDEEM_SCRIPT);
    data.witness_script = script(kind::IN_WITNESS_SCRIPT);
    for (key, signature) in all(input, kind::IN_PARTIAL_SIG) {
        data.signatures.insert(key_id(key), (key.to_vec(), signature.clone()));
    }
    for (key, origin) in all(input, kind::IN_BIP32_DERIVATION) {
        data.origins.insert(key_id(key), (key.to_vec(), origin.clone()));
    }
    data.tap_key_sig = single(input, kind::IN_TAP_KEY_SIG).cloned().unwrap_or_default();
    for (key, signature) in all(input, kind::IN_TAP_SCRIPT_SIG) {
        if let Some((Some(key), Some(leaf))) = key.split_at_checked(32).map(|(key, leaf)| (bytes32(key), bytes32(leaf)))
        {
            data.tap_script_sigs.insert((key, leaf), signature.clone());
        }
    }
    for (block, leaf) in all(input, kind::IN_TAP_LEAF_SCRIPT) {
        if let Some((version, script)) = leaf.split_last() {
            data.tap.scripts.entry((script.to_vec(), *version)).or_default().insert(block.to_vec());
        }
    }
    for (key, value) in all(input, kind::IN_TAP_BIP32_DERIVATION) {
        if let (Some(key), Some(origin)) = (bytes32(key), tap_origin(value)) {
            data.tap_origins.insert(key, origin);
        }
    }
    data.tap.internal_key = single(input, kind::IN_TAP_INTERNAL_KEY).and_then(|key| bytes32(key));
    data.tap.merkle_root = single(input, kind::IN_TAP_MERKLE_ROOT).and_then(|root| bytes32(root));
    for kind in kind::IN_RIPEMD160..=kind::IN_HASH256 {
        for (hash, preimage) in all(input, kind) {
            data.preimages.insert((kind, hash.to_vec()), preimage.clone());
        }
    }
    data
}

/// The leaves and the path of an x-only key.
pub fn tap_origin(value: &[u8]) -> Option<(BTreeSet<Bytes32>, Vec<u8>)> {
    let (count, size) = bitcoin::consensus::encode::deserialize_partial::<VarInt>(value).ok()?;
    let end = size.checked_add(usize::try_from(count.0).ok()?.checked_mul(32)?)?;
    let hashes = value.get(size..end)?.chunks_exact(32).filter_map(bytes32).collect();
    Some((hashes, value[end..].to_vec()))
}

fn write_tap_origin((leaves, origin): &(BTreeSet<Bytes32>, Vec<u8>)) -> Vec<u8> {
    let mut value = serialize(&VarInt::from(leaves.len()));
    leaves.iter().for_each(|leaf| value.extend(leaf));
    value.extend(origin);
    value
}

/// Writes what is known back into the fields (Core: `FromSignatureData`).
fn store(input: &mut Map, data: Data) {
    if data.complete {
        input.retain(|key, _| {
            !matches!(
                key[0],
                kind::IN_PARTIAL_SIG | kind::IN_REDEEM_SCRIPT | kind::IN_WITNESS_SCRIPT | kind::IN_BIP32_DERIVATION
            )
        });
        if !data.script_sig.is_empty() {
            input.insert(vec![kind::IN_FINAL_SCRIPT_SIG], data.script_sig.into_bytes());
        }
        if !data.script_witness.is_empty() {
            let witness = Witness::from_slice(&data.script_witness);
            input.insert(vec![kind::IN_FINAL_SCRIPT_WITNESS], serialize(&witness));
        }
        return;
    }
    let keyed = |kind: u8, key: &[u8]| [&[kind][..], key].concat();
    for (key, signature) in data.signatures.into_values() {
        input.entry(keyed(kind::IN_PARTIAL_SIG, &key)).or_insert(signature);
    }
    for (key, origin) in data.origins.into_values() {
        input.entry(keyed(kind::IN_BIP32_DERIVATION, &key)).or_insert(origin);
    }
    let scripts = [(kind::IN_REDEEM_SCRIPT, data.redeem_script), (kind::IN_WITNESS_SCRIPT, data.witness_script)];
    for (kind, script) in scripts {
        if let Some(script) = script.filter(|script| !script.is_empty()) {
            input.entry(vec![kind]).or_insert_with(|| script.into_bytes());
        }
    }
    if !data.tap_key_sig.is_empty() {
        input.insert(vec![kind::IN_TAP_KEY_SIG], data.tap_key_sig);
    }
    for ((key, leaf), signature) in data.tap_script_sigs {
        input.entry(keyed(kind::IN_TAP_SCRIPT_SIG, &[key, leaf].concat())).or_insert(signature);
    }
    if let Some(key) = data.tap.internal_key {
        input.insert(vec![kind::IN_TAP_INTERNAL_KEY], key.to_vec());
    }
    if let Some(root) = data.tap.merkle_root {
        input.insert(vec![kind::IN_TAP_MERKLE_ROOT], root.to_vec());
    }
    for ((script, version), blocks) in data.tap.scripts {
        for block in blocks {
            let leaf = [&script[..], &[version]].concat();
            input.entry(keyed(kind::IN_TAP_LEAF_SCRIPT, &block)).or_insert(leaf);
        }
    }
    for (key, origin) in &data.tap_origins {
        input.entry(keyed(kind::IN_TAP_BIP32_DERIVATION, key)).or_insert_with(|| write_tap_origin(origin));
    }
}

/// Adds to an output what the keys say of it (Core: `UpdatePSBTOutput`).
pub fn update_output(transaction: &Transaction, index: usize, map: &mut Map, keys: &Keystore) {
    let Some(output) = transaction.output.get(index) else { return };
    let mut keys_only = Data::default();
    // As if it were spent: nothing can be signed, but what is known of it is found.
    let spend = Spend { transaction, index: 0, prevout: output, prevouts: None, sighash: 1 };
    produce(keys, &Creator::Real(spend), &output.script_pubkey, &mut keys_only);
    let scripts =
        [(kind::OUT_REDEEM_SCRIPT, keys_only.redeem_script), (kind::OUT_WITNESS_SCRIPT, keys_only.witness_script)];
    for (kind, script) in scripts {
        if let Some(script) = script.filter(|script| !script.is_empty()) {
            map.entry(vec![kind]).or_insert_with(|| script.into_bytes());
        }
    }
    for (key, origin) in keys_only.origins.into_values() {
        map.entry([&[kind::OUT_BIP32_DERIVATION][..], &key].concat()).or_insert(origin);
    }
    if let Some(key) = keys_only.tap.internal_key {
        map.insert(vec![kind::OUT_TAP_INTERNAL_KEY], key.to_vec());
    }
    if !keys_only.tap.tree.is_empty() {
        map.insert(vec![kind::OUT_TAP_TREE], write_tap_tree(&keys_only.tap.tree));
    }
    for (key, origin) in &keys_only.tap_origins {
        let field = [&[kind::OUT_TAP_BIP32_DERIVATION][..], key].concat();
        map.entry(field).or_insert_with(|| write_tap_origin(origin));
    }
}

/// Depth, version and script of each leaf, as BIP 371 writes them.
fn write_tap_tree(leaves: &[(u8, u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (depth, version, script) in leaves {
        bytes.extend([*depth, *version]);
        bytes.extend(bitcoin::consensus::encode::serialize(script));
    }
    bytes
}

/// Finishes what is signed; the whole transaction if that is all of it (Core: `FinalizeAndExtractPSBT`).
pub fn finalize(psbt: &mut Psbt) -> Option<Transaction> {
    let spends = Spends::of(psbt)?;
    let mut complete = true;
    for (index, input) in psbt.inputs.iter_mut().enumerate() {
        let sighash = number(input, kind::IN_SIGHASH);
        let outcome = sign_input(&spends, index, input, &Keystore::default(), sighash, true, true);
        complete &= matches!(outcome, Outcome::Complete);
    }
    let mut transaction = complete.then_some(spends.transaction)?;
    for (input, map) in transaction.input.iter_mut().zip(&psbt.inputs) {
        let script_sig = single(map, kind::IN_FINAL_SCRIPT_SIG).cloned().unwrap_or_default();
        input.script_sig = ScriptBuf::from_bytes(script_sig);
        input.witness = final_witness(map);
    }
    Some(transaction)
}
