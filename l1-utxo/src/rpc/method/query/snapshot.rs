//! All coins at a block as a file that Bitcoin Core reads (Core: `dumptxoutset` in `rpc/blockchain.cpp`).

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Method, Named};
use crate::chain::{CoinsHash, coins_stats};
use crate::driver::CoinsAt;
use crate::rpc::Context;
use crate::rpc::argument::{Argument, Kind, Params, optional, required, wrong_type};
use crate::rpc::dialect::{RpcError, code};
use crate::store::{Dump, DumpHead, is_pipe};

/// The highest block whose coins Core's regtest takes.
const LATEST_LOADABLE: i32 = 299;

pub(super) const METHODS: &[Method] = &[Method {
    name: "dumptxoutset",
    category: "blockchain",
    arguments: &[
        required("path", Kind::Text, "Path to the output file. If relative, will be prefixed by datadir."),
        optional("type", Kind::Text, "\"latest\" for the coins of now, or \"rollback\" for those of an earlier block"),
        Argument {
            options: &["rollback", "in_memory"],
            ..optional("options", Kind::Object, "rollback: height or hash of the block; in_memory: always so here")
                .shown("{\"rollback\":n,\"in_memory\":bool,...}")
        },
    ],
    about: "Write the serialized UTXO set to a file. This can be used in loadtxoutset afterwards if this snapshot height is \
            supported in the chainparams as well.",
    run: |cx, params| Box::pin(dumptxoutset(cx, params)),
}];

fn invalid(message: impl Into<String>) -> RpcError {
    RpcError::new(code::INVALID_PARAMETER, message.into())
}

fn unreadable(error: &dyn std::fmt::Display) -> RpcError {
    tracing::error!(%error, "the coins could not be written to a file");
    RpcError::new(code::INTERNAL, "Unable to read UTXO set")
}

/// The block whose coins are wanted; `None` for the tip.
fn base(params: &Params) -> Result<Option<Named>, RpcError> {
    let kind = if params.has(1) { params.text(1)? } else { "" };
    let option = |name: &str| params.get(2).get(name).filter(|value| !value.is_null());
    if let Some(other) = option("in_memory").filter(|value| !value.is_boolean()) {
        return Err(wrong_type(other, "bool"));
    }
    match (option("rollback"), kind) {
        (Some(rollback), "" | "rollback") => Named::read(rollback).map(Some),
        (Some(_), kind) => Err(invalid(format!("Invalid snapshot type \"{kind}\" specified with rollback option"))),
        (None, "rollback") => Ok(Some(Named::Height(LATEST_LOADABLE))),
        (None, "latest") => Ok(None),
        (None, kind) => {
            let advice = "Please specify \"rollback\" or \"latest\"";
            Err(invalid(format!("Invalid snapshot type \"{kind}\" specified. {advice}")))
        }
    }
}

async fn dumptxoutset(cx: &Context, params: Params) -> Result<Value, RpcError> {
    let base = base(&params)?;
    let path = PathBuf::from(params.text(0)?);
    let (id, path) = cx
        .run(move |ledger| {
            let id = base.map(|named| named.find(ledger)).transpose()?;
            Ok::<_, RpcError>((id, ledger.dir().join(path)))
        })
        .await??;
    if path.exists() && !is_pipe(&path) {
        let shown = path.display();
        let message =
            format!("{shown} already exists. If you are sure this is what you want, move it out of the way first");
        return Err(invalid(message));
    }
    let coins = cx.node.coins_at(id).await.map_err(|error| unreadable(&error))?;
    let coins = coins.ok_or_else(|| RpcError::new(code::INTERNAL, "The block is not in the active chain"))?;
    let magic = cx.params().magic;
    let written = tokio::task::spawn_blocking(move || write(path, magic, &coins)).await;
    written.map_err(|error| unreadable(&error))?
}

fn write(path: PathBuf, magic: [u8; 4], coins: &CoinsAt) -> Result<Value, RpcError> {
    let dump = Dump::create(&path).map_err(|_| {
        let draft = if is_pipe(&path) { path.clone() } else { Dump::draft(&path) };
        invalid(format!("Couldn't open file {} for writing.", draft.display()))
    })?;
    let stats = coins_stats(CoinsHash::Serialized, coins.iter()).map_err(|error| unreadable(&error))?;
    let head = DumpHead { magic, base: coins.tip.hash, coins: stats.txouts };
    dump.write(head, coins.iter()).map_err(|error| unreadable(&error))?;
    let mut hash = stats.hash.unwrap_or_default();
    hash.reverse();
    Ok(json!({
        "coins_written": stats.txouts,
        "base_hash": coins.tip.hash.to_string(),
        "base_height": coins.tip.height,
        "path": path.display().to_string(),
        "txoutset_hash": hex::encode(hash),
        "nchaintx": coins.transactions,
    }))
}
