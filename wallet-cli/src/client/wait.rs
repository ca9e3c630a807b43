//! Waiting: the event log says when to look again, so nothing is asked in a loop without need.

use std::time::{Duration, Instant};

use proto::v1::{
    Channel, ChannelState, GetChannelRequest, GetNodeRequest, ListChannelsRequest, SubscribeEventsRequest, SyncState,
};

use crate::client::Client;
use crate::failure::{Exit, Failure};

/// How often one looks again without an event: confirmations count up without one.
const LOOK: Duration = Duration::from_millis(200);

/// Waits until `done` says so of the channel; it sees every state, for progress.
///
/// # Errors
/// Where the daemon refuses, or the time is up.
pub async fn channel_until(
    client: &Client,
    channel_id: &str,
    timeout: Duration,
    mut done: impl FnMut(&Channel) -> bool,
) -> Result<Channel, Failure> {
    let deadline = Instant::now() + timeout;
    let request = SubscribeEventsRequest { channel_id: channel_id.into(), ..Default::default() };
    let mut events = client.node().subscribe_events(request).await?.into_inner();
    loop {
        let request = GetChannelRequest { channel_id: channel_id.into() };
        let channel = client.channel().get_channel(request).await?.into_inner().channel;
        let channel = channel.ok_or_else(|| Failure::defect("an answer without its channel"))?;
        if done(&channel) {
            return Ok(channel);
        }
        if Instant::now() >= deadline {
            let state = channel.state().as_str_name().trim_start_matches("CHANNEL_STATE_").to_lowercase();
            let message = format!("the channel is {} after {} s", state.replace('_', " "), timeout.as_secs());
            let next =
                "blocks may be missing (on regtest: `wallet-cli chain mine 6`); `wallet-cli channel show` tells more";
            return Err(Failure::new(Exit::TimedOut, message, next));
        }
        // An event or the time: either way one looks again. A subscription that has ended leaves the time.
        if let Ok(Ok(None) | Err(_)) = tokio::time::timeout(LOOK, events.message()).await {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Waits until the node has followed the chain up to `height`.
///
/// # Errors
/// Where the daemon refuses, or the time is up.
pub async fn synced(client: &Client, height: u32, timeout: Duration) -> Result<(), Failure> {
    let deadline = Instant::now() + timeout;
    loop {
        let node = client.node().get_node(GetNodeRequest {}).await?.into_inner();
        if node.sync_state() == SyncState::Synced && node.block_height >= height {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let message = format!("the node is at block {} of {height}: {}", node.block_height, node.sync_reason);
            return Err(Failure::new(Exit::TimedOut, message, "check the chain and the daemon's log"));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until the node has followed the chain up to `height`, for as long as it comes nearer: at most `stall` without a
/// block.
///
/// # Errors
/// Where the daemon refuses, or it comes no nearer.
pub async fn caught_up(client: &Client, height: u32, stall: Duration) -> Result<(), Failure> {
    let (mut reached, mut deadline) = (0, Instant::now() + stall);
    loop {
        let node = client.node().get_node(GetNodeRequest {}).await?.into_inner();
        if node.sync_state() == SyncState::Synced && node.block_height >= height {
            return Ok(());
        }
        if node.block_height > reached {
            (reached, deadline) = (node.block_height, Instant::now() + stall);
        }
        if Instant::now() >= deadline {
            let message = format!("the node is at block {} of {height}: {}", node.block_height, node.sync_reason);
            return Err(Failure::new(Exit::TimedOut, message, "check the chain and the daemon's log"));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until no channel is left that could be used but for a message of the peer, or the time is up: with the block that
/// a funding transaction needed, `channel_ready` is on its way.
///
/// # Errors
/// Where the daemon refuses.
pub async fn channels_ready(client: &Client, timeout: Duration) -> Result<(), Failure> {
    let deadline = Instant::now() + timeout;
    let is_due = |channel: &Channel| {
        channel.state() == ChannelState::AwaitingConfirmation && channel.confirmations >= channel.required_confirmations
    };
    loop {
        let channels = client.channel().list_channels(ListChannelsRequest::default()).await?.into_inner().channels;
        if !channels.iter().any(is_due) || Instant::now() >= deadline {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
