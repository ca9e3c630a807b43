//! Amounts and heights at the very edge of a rule, both sides of it.

use channeld::onchain::HtlcOutcome;
use channeld::transactions::CommitmentFormat::{self, Anchors};

use super::{FORMATS, Plan, Scene, add, state};
use crate::contract::{Add, BOTH, Side, Terms};
use crate::oracle::Outputs;

fn each() -> impl Iterator<Item = (CommitmentFormat, Side, Side)> {
    FORMATS.into_iter().flat_map(|format| BOTH.into_iter().flat_map(move |a| BOTH.map(move |b| (format, a, b))))
}

/// Block `cltv_expiry` may not hold the timeout, the block after it does.
#[test]
fn a_timeout_is_out_at_its_expiry_and_not_before() {
    for (format, closer, payer) in each() {
        let mut scene = Scene::new(|height| Plan::new(format, 600_000, vec![add(payer, 0, 30_000, 10, height + 5)]));
        scene.close(closer);
        let htlc = scene.current[0].htlcs[0];
        let output = scene.htlc_output(closer, &htlc);
        while scene.height().height() < htlc.expiry - 1 {
            scene.mine(1);
        }
        assert_eq!(scene.pooled_spender(&output), None, "the next block is the expiry");
        scene.mine(1);
        assert_eq!(scene.height().height(), htlc.expiry);
        assert!(scene.pooled_spender(&output).is_some(), "the next block is beyond it");
        scene.mine(1);
        assert_eq!(scene.ground.world.coin(&output), None, "it is taken in the first block that may hold it");
        scene.settle();
        scene.check(closer, |htlc| htlc.by);
        assert_eq!(scene.told(payer, &htlc), Some(HtlcOutcome::Failed));
    }
}

/// The receiver has until the block of the expiry: a preimage learned so late that its claim confirms in that block.
#[test]
fn a_preimage_counts_up_to_the_block_of_the_expiry() {
    for (format, closer, payer) in each() {
        let mut scene = Scene::new(|height| Plan::new(format, 600_000, vec![add(payer, 0, 30_000, 10, height + 5)]));
        scene.close(closer);
        let htlc = scene.current[0].htlcs[0];
        while scene.height().height() < htlc.expiry - 1 {
            scene.mine(1);
        }
        scene.give(payer.other(), channeld::onchain::Input::PreimageLearned(htlc.preimage()));
        scene.mine(1);
        assert_eq!(scene.ground.world.coin(&scene.htlc_output(closer, &htlc)), None);
        scene.settle();
        scene.check(closer, |htlc| htlc.by.other());
        assert_eq!(scene.told(payer, &htlc), Some(HtlcOutcome::Fulfilled(htlc.preimage())));
    }
}

/// BOLT 3, "Trimmed Outputs": one satoshi below the limit there is no output, at it there is.
#[test]
fn an_htlc_at_the_dust_limit_has_an_output_and_one_below_has_none() {
    for (format, closer, payer) in each() {
        let second_stage = match format {
            Anchors => 0,
            CommitmentFormat::StaticRemotekey => (if payer == closer { 663 } else { 703 }) * 300 / 1_000,
        };
        let limits = [2_000, 2_500];
        let limit = limits[closer as usize] + second_stage;
        for (sat, known) in [limit - 1, limit, limit + 1].into_iter().flat_map(|sat| [(sat, false), (sat, true)]) {
            let known: &[u8] = if known { &[10] } else { &[] };
            let mut scene = Scene::new(|height| {
                let plan = Plan::new(format, 600_000, vec![add(payer, 0, sat, 10, height + 5)]);
                let plan = if payer == Side::Alice { plan.known(&[], known) } else { plan.known(known, &[]) };
                Plan { terms: Terms { dust_limits: limits, ..plan.terms.clone() }, ..plan }
            });
            scene.close(closer);
            let has_output = Outputs::of(&scene.contract, closer, &scene.current[0]).htlcs.len() == 1;
            assert_eq!(has_output, sat >= limit);
            scene.settle();
            scene.check(closer, |htlc| if known.is_empty() { htlc.by } else { htlc.by.other() });
        }
    }
}

/// Each side trims its own commitment by its own limit: one HTLC is on one of them and not on the other.
#[test]
fn what_is_dust_on_one_commitment_is_none_on_the_other() {
    for (format, closer, payer) in each() {
        let mut scene = Scene::new(|height| {
            let plan = Plan::new(format, 600_000, vec![add(payer, 0, 3_000, 10, height + 5)]).known(&[10], &[10]);
            Plan { terms: Terms { dust_limits: [354, 5_000], ..plan.terms.clone() }, ..plan }
        });
        scene.close(closer);
        let htlc = scene.current[0].htlcs[0];
        let outputs = Outputs::of(&scene.contract, closer, &scene.current[0]);
        assert_eq!(outputs.htlcs.len(), usize::from(closer == Side::Alice), "only Alice's limit is below it");
        scene.settle();
        scene.check(closer, |htlc| htlc.by.other());
        // Who offered it knows the preimage here: that counts, whatever the chain shows.
        assert_eq!(scene.told(payer, &htlc), Some(HtlcOutcome::Fulfilled(htlc.preimage())));
        let taken = if closer == Side::Alice { HtlcOutcome::Claimed } else { HtlcOutcome::Lost };
        assert_eq!(scene.told(payer.other(), &htlc), Some(taken));
    }
}

