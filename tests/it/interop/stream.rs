//! A stream to LDK, which knows no transfers: its batches are keysend HTLCs. The payer is killed while LDK holds one, and while all
//! goes well; nothing is paid twice, nothing is lost.

use lightning::events::Event;
use proto::v1::stream_payments_request::Request;
use proto::v1::stream_payments_response::Response;
use proto::v1::{ChannelType, StreamCloseReason, StreamFinish, StreamOpen, stream_open};
use tests::until;

use super::{Meeting, Opener, cells};
use crate::stream::Stream;

const COUNT: u64 = 120;
const EACH_MSAT: u64 = 50_000;
/// So many payments may wait for LDK.
const WINDOW: u64 = 40;

cells! { streamed:
    a_stream_to_ldk_over_our_channel_outlives_its_payer = (Ours, Anchors),
    a_stream_to_ldk_over_its_channel_outlives_its_payer = (Ldk, StaticRemotekey),
}

async fn streamed(opener: Opener, format: ChannelType) {
    let mut meeting = Meeting::open(opener, format).await;
    let before = meeting.settled().await;
    let destination = Some(stream_open::Destination::PeerNodeId(meeting.ldk.node_id().to_string()));
    let max_uncommitted_msat = WINDOW * EACH_MSAT;
    let open = StreamOpen { destination, max_uncommitted_msat, ..Default::default() };
    let mut stream = Stream::open(meeting.alice(), open.clone()).await.unwrap();
    let session_id = stream.opened.session_id.clone();
    assert_eq!((stream.opened.accepted_sequence, stream.opened.committed_sequence), (0, 0));
    stream.pay(1, WINDOW / 2, EACH_MSAT).await;
    stream.committed(WINDOW / 2).await.unwrap();

    // LDK takes a batch and says nothing: what may wait is used up, nothing more is committed.
    meeting.ldk.claim_payments(false);
    let held = claimable(&meeting).len();
    stream.pay(WINDOW / 2 + 1, WINDOW, EACH_MSAT).await;
    used_up(&mut stream).await;
    until("LDK to hold a batch", async || (claimable(&meeting).len() > held).then_some(())).await;
    kill(&mut meeting, stream).await;
    let resume = StreamOpen { session_id: session_id.clone(), ..open.clone() };
    let mut stream = Stream::open(meeting.alice(), resume.clone()).await.unwrap();
    assert_eq!(stream.opened.session_id, session_id);
    assert_eq!(stream.opened.committed_sequence, WINDOW / 2, "LDK has claimed nothing since");
    meeting.ldk.claim_payments(true);
    meeting.ldk.claim(claimable(&meeting).pop().expect("it holds one"));
    let next = stream.opened.accepted_sequence + 1;
    assert_eq!(next, WINDOW / 2 + WINDOW + 1, "all that was said was journaled");
    stream.committed(next - 1).await.unwrap();

    // A kill in the midst of it: what is said again counts once.
    stream.pay(next, 20, EACH_MSAT).await;
    stream.committed(next).await.unwrap();
    kill(&mut meeting, stream).await;
    let mut stream = Stream::open(meeting.alice(), resume).await.unwrap();
    assert!(stream.opened.committed_sequence >= next, "{:?}", stream.opened);
    let again = stream.opened.committed_sequence + 1;
    stream.pay(again, COUNT + 1 - again, EACH_MSAT).await;
    stream.say(Request::Finish(StreamFinish {})).await;
    let closed = stream.closed().await.unwrap();
    assert_eq!((closed.reason(), closed.committed_sequence), (StreamCloseReason::Finished, COUNT), "{closed:?}");
    assert_eq!(closed.committed_msat, COUNT * EACH_MSAT);
    assert!(closed.receipt.is_none(), "LDK knows no receipts");

    let after = meeting.settled().await;
    assert_eq!(after.local_msat, before.local_msat - COUNT * EACH_MSAT, "nothing is paid twice");
    let claimed = meeting.ldk.events().into_iter().filter_map(|event| match event {
        Event::PaymentClaimed { amount_msat, .. } => Some(amount_msat),
        _ => None,
    });
    assert_eq!(claimed.sum::<u64>(), COUNT * EACH_MSAT);
}

/// Reads until all that may wait was accepted and no more may be sent.
async fn used_up(stream: &mut Stream) {
    let (mut waiting, mut room) = (0, u64::MAX);
    stream
        .heard(|answer| {
            match answer {
                Response::Progress(marks) => waiting = marks.accepted_sequence - marks.committed_sequence,
                Response::Window(window) => room = window.amount_msat / EACH_MSAT,
                _ => {}
            }
            (waiting == WINDOW && room == 0).then_some(())
        })
        .await
        .unwrap();
}

/// The preimages of all that LDK was ever offered.
fn claimable(meeting: &Meeting) -> Vec<lightning::types::payment::PaymentPreimage> {
    let events = meeting.ldk.events().into_iter();
    let offered = events.filter_map(|event| match event {
        Event::PaymentClaimable { purpose, .. } => purpose.preimage(),
        _ => None,
    });
    offered.collect()
}

/// kill -9, a start, and the channel again.
async fn kill(meeting: &mut Meeting, stream: Stream) {
    meeting.cluster.nodes[0].kill();
    drop(stream);
    meeting.cluster.nodes[0].restart().await;
    meeting.usable().await;
}
