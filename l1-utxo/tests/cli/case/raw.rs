//! Transactions and PSBTs made, signed and put together: bad values, and the good ways through.

use serde_json::{Value, json};

use super::{Case, case, play};
use crate::node::Node;

const KEY: &str = "cVpF924EspNh8KjYsfhgY96mmxvT6DgdWiTYMtMjuM74hJaU5psW";
const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
const PUBLIC: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

fn txid() -> String {
    "11".repeat(32)
}

fn no(value: &str, expected: &str) -> String {
    format!("JSON value of type {value} is not of expected type {expected}")
}

/// What both makers of transactions refuse.
fn making(method: &'static str) -> Vec<Case> {
    let txid = txid();
    let input = |vout: Value| json!([[{"txid": txid, "vout": vout}], {}]);
    let to = |outputs: Value| json!([[], outputs]);
    let none = "Invalid parameter, output argument must be non-null";
    vec![
        case(method, json!([["x"], {}]), -3, no("string", "object")),
        case(method, json!([[{}], {}]), -3, no("null", "string")),
        case(method, json!([[{"txid": "00"}], {}]), -8, "txid must be of length 64 (not 2, for '00')"),
        case(method, json!([[{"txid": txid}], {}]), -8, "Invalid parameter, missing vout key"),
        case(method, input(json!("0")), -8, "Invalid parameter, missing vout key"),
        case(method, input(json!(-1)), -8, "Invalid parameter, vout cannot be negative"),
        case(method, input(json!(2_147_483_648u64)), -1, "JSON integer out of range"),
        case(
            method,
            json!([[{"txid": txid, "vout": 0, "sequence": -1}], {}]),
            -8,
            "Invalid parameter, sequence number is out of range",
        ),
        case(
            method,
            json!([[{"txid": txid, "vout": 0, "sequence": 4_294_967_296u64}], {}]),
            -8,
            "Invalid parameter, sequence number is out of range",
        ),
        case(method, to(Value::Null), -8, none),
        case(method, to(json!(1)), -3, no("number", "array")),
        case(method, to(json!([1])), -8, "Invalid parameter, key-value pair not an object as expected"),
        case(method, to(json!([{}])), -8, "Invalid parameter, key-value pair must contain exactly one key"),
        case(
            method,
            to(json!([{"a": 1, "b": 2}])),
            -8,
            "Invalid parameter, key-value pair must contain exactly one key",
        ),
        case(method, to(json!({"nowhere": 1})), -5, "Invalid Bitcoin address: nowhere"),
        case(method, to(json!({"nowhere": "x"})), -3, "Invalid amount"),
        case(method, to(json!({ADDRESS: -1})), -3, "Amount out of range"),
        case(method, to(json!({ADDRESS: true})), -3, "Amount is not a number or string"),
        case(
            method,
            to(json!([{ADDRESS: 1}, {ADDRESS: 1}])),
            -8,
            format!("Invalid parameter, duplicated address: {ADDRESS}"),
        ),
        case(method, to(json!({"data": "zz"})), -8, "Data must be hexadecimal string (not 'zz')"),
        case(method, to(json!([{"data": "00"}, {"data": "00"}])), -8, "Invalid parameter, duplicate key: data"),
        case(method, json!([[], {}, -1]), -8, "Invalid parameter, locktime out of range"),
        case(method, json!([[], {}, 4_294_967_296u64]), -8, "Invalid parameter, locktime out of range"),
        case(
            method,
            json!([[{"txid": txid, "vout": 0, "sequence": 4_294_967_294u32}], {}, 0, true]),
            -8,
            "Invalid parameter combination: Sequence number(s) contradict replaceable option",
        ),
        case(method, json!([[], {}, 0, true, 0]), -8, "Invalid parameter, version out of range(1~3)"),
        case(method, json!([[], {}, 0, true, 4]), -8, "Invalid parameter, version out of range(1~3)"),
        case(method, json!([[], {}, 0, true, -1]), -1, "JSON integer out of range"),
    ]
}

