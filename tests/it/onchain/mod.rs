//! BOLT 5 resolvers on a chain of their own: real transactions, every script run through `bitcoinconsensus`, lock times and
//! delays held, replacements paying more; money counted at the end.

mod party;
mod world;

use bitcoin::{Amount, Transaction};
use channeld::onchain::{CloseKind, HtlcKey, HtlcOutcome, HtlcSide, Input};
use channeld::transactions::CommitmentFormat::{Anchors, StaticRemotekey};
use channeld::transactions::{CommitmentFormat, HtlcDirection};
use channeld::units::{CommitmentNumber, HtlcId};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use party::{CAPACITY, Channel, Party, Side, preimage};
use world::World;

const FORMATS: [CommitmentFormat; 2] = [StaticRemotekey, Anchors];

fn key(side: HtlcSide, id: u64) -> HtlcKey {
    HtlcKey { side, id: HtlcId::new(id) }
}

/// Mines until both have nothing left to do, or only `one` where the other is the cheater.
fn settle(world: &mut World, parties: &mut [&mut Party]) {
    for _ in 0..400 {
        if parties.iter().all(|party| party.resolver.is_resolved()) {
            return;
        }
        world.mine(parties);
    }
    panic!("not resolved after 400 blocks");
}

/// Alice's HTLCs 0 (Bob knows the preimage) and 1 (he does not), Bob's 0 (Alice knows) and 1 (she does not).
fn check_outcomes(alice: &Party, bob: &Party) {
    let fulfilled = |seed| HtlcOutcome::Fulfilled(preimage(seed));
    let of = |party: &Party, side, id| party.outcomes.get(&key(side, id)).copied();
    assert_eq!(of(alice, HtlcSide::Outgoing, 0), Some(fulfilled(10)), "learned on the chain");
    assert_eq!(of(alice, HtlcSide::Outgoing, 1), Some(HtlcOutcome::Failed));
    assert_eq!(of(alice, HtlcSide::Incoming, 0), Some(HtlcOutcome::Claimed));
    assert_eq!(of(alice, HtlcSide::Incoming, 1), Some(HtlcOutcome::Lost));
    assert_eq!(of(bob, HtlcSide::Outgoing, 0), Some(fulfilled(20)));
    assert_eq!(of(bob, HtlcSide::Outgoing, 1), Some(HtlcOutcome::Failed));
    assert_eq!(of(bob, HtlcSide::Incoming, 0), Some(HtlcOutcome::Claimed));
    assert_eq!(of(bob, HtlcSide::Incoming, 1), Some(HtlcOutcome::Lost));
}

#[test]
fn a_force_close_settles_every_htlc_on_both_sides() {
    for format in FORMATS {
        let channel = Channel::new(format);
        let mut world = World::new(&channel);
        let (mut alice, mut bob) = (channel.party(Side::Alice, 1), channel.party(Side::Bob, 1));
        world.give(&mut alice, Input::ForceClose);
        world.mine(&mut [&mut alice, &mut bob]);
        assert_eq!(alice.resolver.confirmed().map(|(kind, _)| kind), Some(CloseKind::Local));
        assert_eq!(bob.resolver.confirmed().map(|(kind, _)| kind), Some(CloseKind::Remote));
        settle(&mut world, &mut [&mut alice, &mut bob]);
        check_outcomes(&alice, &bob);
        // Her balance, her timed out HTLC, his HTLC that she knew; and the mirror image.
        let fees = channel.htlc_fee(HtlcDirection::Offered) + channel.htlc_fee(HtlcDirection::Received);
        let hers = Amount::from_sat(500_000 - 30_000 - 31_000 + 31_000 + 40_000);
        assert_eq!(alice.swept, hers - channel.opener_cost() - fees);
        assert_eq!(bob.swept, Amount::from_sat(500_000 - 40_000 - 41_000 + 41_000 + 30_000));
        assert_eq!(alice.unclaimed(&world) + bob.unclaimed(&world), Amount::ZERO);
    }
}

#[test]
fn the_peers_next_commitment_is_claimed_like_its_current_one() {
    for format in FORMATS {
        let channel = Channel::new(format);
        let mut world = World::new(&channel);
        // Bob has state 1; Alice has signed it, but he has not yet revoked state 0.
        let (mut alice, mut bob) = (channel.party_with_next(Side::Alice, 0), channel.party(Side::Bob, 1));
        world.give(&mut bob, Input::ForceClose);
        world.mine(&mut [&mut alice, &mut bob]);
        assert_eq!(alice.resolver.confirmed().map(|(kind, _)| kind), Some(CloseKind::NextRemote));
        settle(&mut world, &mut [&mut alice, &mut bob]);
        check_outcomes(&alice, &bob);
    }
}

