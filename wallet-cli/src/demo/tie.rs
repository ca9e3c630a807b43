//! `wallet-cli tie PROGRAM …`: no program outlives the one that started it.
//!
//! Two processes do it, without a line of unsafe code. The outer one reads its stdin, a pipe that only the demo holds:
//! when the demo ends, however it ends, the pipe does, and the program is killed. The inner one asks the kernel to kill
//! it with the outer one, and becomes the program. The byte `k` on the pipe unties: the program is kept.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use clap::Args;
use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};

/// What unties.
pub const KEEP: u8 = b'k';

/// See the module.
#[derive(Debug, Args)]
pub struct TieArgs {
    /// The process to die with: the inner one of the two.
    #[arg(long)]
    die_with: Option<u32>,
    /// The program and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    program: Vec<OsString>,
}

/// Runs the program until it or the demo ends.
pub fn tie(args: TieArgs) -> ExitCode {
    let tied = match args.die_with {
        Some(parent) => inner(parent, &args.program),
        None => outer(&args.program),
    };
    tied.unwrap_or_else(|error| {
        eprintln!("{}: {error}", args.program[0].display());
        ExitCode::FAILURE
    })
}

fn inner(parent: u32, program: &[OsString]) -> std::io::Result<ExitCode> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have died before the kernel was asked.
    if getppid().map(Pid::as_raw_nonzero).map(|pid| pid.get()) != i32::try_from(parent).ok() {
        return Ok(ExitCode::FAILURE);
    }
    Err(Command::new(&program[0]).args(&program[1..]).exec())
}

fn outer(program: &[OsString]) -> std::io::Result<ExitCode> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("tie").arg("--die-with").arg(std::process::id().to_string()).arg("--").args(program);
    let mut child = command.stdin(std::process::Stdio::null()).spawn()?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    std::thread::spawn(move || {
        let mut byte = [0];
        let kept = matches!(std::io::stdin().read(&mut byte), Ok(1)) && byte[0] == KEEP;
        if let (false, Some(pid)) = (kept, pid) {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::KILL);
        }
    });
    let status = child.wait()?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}
