//! The command line of the chain.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use l1_utxo::config::{Config, LogFormat, Options};
use l1_utxo::node;
use tracing_subscriber::EnvFilter;

/// Exit code for options that make no sense, as clap's own.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let config = match Options::parse().resolve() {
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
