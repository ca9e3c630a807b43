//! One block against the coins: the rules that need them, and the coins that it spends and makes.
//!
//! Core: `ConnectBlock`, `DisconnectBlock`, `UpdateCoins`. Cheap rules run first over all transactions, then scripts in
//! parallel, then the coinbase's amount; the first transaction, and in it the first input, that fails gives the reason.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{Amount, OutPoint, Transaction, TxOut, Txid};
use rayon::prelude::*;

use super::coin::{Coin, CoinView, is_unspendable};
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
    verify_bip30(block, view)?;
    let flags = script_flags(context.height, &context.params.activation);
    let mut found = find_coins(block, context.height, view);
    let mut taken = BTreeSet::new();
    let mut spent = Vec::with_capacity(found.len());
    let (mut fees, mut sigops) = (0u64, 0u64);
    for (index, (txid, transaction)) in block.iter().enumerate() {
        let mut coins = Vec::new();
        if index > 0 {
            let at_fault = |error| BlockError::Transaction { txid: *txid, error };
            coins = take_coins(transaction, std::mem::take(&mut found[index]), &mut taken).map_err(at_fault)?;
            let values = coins.iter().map(Coin::as_spent);
            fees += verify_inputs(transaction, values, context.height).map_err(at_fault)?.to_sat();
            if fees > MAX_MONEY {
                return Err(BodyError::AccumulatedFeeOutOfRange.into());
            }
            if context.height >= context.params.activation.csv {
                verify_sequence_locks(transaction, &coins, context)?;
            }
        }
        let prevouts: Vec<&TxOut> = coins.iter().map(|coin| &coin.output).collect();
        sigops += sigop_cost(transaction, &prevouts, flags);
        if sigops > MAX_BLOCK_SIGOPS_COST {
            return Err(BodyError::SigopCost.into());
        }
        if index > 0 {
            spent.push(coins);
        }
    }
    verify_scripts(block, &spent, flags, context.signatures)?;
    verify_coinbase_amount(block, context, fees)?;
    Ok(Connection { undo: BlockUndo { spent }, fees: Amount::from_sat(fees) })
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

/// BIP 30, on every block as on Core's regtest (that BIP 34 already implies it here is no reason to trust it).
fn verify_bip30(block: &HashedBlock, view: &dyn CoinView) -> Result<(), BodyError> {
    let exists = |(txid, transaction): (&Txid, &Transaction)| {
        (0..transaction.output.len() as u32).any(|vout| view.has_coin(&OutPoint { txid: *txid, vout }))
    };
    let overwrites = if block.txids().len() < PARALLEL_FROM {
        block.iter().any(exists)
    } else {
        block.txids().par_iter().zip(block.transactions()).any(exists)
    };
    if overwrites { Err(BodyError::Bip30) } else { Ok(()) }
}

/// For each transaction the coins of its inputs, from the block itself if an earlier transaction makes them, else from
/// the view. Whether two transactions want the same coin is not looked at.
fn find_coins(block: &HashedBlock, height: u32, view: &dyn CoinView) -> Vec<Vec<Option<Coin>>> {
    let made: BTreeMap<&Txid, usize> = block.txids().iter().enumerate().map(|(index, txid)| (txid, index)).collect();
    let find = |spender: usize, outpoint: &OutPoint| match made.get(&outpoint.txid) {
        Some(&maker) if maker < spender => {
            let output = block.transactions()[maker].output.get(outpoint.vout as usize)?;
            let coin = || Coin { output: output.clone(), height, is_coinbase: maker == 0 };
            (!is_unspendable(&output.script_pubkey)).then(coin)
        }
        Some(_) => None,
        None => view.coin(outpoint),
    };
    let find_all = |(spender, transaction): (usize, &Transaction)| -> Vec<Option<Coin>> {
        if spender == 0 {
            return Vec::new();
        }
        let outpoints = transaction.input.iter().map(|input| &input.previous_output);
        if transaction.input.len() < PARALLEL_FROM {
            return outpoints.map(|outpoint| find(spender, outpoint)).collect();
        }
        transaction.input.par_iter().map(|input| find(spender, &input.previous_output)).collect()
    };
    if block.transactions().len() < PARALLEL_FROM {
        return block.transactions().iter().enumerate().map(find_all).collect();
    }
    block.transactions().par_iter().enumerate().map(find_all).collect()
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

/// Runs every input's script, over all cores; the first in block order that fails is reported, whichever fails first.
fn verify_scripts(
    block: &HashedBlock,
    spent: &[Vec<Coin>],
    flags: ScriptFlags,
    signatures: Option<&SignatureCache>,
) -> Result<(), BlockError> {
    let failure = |(transaction, coins): (&Transaction, &Vec<Coin>)| {
        let cache = TransactionCache::new(transaction, coins.iter().map(|coin| &coin.output).collect());
        let cache = match signatures {
            Some(signatures) => cache.with_signature_cache(signatures),
            None => cache,
        };
        let verify = |input: usize| {
            let error = verify_input(&cache, input, flags).err()?;
            let (txid, wtxid) = (transaction.compute_txid(), transaction.compute_wtxid());
            let spending = transaction.input[input].previous_output;
            Some(BlockError::Script { txid, wtxid, input: input as u32, spending, error })
        };
        if coins.len() < PARALLEL_FROM {
            return (0..coins.len()).find_map(verify);
        }
        (0..coins.len()).into_par_iter().find_map_first(verify)
    };
    let transactions = block.transactions().get(1..).unwrap_or_default();
    let failed = match transactions.len() {
        0 => None,
        1 => transactions.iter().zip(spent).find_map(failure),
        _ => transactions.par_iter().zip(spent).find_map_first(failure),
    };
    failed.map_or(Ok(()), Err)
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
            cache.add(outpoint, Coin { output: output.clone(), height, is_coinbase: index == 0 });
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
            cache.add(input.previous_output, coin);
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
