//! Requests that are none, in both dialects, alone and in batches; HTTP statuses.

use crate::node::Node;

fn legacy(code: i32, message: &str, id: &str) -> String {
    format!(r#"{{"result":null,"error":{{"code":{code},"message":"{message}"}},"id":{id}}}"#)
}

fn two(code: i32, message: &str, id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","error":{{"code":{code},"message":"{message}"}},"id":{id}}}"#)
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn requests_that_are_none() {
    let mut node = Node::start();
    let parse = legacy(-32_700, "Parse error", "null");
    let top = legacy(-32_700, "Top-level object parse error", "null");
    let without_id = r#"{"result":null,"error":{"code":-32600,"message":"Missing method"}}"#;
    let rows: Vec<(&str, u16, String)> = vec![
        ("", 500, parse.clone()),
        ("{", 500, parse.clone()),
        ("{}}", 500, parse.clone()),
        ("nonsense", 500, parse.clone()),
        ("{'a':1}", 500, parse.clone()),
        ("[1,]", 500, parse),
        ("1", 500, top.clone()),
        ("\"getblockcount\"", 500, top.clone()),
        ("null", 500, top.clone()),
        ("true", 500, top),
        ("{}", 400, without_id.to_owned()),
        (r#"{"id":5}"#, 400, legacy(-32_600, "Missing method", "5")),
        (r#"{"id":[1,{"a":null}],"method":null}"#, 400, legacy(-32_600, "Missing method", r#"[1,{"a":null}]"#)),
        (r#"{"id":5,"method":7}"#, 400, legacy(-32_600, "Method must be a string", "5")),
        (r#"{"id":5,"method":["getblockcount"]}"#, 400, legacy(-32_600, "Method must be a string", "5")),
        (
            r#"{"id":5,"method":"getblockcount","params":7}"#,
            400,
            legacy(-32_600, "Params must be an array or object", "5"),
        ),
        (
            r#"{"id":5,"method":"getblockcount","params":"x"}"#,
            400,
            legacy(-32_600, "Params must be an array or object", "5"),
        ),
        (
            r#"{"id":5,"method":"getblockcount","params":true}"#,
            400,
            legacy(-32_600, "Params must be an array or object", "5"),
        ),
        (
            r#"{"id":5,"jsonrpc":2,"method":"getblockcount"}"#,
            400,
            legacy(-32_600, "jsonrpc field must be a string", "5"),
        ),
        (
            r#"{"id":5,"jsonrpc":"3.0","method":"getblockcount"}"#,
            400,
            legacy(-32_600, "JSON-RPC version not supported", "5"),
        ),
        (
            r#"{"id":5,"jsonrpc":"","method":"getblockcount"}"#,
            400,
            legacy(-32_600, "JSON-RPC version not supported", "5"),
        ),
        (r#"{"id":5,"jsonrpc":"2.0"}"#, 400, two(-32_600, "Missing method", "5")),
        (r#"{"id":5,"jsonrpc":"2.0","method":7}"#, 400, two(-32_600, "Method must be a string", "5")),
        (
            r#"{"id":5,"jsonrpc":"2.0","method":"x","params":1}"#,
            400,
            two(-32_600, "Params must be an array or object", "5"),
        ),
        (r#"{"id":5,"method":"x"}"#, 404, legacy(-32_601, "Method not found", "5")),
        (r#"{"id":5,"jsonrpc":"2.0","method":"x"}"#, 200, two(-32_601, "Method not found", "5")),
        (r#"{"id":5,"method":"getblockhash","params":[9]}"#, 500, legacy(-8, "Block height out of range", "5")),
        (
            r#"{"id":5,"jsonrpc":"2.0","method":"getblockhash","params":[9]}"#,
            200,
            two(-8, "Block height out of range", "5"),
        ),
        (r#"{"id":5,"jsonrpc":"1.0","method":"getblockcount"}"#, 200, r#"{"result":0,"error":null,"id":5}"#.to_owned()),
        (r#"{"id":5,"jsonrpc":null,"method":"getblockcount"}"#, 200, r#"{"result":0,"error":null,"id":5}"#.to_owned()),
        (r#"{"method":"getblockcount"}"#, 200, r#"{"result":0,"error":null}"#.to_owned()),
        (r#"{"id":null,"method":"getblockcount"}"#, 200, r#"{"result":0,"error":null,"id":null}"#.to_owned()),
        (
            r#"{"id":null,"jsonrpc":"2.0","method":"getblockcount"}"#,
            200,
            r#"{"jsonrpc":"2.0","result":0,"id":null}"#.to_owned(),
        ),
        (r#"{"jsonrpc":"2.0","method":"getblockcount"}"#, 204, String::new()),
        (r#"{"jsonrpc":"2.0","method":"x"}"#, 204, String::new()),
        (
            r#"{"id":5,"method":"getblockcount","params":null,"more":1}"#,
            200,
            r#"{"result":0,"error":null,"id":5}"#.to_owned(),
        ),
    ];
    for (request, status, body) in rows {
        let reply = node.post(request);
        assert_eq!((reply.status, reply.body.trim_end()), (status, body.as_str()), "{request}");
    }
}

#[test]
fn batches() {
    let mut node = Node::start();
    let invalid = "Invalid Request object";
    let ok = r#"{"result":0,"error":null,"id":1}"#;
    let rows: Vec<(&str, u16, String)> = vec![
        ("[]", 200, "[]".to_owned()),
        ("[1]", 200, format!("[{}]", legacy(-32_600, invalid, "null"))),
        ("[[]]", 200, format!("[{}]", legacy(-32_600, invalid, "null"))),
        (r#"[{"id":1,"method":"getblockcount"}]"#, 200, format!("[{ok}]")),
        // What is no object is answered under the id before.
        (r#"[{"id":1,"method":"getblockcount"},null]"#, 200, format!("[{ok},{}]", legacy(-32_600, invalid, "1"))),
        (
            r#"[{"id":1,"method":"x"},{"id":2,"jsonrpc":"2.0","method":"x"},{"id":3},{"id":4,"method":"getblockhash","params":[1]}]"#,
            200,
            format!(
                "[{},{},{},{}]",
                legacy(-32_601, "Method not found", "1"),
                two(-32_601, "Method not found", "2"),
                legacy(-32_600, "Missing method", "3"),
                legacy(-8, "Block height out of range", "4"),
            ),
        ),
        (r#"[{"jsonrpc":"2.0","method":"getblockcount"},{"jsonrpc":"2.0","method":"x"}]"#, 204, String::new()),
        (r#"[{"jsonrpc":"2.0","method":"getblockcount"},{"id":1,"method":"getblockcount"}]"#, 200, format!("[{ok}]")),
    ];
    for (request, status, body) in rows {
        let reply = node.post(request);
        assert_eq!((reply.status, reply.body.trim_end()), (status, body.as_str()), "{request}");
    }
}

#[test]
fn http_is_judged_before_json() {
    let mut node = Node::start();
    let cookie = node.cookie.clone();
    let call = r#"{"id":1,"method":"getblockcount"}"#;
    for verb in ["GET", "PUT", "DELETE", "OPTIONS"] {
        let reply = node.http(verb, Some(&cookie), call);
        assert_eq!((reply.status, reply.body.as_str()), (405, "JSONRPC server handles only POST requests"), "{verb}");
    }
    for login in [None, Some(""), Some(":"), Some("__cookie__"), Some("x:y")] {
        let reply = node.http("POST", login, "nonsense");
        assert_eq!((reply.status, reply.body.as_str()), (401, ""), "{login:?}");
        assert!(reply.headers.contains("www-authenticate: basic realm=\"jsonrpc\""));
    }
    assert_eq!(node.post(call).status, 200);
}
