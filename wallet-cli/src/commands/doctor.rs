//! `wallet-cli doctor`: which of name, date, key, token, port and chain is wrong, when a daemon cannot be reached or does not
//! work (PAINS 16). Every check says what it saw and what to do next.

use std::net::ToSocketAddrs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proto::v1::{GetNodeRequest, GetNodeResponse, SyncState};
use serde::Serialize;
use serde_json::json;
use tokio::net::TcpStream;

use crate::args::Global;
use crate::client::{Client, ConnectString, Presence, ServedCertificate, Target, served_certificate};
use crate::failure::{Exit, Failure};
use crate::output::table;

/// How long a port may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// A certificate with less left should have been renewed by its daemon.
const RENEWED_BEFORE_DAYS: u64 = 30;

/// What was found of one thing.
#[derive(Debug, Serialize)]
struct Finding {
    /// What was looked at.
    check: &'static str,
    /// Whether it is well.
    ok: bool,
    /// What was seen.
    found: String,
    /// What to do next; empty where it is well.
    next: String,
    #[serde(skip)]
    exit: Exit,
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn well(&mut self, check: &'static str, found: impl Into<String>) {
        self.0.push(Finding { check, ok: true, found: found.into(), next: String::new(), exit: Exit::Refused });
    }

    fn wrong(&mut self, check: &'static str, exit: Exit, found: impl Into<String>, next: impl Into<String>) {
        self.0.push(Finding { check, ok: false, found: found.into(), next: next.into(), exit });
    }

    fn failed(&mut self, check: &'static str, failure: Failure) {
        self.wrong(check, failure.exit, failure.message, failure.next);
    }
}

/// Runs it.
///
/// # Errors
/// With the exit code of the first thing that is wrong.
pub async fn run(global: &Global) -> Result<(), Failure> {
    let mut findings = Findings::default();
    let presence = match &global.connect {
        Some(_) => None,
        None => local(global, &mut findings),
    };
    let target = match (&global.connect, &presence) {
        (Some(ConnectString(target)), _) => Some(target.clone()),
        (None, Some(presence)) => token_file(presence, &mut findings),
        (None, None) => None,
    };
    if let Some(target) = &target {
        port(target, presence.as_ref(), &global.data_dir().join(global.network.name()), &mut findings).await;
    }
    let node = match (&target, &presence) {
        (Some(target), _) => token(target, &mut findings).await,
        _ => None,
    };
    if let Some(presence) = &presence {
        socket(presence, &mut findings).await;
    }
    if let Some(node) = &node {
        chain(global, node, &mut findings).await;
    }
    report(global, &findings)
}

fn report(global: &Global, findings: &Findings) -> Result<(), Failure> {
    let first = findings.0.iter().find(|finding| !finding.ok);
    global.output().either(
        || json!({ "ok": first.is_none(), "checks": findings.0 }),
        || {
            let rows = findings.0.iter().map(|finding| {
                let word = if finding.ok { "ok" } else { "WRONG" };
                vec![finding.check.to_owned(), word.to_owned(), finding.found.clone()]
            });
            table(&["check", "", "found"], rows)
        },
    )?;
    match first {
        None => Ok(()),
        Some(finding) => {
            Err(Failure::new(finding.exit, format!("{}: {}", finding.check, finding.found), finding.next.clone()))
        }
    }
}

/// The daemon's own file, and its process.
fn local(global: &Global, findings: &mut Findings) -> Option<Presence> {
    let presence = match Presence::read(&global.data_dir(), global.network.name()) {
        Ok(presence) => presence,
        Err(failure) => {
            findings.failed("daemon", failure);
            return None;
        }
    };
    let pid = i32::try_from(presence.pid).ok().and_then(rustix::process::Pid::from_raw);
    let lives = pid.is_some_and(|pid| {
        // Of another user it is there too, only not ours to signal.
        !matches!(rustix::process::test_kill_process(pid), Err(rustix::io::Errno::SRCH))
    });
    if lives {
        findings.well("daemon", format!("process {} of node {}", presence.pid, presence.node_id));
    } else {
        let found = format!("process {} is gone: it was killed and left its file", presence.pid);
        findings.wrong("daemon", Exit::Unreachable, found, "start channeld again with the same --data-dir");
    }
    Some(presence)
}

/// The token's file: there, readable, and for its owner alone.
fn token_file(presence: &Presence, findings: &mut Findings) -> Option<Target> {
    let target = match presence.tcp_target() {
        Ok(target) => target,
        Err(failure) => {
            findings.failed("token file", failure);
            return None;
        }
    };
    let path = presence.token_file.as_deref().unwrap_or(Path::new(""));
    let mode = std::fs::metadata(path).map_or(0o600, |metadata| metadata.permissions().mode() & 0o777);
    if mode & 0o077 == 0 {
        findings.well("token file", path.display().to_string());
    } else {
        let found = format!("{} can be read by others (mode {mode:o})", path.display());
        findings.wrong("token file", Exit::Unauthorized, found, format!("chmod 600 {}", path.display()));
    }
    Some(target)
}

/// The port, and on it the certificate: key, date and name.
async fn port(target: &Target, presence: Option<&Presence>, folder: &Path, findings: &mut Findings) {
    let (address, pinned) = match target {
        Target::Tls { address, fingerprint, .. } => (address, Some(fingerprint)),
        Target::Plain { address, .. } => (address, None),
        Target::Unix(_) => return,
    };
    if let Err(why) = reach(address).await {
        let next = "check that channeld runs, that --grpc or the connect string names its port, and that no firewall is between";
        return findings.wrong("port", Exit::Unreachable, format!("{address}: {why}"), next);
    }
    findings.well("port", format!("{address} answers"));
    let Some(pinned) = pinned else { return };
    let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host).trim_matches(['[', ']']);
    match served_certificate(address, host).await {
        Err(failure) => findings.failed("key", failure),
        Ok(served) => certificate(&served, pinned, host, presence.map(|_| folder), findings),
    }
}

