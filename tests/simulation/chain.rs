//! The chain of a simulated world: `l1-utxo`'s own rules, mempool and templates over an archive in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use bitcoin::{Amount, Block, BlockHash, OutPoint, ScriptBuf, Transaction, TxOut, Txid};
use l1_utxo::chain::{Archive, ArchiveError, BlockId, BlockUndo, Chain, ChainEvent, Coin, CoinView, Position};
use l1_utxo::consensus::HashedBlock;
use l1_utxo::consensus::script::SignatureCache;
use l1_utxo::consensus::subsidy::block_subsidy;
use l1_utxo::mempool::{Context, Mempool, Policy};
use l1_utxo::mining::{self, Parent, Search};
use l1_utxo::params::Network;

/// Enough for the signatures of one world; each signature cache is divided into shards.
const SIGNATURES: usize = 1 << 16;

/// Blocks and undo data in memory; the coins all stay in the chain's own cache.
#[derive(Default)]
struct Memory {
    blocks: Vec<Block>,
    undo: Vec<BlockUndo>,
}

fn at(place: usize) -> Position {
    Position { segment: 0, offset: u32::try_from(place).expect("few blocks"), length: 0 }
}

impl CoinView for Memory {
    fn coin(&self, _: &OutPoint) -> Option<Coin> {
        None
    }
}

impl Archive for Memory {
    fn append_block(&mut self, block: &Block) -> Result<Position, ArchiveError> {
        self.blocks.push(block.clone());
        Ok(at(self.blocks.len() - 1))
    }

    fn append_undo(&mut self, _: &BlockHash, undo: &BlockUndo) -> Result<Position, ArchiveError> {
        self.undo.push(undo.clone());
        Ok(at(self.undo.len() - 1))
    }

    fn block(&self, position: Position) -> Result<Block, ArchiveError> {
        Ok(self.blocks[position.offset as usize].clone())
    }

    fn undo(&self, position: Position) -> Result<BlockUndo, ArchiveError> {
        Ok(self.undo[position.offset as usize].clone())
    }
}

/// The next thing that a follower of the chain has to be told.
pub enum Step {
    /// Its last block is not in the best chain.
    Disconnect,
    /// This block follows its last one.
    Connect(u32, Arc<Block>),
}

/// See the file's map.
pub struct World {
    chain: Chain,
    archive: Memory,
    mempool: Mempool,
    signatures: Arc<SignatureCache>,
    /// All transactions that were ever in a block of any branch, to look fees up.
    seen: BTreeMap<Txid, Transaction>,
    miner: ScriptBuf,
    salt: i64,
}

impl World {
    /// The chain that holds these blocks on top of the genesis block.
    pub fn new(blocks: &[Arc<Block>], now: u64) -> World {
        let mut archive = Memory::default();
        let mut chain = Chain::open(Network::Regtest.params(), [], None, 7).expect("a chain of one block");
        chain.store_genesis(&mut archive).expect("memory takes everything");
        let signatures = Arc::new(SignatureCache::new(SIGNATURES, [7; 32]));
        chain.use_signature_cache(Some(Arc::clone(&signatures)));
        let miner = ScriptBuf::from_bytes(vec![0x51]).to_p2wsh();
        let mempool = Mempool::new(Policy::default());
        let mut world = World { chain, archive, mempool, signatures, seen: BTreeMap::new(), miner, salt: 0 };
        for block in blocks {
            world.submit(Block::clone(block), now);
        }
        world
    }

    /// The best chain's height.
    pub fn height(&self) -> u32 {
        self.chain.height()
    }

    /// What a follower at `tip` is told next; `None` where it is at the end.
    pub fn next_step(&self, tip: &BlockHash) -> Option<Step> {
        let id = self.chain.find(tip).expect("nobody follows a chain of its own");
        if !self.chain.is_active(id) {
            return Some(Step::Disconnect);
        }
        let next = self.chain.next_active(id)?;
        Some(Step::Connect(self.chain.entry(next).height, self.block(next)))
    }