#[test]
fn a_revoked_commitment_loses_everything() {
    for format in FORMATS {
        let channel = Channel::new(format);
        let mut world = World::new(&channel);
        let mut alice = channel.party(Side::Alice, 2);
        let revoked = channel.signed_commitment(Side::Bob, 1);
        world.submit(&revoked).expect("an old commitment is valid");
        world.mine(&mut [&mut alice]);
        let number = CommitmentNumber::new(1);
        assert_eq!(alice.resolver.confirmed().map(|(kind, _)| kind), Some(CloseKind::Revoked(number)));
        settle(&mut world, &mut [&mut alice]);
        let anchors: Amount =
            revoked.output.iter().map(|output| output.value).filter(|value| value.to_sat() == 330).sum();
        let all: Amount = revoked.output.iter().map(|output| output.value).sum();
        assert_eq!(alice.swept, all - anchors);
    }
}

/// The cheater joins two HTLC-success transactions, its own coin first, before the penalty confirms: outputs stand at the
/// indices of their inputs, and the second stage is taken too.
#[test]
fn joined_second_stages_of_a_cheater_are_taken() {
    let channel = Channel::new(Anchors);
    let mut world = World::new(&channel);
    let mut alice = channel.party(Side::Alice, 2);
    let revoked = channel.signed_commitment(Side::Bob, 1);
    world.submit(&revoked).expect("an old commitment is valid");
    world.mine(&mut []);
    let joined = channel.joined_htlc_transactions(&mut world, Side::Bob, 1, HtlcDirection::Received);
    world.submit(&joined).expect("joined HTLC transactions are valid");
    world.mine(&mut []);
    // Alice was away and sees both blocks now.
    world.catch_up(&mut alice);
    settle(&mut world, &mut [&mut alice]);
    let made: Amount = joined.output[1..].iter().map(|output| output.value).sum();
    assert_eq!(made, Amount::from_sat(30_000 + 31_000));
    // Each joined HTLC went from first to second stage at its full value.
    let outputs = revoked.output.iter().map(|output| output.value).filter(|value| value.to_sat() != 330);
    assert_eq!(alice.swept, outputs.sum());
    assert_eq!(alice.sweeps.iter().filter(|outpoint| outpoint.txid == joined.compute_txid()).count(), 2);
}

/// The cheat is seen while the penalty for its first stage waits: that is given up for what is left.
#[test]
fn a_penalty_follows_the_cheater_into_the_second_stage() {
    let channel = Channel::new(Anchors);
    let mut world = World::new(&channel);
    let mut alice = channel.party(Side::Alice, 2);
    world.submit(&channel.signed_commitment(Side::Bob, 1)).expect("an old commitment is valid");
    world.mine(&mut [&mut alice]);
    let first: Vec<Transaction> = world.mempool().filter(|penalty| penalty.input.len() > 1).cloned().collect();
    assert_eq!(first.len(), 1, "one transaction takes every revoked output");
    world.forget_mempool();
    let joined = channel.joined_htlc_transactions(&mut world, Side::Bob, 1, HtlcDirection::Received);
    world.submit(&joined).expect("joined HTLC transactions are valid");
    world.mine(&mut [&mut alice]);
    assert!(world.mempool().all(|transaction| !first.contains(transaction)), "the first plan is void");
    settle(&mut world, &mut [&mut alice]);
    assert_eq!(alice.unclaimed(&world), Amount::ZERO);
    assert_eq!(alice.sweeps.iter().filter(|outpoint| outpoint.txid == joined.compute_txid()).count(), 2);
}

/// Without anchors commitment and HTLC transactions fit into one block.
#[test]
fn a_cheaters_second_stages_are_taken_without_anchors() {
    for same_block in [false, true] {
        let channel = Channel::new(StaticRemotekey);
        let mut world = World::new(&channel);
        let mut alice = channel.party(Side::Alice, 2);
        let revoked = channel.signed_commitment(Side::Bob, 1);
        world.submit(&revoked).expect("an old commitment is valid");
        if !same_block {
            world.mine(&mut []);
        }
        for transaction in channel.htlc_transactions(Side::Bob, 1, HtlcDirection::Received) {
            world.submit(&transaction).expect("HTLC transactions carry their fee");
        }
        world.mine(&mut []);
        world.catch_up(&mut alice);
        settle(&mut world, &mut [&mut alice]);
        let all: Amount = revoked.output.iter().map(|output| output.value).sum();
        assert_eq!(alice.swept, all - channel.htlc_fee(HtlcDirection::Received) * 2);
    }
}

