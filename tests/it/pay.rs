//! Direct payments: invoices and keysend, both ways, above and below the dust limit; what is refused; what is repeated.

use std::time::Duration;

use bitcoin::hashes::{Hash, sha256};
use proto::v1::event::Detail;
use proto::v1::send_payment_request::Payee;
use proto::v1::{
    CancelInvoiceRequest, CreateInvoiceRequest, DecodePaymentRequestRequest, EventKind, GetInvoiceRequest,
    GetPaymentRequest, Invoice, InvoiceState, Payment, PaymentFailureReason, PaymentState, SendPaymentRequest,
};
use tests::cluster::Terms;
use tests::refusal::reason;
use tests::wait::soon;
use tests::{Cluster, Daemon, until};
use tonic::Status;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payments_go_both_ways_once() {
    let cluster = Cluster::pair().await;
    let channel = cluster.open(Terms::default()).await;
    invoices(&cluster, &channel).await;
    keysend(&cluster, &channel).await;
    refusals(&cluster).await;
    ended_invoices(&cluster).await;
    repetitions(&cluster, &channel).await;
    many_at_once(&cluster, &channel).await;
    restarts_keep_it_all(cluster, &channel).await;
}

/// Sends a request and follows it to its end.
async fn send(node: &Daemon, request: SendPaymentRequest) -> Result<Payment, Status> {
    let mut updates = node.client().payment().send_payment(request).await?.into_inner();
    let mut last = None;
    while let Some(update) = soon("a payment", updates.message()).await? {
        last = update.payment.or(last);
    }
    Ok(last.expect("a payment says how it ended"))
}

async fn refused(node: &Daemon, request: SendPaymentRequest) -> String {
    let said = format!("{request:?}");
    let answer = send(node, request).await;
    reason(&answer.err().unwrap_or_else(|| panic!("not refused: {said}")))
}

fn by_invoice(invoice: &Invoice, amount_msat: Option<u64>) -> SendPaymentRequest {
    let payee = Some(Payee::PaymentRequest(invoice.payment_request.clone()));
    SendPaymentRequest { payee, amount_msat, ..Default::default() }
}

fn by_key(node_id: &str, amount_msat: u64) -> SendPaymentRequest {
    let payee = Some(Payee::NodeId(node_id.to_owned()));
    SendPaymentRequest { payee, amount_msat: Some(amount_msat), ..Default::default() }
}

async fn invoice_state(node: &Daemon, payment_hash: &str) -> Invoice {
    let request = GetInvoiceRequest { payment_hash: payment_hash.to_owned() };
    node.client().invoice().get_invoice(request).await.unwrap().into_inner().invoice.unwrap()
}

fn assert_proven(payment: &Payment) {
    assert_eq!(payment.state(), PaymentState::Succeeded, "{payment:?}");
    let preimage = hex::decode(&payment.preimage).unwrap();
    assert_eq!(sha256::Hash::hash(&preimage).to_byte_array().to_vec(), hex::decode(&payment.payment_hash).unwrap());
    assert_eq!(payment.fee_msat, 0, "a direct payment costs nothing");
}

async fn invoices(cluster: &Cluster, channel: &str) {
    let (mut alice_msat, mut bob_msat) = cluster.settled(channel).await;
    for amount in [1_000, 100_000, 25_000_000] {
        let invoice = cluster.bob().invoice(Some(amount)).await;
        let decode = DecodePaymentRequestRequest { payment_request: invoice.payment_request.clone() };
        let read = cluster.alice().client().payment().decode_payment_request(decode).await.unwrap().into_inner();
        assert_eq!((read.payee_node_id, read.amount_msat), (cluster.bob().id(), Some(amount)));
        let payment = send(cluster.alice(), by_invoice(&invoice, None)).await.unwrap();
        assert_proven(&payment);
        assert_eq!((payment.amount_msat, &payment.payment_hash), (amount, &invoice.payment_hash));
        let settled = invoice_state(cluster.bob(), &invoice.payment_hash).await;
        assert_eq!((settled.state(), settled.received_msat), (InvoiceState::Settled, amount));
        assert_eq!((settled.preimage, settled.channel_id.as_str()), (payment.preimage, channel));
        (alice_msat, bob_msat) = (alice_msat - amount, bob_msat + amount);
        assert_eq!(cluster.settled(channel).await, (alice_msat, bob_msat));
        assert_eq!(refused(cluster.alice(), by_invoice(&invoice, None)).await, "ALREADY_PAID");
    }
    // The payer says how much; and may give more than is asked, up to twice.
    let open = cluster.alice().invoice(None).await;
    assert_eq!(refused(cluster.bob(), by_invoice(&open, None)).await, "INVALID_ARGUMENT");
    let payment = send(cluster.bob(), by_invoice(&open, Some(7_777))).await.unwrap();
    assert_proven(&payment);
    let invoice = cluster.alice().invoice(Some(10_000)).await;
    let payment = send(cluster.bob(), by_invoice(&invoice, Some(20_000))).await.unwrap();
    assert_proven(&payment);
    let settled = invoice_state(cluster.alice(), &invoice.payment_hash).await;
    assert_eq!(settled.received_msat, 20_000);
    assert_eq!(cluster.settled(channel).await, (alice_msat + 27_777, bob_msat - 27_777));
}

