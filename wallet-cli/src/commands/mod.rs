//! The commands: each reads its arguments, asks a daemon or the chain, and writes what comes back.

pub mod bench;
pub mod chain;
pub mod channel;
pub mod dev;
pub mod doctor;
pub mod events;
pub mod graph;
pub mod invoice;
pub mod node;
pub mod payment;
pub mod peer;
pub mod token;
pub mod wallet;

use std::process::ExitCode;

use clap::CommandFactory;

use crate::args::{Cli, Command};
use crate::demo;
use crate::failure::{Exit, Failure};
use crate::output;

/// Runs the command line; errors go to stderr, as text or as JSON.
pub async fn run(cli: Cli) -> ExitCode {
    let json = cli.global.json;
    match dispatch(cli).await {
        Ok(code) => code,
        Err(failure) => {
            if json {
                eprintln!("{}", failure.to_json());
            } else {
                eprintln!("{failure}");
            }
            ExitCode::from(failure.exit as u8)
        }
    }
}

async fn dispatch(cli: Cli) -> Result<ExitCode, Failure> {
    let global = &cli.global;
    match cli.command {
        Command::Node(command) => node::run(global, command).await?,
        Command::Chain(command) => chain::run(global, command).await?,
        Command::Wallet(command) => wallet::run(global, command).await?,
        Command::Peer(command) => peer::run(global, command).await?,
        Command::Channel(command) => channel::run(global, command).await?,
        Command::Graph(command) => graph::run(global, command).await?,
        Command::Invoice(command) => invoice::run(global, command).await?,
        Command::Pay(args) => payment::run(global, args).await?,
        Command::Events(args) => events::run(global, args).await?,
        Command::Token(command) => token::run(global, command).await?,
        Command::Doctor => doctor::run(global).await?,
        Command::Dev(command) => dev::run(global, command).await?,
        Command::Bench(args) => bench::run(global, args).await?,
        Command::Demo(args) => return demo::run(global, args).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "wallet-cli", &mut script);
            output::line(String::from_utf8_lossy(&script).trim_end())?;
        }
        Command::Tie(_) => unreachable!("main runs it before there is a runtime"),
    }
    Ok(ExitCode::SUCCESS)
}

/// The part of a list that a person asks for: the newest `limit` items.
#[derive(Clone, Debug, clap::Args)]
pub struct ListArgs {
    /// How many at most, the newest first.
    #[arg(long, default_value_t = 100, value_name = "COUNT")]
    pub limit: usize,
    /// The oldest first.
    #[arg(long)]
    pub oldest_first: bool,
}

impl ListArgs {
    /// The contract's word for the order.
    pub fn order(&self) -> i32 {
        let order = if self.oldest_first { proto::v1::Order::OldestFirst } else { proto::v1::Order::NewestFirst };
        order.into()
    }

    /// Gathers a list page by page: `page(size, token)` gives one page and the next token.
    ///
    /// # Errors
    /// What a page fails with.
    pub async fn gather<T, F>(&self, mut page: impl FnMut(i32, String) -> F) -> Result<Vec<T>, Failure>
    where
        F: Future<Output = Result<(Vec<T>, String), tonic::Status>>,
    {
        let (mut items, mut token) = (Vec::new(), String::new());
        while items.len() < self.limit {
            let size = (self.limit - items.len()).min(1_000) as i32;
            let (more, next) = page(size, token).await?;
            items.extend(more);
            token = next;
            if token.is_empty() {
                break;
            }
        }
        items.truncate(self.limit);
        Ok(items)
    }
}

/// A part of an answer that the contract promises.
///
/// # Errors
/// Where it is missing.
pub fn promised<T>(part: Option<T>, what: &str) -> Result<T, Failure> {
    part.ok_or_else(|| {
        Failure::new(Exit::Defect, format!("an answer without its {what}"), "look into the daemon's log")
    })
}
