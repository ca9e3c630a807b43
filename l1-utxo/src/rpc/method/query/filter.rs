//! What the indexes hold: block filters for light clients, and where transactions are (Core: `rpc/blockchain.cpp`,
//! `rpc/node.cpp`).

use serde_json::{Map, Value, json};

use super::Method;
use crate::driver::Ledger;
use crate::rpc::Context;
use crate::rpc::argument::{Kind, Params, optional, required};
use crate::rpc::dialect::{RpcError, code};
use crate::rpc::method::block::{block_hash, known};

pub(super) const METHODS: &[Method] = &[
    Method {
        name: "getblockfilter",
        category: "blockchain",
        arguments: &[
            required("blockhash", Kind::Text, "The hash of the block"),
            optional("filtertype", Kind::Text, "The type name of the filter; basic is the only one"),
        ],
        about: "Retrieve a BIP 157 content filter for a particular block.",
        run: |cx, params| Box::pin(getblockfilter(cx, params)),
    },
    Method {
        name: "getindexinfo",
        category: "util",
        arguments: &[optional("index_name", Kind::Text, "Filter results for an index with a specific name")],
        about: "Returns the status of one or all available indices currently running in the node.",
        run: |cx, params| Box::pin(getindexinfo(cx, params)),
    },
];

async fn getblockfilter(cx: &Context, params: Params) -> Result<Value, RpcError> {
    let hash = block_hash(&params, 0, "blockhash")?;
    if params.has(1) && params.text(1)? != "basic" {
        return Err(RpcError::new(code::INVALID_ADDRESS_OR_KEY, "Unknown filtertype"));
    }
    cx.run(move |ledger| filter(ledger, &hash)).await?
}

fn filter(ledger: &mut Ledger, hash: &bitcoin::BlockHash) -> Result<Value, RpcError> {
    if !ledger.indexes().filters {
        return Err(RpcError::new(code::MISC, "Index is not enabled for filtertype basic"));
    }
    let id = known(ledger, hash)?;
    let row = ledger.block_filter(id).zip(ledger.filter_header(id));
    let Some((filter, (header, _))) = row else {
        let was_connected = ledger.chain().entry(id).undo.is_some();
        let (code, why) = if was_connected && !ledger.index_status().is_synced {
            (code::MISC, "Block filters are still in the process of being indexed.")
        } else if was_connected {
            (code::INTERNAL, "This error is unexpected and indicates index corruption.")
        } else {
            (code::INVALID_ADDRESS_OR_KEY, "Block was not connected to active chain.")
        };
        return Err(RpcError::new(code, format!("Filter not found. {why}")));
    };
    Ok(json!({"filter": hex::encode(filter), "header": header.to_string()}))
}

async fn getindexinfo(cx: &Context, params: Params) -> Result<Value, RpcError> {
    let wanted = if params.has(0) { params.text(0)?.to_owned() } else { String::new() };
    cx.run(move |ledger| {
        let status = ledger.index_status();
        let kept = ledger.indexes();
        let names = [
            ("txindex", kept.transactions),
            ("coinstatsindex", kept.coin_stats),
            ("txospenderindex", kept.spenders),
            ("basic block filter index", kept.filters),
        ];
        let shown = names.into_iter().filter(|(name, runs)| *runs && (wanted.is_empty() || wanted == *name));
        let shown = shown.map(|(name, _)| {
            let value = json!({"synced": status.is_synced, "best_block_height": status.height});
            (name.to_owned(), value)
        });
        Value::Object(shown.collect::<Map<_, _>>())
    })
    .await
}
