//! Two and more nodes that speak with each other, and a Bitcoin Core if `BITCOIND` names one.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::opcodes::OP_TRUE;
use bitcoin::opcodes::all::{OP_CHECKSIG, OP_RETURN};
use bitcoin::script::Builder;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness, transaction};
use serde_json::{Value, json};

use crate::node::{DEADLINE, Node};

/// P2WSH of OP_TRUE, and P2WPKH of nobody.
pub const ANYONE: &str = "bcrt1qft5p2uhsdcdc3l2ua4ap5qqfg4pjaqlp250x7us7a8qqhrxrxfsqseac85";
pub const NOBODY: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

/// Asks again and again until the answer is yes.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "no {what} in time");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Where its peers may connect.
pub fn address(node: &Node) -> String {
    std::fs::read_to_string(node.dir.join("p2p.addr")).unwrap().trim().to_owned()
}

pub fn listening(options: &[&str]) -> Node {
    Node::start_with(&[&["--listen", "127.0.0.1:0"], options].concat())
}

fn mine(node: &mut Node, count: u32, to: &str) {
    node.call("generatetoaddress", json!([count, to]));
}

fn peers(node: &mut Node) -> u64 {
    node.call("getconnectioncount", json!([])).as_u64().unwrap()
}

fn alone(node: &mut Node) {
    node.call("setnetworkactive", json!([false]));
    until("peer gone", || peers(node) == 0);
}

fn together(node: &mut Node) {
    node.call("setnetworkactive", json!([true]));
}

fn mempool(node: &mut Node) -> BTreeSet<String> {
    let list = node.call("getrawmempool", json!([]));
    list.as_array().unwrap().iter().map(|txid| txid.as_str().unwrap().to_owned()).collect()
}

fn true_script() -> ScriptBuf {
    Builder::new().push_opcode(OP_TRUE).into_script()
}

fn coinbase(node: &mut Node, height: u32) -> OutPoint {
    let hash = node.call("getblockhash", json!([height]));
    let block = node.call("getblock", json!([hash, 1]));
    OutPoint { txid: block["tx"][0].as_str().unwrap().parse().unwrap(), vout: 0 }
}

/// Spends a coin of anyone.
fn spend(coin: OutPoint, output: Vec<TxOut>) -> Transaction {
    let mut witness = Witness::new();
    witness.push(true_script().as_bytes());
    let input = TxIn { previous_output: coin, script_sig: ScriptBuf::new(), sequence: Sequence::MAX, witness };
    Transaction { version: transaction::Version::TWO, lock_time: LockTime::ZERO, input: vec![input], output }
}

fn to_anyone(sat: u64) -> TxOut {
    TxOut { value: Amount::from_sat(sat), script_pubkey: true_script().to_p2wsh() }
}

fn send(node: &mut Node, transaction: &Transaction) -> String {
    node.call("sendrawtransaction", json!([serialize_hex(transaction), 0])).as_str().unwrap().to_owned()
}

/// One output of every kind there is.
fn every_kind() -> Vec<TxOut> {
    let key = hex::decode("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798").unwrap();
    let pubkey = bitcoin::PublicKey::from_slice(&key).unwrap();
    let multisig = Builder::new().push_int(1).push_key(&pubkey).push_key(&pubkey).push_int(2);
    let multisig = multisig.push_opcode(bitcoin::opcodes::all::OP_CHECKMULTISIG).into_script();
    let scripts = [
        ScriptBuf::new_p2pkh(&pubkey.pubkey_hash()),
        true_script().to_p2sh(),
        ScriptBuf::new_p2wpkh(&pubkey.wpubkey_hash().unwrap()),
        true_script().to_p2wsh(),
        ScriptBuf::from_bytes([&[0x51, 0x20][..], &key[1..]].concat()),
        ScriptBuf::from_bytes(vec![0x51, 0x02, 0x4e, 0x73]),
        Builder::new().push_key(&pubkey).push_opcode(OP_CHECKSIG).into_script(),
        multisig,
        Builder::new().push_opcode(OP_RETURN).push_slice(b"every kind").into_script(),
    ];
    let value = |script: &ScriptBuf| if script.is_op_return() { 0 } else { 100_000 };
    scripts.into_iter().map(|script| TxOut { value: Amount::from_sat(value(&script)), script_pubkey: script }).collect()
}

