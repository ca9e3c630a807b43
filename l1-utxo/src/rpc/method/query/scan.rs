//! Coins by descriptor, over all there are (Core: `scantxoutset` in `rpc/blockchain.cpp`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use bitcoin::hashes::Hash;
use bitcoin::{OutPoint, ScriptBuf};
use serde_json::{Value, json};

use super::Method;
use crate::chain::Coin;
use crate::driver::Tip;
use crate::rpc::argument::{Kind, Params, optional, required};
use crate::rpc::descriptor::{self, Name};
use crate::rpc::dialect::{RpcError, code};
use crate::rpc::{Context, render};
use crate::store::{CoinsSnapshot, StoreError};

/// Coins between two looks at whether to give up.
const STRIDE: usize = 8_192;

pub(super) const METHODS: &[Method] = &[Method {
    name: "scantxoutset",
    category: "blockchain",
    arguments: &[
        required("action", Kind::Text, "start, abort or status"),
        optional("scanobjects", Kind::List, "Descriptors, or objects with desc and range").shown("[scanobjects,...]"),
    ],
    about: "Scans the unspent transaction output set for entries that match certain output descriptors.",
    run: |cx, params| Box::pin(scantxoutset(cx, params)),
}];

/// The scan that runs, if one does: there is at most one.
#[derive(Debug, Default)]
pub struct Scan {
    pub(super) runs: AtomicBool,
    pub(super) aborts: AtomicBool,
    pub(super) percent: AtomicU8,
    /// Where a scan of blocks is.
    pub(super) height: AtomicU32,
}

/// Core's word for a second scan.
pub(super) const BUSY: &str = "Scan already in progress, use action \"abort\" or \"status\"";

/// Ends the scan's reservation, however it ends.
pub(super) struct Reserved<'a>(&'a Scan);

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.0.runs.store(false, Ordering::SeqCst);
    }
}

impl Scan {
    pub(super) fn reserve(&self) -> Option<Reserved<'_>> {
        if self.runs.swap(true, Ordering::SeqCst) {
            return None;
        }
        self.aborts.store(false, Ordering::SeqCst);
        self.percent.store(0, Ordering::SeqCst);
        Some(Reserved(self))
    }
}

async fn scantxoutset(cx: &Context, params: Params) -> Result<Value, RpcError> {
    match params.text(0)? {
        "status" if cx.scan.runs.load(Ordering::SeqCst) => {
            Ok(json!({"progress": cx.scan.percent.load(Ordering::SeqCst)}))
        }
        "status" => Ok(Value::Null),
        "abort" => {
            let runs = cx.scan.runs.load(Ordering::SeqCst);
            cx.scan.aborts.store(runs, Ordering::SeqCst);
            Ok(runs.into())
        }
        "start" => start(cx, &params).await,
        other => Err(RpcError::new(code::INVALID_PARAMETER, format!("Invalid action '{other}'"))),
    }
}

async fn start(cx: &Context, params: &Params) -> Result<Value, RpcError> {
    let reserved = cx.scan.reserve().ok_or_else(|| RpcError::new(code::INVALID_PARAMETER, BUSY))?;
    if !params.has(1) {
        return Err(RpcError::new(code::MISC, "scanobjects argument is required for the start action"));
    }
    let mut needles: BTreeMap<ScriptBuf, Name> = BTreeMap::new();
    for object in params.list(1)? {
        for (script, name) in descriptor::scripts_of(object)? {
            needles.entry(script).or_insert(name);
        }
    }
    let (tip, snapshot) = cx.node.coins().await.map_err(unreadable)?;
    let scan = std::sync::Arc::clone(&cx.scan);
    let scripts = needles.keys().cloned().collect();
    let found = tokio::task::spawn_blocking(move || search(&scan, &snapshot, scripts)).await.map_err(unreadable)?;
    let found = found.map_err(unreadable)?;
    drop(reserved);
    describe(cx, tip, found, &needles).await
}

fn unreadable(error: impl std::fmt::Display) -> RpcError {
    tracing::error!(%error, "the coins could not be read");
    RpcError::new(code::INTERNAL, "Unable to read UTXO set")
}

struct Found {
    is_whole: bool,
    count: u64,
    coins: BTreeMap<OutPoint, Coin>,
}

fn search(
    scan: &Scan,
    snapshot: &CoinsSnapshot,
    scripts: std::collections::BTreeSet<ScriptBuf>,
) -> Result<Found, StoreError> {
    let mut found = Found { is_whole: true, count: 0, coins: BTreeMap::new() };
    for (index, row) in snapshot.iter().enumerate() {
        let (outpoint, coin) = row?;
        if index % STRIDE == 0 {
            if scan.aborts.load(Ordering::SeqCst) {
                found.is_whole = false;
                break;
            }
            // Coins come in the order of their txids, which are spread evenly.
            let percent = u16::from(outpoint.txid.as_byte_array()[0]) * 100 / 256;
            scan.percent.store(u8::try_from(percent).unwrap_or(100), Ordering::SeqCst);
        }
        found.count += 1;
        if scripts.contains(&coin.output.script_pubkey) {
            found.coins.insert(outpoint, coin);
        }
    }
    Ok(found)
}

async fn describe(cx: &Context, tip: Tip, found: Found, names: &BTreeMap<ScriptBuf, Name>) -> Result<Value, RpcError> {
    let heights: Vec<u32> = found.coins.values().map(|coin| coin.height).collect();
    let hashes = cx
        .run(move |ledger| {
            let chain = ledger.chain();
            let hash = |height: u32| chain.at_height(height).map(|id| chain.entry(id).hash.to_string());
            heights.into_iter().map(hash).collect::<Vec<_>>()
        })
        .await?;
    let total: u64 = found.coins.values().map(|coin| coin.output.value.to_sat()).sum();
    let unspents = found.coins.iter().zip(hashes).map(|((outpoint, coin), hash)| {
        json!({
            "txid": outpoint.txid.to_string(),
            "vout": outpoint.vout,
            "scriptPubKey": coin.output.script_pubkey.to_hex_string(),
            "desc": names.get(&coin.output.script_pubkey).map(Name::text),
            "amount": render::amount(coin.output.value.to_sat()),
            "coinbase": coin.is_coinbase,
            "height": coin.height,
            "blockhash": hash,
            "confirmations": tip.height.saturating_sub(coin.height) + 1,
        })
    });
    Ok(json!({
        "success": found.is_whole,
        "txouts": found.count,
        "height": tip.height,
        "bestblock": tip.hash.to_string(),
        "unspents": unspents.collect::<Vec<_>>(),
        "total_amount": render::amount(total),
    }))
}
