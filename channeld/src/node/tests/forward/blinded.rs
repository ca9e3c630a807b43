//! Payments along a blinded path over whole nodes: the first hop of it is all that the payer knows (BOLT 4, "Route Blinding").

use super::super::route::{send_along, session_key};
use super::*;
use crate::node::command::CreateInvoice;
use crate::node::reply::Reply;
use crate::onion::{BlindedLast, BlindedPath, PathEnd, PathRelay, PathTerms, PaymentRelay};
use crate::payment::receive::Invoice;
use crate::units::{CltvDelta, CltvExpiry};

const AMOUNT: u64 = 30_000_000;
/// `invalid_onion_blinding`: all that anybody says of a failure inside of a path.
const INVALID_ONION_BLINDING: u16 = 0xc018;

/// A path of node 3 over nodes 1 and 2, and what it pays.
struct Blinded {
    path: BlindedPath,
    terms: PathTerms,
    invoice: Invoice,
}

fn create(world: &mut World) -> Invoice {
    let create = CreateInvoice {
        amount: Some(Msat::new(AMOUNT)),
        description: String::new(),
        expiry_seconds: 3_600,
        preimage: None,
        payment_hash: None,
        min_final_cltv_expiry_delta: None,
        blinded: false,
    };
    match world.ask(3, Command::CreateInvoice(create)) {
        Ok(Reply::Invoice(invoice)) => *invoice,
        other => panic!("{other:?}"),
    }
}

fn blinded(world: &mut World, channels: &[ChannelId], base: u32) -> Blinded {
    let invoice = create(world);
    let relay =
        PaymentRelay { cltv_expiry_delta: CltvDelta::new(40), fee_proportional_millionths: 100, fee_base_msat: base };
    let relays = [1, 2].map(|who: usize| PathRelay {
        node_id: world.id(who),
        short_channel_id: world.members[who].node.state().channels[&channels[who]].names().last().expect("a name"),
        relay,
        htlc_minimum_msat: Msat::new(1_000_000),
        htlc_maximum_msat: Msat::new(400_000_000),
    });
    let end = PathEnd {
        node_id: world.id(3),
        path_id: invoice.payment_secret.to_vec(),
        min_final_cltv_expiry_delta: invoice.min_final_cltv_expiry_delta,
        last_height: world.ledger.blocks.len() as u32 + 100,
        htlc_minimum_msat: Msat::new(1),
    };
    let (path, terms) = BlindedPath::to_payee(&relays, &end, &session_key(77)).expect("a path");
    Blinded { path, terms, invoice }
}

/// Node 0 pays `amount` along the path, of which it says that it is `total`; what leaves is `less` less than it should be.
fn send_blinded(world: &mut World, first: ChannelId, blinded: &Blinded, (amount, less): (u64, u64), key: u8) -> Leg {
    let height = world.members[0].node.state().height().height();
    let (arrives, said) = (Msat::new(amount), height + 3);
    let fee = blinded.terms.fee(arrives).expect("a fee").msat();
    let expiry = said + u32::from(blinded.terms.cltv_expiry_delta.blocks());
    let last =
        BlindedLast { amt_to_forward: arrives, outgoing_cltv_value: CltvExpiry::new(said), total_amount_msat: arrives };
    let leg = Leg { channel: first, to: 1, amount: amount + fee - less, expiry };
    let hops = blinded.path.onion_hops(last);
    send_along(world, 0, leg, &hops, (blinded.invoice.payment_hash, session_key(key)));
    leg
}

#[test]
fn a_blinded_payment_goes_over_three_nodes_and_each_takes_what_the_payee_said() {
    let (mut world, channels) = line(4);
    let blinded = blinded(&mut world, &channels, 5_000);
    let first = send_blinded(&mut world, channels[0], &blinded, (AMOUNT, 0), 50);
    world.run();
    assert!(is_paid(&world), "{:?}", answer(&world));
    let received = local(&mut world, 3, channels[2]) - 500_000_000;
    let earned: u64 = [1, 2].iter().map(|who| world.members[*who].node.state().head.forwarding_fees.msat()).sum();
    // Rounding on the way is the payee's gain.
    assert_eq!(received + earned, first.amount);
    assert!((AMOUNT..AMOUNT + 100).contains(&received), "{received}");
    assert!((0..4).all(|who| world.members[who].node.state().forwards.is_empty()));
    assert!(world.has_event(3, |kind| matches!(kind, EventKind::InvoiceSettled { .. })));
}

#[test]
fn nobody_on_a_blinded_path_says_what_went_wrong() {
    type Spoil = fn(&mut World, &mut Blinded, &[ChannelId]);
    let spoils: [(&str, Spoil, u64, u64); 5] = [
        (
            "the payee does not know the payment",
            |world, blinded, _| {
                let payment_hash = blinded.invoice.payment_hash;
                world.ask(3, Command::CancelInvoice { payment_hash }).expect("cancelled");
            },
            AMOUNT,
            0,
        ),
        ("the last connection is gone", |world, _, _| world.cut(2, 3), AMOUNT, 0),
        ("the last channel is closed", |world, _, channels| force_close(world, 2, channels[2]), AMOUNT, 0),
        ("less than the path carries", |_, _, _| {}, 10_000, 0),
        ("the first hop gets too little", |_, _, _| {}, AMOUNT, 20_000),
    ];
    for (what, spoil, amount, less) in spoils {
        let (mut world, channels) = line(4);
        let mut blinded = blinded(&mut world, &channels, 5_000);
        spoil(&mut world, &mut blinded, &channels);
        send_blinded(&mut world, channels[0], &blinded, (amount, less), 50);
        world.run();
        assert_eq!(code(&world), INVALID_ONION_BLINDING, "{what}");
        assert!(is_idle(&world), "{what}");
        assert_eq!(local(&mut world, 0, channels[0]), 500_000_000, "{what}");
        assert!((0..4).all(|who| world.members[who].node.state().forwards.is_empty()), "{what}");
    }
}

#[test]
fn crashes_at_every_flush_of_a_blinded_forward() {
    for crash in [Crash::BeforeFlush, Crash::AfterFlush] {
        for (who, turn) in (1..4).flat_map(|who| (1..10).map(move |turn| (who, turn))) {
            let (mut world, channels) = line(4);
            let blinded = blinded(&mut world, &channels, 5_000);
            world.members[who].crash_at = Some((world.members[who].turns + turn, crash));
            let first = send_blinded(&mut world, channels[0], &blinded, (AMOUNT, 0), 50);
            world.run();
            world.members[who].crash_at = None;
            world.disconnect();
            world.connect();
            let at = format!("{crash:?} {who} {turn}");
            let received = local(&mut world, 3, channels[2]) - 500_000_000;
            let spent = 500_000_000 - local(&mut world, 0, channels[0]);
            assert!((0..4).all(|who| world.members[who].node.state().forwards.is_empty()), "{at}");
            assert!(is_idle(&world), "{at}: in flight for ever");
            match received {
                0 => assert_eq!((spent, code(&world)), (0, INVALID_ONION_BLINDING), "{at}"),
                _ => assert_eq!((spent, is_paid(&world)), (first.amount, true), "{at}"),
            }
        }
    }
}