async fn keysend(cluster: &Cluster, channel: &str) {
    let (alice, bob) = (cluster.alice(), cluster.bob());
    let (mut alice_msat, mut bob_msat) = cluster.settled(channel).await;
    for amount in [1, 999, 100_000, 353_999, 354_000, 10_000_000] {
        assert_proven(&alice.keysend(&bob.id(), amount).await);
        assert_proven(&bob.keysend(&alice.id(), 2 * amount).await);
        (alice_msat, bob_msat) = (alice_msat + amount, bob_msat - amount);
        assert_eq!(cluster.settled(channel).await, (alice_msat, bob_msat), "after {amount} msat");
    }
    for node in &cluster.nodes {
        let received = node.events(&[EventKind::KeysendReceived]).await;
        assert_eq!(received.len(), 6, "{}", node.name);
    }
}

async fn refusals(cluster: &Cluster) {
    let (alice, bob) = (cluster.alice(), cluster.bob().id());
    let stranger = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
    let invoice = cluster.bob().invoice(Some(50_000)).await;
    let unknown_channel = SendPaymentRequest { channel_id: "ab".repeat(32), ..by_key(&bob, 1_000) };
    let broken = invoice.payment_request.replace("lnbcrt", "lnbc");
    let broken = SendPaymentRequest { payee: Some(Payee::PaymentRequest(broken)), ..Default::default() };
    let cases = [
        (by_invoice(&invoice, Some(49_999)), "INVALID_ARGUMENT"),
        (by_invoice(&invoice, Some(100_001)), "INVALID_ARGUMENT"),
        (by_key(&bob, 0), "INVALID_ARGUMENT"),
        (by_key(&bob, u64::MAX), "INVALID_ARGUMENT"),
        (by_key("zz", 1_000), "INVALID_ARGUMENT"),
        (by_key(&alice.id(), 1_000), "SELF_PAYMENT"),
        (by_key(&bob, 700_000_000), "INSUFFICIENT_BALANCE"),
        (unknown_channel, "CHANNEL_NOT_FOUND"),
        (broken, "INVALID_PAYMENT_REQUEST"),
        (SendPaymentRequest::default(), "INVALID_ARGUMENT"),
    ];
    let before = alice.payments().await.len();
    for (request, expected) in cases {
        let said = format!("{request:?}");
        assert_eq!(refused(alice, request).await, expected, "{said}");
    }
    let own = alice.invoice(Some(1_000)).await;
    assert_eq!(refused(alice, by_invoice(&own, None)).await, "SELF_PAYMENT");
    assert_eq!(alice.payments().await.len(), before, "a refused payment is none");
    // What is wrong only at the payee, or on the way, is a result, not a refusal.
    let lost = send(alice, by_key(stranger, 1_000)).await.unwrap();
    assert_eq!((lost.state(), lost.failure_reason()), (PaymentState::Failed, PaymentFailureReason::NoRoute));
    let request = CancelInvoiceRequest { payment_hash: invoice.payment_hash.clone(), ..Default::default() };
    let cancelled = cluster.bob().client().invoice().cancel_invoice(request).await.unwrap().into_inner().invoice;
    assert_eq!(cancelled.unwrap().state(), InvoiceState::Cancelled);
    let failed = send(alice, by_invoice(&invoice, None)).await.unwrap();
    assert_eq!(failed.state(), PaymentState::Failed);
    assert_eq!(failed.failure_reason(), PaymentFailureReason::UnknownPaymentDetails);
    assert_eq!(failed.preimage, "");
}

async fn ended_invoices(cluster: &Cluster) {
    let request = CreateInvoiceRequest {
        amount_msat: Some(1_000),
        expiry: Some(Duration::from_secs(1).try_into().unwrap()),
        ..Default::default()
    };
    let answer = cluster.bob().client().invoice().create_invoice(request).await.unwrap().into_inner();
    let invoice = answer.invoice.unwrap();
    until("the invoice to expire", async || {
        let state = invoice_state(cluster.bob(), &invoice.payment_hash).await.state();
        (state == InvoiceState::Expired).then_some(())
    })
    .await;
    assert_eq!(refused(cluster.alice(), by_invoice(&invoice, None)).await, "INVOICE_EXPIRED");
    let request = CancelInvoiceRequest { payment_hash: invoice.payment_hash, ..Default::default() };
    let refusal = cluster.bob().client().invoice().cancel_invoice(request).await.unwrap_err();
    assert_eq!(reason(&refusal), "INVOICE_NOT_OPEN");
}