/// Feerates differ while an `update_fee` is on its way: what one commitment trims the other holds.
#[test]
fn a_feerate_on_its_way_trims_on_one_side_only() {
    for (closer, payer) in BOTH.into_iter().flat_map(|closer| BOTH.map(|payer| (closer, payer))) {
        let format = CommitmentFormat::StaticRemotekey;
        let mut scene = Scene::new(|height| {
            let mut plan = Plan::new(format, 600_000, vec![add(payer, 0, 2_500, 10, height + 5)]);
            plan.current[1].feerate = 3_000;
            plan
        });
        scene.close(closer);
        let outputs = Outputs::of(&scene.contract, closer, &scene.current[closer as usize]);
        assert_eq!(outputs.htlcs.len(), usize::from(closer == Side::Alice));
        scene.settle();
        scene.check(closer, |htlc| htlc.by);
    }
}

/// All of the channel is one side's; or the rest of it is one satoshi below, at or above the dust limit.
#[test]
fn a_side_with_nothing_has_no_output() {
    for (format, closer, owner) in each() {
        let limit = Terms::new(format).dust_limits[closer as usize];
        for rest in [0, limit - 1, limit, 2_000] {
            // Alice pays the fee from what she has, as far as it goes.
            let cost = if format.has_anchors() { 1_124 * 300 / 1_000 + 660 } else { 724 * 300 / 1_000 };
            let alice = match owner {
                Side::Alice => 1_000_000 - rest,
                Side::Bob => rest + cost,
            };
            let mut scene = Scene::new(|_| Plan::new(format, alice, Vec::new()));
            scene.close(closer);
            let outputs = Outputs::of(&scene.contract, closer, &scene.current[0]);
            let should = if rest < limit { 0 } else { rest };
            assert_eq!(outputs.balances[owner.other() as usize], should);
            scene.settle();
            if should == limit && limit < 700 {
                // Worth less than its claim: it may stay where it is.
                continue;
            }
            scene.check(closer, |htlc| htlc.by);
        }
    }
}

/// Two HTLCs with one hash, one amount and one expiry, and a third that ends later: equal outputs stand in the order of their
/// expiry (BOLT 3), and each is taken by a signature of its own.
#[test]
fn equal_htlcs_are_told_apart_by_their_expiry() {
    for (format, closer, payer) in each() {
        let htlcs = |height| -> Vec<Add> {
            // By ids they come in another order than by expiry.
            [(0, 9), (1, 5), (2, 5), (3, 7)].map(|(id, blocks)| add(payer, id, 30_000, 10, height + blocks)).to_vec()
        };
        for is_known in [false, true] {
            let known: &[u8] = if is_known { &[10] } else { &[] };
            let [alice, bob]: [&[u8]; 2] = if payer == Side::Alice { [&[], known] } else { [known, &[]] };
            let mut scene = Scene::new(|height| Plan::new(format, 600_000, htlcs(height)).known(alice, bob));
            scene.close(closer);
            let commitment = scene.contract.commitment(closer, &scene.current[0]);
            let expiries: Vec<u32> = commitment.htlcs().iter().map(|it| it.htlc.cltv_expiry.height()).collect();
            if payer == closer {
                assert!(expiries.is_sorted(), "one script for all: {expiries:?}");
            }
            scene.settle();
            scene.check(closer, |htlc| if is_known { htlc.by.other() } else { htlc.by });
            for htlc in scene.current[0].htlcs.clone() {
                let end = if is_known { HtlcOutcome::Fulfilled(htlc.preimage()) } else { HtlcOutcome::Failed };
                assert_eq!(scene.told(payer, &htlc), Some(end), "{htlc:?}");
            }
        }
    }
}

/// The same on a revoked commitment: all of them are taken, also where the cheater had moved some.
#[test]
fn equal_htlcs_of_a_cheater_are_all_taken() {
    for (format, cheater, payer) in each() {
        for moves in [false, true] {
            let mut scene = Scene::new(|_| Plan::new(format, 600_000, Vec::new()));
            let height = scene.height().height() + 1;
            let htlcs: Vec<Add> = [(0, 9), (1, 5), (2, 5), (3, 7)]
                .map(|(id, blocks)| add(payer, id, 30_000, 10, height - 10 + blocks))
                .to_vec();
            let revoked = state(3, 550_000, htlcs.clone());
            let victim = cheater.other();
            scene.party(victim).history = htlcs.iter().map(|htlc| htlc.history(cheater, 2, Some(4))).collect();
            let commitment = scene.contract.signed(cheater, &revoked);
            scene.party(victim).is_awake = !moves;
            scene.mine_these(&[commitment]);
            let moved: Vec<Add> = if moves { vec![htlcs[0], htlcs[2]] } else { Vec::new() };
            for htlc in moved {
                let second = scene.contract.second_stage(&mut scene.ground, cheater, &revoked, &[htlc]);
                scene.mine_these(&[second]);
            }
            scene.party(victim).is_awake = true;
            scene.follow();
            scene.settle();
            let outputs = Outputs::of(&scene.contract, cheater, &revoked);
            let mut promised = [0; 2];
            promised[victim as usize] =
                outputs.balances.iter().sum::<u64>() + outputs.htlcs.iter().map(|(_, sat)| sat).sum::<u64>();
            scene.books(victim).check(&scene.contract, scene.before, promised);
        }
    }
}
