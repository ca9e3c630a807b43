//! Bytes to maps, with Core's words for what is wrong with them.

use bitcoin::consensus::encode::{deserialize, deserialize_partial, serialize};
use bitcoin::{OutPoint, Transaction, VarInt, Witness};

use super::field::{Place, check, check_key};
use super::{MAGIC, Map, Psbt, kind, number, single, unsigned_input};
use crate::consensus::decode::{Form, decode_transaction};

/// What C++'s streams add to every message.
const STREAM: &str = ": iostream error";

/// Core's words, as a client sees them.
fn failure(message: impl std::fmt::Display) -> String {
    format!("{message}{STREAM}")
}

pub(super) fn end_of_data() -> String {
    "SpanReader::read(): end of data".into()
}

/// A transaction that was serialized without the marker of segwit.
pub fn legacy_transaction(bytes: &[u8]) -> Option<Transaction> {
    decode_transaction(bytes, Form::Legacy).ok()
}

/// A transaction's bytes without witnesses.
pub fn without_witness(transaction: &Transaction) -> Vec<u8> {
    let mut bare = transaction.clone();
    bare.input.iter_mut().for_each(|input| input.witness = Witness::new());
    if !bare.input.is_empty() {
        return serialize(&bare);
    }
    // The crate marks transactions without inputs as segwit; here they are written plainly.
    let mut bytes = serialize(&bare.version);
    bytes.push(0);
    bytes.extend(serialize(&bare.output));
    bytes.extend(serialize(&bare.lock_time));
    bytes
}

pub(super) fn psbt(bytes: &[u8]) -> Result<Psbt, String> {
    let mut rest = bytes;
    let psbt = parts(&mut rest).map_err(failure)?;
    if rest.is_empty() { Ok(psbt) } else { Err("extra data after PSBT".into()) }
}

fn parts(rest: &mut &[u8]) -> Result<Psbt, String> {
    let magic = rest.get(..MAGIC.len()).ok_or_else(end_of_data)?;
    if magic != MAGIC {
        return Err("Invalid PSBT magic bytes".into());
    }
    *rest = &rest[MAGIC.len()..];
    let global = map(rest, Place::Global, 0)?;
    let version = number(&global, kind::GLOBAL_VERSION).unwrap_or(0);
    let (inputs, outputs) = counts(&global, version)?;
    let mut psbt = Psbt { version, global, inputs: Vec::new(), outputs: Vec::new() };
    let named = single(&psbt.global, kind::GLOBAL_UNSIGNED_TX).and_then(|bytes| legacy_transaction(bytes));
    while !rest.is_empty() && (psbt.inputs.len() as u64) < inputs {
        let input = map(rest, Place::Input, version)?;
        let bare = match &named {
            Some(transaction) => transaction.input.get(psbt.inputs.len()).cloned(),
            None => unsigned_input(&input),
        };
        check_utxo(&input, bare.map(|bare| bare.previous_output))?;
        psbt.inputs.push(input);
    }
    if psbt.inputs.len() as u64 != inputs {
        return Err("Inputs provided does not match the number of inputs in transaction.".into());
    }
    while !rest.is_empty() && (psbt.outputs.len() as u64) < outputs {
        psbt.outputs.push(map(rest, Place::Output, version)?);
    }
    if psbt.outputs.len() as u64 != outputs {
        return Err("Outputs provided does not match the number of outputs in transaction.".into());
    }
    Ok(psbt)
}

