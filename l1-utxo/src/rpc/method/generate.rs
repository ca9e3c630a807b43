//! Blocks made on demand (Core: `rpc/mining.cpp`).

use std::sync::Arc;

use bitcoin::{Block, BlockHash, ScriptBuf, Transaction, Txid};
use serde_json::{Value, json};

use super::Method;
use super::network::decode_address;
use super::rawtransaction::{Encodings, decode};
use crate::driver::{Ledger, MineError, Mined, Solution, solve};
use crate::params::Network;
use crate::rpc::Context;
use crate::rpc::argument::{self, Kind, Params, optional, required};
use crate::rpc::descriptor::Descriptor;
use crate::rpc::dialect::{RpcError, code};

/// Nonces that one call tries at most on regtest (Core: `DEFAULT_MAX_TRIES`).
const DEFAULT_MAX_TRIES: u64 = 1_000_000;
/// Blocks made in one go on the validation thread: other calls come between.
const BATCH: usize = 64;

pub(super) const METHODS: &[Method] = &[
    Method {
        name: "generate",
        category: "hidden",
        arguments: &[],
        about: "has been replaced by the -generate cli option. Refer to -help for more information.",
        run: |_, _| {
            Box::pin(async {
                let help = super::find("generate").map(Method::help).unwrap_or_default();
                Err(RpcError::new(code::METHOD_NOT_FOUND, help))
            })
        },
    },
    Method {
        name: "generateblock",
        category: "hidden",
        arguments: &[
            required("output", Kind::Text, "The address or descriptor (addr or raw) to mine to"),
            required("transactions", Kind::List, "Hex strings: txids of the mempool, or raw transactions")
                .shown("[\"rawtx/txid\",...]"),
            optional("submit", Kind::Bool, "Whether to submit the block, or to return it as hex"),
        ],
        about: "Mine a set of ordered transactions to a specified address or descriptor and return the block hash.",
        run: |cx, params| Box::pin(generateblock(cx, params)),
    },
    Method {
        name: "generatetoaddress",
        category: "hidden",
        arguments: &[
            required("nblocks", Kind::Number, "How many blocks are generated"),
            required("address", Kind::Text, "The address to send the newly generated bitcoin to"),
            optional("maxtries", Kind::Number, "How many iterations to try"),
        ],
        about: "Mine to a specified address and return the block hashes.",
        run: |cx, params| Box::pin(generatetoaddress(cx, params)),
    },
    Method {
        name: "generatetodescriptor",
        category: "hidden",
        arguments: &[
            required("num_blocks", Kind::Number, "How many blocks are generated"),
            required("descriptor", Kind::Text, "The descriptor to send the newly generated bitcoin to"),
            optional("maxtries", Kind::Number, "How many iterations to try"),
        ],
        about: "Mine to a specified descriptor and return the block hashes.",
        run: |cx, params| Box::pin(generatetodescriptor(cx, params)),
    },
];

async fn generatetoaddress(cx: &Context, params: Params) -> Result<Value, RpcError> {
    let script = decode_address(params.text(1)?)
        .map_err(|_| RpcError::new(code::INVALID_ADDRESS_OR_KEY, "Error: Invalid address"))?;
    generate(cx, &params, script).await
}

async fn generatetodescriptor(cx: &Context, params: Params) -> Result<Value, RpcError> {
    let script = descriptor_script(params.text(1)?)?;
    generate(cx, &params, script).await
}

/// Core's `getScriptFromDescriptor`: one that stands for one script, or for several of which miners take the usual one.
fn descriptor_script(text: &str) -> Result<ScriptBuf, RpcError> {
    let refused = |message: String| RpcError::new(code::INVALID_ADDRESS_OR_KEY, message);
    let descriptors = Descriptor::parse(text, false)?;
    let [descriptor] = descriptors.as_slice() else {
        return Err(RpcError::new(code::INVALID_PARAMETER, "Multipath descriptor not accepted"));
    };
    if descriptor.is_range() {
        let message = "Ranged descriptor not accepted. Maybe pass through deriveaddresses first?";
        return Err(RpcError::new(code::INVALID_PARAMETER, message));
    }
    let scripts = descriptor.expand(0)?;
    // Of combo's scripts Core takes the one of the key's hash, or of its witness program if there is one.
    let chosen = if scripts.len() == 4 { scripts.into_iter().nth(2) } else { scripts.into_iter().next_back() };
    chosen.map(|(script, _)| script).ok_or_else(|| refused("Cannot derive script without private keys".into()))
}

