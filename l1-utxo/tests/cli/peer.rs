//! Two and more nodes that speak with each other.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::node::{DEADLINE, Node};

/// Asks again and again until the answer is yes.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "no {what} in time");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Where its peers may connect.
fn address(node: &Node) -> String {
    std::fs::read_to_string(node.dir.join("p2p.addr")).unwrap().trim().to_owned()
}

fn listening() -> Node {
    Node::start_with(&["--listen", "127.0.0.1:0"])
}

#[test]
fn two_nodes_sync_a_thousand_blocks_and_follow_a_reorg() {
    let mut one = listening();
    let script = "bcrt1qft5p2uhsdcdc3l2ua4ap5qqfg4pjaqlp250x7us7a8qqhrxrxfsqseac85";
    one.call("generatetoaddress", json!([1_000, script]));
    let mut two = Node::start_with(&["--connect", &address(&one)]);
    let tip = one.tip();
    until("sync", || two.tip() == tip);
    // Partition: both go on alone.
    two.call("setnetworkactive", json!([false]));
    until("partition", || one.call("getconnectioncount", json!([])) == 0);
    one.call("generatetoaddress", json!([3, script]));
    two.call("generatetoaddress", json!([5, "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"]));
    two.call("setnetworkactive", json!([true]));
    let tip = two.tip();
    until("the longer chain", || one.tip() == tip);
    // And the other way round.
    two.call("setnetworkactive", json!([false]));
    until("partition", || one.call("getconnectioncount", json!([])) == 0);
    one.call("generatetoaddress", json!([7, script]));
    two.call("generatetoaddress", json!([4, "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"]));
    two.call("setnetworkactive", json!([true]));
    let tip = one.tip();
    until("the longer chain", || two.tip() == tip);
    for kind in ["hash_serialized_3", "muhash"] {
        let (a, b) = (one.call("gettxoutsetinfo", json!([kind])), two.call("gettxoutsetinfo", json!([kind])));
        assert_eq!((&a[kind], &a["bestblock"]), (&b[kind], &b["bestblock"]));
    }
}
