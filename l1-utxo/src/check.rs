//! `l1-utxo check`: is a data directory what its chain says it is? Offline: it takes the directory's lock and changes nothing.
//!
//! Levels, each with those before it: 1 the marker, the segments' names and ends, the tree of headers; 2 every record's
//! checksum, every block against its header; 3 the coins, by the hash of all that blocks made and spent; 4 every rule and
//! every script again. Core: `VerifyDB` with its `-checklevel`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bitcoin::{BlockHash, OutPoint, Txid};

use crate::chain::{
    BlockId, BlockUndo, Chain, ChainError, Coin, CoinView, CoinsHash, ConnectContext, MuHash, Position, coin_element,
    coins_stats, is_unspendable, verify_block,
};
use crate::consensus::block::{check_block, check_block_in_context};
use crate::consensus::{BlockError, HashedBlock};
use crate::params::Network;
use crate::store::{Content, Store, StoreError, StoreOptions, Stored};

/// How much is looked at, unless said otherwise.
pub const DEFAULT_LEVEL: u8 = 3;
/// All there is to look at.
pub const MAX_LEVEL: u8 = 4;
/// Blocks between two lines of progress.
const PROGRESS: u32 = 10_000;

/// What is wrong with a directory, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// Files or database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The index makes no tree.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The index speaks of a record that the log does not have, or has for another block.
    #[error("the block index places {what} of block {hash} where the log has none: {ADVICE}")]
    Misplaced {
        /// The block.
        hash: BlockHash,
        /// "the body" or "the undo data".
        what: &'static str,
    },
    /// A stored block breaks a rule.
    #[error("block {hash} at height {height} is stored as part of the chain, but breaks a rule: {}: {ADVICE}", error.state())]
    Invalid {
        /// The block.
        hash: BlockHash,
        /// Its height.
        height: u32,
        /// The rule.
        error: Box<BlockError>,
    },
    /// Undo data do not fit their block.
    #[error("the undo data of block {0} do not fit it: {ADVICE}")]
    UndoMismatch(BlockHash),
    /// The stored coins are not those that the blocks leave.
    #[error("the coins are not those of the chain up to {best}: {ADVICE}")]
    OtherCoins {
        /// The block whose coins these should be.
        best: BlockHash,
    },
}

/// What helps against nearly everything: the blocks are checked again one by one.
const ADVICE: &str = "remove chainstate/ in the data directory and start again, and coins and index are made anew from \
                      the blocks; if that fails, restore the directory from a copy";

/// What was found in a directory that is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Headers in the index.
    pub headers: usize,
    /// The block whose coins are stored, and its height.
    pub best: (BlockHash, u32),
    /// Whole records in the log; 0 below level 2.
    pub records: u64,
    /// Blocks in the log that the next start will take in.
    pub unflushed: u64,
    /// Bytes after the last whole record, which the next start will cut.
    pub torn: u64,
    /// Coins, counted from level 3 on.
    pub coins: Option<u64>,
}

/// Looks at the directory of one network; `progress` gets a line now and then.
pub fn check(dir: &Path, network: Network, level: u8, progress: &mut dyn FnMut(String)) -> Result<Report, CheckError> {
    let store = Store::open_to_check(dir, network.params(), StoreOptions::default())?;
    let stored = store.stored()?;
    let chain = Chain::open(network.params(), stored.rows.clone(), stored.best_block, 0)?;
    let tip = chain.tip_entry();
    progress(format!("level 1: {} headers, coins of block {} at height {}", chain.index().len(), tip.hash, tip.height));
    let mut report = Report {
        headers: chain.index().len(),
        best: (tip.hash, tip.height),
        records: 0,
        unflushed: 0,
        torn: 0,
        coins: None,
    };
    if level >= 2 {
        check_log(&store, &stored, &chain, &mut report, progress)?;
    }
    if level >= 3 {
        report.coins = Some(check_coins(&store, &chain, level, progress)?);
    }
    Ok(report)
}

/// Level 2: every record of the log, and that each row's records are there.
fn check_log(
    store: &Store,
    stored: &Stored,
    chain: &Chain,
    report: &mut Report,
    progress: &mut dyn FnMut(String),
) -> Result<(), CheckError> {
    let mut found: BTreeMap<Position, (bool, BlockHash)> = BTreeMap::new();
    let mut failure = None;
    let (records, end) = store.read_log(|position, content| {
        let (is_block, hash) = match content {
            Content::Block(block) => (true, check_body(chain, HashedBlock::new(*block), &mut failure)),
            Content::Undo(hash, _) => (false, hash),
        };
        if (position.segment, position.offset) >= stored.flushed {
            report.unflushed += u64::from(is_block);
        }
        found.insert(position, (is_block, hash));
        if found.len().is_multiple_of(PROGRESS as usize) {
            progress(format!("level 2: {} records", found.len()));
        }
        Ok(())
    })?;
    if let Some(error) = failure {
        return Err(error);
    }
    for row in &stored.rows {
        let hash = row.header.block_hash();
        for (position, is_block, what) in [(row.data, true, "the body"), (row.undo, false, "the undo data")] {
            if position.is_some_and(|position| found.get(&position) != Some(&(is_block, hash))) {
                return Err(CheckError::Misplaced { hash, what });
            }
        }
    }
    (report.records, report.torn) = (records, store.bytes_after(end)?);
    progress(format!("level 2: {records} records, all with their checksums"));
    Ok(())
}

