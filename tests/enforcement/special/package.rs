//! Our commitment and its child as one package: below what is relayed, stuck, and against the peer's. All of ours are of
//! version 2, so the rules of BIP 431 (TRUC) ask nothing of them; what replaces others is one parent with one child.

use bitcoin::{Amount, Transaction, TxOut};
use channeld::onchain::{CloseKind, Input};
use channeld::transactions::CommitmentFormat::Anchors;

use super::fees::feerates;
use super::{Plan, Scene, add};
use crate::contract::{BOTH, Side};
use crate::ground::wallet_script;

/// A channel whose commitments pay so much per kilo weight unit, with an HTLC each way that nobody fulfils.
fn scene(feerate: u32, coins: usize) -> Scene {
    Scene::new(|height| {
        let htlcs = vec![add(Side::Alice, 0, 30_000, 10, height + 40), add(Side::Bob, 0, 40_000, 20, height + 40)];
        let mut plan = Plan { coins, ..Plan::new(Anchors, 600_000, htlcs) };
        plan.current.iter_mut().for_each(|state| state.feerate = feerate);
        plan
    })
}

impl Scene {
    /// What waits and spends the funding output.
    fn pooled_commitment(&self) -> Option<Transaction> {
        self.pooled_spender(&self.contract.funding.outpoint())
    }

    fn pools(&self, side: Side) -> bool {
        let own = self.contract.commitment(side, &self.current[side as usize]).txid();
        self.pooled_commitment().is_some_and(|it| it.compute_txid() == own)
    }

    /// What the child of a side's commitment that waits pays.
    fn child_fee(&self, side: Side) -> Amount {
        let claims: Vec<_> = self.parties[side as usize].resolver.claims().collect();
        let [child] = claims.as_slice() else { panic!("{} claims of {side:?}", claims.len()) };
        let txid = child.transaction.compute_txid();
        assert!(self.ground.world.pooled().iter().any(|it| it.compute_txid() == txid), "{side:?}'s child waits");
        child.fee
    }

    fn force(&mut self, side: Side, urgent: u32) {
        self.party(side).feerates = feerates(urgent);
        self.give(side, Input::ForceClose);
    }
}

/// A commitment that pays less than what is relayed goes with its child or not at all; without a coin for the child it waits.
#[test]
fn a_commitment_below_the_relay_feerate_goes_with_its_child() {
    for closer in BOTH {
        let mut scene = scene(10, 2);
        let alone = scene.contract.signed(closer, &scene.current[closer as usize]);
        let refusal = scene.ground.try_submit(&alone).expect_err("too cheap alone");
        assert!(refusal.contains("min relay fee not met"), "{refusal}");
        // It is tried alone, too.
        scene.ground.may_be_too_cheap = true;
        scene.force(closer, 2_000);
        assert!(scene.pools(closer));
        assert!(scene.child_fee(closer) > Amount::ZERO);
        scene.mine(1);
        assert!(scene.is_closed());
        scene.settle();
        scene.check(closer, |htlc| htlc.by);
    }
}

#[test]
fn a_commitment_below_the_relay_feerate_waits_for_a_coin() {
    let mut scene = scene(10, 0);
    for side in BOTH {
        scene.party(side).feerates = feerates(2_000);
    }
    let commitment = scene.contract.commitment(Side::Alice, &scene.current[0]).txid();
    let funding = scene.contract.funding.outpoint();
    // Refused at every block, and no fault.
    scene.ground.may_be_too_cheap = true;
    scene.give(Side::Alice, Input::ForceClose);
    scene.mine(5);
    assert!(!scene.is_closed() && scene.pooled_commitment().is_none());
    let script_pubkey = wallet_script(Some((Side::Alice, 1)));
    let value = Amount::from_sat(60_000);
    let output = TxOut { value, script_pubkey };
    let coins = scene.ground.give(vec![output.clone(), output]);
    let txid = coins.compute_txid();
    scene.party(Side::Alice).coins = (0..2).map(|vout| bitcoin::OutPoint { txid, vout }).collect();
    scene.before[0] = 120_000;
    scene.follow();
    assert_eq!(scene.pooled_spender(&funding).map(|it| it.compute_txid()), Some(commitment));
    scene.mine(1);
    assert!(scene.is_closed());
    scene.settle();
    scene.check(Side::Alice, |htlc| htlc.by);
}

/// Blocks grow dearer while the commitment waits: each child pays more than the last, and takes its place.
#[test]
fn a_stuck_commitment_is_lifted_by_dearer_children() {
    for closer in BOTH {
        let mut scene = scene(300, 2);
        scene.force(closer, 2_000);
        let mut last = scene.child_fee(closer);
        for urgent in [3_000, 6_000, 12_000, 24_000] {
            scene.mine_empty(1);
            scene.party(closer).feerates = feerates(urgent);
            scene.give(closer, Input::FeerateUpdated);
            let now = scene.child_fee(closer);
            assert!(now > last, "{now} after {last}");
            assert_eq!(scene.ground.world.waiting(), 2, "the commitment and one child");
            last = now;
        }
        scene.mine(1);
        assert!(scene.is_closed());
        scene.settle();
        scene.check(closer, |htlc| htlc.by);
    }
}

/// Both close; whose package pays more waits for the block, however often that changes. A dearer one takes the place of a
/// stuck one of the peer's (package RBF), a cheaper one does not, and is tried again at each block.
#[test]
fn the_dearer_package_takes_the_place_of_the_cheaper() {
    for first in BOTH {
        let second = first.other();
        let mut scene = scene(300, 2);
        scene.force(first, 1_500);
        assert!(scene.pools(first));
        scene.force(second, 1_200);
        assert!(scene.pools(first), "a cheaper one does not");
        scene.party(second).feerates = feerates(12_000);
        scene.give(second, Input::FeerateUpdated);
        assert!(scene.pools(second), "{second:?} pays {} now", scene.child_fee(second));
        assert_eq!(scene.ground.world.waiting(), 2);
        scene.mine_empty(1);
        assert!(scene.pools(second), "said again, the cheaper one is still cheaper");
        scene.party(first).feerates = feerates(50_000);
        scene.give(first, Input::FeerateUpdated);
        assert!(scene.pools(first));
        scene.mine(1);
        assert_eq!(scene.parties[first as usize].kind(), Some(CloseKind::Local));
        assert_eq!(scene.parties[second as usize].kind(), Some(CloseKind::Remote));
        assert_eq!(scene.parties[second as usize].abandoned, 1, "its child's coins are free again");
        scene.settle();
        scene.check(first, |htlc| htlc.by);
    }
}
