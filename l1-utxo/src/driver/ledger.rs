//! What the validation thread owns, and what may be asked of it.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::block::Header;
use bitcoin::{BlockHash, OutPoint, Txid, Work};
use tokio::sync::{broadcast, watch};

use super::fees::Fees;
use super::network::NetworkSide;
use super::warning::Warnings;
use super::{Clock, Notice, Tip};
use crate::chain::{
    AcceptError, Acceptance, BlockId, BlockUndo, Chain, ChainError, Coin, CoinView, Connection, Source,
};
use crate::consensus::script::SignatureCache;
use crate::consensus::{BlockError, HashedBlock, HeaderError};
use crate::mempool::{Context, Event, Mempool, Policy, Removal};
use crate::mining::Limits;
use crate::params::Network;
use crate::store::{Claim, CoinsSnapshot, IndexStore, Indexes, Store, StoreError, StoreOptions, estimates};
use crate::sync::ChainNews;

/// Blocks that may wait for a flush, whatever their coins.
const MAX_DIRTY_BLOCKS: usize = 10_000;
/// Notices that may wait for the slowest listener; one that is slower misses some.
const MAX_NOTICES: usize = 8_192;
/// How long the thread is idle before it makes durable what it appended.
const SYNC_AFTER: Duration = Duration::from_secs(1);
/// From so many changed coins or blocks on, an idle thread flushes: a start after a kill would take a tenth of a second for
/// them.
const MANY_COINS: usize = 50_000;
const MANY_BLOCKS: usize = 500;

/// What the node cannot go on after.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Blocks, undo data or coins are not as they were left.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The system gives no random numbers.
    #[error("the system's random numbers: {0}")]
    Entropy(getrandom::Error),
    /// One of these came before; the node is stopping.
    #[error("{0}")]
    Failed(String),
    /// An invariant was broken on the validation thread.
    #[error("the validation thread panicked")]
    Panicked,
}

/// How much memory the ledger takes, and when it flushes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerOptions {
    /// Bytes of coins in memory before they are flushed.
    pub coins_cache: usize,
    /// Bytes of signatures that are known to be valid.
    pub signature_cache: usize,
    /// How long what changed may wait for a flush.
    pub flush_interval: Duration,
    /// The store's memory.
    pub store: StoreOptions,
    /// The indexes to keep.
    pub indexes: Indexes,
    /// Seconds by which the tip may be old without the node counting as far behind.
    pub max_tip_age: i64,
    /// Chains with less work than this are not fetched.
    pub minimum_work: Work,
    /// Seconds since 1970 where the clock stands still from the start.
    pub mock_time: Option<i64>,
    /// Whether the mempool is saved at a stop and read at the start.
    pub keeps_mempool: bool,
    /// What our blocks may hold.
    pub mining: Limits,
    /// Whether fees are estimated from the transactions that are seen.
    pub estimates_fees: bool,
    /// Whether the estimates of the last stop are used however old they are.
    pub takes_stale_estimates: bool,
}

impl Default for LedgerOptions {
    fn default() -> Self {
        Self {
            // Some 350,000 coins: a flush takes little beside them.
            coins_cache: 32 << 20,
            signature_cache: 8 << 20,
            flush_interval: Duration::from_secs(30),
            store: StoreOptions::default(),
            indexes: Indexes::default(),
            max_tip_age: 24 * 60 * 60,
            minimum_work: Work::from_be_bytes([0; 32]),
            mock_time: None,
            keeps_mempool: true,
            mining: Limits::default(),
            estimates_fees: true,
            takes_stale_estimates: false,
        }
    }
}

/// What became of a submitted block; BIP 22's words for it are `reason`'s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submission {
    /// It is in the active chain.
    Accepted(BlockId),
    /// It was here before.
    Duplicate(BlockId),
    /// It is stored, but its chain is not the best, so that its coins were not looked at.
    Inconclusive(BlockId),
    /// It breaks a rule.
    Refused(BlockError),
}

