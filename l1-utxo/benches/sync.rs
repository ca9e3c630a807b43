//! How fast a node takes in a chain from a peer: two processes on this machine, every script verified. Prints one line a
//! figure; run it on an idle machine.
//!
//!     cargo bench -p l1-utxo --bench sync

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use bitcoin::OutPoint;

use self::miner::{Miner, open, transaction};

mod miner;

const BLOCKS: u32 = 300;
const SPENDS: usize = 1_000;
const RUNS: usize = 3;

fn main() {
    // `cargo test --benches` runs this too: nothing to measure there.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let source = tempfile::tempdir().expect("a temporary directory");
    let height = make_chain(&source.path().join("regtest"));
    for run in 1..=RUNS {
        let mut server = Node::start(source.path(), &["--listen", "127.0.0.1:0"]);
        let peer = std::fs::read_to_string(source.path().join("regtest/p2p.addr")).expect("it listens");
        let empty = tempfile::tempdir().expect("a temporary directory");
        let started = Instant::now();
        let mut client = Node::start(empty.path(), &["--connect", peer.trim()]);
        while client.height() < height {
            std::thread::sleep(Duration::from_millis(25));
        }
        let elapsed = started.elapsed().as_secs_f64();
        let inputs = f64::from(BLOCKS) * SPENDS as f64;
        let (cpu, peak) = (client.cpu_seconds(), client.peak_megabytes());
        println!("run {run}: {:.0} inputs/s", inputs / elapsed);
        println!("run {run}: CPU of the node, µs an input: {:.1}", cpu * 1e6 / inputs);
        println!("run {run}: CPU of its peer, µs an input: {:.1}", server.cpu_seconds() * 1e6 / inputs);
        println!("run {run}: peak memory, MiB: {peak:.0}");
        assert_eq!(client.height(), server.height());
    }
}

fn make_chain(dir: &Path) -> u32 {
    let bench = Miner::new();
    let mut ledger = open(dir);
    let first = bench.mine(&mut ledger, vec![]);
    (0..100).for_each(|_| drop(bench.mine(&mut ledger, vec![])));
    let root = OutPoint { txid: first.txids()[0], vout: 0 };
    let mut value = 5_000_000_000 / SPENDS as u64;
    let mut fan = transaction(&[root], vec![bench.pay(value); SPENDS]);
    bench.sign(&mut fan, &[5_000_000_000]);
    let txid = fan.compute_txid();
    bench.mine(&mut ledger, vec![fan]);
    let mut coins: Vec<OutPoint> = (0..SPENDS as u32).map(|vout| OutPoint { txid, vout }).collect();
    for _ in 0..BLOCKS {
        let spend = |coin: &mut OutPoint| {
            let mut spend = transaction(&[*coin], vec![bench.pay(value - 800), bench.pay(600)]);
            bench.sign(&mut spend, &[value]);
            *coin = OutPoint { txid: spend.compute_txid(), vout: 0 };
            spend
        };
        let spends = coins.iter_mut().map(spend).collect();
        value -= 800;
        bench.mine(&mut ledger, spends);
    }
    ledger.flush().expect("a disk");
    ledger.tip().height
}

/// A process of its own.
struct Node {
    child: Child,
    dir: PathBuf,
}

impl Node {
    fn start(data_dir: &Path, options: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_l1-utxo"))
            .args(["--rpc", "127.0.0.1:0", "--data-dir"])
            .arg(data_dir)
            .args(options)
            .stderr(Stdio::piped())
            .spawn()
            .expect("it was built");
        let stderr = child.stderr.take().expect("it is piped");
        let mut lines = BufReader::new(stderr).lines();
        while !lines.next().expect("it says when it is ready").expect("text").contains("ready") {}
        // Whoever does not read what it says must not hold it up.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, dir: data_dir.join("regtest") }
    }

    fn height(&mut self) -> u32 {
        let read = |name| std::fs::read_to_string(self.dir.join(name)).expect("it is running");
        let mut stream = TcpStream::connect(read("rpc.addr").trim()).expect("it listens");
        let login = base64::engine::general_purpose::STANDARD.encode(read(".cookie"));
        let body = r#"{"method":"getblockcount","id":0}"#;
        let request = format!(
            "POST / HTTP/1.1\r\nHost: l1\r\nConnection: close\r\nAuthorization: Basic {login}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).expect("it listens");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("it answers");
        let json = reply.split("\r\n\r\n").nth(1).expect("a body");
        let value: serde_json::Value = serde_json::from_str(json).expect("json");
        value["result"].as_u64().and_then(|height| u32::try_from(height).ok()).expect("a height")
    }

    fn proc(&self, name: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{name}", self.child.id())).unwrap_or_default()
    }

    fn peak_megabytes(&self) -> f64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        kilobytes.map_or(f64::NAN, |kilobytes| kilobytes / 1_024.0)
    }

    /// User and system time of all threads, in steps of 10 ms.
    fn cpu_seconds(&mut self) -> f64 {
        let stat = self.proc("stat");
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
