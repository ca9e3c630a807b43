//! Wrong arguments for every method, wrong tokens, wrong TLS: typed refusals.

use std::collections::BTreeSet;

use prost::Message;
use prost::bytes::{Buf, BufMut};
use proto::v1::*;
use tests::refusal::{field, reason};
use tests::wait::soon;
use tests::{Cluster, Daemon};
use tokio::io::AsyncWriteExt;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Request, Status};
use wallet_cli::client::{Client, Target};

/// Methods that take nothing which could be wrong.
const NO_ARGUMENTS: [&str; 2] = ["GetNode", "GetBalances"];

/// What is asked of one daemon, and which methods it was.
struct Table<'a> {
    node: &'a Daemon,
    asked: BTreeSet<&'static str>,
}

impl Table<'_> {
    /// The call must be refused with this reason, and for a wrong field name it.
    fn refused<T>(&mut self, method: &'static str, answer: Result<T, Status>, expected: &str, wrong: &str) {
        self.asked.insert(method);
        let refusal = answer.err().unwrap_or_else(|| panic!("{method}: {expected} {wrong}: not refused"));
        assert_eq!(reason(&refusal), expected, "{method} {wrong}: {refusal:?}");
        if expected == "INVALID_ARGUMENT" {
            assert_eq!(field(&refusal), wrong, "{method}: {refusal:?}");
        }
    }
}

pub async fn arguments(cluster: &Cluster, channel: &str) {
    let mut table = Table { node: cluster.alice(), asked: BTreeSet::new() };
    channels(&mut table, channel).await;
    invoices(&mut table).await;
    payments(&mut table).await;
    lists(&mut table).await;
    wallets_and_peers(&mut table).await;
    faults(&mut table).await;
    newer(&mut table).await;
    let methods = methods();
    let expected: BTreeSet<&str> = methods.iter().map(String::as_str).collect();
    let asked = table.asked.iter().copied().chain(NO_ARGUMENTS);
    assert_eq!(asked.collect::<BTreeSet<&str>>(), expected, "every method is asked");
}

/// The services of the contract.
pub fn services() -> Vec<prost_types::ServiceDescriptorProto> {
    let set = prost_types::FileDescriptorSet::decode(proto::FILE_DESCRIPTOR_SET).unwrap();
    let files = set.file.into_iter().filter(|file| file.package() == "channeld.v1");
    files.flat_map(|file| file.service).collect()
}

/// The methods of the contract.
fn methods() -> Vec<String> {
    services().into_iter().flat_map(|service| service.method).map(|method| method.name().to_owned()).collect()
}

/// Bytes that are no message, to every method.
pub async fn undecodable(cluster: &Cluster) {
    let link = cluster.bob().client().link();
    for service in services() {
        for method in &service.method {
            let path = format!("/channeld.v1.{}/{}", service.name(), method.name());
            for garbage in [&[0xff; 40][..], &[0x0a, 0x7f, 1], &[0x0f]] {
                let mut grpc = tonic::client::Grpc::new(link.clone());
                grpc.ready().await.unwrap();
                let request = Request::new(tokio_stream::iter([garbage.to_vec()]));
                let answers = grpc.streaming(request, path.parse().unwrap(), RawCodec).await;
                let refusal = match answers {
                    Err(refusal) => refusal,
                    Ok(answers) => soon("a refusal", answers.into_inner().message()).await.expect_err(&path),
                };
                assert_eq!(
                    (refusal.code(), reason(&refusal).as_str()),
                    (Code::InvalidArgument, "INVALID_ARGUMENT"),
                    "{path}"
                );
            }
        }
    }
}

/// Bytes as they are.
#[derive(Clone, Copy)]
pub struct RawCodec;

impl Codec for RawCodec {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = RawCodec;
    type Decoder = RawCodec;

    fn encoder(&mut self) -> RawCodec {
        RawCodec
    }

    fn decoder(&mut self) -> RawCodec {
        RawCodec
    }
}

impl Encoder for RawCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut bytes = vec![0; buffer.remaining()];
        buffer.copy_to_slice(&mut bytes);
        Ok(Some(bytes))
    }
}

