//! StreamPayments: both ways at once with both marks, limits, and sessions that outlive a kill -9 of either end.

use proto::v1::event::Detail;
use proto::v1::stream_payments_request::Request;
use proto::v1::stream_payments_response::Response;
use proto::v1::{
    EventKind, StreamCloseReason, StreamClosed, StreamFinish, StreamOpen, StreamOpened, StreamPay, StreamPayBatch,
    StreamPaymentsRequest, StreamPaymentsResponse, stream_open,
};
use tests::cluster::Terms;
use tests::refusal::reason;
use tests::wait::soon;
use tests::{Cluster, Daemon};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_run_both_ways_and_resume() {
    let mut cluster = Cluster::pair().await;
    let channel = cluster.open(Terms::default()).await;
    let (alice_msat, bob_msat) = cluster.settled(&channel).await;
    let (up, down) =
        futures::join!(pay_all(cluster.alice(), &channel, 1_500, 1_000), pay_all(cluster.bob(), &channel, 800, 500));
    assert_eq!((up, down), (1_500_000, 400_000));
    assert_eq!(cluster.settled(&channel).await, (alice_msat - 1_100_000, bob_msat + 1_100_000));
    limits(&cluster, &channel).await;
    tags_arrive(&cluster, &channel).await;
    for (payer, killed) in [(0, 0), (0, 1), (1, 0)] {
        resumes(&mut cluster, &channel, payer, killed).await;
    }
}

/// A stream as its client sees it.
pub struct Stream {
    requests: mpsc::Sender<StreamPaymentsRequest>,
    answers: Streaming<StreamPaymentsResponse>,
    pub opened: StreamOpened,
}

fn to_channel(channel: &str) -> StreamOpen {
    let destination = Some(stream_open::Destination::ChannelId(channel.to_owned()));
    StreamOpen { destination, ..Default::default() }
}

impl Stream {
    pub async fn open(payer: &Daemon, open: StreamOpen) -> Result<Stream, Status> {
        let (requests, queue) = mpsc::channel(16);
        requests.send(StreamPaymentsRequest { request: Some(Request::Open(open)) }).await.unwrap();
        let calling = async { payer.client().payment().stream_payments(ReceiverStream::new(queue)).await };
        let mut answers = soon("a stream", calling).await?.into_inner();
        match soon("Opened", answers.message()).await?.and_then(|message| message.response) {
            Some(Response::Opened(opened)) => Ok(Stream { requests, answers, opened }),
            other => panic!("the first message is {other:?}"),
        }
    }

    /// Where the daemon is gone, the queue is too.
    pub async fn say(&self, request: Request) {
        let _ = self.requests.send(StreamPaymentsRequest { request: Some(request) }).await;
    }

    pub async fn pay(&self, first: u64, count: u64, amount_msat: u64) {
        let mut sequence = first;
        while sequence < first + count {
            let size = (first + count - sequence).min(100);
            let amounts_msat = vec![amount_msat; size as usize];
            self.say(Request::PayBatch(StreamPayBatch { first_sequence: sequence, amounts_msat })).await;
            sequence += size;
        }
    }

    /// Reads up to `Closed`; the marks only grow, and what is committed was accepted.
    pub async fn closed(&mut self) -> Result<StreamClosed, Status> {
        let (mut accepted, mut committed) = (0, 0);
        loop {
            let message = soon("an answer of the stream", self.answers.message()).await?;
            match message.and_then(|message| message.response) {
                Some(Response::Progress(marks)) => {
                    assert!(marks.accepted_sequence >= accepted && marks.committed_sequence >= committed);
                    assert!(marks.committed_sequence <= marks.accepted_sequence);
                    (accepted, committed) = (marks.accepted_sequence, marks.committed_sequence);
                }
                Some(Response::Window(_)) => {}
                Some(Response::Closed(closed)) => return Ok(closed),
                other => panic!("in the midst of a stream: {other:?}"),
            }
        }
    }

    /// Reads until this sequence is committed.
    pub async fn committed(&mut self, sequence: u64) -> Result<(), Status> {
        self.heard(|answer| match answer {
            Response::Progress(marks) if marks.committed_sequence >= sequence => Some(()),
            _ => None,
        })
        .await
    }