    fn block(&self, id: BlockId) -> Arc<Block> {
        let block = self.chain.read_block(&self.archive, id).expect("all blocks are kept");
        Arc::new(block.block().clone())
    }

    /// All blocks of the best chain but the genesis block.
    pub fn blocks(&self) -> Vec<Arc<Block>> {
        let ids = (1..=self.height()).filter_map(|height| self.chain.at_height(height));
        ids.map(|id| self.block(id)).collect()
    }

    /// Hands over transactions, each after the one before it, as `sendrawtransaction` would: the refusal of one does not
    /// stop the next. Returns what was refused.
    pub fn broadcast(&mut self, package: &[Transaction], now: u64) -> Vec<(Txid, String)> {
        let mut refused = Vec::new();
        for transaction in package {
            let txid = transaction.compute_txid();
            if self.mempool.contains(&txid) {
                continue;
            }
            let outcome = self.with_mempool(now, |mempool, cx| mempool.accept(Arc::new(transaction.clone()), cx));
            if let Err(rejection) = outcome {
                refused.push((txid, rejection.to_string()));
            }
        }
        refused
    }

    /// Hands over parents and their child together, as `submitpackage` would; whether all are in.
    pub fn submit_package(&mut self, package: &[Transaction], now: u64) -> bool {
        let package: Vec<_> = package.iter().cloned().map(Arc::new).collect();
        self.with_mempool(now, |mempool, cx| mempool.submit_package(&package, None, cx)).error.is_none()
    }

