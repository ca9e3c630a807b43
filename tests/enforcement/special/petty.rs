//! HTLCs that are worth little more, or less, than their claim: nobody loses by them, and the channel ends all the same.

use channeld::onchain::{HtlcOutcome, Input};
use channeld::transactions::CommitmentFormat::{self, Anchors};

use super::fees::feerates;
use super::{FORMATS, Plan, Scene, add, preimage};
use crate::contract::{Add, BOTH, Side};

/// Both sides take HTLCs from 354 sat on.
fn plan(format: CommitmentFormat, htlcs: Vec<Add>) -> Plan {
    let mut plan = Plan::new(format, 600_000, htlcs);
    plan.terms.dust_limits = [354, 354];
    plan
}

/// Who forwards fails the incoming HTLC when told that its own has failed. While the peer can still show the preimage, that
/// it costs us more than it is worth to take our HTLC back is no such news: 483 of them are worth a theft.
#[test]
fn what_is_not_worth_its_claim_has_not_failed_while_the_peer_may_take_it() {
    for (closer, sat) in [(Side::Alice, 410), (Side::Alice, 500), (Side::Bob, 360), (Side::Bob, 440)] {
        let htlcs = |height| vec![add(Side::Alice, 0, sat, 10, height + 40)];
        let mut scene = Scene::new(|height| plan(Anchors, htlcs(height)));
        let htlc = scene.current[0].htlcs[0];
        scene.close(closer);
        scene.mine(htlc.expiry - scene.ground.height() + 4);
        assert_eq!(scene.told(Side::Alice, &htlc), None, "{closer:?}, {sat} sat, expired for four blocks only");
        scene.settle();
        assert_eq!(scene.told(Side::Alice, &htlc), Some(HtlcOutcome::Failed), "{closer:?}, {sat} sat");
    }
}

/// The peer finds it worth its while, late and in time: we are paid by whom we forwarded for.
#[test]
fn a_small_htlc_that_the_peer_takes_late_is_fulfilled() {
    for sat in [450, 500, 700] {
        let htlcs = |height| vec![add(Side::Alice, 0, sat, 10, height + 40)];
        let mut scene = Scene::new(|height| plan(Anchors, htlcs(height)));
        let htlc = scene.current[0].htlcs[0];
        scene.close(Side::Alice);
        scene.mine(30);
        scene.give(Side::Bob, Input::PreimageLearned(preimage(10)));
        scene.mine(1);
        assert_eq!(scene.told(Side::Alice, &htlc), Some(HtlcOutcome::Fulfilled(preimage(10))), "{sat} sat");
        scene.settle();
        scene.check(Side::Alice, |_| Side::Bob);
    }
}

/// Ours and theirs, offered and received, at every size about the cost of a claim, with blocks that grow dearer or cheaper
/// after the close: every channel ends, no claim pays more than it takes, and who has claimed has gained.
#[test]
fn a_channel_with_petty_htlcs_ends() {
    for (format, closer) in FORMATS.into_iter().flat_map(|format| BOTH.map(|closer| (format, closer))) {
        for (first, then) in [(1_000, 1_000), (1_000, 40_000), (40_000, 1_000), (40_000, 40_000)] {
            for sat in [354, 380, 421, 422, 440, 446, 500, 690, 728, 730, 760, 900, 1_500] {
                petty(format, closer, sat, [first, then]);
            }
        }
    }
}

fn petty(format: CommitmentFormat, closer: Side, sat: u64, urgent: [u32; 2]) {
    let htlcs = |height| {
        let of = |by, id, seed| add(by, id, sat, seed, height + 12);
        // Two that may share a claim, one of whose preimage nobody knows; each way.
        vec![
            of(Side::Alice, 0, 10),
            of(Side::Alice, 1, 11),
            of(Side::Alice, 2, 12),
            of(Side::Bob, 0, 20),
            of(Side::Bob, 1, 21),
            of(Side::Bob, 2, 22),
        ]
    };
    let mut scene = Scene::new(|height| plan(format, htlcs(height)).known(&[20, 21], &[10, 11]));
    BOTH.into_iter().for_each(|side| scene.party(side).feerates = feerates(urgent[0]));
    scene.give(closer, Input::ForceClose);
    scene.mine(1);
    scene.mine_empty(2);
    for side in BOTH {
        scene.party(side).feerates = feerates(urgent[1]);
        scene.give(side, Input::FeerateUpdated);
    }
    scene.settle();
    for party in &scene.parties {
        assert_eq!(party.outcomes.len(), 6, "{format:?} {closer:?} {sat} {urgent:?}: {:?}", party.outcomes);
    }
    let books = scene.books(closer);
    for side in BOTH {
        let (has, had) = (books.holds[side as usize], scene.before[side as usize]);
        let balance = if side == Side::Alice { 600_000 } else { 400_000 } - 3 * sat;
        // The child of a commitment may cost what blocks cost; no HTLC here is worth more than 1,500 sat.
        let spent = if urgent != [1_000, 1_000] { 100_000 } else { 10_000 };
        assert!(has + spent > had + balance, "{format:?} {closer:?} {sat} {urgent:?}: {side:?} has {has} after {had}");
    }
}

/// Blocks so dear for two weeks that nobody takes it: the channel is not kept for it. What is worth something is waited for.
#[test]
fn what_is_never_worth_its_claim_is_given_up_after_two_weeks() {
    for (by, sat, is_given_up) in [(Side::Alice, 900, true), (Side::Bob, 900, true), (Side::Alice, 60_000, false)] {
        let htlcs = |height| vec![add(by, 0, sat, 20, height + 12)];
        let known: &[u8] = if by == Side::Bob { &[20] } else { &[] };
        let mut scene = Scene::new(|height| Plan { coins: 0, ..plan(Anchors, htlcs(height)).known(known, &[]) });
        let htlc = scene.current[0].htlcs[0];
        scene.party(Side::Bob).is_awake = false;
        scene.party(Side::Alice).feerates = feerates(4_000);
        scene.close(Side::Alice);
        scene.mine(2_020);
        assert!(!scene.parties[0].resolver.is_resolved(), "{sat} sat may still be claimed");
        assert_eq!(scene.told(Side::Alice, &htlc), None);
        scene.mine(20);
        assert_eq!(scene.parties[0].resolver.is_resolved(), is_given_up, "{sat} sat, by {by:?}");
        let end = if by == Side::Alice { HtlcOutcome::Failed } else { HtlcOutcome::Lost };
        assert_eq!(scene.told(Side::Alice, &htlc), is_given_up.then_some(end), "{sat} sat, by {by:?}");
    }
}
