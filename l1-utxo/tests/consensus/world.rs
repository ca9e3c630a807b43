//! A chain over an archive in memory, and a drafting table for blocks that are valid until an edit breaks them.

use std::collections::BTreeMap;

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::script::Builder;
use bitcoin::{
    Amount, Block, BlockHash, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut, Txid, Witness,
    transaction,
};
use l1_utxo::chain::{
    AcceptError, Acceptance, Archive, ArchiveError, BlockId, BlockUndo, Chain, ChainEvent, Coin, CoinView, CoinsHash,
    CoinsStats, Position, Source, coins_stats,
};
use l1_utxo::consensus::block::witness_commitment_script;
use l1_utxo::consensus::merkle::merkle_root;
use l1_utxo::consensus::pow::check_proof_of_work;
use l1_utxo::consensus::subsidy::block_subsidy;
use l1_utxo::consensus::{BlockError, HashedBlock};
use l1_utxo::params::{Network, Params};

pub const COIN: u64 = 100_000_000;
/// Blocks before the one that a table's edits make: coinbases up to height 11 can be spent in it.
pub const HEIGHT: u32 = 110;
/// Seconds from block to block: relative locks count in them.
pub const STEP: u32 = 512;

/// Blocks, undo data and coins in memory.
#[derive(Default)]
pub struct Memory {
    blocks: Vec<Block>,
    undo: Vec<BlockUndo>,
    pub coins: BTreeMap<OutPoint, Coin>,
}

fn place(length: usize) -> Position {
    Position { segment: 0, offset: length as u32, length: 0 }
}

impl CoinView for Memory {
    fn coin(&self, outpoint: &OutPoint) -> Option<Coin> {
        self.coins.get(outpoint).cloned()
    }
}

impl Archive for Memory {
    fn append_block(&mut self, block: &Block) -> Result<Position, ArchiveError> {
        self.blocks.push(block.clone());
        Ok(place(self.blocks.len() - 1))
    }

    fn append_undo(&mut self, _: &BlockHash, undo: &BlockUndo) -> Result<Position, ArchiveError> {
        self.undo.push(undo.clone());
        Ok(place(self.undo.len() - 1))
    }

    fn block(&self, position: Position) -> Result<Block, ArchiveError> {
        Ok(self.blocks[position.offset as usize].clone())
    }

    fn undo(&self, position: Position) -> Result<BlockUndo, ArchiveError> {
        Ok(self.undo[position.offset as usize].clone())
    }
}

/// A chain with its archive, a miner and a clock.
pub struct World {
    pub chain: Chain,
    pub archive: Memory,
    pub now: u64,
    given: u32,
}

impl World {
    pub fn new(params: &'static Params) -> Self {
        let mut archive = Memory::default();
        let mut chain = Chain::open(params, [], None, 7).unwrap();
        chain.store_genesis(&mut archive).unwrap();
        Self { chain, archive, now: 2_000_000_000, given: 0 }
    }

    /// Regtest with `HEIGHT` empty blocks, `STEP` seconds apart.
    pub fn grown() -> Self {
        let mut world = Self::new(Network::Regtest.params());
        world.extend(HEIGHT);
        world
    }

    pub fn extend(&mut self, count: u32) {
        for _ in 0..count {
            self.submit(Draft::on_tip(self).seal()).unwrap();
        }
    }

    /// Puts a coin into the set that no block made: on height 1, no coinbase's.
    pub fn give(&mut self, script: impl Into<Vec<u8>>, sat: u64) -> OutPoint {
        self.given += 1;
        let mut id = [0xee; 32];
        id[..4].copy_from_slice(&self.given.to_le_bytes());
        let outpoint = OutPoint { txid: Txid::from_byte_array(id), vout: 0 };
        self.put(outpoint, script, sat);
        outpoint
    }

    pub fn put(&mut self, outpoint: OutPoint, script: impl Into<Vec<u8>>, sat: u64) {
        let coin = Coin { output: output(script, sat), height: 1, is_coinbase: false };
        self.archive.coins.insert(outpoint, coin);
    }

    /// A coin that anyone can spend.
    pub fn give_anyone(&mut self, sat: u64) -> OutPoint {
        self.give(vec![0x51], sat)
    }

    /// The coinbase's coin of the active block at `height`.
    pub fn coinbase_at(&self, height: u32) -> OutPoint {
        let block = self.chain.read_block(&self.archive, self.chain.at_height(height).unwrap()).unwrap();
        OutPoint { txid: block.txids()[0], vout: 0 }
    }

    pub fn accept(&mut self, block: &Block) -> Result<BlockId, BlockError> {
        let block = HashedBlock::new(block.clone());
        match self.chain.accept_block(&mut self.archive, &block, self.now, Source::Requested) {
            Ok(Acceptance::New(id) | Acceptance::Known(id) | Acceptance::Ignored(id)) => Ok(id),
            Err(AcceptError::Refused(error)) => Err(error),
            Err(AcceptError::Failed(error)) => panic!("{error}"),
        }
    }

    pub fn settle(&mut self) -> Vec<ChainEvent> {
        std::iter::from_fn(|| self.chain.step(&mut self.archive, None).unwrap()).collect()
    }

    /// What submitting a block comes to.
    pub fn submit(&mut self, block: Block) -> Result<BlockId, BlockError> {
        let id = self.accept(&block)?;
        for event in self.settle() {
            match event {
                ChainEvent::Refused { id: refused, error } if refused == id => return Err(error),
                _ => {}
            }
        }
        Ok(id)
    }

