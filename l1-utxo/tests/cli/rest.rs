//! REST, and notifications by ZeroMQ, as LDK, electrs and LND use them.

use bitcoin::consensus::encode::deserialize;
use bitcoin::{Block, block::Header};
use serde_json::{Value, json};
use zeromq::{Socket, SocketRecv, SubSocket};

use super::node::Node;
use super::wallet::{Wallet, hex};

fn json_of(node: &mut Node, path: &str) -> Value {
    let reply = node.get(path);
    assert_eq!(reply.status, 200, "{path}: {reply:?}");
    serde_json::from_str(&reply.body).unwrap()
}

fn hex_of(node: &mut Node, path: &str) -> Vec<u8> {
    let reply = node.get(path);
    assert_eq!(reply.status, 200, "{path}: {reply:?}");
    hex::decode(reply.body.trim()).unwrap()
}

#[test]
fn rest_tells_what_json_rpc_does() {
    let mut node = Node::start_with(&["--rest", "--txindex"]);
    let wallet = Wallet::new(1);
    let coins = wallet.mine(&mut node, 102);
    let spend = wallet.spend(&coins[..1], 1, 1_000);
    let txid = node.call("sendrawtransaction", json!([hex(&spend)])).as_str().unwrap().to_owned();
    let tip = node.tip();
    assert_eq!(json_of(&mut node, "/rest/chaininfo.json"), node.call("getblockchaininfo", json!([])));
    let headers = hex_of(&mut node, &format!("/rest/headers/1/{tip}.hex"));
    assert_eq!(deserialize::<Header>(&headers).unwrap().block_hash().to_string(), tip);
    let first = node.call("getblockhash", json!([1])).as_str().unwrap().to_owned();
    let five = json_of(&mut node, &format!("/rest/headers/{first}.json"));
    assert_eq!((five.as_array().unwrap().len(), &five[4]["height"]), (5, &json!(5)));
    assert_eq!(json_of(&mut node, &format!("/rest/headers/{first}.json?count=7")).as_array().unwrap().len(), 7);
    let block = hex_of(&mut node, &format!("/rest/block/{tip}.hex"));
    assert_eq!(deserialize::<Block>(&block).unwrap().block_hash().to_string(), tip);
    let part = hex_of(&mut node, &format!("/rest/blockpart/{tip}.hex?offset=4&size=10"));
    assert_eq!(part, block[4..14]);
    assert_eq!(node.get(&format!("/rest/blockpart/{tip}.hex?offset=4")).status, 400);
    let ids = json_of(&mut node, &format!("/rest/block/notxdetails/{tip}.json"));
    assert_eq!(ids, node.call("getblock", json!([tip, 1])));
    assert_eq!(json_of(&mut node, "/rest/blockhashbyheight/102.json"), json!({"blockhash": tip}));
    assert_eq!(node.get("/rest/blockhashbyheight/102.hex").body.trim(), tip);
    assert_eq!(node.get("/rest/blockhashbyheight/900.json").status, 404);
    assert_eq!(node.get("/rest/blockhashbyheight/-1.json").status, 400);
    assert_eq!(node.get("/rest/blockhashbyheight/+1.json").status, 400);
    assert_eq!(node.get(&format!("/rest/getutxos/{txid}-+0.json")).status, 400);
    assert_eq!(node.get(&format!("/rest/deploymentinfo/{}.json", "ab".repeat(32))).status, 400);
    assert_eq!(node.get("/rest/block/00.json").body, "Invalid hash: 00\r\n");
    assert_eq!(node.get(&format!("/rest/block/{tip}.txt")).status, 400);
    assert_eq!(hex_of(&mut node, &format!("/rest/spenttxouts/{tip}.hex")), [1, 0]);
    assert_eq!(json_of(&mut node, &format!("/rest/tx/{txid}.json"))["txid"], txid.as_str());
    assert_eq!(json_of(&mut node, "/rest/mempool/info.json")["size"], 1);
    assert_eq!(json_of(&mut node, "/rest/mempool/contents.json?verbose=false"), json!([txid]));

    let spent = coins[0].outpoint.txid;
    let utxos = json_of(&mut node, &format!("/rest/getutxos/checkmempool/{spent}-0/{txid}-0.json"));
    assert_eq!((&utxos["bitmap"], &utxos["chainHeight"]), (&json!("01"), &json!(102)));
    let confirmed = json_of(&mut node, &format!("/rest/getutxos/{spent}-0/{txid}-0.json"));
    assert_eq!(confirmed["bitmap"], "10");
    assert_eq!(confirmed["utxos"][0]["value"].to_string(), "50.00000000");
    let bytes = hex_of(&mut node, &format!("/rest/getutxos/{spent}-0.hex"));
    assert_eq!((&bytes[..4], &bytes[36..39]), (&102u32.to_le_bytes()[..], &[1, 1, 1][..]));
    wallet.mine(&mut node, 1);
    let tip = node.tip();
    let spent = json_of(&mut node, &format!("/rest/spenttxouts/{tip}.json"));
    assert_eq!(spent[1][0]["value"].to_string(), "50.00000000");
    assert_eq!(json_of(&mut node, &format!("/rest/tx/{txid}.json"))["blockhash"], tip.as_str());
}