async fn generate(cx: &Context, params: &Params, script: ScriptBuf) -> Result<Value, RpcError> {
    let count = usize::try_from(params.int(0)?).unwrap_or(0);
    // On a network with real work a block takes millions of tries: there the default does not limit.
    let default = if cx.network == Network::Regtest { DEFAULT_MAX_TRIES } else { u64::MAX };
    let mut tries = if params.has(2) { u64::try_from(params.int(2)?).unwrap_or(u64::MAX) } else { default };
    let mut hashes: Vec<BlockHash> = Vec::new();
    while hashes.len() < count && tries > 0 && !*cx.stopping().borrow() {
        let missing = (count - hashes.len()).min(BATCH);
        let script = script.clone();
        let mined: Mined = cx.run(move |ledger| ledger.mine(&script, missing, tries)).await?.map_err(refused)?;
        hashes.extend(mined.hashes);
        tries -= mined.tries;
        let Some(unsolved) = mined.unsolved else {
            continue;
        };
        let solution = search(cx, unsolved, tries).await;
        tries = tries.saturating_sub(solution.tries);
        if let Some(block) = solution.block {
            let hash = block.block_hash();
            cx.run(move |ledger| ledger.submit_own(block)).await?.map_err(refused)?;
            hashes.push(hash);
        }
    }
    Ok(hashes.iter().map(|hash| Value::from(hash.to_string())).collect::<Vec<_>>().into())
}

/// Looks for a nonce off the validation thread; given up when another block comes or the node stops.
async fn search(cx: &Context, block: Block, tries: u64) -> Solution {
    let parent = block.header.prev_blockhash;
    let (tips, stopping) = (cx.node.tips(), cx.stopping());
    solve(block, tries, cx.params(), move || *stopping.borrow() || tips.borrow().hash != parent).await
}

fn refused(error: MineError) -> RpcError {
    tracing::error!(%error, "a block of our own was not taken");
    RpcError::new(code::INTERNAL, format!("ProcessNewBlock, block not accepted: {error}"))
}

async fn generateblock(cx: &Context, params: Params) -> Result<Value, RpcError> {
    let script = output_script(params.text(0)?)?;
    let listed = params.list(1)?.to_vec();
    let submit = params.bool_or(2, true)?;
    let block = cx.run(move |ledger| assemble(ledger, &script, &listed)).await??;
    let tries = if cx.network == Network::Regtest { DEFAULT_MAX_TRIES } else { u64::MAX };
    // It was asked for on top of this tip: it is made even if another block comes meanwhile.
    let stopping = cx.stopping();
    let solution = solve(block, tries, cx.params(), move || *stopping.borrow()).await;
    let block = solution.block.ok_or_else(|| RpcError::new(code::MISC, "Failed to make block."))?;
    let hash = block.block_hash().to_string();
    if !submit {
        return Ok(json!({"hash": hash, "hex": bitcoin::consensus::encode::serialize_hex(&block)}));
    }
    cx.run(move |ledger| ledger.submit_own(block)).await?.map_err(refused)?;
    Ok(json!({"hash": hash}))
}

/// A descriptor, or an address.
fn output_script(text: &str) -> Result<ScriptBuf, RpcError> {
    if Descriptor::parse(text, false).is_ok() {
        return descriptor_script(text);
    }
    let none = |_| RpcError::new(code::INVALID_ADDRESS_OR_KEY, "Error: Invalid address or descriptor");
    decode_address(text).map_err(none)
}

fn assemble(ledger: &mut Ledger, script: &ScriptBuf, listed: &[Value]) -> Result<Block, RpcError> {
    let transactions =
        listed.iter().map(|item| transaction(ledger, argument::text(item)?)).collect::<Result<Vec<_>, _>>()?;
    let transactions = transactions.iter().map(|transaction| Transaction::clone(transaction)).collect();
    ledger
        .assemble(script, transactions)
        .map_err(|error| RpcError::new(code::VERIFY, format!("TestBlockValidity failed: {}", error.state())))
}

fn transaction(ledger: &Ledger, text: &str) -> Result<Arc<Transaction>, RpcError> {
    if let Ok(txid) = text.parse::<Txid>() {
        let entry = ledger.mempool().entry(&txid);
        return entry
            .map(|entry| Arc::clone(&entry.transaction))
            .ok_or_else(|| RpcError::new(code::INVALID_ADDRESS_OR_KEY, format!("Transaction {text} not in mempool.")));
    }
    decode(text, Encodings::Witness).map(Arc::new).ok_or_else(|| {
        let message = format!("Transaction decode failed for {text}. Make sure the tx has at least one input.");
        RpcError::new(code::DESERIALIZATION, message)
    })
}
