//! One cell from its funding to the last burial.

use std::collections::BTreeSet;

use bitcoin::{Amount, OutPoint, Transaction, TxOut};
use channeld::onchain::{CloseKind, HtlcKey, HtlcOutcome, HtlcSide, Input};
use channeld::units::{CommitmentNumber, HtlcId};

use crate::cell::{CURRENT, Cell, First, Known, Moment, Reorg, Stage, Which};
use crate::contract::{Add, BOTH, Contract, Side, State, Terms};
use crate::ground::{Ground, wallet_script};
use crate::oracle::{self, Outputs};
use crate::party::Party;

/// Coins of each wallet, and what one holds.
pub const WALLET: (usize, u64) = (5, 60_000);
/// No close takes longer.
const MOST_BLOCKS: u32 = 90;

/// A channel on the chain, with both sides' wallets; the number of the funding output's block.
pub fn fund(ground: &mut Ground, terms: Terms, tag: u32, coins: usize) -> (Contract, [Vec<OutPoint>; 2], u32) {
    let start = ground.height();
    let mut output = vec![TxOut { value: terms.capacity, script_pubkey: Contract::funding_script() }];
    for side in BOTH {
        let coin = TxOut { value: Amount::from_sat(WALLET.1), script_pubkey: wallet_script(Some((side, tag))) };
        output.extend(vec![coin; coins]);
    }
    let txid = ground.give(output).compute_txid();
    let of = |from: usize| (from..from + coins).map(|vout| OutPoint { txid, vout: vout as u32 }).collect();
    (Contract::new(terms, OutPoint { txid, vout: 0 }, tag), [of(1), of(1 + coins)], start)
}

/// A cell under way.
struct Play<'a> {
    cell: &'a Cell,
    ground: &'a mut Ground,
    contract: Contract,
    /// By `Side`.
    parties: [Party; 2],
    commitment: Transaction,
    state: State,
    add: Add,
    /// The height at which the commitment confirmed first.
    closed_at: u32,
    start: u32,
    /// Whose spend is the claim that a reorganisation takes back.
    awaited: BTreeSet<OutPoint>,
    reorganised: bool,
    learned: bool,
}

/// Plays a cell and checks every satoshi of it.
///
/// # Panics
/// Where anything is not as promised.
pub fn play(cell: &Cell, ground: &mut Ground, tag: u32) {
    let mut play = Play::new(cell, ground, tag);
    play.close();
    play.cheat();
    for _ in 0..MOST_BLOCKS {
        play.learn();
        play.reorganise();
        if play.parties.iter().all(|party| party.resolver.is_resolved()) {
            return play.check();
        }
        play.mine();
    }
    let open: Vec<Side> =
        BOTH.into_iter().filter(|side| !play.parties[*side as usize].resolver.is_resolved()).collect();
    panic!("not resolved after {MOST_BLOCKS} blocks: {open:?}");
}

