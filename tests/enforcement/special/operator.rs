//! What the operator is told before a close, and what he asks for after it.

use bitcoin::hashes::Hash;
use bitcoin::{Amount, Txid};
use channeld::onchain::{Input, Outlook, ProspectKind};
use channeld::transactions::CommitmentFormat::Anchors;
use channeld::units::{BlockHeight, FeeratePerKw};

use super::{FORMATS, Plan, Scene, add, preimage};
use crate::contract::{BOTH, Side};
use crate::oracle::Outputs;

/// The plan is made of the same plans as the close; what is not certain is left out, and so is what never comes.
#[test]
fn a_close_costs_and_brings_what_was_planned() {
    for format in FORMATS {
        let htlcs = |height| {
            vec![
                add(Side::Alice, 0, 30_000, 10, height + 20),
                add(Side::Bob, 0, 40_000, 20, height + 60),
                add(Side::Bob, 1, 41_000, 21, height + 60),
            ]
        };
        let mut scene = Scene::new(|height| Plan::new(format, 600_000, htlcs(height)).known(&[20], &[]));
        let tip = scene.height();
        let alice = scene.party(Side::Alice);
        let outlook = Outlook::new(alice.resolver.channel().clone(), &[preimage(20)], tip, &alice.context());
        let of = |kind| {
            let found = outlook.prospects.iter().find(|prospect| prospect.kind == kind);
            *found.unwrap_or_else(|| panic!("{format:?}: no {kind:?} in {outlook:?}"))
        };
        let (own, offered, received) =
            (of(ProspectKind::ToLocal), of(ProspectKind::Offered), of(ProspectKind::Received));
        assert_eq!(outlook.prospects.len(), 3, "Bob's HTLC that nobody can fulfil is not hers");
        let expiry = BlockHeight::new(scene.current[0].htlcs[0].expiry);
        assert_eq!(own.spendable_at, tip.plus(1 + 10));
        assert_eq!((offered.amount, offered.spendable_at), (Amount::from_sat(30_000), expiry.plus(1 + 10)));
        assert_eq!((received.amount, received.spendable_at), (Amount::from_sat(40_000), tip.plus(2 + 10)));
        assert_eq!(received.payment_hash, Some(preimage(20).payment_hash()));
        let promised = Outputs::of(&scene.contract, Side::Alice, &scene.current[0]).balances[0];
        assert_eq!(own.amount.to_sat(), promised);

        scene.close(Side::Alice);
        scene.settle();
        let books = scene.check(Side::Alice, |htlc| if htlc.seed == 20 { Side::Alice } else { htlc.by });
        assert_eq!(outlook.fee.to_sat(), books.paid[0], "{format:?}");
        let planned = outlook.child_fee + own.claim_fee + offered.claim_fee + received.claim_fee;
        let (planned, paid) = (planned.to_sat(), books.fees[0]);
        // Near its deadline a claim pays more than the plan, and claims that go together pay less.
        assert!(paid <= planned * 2 && planned <= paid * 2, "{format:?}: {planned} planned, {paid} paid");
    }
}

#[test]
fn what_the_operator_asks_for_is_paid() {
    for closer in BOTH {
        let htlcs =
            |height| vec![add(Side::Alice, 0, 30_000, 10, height + 60), add(Side::Bob, 0, 40_000, 20, height + 60)];
        let mut scene = Scene::new(|height| Plan::new(Anchors, 600_000, htlcs(height)).known(&[20], &[10]));
        let commitment = scene.contract.commitment(closer, &scene.current[closer as usize]).txid();
        let resolver = |scene: &Scene| scene.parties[closer as usize].resolver.clone();
        assert_eq!(resolver(&scene).bumpable(commitment), None, "nothing is out");
        scene.give(closer, Input::ForceClose);
        // The commitment goes by the name of its child.
        let key = resolver(&scene).bumpable(commitment).expect("it waits");
        let child = resolver(&scene).claim(&key).cloned().expect("it has a child");
        assert_eq!(resolver(&scene).bumpable(child.transaction.compute_txid()), Some(key));
        assert_eq!(resolver(&scene).bumpable(Txid::all_zeros()), None);
        scene.give(closer, Input::Bump { key, feerate: FeeratePerKw::new(5_000) });
        let dearer = resolver(&scene).claim(&key).cloned().expect("a dearer one");
        assert!(dearer.feerate == FeeratePerKw::new(5_000) && dearer.fee > child.fee);
        let waits = |scene: &Scene, txid: Txid| scene.ground.world.pooled().iter().any(|it| it.compute_txid() == txid);
        assert!(waits(&scene, dearer.transaction.compute_txid()) && !waits(&scene, child.transaction.compute_txid()));
        scene.give(closer, Input::Bump { key, feerate: FeeratePerKw::new(4_000) });
        assert_eq!(resolver(&scene).claim(&key), Some(&dearer), "less than that changes nothing");

        scene.mine(1);
        assert!(scene.is_closed());
        assert_eq!(resolver(&scene).bumpable(commitment), None, "what is in a block needs nothing more");
        let claim = resolver(&scene).claims().next().cloned().expect("its HTLC is claimed");
        let key = resolver(&scene).bumpable(claim.transaction.compute_txid()).expect("it waits");
        scene.give(closer, Input::Bump { key, feerate: FeeratePerKw::new(9_000) });
        let dearer = resolver(&scene).claim(&key).cloned().expect("a dearer one");
        assert!(dearer.feerate == FeeratePerKw::new(9_000) && dearer.fee > claim.fee);
        assert!(waits(&scene, dearer.transaction.compute_txid()) && !waits(&scene, claim.transaction.compute_txid()));
        scene.settle();
        scene.check(closer, |htlc| htlc.by.other());
    }
}