fn assert_same_coins(one: &mut Node, two: &mut Node) {
    for kind in ["hash_serialized_3", "muhash"] {
        let (a, b) = (one.call("gettxoutsetinfo", json!([kind])), two.call("gettxoutsetinfo", json!([kind])));
        assert_eq!((&a[kind], &a["bestblock"], &a["txouts"]), (&b[kind], &b["bestblock"], &b["txouts"]));
        assert!(a[kind].is_string());
    }
}

/// The steps that hold between any two nodes: `two` is connected to `one` and began empty.
fn keep_in_step(one: &mut Node, two: &mut Node) {
    let tip = one.tip();
    until("sync", || two.tip() == tip);
    assert_same_coins(one, two);
    // Transactions go both ways, once both know that the chain is fresh.
    mine(one, 1, NOBODY);
    let tip = one.tip();
    until("a new block", || two.tip() == tip);
    let coin = coinbase(one, 2);
    let txid = send(one, &spend(coin, vec![to_anyone(1_000_000); 3]));
    until("a transaction", || mempool(two).contains(&txid));
    let coin = coinbase(two, 3);
    let txid = send(two, &spend(coin, vec![to_anyone(1_000_000); 3]));
    until("a transaction back", || mempool(one).contains(&txid));
    mine(two, 1, NOBODY);
    let tip = two.tip();
    until("a block back", || one.tip() == tip);
    assert!(mempool(one).is_empty());
    assert_same_coins(one, two);
    // A reorganisation in each direction.
    for round in 0..2 {
        alone(two);
        until("partition", || peers(one) == 0);
        let (ours, theirs) = if round == 0 { (3, 5) } else { (7, 4) };
        mine(one, ours, ANYONE);
        mine(two, theirs, NOBODY);
        together(two);
        let tip = if round == 0 { two.tip() } else { one.tip() };
        until("the longer chain", || one.tip() == tip && two.tip() == tip);
        assert_same_coins(one, two);
    }
}

/// A node with a thousand blocks, in which there is every kind of output.
fn with_a_thousand_blocks() -> Node {
    let mut node = listening(&[]);
    mine(&mut node, 110, ANYONE);
    let coin = coinbase(&mut node, 1);
    let mut output = every_kind();
    output.push(to_anyone(4_900_000_000));
    send(&mut node, &spend(coin, output));
    mine(&mut node, 1, ANYONE);
    assert!(mempool(&mut node).is_empty());
    mine(&mut node, 889, ANYONE);
    node
}

#[test]
fn a_thousand_blocks_are_synced_and_kept_in_step() {
    let mut one = with_a_thousand_blocks();
    let mut two = listening(&["--connect", &address(&one)]);
    keep_in_step(&mut one, &mut two);
    // The other way to speak, from the other end.
    let mut three = Node::start_with(&["--connect", &address(&two), "--v2-transport", "true"]);
    let tip = one.tip();
    until("sync over the encrypted transport", || three.tip() == tip);
    let info = three.call("getpeerinfo", json!([]));
    assert_eq!(info[0]["transport_protocol_type"], "v2");
    assert_eq!(info[0]["subver"], "/Satoshi:31.0.0(l1-utxo)/");
}

#[test]
fn a_download_that_was_killed_goes_on() {
    let mut one = with_a_thousand_blocks();
    let home = tempfile::tempdir().unwrap();
    let options = ["--connect", &address(&one)];
    let tip = one.tip();
    let mut last = 0;
    for _ in 0..4 {
        let mut two = Node::start_in(home.path(), &options);
        assert!(two.height() >= last);
        last = two.height();
        // Wherever it is when it dies.
        until("progress", || two.height() > last || two.tip() == tip);
        two.kill();
    }
    let mut two = Node::start_in(home.path(), &options);
    until("sync", || two.tip() == tip);
    assert_same_coins(&mut one, &mut two);
}

#[test]
fn bitcoin_core_is_kept_in_step() {
    let Ok(binary) = std::env::var("BITCOIND") else {
        println!("BITCOIND names no Bitcoin Core: the same steps ran between two of our nodes only");
        return;
    };
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut one = with_a_thousand_blocks();
    let mut core = Node::start_core(&binary, free(), free(), &address(&one));
    keep_in_step(&mut one, &mut core);
    // Our node from an empty start, in the clear and encrypted.
    for transport in ["false", "true"] {
        let mut two = Node::start_with(&["--connect", &address(&core), "--v2-transport", transport]);
        let tip = core.tip();
        until("sync from Bitcoin Core", || two.tip() == tip);
        assert_same_coins(&mut two, &mut core);
    }
}