async fn repetitions(cluster: &Cluster, channel: &str) {
    let (alice, bob) = (cluster.alice(), cluster.bob());
    let (alice_msat, bob_msat) = cluster.settled(channel).await;
    let request = SendPaymentRequest { request_id: "once".into(), ..by_key(&bob.id(), 30_000) };
    let first = send(alice, request.clone()).await.unwrap();
    assert_proven(&first);
    for _ in 0..3 {
        assert_eq!(send(alice, request.clone()).await.unwrap(), first);
    }
    // At the same time, before the first is done.
    let twice = SendPaymentRequest { request_id: "twice".into(), ..by_key(&bob.id(), 40_000) };
    let both = futures::future::join_all((0..4).map(|_| send(alice, twice.clone()))).await;
    let hashes: Vec<String> = both.into_iter().map(|payment| payment.unwrap().payment_hash).collect();
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
    assert_eq!(cluster.settled(channel).await, (alice_msat - 70_000, bob_msat + 70_000), "paid once");
    let other = SendPaymentRequest { request_id: "once".into(), ..by_key(&bob.id(), 30_001) };
    assert_eq!(refused(alice, other).await, "IDEMPOTENCY_MISMATCH");
    let invoice = CreateInvoiceRequest { request_id: "i".into(), amount_msat: Some(5), ..Default::default() };
    let make = async |request: CreateInvoiceRequest| alice.client().invoice().create_invoice(request).await;
    let first = make(invoice.clone()).await.unwrap().into_inner();
    assert_eq!(make(invoice.clone()).await.unwrap().into_inner(), first);
    let refusal = make(CreateInvoiceRequest { amount_msat: Some(6), ..invoice }).await.unwrap_err();
    assert_eq!(reason(&refusal), "IDEMPOTENCY_MISMATCH");
    let checked = SendPaymentRequest { validate_only: true, ..by_key(&bob.id(), 1_000) };
    let mut answer = alice.client().payment().send_payment(checked).await.unwrap().into_inner();
    while let Some(update) = soon("the end of a check", answer.message()).await.unwrap() {
        assert_eq!(update.payment, None);
    }
    assert_eq!(cluster.settled(channel).await, (alice_msat - 70_000, bob_msat + 70_000), "nothing was paid");
}

async fn many_at_once(cluster: &Cluster, channel: &str) {
    let (alice, bob) = (cluster.alice(), cluster.bob());
    let (alice_msat, bob_msat) = cluster.settled(channel).await;
    let (alice_id, bob_id) = (alice.id(), bob.id());
    let up = futures::future::join_all((0..60).map(|_| alice.keysend(&bob_id, 2_000_000)));
    let down = futures::future::join_all((0..60).map(|_| bob.keysend(&alice_id, 100_000)));
    let (up, down) = futures::join!(up, down);
    up.iter().chain(&down).for_each(assert_proven);
    assert_eq!(cluster.settled(channel).await, (alice_msat - 114_000_000, bob_msat + 114_000_000));
}

async fn restarts_keep_it_all(mut cluster: Cluster, channel: &str) {
    let before = cluster.settled(channel).await;
    let (payments, events) = (cluster.alice().payments().await, paid_events(cluster.alice()).await);
    assert!(payments.windows(2).all(|pair| pair[0].index < pair[1].index));
    cluster.nodes[0].stop().await;
    cluster.nodes[1].kill();
    cluster.chain.process.as_mut().unwrap().kill();
    cluster.chain.restart().await;
    for node in &mut cluster.nodes {
        node.restart().await;
    }
    cluster.usable(channel).await;
    assert_eq!(cluster.settled(channel).await, before);
    assert_eq!(cluster.alice().payments().await, payments);
    assert_eq!(paid_events(cluster.alice()).await, events);
    let first = &payments[0];
    let request = GetPaymentRequest { payment_hash: first.payment_hash.clone() };
    let found = cluster.alice().client().payment().get_payment(request).await.unwrap().into_inner().payment;
    assert_eq!(found.map(Daemon::summary).as_ref(), Some(first));
    let request = SendPaymentRequest { request_id: "once".into(), ..by_key(&cluster.bob().id(), 30_000) };
    send(cluster.alice(), request).await.unwrap();
    assert_eq!(cluster.settled(channel).await, before, "a repetition after a restart pays nothing");
    assert_proven(&cluster.alice().keysend(&cluster.bob().id(), 5_000).await);
}

async fn paid_events(node: &Daemon) -> Vec<(u64, Option<Detail>)> {
    let events = node.events(&[EventKind::PaymentSucceeded, EventKind::PaymentFailed]).await;
    events.into_iter().map(|event| (event.index, event.detail)).collect()
}