async fn reach(address: &str) -> Result<(), String> {
    let name = address.to_owned();
    let resolved = tokio::task::spawn_blocking(move || name.to_socket_addrs().map(|mut found| found.next())).await;
    let at = match resolved {
        Ok(Ok(Some(at))) => at,
        Ok(Err(error)) => return Err(format!("the name is not known: {error}")),
        _ => return Err("the name is not known".to_owned()),
    };
    match tokio::time::timeout(PATIENCE, TcpStream::connect(at)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer within 5 seconds".to_owned()),
    }
}

fn certificate(served: &ServedCertificate, pinned: &str, host: &str, folder: Option<&Path>, findings: &mut Findings) {
    if served.fingerprint == pinned {
        findings.well("key", format!("the certificate is the pinned one: {}…", &pinned[..16.min(pinned.len())]));
    } else {
        let found = format!("another certificate is shown: {}…", &served.fingerprint[..16]);
        let next = "if the daemon renewed its certificate, take a fresh `wallet-cli node connect-string`; else somebody is between you and the daemon";
        findings.wrong("key", Exit::Unauthorized, found, next);
    }
    let days = folder.and_then(|folder| days_left(&folder.join("tls.cert")));
    match (&served.date, days) {
        (Err(why), _) => {
            let next = "set this machine's clock; if it is right, send channeld SIGHUP (`kill -HUP PID`): it makes a new certificate";
            findings.wrong("date", Exit::Unauthorized, why.clone(), next);
        }
        (Ok(()), Some(days)) if days < RENEWED_BEFORE_DAYS => {
            let next =
                "send channeld SIGHUP (`kill -HUP PID`): it makes a new certificate; look into its log if it does not";
            findings.wrong("date", Exit::Unauthorized, format!("the certificate expires in {days} days"), next);
        }
        (Ok(()), Some(days)) => findings.well("date", format!("the certificate is valid for {days} days more")),
        (Ok(()), None) => findings.well("date", "the certificate is valid now"),
    }
    match &served.name {
        Ok(()) => findings.well("name", format!("the certificate is for {host}")),
        // This program pins the key, so that it does not need the name; other clients do.
        Err(why) if served.fingerprint == pinned => {
            findings.well("name", format!("{why}; wallet-cli does not mind, for it pins the key, other clients may"));
        }
        Err(why) => {
            let next = "use an address that the certificate names, or a client that pins the key";
            findings.wrong("name", Exit::Unauthorized, why.clone(), next);
        }
    }
}

/// By the line that channeld writes above its own certificates.
fn days_left(path: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let expires: u64 = text.lines().find_map(|line| line.strip_prefix("Expires: ")?.trim().parse().ok())?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    Some(expires.saturating_sub(now) / 86_400)
}

/// Whether the daemon takes the token, over TCP as other machines do.
async fn token(target: &Target, findings: &mut Findings) -> Option<GetNodeResponse> {
    let client = match Client::connect(target).await {
        Ok(client) => client,
        Err(failure) => {
            findings.failed("token", failure);
            return None;
        }
    };
    match client.node().get_node(GetNodeRequest {}).await {
        Ok(answer) => {
            findings.well("token", "the daemon takes it");
            Some(answer.into_inner())
        }
        // A token that may only do other things is still one that the daemon knows.
        Err(status) if status.code() == tonic::Code::PermissionDenied => {
            findings.well("token", "the daemon knows it; it is not for reading");
            None
        }
        Err(status) => {
            findings.failed("token", status.into());
            None
        }
    }
}

async fn socket(presence: &Presence, findings: &mut Findings) {
    let Some(path) = &presence.unix_socket else { return };
    let asked = async {
        let client = Client::connect(&Target::Unix(path.clone())).await?;
        Ok::<_, Failure>(client.node().get_node(GetNodeRequest {}).await?)
    };
    match asked.await {
        Ok(_) => findings.well("unix socket", path.display().to_string()),
        Err(failure) => findings.failed("unix socket", failure),
    }
}

/// The chain: as the daemon sees it, and as its backend answers here.
async fn chain(global: &Global, node: &GetNodeResponse, findings: &mut Findings) {
    let height = node.block_height;
    match node.sync_state() {
        SyncState::Synced => findings.well("chain", format!("synced at block {height}")),
        state => {
            let state = state.as_str_name().trim_start_matches("SYNC_STATE_").to_lowercase().replace('_', " ");
            let found = format!("{state} at block {height}: {}", node.sync_reason);
            let next = "start the chain (l1-utxo or Bitcoin Core) that channeld's --chain names, or wait until it has caught up";
            findings.wrong("chain", Exit::Unreachable, found, next);
        }
    }
    if global.connect.is_some() && global.chain.is_none() {
        return;
    }
    let asked = global.chain().call("getblockhash", json!([height])).await;
    match asked {
        Ok(hash) if hash.as_str() == Some(node.block_hash.as_str()) => {
            findings.well("chain backend", format!("{} has the daemon's block", global.chain().url()));
        }
        Ok(_) => {
            let found = format!("{} has another block at height {height}", global.chain().url());
            let next = "the backend was reset or is of another chain: start the one that channeld knows, or channeld with a new --data-dir";
            findings.wrong("chain backend", Exit::Unreachable, found, next);
        }
        Err(failure) => findings.failed("chain backend", failure),
    }
}
