//! See the library.

use std::process::ExitCode;

use clap::Parser;
use wallet_cli::args::{Cli, Command};
use wallet_cli::failure::Failure;
use wallet_cli::{commands, demo};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misread(&error),
    };
    // A tie has no runtime: the thread that it starts its child from must live as long as the child.
    if let Command::Tie(args) = cli.command {
        return demo::tie(args);
    }
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime.block_on(commands::run(cli)),
        Err(error) => {
            eprintln!("error: no runtime: {error}\n next: free some memory or file descriptors");
            ExitCode::FAILURE
        }
    }
}

/// Help and version go to stdout; a wrong command line is told as any other error is: to a program in JSON.
fn misread(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || !std::env::args_os().any(|argument| argument == "--json") {
        error.exit()
    }
    let text = error.render().to_string();
    let (message, usage) = text.split_once("\n\nUsage:").unwrap_or((text.as_str(), ""));
    let message = message.trim_start_matches("error: ").split_whitespace().collect::<Vec<_>>().join(" ");
    let usage = usage.lines().next().map(str::trim).filter(|usage| !usage.is_empty());
    let next = usage.map_or("see `wallet-cli --help`".to_owned(), |usage| format!("write {usage}"));
    eprintln!("{}", Failure::usage(message.trim_end_matches(" For more information, try '--help'."), next).to_json());
    ExitCode::from(2)
}
