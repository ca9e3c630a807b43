//! Channels are closed: together, and by force from either end with HTLCs on the way.

use proto::v1::inject_fault_request::Fault;
use proto::v1::send_payment_request::Payee;
use proto::v1::{
    ChannelState, ChannelType, CloseChannelRequest, CloseChannelResponse, CloseMode, EventKind, GetInvoiceRequest,
    HoldHtlcs, InvoiceState, PaymentFailureReason, PaymentState, SendPaymentRequest,
};
use tests::cluster::Terms;
use tests::refusal::reason;
use tests::{Cluster, Daemon, money};
use tonic::Status;

pub async fn close(node: &Daemon, channel: &str, mode: CloseMode) -> Result<CloseChannelResponse, Status> {
    let request = CloseChannelRequest { channel_id: channel.to_owned(), mode: mode.into(), ..Default::default() };
    Ok(node.client().channel().close_channel(request).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_close_together() {
    let cluster = Cluster::pair().await;
    for (channel_type, closer) in [(ChannelType::Anchors, 0), (ChannelType::StaticRemotekey, 1)] {
        let before = [money::wallet_sat(cluster.alice()).await, money::wallet_sat(cluster.bob()).await];
        let height = cluster.chain.height().await;
        let channel = cluster.open(Terms { channel_type, ..Terms::default() }).await;
        cluster.alice().keysend(&cluster.bob().id(), 50_000_123).await;
        let (_, bob_msat) = cluster.settled(&channel).await;
        assert_eq!(bob_msat, 450_000_123);
        let closing = close(&cluster.nodes[closer], &channel, CloseMode::Cooperative).await.unwrap();
        assert_eq!(closing.channel.unwrap().channel_id, channel);
        for node in &cluster.nodes {
            node.channel_until("with a closing transaction", &channel, |channel| !channel.closing_txid.is_empty())
                .await;
        }
        let txid = cluster.alice().channel(&channel).await.closing_txid;
        assert_eq!(cluster.bob().channel(&channel).await.closing_txid, txid);
        cluster.chain.await_mempool(&txid).await;
        let refusal = close(cluster.alice(), &channel, CloseMode::Cooperative).await.err();
        refusal.iter().for_each(|refusal| assert_eq!(reason(refusal), "CHANNEL_NOT_USABLE"));
        assert!(cluster.bury(&channel).await <= 6);
        let fees = money::fees(&money::transactions_after(&cluster, height).await);
        let after = [money::wallet_sat(cluster.alice()).await, money::wallet_sat(cluster.bob()).await];
        assert_eq!(after[1], before[1] + 450_000, "Bob gets what is his, and pays nothing");
        // The fraction of a satoshi goes to the fee.
        assert_eq!(after[0], before[0] - 450_000 - fees);
    }
    let closed = cluster.alice().events(&[EventKind::ChannelClosed]).await;
    assert_eq!(closed.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn either_closes_by_force() {
    let cluster = Cluster::pair().await;
    forced(&cluster, ChannelType::Anchors, 0).await;
    forced(&cluster, ChannelType::StaticRemotekey, 1).await;
}

pub async fn hold(node: &Daemon, channel: &str, held: bool) {
    node.inject(Fault::HoldHtlcs(HoldHtlcs { channel_id: channel.to_owned(), hold: held })).await.unwrap();
}

/// A payment whose payee has shown the preimage to nobody but its own disk is taken on the chain, from either commitment,
/// and the payer learns from there that it paid.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preimage_takes_its_htlc_on_the_chain() {
    let mut cluster = Cluster::pair().await;
    for (channel_type, closer) in
        [(ChannelType::Anchors, 0), (ChannelType::StaticRemotekey, 0), (ChannelType::Anchors, 1)]
    {
        claimed(&mut cluster, channel_type, closer).await;
    }
}

async fn claimed(cluster: &mut Cluster, channel_type: ChannelType, closer: usize) {
    let coins = money::wallet_sat(cluster.alice()).await + money::wallet_sat(cluster.bob()).await;
    let height = cluster.chain.height().await;
    let channel = cluster.open(Terms { channel_type, ..Terms::default() }).await;
    hold(cluster.alice(), &channel, true).await;
    pay_and_leave(cluster.bob(), cluster.alice(), 25_000_000).await;
    held(cluster, &channel, 1).await;
    cluster.nodes[1].kill();
    cluster.alice().channel_until("without a session", &channel, |channel| !channel.usable).await;
    // Now Alice answers, and nobody hears it.
    hold(cluster.alice(), &channel, false).await;
    if closer == 0 {
        close(cluster.alice(), &channel, CloseMode::Force).await.unwrap();
        cluster.nodes[1].restart().await;
    } else {
        // Bob closes before he can hear it.
        cluster.nodes[0].kill();
        cluster.nodes[1].restart().await;
        close(cluster.bob(), &channel, CloseMode::Force).await.unwrap();
        cluster.nodes[0].restart().await;
    }
    cluster.closing(&channel).await;
    cluster.bury(&channel).await;
    let payment = cluster.bob().payments().await.pop().expect("Bob paid");
    assert_eq!(payment.state(), PaymentState::Succeeded, "{payment:?}");
    assert_eq!(payment.preimage.len(), 64);
    let transactions = money::transactions_after(cluster, height).await;
    let after = money::wallet_sat(cluster.alice()).await + money::wallet_sat(cluster.bob()).await;
    let (commitment, _) = cluster.closed_by(&channel).await;
    let anchors = unspent_anchors(cluster, &transactions, &commitment).await;
    assert_eq!(coins, after + money::fees(&transactions) + anchors, "every satoshi");
}

/// Sends a payment that its payee holds; it is followed by nobody.
pub async fn pay_and_leave(payer: &Daemon, payee: &Daemon, amount_msat: u64) {
    send_and_leave(payer, Payee::NodeId(payee.id()), Some(amount_msat)).await;
}

async fn send_and_leave(payer: &Daemon, payee: Payee, amount_msat: Option<u64>) {
    let request = SendPaymentRequest { payee: Some(payee), amount_msat, ..Default::default() };
    let mut updates = payer.client().payment().send_payment(request).await.unwrap().into_inner();
    updates.message().await.unwrap().expect("it is journaled");
}

/// Waits until so many HTLCs stand in the commitments of both ends, and nothing is under way.
pub async fn held(cluster: &Cluster, channel: &str, count: usize) {
    for node in &cluster.nodes {
        node.channel_until("with held HTLCs", channel, |channel| channel.htlcs.len() == count).await;
    }
    // A payment above all, both ways, is answered only when what came before is irrevocable.
    for node in &cluster.nodes {
        let mut last = (0, 0);
        tests::until("quiet commitments", async || {
            let now = node.channel(channel).await;
            let numbers = (now.local_commitment_number, now.remote_commitment_number);
            let quiet = numbers == last;
            last = numbers;
            quiet.then_some(())
        })
        .await;
    }
}

/// A forced close with an HTLC each way that nobody has answered: both go back to their payers. What is let go of after
/// the close is not taken for paid.
async fn forced(cluster: &Cluster, channel_type: ChannelType, closer: usize) {
    let (alice, bob) = (cluster.alice(), cluster.bob());
    let before = money::wallet_sat(alice).await + money::wallet_sat(bob).await;
    let height = cluster.chain.height().await;
    let channel = cluster.open(Terms { channel_type, ..Terms::default() }).await;
    alice.keysend(&bob.id(), 1_000_000).await;
    for node in &cluster.nodes {
        hold(node, &channel, true).await;
    }
    let invoice = bob.invoice(Some(30_000_000)).await;
    send_and_leave(alice, Payee::PaymentRequest(invoice.payment_request), None).await;
    pay_and_leave(bob, alice, 20_000_000).await;
    held(cluster, &channel, 2).await;
    let closing = close(&cluster.nodes[closer], &channel, CloseMode::Force).await.unwrap();
    assert_ne!(closing.channel.unwrap().state(), ChannelState::Open);
    cluster.closing(&channel).await;
    cluster.mine(1).await;
    for node in &cluster.nodes {
        hold(node, &channel, false).await;
    }
    cluster.bury(&channel).await;
    let request = GetInvoiceRequest { payment_hash: invoice.payment_hash };
    let invoice = bob.client().invoice().get_invoice(request).await.unwrap().into_inner().invoice.unwrap();
    assert_eq!((invoice.state(), invoice.received_msat), (InvoiceState::Open, 0), "it was not paid");
    let transactions = money::transactions_after(cluster, height).await;
    let after = money::wallet_sat(alice).await + money::wallet_sat(bob).await;
    let (commitment, _) = cluster.closed_by(&channel).await;
    let anchors = unspent_anchors(cluster, &transactions, &commitment).await;
    assert_eq!(before, after + money::fees(&transactions) + anchors, "every satoshi");
    for node in &cluster.nodes {
        assert!(node.balances().await.claimable_outputs.is_empty(), "{}", node.name);
        let payments = node.payments().await;
        let open = payments.iter().filter(|payment| payment.state() == PaymentState::InFlight);
        assert_eq!(open.count(), 0, "every payment has an end at {}", node.name);
        let last = payments.last().expect("it paid");
        assert_eq!(last.failure_reason(), PaymentFailureReason::TimedOutOnChain, "{last:?}");
    }
}

/// What lies in outputs of a commitment that nobody took: anchors are worth less than their claim.
pub async fn unspent_anchors(cluster: &Cluster, transactions: &[serde_json::Value], txid: &str) -> u64 {
    let Some(commitment) = transactions.iter().find(|transaction| transaction["txid"] == txid) else {
        panic!("{txid} is in no block");
    };
    let mut left = 0;
    for (index, output) in commitment["vout"].as_array().unwrap().iter().enumerate() {
        let unspent = cluster.chain.call("gettxout", serde_json::json!([txid, index])).await;
        let is_wallet = {
            let mut found = false;
            for node in &cluster.nodes {
                let coins = money::coins(node).await;
                found |= coins
                    .into_iter()
                    .filter_map(|coin| coin.outpoint)
                    .any(|coin| coin.txid == txid && coin.output_index as usize == index);
            }
            found
        };
        if !unspent.is_null() && !is_wallet {
            assert_eq!(money::sat(&output["value"]), 330, "only anchors are left: {output}");
            left += 330;
        }
    }
    left
}
