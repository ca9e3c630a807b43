//! One process: started with a log file of its own, killed with its value.

use std::fs::{self, File, OpenOptions};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::until;

/// Below the ports that the system gives to outgoing connections: a daemon finds its port free again after a restart.
const FIRST_PORT: u16 = 12_000;
const PORTS: u16 = 18_000;
/// Lines of a log that are shown when a test fails.
const LAST_LINES: usize = 60;

/// A running program.
pub struct Process {
    child: Child,
    log: PathBuf,
}

/// The path of one of our binaries: beside the test's own, as cargo builds them.
///
/// # Panics
/// Where it is not built.
pub fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a test has a path");
    let folders = own.ancestors().skip(1).take(2);
    let found = folders.map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is not built: cargo build"))
}

/// A port of loopback that nobody listens on, and that no other test of this process was given.
///
/// # Panics
/// Where there is none.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Two test processes at once begin at different places.
    let base = (std::process::id() % u32::from(PORTS)) as u16;
    for _ in 0..PORTS {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST_PORT + (base.wrapping_mul(7).wrapping_add(step)) % PORTS;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}

impl Process {
    /// Starts a program; stdout and stderr go behind what the log holds.
    ///
    /// # Panics
    /// Where the system refuses.
    pub fn start(program: &str, arguments: &[String], log: &Path) -> Process {
        let file = OpenOptions::new().create(true).append(true).open(log).expect("a log file");
        let errors = file.try_clone().expect("a second handle");
        let child = Command::new(binary(program))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        Process { child, log: log.to_owned() }
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be asked")
    }

    /// kill -9, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("a child takes signals");
    }

    /// Waits until it ends by itself.
    pub async fn end(&mut self) -> ExitStatus {
        until("a process to end", async || self.ended()).await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), last_lines(&self.log));
        }
    }
}

fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

/// What a program that is expected to end by itself said.
pub struct Said {
    /// How it ended.
    pub status: ExitStatus,
    /// stdout and stderr.
    pub text: String,
}

/// Runs a program that ends by itself.
///
/// # Panics
/// Where it does not end in time: it is killed then.
pub async fn run(program: &str, arguments: &[String], log: &Path) -> Said {
    File::create(log).expect("a log file");
    let mut process = Process::start(program, arguments, log);
    let status = process.end().await;
    Said { status, text: fs::read_to_string(log).unwrap_or_default() }
}
