//! Lists of transactions: would they come in, and letting them in (Core: `rpc/mempool.cpp`).

use std::collections::BTreeSet;
use std::sync::Arc;

use bitcoin::{Transaction, Txid};
use serde_json::{Map, Value, json};

use super::Method;
use crate::driver::Ledger;
use crate::mempool::policy::fee_at;
use crate::mempool::{
    Accepted, MAX_PACKAGE_COUNT, PackageReport, PackageResult, Rejection, is_child_with_parents_tree,
};
use crate::rpc::argument::{self, Kind, Params, optional, required};
use crate::rpc::dialect::{RpcError, code};
use crate::rpc::method::rawtransaction::{Encodings, MAX_FEERATE, check_burn, decode, max_feerate};
use crate::rpc::{Context, render};

pub(super) const METHODS: &[Method] = &[
    Method {
        name: "submitpackage",
        category: "rawtransactions",
        arguments: &[
            required("package", Kind::List, "An array of raw transactions: a child, the last, with parents of it")
                .shown("[\"rawtx\",...]"),
            MAX_FEERATE,
            optional("maxburnamount", Kind::Any, "Reject unspendable outputs above this value in BTC; 0 by default"),
        ],
        about: "Submit a package of raw transactions (serialized, hex-encoded) to local node.",
        run: |cx, params| Box::pin(submitpackage(cx, params)),
    },
    Method {
        name: "testmempoolaccept",
        category: "rawtransactions",
        arguments: &[
            required("rawtxs", Kind::List, "An array of hex strings of raw transactions").shown("[\"rawtx\",...]"),
            MAX_FEERATE,
        ],
        about: "Returns result of mempool acceptance tests indicating if raw transactions would be accepted.",
        run: |cx, params| Box::pin(testmempoolaccept(cx, params)),
    },
];

/// The transactions of the first parameter, each checked for what it burns if `max_burn` is given.
fn transactions(params: &Params, max_burn: Option<u64>) -> Result<Vec<Arc<Transaction>>, RpcError> {
    let raw = params.list(0)?;
    let decoded = raw.iter().map(|text| {
        let text = argument::text(text)?;
        let transaction = decode(text, Encodings::Witness).ok_or_else(|| {
            let message = format!("TX decode failed: {text} Make sure the tx has at least one input.");
            RpcError::new(code::DESERIALIZATION, message)
        })?;
        max_burn.map_or(Ok(()), |max_burn| check_burn(&transaction, max_burn))?;
        Ok(Arc::new(transaction))
    });
    decoded.collect()
}

fn check_count(params: &Params) -> Result<(), RpcError> {
    if (1..=MAX_PACKAGE_COUNT).contains(&params.list(0)?.len()) {
        return Ok(());
    }
    let message = format!("Array must contain between 1 and {MAX_PACKAGE_COUNT} transactions.");
    Err(RpcError::new(code::INVALID_PARAMETER, message))
}

async fn testmempoolaccept(cx: &Context, params: Params) -> Result<Value, RpcError> {
    check_count(&params)?;
    let max_feerate = max_feerate(&params)?;
    let transactions = transactions(&params, None)?;
    let tested = transactions.clone();
    let report = cx.run(move |ledger| test(ledger, &tested)).await?;
    let package_error = report.error.as_ref().filter(|error| error.is_policy()).map(ToString::to_string);
    let mut is_over = false;
    let results = transactions.iter().map(|transaction| {
        let wtxid = transaction.compute_wtxid();
        let mut object = Map::new();
        object.insert("txid".into(), transaction.compute_txid().to_string().into());
        object.insert("wtxid".into(), wtxid.to_string().into());
        if let Some(error) = &package_error {
            object.insert("package-error".into(), error.as_str().into());
        }
        // What comes after a refusal was not looked at.
        if let Some(result) = report.results.get(&wtxid).filter(|_| !is_over) {
            is_over = verdict(&mut object, result, max_feerate);
        }
        Value::Object(object)
    });
    Ok(results.collect::<Vec<_>>().into())
}

