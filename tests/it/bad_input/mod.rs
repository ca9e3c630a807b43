//! What nobody should send: the process stays up, nothing changes, and whoever can be told why is told.

mod client;
mod field;
mod peer;
mod process;
mod token;
mod vanish;

use std::time::Duration;

use proto::v1::Channel;
use tests::cluster::Terms;
use tests::{Cluster, Daemon};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_changes_nothing() {
    let mut cluster = Cluster::pair().await;
    let channel = cluster.open(Terms::default()).await;
    cluster.alice().keysend(&cluster.bob().id(), 5_000).await;
    cluster.settled(&channel).await;
    let before = standing(cluster.bob(), &channel).await;
    peer::garbage(&cluster, &channel).await;
    assert_unchanged(&cluster, &channel, &before).await;
    client::arguments(&cluster, &channel).await;
    assert_unchanged(&cluster, &channel, &before).await;
    client::undecodable(&cluster).await;
    assert_unchanged(&cluster, &channel, &before).await;
    field::edges(&cluster).await;
    assert_unchanged(&cluster, &channel, &before).await;
    client::strangers(&cluster).await;
    token::every_method(&cluster).await;
    assert_unchanged(&cluster, &channel, &before).await;
    vanish::in_mid_stream(&cluster, &channel).await;
    let before = standing(cluster.bob(), &channel).await;
    process::second_processes(&mut cluster).await;
    assert_unchanged(&cluster, &channel, &before).await;
    cluster.usable(&channel).await;
    cluster.alice().keysend(&cluster.bob().id(), 5_000).await;
}

/// What must not change: a channel, what the wallet holds, and what is listed.
type Standing = (Channel, u64, usize, u64);

async fn standing(node: &Daemon, channel: &str) -> Standing {
    let (channel, balances) = (node.channel(channel).await, node.balances().await);
    (channel, balances.confirmed_sat, node.payments().await.len(), node.node().await.last_event_index)
}

async fn assert_unchanged(cluster: &Cluster, channel: &str, before: &Standing) {
    let (was, confirmed, payments, _) = before;
    let now = tests::until("the channel to be usable", async || {
        let now = standing(cluster.bob(), channel).await;
        now.0.usable.then_some(now)
    })
    .await;
    assert_eq!((&now.0, &now.1, &now.2), (was, confirmed, payments));
}

/// How long one waits for a peer to hang up where it need not.
const BRIEFLY: Duration = Duration::from_millis(300);
