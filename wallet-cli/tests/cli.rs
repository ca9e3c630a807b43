//! The command line as an interface: help, wrong input, exit codes, completions. No daemon is needed.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;

use assert_cmd::Command;

fn wallet_cli(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wallet-cli"));
    command.args(arguments).env_remove("CHANNELD_DATA_DIR").env_remove("CHANNELD_CONNECT").env("COLUMNS", "100");
    command
}

/// Exit code, stdout and stderr.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = wallet_cli(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn help_teaches() {
    insta::assert_snapshot!("help", run(&["--help"]).1);
    for command in
        ["node", "chain", "wallet", "peer", "channel", "graph", "invoice", "pay", "events", "dev", "bench", "demo"]
    {
        insta::assert_snapshot!(format!("help-{command}"), run(&[command, "--help"]).1);
    }
}

#[test]
fn every_command_has_an_example_or_says_what_it_does() {
    for command in ["channel open", "channel close", "invoice create", "peer connect", "wallet send", "chain mine"] {
        let arguments: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let (code, stdout, _) = run(&arguments);
        assert_eq!(code, 0);
        assert!(stdout.contains("Example"), "{command}: {stdout}");
    }
}

#[test]
fn wrong_arguments_are_named_and_end_with_2() {
    for (arguments, named) in [
        (vec!["nothing"], "nothing"),
        (vec!["channel", "open", "02ab", "12x"], "12x"),
        (vec!["pay", "key", "02ab", "1.5"], "1.5"),
        (vec!["pay", "stream", "02ab", "1", "--count", "0"], "0"),
        (vec!["wallet", "send", "bcrt1q", "1500msat"], "1500msat"),
        (vec!["events", "--kind", "sunrise"], "sunrise"),
        (vec!["chain", "mine", "0"], "0"),
        (vec!["--network", "mainnet", "node", "info"], "mainnet"),
        (vec!["--connect", "example.org", "node", "info"], "channeld://"),
        (vec!["bench", "--scale", "-1"], "-1"),
    ] {
        let (code, stdout, stderr) = run(&arguments);
        assert_eq!(code, 2, "{arguments:?}: {stderr}");
        assert!(stderr.contains(named), "{arguments:?}: {stderr}");
        assert!(stdout.is_empty(), "{arguments:?}: stdout is for data: {stdout}");
    }
}

#[test]
fn without_a_daemon_the_error_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let (code, stdout, stderr) = run(&["--data-dir", dir, "node", "info"]);
    assert_eq!((code, stdout.as_str()), (3, ""));
    assert!(stderr.contains("no channeld runs on regtest") && stderr.contains(" next: start it"), "{stderr}");
}

#[test]
fn a_stale_file_of_a_killed_daemon_is_no_daemon() {
    let folder = tempfile::tempdir().unwrap();
    write_presence(folder.path(), r#"{ "pid": 1, "node_id": "02", "grpc": "127.0.0.1:1", "token_file": "TOKEN" }"#);
    let (code, _, stderr) = run(&["--data-dir", folder.path().to_str().unwrap(), "node", "info"]);
    assert_eq!(code, 3, "{stderr}");
    assert!(stderr.contains("no channeld answers at 127.0.0.1:1"), "{stderr}");
}

#[test]
fn a_foreign_file_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    write_presence(folder.path(), "not json");
    let (code, _, stderr) = run(&["--data-dir", folder.path().to_str().unwrap(), "node", "info"]);
    assert_eq!(code, 70, "{stderr}");
    assert!(stderr.contains("daemon.json"), "{stderr}");
}

fn write_presence(data_dir: &Path, text: &str) {
    let folder = data_dir.join("regtest");
    std::fs::create_dir(&folder).unwrap();
    let token = folder.join("token");
    std::fs::write(&token, "0123").unwrap();
    std::fs::write(folder.join("daemon.json"), text.replace("TOKEN", token.to_str().unwrap())).unwrap();
}

#[test]
fn errors_are_json_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (code, stdout, stderr) = run(&["--json", "--data-dir", folder.path().to_str().unwrap(), "node", "info"]);
    assert_eq!((code, stdout.as_str()), (3, ""));
    let error: serde_json::Value = serde_json::from_str(&stderr).unwrap();
    assert_eq!(error["error"]["exit_code"], 3);
    assert!(error["error"]["next"].as_str().unwrap().contains("channeld"));
}

#[test]
fn without_a_chain_the_error_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let cookie = folder.path().join("cookie");
    let arguments = ["chain", "info", "--chain", "http://127.0.0.1:1", "--chain-cookie", cookie.to_str().unwrap()];
    assert_eq!(run(&arguments).0, 3, "no cookie");
    std::fs::write(&cookie, "__cookie__:00").unwrap();
    let (code, _, stderr) = run(&arguments);
    assert_eq!(code, 3, "{stderr}");
    assert!(stderr.contains("start it (`l1-utxo`"), "{stderr}");
}

#[test]
fn shells_are_completed() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, stdout, _) = run(&["completions", shell]);
        assert_eq!(code, 0);
        assert!(stdout.contains("wallet-cli") && stdout.contains("channel"), "{shell}");
    }
}

#[test]
fn the_hidden_tie_passes_on_how_its_program_ended() {
    let mut tie = std::process::Command::new(env!("CARGO_BIN_EXE_wallet-cli"))
        .args(["tie", "--", "sh", "-c", "exit 7"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // The pipe stays open meanwhile: the tie takes its end for the end of the demo.
    let pipe = tie.stdin.take();
    assert_eq!(tie.wait().unwrap().code(), Some(7));
    drop(pipe);
}

#[test]
fn what_is_tied_dies_with_the_one_who_holds_the_pipe() {
    let mut tie = std::process::Command::new(env!("CARGO_BIN_EXE_wallet-cli"))
        .args(["tie", "--", "sleep", "600"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    assert!(tie.try_wait().unwrap().is_none());
    drop(tie.stdin.take());
    // Without the tie this would wait for ten minutes.
    assert!(!tie.wait().unwrap().success());
}