/// One alone may replace others; several together may not.
fn test(ledger: &mut Ledger, transactions: &[Arc<Transaction>]) -> PackageReport {
    ledger.with_mempool(|mempool, cx| {
        let [only] = transactions else {
            return mempool.test_package(transactions, cx);
        };
        let result = match mempool.test(Arc::clone(only), cx) {
            Ok(accepted) => PackageResult::Accepted(accepted),
            Err(rejection) => PackageResult::Refused(rejection),
        };
        PackageReport { error: None, results: [(only.compute_wtxid(), result)].into() }
    })
}

/// Fills in one result; true if the fee was above the maximum, which ends the list.
fn verdict(object: &mut Map<String, Value>, result: &PackageResult, max_feerate: u64) -> bool {
    match result {
        PackageResult::Accepted(accepted) => {
            let fee = accepted.fee.to_sat();
            let max_fee = fee_at(max_feerate, accepted.vsize);
            if max_fee > 0 && fee > max_fee {
                object.insert("allowed".into(), false.into());
                object.insert("reject-reason".into(), "max-fee-exceeded".into());
                return true;
            }
            object.insert("allowed".into(), true.into());
            object.insert("vsize".into(), accepted.vsize.into());
            object.insert("fees".into(), fees(accepted));
        }
        PackageResult::Refused(rejection) => refusal(object, rejection),
        // A test has every transaction refused that is here already.
        PackageResult::Known { .. } | PackageResult::OtherWitness(_) => {}
    }
    false
}

fn refusal(object: &mut Map<String, Value>, rejection: &Rejection) {
    object.insert("allowed".into(), false.into());
    if rejection.is_missing_inputs() {
        object.insert("reject-reason".into(), "missing-inputs".into());
        return;
    }
    object.insert("reject-reason".into(), rejection.reason().into());
    object.insert("reject-details".into(), rejection.to_string().into());
}

fn fees(accepted: &Accepted) -> Value {
    let includes: Vec<String> = accepted.effective_includes.iter().map(ToString::to_string).collect();
    json!({
        "base": render::amount(accepted.fee.to_sat()),
        "effective-feerate": render::signed_amount(accepted.effective_feerate),
        "effective-includes": includes,
    })
}

async fn submitpackage(cx: &Context, params: Params) -> Result<Value, RpcError> {
    check_count(&params)?;
    let max_feerate = Some(max_feerate(&params)?).filter(|max_feerate| *max_feerate > 0);
    let max_burn = if params.has(2) { argument::amount(params.get(2))?.to_sat() } else { 0 };
    let transactions = transactions(&params, Some(max_burn))?;
    if transactions.len() > 1 && !is_child_with_parents_tree(&transactions) {
        let message = "package topology disallowed. not child-with-parents or parents depend on each other.";
        return Err(RpcError::new(code::VERIFY, message));
    }
    let submitted = transactions.clone();
    let report = cx
        .run(move |ledger| {
            let report = ledger.with_mempool(|mempool, cx| mempool.submit_package(&submitted, max_feerate, cx));
            submitted.iter().for_each(|transaction| ledger.announce(&transaction.compute_txid()));
            report
        })
        .await?;
    let mut results = Map::new();
    let mut replaced: BTreeSet<Txid> = BTreeSet::new();
    for transaction in &transactions {
        let wtxid = transaction.compute_wtxid();
        let mut object = Map::new();
        object.insert("txid".into(), transaction.compute_txid().to_string().into());
        match report.results.get(&wtxid) {
            None => drop(object.insert("error".into(), "package-not-validated".into())),
            Some(PackageResult::OtherWitness(other)) => {
                object.insert("other-wtxid".into(), other.to_string().into());
            }
            Some(PackageResult::Refused(rejection)) => {
                object.insert("error".into(), rejection.to_string().into());
            }
            Some(PackageResult::Known { vsize, fee }) => {
                object.insert("vsize".into(), (*vsize).into());
                object.insert("fees".into(), json!({"base": render::amount(fee.to_sat())}));
            }
            Some(PackageResult::Accepted(accepted)) => {
                object.insert("vsize".into(), accepted.vsize.into());
                object.insert("fees".into(), fees(accepted));
                replaced.extend(accepted.replaced_txids());
            }
        }
        results.insert(wtxid.to_string(), Value::Object(object));
    }
    let message = report.error.map_or_else(|| "success".to_owned(), |error| error.to_string());
    let replaced: Vec<String> = replaced.iter().map(ToString::to_string).collect();
    Ok(json!({"package_msg": message, "tx-results": results, "replaced-transactions": replaced}))
}
