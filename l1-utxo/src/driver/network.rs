//! The peer-to-peer machine on the validation thread: it sees chain and mempool as they are, and nobody waits for anybody.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bitcoin::bip158::{FilterHash, FilterHeader};
use bitcoin::block::Header;
use bitcoin::{Transaction, Txid};

use super::{Ledger, Submission};
use crate::chain::{BlockId, Chain, Source};
use crate::consensus::{HashedBlock, HeaderError};
use crate::mempool::{Mempool, Rejection};
use crate::sync::{Action, BlockReport, ChainNews, Entered, Host, Machine, Time};

/// Where the machine's actions go; it must not block.
pub type Sink = Box<dyn FnMut(Action) + Send>;

/// Blocks that the network has not been told of at most: a long reorg need not be remembered whole.
const MAX_NEWS: usize = 64;
/// How often the progress of the first download is told.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// The machine, and where its actions go.
pub(super) struct NetworkSide {
    machine: Machine,
    sink: Sink,
}

impl Ledger {
    /// Begins to speak with peers.
    pub fn attach_network(&mut self, machine: Machine, sink: Sink) {
        self.news.clear();
        self.network = Some(Box::new(NetworkSide { machine, sink }));
        self.has_network = true;
        self.note_tip();
        std::mem::take(&mut self.unbroadcast).iter().for_each(|txid| self.broadcast(txid));
    }

    /// What is new from now on counts from here.
    fn note_tip(&mut self) {
        self.with_network(|machine, ledger| machine.chain_changed(Vec::new(), ledger));
    }

    /// Lets `work` feed the machine, then does what it wants done. `None` without a network.
    pub fn with_network<T>(&mut self, work: impl FnOnce(&mut Machine, &mut Self) -> T) -> Option<T> {
        let mut side = self.network.take()?;
        side.machine.set_time(self.time());
        let outcome = work(&mut side.machine, self);
        // A new tip may bring others: what it tells peers is one more round at most.
        while !self.news.is_empty() {
            let news = std::mem::take(&mut self.news);
            side.machine.chain_changed(news.into(), self);
            // While we are far behind nobody is told of blocks: to go through all peers for each would be for nothing.
            if !self.is_initial_download() {
                side.machine.tick(self);
            }
        }
        side.machine.actions().for_each(&mut side.sink);
        self.network = Some(side);
        Some(outcome)
    }

    /// Tells peers what a request of our own user has changed.
    pub(super) fn tell_network(&mut self) {
        if !self.news.is_empty() {
            self.with_network(|_, _| ());
        }
    }

    pub(super) fn note(&mut self, news: ChainNews) {
        if self.has_network {
            self.news.push_back(news);
            if self.news.len() > MAX_NEWS {
                self.news.pop_front();
            }
        }
    }

    /// Announces a transaction of our own user that the mempool holds.
    pub fn broadcast(&mut self, txid: &Txid) {
        let Some(wtxid) = self.mempool.entry(txid).map(|entry| entry.wtxid) else { return };
        let txid = *txid;
        self.with_network(|machine, _| machine.broadcast(txid, wtxid));
    }

    /// Announces a transaction that was in the mempool before: that it was fetched once is not forgotten.
    pub fn announce(&mut self, txid: &Txid) {
        let Some(wtxid) = self.mempool.entry(txid).map(|entry| entry.wtxid) else { return };
        let txid = *txid;
        self.with_network(|machine, _| machine.announce_transaction(txid, wtxid));
    }

    /// Says now and then how far the first download has come.
    fn report_progress(&mut self) {
        if !self.is_initial_download() || self.progress_at.elapsed() < PROGRESS_INTERVAL {
            return;
        }
        self.progress_at = Instant::now();
        let (tip, headers) = (self.tip(), self.chain.entry(self.chain.best_header()).height);
        tracing::info!(height = tip.height, headers, "blocks are coming in");
    }

    /// Microseconds since 1970: what was set, or the system's clock.
    fn time(&self) -> Time {
        if let Some(seconds) = self.mock_time() {
            return Time::from_secs(seconds);
        }
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Time(i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX))
    }
}

impl Host for Ledger {
    fn chain(&self) -> &Chain {
        &self.chain
    }

    fn mempool(&self) -> &Mempool {
        &self.mempool
    }

    fn is_initial_download(&self) -> bool {
        Self::is_initial_download(self)
    }

    fn accept_header(&mut self, header: &Header) -> Result<BlockId, HeaderError> {
        Self::accept_header(self, header)
    }

    fn submit_block(&mut self, block: Arc<HashedBlock>, source: Source) -> Option<BlockReport> {
        // The ledger remembers its failure, and the node stops.
        let (submission, refused) = self.submit_with_refusals(block, source).ok()?;
        let (is_new, error) = match submission {
            Submission::Accepted(_) | Submission::Inconclusive(_) => (true, None),
            Submission::Duplicate(_) => (false, None),
            Submission::Refused(error) => (false, Some(error)),
        };
        self.report_progress();
        Some(BlockReport { is_new, error, refused })
    }

    fn submit_transaction(&mut self, transaction: Arc<Transaction>) -> Result<Entered, Rejection> {
        self.with_mempool(|mempool, cx| mempool.accept(transaction, cx)).map(Entered::from)
    }

    fn submit_package(&mut self, parent: Arc<Transaction>, child: Arc<Transaction>) -> [Result<Entered, Rejection>; 2] {
        let package = [parent, child];
        let mut report = self.with_mempool(|mempool, cx| mempool.submit_package(&package, None, cx));
        package.map(|transaction| Entered::of_package(&transaction, &mut report))
    }

    fn block(&self, id: BlockId) -> Option<Arc<HashedBlock>> {
        self.read_block(id).inspect_err(|error| tracing::error!(%error, "a block cannot be read")).ok()
    }

    fn block_filter(&mut self, id: BlockId) -> Option<Vec<u8>> {
        Self::block_filter(self, id)
    }

    fn filter_header(&mut self, id: BlockId) -> Option<(FilterHeader, FilterHash)> {
        Self::filter_header(self, id)
    }

    fn raw_block(&self, id: BlockId) -> Option<Vec<u8>> {
        self.read_raw_block(id).inspect_err(|error| tracing::error!(%error, "a block cannot be read")).ok().flatten()
    }
}
