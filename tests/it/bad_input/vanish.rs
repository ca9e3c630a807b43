//! Clients that go away in the middle of a stream: what they began goes on, and nothing of them stays behind.

use proto::v1::send_payment_request::Payee;
use proto::v1::{
    PaymentState, SendPaymentRequest, StreamOpen, StreamPay, StreamPaymentsRequest, SubscribeEventsRequest,
    stream_open, stream_payments_request,
};
use tests::wait::until;
use tests::{Cluster, Daemon};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use wallet_cli::client::Client;

/// How many of each kind.
const CLIENTS: usize = 20;

/// How many files and sockets a daemon has open.
fn open_files(node: &Daemon) -> usize {
    let process = node.process.as_ref().expect("it runs");
    std::fs::read_dir(format!("/proc/{}/fd", process.id())).map(Iterator::count).unwrap_or(0)
}

pub async fn in_mid_stream(cluster: &Cluster, channel: &str) {
    let (alice, bob) = (cluster.alice(), cluster.bob());
    let before = open_files(alice);
    let paid = alice.payments().await.len();
    for number in 0..CLIENTS {
        let client = Client::connect(&alice.tcp_target()).await.unwrap();
        let events = SubscribeEventsRequest { after_index: (number % 2 == 0).then_some(0), ..Default::default() };
        let _events = client.node().subscribe_events(events).await.unwrap();
        let payment =
            SendPaymentRequest { payee: Some(Payee::NodeId(bob.id())), amount_msat: Some(1_000), ..Default::default() };
        let mut updates = client.payment().send_payment(payment).await.unwrap().into_inner();
        if number % 2 == 0 {
            updates.message().await.unwrap().expect("it is under way");
        }
        stream(&client, channel, number).await;
        // All of it goes here, with its connection.
    }
    // Whoever was heard to begin has paid, though nobody waits for it.
    until("payments whose clients are gone", async || {
        let payments = alice.payments().await;
        let ours = &payments[paid..];
        let done = ours.iter().filter(|payment| payment.state() == PaymentState::Succeeded).count();
        (ours.len() == done && done >= CLIENTS / 2).then_some(())
    })
    .await;
    until("their connections to be closed", async || (open_files(alice) <= before + 2).then_some(())).await;
    // What streamed nobody finished, and the channel is as usable as before.
    let (_, of_bob) = cluster.settled(channel).await;
    assert!(of_bob > 0);
}

/// A stream that is left before it opens, after it has opened, or with a payment under way.
async fn stream(client: &Client, channel: &str, number: usize) {
    let (requests, queue) = mpsc::channel(4);
    let say = |request| StreamPaymentsRequest { request: Some(request) };
    let destination = Some(stream_open::Destination::ChannelId(channel.to_owned()));
    let open = stream_payments_request::Request::Open(StreamOpen { destination, ..Default::default() });
    if !number.is_multiple_of(3) {
        requests.send(say(open)).await.unwrap();
    }
    let mut service = client.payment();
    let answers = service.stream_payments(ReceiverStream::new(queue));
    if number.is_multiple_of(3) {
        // Nobody answers before it is opened.
        let _ = tokio::time::timeout(std::time::Duration::from_millis(20), answers).await;
        return;
    }
    let mut answers = answers.await.unwrap().into_inner();
    answers.message().await.unwrap().expect("it is open");
    let pay = StreamPay { sequence: 1, amount_msat: 1_000, tag: Vec::new() };
    requests.send(say(stream_payments_request::Request::Pay(pay))).await.unwrap();
}
