//! Transactions made to confirm sooner, closes planned before they are made, and channels audited: on the real chain.

use proto::v1::inject_fault_request::Fault;
use proto::v1::{
    AuditChannelsRequest, BumpKind, BumpTransactionRequest, BumpTransactionResponse, ChannelAudit, CloseChannelRequest,
    CloseMode, FundingStatus, HoldHtlcs, OpenChannelRequest, PlanCloseRequest, PlanCloseResponse, PlannedOutputKind,
    SendCoinsRequest, open_channel_request, send_coins_request,
};
use serde_json::json;
use tests::cluster::Terms;
use tests::refusal::{field, reason};
use tests::wait::until;
use tests::{Cluster, Daemon, money};
use tonic::Status;
use wallet_cli::client::request_id;

async fn bump(node: &Daemon, request: BumpTransactionRequest) -> Result<BumpTransactionResponse, Status> {
    Ok(node.client().wallet().bump_transaction(request).await?.into_inner())
}

fn of(txid: &str, feerate_per_kw: u32) -> BumpTransactionRequest {
    BumpTransactionRequest { txid: txid.into(), feerate_per_kw: Some(feerate_per_kw), ..Default::default() }
}

async fn send(node: &Daemon, address: &str) -> String {
    let request = SendCoinsRequest {
        address: address.into(),
        amount: Some(send_coins_request::Amount::AmountSat(1_000_000)),
        feerate_per_kw: Some(300),
        ..Default::default()
    };
    node.client().wallet().send_coins(request).await.unwrap().into_inner().txid
}

async fn plan(node: &Daemon, channel: &str) -> PlanCloseResponse {
    let request = PlanCloseRequest { channel_id: channel.into() };
    node.client().channel().plan_close(request).await.unwrap().into_inner()
}

