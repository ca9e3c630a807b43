//! Making blocks of our own: templates on the validation thread, the search for a nonce on another one.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::{Block, BlockHash, ScriptBuf, Transaction};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Handle, Ledger, LedgerError, Stopped, Submission};
use crate::chain::{Deployment, Entry, Source};
use crate::consensus::subsidy::block_subsidy;
use crate::consensus::{BlockError, HashedBlock};
use crate::mining::{self, Draft, Parent, Search};
use crate::params::{Network, Params};

/// Nonces tried on the validation thread: enough where work is a formality, nothing where it is not.
const QUICK_TRIES: u64 = 64;
/// Nonces between two looks at whether to give up.
const SLICE: u64 = 1 << 16;
/// Nonces that the background miner tries before it asks for a fresh template, with newer transactions and time.
const ROUND: u64 = 1 << 22;
/// How long the background miner waits after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// What a turn of mining on the validation thread came to.
#[derive(Debug, Default)]
pub struct Mined {
    /// The blocks made, oldest first; all of them are in the active chain.
    pub hashes: Vec<BlockHash>,
    /// Nonces tried.
    pub tries: u64,
    /// A block whose nonce is not found so easily: see [`solve`].
    pub unsolved: Option<Block>,
}

/// What a search came to.
#[derive(Debug)]
pub struct Solution {
    /// The block with its nonce, if one was found.
    pub block: Option<Block>,
    /// Nonces tried.
    pub tries: u64,
}

/// A block of our own was not taken.
#[derive(Debug, thiserror::Error)]
pub enum MineError {
    /// It breaks a rule: most likely its time is too far ahead, for too many were made at once.
    #[error("{reason} ({0})", reason = .0.reject_reason())]
    Refused(BlockError),
    /// The node cannot go on.
    #[error(transparent)]
    Failed(#[from] LedgerError),
}

impl Ledger {
    /// What the next block is to follow.
    pub fn parent(&self) -> Parent {
        let params = self.chain().params();
        let tip = self.chain().tip_entry();
        let height = tip.height + 1;
        let mut min_time = tip.median_time_past.saturating_add(1);
        // BIP 94: a period must not begin long before the one before it ended.
        if let Some(max_timewarp) = params.max_timewarp
            && height.is_multiple_of(params.difficulty_adjustment_interval())
        {
            min_time = min_time.max(tip.header.time.saturating_sub(max_timewarp));
        }
        let now = u32::try_from(self.now()).unwrap_or(u32::MAX);
        Parent {
            hash: tip.hash,
            height,
            median_time_past: tip.median_time_past,
            bits: self.chain().next_bits(),
            min_time,
            time: now.max(min_time),
            subsidy: block_subsidy(height, params.subsidy_halving_interval),
            version: self.mining_limits().version.unwrap_or_else(|| self.version_after(tip)),
            has_witnesses: height >= params.activation.segwit,
        }
    }

    /// Only regtest has something to vote on.
    pub(super) fn version_after(&self, tip: &Entry) -> i32 {
        let is_regtest = self.chain().params().network == Network::Regtest;
        if is_regtest { tip.deployment.version() } else { Deployment::default().version() }
    }

    /// How many transactions the last draft held, and its weight.
    pub const fn last_draft(&self) -> Option<(usize, u64)> {
        self.last_draft.get()
    }

    /// What the best block that can be made now holds.
    pub fn draft(&self) -> Draft {
        let draft = mining::draft(self.parent(), self.mempool(), self.mining_limits());
        self.last_draft.set(Some((draft.chosen.len(), draft.weight)));
        draft
    }

    /// The best block that can be made now, without a nonce.
    pub fn template(&self, script: &ScriptBuf) -> Block {
        self.draft().into_block(script.clone())
    }

    /// A block of exactly these transactions, checked, without a nonce.
    pub fn assemble(&self, script: &ScriptBuf, transactions: Vec<Transaction>) -> Result<Block, BlockError> {
        let block = HashedBlock::new(mining::build_with(&self.parent(), script.clone(), transactions));
        self.check_template(&block)?;
        Ok(block.into_block())
    }

