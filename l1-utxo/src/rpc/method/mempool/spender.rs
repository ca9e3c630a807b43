//! Who spends an output: a transaction of the mempool or, where spends are indexed, one of a block (Core: `rpc/mempool.cpp`).

use std::sync::Arc;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{BlockHash, OutPoint, Transaction, Txid};
use serde_json::{Map, Value};

use super::Method;
use crate::rpc::Context;
use crate::rpc::argument::{self, Argument, Kind, Params, optional, required};
use crate::rpc::dialect::{RpcError, code};

pub(super) const METHODS: &[Method] = &[Method {
    name: "gettxspendingprevout",
    category: "blockchain",
    arguments: &[
        required("outputs", Kind::List, "The outputs to check, each with its txid and vout")
            .shown("[{\"txid\":\"hex\",\"vout\":n},...]"),
        Argument {
            options: &["mempool_only", "return_spending_tx"],
            ..optional("options", Kind::Object, "mempool_only and return_spending_tx")
                .shown("{\"mempool_only\":bool,\"return_spending_tx\":bool,...}")
        },
    ],
    about: "Scans the mempool (and the txospenderindex, if available) to find transactions spending any of the given outputs",
    run: |cx, params| Box::pin(gettxspendingprevout(cx, params)),
}];

async fn gettxspendingprevout(cx: &Context, params: Params) -> Result<Value, RpcError> {
    let outputs = params.list(0)?.to_vec();
    if outputs.is_empty() {
        return Err(RpcError::new(code::INVALID_PARAMETER, "Invalid parameter, outputs are missing"));
    }
    let (mempool_only, with_transaction) = spending_options(params.get(1))?;
    let outpoints: Vec<OutPoint> = outputs.iter().map(outpoint).collect::<Result<_, _>>()?;
    cx.run(move |ledger| {
        let has_index = ledger.indexes().spenders;
        let mempool_only = mempool_only.unwrap_or(!has_index);
        // Those of the mempool first, as Core answers.
        let (mut found, mut others) = (Vec::new(), Vec::new());
        for (output, outpoint) in outputs.into_iter().zip(outpoints) {
            match ledger.mempool().spender(&outpoint).map(|spender| Arc::clone(&spender.transaction)) {
                None if !mempool_only => others.push((output, outpoint)),
                spender => found.push(spending(output, spender.as_deref(), None, with_transaction)),
            }
        }
        let is_answerable = others.is_empty() || (has_index && ledger.index_all());
        if !is_answerable {
            let message = "Mempool lacks a relevant spend, and txospenderindex is unavailable.";
            return Err(RpcError::new(code::MISC, message));
        }
        for (output, outpoint) in others {
            let Some((id, place)) = ledger.indexed_spender(&outpoint) else {
                found.push(output);
                continue;
            };
            let unreadable = || RpcError::new(code::MISC, "The block of the spending transaction cannot be read.");
            let block = ledger.read_block(id).map_err(|_| unreadable())?;
            let spender = block.transactions().get(place).ok_or_else(unreadable)?;
            found.push(spending(output, Some(spender), Some(block.hash()), with_transaction));
        }
        Ok(found.into())
    })
    .await?
}

fn spending(output: Value, spender: Option<&Transaction>, block: Option<BlockHash>, with_transaction: bool) -> Value {
    let (Value::Object(mut object), Some(spender)) = (output.clone(), spender) else {
        return output;
    };
    object.insert("spendingtxid".into(), spender.compute_txid().to_string().into());
    if with_transaction {
        object.insert("spendingtx".into(), serialize_hex(spender).into());
    }
    if let Some(block) = block {
        object.insert("blockhash".into(), block.to_string().into());
    }
    Value::Object(object)
}

/// Whether only the mempool is asked, if that was said, and whether the whole transaction is wanted.
fn spending_options(options: &Value) -> Result<(Option<bool>, bool), RpcError> {
    let Value::Object(options) = options else {
        return Ok((None, false));
    };
    check_fields(options, &[("mempool_only", Kind::Bool, true), ("return_spending_tx", Kind::Bool, true)])?;
    let flag = |name: &str| options.get(name).and_then(Value::as_bool);
    Ok((flag("mempool_only"), flag("return_spending_tx").unwrap_or(false)))
}

fn outpoint(output: &Value) -> Result<OutPoint, RpcError> {
    let object = argument::object(output)?;
    check_fields(object, &[("txid", Kind::Text, false), ("vout", Kind::Number, false)])?;
    let txid = Txid::from_raw_hash(argument::hash(&object["txid"], "txid")?);
    let vout = u32::try_from(argument::int(&object["vout"])?)
        .map_err(|_| RpcError::new(code::INVALID_PARAMETER, "Invalid parameter, vout cannot be negative"))?;
    Ok(OutPoint { txid, vout })
}

/// Core's `RPCTypeCheckObj`, strict; the flag allows a field to be missing.
fn check_fields(object: &Map<String, Value>, fields: &[(&str, Kind, bool)]) -> Result<(), RpcError> {
    for (name, kind, may_miss) in fields {
        let value = object.get(*name).unwrap_or(&Value::Null);
        if value.is_null() {
            if *may_miss {
                continue;
            }
            return Err(RpcError::new(code::TYPE, format!("Missing {name}")));
        }
        let expected = match kind {
            Kind::Bool => "bool",
            Kind::Number => "number",
            _ => "string",
        };
        let is = argument::type_name(value);
        if is != expected {
            let message = format!("JSON value of type {is} for field {name} is not of expected type {expected}");
            return Err(RpcError::new(code::TYPE, message));
        }
    }
    if let Some(unknown) = object.keys().find(|key| fields.iter().all(|(name, ..)| name != key)) {
        return Err(RpcError::new(code::TYPE, format!("Unexpected key {unknown}")));
    }
    Ok(())
}
