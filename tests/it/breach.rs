//! A revoked commitment with HTLCs both ways is broadcast on the real chain: the other side takes everything, the first
//! stage and what the cheater makes of it, to the last satoshi.

use proto::v1::event::Detail;
use proto::v1::inject_fault_request::Fault;
use proto::v1::{ChannelType, CloseKind, EventKind, KeepState, PaymentState, ReplayOldState};
use serde_json::Value;
use tests::cluster::Terms;
use tests::{Cluster, money};

use crate::close::{held, hold, pay_and_leave, unspent_anchors};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cheater_loses_everything() {
    let cluster = Cluster::pair().await;
    breach(&cluster, ChannelType::Anchors).await;
    breach(&cluster, ChannelType::StaticRemotekey).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_victim_that_was_down_takes_everything() {
    let mut cluster = Cluster::pair().await;
    // Bob is killed before the fraud and comes back after its block.
    let channel = prepare(&cluster, ChannelType::StaticRemotekey).await;
    let (before, height) = (channel.before, cluster.chain.height().await);
    cluster.nodes[1].kill();
    let revoked = replay(&cluster, &channel.id).await;
    cluster.mine(1).await;
    cluster.nodes[1].restart().await;
    cluster.synced().await;
    punished(&cluster, &channel.id, &revoked, before, height).await;
}

async fn breach(cluster: &Cluster, channel_type: ChannelType) {
    let channel = prepare(cluster, channel_type).await;
    let height = cluster.chain.height().await;
    let revoked = replay(cluster, &channel.id).await;
    cluster.mine(1).await;
    punished(cluster, &channel.id, &revoked, channel.before, height).await;
}

struct Prepared {
    id: String,
    /// What each wallet holds.
    before: [u64; 2],
}

/// A channel of which Alice has kept a state with two HTLCs each way, one of them dust, and that has gone on since.
async fn prepare(cluster: &Cluster, channel_type: ChannelType) -> Prepared {
    let (alice, bob) = (cluster.alice(), cluster.bob());
    let id = cluster.open(Terms { channel_type, ..Terms::default() }).await;
    for node in &cluster.nodes {
        hold(node, &id, true).await;
    }
    for amount in [40_000_000, 100_000] {
        pay_and_leave(alice, bob, amount).await;
        pay_and_leave(bob, alice, amount / 2).await;
    }
    held(cluster, &id, 4).await;
    alice.inject(Fault::KeepState(KeepState { channel_id: id.clone() })).await.unwrap();
    for node in &cluster.nodes {
        hold(node, &id, false).await;
    }
    cluster.settled(&id).await;
    // What Alice gives away now is hers in the state that she kept.
    let paid = alice.keysend(&bob.id(), 300_000_000).await;
    assert_eq!(paid.state(), PaymentState::Succeeded);
    cluster.settled(&id).await;
    Prepared { id, before: [money::wallet_sat(alice).await, money::wallet_sat(bob).await] }
}

/// Alice broadcasts what she kept; the txid of the commitment.
async fn replay(cluster: &Cluster, channel: &str) -> String {
    let fault = Fault::ReplayOldState(ReplayOldState { channel_id: channel.to_owned() });
    let revoked = cluster.alice().inject(fault).await.unwrap().txid;
    cluster.chain.await_mempool(&revoked).await;
    if cluster.alice().channel(channel).await.channel_type() == ChannelType::StaticRemotekey {
        // The HTLC that pays her, above dust, is taken at once: the second stage.
        tests::until("the cheater's second stage", async || (cluster.chain.mempool().await.len() >= 2).then_some(()))
            .await;
    }
    revoked
}

async fn punished(cluster: &Cluster, channel: &str, revoked: &str, before: [u64; 2], height: u32) {
    cluster.bury(channel).await;
    let transactions = money::transactions_after(cluster, height).await;
    let commitment = find(&transactions, revoked);
    let outputs = commitment["vout"].as_array().unwrap().len();
    let anchors = unspent_anchors(cluster, &transactions, revoked).await;
    let after = [money::wallet_sat(cluster.alice()).await, money::wallet_sat(cluster.bob()).await];
    let fees: u64 = money::fees(&transactions);
    // 1,000,000 sat were in the channel: Bob has all but fees and anchors, Alice not one.
    assert_eq!(after[0], before[0], "the cheater gets nothing");
    assert_eq!(after[1] + anchors + fees, before[1] + 1_000_000, "of {outputs} outputs");
    // Two HTLC outputs, to_local and to_remote at the least.
    assert!(outputs >= 4, "{commitment}");
    let claims = cluster.bob().events(&[EventKind::ClaimConfirmed]).await;
    let mut penalties = 0;
    for event in claims {
        if let Some(Detail::Claim(claim)) = event.detail
            && claim.channel_id == channel
            && claim.penalty
        {
            find(&transactions, &claim.txid);
            penalties += 1;
        }
    }
    assert!(penalties > 0, "the claims are told as penalties");
    for node in &cluster.nodes {
        let closed = node.events(&[EventKind::ChannelClosed]).await;
        let kinds = closed.into_iter().filter_map(|event| match event.detail {
            Some(Detail::Channel(told)) if told.channel_id == channel => Some(told.close_kind()),
            _ => None,
        });
        let kinds: Vec<CloseKind> = kinds.collect();
        if node.name == "bob" {
            assert_eq!(kinds, [CloseKind::Revoked], "{}", node.name);
        }
        assert_eq!(kinds.len(), 1, "{}", node.name);
    }
}

fn find<'a>(transactions: &'a [Value], txid: &str) -> &'a Value {
    let found = transactions.iter().find(|transaction| transaction["txid"] == txid);
    found.unwrap_or_else(|| panic!("{txid} is in no block"))
}
