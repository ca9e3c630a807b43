//! The mempool's file: written when asked, and those of others taken in.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::Method;
use crate::driver::Import;
use crate::rpc::Context;
use crate::rpc::argument::{Argument, Kind, Params, optional, required, wrong_type};
use crate::rpc::dialect::{RpcError, code};

pub(super) const METHODS: &[Method] = &[
    Method {
        name: "importmempool",
        category: "blockchain",
        arguments: &[
            required("filepath", Kind::Text, "The mempool file"),
            Argument {
                options: &["use_current_time", "apply_fee_delta_priority", "apply_unbroadcast_set"],
                ..optional(
                    "options",
                    Kind::Object,
                    "use_current_time (true), apply_fee_delta_priority (false), apply_unbroadcast_set (false)",
                )
                .shown("options")
            },
        ],
        about: "Import a mempool.dat file and attempt to add its contents to the mempool. Importing untrusted files is \
                dangerous, especially if metadata from the file is taken over.",
        run: |cx, params| Box::pin(importmempool(cx, params)),
    },
    Method {
        name: "savemempool",
        category: "blockchain",
        arguments: &[],
        about: "Dumps the mempool to disk. It will fail until the previous dump is fully loaded.",
        run: |cx, _| Box::pin(savemempool(cx)),
    },
];

async fn importmempool(cx: &Context, params: Params) -> Result<Value, RpcError> {
    let path = PathBuf::from(params.text(0)?);
    let flag = |name: &str, default: bool| match params.get(1).get(name) {
        None | Some(Value::Null) => Ok(default),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(other) => Err(wrong_type(other, "bool")),
    };
    if cx.run(|ledger| ledger.is_initial_download()).await? {
        let message = "Can only import the mempool after the block download and sync is done.";
        return Err(RpcError::new(code::CLIENT_IN_INITIAL_DOWNLOAD, message));
    }
    let import = Import {
        uses_current_time: flag("use_current_time", true)?,
        applies_deltas: flag("apply_fee_delta_priority", false)?,
        applies_unbroadcast: flag("apply_unbroadcast_set", false)?,
    };
    if cx.run(move |ledger| ledger.import_mempool(&path, import)).await? {
        return Ok(json!({}));
    }
    Err(RpcError::new(code::MISC, "Unable to import mempool file, see debug log for details."))
}

async fn savemempool(cx: &Context) -> Result<Value, RpcError> {
    let saved = cx.run(|ledger| ledger.save_mempool()).await?;
    let path = saved.map_err(|error| {
        tracing::warn!(%error, "the mempool could not be saved");
        RpcError::new(code::MISC, "Unable to dump mempool to disk")
    })?;
    Ok(json!({"filename": path.display().to_string()}))
}
