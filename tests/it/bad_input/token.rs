//! Every method of the contract, called without a token, with that of another node, with one that has ended, and with one
//! that only reads.

use std::collections::BTreeSet;

use proto::v1::{CreateTokenRequest, TokenScope};
use tests::refusal::reason;
use tests::wait::until;
use tests::{Cluster, Daemon};
use tonic::{Code, Status};
use wallet_cli::client::{Client, Target};

use super::client::services;
use super::field::{Contract, ask, tagged};

/// What only looks.
const READS: [&str; 5] = ["Get", "List", "Decode", "Query", "Subscribe"];
/// The same by other names.
const READS_TOO: [&str; 2] = ["PlanClose", "AuditChannels"];

fn with(node: &Daemon, token: &str) -> Target {
    let Target::Tls { address, fingerprint, .. } = node.tcp_target() else { panic!("TLS is the default") };
    Target::Tls { address, fingerprint, token: token.to_owned() }
}

fn token_of(node: &Daemon) -> String {
    let Target::Tls { token, .. } = node.tcp_target() else { panic!("TLS is the default") };
    token
}

/// Which tokens there are is for their owner alone.
fn only_looks(method: &str) -> bool {
    let reads = READS.iter().any(|reads| method.starts_with(reads)) || READS_TOO.contains(&method);
    reads && !method.contains("Token")
}

/// Calls everything, so that nothing changes where it is let in; by method, what it was refused with.
async fn call_all(node: &Daemon, token: &str) -> Vec<(String, Result<(), Status>)> {
    let (contract, client) = (Contract::read(), Client::connect(&with(node, token)).await.unwrap());
    let link = client.link();
    let mut answers = Vec::new();
    for service in services() {
        for method in &service.method {
            let path = format!("/channeld.v1.{}/{}", service.name(), method.name());
            let request = contract.message(method.input_type()).expect("the contract is whole");
            let validate = request.field.iter().find(|field| field.name() == "validate_only");
            let bytes = validate.map(|field| tagged(field, 0, &[1])).unwrap_or_default();
            let answer = ask(&link, &path, bytes).await;
            answers.push((method.name().to_owned(), answer));
        }
    }
    answers
}

fn refused(answers: &[(String, Result<(), Status>)], by: &str) -> BTreeSet<String> {
    let is_by = |answer: &Result<(), Status>| answer.as_ref().err().is_some_and(|refusal| reason(refusal) == by);
    answers.iter().filter(|(_, answer)| is_by(answer)).map(|(method, _)| method.clone()).collect()
}

pub async fn every_method(cluster: &Cluster) {
    let (alice, bob) = (cluster.alice(), cluster.bob());
    for foreign in [String::new(), token_of(alice), "0".repeat(64)] {
        let answers = call_all(bob, &foreign).await;
        assert!(answers.len() > 30, "{}", answers.len());
        for (method, answer) in answers {
            let refusal = answer.expect_err(&method);
            assert_eq!(
                (refusal.code(), reason(&refusal).as_str()),
                (Code::Unauthenticated, "INVALID_TOKEN"),
                "{method}"
            );
        }
    }
    let brief = CreateTokenRequest {
        name: "brief".into(),
        scopes: vec![TokenScope::Admin.into()],
        lifetime: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        ..Default::default()
    };
    let brief = bob.client().token().create_token(brief).await.unwrap().into_inner().secret;
    let (everything, ended) = (services().iter().map(|service| service.method.len()).sum::<usize>(), "TOKEN_EXPIRED");
    until("the token's end", async || {
        let answers = call_all(bob, &brief).await;
        (refused(&answers, ended).len() == everything).then_some(())
    })
    .await;
    let read = std::fs::read_to_string(bob.data_dir().join("regtest").join("read.token")).unwrap();
    let answers = call_all(bob, read.trim()).await;
    let expected: BTreeSet<String> =
        answers.iter().map(|(method, _)| method.clone()).filter(|method| !only_looks(method)).collect();
    let denied = refused(&answers, "SCOPE_DENIED");
    assert_eq!(denied.difference(&expected).collect::<Vec<_>>(), Vec::<&String>::new(), "it only looks");
    assert_eq!(expected.difference(&denied).collect::<Vec<_>>(), Vec::<&String>::new(), "it may not");
}
