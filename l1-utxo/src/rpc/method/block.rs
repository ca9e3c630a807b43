//! Blocks and headers (Core: `rpc/blockchain.cpp`).

use std::sync::Arc;

use bitcoin::BlockHash;
use bitcoin::consensus::encode::serialize_hex;
use serde_json::Value;

use super::Method;
use crate::chain::{BlockId, BlockUndo};
use crate::consensus::HashedBlock;
use crate::driver::Ledger;
use crate::rpc::Context;
use crate::rpc::argument::{Kind, Params, optional, required};
use crate::rpc::dialect::{RpcError, code};
use crate::rpc::render::{self, BlockView};

pub(super) const METHODS: &[Method] = &[
    Method {
        name: "getbestblockhash",
        category: "blockchain",
        arguments: &[],
        about: "Returns the hash of the best (tip) block in the most-work fully-validated chain.",
        run: |cx, _| Box::pin(getbestblockhash(cx)),
    },
    Method {
        name: "getblock",
        category: "blockchain",
        arguments: &[
            required("blockhash", Kind::Text, "The block hash"),
            optional(
                "verbosity|verbose",
                Kind::Any,
                "0 for hex, 1 for an object, 2 with transactions, 3 with prevouts",
            ),
        ],
        about: "Returns a block, as hex or as an object.",
        run: |cx, params| Box::pin(getblock(cx, params)),
    },
    Method {
        name: "getblockcount",
        category: "blockchain",
        arguments: &[],
        about: "Returns the height of the most-work fully-validated chain. The genesis block has height 0.",
        run: |cx, _| Box::pin(getblockcount(cx)),
    },
    Method {
        name: "getblockhash",
        category: "blockchain",
        arguments: &[required("height", Kind::Number, "The height index")],
        about: "Returns hash of block in best-block-chain at height provided.",
        run: |cx, params| Box::pin(getblockhash(cx, params)),
    },
    Method {
        name: "getblockheader",
        category: "blockchain",
        arguments: &[
            required("blockhash", Kind::Text, "The block hash"),
            optional("verbose", Kind::Bool, "true for an object, false for hex"),
        ],
        about: "Returns a block's header, as hex or as an object.",
        run: |cx, params| Box::pin(getblockheader(cx, params)),
    },
];

async fn getbestblockhash(cx: &Context) -> Result<Value, RpcError> {
    Ok(cx.node.tip().hash.to_string().into())
}

async fn getblockcount(cx: &Context) -> Result<Value, RpcError> {
    Ok(cx.node.tip().height.into())
}

async fn getblockhash(cx: &Context, params: Params) -> Result<Value, RpcError> {
    let out_of_range = || RpcError::new(code::INVALID_PARAMETER, "Block height out of range");
    let height = u32::try_from(params.int(0)?).map_err(|_| out_of_range())?;
    let hash = cx
        .run(move |ledger| ledger.chain().at_height(height).map(|id| ledger.chain().entry(id).hash))
        .await?
        .ok_or_else(out_of_range)?;
    Ok(hash.to_string().into())
}

async fn getblockheader(cx: &Context, params: Params) -> Result<Value, RpcError> {
    let hash = block_hash(&params, 0, "hash")?;
    let verbose = params.bool_or(1, true)?;
    let view = cx.run(move |ledger| Ok(view(ledger, known(ledger, &hash)?))).await??;
    Ok(if verbose { Value::Object(render::header(&view)) } else { serialize_hex(&view.header).into() })
}

async fn getblock(cx: &Context, params: Params) -> Result<Value, RpcError> {
    let hash = block_hash(&params, 0, "blockhash")?;
    let verbosity = params.verbosity(1, 1)?;
    if verbosity <= 0 {
        let bytes = cx.run(move |ledger| raw(ledger, known(ledger, &hash)?)).await??;
        return Ok(hex::encode(bytes).into());
    }
    let (view, block, undo) = cx
        .run(move |ledger| {
            let id = known(ledger, &hash)?;
            let block = body(ledger, id)?;
            let undo = if verbosity >= 2 { undo(ledger, id)? } else { None };
            Ok::<_, RpcError>((view(ledger, id), block, undo))
        })
        .await??;
    // Rendering is done here, for the validation thread has better things to do.
    Ok(render::block(&view, &block, undo.as_ref(), verbosity))
}

/// A parameter that is a block hash.
pub fn block_hash(params: &Params, position: usize, name: &str) -> Result<BlockHash, RpcError> {
    Ok(BlockHash::from_raw_hash(params.hash(position, name)?))
}

/// The block, or Core's "Block not found".
pub fn known(ledger: &Ledger, hash: &BlockHash) -> Result<BlockId, RpcError> {
    let not_found = || RpcError::new(code::INVALID_ADDRESS_OR_KEY, "Block not found");
    ledger.chain().find(hash).ok_or_else(not_found)
}

/// The block itself.
pub fn body(ledger: &Ledger, id: BlockId) -> Result<Arc<HashedBlock>, RpcError> {
    if ledger.chain().entry(id).data.is_none() {
        return Err(not_here());
    }
    ledger.read_block(id).map_err(unreadable)
}

/// The block as its bytes: neither read nor hashed.
pub fn raw(ledger: &Ledger, id: BlockId) -> Result<Vec<u8>, RpcError> {
    ledger.read_raw_block(id).map_err(unreadable)?.ok_or_else(not_here)
}

fn not_here() -> RpcError {
    RpcError::new(code::MISC, "Block not available (not fully downloaded)")
}

fn unreadable(error: impl std::fmt::Display) -> RpcError {
    tracing::error!(%error, "a block could not be read");
    RpcError::new(code::MISC, "Block not found on disk")
}

/// The coins it spent; `None` for blocks that were never connected.
pub fn undo(ledger: &Ledger, id: BlockId) -> Result<Option<BlockUndo>, RpcError> {
    if ledger.chain().entry(id).undo.is_none() {
        return Ok(None);
    }
    ledger.read_undo(id).map(Some).map_err(|error| {
        tracing::error!(%error, "undo data could not be read");
        let message = "Undo data expected but can't be read. This could be due to disk corruption or a conflict with a \
                       pruning event.";
        RpcError::new(code::INTERNAL, message)
    })
}

/// What is shown of a block besides its body.
pub fn view(ledger: &Ledger, id: BlockId) -> BlockView {
    let chain = ledger.chain();
    let entry = chain.entry(id);
    let confirmations = if chain.is_active(id) { i64::from(chain.height()) - i64::from(entry.height) + 1 } else { -1 };
    BlockView {
        header: entry.header,
        hash: entry.hash,
        height: entry.height,
        confirmations,
        median_time: entry.median_time_past,
        chain_work: entry.chain_work,
        transaction_count: entry.transaction_count,
        next: chain.next_active(id).map(|next| chain.entry(next).hash),
    }
}
