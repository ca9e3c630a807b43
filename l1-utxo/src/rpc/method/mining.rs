//! Templates out, blocks in (Core: `rpc/mining.cpp`, BIP 22, BIP 23, BIP 145).

use std::sync::Arc;

use bitcoin::Block;
use bitcoin::block::Header;
use bitcoin::consensus::encode::deserialize_partial;
use bitcoin::hex::FromHex;
use serde_json::{Map, Value};

use super::Method;
use crate::chain::Source;
use crate::consensus::block::{add_witness_reserved_value, check_merkle_root};
use crate::consensus::decode;
use crate::consensus::{BlockError, HashedBlock};
use crate::driver::Ledger;
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
        // Its answer is large: the server takes it as text, see `text_of`.
        run: |cx, params| {
            Box::pin(async { Ok(serde_json::from_str(&getblocktemplate(cx, params).await?).unwrap_or_default()) })
        },
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
    Method {
        name: "submitheader",
        category: "mining",
        arguments: &[required("hexdata", Kind::Text, "the hex-encoded block header data")],
        about: "Decode the given hexdata as a header and submit it as a candidate chain tip if valid.",
        run: |cx, params| Box::pin(submitheader(cx, params)),
    },
];

/// The template as JSON text.
pub async fn getblocktemplate(cx: &Context, params: Params) -> Result<String, RpcError> {
    let request = argument::object(params.get(0))?;
    let invalid = |message: &str| RpcError::new(code::INVALID_PARAMETER, message);
    match request.get("mode") {
        None | Some(Value::Null) => {}
        Some(Value::String(mode)) if mode == "template" => {}
        Some(Value::String(mode)) if mode == "proposal" => return Ok(propose(cx, request).await?.to_string()),
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
    let last = cx.template.latest();
    let (written, draft, parent, updates) = cx
        .run(move |ledger| {
            let (parent, updates) = (ledger.parent(), ledger.mempool().updates());
            let last = last.filter(|last| last.is_at(parent.hash, updates));
            let draft = if last.is_none() { Some(ledger.draft()) } else { None };
            (last, draft, parent, updates)
        })
        .await?;
    // Written here, for the validation thread has better things to do.
    let written = match (written, draft) {
        (Some(last), _) => last,
        (None, Some(draft)) => cx.template.write(&draft, updates),
        (None, None) => return Err(RpcError::new(code::INTERNAL, "no template was made")),
    };
    Ok(render::template(&written, &parent))
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

async fn submitheader(cx: &Context, params: Params) -> Result<Value, RpcError> {
    // Whole blocks are taken, too: what follows the header is not looked at.
    let bytes = Vec::from_hex(params.text(0)?).unwrap_or_default();
    let header: Header = deserialize_partial(&bytes)
        .map(|(header, _)| header)
        .map_err(|_| RpcError::new(code::DESERIALIZATION, "Block header decode failed"))?;
    cx.run(move |ledger| {
        let parent = header.prev_blockhash;
        if ledger.chain().find(&parent).is_none() {
            let message = format!("Must submit previous header ({parent}) first");
            return Err(RpcError::new(code::VERIFY, message));
        }
        match ledger.accept_header(&header) {
            Ok(_) => Ok(Value::Null),
            Err(error) => Err(RpcError::new(code::VERIFY, error.reject_reason())),
        }
    })
    .await?
}

async fn submitblock(cx: &Context, params: Params) -> Result<Value, RpcError> {
    let mut block = decode_block(params.text(0)?)?;
    let from = cx.params().activation.segwit;
    let outcome = cx.run(move |ledger| {
        let parent = ledger.chain().find(&block.header.prev_blockhash);
        // Miners may leave out the coinbase's witness.
        if parent.is_some_and(|parent| ledger.chain().entry(parent).height + 1 >= from) {
            add_witness_reserved_value(&mut block);
        }
        ledger.submit(Arc::new(HashedBlock::new(block)), Source::Requested)
    });
    let outcome = outcome.await?;
    let outcome = outcome.map_err(|error| RpcError::new(code::DATABASE, error.to_string()))?;
    Ok(outcome.reason().map_or(Value::Null, Value::from))
}
