//! Claims that blocks have no room for: bumped, forgotten, without coins, outbid.

use bitcoin::{Amount, TxOut};
use channeld::onchain::{Feerates, HtlcOutcome, Input};
use channeld::transactions::CommitmentFormat::Anchors;
use channeld::units::FeeratePerKw;

use super::{FORMATS, Plan, Scene, add, preimage};
use crate::contract::{BOTH, Side};
use crate::ground::wallet_script;

pub const fn feerates(urgent: u32) -> Feerates {
    Feerates {
        urgent: FeeratePerKw::new(urgent),
        normal: FeeratePerKw::new(urgent / 2),
        relaxed: FeeratePerKw::new(urgent / 4),
    }
}

/// Every claim that is out pays less than it takes; the child of a commitment is not among them any more.
fn check_budgets(scene: &Scene) -> u64 {
    let mut fees = 0;
    for party in &scene.parties {
        for claim in party.resolver.claims() {
            let held = claim.outpoints.iter().filter_map(|outpoint| scene.ground.world.coin(outpoint));
            let worth: Amount = held.map(|output| output.value).sum();
            assert!(claim.fee <= worth, "{:?} pays {} for {worth}", party.side, claim.fee);
            fees += claim.fee.to_sat();
        }
    }
    fees
}

#[test]
fn claims_follow_a_fee_spike_within_their_budget() {
    for (format, closer) in FORMATS.into_iter().flat_map(|format| BOTH.map(|closer| (format, closer))) {
        let htlcs =
            |height| vec![add(Side::Alice, 0, 30_000, 10, height + 30), add(Side::Bob, 0, 40_000, 20, height + 30)];
        let mut scene = Scene::new(|height| Plan::new(format, 600_000, htlcs(height)).known(&[20], &[10]));
        scene.close(closer);
        let first = check_budgets(&scene);
        for block in 1..28 {
            for side in BOTH {
                scene.party(side).feerates = feerates(2_000 * (1 + block / 3));
                scene.give(side, Input::FeerateUpdated);
            }
            scene.mine_empty(1);
            check_budgets(&scene);
        }
        let last = check_budgets(&scene);
        assert!(last > first * 4, "{first} sat grew to {last} only");
        scene.settle();
        scene.check(closer, |htlc| htlc.by.other());
    }
}

/// Near the deadline and under a spike a claim asks for more than it brings: then it pays what it brings, not nothing.
#[test]
fn a_small_htlc_is_claimed_however_dear_blocks_are() {
    for closer in BOTH {
        let htlcs = |height| vec![add(Side::Bob, 0, 6_000, 20, height + 8)];
        let mut scene = Scene::new(|height| Plan::new(Anchors, 600_000, htlcs(height)).known(&[20], &[]));
        BOTH.into_iter().for_each(|side| scene.party(side).feerates = feerates(20_000));
        scene.close(closer);
        check_budgets(&scene);
        scene.settle();
        scene.check(closer, |htlc| htlc.by.other());
    }
}

/// What an HTLC holds is all that its rescue may cost, whatever else the commitment pays us.
#[test]
fn a_child_pays_for_its_htlc_no_more_than_that_holds() {
    let htlcs = |height: u32| vec![add(Side::Alice, 0, 3_000, 10, height - 10)];
    let mut scene = Scene::new(|height| Plan::new(Anchors, 600_000, htlcs(height)));
    scene.give(Side::Alice, Input::ForceClose);
    for _ in 0..20 {
        let child = scene.parties[0].resolver.claims().next().expect("the child is out");
        assert!(child.fee <= Amount::from_sat(3_000), "{} for an HTLC of 3,000 sat", child.fee);
        scene.mine_empty(1);
    }
    scene.settle();
    scene.check(Side::Alice, |_| Side::Alice);
}

