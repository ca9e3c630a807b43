//! What clients ask of the chain besides blocks: branches, figures, proofs, filters, coins by descriptor.

mod index;

use bitcoin::bip158::BlockFilter;
use bitcoin::hex::FromHex;
use bitcoin::{BlockHash, ScriptBuf};
use serde_json::{Value, json};

use super::node::Node;
use super::wallet::{Wallet, hex, output};

#[test]
fn branches_are_listed_with_what_became_of_them() {
    let mut node = Node::start();
    let wallet = Wallet::new(1);
    wallet.mine(&mut node, 3);
    let left = node.tip();
    node.call("invalidateblock", json!([left]));
    node.call("generatetoaddress", json!([2, Wallet::new(2).address()]));
    let tips = node.call("getchaintips", json!([]));
    assert_eq!(
        (&tips[0]["height"], &tips[0]["status"], &tips[0]["branchlen"]),
        (&json!(4), &json!("active"), &json!(0))
    );
    assert_eq!((&tips[1]["hash"], &tips[1]["status"]), (&json!(left), &json!("invalid")));
    node.call("reconsiderblock", json!([left]));
    assert_eq!(node.call("getchaintips", json!([]))[1]["status"], "valid-fork");

    let header = node.call("getblockheader", json!([left, false]));
    let header: bitcoin::block::Header = bitcoin::consensus::encode::deserialize_hex(header.as_str().unwrap()).unwrap();
    let mut next = header;
    next.prev_blockhash = header.block_hash();
    next.time += 1;
    while !next.target().is_met_by(next.block_hash()) {
        next.nonce += 1;
    }
    let submit = bitcoin::consensus::encode::serialize_hex(&next);
    assert_eq!(node.call("submitheader", json!([submit])), Value::Null);
    let tips = node.call("getchaintips", json!([]));
    assert!(tips.as_array().unwrap().iter().any(|tip| tip["status"] == "headers-only"), "{tips}");
    next.prev_blockhash = BlockHash::from_raw_hash(bitcoin::hashes::Hash::all_zeros());
    let orphan = bitcoin::consensus::encode::serialize_hex(&next);
    assert_eq!(node.refuse("submitheader", json!([orphan])).0, -25);
    assert_eq!(node.refuse("submitheader", json!(["00"])), (-22, "Block header decode failed".into()));
}

#[test]
fn figures_of_blocks_and_of_the_chain_add_up() {
    let mut node = Node::start();
    let wallet = Wallet::new(1);
    let coins = wallet.mine(&mut node, 102);
    let spend = wallet.spend(&coins[..1], 2, 4_000);
    node.call("sendrawtransaction", json!([hex(&spend)]));
    wallet.mine(&mut node, 1);
    let stats = node.call("getblockstats", json!([103]));
    assert_eq!((&stats["txs"], &stats["ins"], &stats["outs"]), (&json!(2), &json!(1), &json!(4)));
    assert_eq!((&stats["totalfee"], &stats["avgfee"], &stats["minfee"]), (&json!(4_000), &json!(4_000), &json!(4_000)));
    assert_eq!(stats["feerate_percentiles"][2], 4_000 * 4 / spend.weight().to_wu());
    assert_eq!((&stats["swtxs"], &stats["total_size"]), (&json!(1), &json!(spend.total_size())));
    assert_eq!((&stats["utxo_increase"], &stats["utxo_increase_actual"]), (&json!(3), &json!(2)));
    assert_eq!(stats["subsidy"], 5_000_000_000u64);
    let tip = node.tip();
    let some = node.call("getblockstats", json!([tip, ["height", "totalfee"]]));
    assert_eq!(some, json!({"height": 103, "totalfee": 4_000}));
    assert_eq!(
        node.refuse("getblockstats", json!([200])),
        (-8, "Target block height 200 after current tip 103".into())
    );
    assert_eq!(node.refuse("getblockstats", json!([1, ["x"]])), (-8, "Invalid selected statistic 'x'".into()));

    let pace = node.call("getchaintxstats", json!([]));
    assert_eq!((&pace["txcount"], &pace["window_block_count"]), (&json!(105), &json!(102)));
    assert_eq!(node.refuse("getchaintxstats", json!([103])).0, -8);
    assert_eq!(node.call("verifychain", json!([4, 0])), true);
    assert_eq!(node.call("getmininginfo", json!([]))["next"]["height"], 104);
    assert_eq!(node.call("getdifficulty", json!([])), node.call("getblockchaininfo", json!([]))["difficulty"]);
    assert_eq!(node.refuse("getnetworkhashps", json!([0])).0, -8);
}