#[test]
fn a_reorganisation_takes_everything_back() {
    for format in FORMATS {
        let channel = Channel::new(format);
        let mut world = World::new(&channel);
        let (mut alice, mut bob) = (channel.party(Side::Alice, 2), channel.party(Side::Bob, 2));
        world.submit(&channel.signed_commitment(Side::Bob, 1)).expect("valid");
        world.mine(&mut [&mut alice]);
        world.mine(&mut [&mut alice]);
        assert!(alice.swept > Amount::ZERO, "the penalty has confirmed");
        let before = alice.resolver.confirmed();
        world.disconnect(&mut [&mut alice]);
        assert_eq!(alice.resolver.confirmed(), before, "the commitment stands below");
        world.disconnect(&mut [&mut alice]);
        assert_eq!(alice.resolver.confirmed(), None);
        assert_eq!(alice.resolver.claims().count(), 0);
        assert!(alice.abandoned > 0, "claims without coins of the wallet's are given up by name, too");
        assert_eq!(alice.buried, [], "nothing was final");
        // On the other branch Bob's newest commitment confirms.
        world.forget_mempool();
        bob.resolver = channel.resolver(Side::Bob, 2, world.height());
        world.give(&mut bob, Input::ForceClose);
        world.mine(&mut [&mut alice, &mut bob]);
        assert_eq!(alice.resolver.confirmed().map(|(kind, _)| kind), Some(CloseKind::Remote));
        settle(&mut world, &mut [&mut alice, &mut bob]);
        assert_eq!(alice.swept + bob.swept, CAPACITY - channel.opener_cost());
        // Said once, whatever comes after.
        assert_eq!((alice.buried, bob.buried), (vec![CloseKind::Remote], vec![CloseKind::Local]));
    }
}

#[test]
fn who_lost_data_takes_its_balance_from_the_peers_commitment() {
    for format in FORMATS {
        let channel = Channel::new(format);
        let mut world = World::new(&channel);
        let mut alice = channel.party(Side::Alice, 0);
        world.submit(&channel.signed_commitment(Side::Bob, 2)).expect("valid");
        world.mine(&mut [&mut alice]);
        let kind = alice.resolver.confirmed().map(|(kind, _)| kind);
        assert_eq!(kind, Some(CloseKind::RemoteFuture(CommitmentNumber::new(2))));
        settle(&mut world, &mut [&mut alice]);
        assert_eq!(alice.swept, channel.balance(Side::Alice, 2) - channel.opener_cost());
    }
}

#[test]
fn an_old_copy_of_ourselves_is_recognised() {
    for format in FORMATS {
        let channel = Channel::new(format);
        let mut world = World::new(&channel);
        let (mut alice, mut bob) = (channel.party(Side::Alice, 2), channel.party(Side::Bob, 2));
        world.submit(&channel.signed_commitment(Side::Bob, 1)).expect("valid");
        world.mine(&mut [&mut alice, &mut bob]);
        let kind = bob.resolver.confirmed().map(|(kind, _)| kind);
        assert_eq!(kind, Some(CloseKind::LocalRevoked(CommitmentNumber::new(1))));
        settle(&mut world, &mut [&mut alice, &mut bob]);
        assert_eq!(bob.swept, Amount::ZERO);
    }
}

#[test]
fn a_mutual_close_needs_nothing_but_depth() {
    let channel = Channel::new(Anchors);
    let mut world = World::new(&channel);
    let mut alice = channel.party(Side::Alice, 2);
    world.submit(&channel.mutual_close()).expect("valid");
    world.mine(&mut [&mut alice]);
    assert_eq!(alice.resolver.confirmed().map(|(kind, _)| kind), Some(CloseKind::Mutual));
    for _ in 0..4 {
        world.mine(&mut [&mut alice]);
        assert!(!alice.resolver.is_resolved());
    }
    world.mine(&mut [&mut alice]);
    assert!(alice.resolver.is_resolved(), "six confirmations");
}

/// Nothing of Alice's is mined for long: her claims are replaced by ever better paying ones, never above what they bring.
#[test]
fn claims_are_bumped_by_their_deadline_within_their_budget() {
    for format in FORMATS {
        let channel = Channel::new(format);
        let mut world = World::new(&channel);
        let mut alice = channel.party(Side::Alice, 2);
        world.submit(&channel.signed_commitment(Side::Bob, 1)).expect("valid");
        world.mine(&mut [&mut alice]);
        let first = fee_paid(&world);
        for _ in 0..party::DELAY - 2 {
            world.mine_nothing(&mut [&mut alice]);
        }
        let last = fee_paid(&world);
        assert!(last > first * 4, "{first} grew to {last} only");
        world.mine(&mut [&mut alice]);
        settle(&mut world, &mut [&mut alice]);
        assert!(alice.swept > Amount::ZERO);
    }
}

