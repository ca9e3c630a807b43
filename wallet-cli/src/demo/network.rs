//! One chain and two or more daemons: processes of their own, in a directory of their own, on free ports.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use proto::v1::{CreateAddressRequest, GetBalancesRequest, GetBalancesResponse};

use crate::chain::{Chain, Login};
use crate::client::{Client, Presence, request_id};
use crate::demo::folder::Folder;
use crate::demo::scene::until;
use crate::demo::tie::KEEP;
use crate::failure::{Exit, Failure};

const NETWORK: &str = "regtest";
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Cryptography's usual company.
const NAMES: [&str; 26] = [
    "alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy", "kate", "leo", "mallory",
    "nina", "oscar", "peggy", "quentin", "rupert", "sybil", "trent", "uma", "victor", "wendy", "xavier", "yara", "zoe",
];

/// What is to be started.
pub struct NetworkPlan {
    /// What the directory is named after.
    pub name: &'static str,
    /// How many daemons; at least 2.
    pub nodes: usize,
    /// The daemons' config file.
    pub channeld_config: String,
}

/// A process that ends with this one.
struct Tied {
    name: String,
    child: Child,
    log: PathBuf,
}

/// A daemon and the way to it.
pub struct Member {
    /// Its name.
    pub name: String,
    /// The way to it.
    pub client: Client,
    /// What it says of itself.
    pub presence: Presence,
    data_dir: PathBuf,
}

/// All of it. Dropping it kills the processes and removes the directory.
pub struct Network {
    /// The chain.
    pub chain: Chain,
    /// The one who opens channels, and cheats.
    pub alice: Member,
    /// The other one.
    pub bob: Member,
    /// Whoever else there is.
    pub others: Vec<Member>,
    // The processes go before their directory.
    processes: Vec<Tied>,
    folder: Folder,
}