/// What those that read a PSBT refuse.
fn reading(method: &'static str, params: fn(&str) -> Value) -> Vec<Case> {
    let magic = "TX decode failed Invalid PSBT magic bytes: iostream error";
    vec![
        case(method, params("*"), -22, "TX decode failed invalid base64"),
        case(method, params("AAAAAAAA"), -22, magic),
        case(method, params(""), -22, "TX decode failed SpanReader::read(): end of data: iostream error"),
        case(method, params("cHNidP8A"), -22, "TX decode failed No unsigned transaction was provided: iostream error"),
    ]
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn bad_values_are_refused() {
    let mut node = Node::start();
    let txid = txid();
    let mut cases = making("createrawtransaction");
    cases.extend(making("createpsbt"));
    for method in ["decodepsbt", "analyzepsbt", "finalizepsbt", "utxoupdatepsbt"] {
        cases.extend(reading(method, |text| json!([text])));
    }
    cases.extend(reading("combinepsbt", |text| json!([[text]])));
    cases.extend(reading("joinpsbts", |text| json!([[text, text]])));
    cases.extend(reading("descriptorprocesspsbt", |text| json!([text, []])));
    let hex = node.call("createrawtransaction", json!([[{"txid": txid, "vout": 0}], {ADDRESS: 1}]));
    let hex = hex.as_str().unwrap();
    let other = node.call("createrawtransaction", json!([[{"txid": txid, "vout": 1}], {ADDRESS: 1}]));
    let psbts = [hex, other.as_str().unwrap()].map(|hex| node.call("converttopsbt", json!([hex])));
    let sign = |prevouts: Value| json!([hex, [KEY], prevouts]);
    let prevout = |field: &str, value: Value| {
        let mut prevout = json!({"txid": txid, "vout": 0, "scriptPubKey": "51"});
        prevout[field] = value;
        json!([hex, [KEY], [prevout]])
    };
    let p2sh = format!("a914{}87", "00".repeat(20));
    let failed = "TX decode failed. Make sure the tx has at least one input.";
    cases.extend([
        case("converttopsbt", json!(["00"]), -22, "TX decode failed"),
        case("converttopsbt", json!([hex, false, true, 1]), -8, "The PSBT version can only be 2 or 0"),
        case("createpsbt", json!([[], {}, 0, true, 2, 1]), -8, "The PSBT version can only be 2 or 0"),
        case("combinepsbt", json!([[]]), -8, "Parameter 'txs' cannot be empty"),
        case("combinepsbt", json!([[1]]), -3, no("number", "string")),
        case("combinepsbt", json!([psbts]), -8, "PSBTs not compatible (different transactions)"),
        case("joinpsbts", json!([[psbts[0]]]), -8, "At least two PSBTs are required to join PSBTs."),
        case("joinpsbts", json!([[psbts[0], psbts[0]]]), -8, format!("Input {txid}:0 exists in multiple PSBTs")),
        case("descriptorprocesspsbt", json!([psbts[0], [], "LOUD"]), -8, "'LOUD' is not a valid sighash parameter."),
        case("utxoupdatepsbt", json!([psbts[0], [1]]), -8, "Scan object needs to be either a string or an object"),
        case("utxoupdatepsbt", json!([psbts[0], ["addr(x)"]]), -5, "Address is not valid"),
        case("combinerawtransaction", json!([[]]), -22, "Missing transactions. At least two transactions required."),
        case(
            "combinerawtransaction",
            json!([[hex, "00"]]),
            -22,
            "TX decode failed for tx 1. Make sure the tx has at least one input.",
        ),
        case(
            "combinerawtransaction",
            json!([[hex, other]]),
            -8,
            "Transaction number 2 not compatible with first transaction",
        ),
        case("combinerawtransaction", json!([[hex, hex]]), -25, "Input not found or already spent"),
        case("signrawtransactionwithkey", json!(["00", []]), -22, failed),
        case("signrawtransactionwithkey", json!([hex, [1]]), -3, no("number", "string")),
        case("signrawtransactionwithkey", json!([hex, ["x"]]), -5, "Invalid private key"),
        case("signrawtransactionwithkey", json!([hex, [KEY], [], "x"]), -8, "'x' is not a valid sighash parameter."),
        case(
            "signrawtransactionwithkey",
            json!([hex, [KEY], [], "DEFAULT|ANYONECANPAY"]),
            -8,
            "'DEFAULT|ANYONECANPAY' is not a valid sighash parameter.",
        ),
        case(
            "signrawtransactionwithkey",
            sign(json!([1])),
            -22,
            "expected object with {\"txid'\",\"vout\",\"scriptPubKey\"}",
        ),
        case("signrawtransactionwithkey", sign(json!([{}])), -3, "Missing txid"),
        case("signrawtransactionwithkey", sign(json!([{"txid": txid}])), -3, "Missing vout"),
        case("signrawtransactionwithkey", sign(json!([{"txid": txid, "vout": 0}])), -3, "Missing scriptPubKey"),
        case("signrawtransactionwithkey", prevout("vout", json!(-1)), -22, "vout cannot be negative"),
        case("signrawtransactionwithkey", prevout("amount", json!(-1)), -3, "Amount out of range"),
        case(
            "signrawtransactionwithkey",
            prevout("scriptPubKey", json!("z")),
            -8,
            "scriptPubKey must be hexadecimal string (not 'z')",
        ),
        case(
            "signrawtransactionwithkey",
            prevout("scriptPubKey", json!(p2sh)),
            -8,
            "Missing redeemScript/witnessScript",
        ),
        case(
            "createmultisig",
            json!([0, [PUBLIC]]),
            -8,
            "a multisignature address must require at least one key to redeem",
        ),
        case(
            "createmultisig",
            json!([2, [PUBLIC]]),
            -8,
            "not enough keys supplied (got 1 keys, but need at least 2 to redeem)",
        ),
        case(
            "createmultisig",
            json!([1, vec![PUBLIC; 21]]),
            -8,
            "Number of keys involved in the multisignature address creation > 20\nReduce the number",
        ),
        case("createmultisig", json!([16, vec![PUBLIC; 16]]), -8, "redeemScript exceeds size limit: 547 > 520"),
        case("createmultisig", json!([1, ["zz"]]), -5, "Pubkey \"zz\" must be a hex string"),
        case("createmultisig", json!([1, ["00"]]), -5, "Pubkey \"00\" must have a length of either 33 or 65 bytes"),
        case(
            "createmultisig",
            json!([1, ["00".repeat(33)]]),
            -5,
            format!("Pubkey \"{}\" must be cryptographically valid.", "00".repeat(33)),
        ),
        case("createmultisig", json!([1, [PUBLIC], "x"]), -5, "Unknown address type 'x'"),
        case(
            "createmultisig",
            json!([1, [PUBLIC], "bech32m"]),
            -5,
            "createmultisig cannot create bech32m multisig addresses",
        ),
        case("signmessagewithprivkey", json!(["x", ""]), -5, "Invalid private key"),
        case("verifymessage", json!(["x", "", ""]), -5, "Invalid address"),
        case("verifymessage", json!([ADDRESS, "", ""]), -3, "Address does not refer to key"),
        case("verifymessage", json!(["mrCDrCybB6J1vRfbwM5hemdJz73FwDBC8r", "*", ""]), -3, "Malformed base64 encoding"),
        case("estimaterawfee", json!([0]), -8, "Invalid conf_target, must be between 1 and 1008"),
        case("estimaterawfee", json!([1, 1.5]), -8, "Invalid threshold"),
        case(
            "importmempool",
            json!(["/nowhere"]),
            -10,
            "Can only import the mempool after the block download and sync is done.",
        ),
        case("scanblocks", json!(["x"]), -8, "Invalid action 'x'"),
        case("scanblocks", json!(["start", []]), -1, "Index is not enabled for filtertype basic"),
        case("scanblocks", json!(["start", [], 0, 0, "x"]), -5, "Unknown filtertype"),
        case("getdescriptoractivity", json!([["00"], []]), -8, "blockhash must be of length 64 (not 2, for '00')"),
        case("getdescriptoractivity", json!([[txid], []]), -5, "Block not found"),
        case(
            "generate",
            json!([]),
            -32_601,
            "generate\n\nhas been replaced by the -generate cli option. Refer to -help for more information.\n",
        ),
        case("pruneblockchain", json!([1]), -1, "Cannot prune blocks because node is not in prune mode."),
    ]);
    play(&mut node, cases);
}

#[test]
fn messages_and_addresses_of_several_keys() {
    let mut node = Node::start();
    let signature = node.call("signmessagewithprivkey", json!([KEY, "hello"]));
    // The address of KEY's compressed public key.
    let info = node.call("getdescriptorinfo", json!([format!("pkh({KEY})")]));
    let address = node.call("deriveaddresses", json!([info["descriptor"]]))[0].clone();
    assert_eq!(node.call("verifymessage", json!([address, signature, "hello"])), true);
    assert_eq!(node.call("verifymessage", json!([address, signature, "hallo"])), false);
    for (kind, prefix) in [("legacy", "sh(multi(1,"), ("p2sh-segwit", "sh(wsh(multi(1,"), ("bech32", "wsh(multi(1,")] {
        let made = node.call("createmultisig", json!([1, [PUBLIC], kind]));
        let descriptor = made["descriptor"].as_str().unwrap();
        assert!(descriptor.starts_with(prefix), "{made}");
        assert_eq!(node.call("deriveaddresses", json!([descriptor])), json!([made["address"]]));
    }
}

/// A coin of a P2WPKH output is spent by hand and by PSBT, and both ways come to the same transaction.
#[test]
fn a_coin_is_spent_with_a_key_of_ours() {
    let mut node = Node::start();
    let info = node.call("getdescriptorinfo", json!([format!("wpkh({KEY})")]));
    let address = node.call("deriveaddresses", json!([info["descriptor"]]))[0].clone();
    node.call("generatetoaddress", json!([101, address]));
    let block = node.call("getblockhash", json!([1]));
    let txid = node.call("getblock", json!([block]))["tx"][0].clone();
    let outputs = json!([{"data": "0102"}, {ADDRESS: "49.999"}]);
    let inputs = json!([{"txid": txid, "vout": 0}]);
    let hex = node.call("createrawtransaction", json!([inputs, outputs, 0, true, 3]));
    let bare = node.call("decoderawtransaction", json!([hex]));
    assert_eq!((&bare["version"], &bare["vout"][0]["scriptPubKey"]["hex"]), (&json!(3), &json!("6a020102")));
    let unsigned = node.call("signrawtransactionwithkey", json!([hex, []]));
    assert_eq!((&unsigned["complete"], unsigned["errors"].as_array().unwrap().len()), (&json!(false), 1));
    let signed = node.call("signrawtransactionwithkey", json!([hex, [KEY]]));
    assert_eq!(signed["complete"], true);
    for version in [0, 2] {
        let psbt = node.call("createpsbt", json!([inputs, outputs, 0, true, 3, version]));
        let next = node.call("analyzepsbt", json!([psbt]));
        assert_eq!((&next["next"], &next["inputs"][0]["has_utxo"]), (&json!("updater"), &json!(false)));
        let filled = node.call("utxoupdatepsbt", json!([psbt, [info["descriptor"]]]));
        let next = node.call("analyzepsbt", json!([filled]));
        assert_eq!((&next["next"], &next["fee"].to_string()), (&json!("signer"), &"0.00100000".to_owned()), "{next}");
        assert!(next["estimated_vsize"].as_u64().is_some(), "{next}");
        let done = node.call("descriptorprocesspsbt", json!([psbt, [format!("wpkh({KEY})")], "ALL", true, false]));
        assert_eq!(done["complete"], false);
        let shown = node.call("decodepsbt", json!([done["psbt"]]));
        assert_eq!(shown["psbt_version"], version);
        assert_eq!(shown["inputs"][0]["partial_signatures"].as_object().unwrap().len(), 1, "{shown}");
        let both = node.call("combinepsbt", json!([[psbt, done["psbt"]]]));
        assert_eq!(both, done["psbt"]);
        let whole = node.call("finalizepsbt", json!([both]));
        assert_eq!((&whole["complete"], &whole["hex"]), (&json!(true), &signed["hex"]));
        let kept = node.call("finalizepsbt", json!([both, false]));
        let next = node.call("analyzepsbt", json!([kept["psbt"]]));
        assert_eq!((&next["next"], &next["inputs"][0]["is_final"]), (&json!("extractor"), &json!(true)));
    }
    node.call("sendrawtransaction", json!([signed["hex"]]));
    let saved = node.call("savemempool", json!([]))["filename"].clone();
    assert_eq!(node.call("getmempoolinfo", json!([]))["unbroadcastcount"], 1);
    assert_eq!(node.call("importmempool", json!([saved])), json!({}));
}

/// An output is told the leaves of its descriptor, in the order in which Core's builder leaves them.
#[test]
fn outputs_know_their_taproot_tree() {
    let mut node = Node::start();
    let [one, two, three] = [
        "c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5",
        "f9308a019258c31049344f85f89d5229b531c845836f99b08601f113bce036f9",
        "e493dbf1c10d80f3581e4904930b1404cc6c13900ee0758474fa94abe8c4cd13",
    ];
    let internal = &PUBLIC[2..];
    let descriptor = format!("tr({internal},{{pk({one}),{{pk({two}),pk({three})}}}})");
    let info = node.call("getdescriptorinfo", json!([descriptor]));
    let address = node.call("deriveaddresses", json!([info["descriptor"]]))[0].as_str().unwrap().to_owned();
    let psbt = node.call("createpsbt", json!([[{"txid": "11".repeat(32), "vout": 0}], {address: "1"}]));
    let filled = node.call("utxoupdatepsbt", json!([psbt, [info["descriptor"]]]));
    let shown = node.call("decodepsbt", json!([filled]))["outputs"][0].clone();
    let leaf = |depth: u8, key: &str| json!({"depth": depth, "leaf_ver": 192, "script": format!("20{key}ac")});
    assert_eq!(shown["taproot_tree"], json!([leaf(2, three), leaf(2, two), leaf(1, one)]));
    assert_eq!(shown["taproot_internal_key"], internal);
}
