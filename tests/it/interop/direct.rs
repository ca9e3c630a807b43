//! One channel: payments of every kind both ways, a close together, a close by force from either side with HTLCs on the way.

use std::time::Duration;

use proto::v1::inject_fault_request::Fault;
use proto::v1::send_payment_request::Payee;
use proto::v1::{ChannelState, ChannelType, CloseChannelRequest, CloseMode, HoldHtlcs, SendPaymentRequest};
use tests::{money, until};

use super::{CAPACITY_SAT, Meeting, Opener, assert_paid, cells};

/// More than LDK's `to_self_delay` and the burial of what follows it.
const MOST_BLOCKS: u32 = 260;

cells! { payments:
    ours_opens_anchors_and_both_pay = (Ours, Anchors),
    ours_opens_static_remotekey_and_both_pay = (Ours, StaticRemotekey),
    ldk_opens_anchors_and_both_pay = (Ldk, Anchors),
    ldk_opens_static_remotekey_and_both_pay = (Ldk, StaticRemotekey),
}

cells! { forced_by_us:
    ours_opens_anchors_we_force = (Ours, Anchors),
    ours_opens_static_remotekey_we_force = (Ours, StaticRemotekey),
    ldk_opens_anchors_we_force = (Ldk, Anchors),
    ldk_opens_static_remotekey_we_force = (Ldk, StaticRemotekey),
}

cells! { forced_by_ldk:
    ours_opens_anchors_ldk_forces = (Ours, Anchors),
    ours_opens_static_remotekey_ldk_forces = (Ours, StaticRemotekey),
    ldk_opens_anchors_ldk_forces = (Ldk, Anchors),
    ldk_opens_static_remotekey_ldk_forces = (Ldk, StaticRemotekey),
}

async fn payments(opener: Opener, format: ChannelType) {
    let meeting = Meeting::open(opener, format).await;
    let before = meeting.settled().await;
    // Non-dust, dust, and by key: ours, then LDK's.
    assert_paid(&meeting.pay(10_000_000).await);
    assert_paid(&meeting.pay(100_000).await);
    assert_paid(&meeting.alice().keysend(&meeting.ldk.node_id().to_string(), 2_000_500).await);
    meeting.is_paid(20_000_000).await.unwrap();
    meeting.is_paid(100_000).await.unwrap();
    meeting.ldk.paid(meeting.ldk.keysend(meeting.alice_id(), 3_000_000)).await.unwrap();
    let after = meeting.settled().await;
    let (paid, got) = (10_000_000 + 100_000 + 2_000_500, 20_000_000 + 100_000 + 3_000_000);
    assert_eq!(after.local_msat, before.local_msat - paid + got);
    together(&meeting, opener == Opener::Ours).await;
}

/// The one that did not open closes, so that both orders are seen.
async fn together(meeting: &Meeting, ldk_closes: bool) {
    let (height, before) = (meeting.cluster.chain.height().await, meeting.ours_sat().await);
    let channel = meeting.alice().channel(&meeting.channel).await;
    let theirs = meeting.ldk.channels().into_iter().next().unwrap();
    if ldk_closes {
        meeting.ldk.close(&theirs.channel_id, &meeting.alice_id());
    } else {
        let request = CloseChannelRequest { channel_id: meeting.channel.clone(), ..Default::default() };
        meeting.alice().client().channel().close_channel(request).await.unwrap();
    }
    let closing = meeting
        .alice()
        .channel_until("with a closing transaction", &meeting.channel, |channel| !channel.closing_txid.is_empty())
        .await;
    meeting.cluster.chain.await_mempool(&closing.closing_txid).await;
    meeting.mine(8).await;
    meeting.alice().channel_until("closed", &meeting.channel, |channel| channel.state() == ChannelState::Closed).await;
    let fees = money::fees(&money::transactions_after(&meeting.cluster, height).await);
    let ours = channel.local_msat / 1_000;
    let gained = meeting.ours_sat().await - before;
    assert!(gained <= ours && gained + fees + 1 >= ours, "{gained} of {ours}, fees {fees}");
}

async fn forced_by_us(opener: Opener, format: ChannelType) {
    forced(opener, format, true).await;
}

async fn forced_by_ldk(opener: Opener, format: ChannelType) {
    forced(opener, format, false).await;
}

/// HTLCs stand both ways; one of the two closes. LDK claims what we pay by its preimage on the chain; what it pays us was not
/// accepted yet, and goes back by its timeout.
async fn forced(opener: Opener, format: ChannelType, by_us: bool) {
    let meeting = Meeting::prepare(format, false).await;
    let mut meeting = meeting;
    let (ours, ldks) = (meeting.ours_sat().await, meeting.ldks().to_sat());
    let height = meeting.cluster.chain.height().await;
    meeting.connect(meeting.ldk.peer_address()).await;
    meeting.open_channel(opener, format).await;
    let hold = HoldHtlcs { channel_id: meeting.channel.clone(), hold: true };
    meeting.alice().inject(Fault::HoldHtlcs(hold)).await.unwrap();
    meeting.ldk.claim_payments(false);
    let invoice = meeting.ldk.invoice(Some(50_000_000));
    let request = SendPaymentRequest { payee: Some(Payee::PaymentRequest(invoice.to_string())), ..Default::default() };
    let mut paying = meeting.alice().client().payment().send_payment(request).await.unwrap().into_inner();
    let preimage = meeting.claimable().await;
    let asked = meeting.alice().invoice(Some(30_000_000)).await;
    let ldks_payment = meeting.ldk.pay(&asked.payment_request.parse().unwrap()).unwrap();
    meeting.alice().channel_until("with both HTLCs", &meeting.channel, |channel| channel.htlcs.len() == 2).await;
    let theirs = meeting.ldk.channels().into_iter().next().unwrap();
    if by_us {
        let request = CloseChannelRequest {
            channel_id: meeting.channel.clone(),
            mode: CloseMode::Force.into(),
            ..Default::default()
        };
        meeting.alice().client().channel().close_channel(request).await.unwrap();
    } else {
        meeting.ldk.force_close(&theirs.channel_id, &meeting.alice_id());
    }
    let funding = meeting.alice().channel(&meeting.channel).await.funding_outpoint.unwrap();
    meeting.cluster.chain.await_spend(&funding.txid, funding.output_index).await;
    meeting.ldk.claim(preimage);
    for _ in 0..MOST_BLOCKS {
        meeting.mine(1).await;
        if meeting.alice().channel(&meeting.channel).await.state() == ChannelState::Closed {
            break;
        }
        // What a block makes either of them broadcast is there before the next one.
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    assert_eq!(meeting.alice().channel(&meeting.channel).await.state(), ChannelState::Closed);
    let mut last = None;
    while let Some(update) = paying.message().await.unwrap() {
        last = update.payment.or(last);
    }
    assert_paid(&last.unwrap());
    // Ours was not accepted before the close, so it goes back; LDK says so six blocks after its timeout.
    meeting.mine(10).await;
    meeting.ldk.paid(ldks_payment).await.unwrap_err();
    // All that was there is in the two wallets, was paid as fees, or lies in anchors.
    let spent = async || money::fees(&money::transactions_after(&meeting.cluster, height).await);
    until("every satoshi", async || {
        meeting.mine(1).await;
        let now = meeting.ours_sat().await + meeting.ldks().to_sat() + spent().await;
        let missing = (ours + ldks).checked_sub(now).expect("no money out of nothing");
        [0, 330, 660].contains(&missing).then_some(())
    })
    .await;
    assert!(CAPACITY_SAT < ours + ldks);
}
