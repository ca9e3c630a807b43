//! Partially signed transactions: made, joined, combined and finished here; shown in `decode`, filled and signed with
//! descriptors in `process`, looked through in `analyze`.
//!
//! Conversion: what the fields mean is known to `rpc::psbt`, signing to `rpc::sign`. Version 0 is made unless version 2 is
//! asked for, as by Core 31. Bitcoin Core: `rpc/rawtransaction.cpp`.

mod analyze;
mod decode;
mod process;

use std::collections::BTreeSet;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{OutPoint, Transaction, absolute, transaction};
use serde_json::{Map, Value};

use super::Method;
use super::rawtransaction::create::{INPUTS, LOCKTIME, OUTPUTS, REPLACEABLE, VERSION, construct};
use super::rawtransaction::sign::stripped;
use super::rawtransaction::{Encodings, decode};
use crate::rpc::argument::{Argument, Kind, Params, integer, optional, required, text};
use crate::rpc::dialect::{RpcError, code};
use crate::rpc::psbt::{Map as Fields, Psbt, finalize, is_signature};

const PSBT: Argument = required("psbt", Kind::Text, "The base64 string of a PSBT");
const PSBTS: Argument =
    required("txs", Kind::List, "The base64 strings of partially signed transactions").shown("[\"psbt\",...]");
const PSBT_VERSION: Argument =
    optional("psbt_version", Kind::Number, "The PSBT version number to use: 0, the default, or 2")
        .shown("psbt_version");

/// The methods of this folder.
pub(super) fn methods() -> impl Iterator<Item = &'static Method> {
    [METHODS, analyze::METHODS, decode::METHODS, process::METHODS].into_iter().flatten()
}

const METHODS: &[Method] = &[
    Method {
        name: "combinepsbt",
        category: "rawtransactions",
        arguments: &[PSBTS],
        about: "Combine multiple partially signed Bitcoin transactions into one transaction. Implements the Combiner role.",
        run: |_, params| Box::pin(async move { combinepsbt(&params) }),
    },
    Method {
        name: "converttopsbt",
        category: "rawtransactions",
        arguments: &[
            required("hexstring", Kind::Text, "The hex string of a raw transaction"),
            optional("permitsigdata", Kind::Bool, "Whether signatures in the input are discarded, not refused"),
            optional("iswitness", Kind::Bool, "Whether the hex is in witness format; tried both ways if left out"),
            PSBT_VERSION,
        ],
        about: "Converts a network serialized transaction to a PSBT.",
        run: |_, params| Box::pin(async move { converttopsbt(&params) }),
    },
    Method {
        name: "createpsbt",
        category: "rawtransactions",
        arguments: &[INPUTS, OUTPUTS, LOCKTIME, REPLACEABLE, VERSION, PSBT_VERSION],
        about: "Creates a transaction in the Partially Signed Transaction format. Implements the Creator role.",
        run: |_, params| {
            Box::pin(async move {
                let transaction = construct(&params)?;
                Ok(Psbt::new(&transaction, psbt_version(&params, 5)?).to_base64().into())
            })
        },
    },
    Method {
        name: "finalizepsbt",
        category: "rawtransactions",
        arguments: &[
            PSBT,
            optional(
                "extract",
                Kind::Bool,
                "Whether the complete transaction is answered instead of the PSBT; true by default",
            ),
        ],
        about: "Finalize the inputs of a PSBT. Implements the Finalizer and Extractor roles.",
        run: |_, params| Box::pin(async move { finalizepsbt(&params) }),
    },
    Method {
        name: "joinpsbts",
        category: "rawtransactions",
        arguments: &[PSBTS],
        about: "Joins multiple distinct version 0 PSBTs with different inputs and outputs into one.",
        run: |_, params| Box::pin(async move { joinpsbts(&params) }),
    },
];

/// A PSBT, or Core's word for none.
fn parse(text: &str) -> Result<Psbt, RpcError> {
    Psbt::parse(text).map_err(|error| RpcError::new(code::DESERIALIZATION, format!("TX decode failed {error}")))
}

fn invalid(message: impl Into<String>) -> RpcError {
    RpcError::new(code::INVALID_PARAMETER, message)
}

fn psbt_version(params: &Params, position: usize) -> Result<u32, RpcError> {
    if !params.has(position) {
        return Ok(0);
    }
    let version = u32::try_from(integer(params.get(position))?);
    match version.map_err(|_| RpcError::new(code::MISC, "JSON integer out of range"))? {
        version @ (0 | 2) => Ok(version),
        _ => Err(invalid("The PSBT version can only be 2 or 0")),
    }
}

