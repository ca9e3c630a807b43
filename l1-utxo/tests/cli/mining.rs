//! Blocks: made, read, waited for, taken back.

use serde_json::{Value, json};

use super::node::Node;
use super::wallet::{Wallet, hex, output};

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn blocks_read_as_from_core() {
    let mut node = Node::start();
    let wallet = Wallet::new(1);
    wallet.mine(&mut node, 2);
    let tip = node.tip();
    let block = node.call("getblock", json!([tip]));
    let expected = [
        "hash",
        "confirmations",
        "height",
        "version",
        "versionHex",
        "merkleroot",
        "time",
        "mediantime",
        "nonce",
        "bits",
        "target",
        "difficulty",
        "chainwork",
        "nTx",
        "previousblockhash",
        "strippedsize",
        "size",
        "weight",
        "coinbase_tx",
        "tx",
    ];
    assert_eq!(keys(&block), expected);
    assert_eq!(block["confirmations"], 1);
    assert_eq!(block["versionHex"], "20000000");
    assert_eq!(block["chainwork"].as_str().unwrap(), format!("{:064x}", 6));
    let header = node.call("getblockheader", json!([block["previousblockhash"]]));
    assert_eq!(header["nextblockhash"], tip.as_str());
    assert_eq!(node.call("getblockheader", json!([tip, false])).as_str().unwrap().len(), 160);
    let detailed = node.call("getblock", json!([tip, 2]));
    let paid = &detailed["tx"][0]["vout"][0];
    assert_eq!(paid["value"].to_string(), "50.00000000");
    assert_eq!(keys(&paid["scriptPubKey"]), ["asm", "desc", "hex", "address", "type"]);
    assert_eq!(paid["scriptPubKey"]["address"], wallet.address());
    assert_eq!(paid["scriptPubKey"]["type"], "witness_v0_keyhash");
    assert_eq!(detailed["tx"][0]["vout"][1]["scriptPubKey"]["type"], "nulldata");

    let info = node.call("gettxoutsetinfo", json!([]));
    assert_eq!(info["total_amount"].to_string(), "100.00000000");
    assert_eq!((&info["height"], &info["txouts"]), (&json!(2), &json!(2)));
    assert_eq!(info["hash_serialized_3"].as_str().unwrap().len(), 64);
    assert!(node.call("gettxoutsetinfo", json!(["muhash"]))["muhash"].is_string());
    assert!(!keys(&node.call("gettxoutsetinfo", json!(["none"]))).contains(&"hash_serialized_3"));
}

#[test]
fn the_subsidy_halves_every_150_blocks() {
    let mut node = Node::start();
    let coins = Wallet::new(1).mine(&mut node, 300);
    assert_eq!([coins[148].value, coins[149].value, coins[299].value], [5_000_000_000, 2_500_000_000, 1_250_000_000]);
}

#[test]
fn waiting_ends_with_the_next_block() {
    let mut node = Node::start_with(&["--mine-every", "20ms"]);
    let genesis = node.call("getblockhash", json!([0]));
    let first = node.call("waitfornewblock", json!([0, genesis]));
    assert_ne!(first["hash"], genesis);
    let later = node.call("waitforblockheight", json!([5]));
    assert!(later["height"].as_u64().unwrap() >= 5);
    assert!(node.height() >= 5);
}

#[test]
fn waiting_ends_with_the_timeout_and_with_the_node() {
    let mut node = Node::start();
    let tip = node.tip();
    assert_eq!(node.call("waitfornewblock", json!([1, tip]))["height"], 0);
    assert_eq!(node.call("waitforblock", json!([tip]))["height"], 0);
    assert_eq!(node.call("stop", json!([])), "l1-utxo stopping");
    assert_eq!(node.ended(), 0);
}