#[test]
fn a_partition_of_three_heals_and_loses_no_transaction() {
    // Whom one trusts hears of transactions at once, not some seconds later.
    const TRUST: [&str; 2] = ["--whitelist", "noban,in,out@127.0.0.1"];
    let joined = |peers: &[&str]| listening(&[&TRUST, peers].concat());
    let mut one = joined(&[]);
    mine(&mut one, 160, ANYONE);
    let mut two = joined(&["--connect", &address(&one)]);
    let mut three = joined(&["--connect", &address(&two), "--connect", &address(&one)]);
    let tip = one.tip();
    until("one tip", || two.tip() == tip && three.tip() == tip);
    mine(&mut one, 1, ANYONE);
    let tip = one.tip();
    until("one tip", || two.tip() == tip && three.tip() == tip);
    for node in [&mut one, &mut two, &mut three] {
        node.call("setnetworkactive", json!([false]));
    }
    until("partition", || peers(&mut one) + peers(&mut two) + peers(&mut three) == 0);
    let mut sent = Vec::new();
    for (n, node) in [&mut one, &mut two, &mut three].into_iter().enumerate() {
        for coin in 0..6 {
            let coin = coinbase(node, 1 + 6 * n as u32 + coin);
            sent.push(send(node, &spend(coin, vec![to_anyone(1_000_000); 2])));
            // Some are confirmed on a branch that will not last.
            if sent.len() % 6 == 3 {
                mine(node, 50 + 2 * n as u32, if n == 1 { NOBODY } else { ANYONE });
            }
        }
    }
    for node in [&mut one, &mut two, &mut three] {
        together(node);
    }
    let tip = three.tip();
    until("one tip", || one.tip() == tip && two.tip() == tip);
    assert_same_coins(&mut one, &mut three);
    let confirmed = confirmed(&mut three, 60);
    let waiting: BTreeSet<String> = sent.iter().filter(|txid| !confirmed.contains(*txid)).cloned().collect();
    assert!(waiting.len() >= 12, "{waiting:?}");
    for node in [&mut one, &mut two, &mut three] {
        until("one mempool", || mempool(node) == waiting);
    }
}

/// The transactions of the last blocks.
fn confirmed(node: &mut Node, depth: u64) -> BTreeSet<String> {
    let height = node.height();
    let mut txids = BTreeSet::new();
    for height in height - depth..=height {
        let hash = node.call("getblockhash", json!([height]));
        let block = node.call("getblock", json!([hash, 1]));
        txids.extend(block["tx"].as_array().unwrap().iter().map(|txid| txid.as_str().unwrap().to_owned()));
    }
    txids
}

#[test]
fn peers_are_listed_added_banned_and_sent_away() {
    let mut one = listening(&[]);
    let mut two = Node::start();
    let at = address(&one);
    assert_eq!(two.call("addnode", json!([at, "add"])), Value::Null);
    assert_eq!(two.refuse("addnode", json!([at, "add"])).0, -23);
    until("connection", || peers(&mut one) == 1 && peers(&mut two) == 1);
    let added = two.call("getaddednodeinfo", json!([]));
    assert_eq!((&added[0]["addednode"], &added[0]["connected"]), (&json!(at), &json!(true)));
    until("handshake", || two.call("getpeerinfo", json!([]))[0]["version"] == 70_017);
    let info = two.call("getpeerinfo", json!([]));
    let (peer, other) = (&info[0], &one.call("getpeerinfo", json!([]))[0]);
    assert_eq!(
        (&peer["addr"], &peer["inbound"], &peer["connection_type"]),
        (&json!(at), &json!(false), &json!("manual"))
    );
    assert_eq!((&other["inbound"], &other["connection_type"]), (&json!(true), &json!("inbound")));
    assert_eq!(peer["servicesnames"], json!(["NETWORK", "WITNESS", "NETWORK_LIMITED", "P2P_V2"]));
    two.call("ping", json!([]));
    until("pong", || two.call("getpeerinfo", json!([]))[0]["pingtime"].is_number());
    assert!(two.call("getnettotals", json!([]))["totalbytessent"].as_u64().unwrap() > 100);
    // Sent away by number; it comes back.
    let id = peer["id"].clone();
    two.call("disconnectnode", json!(["", id]));
    until("reconnection", || two.call("getpeerinfo", json!([]))[0]["id"].as_u64().is_some_and(|new| json!(new) != id));
    assert_eq!(two.refuse("disconnectnode", json!(["", 77])).0, -29);
    assert_eq!(two.refuse("disconnectnode", json!(["127.0.0.1:1", 1])).0, -32602);
    // Banned it does not.
    one.call("setban", json!(["127.0.0.0/24", "add", 3_600]));
    until("nobody", || peers(&mut one) == 0);
    let banned = one.call("listbanned", json!([]));
    assert_eq!((&banned[0]["address"], &banned[0]["ban_duration"]), (&json!("127.0.0.0/24"), &json!(3_600)));
    assert_eq!(one.refuse("setban", json!(["127.0.0.0/24", "add"])).0, -23);
    assert_eq!(one.refuse("setban", json!(["127.0.0.9", "add"])).0, -23);
    assert_eq!(one.refuse("setban", json!(["nonsense", "add"])).0, -30);
    assert_eq!(one.refuse("setban", json!(["10.0.0.1", "remove"])).0, -30);
    one.call("clearbanned", json!([]));
    until("reconnection", || peers(&mut one) == 1);
    two.call("addnode", json!([at, "remove"]));
    assert_eq!(two.refuse("addnode", json!([at, "remove"])).0, -24);
    assert_eq!(two.refuse("addnode", json!([at, "maybe"])).0, -1);
}