#[test]
fn proofs_hold_and_say_what_they_prove() {
    let mut node = Node::start_with(&["--txindex"]);
    let wallet = Wallet::new(1);
    let coins = wallet.mine(&mut node, 102);
    let txids: Vec<String> = (0..2)
        .map(|at| wallet.spend(&coins[at..=at], 1, 1_000))
        .map(|spend| node.call("sendrawtransaction", json!([hex(&spend)])).as_str().unwrap().to_owned())
        .collect();
    wallet.mine(&mut node, 1);
    let proof = node.call("gettxoutproof", json!([txids]));
    let proven = node.call("verifytxoutproof", json!([proof]));
    assert_eq!(proven.as_array().unwrap().len(), 2);
    let tip = node.tip();
    assert_eq!(node.call("gettxoutproof", json!([[txids[0]], tip])).as_str().unwrap().len() % 2, 0);
    let spent = coins[0].outpoint.txid.to_string();
    let proof = node.call("gettxoutproof", json!([[spent]]));
    assert_eq!(node.call("verifytxoutproof", json!([proof])), json!([spent]));
    assert_eq!(node.refuse("gettxoutproof", json!([[]])), (-8, "Parameter 'txids' cannot be empty".into()));
    let unknown = "11".repeat(32);
    assert_eq!(node.refuse("gettxoutproof", json!([[unknown]])), (-5, "Transaction not yet in block".into()));

    // With the index a transaction is found without its block.
    let found = node.call("getrawtransaction", json!([txids[1], 2]));
    assert_eq!((&found["blockhash"], &found["confirmations"]), (&json!(tip), &json!(1)));
    assert!(found.get("in_active_chain").is_none());
    let fee = found["fee"].to_string();
    assert_eq!(fee, "0.00001000");
    let (code, message) = node.refuse("getrawtransaction", json!([unknown]));
    assert_eq!(
        (code, message.as_str()),
        (-5, "No such mempool or blockchain transaction. Use gettransaction for wallet transactions.")
    );
    let info = node.call("getindexinfo", json!([]));
    assert_eq!(info, json!({"txindex": {"synced": true, "best_block_height": 103}}));
}

#[test]
fn filters_match_what_a_block_pays_and_spends() {
    let home = tempfile::tempdir().unwrap();
    let wallet = Wallet::new(1);
    let mut node = Node::start_in(home.path(), &[]);
    let coins = wallet.mine(&mut node, 102);
    assert_eq!(node.terminate(), 0);
    // Switched on later: what is missing is made.
    let mut node = Node::start_in(home.path(), &["--block-filter-index", "--rest"]);
    let foreign = Wallet::new(9);
    let spend = wallet.spend(&coins[..1], 1, 1_000);
    node.call("sendrawtransaction", json!([hex(&spend)]));
    node.call("generatetoaddress", json!([1, foreign.address()]));
    let tip = node.tip();
    let row = node.call("getblockfilter", json!([tip]));
    let filter = BlockFilter::new(&Vec::from_hex(row["filter"].as_str().unwrap()).unwrap());
    let hash: BlockHash = tip.parse().unwrap();
    let has = |script: &ScriptBuf| filter.match_any(&hash, &mut std::iter::once(script.as_bytes())).unwrap();
    assert!(has(&wallet.script()) && has(&foreign.script()) && !has(&Wallet::new(5).script()));
    // The header commits to the header before.
    let before = node.call("getblockhash", json!([102]));
    let before = node.call("getblockfilter", json!([before, "basic"]));
    let previous: bitcoin::bip158::FilterHeader = before["header"].as_str().unwrap().parse().unwrap();
    assert_eq!(filter.filter_header(&previous).to_string(), row["header"].as_str().unwrap());
    assert_eq!(node.refuse("getblockfilter", json!([tip, "full"])), (-5, "Unknown filtertype".into()));
    // A branch keeps its filters.
    node.call("invalidateblock", json!([tip]));
    assert_eq!(node.call("getblockfilter", json!([tip])), row);
    node.call("generatetoaddress", json!([1, wallet.address()]));
    let other = node.tip();
    assert_ne!(node.call("getblockfilter", json!([other]))["filter"], row["filter"]);
    assert_eq!(node.call("getindexinfo", json!([]))["basic block filter index"]["best_block_height"], 103);
    let tip = node.tip();
    let headers = node.get(&format!("/rest/blockfilterheaders/basic/{tip}.json?count=3"));
    assert_eq!(headers.status, 200);

    let mut plain = Node::start();
    let genesis = plain.tip();
    let refusal = plain.refuse("getblockfilter", json!([genesis]));
    assert_eq!(refusal, (-1, "Index is not enabled for filtertype basic".into()));
    assert_eq!(plain.get("/rest/chaininfo.json").status, 404);
}

#[test]
fn coins_are_found_by_descriptor() {
    let mut node = Node::start();
    let wallet = Wallet::new(1);
    wallet.mine(&mut node, 3);
    let address = wallet.address();
    let found = node.call("scantxoutset", json!(["start", [format!("addr({address})")]]));
    assert_eq!((&found["success"], &found["txouts"], &found["height"]), (&json!(true), &json!(3), &json!(3)));
    assert_eq!(found["unspents"].as_array().unwrap().len(), 3);
    assert_eq!(found["total_amount"].to_string(), "150.00000000");
    let first = &found["unspents"][0];
    assert!(first["desc"].as_str().unwrap().starts_with(&format!("addr({address})#")));
    assert_eq!((&first["coinbase"], first["amount"].to_string()), (&json!(true), "50.00000000".into()));
    assert_eq!(node.call("scantxoutset", json!(["status"])), Value::Null);
    assert_eq!(node.call("scantxoutset", json!(["abort"])), false);
    assert_eq!(node.refuse("scantxoutset", json!(["walk"])), (-8, "Invalid action 'walk'".into()));
    assert_eq!(node.refuse("scantxoutset", json!(["start"])).0, -1);
}

