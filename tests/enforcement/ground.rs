//! The chain under all tests: `l1-utxo`'s rooms in memory, with coins that anybody spends.

use std::sync::{Arc, OnceLock};

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Amount, Block, OutPoint, Script, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use tests::simulation::chain::World;

use crate::contract::Side;

/// When the first block was made, in seconds since 1970.
const BEGINNING: u64 = 1_700_000_000;
/// Between two blocks.
const SPACING: u64 = 600;
/// How many coins a new chain has for its tests.
const COINS: u32 = 200;

/// Refusals that are nobody's fault: what is said again at every block is known, spent, or outbid.
const HARMLESS: [&str; 7] = [
    "txn-already",
    "txn-same-nonwitness-data-in-mempool",
    "bad-txns-inputs-missingorspent",
    "insufficient fee",
    "txn-mempool-conflict",
    "bad-txns-spends-conflicting-tx",
    "replacement-failed",
];

/// A chain, and coins that belong to nobody yet.
pub struct Ground {
    pub world: World,
    now: u64,
    coins: Vec<(OutPoint, Amount)>,
    /// Whether a package without a child may pay too little.
    pub may_be_too_cheap: bool,
}

/// A script that anybody spends, another one for each owner.
fn open_script(owner: Option<(Side, u32)>) -> ScriptBuf {
    match owner {
        None => ScriptBuf::from_bytes(vec![0x51]),
        Some((side, tag)) => {
            let tag = tag.to_be_bytes();
            ScriptBuf::from_bytes([&[5, side as u8 + 1][..], &tag, &[0x75, 0x51]].concat())
        }
    }
}

/// Where coins and change of a wallet lie.
pub fn wallet_script(owner: Option<(Side, u32)>) -> ScriptBuf {
    open_script(owner).to_p2wsh()
}

/// What spends them.
pub fn wallet_witness(owner: Option<(Side, u32)>) -> Witness {
    Witness::from_slice(&[open_script(owner).to_bytes()])
}

/// Blocks that all worlds begin with, and the coins in them.
type Base = (Vec<Arc<Block>>, Vec<(OutPoint, Amount)>);

fn base() -> &'static Base {
    static BASE: OnceLock<Base> = OnceLock::new();
    BASE.get_or_init(|| {
        let mut ground =
            Ground { world: World::new(&[], BEGINNING), now: BEGINNING, coins: Vec::new(), may_be_too_cheap: false };
        (0..101).for_each(|_| ground.mine());
        let first = ground.world.blocks()[0].txdata[0].clone();
        let value = Amount::from_sat(20_000_000);
        let output = vec![TxOut { value, script_pubkey: wallet_script(None) }; COINS as usize];
        let spent = vec![(OutPoint::new(first.compute_txid(), 0), None)];
        let split = spend(spent, output);
        ground.world.mine_these(vec![split.clone()], ground.now);
        let txid = split.compute_txid();
        (ground.world.blocks(), (0..COINS).map(|vout| (OutPoint { txid, vout }, value)).collect())
    })
}

/// A transaction of open coins.
pub fn spend(coins: Vec<(OutPoint, Option<(Side, u32)>)>, output: Vec<TxOut>) -> Transaction {
    let input = coins.into_iter().map(|(previous_output, owner)| TxIn {
        previous_output,
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: wallet_witness(owner),
        ..TxIn::default()
    });
    Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input: input.collect(), output }
}

impl Ground {
    pub fn new() -> Ground {
        let (blocks, coins) = base();
        let now = BEGINNING + SPACING * 200;
        Ground { world: World::new(blocks, now), now, coins: coins.clone(), may_be_too_cheap: false }
    }

    /// A coin of 20,000,000 sat, for whoever asks.
    pub fn coin(&mut self) -> (OutPoint, Amount) {
        self.coins.pop().expect("few tests share a chain")
    }

    pub fn height(&self) -> u32 {
        self.world.height()
    }

    /// A confirmed transaction that makes these outputs first.
    pub fn give(&mut self, mut output: Vec<TxOut>) -> Transaction {
        let (coin, value) = self.coin();
        let given: Amount = output.iter().map(|output| output.value).sum();
        output.push(TxOut { value: value - given - Amount::from_sat(2_000), script_pubkey: wallet_script(None) });
        let transaction = spend(vec![(coin, None)], output);
        self.now += SPACING;
        self.world.mine_these(vec![transaction.clone()], self.now);
        transaction
    }

    /// Hands a transaction to the mempool.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn try_submit(&mut self, transaction: &Transaction) -> Result<(), String> {
        let refused = self.world.broadcast(std::slice::from_ref(transaction), self.now);
        refused.into_iter().next().map_or(Ok(()), |(_, reason)| Err(reason))
    }

    /// The same, of one that must be taken.
    pub fn submit(&mut self, transaction: &Transaction) {
        if let Err(reason) = self.try_submit(transaction) {
            panic!("{} is refused: {reason}", transaction.compute_txid());
        }
    }

    /// A package of a resolver's. That it comes too late or pays too little is no fault; a broken rule is. Whoever has not
    /// seen all blocks, or some that are gone, may also be too early.
    pub fn broadcast(&mut self, package: &[Transaction], is_behind: bool) {
        let refused = self.world.broadcast(package, self.now);
        // As the daemon does: one by one, and together where that was not enough.
        if !refused.is_empty() && package.len() > 1 && self.world.submit_package(package, self.now) {
            return;
        }
        for (txid, reason) in refused {
            let is_early = is_behind && reason.starts_with("non-");
            let is_harmless = is_early || HARMLESS.iter().any(|harmless| reason.starts_with(harmless));
            let is_cheap = self.may_be_too_cheap && reason.starts_with("min relay fee not met");
            assert!(is_harmless || is_cheap, "the claim {txid} is refused: {reason}");
        }
    }

    /// A block of what waits.
    pub fn mine(&mut self) {
        self.now += SPACING;
        self.world.mine(None, false, self.now);
    }

    /// A block without anything that waits.
    pub fn mine_empty(&mut self) {
        self.now += SPACING;
        self.world.mine(None, true, self.now);
    }

    /// A block of these alone.
    pub fn mine_these(&mut self, transactions: &[Transaction]) {
        self.now += SPACING;
        self.world.mine_these(transactions.to_vec(), self.now);
    }

    /// Takes blocks back; what they held waits again.
    pub fn unwind(&mut self, depth: u32) {
        self.now += SPACING;
        self.world.unwind(depth, self.now);
    }

    /// The mempool loses all it holds.
    pub fn forget(&mut self) {
        self.world.forget();
    }
}

/// Whether a script is one that the chain's miner is paid with.
pub fn is_open(script: &Script) -> bool {
    *script == *wallet_script(None)
}
