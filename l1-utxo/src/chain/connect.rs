//! One block against the coins: the rules that need them, and the coins that it spends and makes.
//!
//! Core: `ConnectBlock`, `DisconnectBlock`, `UpdateCoins`. Cheap rules decide first, then scripts, then the coinbase's
//! amount; the first transaction, and in it the first input, that fails gives the reason. Scripts run on all cores while
//! the cheap rules of later transactions are looked at.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use bitcoin::{Amount, OutPoint, Transaction, TxOut, Txid};
use rayon::prelude::*;

use super::coin::{Coin, CoinView, LentCoin, is_unspendable};
use super::coins::CoinsCache;
use crate::consensus::block::MAX_BLOCK_SIGOPS_COST;
use crate::consensus::locktime::SequenceLock;
use crate::consensus::script::{ScriptFlags, SignatureCache, TransactionCache, verify_input};
use crate::consensus::sigop::sigop_cost;
use crate::consensus::subsidy::block_subsidy;
use crate::consensus::transaction::{MAX_MONEY, value_out, verify_inputs};
use crate::consensus::{BlockError, BodyError, HashedBlock, TransactionError};
use crate::params::{Activation, Params};

/// From this many of them on, look-ups and inputs are spread over the cores.
const PARALLEL_FROM: usize = 16;
/// Transactions whose scripts are handed to the cores together, as soon as their cheap rules hold.
const BATCH: usize = 8;

/// What disconnecting a block needs: the coins that it spent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockUndo {
    /// For each transaction after the coinbase, the coins of its inputs in their order.
    pub spent: Vec<Vec<Coin>>,
}

/// What a block is connected to.
#[derive(Clone, Copy)]
pub struct ConnectContext<'a> {
    /// The network's constants.
    pub params: &'a Params,
    /// The block's height.
    pub height: u32,
    /// The BIP 113 clock: the parent's median time past.
    pub median_time_past: u32,
    /// The median time past of the block at a height of the chain that ends at the parent.
    pub median_time_past_at: &'a (dyn Fn(u32) -> u32 + Sync),
    /// Signatures known to be valid.
    pub signatures: Option<&'a SignatureCache>,
}

/// What a valid block amounts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The coins that it spends.
    pub undo: BlockUndo,
    /// The fees of all its transactions.
    pub fees: Amount,
}

/// Checks a block that has passed `check_block` and `check_block_in_context` against the coins of its parent's chain.
pub fn verify_block(
    block: &HashedBlock,
    context: &ConnectContext<'_>,
    view: &dyn CoinView,
) -> Result<Connection, BlockError> {
    let transactions = block.transactions();
    let flags = script_flags(context.height, &context.params.activation);
    // Filled one after the other while the scripts of those before run; what is filled stays where it is.
    let batches: Vec<OnceLock<Vec<Vec<Coin>>>> = transactions.chunks(BATCH).map(|_| OnceLock::new()).collect();
    let scripts = Scripts::new(flags, context.signatures);
    let lookup = Lookup::new(block, context.height, view);
    let mut checks = Checks { context, flags, taken: BTreeSet::new(), fees: 0, sigops: 0 };
    let queue = Queue::default();
    let run = || {
        while let Some(place) = queue.take() {
            scripts.run(block, place * BATCH, batches[place].get().map_or(&[][..], Vec::as_slice));
        }
    };
    std::thread::scope(|scope| {
        // Each is worth starting for as many transactions.
        let helpers = (rayon::current_num_threads() - 1).min(transactions.len() / PARALLEL_FROM);
        for _ in 0..helpers {
            // Where the system gives no thread, the others have more to do.
            drop(std::thread::Builder::new().name("scripts".to_owned()).spawn_scoped(scope, run));
        }
        let closing = Closing(&queue);
        let outcome: Result<(), BlockError> = batches.iter().enumerate().try_for_each(|(place, batch)| {
            let coins = checks.batch(&lookup, place * BATCH)?;
            batch.get_or_init(|| coins);
            queue.put(place);
            Ok(())
        });
        // A cheap rule that is broken decides, whatever the scripts say.
        if outcome.is_err() {
            scripts.stop();
        }
        drop(closing);
        run();
        outcome
    })?;
    let spent = batches.into_iter().flat_map(|batch| batch.into_inner().unwrap_or_default());
    // The coinbase spends nothing.
    let spent: Vec<Vec<Coin>> = spent.skip(1).collect();
    scripts.verdict()?;
    verify_coinbase_amount(block, context, checks.fees)?;
    Ok(Connection { undo: BlockUndo { spent }, fees: Amount::from_sat(checks.fees) })
}

