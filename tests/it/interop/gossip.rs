//! A line of announced channels, Bob – Alice – LDK – another LDK: all four know all of it by what the two in the middle say, and pay
//! over it. Then one more LDK node asks Alice all questions of BOLT 7; at last the channel in the middle is closed.

use std::collections::BTreeSet;

use lightning::routing::gossip::NodeId;
use lightning_invoice::Bolt11Invoice;
use proto::v1::send_payment_request::Payee;
use proto::v1::{
    ChannelType, CloseChannelRequest, CloseMode, GraphEdge, ListEdgesRequest, ListNodesRequest, OpenChannelRequest,
    open_channel_request,
};
use tests::wait::soon;
use tests::{Daemon, LdkNode, LdkTerms, until};
use wallet_cli::client::request_id;

use super::{CAPACITY_SAT, Meeting, Opener, PUSH_MSAT, assert_paid, cells};

const PUBLIC: LdkTerms = LdkTerms { anchors: true, public: true };
/// BOLT 7: a closed channel is kept for so many blocks, the closing one included.
const SPENT_BLOCKS: u32 = 72;

cells! { exchanged:
    ours_opens_and_all_hear_of_it = (Ours, Anchors),
    ldk_opens_and_all_hear_of_it = (Ldk, Anchors),
}

async fn exchanged(opener: Opener, format: ChannelType) {
    let mut meeting = Meeting::prepare_with(&["alice", "bob"], format, true).await;
    open_from_bob(&meeting).await;
    // Alice has a network already, and asks LDK only for what she has not heard of.
    meeting.connect(meeting.ldk.peer_address()).await;
    meeting.open_channel(opener, format).await;
    let far = open_to_another(&meeting).await;
    all_know(&meeting, &far).await;
    paid_by_what_was_heard(&meeting, &far).await;
    late_comer_asks(&meeting).await;
    closed(&meeting, opener, &far).await;
}

async fn open_from_bob(meeting: &Meeting) {
    let (alice, bob) = (meeting.cluster.alice(), meeting.cluster.bob());
    bob.connect(alice).await;
    let request = OpenChannelRequest {
        request_id: request_id().unwrap(),
        peer_node_id: alice.id(),
        amount: Some(open_channel_request::Amount::CapacitySat(CAPACITY_SAT)),
        push_msat: PUSH_MSAT,
        channel_type: ChannelType::Anchors.into(),
        announce: true,
        ..Default::default()
    };
    let opened = soon("an opening", bob.client().channel().open_channel(request)).await.unwrap().into_inner();
    let channel = opened.channel.expect("a channel");
    meeting.cluster.chain.await_mempool(&channel.funding_outpoint.expect("a funding output").txid).await;
    meeting.mine(6).await;
    meeting.cluster.usable(&channel.channel_id).await;
    until("both to know it", async || (edges(alice).await.len() == 1 && edges(bob).await.len() == 1).then_some(()))
        .await;
}

/// The far end, which hears of the network from LDK alone.
async fn open_to_another(meeting: &Meeting) -> LdkNode {
    let (chain, ldk) = (&meeting.cluster.chain, &meeting.ldk);
    let far = LdkNode::start(chain, PUBLIC).await;
    let (id, address) = far.place();
    ldk.connect(id, address).await;
    ldk.open(id, CAPACITY_SAT, PUSH_MSAT);
    let funding = until("LDK's funding transaction", async || {
        let opened = far.channels().into_iter().find_map(|channel| channel.funding_txo);
        opened.map(|funding| funding.txid.to_string())
    })
    .await;
    chain.await_mempool(&funding).await;
    meeting.mine(6).await;
    far.synced(chain).await;
    let is_half_known = |node: &LdkNode| {
        let graph = node.graph().read_only();
        let mut channels = graph.channels().unordered_iter();
        channels.any(|(_, channel)| [channel.node_one, channel.node_two].contains(&NodeId::from_pubkey(&id)))
    };
    until("both to announce it", async || (is_half_known(ldk) && is_half_known(&far)).then_some(())).await;
    // An LDK node drops its peer's update where that comes before its own announcement; on a new connection it hears it again.
    ldk.cut(id);
    until("an end to the session", async || ldk.is_alone(id).then_some(())).await;
    ldk.connect(id, address).await;
    far
}

