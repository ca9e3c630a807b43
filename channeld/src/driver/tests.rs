//! The driver over a real store: answers, lists and restarts.

use std::path::Path;
use std::sync::Arc;

use bitcoin::Amount;
use bitcoin::constants::ChainHash;
use bitcoin::hashes::Hash;
use tokio::runtime;
use tokio::sync::watch;

use super::outlet::{Outlet, Sessions};
use super::pathfinder::{Pathfinder, into_mailbox};
use super::{Clients, Delays, Driver, Mailbox, inlet::PeerInlet, moment, recover};
use crate::chain::{Backend, Credentials};
use crate::channel::Policy;
use crate::gossip::{Gossip, Rim};
use crate::keys::{Signer, Words};
use crate::node::command::{Command, CreateInvoice, Page, Query, RequestKey};
use crate::node::event::EventKind;
use crate::node::input::Input;
use crate::node::refusal::Refusal;
use crate::node::reply::Reply;
use crate::node::state::RECENT_ANSWERS;
use crate::node::{Node, Settings};
use crate::payment::receive::{Invoice, InvoiceStatus};
use crate::peer::{PeerConfig, Peers};
use crate::store::{Options, Store};
use crate::units::{FeeratePerKw, Msat};
use crate::wallet::Wallet;
use crate::wire::Features;

const NETWORK: bitcoin::Network = bitcoin::Network::Regtest;

fn start(folder: &Path) -> Driver {
    let words = Words::from_entropy(&[7; 32]);
    let seed = words.seed();
    let signer = Arc::new(Signer::new(&seed));
    let genesis = bitcoin::constants::genesis_block(NETWORK).block_hash();
    let chain_hash = ChainHash::from(genesis.to_byte_array());
    let (store, recovered) = Store::open(folder, &Options::new("test")).expect("a store");
    let state = recover(&recovered).expect("our own state");
    let wallet = match state.wallet.is_empty() {
        true => Wallet::create(seed.account_xprv(NETWORK), NETWORK, genesis),
        false => Wallet::load(seed.account_xprv(NETWORK), NETWORK, genesis, &state.wallet).expect("our own wallet"),
    };
    let settings = Settings {
        alias: "test".to_owned(),
        network: "regtest".to_owned(),
        address_network: NETWORK,
        chain_hash,
        features: Features::init(),
        policy: Policy::default(),
        forwarding: crate::payment::forward::ForwardingPolicy::default(),
        shares: crate::payment::jamming::Shares::default(),
        anchor_reserve: Amount::from_sat(10_000),
        burial: 6,
        fallback_feerate: FeeratePerKw::FLOOR,
        development: true,
        listen_addresses: Vec::new(),
        color: [0; 3],
        announced_addresses: Vec::new(),
    };
    let node = Node::new(settings.clone(), Arc::clone(&signer), wallet, state, moment());
    let (mailbox, sessions) = (Arc::new(Mailbox::default()), Arc::new(Sessions::default()));
    let delays = Arc::new(Delays::default());
    let (mail, known, slow) = (Arc::clone(&mailbox), Arc::clone(&sessions), Arc::clone(&delays));
    let gossip = Gossip::default();
    let inlet = PeerInlet { mailbox: mail, sessions: known, delays: slow, gossip: gossip.clone() };
    let config = PeerConfig { features: Features::init(), chain_hash };
    let nowhere = Credentials::Basic { user: String::new(), password: String::new() };
    let (_, snapshots) = watch::channel(Arc::default());
    let pathfinder = Pathfinder::start(snapshots, None, into_mailbox(Arc::clone(&mailbox))).expect("a thread");
    let outlet = Outlet {
        pathfinder: pathfinder.asker(),
        clients: Arc::new(Clients::default()),
        sessions,
        delays,
        peers: Peers::new(config, signer, Arc::new(inlet)),
        backend: Backend::new("http://127.0.0.1:9", nowhere).expect("an address"),
        runtime: runtime::Handle::current(),
        gossip,
        rim: Rim::empty(),
        newest_event: watch::channel(0).0,
    };
    Driver::start(node, store, mailbox, outlet, &settings).expect("threads")
}

async fn stop(driver: Driver) {
    tokio::task::spawn_blocking(move || driver.stop()).await.expect("an end");
}

fn create(description: &str) -> Command {
    Command::CreateInvoice(CreateInvoice {
        amount: Some(Msat::new(1_000)),
        description: description.to_owned(),
        expiry_seconds: 3_600,
        preimage: None,
        payment_hash: None,
        min_final_cltv_expiry_delta: None,
        blinded: false,
    })
}

async fn invoice(driver: &Driver, description: &str) -> Invoice {
    match driver.handle().command(create(description), None).await {
        Ok(Reply::Invoice(invoice)) => *invoice,
        other => panic!("{other:?}"),
    }
}

