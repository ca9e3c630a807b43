//! `wallet-cli dev`: faults on purpose.

use clap::Subcommand;
use proto::v1::inject_fault_request::Fault;
use proto::v1::{Cut, Delay, HoldHtlcs, InjectFaultRequest, InjectFaultResponse, KeepState, ReplayOldState};

use crate::args::Global;
use crate::client::{Client, request_id};
use crate::failure::Failure;

/// See `--help`.
#[derive(Debug, Subcommand)]
pub enum DevCommand {
    /// Keep a copy of this node's newest commitment, to cheat with later.
    KeepState {
        /// The channel.
        channel: String,
    },
    /// Cheat: broadcast the commitment that was kept. The peer takes everything.
    ReplayOldState {
        /// The channel.
        channel: String,
    },
    /// Give the HTLCs that pay this node no answer.
    HoldHtlcs {
        /// The channel.
        channel: String,
        /// Let go instead: what was held is answered.
        #[arg(long)]
        release: bool,
    },
    /// Cut the connection to a peer; it comes back by itself.
    Cut {
        /// The peer's node id.
        node_id: String,
    },
    /// Have everything that a peer says arrive later, as over a slow line; 0 ends it.
    #[command(after_help = "Examples:\n  wallet-cli dev delay 02ab… 250\n  wallet-cli dev delay 02ab… 0")]
    Delay {
        /// The peer's node id.
        node_id: String,
        /// By how many milliseconds, at most 60,000.
        #[arg(value_parser = clap::value_parser!(u32).range(0..=60_000))]
        milliseconds: u32,
    },
}

/// Runs it.
///
/// # Errors
/// Where the daemon does not answer or refuses.
pub async fn run(global: &Global, command: DevCommand) -> Result<(), Failure> {
    let client = global.client().await?;
    let fault = match command {
        DevCommand::KeepState { channel } => Fault::KeepState(KeepState { channel_id: channel }),
        DevCommand::ReplayOldState { channel } => Fault::ReplayOldState(ReplayOldState { channel_id: channel }),
        DevCommand::HoldHtlcs { channel, release } => {
            Fault::HoldHtlcs(HoldHtlcs { channel_id: channel, hold: !release })
        }
        DevCommand::Cut { node_id } => Fault::Cut(Cut { node_id }),
        DevCommand::Delay { node_id, milliseconds } => {
            let (seconds, rest) = (i64::from(milliseconds / 1_000), milliseconds % 1_000);
            let delay = prost_types::Duration { seconds, nanos: rest as i32 * 1_000_000 };
            Fault::Delay(Delay { node_id, delay: Some(delay) })
        }
    };
    global.output().message(&inject(&client, fault).await?, |done| match done.txid.as_str() {
        "" => "done".into(),
        txid => format!("commitment {}: {txid}", done.commitment_number),
    })
}

/// Injects a fault.
///
/// # Errors
/// Where the daemon refuses.
pub async fn inject(client: &Client, fault: Fault) -> Result<InjectFaultResponse, Failure> {
    let request = InjectFaultRequest { request_id: request_id()?, validate_only: false, fault: Some(fault) };
    Ok(client.dev().inject_fault(request).await?.into_inner())
}
