//! Transactions signed with keys of the caller's, and put together from several half signed ones.

use std::collections::BTreeMap;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hex::FromHex;
use bitcoin::{Amount, OutPoint, Script, ScriptBuf, Transaction, TxIn, TxOut, Txid, Witness};
use serde_json::{Map, Value, json};

use super::{Encodings, decode};
use crate::consensus::script::ScriptError;
use crate::driver::Ledger;
use crate::rpc::argument::{self, Kind, Params, amount, optional, required, text, type_name};
use crate::rpc::dialect::{RpcError, code};
use crate::rpc::method::Method;
use crate::rpc::sign::{Creator, Data, Keystore, Spend, extract, key_of_wif, produce};
use crate::rpc::{Context, render};

pub(super) const METHODS: &[Method] = &[
    Method {
        name: "combinerawtransaction",
        category: "rawtransactions",
        arguments: &[required("txs", Kind::List, "The hex strings of partially signed transactions")
            .shown("[\"hexstring\",...]")],
        about: "Combine multiple partially signed transactions into one transaction.",
        run: |cx, params| Box::pin(combinerawtransaction(cx, params)),
    },
    Method {
        name: "signrawtransactionwithkey",
        category: "rawtransactions",
        arguments: &[
            required("hexstring", Kind::Text, "The transaction hex string"),
            required("privkeys", Kind::List, "The base58-encoded private keys for signing")
                .shown("[\"privatekey\",...]"),
            optional("prevtxs", Kind::List, "The previous dependent transaction outputs").shown(
                "[{\"txid\":\"hex\",\"vout\":n,\"scriptPubKey\":\"hex\",\"redeemScript\":\"hex\",\
                 \"witnessScript\":\"hex\",\"amount\":amount},...]",
            ),
            optional("sighashtype", Kind::Text, "The signature hash type; DEFAULT for Taproot, ALL otherwise"),
        ],
        about: "Sign inputs for raw transaction (serialized, hex-encoded).",
        run: |cx, params| Box::pin(signrawtransactionwithkey(cx, params)),
    },
];

/// Outputs by where they are; what nobody knows is missing.
type Coins = BTreeMap<OutPoint, TxOut>;

/// What the mempool or the chain knows of these outputs (Core: `FindCoins`).
pub(in crate::rpc::method) fn find_coins(ledger: &Ledger, outpoints: &[OutPoint]) -> Coins {
    let find = |outpoint: &OutPoint| {
        let unconfirmed = ledger.mempool().entry(&outpoint.txid);
        let output = unconfirmed.and_then(|entry| entry.transaction.output.get(outpoint.vout as usize)).cloned();
        output.or_else(|| ledger.coin(outpoint).map(|coin| coin.output))
    };
    outpoints.iter().filter_map(|outpoint| Some((*outpoint, find(outpoint)?))).collect()
}

fn outpoints(transaction: &Transaction) -> Vec<OutPoint> {
    transaction.input.iter().map(|input| input.previous_output).collect()
}

async fn signrawtransactionwithkey(cx: &Context, params: Params) -> Result<Value, RpcError> {
    let transaction = decode(params.text(0)?, Encodings::Both).ok_or_else(|| {
        RpcError::new(code::DESERIALIZATION, "TX decode failed. Make sure the tx has at least one input.")
    })?;
    let mut keys = Keystore::default();
    for key in params.list(1)? {
        let invalid = || RpcError::new(code::INVALID_ADDRESS_OR_KEY, "Invalid private key");
        let (secret, compressed) = key_of_wif(text(key)?).ok_or_else(invalid)?;
        keys.add_secret(secret, compressed);
    }
    let wanted = outpoints(&transaction);
    let mut coins = cx.run(move |ledger| find_coins(ledger, &wanted)).await?;
    if params.has(2) {
        for prevout in params.list(2)? {
            add_prevout(prevout, &mut keys, &mut coins)?;
        }
    }
    let sighash = sighash(params.get(3))?.unwrap_or(0);
    sign(transaction, &keys, &coins, sighash)
}

/// The type of signature hash of this name, nothing for null (Core: `ParseSighashString`).
pub(in crate::rpc::method) fn sighash(value: &Value) -> Result<Option<u32>, RpcError> {
    if value.is_null() {
        return Ok(None);
    }
    let name = text(value)?;
    let base = match name.strip_suffix("|ANYONECANPAY").unwrap_or(name) {
        "DEFAULT" if name == "DEFAULT" => 0,
        "ALL" => 1,
        "NONE" => 2,
        "SINGLE" => 3,
        _ => {
            let message = format!("'{name}' is not a valid sighash parameter.");
            return Err(RpcError::new(code::INVALID_PARAMETER, message));
        }
    };
    Ok(Some(if name.ends_with("|ANYONECANPAY") { base | 0x80 } else { base }))
}