async fn channels(table: &mut Table<'_>, channel: &str) {
    let mut client = table.node.client().channel();
    let unknown = "ab".repeat(32);
    for (channel_id, expected) in [
        ("", "INVALID_ARGUMENT"),
        ("zz", "INVALID_ARGUMENT"),
        ("1x2", "INVALID_ARGUMENT"),
        (&unknown, "CHANNEL_NOT_FOUND"),
        ("999x9x9", "CHANNEL_NOT_FOUND"),
    ] {
        let channel_id = channel_id.to_owned();
        let answer = client.get_channel(GetChannelRequest { channel_id: channel_id.clone() }).await;
        table.refused("GetChannel", answer, expected, "channel_id");
        let answer = client.close_channel(CloseChannelRequest { channel_id, ..Default::default() }).await;
        table.refused("CloseChannel", answer, expected, "channel_id");
    }
    let close = CloseChannelRequest { channel_id: channel.to_owned(), ..Default::default() };
    for (request, expected, wrong) in [
        (CloseChannelRequest { mode: 9, ..close.clone() }, "INVALID_ARGUMENT", "mode"),
        (CloseChannelRequest { feerate_per_kw: Some(0), ..close.clone() }, "INVALID_ARGUMENT", "feerate_per_kw"),
        (CloseChannelRequest { address: "nowhere".into(), ..close.clone() }, "INVALID_ARGUMENT", "address"),
        (CloseChannelRequest { address: MAINNET.into(), ..close.clone() }, "WRONG_NETWORK", "address"),
        (CloseChannelRequest { request_id: "x".repeat(65), ..close.clone() }, "INVALID_ARGUMENT", "request_id"),
    ] {
        table.refused("CloseChannel", client.close_channel(request).await, expected, wrong);
    }
    let answer = client.open_channel(OpenChannelRequest::default()).await;
    table.asked.insert("OpenChannel");
    assert_eq!(reason(&answer.unwrap_err()), "INVALID_ARGUMENT");
}

const MAINNET: &str = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";

async fn invoices(table: &mut Table<'_>) {
    let mut client = table.node.client().invoice();
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let base = CreateInvoiceRequest::default();
    for (request, wrong) in [
        (CreateInvoiceRequest { amount_msat: Some(0), ..base.clone() }, "amount_msat"),
        (CreateInvoiceRequest { amount_msat: Some(u64::MAX), ..base.clone() }, "amount_msat"),
        (CreateInvoiceRequest { description: "x".repeat(640), ..base.clone() }, "description"),
        (CreateInvoiceRequest { expiry: seconds(0), ..base.clone() }, "expiry"),
        (CreateInvoiceRequest { expiry: seconds(-1), ..base.clone() }, "expiry"),
        (CreateInvoiceRequest { expiry: seconds(i64::MAX), ..base.clone() }, "expiry"),
        (CreateInvoiceRequest { preimage: "12".into(), ..base.clone() }, "preimage"),
        (
            CreateInvoiceRequest { min_final_cltv_expiry_delta: Some(u32::MAX), ..base.clone() },
            "min_final_cltv_expiry_delta",
        ),
        (CreateInvoiceRequest { request_id: "x".repeat(65), ..base }, "request_id"),
    ] {
        table.refused("CreateInvoice", client.create_invoice(request).await, "INVALID_ARGUMENT", wrong);
    }
    for (hash, expected) in
        [("", "INVALID_ARGUMENT"), ("xy", "INVALID_ARGUMENT"), (&"ab".repeat(32), "INVOICE_NOT_FOUND")]
    {
        let payment_hash = hash.to_owned();
        let answer = client.get_invoice(GetInvoiceRequest { payment_hash: payment_hash.clone() }).await;
        table.refused("GetInvoice", answer, expected, "payment_hash");
        let answer = client.cancel_invoice(CancelInvoiceRequest { payment_hash, ..Default::default() }).await;
        table.refused("CancelInvoice", answer, expected, "payment_hash");
    }
}

