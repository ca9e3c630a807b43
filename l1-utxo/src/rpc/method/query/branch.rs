//! The chain's branches and its pace (Core: `rpc/blockchain.cpp`).

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::Method;
use crate::chain::{BlockId, Entry};
use crate::consensus::block::{check_block, check_block_in_context};
use crate::driver::Ledger;
use crate::rpc::argument::{Kind, Params, optional, required};
use crate::rpc::dialect::{RpcError, code};
use crate::rpc::method::block::{block_hash, known};
use crate::rpc::{Context, render};

/// Seconds of Core's default window.
const MONTH: u32 = 30 * 24 * 60 * 60;
/// Blocks that `verifychain` looks at by default (Core: `DEFAULT_CHECKBLOCKS`).
const CHECK_BLOCKS: i32 = 6;
/// How thoroughly by default (Core: `DEFAULT_CHECKLEVEL`).
const CHECK_LEVEL: i32 = 3;

pub(super) const METHODS: &[Method] = &[
    Method {
        name: "getchainstates",
        category: "blockchain",
        arguments: &[],
        about: "Return information about chainstates.",
        run: |cx, _| Box::pin(getchainstates(cx)),
    },
    Method {
        name: "getchaintips",
        category: "blockchain",
        arguments: &[],
        about: "Return information about all known tips in the block tree, including the main chain as well as orphaned \
                branches.",
        run: |cx, _| Box::pin(getchaintips(cx)),
    },
    Method {
        name: "getchaintxstats",
        category: "blockchain",
        arguments: &[
            optional("nblocks", Kind::Number, "Size of the window in number of blocks; one month by default"),
            optional("blockhash", Kind::Text, "The hash of the block that ends the window; the tip by default"),
        ],
        about: "Compute statistics about the total number and rate of transactions in the chain.",
        run: |cx, params| Box::pin(getchaintxstats(cx, params)),
    },
    Method {
        name: "pruneblockchain",
        category: "blockchain",
        arguments: &[required("height", Kind::Number, "The block height to prune up to")],
        about: "Blocks are never pruned here.",
        run: |_, _| {
            Box::pin(async {
                let message = "Cannot prune blocks because node is not in prune mode.";
                Err(RpcError::new(code::MISC, message))
            })
        },
    },
    Method {
        name: "syncwithvalidationinterfacequeue",
        category: "hidden",
        arguments: &[],
        about: "Waits for what the validation thread had to do when this was called.",
        run: |cx, _| Box::pin(async { cx.run(|_| Value::Null).await }),
    },
    Method {
        name: "verifychain",
        category: "blockchain",
        arguments: &[
            optional("checklevel", Kind::Number, "How thorough the block verification is, 0 to 4"),
            optional("nblocks", Kind::Number, "The number of blocks to check; 0 for all"),
        ],
        about: "Verifies blockchain database.",
        run: |cx, params| Box::pin(verifychain(cx, params)),
    },
];

async fn getchaintips(cx: &Context) -> Result<Value, RpcError> {
    cx.run(|ledger| {
        let chain = ledger.chain();
        let off: Vec<BlockId> = chain.index().ids().filter(|id| !chain.is_active(*id)).collect();
        let parents: BTreeSet<BlockId> = off.iter().filter_map(|id| chain.entry(*id).parent).collect();
        let mut tips: Vec<BlockId> = off.into_iter().filter(|id| !parents.contains(id)).collect();
        tips.push(chain.tip());
        tips.sort_by_key(|id| std::cmp::Reverse(chain.entry(*id).height));
        let described = tips.into_iter().map(|id| {
            let entry = chain.entry(id);
            json!({
                "height": entry.height,
                "hash": entry.hash.to_string(),
                "branchlen": branch_length(ledger, id),
                "status": status(ledger, id, entry),
            })
        });
        described.collect::<Vec<_>>().into()
    })
    .await
}

fn branch_length(ledger: &Ledger, id: BlockId) -> u32 {
    let chain = ledger.chain();
    let (mut at, mut length) = (id, 0);
    while !chain.is_active(at) {
        length += 1;
        // Block 0 is always active.
        let Some(parent) = chain.entry(at).parent else { break };
        at = parent;
    }
    length
}

fn status(ledger: &Ledger, id: BlockId, entry: &Entry) -> &'static str {
    match entry {
        _ if ledger.chain().is_active(id) => "active",
        entry if entry.is_failed => "invalid",
        entry if entry.chain_transaction_count == 0 => "headers-only",
        // Undo data is written when a block is connected for the first time.
        entry if entry.undo.is_some() => "valid-fork",
        _ => "valid-headers",
    }
}

