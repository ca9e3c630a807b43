//! Payments in parts, payments without invoice, and payments that are held.

use super::route::{Leg, Proof, answer, line_route, preimage, send};
use super::world::World;
use crate::node::command::{CloseChannel, Command, CreateInvoice, PaymentTarget, Query, SendPayment};
use crate::node::event::EventKind;
use crate::node::refusal::Refusal;
use crate::node::reply::Reply;
use crate::payment::hold::HOLD_MARGIN;
use crate::payment::receive::{Invoice, InvoiceStatus};
use crate::units::{ChannelId, CltvDelta, Msat, PaymentHash};

/// The amount of each test's invoice.
const WHOLE: u64 = 30_000_000;

fn create(world: &mut World, who: usize, hash: Option<PaymentHash>) -> Invoice {
    let create = CreateInvoice {
        amount: Some(Msat::new(WHOLE)),
        description: "coffee".to_owned(),
        expiry_seconds: 3_600,
        preimage: None,
        payment_hash: hash,
        min_final_cltv_expiry_delta: None,
        blinded: false,
    };
    match world.ask(who, Command::CreateInvoice(create)) {
        Ok(Reply::Invoice(invoice)) => *invoice,
        other => panic!("{other:?}"),
    }
}

/// A line of three whose last node wants to be paid, and the route for a part of it.
fn with_invoice(hash: Option<PaymentHash>) -> (World, Vec<ChannelId>, Invoice) {
    let (mut world, channels) = World::line(3, 1_000_000);
    let invoice = create(&mut world, 2, hash);
    (world, channels, invoice)
}

fn part(world: &World, channels: &[ChannelId], amount: u64, more_blocks: u16) -> Vec<Leg> {
    let mut legs = line_route(world, channels, amount);
    legs.iter_mut().for_each(|leg| leg.expiry += u32::from(more_blocks));
    legs
}

fn local(world: &mut World, who: usize, id: ChannelId) -> u64 {
    world.channel(who, id).expect("a channel").local.msat()
}

fn outcome(world: &World) -> Option<bool> {
    answer(world).map(|answer| answer.is_ok())
}

fn status(world: &World, invoice: &Invoice) -> Option<InvoiceStatus> {
    world.members[2].node.state().invoices.get(&invoice.payment_hash).map(|invoice| invoice.status)
}

fn waiting(world: &World) -> usize {
    let state = world.members[2].node.state();
    state.channels.values().filter_map(|entry| entry.channel.commitments()).map(|it| it.incoming.len()).sum()
}

#[test]
fn parts_are_claimed_together_also_after_a_restart() {
    let (mut world, channels, invoice) = with_invoice(None);
    let proof = Proof::of(&invoice);
    let legs = part(&world, &channels, WHOLE / 3, 30);
    send(&mut world, &legs, &proof, 50);
    world.run();
    send(&mut world, &legs, &proof, 51);
    world.run();
    assert_eq!((waiting(&world), local(&mut world, 2, channels[1])), (2, 500_000_000), "nothing is claimed yet");
    world.crash(2);
    world.connect();
    send(&mut world, &legs, &proof, 52);
    world.run();
    assert_eq!((waiting(&world), local(&mut world, 2, channels[1])), (0, 500_000_000 + WHOLE));
    assert!(
        world.has_event(2, |kind| matches!(kind, EventKind::InvoiceSettled { amount, .. } if amount.msat() == WHOLE))
    );
    assert!(status(&world, &invoice).is_none());
}

#[test]
fn parts_without_the_rest_go_back_after_a_minute() {
    let (mut world, channels, invoice) = with_invoice(None);
    let legs = part(&world, &channels, WHOLE / 3, 30);
    send(&mut world, &legs, &Proof::of(&invoice), 50);
    world.run();
    world.tick(2, 59);
    assert_eq!(waiting(&world), 1);
    world.tick(2, 2);
    assert_eq!((waiting(&world), outcome(&world)), (0, Some(false)));
    assert_eq!(status(&world, &invoice), Some(InvoiceStatus::Open), "it can be paid still");
}

#[test]
fn parts_go_back_before_their_deadline() {
    let (mut world, channels, invoice) = with_invoice(None);
    let legs = part(&world, &channels, WHOLE / 3, 10);
    send(&mut world, &legs, &Proof::of(&invoice), 50);
    world.run();
    assert_eq!(waiting(&world), 1);
    world.mine(14);
    assert_eq!((waiting(&world), outcome(&world)), (0, Some(false)));
}