async fn payments(table: &mut Table<'_>) {
    let mut client = table.node.client().payment();
    let long = format!("lnbcrt1{}", "q".repeat(8_000));
    for text in ["", "x", "lnbcrt1", &long, "lightning:lnbcrt1qqqqqq"] {
        let request = DecodePaymentRequestRequest { payment_request: text.into() };
        let answer = client.decode_payment_request(request).await;
        table.refused("DecodePaymentRequest", answer, "INVALID_PAYMENT_REQUEST", "payment_request");
    }
    for (hash, expected) in [("", "INVALID_ARGUMENT"), (&"ab".repeat(32), "PAYMENT_NOT_FOUND")] {
        let answer = client.get_payment(GetPaymentRequest { payment_hash: hash.to_owned() }).await;
        table.refused("GetPayment", answer, expected, "payment_hash");
    }
    let payee = Some(send_payment_request::Payee::NodeId("02zz".into()));
    let answer = client.send_payment(SendPaymentRequest { payee, amount_msat: Some(1), ..Default::default() }).await;
    table.refused("SendPayment", answer, "INVALID_ARGUMENT", "node_id");
    for open in [
        StreamOpen::default(),
        StreamOpen { batch_delay: Some(prost_types::Duration { seconds: 61, nanos: 0 }), ..destination() },
        StreamOpen { batch_delay: Some(prost_types::Duration { seconds: -1, nanos: 0 }), ..destination() },
        StreamOpen { session_id: "zz".into(), ..destination() },
        StreamOpen { max_total_msat: u64::MAX, ..destination() },
    ] {
        let request = StreamPaymentsRequest { request: Some(stream_payments_request::Request::Open(open)) };
        let answer = match client.stream_payments(tokio_stream::iter([request])).await {
            Ok(answers) => answers.into_inner().message().await,
            Err(refusal) => Err(refusal),
        };
        table.asked.insert("StreamPayments");
        assert_eq!(reason(&answer.unwrap_err()), "INVALID_ARGUMENT");
    }
}

fn destination() -> StreamOpen {
    let destination = Some(stream_open::Destination::ChannelId("ab".repeat(32)));
    StreamOpen { destination, ..Default::default() }
}

async fn lists(table: &mut Table<'_>) {
    let client = table.node.client();
    for (page_size, page_token, order, expected, wrong) in [
        (-1, "", 0, "INVALID_ARGUMENT", "page_size"),
        (1_001, "", 0, "INVALID_ARGUMENT", "page_size"),
        (i32::MAX, "", 0, "INVALID_ARGUMENT", "page_size"),
        (1, "", 3, "INVALID_ARGUMENT", "order"),
        (1, "x", 0, "INVALID_PAGE_TOKEN", "page_token"),
        (1, "Y2hhbm5lbHMvdHJ1ZS94", 0, "INVALID_PAGE_TOKEN", "page_token"),
    ] {
        let page_token = page_token.to_owned();
        macro_rules! list {
            ($service:ident, $call:ident, $request:ident, $name:literal) => {
                #[allow(clippy::needless_update)]
                let request = $request { page_size, page_token: page_token.clone(), order, ..Default::default() };
                table.refused($name, client.$service().$call(request).await, expected, wrong);
            };
        }
        list!(channel, list_channels, ListChannelsRequest, "ListChannels");
        list!(invoice, list_invoices, ListInvoicesRequest, "ListInvoices");
        list!(payment, list_payments, ListPaymentsRequest, "ListPayments");
        list!(peer, list_peers, ListPeersRequest, "ListPeers");
        list!(wallet, list_unspent_outputs, ListUnspentOutputsRequest, "ListUnspentOutputs");
        list!(wallet, list_transactions, ListTransactionsRequest, "ListTransactions");
        list!(graph, list_nodes, ListNodesRequest, "ListNodes");
        list!(graph, list_edges, ListEdgesRequest, "ListEdges");
        list!(token, list_tokens, ListTokensRequest, "ListTokens");
    }
    let request = AuditChannelsRequest { page_size: -1, ..Default::default() };
    table.refused("AuditChannels", client.channel().audit_channels(request).await, "INVALID_ARGUMENT", "page_size");
    for (request, wrong) in [
        (SubscribeEventsRequest { kinds: vec![99], ..Default::default() }, "kinds"),
        (SubscribeEventsRequest { kinds: vec![0], ..Default::default() }, "kinds"),
        (SubscribeEventsRequest { channel_id: "zz".into(), ..Default::default() }, "channel_id"),
    ] {
        table.refused("SubscribeEvents", client.node().subscribe_events(request).await, "INVALID_ARGUMENT", wrong);
    }
}

