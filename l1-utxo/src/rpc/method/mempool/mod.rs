//! Unconfirmed transactions: what is here, how it hangs together, what would come in (Core: `rpc/mempool.cpp`).
//!
//! Conversion, no logic: the mempool decides. Fees are in `fee`, lists of transactions in `package`.

mod fee;
mod file;
mod package;
mod spender;

use std::collections::BTreeSet;

use bitcoin::Txid;
use serde_json::{Value, json};

use super::Method;
use crate::driver::Ledger;
use crate::mempool::{Entry, Mempool};
use crate::rpc::Context;
use crate::rpc::argument::{Argument, Kind, Params, optional, required};
use crate::rpc::dialect::{RpcError, code};
use crate::rpc::render;

const TXID: Argument = required("txid", Kind::Text, "The transaction id (must be in mempool)");
const VERBOSE: Argument = optional("verbose", Kind::Bool, "True for a json object, false for array of transaction ids");

/// The methods of this folder.
pub(super) fn methods() -> impl Iterator<Item = &'static Method> {
    [METHODS, fee::METHODS, file::METHODS, package::METHODS, spender::METHODS].into_iter().flatten()
}

const METHODS: &[Method] = &[
    Method {
        name: "getmempoolancestors",
        category: "blockchain",
        arguments: &[TXID, VERBOSE],
        about: "If txid is in the mempool, returns all in-mempool ancestors.",
        run: |cx, params| Box::pin(relatives(cx, params, Mempool::ancestor_entries)),
    },
    Method {
        name: "getmempoolcluster",
        category: "blockchain",
        arguments: &[required("txid", Kind::Text, "The txid of a transaction in the cluster")],
        about: "Returns mempool data for given cluster",
        run: |cx, params| Box::pin(getmempoolcluster(cx, params)),
    },
    Method {
        name: "getmempooldescendants",
        category: "blockchain",
        arguments: &[TXID, VERBOSE],
        about: "If txid is in the mempool, returns all in-mempool descendants.",
        run: |cx, params| Box::pin(relatives(cx, params, Mempool::descendant_entries)),
    },
    Method {
        name: "getmempoolentry",
        category: "blockchain",
        arguments: &[TXID],
        about: "Returns mempool data for given transaction.",
        run: |cx, params| Box::pin(getmempoolentry(cx, params)),
    },
    Method {
        name: "getmempoolfeeratediagram",
        category: "hidden",
        arguments: &[],
        about: "Returns the feerate diagram for the whole mempool.",
        run: |cx, _| Box::pin(getmempoolfeeratediagram(cx)),
    },
    Method {
        name: "getmempoolinfo",
        category: "blockchain",
        arguments: &[],
        about: "Returns details on the active state of the TX memory pool.",
        run: |cx, _| Box::pin(getmempoolinfo(cx)),
    },
    Method {
        name: "getrawmempool",
        category: "blockchain",
        arguments: &[
            optional("verbose", Kind::Bool, "True for a json object, false for array of transaction ids"),
            optional("mempool_sequence", Kind::Bool, "With the ids, the mempool's sequence number"),
        ],
        about: "Returns all transaction ids in memory pool as a json array of string transaction ids.",
        run: |cx, params| Box::pin(getrawmempool(cx, params)),
    },
];

async fn getmempoolinfo(cx: &Context) -> Result<Value, RpcError> {
    cx.run(|ledger| {
        let unbroadcast = ledger.unbroadcast().len();
        let mempool = ledger.mempool();
        let policy = mempool.policy();
        json!({
            "loaded": true,
            "size": mempool.len(),
            "bytes": mempool.vsize(),
            "usage": mempool.usage(),
            "total_fee": render::amount(mempool.fees()),
            "maxmempool": policy.max_bytes,
            "mempoolminfee": render::feerate(mempool.rolling_feerate().max(policy.min_relay_feerate)),
            "minrelaytxfee": render::feerate(policy.min_relay_feerate),
            "incrementalrelayfee": render::feerate(policy.incremental_feerate),
            "unbroadcastcount": unbroadcast,
            "permitbaremultisig": policy.permits_bare_multisig,
            "maxdatacarriersize": policy.data_carrier_bytes,
            "limitclustercount": policy.cluster_limits.count,
            "limitclustersize": policy.cluster_limits.weight / 4,
            "optimal": mempool.is_optimal(),
            // As in 31.0, whose clients want it.
            "fullrbf": true,
        })
    })
    .await
}

async fn getrawmempool(cx: &Context, params: Params) -> Result<Value, RpcError> {
    let verbose = params.bool_or(0, false)?;
    let with_sequence = params.bool_or(1, false)?;
    if verbose && with_sequence {
        let message = "Verbose results cannot contain mempool sequence values.";
        return Err(RpcError::new(code::INVALID_PARAMETER, message));
    }
    cx.run(move |ledger| {
        let unbroadcast = if verbose { ours(ledger) } else { BTreeSet::new() };
        let mempool = ledger.mempool();
        if verbose {
            let described = |entry: &Entry| (entry.txid.to_string(), describe(mempool, entry, &unbroadcast));
            return Value::Object(mempool.entries().map(described).collect());
        }
        // Better feerates first, and parents before their children.
        let chunks = mempool.chunks();
        let txids: Vec<Value> =
            chunks.flat_map(|chunk| chunk.entries).map(|entry| entry.txid.to_string().into()).collect();
        if with_sequence {
            return json!({"txids": txids, "mempool_sequence": mempool.sequence()});
        }
        txids.into()
    })
    .await
}