#[test]
fn descriptors_and_scripts_are_read() {
    let mut node = Node::start();
    let key = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
    let info = node.call("getdescriptorinfo", json!([format!("wpkh({key})")]));
    assert_eq!(
        (&info["isrange"], &info["issolvable"], &info["hasprivatekeys"]),
        (&json!(false), &json!(true), &json!(false))
    );
    let derived = node.call("deriveaddresses", json!([info["descriptor"]]));
    assert_eq!(derived, json!(["bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"]));
    assert_eq!(node.refuse("deriveaddresses", json!([format!("wpkh({key})")])), (-5, "Missing checksum".into()));
    let xpub = "tpubD6NzVbkrYhZ4WaWSyoBvQwbpLkojyoTZPRsgXELWz3Popb3qkjcJyJUGLnL4qHHoQvao8ESaAstxYSnhyswJ76uZPStJRJCTKvosUCJZL5B";
    let ranged = node.call("getdescriptorinfo", json!([format!("wpkh({xpub}/0/*)")]));
    assert_eq!(ranged["isrange"], true);
    let three = node.call("deriveaddresses", json!([ranged["descriptor"], [1, 3]]));
    assert_eq!(three.as_array().unwrap().len(), 3);
    assert_eq!(node.refuse("deriveaddresses", json!([ranged["descriptor"]])).0, -8);
    let hashes = node.call("generatetodescriptor", json!([2, format!("wpkh({key})")]));
    assert_eq!(hashes.as_array().unwrap().len(), 2);
    let script = node.call("decodescript", json!([format!("21{key}ac")]));
    assert_eq!((&script["type"], &script["segwit"]["type"]), (&json!("pubkey"), &json!("witness_v0_keyhash")));
    assert!(script["p2sh"].is_string() && script["segwit"]["p2sh-segwit"].is_string() && script.get("hex").is_none());
}

#[test]
fn packages_and_priorities_reach_the_mempool() {
    let mut node = Node::start_with(&["--check-mempool"]);
    let wallet = Wallet::new(1);
    let coins = wallet.mine(&mut node, 102);
    let parent = wallet.spend(&coins[..1], 1, 0);
    let child = wallet.spend(&[output(&parent, 0)], 1, 2_000);
    let tested = node.call("testmempoolaccept", json!([[hex(&parent), hex(&child)]]));
    assert_eq!(tested[0]["reject-reason"], "min relay fee not met");
    let result = node.call("submitpackage", json!([[hex(&parent), hex(&child)]]));
    assert_eq!((&result["package_msg"], &result["replaced-transactions"]), (&json!("success"), &json!([])));
    let of_child = &result["tx-results"][child.compute_wtxid().to_string()];
    assert_eq!(of_child["fees"]["base"].to_string(), "0.00002000");
    assert_eq!(of_child["fees"]["effective-includes"].as_array().unwrap().len(), 2);
    let (parent_id, child_id) = (parent.compute_txid().to_string(), child.compute_txid().to_string());
    let cluster = node.call("getmempoolcluster", json!([parent_id]));
    assert_eq!((&cluster["txcount"], &cluster["chunks"][0]["txs"]), (&json!(2), &json!([parent_id, child_id])));
    assert_eq!(node.call("getmempoolancestors", json!([child_id])), json!([parent_id]));
    assert!(node.call("getmempooldescendants", json!([parent_id, true]))[&child_id]["fees"]["base"].is_number());
    assert_eq!(node.call("prioritisetransaction", json!([child_id, 0, 5_000])), true);
    let entry = node.call("getmempoolentry", json!([child_id]));
    assert_eq!(entry["fees"]["modified"].to_string(), "0.00007000");
    assert_eq!(node.call("getprioritisedtransactions", json!([]))[&child_id]["modified_fee"], 7_000);
    let diagram = node.call("getmempoolfeeratediagram", json!([]));
    assert_eq!(diagram[1]["fee"].to_string(), "0.00007000");
    let strangers = [hex(&wallet.spend(&coins[1..2], 1, 1_000)), hex(&child)];
    let (code, message) = node.refuse("submitpackage", json!([strangers]));
    assert_eq!((code, message.starts_with("package topology disallowed")), (-25, true));
    let again = node.call("submitpackage", json!([[hex(&parent), hex(&child)]]));
    assert_eq!(again["tx-results"][parent.compute_wtxid().to_string()]["fees"].to_string(), r#"{"base":0.00000000}"#);
    let template = node.call("getblocktemplate", json!([{"rules": ["segwit"]}]));
    assert_eq!(template["transactions"][1]["depends"], json!([1]));
    assert_eq!(template["transactions"][0]["txid"], parent_id.as_str());
    assert_eq!(template["coinbasevalue"], 5_000_002_000u64);
}