impl Submission {
    /// What `submitblock` returns; `None` for null.
    pub fn reason(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Accepted(_) => None,
            Self::Duplicate(_) => Some(Cow::Borrowed("duplicate")),
            Self::Inconclusive(_) => Some(Cow::Borrowed("inconclusive")),
            Self::Refused(error) => Some(error.reject_reason()),
        }
    }
}

/// Chain, store and mempool, with the clock.
pub struct Ledger {
    pub(super) chain: Chain,
    pub(super) store: Store,
    pub(super) mempool: Mempool,
    pub(super) signatures: Arc<SignatureCache>,
    options: LedgerOptions,
    tips: watch::Sender<Tip>,
    notices: broadcast::Sender<Notice>,
    clock: Clock,
    flushed_at: Instant,
    /// Whatever the interval says.
    is_flush_due: bool,
    has_unsynced: bool,
    failure: Option<LedgerError>,
    pub(super) dir: PathBuf,
    pub(super) indexes: Option<IndexStore>,
    pub(super) next_to_index: u32,
    pub(super) fees: Option<Fees>,
    pub(super) last_indexed: Option<BlockHash>,
    /// Whether the mempool of the stop before was read: only then may it be written over.
    pub(super) has_loaded_mempool: bool,
    /// Transactions of our own that nobody had fetched at the last stop, until there is a network.
    pub(super) unbroadcast: Vec<Txid>,
    /// The peer-to-peer side, while no message is being processed.
    pub(super) network: Option<Box<NetworkSide>>,
    pub(super) has_network: bool,
    pub(super) progress_at: Instant,
    /// What the network has not been told yet.
    pub(super) news: VecDeque<ChainNews>,
    /// Whether the tip was fresh once: from then on the node is not "in initial block download" any more.
    was_fresh: Cell<bool>,
    pub(super) last_draft: Cell<Option<(usize, u64)>>,
    pub(super) warnings: Warnings,
}

impl Ledger {
    /// Opens the data directory of a network, `DIR/<network>`, and connects again what was not flushed.
    pub fn open(dir: &Path, network: Network, policy: Policy, options: LedgerOptions) -> Result<Self, LedgerError> {
        let mut ledger = Self::load(dir, network, policy, options)?;
        ledger.catch_up()?;
        Ok(ledger)
    }

    /// Takes the directory and reads what was flushed. [`Ledger::catch_up`] next.
    pub fn load(dir: &Path, network: Network, policy: Policy, options: LedgerOptions) -> Result<Self, LedgerError> {
        Self::load_claimed(Claim::take(dir, network)?, network, policy, options)
    }

    /// The same in a directory that is ours already.
    pub fn load_claimed(
        claim: Claim,
        network: Network,
        policy: Policy,
        options: LedgerOptions,
    ) -> Result<Self, LedgerError> {
        let params = network.params();
        let dir = claim.dir().to_owned();
        let (mut store, recovered) = Store::open_claimed(claim, params, options.store)?;
        let mut salts = [0; 40];
        getrandom::fill(&mut salts).map_err(LedgerError::Entropy)?;
        let (salt, signature_salt) = salts.split_first_chunk::<8>().expect("40 bytes hold 8");
        let signature_salt = signature_salt.try_into().expect("32 of 40 bytes are left");
        let signatures = Arc::new(SignatureCache::new(options.signature_cache, signature_salt));
        let mut chain = recovered.into_chain(params, u64::from_le_bytes(*salt))?;
        chain.use_signature_cache(Some(Arc::clone(&signatures)));
        chain.require_work(options.minimum_work);
        chain.store_genesis(&mut store)?;
        let tip = tip_of(&chain);
        let clock = Clock::default();
        clock.set(options.mock_time);
        let indexes = store.open_indexes(options.indexes)?;
        let estimator = options.estimates_fees.then(|| estimates::load(&dir, options.takes_stale_estimates));
        Ok(Self {
            chain,
            store,
            mempool: Mempool::new(policy),
            signatures,
            options,
            tips: watch::Sender::new(tip),
            notices: broadcast::Sender::new(MAX_NOTICES),
            clock,
            flushed_at: Instant::now(),
            is_flush_due: false,
            has_unsynced: false,
            failure: None,
            dir,
            indexes,
            next_to_index: 0,
            fees: estimator.map(Fees::new),
            last_indexed: None,
            has_loaded_mempool: false,
            unbroadcast: Vec::new(),
            network: None,
            has_network: false,
            progress_at: Instant::now(),
            news: VecDeque::new(),
            was_fresh: Cell::new(false),
            last_draft: Cell::new(None),
            warnings: Warnings::default(),
        })
    }