/// Transactions of our own that nobody has fetched yet.
fn ours(ledger: &mut Ledger) -> BTreeSet<Txid> {
    ledger.unbroadcast().into_iter().collect()
}

/// The entry, or Core's word for none.
fn known<'a>(mempool: &'a Mempool, txid: &Txid) -> Result<&'a Entry, RpcError> {
    let missing = || RpcError::new(code::INVALID_ADDRESS_OR_KEY, "Transaction not in mempool");
    mempool.entry(txid).ok_or_else(missing)
}

async fn getmempoolentry(cx: &Context, params: Params) -> Result<Value, RpcError> {
    let txid = Txid::from_raw_hash(params.hash(0, "txid")?);
    cx.run(move |ledger| {
        let unbroadcast = ours(ledger);
        let mempool = ledger.mempool();
        known(mempool, &txid).map(|entry| describe(mempool, entry, &unbroadcast))
    })
    .await?
}

/// Which relatives of an entry are asked for.
type Relatives = for<'a> fn(&'a Mempool, &Entry) -> Vec<&'a Entry>;

async fn relatives(cx: &Context, params: Params, which: Relatives) -> Result<Value, RpcError> {
    let verbose = params.bool_or(1, false)?;
    let txid = Txid::from_raw_hash(params.hash(0, "txid")?);
    cx.run(move |ledger| {
        let unbroadcast = if verbose { ours(ledger) } else { BTreeSet::new() };
        let mempool = ledger.mempool();
        let found = which(mempool, known(mempool, &txid)?);
        if verbose {
            let described = |entry: &Entry| (entry.txid.to_string(), describe(mempool, entry, &unbroadcast));
            let described = found.into_iter().map(described);
            return Ok(Value::Object(described.collect()));
        }
        Ok(found.into_iter().map(|entry| Value::from(entry.txid.to_string())).collect::<Vec<_>>().into())
    })
    .await?
}

async fn getmempoolcluster(cx: &Context, params: Params) -> Result<Value, RpcError> {
    let txid = Txid::from_raw_hash(params.hash(0, "txid")?);
    cx.run(move |ledger| {
        let mempool = ledger.mempool();
        let chunks = mempool.cluster(known(mempool, &txid)?);
        let weight: u64 = chunks.iter().map(|chunk| chunk.size.weight).sum();
        let count: usize = chunks.iter().map(|chunk| chunk.entries.len()).sum();
        let chunks: Vec<Value> = chunks
            .iter()
            .map(|chunk| {
                let txids: Vec<String> = chunk.entries.iter().map(|entry| entry.txid.to_string()).collect();
                json!({
                    "chunkfee": render::signed_amount(chunk.size.fee),
                    "chunkweight": chunk.size.weight,
                    "txs": txids,
                })
            })
            .collect();
        Ok(json!({"clusterweight": weight, "txcount": count, "chunks": chunks}))
    })
    .await?
}

/// The corners of the diagram, from nothing on.
async fn getmempoolfeeratediagram(cx: &Context) -> Result<Value, RpcError> {
    cx.run(|ledger| {
        let (mut weight, mut fee) = (0u64, 0i64);
        let mut corners = vec![json!({"weight": 0, "fee": render::amount(0)})];
        for chunk in ledger.mempool().chunks() {
            weight += chunk.size.weight;
            fee = fee.saturating_add(chunk.size.fee);
            corners.push(json!({"weight": weight, "fee": render::signed_amount(fee)}));
        }
        corners.into()
    })
    .await
}

/// Whether it, or an ancestor here, signals that it may be replaced (BIP 125). Everything may: this is for old clients.
fn signals_replacement(mempool: &Mempool, entry: &Entry) -> bool {
    let signals = |entry: &Entry| entry.transaction.input.iter().any(|input| input.sequence.is_rbf());
    signals(entry) || mempool.ancestor_entries(entry).into_iter().any(signals)
}

/// Core's `entryToJSON`.
fn describe(mempool: &Mempool, entry: &Entry, unbroadcast: &BTreeSet<Txid>) -> Value {
    let ancestors = mempool.ancestors(entry);
    let descendants = mempool.descendants(entry);
    let chunk = mempool.chunk(entry);
    let mut depends: Vec<String> = mempool.parents(entry).map(|parent| parent.txid.to_string()).collect();
    depends.sort();
    let spentby: Vec<String> = mempool.children(entry).map(|child| child.txid.to_string()).collect();
    json!({
        "vsize": entry.vsize(),
        "weight": entry.transaction.weight().to_wu(),
        "time": entry.time,
        "height": entry.height,
        "descendantcount": descendants.count,
        "descendantsize": descendants.vsize,
        "ancestorcount": ancestors.count,
        "ancestorsize": ancestors.vsize,
        "wtxid": entry.wtxid.to_string(),
        "chunkweight": chunk.weight,
        "fees": {
            "base": render::amount(entry.fee.to_sat()),
            "modified": render::signed_amount(entry.modified_fee()),
            "ancestor": render::signed_amount(ancestors.fees),
            "descendant": render::signed_amount(descendants.fees),
            "chunk": render::signed_amount(chunk.fee),
        },
        "depends": depends,
        "spentby": spentby,
        "bip125-replaceable": signals_replacement(mempool, entry),
        "unbroadcast": unbroadcast.contains(&entry.txid),
    })
}
