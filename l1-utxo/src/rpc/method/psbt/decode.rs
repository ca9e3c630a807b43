//! A PSBT as an object (Core: `decodepsbt`).

use bitcoin::consensus::encode::deserialize;
use bitcoin::hashes::Hash;
use bitcoin::{ScriptBuf, TxOut, base58};
use serde_json::{Map, Value, json};

use super::{PSBT, parse};
use crate::consensus::transaction::MAX_MONEY;
use crate::rpc::argument::Params;
use crate::rpc::dialect::{RpcError, code};
use crate::rpc::method::Method;
use crate::rpc::psbt::{
    Map as Fields, Psbt, all, final_witness, kind, leaves, legacy_transaction, number, proprietary, single, tap_origin,
};
use crate::rpc::render::{self, Detail};
use crate::rpc::sign::key_id;

pub(super) const METHODS: &[Method] = &[Method {
    name: "decodepsbt",
    category: "rawtransactions",
    arguments: &[PSBT],
    about: "Return a JSON object representing the serialized, base64-encoded partially signed Bitcoin transaction.",
    run: |_, params| Box::pin(async move { decodepsbt(&params) }),
}];

fn decodepsbt(params: &Params) -> Result<Value, RpcError> {
    let psbt = parse(params.text(0)?)?;
    let mut result = Map::new();
    let unsigned = psbt.unsigned();
    if let Some(transaction) = unsigned.as_ref().filter(|_| psbt.version == 0) {
        result.insert("tx".into(), Value::Object(render::decoded(transaction, Detail::Plain)));
    }
    let xpubs = all(&psbt.global, kind::GLOBAL_XPUB).map(|(key, origin)| {
        let mut object = Map::new();
        object.insert("xpub".into(), base58::encode_check(key).into());
        add_origin(&mut object, origin);
        Value::Object(object)
    });
    result.insert("global_xpubs".into(), xpubs.collect());
    if psbt.version >= 2 {
        add_second_version(&mut result, &psbt);
    }
    result.insert("psbt_version".into(), psbt.version.into());
    result.insert("proprietary".into(), proprietary_fields(&psbt.global));
    result.insert("unknown".into(), unknown_fields(&psbt.global, is_known_globally));
    let bare = unsigned.iter().flat_map(|transaction| &transaction.input).zip(&psbt.inputs);
    let spent: Option<Vec<u64>> = bare.map(|(input, fields)| told_value(fields, input.previous_output.vout)).collect();
    let inputs: Vec<Value> = psbt.inputs.iter().map(|fields| input(fields, psbt.version)).collect();
    result.insert("inputs".into(), inputs.into());
    let outputs: Vec<Value> = psbt.outputs.iter().map(|fields| output(fields, psbt.version)).collect();
    result.insert("outputs".into(), outputs.into());
    let made = unsigned.map(|transaction| transaction.output);
    let made =
        made.ok_or_else(|| RpcError::new(code::DESERIALIZATION, "PSBT cannot be made into a valid transaction"))?;
    let made = sum(made.iter().map(|output| output.value.to_sat()));
    if let (Some(spent), Some(made)) = (spent.and_then(|values| sum(values.into_iter())), made) {
        result.insert("fee".into(), render::signed_amount(spent.cast_signed() - made.cast_signed()));
    }
    Ok(Value::Object(result))
}

/// The sum, if there is that much money.
fn sum(mut values: impl Iterator<Item = u64>) -> Option<u64> {
    values.try_fold(0u64, |sum, value| sum.checked_add(value).filter(|sum| *sum <= MAX_MONEY && value <= MAX_MONEY))
}

/// What an input spends as far as its fields say.
fn told_value(fields: &Fields, vout: u32) -> Option<u64> {
    if let Some(bytes) = single(fields, kind::IN_NON_WITNESS_UTXO) {
        return legacy_transaction(bytes)?.output.get(vout as usize).map(|output| output.value.to_sat());
    }
    let output = deserialize::<TxOut>(single(fields, kind::IN_WITNESS_UTXO)?).ok()?;
    Some(output.value.to_sat())
}

fn add_second_version(result: &mut Map<String, Value>, psbt: &Psbt) {
    if let Some(version) = number(&psbt.global, kind::GLOBAL_TX_VERSION) {
        result.insert("tx_version".into(), version.into());
    }
    if let Some(lock_time) = number(&psbt.global, kind::GLOBAL_FALLBACK_LOCKTIME) {
        result.insert("fallback_locktime".into(), lock_time.into());
    }
    result.insert("input_count".into(), psbt.inputs.len().into());
    result.insert("output_count".into(), psbt.outputs.len().into());
    if let Some(flags) = single(&psbt.global, kind::GLOBAL_TX_MODIFIABLE).and_then(|value| value.first()) {
        for (bit, name) in [(1, "inputs_modifiable"), (2, "outputs_modifiable"), (4, "has_sighash_single")] {
            result.insert(name.into(), (flags & bit != 0).into());
        }
    }
}

