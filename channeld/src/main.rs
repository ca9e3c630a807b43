//! The binary `channeld`: reads its settings, runs the daemon, has it look at its certificate on SIGHUP, and stops it cleanly
//! on SIGTERM or Ctrl-C.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use channeld::config::{Args, Config};
use channeld::daemon::{Daemon, show_words};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    // A broken invariant in any thread stops the process, in every build: what is on disk is whole, what follows would not be.
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        std::process::abort();
    }));
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The log may be filtered; this is for whoever started the process.
            let _ = writeln!(std::io::stderr(), "channeld: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let config = Config::load(args)?;
    if args.show_words {
        let words = show_words(&config)?;
        return Ok(writeln!(std::io::stdout(), "{}", words.as_str())?);
    }
    let filter = EnvFilter::try_new(&config.log).map_err(|error| format!("log = {:?}: {error}", config.log))?;
    let is_terminal = std::io::stderr().is_terminal();
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(is_terminal);
    // A log that nobody takes, on a full disk or in a pipe without a reader, stops no daemon.
    logs.log_internal_errors(false).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut hang_up = signal(SignalKind::hangup())?;
        let daemon = Daemon::start(&config).await?;
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                Some(()) = hang_up.recv() => daemon.reload(),
            }
        }
        daemon.stop().await;
        Ok(())
    })
}
