//! A node as a process of its own, asked through JSON-RPC over one kept connection: ours, or Bitcoin Core's where the
//! variable `BITCOIND` names its program. Both get the same options as far as they mean the same.
#![allow(dead_code)] // each bench uses a part of it

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine;
use serde_json::{Value, json};

/// Whose node it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// `l1-utxo`.
    Ours,
    /// Bitcoin Core's `bitcoind`.
    Core(PathBuf),
}

impl Program {
    /// Ours and, where `BITCOIND` names it, Core's.
    pub fn all() -> Vec<Self> {
        let core = std::env::var_os("BITCOIND").map(|path| Self::Core(path.into()));
        std::iter::once(Self::Ours).chain(core).collect()
    }

    /// How it is called in figures.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Ours => "l1-utxo",
            Self::Core(_) => "Bitcoin Core",
        }
    }

    fn command(&self, data_dir: &Path, peers: Peers<'_>) -> (Command, Option<u16>) {
        match self {
            Self::Ours => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_l1-utxo"));
                command.args(["--network", "regtest", "--rpc", "127.0.0.1:0", "--log", "warn", "--data-dir"]);
                command.arg(data_dir);
                match peers {
                    Peers::None => &mut command,
                    Peers::Listen => command.args(["--listen", "127.0.0.1:0"]),
                    Peers::Connect(peer) => command.args(["--connect", peer]),
                };
                (command, None)
            }
            Self::Core(path) => {
                let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
                let port = free.expect("a free port").port();
                let mut command = Command::new(path);
                // Its self-checks, on by default on regtest, cost a multiple of what they check.
                command.args(["-regtest", "-checkmempool=0", "-checkblockindex=0", "-assumevalid=0", "-listen=0"]);
                command.args(["-printtoconsole=0", "-dnsseed=0", "-fixedseeds=0"]);
                command.arg(format!("-rpcport={port}")).arg(format!("-datadir={}", data_dir.display()));
                match peers {
                    Peers::None | Peers::Listen => command.arg("-connect=0"),
                    Peers::Connect(peer) => command.arg(format!("-connect={peer}")),
                };
                (command, Some(port))
            }
        }
    }
}

/// Whom it speaks with.
#[derive(Clone, Copy, Debug)]
pub enum Peers<'a> {
    /// Nobody.
    None,
    /// Whoever comes; ours only.
    Listen,
    /// This one alone.
    Connect(&'a str),
}

/// A running node; killed when dropped.
pub struct Node {
    /// The process.
    pub child: Child,
    dir: PathBuf,
    port: Option<u16>,
    login: String,
    connection: Option<BufReader<TcpStream>>,
    cpu: f64,
}

impl Node {
    /// Starts the process and waits for nothing.
    pub fn spawn(program: &Program, data_dir: &Path, peers: Peers<'_>) -> Self {
        drop(std::fs::remove_file(data_dir.join("regtest/rpc.addr")));
        let (mut command, port) = program.command(data_dir, peers);
        let child = command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().expect("the program is there");
        let dir = data_dir.join("regtest");
        Self { child, dir, port, login: String::new(), connection: None, cpu: 0.0 }
    }

    /// Connects as soon as somebody listens.
    pub fn connect(&mut self) {
        let (stream, cookie) = loop {
            let address = match self.port {
                Some(port) => Some(format!("127.0.0.1:{port}")),
                None => std::fs::read_to_string(self.dir.join("rpc.addr")).ok().filter(|text| !text.is_empty()),
            };
            let cookie = std::fs::read_to_string(self.dir.join(".cookie")).ok();
            let stream = address.and_then(|address| TcpStream::connect(address.trim()).ok());
            if let (Some(stream), Some(cookie)) = (stream, cookie) {
                break (stream, cookie);
            }
            std::thread::sleep(Duration::from_micros(200));
        };
        stream.set_nodelay(true).expect("a socket");
        self.login = base64::engine::general_purpose::STANDARD.encode(cookie.trim());
        self.connection = Some(BufReader::new(stream));
        self.cpu = self.cpu_seconds();
    }

    /// Starts it and waits until it answers.
    pub fn start(program: &Program, data_dir: &Path, peers: Peers<'_>) -> Self {
        let mut node = Self::spawn(program, data_dir, peers);
        node.connect();
        while node.post(&request("getblockcount", &json!([]))).contains("-28") {
            std::thread::sleep(Duration::from_millis(1));
        }
        node
    }

    /// Where it listens for peers.
    pub fn peer_address(&self) -> String {
        std::fs::read_to_string(self.dir.join("p2p.addr")).expect("it listens").trim().to_owned()
    }

    /// Sends a request's body and returns the reply's.
    pub fn post(&mut self, body: &str) -> String {
        let head = format!(
            "POST / HTTP/1.1\r\nHost: l1\r\nAuthorization: Basic {}\r\nContent-Length: {}\r\n\r\n{body}",
            self.login,
            body.len()
        );
        let connection = self.connection.as_mut().expect("it is connected");
        connection.get_mut().write_all(head.as_bytes()).expect("it listens");
        let mut length = 0;
        loop {
            let mut line = String::new();
            connection.read_line(&mut line).expect("it answers");
            if line == "\r\n" || line.is_empty() {
                break;
            }
            if let Some(number) = line.to_lowercase().strip_prefix("content-length: ") {
                length = number.trim().parse().expect("a number");
            }
        }
        let mut body = vec![0; length];
        connection.read_exact(&mut body).expect("it answers");
        String::from_utf8(body).expect("JSON is text")
    }

    /// Calls a method that succeeds.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        let reply = self.post(&request(method, &params));
        let mut reply: Value = serde_json::from_str(&reply).expect("JSON");
        assert!(reply["error"].is_null(), "{method}: {reply}");
        reply["result"].take()
    }

    /// The height of its tip.
    pub fn height(&mut self) -> u64 {
        self.call("getblockcount", json!([])).as_u64().expect("a height")
    }

    /// Stops it and waits for its end.
    pub fn stop(mut self) {
        self.call("stop", json!([]));
        self.child.wait().expect("it stops");
    }

    fn proc(&self, name: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{name}", self.child.id())).unwrap_or_default()
    }

    /// User and system time of the process so far, in steps of 10 ms.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = self.proc("stat");
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
    }

    /// CPU seconds since this was asked last.
    pub fn cpu_since(&mut self) -> f64 {
        let now = self.cpu_seconds();
        now - std::mem::replace(&mut self.cpu, now)
    }

    /// A field of `/proc/PID/status` in MiB: `VmRSS` for now, `VmHWM` for the most so far.
    pub fn mebibytes(&self, field: &str) -> f64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_suffix(" kB"));
        line.and_then(|kb| kb.trim_start_matches(':').trim().parse::<f64>().ok()).map_or(f64::NAN, |kb| kb / 1_024.0)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The body of a request.
pub fn request(method: &str, params: &Value) -> String {
    json!({"method": method, "params": params, "id": 0}).to_string()
}

/// The load of the machine before anything was measured.
pub fn print_load() {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load average {}", load.split(' ').take(3).collect::<Vec<_>>().join(" "));
}

/// The middle one of some values.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Prints one line.
pub fn figure(name: &str, value: f64) {
    println!("{name}: {value:.1}");
}
