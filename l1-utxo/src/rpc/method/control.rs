//! The process itself (Core: `rpc/server.cpp`, `rpc/node.cpp`).

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use super::{Method, all, find};
use crate::rpc::Context;
use crate::rpc::argument::{Argument, Kind, Params, integer, optional, required, text};
use crate::rpc::dialect::{RpcError, code};

/// The last second that Core's clock can be set to: the last that a block's time can be.
const MAX_MOCK_TIME: i64 = u32::MAX as i64;

/// As many as Core takes.
const ECHO: &[Argument] = &[
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
];

pub(super) const METHODS: &[Method] = &[
    Method {
        name: "echo",
        category: "hidden",
        arguments: ECHO,
        about: "Simply echo back the input arguments. This command is for testing.",
        run: |_, params| Box::pin(async move { echo(&params) }),
    },
    Method {
        name: "echoipc",
        category: "hidden",
        arguments: &[required("arg", Kind::Text, "The string to echo")],
        about: "Echo back the input argument. There is no other process here that it could pass through.",
        run: |_, params| Box::pin(async move { Ok(params.text(0)?.into()) }),
    },
    Method {
        name: "echojson",
        category: "hidden",
        arguments: ECHO,
        about: "Simply echo back the input arguments. This command is for testing.",
        run: |_, params| Box::pin(async move { echo(&params) }),
    },
    Method {
        name: "getmemoryinfo",
        category: "control",
        arguments: &[optional("mode", Kind::Text, "stats, or mallocinfo, which there is not")],
        about: "Returns an object containing information about memory usage. Nothing here is locked into memory.",
        run: |_, params| Box::pin(async move { getmemoryinfo(&params) }),
    },
    Method {
        name: "getrpcinfo",
        category: "control",
        arguments: &[],
        about: "Returns details of the RPC server.",
        run: |cx, _| Box::pin(async { Ok(getrpcinfo(cx)) }),
    },
    Method {
        name: "help",
        category: "control",
        arguments: &[optional("command", Kind::Text, "The command to get help on")],
        about: "List all commands, or get help for a specified command.",
        run: |_, params| Box::pin(async move { help(&params) }),
    },
    Method {
        name: "logging",
        category: "control",
        arguments: &[
            optional("include", Kind::List, "The categories to add to debug logging")
                .shown("[\"include_category\",...]"),
            optional("exclude", Kind::List, "The categories to remove from debug logging")
                .shown("[\"exclude_category\",...]"),
        ],
        about: "Gets the logging configuration; it is set by --log.",
        run: |_, params| Box::pin(async move { logging(&params) }),
    },
    Method {
        name: "mockscheduler",
        category: "hidden",
        arguments: &[required(
            "delta_time",
            Kind::Number,
            "Number of seconds to forward the scheduler into the future",
        )],
        about: "Bump the scheduler into the future (-regtest only): what waits to be announced again is announced now.",
        run: |cx, params| Box::pin(mockscheduler(cx, params)),
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

/// The calls under way with their durations in microseconds, and the file that stderr goes to, if it is one.
fn getrpcinfo(cx: &Context) -> Value {
    let render = |(method, begun): (&str, std::time::Instant)| json!({"method": method, "duration": u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX)});
    let commands: Vec<Value> = cx.active.list().into_iter().map(render).collect();
    let log = std::fs::read_link("/proc/self/fd/2").ok().filter(|path| path.is_file());
    let log = log.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
    json!({"active_commands": commands, "logpath": log})
}

fn getmemoryinfo(params: &Params) -> Result<Value, RpcError> {
    match if params.has(0) { params.text(0)? } else { "stats" } {
        "stats" => {
            let none = json!({"used": 0, "free": 0, "total": 0, "locked": 0, "chunks_used": 0, "chunks_free": 0});
            Ok(json!({"locked": none}))
        }
        "mallocinfo" => Err(RpcError::new(code::INVALID_PARAMETER, "mallocinfo mode not available")),
        other => Err(RpcError::new(code::INVALID_PARAMETER, format!("unknown mode {other}"))),
    }
}

/// Core's categories, none of which has a switch here.
fn logging(params: &Params) -> Result<Value, RpcError> {
    const CATEGORIES: &[&str] = &[
        "addrman",
        "bench",
        "blockstorage",
        "cmpctblock",
        "coindb",
        "estimatefee",
        "http",
        "i2p",
        "ipc",
        "kernel",
        "leveldb",
        "libevent",
        "mempool",
        "mempoolrej",
        "net",
        "privatebroadcast",
        "prune",
        "proxy",
        "qt",
        "rand",
        "reindex",
        "rpc",
        "scan",
        "selectcoins",
        "tor",
        "txpackages",
        "txreconciliation",
        "validation",
        "walletdb",
        "zmq",
    ];
    for position in 0..2 {
        let named = params.get(position).as_array().map(Vec::as_slice).unwrap_or_default();
        for category in named {
            let name = text(category)?;
            if !CATEGORIES.contains(&name) && !matches!(name, "all" | "1") {
                return Err(RpcError::new(code::INVALID_PARAMETER, format!("unknown logging category {name}")));
            }
        }
    }
    Ok(Value::Object(CATEGORIES.iter().map(|name| ((*name).to_owned(), false.into())).collect()))
}

async fn mockscheduler(cx: &Context, params: Params) -> Result<Value, RpcError> {
    if !cx.params().is_mockable {
        return Err(RpcError::new(code::MISC, "mockscheduler is for regression testing (-regtest mode) only"));
    }
    let delta = integer(params.get(0))?;
    if delta <= 0 || delta > 3_600 {
        return Err(RpcError::new(code::MISC, "delta_time must be between 1 and 3600 seconds (1 hr)"));
    }
    let delta = std::time::Duration::from_secs(delta.unsigned_abs());
    cx.run(move |ledger| {
        ledger.save_estimates_within(delta);
        ledger.with_network(|machine, ledger| machine.hurry(delta, ledger))
    })
    .await?;
    Ok(Value::Null)
}

fn help(params: &Params) -> Result<Value, RpcError> {
    if params.has(0) {
        let name = params.text(0)?;
        if name == "dump_all_command_conversions" {
            return Ok(conversions());
        }
        let unknown = || format!("help: unknown command: {name}");
        return Ok(find(name).map_or_else(unknown, Method::help).into());
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

/// Method, place and name of every parameter, and whether it is text, for clients that make values of words.
fn conversions() -> Value {
    let mut rows = Vec::new();
    for method in all() {
        for (place, argument) in method.arguments.iter().enumerate() {
            for name in argument.names.split('|') {
                rows.push(json!([method.name, place, name, argument.kind == Kind::Text]));
            }
            rows.extend(argument.options.iter().map(|option| json!([method.name, place, option, false])));
        }
    }
    rows.into()
}

/// What Core's own tests ask for, to see what becomes of a mistake in the program.
fn echo(params: &Params) -> Result<Value, RpcError> {
    if params.get(9).as_str() == Some("trigger_internal_bug") {
        let message = "Internal bug detected: request.params[9].get_str() != \"trigger_internal_bug\"";
        return Err(RpcError::new(code::MISC, message));
    }
    Ok(params.all().to_vec().into())
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
    cx.run(move |ledger| {
        ledger.set_mock_time((time > 0).then_some(time));
        // Whoever set it expects that what is due then is done.
        ledger.with_network(|machine, ledger| machine.tick(ledger));
    })
    .await?;
    Ok(Value::Null)
}

async fn stop(cx: &Context, params: Params) -> Result<Value, RpcError> {
    if let Ok(wait) = u64::try_from(params.int_or(0, 0)?) {
        tokio::time::sleep(std::time::Duration::from_millis(wait)).await;
    }
    cx.stop.send_replace(true);
    Ok("l1-utxo stopping".into())
}
