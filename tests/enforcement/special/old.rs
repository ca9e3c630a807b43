//! States that one side does not know any more, or should not.

use channeld::onchain::{CloseKind, HtlcOutcome};
use channeld::transactions::CommitmentFormat::Anchors;
use channeld::units::CommitmentNumber;

use super::{FORMATS, Plan, Scene, add, state};
use crate::contract::{Add, BOTH, Side};
use crate::oracle::Outputs;

/// A node that was restored from an old copy broadcast what it had revoked. Where the peer is asleep it takes back what is
/// its own there, when the delay is over; where the peer is awake it gets nothing (the matrix).
#[test]
fn an_old_copy_takes_its_balance_if_nobody_punishes_it() {
    for (format, broadcaster) in FORMATS.into_iter().flat_map(|format| BOTH.map(|side| (format, side))) {
        let mut scene =
            Scene::new(|height| Plan::new(format, 600_000, vec![add(broadcaster, 0, 30_000, 10, height + 4)]));
        let old = state(3, 550_000, Vec::new());
        scene.party(broadcaster.other()).is_awake = false;
        let commitment = scene.contract.signed(broadcaster, &old);
        scene.mine_these(&[commitment]);
        let kind = CloseKind::LocalRevoked(CommitmentNumber::new(3));
        assert_eq!(scene.parties[broadcaster as usize].kind(), Some(kind));
        scene.settle();
        let outputs = Outputs::of(&scene.contract, broadcaster, &old);
        let mut promised = [0; 2];
        promised[broadcaster as usize] = outputs.balances[broadcaster as usize];
        let books = scene.books(broadcaster);
        books.check_holds(scene.before, promised);
        // What came after it is not on that commitment: to this node it has failed.
        let htlc = scene.current[0].htlcs[0];
        assert_eq!(scene.told(broadcaster, &htlc), Some(HtlcOutcome::Failed));
        // The other, back at last, has its own and what nobody else could take.
        scene.party(broadcaster.other()).is_awake = true;
        scene.follow();
        scene.settle();
        scene.books(broadcaster).check(&scene.contract, scene.before, outputs.balances);
    }
}

/// Who lost data finds a commitment of the peer's that it does not know: its balance is there, under a key that never
/// changes (BOLT 2, `option_static_remotekey`); the rest is the peer's.
#[test]
fn who_lost_data_gets_its_balance_from_an_unknown_commitment() {
    for (format, broadcaster) in FORMATS.into_iter().flat_map(|format| BOTH.map(|side| (format, side))) {
        let mut scene =
            Scene::new(|height| Plan::new(format, 600_000, vec![add(Side::Alice, 0, 30_000, 10, height + 4)]));
        let height = scene.height().height();
        let htlcs: Vec<Add> =
            vec![add(Side::Alice, 5, 50_000, 15, height + 4), add(Side::Bob, 5, 60_000, 25, height + 4)];
        let newest = state(20, 700_000, htlcs);
        let loser = broadcaster.other();
        let commitment = scene.contract.signed(broadcaster, &newest);
        scene.party(broadcaster).is_awake = false;
        scene.mine_these(&[commitment]);
        let kind = CloseKind::RemoteFuture(CommitmentNumber::new(20));
        assert_eq!(scene.parties[loser as usize].kind(), Some(kind));
        scene.settle();
        let outputs = Outputs::of(&scene.contract, broadcaster, &newest);
        let mut promised = [0; 2];
        promised[loser as usize] = outputs.balances[loser as usize];
        scene.books(loser).check_holds(scene.before, promised);
        let told = scene.told(loser, &scene.current[0].htlcs[0]);
        let nothing = if loser == Side::Alice { HtlcOutcome::Failed } else { HtlcOutcome::Lost };
        assert_eq!(told, Some(nothing), "after its expiry, and not before that is buried");
    }
}

/// The cheater joins what it takes to the second stage in one transaction of its own, in another order.
#[test]
fn joined_second_stages_of_a_cheater_are_taken() {
    for (cheater, payer) in BOTH.into_iter().flat_map(|cheater| BOTH.map(|payer| (cheater, payer))) {
        let mut scene = Scene::new(|_| Plan::new(Anchors, 600_000, Vec::new()));
        let height = scene.height().height();
        let htlcs: Vec<Add> = [(0, 30_000), (1, 31_000), (2, 32_000)]
            .map(|(id, sat)| add(payer, id, sat, 10 + id as u8, height - 3))
            .to_vec();
        let (revoked, victim) = (state(3, 550_000, htlcs.clone()), cheater.other());
        scene.party(victim).history = htlcs.iter().map(|htlc| htlc.history(cheater, 2, Some(4))).collect();
        let commitment = scene.contract.signed(cheater, &revoked);
        scene.mine_these(&[commitment]);
        // The penalty is out when the cheat confirms: it is given up for what is left.
        let waiting = scene.ground.world.waiting();
        assert!(waiting > 0);
        let joined = scene.contract.second_stage(&mut scene.ground, cheater, &revoked, &[htlcs[2], htlcs[0]]);
        scene.mine_these(&[joined]);
        assert!(scene.parties[victim as usize].abandoned >= 1);
        scene.settle();
        let outputs = Outputs::of(&scene.contract, cheater, &revoked);
        let mut promised = [0; 2];
        promised[victim as usize] =
            outputs.balances.iter().sum::<u64>() + outputs.htlcs.iter().map(|(_, sat)| sat).sum::<u64>();
        scene.books(victim).check(&scene.contract, scene.before, promised);
    }
}
