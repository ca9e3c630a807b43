//! Transactions made from lists of inputs and outputs (Core: `ConstructTransaction`).

use std::collections::BTreeSet;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hex::FromHex;
use bitcoin::script::PushBytesBuf;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness, absolute, transaction};
use serde_json::{Map, Value};

use crate::rpc::argument::{self, Argument, Kind, Params, amount, integer, optional, required, text};
use crate::rpc::dialect::{RpcError, code};
use crate::rpc::method::{Method, decode_address};

const LOCKTIME_MAX: i64 = 0xffff_ffff;
/// Versions that are relayed.
const VERSIONS: std::ops::RangeInclusive<i64> = 1..=3;
const DEFAULT_VERSION: i64 = 2;

pub(in crate::rpc::method) const INPUTS: Argument =
    required("inputs", Kind::List, "The inputs, each with its txid, vout and perhaps sequence")
        .shown("[{\"txid\":\"hex\",\"vout\":n,\"sequence\":n},...]");
pub(in crate::rpc::method) const OUTPUTS: Argument =
    required("outputs", Kind::Any, "The outputs: addresses with amounts, and data in hex at most once")
        .shown("[{\"address\":amount,...},{\"data\":\"hex\"},...]");
pub(in crate::rpc::method) const LOCKTIME: Argument =
    optional("locktime", Kind::Number, "Raw locktime. Non-0 value also locktime-activates inputs");
pub(in crate::rpc::method) const REPLACEABLE: Argument =
    optional("replaceable", Kind::Bool, "Marks this transaction as BIP125-replaceable; true by default");
pub(in crate::rpc::method) const VERSION: Argument =
    optional("version", Kind::Number, "Transaction version; 2 by default");

pub(super) const METHODS: &[Method] = &[Method {
    name: "createrawtransaction",
    category: "rawtransactions",
    arguments: &[INPUTS, OUTPUTS, LOCKTIME, REPLACEABLE, VERSION],
    about: "Create a transaction spending the given inputs and creating new outputs. Returns hex-encoded raw transaction.",
    run: |_, params| Box::pin(async move { Ok(serialize_hex(&construct(&params)?).into()) }),
}];

fn invalid(message: impl Into<String>) -> RpcError {
    RpcError::new(code::INVALID_PARAMETER, message)
}

/// The transaction of the first five parameters.
pub(in crate::rpc::method) fn construct(params: &Params) -> Result<Transaction, RpcError> {
    let replaceable = if params.has(3) { Some(params.bool_or(3, true)?) } else { None };
    let version = if params.has(4) { integer(params.get(4))? } else { DEFAULT_VERSION };
    let version = u32::try_from(version).map_err(|_| RpcError::new(code::MISC, "JSON integer out of range"))?;
    let locktime = if params.has(2) { integer(params.get(2))? } else { 0 };
    if !(0..=LOCKTIME_MAX).contains(&locktime) {
        return Err(invalid("Invalid parameter, locktime out of range"));
    }
    if !VERSIONS.contains(&i64::from(version)) {
        return Err(invalid("Invalid parameter, version out of range(1~3)"));
    }
    let default_sequence = match replaceable {
        None | Some(true) => Sequence::ENABLE_RBF_NO_LOCKTIME,
        Some(false) if locktime != 0 => Sequence::ENABLE_LOCKTIME_NO_RBF,
        Some(false) => Sequence::MAX,
    };
    let inputs = params.list(0)?.iter().map(|value| input(value, default_sequence));
    let input = inputs.collect::<Result<Vec<TxIn>, RpcError>>()?;
    let output = outputs(params.get(1))?;
    if replaceable == Some(true) && !input.is_empty() && !input.iter().any(|input| input.sequence.is_rbf()) {
        return Err(invalid("Invalid parameter combination: Sequence number(s) contradict replaceable option"));
    }
    let lock_time = absolute::LockTime::from_consensus(u32::try_from(locktime).unwrap_or(u32::MAX));
    Ok(Transaction { version: transaction::Version(version.cast_signed()), lock_time, input, output })
}

fn input(value: &Value, default_sequence: Sequence) -> Result<TxIn, RpcError> {
    let fields = argument::object(value)?;
    let txid = Txid::from_raw_hash(argument::hash(fields.get("txid").unwrap_or(&Value::Null), "txid")?);
    let vout = fields.get("vout").filter(|vout| vout.is_number());
    let vout = argument::int(vout.ok_or_else(|| invalid("Invalid parameter, missing vout key"))?)?;
    let vout = u32::try_from(vout).map_err(|_| invalid("Invalid parameter, vout cannot be negative"))?;
    let sequence = match fields.get("sequence").filter(|sequence| sequence.is_number()) {
        None => default_sequence,
        Some(number) => {
            let number = u32::try_from(integer(number)?);
            Sequence(number.map_err(|_| invalid("Invalid parameter, sequence number is out of range"))?)
        }
    };
    let previous_output = OutPoint { txid, vout };
    Ok(TxIn { previous_output, script_sig: ScriptBuf::new(), sequence, witness: Witness::new() })
}

/// Pairs of an address and an amount, or of `data` and hex.
fn outputs(value: &Value) -> Result<Vec<TxOut>, RpcError> {
    let pairs: Vec<(&String, &Value)> = match value {
        Value::Null => return Err(invalid("Invalid parameter, output argument must be non-null")),
        Value::Object(object) => object.iter().collect(),
        list => argument::list(list)?.iter().map(pair).collect::<Result<_, _>>()?,
    };
    let (mut seen, mut outputs, mut has_data) = (BTreeSet::new(), Vec::new(), false);
    for (name, value) in pairs {
        if name == "data" {
            if std::mem::replace(&mut has_data, true) {
                return Err(invalid("Invalid parameter, duplicate key: data"));
            }
            outputs.push(TxOut { value: Amount::ZERO, script_pubkey: data(value)? });
            continue;
        }
        let script = decode_address(name);
        let value = amount(value)?;
        let script_pubkey = script
            .map_err(|_| RpcError::new(code::INVALID_ADDRESS_OR_KEY, format!("Invalid Bitcoin address: {name}")))?;
        if !seen.insert(script_pubkey.clone()) {
            return Err(invalid(format!("Invalid parameter, duplicated address: {name}")));
        }
        outputs.push(TxOut { value, script_pubkey });
    }
    Ok(outputs)
}

fn pair(value: &Value) -> Result<(&String, &Value), RpcError> {
    let object: &Map<String, Value> =
        value.as_object().ok_or_else(|| invalid("Invalid parameter, key-value pair not an object as expected"))?;
    let mut pairs = object.iter();
    match (pairs.next(), pairs.next()) {
        (Some(pair), None) => Ok(pair),
        _ => Err(invalid("Invalid parameter, key-value pair must contain exactly one key")),
    }
}

/// `OP_RETURN` and the bytes as one push.
fn data(value: &Value) -> Result<ScriptBuf, RpcError> {
    let hex = match value {
        Value::Number(number) => number.to_string(),
        Value::String(hex) => hex.clone(),
        other => text(other)?.to_owned(),
    };
    let bytes = Vec::from_hex(&hex).map_err(|_| invalid(format!("Data must be hexadecimal string (not '{hex}')")))?;
    let push = PushBytesBuf::try_from(bytes).map_err(|_| invalid("Data is too long"))?;
    Ok(ScriptBuf::new_op_return(push))
}