/// Core's `SignTransaction`, and its errors as JSON.
fn sign(mut transaction: Transaction, keys: &Keystore, coins: &Coins, sighash: u32) -> Result<Value, RpcError> {
    let unsigned = transaction.clone();
    let prevouts: Option<Vec<TxOut>> =
        outpoints(&unsigned).iter().map(|outpoint| coins.get(outpoint).cloned()).collect();
    let mut errors = Vec::new();
    for (index, input) in transaction.input.iter_mut().enumerate() {
        let Some(prevout) = coins.get(&input.previous_output) else {
            errors.push(failure(input, "Input not found or already spent"));
            continue;
        };
        let spend = Spend { transaction: &unsigned, index, prevout, prevouts: prevouts.as_deref(), sighash };
        let mut data = extract(&spend);
        // There must be an output to sign with SINGLE.
        if sighash & !0x80 != 3 || index < unsigned.output.len() {
            produce(keys, &Creator::Real(spend), &prevout.script_pubkey, &mut data);
        }
        input.script_sig = data.script_sig.clone();
        input.witness = Witness::from_slice(&data.script_witness);
        if prevout.value == Amount::MAX_MONEY && !input.witness.is_empty() {
            return Err(missing_amount(prevout));
        }
        if data.complete {
            continue;
        }
        if let Err(error) = spend.verify(&data.script_sig, &data.script_witness) {
            errors.push(failure(input, &explain(error)));
        }
    }
    let mut result = Map::new();
    result.insert("hex".into(), serialize_hex(&transaction).into());
    result.insert("complete".into(), errors.is_empty().into());
    if !errors.is_empty() {
        result.insert("errors".into(), errors.into());
    }
    Ok(Value::Object(result))
}

fn explain(error: ScriptError) -> String {
    match error {
        ScriptError::InvalidStackOperation => {
            "Unable to sign input, invalid stack size (possibly missing key)".to_owned()
        }
        ScriptError::SigNullFail => {
            "CHECK(MULTI)SIG failing with non-zero signature (possibly need more signatures)".to_owned()
        }
        other => other.to_string(),
    }
}

fn missing_amount(prevout: &TxOut) -> RpcError {
    let sat = prevout.value.to_sat();
    let script = prevout.script_pubkey.to_hex_string();
    let shown = script.get(..30).unwrap_or(&script);
    let (whole, rest) = (sat / 100_000_000, sat % 100_000_000);
    let message = format!("Missing amount for CTxOut(nValue={whole}.{rest:08}, scriptPubKey={shown})");
    RpcError::new(code::TYPE, message)
}

fn failure(input: &TxIn, error: &str) -> Value {
    json!({
        "txid": input.previous_output.txid.to_string(),
        "vout": input.previous_output.vout,
        "witness": input.witness.iter().map(hex::encode).collect::<Vec<_>>(),
        "scriptSig": input.script_sig.to_hex_string(),
        "sequence": input.sequence.0,
        "error": error,
    })
}

fn checked<'a>(
    fields: &'a Map<String, Value>,
    name: &str,
    expected: &str,
    is_it: fn(&Value) -> bool,
) -> Result<&'a Value, RpcError> {
    let value = fields.get(name).filter(|value| !value.is_null());
    let value = value.ok_or_else(|| RpcError::new(code::TYPE, format!("Missing {name}")))?;
    if is_it(value) {
        return Ok(value);
    }
    let (is, expected) = (type_name(value), expected);
    let message = format!("JSON value of type {is} for field {name} is not of expected type {expected}");
    Err(RpcError::new(code::TYPE, message))
}

fn script_of(value: &Value, name: &str) -> Result<ScriptBuf, RpcError> {
    let hex = text(value)?;
    let bytes = Vec::from_hex(hex).map_err(|_| {
        RpcError::new(code::INVALID_PARAMETER, format!("{name} must be hexadecimal string (not '{hex}')"))
    })?;
    Ok(ScriptBuf::from_bytes(bytes))
}

