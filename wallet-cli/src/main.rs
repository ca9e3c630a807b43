//! See the library.

use std::process::ExitCode;

use clap::Parser;
use wallet_cli::args::{Cli, Command};
use wallet_cli::{commands, demo};

fn main() -> ExitCode {
    let cli = Cli::parse();
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
