//! The gRPC API of real daemons, as a client meets it that makes every mistake: typed errors, nothing changed, process up.

use std::time::Duration;

use proto::v1::stream_payments_request::Request as Say;
use proto::v1::stream_payments_response::Response as Hear;
use proto::v1::*;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use wallet_cli::client::{Client, Target};
use wallet_cli::demo::network::{Network, NetworkPlan};
use wallet_cli::demo::scene;

/// The status of a refused call is one of the API's: a code that says something, and a published reason.
#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, reason: &str) {
    let status = answer.expect_err("must be refused");
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no reason: {status:?}"));
    assert_eq!((status.code(), info.reason.as_str()), (code, reason), "{}", status.message());
    assert!(ErrorReason::from_str_name(&format!("ERROR_REASON_{reason}")).is_some());
}

async fn network() -> Network {
    Network::start(NetworkPlan { name: "api", nodes: 2, channeld_config: String::new() }).await.unwrap()
}

#[tokio::test]
async fn the_api_of_a_node() {
    let network = network().await;
    wrong_arguments(&network.alice.client).await;
    wrong_tokens(&network).await;
    repetitions(&network.alice.client).await;
    pages_and_events(&network.alice.client).await;
    health_and_reflection(&network.alice.client).await;
    scene::fund(&network).await.unwrap();
    let channel = scene::open(&network, 1_000_000, 0, |_| {}).await.unwrap();
    policies(&network, &channel.channel_id).await;
    streams(&network, &channel.channel_id).await;
    delays(&network).await;
    payments(&network, &channel).await;
}

async fn wrong_arguments(client: &Client) {
    let invalid = (Code::InvalidArgument, "INVALID_ARGUMENT");
    let page = ListChannelsRequest { page_size: 1_001, ..Default::default() };
    refused(client.channel().list_channels(page).await, invalid.0, invalid.1);
    let token = ListInvoicesRequest { page_token: "x".into(), ..Default::default() };
    refused(client.invoice().list_invoices(token).await, Code::InvalidArgument, "INVALID_PAGE_TOKEN");
    let order = ListPaymentsRequest { order: 9, ..Default::default() };
    refused(client.payment().list_payments(order).await, invalid.0, invalid.1);
    for id in ["", "zz", "1x2", &"0".repeat(63)] {
        let request = GetChannelRequest { channel_id: id.into() };
        refused(client.channel().get_channel(request).await, invalid.0, invalid.1);
    }
    for id in ["0".repeat(64), "1x1x1".into()] {
        let request = GetChannelRequest { channel_id: id };
        refused(client.channel().get_channel(request).await, Code::NotFound, "CHANNEL_NOT_FOUND");
    }
    let hash = "00".repeat(32);
    let request = GetInvoiceRequest { payment_hash: hash.clone() };
    refused(client.invoice().get_invoice(request).await, Code::NotFound, "INVOICE_NOT_FOUND");
    let request = GetPaymentRequest { payment_hash: hash.clone() };
    refused(client.payment().get_payment(request).await, Code::NotFound, "PAYMENT_NOT_FOUND");
    let request = CancelInvoiceRequest { payment_hash: hash, ..Default::default() };
    refused(client.invoice().cancel_invoice(request).await, Code::NotFound, "INVOICE_NOT_FOUND");
    let request = ConnectPeerRequest { address: "nobody".into(), ..Default::default() };
    refused(client.peer().connect_peer(request).await, invalid.0, invalid.1);
    let request = CreateInvoiceRequest { amount_msat: Some(u64::MAX), ..Default::default() };
    refused(client.invoice().create_invoice(request).await, invalid.0, invalid.1);
    refused(client.wallet().send_coins(SendCoinsRequest::default()).await, invalid.0, invalid.1);
    refused(client.channel().open_channel(OpenChannelRequest::default()).await, invalid.0, invalid.1);
    refused(client.payment().send_payment(SendPaymentRequest::default()).await, invalid.0, invalid.1);
    refused(client.dev().inject_fault(InjectFaultRequest::default()).await, invalid.0, invalid.1);
    let request = DecodePaymentRequestRequest { payment_request: "lnbcrt1".into() };
    let answer = client.payment().decode_payment_request(request).await;
    refused(answer, Code::InvalidArgument, "INVALID_PAYMENT_REQUEST");
    let request = SubscribeEventsRequest { kinds: vec![99], ..Default::default() };
    refused(client.node().subscribe_events(request).await.map(|_| ()), invalid.0, invalid.1);
}

