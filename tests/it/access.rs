//! Who may call: tokens that do less than everything, a certificate that is renewed while the port is open, and the doctor
//! who says what is wrong.

use std::time::Duration;

use proto::v1::*;
use rustix::process::{Pid, Signal, kill_process};
use tests::process::run;
use tests::refusal::{field, reason};
use tests::wait::until;
use tests::{Cluster, Daemon};
use tonic::{Code, Status};
use wallet_cli::client::{Client, ConnectString, Presence, Target};

fn with_token(node: &Daemon, secret: &str) -> Target {
    match node.tcp_target() {
        Target::Tls { address, fingerprint, .. } => Target::Tls { address, fingerprint, token: secret.to_owned() },
        other => panic!("TLS expected: {other:?}"),
    }
}

fn till(request_id: &str) -> CreateTokenRequest {
    CreateTokenRequest {
        request_id: request_id.into(),
        name: "till".into(),
        scopes: vec![TokenScope::Receive.into()],
        methods: vec!["channeld.v1.PeerService/ConnectPeer".into()],
        lifetime: Some(prost_types::Duration { seconds: 3_600, nanos: 0 }),
        ..Default::default()
    }
}

async fn create(node: &Daemon, request: CreateTokenRequest) -> Result<CreateTokenResponse, Status> {
    Ok(node.client().token().create_token(request).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_do_what_they_say_as_long_as_they_say() {
    let mut cluster = Cluster::start(&["alice"], "").await;
    wrong_tokens(cluster.alice()).await;
    let alice = cluster.alice();
    let only = CreateTokenRequest { validate_only: true, ..till("") };
    assert_eq!(create(alice, only).await.unwrap(), CreateTokenResponse::default());
    let made = create(alice, till("make")).await.unwrap();
    assert_eq!(create(alice, till("make")).await.unwrap(), made, "the same request gets the same token");
    let other = CreateTokenRequest { name: "other".into(), ..till("make") };
    assert_eq!(reason(&create(alice, other).await.unwrap_err()), "IDEMPOTENCY_MISMATCH");
    let token = made.token.unwrap();
    let file = std::fs::read_to_string(alice.data_dir().join("regtest").join("tokens.json")).unwrap();
    assert!(!file.contains(&made.secret), "only a hash is kept");

    let client = Client::connect(&with_token(alice, &made.secret)).await.unwrap();
    client.invoice().create_invoice(CreateInvoiceRequest::default()).await.unwrap();
    client.node().get_node(GetNodeRequest {}).await.unwrap();
    let connect = client.peer().connect_peer(ConnectPeerRequest::default()).await.unwrap_err();
    assert_eq!(reason(&connect), "INVALID_ARGUMENT", "a single method that was named may be called");
    let denied = [
        client.wallet().send_coins(SendCoinsRequest::default()).await.unwrap_err(),
        client.token().list_tokens(ListTokensRequest::default()).await.unwrap_err(),
        client.channel().close_channel(CloseChannelRequest::default()).await.unwrap_err(),
    ];
    denied.iter().for_each(|status| {
        assert_eq!((status.code(), reason(status).as_str()), (Code::PermissionDenied, "SCOPE_DENIED"));
    });

    let short = CreateTokenRequest { lifetime: Some(prost_types::Duration { seconds: 1, nanos: 0 }), ..till("") };
    let short = create(alice, short).await.unwrap();
    let brief = Client::connect(&with_token(alice, &short.secret)).await.unwrap();
    until("the token's end", async || {
        let refused = brief.node().get_node(GetNodeRequest {}).await.err()?;
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unauthenticated, "TOKEN_EXPIRED"));
        Some(())
    })
    .await;

    // What was made holds over a restart; what was revoked does too.
    cluster.nodes[0].stop().await;
    cluster.nodes[0].restart().await;
    let alice = cluster.alice();
    let client = Client::connect(&with_token(alice, &made.secret)).await.unwrap();
    client.node().get_node(GetNodeRequest {}).await.unwrap();
    let revoke = RevokeTokenRequest { token_id: token.token_id.clone(), ..Default::default() };
    let checked = RevokeTokenRequest { validate_only: true, ..revoke.clone() };
    let checked = alice.client().token().revoke_token(checked).await.unwrap().into_inner();
    assert_eq!(checked.token.unwrap().state(), TokenState::Active);
    let revoked = alice.client().token().revoke_token(revoke).await.unwrap().into_inner();
    assert_eq!(revoked.token.unwrap().state(), TokenState::Revoked);
    let refused = client.node().get_node(GetNodeRequest {}).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unauthenticated, "TOKEN_REVOKED"));
    let page = ListTokensRequest { page_size: 1, order: Order::OldestFirst.into(), ..Default::default() };
    let page = alice.client().token().list_tokens(page).await.unwrap().into_inner();
    assert_eq!((page.tokens[0].token_id.as_str(), page.next_page_token.is_empty()), (token.token_id.as_str(), false));
}

