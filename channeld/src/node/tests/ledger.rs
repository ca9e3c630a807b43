//! The chain of the tests' world: it checks what is spent and when, and no script.

use std::collections::BTreeMap;

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut,
    Txid, Witness, transaction,
};

pub const NETWORK: bitcoin::Network = bitcoin::Network::Regtest;

/// Blocks, what they leave, and what waits.
pub struct Ledger {
    pub blocks: Vec<Block>,
    coins: BTreeMap<OutPoint, (TxOut, u32)>,
    pub mempool: Vec<Transaction>,
}

impl Ledger {
    /// At the genesis block.
    pub fn new() -> Ledger {
        Ledger { blocks: vec![genesis()], coins: BTreeMap::new(), mempool: Vec::new() }
    }

    /// Takes a transaction into the mempool; one that spends what another does there replaces it.
    pub fn accept(&mut self, transaction: Transaction) {
        let txid = transaction.compute_txid();
        let known = |outpoint: &OutPoint| {
            self.coins.contains_key(outpoint) || self.mempool.iter().any(|it| it.compute_txid() == outpoint.txid)
        };
        let is_known = self.mempool.iter().any(|it| it.compute_txid() == txid);
        if is_known || !transaction.input.iter().all(|input| known(&input.previous_output)) {
            return;
        }
        let spent: Vec<OutPoint> = transaction.input.iter().map(|input| input.previous_output).collect();
        let conflicts = |it: &Transaction| it.input.iter().any(|input| spent.contains(&input.previous_output));
        let paid = |it: &Transaction| it.output.iter().map(|output| output.value).sum::<Amount>();
        // Of two that spend the same, the later must leave more to the miner (BIP 125, roughly).
        if self.mempool.iter().any(|it| conflicts(it) && paid(it) <= paid(&transaction)) {
            return;
        }
        self.mempool.retain(|it| !conflicts(it));
        self.mempool.push(transaction);
    }

    pub fn mine_one(&mut self) {
        let height = self.blocks.len() as u32;
        let mut transactions = vec![coinbase(height)];
        loop {
            let ready = self.mempool.iter().position(|transaction| self.is_final(transaction, height));
            let Some(ready) = ready else { break };
            let transaction = self.mempool.remove(ready);
            let txid = transaction.compute_txid();
            for input in &transaction.input {
                self.coins.remove(&input.previous_output);
            }
            for (vout, output) in (0..).zip(&transaction.output) {
                self.coins.insert(OutPoint::new(txid, vout), (output.clone(), height));
            }
            transactions.push(transaction);
        }
        let coins = &self.coins;
        let later: Vec<Transaction> = std::mem::take(&mut self.mempool);
        let txids: Vec<Txid> = later.iter().map(Transaction::compute_txid).collect();
        let lives =
            |input: &TxIn| coins.contains_key(&input.previous_output) || txids.contains(&input.previous_output.txid);
        self.mempool = later.iter().filter(|it| it.input.iter().all(lives)).cloned().collect();
        let previous = self.blocks.last().expect("a genesis block").block_hash();
        self.blocks.push(block(previous, transactions));
    }

    /// Takes the last block back: its height and hash. Its transactions wait nowhere.
    pub fn unwind_one(&mut self) -> (u32, BlockHash) {
        let block = self.blocks.pop().expect("no world is without a block");
        for transaction in block.txdata.iter().rev() {
            let txid = transaction.compute_txid();
            (0..transaction.output.len() as u32).for_each(|vout| drop(self.coins.remove(&OutPoint::new(txid, vout))));
            for input in &transaction.input {
                let coin = self.confirmed(&input.previous_output);
                self.coins.extend(coin.map(|coin| (input.previous_output, coin)));
            }
        }
        (self.blocks.len() as u32, block.block_hash())
    }

    fn confirmed(&self, outpoint: &OutPoint) -> Option<(TxOut, u32)> {
        (0..).zip(&self.blocks).find_map(|(height, block)| {
            let made = block.txdata.iter().find(|it| it.compute_txid() == outpoint.txid)?;
            Some((made.output.get(outpoint.vout as usize)?.clone(), height))
        })
    }

    /// What is unspent.
    pub fn outputs(&self) -> impl Iterator<Item = &TxOut> {
        self.coins.values().map(|(output, _)| output)
    }

    /// A coin from nowhere, paid to `output` by a transaction that waits.
    pub fn give(&mut self, faucet: OutPoint, output: TxOut) {
        let coin = TxOut { value: output.value, script_pubkey: ScriptBuf::new() };
        self.coins.insert(faucet, (coin, 0));
        self.mempool.push(spend(faucet, vec![output]));
    }

    /// Somebody spends a coin, with whatever right.
    pub fn spend(&mut self, outpoint: OutPoint, output: TxOut) {
        self.accept(spend(outpoint, vec![output]));
    }

    /// Whether all inputs are there and all locks are open (BIP 65's lock time, BIP 68's sequences by height).
    fn is_final(&self, transaction: &Transaction, height: u32) -> bool {
        let locked = match transaction.lock_time {
            LockTime::Blocks(until) => until.to_consensus_u32() >= height,
            LockTime::Seconds(_) => false,
        };
        if locked && transaction.input.iter().any(|input| input.sequence != Sequence::MAX) {
            return false;
        }
        transaction.input.iter().all(|input| {
            let Some((_, made_at)) = self.coins.get(&input.previous_output) else { return false };
            let sequence = input.sequence.to_consensus_u32();
            let is_relative = sequence & (1 << 31) == 0 && transaction.version == transaction::Version::TWO;
            !is_relative || made_at + (sequence & 0xffff) <= height
        })
    }
}

pub fn genesis() -> Block {
    bitcoin::constants::genesis_block(NETWORK)
}

fn spend(outpoint: OutPoint, output: Vec<TxOut>) -> Transaction {
    let input = TxIn {
        previous_output: outpoint,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: Witness::new(),
    };
    Transaction { version: transaction::Version::TWO, lock_time: LockTime::ZERO, input: vec![input], output }
}

fn coinbase(height: u32) -> Transaction {
    let mut transaction = spend(OutPoint::null(), vec![TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::new() }]);
    transaction.input[0].script_sig = ScriptBuf::builder().push_int(i64::from(height)).into_script();
    transaction
}

fn block(previous: BlockHash, txdata: Vec<Transaction>) -> Block {
    let header = Header {
        version: Version::TWO,
        prev_blockhash: previous,
        merkle_root: TxMerkleNode::all_zeros(),
        time: 1_700_000_000,
        bits: CompactTarget::from_consensus(0x207f_ffff),
        nonce: 0,
    };
    let mut block = Block { header, txdata };
    block.header.merkle_root = block.compute_merkle_root().expect("a coinbase");
    block
}
