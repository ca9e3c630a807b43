//! Random schedules: updates of all kinds both ways, seals and deliveries in any order, lost connections and crashes. After
//! each step memory is compared with the disk; at the end both sides agree and nothing is lost. `CHANNEL_SEEDS=5000` runs more.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::commitment::Stage;
use crate::units::SessionId;
use crate::wire::TransferCloseReason;

/// What a run did, so that a change of the machine that makes runs trivial is seen.
#[derive(Default)]
struct Tally {
    updates: usize,
    refused: usize,
    cuts: usize,
}

struct Run {
    pair: Pair,
    random: StdRng,
    tally: Tally,
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut random = StdRng::seed_from_u64(seed);
        let format = match random.random_ratio(2, 3) {
            true => CommitmentFormat::Anchors,
            false => CommitmentFormat::StaticRemotekey,
        };
        // Now and then the opener has hardly more than its reserve, fee and anchors: 354 + 1,124 + 660 sat.
        let push = match random.random_ratio(1, 3) {
            true => FUNDING.to_sat() * 1_000 - random.random_range(2_140..6_000) * 1_000,
            false => random.random_range(0..980) * 1_000_000,
        };
        let mut policies = [Policy::default(), Policy::default()];
        for policy in &mut policies {
            policy.max_accepted_htlcs = random.random_range(3..60);
            policy.dust_limit = Amount::from_sat(random.random_range(354..546));
            if push > 980_000_000 {
                policy.dust_limit = Amount::from_sat(354);
                (policy.reserve_permille, policy.min_reserve) = (0, policy.dust_limit);
            }
        }
        let pair = Pair::open_with(format, push, policies);
        Run { pair, random, tally: Tally::default() }
    }

    fn step(&mut self) {
        let side = self.random.random_range(0..2);
        match self.random.random_range(0..100) {
            0..30 => drop(self.pair.deliver(side)),
            30..50 => self.pair.side(side).step(Input::Seal),
            50..98 => self.update(side),
            _ => self.cut(),
        }
        self.assert_payable();
    }

    /// No commitment pays more than its funding output holds: where fees have risen in a race, an opener pays what it has,
    /// and that is always the anchors at least.
    fn assert_payable(&self) {
        for node in [&self.pair.a, &self.pair.b] {
            let commitments = node.commitments();
            let anchors = commitments.parameters.format.anchors_cost();
            for tally in commitments.main().tallies.all() {
                let balance = tally.balance(commitments.parameters.opener).to_amount_floor();
                assert!(balance >= anchors, "the opener has {balance}");
            }
        }
    }

    fn update(&mut self, side: usize) {
        let random = &mut self.random;
        let node = self.pair.side(side);
        let byte = random.random();
        let session = SessionId([random.random_range(0..20); 32]);
        let result = match random.random_range(0..20) {
            0..8 => {
                let bits = random.random_range(1..30);
                let amount = random.random_range(1..1u64 << bits);
                node.add(amount, byte).map(drop)
            }
            8..14 => return self.answer(side),
            14 => {
                let feerate = FeeratePerKw::new(random.random_range(200..3_000));
                node.command(Command::UpdateFee { feerate })
            }
            15 => node.command(Command::OpenSession { session, receipt_wanted: false }),
            16 => {
                let payer = if random.random() { Side::Local } else { Side::Remote };
                node.command(Command::CloseSession { payer, session, reason: TransferCloseReason::Finished })
            }
            _ => {
                let each = random.random_range(1..100_000);
                let sessions: Vec<_> = node.commitments().outgoing_transfers.sessions.keys().copied().collect();
                let Some(session) = sessions.get(random.random_range(0..20)) else { return };
                node.pay(*session, random.random_range(1..200), each)
            }
        };
        match result {
            Ok(()) => self.tally.updates += 1,
            Err(Error::Refused(_)) => self.tally.refused += 1,
            Err(Error::Violated(violation)) => panic!("our own command: {violation}"),
        }
    }

    /// Answers one of the HTLCs that wait.
    fn answer(&mut self, side: usize) {
        let node = self.pair.side(side);
        let waiting = node.commitments().incoming.values();
        let waiting: Vec<_> =
            waiting.filter(|htlc| htlc.removal.is_none() && htlc.stage == Stage::Irrevocable).collect();
        if waiting.is_empty() {
            return;
        }
        let htlc = waiting[self.random.random_range(0..waiting.len())];
        let (id, hash) = (htlc.offer.id, htlc.offer.payment_hash);
        let result = match self.random.random_range(0..3) {
            0 => node.fail(id),
            _ => {
                let byte = (0..=255).find(|byte| Preimage([*byte; 32]).payment_hash() == hash).expect("one of ours");
                node.fulfil(id, byte)
            }
        };
        result.expect("an HTLC that is irrevocable can be answered");
        self.tally.updates += 1;
    }

    /// The connection goes; perhaps one side, or both, crash with it.
    fn cut(&mut self) {
        self.tally.cuts += 1;
        let crash = self.random.random_range(0..4);
        for side in [0, 1] {
            if crash & (1 << side) != 0 {
                self.pair.side(side).restart();
            }
        }
        self.pair.disconnect();
        if self.random.random_ratio(1, 3) {
            self.answer(0);
            self.answer(1);
        }
        self.pair.reconnect();
    }

    fn finish(mut self) -> Tally {
        self.pair.run();
        self.pair.assert_level();
        for side in [0, 1] {
            let node = self.pair.side(side);
            let waiting = node.commitments().incoming.values().filter(|htlc| htlc.removal.is_none());
            let ids: Vec<_> = waiting.map(|htlc| htlc.offer.id).collect();
            for id in ids {
                node.fail(id).expect("irrevocable by now");
            }
        }
        self.pair.run();
        self.pair.assert_level();
        assert!(self.pair.a.commitments().is_clean() && self.pair.b.commitments().is_clean());
        self.assert_books();
        let closes = self.random.random_range(0..3);
        if closes < 2 {
            self.pair.side(closes).command(Command::Shutdown { script: None, feerate: None }).expect("closes");
            self.pair.run();
            for node in [&self.pair.a, &self.pair.b] {
                assert!(matches!(node.funded().phase, Phase::MutuallyClosed { .. }));
            }
        }
        self.tally
    }

    /// What one side paid is what the other was paid, session by session where both remember it.
    fn assert_books(&self) {
        let (a, b) = (self.pair.a.commitments(), self.pair.b.commitments());
        for (payer, payee) in [(a, b), (b, a)] {
            for (id, session) in &payee.incoming_transfers.sessions {
                let Some(paid) = payer.outgoing_transfers.sessions.get(id) else { continue };
                assert!(session.paid.total <= paid.paid.total, "a payee never counts more than was paid");
            }
        }
        assert_eq!(self.pair.a.balance().msat() + self.pair.b.balance().msat(), FUNDING.to_sat() * 1_000);
    }
}

fn run(seed: u64, steps: usize) -> Tally {
    let mut run = Run::new(seed);
    for _ in 0..steps {
        run.step();
    }
    run.finish()
}

#[test]
fn random_schedules_end_level() {
    let mut total = Tally::default();
    let seeds = std::env::var("CHANNEL_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(24);
    for seed in 0..seeds {
        let result = std::panic::catch_unwind(|| run(seed, 250));
        let Ok(tally) = result else { panic!("seed {seed} fails") };
        total.updates += tally.updates;
        total.refused += tally.refused;
        total.cuts += tally.cuts;
    }
    assert!(total.updates > 1_000 && total.cuts > 50, "{} updates, {} cuts", total.updates, total.cuts);
    assert!(total.refused > 0);
}
