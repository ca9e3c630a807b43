//! Wrong parameters: Core's code and Core's words.

use serde_json::{Value, json};

use super::node::Node;

type Row = (&'static str, Value, i64, String);

fn check(node: &mut Node, table: Vec<Row>) {
    for (method, params, code, message) in table {
        assert_eq!(node.refuse(method, params.clone()), (code, message), "{method} {params}");
    }
    assert_eq!(node.height(), 0);
}

fn wrong_type(place: &str, is: &str, expected: &str) -> String {
    format!(
        "Wrong type passed:\n{{\n    \"Position {place}\": \"JSON value of type {is} is not of expected type {expected}\"\n}}"
    )
}

#[test]
fn wrong_parameters_of_blocks_are_named() {
    let mut node = Node::start();
    let zero = "00".repeat(32);
    let table = vec![
        ("getblockhash", json!([-1]), -8, "Block height out of range".into()),
        ("getblockhash", json!([1]), -8, "Block height out of range".into()),
        ("getblockhash", json!(["0"]), -3, wrong_type("1 (height)", "string", "number")),
        ("getblockhash", json!([4_294_967_296u64]), -1, "JSON integer out of range".into()),
        ("getblockhash", json!([0.5]), -1, "JSON integer out of range".into()),
        ("getblock", json!([zero]), -5, "Block not found".into()),
        ("getblock", json!(["00"]), -8, "blockhash must be of length 64 (not 2, for '00')".into()),
        (
            "getblock",
            json!(["z".repeat(64)]),
            -8,
            format!("blockhash must be hexadecimal string (not '{}')", "z".repeat(64)),
        ),
        ("getblock", json!([zero, "1"]), -3, "JSON value of type string is not of expected type number".into()),
        ("getblockheader", json!([zero, 1]), -3, wrong_type("2 (verbose)", "number", "bool")),
    ];
    check(&mut node, table);
}

#[test]
fn wrong_parameters_of_transactions_are_named() {
    let mut node = Node::start();
    let zero = "00".repeat(32);
    let table = vec![
        ("getrawtransaction", json!(["aa"]), -8, "parameter 1 must be of length 64 (not 2, for 'aa')".into()),
        ("getrawtransaction", json!([zero, 0, zero]), -5, "Block hash not found".into()),
        ("decoderawtransaction", json!(["00"]), -22, "TX decode failed".into()),
        ("sendrawtransaction", json!(["00"]), -22, "TX decode failed. Make sure the tx has at least one input.".into()),
        (
            "sendrawtransaction",
            json!(["00", "x"]),
            -22,
            "TX decode failed. Make sure the tx has at least one input.".into(),
        ),
        ("testmempoolaccept", json!([[]]), -8, "Array must contain between 1 and 25 transactions.".into()),
        (
            "testmempoolaccept",
            json!([["00"], 2]),
            -8,
            "Fee rates larger than or equal to 1BTC/kvB are not accepted".into(),
        ),
        ("testmempoolaccept", json!([["00"], "x"]), -3, "Invalid amount".into()),
        ("testmempoolaccept", json!(["00"]), -3, wrong_type("1 (rawtxs)", "string", "array")),
        ("getmempoolentry", json!([zero]), -5, "Transaction not in mempool".into()),
        ("gettxspendingprevout", json!([[]]), -8, "Invalid parameter, outputs are missing".into()),
        ("gettxspendingprevout", json!([[{"txid": zero}]]), -3, "Missing vout".into()),
        (
            "gettxspendingprevout",
            json!([[{"txid": zero, "vout": -1}]]),
            -8,
            "Invalid parameter, vout cannot be negative".into(),
        ),
        ("gettxout", json!([zero, -1]), -1, "JSON integer out of range".into()),
        ("gettxoutsetinfo", json!(["md5"]), -8, "'md5' is not a valid hash_type".into()),
        ("gettxoutsetinfo", json!(["none", 1]), -8, "Querying specific block heights requires coinstatsindex".into()),
    ];
    check(&mut node, table);
}

#[test]
fn other_wrong_parameters_are_named() {
    let mut node = Node::start();
    let zero = "00".repeat(32);
    let address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
    let table = vec![
        ("estimatesmartfee", json!([0]), -8, "Invalid conf_target, must be between 1 and 1008".into()),
        (
            "estimatesmartfee",
            json!([2, "fast"]),
            -8,
            "Invalid estimate_mode parameter, must be one of: \"unset\", \"economical\", \"conservative\"".into(),
        ),
        ("generatetoaddress", json!([1, "nowhere"]), -5, "Error: Invalid address".into()),
        ("generateblock", json!(["nowhere", []]), -5, "Error: Invalid address or descriptor".into()),
        ("generateblock", json!([address, [zero]]), -5, format!("Transaction {zero} not in mempool.")),
        (
            "getblocktemplate",
            json!([{}]),
            -8,
            "getblocktemplate must be called with the segwit rule set (call with {\"rules\": [\"segwit\"]})".into(),
        ),
        ("submitblock", json!(["00"]), -22, "Block decode failed".into()),
        ("waitfornewblock", json!([-1]), -1, "Negative timeout".into()),
        ("invalidateblock", json!([zero]), -5, "Block not found".into()),
        ("reconsiderblock", json!([zero]), -5, "Block not found".into()),
        ("setmocktime", json!([-1]), -8, "Mocktime must be in the range [0, 9223372036], not -1.".into()),
        ("getblockcount", json!({"x": 1}), -8, "Unknown named parameter x".into()),
        ("nosuchmethod", json!([]), -32_601, "Method not found".into()),
    ];
    check(&mut node, table);
    // Too many or too few: what would be right.
    for (method, params) in [("getblockcount", json!([1])), ("getblock", json!([]))] {
        let (code, message) = node.refuse(method, params);
        assert!(code == -1 && message.starts_with(method), "{message}");
    }
}

#[test]
fn addresses_are_judged() {
    let mut node = Node::start();
    let good = node.call("validateaddress", json!(["bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"]));
    assert_eq!(
        good,
        json!({
            "isvalid": true,
            "address": "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080",
            "scriptPubKey": "0014751e76e8199196d454941c45d1b3a323f1433bd6",
            "isscript": false,
            "iswitness": true,
            "witness_version": 0,
            "witness_program": "751e76e8199196d454941c45d1b3a323f1433bd6",
        })
    );
    let bad = node.call("validateaddress", json!(["1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2"]));
    assert_eq!(bad["isvalid"], false);
    assert_eq!(bad["error"], "Invalid or unsupported Base58-encoded address.");
}

#[test]
fn what_clients_probe_is_there() {
    let mut node = Node::start();
    let network = node.call("getnetworkinfo", json!([]));
    assert!(network["version"].as_u64().unwrap() >= 310_000);
    assert!(network["subversion"].as_str().unwrap().starts_with("/Satoshi:"));
    assert_eq!(network["relayfee"].to_string(), "0.00000100");
    let deployments = node.call("getdeploymentinfo", json!([]));
    assert_eq!(deployments["deployments"]["taproot"]["active"], true);
    assert_eq!(node.call("getpeerinfo", json!([])), json!([]));
    assert_eq!(node.call("getzmqnotifications", json!([])), json!([]));
    assert_eq!(node.call("getindexinfo", json!([])), json!({}));
    assert_eq!(node.call("estimatesmartfee", json!([6]))["errors"], json!(["Insufficient data or no feerate found"]));
    assert!(node.call("uptime", json!([])).is_u64());
    assert!(node.call("help", json!([])).as_str().unwrap().contains("== Blockchain =="));
    assert!(node.call("help", json!(["getblock"])).as_str().unwrap().starts_with("getblock \"blockhash\""));
    assert_eq!(node.call("help", json!(["x"])), "help: unknown command: x");
}