async fn wrong_tokens(network: &Network) {
    let Target::Tls { address, fingerprint, token } = network.alice.presence.tcp_target().unwrap() else {
        panic!("TLS expected")
    };
    let with =
        |token: &str| Target::Tls { address: address.clone(), fingerprint: fingerprint.clone(), token: token.into() };
    let admin = Client::connect(&with(&token)).await.unwrap();
    admin.node().get_node(GetNodeRequest {}).await.unwrap();
    let stranger = Client::connect(&with(&"0".repeat(64))).await.unwrap();
    refused(stranger.node().get_node(GetNodeRequest {}).await, Code::Unauthenticated, "INVALID_TOKEN");
    let file = network.alice.presence.token_file.clone().unwrap().with_file_name("read.token");
    let reader = Client::connect(&with(std::fs::read_to_string(file).unwrap().trim())).await.unwrap();
    reader.node().get_node(GetNodeRequest {}).await.unwrap();
    let answer = reader.wallet().create_address(CreateAddressRequest::default()).await;
    refused(answer, Code::PermissionDenied, "SCOPE_DENIED");
    let other = Target::Tls { address: address.clone(), fingerprint: "00".repeat(32), token };
    assert!(Client::connect(&other).await.err().unwrap().message.contains("another certificate"));
}

async fn repetitions(client: &Client) {
    let create = |description: &str| CreateInvoiceRequest {
        request_id: "coffee".into(),
        amount_msat: Some(1_000),
        description: description.into(),
        ..Default::default()
    };
    let first = client.invoice().create_invoice(create("one")).await.unwrap().into_inner();
    let again = client.invoice().create_invoice(create("one")).await.unwrap().into_inner();
    assert_eq!(first, again);
    let answer = client.invoice().create_invoice(create("two")).await;
    refused(answer, Code::AlreadyExists, "IDEMPOTENCY_MISMATCH");
    let listed = client.invoice().list_invoices(ListInvoicesRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.invoices.len(), 1);
    let only = CreateInvoiceRequest { validate_only: true, request_id: "other".into(), ..create("three") };
    assert_eq!(client.invoice().create_invoice(only).await.unwrap().into_inner().invoice, None);
    let text = first.invoice.unwrap().payment_request;
    let request = DecodePaymentRequestRequest { payment_request: text };
    let decoded = client.payment().decode_payment_request(request).await.unwrap().into_inner();
    assert_eq!((decoded.amount_msat, decoded.description.as_str()), (Some(1_000), "one"));
}

async fn pages_and_events(client: &Client) {
    for _ in 0..4 {
        client.invoice().create_invoice(CreateInvoiceRequest::default()).await.unwrap();
    }
    let mut token = String::new();
    let mut seen = Vec::new();
    loop {
        let order = Order::OldestFirst.into();
        let request = ListInvoicesRequest { page_size: 2, page_token: token, order };
        let page = client.invoice().list_invoices(request).await.unwrap().into_inner();
        assert!(page.invoices.len() <= 2);
        seen.extend(page.invoices.iter().map(|invoice| invoice.index));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, [1, 2, 3, 4, 5]);
    let invoice = client.invoice().list_invoices(ListInvoicesRequest::default()).await.unwrap().into_inner().invoices;
    let payment_hash = invoice[0].payment_hash.clone();
    let request = SubscribeEventsRequest { kinds: vec![EventKind::InvoiceCancelled.into()], ..Default::default() };
    let mut live = client.node().subscribe_events(request.clone()).await.unwrap().into_inner();
    let standing = live.message().await.unwrap().unwrap();
    assert_eq!(standing.event, None);
    let cancel = CancelInvoiceRequest { payment_hash: payment_hash.clone(), ..Default::default() };
    client.invoice().cancel_invoice(cancel.clone()).await.unwrap();
    refused(client.invoice().cancel_invoice(cancel).await, Code::FailedPrecondition, "INVOICE_NOT_OPEN");
    let event = live.message().await.unwrap().unwrap().event.unwrap();
    assert!(matches!(&event.detail, Some(event::Detail::Invoice(detail)) if detail.payment_hash == payment_hash));
    let again = SubscribeEventsRequest { after_index: Some(event.index - 1), ..request };
    let mut replayed = client.node().subscribe_events(again).await.unwrap().into_inner();
    replayed.message().await.unwrap();
    assert_eq!(replayed.message().await.unwrap().unwrap().event, Some(event));
}