async fn edges(node: &Daemon) -> Vec<GraphEdge> {
    node.client().graph().list_edges(ListEdgesRequest::default()).await.unwrap().into_inner().edges
}

/// Announced channels of which both ends said what they ask.
async fn told(node: &Daemon) -> usize {
    let edges = edges(node).await;
    edges.iter().filter(|edge| edge.node_1_policy.is_some() && edge.node_2_policy.is_some()).count()
}

/// Nodes that said who they are.
async fn named(node: &Daemon) -> usize {
    let nodes = node.client().graph().list_nodes(ListNodesRequest::default()).await.unwrap().into_inner().nodes;
    nodes.iter().filter(|node| node.announced_at.is_some()).count()
}

/// The same of an LDK node.
fn ldk_knows(ldk: &LdkNode) -> (usize, usize) {
    let graph = ldk.graph().read_only();
    let channels = graph.channels().unordered_iter();
    let told = channels.filter(|(_, channel)| channel.one_to_two.is_some() && channel.two_to_one.is_some()).count();
    let named = graph.nodes().unordered_iter().filter(|(_, node)| node.announcement_info.is_some()).count();
    (told, named)
}

async fn all_know(meeting: &Meeting, far: &LdkNode) {
    let ldks = [&meeting.ldk, far];
    for node in &meeting.cluster.nodes {
        until(&format!("{} to know three channels", node.name), async || (told(node).await == 3).then_some(())).await;
    }
    for ldk in ldks {
        until("LDK to know three channels", async || (ldk_knows(ldk).0 == 3).then_some(())).await;
    }
    // LDK says it once an hour, in its own background processor: now is as good a time.
    ldks.iter().for_each(|ldk| ldk.announce());
    for node in &meeting.cluster.nodes {
        until(&format!("{} to know four nodes", node.name), async || (named(node).await == 4).then_some(())).await;
    }
    for ldk in ldks {
        until("LDK to know four nodes", async || (ldk_knows(ldk).1 == 4).then_some(())).await;
    }
    let request = ListNodesRequest { node_id: far.node_id().to_string(), ..Default::default() };
    let listed = meeting.cluster.bob().client().graph().list_nodes(request).await.unwrap().into_inner().nodes;
    assert_eq!((listed[0].alias.as_str(), listed[0].color.as_str()), ("LDK", "#010203"));
    let (_, address) = far.place();
    assert_eq!(listed[0].addresses, [address.to_string()]);
    let graph = far.graph().read_only();
    for node in &meeting.cluster.nodes {
        let id = NodeId::from_pubkey(&node.id().parse().unwrap());
        let said = graph.node(&id).and_then(|node| node.announcement_info.as_ref()).expect("it was waited for");
        assert_eq!(said.alias().to_string(), node.name);
    }
}

/// From one end to the other over three hops; the invoices have no hint.
async fn paid_by_what_was_heard(meeting: &Meeting, far: &LdkNode) {
    let bob = meeting.cluster.bob();
    // LDK counts on a public channel, and gives no hint, only from its seventh block.
    meeting.mine(1).await;
    far.synced(&meeting.cluster.chain).await;
    let asked = far.invoice(Some(20_000_000));
    assert!(asked.route_hints().is_empty());
    let paid = bob.pay(Payee::PaymentRequest(asked.to_string()), None).await;
    assert_paid(&paid);
    assert!(paid.fee_msat > 0, "two are paid for passing it on");
    let asked: Bolt11Invoice = bob.invoice(Some(10_000_000)).await.payment_request.parse().unwrap();
    assert!(asked.route_hints().is_empty());
    let fee = far.paid(far.pay(&asked).unwrap()).await.unwrap();
    assert!(fee > 0, "two are paid for passing it on");
}

