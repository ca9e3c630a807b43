//! Starts a node as a process of its own and talks to it as any client would.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use base64::Engine;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Whatever we wait for must come within this time.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A running node; killed when dropped.
pub struct Node {
    child: Child,
    lines: Receiver<String>,
    pub dir: PathBuf,
    pub address: String,
    pub cookie: String,
    connection: Option<BufReader<TcpStream>>,
    /// Removed with the node.
    home: Option<TempDir>,
}

/// What HTTP said.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: String,
    pub body: String,
}

pub fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_l1-utxo"))
}

impl Node {
    /// A node on an empty directory.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// A node on an empty directory with further options.
    pub fn start_with(options: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut node = Self::start_in(home.path(), options);
        node.home = Some(home);
        node
    }

    /// A node on a directory that outlives it.
    pub fn start_in(dir: &Path, options: &[&str]) -> Self {
        Self::launch(command(), dir, options)
    }

    /// A node whose files may not grow beyond so many KiB each, as on a disk that is full.
    pub fn start_on_full_disk(dir: &Path, kibibytes: u64) -> Self {
        let mut shell = Command::new("sh");
        // Without the trap the system would kill the process instead of refusing the write.
        let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", kibibytes * 2);
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_l1-utxo")]);
        Self::launch(shell, dir, &[])
    }

    fn launch(mut command: Command, dir: &Path, options: &[&str]) -> Self {
        let mut child = command
            .args(["--network", "regtest", "--rpc", "127.0.0.1:0", "--data-dir"])
            .arg(dir)
            .args(options)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let network = dir.join("regtest");
        let mut node = Self {
            child,
            lines,
            dir: network.clone(),
            address: String::new(),
            cookie: String::new(),
            connection: None,
            home: None,
        };
        node.wait_for_line("ready");
        node.address = std::fs::read_to_string(network.join("rpc.addr")).unwrap().trim().to_owned();
        node.cookie = std::fs::read_to_string(network.join(".cookie")).unwrap();
        node
    }

    /// A Bitcoin Core on an empty directory, on ports that were free a moment ago; it connects to `peer`, and listens.
    pub fn start_core(binary: &str, port: u16, rpc_port: u16, peer: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let child = Command::new(binary)
            .args(["-regtest", "-server", "-listen=1", "-listenonion=0", "-fallbackfee=0.0001", "-checkmempool=0"])
            .args([format!("-connect={peer}"), format!("-rpcport={rpc_port}"), format!("-bind=127.0.0.1:{port}")])
            .arg(format!("-datadir={}", home.path().display()))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let (_, lines) = channel();
        let dir = home.path().join("regtest");
        let deadline = Instant::now() + DEADLINE;
        let cookie = loop {
            let answers = TcpStream::connect(("127.0.0.1", rpc_port)).is_ok();
            match std::fs::read_to_string(dir.join(".cookie")) {
                Ok(cookie) if answers => break cookie,
                _ => assert!(Instant::now() < deadline, "Bitcoin Core did not start"),
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        std::fs::write(dir.join("p2p.addr"), format!("127.0.0.1:{port}")).unwrap();
        let address = format!("127.0.0.1:{rpc_port}");
        let mut node = Self { child, lines, dir, address, cookie, connection: None, home: Some(home) };
        // It answers long before it is loaded.
        while node.try_call("getblockcount", json!([])).is_err() {
            assert!(Instant::now() < deadline, "Bitcoin Core did not load");
            std::thread::sleep(Duration::from_millis(50));
        }
        node
    }

    /// Waits for a line of the log.
    pub fn wait_for_line(&self, text: &str) {
        let deadline = Instant::now() + DEADLINE;
        let mut seen = String::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|error| panic!("no \"{text}\": {error}\n{seen}"));
            if line.contains(text) {
                return;
            }
            seen.push_str(&line);
            seen.push('\n');
        }
    }