impl<'a> Play<'a> {
    fn new(cell: &'a Cell, ground: &'a mut Ground, tag: u32) -> Play<'a> {
        let (contract, coins, start) = fund(ground, Terms::new(cell.format), tag, WALLET.0);
        let closed_at = ground.height() + 1;
        let (stages, x, y) = (cell.stages(), cell.broadcaster, cell.broadcaster.other());
        let current = cell.state(CURRENT, stages.current, closed_at);
        let next = stages.next.map(|stage| cell.state(CURRENT + 1, stage, closed_at));
        let other = cell.state(5, stages.other, closed_at);
        let state = cell.state(cell.number(), stages.confirmed, closed_at);
        let local = if cell.which == Which::Next { &state } else { &current };
        let add = cell.add(closed_at);
        let knows = |side: Side| {
            let gave = cell.moment == Moment::Removing || side == cell.receiver();
            if cell.known == Known::Before && gave { vec![add.preimage()] } else { Vec::new() }
        };
        let of_x = Party::new(x, tag, contract.closed(x, local, &other, None), &knows(x), ground);
        let mut of_y = Party::new(y, tag, contract.closed(y, &other, &current, next.as_ref()), &knows(y), ground);
        of_y.history = history(cell, &add);
        let mut parties = if x == Side::Alice { [of_x, of_y] } else { [of_y, of_x] };
        for side in BOTH {
            parties[side as usize].coins.clone_from(&coins[side as usize]);
        }
        let commitment = contract.signed(x, &state);
        let awaited = BTreeSet::new();
        let (reorganised, learned) = (cell.reorg == Reorg::None, false);
        Play {
            cell,
            ground,
            contract,
            parties,
            commitment,
            state,
            add,
            closed_at,
            start,
            awaited,
            reorganised,
            learned,
        }
    }

    fn party(&mut self, side: Side) -> &mut Party {
        &mut self.parties[side as usize]
    }

    fn outpoint(&self, vout: usize) -> OutPoint {
        OutPoint { txid: self.commitment.compute_txid(), vout: vout as u32 }
    }

    /// The HTLC's output on the commitment.
    fn htlc_output(&self) -> Option<OutPoint> {
        let commitment = self.contract.commitment(self.cell.broadcaster, &self.state);
        let committed = commitment.htlcs().first()?;
        Some(OutPoint { txid: commitment.txid(), vout: committed.output_index })
    }

    /// The commitment is broadcast and confirms; who is to come late sleeps.
    fn close(&mut self) {
        let (cell, x) = (self.cell, self.cell.broadcaster);
        if cell.is_revoked() {
            self.ground.submit(&self.commitment);
        } else {
            self.parties[x as usize].give(self.ground, Input::ForceClose);
        }
        if let Some(first) = cell.first {
            let late = if first == First::Receiver { cell.offerer() } else { cell.receiver() };
            self.party(late).is_awake = false;
        }
        if cell.cheats() {
            self.party(x.other()).is_awake = false;
        }
        let all = (0..self.commitment.output.len()).map(|vout| self.outpoint(vout));
        self.awaited = self.htlc_output().map_or_else(|| all.collect(), |output| BTreeSet::from([output]));
        self.mine();
        assert_eq!(self.ground.height(), self.closed_at);
        assert!(self.ground.world.coin(&self.contract.funding.outpoint()).is_none(), "the commitment is in");
        let number = CommitmentNumber::new(cell.number());
        for (side, kind) in [(x, ours(cell, number)), (x.other(), theirs(cell, number))] {
            let party = self.party(side);
            assert!(!party.is_awake || party.kind() == Some(kind), "{side:?} takes it for {:?}", party.kind());
        }
    }

    /// A cheater is faster than its victim: the HTLC goes to its second stage.
    fn cheat(&mut self) {
        if !self.cell.cheats() {
            return;
        }
        let (x, adds) = (self.cell.broadcaster, [self.add]);
        let second = self.contract.second_stage(self.ground, x, &self.state, &adds);
        self.ground.submit(&second);
        self.mine();
        let txid = second.compute_txid();
        let vout = second.output.len() as u32 - 1;
        assert!(self.ground.world.coin(&OutPoint { txid, vout }).is_some(), "the cheat is in");
        self.awaited = BTreeSet::from([OutPoint { txid, vout }]);
        self.wake();
    }

    fn wake(&mut self) {
        for party in &mut self.parties {
            party.is_awake = true;
            party.follow(self.ground);
        }
    }

    fn mine(&mut self) {
        self.ground.mine();
        self.follow();
    }

    fn follow(&mut self) {
        for party in self.parties.iter_mut().filter(|party| party.is_awake) {
            party.follow(self.ground);
        }
    }

    /// The preimage comes to its receiver after the close: in time, or when the HTLC is back with who offered it.
    fn learn(&mut self) {
        if self.cell.known != Known::After || self.learned {
            return;
        }
        let is_due = match (self.cell.expired, self.cell.has_output()) {
            (false, _) | (true, false) => self.ground.height() > self.closed_at,
            (true, true) => self.is_claimed() && self.reorganised,
        };
        if is_due {
            self.learned = true;
            let (receiver, preimage) = (self.cell.receiver(), self.add.preimage());
            self.parties[receiver as usize].give(self.ground, Input::PreimageLearned(preimage));
        }
    }

    /// Whether what is waited for is spent in the best chain.
    fn is_claimed(&self) -> bool {
        self.awaited.iter().any(|outpoint| self.ground.world.coin(outpoint).is_none())
    }

    /// Takes the claim's block back, or all of them; then nobody sleeps any more.
    fn reorganise(&mut self) {
        if !self.is_claimed() {
            return;
        }
        if self.reorganised {
            return self.wake();
        }
        self.reorganised = true;
        let (height, x) = (self.ground.height(), self.cell.broadcaster);
        let depth = if self.cell.reorg == Reorg::One { 1 } else { height + 1 - self.closed_at };
        assert!(depth <= 6, "{depth} blocks are final");
        self.ground.unwind(depth);
        self.parties.iter_mut().for_each(Party::restart);
        if self.cell.reorg == Reorg::Beyond {
            self.ground.forget();
            self.follow();
            for party in self.parties.iter().filter(|party| party.is_awake) {
                assert_eq!(party.kind(), None, "{:?} has forgotten the close", party.side);
            }
            if self.cell.is_revoked() || !self.party(x).is_awake {
                self.ground.submit(&self.commitment);
            }
            if let Some(output) = self.htlc_output() {
                self.awaited = BTreeSet::from([output]);
            }
            // Where its own node broadcasts it again, that is after the next block.
            while self.ground.world.coin(&self.contract.funding.outpoint()).is_some() {
                self.mine();
            }
        } else {
            self.follow();
        }
    }

    /// Who the HTLC's output is for (BOLT 5).
    fn heir(&self) -> Side {
        let cell = self.cell;
        match (cell.first, cell.known, cell.expired) {
            _ if cell.is_revoked() => cell.broadcaster.other(),
            (Some(First::Receiver), ..) | (None, Known::Before, _) | (None, Known::After, false) => cell.receiver(),
            (Some(First::Offerer), ..) | (None, Known::After, true) | (None, Known::Never, _) => cell.offerer(),
        }
    }

    fn check(&self) {
        let (cell, x) = (self.cell, self.cell.broadcaster);
        let outputs = Outputs::of(&self.contract, x, &self.state);
        outputs.check(&self.commitment);
        assert_eq!(outputs.htlcs.len(), usize::from(cell.has_output()));
        let mut promised = outputs.balances;
        if cell.is_revoked() {
            promised[x.other() as usize] += std::mem::take(&mut promised[x as usize]);
        }
        promised[self.heir() as usize] += outputs.htlcs.iter().map(|(_, sat)| sat).sum::<u64>();
        let [alice, bob] = &self.parties;
        let books = oracle::books(self.ground, &self.contract, [alice, bob], self.start, self.heir());
        let before = [WALLET.0 as u64 * WALLET.1; 2];
        books.check(&self.contract, before, promised);
        books.check_feerates(12_500);
        assert_eq!(self.ground.world.waiting(), 0, "nothing is said in vain");
        for side in BOTH {
            self.check_told(side);
        }
    }

    /// What the nodes were told of the HTLC.
    fn check_told(&self, side: Side) {
        let (cell, party) = (self.cell, &self.parties[side as usize]);
        assert_eq!(party.buried.len(), 1, "{side:?}: the end is said once");
        let is_offerer = side == cell.offerer();
        let key = HtlcKey {
            side: if is_offerer { HtlcSide::Outgoing } else { HtlcSide::Incoming },
            id: HtlcId::new(self.add.id),
        };
        let told = party.outcomes.get(&key).copied();
        if cell.is_revoked() && side == cell.broadcaster {
            return;
        }
        let stages = cell.stages();
        let known = if side == cell.broadcaster {
            [Some(stages.other), Some(if cell.which == Which::Next { stages.confirmed } else { stages.current }), None]
        } else {
            [Some(stages.other), Some(stages.current), stages.next]
        };
        if !known.contains(&Some(Stage::Present)) {
            return assert_eq!(told, None, "{side:?} knows of no HTLC");
        }
        let expected = if is_offerer {
            let has_preimage = cell.moment == Moment::Removing && cell.known == Known::Before;
            let is_claimed = cell.has_output() && !cell.is_revoked() && self.heir() == cell.receiver();
            let is_cheat_shown = cell.cheats() && !cell.offered;
            if has_preimage || is_claimed || is_cheat_shown {
                HtlcOutcome::Fulfilled(self.add.preimage())
            } else {
                HtlcOutcome::Failed
            }
        } else if cell.has_output() && self.heir() == side {
            HtlcOutcome::Claimed
        } else {
            HtlcOutcome::Lost
        };
        assert_eq!(told, Some(expected), "what {side:?} was told");
    }
}

