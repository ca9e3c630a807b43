//! Payments of invoices with blinded paths: over each, in parts over several, from the introduction point itself, and what is
//! made of a failure that says nothing (BOLT 4, "Route Blinding").

use super::retry::diamond;
use super::*;
use crate::graph::BlindedTail;
use crate::node::refusal::Refusal;
use crate::payment::invoice::{PaymentRequest, parse_invoice};
use crate::router::Exclusion;
use crate::units::NodeId;

const AMOUNT: u64 = 20_000_000;
/// `invalid_onion_blinding`
const INVALID_ONION_BLINDING: u16 = 0xc018;
const NETWORK: bitcoin::Network = bitcoin::Network::Regtest;

fn blinded(world: &mut World, who: usize, msat: u64) -> Invoice {
    let create = CreateInvoice { amount: Some(Msat::new(msat)), blinded: true, ..create() };
    match world.ask(who, Command::CreateInvoice(create)) {
        Ok(Reply::Invoice(invoice)) => *invoice,
        other => panic!("{other:?}"),
    }
}

fn read(invoice: &Invoice) -> PaymentRequest {
    parse_invoice(&invoice.payment_request, NETWORK).expect("our own invoice")
}

/// `amount` over `channels` through `nodes` to the introduction point of the query's path at this place, and along it; `less`
/// is kept back of the path's fee.
fn into(world: &World, nodes: &[usize], channels: &[ChannelId], what: (u64, &RouteQuery, usize, u64)) -> Route {
    let (amount, query, at, less) = what;
    let path = &query.blinded[at];
    assert_eq!(path.introduction_node, world.id(*nodes.last().expect("a node")));
    let fee = u64::from(path.fee_base_msat) + amount * u64::from(path.fee_proportional_millionths) / 1_000_000;
    let mut before = query.clone();
    before.final_cltv_delta += u32::from(path.cltv_expiry_delta.blocks());
    let mut route = over(world, nodes, channels, (amount + fee - less, &before, 0));
    route.blinded_tail = Some(BlindedTail {
        first_path_key: path.first_path_key,
        hops: path.hops.clone(),
        amount: Msat::new(amount),
        cltv_delta: query.final_cltv_delta,
        is_entered: false,
    });
    route
}

/// The place of the path that a node introduces.
fn introduced_by(query: &RouteQuery, node: NodeId) -> usize {
    query.blinded.iter().position(|path| path.introduction_node == node).expect("a path of this node")
}

fn over_peer(world: &World, middle: usize, ways: &[[ChannelId; 2]; 2], query: &RouteQuery, amount: u64) -> Route {
    let at = introduced_by(query, world.id(middle));
    into(world, &[0, middle], &ways[middle - 1][..1], (amount, query, at, 0))
}

fn received(world: &World, who: usize, hash: crate::units::PaymentHash) -> Option<Msat> {
    let events = &world.members[who];
    events.events.iter().find_map(|event| match &event.kind {
        EventKind::InvoiceSettled { payment_hash, amount, .. } if *payment_hash == hash => Some(*amount),
        _ => None,
    })
}

#[test]
fn an_invoice_that_hides_its_payee_is_paid_along_its_path() {
    let (mut world, channels) = line(4);
    let bill = blinded(&mut world, 3, AMOUNT);
    let request = read(&bill);
    assert_ne!(request.payee, world.id(3), "signed by nobody's key");
    assert_eq!((request.payment_secret, request.blinded_paths.len()), (None, 1));
    assert!(!bill.payment_request.contains(&world.id(3).to_string()));
    let sent = start(&mut world, pay(&bill));
    let query = answer(&mut world, |world, query| {
        Ok(vec![into(world, &[0, 1, 2], &channels[..2], (query.amount.msat(), query, 0, 0))])
    });
    assert_eq!((query.blinded.len(), query.hints.len()), (1, 0));
    assert!(query.final_cltv_delta < 10, "the path counts the payee's blocks");
    assert_eq!(query.final_payload_length, request.blinded_paths[0].payload_length());
    let paid = last(&world, sent);
    assert!(paid.status.is_success(), "{paid:?}");
    assert_eq!(paid.payment_request(), Some(bill.payment_request.as_str()));
    let got = received(&world, 3, bill.payment_hash).expect("settled");
    assert!((AMOUNT..AMOUNT + 10).contains(&got.msat()), "{got}");
    let own = start(&mut world, pay(&bill));
    assert!(matches!(world.members[0].replies[&own].last(), Some(Err(Refusal::AlreadyPaid))));
}

#[test]
fn parts_go_along_several_paths() {
    let (mut world, ways) = diamond();
    let bill = blinded(&mut world, 3, 600_000_000);
    assert_eq!(read(&bill).blinded_paths.len(), 2);
    let sent = start(&mut world, pay(&bill));
    answer(&mut world, |world, query| {
        Ok([1, 2].map(|middle| over_peer(world, middle, &ways, query, 300_000_000)).to_vec())
    });
    let paid = last(&world, sent);
    assert!(paid.status.is_success(), "{paid:?}");
    assert_eq!(paid.attempts.len(), 2);
    assert!(received(&world, 3, bill.payment_hash).expect("settled") >= Msat::new(600_000_000));
}