/// The parts of the next message: topic, body, counter.
async fn next(socket: &mut SubSocket) -> (String, Vec<u8>, u32) {
    let message = tokio::time::timeout(super::node::DEADLINE, socket.recv()).await.unwrap().unwrap();
    let parts = message.into_vec();
    let counter = u32::from_le_bytes(parts[2].as_ref().try_into().unwrap());
    (String::from_utf8(parts[0].to_vec()).unwrap(), parts[1].to_vec(), counter)
}

async fn subscribe(address: &str, topics: &[&str]) -> SubSocket {
    let mut socket = SubSocket::new();
    socket.connect(address).await.unwrap();
    for topic in topics {
        socket.subscribe(topic).await.unwrap();
    }
    socket
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zmq_publishes_blocks_transactions_and_their_sequence() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("tcp://127.0.0.1:{port}");
    let options: Vec<String> = ["raw-block", "raw-tx", "hash-block", "hash-tx", "sequence"]
        .iter()
        .flat_map(|topic| [format!("--zmq-pub-{topic}"), address.clone()])
        .collect();
    let mut node =
        tokio::task::block_in_place(|| Node::start_with(&options.iter().map(String::as_str).collect::<Vec<_>>()));
    let listed = node.call("getzmqnotifications", json!([]));
    assert_eq!(listed.as_array().unwrap().len(), 5);
    assert!(
        listed.as_array().unwrap().iter().any(|row| row["type"] == "pubrawblock" && row["address"] == address.as_str())
    );
    let wallet = Wallet::new(1);
    let coins = wallet.mine(&mut node, 101);

    let mut blocks = subscribe(&address, &["hashblock"]).await;
    let mut raw = subscribe(&address, &["rawtx"]).await;
    let mut sequence = subscribe(&address, &["sequence"]).await;
    // A subscription takes effect in its own time: blocks are made until one is heard on every socket.
    let mut heard = [false; 3];
    while heard != [true; 3] {
        wallet.mine(&mut node, 1);
        for (at, socket) in [&mut blocks, &mut raw, &mut sequence].into_iter().enumerate() {
            let wait = std::time::Duration::from_millis(200);
            heard[at] |= tokio::time::timeout(wait, socket.recv()).await.is_ok();
        }
    }
    let spend = wallet.spend(&coins[..1], 1, 1_000);
    node.call("sendrawtransaction", json!([hex(&spend)]));
    let body = bitcoin::consensus::encode::serialize(&spend);
    let mut counter = None;
    loop {
        let (topic, found, number) = next(&mut raw).await;
        assert_eq!(topic, "rawtx");
        // Every message counts one more.
        assert_eq!(number, counter.map_or(number, |counter| counter + 1));
        counter = Some(number);
        if found == body {
            break;
        }
    }
    let txid = hex::decode(spend.compute_txid().to_string()).unwrap();
    loop {
        let (_, body, _) = next(&mut sequence).await;
        if body[..32] == txid {
            assert_eq!((body[32], body.len()), (b'A', 41));
            break;
        }
        assert_eq!((body[32], body.len()), (b'C', 33));
    }
    wallet.mine(&mut node, 1);
    let tip = hex::decode(node.tip()).unwrap();
    while next(&mut blocks).await.1 != tip {}
    let last = node.tip();
    node.call("invalidateblock", json!([last]));
    loop {
        let (_, body, _) = next(&mut sequence).await;
        if body[32] == b'D' {
            assert_eq!(body[..32], tip);
            break;
        }
    }
}
