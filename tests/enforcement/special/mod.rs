//! Closes that no matrix holds: one test for each thing that goes wrong beside the close itself.

mod boundary;
mod delay;
mod fees;
mod old;
mod operator;
mod package;
mod peer;
mod petty;

use bitcoin::{OutPoint, Transaction};
use channeld::onchain::{HtlcKey, HtlcOutcome, HtlcSide, Input};
use channeld::transactions::CommitmentFormat;
use channeld::units::{BlockHeight, HtlcId};

use crate::contract::{Add, BOTH, Contract, Side, State, Terms, preimage};
use crate::ground::Ground;
use crate::oracle::{self, Books, Outputs};
use crate::party::Party;
use crate::play::{WALLET, fund};

pub const FORMATS: [CommitmentFormat; 2] = [CommitmentFormat::StaticRemotekey, CommitmentFormat::Anchors];

/// What a channel is when it ends.
pub struct Plan {
    pub terms: Terms,
    /// Alice's commitment and Bob's.
    pub current: [State; 2],
    /// By their seeds, the preimages that each side knows.
    pub known: [Vec<u8>; 2],
    /// How many coins each wallet has.
    pub coins: usize,
}

impl Plan {
    /// Both commitments say the same.
    pub fn new(format: CommitmentFormat, alice: u64, htlcs: Vec<Add>) -> Plan {
        let state = state(7, alice, htlcs);
        let terms = Terms::new(format);
        Plan { terms, current: [state.clone(), state], known: [Vec::new(), Vec::new()], coins: WALLET.0 }
    }

    pub fn known(mut self, alice: &[u8], bob: &[u8]) -> Plan {
        self.known = [alice.to_vec(), bob.to_vec()];
        self
    }
}

/// A commitment of a channel of 1,000,000 sat; `alice` is hers in satoshi before the HTLCs.
pub fn state(number: u64, alice: u64, htlcs: Vec<Add>) -> State {
    let mut balances = [alice * 1_000, 1_000_000_000 - alice * 1_000];
    for add in &htlcs {
        balances[add.by as usize] -= add.msat;
    }
    State { number, balances, htlcs, feerate: 300 }
}

/// An HTLC.
pub const fn add(by: Side, id: u64, sat: u64, seed: u8, expiry: u32) -> Add {
    Add { by, id, msat: sat * 1_000, seed, expiry }
}

/// Two nodes, their channel and a chain.
pub struct Scene {
    pub ground: Ground,
    pub contract: Contract,
    pub parties: [Party; 2],
    pub current: [State; 2],
    start: u32,
    /// What each wallet had.
    pub before: [u64; 2],
}

impl Scene {
    /// The plan is told the height at which a commitment confirms first.
    pub fn new(plan: impl FnOnce(u32) -> Plan) -> Scene {
        let mut ground = Ground::new();
        let plan = plan(ground.height() + 2);
        let (contract, coins, start) = fund(&mut ground, plan.terms, 1, plan.coins);
        let party = |side: Side| {
            let (local, remote) = (&plan.current[side as usize], &plan.current[side.other() as usize]);
            let preimages: Vec<_> = plan.known[side as usize].iter().map(|seed| preimage(*seed)).collect();
            let mut party = Party::new(side, 1, contract.closed(side, local, remote, None), &preimages, &ground);
            party.coins.clone_from(&coins[side as usize]);
            party
        };
        let parties = BOTH.map(party);
        let before = [plan.coins as u64 * WALLET.1; 2];
        Scene { ground, contract, parties, current: plan.current, start, before }
    }

    pub fn party(&mut self, side: Side) -> &mut Party {
        &mut self.parties[side as usize]
    }

    pub fn give(&mut self, side: Side, input: Input) {
        self.parties[side as usize].give(&mut self.ground, input);
    }

    /// One side closes by force, and its commitment confirms.
    pub fn close(&mut self, side: Side) {
        self.give(side, Input::ForceClose);
        self.mine(1);
        assert!(self.is_closed(), "the commitment is in");
    }

    pub fn is_closed(&self) -> bool {
        self.ground.world.coin(&self.contract.funding.outpoint()).is_none()
    }

    pub fn mine(&mut self, blocks: u32) {
        for _ in 0..blocks {
            self.ground.mine();
            self.follow();
        }
    }

    /// Blocks in which nothing of ours finds room.
    pub fn mine_empty(&mut self, blocks: u32) {
        for _ in 0..blocks {
            self.ground.mine_empty();
            self.follow();
        }
    }

    pub fn mine_these(&mut self, transactions: &[Transaction]) {
        self.ground.mine_these(transactions);
        self.follow();
    }

    pub fn follow(&mut self) {
        for party in self.parties.iter_mut().filter(|party| party.is_awake) {
            party.follow(&mut self.ground);
        }
    }

    /// Mines until nobody who is awake has anything left to do.
    pub fn settle(&mut self) {
        for _ in 0..120 {
            let mut awake = self.parties.iter().filter(|party| party.is_awake);
            if awake.all(|party| party.resolver.is_resolved()) {
                return;
            }
            self.mine(1);
        }
        panic!("not resolved after 120 blocks");
    }

    pub fn height(&self) -> BlockHeight {
        BlockHeight::new(self.ground.height())
    }

    /// What waits and spends an output.
    pub fn pooled_spender(&self, outpoint: &OutPoint) -> Option<Transaction> {
        let spends = |it: &Transaction| it.input.iter().any(|input| input.previous_output == *outpoint);
        self.ground.world.pooled().into_iter().find(spends)
    }

    /// The output of an HTLC on a side's current commitment.
    pub fn htlc_output(&self, broadcaster: Side, add: &Add) -> OutPoint {
        let commitment = self.contract.commitment(broadcaster, &self.current[broadcaster as usize]);
        let committed = commitment.htlcs().iter().find(|it| it.htlc == add.on(broadcaster)).expect("it has an output");
        OutPoint { txid: commitment.txid(), vout: committed.output_index }
    }

    pub fn books(&self, heir: Side) -> Books {
        let [alice, bob] = &self.parties;
        oracle::books(&self.ground, &self.contract, [alice, bob], self.start, heir)
    }

    /// That everybody got what a side's current commitment and the HTLCs' ends promise.
    pub fn check(&self, broadcaster: Side, heir: impl Fn(&Add) -> Side) -> Books {
        let outputs = Outputs::of(&self.contract, broadcaster, &self.current[broadcaster as usize]);
        let mut promised = outputs.balances;
        for (add, sat) in &outputs.htlcs {
            promised[heir(add) as usize] += sat;
        }
        let books = self.books(broadcaster);
        outputs.check(&books.transactions[0]);
        books.check(&self.contract, self.before, promised);
        books
    }

    /// What a side was told of an HTLC.
    pub fn told(&self, side: Side, add: &Add) -> Option<HtlcOutcome> {
        let key = HtlcKey {
            side: if side == add.by { HtlcSide::Outgoing } else { HtlcSide::Incoming },
            id: HtlcId::new(add.id),
        };
        self.parties[side as usize].outcomes.get(&key).copied()
    }
}
