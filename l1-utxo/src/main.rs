//! The command line of the chain.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use l1_utxo::config::{CheckOptions, Config, LogFormat, Options};
use l1_utxo::{check, node};
use tracing_subscriber::EnvFilter;

/// Exit code for options that make no sense, as clap's own.
const USAGE: u8 = 2;

/// A small proof-of-work UTXO chain with Bitcoin Core's rules and JSON-RPC.
///
/// Start a chain, mine to an address of yours, ask what happened:
///
///   l1-utxo --network regtest --data-dir ./chain --rpc 127.0.0.1:18443
///   curl -u "$(cat ./chain/regtest/.cookie)" 127.0.0.1:18443 -d '{"method":"getblockchaininfo"}'
///
/// Everything below may stand in a config file, too, as `key = "value"` (TOML), named like the option without dashes
/// before it: `data-dir = "./chain"`. The command line wins.
#[derive(Debug, Parser)]
#[command(
    name = "l1-utxo",
    version,
    verbatim_doc_comment,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true
)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Verify a data directory that no node uses; changes nothing; exit code 0 if all is well, 1 if not
    Check(CheckOptions),
}

fn main() -> ExitCode {
    let CommandLine { command, options } = CommandLine::parse();
    if let Some(Command::Check(options)) = command {
        return match options.resolve() {
            Ok(request) if check::run(&request) => ExitCode::SUCCESS,
            Ok(_) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("error: {error}\nFor what may be set, try 'l1-utxo check --help'.");
                ExitCode::from(USAGE)
            }
        };
    }
    let config = match options.resolve() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("error: {error}\nFor what may be set, try 'l1-utxo --help'.");
            return ExitCode::from(USAGE);
        }
    };
    if let Err(error) = start_logs(&config) {
        eprintln!("error: log = \"{}\": {error}", config.log);
        return ExitCode::from(USAGE);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no threads to run on: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(node::run(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start_logs(config: &Config) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = EnvFilter::try_new(&config.log)?;
    let is_terminal = std::io::stderr().is_terminal();
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(is_terminal);
    // A log that nobody takes, on a full disk or in a pipe without a reader, stops no node.
    let logs = logs.log_internal_errors(false);
    match config.log_format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().init(),
    }
    Ok(())
}