const fn is_known_globally(kind: u8) -> bool {
    matches!(kind, 0..=6 | 0xfb | 0xfc)
}

const fn is_known_of_inputs(kind: u8) -> bool {
    matches!(kind, 0..=8 | 0x0a..=0x18 | 0x1a..=0x1c | 0xfc)
}

const fn is_known_of_outputs(kind: u8) -> bool {
    matches!(kind, 0..=8 | 0xfc)
}

fn unknown_fields(fields: &Fields, is_known: fn(u8) -> bool) -> Value {
    let unknown = fields.iter().filter(|(key, _)| !is_known(key[0]));
    Value::Object(unknown.map(|(key, value)| (hex::encode(key), hex::encode(value).into())).collect())
}

fn proprietary_fields(fields: &Fields) -> Value {
    let listed = all(fields, kind::PROPRIETARY).filter_map(|(key, value)| {
        let whole = [&[kind::PROPRIETARY][..], key].concat();
        let (identifier, subtype) = proprietary(&whole)?;
        Some(json!({
            "identifier": hex::encode(identifier),
            "subtype": subtype,
            "key": hex::encode(&whole),
            "value": hex::encode(value),
        }))
    });
    listed.collect()
}

/// Fingerprint and path of a key.
fn add_origin(object: &mut Map<String, Value>, origin: &[u8]) {
    let (fingerprint, path) = origin.split_at(origin.len().min(4));
    object.insert("master_fingerprint".into(), hex::encode(fingerprint).into());
    let mut text = String::from("m");
    for step in path.chunks_exact(4) {
        let step = step.try_into().map_or(0, u32::from_le_bytes);
        let hardened = if step >> 31 == 1 { "h" } else { "" };
        text.push_str(&format!("/{}{hardened}", step & 0x7fff_ffff));
    }
    object.insert("path".into(), text.into());
}

fn derivations(fields: &Fields, kind: u8) -> Vec<Value> {
    let listed = all(fields, kind).map(|(key, origin)| {
        let mut object = Map::new();
        object.insert("pubkey".into(), hex::encode(key).into());
        add_origin(&mut object, origin);
        Value::Object(object)
    });
    listed.collect()
}

fn tap_derivations(fields: &Fields, kind: u8) -> Vec<Value> {
    let listed = all(fields, kind).filter_map(|(key, value)| {
        let (leaves, origin) = tap_origin(value)?;
        let mut object = Map::new();
        object.insert("pubkey".into(), hex::encode(key).into());
        add_origin(&mut object, &origin);
        object.insert("leaf_hashes".into(), leaves.iter().map(hex::encode).collect());
        Some(Value::Object(object))
    });
    listed.collect()
}

/// A script without address and descriptor.
fn bare_script(bytes: &[u8]) -> Value {
    let script = ScriptBuf::from_bytes(bytes.to_vec());
    let Value::Object(mut object) = render::script_pubkey(&script) else { return Value::Null };
    object.remove("address");
    object.remove("desc");
    Value::Object(object)
}

/// Core's `SighashToStr`.
fn sighash_name(sighash: u32) -> &'static str {
    match sighash & 0xff {
        0 => "DEFAULT",
        1 => "ALL",
        2 => "NONE",
        3 => "SINGLE",
        0x81 => "ALL|ANYONECANPAY",
        0x82 => "NONE|ANYONECANPAY",
        0x83 => "SINGLE|ANYONECANPAY",
        _ => "",
    }
}