    /// Reads until there is what is wanted.
    pub async fn heard<T>(&mut self, mut wanted: impl FnMut(Response) -> Option<T>) -> Result<T, Status> {
        loop {
            let message = soon("an answer of the stream", self.answers.message()).await?;
            let answer = message.expect("the stream goes on").response.expect("it says something");
            if let Some(found) = wanted(answer) {
                return Ok(found);
            }
        }
    }
}

fn assert_receipt(closed: &StreamClosed) {
    let receipt = closed.receipt.as_ref().expect("the payee gives a receipt");
    assert_eq!((receipt.last_sequence, receipt.paid_msat), (closed.committed_sequence, closed.committed_msat));
    assert_eq!(receipt.signature.len(), 64);
    assert!(receipt.enforceable_msat > 0);
}

/// Pays and finishes; what was paid.
async fn pay_all(payer: &Daemon, channel: &str, count: u64, amount_msat: u64) -> u64 {
    let mut stream = Stream::open(payer, to_channel(channel)).await.unwrap();
    assert_eq!((stream.opened.committed_sequence, stream.opened.channel_id.as_str()), (0, channel));
    stream.pay(1, count, amount_msat).await;
    stream.say(Request::Finish(StreamFinish {})).await;
    let closed = stream.closed().await.unwrap();
    assert_eq!((closed.reason(), closed.committed_sequence), (StreamCloseReason::Finished, count));
    assert_receipt(&closed);
    closed.committed_msat
}

async fn limits(cluster: &Cluster, channel: &str) {
    let alice = cluster.alice();
    let refused = async |open: StreamOpen| reason(&Stream::open(alice, open).await.err().expect("a refusal"));
    let unknown = StreamOpen { session_id: "ab".repeat(32), ..to_channel(channel) };
    assert_eq!(refused(unknown).await, "STREAM_NOT_FOUND");
    assert_eq!(refused(to_channel(&"ab".repeat(32))).await, "CHANNEL_NOT_FOUND");
    assert_eq!(refused(StreamOpen::default()).await, "INVALID_ARGUMENT");
    let (alice_msat, bob_msat) = cluster.settled(channel).await;
    let mut stream = Stream::open(alice, StreamOpen { max_total_msat: 5_500, ..to_channel(channel) }).await.unwrap();
    stream.pay(1, 100, 1_000).await;
    let closed = stream.closed().await.unwrap();
    assert_eq!((closed.reason(), closed.committed_msat), (StreamCloseReason::TotalReached, 5_000));
    assert_eq!(cluster.settled(channel).await, (alice_msat - 5_000, bob_msat + 5_000));
    // More than there is: what fits is paid, then the session ends.
    let mut stream = Stream::open(alice, to_channel(channel)).await.unwrap();
    stream.say(Request::Pay(StreamPay { sequence: 1, amount_msat: 2_000, tag: vec![] })).await;
    stream.say(Request::Pay(StreamPay { sequence: 2, amount_msat: 900_000_000, tag: vec![] })).await;
    let closed = stream.closed().await.unwrap();
    assert_eq!((closed.reason(), closed.committed_msat), (StreamCloseReason::BalanceExhausted, 2_000));
    wrong_order(alice, channel).await;
    assert_eq!(cluster.settled(channel).await, (alice_msat - 7_000, bob_msat + 7_000));
}