/// Inputs and outputs there must be; and whether the version has the fields that it must have, and no others.
fn counts(global: &Map, version: u32) -> Result<(u64, u64), String> {
    const FIELDS: [(u8, &str); 5] = [
        (kind::GLOBAL_TX_VERSION, "TX_VERSION"),
        (kind::GLOBAL_FALLBACK_LOCKTIME, "FALLBACK_LOCKTIME"),
        (kind::GLOBAL_INPUT_COUNT, "INPUT_COUNT"),
        (kind::GLOBAL_OUTPUT_COUNT, "OUTPUT_COUNT"),
        (kind::GLOBAL_TX_MODIFIABLE, "TX_MODIFIABLE"),
    ];
    let transaction = single(global, kind::GLOBAL_UNSIGNED_TX);
    let has = |kind| single(global, kind).is_some();
    match version {
        0 => {
            let transaction = transaction.ok_or("No unsigned transaction was provided")?;
            if let Some((_, name)) = FIELDS.into_iter().find(|(kind, _)| has(*kind)) {
                return Err(format!("PSBT_GLOBAL_{name} is not allowed in PSBTv0"));
            }
            let transaction = legacy_transaction(transaction).ok_or_else(end_of_data)?;
            Ok((transaction.input.len() as u64, transaction.output.len() as u64))
        }
        1 => Err("There is no PSBT version 1".into()),
        _ => {
            let required = [FIELDS[0], FIELDS[2], FIELDS[3]];
            if let Some((_, name)) = required.into_iter().find(|(kind, _)| !has(*kind)) {
                return Err(format!("PSBT_GLOBAL_{name} is required in PSBTv2"));
            }
            if transaction.is_some() {
                return Err("PSBT_GLOBAL_UNSIGNED_TX is not allowed in PSBTv2".into());
            }
            let count = |kind| single(global, kind).and_then(|value| deserialize::<VarInt>(value).ok());
            let count = |kind| count(kind).map(|count| count.0).ok_or_else(end_of_data);
            Ok((count(kind::GLOBAL_INPUT_COUNT)?, count(kind::GLOBAL_OUTPUT_COUNT)?))
        }
    }
}

/// The whole previous transaction must be the one that the input names.
fn check_utxo(input: &Map, outpoint: Option<OutPoint>) -> Result<(), String> {
    let Some(bytes) = single(input, kind::IN_NON_WITNESS_UTXO) else { return Ok(()) };
    let transaction = legacy_transaction(bytes).ok_or_else(end_of_data)?;
    let Some(outpoint) = outpoint else { return Ok(()) };
    if transaction.compute_txid() != outpoint.txid {
        return Err("Non-witness UTXO does not match outpoint hash".into());
    }
    if outpoint.vout as usize >= transaction.output.len() {
        return Err("Input specifies output index that does not exist".into());
    }
    Ok(())
}

fn map(rest: &mut &[u8], place: Place, version: u32) -> Result<Map, String> {
    let mut map = Map::new();
    loop {
        if rest.is_empty() {
            return Err(format!("Separator is missing at the end of {}", place.article()));
        }
        let key = bytes(rest)?;
        if key.is_empty() {
            break;
        }
        if map.contains_key(&key) {
            let name = place.name();
            return Err(format!("Duplicate Key, {name} key \"{}\" already provided", hex::encode(&key)));
        }
        // Keys are judged before their values are read.
        check_key(place, &key)?;
        let value = bytes(rest)?;
        let value = check(place, &key, value, version)?;
        map.insert(key, value);
    }
    if place == Place::Input && version >= 2 {
        require(&map, kind::IN_PREVIOUS_TXID, "Previous TXID is required in PSBTv2")?;
        require(&map, kind::IN_OUTPUT_INDEX, "Previous output's index is required in PSBTv2")?;
    }
    if place == Place::Output && version >= 2 {
        require(&map, kind::OUT_AMOUNT, "Output amount is required in PSBTv2")?;
        require(&map, kind::OUT_SCRIPT, "Output script is required in PSBTv2")?;
    }
    Ok(map)
}

fn require(map: &Map, kind: u8, message: &str) -> Result<(), String> {
    single(map, kind).map(|_| ()).ok_or_else(|| message.to_owned())
}

fn bytes(rest: &mut &[u8]) -> Result<Vec<u8>, String> {
    let (length, size) = deserialize_partial::<VarInt>(rest).map_err(|_| end_of_data())?;
    let end = usize::try_from(length.0).ok().and_then(|length| size.checked_add(length));
    let found = end.and_then(|end| rest.get(size..end)).ok_or_else(end_of_data)?;
    *rest = &rest[size + found.len()..];
    Ok(found.to_vec())
}
