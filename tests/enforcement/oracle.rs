//! What BOLT 3 and 5 promise, worked out from what was agreed and from nothing that a resolver planned; what came of it is
//! read off the chain, fees included.

use std::collections::BTreeMap;

use bitcoin::{OutPoint, Transaction, TxOut};
use channeld::transactions::CommitmentFormat;

use crate::contract::{Add, BOTH, Contract, Side, State};
use crate::ground::{Ground, is_open};
use crate::party::Party;

const ANCHOR: u64 = 330;

/// The outputs of a commitment (BOLT 3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outputs {
    /// `to_local` and `to_remote` by whose they are; 0 where there is none.
    pub balances: [u64; 2],
    pub htlcs: Vec<(Add, u64)>,
    pub anchors: Vec<Side>,
}

impl Outputs {
    /// BOLT 3, "Commitment Transaction Outputs", "Trimmed Outputs" and "Fee Calculation".
    pub fn of(contract: &Contract, broadcaster: Side, state: &State) -> Outputs {
        let (terms, feerate) = (&contract.terms, u64::from(state.feerate));
        let has_anchors = terms.format == CommitmentFormat::Anchors;
        let dust_limit = terms.dust_limits[broadcaster as usize];
        let second_stage = |add: &Add| (if add.by == broadcaster { 663 } else { 703 }) * feerate / 1_000;
        let least = |add: &Add| dust_limit + if has_anchors { 0 } else { second_stage(add) };
        let htlcs: Vec<(Add, u64)> = state
            .htlcs
            .iter()
            .filter(|add| add.msat / 1_000 >= least(add))
            .map(|add| (*add, add.msat / 1_000))
            .collect();
        let weight = if has_anchors { 1_124 } else { 724 } + 172 * htlcs.len() as u64;
        let cost = weight * feerate / 1_000 + if has_anchors { 2 * ANCHOR } else { 0 };
        let balance = |side: Side| {
            let balance = state.balances[side as usize] / 1_000;
            let left = if side == Side::Alice { balance.saturating_sub(cost) } else { balance };
            if left < dust_limit { 0 } else { left }
        };
        let balances = BOTH.map(balance);
        let has_anchor = |side: &Side| has_anchors && (balances[*side as usize] > 0 || !htlcs.is_empty());
        let anchors = BOTH.into_iter().filter(has_anchor).collect();
        Outputs { balances, htlcs, anchors }
    }

    /// All amounts, sorted.
    fn amounts(&self) -> Vec<u64> {
        let anchors = self.anchors.iter().map(|_| ANCHOR);
        let htlcs = self.htlcs.iter().map(|(_, sat)| *sat);
        let mut all: Vec<u64> = self.balances.into_iter().filter(|sat| *sat > 0).chain(htlcs).chain(anchors).collect();
        all.sort_unstable();
        all
    }

    /// That a commitment has exactly these.
    pub fn check(&self, commitment: &Transaction) {
        let mut found: Vec<u64> = commitment.output.iter().map(|output| output.value.to_sat()).collect();
        found.sort_unstable();
        assert_eq!(found, self.amounts(), "the outputs of the commitment");
    }
}

/// What one channel and the coins that came to its help have become.
pub struct Books {
    /// What each side's wallet holds.
    pub holds: [u64; 2],
    /// What each side's claims paid.
    pub fees: [u64; 2],
    /// What lies on outputs of nobody's wallet.
    pub left: BTreeMap<OutPoint, TxOut>,
    /// Of 330 sat each: those that a side's own transaction took.
    pub anchors_taken: [u64; 2],
    /// What strangers' coins hold and paid.
    pub strangers: (u64, u64),
    /// All transactions of the channel, in the order of the chain.
    pub transactions: Vec<Transaction>,
    /// Their fees, in the same order; of strangers' too.
    pub paid: Vec<u64>,
}