    /// Makes up to `count` blocks as long as nonces are found easily.
    pub fn mine(&mut self, script: &ScriptBuf, count: usize, tries: u64) -> Result<Mined, MineError> {
        let mut mined = Mined::default();
        while mined.hashes.len() < count && mined.tries < tries {
            let mut block = self.template(script);
            let limit = QUICK_TRIES.min(tries - mined.tries);
            match mining::search(&block.header, 0, limit, self.chain().params()) {
                Search::Found(nonce) => {
                    block.header.nonce = nonce;
                    mined.tries += u64::from(nonce);
                    mined.hashes.push(self.submit_own(block)?);
                }
                Search::Paused(next) => {
                    mined.tries += limit;
                    block.header.nonce = next;
                    mined.unsolved = Some(block);
                    break;
                }
                Search::Exhausted => break,
            }
        }
        Ok(mined)
    }

    /// Takes in a block that we made.
    pub fn submit_own(&mut self, block: Block) -> Result<BlockHash, MineError> {
        let block = Arc::new(HashedBlock::new(block));
        let hash = block.hash();
        match self.submit(block, Source::Requested)? {
            Submission::Refused(error) => Err(MineError::Refused(error)),
            // Another block may have come first: ours is on a branch then, as it may be on any network.
            Submission::Accepted(_) | Submission::Duplicate(_) | Submission::Inconclusive(_) => Ok(hash),
        }
    }
}

/// Searches for a nonce from the block's own on, on a thread of its own, until there is one, `tries` are used up, or
/// `give_up` says so.
pub async fn solve(
    mut block: Block,
    tries: u64,
    params: &'static Params,
    give_up: impl Fn() -> bool + Send + 'static,
) -> Solution {
    let search = move || {
        let mut used = 0;
        while used < tries && !give_up() {
            let slice = SLICE.min(tries - used);
            let start = block.header.nonce;
            match mining::search(&block.header, start, slice, params) {
                Search::Found(nonce) => {
                    block.header.nonce = nonce;
                    used += u64::from(nonce - start) + 1;
                    return Solution { block: Some(block), tries: used };
                }
                Search::Paused(next) => {
                    block.header.nonce = next;
                    used += slice;
                }
                Search::Exhausted => return Solution { block: None, tries: used + slice },
            }
        }
        Solution { block: None, tries: used }
    };
    // A panic in the search has been reported by its thread: there is no block.
    tokio::task::spawn_blocking(search).await.unwrap_or(Solution { block: None, tries: 0 })
}

/// Mines until the node stops: a block every `every`, or as fast as the work goes if that is zero.
pub async fn mine_in_background(
    handle: Handle,
    params: &'static Params,
    every: Duration,
    script: ScriptBuf,
    mut stopping: watch::Receiver<bool>,
) {
    let mut next = Instant::now() + every;
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            _ = stopping.wait_for(|stop| *stop) => return,
        }
        next = Instant::now() + every;
        match mine_one(&handle, params, &script, &stopping).await {
            Ok(Some(hash)) => tracing::info!(%hash, height = handle.tip().height, "mined"),
            Ok(None) => {}
            Err(Background::Stopped(Stopped)) => return,
            Err(Background::Refused(error)) => {
                tracing::error!(%error, "the background miner's block was not taken");
                next = Instant::now() + PAUSE.max(every);
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Background {
    #[error(transparent)]
    Stopped(#[from] Stopped),
    #[error(transparent)]
    Refused(#[from] MineError),
}

async fn mine_one(
    handle: &Handle,
    params: &'static Params,
    script: &ScriptBuf,
    stopping: &watch::Receiver<bool>,
) -> Result<Option<BlockHash>, Background> {
    while !*stopping.borrow() {
        let script = script.clone();
        let block = handle.run(move |ledger| ledger.template(&script)).await?;
        let (tips, stop, parent) = (handle.tips(), stopping.clone(), block.header.prev_blockhash);
        let solution = solve(block, ROUND, params, move || *stop.borrow() || tips.borrow().hash != parent).await;
        if let Some(block) = solution.block {
            return Ok(Some(handle.run(move |ledger| ledger.submit_own(block)).await??));
        }
    }
    Ok(None)
}