    /// Connects again what was not flushed, then takes in the mempool that the last stop left.
    pub fn catch_up(&mut self) -> Result<(), LedgerError> {
        self.settle(None)?;
        // Flushed as soon as the thread is idle: who waits for the node to be ready need not wait for that.
        self.is_flush_due = true;
        self.find_indexed()?;
        if self.options.keeps_mempool {
            self.load_mempool();
        }
        tracing::info!(height = self.tip().height, hash = %self.tip().hash, "chain loaded");
        Ok(())
    }

    /// The chain.
    pub const fn chain(&self) -> &Chain {
        &self.chain
    }

    /// What our blocks may hold.
    pub const fn mining_limits(&self) -> Limits {
        self.options.mining
    }

    /// The unconfirmed transactions.
    pub const fn mempool(&self) -> &Mempool {
        &self.mempool
    }

    /// The end of the active chain.
    pub fn tip(&self) -> Tip {
        tip_of(&self.chain)
    }

    pub(super) fn tips(&self) -> watch::Receiver<Tip> {
        self.tips.subscribe()
    }

    pub(super) fn notices(&self) -> broadcast::Sender<Notice> {
        self.notices.clone()
    }

    /// Tells those who listen.
    pub(super) fn notify(&self, notice: Notice) {
        // An error means that nobody listens.
        let _ = self.notices.send(notice);
    }

    /// Tells those who listen what happened to the mempool.
    pub(super) fn notify_of_mempool(&mut self) {
        let events = self.mempool.take_events();
        self.learn(&events);
        if self.notices.receiver_count() == 0 {
            return;
        }
        for event in events {
            // What a block holds is told with the block.
            if !matches!(event, Event::Removed { reason: Removal::Block, .. }) {
                self.notify(Notice::Mempool(event));
            }
        }
    }

    /// Seconds since 1970: what was set, or the system's clock.
    pub fn now(&self) -> i64 {
        self.clock.now()
    }

    fn unsigned_now(&self) -> u64 {
        u64::try_from(self.now()).unwrap_or(0)
    }

    /// The clock, for those outside.
    pub(super) const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// What the clock was set to.
    pub(super) fn mock_time(&self) -> Option<i64> {
        self.clock.mock()
    }

    /// Sets the clock, or lets it run again (`setmocktime`).
    pub fn set_mock_time(&self, time: Option<i64>) {
        self.clock.set(time);
    }

    /// A coin of the active chain.
    pub fn coin(&self, outpoint: &OutPoint) -> Option<Coin> {
        self.chain.coin(&self.store, outpoint)
    }