/// The script rules of the block at a height (Core: `GetBlockScriptFlags`).
pub fn script_flags(height: u32, from: &Activation) -> ScriptFlags {
    let forks = [
        (ScriptFlags::DERSIG, from.dersig),
        (ScriptFlags::CHECKLOCKTIMEVERIFY, from.cltv),
        (ScriptFlags::CHECKSEQUENCEVERIFY, from.csv),
        (ScriptFlags::NULLDUMMY, from.segwit),
    ];
    let inactive = forks.into_iter().filter(|(_, from)| height < *from);
    inactive.fold(ScriptFlags::CONSENSUS, |flags, (fork, _)| flags.without(fork))
}

/// The rules that cost little, from the first transaction to the last.
struct Checks<'a> {
    context: &'a ConnectContext<'a>,
    flags: ScriptFlags,
    taken: BTreeSet<OutPoint>,
    fees: u64,
    sigops: u64,
}

impl Checks<'_> {
    /// The coins that the transactions of a batch spend, if they may.
    fn batch(&mut self, lookup: &Lookup<'_>, first: usize) -> Result<Vec<Vec<Coin>>, BlockError> {
        let count = lookup.block.transactions().len();
        let one = |index: usize| {
            if lookup.overwrites(index) {
                return Err(BodyError::Bip30.into());
            }
            self.transaction(lookup.block, index, lookup.coins(index)).map_err(|error| {
                // The rule on what exists comes before all others, whichever transaction breaks it.
                let is_bip30 = (index + 1..count).any(|later| lookup.overwrites(later));
                if is_bip30 { BodyError::Bip30.into() } else { error }
            })
        };
        (first..(first + BATCH).min(count)).map(one).collect()
    }

    fn transaction(
        &mut self,
        block: &HashedBlock,
        index: usize,
        found: Vec<Option<Coin>>,
    ) -> Result<Vec<Coin>, BlockError> {
        let transaction = &block.transactions()[index];
        let mut coins = Vec::new();
        if index > 0 {
            let at_fault = |error| BlockError::Transaction { txid: block.txids()[index], error };
            coins = take_coins(transaction, found, &mut self.taken).map_err(at_fault)?;
            let values = coins.iter().map(Coin::as_spent);
            self.fees += verify_inputs(transaction, values, self.context.height).map_err(at_fault)?.to_sat();
            if self.fees > MAX_MONEY {
                return Err(BodyError::AccumulatedFeeOutOfRange.into());
            }
            if self.context.height >= self.context.params.activation.csv {
                verify_sequence_locks(transaction, &coins, self.context)?;
            }
        }
        let prevouts: Vec<&TxOut> = coins.iter().map(|coin| &coin.output).collect();
        self.sigops += sigop_cost(transaction, &prevouts, self.flags);
        if self.sigops > MAX_BLOCK_SIGOPS_COST {
            return Err(BodyError::SigopCost.into());
        }
        Ok(coins)
    }
}

/// What the coins of the parent's chain say to the transactions of a block.
struct Lookup<'a> {
    block: &'a HashedBlock,
    height: u32,
    view: &'a dyn CoinView,
    /// The places of the transactions.
    made: BTreeMap<&'a Txid, usize>,
}

impl<'a> Lookup<'a> {
    fn new(block: &'a HashedBlock, height: u32, view: &'a dyn CoinView) -> Self {
        let made = block.txids().iter().enumerate().map(|(index, txid)| (txid, index)).collect();
        Self { block, height, view, made }
    }

    /// Whether an output that a transaction makes exists already. BIP 30, on every block as on Core's regtest (that BIP 34
    /// already implies it here is no reason to trust it).
    fn overwrites(&self, index: usize) -> bool {
        let (txid, transaction) = (self.block.txids()[index], &self.block.transactions()[index]);
        (0..transaction.output.len() as u32).any(|vout| self.view.has_coin(&OutPoint { txid, vout }))
    }

