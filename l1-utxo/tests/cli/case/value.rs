//! Values of the right type that are out of range, malformed or unknown, method by method in Core's words.

use serde_json::{Value, json};

use super::{Case, case, play};
use crate::node::Node;

const NOT_FOUND: &str = "Block not found";
const OUT_OF_RANGE: &str = "JSON integer out of range";
const NOT_IN_MEMPOOL: &str = "Transaction not in mempool";
const TX_DECODE: &str = "TX decode failed. Make sure the tx has at least one input.";
const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

fn number(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn zero() -> String {
    "00".repeat(32)
}

/// Each way in which a hash can be none, at `position` after `before`.
fn hashes(method: &'static str, name: &str, before: &[Value], after: &[Value]) -> Vec<Case> {
    let with = |hash: &str| [before, &[Value::from(hash)], after].concat().into();
    let long = "0".repeat(65);
    let (letters, tail) = ("z".repeat(64), format!("{}g", "0".repeat(63)));
    vec![
        case(method, with(""), -8, format!("{name} must be of length 64 (not 0, for '')")),
        case(method, with("00"), -8, format!("{name} must be of length 64 (not 2, for '00')")),
        case(method, with(&long), -8, format!("{name} must be of length 64 (not 65, for '{long}')")),
        case(method, with(&letters), -8, format!("{name} must be hexadecimal string (not '{letters}')")),
        case(method, with(&tail), -8, format!("{name} must be hexadecimal string (not '{tail}')")),
    ]
}

/// Numbers that no 32-bit integer is.
fn integers(method: &'static str, before: &[Value], after: &[Value]) -> Vec<Case> {
    ["0.5", "1.0", "1e3", "2147483648", "-2147483649", "99999999999999999999", "1e400"]
        .into_iter()
        .map(|text| case(method, [before, &[number(text)], after].concat().into(), -1, OUT_OF_RANGE))
        .collect()
}

#[test]
fn hashes_and_integers_are_judged_alike_everywhere() {
    let mut node = Node::start();
    let mut cases = Vec::new();
    for (method, name) in [
        ("getblock", "blockhash"),
        ("getblockheader", "hash"),
        ("getdeploymentinfo", "blockhash"),
        ("invalidateblock", "blockhash"),
        ("preciousblock", "blockhash"),
        ("reconsiderblock", "blockhash"),
        ("waitforblock", "blockhash"),
        ("getrawtransaction", "parameter 1"),
        ("getmempoolentry", "txid"),
        ("getmempoolancestors", "txid"),
        ("getmempooldescendants", "txid"),
        ("getmempoolcluster", "txid"),
    ] {
        cases.extend(hashes(method, name, &[], &[]));
    }
    cases.extend(hashes("gettxout", "txid", &[], &[json!(0)]));
    cases.extend(hashes("prioritisetransaction", "txid", &[], &[Value::Null, json!(0)]));
    cases.extend(hashes("getrawtransaction", "parameter 3", &[zero().into(), json!(0)], &[]));
    cases.extend(hashes("waitfornewblock", "current_tip", &[json!(1)], &[]));
    for method in ["getblockhash", "waitforblockheight", "waitfornewblock", "estimatesmartfee"] {
        cases.extend(integers(method, &[], &[]));
    }
    cases.extend(integers("generatetoaddress", &[], &[ADDRESS.into()]));
    cases.extend(integers("generatetoaddress", &[json!(0), ADDRESS.into()], &[]));
    cases.extend(integers("getblock", &[zero().into()], &[]));
    cases.extend(integers("getrawtransaction", &[zero().into()], &[]));
    cases.extend(integers("waitforblock", &[zero().into()], &[]));
    play(&mut node, cases);
}

#[test]
fn values_of_blocks_and_coins() {
    let mut node = Node::start();
    let zero = zero();
    let mut cases = vec![
        case("getblockhash", json!([-1]), -8, "Block height out of range"),
        case("getblockhash", json!([1]), -8, "Block height out of range"),
        case("getblockhash", json!([2_147_483_647]), -8, "Block height out of range"),
        case("gettxout", json!([zero, -1]), -1, OUT_OF_RANGE),
        case("gettxout", json!([zero, 4_294_967_296u64]), -1, OUT_OF_RANGE),
        case("gettxout", json!([zero, 0.5]), -1, OUT_OF_RANGE),
        case("gettxout", json!(["00", -1]), -8, "txid must be of length 64 (not 2, for '00')"),
        case("gettxoutsetinfo", json!(["md5"]), -8, "'md5' is not a valid hash_type"),
        case("gettxoutsetinfo", json!([""]), -8, "'' is not a valid hash_type"),
        case("gettxoutsetinfo", json!(["MUHASH"]), -8, "'MUHASH' is not a valid hash_type"),
        case("waitfornewblock", json!([-1]), -1, "Negative timeout"),
        case("waitfornewblock", json!([-1, "00"]), -1, "Negative timeout"),
        case("waitforblock", json!([zero, -1]), -1, "Negative timeout"),
        case("waitforblockheight", json!([0, -1]), -1, "Negative timeout"),
        case("getblock", json!([zero, "1"]), -3, "JSON value of type string is not of expected type number"),
        case("getblock", json!([zero, []]), -3, "JSON value of type array is not of expected type number"),
        case("getblock", json!([zero, {}]), -3, "JSON value of type object is not of expected type number"),
    ];
    for height in [json!(0), json!("00"), json!(zero), json!(true)] {
        let message = "Querying specific block heights requires coinstatsindex";
        cases.push(case("gettxoutsetinfo", json!(["none", height]), -8, message));
    }
    for method in
        ["getblock", "getblockheader", "getdeploymentinfo", "invalidateblock", "preciousblock", "reconsiderblock"]
    {
        cases.push(case(method, json!([zero]), -5, NOT_FOUND));
    }
    cases.push(case("getblock", json!([zero, 0]), -5, NOT_FOUND));
    cases.push(case("getblock", json!([zero, false]), -5, NOT_FOUND));
    cases.push(case("getblockheader", json!([zero, false]), -5, NOT_FOUND));
    play(&mut node, cases);
    // On the other side of the boundaries.
    let genesis = node.tip();
    for (method, params) in [
        ("getblockhash", json!([0])),
        ("getblockhash", json!([number("-0")])),
        ("getblock", json!([genesis, -5])),
        ("getblock", json!([genesis.to_uppercase(), 9])),
        ("getblock", json!([genesis, null])),
        ("getblockheader", json!([genesis, null])),
        ("gettxout", json!([zero, 4_294_967_295u64])),
        ("gettxout", json!([zero, 0, null])),
        ("gettxoutsetinfo", json!([null, null, false])),
        ("waitforblockheight", json!([-5, 0])),
        ("waitforblockheight", json!([0, 2_147_483_647])),
        ("waitfornewblock", json!([1])),
        ("waitfornewblock", json!([0, zero])),
        ("waitforblock", json!([genesis])),
        ("getdeploymentinfo", json!([null])),
        ("preciousblock", json!([genesis])),
        ("reconsiderblock", json!([genesis])),
    ] {
        node.call(method, params);
    }
}

#[test]
fn values_of_transactions() {
    let mut node = Node::start();
    let zero = zero();
    let genesis = node.tip();
    let genesis_coinbase = "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b";
    let no_such = "No such mempool transaction. Use -txindex or provide a block hash to enable blockchain transaction \
                   queries. Use gettransaction for wallet transactions.";
    let mut cases = vec![
        case("getrawtransaction", json!([zero]), -5, no_such),
        case("getrawtransaction", json!([zero, true]), -5, no_such),
        case("getrawtransaction", json!([zero, 0, zero]), -5, "Block hash not found"),
        case(
            "getrawtransaction",
            json!([zero, 0, genesis]),
            -5,
            "No such transaction found in the provided block. Use gettransaction for wallet transactions.",
        ),
        case(
            "getrawtransaction",
            json!([genesis_coinbase]),
            -5,
            "The genesis block coinbase is not considered an ordinary transaction and cannot be retrieved",
        ),
        case("getrawtransaction", json!([zero, "x"]), -3, "JSON value of type string is not of expected type number"),
        case("getmempoolentry", json!([zero]), -5, NOT_IN_MEMPOOL),
        case("getmempoolancestors", json!([zero]), -5, NOT_IN_MEMPOOL),
        case("getmempoolancestors", json!([zero, true]), -5, NOT_IN_MEMPOOL),
        case("getmempooldescendants", json!([zero]), -5, NOT_IN_MEMPOOL),
        case("getmempoolcluster", json!([zero]), -5, NOT_IN_MEMPOOL),
        case("getrawmempool", json!([true, true]), -8, "Verbose results cannot contain mempool sequence values."),
        case(
            "prioritisetransaction",
            json!([zero, 1, 0]),
            -8,
            "Priority is no longer supported, dummy argument to prioritisetransaction must be 0.",
        ),
        case("prioritisetransaction", json!([zero, 0, 0.5]), -1, OUT_OF_RANGE),
        case("prioritisetransaction", json!([zero, 1, 0.5]), -1, OUT_OF_RANGE),
        case("prioritisetransaction", json!([zero, 0, number("9223372036854775808")]), -1, OUT_OF_RANGE),
    ];
    for text in ["", "0", "zz", "00", "deadbeef", "0200000000000000000000"] {
        cases.push(case("decoderawtransaction", json!([text]), -22, "TX decode failed"));
        cases.push(case("sendrawtransaction", json!([text]), -22, TX_DECODE));
        let message = format!("TX decode failed: {text} Make sure the tx has at least one input.");
        cases.push(case("testmempoolaccept", json!([[text]]), -22, message.clone()));
        cases.push(case("submitpackage", json!([[text]]), -22, message));
    }
    // No inputs and one output: only those that decode alone read it as from before witnesses.
    let old = "0200000000010100000000000000015100000000";
    cases.push(case("sendrawtransaction", json!([old]), -22, TX_DECODE));
    let message = format!("TX decode failed: {old} Make sure the tx has at least one input.");
    cases.push(case("testmempoolaccept", json!([[old]]), -22, message.clone()));
    cases.push(case("submitpackage", json!([[old]]), -22, message));
    cases.push(case("decoderawtransaction", json!(["", true]), -22, "TX decode failed"));
    cases.push(case("decoderawtransaction", json!(["", false]), -22, "TX decode failed"));
    play(&mut node, cases);
    for (method, params) in [
        ("prioritisetransaction", json!([zero, null, 5])),
        ("prioritisetransaction", json!([zero, 0.0, -5])),
        ("decoderawtransaction", json!(["02000000000000000000"])),
        ("getrawmempool", json!([false, true])),
        ("getrawmempool", json!([null, null])),
    ] {
        node.call(method, params);
    }
}

#[test]
fn fee_rates_and_burns() {
    let mut node = Node::start();
    // A standard transaction of an unknown coin, and one that burns 1,000 satoshi.
    let input = "11".repeat(32);
    let with = |script: &str| format!("0200000001{input}0000000000ffffffff01e80300000000000016{script}{}", "00000000");
    let (key_hash, data) = (format!("0014{}", "22".repeat(20)), format!("6a14{}", "22".repeat(20)));
    let (plain, burn) = (&with(&key_hash), &with(&data));
    let too_high = "Fee rates larger than or equal to 1BTC/kvB are not accepted";
    let mut cases = Vec::new();
    for (rate, code, message) in [
        (json!("x"), -3, "Invalid amount"),
        (json!(""), -3, "Invalid amount"),
        (json!("1."), -3, "Invalid amount"),
        (json!(".5"), -3, "Invalid amount"),
        (json!("01"), -3, "Invalid amount"),
        (json!("0x1"), -3, "Invalid amount"),
        (json!(" 1"), -3, "Invalid amount"),
        (number("0.000000001"), -3, "Invalid amount"),
        (number("1e-9"), -3, "Invalid amount"),
        (number("1e11"), -3, "Invalid amount"),
        (number("-0.1"), -3, "Amount out of range"),
        (number("-1e-8"), -3, "Amount out of range"),
        (number("21000000.00000001"), -3, "Amount out of range"),
        (json!(true), -3, "Amount is not a number or string"),
        (json!([]), -3, "Amount is not a number or string"),
        (json!({}), -3, "Amount is not a number or string"),
        (json!(1), -8, too_high),
        (json!("1.00000000"), -8, too_high),
        (json!("21000000"), -8, too_high),
    ] {
        cases.push(case("sendrawtransaction", json!([plain, rate]), code, message));
        cases.push(case("testmempoolaccept", json!([[plain], rate]), code, message));
        cases.push(case("submitpackage", json!([[plain], rate]), code, message));
        if code == -3 {
            cases.push(case("sendrawtransaction", json!([plain, null, rate]), code, message));
            cases.push(case("submitpackage", json!([[plain], null, rate]), code, message));
        }
    }
    let burns = "Unspendable output exceeds maximum configured by user (maxburnamount)";
    for limit in [Value::Null, json!(0), json!("0.00000000"), json!("0.00000999")] {
        cases.push(case("sendrawtransaction", json!([burn, null, limit]), -25, burns));
        cases.push(case("submitpackage", json!([[burn], null, limit]), -25, burns));
    }
    // The order of Core's checks: the burn's amount, the hex, the burn, the feerate.
    cases.push(case("sendrawtransaction", json!(["", "x", "x"]), -3, "Invalid amount"));
    cases.push(case("sendrawtransaction", json!(["", "x"]), -22, TX_DECODE));
    cases.push(case("sendrawtransaction", json!([burn, "x"]), -25, burns));
    let missing = "bad-txns-inputs-missingorspent";
    cases.push(case("sendrawtransaction", json!([plain]), -25, missing));
    cases.push(case("sendrawtransaction", json!([plain, "0.99999999"]), -25, missing));
    cases.push(case("sendrawtransaction", json!([burn, 0, 0.00001]), -25, missing));
    play(&mut node, cases);
}

#[test]
fn lists_of_transactions_and_outpoints() {
    let mut node = Node::start();
    let zero = zero();
    let count = "Array must contain between 1 and 25 transactions.";
    let (no_text, no_object) = (
        "JSON value of type number is not of expected type string",
        "JSON value of type string is not of expected type object",
    );
    let many = vec!["00"; 26];
    let field = |is: &str, name: &str, expected: &str| {
        format!("JSON value of type {is} for field {name} is not of expected type {expected}")
    };
    let prevout = |output: Value| json!([[output]]);
    let cases = vec![
        case("testmempoolaccept", json!([[]]), -8, count),
        case("testmempoolaccept", json!([many]), -8, count),
        case("testmempoolaccept", json!([[1]]), -3, no_text),
        case(
            "testmempoolaccept",
            json!([["00", 1]]),
            -22,
            "TX decode failed: 00 Make sure the tx has at least one input.",
        ),
        case("testmempoolaccept", json!([[], "x"]), -8, count),
        case("submitpackage", json!([[]]), -8, count),
        case("submitpackage", json!([many]), -8, count),
        case("submitpackage", json!([[1]]), -3, no_text),
        case("gettxspendingprevout", json!([[]]), -8, "Invalid parameter, outputs are missing"),
        case("gettxspendingprevout", json!([["x"]]), -3, no_object),
        case("gettxspendingprevout", prevout(json!({})), -3, "Missing txid"),
        case("gettxspendingprevout", prevout(json!({"txid": zero})), -3, "Missing vout"),
        case("gettxspendingprevout", prevout(json!({"vout": 0})), -3, "Missing txid"),
        case("gettxspendingprevout", prevout(json!({"txid": 1, "vout": 0})), -3, field("number", "txid", "string")),
        case(
            "gettxspendingprevout",
            prevout(json!({"txid": zero, "vout": "0"})),
            -3,
            field("string", "vout", "number"),
        ),
        case("gettxspendingprevout", prevout(json!({"txid": zero, "vout": 0, "x": 1})), -3, "Unexpected key x"),
        case(
            "gettxspendingprevout",
            prevout(json!({"txid": "00", "vout": 0})),
            -8,
            "txid must be of length 64 (not 2, for '00')",
        ),
        case(
            "gettxspendingprevout",
            prevout(json!({"txid": zero, "vout": -1})),
            -8,
            "Invalid parameter, vout cannot be negative",
        ),
        case("gettxspendingprevout", prevout(json!({"txid": zero, "vout": 2_147_483_648u64})), -1, OUT_OF_RANGE),
        case("gettxspendingprevout", prevout(json!({"txid": zero, "vout": 0.5})), -1, OUT_OF_RANGE),
        case(
            "gettxspendingprevout",
            json!([[{"txid": zero, "vout": 0}], {"mempool_only": 1}]),
            -3,
            field("number", "mempool_only", "bool"),
        ),
        case("gettxspendingprevout", json!([[{"txid": zero, "vout": 0}], {"x": 1}]), -3, "Unexpected key x"),
        case(
            "gettxspendingprevout",
            json!([[{"txid": zero, "vout": 0}], {"mempool_only": false}]),
            -1,
            "Mempool lacks a relevant spend, and txospenderindex is unavailable.",
        ),
    ];
    play(&mut node, cases);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn values_of_mining_and_control() {
    let mut node = Node::start();
    let zero = zero();
    let rules = "getblocktemplate must be called with the segwit rule set (call with {\"rules\": [\"segwit\"]})";
    let invalid = "Error: Invalid address";
    let descriptor = "Error: Invalid address or descriptor";
    let mode = "Invalid estimate_mode parameter, must be one of: \"unset\", \"economical\", \"conservative\"";
    let target = "Invalid conf_target, must be between 1 and 1008";
    let no_text = "JSON value of type number is not of expected type string";
    let mocktime = |time: &str| format!("Mocktime must be in the range [0, 4294967295], not {time}.");
    let decode = |text: &str| format!("Transaction decode failed for {text}. Make sure the tx has at least one input.");
    let mut cases = vec![
        case("generatetoaddress", json!([1, ""]), -5, invalid),
        case("generatetoaddress", json!([1, "nowhere"]), -5, invalid),
        case("generatetoaddress", json!([1, "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2"]), -5, invalid),
        case("generatetoaddress", json!([1, "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"]), -5, invalid),
        case("generatetoaddress", json!([0, "nowhere"]), -5, invalid),
        case("generateblock", json!(["", []]), -5, descriptor),
        case("generateblock", json!(["nowhere", []]), -5, descriptor),
        case("generateblock", json!(["raw(zz)", []]), -5, descriptor),
        case("generateblock", json!([ADDRESS, [1]]), -3, no_text),
        case("generateblock", json!([ADDRESS, [zero]]), -5, format!("Transaction {zero} not in mempool.")),
        case("generateblock", json!([ADDRESS, [zero, 1]]), -5, format!("Transaction {zero} not in mempool.")),
        case("generateblock", json!([ADDRESS, ["00"]]), -22, decode("00")),
        case("generateblock", json!([ADDRESS, [""]]), -22, decode("")),
        case("getblocktemplate", json!([{}]), -8, rules),
        case("getblocktemplate", json!([{"rules": []}]), -8, rules),
        case("getblocktemplate", json!([{"rules": ["csv"]}]), -8, rules),
        case("getblocktemplate", json!([{"rules": "segwit"}]), -8, rules),
        case("getblocktemplate", json!([{"rules": [1]}]), -3, no_text),
        case("getblocktemplate", json!([{"mode": 1, "rules": ["segwit"]}]), -8, "Invalid mode"),
        case("getblocktemplate", json!([{"mode": "x", "rules": ["segwit"]}]), -8, "Invalid mode"),
        case("getblocktemplate", json!([{"mode": "proposal"}]), -3, "Missing data String key for proposal"),
        case("getblocktemplate", json!([{"mode": "proposal", "data": 1}]), -3, "Missing data String key for proposal"),
        case("getblocktemplate", json!([{"mode": "proposal", "data": "00"}]), -22, "Block decode failed"),
        case(
            "getblocktemplate",
            json!([{"rules": ["segwit"], "longpollid": "0"}]),
            -8,
            "longpollid must be of length 64 (not 1, for '0')",
        ),
        case("submitblock", json!([""]), -22, "Block decode failed"),
        case("submitblock", json!(["0"]), -22, "Block decode failed"),
        case("submitblock", json!(["zz"]), -22, "Block decode failed"),
        case("submitblock", json!(["00".repeat(80)]), -22, "Block decode failed"),
        case("estimatesmartfee", json!([0]), -8, target),
        case("estimatesmartfee", json!([-1]), -8, target),
        case("estimatesmartfee", json!([1_009]), -8, target),
        case("estimatesmartfee", json!([0, "fast"]), -8, target),
        case("estimatesmartfee", json!([1, "fast"]), -8, mode),
        case("estimatesmartfee", json!([1, ""]), -8, mode),
        case("setmocktime", json!([-1]), -8, mocktime("-1")),
        case("setmocktime", json!([4_294_967_296u64]), -8, mocktime("4294967296")),
        case("setmocktime", json!([0.5]), -1, OUT_OF_RANGE),
        case("setmocktime", json!([number("9223372036854775808")]), -1, OUT_OF_RANGE),
    ];
    for method in ["nosuchmethod", "getinfo", "", "GETBLOCK", "getblock "] {
        cases.push(case(method, json!([]), -32_601, "Method not found"));
    }
    play(&mut node, cases);
    for (method, params) in [
        ("estimatesmartfee", json!([1_008, "CONSERVATIVE"])),
        ("estimatesmartfee", json!([1, null])),
        ("generatetoaddress", json!([0, ADDRESS])),
        ("generatetoaddress", json!([-1, ADDRESS])),
        ("setmocktime", json!([4_294_967_295u64])),
        ("setmocktime", json!([0])),
        ("getindexinfo", json!(["txindex"])),
        ("help", json!([null])),
    ] {
        node.call(method, params);
    }
    assert_eq!(node.height(), 0);
}

/// Proposals are judged without work, by the tip, the root, and all other rules in order.
#[test]
fn proposals_are_judged() {
    let mut node = Node::start();
    node.call("generatetoaddress", json!([1, ADDRESS]));
    let template = node.call("getblocktemplate", json!([{"rules": ["segwit"]}]));
    let made = node.call("generateblock", json!([ADDRESS, [], false]));
    let hex = made["hex"].as_str().unwrap().to_owned();
    let mut propose = |hex: &str| node.call("getblocktemplate", json!([{"mode": "proposal", "data": hex}]));
    assert_eq!(template["height"], 2);
    assert_eq!(propose(&hex), Value::Null);
    let with = |place: usize, text: &str| format!("{}{text}{}", &hex[..place], &hex[place + text.len()..]);
    assert_eq!(propose(&with(8, &"11".repeat(32))), "inconclusive-not-best-prevblk");
    assert_eq!(propose(&with(72, &"11".repeat(32))), "bad-txnmrklroot");
    assert_eq!(propose(&with(136, "00000000")), "time-too-old");
    assert_eq!(propose(&with(136, "ffffffff")), "time-too-new");
    assert_eq!(propose(&with(144, "fffe7f20")), "bad-diffbits");
    assert_eq!(propose(&with(0, "03000000")), "bad-version(0x00000003)");
    // What follows a block is not looked at.
    assert_eq!(propose(&format!("{hex}00")), Value::Null);
    assert_eq!(node.call("submitblock", json!([hex])), Value::Null);
    assert_eq!(node.call("submitblock", json!([hex, "dummy"])), "duplicate");
    assert_eq!(node.call("getblocktemplate", json!([{"mode": "proposal", "data": hex}])), "duplicate");
}

/// Refusals of `generateblock` carry Core's detail.
#[test]
fn blocks_that_break_rules_are_refused_with_the_detail() {
    let mut node = Node::start();
    let input = "11".repeat(32);
    let raw = format!("0200000001{input}0000000000000000000101000000000000000151{}", "00000000");
    let txid = node.call("decoderawtransaction", json!([raw]))["txid"].as_str().unwrap().to_owned();
    let (code, message) = node.refuse("generateblock", json!([ADDRESS, [raw]]));
    let expected = format!(
        "TestBlockValidity failed: bad-txns-inputs-missingorspent, CheckTxInputs: inputs missing/spent in transaction {txid}"
    );
    assert_eq!((code, message), (-25, expected));
}
