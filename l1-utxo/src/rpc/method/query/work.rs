//! How much work goes into the chain (Core: `rpc/mining.cpp`).

use serde_json::{Value, json};

use super::Method;
use crate::driver::Ledger;
use crate::rpc::argument::{Kind, Params, optional};
use crate::rpc::dialect::{RpcError, code};
use crate::rpc::{Context, render};

/// Blocks that the estimate looks back by default.
const LOOK_BACK: i32 = 120;

pub(super) const METHODS: &[Method] = &[
    Method {
        name: "getdifficulty",
        category: "blockchain",
        arguments: &[],
        about: "Returns the proof-of-work difficulty as a multiple of the minimum difficulty.",
        run: |cx, _| {
            Box::pin(async { cx.run(|ledger| render::difficulty(ledger.chain().tip_entry().header.bits)).await })
        },
    },
    Method {
        name: "getmininginfo",
        category: "mining",
        arguments: &[],
        about: "Returns a json object containing mining-related information.",
        run: |cx, _| Box::pin(getmininginfo(cx)),
    },
    Method {
        name: "getnetworkhashps",
        category: "mining",
        arguments: &[
            optional("nblocks", Kind::Number, "The number of previous blocks, or -1 for those since the last retarget"),
            optional("height", Kind::Number, "To estimate at the time of the given height"),
        ],
        about: "Returns the estimated network hashes per second based on the last n blocks.",
        run: |cx, params| Box::pin(getnetworkhashps(cx, params)),
    },
];

async fn getnetworkhashps(cx: &Context, params: Params) -> Result<Value, RpcError> {
    let (lookup, height) = (params.int_or(0, LOOK_BACK)?, params.int_or(1, -1)?);
    cx.run(move |ledger| hashes_per_second(ledger, lookup, height)).await?
}

/// Core's `GetNetworkHashPS`.
fn hashes_per_second(ledger: &Ledger, lookup: i32, height: i32) -> Result<Value, RpcError> {
    let invalid = |message: &str| RpcError::new(code::INVALID_PARAMETER, message);
    if lookup < -1 || lookup == 0 {
        return Err(invalid("Invalid nblocks. Must be a positive number or -1."));
    }
    let chain = ledger.chain();
    let last = match u32::try_from(height) {
        Ok(height) => chain.at_height(height),
        Err(_) if height == -1 => Some(chain.tip()),
        Err(_) => None,
    };
    let last = chain.entry(last.ok_or_else(|| invalid("Block does not exist at specified height"))?);
    if last.height == 0 {
        return Ok(0.into());
    }
    let since_retarget = last.height % chain.params().difficulty_adjustment_interval() + 1;
    let lookup = u32::try_from(lookup).unwrap_or(since_retarget).min(last.height);
    let blocks = (last.height - lookup..=last.height).filter_map(|height| chain.at_height(height));
    let times: Vec<u32> = blocks.map(|id| chain.entry(id).header.time).collect();
    let (first, latest) = (times.iter().min().copied().unwrap_or(0), times.iter().max().copied().unwrap_or(0));
    let Some(start) = chain.at_height(last.height - lookup).filter(|_| first != latest) else {
        return Ok(0.into());
    };
    let work = last.chain_work - chain.entry(start).chain_work;
    let work = work.to_be_bytes().iter().fold(0.0, |sum, byte| sum * 256.0 + f64::from(*byte));
    Ok(render::double(work / f64::from(latest - first)))
}

async fn getmininginfo(cx: &Context) -> Result<Value, RpcError> {
    let name = cx.network.name();
    cx.run(move |ledger| {
        let warnings = ledger.warnings();
        let (chain, parent) = (ledger.chain(), ledger.parent());
        let tip = chain.tip_entry();
        let hashes = hashes_per_second(ledger, LOOK_BACK, -1)?;
        let mut answer = json!({
            "blocks": tip.height,
            "currentblockweight": ledger.last_draft().map(|(_, weight)| weight),
            "currentblocktx": ledger.last_draft().map(|(count, _)| count),
            "bits": format!("{:08x}", tip.header.bits.to_consensus()),
            "difficulty": render::difficulty(tip.header.bits),
            "target": render::target_hex(tip.header.bits),
            "networkhashps": hashes,
            "pooledtx": ledger.mempool().len(),
            "blockmintxfee": render::feerate(ledger.mining_limits().min_feerate),
            "chain": name,
            "next": {
                "height": parent.height,
                "bits": format!("{:08x}", parent.bits.to_consensus()),
                "difficulty": render::difficulty(parent.bits),
                "target": render::target_hex(parent.bits),
            },
            "warnings": warnings,
        });
        // Until a block was put together there is none to tell of.
        if let Some(object) = answer.as_object_mut() {
            object.retain(|_, value| !value.is_null());
        }
        Ok(answer)
    })
    .await?
}
