//! The binary from outside: help, wrong settings, foreign and missing files. Every error names what is wrong.

use std::path::Path;
use std::process::{Command, Output};

use assert_cmd::cargo::cargo_bin;

fn channeld(args: &[&str]) -> Output {
    Command::new(cargo_bin("channeld")).args(args).output().expect("the binary runs")
}

fn fails_with(args: &[&str], text: &str) {
    let output = channeld(args);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{args:?}");
    assert!(errors.contains(text), "{args:?}: {errors}");
    assert!(!errors.contains("panicked"), "{args:?}: {errors}");
}

fn least(folder: &Path) -> Vec<String> {
    let folder = folder.display().to_string();
    // Nobody listens on port 9: the daemon starts without its chain.
    let args = ["--network", "regtest", "--data-dir", &folder, "--chain", "http://127.0.0.1:9", "--chain-cookie", "/c"];
    args.into_iter().map(str::to_owned).collect()
}

#[test]
fn help_names_every_option() {
    let output = channeld(&["--help"]);
    let help = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success());
    for option in ["--network", "--data-dir", "--chain", "--chain-cookie", "--grpc", "--listen", "--alias", "--metrics"]
    {
        assert!(help.contains(option), "{option}: {help}");
    }
    assert!(channeld(&["--version"]).status.success());
}

#[test]
fn wrong_settings_are_named() {
    fails_with(&[], "network is not set");
    fails_with(&["--network", "main"], "network = \"main\"");
    fails_with(&["--network", "regtest"], "chain is not set");
    fails_with(&["--colour"], "--colour");
    let folder = tempfile::tempdir().expect("a folder");
    let args = least(folder.path());
    let with = |more: &[&'static str]| {
        let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
        args.extend(more);
        args.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    for (more, text) in [
        (["--grpc", "nowhere"], "grpc = \"nowhere\""),
        (["--listen", "127.0.0.1:99999"], "listen = \"127.0.0.1:99999\""),
        (["--metrics", "8.8.8.8:1"], "metrics"),
        (["--log", "a=b=c"], "log"),
    ] {
        let args = with(&more);
        fails_with(&args.iter().map(String::as_str).collect::<Vec<_>>(), text);
    }
    let args = with(&["--tls", "false", "--grpc", "0.0.0.0:0"]);
    fails_with(&args.iter().map(String::as_str).collect::<Vec<_>>(), "not a loopback address");
}

#[test]
fn a_config_file_is_read_strictly() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("channeld.toml");
    let path = file.display().to_string();
    fails_with(&["--config", &path], "channeld.toml");
    for (text, error) in [
        ("colour = 'red'", "colour"),
        ("network = 5", "network"),
        ("network = 'regtest'\nchain = 'ftp://x'", "chain = \"ftp://x\""),
        ("network = 'regtest'\n[limits]\nslots = 3", "slots"),
    ] {
        std::fs::write(&file, text).expect("written");
        fails_with(&["--config", &path], error);
    }
}

#[test]
fn a_store_without_its_seed_and_a_foreign_store_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let args = least(folder.path());
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let with_words: Vec<&str> = args.iter().copied().chain(["--show-words"]).collect();
    fails_with(&with_words, "no seed");
    std::fs::create_dir_all(folder.path().join("regtest/store")).expect("made");
    fails_with(&args, "seed is missing");
}
