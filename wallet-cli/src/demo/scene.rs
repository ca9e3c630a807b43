//! What both the demo and the benchmark do with a network: mine, fund, open, wait.

use std::time::{Duration, Instant};

use proto::v1::{
    Channel, ChannelState, ConnectPeerRequest, ListChannelsRequest, OpenChannelRequest, open_channel_request,
};
use serde_json::json;

use crate::client::{Client, request_id, synced};
use crate::commands::promised;
use crate::demo::network::{Member, Network};
use crate::failure::{Exit, Failure};

/// How long the daemons may take to follow a block, or to answer each other.
pub const PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(10);

/// Asks again and again until there is an answer.
///
/// # Errors
/// What the question fails with, or the time is up.
pub async fn until<T>(
    timeout: Duration,
    what: &str,
    mut question: impl AsyncFnMut() -> Result<Option<T>, Failure>,
) -> Result<T, Failure> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(answer) = question().await? {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            let message = format!("waited {} s for {what}", timeout.as_secs());
            return Err(Failure::new(Exit::ShowFailed, message, "see the logs above"));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Mines blocks to an address, and waits until all daemons have followed.
///
/// # Errors
/// Where the chain refuses or a daemon does not follow.
pub async fn mine(network: &Network, blocks: u32, address: &str) -> Result<(), Failure> {
    network.chain.mine(blocks, address).await?;
    let height = network.chain.height().await?;
    for member in network.members() {
        synced(&member.client, height, PATIENCE).await?;
    }
    Ok(())
}

/// Gives all wallets coins that can be spent: blocks for each, and a hundred on top.
///
/// # Errors
/// Where the chain refuses or a daemon does not follow.
pub async fn fund(network: &Network) -> Result<(), Failure> {
    let (alice, bob) = (network.alice.address().await?, network.bob.address().await?);
    network.chain.mine(3, &alice).await?;
    network.chain.mine(2, &bob).await?;
    for member in &network.others {
        network.chain.mine(2, &member.address().await?).await?;
    }
    mine(network, 100, &alice).await?;
    for member in network.members() {
        let what = format!("{}'s coins", member.name);
        until(PATIENCE, &what, async || Ok((member.balances().await?.spendable_sat > 0).then_some(()))).await?;
    }
    Ok(())
}

/// All channels of a node, the newest first.
///
/// # Errors
/// Where the daemon refuses.
pub async fn channels(client: &Client) -> Result<Vec<Channel>, Failure> {
    Ok(client.channel().list_channels(ListChannelsRequest::default()).await?.into_inner().channels)
}

/// One channel as one of its nodes sees it.
///
/// # Errors
/// Where the daemon refuses, or does not know it.
pub async fn channel(client: &Client, channel_id: &str) -> Result<Channel, Failure> {
    let found = channels(client).await?.into_iter().find(|channel| channel.channel_id == channel_id);
    found.ok_or_else(|| Failure::new(Exit::ShowFailed, format!("no channel {channel_id}"), "see the logs above"))
}

/// Opens a channel from Alice to Bob and mines until both can use it; `progress` sees the blocks.
///
/// # Errors
/// Where a daemon refuses, or the channel does not become usable.
pub async fn open(
    network: &Network,
    capacity_sat: u64,
    push_sat: u64,
    mut progress: impl FnMut(u32),
) -> Result<Channel, Failure> {
    let (alice, bob) = (&network.alice, &network.bob);
    let address = bob.peer_address();
    let request = ConnectPeerRequest { request_id: request_id()?, validate_only: false, address };
    alice.client.peer().connect_peer(request).await?;
    let request = OpenChannelRequest {
        request_id: request_id()?,
        peer_node_id: bob.presence.node_id.clone(),
        amount: Some(open_channel_request::Amount::CapacitySat(capacity_sat)),
        push_msat: push_sat * 1_000,
        ..Default::default()
    };
    let opened = alice.client.channel().open_channel(request).await?.into_inner();
    let opened = promised(opened.channel, "channel")?;
    let funding = promised(opened.funding_outpoint.clone(), "funding output")?;
    in_mempool(network, &funding.txid).await?;
    let miner = alice.address().await?;
    for block in 1..=opened.required_confirmations.max(1) {
        mine(network, 1, &miner).await?;
        progress(block);
    }
    for member in network.members() {
        let what = format!("{} to use the channel", member.name);
        let usable = async || {
            let found = channels(&member.client).await?;
            Ok(found.iter().any(|one| one.channel_id == opened.channel_id && one.usable).then_some(()))
        };
        until(PATIENCE, &what, usable).await?;
    }
    channel(&alice.client, &opened.channel_id).await
}

/// Waits until so many HTLCs stand in the commitments of both, and nothing is under way.
///
/// # Errors
/// Where that does not come about.
pub async fn htlcs_standing(network: &Network, channel_id: &str, count: usize) -> Result<(), Failure> {
    let mut last = None;
    until(PATIENCE, "HTLCs in both commitments", async || {
        let alice = channel(&network.alice.client, channel_id).await?;
        let bob = channel(&network.bob.client, channel_id).await?;
        let numbers = (alice.local_commitment_number, bob.local_commitment_number);
        let agreed = numbers == (bob.remote_commitment_number, alice.remote_commitment_number);
        let standing = agreed && alice.htlcs.len() == count && bob.htlcs.len() == count;
        // Two looks at the same numbers: what is still under way would have changed them.
        let quiet = last.replace(numbers) == Some(numbers);
        Ok((standing && quiet).then_some(()))
    })
    .await
}

/// Waits until the chain has a transaction in its mempool.
///
/// # Errors
/// Where it does not come.
pub async fn in_mempool(network: &Network, txid: &str) -> Result<(), Failure> {
    let what = format!("{txid} in the mempool");
    until(PATIENCE, &what, async || Ok(network.chain.call("getmempoolentry", json!([txid])).await.ok().map(|_| ())))
        .await
}

/// Mines until Alice and Bob count a channel as closed for good; how many blocks it took.
///
/// # Errors
/// Where it takes too many blocks.
pub async fn bury(network: &Network, channel_id: &str, most: u32) -> Result<u32, Failure> {
    bury_of(network, [&network.alice, &network.bob], channel_id, most).await
}

/// Mines until both ends count a channel as closed for good; how many blocks it took, 0 where it was so already.
///
/// # Errors
/// Where it takes too many blocks.
pub async fn bury_of(network: &Network, ends: [&Member; 2], channel_id: &str, most: u32) -> Result<u32, Failure> {
    let miner = network.alice.address().await?;
    for block in 0..=most {
        if block > 0 {
            mine(network, 1, &miner).await?;
            // What a daemon broadcasts because of this block is in the mempool before the next one is mined.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let mut closed = true;
        for member in ends {
            closed &= channel(&member.client, channel_id).await?.state() == ChannelState::Closed;
        }
        if closed {
            return Ok(block);
        }
    }
    let mut states = Vec::new();
    for member in ends {
        let state = channel(&member.client, channel_id).await?.state();
        states.push(format!("{}: {}", member.name, state.as_str_name()));
    }
    let message = format!("after {most} blocks the channel is not closed ({})", states.join(", "));
    Err(Failure::new(Exit::ShowFailed, message, "see the logs above"))
}