    /// The coins of the active chain.
    pub fn coins(&self) -> impl CoinView + '_ {
        self.chain.view(&self.store)
    }

    /// A block whose body is here.
    pub fn read_block(&self, id: BlockId) -> Result<Arc<HashedBlock>, ChainError> {
        self.chain.read_block(&self.store, id)
    }

    /// The same as its bytes, with witnesses; `None` if its body is not here.
    pub fn read_raw_block(&self, id: BlockId) -> Result<Option<Vec<u8>>, StoreError> {
        self.chain.entry(id).data.map(|position| self.store.raw_block(position)).transpose()
    }

    /// The coins that a connected block spent.
    pub fn read_undo(&self, id: BlockId) -> Result<BlockUndo, ChainError> {
        self.chain.read_undo(&self.store, id)
    }

    /// Bytes that coins may take in memory before they are flushed.
    pub const fn coins_cache_bytes(&self) -> usize {
        self.options.coins_cache
    }

    /// The network's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Bytes of blocks and undo data on disk.
    pub fn size_on_disk(&self) -> u64 {
        self.store.size_on_disk()
    }

    /// The coins that were flushed last.
    pub fn coins_snapshot(&self) -> CoinsSnapshot {
        self.store.coins_snapshot()
    }

    /// Takes in a header that we asked for.
    pub fn accept_header(&mut self, header: &Header) -> Result<BlockId, HeaderError> {
        let now = self.unsigned_now();
        self.chain.accept_header(header, now, Source::Requested)
    }

    /// Takes in a block and moves the tip if its chain is the best.
    pub fn submit(&mut self, block: Arc<HashedBlock>, source: Source) -> Result<Submission, LedgerError> {
        self.submit_with_refusals(block, source).map(|(submission, _)| submission)
    }

    /// The same, with all blocks that were found to break a rule on the way.
    pub(super) fn submit_with_refusals(
        &mut self,
        block: Arc<HashedBlock>,
        source: Source,
    ) -> Result<(Submission, Vec<(BlockId, BlockError)>), LedgerError> {
        let now = self.unsigned_now();
        let id = match self.chain.accept_block(&mut self.store, &block, now, source) {
            Ok(Acceptance::New(id)) => id,
            Ok(Acceptance::Known(id) | Acceptance::Ignored(id)) => return Ok((Submission::Duplicate(id), Vec::new())),
            Err(AcceptError::Refused(error)) => return Ok((Submission::Refused(error), Vec::new())),
            Err(AcceptError::Failed(error)) => return Err(self.fail(error)),
        };
        self.has_unsynced = true;
        let refusals = self.settle(Some(&block))?;
        let submission = match refusals.iter().find(|(refused, _)| *refused == id) {
            Some((_, error)) => Submission::Refused(*error),
            None if self.chain.is_active(id) => Submission::Accepted(id),
            None => Submission::Inconclusive(id),
        };
        Ok((submission, refusals))
    }

    /// Core's `IsInitialBlockDownload`: the tip is more than a day old. Once it is not, this stays so until the next start.
    pub fn is_initial_download(&self) -> bool {
        if !self.was_fresh.get() {
            let tip = self.chain.tip_entry();
            let age = self.now() - i64::from(tip.header.time);
            self.was_fresh.set(age <= self.options.max_tip_age && tip.chain_work >= self.options.minimum_work);
        }
        !self.was_fresh.get()
    }

    /// Checks a block as the next of the active chain, without its proof of work; nothing changes.
    pub fn check_template(&self, block: &HashedBlock) -> Result<Connection, BlockError> {
        self.chain.check_template(&self.store, block, self.unsigned_now())
    }

    /// Marks a block as invalid by hand, and leaves its chain. Without effect on block 0.
    pub fn invalidate(&mut self, id: BlockId) -> Result<(), LedgerError> {
        self.chain.invalidate(id);
        self.settle(None)?;
        self.flush()
    }

    /// Takes such a mark back.
    pub fn reconsider(&mut self, id: BlockId) -> Result<(), LedgerError> {
        self.chain.reconsider(id);
        self.settle(None)?;
        self.flush()
    }

    /// Makes a block count as seen first among those of equal work.
    pub fn make_precious(&mut self, id: BlockId) -> Result<(), LedgerError> {
        self.chain.make_precious(id);
        self.settle(None)?;
        self.flush()
    }

    /// Lets `work` change the mempool, with what it must know of the chain.
    pub fn with_mempool<T>(&mut self, work: impl FnOnce(&mut Mempool, &Context<'_>) -> T) -> T {
        let now = self.now();
        let tip = self.chain.tip_entry();
        let context = Context {
            coins: &self.chain.view(&self.store),
            height: tip.height,
            median_time_past: tip.median_time_past,
            median_time_past_at: &|height| self.chain.median_time_past_at(height),
            signatures: &self.signatures,
            now,
        };
        let result = work(&mut self.mempool, &context);
        self.notify_of_mempool();
        result
    }

    pub(super) fn publish(&self) {
        let tip = self.tip();
        if self.tips.send_if_modified(|published| std::mem::replace(published, tip) != tip) {
            self.notify(Notice::Tip(tip));
        }
    }

    /// Whether what is in memory has reached its limit.
    pub(super) fn is_full(&self) -> bool {
        self.chain.coins_memory() > self.options.coins_cache || self.chain.dirty_blocks() > MAX_DIRTY_BLOCKS
    }

    /// How long the thread may wait for requests before there is something to sync or flush.
    pub(super) fn idle_for(&self) -> Option<Duration> {
        if !self.is_indexed() {
            return Some(Duration::ZERO);
        }
        if self.has_unsynced {
            return Some(SYNC_AFTER);
        }
        self.chain.is_dirty().then(|| self.until_flush())
    }

    fn until_flush(&self) -> Duration {
        if self.is_flush_due {
            return Duration::ZERO;
        }
        self.options.flush_interval.saturating_sub(self.flushed_at.elapsed())
    }

    /// Does what waits while there are no requests: blocks go into the indexes, or are made durable; without their coins, unless
    /// these are so many that they would hold up a start after a kill.
    pub(super) fn sync(&mut self) -> Result<(), LedgerError> {
        if !self.is_indexed() {
            return self.index_some().map_err(|error| self.fail(error));
        }
        self.has_unsynced = false;
        if self.chain.dirty_coins() >= MANY_COINS || self.chain.dirty_blocks() >= MANY_BLOCKS {
            return self.flush();
        }
        self.store.sync_blocks().map_err(|error| self.fail(error))
    }

    /// Flushes if what is in memory has reached its limit, or has waited long enough. Fails if anything failed before.
    pub fn flush_if_due(&mut self) -> Result<(), LedgerError> {
        if let Some(error) = &self.failure {
            return Err(LedgerError::Failed(error.to_string()));
        }
        self.save_estimates_within(Duration::ZERO);
        if self.is_full() || (self.chain.is_dirty() && self.until_flush().is_zero()) {
            self.flush()?;
        }
        Ok(())
    }

    /// Makes everything durable.
    pub fn flush(&mut self) -> Result<(), LedgerError> {
        self.flushed_at = Instant::now();
        self.is_flush_due = false;
        if self.chain.is_dirty() {
            if let Err(error) = self.store.commit(&self.chain.dirty()) {
                return Err(self.fail(error));
            }
            // Half is kept: what was made last is spent first.
            self.chain.flushed(self.options.coins_cache / 2);
            self.has_unsynced = false;
        }
        Ok(())
    }

    /// A clean stop: all is flushed, the mempool saved, and the next start has nothing to replay.
    pub fn close(mut self) -> Result<(), LedgerError> {
        self.flush()?;
        self.close_estimates();
        if self.has_loaded_mempool && self.options.keeps_mempool {
            self.save_mempool()?;
        }
        Ok(self.store.settle()?)
    }

    /// Remembers that nothing may go on; the caller gets the same in words.
    pub(super) fn fail(&mut self, error: impl Into<LedgerError>) -> LedgerError {
        let error = error.into();
        let failed = LedgerError::Failed(error.to_string());
        self.failure.get_or_insert(error);
        failed
    }

    pub(super) const fn take_failure(&mut self) -> Option<LedgerError> {
        self.failure.take()
    }
}

fn tip_of(chain: &Chain) -> Tip {
    let entry = chain.tip_entry();
    Tip { height: entry.height, hash: entry.hash }
}
