//! What the other side does, or does not do.

use channeld::onchain::{CloseKind, HtlcOutcome, Input};

use super::{FORMATS, Plan, Scene, add, preimage};
use crate::contract::{Add, BOTH, Side};

fn both_ways(height: u32, expiry: u32) -> Vec<Add> {
    vec![
        add(Side::Alice, 0, 30_000, 10, height + expiry),
        add(Side::Alice, 1, 31_000, 11, height + expiry),
        add(Side::Bob, 0, 40_000, 20, height + expiry),
        add(Side::Bob, 1, 41_000, 21, height + expiry),
    ]
}

/// A peer that never says or does anything again costs time only.
#[test]
fn who_is_alone_gets_all_that_is_its_own() {
    for (format, closer) in FORMATS.into_iter().flat_map(|format| BOTH.map(|closer| (format, closer))) {
        let plan = |height| Plan::new(format, 600_000, both_ways(height, 20)).known(&[20], &[10]);
        let mut scene = Scene::new(plan);
        scene.party(closer.other()).is_awake = false;
        scene.close(closer);
        scene.settle();
        // When it comes back it finds what nobody could take.
        scene.party(closer.other()).is_awake = true;
        scene.follow();
        scene.settle();
        let is_known = |htlc: &Add| htlc.seed.is_multiple_of(10);
        // Its own HTLC that the other knew has long been timed out; the other's were taken in time.
        let books = scene.check(closer, |htlc| if htlc.by != closer && is_known(htlc) { closer } else { htlc.by });
        assert!(books.left.len() <= 2);
        for htlc in scene.current[0].htlcs.clone() {
            let end = scene.told(htlc.by, &htlc).expect("it ended");
            let shown = htlc.by != closer && is_known(&htlc);
            assert_eq!(end == HtlcOutcome::Fulfilled(htlc.preimage()), shown, "{htlc:?}: {end:?}");
        }
    }
}

/// A peer takes all that it can in one transaction, and each preimage in it is learned at its first confirmation.
#[test]
fn preimages_are_learned_from_claims_that_were_joined() {
    for format in FORMATS {
        let htlcs =
            |height| vec![add(Side::Alice, 0, 30_000, 10, height + 60), add(Side::Alice, 1, 31_000, 11, height + 70)];
        let mut scene = Scene::new(|height| Plan::new(format, 600_000, htlcs(height)).known(&[], &[10, 11]));
        scene.close(Side::Alice);
        let outputs = [0, 1].map(|at| scene.htlc_output(Side::Alice, &scene.current[0].htlcs[at]));
        let joined = outputs.map(|output| scene.pooled_spender(&output).expect("a claim").compute_txid());
        assert_eq!(joined[0], joined[1], "nothing presses: one transaction");
        scene.mine(1);
        for at in [0, 1] {
            let htlc = scene.current[0].htlcs[at];
            assert_eq!(scene.told(Side::Alice, &htlc), Some(HtlcOutcome::Fulfilled(preimage(10 + at as u8))));
        }
        scene.settle();
        scene.check(Side::Alice, |_| Side::Bob);
    }
}

/// Both have closed; whose commitment a miner takes decides, and the other's child gives its coins back.
#[test]
fn the_peers_commitment_confirms_while_ours_waits() {
    for (format, winner) in FORMATS.into_iter().flat_map(|format| BOTH.map(|winner| (format, winner))) {
        let plan = |height| Plan::new(format, 600_000, both_ways(height, 12)).known(&[20], &[10]);
        let mut scene = Scene::new(plan);
        let loser = winner.other();
        scene.give(loser, Input::ForceClose);
        let waiting = scene.ground.world.waiting();
        assert_eq!(waiting, if format.has_anchors() { 2 } else { 1 });
        scene.give(winner, Input::ForceClose);
        let theirs = scene.contract.signed(winner, &scene.current[winner as usize]);
        scene.mine_these(&[theirs]);
        assert_eq!(scene.parties[loser as usize].kind(), Some(CloseKind::Remote));
        assert_eq!(scene.parties[loser as usize].abandoned, usize::from(format.has_anchors()));
        scene.settle();
        let is_known = |htlc: &Add| htlc.seed.is_multiple_of(10);
        scene.check(winner, |htlc| if is_known(htlc) { htlc.by.other() } else { htlc.by });
    }
}

/// A reorganisation takes one side's commitment and all claims back; on the other branch it is the other side's.
#[test]
fn another_commitment_confirms_on_another_branch() {
    for (format, first) in FORMATS.into_iter().flat_map(|format| BOTH.map(|first| (format, first))) {
        let plan = |height| Plan::new(format, 600_000, both_ways(height, 12)).known(&[20], &[10]);
        let mut scene = Scene::new(plan);
        scene.close(first);
        scene.mine(3);
        scene.ground.unwind(4);
        scene.ground.forget();
        let second = first.other();
        let theirs = scene.contract.signed(second, &scene.current[second as usize]);
        scene.mine_these(&[theirs]);
        assert_eq!(scene.parties[second as usize].kind(), Some(CloseKind::Local));
        assert_eq!(scene.parties[first as usize].kinds, [CloseKind::Local, CloseKind::Remote]);
        scene.settle();
        let is_known = |htlc: &Add| htlc.seed.is_multiple_of(10);
        scene.check(second, |htlc| if is_known(htlc) { htlc.by.other() } else { htlc.by });
        for party in &scene.parties {
            assert_eq!(party.buried.len(), 1, "the end is said once");
        }
    }
}

/// A mutual close that was signed and not seen when a commitment went out: either may confirm.
#[test]
fn a_mutual_close_beats_a_commitment() {
    for format in FORMATS {
        let mut scene = Scene::new(|_| Plan::new(format, 600_000, Vec::new()));
        scene.give(Side::Alice, Input::ForceClose);
        let closing = scene.contract.mutual_close(600_000, 500);
        scene.mine_these(std::slice::from_ref(&closing));
        for side in BOTH {
            assert_eq!(scene.parties[side as usize].kind(), Some(CloseKind::Mutual));
        }
        scene.mine(4);
        assert!(scene.parties.iter().all(|party| !party.resolver.is_resolved()), "five confirmations");
        scene.mine(1);
        assert!(scene.parties.iter().all(|party| party.resolver.is_resolved()), "six confirmations");
        scene.books(Side::Alice).check(&scene.contract, scene.before, [599_500, 400_000]);
    }
}
