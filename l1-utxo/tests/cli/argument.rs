//! Addresses, and what clients probe before they begin.

use serde_json::json;

use super::node::Node;

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
    let mistyped = node.call("validateaddress", json!(["bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt08q"]));
    assert_eq!((&mistyped["error"], &mistyped["error_locations"]), (&json!("Invalid Bech32 checksum"), &json!([43])));
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