impl Drop for Tied {
    fn drop(&mut self) {
        // Closing the pipe has the tie kill the program.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

impl Network {
    /// Starts the processes and connects to the daemons.
    ///
    /// # Errors
    /// Where a program is missing or does not come up; its last words are in the message.
    pub async fn start(plan: NetworkPlan) -> Result<Network, Failure> {
        let folder = Folder::make(plan.name)?;
        let mut processes = Vec::new();
        let started = start_all(&plan, folder.path(), &mut processes).await;
        let (chain, members) = started.map_err(|mut failure| {
            failure.message = format!("{}\n{}", failure.message, last_words(&processes));
            failure
        })?;
        let mut members = members.into_iter();
        let (Some(alice), Some(bob)) = (members.next(), members.next()) else {
            return Err(Failure::defect("a network has two nodes at least"));
        };
        Ok(Network { chain, alice, bob, others: members.collect(), processes, folder })
    }

    /// The ends of the processes' logs, for an error.
    pub fn last_words(&self) -> String {
        last_words(&self.processes)
    }

    /// All daemons.
    pub fn members(&self) -> Vec<&Member> {
        [&self.alice, &self.bob].into_iter().chain(&self.others).collect()
    }

    /// Unties the processes, so that they go on, and says how to use them.
    ///
    /// # Errors
    /// Where a process is gone.
    pub fn keep(mut self) -> Result<String, Failure> {
        for process in &mut self.processes {
            let kept = process.child.stdin.take().map(|mut pipe| pipe.write_all(&[KEEP]));
            if !matches!(kept, Some(Ok(()))) {
                return Err(Failure::new(Exit::ShowFailed, format!("{} is gone", process.name), "see its log"));
            }
        }
        let hint = self.hint();
        self.folder.keep();
        // The ties live on, and are not waited for.
        self.processes.drain(..).for_each(std::mem::forget);
        Ok(hint)
    }

    fn hint(&self) -> String {
        let own = std::env::args_os().next().map(PathBuf::from).unwrap_or_else(|| "wallet-cli".into());
        let cli = |member: &Member| format!("{} --data-dir {}", own.display(), member.data_dir.display());
        let (alice, bob) = (cli(&self.alice), cli(&self.bob));
        let ties: Vec<String> = self.processes.iter().map(|process| process.child.id().to_string()).collect();
        format!(
            "
The network goes on. Try:
  {alice} node balances
  {alice} channel open {} 1000000
  {alice} chain mine 3
  {bob} invoice create 2500 --description coffee
  {alice} pay INVOICE
Stop it:
  kill {} && rm -r {}",
            self.bob.presence.node_id,
            ties.join(" "),
            self.folder.path().display(),
        )
    }
}

impl Member {
    /// A fresh address of its wallet.
    ///
    /// # Errors
    /// Where the daemon refuses.
    pub async fn address(&self) -> Result<String, Failure> {
        let request = CreateAddressRequest { request_id: request_id()?, validate_only: false };
        Ok(self.client.wallet().create_address(request).await?.into_inner().address)
    }

    /// What it owns.
    ///
    /// # Errors
    /// Where the daemon refuses.
    pub async fn balances(&self) -> Result<GetBalancesResponse, Failure> {
        Ok(self.client.node().get_balances(GetBalancesRequest {}).await?.into_inner())
    }

    /// Where the other one reaches it: `id@host:port`.
    pub fn peer_address(&self) -> String {
        let listen = self.presence.listen.map(|at| at.to_string()).unwrap_or_default();
        format!("{}@{listen}", self.presence.node_id)
    }
}

fn cannot(what: &str, error: &std::io::Error) -> Failure {
    Failure::new(Exit::ShowFailed, format!("cannot {what}: {error}"), "free space in the temporary directory (TMPDIR)")
}

async fn start_all(
    plan: &NetworkPlan,
    folder: &Path,
    processes: &mut Vec<Tied>,
) -> Result<(Chain, Vec<Member>), Failure> {
    let chain_dir = folder.join("chain");
    let arguments = ["--network", NETWORK, "--data-dir", &chain_dir.display().to_string(), "--rpc", "127.0.0.1:0"];
    processes.push(spawn("l1-utxo", "l1-utxo", &arguments, folder)?);
    // l1-utxo writes there which port it got.
    let (address_file, cookie) = (chain_dir.join(NETWORK).join("rpc.addr"), chain_dir.join(NETWORK).join(".cookie"));
    let chain = until(START_TIMEOUT, "l1-utxo to answer", async || {
        alive(processes)?;
        let Ok(address) = fs::read_to_string(&address_file) else { return Ok(None) };
        let chain = Chain::new(format!("http://{}", address.trim()), Login::Cookie(cookie.clone()));
        Ok(chain.height().await.ok().map(|_| chain))
    })
    .await?;
    let names: Vec<String> = (0..plan.nodes).map(name_of).collect();
    for name in &names {
        let config = folder.join(format!("{name}.toml"));
        fs::write(&config, &plan.channeld_config).map_err(|error| cannot("write a config file", &error))?;
        let (config, data_dir) = (config.display().to_string(), folder.join(name).display().to_string());
        let cookie = cookie.display().to_string();
        let arguments = [
            "--config",
            &config,
            "--network",
            NETWORK,
            "--data-dir",
            &data_dir,
            "--alias",
            name,
            "--chain",
            chain.url(),
            "--chain-cookie",
            &cookie,
            "--grpc",
            "127.0.0.1:0",
            "--listen",
            "127.0.0.1:0",
            "--metrics",
            "127.0.0.1:0",
        ];
        processes.push(spawn(name, "channeld", &arguments, folder)?);
    }
    let mut members = Vec::with_capacity(names.len());
    for name in names {
        members.push(member(name, folder, processes).await?);
    }
    Ok((chain, members))
}

/// What the node of this number is called.
fn name_of(number: usize) -> String {
    NAMES.get(number).map_or_else(|| format!("node{}", number + 1), |name| (*name).to_string())
}

/// A program of ours: beside this one, or, where this one is a test, a folder above.
fn beside_us(program: &str) -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().map_err(|error| cannot("find this program", &error))?;
    let folder = own.parent().unwrap_or(Path::new("."));
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    let path = folder.join(program);
    if path.exists() {
        return Ok(path);
    }
    let message = format!("{} is not there", path.display());
    Err(Failure::new(Exit::ShowFailed, message, "build it: `cargo build --release`, or `cargo build` for tests"))
}

fn spawn(name: &str, program: &str, arguments: &[&str], folder: &Path) -> Result<Tied, Failure> {
    let (own, path) = (beside_us("wallet-cli")?, beside_us(program)?);
    let log = folder.join(format!("{name}.log"));
    let file = File::create(&log).map_err(|error| cannot("make a log file", &error))?;
    let errors = file.try_clone().map_err(|error| cannot("make a log file", &error))?;
    let child = Command::new(own)
        .args(["tie", "--"])
        .arg(path)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(file)
        .stderr(errors)
        // A group of its own: Ctrl-C is for the demo, which then ends in good order.
        .process_group(0)
        .spawn()
        .map_err(|error| cannot(&format!("start {program}"), &error))?;
    Ok(Tied { name: name.to_string(), child, log })
}

/// Whether all processes run.
fn alive(processes: &mut [Tied]) -> Result<(), Failure> {
    for process in processes {
        if let Ok(Some(status)) = process.child.try_wait() {
            let message = format!("{} ended with {status}", process.name);
            return Err(Failure::new(Exit::ShowFailed, message, "see its last words"));
        }
    }
    Ok(())
}

async fn member(name: String, folder: &Path, processes: &mut [Tied]) -> Result<Member, Failure> {
    let data_dir = folder.join(&name);
    let presence = until(START_TIMEOUT, "channeld to say where it is", async || {
        alive(processes)?;
        Ok(Presence::read(&data_dir, NETWORK).ok())
    })
    .await?;
    let target = presence.target()?;
    let client = until(START_TIMEOUT, "channeld to answer", async || Ok(Client::connect(&target).await.ok())).await?;
    Ok(Member { name, client, presence, data_dir })
}

/// The last lines of each log.
fn last_words(processes: &[Tied]) -> String {
    let mut text = String::new();
    for process in processes {
        let log = fs::read_to_string(&process.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(8)..];
        if !last.is_empty() {
            text.push_str(&format!("--- {}\n{}\n", process.name, last.join("\n")));
        }
    }
    text
}
