//! The wire breaks in the middle of every exchange: after reconnecting both agree, and nothing is lost or doubled.

use lightning::events::Event;
use proto::v1::send_payment_request::Payee;
use proto::v1::{ChannelType, PaymentState};
use tests::{Proxy, until};

use super::{Meeting, Opener, cells};

/// Breaks a run: every so many bytes of an exchange of two payments, which takes about 12,000.
const BREAKS: u64 = 18;
const STRIDE: u64 = 613;

cells! { broken:
    ours_opens_anchors_and_the_wire_breaks = (Ours, Anchors),
    ldk_opens_anchors_and_the_wire_breaks = (Ldk, Anchors),
    ours_opens_static_remotekey_and_the_wire_breaks = (Ours, StaticRemotekey),
    ldk_opens_static_remotekey_and_the_wire_breaks = (Ldk, StaticRemotekey),
}

async fn broken(opener: Opener, format: ChannelType) {
    let mut meeting = Meeting::prepare(format, false).await;
    let (id, address) = {
        let address = meeting.ldk.peer_address();
        let (id, address) = address.split_once('@').unwrap();
        (id.to_owned(), address.parse().unwrap())
    };
    let proxy = Proxy::start(address).await;
    let address = format!("{id}@{}", proxy.address());
    meeting.connect(address.clone()).await;
    meeting.open_channel(opener, format).await;
    let before = meeting.settled().await;
    let (mut sent, mut received) = (0, 0);
    for round in 0..BREAKS {
        proxy.break_after(round * STRIDE);
        let invoice = Payee::PaymentRequest(meeting.ldk.invoice(Some(1_000_000 + round)).to_string());
        let payments =
            async { tokio::join!(meeting.alice().try_pay(invoice, None), meeting.is_paid(2_000_000 + round)) };
        let (paid, got) = tokio::select! {
            ended = payments => ended,
            () = reconnect(&meeting, &proxy, &address) => unreachable!("it goes on"),
        };
        match paid {
            Ok(paid) if paid.state() == PaymentState::Succeeded => sent += 1_000_000 + round,
            Ok(_) => {}
            // LDK's payment, which goes its way at the same time, may have broken the wire before ours began.
            Err(refused) => assert_eq!(refused.reason.as_deref(), Some("PEER_NOT_CONNECTED"), "{refused}"),
        }
        if got.is_ok() {
            received += 2_000_000 + round;
        }
        meeting.usable().await;
    }
    assert!(proxy.breaks() >= BREAKS / 2, "the wire broke {} times", proxy.breaks());
    let after = meeting.settled().await;
    assert_eq!(after.local_msat, before.local_msat - sent + received, "what both say was paid is what moved");
    let claimed = |event: &Event| match event {
        Event::PaymentClaimed { amount_msat, .. } => *amount_msat,
        _ => 0,
    };
    assert_eq!(meeting.ldk.events().iter().map(claimed).sum::<u64>(), sent);
    assert!(sent > 0 && received > 0);
}

/// Asks Alice to call again whenever the wire broke: her own next call would come a little later.
async fn reconnect(meeting: &Meeting, proxy: &Proxy, address: &str) {
    let mut seen = proxy.breaks();
    loop {
        until("the wire to break, or the payments to end", async || (proxy.breaks() > seen).then_some(())).await;
        seen = proxy.breaks();
        meeting.connect(address.to_owned()).await;
    }
}