#[test]
fn parts_must_agree_and_may_not_be_too_much() {
    let (mut world, channels, invoice) = with_invoice(None);
    let Proof::Invoice { hash, secret, total } = Proof::of(&invoice) else { panic!("of an invoice") };
    let legs = part(&world, &channels, WHOLE / 3, 30);
    send(&mut world, &legs, &Proof::Invoice { hash, secret, total }, 50);
    world.run();
    // Another total: this part goes back, the other waits on.
    send(&mut world, &legs, &Proof::Invoice { hash, secret, total: total + 1 }, 51);
    world.run();
    assert_eq!(waiting(&world), 1);
    // All parts together come to more than twice the total: nobody meant that.
    let large = part(&world, &channels, 2 * WHOLE, 30);
    send(&mut world, &large, &Proof::Invoice { hash, secret, total }, 52);
    world.run();
    assert_eq!((waiting(&world), local(&mut world, 2, channels[1])), (0, 500_000_000));
    let exact = part(&world, &channels, WHOLE, 30);
    send(&mut world, &exact, &Proof::Invoice { hash, secret, total }, 53);
    world.run();
    assert_eq!(local(&mut world, 2, channels[1]), 500_000_000 + WHOLE);
}

#[test]
fn a_cancelled_invoice_gives_its_parts_back_at_once() {
    let (mut world, channels, invoice) = with_invoice(None);
    let legs = part(&world, &channels, WHOLE / 3, 30);
    send(&mut world, &legs, &Proof::of(&invoice), 50);
    world.run();
    world.ask(2, Command::CancelInvoice { payment_hash: invoice.payment_hash }).expect("cancelled");
    assert_eq!((waiting(&world), outcome(&world)), (0, Some(false)));
}

/// A held payment: its world, its channels and its invoice.
fn held() -> (World, Vec<ChannelId>, Invoice) {
    let (mut world, channels, invoice) = with_invoice(Some(preimage(7).payment_hash()));
    assert_eq!((invoice.preimage, invoice.min_final_cltv_expiry_delta), (None, CltvDelta::new(144)));
    let legs = part(&world, &channels, WHOLE, 124);
    send(&mut world, &legs, &Proof::of(&invoice), 50);
    world.run();
    let Some(InvoiceStatus::Accepted { received, deadline_height, .. }) = status(&world, &invoice) else {
        panic!("held: {:?}", status(&world, &invoice));
    };
    assert_eq!(received.msat(), WHOLE);
    assert_eq!(deadline_height.height(), legs[1].expiry - HOLD_MARGIN);
    (world, channels, invoice)
}

#[test]
fn a_held_payment_is_settled_also_after_a_restart() {
    let (mut world, channels, invoice) = held();
    world.tick(2, 4_000);
    assert_eq!(waiting(&world), 1, "neither the minute of the parts nor the invoice's expiry counts any more");
    world.mine(30);
    world.crash(2);
    world.connect();
    let accepted = |kind: &EventKind| matches!(kind, EventKind::InvoiceAccepted { .. });
    assert_eq!(world.members[2].events.iter().filter(|event| accepted(&event.kind)).count(), 1, "told once");
    let wrong = world.ask(2, Command::SettleInvoice { preimage: preimage(8) });
    assert_eq!(wrong, Err(Refusal::InvoiceNotFound));
    let settled = world.ask(2, Command::SettleInvoice { preimage: preimage(7) });
    assert!(matches!(settled, Ok(Reply::Invoice(invoice)) if invoice.preimage == Some(preimage(7))));
    assert_eq!(local(&mut world, 2, channels[1]), 500_000_000 + WHOLE);
    assert_eq!(answer(&world), Some(Ok(preimage(7))));
    assert_eq!(world.ask(2, Command::SettleInvoice { preimage: preimage(7) }), Err(Refusal::InvoiceNotFound));
    assert_eq!(world.query(2, Query::Invoice(invoice.payment_hash)), Err(Refusal::InvoiceNotFound));
}

