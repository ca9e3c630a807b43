//! The data directory as a process meets it: a full disk, files that are in the way, `l1-utxo check`.

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use super::node::{Node, command};
use super::wallet::Wallet;

fn run(arguments: &[&str], dir: &Path) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command().args(arguments).arg("--data-dir").arg(dir).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn check(dir: &Path) -> (Option<i32>, String, String) {
    run(&["check", "--level", "4"], dir)
}

/// No block is acknowledged that a restart does not know, and no coin is wrong.
#[test]
fn a_full_disk_stops_the_node_and_costs_nothing() {
    let home = tempfile::tempdir().unwrap();
    let wallet = Wallet::new(1);
    let mut node = Node::start_in(home.path(), &[]);
    wallet.mine(&mut node, 20);
    assert_eq!(node.terminate(), 0);

    let mut node = Node::start_on_full_disk(home.path(), 40);
    let address = wallet.address();
    let mut acknowledged: Vec<Value> = Vec::new();
    for _ in 0..1_000 {
        match node.try_post("generatetoaddress", json!([1, address])) {
            Some(reply) if reply["error"].is_null() => acknowledged.extend(reply["result"].as_array().unwrap().clone()),
            _ => break,
        }
    }
    assert!(!acknowledged.is_empty() && acknowledged.len() < 1_000, "{}", acknowledged.len());
    let (code, log) = node.last_words();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("make room and start again"), "{log}");

    let (code, ok, error) = check(home.path());
    assert_eq!(code, Some(0), "{ok}{error}");
    let mut node = Node::start_in(home.path(), &[]);
    let height = node.height() as usize;
    assert!(height >= 20 + acknowledged.len(), "{height} of {}", 20 + acknowledged.len());
    assert_eq!(node.call("getblockhash", json!([20 + acknowledged.len()])), *acknowledged.last().unwrap());
    let info = node.call("gettxoutsetinfo", json!(["muhash"]));
    assert_eq!(info["txouts"], height);
    wallet.mine(&mut node, 3);
    assert_eq!(node.terminate(), 0);
}

#[test]
fn files_in_the_way_are_named() {
    for name in [".cookie", "rpc.addr", "blocks", "chainstate", "network"] {
        let home = tempfile::tempdir().unwrap();
        let place = home.path().join("regtest").join(name);
        if matches!(name, "blocks" | "chainstate") {
            // A marker, so that the directory counts as ours.
            std::fs::create_dir_all(place.parent().unwrap()).unwrap();
            std::fs::write(home.path().join("regtest/network"), "l1-utxo regtest\n").unwrap();
            std::fs::write(&place, "a file where a folder should be").unwrap();
        } else {
            std::fs::create_dir_all(place.join("within")).unwrap();
        }
        let (code, _, stderr) = run(&["--rpc", "127.0.0.1:0"], home.path());
        assert_eq!(code, Some(1), "{name}: {stderr}");
        assert!(stderr.contains("error: ") && stderr.contains(name), "{name}: {stderr}");
        assert!(!stderr.contains("panicked"), "{name}: {stderr}");
        assert!(place.exists());
    }
}

/// A cookie that a killed node left is no obstacle, and no key.
#[test]
fn an_old_cookie_is_replaced() {
    let home = tempfile::tempdir().unwrap();
    let node = Node::start_in(home.path(), &[]);
    let old = node.cookie.clone();
    node.kill();
    for left in [old.as_str(), "", "garbage"] {
        std::fs::write(home.path().join("regtest/.cookie"), left).unwrap();
        std::fs::write(home.path().join("regtest/.cookie.tmp"), "half").unwrap();
        let mut node = Node::start_in(home.path(), &[]);
        assert_ne!(node.cookie, old);
        let call = r#"{"id":1,"method":"getblockcount"}"#;
        assert_eq!(node.http("POST", Some(&old), call).status, 401);
        assert_eq!(node.post(call).status, 200);
        node.kill();
    }
}

#[test]
fn check_tells_by_words_and_exit_code() {
    let home = tempfile::tempdir().unwrap();
    let (code, _, stderr) = check(home.path());
    assert_eq!(code, Some(1));
    assert!(stderr.contains("holds no chain") && stderr.contains("--data-dir"), "{stderr}");
    assert!(!home.path().join("regtest").exists(), "nothing is made");

    let mut node = Node::start_in(home.path(), &[]);
    Wallet::new(1).mine(&mut node, 12);
    let (code, _, stderr) = check(home.path());
    assert_eq!(code, Some(1));
    assert!(stderr.contains("in use by another l1-utxo"), "{stderr}");
    assert_eq!(node.terminate(), 0);

    let (code, stdout, stderr) = check(home.path());
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("ok at level 4: height 12") && stdout.contains("12 coins"), "{stdout}");
    for level in 1..=4 {
        assert_eq!(stderr.contains(&format!("level {level}: ")), level != 3, "{stderr}");
    }
    let log = home.path().join("regtest/blocks/00000.log");
    let mut bytes = std::fs::read(&log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&log, &bytes).unwrap();
    let (code, _, stderr) = check(home.path());
    assert_eq!(code, Some(1));
    assert!(stderr.contains("00000.log is damaged at byte") && stderr.contains("restore"), "{stderr}");
    let (code, _, stderr) = run(&["check", "--network", "devnet"], home.path());
    assert_eq!((code, stderr.contains("holds no chain")), (Some(1), true));
    for bad in [&["check", "--level", "5"][..], &["check", "--level", "0"], &["check", "--network", "main"], &["chek"]]
    {
        assert_eq!(run(bad, home.path()).0, Some(2), "{bad:?}");
    }
}