#[test]
fn a_template_becomes_a_block() {
    let mut node = Node::start();
    let wallet = Wallet::new(1);
    let coins = wallet.mine(&mut node, 101);
    let parent = wallet.spend(&coins[..1], 2, 10_000);
    let child = wallet.spend(&[output(&parent, 0)], 1, 20_000);
    for transaction in [&parent, &child] {
        node.call("sendrawtransaction", json!([hex(transaction)]));
    }
    let template = node.call("getblocktemplate", json!([{"rules": ["segwit"]}]));
    assert_eq!(template["height"], 102);
    assert_eq!(template["transactions"][1]["depends"], json!([1]));
    assert_eq!(template["transactions"][1]["fee"], 20_000);
    assert_eq!(template["coinbasevalue"], 5_000_030_000u64);
    assert_eq!(template["previousblockhash"], node.tip().as_str());

    let made = node.call("generateblock", json!([wallet.address(), [parent.compute_txid().to_string()], false]));
    let block = made["hex"].as_str().unwrap().to_owned();
    assert_eq!(node.height(), 101);
    assert_eq!(node.call("getblocktemplate", json!([{"mode": "proposal", "data": block}])), Value::Null);
    assert_eq!(node.call("submitblock", json!([block])), Value::Null);
    assert_eq!(node.call("submitblock", json!([block])), "duplicate");
    assert_eq!(node.tip(), made["hash"].as_str().unwrap());
    assert_eq!(node.call("getrawmempool", json!([])), json!([child.compute_txid().to_string()]));
    let bad = node.refuse("generateblock", json!([wallet.address(), [hex(&parent)]]));
    assert_eq!(bad, (-25, "TestBlockValidity failed: bad-txns-BIP30, tried to overwrite transaction".to_owned()));
    let truncated = &block[..block.len() - 2];
    assert_eq!(node.refuse("submitblock", json!([truncated])), (-22, "Block decode failed".to_owned()));
}

#[test]
fn a_reorg_returns_transactions() {
    let mut node = Node::start();
    let wallet = Wallet::new(1);
    let coins = wallet.mine(&mut node, 102);
    let first = wallet.spend(&coins[..1], 1, 1_000);
    let second = wallet.spend(&[output(&first, 0)], 1, 1_000);
    node.call("sendrawtransaction", json!([hex(&first)]));
    node.call("sendrawtransaction", json!([hex(&second)]));
    wallet.mine(&mut node, 1);
    assert_eq!(node.call("getrawmempool", json!([])), json!([]));
    let young = wallet.spend(&coins[3..4], 1, 1_000);
    // Mature in the next block only: block 4's coinbase at height 104.
    node.call("sendrawtransaction", json!([hex(&young)]));
    let left = node.tip();
    node.call("invalidateblock", json!([left]));
    assert_eq!(node.height(), 102);
    let returned = [first.compute_txid().to_string(), second.compute_txid().to_string()];
    // The immature one is gone, the confirmed ones are back, parents first.
    assert_eq!(node.call("getrawmempool", json!([])), json!(returned));
    assert_eq!(node.call("getmempoolentry", json!([returned[1]]))["ancestorcount"], 2);
    node.call("reconsiderblock", json!([left]));
    assert_eq!(node.tip(), left);
    assert_eq!(node.call("getrawmempool", json!([])), json!([]));
}

#[test]
fn the_clock_can_be_set() {
    let mut node = Node::start();
    node.call("setmocktime", json!([1_900_000_000]));
    Wallet::new(1).mine(&mut node, 1);
    let tip = node.tip();
    assert_eq!(node.call("getblockheader", json!([tip]))["time"], 1_900_000_000);
    assert_eq!(node.call("getblockchaininfo", json!([]))["initialblockdownload"], false);
    node.call("setmocktime", json!([0]));
}

#[test]
fn blocks_vote_and_weigh_as_they_are_told() {
    let options = ["--block-max-weight", "9000", "--block-min-feerate", "2000"];
    let mut node = Node::start_with(&options);
    assert_eq!(node.call("getmininginfo", json!([]))["currentblocktx"], Value::Null);
    let wallet = Wallet::new(1);
    wallet.mine(&mut node, 142);
    let version = |node: &mut Node| {
        let template = node.call("getblocktemplate", json!([{"rules": ["segwit"]}]));
        (template["version"].clone(), template["vbavailable"].clone())
    };
    assert_eq!(version(&mut node), (json!(0x2000_0000), json!({})));
    // From the second period on they vote for what there is to vote on.
    wallet.mine(&mut node, 1);
    assert_eq!(version(&mut node), (json!(0x3000_0000), json!({"testdummy": 28})));
    let info = node.call("getmininginfo", json!([]));
    assert_eq!((&info["currentblocktx"], &info["currentblockweight"]), (&json!(0), &json!(8_000)));
    assert_eq!(info["blockmintxfee"].to_string(), "0.00002000");
    // A header may be given with its block.
    let tip = node.tip();
    let block = node.call("getblock", json!([tip, 0]));
    assert_eq!(node.call("submitheader", json!([block])), Value::Null);
    assert_eq!(node.refuse("submitheader", json!(["00"])), (-22, "Block header decode failed".into()));
}
