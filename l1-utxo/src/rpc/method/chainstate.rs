//! The chain as a whole and its coins (Core: `rpc/blockchain.cpp`).

use bitcoin::{OutPoint, Txid};
use serde_json::{Value, json};

use super::Method;
use super::block::{block_hash, known};
use crate::chain::{Coin, script_flags};
use crate::driver::Ledger;
use crate::rpc::Context;
use crate::rpc::argument::{Argument, Kind, Params, optional, required};
use crate::rpc::dialect::{RpcError, code};
use crate::rpc::render;

const BLOCK_HASH: Argument = required("blockhash", Kind::Text, "The hash of the block");

pub(super) const METHODS: &[Method] = &[
    Method {
        name: "getblockchaininfo",
        category: "blockchain",
        arguments: &[],
        about: "Returns an object containing various state info regarding blockchain processing.",
        run: |cx, _| Box::pin(getblockchaininfo(cx)),
    },
    Method {
        name: "getdeploymentinfo",
        category: "blockchain",
        arguments: &[optional("blockhash", Kind::Text, "The block at which to query deployment state")],
        about: "Returns an object containing various state info regarding deployments of consensus changes.",
        run: |cx, params| Box::pin(getdeploymentinfo(cx, params)),
    },
    Method {
        name: "gettxout",
        category: "blockchain",
        arguments: &[
            required("txid", Kind::Text, "The transaction id"),
            required("n", Kind::Number, "vout number"),
            optional("include_mempool", Kind::Bool, "Whether to include the mempool, true by default"),
        ],
        about: "Returns details about an unspent transaction output.",
        run: |cx, params| Box::pin(gettxout(cx, params)),
    },
    Method {
        name: "invalidateblock",
        category: "hidden",
        arguments: &[BLOCK_HASH],
        about: "Permanently marks a block as invalid, as if it violated a consensus rule.",
        run: |cx, params| Box::pin(invalidateblock(cx, params)),
    },
    Method {
        name: "preciousblock",
        category: "blockchain",
        arguments: &[BLOCK_HASH],
        about: "Treats a block as if it were received before others with the same work.",
        run: |cx, params| Box::pin(preciousblock(cx, params)),
    },
    Method {
        name: "reconsiderblock",
        category: "hidden",
        arguments: &[BLOCK_HASH],
        about: "Removes invalidity status of a block, its ancestors and its descendants.",
        run: |cx, params| Box::pin(reconsiderblock(cx, params)),
    },
];

async fn getblockchaininfo(cx: &Context) -> Result<Value, RpcError> {
    let name = cx.network.name();
    cx.run(move |ledger| {
        let warnings = ledger.warnings();
        let chain = ledger.chain();
        let tip = chain.tip_entry();
        let headers = chain.entry(chain.best_header()).height;
        let bits = tip.header.bits;
        json!({
            "chain": name,
            "blocks": tip.height,
            "headers": headers,
            "bestblockhash": tip.hash.to_string(),
            "bits": format!("{:08x}", bits.to_consensus()),
            "target": render::target_hex(bits),
            "difficulty": render::difficulty(bits),
            "time": tip.header.time,
            "mediantime": tip.median_time_past,
            "verificationprogress": render::double(f64::from(tip.height + 1) / f64::from(headers.max(tip.height) + 1)),
            "initialblockdownload": ledger.is_initial_download(),
            "chainwork": hex::encode(tip.chain_work.to_be_bytes()),
            "size_on_disk": ledger.size_on_disk(),
            "pruned": false,
            "warnings": warnings,
        })
    })
    .await
}

async fn getdeploymentinfo(cx: &Context, params: Params) -> Result<Value, RpcError> {
    let asked = if params.has(0) { Some(block_hash(&params, 0, "blockhash")?) } else { None };
    let from = cx.params().activation;
    cx.run(move |ledger| {
        let chain = ledger.chain();
        let id = asked.map_or(Ok(chain.tip()), |hash| known(ledger, &hash))?;
        let entry = chain.entry(id);
        let buried = |from: u32| json!({"type": "buried", "active": entry.height + 1 >= from, "height": from});
        let flags: Vec<&str> = script_flags(entry.height, &from).names().collect();
        Ok(json!({
            "hash": entry.hash.to_string(),
            "height": entry.height,
            "script_flags": flags,
            "deployments": {
                "bip34": buried(from.bip34),
                "bip66": buried(from.dersig),
                "bip65": buried(from.cltv),
                "csv": buried(from.csv),
                "segwit": buried(from.segwit),
                "taproot": buried(0),
            },
        }))
    })
    .await?
}

async fn gettxout(cx: &Context, params: Params) -> Result<Value, RpcError> {
    let txid = Txid::from_raw_hash(params.hash(0, "txid")?);
    let vout = params.get(1).as_u64().and_then(|vout| u32::try_from(vout).ok());
    let vout = vout.ok_or_else(|| RpcError::new(code::MISC, "JSON integer out of range"))?;
    let include_mempool = params.bool_or(2, true)?;
    let outpoint = OutPoint { txid, vout };
    cx.run(move |ledger| {
        let tip = ledger.chain().tip_entry();
        let (best, height) = (tip.hash, tip.height);
        let mempool = ledger.mempool();
        let coin = if include_mempool && mempool.spender(&outpoint).is_some() {
            None
        } else {
            let unconfirmed = include_mempool.then(|| mempool.coin(&outpoint, height)).flatten();
            unconfirmed.or_else(|| ledger.coin(&outpoint))
        };
        coin.map_or(Value::Null, |coin| txout(&coin, &best.to_string(), height))
    })
    .await
}

fn txout(coin: &Coin, best: &str, height: u32) -> Value {
    // Unconfirmed coins are said to be made by the next block: zero confirmations.
    let confirmations = (height + 1).saturating_sub(coin.height);
    json!({
        "bestblock": best,
        "confirmations": confirmations,
        "value": render::amount(coin.output.value.to_sat()),
        "scriptPubKey": render::script_pubkey(&coin.output.script_pubkey),
        "coinbase": coin.is_coinbase,
    })
}

async fn invalidateblock(cx: &Context, params: Params) -> Result<Value, RpcError> {
    change(cx, &params, Ledger::invalidate).await
}

async fn reconsiderblock(cx: &Context, params: Params) -> Result<Value, RpcError> {
    change(cx, &params, Ledger::reconsider).await
}

async fn preciousblock(cx: &Context, params: Params) -> Result<Value, RpcError> {
    change(cx, &params, Ledger::make_precious).await
}

/// Marks a block and moves the tip where it then belongs.
async fn change<E: std::fmt::Display + 'static>(
    cx: &Context,
    params: &Params,
    mark: fn(&mut Ledger, crate::chain::BlockId) -> Result<(), E>,
) -> Result<Value, RpcError> {
    let hash = block_hash(params, 0, "blockhash")?;
    cx.run(move |ledger| {
        let id = known(ledger, &hash)?;
        mark(ledger, id).map_err(|error| RpcError::new(code::DATABASE, error.to_string()))
    })
    .await??;
    Ok(Value::Null)
}
