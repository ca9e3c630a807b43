//! The chain takes blocks back, under an open channel and under a close, and finds them again.

use proto::v1::{ChannelState, CloseChannelRequest, CloseMode, PaymentState};
use serde_json::json;
use tests::chain::nobody;
use tests::cluster::Terms;
use tests::{Cluster, money};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_bear_reorgs() {
    let cluster = Cluster::pair().await;
    let coins = money::wallet_sat(cluster.alice()).await + money::wallet_sat(cluster.bob()).await;
    let height = cluster.chain.height().await;
    let channel = cluster.open(Terms::default()).await;
    under_an_open_channel(&cluster, &channel).await;
    under_a_close(&cluster, &channel, CloseMode::Cooperative).await;
    let second = cluster.open(Terms::default()).await;
    under_a_close(&cluster, &second, CloseMode::Force).await;
    let transactions = money::transactions_after(&cluster, height).await;
    let after = money::wallet_sat(cluster.alice()).await + money::wallet_sat(cluster.bob()).await;
    let commitment = cluster.alice().channel(&second).await.closing_txid;
    let anchors = crate::close::unspent_anchors(&cluster, &transactions, &commitment).await;
    assert_eq!(coins, after + anchors + money::fees(&transactions), "every satoshi");
}

/// Takes the last `depth` blocks back and mines others in their place, one more; the block that was taken back.
pub async fn replace(cluster: &Cluster, depth: u32) -> String {
    let height = cluster.chain.height().await;
    let first = cluster.chain.call("getblockhash", json!([height - depth + 1])).await;
    cluster.chain.call("invalidateblock", json!([first])).await;
    assert_eq!(cluster.chain.height().await, height - depth);
    cluster.synced().await;
    first.as_str().unwrap().to_owned()
}

async fn pays(cluster: &Cluster) {
    for (payer, payee) in [(0, 1), (1, 0)] {
        let paid = cluster.nodes[payer].keysend(&cluster.nodes[payee].id(), 1_000_000).await;
        assert_eq!(paid.state(), PaymentState::Succeeded);
    }
}

/// The funding goes back to the mempool: the channel goes on, and gets its place in the chain again.
async fn under_an_open_channel(cluster: &Cluster, channel: &str) {
    let before = cluster.alice().channel(channel).await;
    pays(cluster).await;
    // Blocks above the funding are nothing to it.
    cluster.mine(3).await;
    replace(cluster, 2).await;
    pays(cluster).await;
    // Then the funding's own block: the transaction waits again, and is mined elsewhere.
    let depth = cluster.chain.height().await - funding_height(&before.short_channel_id) + 1;
    let taken_back = replace(cluster, depth).await;
    let funding = before.funding_outpoint.clone().unwrap().txid;
    cluster.chain.await_mempool(&funding).await;
    for node in &cluster.nodes {
        node.channel_until("unconfirmed", channel, |channel| channel.confirmations == 0).await;
    }
    // An empty block first: the funding is in another block than before.
    cluster.chain.call("generateblock", json!([nobody(), []])).await;
    cluster.mine(before.required_confirmations + 1).await;
    cluster.usable(channel).await;
    pays(cluster).await;
    let moved = cluster.alice().channel(channel).await;
    assert_eq!(moved.short_channel_id, cluster.bob().channel(channel).await.short_channel_id);
    assert_eq!(funding_height(&moved.short_channel_id), funding_height(&before.short_channel_id) + 1);
    // And back: the branch that was taken back grows beyond the other when it is allowed again.
    let tip = cluster.chain.tip().await;
    cluster.chain.call("reconsiderblock", json!([taken_back])).await;
    let height = funding_height(&moved.short_channel_id);
    let other = cluster.chain.call("getblockhash", json!([height])).await;
    if cluster.chain.tip().await == tip {
        cluster.chain.call("invalidateblock", json!([other])).await;
    }
    cluster.synced().await;
    cluster.mine(4).await;
    cluster.usable(channel).await;
    pays(cluster).await;
}

fn funding_height(short_channel_id: &str) -> u32 {
    short_channel_id.split('x').next().unwrap().parse().unwrap()
}

/// The closing transaction is taken back before it is buried, then mined for good.
async fn under_a_close(cluster: &Cluster, channel: &str, mode: CloseMode) {
    let request = CloseChannelRequest { channel_id: channel.to_owned(), mode: mode.into(), ..Default::default() };
    cluster.bob().client().channel().close_channel(request).await.unwrap();
    cluster.closing(channel).await;
    cluster.mine(2).await;
    for node in &cluster.nodes {
        let state = node.channel(channel).await.state();
        assert!(matches!(state, ChannelState::Closing | ChannelState::Resolving), "{}: {state:?}", node.name);
    }
    replace(cluster, 2).await;
    cluster.closing(channel).await;
    for node in &cluster.nodes {
        let state = node.channel(channel).await.state();
        assert!(!matches!(state, ChannelState::Open | ChannelState::Closed), "{}: {state:?}", node.name);
    }
    cluster.chain.call("generateblock", json!([nobody(), []])).await;
    cluster.synced().await;
    cluster.bury(channel).await;
}