async fn list(driver: &Driver, page: Page) -> (Vec<u64>, Option<u64>) {
    match driver.handle().query(Query::ListInvoices(page)).await {
        Ok(Reply::Invoices(paged)) => (paged.items.iter().map(|invoice| invoice.index).collect(), paged.next),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let driver = start(folder.path());
    let (first, second) = (invoice(&driver, "one").await, invoice(&driver, "two").await);
    let cancel = Command::CancelInvoice { payment_hash: first.payment_hash };
    assert!(driver.handle().command(cancel, None).await.is_ok());
    stop(driver).await;

    let driver = start(folder.path());
    let found = driver.handle().query(Query::Invoice(first.payment_hash)).await;
    let Ok(Reply::Invoice(found)) = found else { panic!("{found:?}") };
    assert!(matches!(found.status, InvoiceStatus::Cancelled { .. }));
    let found = driver.handle().query(Query::Invoice(second.payment_hash)).await;
    assert_eq!(found, Ok(Reply::Invoice(Box::new(second))));
    let events = driver.handle().events().after(0, 10).await;
    assert!(events.iter().any(|event| matches!(event.kind, EventKind::InvoiceCancelled { .. })));
    stop(driver).await;
}

#[tokio::test]
async fn lists_are_paged_over_memory_and_archive() {
    let folder = tempfile::tempdir().expect("a folder");
    let driver = start(folder.path());
    for number in 0..5 {
        let invoice = invoice(&driver, "page").await;
        if number % 2 == 0 {
            let cancel = Command::CancelInvoice { payment_hash: invoice.payment_hash };
            assert!(driver.handle().command(cancel, None).await.is_ok());
        }
    }
    let page = |after, newest_first| Page { after, size: 2, newest_first };
    assert_eq!(list(&driver, page(None, false)).await, (vec![1, 2], Some(2)));
    assert_eq!(list(&driver, page(Some(2), false)).await, (vec![3, 4], Some(4)));
    assert_eq!(list(&driver, page(Some(4), false)).await, (vec![5], None));
    assert_eq!(list(&driver, page(None, true)).await, (vec![5, 4], Some(4)));
    assert_eq!(list(&driver, page(Some(2), true)).await, (vec![1], None));
    stop(driver).await;
}

#[tokio::test]
async fn a_request_id_is_good_for_one_body() {
    let folder = tempfile::tempdir().expect("a folder");
    let driver = start(folder.path());
    let key = |body| Some(RequestKey { id: "once".to_owned(), body: [body; 32] });
    let first = driver.handle().command(create("once"), key(1)).await;
    assert_eq!(driver.handle().command(create("once"), key(1)).await, first);
    stop(driver).await;
    let driver = start(folder.path());
    assert_eq!(driver.handle().command(create("once"), key(1)).await, first);
    assert_eq!(driver.handle().command(create("other"), key(2)).await, Err(Refusal::IdempotencyMismatch));
    assert_eq!(list(&driver, Page { after: None, size: 10, newest_first: false }).await, (vec![1], None));
    stop(driver).await;
}

#[tokio::test]
async fn an_answer_that_has_left_the_memory_is_replayed_from_the_archive() {
    let folder = tempfile::tempdir().expect("a folder");
    let driver = start(folder.path());
    let key = |number: usize, body| Some(RequestKey { id: format!("call {number}"), body: [body; 32] });
    let mut answers = Vec::new();
    for number in 0..RECENT_ANSWERS + 4 {
        answers.push(driver.handle().command(create("once"), key(number, 1)).await);
    }
    assert_eq!(driver.handle().command(create("once"), key(0, 1)).await, answers[0]);
    assert_eq!(driver.handle().command(create("once"), key(0, 2)).await, Err(Refusal::IdempotencyMismatch));
    stop(driver).await;
    let driver = start(folder.path());
    for (number, answer) in answers.iter().enumerate() {
        assert_eq!(driver.handle().command(create("once"), key(number, 1)).await, *answer);
    }
    stop(driver).await;
}

#[tokio::test]
async fn what_may_be_forgotten_leaves_the_archive_page_by_page() {
    let folder = tempfile::tempdir().expect("a folder");
    let driver = start(folder.path());
    let key = |id: &str| Some(RequestKey { id: id.to_owned(), body: [1; 32] });
    for id in ["one", "two"] {
        assert!(driver.handle().command(create("once"), key(id)).await.is_ok());
    }
    let reader = driver.handle().reader.clone();
    let mut sweeper = super::archive::sweep::Sweeper::new();
    let now = moment().now;
    assert!(sweeper.look_now(&reader, now).is_none(), "what is young stays");
    let tomorrow = crate::units::UnixTime::from_seconds(now.seconds() + 25 * 3_600);
    let Some(Input::Forgettable { answers, penalties: None }) = sweeper.look_now(&reader, tomorrow) else {
        panic!("two answers are old")
    };
    assert_eq!(answers.len(), 2);
    driver.mailbox.push(Input::Forgettable { answers, penalties: None }, super::mailbox::Credit::None);
    // An answer to anything comes after the flush of that.
    invoice(&driver, "later").await;
    assert!(sweeper.look_now(&reader, tomorrow).is_none());
    assert!(super::archive::answered(&reader, "one").is_none());
    stop(driver).await;
}
