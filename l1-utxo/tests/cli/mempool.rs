//! Unconfirmed transactions: in, replaced, refused, mined.

use bitcoin::{Amount, TxOut};
use serde_json::{Value, json};

use super::node::Node;
use super::wallet::{Wallet, hex, output};

fn amount(value: &Value) -> String {
    value.to_string()
}

#[test]
fn a_coinbase_is_spent() {
    let mut node = Node::start();
    let wallet = Wallet::new(1);
    let coins = wallet.mine(&mut node, 101);
    let spend = wallet.spend(&coins[..1], 1, 2_000);
    let txid = spend.compute_txid().to_string();
    let tested = node.call("testmempoolaccept", json!([[hex(&spend)]]));
    assert_eq!(tested[0]["allowed"], true);
    assert_eq!(amount(&tested[0]["fees"]["base"]), "0.00002000");
    assert_eq!(tested[0]["fees"]["effective-includes"], json!([spend.compute_wtxid().to_string()]));
    assert_eq!(node.call("getmempoolinfo", json!([]))["size"], 0);

    assert_eq!(node.call("sendrawtransaction", json!([hex(&spend)])), txid.as_str());
    // Again is no error.
    assert_eq!(node.call("sendrawtransaction", json!([hex(&spend)])), txid.as_str());
    let entry = node.call("getmempoolentry", json!([txid]));
    assert_eq!(entry["vsize"], spend.vsize());
    assert_eq!(amount(&entry["fees"]["chunk"]), "0.00002000");
    let outpoint = json!({"txid": coins[0].outpoint.txid.to_string(), "vout": 0});
    let spending = node.call("gettxspendingprevout", json!([[outpoint]]));
    assert_eq!(spending[0]["spendingtxid"], txid.as_str());
    assert_eq!(node.call("gettxout", json!([coins[0].outpoint.txid.to_string(), 0])), Value::Null);
    let old = node.call("gettxout", json!([coins[0].outpoint.txid.to_string(), 0, false]));
    assert_eq!((&old["coinbase"], &old["confirmations"]), (&json!(true), &json!(101)));
    assert_eq!(node.call("gettxout", json!([txid, 0]))["confirmations"], 0);
    assert_eq!(node.call("getrawtransaction", json!([txid])), hex(&spend));

    wallet.mine(&mut node, 1);
    let block = node.tip();
    let found = node.call("getrawtransaction", json!([txid, 2, block]));
    assert_eq!(amount(&found["fee"]), "0.00002000");
    assert_eq!(found["vin"][0]["prevout"]["generated"], true);
    assert_eq!(found["confirmations"], 1);
    let (code, message) = node.refuse("getrawtransaction", json!([txid]));
    assert_eq!(code, -5);
    assert!(message.starts_with("No such mempool transaction."), "{message}");
    let again = node.refuse("sendrawtransaction", json!([hex(&spend)]));
    assert_eq!(again, (-27, "Transaction outputs already in utxo set".to_owned()));
}

#[test]
fn what_is_refused_has_cores_reason() {
    let mut node = Node::start();
    let wallet = Wallet::new(1);
    let coins = wallet.mine(&mut node, 102);
    let good = wallet.spend(&coins[..1], 1, 1_000);
    let refuse = |node: &mut Node, transaction: &bitcoin::Transaction| {
        node.refuse("sendrawtransaction", json!([hex(transaction)]))
    };

    let free = wallet.spend(&coins[..1], 1, 0);
    assert_eq!(refuse(&mut node, &free), (-26, "min relay fee not met, 0 < 11".to_owned()));
    let immature = wallet.spend(&coins[90..91], 1, 1_000);
    let expected = "bad-txns-premature-spend-of-coinbase, tried to spend coinbase at depth 12";
    assert_eq!(refuse(&mut node, &immature), (-26, expected.to_owned()));
    let mut unsigned = good.clone();
    unsigned.input[0].witness.clear();
    let (code, message) = refuse(&mut node, &unsigned);
    assert_eq!(code, -26);
    let reason = "mempool-script-verify-flag-failed (Witness program hash mismatch), input 0 of ";
    assert!(message.starts_with(reason), "{message}");
    let mut dusty = good.clone();
    let dust = TxOut { value: Amount::from_sat(293), script_pubkey: wallet.script() };
    dusty.output.extend([dust.clone(), dust]);
    assert_eq!(refuse(&mut node, &dusty), (-26, "dust".to_owned()));
    let mut strange = good.clone();
    strange.version.0 = 4;
    assert_eq!(refuse(&mut node, &strange), (-26, "version".to_owned()));
    let dear = wallet.spend(&coins[..1], 1, 10_000_000);
    let expected = "Fee exceeds maximum configured by user (e.g. -maxtxfee, maxfeerate)";
    assert_eq!(refuse(&mut node, &dear), (-25, expected.to_owned()));
    let orphan = wallet.spend(&[output(&good, 0)], 1, 1_000);
    assert_eq!(refuse(&mut node, &orphan), (-25, "bad-txns-inputs-missingorspent".to_owned()));
    let tested = node.call("testmempoolaccept", json!([[hex(&orphan)]]));
    assert_eq!(tested[0]["reject-reason"], "missing-inputs");
    let package = node.call("testmempoolaccept", json!([[hex(&good), hex(&orphan)]]));
    assert_eq!((&package[0]["allowed"], &package[1]["allowed"]), (&json!(true), &json!(true)));
    assert_eq!(node.call("getrawmempool", json!([])), json!([]));
    let unsorted = node.call("testmempoolaccept", json!([[hex(&orphan), hex(&good)]]));
    assert_eq!(unsorted[0]["package-error"], "package-not-sorted");
    let burn = TxOut { value: Amount::from_sat(1), script_pubkey: bitcoin::ScriptBuf::new_op_return([0; 2]) };
    let mut burning = good.clone();
    burning.output.push(burn);
    assert_eq!(refuse(&mut node, &burning).0, -25);
}