#[test]
fn what_the_mempool_forgets_is_said_again() {
    for (format, closer) in FORMATS.into_iter().flat_map(|format| BOTH.map(|closer| (format, closer))) {
        let htlcs =
            |height| vec![add(Side::Alice, 0, 30_000, 10, height + 60), add(Side::Bob, 0, 40_000, 20, height + 60)];
        let mut scene = Scene::new(|height| Plan::new(format, 600_000, htlcs(height)).known(&[20], &[10]));
        scene.give(closer, Input::ForceClose);
        for _ in 0..4 {
            scene.ground.forget();
            scene.mine_empty(1);
            assert!(scene.pooled_spender(&scene.contract.funding.outpoint()).is_some(), "the commitment");
        }
        scene.mine(1);
        assert!(scene.is_closed());
        for _ in 0..4 {
            scene.ground.forget();
            scene.mine_empty(1);
            for htlc in scene.current[0].htlcs.clone() {
                assert!(scene.pooled_spender(&scene.htlc_output(closer, &htlc)).is_some(), "the claim of {htlc:?}");
            }
        }
        scene.settle();
        scene.check(closer, |htlc| htlc.by.other());
    }
}

/// Without coins HTLC transactions of an anchor channel wait; with the first coin they go out, in time.
#[test]
fn anchors_wait_for_the_wallets_coins() {
    let htlcs = |height| vec![add(Side::Alice, 0, 30_000, 10, height + 6), add(Side::Bob, 0, 40_000, 20, height + 30)];
    let mut scene =
        Scene::new(|height| Plan { coins: 0, ..Plan::new(Anchors, 600_000, htlcs(height)).known(&[20], &[]) });
    scene.close(Side::Alice);
    scene.mine(12);
    assert!(scene.parties[0].funded > 12, "it asks again at every block");
    for htlc in scene.current[0].htlcs.clone() {
        assert!(scene.ground.world.coin(&scene.htlc_output(Side::Alice, &htlc)).is_some(), "{htlc:?} waits");
    }
    let script_pubkey = wallet_script(Some((Side::Alice, 1)));
    let value = Amount::from_sat(60_000);
    let coins =
        scene.ground.give(vec![TxOut { value, script_pubkey: script_pubkey.clone() }, TxOut { value, script_pubkey }]);
    let txid = coins.compute_txid();
    scene.party(Side::Alice).coins = (0..2).map(|vout| bitcoin::OutPoint { txid, vout }).collect();
    scene.before[0] = 120_000;
    scene.follow();
    scene.settle();
    scene.check(Side::Alice, |_| Side::Alice);
}

/// HTLC-timeouts of one expiry share a transaction; the peer takes one of them by its preimage, and the rest goes alone.
#[test]
fn the_peers_spend_does_not_pin_what_was_joined_with_it() {
    let htlcs = |height| vec![add(Side::Alice, 0, 30_000, 10, height + 4), add(Side::Alice, 1, 31_000, 11, height + 4)];
    let mut scene = Scene::new(|height| Plan::new(Anchors, 600_000, htlcs(height)).known(&[], &[10]));
    scene.party(Side::Bob).is_awake = false;
    scene.close(Side::Alice);
    scene.mine(3);
    scene.mine_empty(1);
    let [first, second] = [0, 1].map(|at| scene.current[0].htlcs[at]);
    let outputs = [first, second].map(|htlc| scene.htlc_output(Side::Alice, &htlc));
    let joined = scene.pooled_spender(&outputs[0]).expect("the timeout is out");
    assert_eq!(scene.pooled_spender(&outputs[1]).map(|it| it.compute_txid()), Some(joined.compute_txid()));
    // Bob's claim finds its way to a miner.
    scene.ground.forget();
    scene.party(Side::Bob).is_awake = true;
    scene.parties[1].follow(&mut scene.ground);
    let theirs = scene.pooled_spender(&outputs[0]).expect("Bob's claim");
    scene.mine_these(&[theirs]);
    assert_eq!(scene.told(Side::Alice, &first), Some(HtlcOutcome::Fulfilled(preimage(10))), "learned on the chain");
    let alone = scene.pooled_spender(&outputs[1]).expect("what is left is claimed anew");
    assert!(alone.input.iter().all(|input| input.previous_output != outputs[0]));
    scene.settle();
    assert_eq!(scene.told(Side::Alice, &second), Some(HtlcOutcome::Failed));
    scene.check(Side::Alice, |htlc| if htlc.id == 0 { Side::Bob } else { Side::Alice });
}
