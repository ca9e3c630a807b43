//! Real daemons tell each other of their public channels.

use proto::v1::send_payment_request::Payee;
use proto::v1::{ChannelType, CloseChannelRequest, CloseMode, OpenChannelRequest, PaymentState, open_channel_request};
use tests::cluster::BRIEF;
use tests::wait::until;
use tests::{Cluster, Daemon};

const CAPACITY_SAT: u64 = 1_000_000;
/// BOLT 7: a closed channel is kept for so many blocks, the closing one included.
const SPENT_BLOCKS: u32 = 72;

/// A public channel from one daemon to the next, deep enough to be announced.
async fn open_public(cluster: &Cluster, from: usize, to: usize) -> String {
    let (opener, accepter) = (&cluster.nodes[from], &cluster.nodes[to]);
    opener.connect(accepter).await;
    let request = OpenChannelRequest {
        request_id: wallet_cli::client::request_id().unwrap(),
        peer_node_id: accepter.id(),
        amount: Some(open_channel_request::Amount::CapacitySat(CAPACITY_SAT)),
        push_msat: 400_000_000,
        channel_type: ChannelType::Anchors.into(),
        announce: true,
        ..Default::default()
    };
    let opened = opener.client().channel().open_channel(request).await.expect("an opening").into_inner();
    let channel = opened.channel.expect("a channel");
    cluster.chain.await_mempool(&channel.funding_outpoint.expect("a funding output").txid).await;
    cluster.mine(6).await;
    for node in [opener, accepter] {
        node.channel_until("usable", &channel.channel_id, |channel| channel.usable).await;
    }
    channel.channel_id
}

/// Waits until a daemon knows so many channels and nodes.
async fn knows(node: &Daemon, channels: u32, nodes: u32) {
    until(&format!("{} to know {channels} channels of {nodes} nodes", node.name), async || {
        let graph = node.node().await.graph.expect("the graph's state");
        (graph.channel_count == channels && graph.node_count == nodes && graph.synced).then_some(())
    })
    .await;
}

/// Alice – Bob – Carol: Alice hears of the channel behind Bob, keeps it over a restart, and forgets it when it is closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_of_three_knows_all_of_it() {
    let mut cluster = Cluster::start(&["alice", "bob", "carol"], BRIEF).await;
    cluster.fund().await;
    open_public(&cluster, 0, 1).await;
    let far = open_public(&cluster, 1, 2).await;
    for node in &cluster.nodes {
        knows(node, 2, 3).await;
    }
    // Over Bob, by what his update says and the graph has.
    let invoice = cluster.nodes[2].invoice(Some(1_000_000)).await;
    let paid = cluster.nodes[0].pay(Payee::PaymentRequest(invoice.payment_request), None).await;
    assert_eq!(paid.state(), PaymentState::Succeeded);

    cluster.nodes[0].stop().await;
    cluster.nodes[0].launch();
    cluster.nodes[0].answers().await;
    knows(&cluster.nodes[0], 2, 3).await;

    let close = CloseChannelRequest { channel_id: far, mode: CloseMode::Cooperative.into(), ..Default::default() };
    let closed = cluster.nodes[1].client().channel().close_channel(close).await.expect("a close").into_inner();
    let far = closed.channel.expect("a channel").channel_id;
    let closing = cluster.nodes[1].channel_until("closing", &far, |channel| !channel.closing_txid.is_empty()).await;
    cluster.chain.await_mempool(&closing.closing_txid).await;
    cluster.mine(1).await;
    cluster.mine(SPENT_BLOCKS - 2).await;
    knows(&cluster.nodes[0], 2, 3).await;
    cluster.mine(1).await;
    for node in &cluster.nodes[..2] {
        knows(node, 1, 2).await;
    }
}
