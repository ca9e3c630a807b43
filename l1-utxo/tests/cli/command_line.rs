//! Options, config files and directories, right and wrong.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::json;

use super::node::{Node, command};

fn run(arguments: &[&str], dir: &Path) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command().arg("--data-dir").arg(dir).args(arguments).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn help_and_version_say_what_this_is() {
    let help = command().arg("--help").output().unwrap();
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(help.status.success());
    for word in ["--network", "--data-dir", "--rpc", "--mine-every", "--config", "curl", "devnet"] {
        assert!(text.contains(word), "{word} is missing in\n{text}");
    }
    let version = command().arg("--version").output().unwrap();
    assert_eq!(String::from_utf8(version.stdout).unwrap(), format!("l1-utxo {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn bad_options_name_themselves() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("l1.toml");
    let config = file.to_str().unwrap();
    let table: &[(&[&str], &str, &str)] = &[
        (&["--rpc", "192.0.2.1:18443"], "", "rpc = \"192.0.2.1:18443\""),
        (&["--network", "main"], "", "network = \"main\""),
        (&["--frobnicate"], "", "--frobnicate"),
        (&["--config", config], "rcp = \"127.0.0.1:0\"", "rcp"),
        (&["--config", config], "max-mempool = -1", "max-mempool"),
        (&["--config", config], "mine-every = \"never\"", "mine-every = \"never\""),
        (&["--config", "/nonexistent.toml"], "", "/nonexistent.toml"),
        (&["--log", "l1_utxo=loud"], "", "log = \"l1_utxo=loud\""),
    ];
    for (arguments, text, message) in table {
        std::fs::write(&file, text).unwrap();
        let (code, stderr) = run(arguments, home.path());
        assert_eq!(code, Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(message), "{arguments:?}: {stderr}");
    }
}

#[test]
fn a_config_file_says_it_all() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("l1.toml");
    std::fs::write(&file, "max-mempool = 7\nmin-relay-feerate = 250\nrpc-user = \"bob\"\nrpc-password = \"b\"\n")
        .unwrap();
    let mut node = Node::start_in(&home.path().join("data"), &["--config", file.to_str().unwrap()]);
    let info = node.call("getmempoolinfo", json!([]));
    assert_eq!(info["maxmempool"], 7_000_000);
    assert_eq!(info["minrelaytxfee"].to_string(), "0.00000250");
    assert_eq!(node.http("POST", Some("bob:b"), "[]").status, 200);
}

#[test]
fn a_directory_serves_one_process_and_one_network() {
    let home = tempfile::tempdir().unwrap();
    let mut node = Node::start_in(home.path(), &[]);
    let (code, stderr) = run(&["--rpc", "127.0.0.1:0"], home.path());
    assert_eq!(code, Some(1));
    assert!(stderr.contains("in use by another l1-utxo") && stderr.contains("--data-dir"), "{stderr}");
    // The second one left the first one's files alone.
    assert_eq!(std::fs::read_to_string(node.dir.join(".cookie")).unwrap(), node.cookie);
    let port_taken = run(&["--rpc", &node.address.clone()], &home.path().join("other"));
    assert_eq!(port_taken.0, Some(1));
    assert!(port_taken.1.contains("--rpc"), "{}", port_taken.1);
    assert_eq!(node.height(), 0);
    assert_eq!(node.terminate(), 0);

    std::fs::rename(home.path().join("regtest"), home.path().join("devnet")).unwrap();
    let (code, stderr) = run(&["--network", "devnet", "--rpc", "127.0.0.1:0"], home.path());
    assert_eq!(code, Some(1));
    assert!(stderr.contains("belongs to the network regtest"), "{stderr}");
}

#[test]
fn a_log_without_a_reader_stops_no_node() {
    let home = tempfile::tempdir().unwrap();
    let arguments = ["--network", "regtest", "--rpc", "127.0.0.1:0", "--data-dir"];
    let mut child = command().args(arguments).arg(home.path()).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(log.any(|line| line.unwrap().contains("ready")));
    drop(log);
    // It says that it stops, to nobody.
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
