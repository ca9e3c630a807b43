//! Who may call, and how requests and replies look.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use super::node::Node;

#[test]
fn only_cookie_and_password_open_the_door() {
    let mut node = Node::start_with(&["--rpc-user", "ann", "--rpc-password", "secret"]);
    let call = r#"{"method":"getblockcount","id":1}"#;
    let denied = node.http("POST", None, call);
    assert_eq!((denied.status, denied.body.as_str()), (401, ""));
    assert!(denied.headers.contains("www-authenticate: basic realm=\"jsonrpc\""), "{}", denied.headers);
    assert_eq!(node.http("POST", Some("__cookie__:00"), call).status, 401);
    assert_eq!(node.http("POST", Some("ann:wrong"), call).status, 401);
    let get = node.http("GET", None, "");
    assert_eq!((get.status, get.body.as_str()), (405, "JSONRPC server handles only POST requests"));
    let reply = node.http("POST", Some("ann:secret"), call);
    assert_eq!((reply.status, reply.body.as_str()), (200, "{\"result\":0,\"error\":null,\"id\":1}\n"));
    assert!(reply.headers.contains("content-type: application/json"));
    assert_eq!(node.post(call).status, 200);

    let cookie = node.dir.join(".cookie");
    assert_eq!(std::fs::metadata(&cookie).unwrap().permissions().mode() & 0o777, 0o600);
    let address = node.dir.join("rpc.addr");
    assert_eq!(node.terminate(), 0);
    assert!(!cookie.exists() && !address.exists());
}

#[test]
fn both_dialects_and_batches() {
    let mut node = Node::start();
    let ask = |node: &mut Node, body: &str| {
        let reply = node.post(body);
        (reply.status, reply.body.trim_end().to_owned())
    };
    let unknown = r#"{"code":-32601,"message":"Method not found"}"#;
    let table = [
        (
            r#"{"jsonrpc":"2.0","method":"getblockcount","id":"x"}"#,
            200,
            r#"{"jsonrpc":"2.0","result":0,"id":"x"}"#.to_owned(),
        ),
        (r#"{"jsonrpc":"2.0","method":"getblockcount"}"#, 204, String::new()),
        (r#"{"method":"getinfo","id":1}"#, 404, format!(r#"{{"result":null,"error":{unknown},"id":1}}"#)),
        (
            r#"{"jsonrpc":"2.0","method":"getinfo","id":1}"#,
            200,
            format!(r#"{{"jsonrpc":"2.0","error":{unknown},"id":1}}"#),
        ),
        (
            r#"[{"method":"getblockcount","id":1},{"jsonrpc":"2.0","method":"getinfo","id":2}]"#,
            200,
            format!(r#"[{{"result":0,"error":null,"id":1}},{{"jsonrpc":"2.0","error":{unknown},"id":2}}]"#),
        ),
        ("nonsense", 500, r#"{"result":null,"error":{"code":-32700,"message":"Parse error"},"id":null}"#.to_owned()),
    ];
    for (request, status, body) in table {
        assert_eq!(ask(&mut node, request), (status, body), "{request}");
    }
}

#[test]
fn parameters_have_places_and_names() {
    let mut node = Node::start();
    let genesis = node.tip();
    let by_place = node.call("getblock", json!([genesis, 1]));
    assert_eq!(node.call("getblock", json!({"blockhash": genesis, "verbosity": 1})), by_place);
    assert_eq!(node.call("getblock", json!({"blockhash": genesis, "verbose": true})), by_place);
    assert_eq!(node.call("getblock", json!({"args": [genesis], "verbosity": 1})), by_place);
    let echoed = node.call("echo", json!({"arg1": [1], "arg3": "x"}));
    assert_eq!(echoed, json!([null, [1], null, "x"]));
    let unknown = node.refuse("getblock", json!({"blockhash": genesis, "depth": 1}));
    assert_eq!(unknown, (-8, "Unknown named parameter depth".to_owned()));
}

#[test]
fn a_batch_of_many_is_answered_in_order() {
    let mut node = Node::start();
    let batch: Vec<Value> = (0..500).map(|id| json!({"method": "getblockhash", "params": [0], "id": id})).collect();
    let reply = node.post(&Value::from(batch).to_string());
    let replies: Vec<Value> = serde_json::from_str(&reply.body).unwrap();
    assert!(replies.iter().enumerate().all(|(id, reply)| reply["id"] == id && reply["error"].is_null()));
    assert_eq!(replies.len(), 500);
}