    /// A raw request. `login` is `user:password`.
    pub fn http(&mut self, verb: &str, login: Option<&str>, body: &str) -> Reply {
        let login = login.map(|login| {
            let encoded = base64::engine::general_purpose::STANDARD.encode(login);
            format!("Authorization: Basic {encoded}\r\n")
        });
        let request = format!(
            "{verb} / HTTP/1.1\r\nHost: l1\r\n{}Content-Length: {}\r\n\r\n{body}",
            login.unwrap_or_default(),
            body.len()
        );
        // The node ends connections that were silent for half a minute.
        if self.connection.as_mut().is_some_and(is_over) {
            self.connection = None;
        }
        let connection = self.connection.get_or_insert_with(|| {
            let stream = TcpStream::connect(&self.address).unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            BufReader::new(stream)
        });
        connection.get_mut().write_all(request.as_bytes()).unwrap();
        read_reply(connection)
    }

    /// A plain question, without a password.
    pub fn get(&mut self, path: &str) -> Reply {
        let request = format!("GET {path} HTTP/1.1\r\nHost: l1\r\nConnection: close\r\n\r\n");
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        read_reply(&mut BufReader::new(stream))
    }

    /// A request of our own, with the cookie.
    pub fn post(&mut self, body: &str) -> Reply {
        let cookie = self.cookie.clone();
        self.http("POST", Some(&cookie), body)
    }

    /// Calls a method; its result, or its error's code and message.
    pub fn try_call(&mut self, method: &str, params: Value) -> Result<Value, (i64, String)> {
        let reply = self.post(&json!({"method": method, "params": params, "id": 0}).to_string());
        let mut body: Value = serde_json::from_str(&reply.body).unwrap_or_else(|_| panic!("{reply:?}"));
        let error = &body["error"];
        if error.is_null() {
            return Ok(body["result"].take());
        }
        Err((error["code"].as_i64().unwrap(), error["message"].as_str().unwrap().to_owned()))
    }

    /// Calls a method that must succeed.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.try_call(method, params.clone()).unwrap_or_else(|error| panic!("{method} {params}: {error:?}"))
    }

    /// Calls a method that must fail.
    pub fn refuse(&mut self, method: &str, params: Value) -> (i64, String) {
        match self.try_call(method, params.clone()) {
            Err(error) => error,
            Ok(result) => panic!("{method} {params} succeeded: {result}"),
        }
    }

    /// The hash of the tip.
    pub fn tip(&mut self) -> String {
        self.call("getbestblockhash", json!([])).as_str().unwrap().to_owned()
    }

    pub fn height(&mut self) -> u64 {
        self.call("getblockcount", json!([])).as_u64().unwrap()
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and the exit code.
    pub fn terminate(mut self) -> i32 {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().code().unwrap()
    }

    /// Waits for the process to end by itself.
    pub fn ended(mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap()
    }

    /// Waits for the process to end by itself: its exit code and the rest of its log.
    pub fn last_words(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        let mut log = String::new();
        while let Ok(line) = self.lines.recv_timeout(DEADLINE) {
            log.push_str(&line);
            log.push('\n');
        }
        (code, log)
    }

    /// A call that may find the node gone.
    pub fn try_post(&mut self, method: &str, params: Value) -> Option<Value> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        stream.set_read_timeout(Some(DEADLINE)).ok()?;
        let encoded = base64::engine::general_purpose::STANDARD.encode(&self.cookie);
        let body = json!({"method": method, "params": params, "id": 0}).to_string();
        let length = body.len();
        let head = format!("POST / HTTP/1.1\r\nHost: l1\r\nConnection: close\r\nAuthorization: Basic {encoded}\r\n");
        write!(stream, "{head}Content-Length: {length}\r\n\r\n{body}").ok()?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).ok()?;
        serde_json::from_str(reply.split_once("\r\n\r\n")?.1).ok()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether the other side has ended it.
fn is_over(connection: &mut BufReader<TcpStream>) -> bool {
    let stream = connection.get_mut();
    stream.set_nonblocking(true).unwrap();
    let seen = stream.peek(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    !matches!(seen, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

fn read_reply(connection: &mut BufReader<TcpStream>) -> Reply {
    let mut headers = String::new();
    loop {
        let mut line = String::new();
        connection.read_line(&mut line).unwrap();
        if line == "\r\n" || line.is_empty() {
            break;
        }
        headers.push_str(&line.to_lowercase());
    }
    let status =
        headers.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{headers}"));
    let length = headers.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    connection.read_exact(&mut body).unwrap();
    Reply { status, headers, body: String::from_utf8(body).unwrap() }
}