async fn wrong_order(alice: &Daemon, channel: &str) {
    for (request, expected) in [
        (Request::Open(to_channel(channel)), "STREAM_ORDER"),
        (Request::Pay(StreamPay { sequence: 0, amount_msat: 1, tag: vec![] }), "INVALID_ARGUMENT"),
        (Request::Pay(StreamPay { sequence: 1, amount_msat: 0, tag: vec![] }), "INVALID_ARGUMENT"),
        (Request::Pay(StreamPay { sequence: 1, amount_msat: 1, tag: vec![1; 31] }), "INVALID_ARGUMENT"),
        (Request::PayBatch(StreamPayBatch { first_sequence: 1, amounts_msat: vec![1; 1_001] }), "INVALID_ARGUMENT"),
    ] {
        let said = format!("{request:?}");
        let mut stream = Stream::open(alice, to_channel(channel)).await.unwrap();
        stream.say(request).await;
        let refusal = stream.closed().await.expect_err(&said[..said.len().min(80)]);
        assert_eq!(reason(&refusal), expected, "{refusal:?}");
    }
    let (requests, queue) = mpsc::channel(1);
    requests.send(StreamPaymentsRequest { request: Some(Request::Finish(StreamFinish {})) }).await.unwrap();
    let early = alice.client().payment().stream_payments(ReceiverStream::new(queue)).await;
    let refusal = match early {
        Err(refusal) => refusal,
        Ok(answers) => answers.into_inner().message().await.unwrap_err(),
    };
    assert_eq!(reason(&refusal), "STREAM_ORDER");
}

async fn tags_arrive(cluster: &Cluster, channel: &str) {
    let mut stream = Stream::open(cluster.alice(), to_channel(channel)).await.unwrap();
    for sequence in 1..=5 {
        let tag = if sequence == 3 { vec![7; 32] } else { vec![] };
        stream.say(Request::Pay(StreamPay { sequence, amount_msat: 10, tag })).await;
    }
    stream.say(Request::Finish(StreamFinish {})).await;
    assert_receipt(&stream.closed().await.unwrap());
    let session = stream.opened.session_id;
    let events = cluster.bob().events(&[EventKind::StreamPaid]).await;
    let details = events.into_iter().filter_map(|event| event.detail);
    let tags: Vec<_> = details
        .filter_map(|detail| match detail {
            Detail::Stream(paid) if paid.session_id == session => Some(paid.tags),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(tags.iter().map(|tag| (tag.sequence, tag.tag.clone())).collect::<Vec<_>>(), [(3, vec![7; 32])]);
}

/// A session of 600 payments, in whose midst one end is killed: each payment is made once.
async fn resumes(cluster: &mut Cluster, channel: &str, payer: usize, killed: usize) {
    const COUNT: u64 = 600;
    let before = cluster.settled(channel).await;
    let mut stream = Stream::open(&cluster.nodes[payer], to_channel(channel)).await.unwrap();
    let session_id = stream.opened.session_id.clone();
    stream.pay(1, COUNT / 2, 1_000).await;
    stream.committed(50).await.unwrap();
    cluster.nodes[killed].kill();
    // What is said now may be lost, taken, or taken and not committed.
    stream.pay(COUNT / 2 + 1, 50, 1_000).await;
    drop(stream);
    cluster.nodes[killed].restart().await;
    cluster.usable(channel).await;
    let resume = StreamOpen { session_id: session_id.clone(), ..to_channel(channel) };
    // The node may still hold the session for the client that has gone.
    let mut stream = tests::until("the session to be free", async || {
        match Stream::open(&cluster.nodes[payer], resume.clone()).await {
            Ok(stream) => Some(stream),
            Err(refusal) => {
                assert_eq!(reason(&refusal), "STREAM_IN_USE");
                None
            }
        }
    })
    .await;
    let opened = stream.opened.clone();
    assert_eq!(opened.session_id, session_id);
    assert!(opened.committed_sequence >= 50, "{opened:?}");
    assert!(opened.accepted_sequence >= opened.committed_sequence, "{opened:?}");
    stream.pay(opened.committed_sequence + 1, COUNT - opened.committed_sequence, 1_000).await;
    stream.say(Request::Finish(StreamFinish {})).await;
    let closed = stream.closed().await.unwrap();
    assert_eq!((closed.reason(), closed.committed_sequence), (StreamCloseReason::Finished, COUNT));
    assert_eq!(closed.committed_msat, COUNT * 1_000);
    assert_receipt(&closed);
    let moved = COUNT * 1_000;
    let expected = if payer == 0 { (before.0 - moved, before.1 + moved) } else { (before.0 + moved, before.1 - moved) };
    assert_eq!(cluster.settled(channel).await, expected);
}