#[test]
fn what_fails_inside_a_path_is_held_against_the_path_alone() {
    let (mut world, ways) = diamond();
    let bill = blinded(&mut world, 3, AMOUNT);
    world.cut(1, 3);
    let sent = start(&mut world, pay(&bill));
    let first = answer(&mut world, |world, query| Ok(vec![over_peer(world, 1, &ways, query, AMOUNT)]));
    let next = answer(&mut world, |world, query| Ok(vec![over_peer(world, 2, &ways, query, AMOUNT)]));
    let failed = introduced_by(&first, world.id(1)) as u32;
    assert_eq!(next.exclusions, [Exclusion::BlindedPath(failed)], "no node and no channel");
    let paid = last(&world, sent);
    assert!(paid.status.is_success(), "{paid:?}");
    let code = AttemptFailure::Remote { hop: 0, code: INVALID_ONION_BLINDING };
    assert_eq!(paid.attempts[0].failure(), Some(code));
}

#[test]
fn where_all_paths_failed_the_payment_did() {
    let (mut world, ways) = diamond();
    let bill = blinded(&mut world, 3, AMOUNT);
    let payment_hash = bill.payment_hash;
    world.ask(3, Command::CancelInvoice { payment_hash }).expect("cancelled");
    let sent = start(&mut world, pay(&bill));
    for middle in [1, 2] {
        answer(&mut world, |world, query| Ok(vec![over_peer(world, middle, &ways, query, AMOUNT)]));
    }
    assert!(world.searches.is_empty(), "there is nothing to be searched");
    assert_eq!(reason(&last(&world, sent)), FailureReason::Remote { code: INVALID_ONION_BLINDING });
}

#[test]
fn the_introduction_point_itself_pays_without_a_search() {
    let (mut world, _) = line(2);
    for amount in [1_000, AMOUNT, 400_000_000] {
        let bill = blinded(&mut world, 1, amount);
        assert_eq!(read(&bill).blinded_paths[0].path.first_node_id, world.id(0));
        let sent = start(&mut world, pay(&bill));
        assert!(world.searches.is_empty());
        let paid = last(&world, sent);
        assert!(paid.status.is_success(), "{paid:?}");
        assert!(paid.fee() <= Msat::new(2), "nobody is between: {}", paid.fee());
        assert!(received(&world, 1, bill.payment_hash).expect("settled") >= Msat::new(amount));
    }
    let bill = blinded(&mut world, 1, AMOUNT);
    let payment_hash = bill.payment_hash;
    world.ask(1, Command::CancelInvoice { payment_hash }).expect("cancelled");
    let sent = start(&mut world, pay(&bill));
    assert_eq!(reason(&last(&world, sent)), FailureReason::Remote { code: INVALID_ONION_BLINDING });
    assert!(world.searches.is_empty());
}

#[test]
fn a_path_is_used_on_its_own_terms_only() {
    let (mut world, channels) = line(3);
    let bill = blinded(&mut world, 2, AMOUNT);
    type Spoil = fn(&mut Route);
    let spoils: [Spoil; 5] = [
        |route| route.hops[0].amount = Msat::new(route.hops[0].amount.msat() - 1),
        |route| route.hops[0].cltv_delta -= 1,
        |route| route.blinded_tail.as_mut().expect("a tail").hops.truncate(1),
        |route| route.blinded_tail.as_mut().expect("a tail").is_entered = true,
        |route| route.blinded_tail = None,
    ];
    for spoil in spoils {
        let sent = start(&mut world, pay(&bill));
        answer(&mut world, |world, query| {
            let mut route = into(world, &[0, 1], &channels[..1], (AMOUNT, query, 0, 0));
            spoil(&mut route);
            Ok(vec![route])
        });
        let failed = last(&world, sent);
        assert_eq!((reason(&failed), failed.attempts.len()), (FailureReason::NoRoute, 0));
    }
}

#[test]
fn nobody_hides_behind_nobody_or_pays_himself() {
    let (mut world, _) = line(2);
    let bill = blinded(&mut world, 0, AMOUNT);
    let send = Command::SendPayment(pay(&bill));
    assert!(matches!(world.ask(0, send), Err(Refusal::SelfPayment)));
    world.cut(0, 1);
    let create = CreateInvoice { blinded: true, ..create() };
    assert!(matches!(world.ask(0, Command::CreateInvoice(create)), Err(Refusal::ChannelNotUsable { .. })));
}

#[test]
fn crashes_of_the_payer_at_every_flush() {
    for crash in [Crash::BeforeFlush, Crash::AfterFlush] {
        for turn in 1..8 {
            let (mut world, _) = line(2);
            let bill = blinded(&mut world, 1, AMOUNT);
            world.members[0].crash_at = Some((world.members[0].turns + turn, crash));
            start_anyhow(&mut world, pay(&bill));
            world.members[0].crash_at = None;
            world.disconnect();
            world.connect();
            let got = received(&world, 1, bill.payment_hash).map_or(0, Msat::msat);
            let payments = &world.members[0].node.state().payments;
            assert!(payments.is_empty(), "{crash:?} {turn}: it is decided");
            assert!(got == 0 || got >= AMOUNT);
        }
    }
}

/// Sends, whoever hears of the answer.
fn start_anyhow(world: &mut World, send: SendPayment) {
    world.start(0, None, Command::SendPayment(send));
    world.run();
}