    fn with_mempool<T>(&mut self, now: u64, work: impl FnOnce(&mut Mempool, &Context<'_>) -> T) -> T {
        let tip = self.chain.tip_entry();
        let context = Context {
            coins: &self.chain.view(&self.archive),
            height: tip.height,
            median_time_past: tip.median_time_past,
            median_time_past_at: &|height| self.chain.median_time_past_at(height),
            signatures: &self.signatures,
            now: i64::try_from(now).expect("a time of this century"),
        };
        work(&mut self.mempool, &context)
    }

    /// How many transactions wait.
    pub fn waiting(&self) -> usize {
        self.mempool.len()
    }

    /// Those that wait.
    pub fn pooled(&self) -> Vec<Transaction> {
        self.mempool.entries().map(|entry| Transaction::clone(&entry.transaction)).collect()
    }

    /// The mempool loses all it holds, as one that was full or started anew.
    pub fn forget(&mut self) {
        self.mempool = Mempool::new(Policy::default());
    }

    /// An output that the best chain leaves unspent.
    pub fn coin(&self, outpoint: &OutPoint) -> Option<TxOut> {
        self.chain.view(&self.archive).coin(outpoint).map(|coin| coin.output)
    }

    /// The best chain's last block.
    pub fn tip(&self) -> BlockHash {
        self.chain.tip_entry().hash
    }

    /// The blocks of the best chain above a height.
    pub fn blocks_above(&self, height: u32) -> Vec<Arc<Block>> {
        let ids = (height + 1..=self.height()).filter_map(|height| self.chain.at_height(height));
        ids.map(|id| self.block(id)).collect()
    }

    /// Makes a block of these transactions alone, whatever waits; their fees are nobody's.
    pub fn mine_these(&mut self, transactions: Vec<Transaction>, now: u64) {
        let parent = self.parent(now);
        let block = mining::build_with(&parent, self.miner.clone(), transactions);
        self.solve(block, now);
    }

    /// Makes a block: of the mempool, or of nothing but its coinbase.
    pub fn mine(&mut self, script: Option<&ScriptBuf>, empty: bool, now: u64) {
        let parent = self.parent(now);
        let script = script.unwrap_or(&self.miner).clone();
        let block = if empty {
            mining::build_with(&parent, script, Vec::new())
        } else {
            mining::draft(parent, &self.mempool, mining::Limits::default()).into_block(script)
        };
        self.solve(block, now);
    }

    fn solve(&mut self, mut block: Block, now: u64) {
        let Search::Found(nonce) = mining::search(&block.header, 0, 1 << 20, self.chain.params()) else {
            panic!("regtest has no difficulty");
        };
        block.header.nonce = nonce;
        self.submit(block, now);
    }

    fn parent(&mut self, now: u64) -> Parent {
        let tip = self.chain.tip_entry();
        self.salt += 1;
        let min_time = tip.median_time_past + 1;
        let time = u32::try_from(now).expect("a time of this century").max(min_time);
        // Two blocks on the same parent must differ: their times do.
        let time = time + u32::try_from(self.salt % 600).unwrap_or(0);
        Parent {
            hash: tip.hash,
            height: tip.height + 1,
            median_time_past: tip.median_time_past,
            bits: self.chain.next_bits(),
            min_time,
            time,
            subsidy: block_subsidy(tip.height + 1, self.chain.params().subsidy_halving_interval),
            version: 0x2000_0000,
            has_witnesses: true,
        }
    }

    fn submit(&mut self, block: Block, now: u64) {
        for transaction in &block.txdata {
            self.seen.insert(transaction.compute_txid(), transaction.clone());
        }
        let block = Arc::new(HashedBlock::new(block));
        let source = l1_utxo::chain::Source::Requested;
        self.chain.accept_block(&mut self.archive, &block, now + 3_600, source).expect("our own blocks are valid");
        self.settle(now);
    }

    /// Takes the last `depth` blocks back for good; what they held waits again.
    pub fn unwind(&mut self, depth: u32, now: u64) {
        let first = self.chain.at_height(self.height() + 1 - depth).expect("as many blocks are there");
        assert!(self.chain.invalidate(first), "not the genesis block");
        self.settle(now);
    }

    fn settle(&mut self, now: u64) {
        let mut returned = Vec::new();
        let time = i64::try_from(now).expect("a time of this century");
        while let Some(event) = self.chain.step(&mut self.archive, None).expect("memory does not fail") {
            match event {
                ChainEvent::Connected { block, .. } => self.mempool.block_connected(block.iter(), time),
                ChainEvent::Disconnected { block, .. } => {
                    let transactions: Vec<_> = block.transactions().iter().cloned().map(Arc::new).collect();
                    returned.splice(0..0, transactions);
                }
                ChainEvent::Refused { error, .. } => panic!("a block of our own mempool breaks a rule: {error}"),
            }
        }
        if !returned.is_empty() {
            self.with_mempool(now, |mempool, cx| mempool.chain_reorganised(returned, cx));
        }
    }

    /// The unspent outputs of the best chain.
    pub fn unspent(&self) -> BTreeMap<OutPoint, TxOut> {
        let mut coins = BTreeMap::new();
        for block in self.blocks() {
            for transaction in &block.txdata {
                transaction.input.iter().for_each(|input| drop(coins.remove(&input.previous_output)));
                let txid = transaction.compute_txid();
                for (vout, output) in (0u32..).zip(&transaction.output) {
                    if !output.script_pubkey.is_op_return() {
                        coins.insert(OutPoint { txid, vout }, output.clone());
                    }
                }
            }
        }
        coins
    }

    /// All that was ever mined in the best chain: the subsidies of its blocks.
    pub fn mined(&self) -> Amount {
        let interval = self.chain.params().subsidy_halving_interval;
        (1..=self.height()).map(|height| block_subsidy(height, interval)).sum()
    }

    /// Where the miner's own outputs go.
    pub const fn miner(&self) -> &ScriptBuf {
        &self.miner
    }

    /// The transaction of the best chain that spends an output.
    pub fn spender(&self, outpoint: &OutPoint) -> Option<Transaction> {
        let blocks = self.blocks();
        let mut all = blocks.iter().flat_map(|block| &block.txdata);
        all.find(|it| it.input.iter().any(|input| input.previous_output == *outpoint)).cloned()
    }

    /// A transaction that was in a block.
    pub fn transaction(&self, txid: &Txid) -> Option<&Transaction> {
        self.seen.get(txid)
    }
}