async fn audit(node: &Daemon) -> Vec<ChannelAudit> {
    node.client().channel().audit_channels(AuditChannelsRequest::default()).await.unwrap().into_inner().audits
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_confirm_sooner() {
    let mut cluster = Cluster::pair().await;
    let (alice, bob) = (cluster.alice(), cluster.bob());
    refusals(&cluster).await;
    replacement(&cluster).await;

    // What comes in is not ours to replace: a child pays for it. And a child that is ours is replaced.
    let txid = send(bob, &alice.wallet_address().await).await;
    cluster.chain.await_mempool(&txid).await;
    // Alice's daemon hears of it with a block only; Bob's change can be spent by Bob.
    let fixed = bump(bob, of(&txid, 4_000)).await.unwrap();
    assert_eq!(fixed.kind(), BumpKind::Replacement);
    cluster.mine(1).await;

    let channel = funding(&cluster).await;
    closing(&mut cluster, &channel).await;
}

async fn refusals(cluster: &Cluster) {
    let alice = cluster.alice();
    let refused = bump(alice, of(&"00".repeat(32), 1_000)).await.unwrap_err();
    assert_eq!(reason(&refused), "TRANSACTION_NOT_FOUND");
    for (request, name) in [(of("zz", 1_000), "txid"), (of(&"00".repeat(32), 1), "feerate_per_kw")] {
        assert_eq!(field(&bump(alice, request).await.unwrap_err()), name);
    }
    let txid = send(alice, &cluster.bob().wallet_address().await).await;
    let low = bump(alice, of(&txid, 300)).await.unwrap_err();
    assert_eq!((reason(&low).as_str(), field(&low).as_str()), ("INVALID_ARGUMENT", "feerate"));
    let tight = BumpTransactionRequest { max_fee_sat: Some(100), ..of(&txid, 2_000) };
    let tight = bump(alice, tight).await.unwrap_err();
    assert_eq!(reason(&tight), "FEE_ABOVE_BUDGET");
    cluster.chain.await_mempool(&txid).await;
    cluster.mine(1).await;
    let confirmed = bump(alice, of(&txid, 5_000)).await.unwrap_err();
    assert_eq!(reason(&confirmed), "NOT_REPLACEABLE");
}

async fn replacement(cluster: &Cluster) {
    let alice = cluster.alice();
    let before = money::wallet_sat(alice).await;
    let txid = send(alice, &cluster.bob().wallet_address().await).await;
    cluster.chain.await_mempool(&txid).await;
    let only = BumpTransactionRequest { validate_only: true, ..of(&txid, 2_000) };
    let only = bump(alice, only).await.unwrap();
    assert!(only.txid.is_empty() && only.fee_sat > 0);
    let request = BumpTransactionRequest { request_id: request_id().unwrap(), ..of(&txid, 2_000) };
    let bumped = bump(alice, request.clone()).await.unwrap();
    assert_eq!((bumped.kind(), bumped.fee_sat), (BumpKind::Replacement, only.fee_sat));
    assert_eq!(bumped.replaced_txid, txid);
    assert_eq!(bump(alice, request.clone()).await.unwrap(), bumped, "the same request is done once");
    let other = BumpTransactionRequest { feerate_per_kw: Some(3_000), ..request };
    assert_eq!(reason(&bump(alice, other).await.unwrap_err()), "IDEMPOTENCY_MISMATCH");
    cluster.chain.await_mempool(&bumped.txid).await;
    cluster.mine(1).await;
    assert_eq!(money::wallet_sat(alice).await, before - 1_000_000 - bumped.fee_sat);
}

/// A funding transaction keeps its id: its change is spent by a child, and that is replaced when it is bumped again.
async fn funding(cluster: &Cluster) -> String {
    let (alice, bob) = (cluster.alice(), cluster.bob());
    alice.connect(bob).await;
    let request = OpenChannelRequest {
        peer_node_id: bob.id(),
        amount: Some(open_channel_request::Amount::CapacitySat(1_000_000)),
        push_msat: 400_000_000,
        feerate_per_kw: Some(300),
        ..Default::default()
    };
    let opened = alice.client().channel().open_channel(request).await.unwrap().into_inner().channel.unwrap();
    let txid = opened.funding_outpoint.clone().unwrap().txid;
    cluster.chain.await_mempool(&txid).await;
    assert_eq!(audit(alice).await[0].funding_status(), FundingStatus::Unconfirmed);
    let child = bump(alice, of(&txid, 2_000)).await.unwrap();
    assert_eq!((child.kind(), child.replaced_txid.as_str()), (BumpKind::Child, ""));
    cluster.chain.await_mempool(&child.txid).await;
    let dearer = bump(alice, of(&txid, 4_000)).await.unwrap();
    assert_eq!((dearer.kind(), &dearer.replaced_txid), (BumpKind::Replacement, &child.txid));
    cluster.chain.await_mempool(&dearer.txid).await;
    cluster.mine(opened.required_confirmations).await;
    for node in &cluster.nodes {
        node.channel_until("usable", &opened.channel_id, |channel| channel.usable).await;
    }
    opened.channel_id
}

/// The child of a commitment that was broadcast by force, made dearer.
async fn closing(cluster: &mut Cluster, channel: &str) {
    // Who is told of the close closes, too; this is about one commitment.
    cluster.nodes[1].kill();
    let alice = cluster.alice();
    let request =
        CloseChannelRequest { channel_id: channel.into(), mode: CloseMode::Force.into(), ..Default::default() };
    alice.client().channel().close_channel(request).await.unwrap();
    let txid = alice.channel_until("closing", channel, |channel| !channel.closing_txid.is_empty()).await.closing_txid;
    cluster.chain.await_mempool(&txid).await;
    let tight = BumpTransactionRequest { max_fee_sat: Some(1), ..of(&txid, 8_000) };
    assert_eq!(reason(&bump(alice, tight).await.unwrap_err()), "FEE_ABOVE_BUDGET");
    let only = BumpTransactionRequest { validate_only: true, ..of(&txid, 8_000) };
    let only = bump(alice, only).await.unwrap();
    let child = bump(alice, of(&txid, 8_000)).await.unwrap();
    assert_eq!((child.kind(), child.fee_sat), (BumpKind::Claim, only.fee_sat));
    cluster.chain.await_mempool(&child.txid).await;
    let again = bump(alice, of(&child.txid, 8_000)).await.unwrap_err();
    assert_eq!(field(&again), "feerate");
    let dearer = bump(alice, of(&child.txid, 9_000)).await.unwrap();
    assert_eq!(dearer.replaced_txid, child.txid);
    cluster.chain.await_mempool(&dearer.txid).await;
    assert!(cluster.bury(channel).await <= 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_is_planned_and_a_channel_audited() {
    let mut cluster = Cluster::pair().await;
    let (alice, bob) = (cluster.alice(), cluster.bob());
    let refused =
        |reply: Result<_, Status>| reason(&reply.map(|_: tonic::Response<PlanCloseResponse>| ()).unwrap_err());
    let nothing = PlanCloseRequest { channel_id: "00".repeat(32) };
    assert_eq!(refused(alice.client().channel().plan_close(nothing).await), "CHANNEL_NOT_FOUND");
    let nothing = AuditChannelsRequest { channel_id: "1x1x1".into(), ..Default::default() };
    assert_eq!(reason(&alice.client().channel().audit_channels(nothing).await.unwrap_err()), "CHANNEL_NOT_FOUND");
    assert!(audit(alice).await.is_empty());

    let channel = cluster.open(Terms::default()).await;
    for _ in 0..3 {
        alice.keysend(&bob.id(), 20_000_000).await;
    }
    cluster.settled(&channel).await;
    for node in &cluster.nodes {
        let audits = audit(node).await;
        let [found] = audits.as_slice() else { panic!("{audits:?}") };
        assert!(found.ok, "{found:?}");
        assert_eq!((found.funding_status(), found.penalty_row_count), (FundingStatus::Unspent, 3));
        assert!(found.revoked_count >= 3 && found.signature_count == 1);
    }

    // An HTLC that Bob holds is on the commitment when Alice plans, and closes.
    bob.inject(Fault::HoldHtlcs(HoldHtlcs { channel_id: channel.clone(), hold: true })).await.unwrap();
    let request = proto::v1::SendPaymentRequest {
        payee: Some(proto::v1::send_payment_request::Payee::NodeId(bob.id())),
        amount_msat: Some(30_000_000),
        ..Default::default()
    };
    let _held = alice.client().payment().send_payment(request).await.unwrap();
    // Signed by Bob, it is on Alice's commitment.
    until("an HTLC", async || (audit(alice).await[0].signature_count == 2).then_some(())).await;
    let before = money::wallet_sat(alice).await;
    let planned = plan(alice, &channel).await;
    assert_eq!(planned.pending_htlc_count, 1);
    assert_eq!(planned.block_height, cluster.chain.height().await);
    assert!(planned.cooperative.is_some_and(|way| way.outputs.len() == 1));
    let forced = planned.forced.unwrap();
    let [balance, htlc] = forced.outputs.as_slice() else { panic!("{forced:?}") };
    let (balance, htlc) = if balance.kind() == PlannedOutputKind::ToLocal { (balance, htlc) } else { (htlc, balance) };
    assert_eq!((htlc.kind(), htlc.amount_sat, htlc.uncertain), (PlannedOutputKind::OfferedHtlc, 30_000, true));
    assert_eq!(balance.spendable_height, planned.block_height + 1 + 6);

    // Bob would close, too.
    cluster.nodes[1].kill();
    let alice = cluster.alice();
    let mode = CloseMode::Force.into();
    let request = CloseChannelRequest { channel_id: channel.clone(), mode, ..Default::default() };
    alice.client().channel().close_channel(request).await.unwrap();
    let txid = alice.channel_until("closing", &channel, |channel| !channel.closing_txid.is_empty()).await.closing_txid;
    cluster.chain.await_mempool(&txid).await;
    let commitment = cluster.chain.call("getrawtransaction", json!([txid, 1])).await;
    let outputs = commitment["vout"].as_array().unwrap();
    let holds = |sat: u64| outputs.iter().any(|output| output["value"].as_f64() == Some(sat as f64 / 1e8));
    assert!(holds(balance.amount_sat) && holds(30_000), "{outputs:?}");
    cluster.mine(1).await;
    let claimable = alice.balances().await.claimable_outputs;
    let at = claimable.iter().find(|output| output.amount_sat == balance.amount_sat).unwrap();
    assert_eq!(at.claimable_height, Some(balance.spendable_height));
    until("no plan for what is closed", async || {
        let request = PlanCloseRequest { channel_id: channel.clone() };
        let refused = alice.client().channel().plan_close(request).await.err()?;
        (reason(&refused) == "CHANNEL_NOT_USABLE").then_some(())
    })
    .await;
    cluster.bury(&channel).await;
    let (after, expected) = (money::wallet_sat(alice).await, before + forced.net_sat);
    assert!(after.abs_diff(expected) < 2_000, "{expected} expected, {after} came");
}

/// Bob's commitment waits for a block with its child; Alice closes, too. Her package takes its place once she has it pay
/// more: one parent with one child may replace another such pair.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dearer_package_takes_the_place_of_the_peers() {
    let mut cluster = Cluster::pair().await;
    let channel = cluster.open(Terms::default()).await;
    let funding = cluster.alice().channel(&channel).await.funding_outpoint.unwrap();
    cluster.nodes[0].kill();
    crate::close::close(cluster.bob(), &channel, CloseMode::Force).await.unwrap();
    let theirs = cluster.chain.await_spend(&funding.txid, funding.output_index).await;
    cluster.nodes[1].kill();

    cluster.nodes[0].restart().await;
    let alice = cluster.alice();
    crate::close::close(alice, &channel, CloseMode::Force).await.unwrap();
    let ours = alice.channel_until("closing", &channel, |channel| !channel.closing_txid.is_empty()).await.closing_txid;
    assert_ne!(ours, theirs);
    let child = bump(alice, of(&ours, 8_000)).await.unwrap();
    assert_eq!(child.kind(), BumpKind::Claim);
    cluster.chain.await_mempool(&ours).await;
    cluster.chain.await_mempool(&child.txid).await;
    assert_eq!(cluster.chain.mempool().await.len(), 2, "what was replaced took its child along");
    cluster.mine(1).await;
    cluster.nodes[1].restart().await;
    cluster.synced().await;
    cluster.bury(&channel).await;
    assert_eq!(cluster.closed_by(&channel).await, (ours, Some(0)));
}