fn converttopsbt(params: &Params) -> Result<Value, RpcError> {
    let encodings = match params.get(2) {
        Value::Bool(true) => Encodings::Witness,
        Value::Bool(false) => Encodings::Legacy,
        _ => Encodings::Both,
    };
    let failed = |message: &str| RpcError::new(code::DESERIALIZATION, message);
    let transaction = decode(params.text(0)?, encodings).ok_or_else(|| failed("TX decode failed"))?;
    let is_signed = transaction.input.iter().any(|input| !input.script_sig.is_empty() || !input.witness.is_empty());
    if is_signed && !params.bool_or(1, false)? {
        return Err(failed("Inputs must not have scriptSigs and scriptWitnesses"));
    }
    Ok(Psbt::new(&stripped(&transaction), psbt_version(params, 3)?).to_base64().into())
}

fn combinepsbt(params: &Params) -> Result<Value, RpcError> {
    let listed = params.list(0)?;
    let psbts = listed.iter().map(|value| parse(text(value)?)).collect::<Result<Vec<Psbt>, RpcError>>()?;
    let mut psbts = psbts.into_iter();
    let mut merged = psbts.next().ok_or_else(|| invalid("Parameter 'txs' cannot be empty"))?;
    for psbt in psbts {
        if !merged.merge(&psbt) {
            return Err(invalid("PSBTs not compatible (different transactions)"));
        }
    }
    Ok(merged.to_base64().into())
}

fn finalizepsbt(params: &Params) -> Result<Value, RpcError> {
    let mut psbt = parse(params.text(0)?)?;
    let extracts = params.bool_or(1, true)?;
    let whole = finalize(&mut psbt);
    let mut result = Map::new();
    match &whole {
        Some(transaction) if extracts => result.insert("hex".into(), serialize_hex(transaction).into()),
        _ => result.insert("psbt".into(), psbt.to_base64().into()),
    };
    result.insert("complete".into(), whole.is_some().into());
    Ok(Value::Object(result))
}

fn joinpsbts(params: &Params) -> Result<Value, RpcError> {
    let listed = params.list(0)?;
    if listed.len() <= 1 {
        return Err(invalid("At least two PSBTs are required to join PSBTs."));
    }
    let mut parts = Vec::new();
    for value in listed {
        let psbt = parse(text(value)?)?;
        if psbt.version != 0 {
            return Err(invalid("joinpsbts only operates on version 0 PSBTs"));
        }
        let transaction = psbt.unsigned().ok_or_else(|| RpcError::new(code::INTERNAL, "the transaction was read"))?;
        parts.push((psbt, transaction));
    }
    let (mut inputs, mut outputs, mut global, mut seen) = (Vec::new(), Vec::new(), Fields::new(), BTreeSet::new());
    for (psbt, transaction) in &parts {
        for (input, fields) in transaction.input.iter().zip(&psbt.inputs) {
            let OutPoint { txid, vout } = input.previous_output;
            if !seen.insert(input.previous_output) {
                return Err(invalid(format!("Input {txid}:{vout} exists in multiple PSBTs")));
            }
            // Signatures would not hold in the larger transaction.
            let mut fields = fields.clone();
            fields.retain(|key, _| !is_signature(key));
            inputs.push((input.clone(), fields));
        }
        outputs.extend(transaction.output.iter().cloned().zip(psbt.outputs.iter().cloned()));
        global.extend(psbt.global.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    shuffle(&mut inputs)?;
    shuffle(&mut outputs)?;
    let versions = parts.iter().map(|(_, transaction)| transaction.version.0.cast_unsigned());
    let lock_times = parts.iter().map(|(_, transaction)| transaction.lock_time.to_consensus_u32());
    let joined = Transaction {
        version: transaction::Version(versions.max().unwrap_or(1).max(1).cast_signed()),
        lock_time: absolute::LockTime::from_consensus(lock_times.min().unwrap_or(u32::MAX)),
        input: inputs.iter().map(|(input, _)| input.clone()).collect(),
        output: outputs.iter().map(|(output, _)| output.clone()).collect(),
    };
    let mut psbt = Psbt::new(&joined, 0);
    for (key, value) in global {
        psbt.global.entry(key).or_insert(value);
    }
    psbt.inputs = inputs.into_iter().map(|(_, fields)| fields).collect();
    psbt.outputs = outputs.into_iter().map(|(_, fields)| fields).collect();
    Ok(psbt.to_base64().into())
}

/// A random order, so that nobody sees what came from whom.
fn shuffle<T>(items: &mut [T]) -> Result<(), RpcError> {
    for last in (1..items.len()).rev() {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).map_err(|error| RpcError::new(code::INTERNAL, error.to_string()))?;
        // The bias of the remainder is far below anything that could be seen.
        let place = u64::from_le_bytes(bytes) % (last as u64 + 1);
        items.swap(last, place as usize);
    }
    Ok(())
}
