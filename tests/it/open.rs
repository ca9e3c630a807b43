//! Channels are opened: both types, with a gift, and refused where they cannot be.

use proto::v1::{
    ChannelState, ChannelType, ConnectPeerRequest, DisconnectPeerRequest, EventKind, GetChannelRequest,
    OpenChannelRequest, open_channel_request,
};
use serde_json::json;
use tests::cluster::Terms;
use tests::refusal::reason;
use tests::{Cluster, money};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_are_opened_and_refused() {
    let cluster = Cluster::pair().await;
    refusals_before_a_session(&cluster).await;
    cluster.alice().connect(cluster.bob()).await;
    refusals(&cluster).await;
    let anchors = opened(&cluster, ChannelType::Anchors, 250_000_000).await;
    let plain = opened(&cluster, ChannelType::StaticRemotekey, 0).await;
    assert_ne!(anchors, plain);
    both_are_found(&cluster, &[anchors, plain]).await;
    sessions_with_channels_are_kept(&cluster).await;
}

fn request(cluster: &Cluster) -> OpenChannelRequest {
    OpenChannelRequest {
        peer_node_id: cluster.bob().id(),
        amount: Some(open_channel_request::Amount::CapacitySat(500_000)),
        ..Default::default()
    }
}

async fn refused(cluster: &Cluster, request: OpenChannelRequest) -> String {
    let said = format!("{request:?}");
    let answer = cluster.alice().client().channel().open_channel(request).await;
    reason(&answer.err().unwrap_or_else(|| panic!("not refused: {said}")))
}

async fn refusals_before_a_session(cluster: &Cluster) {
    assert_eq!(refused(cluster, request(cluster)).await, "PEER_OFFLINE");
    let stranger = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
    let unknown = OpenChannelRequest { peer_node_id: stranger.into(), ..request(cluster) };
    assert_eq!(refused(cluster, unknown).await, "PEER_OFFLINE");
    // Nobody listens there; and who listens here is somebody else.
    let at = cluster.bob().presence().listen.unwrap();
    for address in [format!("{}@127.0.0.1:1", cluster.bob().id()), format!("{stranger}@{at}")] {
        let request = ConnectPeerRequest { address, ..Default::default() };
        let refusal = cluster.alice().client().peer().connect_peer(request).await.unwrap_err();
        assert_eq!(reason(&refusal), "PEER_UNREACHABLE", "{refusal:?}");
    }
    let own = ConnectPeerRequest { address: cluster.alice().address(), ..Default::default() };
    let refusal = cluster.alice().client().peer().connect_peer(own).await.unwrap_err();
    reason(&refusal);
}

async fn refusals(cluster: &Cluster) {
    use open_channel_request::Amount::{CapacitySat, Max};
    let base = request(cluster);
    let cases = [
        (OpenChannelRequest { amount: None, ..base.clone() }, "INVALID_ARGUMENT"),
        (OpenChannelRequest { amount: Some(Max(false)), ..base.clone() }, "INVALID_ARGUMENT"),
        (OpenChannelRequest { amount: Some(CapacitySat(0)), ..base.clone() }, "INVALID_ARGUMENT"),
        (OpenChannelRequest { amount: Some(CapacitySat(99_999)), ..base.clone() }, "INVALID_ARGUMENT"),
        (OpenChannelRequest { amount: Some(CapacitySat(16_777_216)), ..base.clone() }, "INVALID_ARGUMENT"),
        (OpenChannelRequest { amount: Some(CapacitySat(u64::MAX)), ..base.clone() }, "INVALID_ARGUMENT"),
        (OpenChannelRequest { push_msat: 500_000_001, ..base.clone() }, "INVALID_ARGUMENT"),
        (OpenChannelRequest { push_msat: u64::MAX, ..base.clone() }, "INVALID_ARGUMENT"),
        (OpenChannelRequest { feerate_per_kw: Some(1), ..base.clone() }, "INVALID_ARGUMENT"),
        (OpenChannelRequest { channel_type: 77, ..base.clone() }, "INVALID_ARGUMENT"),
        (OpenChannelRequest { peer_node_id: "02".into(), ..base.clone() }, "INVALID_ARGUMENT"),
        (OpenChannelRequest { request_id: "x".repeat(65), ..base.clone() }, "INVALID_ARGUMENT"),
    ];
    for (request, expected) in cases {
        let said = format!("{request:?}");
        assert_eq!(refused(cluster, request).await, expected, "{said}");
    }
    let checked = OpenChannelRequest { validate_only: true, ..base };
    let answer = cluster.alice().client().channel().open_channel(checked).await.unwrap().into_inner();
    assert_eq!(answer.channel, None);
    assert!(cluster.alice().channels().await.is_empty(), "nothing was opened");
    assert!(cluster.chain.mempool().await.is_empty());
}