#[test]
fn a_better_transaction_replaces() {
    let mut node = Node::start();
    let wallet = Wallet::new(1);
    let coins = wallet.mine(&mut node, 101);
    let first = wallet.spend(&coins[..1], 1, 1_000);
    let child = wallet.spend(&[output(&first, 0)], 1, 1_000);
    node.call("sendrawtransaction", json!([hex(&first)]));
    node.call("sendrawtransaction", json!([hex(&child)]));
    let tested = node.call("testmempoolaccept", json!([[hex(&first)]]));
    assert_eq!(tested[0]["reject-reason"], "txn-already-in-mempool");

    let cheap = wallet.spend(&coins[..1], 1, 1_500);
    let (code, message) = node.refuse("sendrawtransaction", json!([hex(&cheap)]));
    let expected = format!(
        "insufficient fee, rejecting replacement {}, less fees than conflicting txs; 0.000015 < 0.00002",
        cheap.compute_txid()
    );
    assert_eq!((code, message), (-26, expected));
    let slightly = wallet.spend(&coins[..1], 1, 2_005);
    let (_, message) = node.refuse("sendrawtransaction", json!([hex(&slightly)]));
    assert!(message.contains("not enough additional fees to relay; 0.00000005 < 0.00000011"), "{message}");
    let better = wallet.spend(&coins[..1], 1, 3_000);
    let txid = node.call("sendrawtransaction", json!([hex(&better)]));
    assert_eq!(node.call("getrawmempool", json!([])), json!([txid]));
    let info = node.call("getmempoolinfo", json!([]));
    assert_eq!(amount(&info["total_fee"]), "0.00003000");
    assert_eq!(amount(&info["mempoolminfee"]), "0.00000100");
}

#[test]
fn a_chain_of_more_than_64_is_too_large() {
    let mut node = Node::start();
    let wallet = Wallet::new(1);
    let coins = wallet.mine(&mut node, 101);
    let mut coin = coins[0];
    for _ in 0..64 {
        let next = wallet.spend(&[coin], 1, 1_000);
        node.call("sendrawtransaction", json!([hex(&next)]));
        coin = output(&next, 0);
    }
    let last = wallet.spend(&[coin], 1, 1_000);
    assert_eq!(node.refuse("sendrawtransaction", json!([hex(&last)])), (-26, "too-large-cluster".to_owned()));
    wallet.mine(&mut node, 1);
    node.call("sendrawtransaction", json!([hex(&last)]));
}

#[test]
fn fees_are_estimated_from_what_was_confirmed() {
    let home = tempfile::tempdir().unwrap();
    let wallet = Wallet::new(1);
    let mut node = Node::start_in(home.path(), &[]);
    let coins = wallet.mine(&mut node, 150);
    let nothing = json!({"errors": ["Insufficient data or no feerate found"], "blocks": 0});
    assert_eq!(node.call("estimatesmartfee", json!([2])), nothing);
    let mut feerate = 0;
    for some in coins[..48].chunks(4) {
        for coin in some {
            let spend = wallet.spend(&[*coin], 1, 1_000);
            feerate = 1_000 * 1_000 / spend.vsize() as u64;
            node.call("sendrawtransaction", json!([hex(&spend)]));
        }
        wallet.mine(&mut node, 1);
    }
    let sat = |value: &Value| (value.to_string().parse::<f64>().unwrap() * 1e8).round() as u64;
    let estimate = node.call("estimatesmartfee", json!([1, "conservative"]));
    assert!(sat(&estimate["feerate"]).abs_diff(feerate) <= feerate / 100, "{estimate} {feerate}");
    assert_eq!(estimate["blocks"], 2);
    assert_eq!(node.call("estimatesmartfee", json!([100]))["blocks"], 5);
    let raw = node.call("estimaterawfee", json!([2]));
    assert_eq!((raw["short"]["feerate"].clone(), &raw["short"]["scale"]), (estimate["feerate"].clone(), &json!(1)));
    assert!(raw["short"]["pass"]["withintarget"].as_f64().unwrap() > 13.0, "{raw}");
    assert!(node.call("estimaterawfee", json!([13])).get("short").is_none());
    // Kept over a stop, but not for ever, and not where transactions are not looked at.
    let file = home.path().join("regtest/fee_estimates.dat");
    assert_eq!(node.terminate(), 0);
    let mut node = Node::start_in(home.path(), &[]);
    assert_eq!(node.call("estimatesmartfee", json!([1, "conservative"])), estimate);
    assert_eq!(node.terminate(), 0);
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(61 * 3_600);
    let age = || std::fs::File::options().append(true).open(&file).unwrap().set_modified(old).unwrap();
    age();
    let mut node = Node::start_in(home.path(), &["--accept-stale-fee-estimates"]);
    assert_eq!(node.call("estimatesmartfee", json!([1, "conservative"])), estimate);
    assert_eq!(node.terminate(), 0);
    age();
    let mut node = Node::start_in(home.path(), &[]);
    assert_eq!(node.call("estimatesmartfee", json!([2])), nothing);
    // Written when an hour is said to have passed.
    std::fs::remove_file(&file).unwrap();
    node.call("mockscheduler", json!([3_600]));
    assert!(file.exists());
    let mut node = Node::start_with(&["--blocks-only"]);
    assert_eq!(node.refuse("estimatesmartfee", json!([2])), (-32_603, "Fee estimation disabled".into()));
}