    /// The figures of all coins, those in the cache included.
    pub fn coins(&self, kind: CoinsHash) -> CoinsStats {
        let mut coins = self.archive.coins.clone();
        for (outpoint, coin) in self.chain.dirty().coins.dirty() {
            match coin {
                Some(coin) => coins.insert(*outpoint, coin.to_coin()),
                None => coins.remove(outpoint),
            };
        }
        coins_stats(kind, coins.into_iter().map(Ok::<_, ()>)).unwrap()
    }

    /// Writes all that changed into the archive's coins.
    pub fn flush(&mut self, keep: usize) {
        for (outpoint, coin) in self.chain.dirty().coins.dirty() {
            match coin {
                Some(coin) => self.archive.coins.insert(*outpoint, coin.to_coin()),
                None => self.archive.coins.remove(outpoint),
            };
        }
        self.chain.flushed(keep);
    }
}

pub fn output(script: impl Into<Vec<u8>>, sat: u64) -> TxOut {
    TxOut { value: Amount::from_sat(sat), script_pubkey: ScriptBuf::from_bytes(script.into()) }
}

/// An output that nobody can spend, of a script of `size` bytes without signature operations.
pub fn padding(size: usize) -> TxOut {
    let mut script = vec![0; size];
    script[0] = 0x6a;
    output(script, 0)
}

/// Spends these coins to one output that anyone can spend.
pub fn spend(coins: &[OutPoint], sat: u64) -> Transaction {
    let input = |outpoint: &OutPoint| TxIn {
        previous_output: *outpoint,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: Witness::new(),
    };
    Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: coins.iter().map(input).collect(),
        output: vec![output([0x51], sat)],
    }
}

/// The first output of a transaction.
pub fn first_of(transaction: &Transaction) -> OutPoint {
    OutPoint { txid: transaction.compute_txid(), vout: 0 }
}

/// A block in the making: what an edit leaves alone is as a miner would have it.
pub struct Draft {
    pub params: &'static Params,
    pub height: u32,
    pub header: Header,
    pub transactions: Vec<Transaction>,
    /// `false`: a root that is not that of the transactions.
    pub right_root: bool,
    /// `false`: a hash above the target.
    pub proof: bool,
}

impl Draft {
    pub fn on_tip(world: &World) -> Self {
        Self::on(world, world.chain.tip(), 0)
    }

    /// `salt` tells siblings apart.
    pub fn on(world: &World, parent: BlockId, salt: u32) -> Self {
        let (entry, params) = (world.chain.entry(parent), world.chain.params());
        let height = entry.height + 1;
        let bits = if parent == world.chain.tip() { world.chain.next_bits() } else { entry.header.bits };
        let header = Header {
            version: Version::from_consensus(0x2000_0000),
            prev_blockhash: entry.hash,
            merkle_root: TxMerkleNode::all_zeros(),
            time: entry.header.time + STEP,
            bits,
            nonce: 0,
        };
        let subsidy = block_subsidy(height, params.subsidy_halving_interval).to_sat();
        let mut coinbase = spend(&[OutPoint::null()], subsidy);
        coinbase.input[0].script_sig =
            Builder::new().push_int(height.into()).push_int(i64::from(salt) + 1_000).into_script();
        Self { params, height, header, transactions: vec![coinbase], right_root: true, proof: true }
    }

    pub fn coinbase(&mut self) -> &mut Transaction {
        &mut self.transactions[0]
    }

    pub fn push(&mut self, transaction: Transaction) {
        self.transactions.push(transaction);
    }

    /// Spends coins to one output that anyone can spend.
    pub fn spend(&mut self, coins: &[OutPoint], sat: u64) -> &mut Transaction {
        self.push(spend(coins, sat));
        self.transactions.last_mut().unwrap()
    }

    /// Lets the coinbase commit to the witnesses.
    pub fn commit(&mut self) {
        let script = witness_commitment_script(&self.transactions, &[0; 32]);
        self.coinbase().output.push(output(script.into_bytes(), 0));
        self.coinbase().input[0].witness = Witness::from_slice(&[[0; 32]]);
    }

    /// Adds an output to the coinbase that makes the block so many bytes long without its witnesses.
    pub fn pad_stripped_to(&mut self, size: usize) {
        self.coinbase().output.push(padding(100_000));
        let excess = size as isize - HashedBlock::new(self.seal_unproved()).stripped_size() as isize;
        let length = (100_000 + excess) as usize;
        *self.coinbase().output.last_mut().unwrap() = padding(length);
        assert_eq!(HashedBlock::new(self.seal_unproved()).stripped_size(), size);
    }

    fn seal_unproved(&self) -> Block {
        let leaves = self.transactions.iter().map(|tx| tx.compute_txid().to_byte_array()).collect();
        let mut header = self.header;
        header.merkle_root = TxMerkleNode::from_byte_array(merkle_root(leaves).root);
        if !self.right_root {
            header.merkle_root = TxMerkleNode::from_byte_array([0x77; 32]);
        }
        Block { header, txdata: self.transactions.clone() }
    }

    /// The block.
    pub fn seal(&self) -> Block {
        let mut block = self.seal_unproved();
        // A target that no block may have cannot be met: the limit's stands for it.
        let bits = block.header.bits;
        let possible = l1_utxo::consensus::pow::derive_target(bits, self.params).is_some();
        let bits = if possible { bits } else { self.params.pow_limit_bits };
        while check_proof_of_work(block.block_hash(), bits, self.params) != self.proof {
            block.header.nonce += 1;
        }
        block
    }
}