async fn opened(cluster: &Cluster, channel_type: ChannelType, push_msat: u64) -> String {
    let before = money::wallet_sat(cluster.alice()).await;
    let (height, capacity_sat) = (cluster.chain.height().await, 600_000);
    let id = cluster.open(Terms { capacity_sat, push_msat, channel_type }).await;
    let (alice, bob) = (cluster.alice().channel(&id).await, cluster.bob().channel(&id).await);
    for end in [&alice, &bob] {
        assert_eq!((end.state(), end.channel_type()), (ChannelState::Open, channel_type));
        assert_eq!((end.capacity_sat, end.required_confirmations), (capacity_sat, 2));
        assert!(end.transfers, "ours know transfers");
    }
    assert!(alice.is_opener && !bob.is_opener);
    assert_eq!(alice.short_channel_id, bob.short_channel_id);
    assert_eq!((alice.local_msat, alice.remote_msat), (600_000_000 - push_msat, push_msat));
    assert_eq!((bob.local_msat, bob.remote_msat), (push_msat, 600_000_000 - push_msat));
    assert!(alice.sendable_msat < alice.local_msat, "reserve, fee and anchors are kept back");
    let funding = alice.funding_outpoint.unwrap();
    let output = cluster.chain.call("gettxout", json!([funding.txid, funding.output_index])).await;
    assert_eq!(money::sat(&output["value"]), capacity_sat);
    let fees = money::fees(&money::transactions_after(cluster, height).await);
    assert_eq!(money::wallet_sat(cluster.alice()).await, before - capacity_sat - fees);
    id
}

async fn both_are_found(cluster: &Cluster, ids: &[String]) {
    let channels = cluster.alice().channels().await;
    assert_eq!(channels.len(), 2);
    for id in ids {
        let short = cluster.alice().channel(id).await.short_channel_id;
        let request = GetChannelRequest { channel_id: short };
        let found = cluster.alice().client().channel().get_channel(request).await.unwrap().into_inner().channel;
        assert_eq!(found.unwrap().channel_id, *id);
    }
    for node in &cluster.nodes {
        let ready = node.events(&[EventKind::ChannelReady]).await;
        assert_eq!(ready.len(), 2, "{}", node.name);
    }
    let reserved = cluster.alice().balances().await.reserved_sat;
    assert_eq!(reserved, 10_000, "one channel with anchors");
}

async fn sessions_with_channels_are_kept(cluster: &Cluster) {
    let request = DisconnectPeerRequest { node_id: cluster.bob().id(), ..Default::default() };
    let refusal = cluster.alice().client().peer().disconnect_peer(request.clone()).await.unwrap_err();
    assert_eq!(reason(&refusal), "PEER_HAS_CHANNELS");
    let forced = DisconnectPeerRequest { force: true, ..request };
    cluster.alice().client().peer().disconnect_peer(forced).await.unwrap();
    let id = cluster.alice().channels().await[0].channel_id.clone();
    cluster.alice().channel_until("without a session", &id, |channel| !channel.usable).await;
    cluster.alice().connect(cluster.bob()).await;
    cluster.usable(&id).await;
}
