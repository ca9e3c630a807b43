//! The real node through JSON-RPC, as a client sees it: start, transactions one by one and in batches, templates, blocks.
//! Prints one line a figure, with the load of the machine: wall-clock figures mean little on a busy one, so the node's own
//! CPU time stands beside them.
//!
//!     cargo bench -p l1-utxo --bench node

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::hashes::Hash;
use bitcoin::secp256k1::{Message, SECP256K1, SecretKey};
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::{
    Address, Amount, Block, CompressedPublicKey, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness,
    transaction,
};
use serde_json::{Value, json};

const EMPTY_BLOCKS: usize = 10_000;
const TRANSACTIONS: usize = 2_000;
const IN_TEMPLATE: usize = 5_000;
const BATCH: usize = 100;
/// Outputs of one transaction that makes coins.
const FAN: usize = 2_500;
const ROUNDS: usize = 9;

fn main() {
    // `cargo test --benches` runs this too: nothing to measure there.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load average {}", load.split(' ').take(3).collect::<Vec<_>>().join(" "));
    start();
    blocks();
    transactions();
}

/// A running node; killed when dropped.
struct Node {
    child: Child,
    login: String,
    connection: BufReader<TcpStream>,
    cpu: f64,
}

impl Node {
    fn spawn(dir: &Path) -> (Child, Instant) {
        drop(std::fs::remove_file(dir.join("regtest/rpc.addr")));
        let child = Command::new(env!("CARGO_BIN_EXE_l1-utxo"))
            .args(["--network", "regtest", "--rpc", "127.0.0.1:0", "--log", "warn", "--data-dir"])
            .arg(dir)
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the binary was built");
        (child, Instant::now())
    }

    fn connect(dir: &Path, child: Child) -> Self {
        let address = loop {
            match std::fs::read_to_string(dir.join("regtest/rpc.addr")) {
                Ok(address) if !address.is_empty() => break address.trim().to_owned(),
                _ => std::thread::sleep(Duration::from_micros(200)),
            }
        };
        let cookie = std::fs::read_to_string(dir.join("regtest/.cookie")).expect("written before the address");
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_nodelay(true).expect("a socket");
        let login = base64::engine::general_purpose::STANDARD.encode(cookie.trim());
        let mut node = Self { child, login, connection: BufReader::new(stream), cpu: 0.0 };
        node.cpu = node.cpu_seconds();
        node
    }

    fn start(dir: &Path) -> Self {
        let (child, _) = Self::spawn(dir);
        let mut node = Self::connect(dir, child);
        while node.post(&request("getblockcount", &json!([]))).contains("-28") {
            std::thread::sleep(Duration::from_millis(1));
        }
        node
    }

    fn post(&mut self, body: &str) -> String {
        let head = format!(
            "POST / HTTP/1.1\r\nHost: l1\r\nAuthorization: Basic {}\r\nContent-Length: {}\r\n\r\n{body}",
            self.login,
            body.len()
        );
        self.connection.get_mut().write_all(head.as_bytes()).expect("it listens");
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.connection.read_line(&mut line).expect("it answers");
            if line == "\r\n" || line.is_empty() {
                break;
            }
            if let Some(number) = line.to_lowercase().strip_prefix("content-length: ") {
                length = number.trim().parse().expect("a number");
            }
        }
        let mut body = vec![0; length];
        self.connection.read_exact(&mut body).expect("it answers");
        String::from_utf8(body).expect("JSON is text")
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        let reply = self.post(&request(method, &params));
        let mut reply: Value = serde_json::from_str(&reply).expect("JSON");
        assert!(reply["error"].is_null(), "{reply}");
        reply["result"].take()
    }

    /// User and system time of the node so far, in steps of 10 ms.
    fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
    }

    /// CPU seconds since this was asked last.
    fn cpu_since(&mut self) -> f64 {
        let now = self.cpu_seconds();
        now - std::mem::replace(&mut self.cpu, now)
    }

    fn resident_mib(&self, field: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_suffix(" kB"));
        line.and_then(|kb| kb.trim_start_matches(':').trim().parse::<f64>().ok()).map_or(f64::NAN, |kb| kb / 1_024.0)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn request(method: &str, params: &Value) -> String {
    json!({"method": method, "params": params, "id": 0}).to_string()
}