/// An output the caller knows of, and the scripts behind it (Core: `ParsePrevouts`).
fn add_prevout(value: &Value, keys: &mut Keystore, coins: &mut Coins) -> Result<(), RpcError> {
    let malformed = |message: String| RpcError::new(code::DESERIALIZATION, message);
    let Value::Object(fields) = value else {
        return Err(malformed("expected object with {\"txid'\",\"vout\",\"scriptPubKey\"}".into()));
    };
    for (name, expected, is_it) in [
        ("txid", "string", Value::is_string as fn(&Value) -> bool),
        ("vout", "number", Value::is_number),
        ("scriptPubKey", "string", Value::is_string),
    ] {
        checked(fields, name, expected, is_it)?;
    }
    let txid = Txid::from_raw_hash(argument::hash(&fields["txid"], "txid")?);
    let vout = argument::int(&fields["vout"])?;
    let vout = u32::try_from(vout).map_err(|_| malformed("vout cannot be negative".into()))?;
    let script_pubkey = script_of(&fields["scriptPubKey"], "scriptPubKey")?;
    let outpoint = OutPoint { txid, vout };
    if let Some(known) = coins.get(&outpoint).filter(|known| known.script_pubkey != script_pubkey) {
        let asm = |script: &Script| render::asm(script, false);
        let (known, given) = (asm(&known.script_pubkey), asm(&script_pubkey));
        return Err(malformed(format!("Previous output scriptPubKey mismatch:\n{known}\nvs:\n{given}")));
    }
    let value = fields.get("amount").map(amount).transpose()?.unwrap_or(Amount::MAX_MONEY);
    coins.insert(outpoint, TxOut { value, script_pubkey: script_pubkey.clone() });
    if script_pubkey.is_p2sh() || script_pubkey.is_p2wsh() {
        add_scripts(fields, &script_pubkey, keys)?;
    }
    Ok(())
}

fn add_scripts(fields: &Map<String, Value>, script_pubkey: &Script, keys: &mut Keystore) -> Result<(), RpcError> {
    let invalid = |message: &str| Err(RpcError::new(code::INVALID_PARAMETER, message));
    let field = |name: &'static str| match fields.get(name).filter(|value| !value.is_null()) {
        None => Ok(None),
        Some(_) => checked(fields, name, "string", Value::is_string).map(Some),
    };
    let (redeem, witness) = (field("redeemScript")?, field("witnessScript")?);
    let script = match (redeem, witness) {
        (_, Some(witness)) => script_of(witness, "witnessScript")?,
        (Some(redeem), None) => script_of(redeem, "redeemScript")?,
        (None, None) => return invalid("Missing redeemScript/witnessScript"),
    };
    let program = script.to_p2wsh();
    keys.add_script(script.clone());
    // A redeem script may stand for the witness script behind it.
    keys.add_script(program.clone());
    if let (Some(redeem), Some(witness)) = (redeem, witness)
        && redeem != witness
        && script_of(redeem, "redeemScript")? != program
    {
        return invalid("redeemScript does not correspond to witnessScript");
    }
    let fits = if script_pubkey.is_p2sh() {
        *script_pubkey == *script.to_p2sh() || *script_pubkey == *program.to_p2sh()
    } else {
        *script_pubkey == *program
    };
    if fits { Ok(()) } else { invalid("redeemScript/witnessScript does not match scriptPubKey") }
}

async fn combinerawtransaction(cx: &Context, params: Params) -> Result<Value, RpcError> {
    let listed = params.list(0)?;
    if listed.len() < 2 {
        let message = "Missing transactions. At least two transactions required.";
        return Err(RpcError::new(code::DESERIALIZATION, message));
    }
    let mut variants = Vec::new();
    for (index, hex) in listed.iter().enumerate() {
        let transaction = decode(text(hex)?, Encodings::Both).ok_or_else(|| {
            let message = format!("TX decode failed for tx {index}. Make sure the tx has at least one input.");
            RpcError::new(code::DESERIALIZATION, message)
        })?;
        variants.push(transaction);
    }
    let bare = variants.iter().map(|variant| stripped(variant).compute_txid()).collect::<Vec<_>>();
    if let Some(other) = bare.iter().position(|txid| *txid != bare[0]) {
        let message = format!("Transaction number {} not compatible with first transaction", other + 1);
        return Err(RpcError::new(code::INVALID_PARAMETER, message));
    }
    let wanted = outpoints(&variants[0]);
    let coins = cx.run(move |ledger| find_coins(ledger, &wanted)).await?;
    let mut merged = variants[0].clone();
    let prevouts: Option<Vec<TxOut>> = outpoints(&merged).iter().map(|outpoint| coins.get(outpoint).cloned()).collect();
    let prevouts = prevouts.ok_or_else(|| RpcError::new(code::VERIFY, "Input not found or already spent"))?;
    for (index, prevout) in prevouts.iter().enumerate() {
        let spend = |transaction| Spend { transaction, index, prevout, prevouts: Some(&prevouts), sighash: 1 };
        let mut data = Data::default();
        variants.iter().for_each(|variant| data.merge(extract(&spend(variant))));
        let base = merged.clone();
        produce(&Keystore::default(), &Creator::Real(spend(&base)), &prevout.script_pubkey, &mut data);
        merged.input[index].script_sig = data.script_sig;
        merged.input[index].witness = Witness::from_slice(&data.script_witness);
    }
    Ok(serialize_hex(&merged).into())
}

/// The transaction without signatures.
pub(in crate::rpc::method) fn stripped(transaction: &Transaction) -> Transaction {
    let mut bare = transaction.clone();
    for input in &mut bare.input {
        input.script_sig = ScriptBuf::new();
        input.witness = Witness::new();
    }
    bare
}
