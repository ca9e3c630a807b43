//! The command line as a whole; each command's own arguments are with the command.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::chain::{Chain, Login};
use crate::client::{Client, ConnectString, Presence, Target, default_data_dir};
use crate::commands::{bench, chain, channel, dev, events, graph, invoice, node, payment, peer, token, wallet};
use crate::demo;
use crate::failure::{Exit, Failure};
use crate::output::Output;

/// How long a daemon that does not answer may be one that is just starting.
const START_PATIENCE: Duration = Duration::from_secs(5);
const START_LOOK: Duration = Duration::from_millis(50);

/// Payment channels from the command line.
///
/// A thin client of channeld (the channels) and l1-utxo (the chain). It finds a daemon by its data directory, or by one
/// connect string that `wallet-cli node connect-string` prints.
#[derive(Debug, Parser)]
#[command(name = "wallet-cli", version, max_term_width = 100, after_help = AFTER_HELP)]
pub struct Cli {
    /// What is meant.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `--help` ends with.
const AFTER_HELP: &str = "\
Examples:
  wallet-cli demo                                     see all of it, in under a minute
  wallet-cli --data-dir alice node info               who and where this node is
  wallet-cli --data-dir alice channel open ID 1000000 --wait
  wallet-cli --data-dir bob invoice create 2500 --description coffee
  wallet-cli --data-dir alice pay lnbcrt25u1…

Amounts are satoshi unless they say otherwise: 1000, 1500msat, 0.001btc.

Exit codes:
  0  done                          5  the payment failed: nothing was paid
  1  refused                       6  no such channel, invoice, payment or peer
  2  wrong arguments               7  balance or coins do not suffice
  3  no daemon or chain answers    8  waited in vain
  4  wrong token or certificate    9  a step of the demo or benchmark failed";

/// Options of every command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// The daemon's data directory [default: ~/.channeld].
    #[arg(long, global = true, value_name = "DIR", env = "CHANNELD_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// The network whose daemon in that directory is meant.
    #[arg(long, global = true, value_name = "NAME", default_value = "regtest", env = "CHANNELD_NETWORK")]
    pub network: NetworkName,
    /// A daemon elsewhere: channeld://TOKEN@HOST:PORT#FINGERPRINT.
    #[arg(
        long,
        global = true,
        value_name = "STRING",
        env = "CHANNELD_CONNECT",
        hide_env_values = true,
        conflicts_with = "data_dir"
    )]
    pub connect: Option<ConnectString>,
    /// The chain's JSON-RPC [default: the daemon's].
    #[arg(long, global = true, value_name = "http://HOST:PORT")]
    pub chain: Option<String>,
    /// The chain's cookie file [default: the daemon's, else l1-utxo's own].
    #[arg(long, global = true, value_name = "FILE")]
    pub chain_cookie: Option<PathBuf>,
    /// JSON instead of tables; errors too, on stderr.
    #[arg(long, global = true)]
    pub json: bool,
}

/// The networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NetworkName {
    /// Bitcoin Core's regtest: blocks on demand.
    Regtest,
    /// l1-utxo's own network with real proof of work.
    Devnet,
}

impl NetworkName {
    /// The name of its folder.
    pub fn name(self) -> &'static str {
        match self {
            NetworkName::Regtest => "regtest",
            NetworkName::Devnet => "devnet",
        }
    }

    /// Where its chain serves JSON-RPC unless told otherwise.
    fn chain_url(self) -> &'static str {
        match self {
            NetworkName::Regtest => "http://127.0.0.1:18443",
            NetworkName::Devnet => "http://127.0.0.1:19443",
        }
    }
}

impl Global {
    /// How results are written.
    pub fn output(&self) -> Output {
        Output { json: self.json }
    }