/// Follows every coin of the channel and of its wallets from `start` on. What a second stage without a wallet's output pays
/// itself is `heir`'s.
pub fn books(ground: &Ground, contract: &Contract, parties: [&Party; 2], start: u32, heir: Side) -> Books {
    let anchors = BOTH.map(|side| contract.parameters(side).broadcaster_anchor_script().clone());
    let funding = contract.funding.outpoint();
    let mut coins: BTreeMap<OutPoint, TxOut> = BTreeMap::new();
    let mut books = Books {
        holds: [0; 2],
        fees: [0; 2],
        left: BTreeMap::new(),
        anchors_taken: [0; 2],
        strangers: (0, 0),
        transactions: Vec::new(),
        paid: Vec::new(),
    };
    let owner = |output: &TxOut| BOTH.into_iter().find(|side| parties[*side as usize].owns(output));
    for block in ground.world.blocks_above(start) {
        for transaction in &block.txdata {
            let is_birth = transaction.compute_txid() == funding.txid;
            let concerns = transaction.input.iter().any(|input| coins.contains_key(&input.previous_output));
            if !is_birth && !concerns {
                continue;
            }
            let mut brought = 0;
            let mut anchors_in = 0;
            for input in &transaction.input {
                // A stranger's coin comes from before.
                let before = &input.previous_output;
                let output = coins.remove(before).unwrap_or_else(|| {
                    let parent = ground.world.transaction(&before.txid).expect("it was in a block");
                    parent.output[before.vout as usize].clone()
                });
                brought += output.value.to_sat();
                anchors_in += u64::from(anchors.contains(&output.script_pubkey));
            }
            let txid = transaction.compute_txid();
            for (vout, output) in (0..).zip(&transaction.output) {
                coins.insert(OutPoint { txid, vout }, output.clone());
            }
            if is_birth {
                continue;
            }
            let fee = brought - transaction.output.iter().map(|output| output.value.to_sat()).sum::<u64>();
            books.transactions.push(transaction.clone());
            books.paid.push(fee);
            if transaction.input.iter().any(|input| input.previous_output == funding) {
                continue;
            }
            let payer = transaction.output.iter().find_map(owner);
            let is_strangers = transaction.output.iter().any(|output| is_open(&output.script_pubkey));
            match payer {
                Some(side) => {
                    books.fees[side as usize] += fee;
                    books.anchors_taken[side as usize] += anchors_in * ANCHOR;
                }
                None if is_strangers => books.strangers.1 += fee,
                None => books.fees[heir as usize] += fee,
            }
        }
    }
    for (outpoint, output) in coins {
        match owner(&output) {
            Some(side) => books.holds[side as usize] += output.value.to_sat(),
            None if is_open(&output.script_pubkey) => books.strangers.0 += output.value.to_sat(),
            None => {
                books.left.insert(outpoint, output);
            }
        }
    }
    books
}

impl Books {
    /// That each side has what it had and what it was promised, less what its own transactions paid, and that nothing but
    /// anchors is left on the chain.
    pub fn check(&self, contract: &Contract, before: [u64; 2], promised: [u64; 2]) {
        self.check_holds(before, promised);
        let anchors = BOTH.map(|side| contract.parameters(side).broadcaster_anchor_script().clone());
        for (outpoint, output) in &self.left {
            assert!(anchors.contains(&output.script_pubkey), "{} is left at {outpoint}", output.value);
        }
    }

    /// The first half of that.
    pub fn check_holds(&self, before: [u64; 2], promised: [u64; 2]) {
        for side in BOTH {
            let at = side as usize;
            let should = before[at] + promised[at] + self.anchors_taken[at];
            assert_eq!(
                self.holds[at] + self.fees[at],
                should,
                "{side:?}: {} and fees of {}",
                self.holds[at],
                self.fees[at]
            );
        }
    }

    /// That every claim pays something, and none pays what nobody would; the child of the commitment pays for both.
    pub fn check_feerates(&self, most_per_kw: u64) {
        let Some((commitment, commitment_fee)) = self.transactions.iter().zip(&self.paid).next() else { return };
        let txid = commitment.compute_txid();
        let is_anchor = |outpoint: &OutPoint| {
            outpoint.txid == txid && commitment.output[outpoint.vout as usize].value.to_sat() == ANCHOR
        };
        for (transaction, fee) in self.transactions.iter().zip(&self.paid).skip(1) {
            let is_child = transaction.input.iter().any(|input| is_anchor(&input.previous_output));
            let (mut fee, mut weight) = (*fee, transaction.weight().to_wu());
            if is_child {
                fee += commitment_fee;
                weight += commitment.weight().to_wu();
            }
            let per_kw = fee * 1_000 / weight;
            let what = transaction.compute_txid();
            assert!((250..=most_per_kw).contains(&per_kw), "{what} pays {fee} sat, {per_kw} per kw");
        }
    }
}