async fn newer(table: &mut Table<'_>) {
    let client = table.node.client();
    let request = BumpTransactionRequest { txid: "12".into(), ..Default::default() };
    table.refused("BumpTransaction", client.wallet().bump_transaction(request).await, "INVALID_ARGUMENT", "txid");
    let request = CreateTokenRequest { scopes: vec![99], name: "x".into(), ..Default::default() };
    table.refused("CreateToken", client.token().create_token(request).await, "INVALID_ARGUMENT", "scopes");
    let request = RevokeTokenRequest { token_id: "zz".into(), ..Default::default() };
    table.refused("RevokeToken", client.token().revoke_token(request).await, "INVALID_ARGUMENT", "token_id");
    let request = PlanCloseRequest { channel_id: "zz".into() };
    table.refused("PlanClose", client.channel().plan_close(request).await, "INVALID_ARGUMENT", "channel_id");
    let request = UpdateChannelPolicyRequest { channel_id: "zz".into(), ..Default::default() };
    let answer = client.channel().update_channel_policy(request).await;
    table.refused("UpdateChannelPolicy", answer, "INVALID_ARGUMENT", "update_mask");
    let request = SettleInvoiceRequest { preimage: "12".into(), ..Default::default() };
    table.refused("SettleInvoice", client.invoice().settle_invoice(request).await, "INVALID_ARGUMENT", "preimage");
    let payee = Some(query_routes_request::Payee::NodeId("zz".into()));
    let request = QueryRoutesRequest { payee, ..Default::default() };
    table.refused("QueryRoutes", client.payment().query_routes(request).await, "INVALID_ARGUMENT", "node_id");
}

async fn wallets_and_peers(table: &mut Table<'_>) {
    use send_coins_request::Amount;
    let client = table.node.client();
    let request = CreateAddressRequest { request_id: "x".repeat(65), validate_only: false };
    table.refused("CreateAddress", client.wallet().create_address(request).await, "INVALID_ARGUMENT", "request_id");
    let address = tests::chain::nobody();
    let base = SendCoinsRequest { address, amount: Some(Amount::AmountSat(10_000)), ..Default::default() };
    for (request, expected, wrong) in [
        (SendCoinsRequest { address: String::new(), ..base.clone() }, "INVALID_ARGUMENT", "address"),
        (SendCoinsRequest { address: "x".into(), ..base.clone() }, "INVALID_ARGUMENT", "address"),
        (SendCoinsRequest { address: MAINNET.into(), ..base.clone() }, "WRONG_NETWORK", "address"),
        (SendCoinsRequest { amount: None, ..base.clone() }, "INVALID_ARGUMENT", "amount"),
        (SendCoinsRequest { amount: Some(Amount::AmountSat(0)), ..base.clone() }, "INVALID_ARGUMENT", "amount_sat"),
        (SendCoinsRequest { amount: Some(Amount::AmountSat(1)), ..base.clone() }, "INVALID_ARGUMENT", "amount_sat"),
        (
            SendCoinsRequest { amount: Some(Amount::AmountSat(u64::MAX)), ..base.clone() },
            "INVALID_ARGUMENT",
            "amount_sat",
        ),
        (SendCoinsRequest { amount: Some(Amount::All(false)), ..base.clone() }, "INVALID_ARGUMENT", "amount"),
        (SendCoinsRequest { feerate_per_kw: Some(252), ..base.clone() }, "INVALID_ARGUMENT", "feerate_per_kw"),
        (
            SendCoinsRequest { amount: Some(Amount::AmountSat(2_000_000_000_000_000)), ..base },
            "INSUFFICIENT_FUNDS",
            "amount_sat",
        ),
    ] {
        table.refused("SendCoins", client.wallet().send_coins(request).await, expected, wrong);
    }
    let id = table.node.id();
    for address in
        ["", "x", &id, &format!("{id}@"), &format!("{id}@host"), &format!("{id}@127.0.0.1:99999"), "02@127.0.0.1:1"]
    {
        let request = ConnectPeerRequest { address: address.into(), ..Default::default() };
        table.refused("ConnectPeer", client.peer().connect_peer(request).await, "INVALID_ARGUMENT", "address");
    }
    let stranger = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
    for (node_id, expected) in [("", "INVALID_ARGUMENT"), ("02", "INVALID_ARGUMENT"), (stranger, "PEER_NOT_FOUND")] {
        let request = DisconnectPeerRequest { node_id: node_id.into(), ..Default::default() };
        table.refused("DisconnectPeer", client.peer().disconnect_peer(request).await, expected, "node_id");
    }
}