    /// The data directory that is meant.
    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(default_data_dir)
    }

    /// What the daemon's file says.
    ///
    /// # Errors
    /// Where no daemon runs there.
    pub fn presence(&self) -> Result<Presence, Failure> {
        Presence::read(&self.data_dir(), self.network.name())
    }

    /// The way to the daemon.
    ///
    /// # Errors
    /// Where no daemon runs there.
    pub fn target(&self) -> Result<Target, Failure> {
        match &self.connect {
            Some(ConnectString(target)) => Ok(target.clone()),
            None => self.presence()?.target(),
        }
    }

    /// Connects to the daemon. One that was started a moment ago is waited for.
    ///
    /// # Errors
    /// Where it does not answer.
    pub async fn client(&self) -> Result<Client, Failure> {
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            let connected = match self.target() {
                Ok(target) => Client::connect(&target).await,
                Err(failure) => Err(failure),
            };
            match connected {
                Err(failure) if failure.exit == Exit::Unreachable && Instant::now() < deadline => {
                    tokio::time::sleep(START_LOOK).await;
                }
                answer => return answer,
            }
        }
    }

    /// A client of the chain, which has answered once. One that was started a moment ago is waited for.
    ///
    /// # Errors
    /// Where it does not answer, or does not know the login.
    pub async fn answering_chain(&self) -> Result<Chain, Failure> {
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            // Anew each time: the daemon that names it may have just started as well.
            let chain = self.chain();
            match chain.height().await {
                Ok(_) => return Ok(chain),
                Err(failure) if failure.exit == Exit::Unreachable && Instant::now() < deadline => {
                    tokio::time::sleep(START_LOOK).await;
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// A client of the chain: the one that is named, else the daemon's, else the default.
    pub fn chain(&self) -> Chain {
        let presence = if self.connect.is_none() { self.presence().ok() } else { None };
        let (daemon_url, daemon_cookie) = presence.map(|at| (at.chain, at.chain_cookie)).unwrap_or_default();
        let url = self.chain.clone().or(daemon_url).unwrap_or_else(|| self.network.chain_url().into());
        let own =
            || std::env::home_dir().unwrap_or_default().join(".l1-utxo").join(self.network.name()).join(".cookie");
        Chain::new(url, Login::Cookie(self.chain_cookie.clone().or(daemon_cookie).unwrap_or_else(own)))
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// This node: who it is, what it owns.
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// The chain: blocks, mining, any JSON-RPC call.
    #[command(subcommand)]
    Chain(chain::ChainCommand),
    /// Coins on the chain.
    #[command(subcommand)]
    Wallet(wallet::WalletCommand),
    /// Connections to other nodes.
    #[command(subcommand)]
    Peer(peer::PeerCommand),
    /// Open, watch and close channels.
    #[command(subcommand)]
    Channel(channel::ChannelCommand),
    /// The public network, as gossip tells it.
    #[command(subcommand)]
    Graph(graph::GraphCommand),
    /// Get paid.
    #[command(subcommand)]
    Invoice(invoice::InvoiceCommand),
    /// Pay.
    Pay(payment::PayArgs),
    /// What happens, as it happens.
    Events(events::EventsArgs),
    /// Tokens for programs and persons that may do less than everything.
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Which of name, date, key, token, port and chain is wrong when a daemon cannot be used.
    #[command(
        after_help = "Examples:\n  wallet-cli --data-dir alice doctor\n  wallet-cli --connect channeld://TOKEN@HOST:PORT#FINGERPRINT doctor --json"
    )]
    Doctor,
    /// Make a node misbehave, on development networks.
    #[command(subcommand)]
    Dev(dev::DevCommand),
    /// Measure: two daemons, five workloads.
    Bench(bench::BenchArgs),
    /// See it all: a chain, two daemons, channels, a cheater punished, and a balance sheet.
    Demo(demo::DemoArgs),
    /// Completions for a shell, on stdout.
    #[command(
        after_help = "Example:\n  wallet-cli completions bash > ~/.local/share/bash-completion/completions/wallet-cli"
    )]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Runs a program that dies with its parent (for the demo).
    #[command(hide = true)]
    Tie(demo::TieArgs),
}

/// A thousand years, in seconds: added to now it is still a moment.
const LONGEST_TIME: u64 = 1_000 * 366 * 86_400;

/// `90s`, `10m`, `1h`, `30d` or plain seconds.
///
/// # Errors
/// What is none of these.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let expected = || format!("{text:?} is not a time: write 90s, 10m, 1h or 30d");
    let (digits, factor) = match text.char_indices().last() {
        Some((end, 's')) => (&text[..end], 1),
        Some((end, 'm')) => (&text[..end], 60),
        Some((end, 'h')) => (&text[..end], 3_600),
        Some((end, 'd')) => (&text[..end], 86_400),
        _ => (text, 1),
    };
    let figure: u64 = digits.parse().map_err(|_| expected())?;
    let seconds = figure.checked_mul(factor).filter(|seconds| *seconds <= LONGEST_TIME);
    seconds.map(Duration::from_secs).ok_or_else(|| format!("{text:?} is more than a thousand years"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times_are_read() {
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("30d"), Ok(Duration::from_secs(2_592_000)));
        assert_eq!(parse_duration("5"), Ok(Duration::from_secs(5)));
        assert!(parse_duration("x").is_err() && parse_duration("").is_err() && parse_duration("-1s").is_err());
        assert!(parse_duration("99999999999d").is_err() && parse_duration("18446744073709551615").is_err());
    }
}