    /// The coins of a transaction's inputs, from the block itself if an earlier one makes them, else from the view. Whether
    /// another transaction wants the same ones is not looked at.
    fn coins(&self, spender: usize) -> Vec<Option<Coin>> {
        let input = &self.block.transactions()[spender].input;
        if spender == 0 {
            return Vec::new();
        }
        if input.len() < PARALLEL_FROM {
            return input.iter().map(|input| self.coin(spender, &input.previous_output)).collect();
        }
        input.par_iter().map(|input| self.coin(spender, &input.previous_output)).collect()
    }

    fn coin(&self, spender: usize, outpoint: &OutPoint) -> Option<Coin> {
        match self.made.get(&outpoint.txid) {
            Some(&maker) if maker < spender => {
                let output = self.block.transactions()[maker].output.get(outpoint.vout as usize)?;
                let coin = || Coin { output: output.clone(), height: self.height, is_coinbase: maker == 0 };
                (!is_unspendable(&output.script_pubkey)).then(coin)
            }
            Some(_) => None,
            None => self.view.coin(outpoint),
        }
    }
}

/// Batches that wait for a thread. Who finds none sleeps until there is one: threads that only yield lose the processor to
/// other programs, with the work that comes a moment later.
#[derive(Default)]
struct Queue {
    state: Mutex<(VecDeque<usize>, bool)>,
    changed: Condvar,
}

impl Queue {
    fn put(&self, place: usize) {
        self.lock().0.push_back(place);
        self.changed.notify_one();
    }

    /// The next one; `None` when none will come.
    fn take(&self) -> Option<usize> {
        let waiting = self.changed.wait_while(self.lock(), |(places, is_closed)| places.is_empty() && !*is_closed);
        waiting.unwrap_or_else(PoisonError::into_inner).0.pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, (VecDeque<usize>, bool)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When this goes, nothing more will come; even if it goes by a panic, those who wait hear so.
struct Closing<'a>(&'a Queue);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.lock().1 = true;
        self.0.changed.notify_all();
    }
}

/// The coins of one transaction, if all exist and none is taken by an earlier input of the block.
fn take_coins(
    transaction: &Transaction,
    found: Vec<Option<Coin>>,
    taken: &mut BTreeSet<OutPoint>,
) -> Result<Vec<Coin>, TransactionError> {
    let take = |(coin, input): (Option<Coin>, &bitcoin::TxIn)| coin.filter(|_| taken.insert(input.previous_output));
    let coins: Option<Vec<Coin>> = found.into_iter().zip(&transaction.input).map(take).collect();
    coins.ok_or(TransactionError::InputsMissingOrSpent)
}

fn verify_sequence_locks(
    transaction: &Transaction,
    coins: &[Coin],
    context: &ConnectContext<'_>,
) -> Result<(), BodyError> {
    let heights: Vec<u32> = coins.iter().map(|coin| coin.height).collect();
    let lock = SequenceLock::of(transaction, &heights, context.median_time_past_at);
    if lock.is_passed(context.height, context.median_time_past) {
        Ok(())
    } else {
        Err(BodyError::SequenceNonFinal(transaction.compute_txid()))
    }
}

/// The scripts of a block, run on all cores, in whatever order; the first in block order that fails is reported.
struct Scripts<'a> {
    flags: ScriptFlags,
    signatures: Option<&'a SignatureCache>,
    /// The place of the first transaction known to fail, and how.
    failed: Mutex<Option<(usize, BlockError)>>,
    /// Nobody wants the rest any more.
    has_stopped: AtomicBool,
}

impl<'a> Scripts<'a> {
    const fn new(flags: ScriptFlags, signatures: Option<&'a SignatureCache>) -> Self {
        Self { flags, signatures, failed: Mutex::new(None), has_stopped: AtomicBool::new(false) }
    }

    /// Runs those of the transactions from `first` on that spend these coins.
    fn run(&self, block: &HashedBlock, first: usize, spent: &[Vec<Coin>]) {
        if self.has_stopped.load(Ordering::Relaxed) || self.first_failed().is_some_and(|(place, _)| place < first) {
            return;
        }
        let transactions = &block.transactions()[first..];
        let fails = |(place, (transaction, coins)): (usize, (&Transaction, &Vec<Coin>))| {
            self.failure(transaction, coins).map(|error| (first + place, error))
        };
        if let Some((place, error)) = transactions.iter().zip(spent).enumerate().find_map(fails) {
            let mut first = self.first_failed();
            if first.is_none_or(|(other, _)| place < other) {
                *first = Some((place, error));
            }
        }
    }

