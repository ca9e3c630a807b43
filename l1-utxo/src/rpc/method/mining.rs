//! Templates out, blocks in (Core: `rpc/mining.cpp`, BIP 22, BIP 23, BIP 145).

use std::collections::BTreeMap;
use std::sync::Arc;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Block, ScriptBuf, Txid};
use serde_json::{Map, Value, json};

use super::Method;
use crate::chain::Source;
use crate::consensus::block::{add_witness_reserved_value, check_merkle_root};
use crate::consensus::decode;
use crate::consensus::{BlockError, HashedBlock};
use crate::driver::Ledger;
use crate::mining::{Parent, Template};
use crate::rpc::argument::{self, Kind, Params, optional, required};
use crate::rpc::dialect::{RpcError, code};
use crate::rpc::{Context, render};

pub(super) const METHODS: &[Method] = &[
    Method {
        name: "getblocktemplate",
        category: "mining",
        arguments: &[required("template_request", Kind::Object, "Format of the template; rules must hold \"segwit\"").shown(
            "{\"mode\":\"str\",\"capabilities\":[\"str\",...],\"rules\":[\"segwit\",\"str\",...],\"longpollid\":\"str\",\"data\":\"hex\"}",
        )],
        about: "Returns data needed to construct a block to work on (BIP 22).",
        run: |cx, params| Box::pin(getblocktemplate(cx, params)),
    },
    Method {
        name: "submitblock",
        category: "mining",
        arguments: &[
            required("hexdata", Kind::Text, "The hex-encoded block data to submit"),
            optional("dummy", Kind::Text, "Ignored"),
        ],
        about: "Attempts to submit new block to network (BIP 22).",
        run: |cx, params| Box::pin(submitblock(cx, params)),
    },
];

async fn getblocktemplate(cx: &Context, params: Params) -> Result<Value, RpcError> {
    let request = argument::object(params.get(0))?;
    let invalid = |message: &str| RpcError::new(code::INVALID_PARAMETER, message);
    match request.get("mode") {
        None | Some(Value::Null) => {}
        Some(Value::String(mode)) if mode == "template" => {}
        Some(Value::String(mode)) if mode == "proposal" => return propose(cx, request).await,
        Some(_) => return Err(invalid("Invalid mode")),
    }
    let rules = request.get("rules").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let rules = rules.iter().map(argument::text).collect::<Result<Vec<_>, _>>()?;
    if let Some(id) = request.get("longpollid").filter(|id| !id.is_null()) {
        wait_for_change(cx, id).await?;
    }
    if !rules.contains(&"segwit") {
        let message = "getblocktemplate must be called with the segwit rule set (call with {\"rules\": [\"segwit\"]})";
        return Err(invalid(message));
    }
    let (template, parent, updates) =
        cx.run(|ledger| (ledger.template(&ScriptBuf::new()), ledger.parent(), ledger.mempool().updates())).await?;
    Ok(describe(&template, &parent, updates))
}

/// BIP 22's long poll: until the tip changes, or after a minute if the mempool did. Core: `getblocktemplate`.
async fn wait_for_change(cx: &Context, id: &Value) -> Result<(), RpcError> {
    const FIRST: u64 = 60;
    const LATER: u64 = 10;
    let (hash, updates) = match id.as_str() {
        Some(text) => {
            let (hash, updates) = text.split_at_checked(64).unwrap_or((text, ""));
            (argument::hash(&Value::from(hash), "longpollid")?, updates.parse().unwrap_or(0))
        }
        // What is no id stands for the template that would be made now.
        None => (cx.node.tip().hash.to_raw_hash(), cx.run(|ledger| ledger.mempool().updates()).await?),
    };
    let mut tips = cx.node.tips();
    let mut stopping = cx.stopping();
    let mut pause = FIRST;
    loop {
        tokio::select! {
            _ = tips.wait_for(|tip| tip.hash.to_raw_hash() != hash) => return Ok(()),
            _ = stopping.wait_for(|stop| *stop) => {
                return Err(RpcError::new(code::CLIENT_NOT_CONNECTED, "Shutting down"));
            }
            () = tokio::time::sleep(std::time::Duration::from_secs(pause)) => {}
        }
        pause = LATER;
        if cx.run(|ledger| ledger.mempool().updates()).await? != updates {
            return Ok(());
        }
    }
}

