//! Payments along blinded paths with LDK at each place of them: payee, introduction point and payer. LDK takes and gives such
//! paths as they are; ours come in BOLT 11 invoices (bLIP 39), and so LDK's are put into one.

use bitcoin::Network;
use channeld::payment::invoice::{InvoiceDescription, InvoiceTerms, create_invoice, parse_invoice};
use channeld::units::{CltvDelta, Msat, UnixTime};
use lightning::blinded_path::payment::BlindedPaymentPath;
use lightning::types::payment::PaymentHash;
use proto::v1::send_payment_request::Payee;
use proto::v1::{CreateInvoiceRequest, OpenChannelRequest, open_channel_request};
use secp256k1::{Message, SECP256K1, SecretKey};
use tests::cluster::BRIEF;
use tests::ldk::{from_ldk, to_ldk};
use tests::{Cluster, Daemon, LdkNode, until};
use wallet_cli::client::request_id;

use super::assert_paid;
use super::middle::{PRIVATE, around, open, usable};

/// An invoice that somebody else would write for LDK, signed by nobody's key.
fn invoice(amount_msat: u64, hash: PaymentHash, path: &BlindedPaymentPath) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let terms = InvoiceTerms {
        amount: Some(Msat::new(amount_msat)),
        description: InvoiceDescription::Text("tea".to_owned()),
        payment_hash: channeld::units::PaymentHash(hash.0),
        payment_secret: [0; 32],
        created: UnixTime::from_seconds(now.as_secs()),
        expiry_seconds: 3_600,
        min_final_cltv_expiry_delta: CltvDelta::new(18),
        basic_mpp: true,
        route_hints: Vec::new(),
        blinded_paths: vec![from_ldk(path)],
    };
    let key = SecretKey::from_slice(&[3; 32]).unwrap();
    let sign = |digest| SECP256K1.sign_ecdsa_recoverable(&Message::from_digest(digest), &key);
    create_invoice(&terms, Network::Regtest, sign).unwrap()
}

/// An invoice of ours with one blinded path: the peer must have told what it asks.
async fn blinded(payee: &Daemon, amount_msat: u64) -> String {
    let request = |id: String| CreateInvoiceRequest {
        request_id: id,
        amount_msat: Some(amount_msat),
        blinded: true,
        ..Default::default()
    };
    until("an invoice with a blinded path", async || {
        let made = payee.client().invoice().create_invoice(request(request_id().unwrap())).await;
        Some(made.ok()?.into_inner().invoice?.payment_request)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ldk_is_paid_and_pays_along_blinded_paths() {
    // Bob - Alice - LDK.
    let cluster = Cluster::start(&["alice", "bob"], BRIEF).await;
    cluster.fund().await;
    let (alice, bob) = (cluster.alice(), cluster.bob());
    let ldk = LdkNode::start(&cluster.chain, PRIVATE).await;
    open(alice, &ldk).await;
    alice.connect(bob).await;
    let amount = Some(open_channel_request::Amount::CapacitySat(1_000_000));
    let wanted = OpenChannelRequest { amount, push_msat: 500_000_000, ..Default::default() };
    alice.open(bob.id(), wanted).await.unwrap();
    usable(&cluster, &[&ldk], 2).await;
    let alice_id = alice.id().parse().unwrap();
    for amount_msat in [200_000, 50_000_000] {
        for (what, payer, over) in [
            ("from LDK on", alice, None),
            ("from Alice on, who pays", alice, Some(alice_id)),
            ("from Alice on", bob, Some(alice_id)),
        ] {
            let (hash, path) = ldk.blinded_path(amount_msat, over);
            let paid = payer.pay(Payee::PaymentRequest(invoice(amount_msat, hash, &path)), None).await;
            println!("{what}, {amount_msat} msat: {:?}", paid.state());
            assert_paid(&paid);
            assert_eq!(paid.fee_msat > 10, payer.name == bob.name, "{what}: only who is between is paid");
        }
        let text = blinded(bob, amount_msat).await;
        let request = parse_invoice(&text, Network::Regtest).unwrap();
        let paths: Vec<_> = request.blinded_paths.iter().map(to_ldk).collect();
        assert_eq!(request.blinded_paths[0].path.first_node_id.0, alice_id);
        let id = ldk.pay_blinded(PaymentHash(request.payment_hash.0), paths, amount_msat).unwrap();
        assert!(ldk.paid(id).await.unwrap() > 0, "Alice is paid");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ldk_introduces_a_path_between_two_of_ours() {
    let (cluster, middle) = around().await;
    for amount_msat in [200_000, 50_000_000] {
        let text = blinded(cluster.alice(), amount_msat).await;
        let request = parse_invoice(&text, Network::Regtest).unwrap();
        assert_eq!(request.blinded_paths[0].path.first_node_id.0, middle.node_id());
        let paid = cluster.bob().pay(Payee::PaymentRequest(text), None).await;
        assert_paid(&paid);
        assert!(paid.fee_msat > 0, "LDK is paid");
    }
}