    fn failure(&self, transaction: &Transaction, coins: &[Coin]) -> Option<BlockError> {
        if coins.is_empty() {
            return None;
        }
        let cache = TransactionCache::new(transaction, coins.iter().map(|coin| &coin.output).collect());
        let cache = match self.signatures {
            Some(signatures) => cache.with_signature_cache(signatures),
            None => cache,
        };
        let verify = |input: usize| {
            let error = verify_input(&cache, input, self.flags).err()?;
            let (txid, wtxid) = (transaction.compute_txid(), transaction.compute_wtxid());
            let spending = transaction.input[input].previous_output;
            Some(BlockError::Script { txid, wtxid, input: input as u32, spending, error })
        };
        if coins.len() < PARALLEL_FROM {
            return (0..coins.len()).find_map(verify);
        }
        (0..coins.len()).into_par_iter().find_map_first(verify)
    }

    fn first_failed(&self) -> MutexGuard<'_, Option<(usize, BlockError)>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        self.has_stopped.store(true, Ordering::Relaxed);
    }

    fn verdict(self) -> Result<(), BlockError> {
        let failed = self.failed.into_inner().unwrap_or_else(PoisonError::into_inner);
        failed.map_or(Ok(()), |(_, error)| Err(error))
    }
}

fn verify_coinbase_amount(block: &HashedBlock, context: &ConnectContext<'_>, fees: u64) -> Result<(), BodyError> {
    let subsidy = block_subsidy(context.height, context.params.subsidy_halving_interval);
    // Both are at most 21e14: no overflow.
    let limit = subsidy.to_sat() + fees;
    let actual = block.transactions().first().map_or(0, value_out);
    if actual > limit { Err(BodyError::CoinbaseAmount { actual, limit }) } else { Ok(()) }
}

/// Takes a verified block's coins out of the cache and puts its own in.
pub(super) fn apply(cache: &mut CoinsCache, block: &HashedBlock, height: u32) {
    for (index, (txid, transaction)) in block.iter().enumerate() {
        if index > 0 {
            for input in &transaction.input {
                cache.spend(&input.previous_output);
            }
        }
        for (outpoint, output) in spendable_outputs(*txid, transaction) {
            let (value, script) = (output.value, &*output.script_pubkey);
            cache.add(&outpoint, LentCoin { value, script, height, is_coinbase: index == 0 });
        }
    }
}

/// The undo data, or the coins, are not those of the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UndoMismatch;

/// Takes a connected block's own coins out of the cache and puts back those that it spent, last transaction first.
pub(super) fn revert(
    cache: &mut CoinsCache,
    base: &dyn CoinView,
    block: &HashedBlock,
    undo: BlockUndo,
    height: u32,
) -> Result<(), UndoMismatch> {
    if undo.spent.len() + 1 != block.transactions().len() {
        return Err(UndoMismatch);
    }
    let spent = std::iter::once(Vec::new()).chain(undo.spent).collect::<Vec<_>>().into_iter();
    for (index, ((txid, transaction), coins)) in block.iter().zip(spent).enumerate().rev() {
        for (outpoint, output) in spendable_outputs(*txid, transaction) {
            let wanted = Coin { output: output.clone(), height, is_coinbase: index == 0 };
            if (super::CoinsTip { cache, base }).coin(&outpoint) != Some(wanted) {
                return Err(UndoMismatch);
            }
            cache.spend(&outpoint);
        }
        if index == 0 {
            break;
        }
        if coins.len() != transaction.input.len() {
            return Err(UndoMismatch);
        }
        for (input, coin) in transaction.input.iter().zip(coins).rev() {
            cache.add(&input.previous_output, coin.lent());
        }
    }
    Ok(())
}

fn spendable_outputs(txid: Txid, transaction: &Transaction) -> impl Iterator<Item = (OutPoint, &TxOut)> {
    transaction
        .output
        .iter()
        .enumerate()
        .filter(|(_, output)| !is_unspendable(&output.script_pubkey))
        .map(move |(vout, output)| (OutPoint { txid, vout: vout as u32 }, output))
}