fn start() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut node = Node::start(dir.path());
    let wallet = Wallet::new();
    let coinbases = wallet.mine(&mut node, 150);
    // A million coins: 50 transactions of 20,000 outputs, each in a block of its own, too large to be relayed.
    for coinbase in coinbases.iter().take(50) {
        let fan = wallet.spend(*coinbase, 20_000, coinbase.1 - 1_000_000);
        let block = node.call("generateblock", json!([wallet.address(), [serialize_hex(&fan)]]));
        assert!(block["hash"].is_string());
    }
    wallet.mine(&mut node, 800);
    figure("resident with a million coins just made, MiB", node.resident_mib("VmRSS"));
    node.call("stop", json!([]));
    node.child.wait().expect("it stops");
    drop(node);
    for what in ["clean", "killed"] {
        let mut answers: Vec<(f64, f64)> = Vec::new();
        let mut resident = 0.0f64;
        for _ in 0..3 {
            let (child, begun) = Node::spawn(dir.path());
            let mut node = Node::connect(dir.path(), child);
            let mut first = None;
            let counted = loop {
                let reply = node.post(&request("getblockcount", &json!([])));
                first.get_or_insert_with(|| begun.elapsed());
                if !reply.contains("-28") {
                    break begun.elapsed();
                }
                std::thread::sleep(Duration::from_micros(500));
            };
            answers.push((first.unwrap_or_default().as_secs_f64() * 1e3, counted.as_secs_f64() * 1e3));
            resident = resident.max(node.resident_mib("VmHWM"));
            if what == "clean" {
                node.call("stop", json!([]));
                node.child.wait().expect("it stops");
            }
        }
        let (first, counted): (Vec<f64>, Vec<f64>) = answers.into_iter().unzip();
        figure(&format!("start of a {what} node, first answer, ms"), median(first));
        figure(&format!("start of a {what} node, getblockcount, ms"), median(counted));
        figure(&format!("start of a {what} node, resident at most, MiB"), resident);
    }
}

fn blocks() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut node = Node::start(dir.path());
    let address = Wallet::new().address();
    node.call("generatetoaddress", json!([100, address]));
    node.cpu_since();
    let begun = Instant::now();
    node.call("generatetoaddress", json!([EMPTY_BLOCKS, address]));
    figure("empty blocks generated by one call, per second", EMPTY_BLOCKS as f64 / begun.elapsed().as_secs_f64());
    figure("empty blocks generated, CPU µs each", node.cpu_since() * 1e6 / EMPTY_BLOCKS as f64);
    let begun = Instant::now();
    for _ in 0..1_000 {
        node.call("generatetoaddress", json!([1, address]));
    }
    figure("empty blocks generated one a call, per second", 1_000.0 / begun.elapsed().as_secs_f64());
}

fn transactions() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut node = Node::start(dir.path());
    let wallet = Wallet::new();
    let wanted = 2 * TRANSACTIONS + IN_TEMPLATE;
    let coinbases = wallet.mine(&mut node, 110);
    let mut coins = Vec::new();
    for coinbase in coinbases.iter().take(wanted.div_ceil(FAN)) {
        let fan = wallet.spend(*coinbase, FAN, coinbase.1 - 1_000_000);
        node.call("sendrawtransaction", json!([serialize_hex(&fan), 0]));
        let value = fan.output[0].value.to_sat();
        coins.extend((0..FAN as u32).map(|vout| (OutPoint { txid: fan.compute_txid(), vout }, value)));
    }
    wallet.mine(&mut node, 1);
    let signed: Vec<String> =
        coins.iter().take(wanted).map(|coin| serialize_hex(&wallet.spend(*coin, 2, coin.1 - 1_000))).collect();
    let (single, rest) = signed.split_at(TRANSACTIONS);
    let (batched, templated) = rest.split_at(TRANSACTIONS);

    let bodies: Vec<String> = single.iter().map(|hex| request("sendrawtransaction", &json!([hex]))).collect();
    node.cpu_since();
    let begun = Instant::now();
    for body in &bodies {
        assert!(node.post(body).contains("\"error\":null"));
    }
    rate("transactions sent one at a time", TRANSACTIONS, begun, &mut node);

    let batches = batch(batched);
    node.cpu_since();
    let begun = Instant::now();
    for body in &batches {
        assert!(!node.post(body).contains("\"message\""));
    }
    rate("transactions sent in batches of 100", TRANSACTIONS, begun, &mut node);

    wallet.mine(&mut node, 2);
    for body in batch(templated) {
        assert!(!node.post(&body).contains("\"message\""));
    }
    assert_eq!(node.call("getmempoolinfo", json!([]))["size"], IN_TEMPLATE);
    templates(&mut node);
    let begun = Instant::now();
    wallet.mine(&mut node, 1);
    figure("5,000 transactions mined, ms", begun.elapsed().as_secs_f64() * 1e3);
    figure("resident at most, MiB", node.resident_mib("VmHWM"));
}