fn fee_paid(world: &World) -> Amount {
    world.mempool().map(|transaction: &Transaction| world.fee(transaction)).sum()
}

#[test]
fn the_child_of_our_commitment_pays_for_it_and_is_not_made_twice() {
    let channel = Channel::new(Anchors);
    let mut world = World::new(&channel);
    let mut alice = channel.party(Side::Alice, 1);
    world.give(&mut alice, Input::ForceClose);
    let package: Vec<&Transaction> = world.mempool().collect();
    assert_eq!(package.len(), 2, "commitment and child");
    let weight: u64 = package.iter().map(|transaction| transaction.weight().to_wu()).sum();
    let fee: Amount = package.iter().map(|transaction| world.fee(transaction)).sum();
    assert!(fee >= party::FEERATES.normal.fee_floor(weight), "{fee} for {weight}");
    assert!(fee <= party::FEERATES.normal.fee_floor(weight) * 2);
    world.mine(&mut [&mut alice]);
    let children = alice.funded;
    for _ in 0..3 {
        world.mine(&mut [&mut alice]);
    }
    // What is funded now are HTLC transactions only: none spends the anchor.
    assert!(alice.funded > children || alice.funded == 1 + 1);
    assert!(alice.resolver.claims().all(|claimed| claimed.transaction.output.len() <= 3));
}

/// The peer's commitment confirms while our child waits: the wallet's coins come free.
#[test]
fn a_child_without_a_parent_is_given_up() {
    let channel = Channel::new(Anchors);
    let mut world = World::new(&channel);
    let mut alice = channel.party(Side::Alice, 2);
    world.give(&mut alice, Input::ForceClose);
    world.forget_mempool();
    world.submit(&channel.signed_commitment(Side::Bob, 2)).expect("valid");
    world.mine(&mut [&mut alice]);
    assert_eq!(alice.abandoned, 1);
    settle(&mut world, &mut [&mut alice]);
}

/// Random closes: blocks without our transactions, mempools that forget, reorganisations, a wallet without money, a cheater
/// that moves its HTLCs when it likes.
#[test]
fn random_closes_leave_nothing_behind() {
    (0..60).into_par_iter().for_each(|seed| {
        let _guard = PrintSeed(seed);
        random_close(&mut ChaCha8Rng::seed_from_u64(seed));
    });
}

fn random_close(rng: &mut ChaCha8Rng) {
    let channel = Channel::new(FORMATS[rng.random_range(0..2)]);
    let mut world = World::new(&channel);
    let is_cheat = rng.random_ratio(1, 2);
    let state = if is_cheat { 2 } else { 1 };
    let (mut alice, mut bob) = (channel.party(Side::Alice, state), channel.party(Side::Bob, state));
    let revoked = channel.signed_commitment(Side::Bob, 1);
    let mut cheats = [HtlcDirection::Received, HtlcDirection::Offered]
        .map(|direction| (rng.random_range(1..90), direction, channel.htlc_transactions(Side::Bob, 1, direction)));
    let closes_at = world.height().height() + rng.random_range(1..4);
    for _ in 0..500 {
        let height = world.height().height();
        world.is_poor = rng.random_ratio(1, 6);
        if rng.random_ratio(1, 6) {
            world.forget_mempool();
        }
        if height >= closes_at && !world.is_closed(&channel) {
            if is_cheat {
                let _ = world.submit(&revoked);
            } else if rng.random() {
                world.give(&mut alice, Input::ForceClose);
            } else {
                world.give(&mut bob, Input::ForceClose);
            }
        }
        for (at, direction, transactions) in &mut cheats {
            let due = is_cheat && height > 100 + *at && world.is_closed(&channel) && !channel.has_anchors();
            if due && (*direction == HtlcDirection::Received || height >= 165) {
                transactions.iter().for_each(|transaction| drop(world.submit(transaction)));
            }
        }
        let mut parties = if is_cheat { vec![&mut alice] } else { vec![&mut alice, &mut bob] };
        match rng.random_range(0..12) {
            0..=2 => world.mine_nothing(&mut parties),
            3 if height > 103 => {
                for _ in 0..rng.random_range(1..4) {
                    world.disconnect(&mut parties);
                }
            }
            _ => world.mine(&mut parties),
        }
        if alice.resolver.is_resolved() && (is_cheat || bob.resolver.is_resolved()) {
            break;
        }
    }
    assert!(alice.resolver.is_resolved(), "not resolved");
    assert_eq!(alice.unclaimed(&world), Amount::ZERO);
    if !is_cheat {
        check_outcomes(&alice, &bob);
    }
}

/// Names the seed of the case that failed.
struct PrintSeed(u64);

impl Drop for PrintSeed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failing seed: {}", self.0);
        }
    }
}
