//! `wallet-cli demo`: a chain and two daemons as processes of their own, and a story with figures in which every satoshi
//! is accounted for. It talks to them as anybody would: gRPC and JSON-RPC, nothing else.

/// One step of a story: how long it took, and whether it went well, go into the report.
macro_rules! step {
    ($teller:ident, $name:literal, $told:expr) => {{
        let started = std::time::Instant::now();
        let told = $told.await;
        let (ok, seconds) = (told.is_ok(), started.elapsed().as_secs_f64());
        $teller.report.steps.push(Step { name: $name, ok, seconds });
        told.map_err(|failure: Failure| Failure { message: format!("{}: {}", $name, failure.message), ..failure })?;
    }};
}

pub mod balance;
mod folder;
pub mod network;
pub mod picture;
pub mod punishment;
pub mod report;
pub mod scene;
pub mod sketch;
mod stage;
pub mod story;
mod tie;
pub mod web;

pub use tie::{TieArgs, tie};

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::Global;
use crate::demo::network::Network;
use crate::demo::story::Story;
use crate::demo::web::Web;
use crate::failure::{Exit, Failure};
use crate::output;

/// How a process ends that was interrupted: 128 and the signal's number.
const INTERRUPTED: u8 = 130;

/// See `--help`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wallet-cli demo\n  wallet-cli demo --json | jq .balance\n  wallet-cli demo --keep          play on by hand\n  wallet-cli demo --nodes 10 --svg network.svg"
)]
pub struct DemoArgs {
    /// Leave the network running, and say how to use it by hand.
    #[arg(long)]
    keep: bool,
    /// A network of so many nodes instead, with payments over several hops.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(2..=50))]
    nodes: Option<u16>,
    /// Draw that network as SVG, too.
    #[arg(long, value_name = "FILE", requires = "nodes")]
    svg: Option<PathBuf>,
}

/// Runs it.
///
/// # Errors
/// Where a signal cannot be caught, or stdout is closed.
pub async fn run(global: &Global, args: DemoArgs) -> Result<ExitCode, Failure> {
    if let Some(nodes) = args.nodes {
        if let Some(path) = &args.svg {
            // Better now than when all of it is told.
            std::fs::File::create(path).map_err(|error| {
                let message = format!("--svg {}: {error}", path.display());
                Failure::usage(message, "give a file that can be written to")
            })?;
        }
        let mut web = Web::new(global.json, nodes.into(), args.svg);
        let Some(told) = unless_interrupted(web.tell()).await? else { return Ok(ExitCode::from(INTERRUPTED)) };
        let (report, network) = web.end();
        let is_right = report.ok && told.is_ok();
        show(global, &report, || picture::web_summary(&report))?;
        return finish(global, told, network, args.keep, is_right);
    }
    let mut story = Story::new(global.json);
    let Some(told) = unless_interrupted(story.tell()).await? else { return Ok(ExitCode::from(INTERRUPTED)) };
    let (report, network) = story.end();
    let is_right = report.ok && told.is_ok();
    show(global, &report, || picture::summary(&report))?;
    finish(global, told, network, args.keep, is_right)
}

/// What comes of it; nothing where Ctrl-C or SIGTERM came first. What it started ends with it.
async fn unless_interrupted<T>(told: impl Future<Output = T>) -> Result<Option<T>, Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| Failure::defect(error.to_string()))?;
    Ok(tokio::select! {
        told = told => Some(told),
        _ = tokio::signal::ctrl_c() => None,
        _ = terminate.recv() => None,
    })
}

fn show<R: Serialize>(global: &Global, report: &R, words: impl FnOnce() -> String) -> Result<(), Failure> {
    if global.json {
        let json = serde_json::to_value(report).map_err(|error| Failure::defect(error.to_string()))?;
        return global.output().value(&json);
    }
    output::line(&words())
}

fn finish(
    global: &Global,
    told: Result<(), Failure>,
    network: Option<Network>,
    keep: bool,
    is_right: bool,
) -> Result<ExitCode, Failure> {
    if let Err(failure) = &told {
        let words = network.as_ref().map(|network| network.last_words()).unwrap_or_default();
        eprintln!("{failure}\n{words}");
    }
    if let Some(network) = network.filter(|_| keep) {
        let hint = network.keep()?;
        if global.json { eprintln!("{hint}") } else { output::line(&hint)? }
    }
    Ok(if is_right { ExitCode::SUCCESS } else { ExitCode::from(Exit::ShowFailed as u8) })
}