fn input(fields: &Fields, version: u32) -> Value {
    let mut object = Map::new();
    add_spent(&mut object, fields);
    let mut signatures: Vec<_> = all(fields, kind::IN_PARTIAL_SIG).collect();
    signatures.sort_by_key(|(key, _)| key_id(key));
    if !signatures.is_empty() {
        let named = signatures.into_iter().map(|(key, value)| (hex::encode(key), hex::encode(value).into()));
        object.insert("partial_signatures".into(), Value::Object(named.collect()));
    }
    if let Some(sighash) = number(fields, kind::IN_SIGHASH) {
        object.insert("sighash".into(), sighash_name(sighash).into());
    }
    let scripts = [(kind::IN_REDEEM_SCRIPT, "redeem_script"), (kind::IN_WITNESS_SCRIPT, "witness_script")];
    add_scripts(&mut object, fields, scripts);
    add_list(&mut object, "bip32_derivs", derivations(fields, kind::IN_BIP32_DERIVATION));
    if let Some(bytes) = single(fields, kind::IN_FINAL_SCRIPT_SIG).filter(|bytes| !bytes.is_empty()) {
        let script = ScriptBuf::from_bytes(bytes.clone());
        let shown = json!({"asm": render::asm(&script, true), "hex": script.to_hex_string()});
        object.insert("final_scriptSig".into(), shown);
    }
    let witness = final_witness(fields);
    add_list(&mut object, "final_scriptwitness", witness.iter().map(|item| hex::encode(item).into()).collect());
    let names = ["ripemd160_preimages", "sha256_preimages", "hash160_preimages", "hash256_preimages"];
    for (kind, name) in (kind::IN_RIPEMD160..=kind::IN_HASH256).zip(names) {
        let known: Map<String, Value> =
            all(fields, kind).map(|(hash, preimage)| (hex::encode(hash), hex::encode(preimage).into())).collect();
        if !known.is_empty() {
            object.insert(name.into(), Value::Object(known));
        }
    }
    if version >= 2 {
        add_place(&mut object, fields);
    }
    add_taproot(&mut object, fields);
    add_musig(&mut object, fields);
    add_rest(&mut object, fields, is_known_of_inputs);
    Value::Object(object)
}

fn add_spent(object: &mut Map<String, Value>, fields: &Fields) {
    let output = single(fields, kind::IN_WITNESS_UTXO).and_then(|bytes| deserialize::<TxOut>(bytes).ok());
    if let Some(output) = output {
        let amount = render::amount(output.value.to_sat());
        let shown = json!({"amount": amount, "scriptPubKey": render::script_pubkey(&output.script_pubkey)});
        object.insert("witness_utxo".into(), shown);
    }
    if let Some(transaction) = single(fields, kind::IN_NON_WITNESS_UTXO).and_then(|bytes| legacy_transaction(bytes)) {
        let shown = Value::Object(render::decoded(&transaction, Detail::Plain));
        object.insert("non_witness_utxo".into(), shown);
    }
}

fn add_scripts(object: &mut Map<String, Value>, fields: &Fields, scripts: [(u8, &str); 2]) {
    for (kind, name) in scripts {
        if let Some(script) = single(fields, kind).filter(|script| !script.is_empty()) {
            object.insert(name.into(), bare_script(script));
        }
    }
}

fn add_list(object: &mut Map<String, Value>, name: &str, list: Vec<Value>) {
    if !list.is_empty() {
        object.insert(name.into(), list.into());
    }
}

/// What version 2 says of an input.
fn add_place(object: &mut Map<String, Value>, fields: &Fields) {
    let txid = single(fields, kind::IN_PREVIOUS_TXID).and_then(|bytes| bitcoin::Txid::from_slice(bytes).ok());
    object.insert("previous_txid".into(), txid.map(|txid| txid.to_string()).into());
    let numbers = [
        (kind::IN_OUTPUT_INDEX, "previous_vout"),
        (kind::IN_SEQUENCE, "sequence"),
        (kind::IN_TIME_LOCKTIME, "time_locktime"),
        (kind::IN_HEIGHT_LOCKTIME, "height_locktime"),
    ];
    for (kind, name) in numbers {
        if let Some(number) = number(fields, kind) {
            object.insert(name.into(), number.into());
        }
    }
}

fn add_taproot(object: &mut Map<String, Value>, fields: &Fields) {
    if let Some(signature) = single(fields, kind::IN_TAP_KEY_SIG) {
        object.insert("taproot_key_path_sig".into(), hex::encode(signature).into());
    }
    let signatures = all(fields, kind::IN_TAP_SCRIPT_SIG).filter_map(|(key, signature)| {
        let (key, leaf) = key.split_at_checked(32)?;
        Some(json!({"pubkey": hex::encode(key), "leaf_hash": hex::encode(leaf), "sig": hex::encode(signature)}))
    });
    add_list(object, "taproot_script_path_sigs", signatures.collect());
    let mut scripts: std::collections::BTreeMap<(&[u8], u8), Vec<&[u8]>> = std::collections::BTreeMap::new();
    for (block, leaf) in all(fields, kind::IN_TAP_LEAF_SCRIPT) {
        if let Some((version, script)) = leaf.split_last() {
            scripts.entry((script, *version)).or_default().push(block);
        }
    }
    let scripts = scripts.into_iter().map(|((script, version), mut blocks)| {
        blocks.sort_by_key(|block| (block.len(), *block));
        let blocks: Vec<String> = blocks.iter().map(hex::encode).collect();
        json!({"script": hex::encode(script), "leaf_ver": version, "control_blocks": blocks})
    });
    add_list(object, "taproot_scripts", scripts.collect());
    add_list(object, "taproot_bip32_derivs", tap_derivations(fields, kind::IN_TAP_BIP32_DERIVATION));
    if let Some(key) = single(fields, kind::IN_TAP_INTERNAL_KEY) {
        object.insert("taproot_internal_key".into(), hex::encode(key).into());
    }
    if let Some(root) = single(fields, kind::IN_TAP_MERKLE_ROOT) {
        object.insert("taproot_merkle_root".into(), hex::encode(root).into());
    }
}

