//! The process itself (Core: `rpc/server.cpp`, `rpc/node.cpp`).

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use super::{Method, all, find};
use crate::rpc::Context;
use crate::rpc::argument::{Kind, Params, integer, optional, required};
use crate::rpc::dialect::{RpcError, code};

/// The last second that Core's clock can be set to: the last that a block's time can be.
const MAX_MOCK_TIME: i64 = u32::MAX as i64;

pub(super) const METHODS: &[Method] = &[
    Method {
        name: "echo",
        category: "hidden",
        arguments: &[
            optional("arg0", Kind::Any, "").shown("\"arg0\""),
            optional("arg1", Kind::Any, "").shown("\"arg1\""),
            optional("arg2", Kind::Any, "").shown("\"arg2\""),
            optional("arg3", Kind::Any, "").shown("\"arg3\""),
            optional("arg4", Kind::Any, "").shown("\"arg4\""),
            optional("arg5", Kind::Any, "").shown("\"arg5\""),
            optional("arg6", Kind::Any, "").shown("\"arg6\""),
            optional("arg7", Kind::Any, "").shown("\"arg7\""),
            optional("arg8", Kind::Any, "").shown("\"arg8\""),
            optional("arg9", Kind::Any, "").shown("\"arg9\""),
        ],
        about: "Simply echo back the input arguments. This command is for testing.",
        run: |_, params| Box::pin(async move { Ok(params.all().to_vec().into()) }),
    },
    Method {
        name: "getindexinfo",
        category: "util",
        arguments: &[optional("index_name", Kind::Text, "Filter results for an index with a specific name")],
        about: "Returns the status of the indexes that run. There is none yet.",
        run: |_, _| Box::pin(async { Ok(json!({})) }),
    },
    Method {
        name: "help",
        category: "control",
        arguments: &[optional("command", Kind::Text, "The command to get help on")],
        about: "List all commands, or get help for a specified command.",
        run: |_, params| Box::pin(async move { help(&params) }),
    },
    Method {
        name: "setmocktime",
        category: "hidden",
        arguments: &[required("timestamp", Kind::Number, "Seconds since 1970; 0 goes back to the system's clock")],
        about: "Set the local time to given timestamp (-regtest only).",
        run: |cx, params| Box::pin(setmocktime(cx, params)),
    },
    Method {
        name: "stop",
        category: "control",
        arguments: &[optional("wait", Kind::Number, "How long to wait in ms").shown("-")],
        about: "Request a graceful shutdown of l1-utxo.",
        run: |cx, params| Box::pin(stop(cx, params)),
    },
    Method {
        name: "uptime",
        category: "control",
        arguments: &[],
        about: "Returns the total uptime of the server, in seconds.",
        run: |cx, _| Box::pin(async { Ok(cx.started.elapsed().as_secs().into()) }),
    },
];

fn help(params: &Params) -> Result<Value, RpcError> {
    if params.has(0) {
        let name = params.text(0)?;
        let unknown = || format!("help: unknown command: {name}");
        return Ok(find(name).map_or_else(unknown, Method::help).trim_end().into());
    }
    let mut categories: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for method in all().filter(|method| method.category != "hidden") {
        categories.entry(method.category).or_default().push(method.usage());
    }
    let mut text = String::new();
    for (category, mut usages) in categories {
        usages.sort();
        let (first, rest) = category.split_at(1);
        write!(text, "== {}{rest} ==\n{}\n\n", first.to_uppercase(), usages.join("\n"))
            .expect("writing to a string does not fail");
    }
    Ok(text.trim_end().into())
}

async fn setmocktime(cx: &Context, params: Params) -> Result<Value, RpcError> {
    if !cx.params().is_mockable {
        return Err(RpcError::new(code::MISC, "setmocktime is for regression testing (-regtest mode) only"));
    }
    let time = integer(params.get(0))?;
    if !(0..=MAX_MOCK_TIME).contains(&time) {
        let message = format!("Mocktime must be in the range [0, {MAX_MOCK_TIME}], not {time}.");
        return Err(RpcError::new(code::INVALID_PARAMETER, message));
    }
    cx.run(move |ledger| ledger.set_mock_time((time > 0).then_some(time))).await?;
    Ok(Value::Null)
}

async fn stop(cx: &Context, params: Params) -> Result<Value, RpcError> {
    if let Ok(wait) = u64::try_from(params.int_or(0, 0)?) {
        tokio::time::sleep(std::time::Duration::from_millis(wait)).await;
    }
    cx.stop.send_replace(true);
    Ok("l1-utxo stopping".into())
}