fn templates(node: &mut Node) {
    let ask = request("getblocktemplate", &json!([{"rules": ["segwit"]}]));
    let txid = node.call("getrawmempool", json!([]))[0].clone();
    let (mut cold, mut warm) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // A change of the mempool: what was written before does not hold any more.
        node.call("prioritisetransaction", json!([txid, 0, if round % 2 == 0 { 1 } else { -1 }]));
        for times in [&mut cold, &mut warm] {
            let begun = Instant::now();
            let reply = node.post(&ask);
            times.push(begun.elapsed().as_secs_f64() * 1e3);
            assert!(reply.len() > 1_000_000);
        }
    }
    figure("getblocktemplate of 5,000 transactions after a change, ms", median(cold));
    figure("getblocktemplate of 5,000 transactions again, ms", median(warm));
}

fn batch(transactions: &[String]) -> Vec<String> {
    let batch = transactions.chunks(BATCH).map(|chunk| {
        let calls = chunk.iter().map(|hex| json!({"method": "sendrawtransaction", "params": [hex], "id": 0}));
        Value::Array(calls.collect()).to_string()
    });
    batch.collect()
}

fn rate(name: &str, count: usize, begun: Instant, node: &mut Node) {
    figure(&format!("{name}, per second"), count as f64 / begun.elapsed().as_secs_f64());
    figure(&format!("{name}, node's CPU µs each"), node.cpu_since() * 1e6 / count as f64);
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn figure(name: &str, value: f64) {
    println!("{name}: {value:.1}");
}

struct Wallet {
    key: SecretKey,
    public: CompressedPublicKey,
}

impl Wallet {
    fn new() -> Self {
        let key = SecretKey::from_slice(&[7; 32]).expect("below the order");
        Self { key, public: CompressedPublicKey(key.public_key(SECP256K1)) }
    }

    fn script(&self) -> ScriptBuf {
        ScriptBuf::new_p2wpkh(&self.public.wpubkey_hash())
    }

    fn address(&self) -> String {
        Address::p2wpkh(&self.public, bitcoin::Network::Regtest).to_string()
    }

    /// Mines, and returns the coinbases as coins.
    fn mine(&self, node: &mut Node, count: usize) -> Vec<(OutPoint, u64)> {
        let hashes = node.call("generatetoaddress", json!([count, self.address()]));
        let hashes = hashes.as_array().expect("a list").clone();
        let coinbases = hashes.into_iter().map(|hash| {
            let block = node.call("getblock", json!([hash, 0]));
            let block: Block = deserialize_hex(block.as_str().expect("hex")).expect("a block");
            let coinbase = &block.txdata[0];
            (OutPoint { txid: coinbase.compute_txid(), vout: 0 }, coinbase.output[0].value.to_sat())
        });
        coinbases.collect()
    }

    /// Spends a coin to `outputs` equal parts of `total`, signed.
    fn spend(&self, coin: (OutPoint, u64), outputs: usize, total: u64) -> Transaction {
        let output = TxOut { value: Amount::from_sat(total / outputs as u64), script_pubkey: self.script() };
        let input = TxIn { previous_output: coin.0, sequence: Sequence::MAX, ..TxIn::default() };
        let mut spend = Transaction {
            version: transaction::Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![input],
            output: vec![output; outputs],
        };
        let mut cache = SighashCache::new(&mut spend);
        let value = Amount::from_sat(coin.1);
        let sighash = cache.p2wpkh_signature_hash(0, &self.script(), value, EcdsaSighashType::All).expect("an input");
        let message = Message::from_digest(sighash.to_byte_array());
        let signature = bitcoin::ecdsa::Signature::sighash_all(SECP256K1.sign_ecdsa(&message, &self.key));
        *cache.witness_mut(0).expect("an input") = Witness::p2wpkh(&signature, &self.public.0);
        spend
    }
}