/// It says no filter, so it is told only what it asks for.
async fn late_comer_asks(meeting: &Meeting) {
    let late = LdkNode::start(&meeting.cluster.chain, PUBLIC).await;
    late.gossip().want_no_news();
    let alice = meeting.alice_id();
    late.connect(alice, meeting.alice().presence().listen.expect("she listens")).await;
    late.gossip().ask_range(alice);
    let range = until("the end of the list", async || {
        let ranges = late.gossip().answers().ranges;
        ranges.last().is_some_and(|last| last.sync_complete).then_some(ranges)
    })
    .await;
    let listed: Vec<u64> = range.iter().flat_map(|part| part.short_channel_ids.iter().copied()).collect();
    let known: BTreeSet<u64> =
        meeting.ldk.graph().read_only().channels().unordered_iter().map(|(place, _)| *place).collect();
    assert_eq!(listed, known.iter().copied().collect::<Vec<_>>(), "all of them, in order");
    // Of what it does not ask for it hears nothing: Alice says only what is her own without being asked.
    late.gossip().ask_channels(alice, listed[1..].to_vec());
    until("the end of the answer", async || (late.gossip().answers().ends.len() == 1).then_some(())).await;
    assert!(late.gossip().answers().ends[0].full_information);
    let (told, named) = ldk_knows(&late);
    assert!((told, named) == (2, 4) || (told, named) == (2, 3), "{told} channels, {named} nodes");
    late.gossip().ask_channels(alice, vec![listed[0]]);
    until("all of it", async || (ldk_knows(&late) == (3, 4)).then_some(())).await;
}

/// Ours asks for a close, or LDK closes by force: whoever opened.
async fn closed(meeting: &Meeting, opener: Opener, far: &LdkNode) {
    let (alice, bob) = (meeting.cluster.alice(), meeting.cluster.bob());
    let place = alice.channel(&meeting.channel).await.short_channel_id;
    let funding = alice.channel(&meeting.channel).await.funding_outpoint.expect("a funding output");
    match opener {
        Opener::Ours => {
            let mode = CloseMode::Cooperative.into();
            let request = CloseChannelRequest { channel_id: meeting.channel.clone(), mode, ..Default::default() };
            alice.client().channel().close_channel(request).await.unwrap();
        }
        Opener::Ldk => {
            let channels = meeting.ldk.channels();
            let with_alice = channels.iter().find(|channel| channel.counterparty.node_id == meeting.alice_id());
            meeting.ldk.force_close(&with_alice.expect("it is open").channel_id, &meeting.alice_id());
        }
    }
    meeting.cluster.chain.await_spend(&funding.txid, funding.output_index).await;
    let is_off = |edge: &GraphEdge| {
        let policies = [&edge.node_1_policy, &edge.node_2_policy];
        policies.into_iter().flatten().all(|policy| policy.disabled)
    };
    until("Bob to hear that it is off", async || {
        edges(bob).await.iter().any(|edge| edge.short_channel_id == place && is_off(edge)).then_some(())
    })
    .await;
    until("LDK's neighbour to hear that it is off", async || {
        let graph = far.graph().read_only();
        let off = graph.channels().unordered_iter().filter(|(_, channel)| {
            let policies = [&channel.one_to_two, &channel.two_to_one];
            policies.into_iter().flatten().all(|policy| !policy.enabled)
        });
        (off.count() == 1).then_some(())
    })
    .await;
    meeting.mine(SPENT_BLOCKS - 1).await;
    assert_eq!(edges(bob).await.len(), 3, "it is kept for a while, should the chain be reorganised");
    meeting.mine(1).await;
    for node in [alice, bob] {
        until("the channel to go", async || {
            let edges = edges(node).await;
            (edges.len() == 2 && edges.iter().all(|edge| edge.short_channel_id != place)).then_some(())
        })
        .await;
    }
}