fn describe(template: &Template, parent: &Parent, updates: u64) -> Value {
    let block = &template.block;
    let coinbase = block.txdata.first();
    let reward = coinbase.and_then(|coinbase| coinbase.output.first()).map_or(0, |output| output.value.to_sat());
    let commitment = coinbase.and_then(|coinbase| coinbase.output.get(1));
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| object.insert(name.into(), value);
    put("capabilities", json!(["proposal"]));
    put("version", block.header.version.to_consensus().into());
    put("rules", json!(["csv", "!segwit", "taproot"]));
    put("vbavailable", json!({}));
    put("vbrequired", 0.into());
    put("previousblockhash", block.header.prev_blockhash.to_string().into());
    put("transactions", transactions(template));
    put("coinbaseaux", json!({}));
    put("coinbasevalue", reward.into());
    put("longpollid", format!("{}{updates}", block.header.prev_blockhash).into());
    put("target", render::target_hex(block.header.bits).into());
    put("mintime", parent.min_time.into());
    put("mutable", json!(["time", "transactions", "prevblock"]));
    put("noncerange", "00000000ffffffff".into());
    put("sigoplimit", 80_000.into());
    put("sizelimit", 4_000_000.into());
    put("weightlimit", 4_000_000.into());
    put("curtime", block.header.time.into());
    put("bits", format!("{:08x}", block.header.bits.to_consensus()).into());
    put("height", parent.height.into());
    if let Some(commitment) = commitment {
        put("default_witness_commitment", commitment.script_pubkey.to_hex_string().into());
    }
    Value::Object(object)
}

fn transactions(template: &Template) -> Value {
    let mut places: BTreeMap<Txid, usize> = BTreeMap::new();
    let listed = template.block.txdata.iter().skip(1).zip(&template.fees).zip(&template.sigops).enumerate();
    let listed = listed.map(|(index, ((transaction, fee), sigops))| {
        let txid = transaction.compute_txid();
        let inputs = transaction.input.iter();
        let depends: Vec<usize> = inputs.filter_map(|input| places.get(&input.previous_output.txid)).copied().collect();
        places.insert(txid, index + 1);
        json!({
            "data": serialize_hex(transaction),
            "txid": txid.to_string(),
            "hash": transaction.compute_wtxid().to_string(),
            "depends": depends,
            "fee": fee,
            "sigops": sigops,
            "weight": transaction.weight().to_wu(),
        })
    });
    listed.collect::<Vec<_>>().into()
}

fn decode_block(text: &str) -> Result<Block, RpcError> {
    let failed = || RpcError::new(code::DESERIALIZATION, "Block decode failed");
    let bytes = hex::decode(text).map_err(|_| failed())?;
    decode::decode_block(&bytes).map(|(block, _)| block).map_err(|_| failed())
}

/// A block without proof of work: would it be valid? (BIP 23)
async fn propose(cx: &Context, request: &Map<String, Value>) -> Result<Value, RpcError> {
    let data = request.get("data").and_then(Value::as_str);
    let data = data.ok_or_else(|| RpcError::new(code::TYPE, "Missing data String key for proposal"))?;
    let block = HashedBlock::new(decode_block(data)?);
    cx.run(move |ledger| match known(ledger, &block) {
        Some(word) => word.into(),
        None if block.block().header.prev_blockhash != ledger.chain().tip_entry().hash => {
            "inconclusive-not-best-prevblk".into()
        }
        None => {
            let root = check_merkle_root(&block).map_err(BlockError::from);
            let verdict = root.and_then(|()| ledger.check_template(&block));
            verdict.map_or_else(|error| error.reject_reason().into(), |_| Value::Null)
        }
    })
    .await
}

/// BIP 22's word for a block that is here already.
fn known(ledger: &Ledger, block: &HashedBlock) -> Option<&'static str> {
    let chain = ledger.chain();
    let id = chain.find(&block.hash())?;
    Some(match chain.entry(id) {
        entry if entry.is_failed => "duplicate-invalid",
        // Undo data is written when a block is connected for the first time.
        entry if entry.undo.is_some() || entry.height == 0 => "duplicate",
        _ => "duplicate-inconclusive",
    })
}

async fn submitblock(cx: &Context, params: Params) -> Result<Value, RpcError> {
    let mut block = decode_block(params.text(0)?)?;
    // Miners may leave out the coinbase's witness.
    add_witness_reserved_value(&mut block);
    let block = Arc::new(HashedBlock::new(block));
    let outcome = cx.run(move |ledger| ledger.submit(block, Source::Requested)).await?;
    let outcome = outcome.map_err(|error| RpcError::new(code::DATABASE, error.to_string()))?;
    Ok(outcome.reason().map_or(Value::Null, Value::from))
}
