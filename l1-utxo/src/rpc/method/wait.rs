//! Methods that wait for the tip to move (Core: `rpc/blockchain.cpp`).

use std::time::Duration;

use bitcoin::BlockHash;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::Method;
use super::block::block_hash;
use crate::driver::Tip;
use crate::rpc::Context;
use crate::rpc::argument::{Argument, Kind, Params, optional, required};
use crate::rpc::dialect::{RpcError, code};

const TIMEOUT: Argument = optional("timeout", Kind::Number, "Time in milliseconds to wait. 0 indicates no timeout");

pub(super) const METHODS: &[Method] = &[
    Method {
        name: "waitforblock",
        category: "blockchain",
        arguments: &[required("blockhash", Kind::Text, "Block hash to wait for"), TIMEOUT],
        about: "Waits for a specific new block and returns the tip, on timeout or exit too.",
        run: |cx, params| Box::pin(waitforblock(cx, params)),
    },
    Method {
        name: "waitforblockheight",
        category: "blockchain",
        arguments: &[required("height", Kind::Number, "Block height to wait for"), TIMEOUT],
        about: "Waits for (at least) block height and returns the tip, on timeout or exit too.",
        run: |cx, params| Box::pin(waitforblockheight(cx, params)),
    },
    Method {
        name: "waitfornewblock",
        category: "blockchain",
        arguments: &[TIMEOUT, optional("current_tip", Kind::Text, "Waits for the chain tip to differ from this")],
        about: "Waits for any new block and returns the tip, on timeout or exit too.",
        run: |cx, params| Box::pin(waitfornewblock(cx, params)),
    },
];

async fn waitfornewblock(cx: &Context, params: Params) -> Result<Value, RpcError> {
    let limit = limit(&params, 0)?;
    let from = if params.has(1) { block_hash(&params, 1, "current_tip")? } else { cx.node.tip().hash };
    wait(cx, limit, |tip| tip.hash != from).await
}

async fn waitforblock(cx: &Context, params: Params) -> Result<Value, RpcError> {
    let hash: BlockHash = block_hash(&params, 0, "blockhash")?;
    let limit = limit(&params, 1)?;
    wait(cx, limit, |tip| tip.hash == hash).await
}

async fn waitforblockheight(cx: &Context, params: Params) -> Result<Value, RpcError> {
    let height = i64::from(params.int(0)?);
    let limit = limit(&params, 1)?;
    wait(cx, limit, |tip| i64::from(tip.height) >= height).await
}

fn limit(params: &Params, position: usize) -> Result<Option<Duration>, RpcError> {
    let timeout =
        u64::try_from(params.int_or(position, 0)?).map_err(|_| RpcError::new(code::MISC, "Negative timeout"))?;
    Ok((timeout > 0).then(|| Duration::from_millis(timeout)))
}

/// Waits until the tip is as wanted, the time is over or the node stops, whichever comes first.
async fn wait(
    cx: &Context,
    limit: Option<Duration>,
    mut is_wanted: impl FnMut(&Tip) -> bool,
) -> Result<Value, RpcError> {
    let mut tips = cx.node.tips();
    let mut stopping = cx.stopping();
    let arrival = async {
        tokio::select! {
            // Both end with an error only when the node is gone, which ends the wait as well.
            _ = tips.wait_for(|tip| is_wanted(tip)) => {}
            _ = stopping.wait_for(|stop| *stop) => {}
        }
    };
    match limit {
        None => arrival.await,
        // A timeout is no error here.
        Some(limit) => drop(timeout(limit, arrival).await),
    }
    let tip = cx.node.tip();
    Ok(json!({"hash": tip.hash.to_string(), "height": tip.height}))
}
