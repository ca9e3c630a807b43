//! What the indexes of coin statistics and of spends hold: over branches, over kill -9, and switched on late.

use bitcoin::script::Builder;
use bitcoin::{Amount, Transaction};
use serde_json::{Value, json};

use crate::node::Node;
use crate::wallet::{Wallet, hex};

const KEPT: &[&str] = &["--coinstats-index", "--txospender-index"];

/// The figures at the tip, counted coin by coin, without those that only a count has.
fn counted(node: &mut Node) -> Value {
    let mut counted = node.call("gettxoutsetinfo", json!(["muhash", null, false]));
    let object = counted.as_object_mut().unwrap();
    assert!(object.remove("transactions").is_some() && object.remove("disk_size").is_some());
    counted
}

/// The same from the index, without those that only the index has.
fn indexed(node: &mut Node, at: Value) -> Value {
    let mut found = node.call("gettxoutsetinfo", json!(["muhash", at]));
    let object = found.as_object_mut().unwrap();
    assert!(object.remove("block_info").is_some() && object.remove("total_unspendable_amount").is_some());
    found
}

/// A block with spends of `coins`, one output of each being data that nobody can spend.
fn mine_with_data(node: &mut Node, wallet: &Wallet, coins: &[crate::wallet::Coin]) -> Vec<Transaction> {
    let spends: Vec<Transaction> = coins
        .chunks(1)
        .map(|coin| {
            let mut spend = wallet.spend(coin, 2, 1_000);
            spend.output[1].value = Amount::from_sat(700);
            spend.output[1].script_pubkey = Builder::new().push_opcode(bitcoin::opcodes::all::OP_RETURN).into_script();
            wallet.sign(spend, coin)
        })
        .collect();
    let raw: Vec<String> = spends.iter().map(hex).collect();
    node.call("generateblock", json!([wallet.address(), raw]));
    spends
}

#[test]
fn statistics_of_coins_are_those_that_are_counted() {
    let home = tempfile::tempdir().unwrap();
    let wallet = Wallet::new(1);
    let mut node = Node::start_in(home.path(), KEPT);
    let coins = wallet.mine(&mut node, 103);
    let mut seen = vec![counted(&mut node)];
    mine_with_data(&mut node, &wallet, &coins[..2]);
    seen.push(counted(&mut node));
    wallet.mine(&mut node, 1);
    seen.push(counted(&mut node));
    for before in &seen {
        assert_eq!(indexed(&mut node, before["height"].clone()), *before);
        assert_eq!(indexed(&mut node, before["bestblock"].clone()), *before);
    }
    // generateblock takes no fees, so they are nobody's.
    let at = node.call("gettxoutsetinfo", json!(["none", 104]));
    let info = &at["block_info"];
    let shown = |value: &Value| value.to_string();
    assert_eq!(shown(&info["prevout_spent"]), "100.00000000");
    assert_eq!(shown(&info["unspendables"]["scripts"]), "0.00001400");
    assert_eq!(shown(&info["unspendables"]["unclaimed_rewards"]), "49.99999600");
    assert_eq!(shown(&at["total_unspendable_amount"]), "100.00001000");
    assert!(at.get("muhash").is_none());
    let genesis = node.call("gettxoutsetinfo", json!(["none", 0]));
    assert_eq!(shown(&genesis["block_info"]["unspendables"]["genesis_block"]), "50.00000000");
    // Killed, the node has lost nothing.
    node.kill();
    let mut node = Node::start_in(home.path(), KEPT);
    assert_eq!(indexed(&mut node, Value::Null), seen[2]);
    // A branch keeps its figures, by hash; the height is that of the new one.
    node.call("invalidateblock", json!([seen[1]["bestblock"]]));
    assert_eq!(indexed(&mut node, Value::Null), seen[0]);
    node.call("generateblock", json!([Wallet::new(2).address(), []]));
    assert_eq!(indexed(&mut node, json!(104)), counted(&mut node));
    assert_eq!(indexed(&mut node, seen[1]["bestblock"].clone()), seen[1]);
    let refusals = [
        (json!(["hash_serialized_3", 104]), -8, "hash_serialized_3 hash type cannot be queried for a specific block"),
        (json!(["none", 104, false]), -8, "Cannot set use_index to false when querying for a specific block"),
        (json!(["none", 105]), -8, "Target block height 105 after current tip 104"),
        (json!(["none", "ff".repeat(32)]), -5, "Block not found"),
    ];
    for (params, code, message) in refusals {
        assert_eq!(node.refuse("gettxoutsetinfo", params), (code, message.into()));
    }
}