async fn health_and_reflection(client: &Client) {
    use tonic_health::pb::health_client::HealthClient;
    use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
    let mut health = HealthClient::new(client.link());
    for service in ["", "wallet", "chain", "payments", "channeld.v1.PaymentService"] {
        let request = || HealthCheckRequest { service: service.into() };
        // The entries are filled within the first second.
        let serving = scene::until(Duration::from_secs(10), "health", async || {
            let answer = health.clone().check(request()).await;
            Ok(answer.ok().filter(|answer| answer.get_ref().status() == ServingStatus::Serving))
        });
        serving.await.unwrap();
    }
    let unknown = health.check(HealthCheckRequest { service: "nothing".into() }).await;
    assert_eq!(unknown.unwrap_err().code(), Code::NotFound);
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_request::MessageRequest};
    let ask = MessageRequest::FileContainingSymbol("channeld.v1.PaymentService".into());
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(ask) };
    let mut reflection = ServerReflectionClient::new(client.link());
    let mut answers = reflection.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().unwrap().message_response.is_some());
}

async fn policies(network: &Network, channel_id: &str) {
    let mut client = network.alice.client.channel();
    let request = |paths: &[&str]| UpdateChannelPolicyRequest {
        channel_id: channel_id.into(),
        policy: Some(ForwardingPolicy {
            fee_base_msat: 7,
            fee_proportional_millionths: 8,
            cltv_expiry_delta: 10,
            htlc_minimum_msat: 0,
            htlc_maximum_msat: u64::MAX / 2,
        }),
        update_mask: Some(prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() }),
        ..Default::default()
    };
    for wrong in [&[][..], &["fee"], &["cltv_expiry_delta"], &["htlc_minimum_msat"], &["htlc_maximum_msat"], &["*"]] {
        refused(client.update_channel_policy(request(wrong)).await, Code::InvalidArgument, "INVALID_ARGUMENT");
    }
    let nothing = UpdateChannelPolicyRequest { policy: None, ..request(&["fee_base_msat"]) };
    refused(client.update_channel_policy(nothing).await, Code::InvalidArgument, "INVALID_ARGUMENT");
    let unknown = UpdateChannelPolicyRequest { channel_id: "00".repeat(32), ..request(&["fee_base_msat"]) };
    refused(client.update_channel_policy(unknown).await, Code::NotFound, "CHANNEL_NOT_FOUND");
    let paths = ["fee_base_msat", "fee_proportional_millionths"];
    let only = UpdateChannelPolicyRequest { validate_only: true, ..request(&paths) };
    let would = client.update_channel_policy(only).await.unwrap().into_inner().policy.unwrap();
    let shown = async || {
        let request = GetChannelRequest { channel_id: channel_id.into() };
        network.alice.client.channel().get_channel(request).await.unwrap().into_inner().channel.unwrap()
    };
    let before = shown().await.forwarding_policy.unwrap();
    assert_ne!(before.fee_base_msat, 7);
    let expected = ForwardingPolicy { fee_base_msat: 7, fee_proportional_millionths: 8, ..before };
    assert_eq!(would, expected);
    let now = client.update_channel_policy(request(&paths)).await.unwrap().into_inner().policy;
    assert_eq!((now, shown().await.forwarding_policy), (Some(expected), Some(expected)));
}

async fn delays(network: &Network) {
    let client = &network.alice.client;
    let bob = &network.bob.presence.node_id;
    let slow = |node_id: &str, seconds: i64| InjectFaultRequest {
        fault: Some(inject_fault_request::Fault::Delay(Delay {
            node_id: node_id.into(),
            delay: Some(prost_types::Duration { seconds, nanos: 1_000_000 }),
        })),
        ..Default::default()
    };
    refused(client.dev().inject_fault(slow(bob, 61)).await, Code::InvalidArgument, "INVALID_ARGUMENT");
    refused(client.dev().inject_fault(slow(bob, -1)).await, Code::InvalidArgument, "INVALID_ARGUMENT");
    let stranger = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
    refused(client.dev().inject_fault(slow(stranger, 0)).await, Code::FailedPrecondition, "PEER_OFFLINE");
    // What follows is paid over the slow line.
    client.dev().inject_fault(slow(bob, 0)).await.unwrap();
}

/// A stream that says these things one after the other, and then leaves.
async fn stream(client: &Client, said: Vec<Say>) -> Result<Vec<Hear>, Status> {
    let (requests, queue) = mpsc::channel(16);
    for request in said {
        requests.send(StreamPaymentsRequest { request: Some(request) }).await.unwrap();
    }
    drop(requests);
    let mut answers = client.payment().stream_payments(ReceiverStream::new(queue)).await?.into_inner();
    let mut heard = Vec::new();
    while let Some(answer) = answers.message().await? {
        heard.extend(answer.response);
    }
    Ok(heard)
}

