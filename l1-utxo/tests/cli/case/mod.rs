//! Good and bad arguments of every method, with Core's code and Core's words: `shape` makes those that follow from a
//! method's signature (too few, too many, each of each wrong type), `value` lists values out of range, unknown or
//! malformed, `dialect` the requests themselves.

mod dialect;
mod raw;
mod shape;
mod signature;
mod value;

use serde_json::Value;

use super::node::Node;

/// A call that is refused: method, parameters, code, message.
struct Case {
    method: &'static str,
    params: Value,
    code: i64,
    message: String,
}

fn case(method: &'static str, params: Value, code: i64, message: impl Into<String>) -> Case {
    Case { method, params, code, message: message.into() }
}

/// Plays all cases, so that one run names every one that fails.
fn play(node: &mut Node, cases: Vec<Case>) {
    let mut wrong = Vec::new();
    let count = cases.len();
    for Case { method, params, code, message } in cases {
        match node.try_call(method, params.clone()) {
            Err(refused) if refused == (code, message.clone()) => {}
            other => wrong.push(format!("{method} {params}:\n  expected {:?}\n  got      {other:?}", (code, message))),
        }
    }
    assert!(wrong.is_empty(), "{} of {count} cases:\n{}", wrong.len(), wrong.join("\n"));
}