#[test]
fn an_index_that_was_off_during_a_reorganisation_follows_it() {
    let home = tempfile::tempdir().unwrap();
    let wallet = Wallet::new(1);
    let mut node = Node::start_in(home.path(), KEPT);
    let coins = wallet.mine(&mut node, 102);
    let spent = coins[0].outpoint;
    let asked = json!([[{"txid": spent.txid.to_string(), "vout": spent.vout}]]);
    let unspent = asked[0].clone();
    assert_eq!(node.call("gettxspendingprevout", asked.clone()), unspent);
    let spends = mine_with_data(&mut node, &wallet, &coins[..1]);
    let tip = node.tip();
    let found = node.call("gettxspendingprevout", json!([asked[0], {"return_spending_tx": true}]));
    assert_eq!(found[0]["spendingtxid"], spends[0].compute_txid().to_string());
    assert_eq!((&found[0]["blockhash"], &found[0]["spendingtx"]), (&json!(tip), &json!(hex(&spends[0]))));
    assert_eq!(node.call("gettxspendingprevout", json!([asked[0], {"mempool_only": true}])), unspent);
    let rows = node.call("getindexinfo", json!([]));
    let row = json!({"synced": true, "best_block_height": 103});
    assert_eq!(rows, json!({"coinstatsindex": row, "txospenderindex": row}));
    node.terminate();
    let mut node = Node::start_in(home.path(), &[]);
    node.call("invalidateblock", json!([tip]));
    for _ in 0..2 {
        node.call("generateblock", json!([Wallet::new(2).address(), []]));
    }
    let figures = counted(&mut node);
    let other = json!([{"txid": coins[1].outpoint.txid.to_string(), "vout": 0}]);
    let refusal = node.refuse("gettxspendingprevout", json!([other, {"mempool_only": false}]));
    assert_eq!(refusal, (-1, "Mempool lacks a relevant spend, and txospenderindex is unavailable.".into()));
    node.kill();
    let mut node = Node::start_in(home.path(), KEPT);
    assert_eq!(indexed(&mut node, Value::Null), figures);
    assert_eq!(node.call("gettxspendingprevout", asked), unspent);
}

#[test]
fn a_file_of_all_coins_is_byte_for_byte_cores() {
    use bitcoin::hashes::{Hash, sha256};
    let mut node = Node::start();
    // What Bitcoin Core's own test of it does, with its digests.
    node.call("setmocktime", json!([1_296_688_603]));
    node.call("generatetoaddress", json!([100, "mjTkW3DjgyZck4KbiRusZsqTgaYTxdSz6z"]));
    let path = node.dir.join("coins.dat");
    let dumped = node.call("dumptxoutset", json!(["coins.dat", "latest"]));
    assert_eq!(
        dumped,
        json!({
            "coins_written": 100,
            "base_hash": "220aee93f0f5409631f35488898258f0930952bd620063cb4d7d87f7c28a8f50",
            "base_height": 100,
            "path": path.display().to_string(),
            "txoutset_hash": "771d773b5c27b6f35f598ce764652a2cf28fbc268341eb1827844e416c629c7d",
            "nchaintx": 101,
        })
    );
    let digest = |path: &std::path::Path| sha256::Hash::hash(&std::fs::read(path).unwrap());
    let first = digest(&path);
    let bytes = hex::decode("e8c59b1bc1f19061c67eb7a392f4ea17eea83af58646ea2909e270546699c36c").unwrap();
    assert_eq!(first.as_byte_array().as_slice(), bytes);
    let exists = format!(
        "{} already exists. If you are sure this is what you want, move it out of the way first",
        path.display()
    );
    assert_eq!(node.refuse("dumptxoutset", json!(["coins.dat", "latest"])), (-8, exists));
    // Later blocks with spends are undone for the file, and nothing else.
    let wallet = Wallet::new(1);
    let coins = wallet.mine(&mut node, 110);
    mine_with_data(&mut node, &wallet, &coins[..3]);
    let now = counted(&mut node);
    let again = node.call("dumptxoutset", json!(["again.dat", "rollback", {"rollback": 100, "in_memory": true}]));
    assert_eq!((&again["txoutset_hash"], digest(&node.dir.join("again.dat"))), (&dumped["txoutset_hash"], first));
    assert_eq!(counted(&mut node), now);
    let empty = node.call("dumptxoutset", json!(["empty.dat", "", {"rollback": 0}]));
    assert_eq!((&empty["coins_written"], &empty["nchaintx"]), (&json!(0), &json!(1)));
    assert!(!node.dir.join("again.dat.incomplete").exists());
    let none = "Invalid snapshot type \"x\" specified. Please specify \"rollback\" or \"latest\"";
    assert_eq!(node.refuse("dumptxoutset", json!(["x.dat", "x"])), (-8, none.into()));
    let after = "Target block height 299 after current tip 211";
    assert_eq!(node.refuse("dumptxoutset", json!(["x.dat", "rollback"])), (-8, after.into()));
    let nowhere = node.dir.join("no/where");
    let unopened = format!("Couldn't open file {}.incomplete for writing.", nowhere.display());
    assert_eq!(node.refuse("dumptxoutset", json!([nowhere, "latest"])), (-8, unopened));
}