fn participants(fields: &Fields, kind: u8) -> Vec<Value> {
    let listed = all(fields, kind).map(|(key, value)| {
        let keys: Vec<String> = value.chunks_exact(33).map(hex::encode).collect();
        json!({"aggregate_pubkey": hex::encode(key), "participant_pubkeys": keys})
    });
    listed.collect()
}

fn add_musig(object: &mut Map<String, Value>, fields: &Fields) {
    add_list(object, "musig2_participant_pubkeys", participants(fields, kind::IN_MUSIG2_PARTICIPANTS));
    let shown = |kind: u8, name: &str| -> Vec<Value> {
        let listed = all(fields, kind).filter_map(|(key, value)| {
            let (participant, rest) = key.split_at_checked(33)?;
            let (aggregate, leaf) = rest.split_at_checked(33)?;
            let mut object = Map::new();
            object.insert("participant_pubkey".into(), hex::encode(participant).into());
            object.insert("aggregate_pubkey".into(), hex::encode(aggregate).into());
            if !leaf.is_empty() {
                object.insert("leaf_hash".into(), hex::encode(leaf).into());
            }
            object.insert(name.into(), hex::encode(value).into());
            Some(Value::Object(object))
        });
        listed.collect()
    };
    add_list(object, "musig2_pubnonces", shown(kind::IN_MUSIG2_PUB_NONCE, "pubnonce"));
    add_list(object, "musig2_partial_sigs", shown(kind::IN_MUSIG2_PARTIAL_SIG, "partial_sig"));
}

fn add_rest(object: &mut Map<String, Value>, fields: &Fields, is_known: fn(u8) -> bool) {
    if let Value::Array(listed) = proprietary_fields(fields) {
        add_list(object, "proprietary", listed);
    }
    if let Value::Object(unknown) = unknown_fields(fields, is_known)
        && !unknown.is_empty()
    {
        object.insert("unknown".into(), Value::Object(unknown));
    }
}

fn output(fields: &Fields, version: u32) -> Value {
    let mut object = Map::new();
    let scripts = [(kind::OUT_REDEEM_SCRIPT, "redeem_script"), (kind::OUT_WITNESS_SCRIPT, "witness_script")];
    add_scripts(&mut object, fields, scripts);
    add_list(&mut object, "bip32_derivs", derivations(fields, kind::OUT_BIP32_DERIVATION));
    if version >= 2 {
        let sat = single(fields, kind::OUT_AMOUNT).and_then(|value| value.as_slice().try_into().ok());
        object.insert("amount".into(), render::amount(sat.map_or(0, u64::from_le_bytes)));
        let script = single(fields, kind::OUT_SCRIPT).cloned().unwrap_or_default();
        object.insert("script".into(), render::script_pubkey(&ScriptBuf::from_bytes(script)));
    }
    if let Some(key) = single(fields, kind::OUT_TAP_INTERNAL_KEY) {
        object.insert("taproot_internal_key".into(), hex::encode(key).into());
    }
    let tree = single(fields, kind::OUT_TAP_TREE).and_then(|value| leaves(value)).unwrap_or_default();
    let tree = tree
        .into_iter()
        .map(|(depth, version, script)| json!({"depth": depth, "leaf_ver": version, "script": hex::encode(script)}));
    add_list(&mut object, "taproot_tree", tree.collect());
    add_list(&mut object, "taproot_bip32_derivs", tap_derivations(fields, kind::OUT_TAP_BIP32_DERIVATION));
    add_list(&mut object, "musig2_participant_pubkeys", participants(fields, kind::OUT_MUSIG2_PARTICIPANTS));
    add_rest(&mut object, fields, is_known_of_outputs);
    Value::Object(object)
}
