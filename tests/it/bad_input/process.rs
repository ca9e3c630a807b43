//! Processes that must not start: each says why, names what is wrong, and ends with an error.

use tests::Cluster;
use tests::daemon::arguments;
use tests::process::{free_port, run};

async fn refused(cluster: &Cluster, program: &str, arguments: &[String], expected: &[&str]) {
    let said = run(program, arguments, &cluster.folder().join("refused.log")).await;
    assert!(!said.status.success(), "{program} {arguments:?}: {}", said.text);
    assert!(!said.text.contains("panicked"), "{}", said.text);
    for words in expected {
        assert!(said.text.contains(words), "{words:?} is not in what {program} {arguments:?} says: {}", said.text);
    }
}

/// The arguments with another value for one option.
fn with(arguments: &[String], option: &str, value: &str) -> Vec<String> {
    let mut arguments = arguments.to_vec();
    match arguments.iter().position(|argument| argument == option) {
        Some(place) => arguments[place + 1] = value.to_owned(),
        None => arguments.extend([option.to_owned(), value.to_owned()]),
    }
    arguments
}

pub async fn second_processes(cluster: &mut Cluster) {
    on_the_same_directory(cluster).await;
    settings(cluster).await;
    chain_settings(cluster).await;
    on_a_foreign_directory(cluster).await;
}

async fn on_the_same_directory(cluster: &Cluster) {
    let bob = cluster.bob();
    let data_dir = bob.data_dir().display().to_string();
    let second = with(&arguments(&cluster.chain, bob.data_dir()), "--alias", "second");
    refused(cluster, "channeld", &second, &["in use", &data_dir]).await;
    assert_eq!(bob.node().await.alias, "bob");
}

async fn settings(cluster: &Cluster) {
    let fresh = cluster.folder().join("fresh");
    let base = arguments(&cluster.chain, &fresh);
    let cases: [(&str, &str, &[&str]); 12] = [
        ("--network", "mainnet", &["network", "mainnet", "regtest or devnet"]),
        // The chain is another one.
        ("--network", "devnet", &["chain"]),
        ("--chain", "ftp://127.0.0.1", &["chain", "http://HOST:PORT"]),
        ("--grpc", "nowhere", &["grpc", "nowhere"]),
        ("--listen", "127.0.0.1", &["listen", "HOST:PORT"]),
        ("--listen", "127.0.0.1:99999", &["listen", "99999"]),
        ("--metrics", "0.0.0.0:9000", &["metrics", "loopback"]),
        ("--alias", "a name that is longer than any name of a node may be", &["alias", "32"]),
        ("--tls", "maybe", &["tls", "maybe"]),
        ("--passphrase-file", "/nonexistent/passphrase", &["/nonexistent/passphrase"]),
        ("--log", "a=b=c", &["log"]),
        ("--data-dir", "/proc/nowhere", &["/proc/nowhere"]),
    ];
    for (option, value, expected) in cases {
        refused(cluster, "channeld", &with(&base, option, value), expected).await;
    }
    let open = with(&with(&base, "--grpc", &format!("0.0.0.0:{}", free_port())), "--tls", "false");
    refused(cluster, "channeld", &open, &["grpc", "loopback"]).await;
    refused(cluster, "channeld", &[base.clone(), vec!["--colour".into()]].concat(), &["--colour"]).await;
    refused(cluster, "channeld", &base[2..], &["network"]).await;
    let taken = cluster.bob().presence().listen.unwrap().to_string();
    refused(cluster, "channeld", &with(&base, "--listen", &taken), &["listen", &taken]).await;
    let file = cluster.folder().join("wrong.toml");
    for (text, expected) in [
        ("colour = 'blue'", "colour"),
        ("[limits]\nconfirmation = 1", "confirmation"),
        ("[limits]\nconfirmations = 0", "limits.confirmations"),
        ("[limits]\nmax-accepted-htlcs = 484", "max-accepted-htlcs"),
        ("[limits]\nto-self-delay = 5", "to-self-delay"),
        ("alias = 5", "alias"),
        ("alias = 'x", "alias"),
    ] {
        std::fs::write(&file, text).unwrap();
        let path = file.display().to_string();
        refused(cluster, "channeld", &with(&base, "--config", &path), &[expected]).await;
    }
    refused(cluster, "channeld", &with(&base, "--config", "/nonexistent.toml"), &["/nonexistent.toml"]).await;
}

async fn chain_settings(cluster: &Cluster) {
    let fresh = cluster.folder().join("fresh-chain").display().to_string();
    let rpc = format!("127.0.0.1:{}", free_port());
    let base = ["--network", "regtest", "--data-dir", &fresh, "--rpc", &rpc].map(str::to_owned).to_vec();
    let cases: [(&str, &str, &[&str]); 5] = [
        ("--network", "main", &["network", "main"]),
        ("--rpc", "0.0.0.0:18443", &["rpc"]),
        ("--rpc", "x", &["rpc"]),
        ("--mine-every", "soon", &["mine-every"]),
        ("--data-dir", "/proc/nowhere", &["/proc/nowhere"]),
    ];
    for (option, value, expected) in cases {
        refused(cluster, "l1-utxo", &with(&base, option, value), expected).await;
    }
    let chain = cluster.folder().join("chain").display().to_string();
    refused(cluster, "l1-utxo", &with(&base, "--data-dir", &chain), &[&chain]).await;
    assert!(cluster.chain.height().await > 0);
}

/// Alice's seed with Bob's store: she must not speak for his channels.
async fn on_a_foreign_directory(cluster: &mut Cluster) {
    let copy = |from: &std::path::Path, name: &str, to: &std::path::Path| {
        std::fs::copy(from.join("regtest").join(name), to.join("regtest").join(name)).unwrap();
    };
    cluster.nodes[1].stop().await;
    let (alice, bob) = (cluster.nodes[0].data_dir().to_owned(), cluster.nodes[1].data_dir().to_owned());
    let kept = cluster.folder().join("kept");
    std::fs::create_dir_all(kept.join("regtest")).unwrap();
    for name in ["seed", "seed.key"] {
        copy(&bob, name, &kept);
        copy(&alice, name, &bob);
    }
    let again = cluster.nodes[1].arguments().to_vec();
    refused(cluster, "channeld", &again, &["belongs to"]).await;
    // A seed file that was cut, and none at all.
    for name in ["seed", "seed.key"] {
        copy(&kept, name, &bob);
    }
    let seed = bob.join("regtest").join("seed");
    let whole = std::fs::read(&seed).unwrap();
    std::fs::write(&seed, &whole[..whole.len() / 2]).unwrap();
    refused(cluster, "channeld", &again, &["seed"]).await;
    std::fs::remove_file(&seed).unwrap();
    refused(cluster, "channeld", &again, &["seed", "missing"]).await;
    std::fs::write(&seed, whole).unwrap();
    cluster.nodes[1].restart().await;
}