fn open(channel_id: &str, session_id: &str) -> Say {
    let destination = Some(stream_open::Destination::ChannelId(channel_id.into()));
    Say::Open(StreamOpen { destination, session_id: session_id.into(), ..Default::default() })
}

fn pay(sequence: u64, amount_msat: u64) -> Say {
    Say::Pay(StreamPay { sequence, amount_msat, tag: Vec::new() })
}

async fn streams(network: &Network, channel_id: &str) {
    let client = &network.alice.client;
    refused(stream(client, vec![pay(1, 1)]).await, Code::InvalidArgument, "STREAM_ORDER");
    refused(stream(client, vec![]).await, Code::InvalidArgument, "STREAM_ORDER");
    for wrong in [pay(0, 1), pay(1, 0), pay(1, u64::MAX)] {
        let said = vec![open(channel_id, ""), wrong];
        refused(stream(client, said).await, Code::InvalidArgument, "INVALID_ARGUMENT");
    }
    let long = StreamPayBatch { first_sequence: 1, amounts_msat: vec![1; 1_001] };
    let said = vec![open(channel_id, ""), Say::PayBatch(long)];
    refused(stream(client, said).await, Code::InvalidArgument, "INVALID_ARGUMENT");
    let twice = vec![open(channel_id, ""), open(channel_id, "")];
    refused(stream(client, twice).await, Code::InvalidArgument, "STREAM_ORDER");
    let said = vec![open(channel_id, &"00".repeat(32))];
    refused(stream(client, said).await, Code::NotFound, "STREAM_NOT_FOUND");

    // Left without Finish: it ends when all is committed; resumed, a payment seen before counts once.
    let heard = stream(client, vec![open(channel_id, ""), pay(1, 1_000), pay(2, 2_000)]).await.unwrap();
    let Hear::Opened(opened) = &heard[0] else { panic!("{heard:?}") };
    let marks = heard.iter().rev().find_map(|answer| match answer {
        Hear::Progress(marks) => Some(marks),
        _ => None,
    });
    assert_eq!(marks.map(|marks| (marks.committed_sequence, marks.committed_msat)), Some((2, 3_000)));
    let finish = Say::Finish(StreamFinish {});
    let said = vec![open(channel_id, &opened.session_id), pay(2, 2_000), pay(3, 4_000), finish];
    let heard = stream(client, said).await.unwrap();
    let Some(Hear::Closed(closed)) = heard.last() else { panic!("{heard:?}") };
    assert_eq!(closed.reason(), StreamCloseReason::Finished);
    assert_eq!((closed.committed_sequence, closed.committed_msat), (3, 7_000));
    let receipt = closed.receipt.clone().unwrap();
    assert_eq!((receipt.last_sequence, receipt.paid_msat), (3, 7_000));
}

async fn payments(network: &Network, channel: &Channel) {
    let client = &network.alice.client;
    let pay = |amount_msat: u64| SendPaymentRequest {
        request_id: "pay-once".into(),
        payee: Some(send_payment_request::Payee::NodeId(network.bob.presence.node_id.clone())),
        amount_msat: Some(amount_msat),
        ..Default::default()
    };
    let last = async |request| {
        let mut updates = client.payment().send_payment(request).await?.into_inner();
        let mut last = None;
        while let Some(update) = updates.message().await? {
            last = update.payment;
        }
        Ok::<_, Status>(last.unwrap())
    };
    let first = last(pay(50_000_000)).await.unwrap();
    assert_eq!(first.state(), PaymentState::Succeeded);
    assert_eq!(last(pay(50_000_000)).await.unwrap(), first, "the same request pays once");
    refused(last(pay(60_000_000)).await, Code::AlreadyExists, "IDEMPOTENCY_MISMATCH");
    let own = SendPaymentRequest {
        payee: Some(send_payment_request::Payee::NodeId(network.alice.presence.node_id.clone())),
        amount_msat: Some(1),
        ..Default::default()
    };
    refused(last(own).await, Code::FailedPrecondition, "SELF_PAYMENT");
    let request = GetChannelRequest { channel_id: channel.short_channel_id.clone() };
    let now = client.channel().get_channel(request).await.unwrap().into_inner().channel.unwrap();
    assert_eq!(channel.local_msat - now.local_msat, 50_000_000 + 7_000, "nothing else was paid");
}