/// What its own broadcaster takes it for.
fn ours(cell: &Cell, number: CommitmentNumber) -> CloseKind {
    if cell.is_revoked() { CloseKind::LocalRevoked(number) } else { CloseKind::Local }
}

/// What the other side takes it for.
fn theirs(cell: &Cell, number: CommitmentNumber) -> CloseKind {
    match cell.which {
        Which::Current | Which::Pending => CloseKind::Remote,
        Which::Next => CloseKind::NextRemote,
        Which::RevokedByOne | Which::RevokedLongAgo => CloseKind::Revoked(number),
    }
}

/// The rows that the broadcaster's peer has of the HTLC.
fn history(cell: &Cell, add: &Add) -> Vec<channeld::transactions::HtlcHistory> {
    let stages = cell.stages();
    let last = match stages.current {
        Stage::Removed if cell.which == Which::RevokedLongAgo => Some(5),
        Stage::Removed => Some(CURRENT - 1),
        Stage::Absent | Stage::Present => None,
    };
    let first = match (stages.confirmed, cell.which) {
        (Stage::Present, Which::RevokedLongAgo) => 1,
        (Stage::Present, _) => 5,
        _ => CURRENT,
    };
    if stages.confirmed == Stage::Absent && stages.current != Stage::Present {
        return Vec::new();
    }
    vec![add.history(cell.broadcaster, first, last)]
}
