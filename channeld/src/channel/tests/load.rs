//! Payments in a pipeline and in bulk. `CHANNEL_LOAD=20000` (in a release build, under `time`) says what one costs; without
//! it a few go through.

use super::transfer::SESSION;
use super::*;
use crate::commitment::Stage;

const IN_FLIGHT: usize = 400;

fn payments() -> usize {
    std::env::var("CHANNEL_LOAD").ok().and_then(|count| count.parse().ok()).unwrap_or(60)
}

/// The load's policy: limits on dust, slots and value in flight raised.
fn raised() -> Policy {
    Policy { exposure: crate::commitment::ExposurePolicy { max_dust: Msat::new(1_000_000_000) }, ..Policy::default() }
}

fn opened() -> Pair {
    let mut pair = Pair::open_with(CommitmentFormat::Anchors, 0, [raised(), raised()]);
    for side in [0, 1] {
        pair.side(side).checked = payments() <= 100;
    }
    pair
}

/// Turns as the node makes them: all that has come is taken in, then each side signs once.
fn turn(pair: &mut Pair, answer: fn(&mut Node, HtlcId)) {
    for side in [0, 1] {
        while pair.deliver(1 - side) {}
        let node = pair.side(side);
        for id in node.incoming() {
            answer(node, id);
        }
        node.step(Input::Seal);
    }
}

fn pipelined(msat: u64, answer: fn(&mut Node, HtlcId)) -> Pair {
    let mut pair = opened();
    let (mut sent, total) = (0, payments());
    let mut rounds = 0;
    while sent < total || !pair.a.commitments().is_clean() {
        while sent < total && pair.a.commitments().outgoing.len() < IN_FLIGHT.min(total) {
            if pair.a.add(msat, 1).is_err() {
                break;
            }
            sent += 1;
        }
        pair.a.step(Input::Seal);
        turn(&mut pair, answer);
        rounds += 1;
        pair.a.effects.clear();
        pair.b.effects.clear();
        assert!(rounds < total + 100, "it goes on");
    }
    pair.run();
    assert!(pair.a.commitments().outgoing.values().all(|htlc| htlc.stage == Stage::Irrevocable));
    pair
}

#[test]
fn pipelined_dust() {
    let each = 40_000;
    let pair = pipelined(each, |node, id| node.fulfil(id, 1).expect("waits"));
    assert_eq!(pair.b.balance(), Msat::new(payments() as u64 * each));
}

#[test]
fn pipelined_outputs() {
    // Failed, so that any number fits into the channel: it costs what a success costs.
    let pair = pipelined(2_000_000, |node, id| node.fail(id).expect("waits"));
    assert_eq!(pair.b.balance(), Msat::ZERO);
}

#[test]
fn bulk_transfers() {
    let mut pair = opened();
    pair.a.open_session(SESSION);
    pair.run();
    let rounds = payments() / 20;
    for _ in 0..rounds {
        pair.a.pay(SESSION, 1_000, 10).expect("goes");
        pair.a.step(Input::Seal);
        turn(&mut pair, |_, _| {});
        pair.a.effects.clear();
        pair.b.effects.clear();
    }
    pair.run();
    assert_eq!(pair.b.balance(), Msat::new(rounds as u64 * 10_000));
}
