//! `wallet-cli demo`: a chain and two daemons as processes of their own, and a story with figures in which every satoshi
//! is accounted for. It talks to them as anybody would: gRPC and JSON-RPC, nothing else.

pub mod balance;
pub mod network;
pub mod picture;
pub mod punishment;
pub mod report;
pub mod scene;
pub mod story;
mod tie;

pub use tie::{TieArgs, tie};

use std::process::ExitCode;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::Global;
use crate::demo::report::Report;
use crate::demo::story::Story;
use crate::failure::{Exit, Failure};

/// How a process ends that was interrupted: 128 and the signal's number.
const INTERRUPTED: u8 = 130;

/// See `--help`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wallet-cli demo\n  wallet-cli demo --json | jq .balance\n  wallet-cli demo --keep          play on by hand"
)]
pub struct DemoArgs {
    /// Leave the network running, and say how to use it by hand.
    #[arg(long)]
    keep: bool,
}

/// Runs it.
///
/// # Errors
/// Where a signal cannot be caught, or stdout is closed.
pub async fn run(global: &Global, args: DemoArgs) -> Result<ExitCode, Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| Failure::defect(error.to_string()))?;
    let mut story = Story::new(global.json);
    let told = tokio::select! {
        told = story.tell() => told,
        _ = tokio::signal::ctrl_c() => return Ok(ExitCode::from(INTERRUPTED)),
        _ = terminate.recv() => return Ok(ExitCode::from(INTERRUPTED)),
    };
    let (report, network) = story.end();
    if global.json {
        let json = serde_json::to_value(&report).map_err(|error| Failure::defect(error.to_string()))?;
        global.output().value(&json)?;
    } else {
        println!("{}", picture::summary(&report));
    }
    if let Err(failure) = &told {
        let words = network.as_ref().map(|network| network.last_words()).unwrap_or_default();
        eprintln!("{failure}\n{words}");
    }
    if let Some(network) = network.filter(|_| args.keep) {
        let hint = network.keep()?;
        if global.json { eprintln!("{hint}") } else { println!("{hint}") }
    }
    Ok(exit(&report, told.is_ok()))
}

fn exit(report: &Report, told: bool) -> ExitCode {
    if report.ok && told { ExitCode::SUCCESS } else { ExitCode::from(Exit::ShowFailed as u8) }
}
