//! Three daemons in a line, with announced channels: invoices over two hops, in parts over two channels, routes asked for, and
//! streams over HTLCs that outlive a kill -9 of their payer.

mod network;

use proto::v1::send_payment_request::Payee;
use proto::v1::stream_payments_request::Request;
use proto::v1::{
    ListEdgesRequest, OpenChannelRequest, PaymentState, QueryRoutesRequest, QueryRoutesResponse, StreamCloseReason,
    StreamFinish, StreamOpen, open_channel_request, query_routes_request, stream_open,
};
use tests::cluster::BRIEF;
use tests::{Cluster, until};
use wallet_cli::client::request_id;

use crate::stream::Stream;

/// Opens an announced channel from one node of the cluster to another; its id.
async fn open(cluster: &Cluster, from: usize, to: usize, capacity_sat: u64) -> String {
    let (opener, accepter) = (&cluster.nodes[from], &cluster.nodes[to]);
    opener.connect(accepter).await;
    let request = OpenChannelRequest {
        request_id: request_id().unwrap(),
        peer_node_id: accepter.id(),
        amount: Some(open_channel_request::Amount::CapacitySat(capacity_sat)),
        push_msat: capacity_sat * 400,
        announce: true,
        ..Default::default()
    };
    let opened = opener.client().channel().open_channel(request).await.unwrap().into_inner();
    let channel = opened.channel.expect("a channel");
    cluster.chain.await_mempool(&channel.funding_outpoint.expect("a funding output").txid).await;
    cluster.mine(6).await;
    for node in [opener, accepter] {
        node.channel_until("usable", &channel.channel_id, |channel| channel.usable).await;
    }
    channel.channel_id
}

/// Waits until a node knows so many channels, with what both ends ask.
async fn knows(cluster: &Cluster, who: usize, channels: usize) {
    until("the graph", async || {
        let answer = cluster.nodes[who].client().graph().list_edges(ListEdgesRequest::default()).await.unwrap();
        let edges = answer.into_inner().edges;
        let told = edges.iter().filter(|edge| edge.node_1_policy.is_some() && edge.node_2_policy.is_some()).count();
        (told == channels).then_some(())
    })
    .await;
}

async fn routes(cluster: &Cluster, amount_msat: u64) -> QueryRoutesResponse {
    let payee = Some(query_routes_request::Payee::NodeId(cluster.nodes[2].id()));
    let request = QueryRoutesRequest { payee, amount_msat: Some(amount_msat), ..Default::default() };
    cluster.alice().client().payment().query_routes(request).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_of_three() {
    let config = format!("{BRIEF}\n");
    let mut cluster = Cluster::start(&["alice", "bob", "carol"], &config).await;
    cluster.fund().await;
    open(&cluster, 0, 1, 1_000_000).await;
    open(&cluster, 0, 1, 1_000_000).await;
    let far = open(&cluster, 1, 2, 4_000_000).await;
    knows(&cluster, 0, 3).await;

    let found = routes(&cluster, 10_000_000).await;
    assert_eq!((found.routes.len(), found.routes[0].hops.len()), (1, 2), "{found:?}");
    let none = routes(&cluster, 9_000_000_000).await;
    assert!(none.routes.is_empty() && !none.no_route_reason.is_empty() && !none.excluded_edges.is_empty(), "{none:?}");

    let carol = &cluster.nodes[2];
    let before = carol.channel(&far).await.local_msat;
    for (amount, parts) in [(10_000_000, 1), (900_000_000, 2)] {
        let invoice = carol.invoice(Some(amount)).await;
        let paid = cluster.alice().pay(Payee::PaymentRequest(invoice.payment_request), None).await;
        assert_eq!(paid.state(), PaymentState::Succeeded, "{paid:?}");
        assert!(paid.fee_msat > 0 && paid.attempts.len() >= parts, "{paid:?}");
    }
    let after = until("the parts to settle", async || {
        let channel = carol.channel(&far).await;
        (channel.htlcs.is_empty() && channel.local_msat >= before + 910_000_000).then_some(channel.local_msat)
    })
    .await;
    assert_eq!(after, before + 910_000_000);
    streams(&mut cluster, &far).await;
}

async fn streams(cluster: &mut Cluster, far: &str) {
    const COUNT: u64 = 200;
    const EACH: u64 = 50_000;
    let before = cluster.nodes[2].channel(far).await.local_msat;
    let destination = Some(stream_open::Destination::PeerNodeId(cluster.nodes[2].id()));
    let to_carol = StreamOpen { destination, ..Default::default() };
    let mut stream = Stream::open(cluster.alice(), to_carol.clone()).await.unwrap();
    let session_id = stream.opened.session_id.clone();
    stream.pay(1, COUNT / 2, EACH).await;
    stream.committed(10).await.unwrap();
    cluster.nodes[0].kill();
    drop(stream);
    cluster.nodes[0].restart().await;
    let alice = cluster.alice();
    until("alice's channels", async || {
        let channels = alice.channels().await;
        channels.iter().all(|channel| channel.usable).then_some(())
    })
    .await;
    knows(cluster, 0, 3).await;
    let mut stream = Stream::open(alice, StreamOpen { session_id, ..to_carol }).await.unwrap();
    let opened = stream.opened.clone();
    assert!(opened.accepted_sequence >= opened.committed_sequence && opened.committed_sequence >= 10, "{opened:?}");
    stream.pay(opened.accepted_sequence + 1, COUNT - opened.accepted_sequence, EACH).await;
    stream.say(Request::Finish(StreamFinish {})).await;
    let closed = stream.closed().await.unwrap();
    assert_eq!((closed.reason(), closed.committed_sequence), (StreamCloseReason::Finished, COUNT));
    let receipt = closed.receipt.expect("carol gives a receipt");
    assert_eq!((receipt.last_sequence, receipt.paid_msat), (COUNT, COUNT * EACH));
    let carol = &cluster.nodes[2];
    let after = until("the last batch to settle", async || {
        let channel = carol.channel(far).await;
        channel.htlcs.is_empty().then_some(channel.local_msat)
    })
    .await;
    assert_eq!(after, before + COUNT * EACH, "nothing is paid twice");
}