async fn faults(table: &mut Table<'_>) {
    use inject_fault_request::Fault;
    let unknown = "ab".repeat(32);
    let stranger = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
    for (fault, expected, wrong) in [
        (None, "INVALID_ARGUMENT", "fault"),
        (Some(Fault::KeepState(KeepState { channel_id: "x".into() })), "INVALID_ARGUMENT", "keep_state.channel_id"),
        (Some(Fault::KeepState(KeepState { channel_id: unknown.clone() })), "CHANNEL_NOT_FOUND", ""),
        (Some(Fault::ReplayOldState(ReplayOldState { channel_id: unknown.clone() })), "NO_STATE_KEPT", ""),
        (Some(Fault::HoldHtlcs(HoldHtlcs { channel_id: unknown, hold: true })), "CHANNEL_NOT_FOUND", ""),
        (Some(Fault::Cut(Cut { node_id: "x".into() })), "INVALID_ARGUMENT", "cut.node_id"),
        (Some(Fault::Cut(Cut { node_id: stranger.into() })), "PEER_OFFLINE", ""),
    ] {
        let answer = table.node.client().dev().inject_fault(InjectFaultRequest { fault, ..Default::default() }).await;
        table.refused("InjectFault", answer, expected, wrong);
    }
}

/// Who has no token, another one, one that covers less, or does not trust or speak TLS.
pub async fn strangers(cluster: &Cluster) {
    let node = cluster.bob();
    let Target::Tls { address, fingerprint, token } = node.tcp_target() else { panic!("TLS is the default") };
    let with = |token: &str| Target::Tls {
        address: address.clone(),
        fingerprint: fingerprint.clone(),
        token: token.to_owned(),
    };
    let get = async |client: &Client| client.node().get_node(GetNodeRequest {}).await;
    get(&Client::connect(&with(&token)).await.unwrap()).await.unwrap();
    for wrong in ["", "x", &token[1..], &token.to_uppercase(), &"0".repeat(64)] {
        if wrong == token {
            continue;
        }
        let refusal = get(&Client::connect(&with(wrong)).await.unwrap()).await.unwrap_err();
        assert_eq!((refusal.code(), reason(&refusal).as_str()), (Code::Unauthenticated, "INVALID_TOKEN"), "{wrong:?}");
    }
    let read = std::fs::read_to_string(node.data_dir().join("regtest").join("read.token")).unwrap();
    let reader = Client::connect(&with(read.trim())).await.unwrap();
    get(&reader).await.unwrap();
    let refusal = reader.wallet().create_address(CreateAddressRequest::default()).await.unwrap_err();
    assert_eq!((refusal.code(), reason(&refusal).as_str()), (Code::PermissionDenied, "SCOPE_DENIED"));
    // Another certificate than the pinned one, and no TLS at all.
    let other = Target::Tls { address: address.clone(), fingerprint: "00".repeat(32), token: token.clone() };
    let failure = Client::connect(&other).await.err().expect("another certificate");
    assert!(failure.message.contains("certificate"), "{failure}");
    if let Ok(plain) = Client::connect(&Target::Plain { address: address.clone(), token }).await {
        soon("an end", get(&plain)).await.unwrap_err();
    }
    for garbage in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", &[0x16; 5_000], &[0xff; 70_000]] {
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        let _ = stream.write_all(garbage).await;
    }
    get(node.client()).await.unwrap();
}