#[test]
fn connections_of_every_kind_can_be_opened() {
    let mut one = listening(&["--ua-comment", "first", "--ua-comment", "and more"]);
    let mut two = Node::start_with(&["--connect", "none", "--whitelist", "noban,out@127.0.0.1"]);
    let at = address(&one);
    for kind in ["outbound-full-relay", "block-relay-only"] {
        let answer = two.call("addconnection", json!([at, kind, false]));
        assert_eq!(answer, json!({"address": at, "connection_type": kind}));
        until("connection", || peers(&mut two) == 1);
        until("handshake", || two.call("getpeerinfo", json!([]))[0]["version"] != json!(0));
        let peer = two.call("getpeerinfo", json!([]))[0].clone();
        assert_eq!((&peer["connection_type"], &peer["relaytxes"]), (&json!(kind), &json!(kind != "block-relay-only")));
        assert_eq!(peer["permissions"], json!(["noban", "download"]));
        assert_eq!(peer["subver"], "/Satoshi:31.0.0(first; and more)/");
        assert_eq!(one.call("getpeerinfo", json!([]))[0]["relaytxes"], json!(kind != "block-relay-only"));
        two.call("disconnectnode", json!([at]));
        until("end", || peers(&mut two) == 0 && peers(&mut one) == 0);
    }
    // One that only feels its way is over by itself.
    two.call("addconnection", json!([at, "feeler", false]));
    until("end", || one.call("getnettotals", json!([]))["totalbytesrecv"].as_u64() > Some(0) && peers(&mut one) == 0);
    assert_eq!(two.refuse("addconnection", json!([at, "inbound", false])).0, -8);
    assert_eq!(two.refuse("addconnection", json!([at, "feeler", true])).0, -8);
    assert_eq!(two.refuse("addnode", json!([at, "onetry", true])).0, -8);
}

#[test]
fn messages_can_be_sent_by_hand_and_orphans_be_seen() {
    let mut one = listening(&[]);
    let mut two = listening(&["--connect", &address(&one)]);
    mine(&mut one, 101, ANYONE);
    let tip = one.tip();
    until("sync", || two.tip() == tip);
    // A transaction whose parent nobody has.
    let orphan = spend(OutPoint { txid: "11".repeat(32).parse().unwrap(), vout: 7 }, vec![to_anyone(5_000)]);
    let id = two.call("getpeerinfo", json!([]))[0]["id"].clone();
    two.call("sendmsgtopeer", json!([id, "tx", serialize_hex(&orphan)]));
    until("orphan", || one.call("getorphantxs", json!([])) == json!([orphan.compute_txid().to_string()]));
    let from = one.call("getpeerinfo", json!([]))[0]["id"].clone();
    let shown = one.call("getorphantxs", json!([2]));
    assert_eq!((&shown[0]["from"], &shown[0]["hex"]), (&json!([from]), &json!(serialize_hex(&orphan))));
    assert_eq!(one.call("getorphantxs", json!([1]))[0]["weight"], orphan.weight().to_wu());
    assert_eq!(one.refuse("getorphantxs", json!([3])), (-8, "Invalid verbosity value 3".into()));
    assert_eq!(two.refuse("sendmsgtopeer", json!([id, "a name too long", ""])).0, -8);
    assert_eq!(two.refuse("sendmsgtopeer", json!([id, "ping", "x"])).0, -8);
    assert_eq!(two.refuse("sendmsgtopeer", json!([99, "ping", ""])).0, -1);
}