async fn wrong_tokens(alice: &Daemon) {
    let wrong = [
        (CreateTokenRequest { name: String::new(), ..till("") }, "name"),
        (CreateTokenRequest { scopes: vec![9], ..till("") }, "scopes"),
        (CreateTokenRequest { scopes: vec![], methods: vec![], ..till("") }, "scopes"),
        (CreateTokenRequest { methods: vec!["SendCoins".into()], ..till("") }, "methods"),
        (CreateTokenRequest { lifetime: Some(prost_types::Duration::default()), ..till("") }, "lifetime"),
    ];
    for (request, name) in wrong {
        let refused = create(alice, request).await.unwrap_err();
        assert_eq!((reason(&refused).as_str(), field(&refused).as_str()), ("INVALID_ARGUMENT", name));
    }
    let revoke = |token_id: String| RevokeTokenRequest { token_id, ..Default::default() };
    let refused = alice.client().token().revoke_token(revoke("zz".into())).await.unwrap_err();
    assert_eq!(field(&refused), "token_id");
    for validate_only in [false, true] {
        let request = RevokeTokenRequest { validate_only, ..revoke("0".repeat(16)) };
        let refused = alice.client().token().revoke_token(request).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "TOKEN_NOT_FOUND"));
    }
    let page = ListTokensRequest { page_token: "x".into(), ..Default::default() };
    let refused = alice.client().token().list_tokens(page).await.unwrap_err();
    assert_eq!(reason(&refused), "INVALID_PAGE_TOKEN");
}

fn shown(alice: &Daemon) -> String {
    Presence::read(alice.data_dir(), "regtest").unwrap().tls_fingerprint.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_renewed_while_the_port_is_open() {
    let cluster = Cluster::start(&["alice"], "").await;
    let alice = cluster.alice();
    let old = alice.tcp_target();
    let client = Client::connect(&old).await.unwrap();
    let (folder, first) = (alice.data_dir().join("regtest"), shown(alice));
    let text = std::fs::read_to_string(folder.join("tls.cert")).unwrap();
    let expires = text.lines().next().unwrap().to_owned();
    let soon =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap() + Duration::from_secs(86_400);
    std::fs::write(folder.join("tls.cert"), text.replace(&expires, &format!("Expires: {}", soon.as_secs()))).unwrap();
    let pid = Pid::from_raw(i32::try_from(alice.presence().pid).unwrap()).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
    until("another certificate", async || (shown(alice) != first).then_some(())).await;

    client.node().get_node(GetNodeRequest {}).await.expect("connections that there are stay");
    let refused = Client::connect(&old).await.err().unwrap();
    assert!(refused.message.contains("another certificate"), "{refused}");
    let fresh = Presence::read(alice.data_dir(), "regtest").unwrap().tcp_target().unwrap();
    Client::connect(&fresh).await.unwrap().node().get_node(GetNodeRequest {}).await.unwrap();
}

/// The doctor's exit code, and which of his checks are wrong.
async fn doctor(cluster: &Cluster, arguments: &[&str]) -> (i32, Vec<String>) {
    let mut all = vec!["--json".to_owned()];
    all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    all.push("doctor".to_owned());
    let said = run("wallet-cli", &all, &cluster.folder().join("doctor.log")).await;
    // stderr comes behind it in the same file.
    let mut said_json = serde_json::Deserializer::from_str(&said.text).into_iter::<serde_json::Value>();
    let report = said_json.next().unwrap().unwrap();
    let checks = report["checks"].as_array().unwrap();
    let wrong = checks.iter().filter(|check| check["ok"] == false);
    let wrong: Vec<String> = wrong.map(|check| check["check"].as_str().unwrap().to_owned()).collect();
    assert_eq!(report["ok"], wrong.is_empty());
    assert!(checks.iter().all(|check| check["ok"] == true || !check["next"].as_str().unwrap().is_empty()));
    (said.status.code().unwrap(), wrong)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_says_what_is_wrong() {
    let mut cluster = Cluster::start(&["alice"], "").await;
    let directory = cluster.alice().data_dir().display().to_string();
    let here = ["--data-dir", directory.as_str()];
    assert_eq!(doctor(&cluster, &here).await, (0, vec![]));
    let Target::Tls { address, fingerprint, token } = cluster.alice().tcp_target() else { panic!("TLS") };
    let connect = |address: &str, fingerprint: &str, token: &str| {
        let (address, fingerprint, token) = (address.to_owned(), fingerprint.to_owned(), token.to_owned());
        ConnectString(Target::Tls { address, fingerprint, token }).to_string()
    };
    let there = connect(&address, &fingerprint, &token);
    assert_eq!(doctor(&cluster, &["--connect", &there]).await, (0, vec![]));
    let there = connect(&address, &fingerprint, &"0".repeat(64));
    assert_eq!(doctor(&cluster, &["--connect", &there]).await, (4, vec!["token".to_owned()]));
    let there = connect(&address, &"0".repeat(64), &token);
    let (code, wrong) = doctor(&cluster, &["--connect", &there]).await;
    assert_eq!((code, wrong[0].as_str()), (4, "key"));
    let there = connect("127.0.0.1:1", &fingerprint, &token);
    let (code, wrong) = doctor(&cluster, &["--connect", &there]).await;
    assert_eq!((code, wrong[0].as_str()), (3, "port"));

    let file = cluster.alice().presence().token_file.clone().unwrap();
    let mut mode = std::fs::metadata(&file).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o644);
    std::fs::set_permissions(&file, mode).unwrap();
    assert_eq!(doctor(&cluster, &here).await, (4, vec!["token file".to_owned()]));
    std::fs::write(&file, "f".repeat(64)).unwrap();
    let (_, wrong) = doctor(&cluster, &here).await;
    assert_eq!(wrong, ["token file", "token"]);
    cluster.chain.process = None;
    let (_, wrong) = doctor(&cluster, &["--connect", &connect(&address, &fingerprint, &token)]).await;
    assert!(wrong.is_empty() || wrong == ["chain"], "{wrong:?}");
    cluster.nodes[0].kill();
    let (code, wrong) = doctor(&cluster, &here).await;
    assert_eq!((code, wrong[0].as_str()), (3, "daemon"));
    let (code, wrong) = doctor(&cluster, &["--data-dir", "/nowhere"]).await;
    assert_eq!((code, wrong), (3, vec!["daemon".to_owned()]));
}
