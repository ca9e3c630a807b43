//! A cheater whose delay is as long as real channels have it: the penalty takes all in one transaction while nothing presses,
//! and is taken apart before anything could be held up by it.

use std::collections::BTreeSet;

use bitcoin::{OutPoint, Txid};
use channeld::transactions::CommitmentFormat;

use super::{FORMATS, Plan, Scene, add, state};
use crate::contract::{Add, BOTH, Side, State};
use crate::oracle::Outputs;

const DELAY: u16 = 144;
/// From so many blocks before the deadline on each output has a claim of its own.
const ALONE_FROM: u32 = 18;

struct Cheat {
    scene: Scene,
    revoked: State,
    htlcs: Vec<Add>,
    cheater: Side,
}

impl Cheat {
    /// A revoked commitment with HTLCs both ways is in a block, and the victim has seen it.
    fn new(format: CommitmentFormat, cheater: Side) -> Cheat {
        let mut scene = Scene::new(|_| {
            let mut plan = Plan::new(format, 600_000, Vec::new());
            plan.terms.delays = [DELAY; 2];
            plan
        });
        let height = scene.height().height();
        let htlcs = vec![
            add(Side::Alice, 0, 30_000, 10, height - 3),
            add(Side::Alice, 1, 31_000, 11, height - 3),
            add(Side::Bob, 0, 40_000, 20, height - 3),
            add(Side::Bob, 1, 41_000, 21, height - 3),
        ];
        let revoked = state(3, 550_000, htlcs.clone());
        scene.party(cheater.other()).history = htlcs.iter().map(|htlc| htlc.history(cheater, 2, Some(4))).collect();
        scene.party(cheater).is_awake = false;
        let commitment = scene.contract.signed(cheater, &revoked);
        scene.mine_these(&[commitment]);
        Cheat { scene, revoked, htlcs, cheater }
    }

    fn output(&self, htlc: &Add) -> OutPoint {
        let commitment = self.scene.contract.commitment(self.cheater, &self.revoked);
        let committed =
            commitment.htlcs().iter().find(|it| it.htlc == htlc.on(self.cheater)).expect("it has an output");
        OutPoint { txid: commitment.txid(), vout: committed.output_index }
    }

    /// What waits and takes the outputs of HTLCs that are still there.
    fn penalties(&self) -> Vec<Txid> {
        let outputs = self.htlcs.iter().map(|htlc| self.output(htlc));
        let unspent = outputs.filter(|output| self.scene.ground.world.coin(output).is_some());
        unspent.map(|output| self.scene.pooled_spender(&output).expect("a penalty waits").compute_txid()).collect()
    }

    fn check(mut self) {
        self.scene.settle();
        let outputs = Outputs::of(&self.scene.contract, self.cheater, &self.revoked);
        let victim = self.cheater.other();
        let mut promised = [0; 2];
        promised[victim as usize] =
            outputs.balances.iter().sum::<u64>() + outputs.htlcs.iter().map(|(_, sat)| sat).sum::<u64>();
        self.scene.books(victim).check(&self.scene.contract, self.scene.before, promised);
    }
}

fn each() -> impl Iterator<Item = (CommitmentFormat, Side)> {
    FORMATS.into_iter().flat_map(|format| BOTH.map(|cheater| (format, cheater)))
}

#[test]
fn a_penalty_is_one_until_it_presses_and_one_for_each_output_then() {
    for (format, cheater) in each() {
        let mut cheat = Cheat::new(format, cheater);
        let kinds = |cheat: &Cheat| cheat.penalties().into_iter().collect::<BTreeSet<_>>().len();
        assert_eq!((cheat.penalties().len(), kinds(&cheat)), (4, 1), "{format:?} {cheater:?}: nothing presses");
        // Blocks have no room for it until three hours before the delay is over.
        cheat.scene.mine_empty(u32::from(DELAY) - ALONE_FROM - 1);
        assert_eq!(kinds(&cheat), 1);
        cheat.scene.mine_empty(1);
        // The most valuable one pays what pushes the claim of all out; the others follow at the next block.
        cheat.scene.mine_empty(1);
        assert_eq!((cheat.penalties().len(), kinds(&cheat)), (4, 4), "{format:?} {cheater:?}: each by itself");
        cheat.check();
    }
}

#[test]
fn a_cheater_that_takes_one_output_does_not_hold_up_the_penalty_for_the_others() {
    for (format, cheater) in each() {
        let mut cheat = Cheat::new(format, cheater);
        let all = cheat.penalties()[0];
        let taken = cheat.htlcs[0];
        let revoked = cheat.revoked.clone();
        let second = cheat.scene.contract.second_stage(&mut cheat.scene.ground, cheater, &revoked, &[taken]);
        cheat.scene.mine_these(&[second]);
        let left = cheat.penalties();
        assert_eq!(left.len(), 3, "{format:?} {cheater:?}");
        assert!(left.iter().all(|txid| *txid == left[0] && *txid != all), "one new claim of what is left");
        cheat.check();
    }
}
