//! Over two hops: ours between two LDK nodes, LDK between two of ours; and one payment in parts over two channels. The
//! channels are private, so that invoices carry hints with the alias and policy that the middle one told its peer.

use bitcoin::Amount;
use lightning_invoice::Bolt11Invoice;
use proto::v1::send_payment_request::Payee;
use proto::v1::{ChannelType, OpenChannelRequest, open_channel_request};
use tests::cluster::BRIEF;
use tests::{Cluster, Daemon, LdkNode, LdkTerms, until};

use super::assert_paid;

const CAPACITY_SAT: u64 = 1_000_000;
pub const PRIVATE: LdkTerms = LdkTerms { anchors: true, public: false };

/// Asks a daemon for a channel to LDK of which LDK has half.
pub async fn open(from: &Daemon, to: &LdkNode) {
    from.call(to.peer_address()).await;
    let wanted = OpenChannelRequest {
        amount: Some(open_channel_request::Amount::CapacitySat(CAPACITY_SAT)),
        push_msat: CAPACITY_SAT * 500,
        channel_type: ChannelType::Anchors.into(),
        ..Default::default()
    };
    from.open(to.node_id().to_string(), wanted).await.unwrap();
}

/// Two of ours with LDK between them: Alice - LDK - Bob.
pub async fn around() -> (Cluster, LdkNode) {
    let cluster = Cluster::start(&["alice", "bob"], BRIEF).await;
    cluster.fund().await;
    let middle = LdkNode::start(&cluster.chain, PRIVATE).await;
    open(cluster.alice(), &middle).await;
    open(cluster.bob(), &middle).await;
    usable(&cluster, &[&middle], 2).await;
    (cluster, middle)
}

/// Mines what the channels wait for, and waits until all are usable.
pub async fn usable(cluster: &Cluster, ldks: &[&LdkNode], channels: usize) {
    until("the funding transactions", async || (cluster.chain.mempool().await.len() >= channels).then_some(())).await;
    cluster.mine(6).await;
    for node in &cluster.nodes {
        until(&format!("{}'s channels", node.name), async || {
            node.channels().await.iter().all(|channel| channel.usable).then_some(())
        })
        .await;
    }
    for ldk in ldks {
        until("LDK's channels", async || {
            let channels = ldk.channels();
            let known =
                channels.iter().all(|channel| channel.is_usable && channel.counterparty.forwarding_info.is_some());
            (!channels.is_empty() && known).then_some(())
        })
        .await;
    }
}

/// An invoice with a hint: the payee must have heard how LDK forwards to it.
async fn hinted(payee: &Daemon, amount_msat: u64) -> String {
    until("an invoice with a hint", async || {
        let text = payee.invoice(Some(amount_msat)).await.payment_request;
        let invoice: Bolt11Invoice = text.parse().expect("our invoice");
        (!invoice.route_hints().is_empty()).then_some(text)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ours_between_two_ldk_nodes() {
    let cluster = Cluster::start(&["alice"], BRIEF).await;
    cluster.fund().await;
    let alice = cluster.alice();
    let (payer, payee) = (LdkNode::start(&cluster.chain, PRIVATE).await, LdkNode::start(&cluster.chain, PRIVATE).await);
    open(alice, &payer).await;
    open(alice, &payee).await;
    usable(&cluster, &[&payer, &payee], 2).await;
    for amount_msat in [50_000_000, 1_000_000, 200_000] {
        let fee = payer.paid(payer.pay(&payee.invoice(Some(amount_msat))).unwrap()).await.unwrap();
        assert!(fee > 0, "the one in the middle is paid");
        let fee = payee.paid(payee.pay(&payer.invoice(Some(amount_msat))).unwrap()).await.unwrap();
        assert!(fee > 0, "the one in the middle is paid");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ldk_between_two_of_ours() {
    let (cluster, _middle) = around().await;
    for (payer, payee) in [(0, 1), (1, 0)] {
        for amount_msat in [50_000_000, 1_000_000, 200_000] {
            let invoice = hinted(&cluster.nodes[payee], amount_msat).await;
            let paid = cluster.nodes[payer].pay(Payee::PaymentRequest(invoice), None).await;
            assert_paid(&paid);
            assert!(paid.fee_msat > 0, "LDK is paid");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_in_parts_goes_both_ways() {
    let cluster = Cluster::start(&["alice"], BRIEF).await;
    cluster.fund().await;
    let (alice, ldk) = (cluster.alice(), LdkNode::start(&cluster.chain, PRIVATE).await);
    cluster.chain.mine(1, &ldk.wallet_address()).await;
    cluster.mine(1).await;
    open(alice, &ldk).await;
    open(alice, &ldk).await;
    usable(&cluster, &[&ldk], 2).await;
    // Each side has 500,000 sat in each channel, less reserve and fee.
    let amount_msat = 700_000_000;
    assert_paid(&alice.pay(Payee::PaymentRequest(ldk.invoice(Some(amount_msat)).to_string()), None).await);
    let invoice: Bolt11Invoice = alice.invoice(Some(amount_msat)).await.payment_request.parse().unwrap();
    ldk.paid(ldk.pay(&invoice).unwrap()).await.unwrap();
    assert!(ldk.wallet().balance() > Amount::ZERO);
}