/// The rules that need no coins; the first block that breaks one is kept. Blocks that are marked may break them.
fn check_body(chain: &Chain, block: HashedBlock, failure: &mut Option<CheckError>) -> BlockHash {
    let hash = block.hash();
    let known = chain.find(&hash).map(|id| chain.entry(id));
    let height = known.map_or(0, |entry| entry.height);
    if failure.is_none()
        && !known.is_some_and(|entry| entry.is_failed)
        && let Err(error) = check_block(&block, chain.params(), true)
    {
        *failure = Some(CheckError::Invalid { hash, height, error: Box::new(error) });
    }
    hash
}

/// Levels 3 and 4: what the blocks of the chain made and spent is what is stored. Undo data tell what was spent, and a
/// false word in them changes the hash, so no set of coins need be kept in memory.
fn check_coins(store: &Store, chain: &Chain, level: u8, progress: &mut dyn FnMut(String)) -> Result<u64, CheckError> {
    let mut hash = MuHash::new();
    let tip = chain.tip_entry();
    for height in 1..=tip.height {
        let id = chain.at_height(height).expect("the chain has all heights up to its tip");
        let block = chain.read_block(store, id)?;
        let undo = chain.read_undo(store, id)?;
        if level >= 4 {
            verify(chain, id, &block, &undo)?;
        }
        add(&mut hash, &block, &undo, height).ok_or(CheckError::UndoMismatch(block.hash()))?;
        if height.is_multiple_of(PROGRESS) {
            progress(format!("level {level}: {height} of {} blocks", tip.height));
        }
    }
    let stats = coins_stats(CoinsHash::MuHash, store.coins_snapshot().iter())?;
    if stats.hash != Some(hash.finalize()) {
        return Err(CheckError::OtherCoins { best: tip.hash });
    }
    progress(format!("level {level}: {} coins, those that {} blocks leave", stats.txouts, tip.height));
    Ok(stats.txouts)
}

/// Puts what a block makes into the hash and takes out what it spends; `None` if the undo data do not fit.
fn add(hash: &mut MuHash, block: &HashedBlock, undo: &BlockUndo, height: u32) -> Option<()> {
    if undo.spent.len() + 1 != block.transactions().len() {
        return None;
    }
    for (index, (txid, transaction)) in block.iter().enumerate() {
        if index > 0 {
            let coins = undo.spent.get(index - 1).filter(|coins| coins.len() == transaction.input.len())?;
            for (input, coin) in transaction.input.iter().zip(coins) {
                hash.remove(&coin_element(&input.previous_output, coin));
            }
        }
        for (vout, output) in (0..).zip(&transaction.output) {
            if !is_unspendable(&output.script_pubkey) {
                let coin = Coin { output: output.clone(), height, is_coinbase: index == 0 };
                hash.insert(&coin_element(&OutPoint { txid: *txid, vout }, &coin));
            }
        }
    }
    Some(())
}

/// The coins that a block spends, from its undo data.
struct Spent(BTreeMap<OutPoint, Coin>);

impl CoinView for Spent {
    fn coin(&self, outpoint: &OutPoint) -> Option<Coin> {
        self.0.get(outpoint).cloned()
    }
}

/// Level 4: all rules, on the coins that the undo data name.
fn verify(chain: &Chain, id: BlockId, block: &HashedBlock, undo: &BlockUndo) -> Result<(), CheckError> {
    let entry = chain.entry(id);
    let median_time_past = entry.parent.map_or(0, |parent| chain.entry(parent).median_time_past);
    let inputs = block.transactions().iter().skip(1).zip(&undo.spent);
    let inputs = inputs.flat_map(|(transaction, coins)| transaction.input.iter().zip(coins));
    let made: BTreeSet<&Txid> = block.txids().iter().collect();
    let made_here = |outpoint: &OutPoint| made.contains(&outpoint.txid);
    let coins = inputs.map(|(input, coin)| (input.previous_output, coin.clone()));
    let spent = Spent(coins.filter(|(outpoint, _)| !made_here(outpoint)).collect());
    let context = ConnectContext {
        params: chain.params(),
        height: entry.height,
        median_time_past,
        median_time_past_at: &|height| chain.median_time_past_at(height),
        signatures: None,
    };
    let in_context =
        check_block_in_context(block, entry.height, median_time_past, chain.params()).map_err(BlockError::from);
    let verdict = in_context.and_then(|()| verify_block(block, &context, &spent));
    let invalid = |error| CheckError::Invalid { hash: entry.hash, height: entry.height, error: Box::new(error) };
    let connection = verdict.map_err(invalid)?;
    if connection.undo == *undo { Ok(()) } else { Err(CheckError::UndoMismatch(entry.hash)) }
}

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The directory of the network.
    pub dir: PathBuf,
    /// The network.
    pub network: Network,
    /// 1 to 4.
    pub level: u8,
}

/// Checks, with progress on stderr and the outcome on stdout; whether all is well.
pub fn run(request: &Request) -> bool {
    match check(&request.dir, request.network, request.level, &mut |line| eprintln!("{line}")) {
        Ok(report) => {
            println!("{}", describe(&request.dir, request.level, &report));
            true
        }
        Err(error) => {
            eprintln!("error: {error}");
            false
        }
    }
}

fn describe(dir: &Path, level: u8, report: &Report) -> String {
    let (hash, height) = report.best;
    let mut text = format!("{}: ok at level {level}: height {height}, block {hash}", dir.display());
    if let Some(coins) = report.coins {
        text.push_str(&format!(", {coins} coins"));
    }
    if report.unflushed > 0 {
        text.push_str(&format!("; {} blocks more, which the next start connects", report.unflushed));
    }
    if report.torn > 0 {
        text.push_str(&format!(
            "; {} bytes of a record that was never finished, which the next start cuts",
            report.torn
        ));
    }
    text
}
