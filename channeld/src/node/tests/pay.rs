//! Direct payments: invoices, keysend, repetitions and refusals.

use super::world::World;
use crate::node::command::{Command, CreateInvoice, PaymentTarget, Query, RequestKey, SendPayment};
use crate::node::event::EventKind;
use crate::node::refusal::Refusal;
use crate::node::reply::Reply;
use crate::payment::receive::Invoice;
use crate::payment::send::{Payment, PaymentStatus};
use crate::units::{ChannelId, Msat};

pub fn keysend(world: &World, to: usize, msat: u64) -> Command {
    let target = PaymentTarget::Node(world.id(to));
    Command::SendPayment(SendPayment::new(target, Some(Msat::new(msat))))
}

fn invoice(world: &mut World, who: usize, msat: u64) -> Invoice {
    let create = CreateInvoice {
        amount: Some(Msat::new(msat)),
        description: "coffee".to_owned(),
        expiry_seconds: 3_600,
        preimage: None,
        payment_hash: None,
        min_final_cltv_expiry_delta: None,
        blinded: false,
    };
    match world.ask(who, Command::CreateInvoice(create)) {
        Ok(Reply::Invoice(invoice)) => *invoice,
        other => panic!("{other:?}"),
    }
}

fn pay(invoice: &Invoice) -> Command {
    let target = PaymentTarget::Invoice(invoice.payment_request.clone());
    Command::SendPayment(SendPayment::new(target, None))
}

fn status(outcome: Result<Reply, Refusal>) -> PaymentStatus {
    match outcome {
        Ok(Reply::Payment(payment)) => payment.status,
        other => panic!("{other:?}"),
    }
}

pub fn balances(world: &mut World, id: ChannelId) -> [(u64, u64); 2] {
    [0, 1].map(|who| {
        let info = world.channel(who, id).expect("a channel");
        (info.local.msat(), info.remote.msat())
    })
}

#[test]
fn an_invoice_is_paid_once() {
    let (mut world, id) = World::with_channel(1_000_000, 0);
    let invoice = invoice(&mut world, 1, 50_000_000);
    let PaymentStatus::Succeeded { preimage, .. } = status(world.ask(0, pay(&invoice))) else { panic!("paid") };
    assert_eq!(preimage.payment_hash(), invoice.payment_hash);
    assert_eq!(balances(&mut world, id), [(950_000_000, 50_000_000), (50_000_000, 950_000_000)]);
    assert_eq!(world.ask(0, pay(&invoice)), Err(Refusal::AlreadyPaid));
    assert!(world.has_event(1, |kind| matches!(kind, EventKind::InvoiceSettled { .. })));
    assert_eq!(world.query(1, Query::Invoice(invoice.payment_hash)), Err(Refusal::InvoiceNotFound));
    let settled = &world.members[0].payments;
    assert_eq!(settled.iter().map(|payment: &Payment| payment.index).collect::<Vec<_>>(), [1]);
}

#[test]
fn five_flushes_lie_before_the_answer() {
    let (mut world, _) = World::with_channel(1_000_000, 0);
    let before = (world.members[0].turns, world.members[1].turns);
    let command = keysend(&world, 1, 10_000_000);
    assert!(matches!(status(world.ask(0, command)), PaymentStatus::Succeeded { .. }));
    // DESIGN.md, "One payment, row by row": A1 A3 A5 A7 and B2 B4 B6.
    let turns = (world.members[0].turns - before.0, world.members[1].turns - before.1);
    assert!(turns.0 <= 4 + 2 && turns.1 <= 3 + 2, "{turns:?}");
}

#[test]
fn payments_go_both_ways_and_nothing_is_lost() {
    let (mut world, id) = World::with_channel(1_000_000, 400_000_000);
    for round in 1..=20u64 {
        for (from, to) in [(0, 1), (1, 0)] {
            let command = keysend(&world, to, round * 1_000_001);
            assert!(matches!(status(world.ask(from, command)), PaymentStatus::Succeeded { .. }));
        }
    }
    assert_eq!(balances(&mut world, id), [(600_000_000, 400_000_000), (400_000_000, 600_000_000)]);
}

#[test]
fn many_payments_share_a_commitment() {
    let (mut world, id) = World::with_channel(1_000_000, 0);
    let before = world.channel(0, id).expect("a channel").remote_commitment.number();
    for _ in 0..50 {
        let command = keysend(&world, 1, 1_000_000);
        world.start(0, None, command);
    }
    world.run();
    let after = world.channel(0, id).expect("a channel").remote_commitment.number();
    assert_eq!(balances(&mut world, id)[0].0, 950_000_000);
    assert!(after - before < 25, "{} commitments for 50 payments", after - before);
}

#[test]
fn an_unknown_hash_fails_for_certain() {
    let (mut world, id) = World::with_channel(1_000_000, 0);
    let invoice = invoice(&mut world, 1, 5_000_000);
    let cancel = Command::CancelInvoice { payment_hash: invoice.payment_hash };
    assert!(world.ask(1, cancel).is_ok());
    let failed = status(world.ask(0, pay(&invoice)));
    assert!(matches!(
        failed,
        PaymentStatus::Failed { reason: crate::payment::send::FailureReason::UnknownPaymentDetails, .. }
    ));
    assert_eq!(balances(&mut world, id)[0], (1_000_000_000, 0));
}

#[test]
fn a_repetition_is_answered_and_not_done_again() {
    let (mut world, id) = World::with_channel(1_000_000, 0);
    let key = |body: u8| Some(RequestKey { id: "once".to_owned(), body: [body; 32] });
    let command = keysend(&world, 1, 7_000_000);
    let first = world.ask_with(0, key(1), command.clone());
    assert!(matches!(status(first), PaymentStatus::Succeeded { .. }));
    // It has left memory: the driver finds it in the archive.
    assert!(matches!(world.ask_with(0, key(1), command.clone()), Ok(Reply::EndedPayment(_))));
    assert_eq!(world.ask_with(0, key(2), command), Err(Refusal::IdempotencyMismatch));
    assert_eq!(balances(&mut world, id)[1].0, 7_000_000);
}

#[test]
fn what_cannot_be_paid_is_refused_and_changes_nothing() {
    let (mut world, id) = World::with_channel(1_000_000, 0);
    let refused = |outcome: Result<Reply, Refusal>| outcome.expect_err("refused").reason();
    let rows = world.members[0].node.state().rows();
    let command = keysend(&world, 1, 2_000_000_000);
    assert_eq!(refused(world.ask(0, command)), "INSUFFICIENT_BALANCE");
    let command = keysend(&world, 1, 999_000_000);
    assert_eq!(refused(world.ask(0, command)), "INSUFFICIENT_BALANCE");
    let command = keysend(&world, 0, 1);
    assert_eq!(refused(world.ask(0, command)), "SELF_PAYMENT");
    assert_eq!(world.members[0].node.state().rows(), rows);
    world.disconnect();
    let command = keysend(&world, 1, 1_000);
    assert_eq!(refused(world.ask(0, command)), "PEER_OFFLINE");
    assert_eq!(balances(&mut world, id)[0].0, 1_000_000_000);
}

#[test]
fn an_invoice_that_nobody_paid_expires() {
    let (mut world, _) = World::with_channel(1_000_000, 0);
    let invoice = invoice(&mut world, 1, 5_000_000);
    world.tick(1, 3_601);
    assert!(world.has_event(1, |kind| matches!(kind, EventKind::InvoiceExpired { .. })));
    assert_eq!(world.ask(0, pay(&invoice)), Err(Refusal::InvoiceExpired));
}