#[test]
fn a_held_payment_goes_back_when_it_is_cancelled_or_late() {
    let (mut world, channels, invoice) = held();
    world.ask(2, Command::CancelInvoice { payment_hash: invoice.payment_hash }).expect("cancelled");
    assert_eq!((waiting(&world), outcome(&world)), (0, Some(false)));

    let (mut world, _, invoice) = held();
    let Some(InvoiceStatus::Accepted { deadline_height, .. }) = status(&world, &invoice) else { panic!("held") };
    let left = deadline_height.height() - world.members[2].node.state().height().height();
    world.mine(left - 1);
    assert_eq!(waiting(&world), 1);
    world.mine(1);
    assert_eq!((waiting(&world), outcome(&world)), (0, Some(false)));
    assert_eq!(world.ask(2, Command::SettleInvoice { preimage: preimage(7) }), Err(Refusal::InvoiceNotFound));
    assert!(world.has_event(2, |kind| matches!(kind, EventKind::InvoiceCancelled { .. })));
    let failed = |kind: &EventKind| matches!(kind, EventKind::ChannelFailed { .. });
    assert!((0..3).all(|who| !world.has_event(who, failed)), "no channel is closed for it");
    let _ = channels;
}

#[test]
fn a_held_payment_is_taken_on_the_chain_where_its_channel_went_there() {
    let (mut world, channels, _) = held();
    let close = CloseChannel { channel: channels[1], force: true, address: None, feerate: None, validate_only: false };
    world.ask(1, Command::CloseChannel(close)).expect("closes");
    world.mine(2);
    world.ask(2, Command::SettleInvoice { preimage: preimage(7) }).expect("settled");
    world.mine(3);
    assert_eq!(outcome(&world), Some(true), "the preimage was seen on the chain and shown upstream");
    let _ = local(&mut world, 0, channels[0]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let (mut world, _, invoice) = with_invoice(None);
    let shown = invoice.preimage.expect("its own");
    assert_eq!(world.ask(2, Command::SettleInvoice { preimage: shown }), Err(Refusal::InvoiceNotAccepted));
    let both = CreateInvoice {
        amount: None,
        description: String::new(),
        expiry_seconds: 60,
        preimage: Some(preimage(1)),
        payment_hash: Some(preimage(1).payment_hash()),
        min_final_cltv_expiry_delta: None,
        blinded: false,
    };
    assert!(matches!(world.ask(2, Command::CreateInvoice(both)), Err(Refusal::InvalidArgument { .. })));
}

/// A close is undone after a held payment was taken on the chain: it is booked and its preimage is known to all, so it is
/// taken on the channel too, or on the chain once more.
#[test]
fn what_was_taken_on_a_chain_that_is_undone_is_taken_again() {
    let (mut world, channel) = World::with_channel(1_000_000, 500_000_000);
    let invoice = create(&mut world, 1, Some(preimage(7).payment_hash()));
    let send = SendPayment::new(PaymentTarget::Invoice(invoice.payment_request.clone()), None);
    world.start(0, None, Command::SendPayment(send));
    world.run();
    // The payee hears of the close from the chain alone: for it the channel goes on when that is undone.
    world.cut(0, 1);
    let close = CloseChannel { channel, force: true, address: None, feerate: None, validate_only: false };
    world.ask(0, Command::CloseChannel(close)).expect("closes");
    world.mine(1);
    world.ask(1, Command::SettleInvoice { preimage: preimage(7) }).expect("settled");
    world.mine(1);
    assert!(world.has_event(0, |kind| matches!(kind, EventKind::PaymentSucceeded { .. })), "it was shown on the chain");
    world.unwind(2);
    let entry = &world.members[1].node.state().channels[&channel];
    let htlcs = &entry.channel.commitments().expect("funded").incoming;
    let removal = htlcs.values().next().and_then(|htlc| htlc.removal.clone());
    let phase = entry.channel.funded().map(|funded| &funded.phase);
    assert!(
        removal.is_some_and(|it| it.removal.is_fulfilled()),
        "judged by an invoice that is over: {phase:?} {htlcs:?}"
    );
    // The payer's commitment comes again, and so does the claim.
    world.connect();
    world.mine(200);
    assert!(world.members[1].node.state().channels.is_empty() && world.members[0].node.state().channels.is_empty());
    let won = world.wallet(1).to_sat() - 10_000_000;
    assert!((525_000..=530_000).contains(&won), "{won}");
    let settled = |kind: &EventKind| matches!(kind, EventKind::InvoiceSettled { .. });
    assert_eq!(world.members[1].events.iter().filter(|event| settled(&event.kind)).count(), 1, "booked once");
    assert_eq!(world.members[0].payments.len(), 1, "one outcome");
}
