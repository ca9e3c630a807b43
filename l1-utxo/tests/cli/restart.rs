//! Ends of the process, and what is left afterwards.

use serde_json::json;

use super::node::Node;
use super::wallet::{Wallet, hex};

#[test]
fn nothing_is_lost_by_a_kill() {
    let home = tempfile::tempdir().unwrap();
    let wallet = Wallet::new(1);
    let mut tip = String::new();
    for round in 0..3 {
        let mut node = Node::start_in(home.path(), &[]);
        if round > 0 {
            assert_eq!(node.tip(), tip);
        }
        wallet.mine(&mut node, 40);
        tip = node.tip();
        node.kill();
    }
    let mut node = Node::start_in(home.path(), &[]);
    assert_eq!((node.height(), node.tip()), (120, tip));
    let info = node.call("gettxoutsetinfo", json!(["none"]));
    assert_eq!(info["txouts"], 120);
    assert_eq!(info["total_amount"].to_string(), "6000.00000000");
}

#[test]
fn the_mempool_survives_a_stop_and_is_checked_again() {
    let home = tempfile::tempdir().unwrap();
    let wallet = Wallet::new(1);
    let mut node = Node::start_in(home.path(), &[]);
    let coins = wallet.mine(&mut node, 102);
    let stays = wallet.spend(&coins[..1], 1, 1_000);
    let goes = wallet.spend(&coins[1..2], 1, 1_000);
    for transaction in [&stays, &goes] {
        node.call("sendrawtransaction", json!([hex(transaction)]));
    }
    let entry = node.call("getmempoolentry", json!([stays.compute_txid()]));
    assert_eq!(node.terminate(), 0);
    let mut node = Node::start_in(home.path(), &[]);
    assert_eq!(node.call("getmempoolinfo", json!([]))["size"], 2);
    let again = node.call("getmempoolentry", json!([stays.compute_txid()]));
    assert_eq!((&again["time"], &again["fees"]), (&entry["time"], &entry["fees"]));
    // After a kill the file of the stop before is read; what a block has taken since is dropped.
    wallet.mine(&mut node, 1);
    node.kill();
    let mut node = Node::start_in(home.path(), &[]);
    assert_eq!(node.call("getmempoolinfo", json!([]))["size"], 0);
    // With the block undone its transactions are back, and stay over a stop.
    let tip = node.tip();
    node.call("invalidateblock", json!([tip]));
    assert_eq!(node.call("getmempoolinfo", json!([]))["size"], 2);
    assert_eq!(node.terminate(), 0);
    std::fs::write(home.path().join("regtest").join("mempool.dat"), "garbage").unwrap();
    let mut node = Node::start_in(home.path(), &[]);
    assert_eq!(node.call("getmempoolinfo", json!([]))["size"], 0);
}

#[test]
fn a_reorg_survives_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let wallet = Wallet::new(1);
    let mut node = Node::start_in(home.path(), &[]);
    let coins = wallet.mine(&mut node, 101);
    let spend = wallet.spend(&coins[..1], 1, 1_000);
    node.call("sendrawtransaction", json!([hex(&spend)]));
    wallet.mine(&mut node, 1);
    let left = node.tip();
    node.call("invalidateblock", json!([left]));
    Wallet::new(2).mine(&mut node, 3);
    let tip = node.tip();
    assert_eq!(node.terminate(), 0);
    let mut node = Node::start_in(home.path(), &[]);
    assert_eq!(node.tip(), tip);
    assert_eq!(node.call("getblockheader", json!([left]))["confirmations"], -1);
    node.call("reconsiderblock", json!([left]));
    assert_eq!(node.tip(), tip);
}
