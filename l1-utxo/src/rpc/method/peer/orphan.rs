//! Transactions that wait for their parents (Core: `getorphantxs`).

use bitcoin::consensus::encode::serialize_hex;
use serde_json::{Value, json};

use crate::rpc::argument::{Kind, Params, optional};
use crate::rpc::dialect::{RpcError, code};
use crate::rpc::method::Method;
use crate::rpc::{Context, shutting_down};
use crate::sync::Orphan;

pub(super) const GETORPHANTXS: Method = Method {
    name: "getorphantxs",
    category: "hidden",
    arguments: &[optional(
        "verbosity",
        Kind::Any,
        "0 for an array of txids, 1 for an array of objects with tx details, and 2 for details from (1) and tx hex",
    )],
    about: "Shows transactions in the tx orphanage.",
    run: |cx, params| Box::pin(getorphantxs(cx, params)),
};

async fn getorphantxs(cx: &Context, params: Params) -> Result<Value, RpcError> {
    if params.get(0).is_boolean() {
        return Err(RpcError::new(code::TYPE, "Verbosity was boolean but only integer allowed"));
    }
    let verbosity = params.int_or(0, 0)?;
    if !(0..=2).contains(&verbosity) {
        return Err(RpcError::new(code::INVALID_PARAMETER, format!("Invalid verbosity value {verbosity}")));
    }
    let orphans = cx.peers.orphans().await.map_err(|_| shutting_down())?;
    Ok(orphans.iter().map(|orphan| render(orphan, verbosity)).collect())
}

fn render(orphan: &Orphan, verbosity: i32) -> Value {
    let transaction = &orphan.transaction;
    let txid = transaction.compute_txid().to_string();
    if verbosity == 0 {
        return txid.into();
    }
    let from: Vec<u64> = orphan.announcers.iter().map(|id| id.0).collect();
    let mut object = json!({
        "txid": txid,
        "wtxid": transaction.compute_wtxid().to_string(),
        "bytes": transaction.total_size(),
        "vsize": transaction.vsize(),
        "weight": transaction.weight().to_wu(),
        "from": from,
    });
    if verbosity == 2 {
        object["hex"] = serialize_hex(transaction.as_ref()).into();
    }
    object
}