async fn getchaintxstats(cx: &Context, params: Params) -> Result<Value, RpcError> {
    let asked = if params.has(1) { Some(block_hash(&params, 1, "blockhash")?) } else { None };
    let count = if params.has(0) { Some(params.int(0)?) } else { None };
    cx.run(move |ledger| chain_statistics(ledger, asked, count)).await?
}

fn chain_statistics(ledger: &Ledger, asked: Option<bitcoin::BlockHash>, count: Option<i32>) -> Result<Value, RpcError> {
    let invalid = |message: &str| RpcError::new(code::INVALID_PARAMETER, message);
    let chain = ledger.chain();
    let id = asked.map_or(Ok(chain.tip()), |hash| known(ledger, &hash))?;
    if !chain.is_active(id) {
        return Err(invalid("Block is not in main chain"));
    }
    let last = chain.entry(id);
    let month = MONTH / chain.params().pow_target_spacing.max(1);
    let count = match count {
        None => month.min(last.height.saturating_sub(1)),
        Some(count) => u32::try_from(count)
            .ok()
            .filter(|count| *count == 0 || *count < last.height)
            .ok_or_else(|| invalid("Invalid block count: should be between 0 and the block's height - 1"))?,
    };
    let first = chain.at_height(last.height - count).map_or(last, |id| chain.entry(id));
    let interval = i64::from(last.median_time_past) - i64::from(first.median_time_past);
    let mut object = Map::new();
    object.insert("time".into(), last.header.time.into());
    object.insert("txcount".into(), last.chain_transaction_count.into());
    object.insert("window_final_block_hash".into(), last.hash.to_string().into());
    object.insert("window_final_block_height".into(), last.height.into());
    object.insert("window_block_count".into(), count.into());
    if count > 0 {
        let transactions = last.chain_transaction_count - first.chain_transaction_count;
        object.insert("window_interval".into(), interval.into());
        object.insert("window_tx_count".into(), transactions.into());
        if interval > 0 {
            object.insert("txrate".into(), render::double(transactions as f64 / interval as f64));
        }
    }
    Ok(Value::Object(object))
}

async fn getchainstates(cx: &Context) -> Result<Value, RpcError> {
    cx.run(|ledger| {
        let chain = ledger.chain();
        let tip = chain.tip_entry();
        let headers = chain.entry(chain.best_header()).height;
        json!({
            "headers": headers,
            "chainstates": [{
                "blocks": tip.height,
                "bestblockhash": tip.hash.to_string(),
                "bits": format!("{:08x}", tip.header.bits.to_consensus()),
                "target": render::target_hex(tip.header.bits),
                "difficulty": render::difficulty(tip.header.bits),
                "verificationprogress":
                    render::double(f64::from(tip.height + 1) / f64::from(headers.max(tip.height) + 1)),
                "coins_db_cache_bytes": ledger.coins_cache_bytes(),
                "coins_tip_cache_bytes": chain.coins_memory(),
                "validated": true,
            }],
        })
    })
    .await
}

async fn verifychain(cx: &Context, params: Params) -> Result<Value, RpcError> {
    let level = params.int_or(0, CHECK_LEVEL)?;
    let count = usize::try_from(params.int_or(1, CHECK_BLOCKS)?).ok().filter(|count| *count > 0);
    let mut height = cx.node.tip().height;
    let mut left = count.unwrap_or(usize::MAX);
    // One block a turn: others come between.
    while left > 0 && height > 0 && !*cx.stopping().borrow() {
        if let Err(problem) = cx.run(move |ledger| verify(ledger, height, level)).await? {
            tracing::error!(height, problem, "verifychain: a block is not as it should be");
            return Ok(false.into());
        }
        left -= 1;
        height -= 1;
    }
    Ok(true.into())
}

/// Reads a block of the active chain again, from level 1 checks it, from level 2 reads its undo data, from level 3
/// compares the two.
fn verify(ledger: &Ledger, height: u32, level: i32) -> Result<(), &'static str> {
    let chain = ledger.chain();
    // The chain may have become shorter meanwhile.
    let Some(id) = chain.at_height(height) else { return Ok(()) };
    let block = ledger.read_block(id).map_err(|_| "it cannot be read")?;
    if level >= 1 {
        let parent_time = chain.median_time_past_at(height.saturating_sub(1));
        check_block(&block, chain.params(), true).map_err(|_| "it breaks a rule")?;
        check_block_in_context(&block, height, parent_time, chain.params())
            .map_err(|_| "it breaks a rule at its place")?;
    }
    if level >= 2 {
        let undo = ledger.read_undo(id).map_err(|_| "its undo data cannot be read")?;
        let spends: Vec<usize> =
            block.transactions().iter().skip(1).map(|transaction| transaction.input.len()).collect();
        let undone: Vec<usize> = undo.spent.iter().map(Vec::len).collect();
        if level >= 3 && spends != undone {
            return Err("its undo data is another's");
        }
    }
    Ok(())
}
