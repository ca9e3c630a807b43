//! The binary from outside: help, wrong settings, foreign and missing files. Every error names what is wrong.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

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

/// Starts a daemon in `folder` and reads its log up to a line that holds `text`.
fn start_until(folder: &Path, data_dir: &str, text: &str) -> Child {
    let mut args = least(Path::new(data_dir));
    args.extend(["--grpc", "127.0.0.1:0", "--listen", "127.0.0.1:0"].map(str::to_owned));
    let mut command = Command::new(cargo_bin("channeld"));
    let mut child = command.args(args).current_dir(folder).stderr(Stdio::piped()).spawn().expect("the binary runs");
    let log = BufReader::new(child.stderr.take().expect("it is piped")).lines();
    assert!(log.map_while(Result::ok).any(|line| line.contains(text)));
    child
}

fn ends_well(mut child: Child) {
    assert!(Command::new("kill").arg(child.id().to_string()).status().expect("there is kill").success());
    assert_eq!(child.wait().expect("it is ours").code(), Some(0));
}

#[test]
fn a_log_without_a_reader_stops_no_daemon() {
    let folder = tempfile::tempdir().expect("a folder");
    // From here on it logs to nobody.
    ends_well(start_until(folder.path(), "data", "a seed was made"));
}

#[test]
fn what_the_daemon_says_of_itself_can_be_read_from_anywhere() {
    let folder = tempfile::tempdir().expect("a folder");
    let deep = ["a"; 60].join("/");
    for (data_dir, has_socket) in [("data", true), (deep.as_str(), false)] {
        let child = start_until(folder.path(), data_dir, "the daemon runs");
        let file = std::fs::read_to_string(folder.path().join(data_dir).join("regtest/daemon.json")).expect("is there");
        let file: serde_json::Value = serde_json::from_str(&file).expect("JSON");
        let path = |name: &str| file[name].as_str().map(Path::new);
        assert!(path("token_file").is_some_and(Path::is_absolute), "{file}");
        assert!(path("chain_cookie").is_some_and(Path::is_absolute), "{file}");
        assert_eq!(path("unix_socket").is_some_and(Path::is_absolute), has_socket, "{file}");
        ends_well(child);
    }
}
